"""The few numbers that matter, and what was run. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import (
    allreduce_section,
    checks_section,
    drops_section,
    measures,
    tail_section,
    timeline_section,
    told_section,
    units,
)
from .allreduce_section import Comparison
from .blocks import Section, Tile, Tiles, Verdict
from .load import Result, Results, is_ours

# The percentiles of round trips that are told before all others.
TAIL = (99.0, 99.9, 99.99)


def section(results: Results) -> Section:
    """The numbers."""
    made = Section("headline", "", "")
    makers: Sequence[Callable[[Results], Tile | None]] = (
        job,
        bandwidth,
        sums,
        tail,
        frames,
        convergence,
    )
    tiles = [tile for tile in (make(results) for make in makers) if tile is not None]
    if tiles:
        made.add(Tiles(tiles))
    return made


def verdict(is_met: bool) -> Verdict:
    """In the words of a page."""
    return "pass" if is_met else "miss"


def first_group(results: Results) -> list[Result]:
    """The all-reduces that are told first: a ring where there is one, with others to compare with
    where there are any.
    """
    found = allreduce_section.groups(results)
    ours = [group for group in found.values() if any(is_ours(each.contestant) for each in group)]
    compared = [group for group in ours if allreduce_section.comparisons(group, intervals=False)]
    return (compared or ours or [[]])[0]


def job(results: Results) -> Tile | None:
    """Job completion time against each of the others."""
    group = first_group(results)
    found = allreduce_section.comparisons(group, intervals=False)
    if not found:
        return None
    name = found[0].ours.contestant
    # Against what is most like it: another overlay, where there is one.
    first, *rest = sorted((each for each in found if each.ours.contestant == name), key=likeness)
    data = group[0].data
    return Tile(
        f"Job completion time, × that of {first.theirs.contestant}",
        units.ratio(first.whole.value),
        [
            f"{data['algorithm']}, {data['ranks']} ranks, all sizes; below 1 is faster",
            *(f"{units.ratio(each.whole.value)} that of {each.theirs.contestant}" for each in rest),
        ],
    )


def likeness(found: Comparison) -> tuple[bool, bool, str]:
    """VXLAN first, the bare underlay last."""
    name = found.theirs.contestant
    return (name != "vxlan", name == "bare underlay", name)


def bandwidth(results: Results) -> Tile | None:
    """Bus bandwidth of our largest size, and that of others where they did it."""
    group = [each for each in first_group(results) if allreduce_section.by_size(each)]
    ours = next((each for each in group if is_ours(each.contestant)), None)
    if ours is None:
        return None
    octets = max(allreduce_section.by_size(ours))
    rates = {}
    for each in group:
        size = allreduce_section.by_size(each).get(octets)
        if size is not None:
            rates[each.contestant] = units.octet_rate(size["busbw_Bps"])
    value = rates.pop(ours.contestant)
    lines = [ours.contestant, *(f"{rate} {name}" for name, rate in rates.items())]
    return Tile(f"Bus bandwidth at {units.size(octets)}", value, lines)


def sums(results: Results) -> Tile | None:
    """Wrong elements of all collectives."""
    runs = results.of("allreduce")
    if not runs:
        return None
    wrong = sum(each.data["wrong"] for each in runs)
    iterations = sum(len(size["iterations"]) for each in runs for size in each.data["sizes"])
    lines = [f"in {units.count(iterations)} iterations, every element checked"]
    return Tile("Wrong sums", units.count(wrong), lines, "target 0", verdict(wrong == 0))


def tail(results: Results) -> Tile | None:
    """Round trips at the highest rate at which our own fabric was measured."""
    found = tail_section.by_rate(results)
    rates = [rate for rate, each in found.items() if any(map(is_ours, each))]
    if not rates:
        return None
    rate = max(rates)
    merged = {name: tail_section.merged(flows) for name, flows in found[rate].items()}
    ours = next(name for name in merged if is_ours(name))
    told = [(percent, measures.told(merged[ours], percent)) for percent in TAIL]
    lines = [f"{units.percentile(percent)} {units.duration(ns)}" for percent, ns in told[1:] if ns]
    lines.append(
        f"max {units.duration(merged[ours]['max'])} of {units.count(merged[ours]['count'])}"
    )
    others = [
        f"{units.duration(measures.told(histogram, 99))} {name}"
        for name, histogram in merged.items()
        if name != ours
    ]
    if others:
        lines.append(f"p99 of others: {', '.join(others)}")
    title = f"Round trips, p99, at {units.count(rate)}/s a flow"
    return Tile(title, units.duration(told[0][1]), [ours, *lines])


def frames(results: Results) -> Tile | None:
    """Frames that were lost, and those of them that nothing explains."""
    looks = drops_section.counted_once(results)
    if not looks:
        return None
    found = drops_section.total(looks)
    unexplained = drops_section.unexplained(looks)
    lines = [
        f"{units.count(found.lost)} lost of {units.count(found.sent)} sent between nodes "
        f"({units.share(found.lost, found.sent)})",
        f"{units.count(found.on_the_way + found.either_side)} counted under a reason",
    ]
    title = "Frames lost and unexplained"
    return Tile(title, units.count(unexplained), lines, "target 0", verdict(unexplained == 0))


def convergence(results: Results) -> Tile | None:
    """How long recovery from faults took."""
    found = timeline_section.recoveries(results)
    if not found.every:
        return None
    p50, p99, most = (timeline_section.percentile(found.every, each) for each in (50, 99, 100))
    limit = timeline_section.CONVERGED_SECONDS
    never = sum(1 for each in found.every if each is None)
    lines = [
        f"p50 {timeline_section.said(p50)}, max {timeline_section.said(most)}",
        f"after {units.count(len(found.every))} heals of {len(found.by_what)} kinds of faults",
        *([f"{units.count(never)} of them never"] if never else []),
    ]
    is_met = p99 is not None and p99 <= limit
    target = f"target {units.digits(limit)} s"
    return Tile(
        "Recovery from faults, p99", timeline_section.said(p99), lines, target, verdict(is_met)
    )


def about(results: Results) -> str:
    """What was run, in a sentence or two."""
    told = told_section.disclosure(results)
    options = (told.get("topology") or {}).get("options") or {}
    nodes = len(told.get("nodes") or ()) or options.get("nodes")
    where = f"{nodes} hosts" if nodes else "Hosts"
    topology = options.get("topology")
    if topology:
        where += f" in a {topology}, underlay MTU {options.get('mtu')}"
    names = results.contestants
    whom = f" Measured: {', '.join(names)}." if names else ""
    revision = told.get("machine", {}).get("revision")
    of_what = f", revision {revision}" if revision else ""
    began = told.get("began")
    when = f", {units.time(began)}" if began else ""
    return f"{where}{of_what}{when}.{whom}"


def held(results: Results, tiles: Section) -> tuple[bool, str]:
    """Whether everything held that had a target, and the sentence that says so."""
    found = checks_section.checks(results)
    missed = [kept["name"] for _, kept in found if not checks_section.figure(kept).met]
    shown = [tile for each in tiles.blocks if isinstance(each, Tiles) for tile in each.tiles]
    missed += [tile.title for tile in shown if tile.verdict == "miss"]
    count = len(found) + sum(1 for tile in shown if tile.verdict != "none")
    if not count:
        return True, "Nothing of this run had a target."
    if not missed:
        return True, f"All {count} checks held."
    names = "; ".join(missed[:4]) + ("; …" if len(missed) > 4 else "")
    return False, f"{len(missed)} of {count} checks missed their target: {names}."
