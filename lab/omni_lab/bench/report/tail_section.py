"""Round trips, from an open loop: percentiles of merged counts, by rate. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import histograms
from . import charts, measures, units
from .blocks import Cell, Plot, Section, Subheading, Table, Text
from .charts import Curve
from .colours import Colours
from .load import Results
from .measures import PERCENTILES, Histogram

Flows = Sequence[Mapping[str, Any]]
FLOOR = "loopback, the floor"


def by_rate(results: Results) -> dict[float, dict[str, Flows]]:
    """All flows of each contestant at each rate, which several files may have."""
    found: dict[float, dict[str, list[Mapping[str, Any]]]] = {}
    for name in results.contestants:
        for result in results.of("latency"):
            if result.contestant == name:
                for flow in result.data["flows"]:
                    of_rate = found.setdefault(flow["rate_per_s"], {})
                    of_rate.setdefault(name, []).append(flow)
    return {rate: dict(found[rate]) for rate in sorted(found)}


def merged(flows: Flows) -> Histogram:
    """All as one."""
    return histograms.merge(flow["histogram"] for flow in flows)


def floors(results: Results) -> dict[float, Histogram]:
    """What loopback takes at each rate, where it was measured."""
    found: dict[float, list[Mapping[str, Any]]] = {}
    for result in results.of("latency"):
        for flow in result.data.get("floor") or ():
            found.setdefault(flow["rate_per_s"], []).append(flow)
    return {rate: merged(flows) for rate, flows in found.items()}


def section(results: Results, colours: Colours) -> Section:
    """All of it."""
    made = Section("tail", "Round trips and their tail", "`lab latency --rates 100,1000`")
    found = by_rate(results)
    if not found:
        return made
    made.add(
        Text(
            "Datagrams leave on a fixed schedule, and each round trip is measured from when its "
            "datagram was to leave: one that waits behind a slow one counts with its waiting. "
            "Percentiles are of the counts of all flows together. A percentile beyond which not "
            "one sample lies is not told."
        )
    )
    below = floors(results)
    made.add(Table(COLUMNS, [row for rate in found for row in rows(rate, found[rate], below)]))
    late = late_words(found)
    if late:
        made.add(Text(late, important=True))
    for rate, flows in found.items():
        curves = [Curve(colours.series(name), merged(each)) for name, each in flows.items()]
        name = f"{units.digits(rate)} datagrams a second and flow"
        made.add(Subheading(f"At {name}"))
        made.add(
            Plot(
                charts.percentiles(f"Round trips by percentile at {name}", curves),
                "Round trips by percentile: each nine is as wide as the one before.",
            ),
            Plot(
                charts.distribution(f"Distribution of round trips at {name}", curves),
                "Which part of all round trips is not above a duration.",
            ),
        )
    return made


COLUMNS = (
    ">rate/s",
    "contestant",
    ">flows",
    ">sent",
    ">lost",
    ">late sends",
    *(f">{units.percentile(each)}" for each in PERCENTILES),
    ">max",
)


def rows(
    rate: float, contestants: Mapping[str, Flows], below: Mapping[float, Histogram]
) -> list[Sequence[str | Cell]]:
    """What was measured at one rate."""
    found: list[Sequence[str | Cell]] = []
    for name, flows in contestants.items():
        histogram = merged(flows)
        sent, received, late = (
            sum(flow[each] for flow in flows) for each in ("sent", "received", "late_sends")
        )
        head = (units.count(rate), Cell(name, contestant=name), units.count(len(flows)))
        counts = (units.count(sent), units.count(sent - received), units.share(late, sent))
        found.append((*head, *counts, *spread(histogram)))
    if rate in below:
        sent = units.count(below[rate]["count"])
        row = (units.count(rate), FLOOR, units.ABSENT, sent, units.ABSENT, units.ABSENT)
        found.append((*row, *spread(below[rate])))
    return found


def spread(histogram: Histogram) -> list[str]:
    """Percentiles and the greatest, as cells."""
    told = [units.duration(measures.told(histogram, percent)) for percent in PERCENTILES]
    return [*told, units.duration(histogram["max"] if histogram["count"] else None)]


def late_words(found: Mapping[float, Mapping[str, Flows]]) -> str:
    """A warning where senders were often not on time, which is then part of what is told."""
    worst = 0.0
    for contestants in found.values():
        for flows in contestants.values():
            sent = sum(flow["sent"] for flow in flows)
            late = sum(flow["late_sends"] for flow in flows)
            worst = max(worst, late / sent if sent else 0.0)
    if worst < 0.01:
        return ""
    return (
        f"Senders were late with up to {units.share(worst, 1)} of what they sent: the machine had "
        "no core for them in time. What a datagram waited there is part of its round trip, of "
        "whichever contestant."
    )
