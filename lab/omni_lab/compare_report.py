"""What the reader sees: the machine, and tables of medians with their spreads, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .compare_stats import Results, Spread

MEMORY = "memory"
# Title, and for each column the metric, its heading and the unit.
TABLES: Sequence[tuple[str, Sequence[tuple[str, str]]]] = (
    (
        "TCP in Gb/s as received, and processor seconds per GB of one stream",
        (
            ("tcp", "one stream"),
            ("tcp_many", "four"),
            ("tcp_back", "reverse"),
            ("cpu", "CPU, machine"),
            ("traced_cpu", "traced"),
            ("own_cpu", "its own"),
        ),
    ),
    (
        "Small datagrams in thousands a second, and memory of both ends",
        (
            ("flood", "received at overload"),
            ("flood_sent", "of sent"),
            ("lossless", "highest without loss"),
            (MEMORY, "memory, MiB"),
        ),
    ),
    (
        "Round trip in us while idle",
        tuple((f"idle_{each}", each) for each in ("p50", "p90", "p99", "p99.9")),
    ),
    (
        "Round trip in us under TCP of one stream",
        tuple((f"loaded_{each}", each) for each in ("p50", "p90", "p99", "p99.9")),
    ),
)
# What is compared by ratios.
RATIOS = (
    ("tcp", "TCP, one stream"),
    ("traced_cpu", "CPU per GB, traced"),
    ("lossless", "datagrams without loss"),
    ("idle_p50", "idle p50"),
    ("loaded_p99", "p99 under TCP"),
)


def number(value: float) -> str:
    """Three significant digits, or all of a large number."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.{2 if abs(value) < 9.995 else 1}f}"


def cell(value: Spread | None) -> str:
    """Median, and the least and the greatest round beside it."""
    if value is None:
        return "-"
    if value.rounds == 1:
        return number(value.median)
    return f"{number(value.median)} [{number(value.least)}-{number(value.greatest)}]"


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose columns are as wide as they must be."""
    columns = range(len(heading))
    widths = [max(len(row[column]) for row in [heading, *rows]) for column in columns]
    lines = [line(row, widths) for row in [heading, *rows]]
    rule = "|".join("-" * (width + 2) for width in widths)
    return [lines[0], f"|{rule}|", *lines[1:]]


def line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(f"{text:<{width}}" for text, width in zip(row, widths)) + " |"


def tables(results: Results, contestants: Sequence[str], wire: str) -> list[str]:
    """All tables of a wire that have a figure in them."""
    lines: list[str] = []
    for title, columns in TABLES:
        rows = []
        for name in contestants:
            spreads = {metric: results.spread(name, wire, metric) for metric, _ in columns}
            # Memory is known of everybody, and alone is no row.
            if any(spreads[metric] for metric in spreads if metric != MEMORY):
                rows.append([name, *map(cell, spreads.values())])
        if rows:
            lines += ["", f"Wire {wire}. {title}:", ""]
            lines += markdown(["contestant", *(heading for _, heading in columns)], rows)
    return lines


def ratios(results: Results, contestants: Sequence[str], wire: str, base: str) -> list[str]:
    """Everybody over one of them on the same wire, round by round."""
    rows = []
    for name in contestants:
        pairs = ((name, wire), (base, wire))
        found = [results.ratio(*pairs, metric) for metric, _ in RATIOS]
        if name != base and any(found):
            rows.append([name, *map(cell, found)])
    if not rows:
        return []
    heading = [f"over {base}", *(heading for _, heading in RATIOS)]
    return ["", f"Wire {wire}. Ratios, round by round:", "", *markdown(heading, rows)]


def losses(results: Results, contestants: Sequence[str], wires: Sequence[str]) -> list[str]:
    """What nodes lost of datagrams, and whether they say so."""
    metrics = ("lost", "lost_counted", "lost_outside", "lost_unexplained")
    rows = []
    for wire in wires:
        for name in contestants:
            spreads = [results.spread(name, wire, metric) for metric in metrics]
            if any(spreads):
                rows.append([name, wire, *map(cell, spreads)])
    if not rows:
        return []
    heading = ["contestant", "wire", "lost", "counted by nodes", "by the kernel", "not explained"]
    return ["", "Datagrams lost in all trials of a round, and where:", "", *markdown(heading, rows)]


def disclosure(machine: Mapping[str, Any], plan: str) -> list[str]:
    """What has to be known to judge the figures."""
    lines = ["Measured on:", ""]
    lines += [f"- {key}: {value}" for key, value in machine.items()]
    lines += [f"- run: {plan}"]
    return lines
