"""All-reduce: how long jobs took, beside what others need, and who was waited for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import charts, measures, units
from .blocks import Cell, Plot, Row, Section, Subheading, Table, Text
from .charts import Bar, Curve, Strip
from .colours import Colours
from .load import Result, Results, is_ours
from .measures import Ratio
from .svg import Log, Series

COLLECTIVE = "all-reduce"
# Octets of an element.
ELEMENT = 4


@dataclass(frozen=True)
class Comparison:
    """A contestant's job against another's, over the sizes that both did."""

    ours: Result
    theirs: Result
    whole: Ratio
    sizes: Mapping[int, Ratio]


def key(result: Result) -> tuple[str, str, int]:
    """What has to be the same in what is compared."""
    data = result.data
    return (data["collective"], data["algorithm"], data["ranks"])


def title(found: tuple[str, str, int]) -> str:
    """The same in words."""
    collective, algorithm, ranks = found
    return f"{collective}, {algorithm}, {ranks} ranks"


def groups(results: Results) -> dict[tuple[str, str, int], list[Result]]:
    """Runs that can be compared, all-reduce before other collectives and our own fabric first."""
    found: dict[tuple[str, str, int], list[Result]] = {}
    for name in results.contestants:
        for result in results.of("allreduce"):
            if result.contestant == name:
                found.setdefault(key(result), []).append(result)
    order = sorted(found, key=lambda each: (each[0] != COLLECTIVE, each[1] != "ring", each))
    return {each: found[each] for each in order}


def by_size(result: Result) -> dict[int, Mapping[str, Any]]:
    """Its sizes by their octets."""
    return {size["octets"]: size for size in result.data["sizes"] if size["iterations"]}


def times(size: Mapping[str, Any]) -> list[float]:
    """How long each iteration took, which is how long its slowest rank did."""
    return [float(each["ns"]) for each in size["iterations"]]


def compare(ours: Result, theirs: Result, intervals: bool = True) -> Comparison | None:
    """Job completion times; None where there is no size that both did equally often. Intervals take
    a while.
    """
    mine, others = by_size(ours), by_size(theirs)
    sizes, total_mine, total_others = {}, 0.0, 0.0
    for octets in sorted(mine.keys() & others.keys()):
        one, other = mine[octets], others[octets]
        if len(one["iterations"]) != len(other["iterations"]):
            continue
        rest = (one["jct_ns"] - sum(times(one)), other["jct_ns"] - sum(times(other)))
        found = measures.ratio(times(one), times(other), rest, intervals)
        if found is not None:
            sizes[octets] = found
            total_mine += one["jct_ns"]
            total_others += other["jct_ns"]
    if not sizes or not total_others:
        return None
    return Comparison(ours, theirs, Ratio(total_mine / total_others), sizes)


def comparisons(group: Sequence[Result], intervals: bool = True) -> list[Comparison]:
    """Each of our own against each of the others."""
    others = [each for each in group if not is_ours(each.contestant)]
    pairs = ((one, other) for one in group if is_ours(one.contestant) for other in others)
    return [each for each in (compare(*pair, intervals) for pair in pairs) if each is not None]


def said(ratio: Ratio) -> str:
    """A ratio with its interval."""
    if ratio.low is None or ratio.high is None:
        return units.ratio(ratio.value)
    return f"{units.ratio(ratio.value)} [{units.digits(ratio.low)}–{units.digits(ratio.high)}]"


def section(results: Results, colours: Colours) -> Section:
    """All of it."""
    made = Section("all-reduce", "All-reduce", "`lab allreduce --ranks 8 --sizes 8,64K,1M`")
    found = groups(results)
    if not found:
        return made
    made.add(
        Text(
            "As nccl-tests defines them: algbw is size by time; busbw is algbw times 2(N-1)/N for "
            "all-reduce, so that it can be held against the bandwidth of a link whatever the "
            "number of ranks. An iteration lasts as long as its slowest rank. Job completion "
            "time (JCT) is the sum of all iterations with the computation before each."
        )
    )
    wrong = sum(result.data["wrong"] for group in found.values() for result in group)
    checked = sum(len(s["iterations"]) for g in found.values() for r in g for s in r.data["sizes"])
    made.add(
        Text(
            f"Wrong elements: {units.count(wrong)} in {units.count(checked)} iterations, of each "
            "of which every element was checked on every rank.",
            important=wrong > 0,
        )
    )
    for each, group in found.items():
        if any(by_size(result) for result in group):
            made.add(Subheading(title(each)))
            add_group(made, each, group, colours)
    return made


def add_group(
    made: Section, what: tuple[str, str, int], group: Sequence[Result], colours: Colours
) -> None:
    """What was measured of one collective and algorithm."""
    made.add(nccl_table(group))
    compared = comparisons(group)
    if compared:
        made.add(ratio_table(compared), ratio_plot(what, compared, colours))
    made.add(busbw_bars(what, group, colours), busbw_plot(what, group, colours))
    sizes = sorted({octets for result in group for octets in by_size(result)})
    for octets in dict.fromkeys((sizes[0], sizes[-1])):
        made.add(iteration_plot(what, octets, group, colours))
    made.add(steps_plot(what, group, colours))
    made.add(*stragglers(what, group))


def nccl_table(group: Sequence[Result]) -> Table:
    """As nccl-tests prints it."""
    rows = []
    for result in group:
        for octets, size in by_size(result).items():
            spread = size["time_ns"]
            p99 = spread["p99"] if measures.is_known(len(size["iterations"]), 99) else None
            rows.append(
                (
                    Cell(result.contestant, contestant=result.contestant),
                    units.size(octets),
                    units.count(octets // ELEMENT),
                    units.duration(spread["median"]),
                    units.duration(p99),
                    units.duration(spread["max"]),
                    units.octet_rate(size["algbw_Bps"]),
                    units.octet_rate(size["busbw_Bps"]),
                    units.duration(size["jct_ns"]),
                    units.count(len(size["iterations"])),
                )
            )
    columns = ("contestant", ">size", ">elements", ">time p50", ">p99", ">max", ">algbw", ">busbw")
    return Table((*columns, ">JCT", ">iterations"), rows)


def ratio_table(compared: Sequence[Comparison]) -> Table:
    """JCT against each of the others, size by size."""
    sizes = sorted({octets for each in compared for octets in each.sizes})
    rows: list[Row] = [
        (
            Cell(each.ours.contestant, contestant=each.ours.contestant),
            Cell(each.theirs.contestant, contestant=each.theirs.contestant),
            units.ratio(each.whole.value),
            *(said(each.sizes[o]) if o in each.sizes else units.ABSENT for o in sizes),
        )
        for each in compared
    ]
    caption = (
        "JCT, how many times that of the other: below 1 is faster. In brackets 95 % of resamples "
        "of the iterations, as if these were independent of each other."
    )
    columns = ("JCT of", "against", ">all sizes", *(f">{units.size(o)}" for o in sizes))
    return Table(columns, rows, caption)


def ratio_plot(
    what: tuple[str, str, int], compared: Sequence[Comparison], colours: Colours
) -> Plot:
    """The same as bars."""
    several = len({each.ours.contestant for each in compared}) > 1
    rows = []
    for octets in sorted({o for each in compared for o in each.sizes}):
        for each in compared:
            ratio = each.sizes.get(octets)
            if ratio is None:
                continue
            name = each.theirs.contestant
            name = f"{each.ours.contestant} / {name}" if several else f"against {name}"
            series = Series(name, colours.of(each.theirs.contestant))
            value = units.ratio(ratio.value)
            rows.append(Bar(units.size(octets), series, ratio.value, value, ratio.low, ratio.high))
    caption = "JCT against the others. The dashed line is 1: as fast as they; shorter is faster."
    drawing = charts.bars(f"JCT ratios, {title(what)}", rows, "times", units.digits, 1.0)
    return Plot(drawing, caption)


def busbw_plot(what: tuple[str, str, int], group: Sequence[Result], colours: Colours) -> Plot:
    """Bus bandwidth by size."""
    curves = {
        colours.series(result.contestant): [
            (float(octets), float(size["busbw_Bps"])) for octets, size in by_size(result).items()
        ]
        for result in group
    }
    across = Log.around(
        [x for points in curves.values() for x, _ in points], lambda v: units.size(round(v)), 2
    )
    up = Log.around([y for points in curves.values() for _, y in points], units.octet_rate)
    drawing = charts.lines(
        f"Bus bandwidth by size, {title(what)}",
        curves,
        across,
        up,
        ("size", "busbw"),
        units.octet_rate,
    )
    return Plot(drawing, "Bus bandwidth by size. Higher is better.")


def busbw_bars(what: tuple[str, str, int], group: Sequence[Result], colours: Colours) -> Plot:
    """Bus bandwidth of the largest size."""
    rows = []
    for result in group:
        sizes = by_size(result)
        if sizes:
            value = float(sizes[max(sizes)]["busbw_Bps"])
            label = f"{result.contestant}, {units.size(max(sizes))}"
            series = colours.series(result.contestant)
            rows.append(Bar(label, series, value, units.octet_rate(value)))
    drawing = charts.bars(f"Bus bandwidth, {title(what)}", rows, "busbw", units.octet_rate)
    return Plot(drawing, "Bus bandwidth of the largest size. Longer is better.")


def iteration_plot(
    what: tuple[str, str, int], octets: int, group: Sequence[Result], colours: Colours
) -> Plot:
    """How long each iteration of a size took."""
    rows = [
        Strip(result.contestant, colours.series(result.contestant), times(by_size(result)[octets]))
        for result in group
        if octets in by_size(result)
    ]
    name = f"Iterations of {units.size(octets)}, {title(what)}"
    caption = (
        f"Each iteration of {units.size(octets)} as a dot. The solid mark is the median, the "
        "dashed one p99, or the slowest where there are fewer than 100."
    )
    return Plot(charts.strips(name, rows, units.duration, "time of an iteration", 99), caption)


def steps_plot(what: tuple[str, str, int], group: Sequence[Result], colours: Colours) -> Plot:
    """How long steps of the smallest size took."""
    curves = []
    for result in group:
        sizes = by_size(result)
        steps = sizes[min(sizes)].get("steps") if sizes else None
        if steps is not None:
            curves.append(Curve(colours.series(result.contestant), steps))
    caption = (
        "Steps of the smallest size on all ranks, by percentile: what tail latency shows up in."
    )
    return Plot(charts.percentiles(f"Steps, {title(what)}", curves), caption)


def stragglers(what: tuple[str, str, int], group: Sequence[Result]) -> list[Plot | Text]:
    """How often each rank was the one that all others waited for."""
    ranks = what[2]
    cells, words = {}, []
    for result in group:
        every = [each for size in result.data["sizes"] for each in size["iterations"]]
        counts = measures.slowest_counts(every, ranks)
        if not every:
            continue
        for rank, number in enumerate(counts):
            cells[result.contestant, str(rank)] = 100 * number / len(every)
        most = max(range(ranks), key=lambda rank: counts[rank])
        words.append(f"{result.contestant}: rank {most} in {units.share(counts[most], len(every))}")
    names = [result.contestant for result in group if (result.contestant, "0") in cells]
    drawing = charts.heatmap(
        f"Slowest ranks, {title(what)}",
        names,
        [str(rank) for rank in range(ranks)],
        cells,
        lambda value: f"{units.digits(value)} % of iterations",
        ("contestant", "rank"),
        max(cells.values(), default=0),
    )
    fair = units.share(1, ranks)
    return [
        Plot(
            drawing,
            f"In how many of all iterations each rank was the slowest, in percent. If "
            f"none were slower than others, each would be in {fair}.",
        ),
        Text(f"Slowest most often: {'; '.join(words)} (by chance alone: {fair} each)."),
    ]
