"""Where time goes within the engines, and how much of slow iterations that explains. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import allreduce_section, charts, measures, tail_section, units
from .blocks import Plot, Section, Subheading, Table, Text
from .charts import Bar, Curve
from .colours import Colours
from .load import Result, Results
from .measures import PERCENTILES, nearest_rank
from .svg import Series

SIDES = {"underlay": "from other nodes", "access": "from hosts", None: "both ways"}
# In the order of a frame's way, with its class in drawings.
STYLES = {
    ("wait", "access"): "s0",
    ("wait", "underlay"): "s1",
    ("work", None): "s2",
    ("send", None): "s3",
    ("through", "access"): "s4",
    ("through", "underlay"): "s5",
}
THROUGH = "through"
# What a frame of a step passes through: the engine of its sender, and that of its receiver. What
# is counted for both ways together is passed twice.
ENGINES = 2

Stage = Mapping[str, Any]


@dataclass(frozen=True)
class Share:
    """What a stage can have added to an iteration."""

    name: str
    is_part: bool
    each_ns: int
    total_ns: int


@dataclass(frozen=True)
class Explained:
    """Slow iterations of an all-reduce beside what stages explain."""

    algorithm: str
    ranks: int
    octets: int
    steps: int
    quantile: float
    median_ns: float
    # p99 where there are enough to tell it, else the slowest; and what that is called.
    slow_ns: float
    slow_name: str
    max_ns: float
    iterations: int
    shares: Sequence[Share]

    @property
    def times(self) -> dict[str, float]:
        """How long iterations took, and which."""
        slow = {self.slow_name: self.slow_ns, "the slowest": self.max_ns}
        return {"p50": self.median_ns} | slow

    @property
    def through_ns(self) -> int:
        """All that engines can have added."""
        return sum(each.total_ns for each in self.shares if not each.is_part)

    @property
    def most(self) -> Share | None:
        """The part that explains most."""
        parts = [each for each in self.shares if each.is_part]
        return max(parts, key=lambda each: each.total_ns, default=None)


def name_of(stage: Stage) -> str:
    """A stage in words."""
    side = stage.get("side")
    return f"{stage['stage']}, {SIDES.get(side, side)}"


def ordered(result: Result) -> list[Stage]:
    """The stages in which something was counted, in the order of a frame's way."""
    order = list(STYLES)
    known = [each for each in result.data["merged"] if place(each) in STYLES]
    full = [each for each in known if each["histogram"]["count"]]
    return sorted(full, key=lambda each: order.index(place(each)))


def place(stage: Stage) -> tuple[str, str | None]:
    """Which stage of which side."""
    return (stage["stage"], stage.get("side"))


def explain(stages: Sequence[Stage], result: Result) -> Explained | None:
    """What stages can have added to iterations of the smallest size; None where it has no chain of
    steps.
    """
    sizes = allreduce_section.by_size(result)
    steps = measures.steps_of(result.data["algorithm"], result.data["ranks"])
    if not sizes or not steps:
        return None
    octets = min(sizes)
    times = allreduce_section.times(sizes[octets])
    quantile = measures.steps_quantile(steps)
    shares = []
    for each in stages:
        value = measures.quantile(each["histogram"], quantile) or 0
        passes = ENGINES if each.get("side") is None else 1
        is_part = each["stage"] != THROUGH
        shares.append(Share(name_of(each), is_part, value, value * passes * steps))
    return Explained(
        result.data["algorithm"],
        result.data["ranks"],
        octets,
        steps,
        quantile,
        nearest_rank(times, 50) or 0,
        nearest_rank(times, 99) or 0,
        "p99" if measures.is_known(len(times), 99) else "the slowest",
        max(times),
        len(times),
        shares,
    )


def section(results: Results, colours: Colours) -> Section:
    """All of it."""
    command = "`omni report --json SOCKETS > RUN/stages-CONTESTANT.json`"
    made = Section("stages", "Stage by stage, from the inside", command)
    for result in results.of("stages"):
        stages = ordered(result)
        if not stages:
            continue
        made.add(Subheading(result.contestant))
        made.add(stage_table(stages))
        runs = [
            each
            for each in results.of("allreduce")
            if each.contestant == result.contestant
            and each.data["collective"] == allreduce_section.COLLECTIVE
        ]
        found = [each for each in (explain(stages, run) for run in runs) if each is not None]
        made.add(plot(result, stages), *(bound_plot(each) for each in found))
        for each in found:
            made.add(*explanation(each, stages))
    if made.blocks:
        made.blocks.insert(0, Text(ABOUT))
    return made


ABOUT = (
    "What engines measure themselves, all nodes together. Wait: from the driver's time stamp to "
    "the worker's turn (taps and UDP sockets have none). Work: a burst's look-ups and "
    "cryptography. Send: into the rings, with the system calls that send. Through: all of it. Work and send are "
    "of bursts, of which each frame has the whole."
)


