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
    """What a stage can have added to an iteration of so many steps."""

    name: str
    # Not of a frame's whole way through an engine.
    is_part: bool
    # How often a step passes it.
    passes: int
    steps: int
    # What one pass takes: the median; what the slowest of all steps stays below half of the time;
    # and 99 of 100 times.
    median_ns: int
    half_ns: int
    rare_ns: int

    @property
    def bound_ns(self) -> int:
        """Where every step is as slow as the slowest is half of the time."""
        return self.half_ns * self.passes * self.steps

    @property
    def estimate_ns(self) -> int:
        """Where one pass is as slow as the slowest is once in a hundred times, and all others are
        as usual.
        """
        return self.median_ns * (self.passes * self.steps - 1) + self.rare_ns


@dataclass(frozen=True)
class Slow:
    """The slow iterations of a size."""

    octets: int
    count: int
    median_ns: float
    # p99 where there are enough to tell it, else the slowest; and what that is called.
    slow_ns: float
    name: str

    @staticmethod
    def of(octets: int, times: Sequence[float]) -> Slow:
        """Of all iterations."""
        name = "p99" if measures.is_known(len(times), 99) else "slowest"
        median, slow = (nearest_rank(times, percent) or 0 for percent in (50, 99))
        return Slow(octets, len(times), median, slow, name)

    @property
    def said(self) -> str:
        """Which iterations these are."""
        return f"{units.size(self.octets)}, {self.name}"


@dataclass(frozen=True)
class Explained:
    """Slow iterations of an all-reduce beside what stages explain."""

    algorithm: str
    ranks: int
    steps: int
    shares: Sequence[Share]
    # The smallest size first.
    sizes: Sequence[Slow]

    @property
    def estimate_ns(self) -> int:
        """What both engines of each step add, with one slow pass of either: a slow iteration has
        met one, and seldom two.
        """
        whole = [each for each in self.shares if not each.is_part]
        usual = sum(each.median_ns * each.passes * each.steps for each in whole)
        return usual + max((each.rare_ns - each.median_ns for each in whole), default=0)

    @property
    def most(self) -> Share | None:
        """The part that explains most."""
        parts = [each for each in self.shares if each.is_part]
        return max(parts, key=lambda each: each.estimate_ns, default=None)


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
    """What stages can have added to iterations; None where these are no chain of steps."""
    sizes = allreduce_section.by_size(result)
    steps = measures.steps_of(result.data["algorithm"], result.data["ranks"])
    if not sizes or not steps:
        return None
    slow = [Slow.of(octets, allreduce_section.times(sizes[octets])) for octets in sorted(sizes)]
    shares = [share(each, steps) for each in stages]
    return Explained(result.data["algorithm"], result.data["ranks"], steps, shares, slow)


def share(stage: Stage, steps: int) -> Share:
    """What a stage can have added."""
    at = (0.5, measures.steps_quantile(steps, 0.5), measures.steps_quantile(steps, 0.99))
    median, half, rare = (measures.quantile(stage["histogram"], each) or 0 for each in at)
    passes = ENGINES if stage.get("side") is None else 1
    return Share(name_of(stage), stage["stage"] != THROUGH, passes, steps, median, half, rare)


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
        made.add(plot(result, stages), *(slow_plot(each) for each in found))
        for each in found:
            made.add(*explanation(each, stages))
    if made.blocks:
        made.blocks.insert(0, Text(ABOUT))
    return made


