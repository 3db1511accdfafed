"""iperf3 between many hosts, and ARP storms. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import charts, measures, units
from .blocks import Cell, Plot, Section, Subheading, Table, Text
from .charts import Curve, Strip
from .colours import Colours
from .load import Result, Results
from .measures import nearest_rank
from .svg import Series

SHAPES = {
    "pairs": "Pairs: every other host to its neighbour, all at once",
    "matrix": "Matrix: each host to each other one, in rounds",
    "incast": "Incast: all hosts to one at once",
}
Key = tuple[str, str]


def groups(results: Results) -> dict[Key, list[Result]]:
    """What can be compared: by shape and protocol, our own fabric first."""
    found: dict[Key, list[Result]] = {}
    for name in results.contestants:
        for result in results.of("iperf"):
            if result.contestant == name and result.data["streams"]:
                key = (result.data["shape"], result.data["protocol"])
                found.setdefault(key, []).append(result)
    order = list(SHAPES)
    rank = {key: order.index(key[0]) if key[0] in order else len(order) for key in found}
    return {key: found[key] for key in sorted(found, key=lambda key: (rank[key], key))}


def rates(result: Result) -> list[float]:
    """What each stream had."""
    return [float(each["bps"]) for each in result.data["streams"]]


def iperf(results: Results, colours: Colours) -> Section:
    """All of iperf3."""
    made = Section("iperf", "Throughput between many hosts", "`lab iperf --shape matrix`")
    found = groups(results)
    if not found:
        return made
    made.add(
        Text(
            "All hosts share the cores, so what one stream gets, another lacks. Jain's index "
            "tells how evenly: 1 where all streams have the same, 1/N where one has all."
        )
    )
    for (shape, protocol), group in found.items():
        made.add(Subheading(f"{SHAPES.get(shape, shape)} ({protocol.upper()})"))
        made.add(table(group))
        strips = [
            Strip(result.contestant, colours.series(result.contestant), rates(result))
            for result in group
        ]
        name = f"Streams, {shape} {protocol}"
        # Of rates, the low end is the bad one.
        drawing = charts.strips(name, strips, units.bit_rate, "of a stream", 1)
        made.add(
            Plot(
                drawing,
                "Each stream as a dot. The solid mark is the median, the dashed one "
                "p1: the slow end.",
            )
        )
        if shape == "matrix":
            most = max(max(rates(result)) for result in group)
            made.add(*(matrix(result, most) for result in group))
    return made


def table(group: Sequence[Result]) -> Table:
    """What streams had, and how evenly."""
    rows = [row(result) for result in group]
    columns = (
        "contestant",
        ">streams",
        ">failed",
        ">mean of all at once",
        ">slowest",
        ">median",
        ">fastest",
        ">Jain",
        ">retransmits",
        ">lost",
    )
    return Table(columns, rows)


def row(result: Result) -> Sequence[str | Cell]:
    """One contestant's."""
    data, every = result.data, rates(result)
    streams: Sequence[Mapping[str, Any]] = data["streams"]
    rounds = max(len({each.get("round", 0) for each in streams}), 1)
    again = [each["retransmits"] for each in streams if each.get("retransmits") is not None]
    lost = sum(each.get("lost_packets") or 0 for each in streams)
    sent = sum(each.get("sent_packets") or 0 for each in streams)
    fairness = measures.jain(every)
    failed = len(data.get("failed") or ())
    return (
        Cell(result.contestant, contestant=result.contestant),
        units.count(len(every)),
        Cell(units.count(failed), "miss" if failed else "none"),
        units.bit_rate(sum(every) / rounds),
        units.bit_rate(min(every)),
        units.bit_rate(nearest_rank(every, 50)),
        units.bit_rate(max(every)),
        units.ABSENT if fairness is None else units.digits(fairness),
        units.count(sum(again)) if again else units.ABSENT,
        units.share(lost, sent) if sent else units.ABSENT,
    )


def matrix(result: Result, most: float) -> Plot:
    """Who sent how much to whom."""
    streams = result.data["streams"]
    names = list(dict.fromkeys([s["from"] for s in streams] + [s["to"] for s in streams]))
    names.sort(key=natural)
    cells = {(each["from"], each["to"]): float(each["bps"]) / 1e6 for each in streams}
    drawing = charts.heatmap(
        f"Matrix over {result.contestant}",
        names,
        names,
        cells,
        lambda value: f"{units.digits(value)} Mb/s",
        ("from", "to"),
        most / 1e6,
    )
    return Plot(
        drawing,
        f"{result.contestant}: Mb/s from each host to each other one, all "
        "contestants on one scale.",
    )


def natural(name: str) -> tuple[str, int]:
    """So that node10 comes after node9."""
    head = name.rstrip("0123456789")
    tail = name[len(head) :]
    return (head, int(tail) if tail else -1)


def arp(results: Results, colours: Colours) -> Section:
    """Hosts that all resolve each other at once, with suppression and without."""
    made = Section("arp", "ARP storms", "`lab arp`")
    found = sorted(
        results.of("arp"), key=lambda each: (each.contestant, each.data["suppression"] != "on")
    )
    if not found:
        return made
    rows: list[Sequence[str | Cell]] = []
    for each in found:
        data, histogram = each.data, each.data["histogram"]
        silent = data["asked"] - data["answered"]
        rows.append(
            (
                Cell(each.contestant, contestant=each.contestant),
                data["suppression"],
                units.count(data["hosts"]),
                units.count(data["asked"]),
                Cell(units.count(silent), "miss" if silent else "none"),
                Cell(units.count(data["wrong"]), "miss" if data["wrong"] else "none"),
                units.count(data["fabric_frames"]),
                *(units.duration(measures.told(histogram, percent)) for percent in (50, 99, 99.9)),
                units.duration(histogram["max"]),
            )
        )
    columns = (
        "contestant",
        "suppression",
        ">hosts",
        ">asked",
        ">not answered",
        ">wrong",
        ">frames on the fabric",
        ">p50",
        ">p99",
        ">p99.9",
        ">max",
    )
    curves = [
        Curve(
            Series(f"suppression {each.data['suppression']}, {each.contestant}", f"s{number % 6}"),
            each.data["histogram"],
        )
        for number, each in enumerate(found)
    ]
    made.add(
        Text(
            "Every host asks for every other one at once. With suppression the engine of the host "
            "that asks answers in the other's name, and no question crosses the fabric."
        ),
        Table(columns, rows),
        Plot(
            charts.percentiles("Answers to ARP, by percentile", curves),
            "From question to answer, by percentile.",
        ),
    )
    return made