def stage_table(stages: Sequence[Stage]) -> Table:
    """Percentiles of each."""
    rows = [
        (
            name_of(each),
            units.count(each["histogram"]["count"]),
            *tail_section.spread(each["histogram"]),
        )
        for each in stages
    ]
    percents = (f">{units.percentile(each)}" for each in PERCENTILES)
    return Table(("stage", ">counted", *percents, ">max"), rows)


def plot(result: Result, stages: Sequence[Stage]) -> Plot:
    """Percentiles of each."""
    curves = [
        Curve(Series(name_of(each), STYLES[place(each)]), each["histogram"]) for each in stages
    ]
    drawing = charts.percentiles(f"Stages of {result.contestant}", curves)
    return Plot(drawing, "Durations within the engines, by percentile.")


def bound_plot(found: Explained) -> Plot:
    """What stages can have added at most, beside what iterations took."""
    name = f"{found.algorithm}, {units.size(found.octets)}"
    engines = Series("at most, within the engines", "s4")
    measured = Series("measured", "s5")
    rows = [
        Bar(each.name, engines, each.total_ns, units.duration(each.total_ns))
        for each in found.shares
    ]
    rows += [
        Bar(f"iterations, {what}", measured, ns, units.duration(ns))
        for what, ns in found.times.items()
    ]
    drawing = charts.bars(
        f"What explains slow iterations, {name}", rows, "duration", units.duration
    )
    return Plot(
        drawing,
        f"{name}: what each stage can have added in {found.steps} steps, and how "
        "long iterations took.",
    )


def explanation(found: Explained, stages: Sequence[Stage]) -> list[Table | Text | Subheading]:
    """Which percentile of which stage explains the slowest iterations, as a table and in words."""
    percent = units.percentile(round(100 * found.quantile, 3))
    rows = [
        (
            each.name,
            units.duration(each.each_ns),
            units.duration(each.total_ns),
            units.share(each.total_ns, found.slow_ns),
            "" if each.is_part else "the whole of it",
        )
        for each in found.shares
    ]
    rest = found.slow_ns - found.through_ns
    rows.append(
        (
            "not within the engines",
            "",
            units.duration(max(rest, 0)),
            units.share(max(rest, 0), found.slow_ns),
            f"what remains of {found.slow_name}",
        )
    )
    took = ", ".join(f"{units.duration(ns)} ({what})" for what, ns in found.times.items())
    head = (
        f"{found.algorithm} of {found.ranks} ranks, {units.size(found.octets)}: "
        f"{units.count(found.iterations)} iterations took {took}."
    )
    columns = (
        "stage",
        f">{percent}",
        f">times {found.steps} steps",
        f">of iterations ({found.slow_name})",
        "",
    )
    return [
        Subheading(f"What explains the slowest iterations: {found.algorithm}"),
        Text(
            f"{head} One has {found.steps} steps, each of which waits for the one before. Half of "
            f"the time the slowest of {found.steps} is not above {percent} of a single one "
            f"(0.5 to the power 1/{found.steps}): that times the steps is what a stage can have "
            "added when all steps of an iteration are that slow, and so its upper bound."
        ),
        Table(columns, rows),
        Text(in_words(found, percent, stages)),
    ]


def in_words(found: Explained, percent: str, stages: Sequence[Stage]) -> str:
    """What the table says."""
    most = found.most
    parts = []
    if most is not None:
        parts.append(
            f"Of the stages, {most.name!r} explains most: its {percent} of "
            f"{units.duration(most.each_ns)} makes {units.duration(most.total_ns)} of "
            f"{found.steps} steps, {units.share(most.total_ns, found.slow_ns)} of "
            f"{found.slow_name}."
        )
    unstamped = [side for side in ("access", "underlay") if not waits(stages, side)]
    if unstamped:
        where = " and ".join(SIDES[side] for side in unstamped)
        parts.append(
            f"How long frames {where} waited for the worker is not known: their ports have no time "
            "stamps, so it is in what remains."
        )
    rest = found.slow_ns - found.through_ns
    if rest > 0:
        parts.append(
            f"{units.duration(rest)} of {found.slow_name}, {units.share(rest, found.slow_ns)}, "
            "remains that no stage explains: the hosts' TCP and wake-ups, the kernel's way between "
            "engines, and the scheduler, which has all ranks and engines wait for the same cores."
        )
    else:
        parts.append(
            f"The bound is above {found.slow_name} itself: that engines were slow is enough to "
            "explain it, and steps were not all that slow at once."
        )
    return " ".join(parts)


def waits(stages: Sequence[Stage], side: str) -> bool:
    """Whether waiting was counted on a side."""
    return any(place(each) == ("wait", side) for each in stages)