ABOUT = (
    "What engines measure themselves, all nodes together. Wait: from the driver's time stamp to "
    "the worker's turn (taps and UDP sockets have none). Work: a burst's look-ups and "
    "cryptography. Send: into the rings, with the system calls that send. Through: all of it. "
    "Work and send are of bursts, of which each frame has the whole."
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


def slow_plot(found: Explained) -> Plot:
    """What stages can have added, beside what iterations took."""
    engines = Series("within the engines, one slow step", "s4")
    measured = Series("measured", "s5")
    rows = [
        Bar(each.name, engines, each.estimate_ns, units.duration(each.estimate_ns))
        for each in found.shares
    ]
    rows += [
        Bar(f"iterations, {each.said}", measured, each.slow_ns, units.duration(each.slow_ns))
        for each in found.sizes
    ]
    title = f"What explains slow iterations, {found.algorithm}"
    drawing = charts.bars(title, rows, "duration", units.duration)
    return Plot(
        drawing,
        f"{found.algorithm}: what each stage adds to {found.steps} steps of which one is slow, "
        "and how long slow iterations took.",
    )


def explanation(found: Explained, stages: Sequence[Stage]) -> list[Table | Text | Subheading]:
    """Which percentile of which stage explains the slowest iterations, as a table and in words."""
    half, rare = (
        units.percentile(round(100 * measures.steps_quantile(found.steps, part), 2))
        for part in (0.5, 0.99)
    )
    rows = [
        (
            each.name,
            *map(units.duration, (each.median_ns, each.half_ns, each.rare_ns)),
            *map(units.duration, (each.bound_ns, each.estimate_ns)),
            *(units.share(each.estimate_ns, size.slow_ns) for size in found.sizes),
        )
        for each in found.shares
    ]
    rests = [max(size.slow_ns - found.estimate_ns, 0) for size in found.sizes]
    remains = [units.share(rest, size.slow_ns) for rest, size in zip(rests, found.sizes)]
    rows.append(("what no stage explains", *[""] * 5, *remains))
    columns = (
        *("stage", ">p50", f">{half}", f">{rare}", f">{half}, all steps", ">one slow step"),
        *(f">of {size.said}" for size in found.sizes),
    )
    return [
        Subheading(f"What explains the slowest iterations: {found.algorithm}"),
        Text(
            f"An iteration of {found.ranks} ranks has {found.steps} steps, each of which waits for "
            f"the one before. The slowest of {found.steps} is not above {half} of a single one "
            f"half of the time (0.5 to the power 1/{found.steps}), and not above {rare} 99 of 100 "
            "times. The former for all steps is what a stage can have added at most, half of the "
            "time; the latter for one step and the median for all others is what a slow iteration "
            "looks like; rows do not add up, as each has the slow step for itself. What counts for "
            "both ways is passed twice in a step."
        ),
        Table(columns, rows),
        Text(in_words(found, rare, stages)),
    ]


def in_words(found: Explained, rare: str, stages: Sequence[Stage]) -> str:
    """What the table says, of the smallest size: a step of it is one frame."""
    size, most = found.sizes[0], found.most
    parts = [
        f"{units.count(size.count)} iterations of {units.size(size.octets)} took "
        f"{units.duration(size.median_ns)} (p50) and {units.duration(size.slow_ns)} ({size.name})."
    ]
    if most is not None:
        parts.append(
            f"Of the stages, {most.name!r} explains most of the latter: with one step at "
            f"its {rare} of {units.duration(most.rare_ns)} it adds "
            f"{units.duration(most.estimate_ns)}, {units.share(most.estimate_ns, size.slow_ns)}."
        )
    rest = size.slow_ns - found.estimate_ns
    if rest > 0:
        parts.append(
            f"{units.duration(rest)}, {units.share(rest, size.slow_ns)}, remains that no stage "
            "explains: the hosts' TCP and wake-ups, the kernel's way between engines, and the "
            "scheduler, which has all ranks and engines wait for the same cores."
        )
    else:
        parts.append(
            "Both engines of every step together are above it: that engines were slow is enough to "
            "explain it."
        )
    unstamped = [side for side in ("access", "underlay") if not waits(stages, side)]
    if unstamped:
        where = " and ".join(SIDES[side] for side in unstamped)
        parts.append(
            f"How long frames {where} waited for the worker is not known, as their ports have no "
            "time stamps."
        )
    if len(found.sizes) > 1:
        parts.append(
            "Stages are of all frames, those of larger sizes as well, which wait for each other: a "
            "run of this size alone tells more exactly."
        )
    return " ".join(parts)


def waits(stages: Sequence[Stage], side: str) -> bool:
    """Whether waiting was counted on a side."""
    return any(place(each) == ("wait", side) for each in stages)
