"""`lab status`: a live table of all nodes."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from ..interrupt import Interrupted, catch_signals
from ..report import duration
from . import members, state
from .arguments import add_name, seconds
from .state import Space, State

HANDS = 8
# Between the two looks that rates of a single table come from.
ONCE_SECONDS = 0.5
HEADINGS = ("node", "address", "peers", "rx/s", "tx/s", "drops", "p50", "p99", "queue")
CLEAR = "\x1b[H\x1b[J"


@dataclass(frozen=True)
class Row:
    """A node as it is now."""

    node: str
    address: str
    # None for all that an engine would say, where none answers.
    established: int | None = None
    peers: int | None = None
    # Octets a second of its peers' frames since the last look.
    rx_octets_per_s: float | None = None
    tx_octets_per_s: float | None = None
    drops: int | None = None
    # Of the queue that received most.
    p50_ns: int | None = None
    p99_ns: int | None = None
    queue: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)
    parser.add_argument("--once", action="store_true", help="one table, and end")
    parser.add_argument("--json", action="store_true", help="one table as JSON, and end")
    text = "between two looks (2)"
    parser.add_argument("--interval", type=seconds(0.2, 60), default=2.0, metavar="S", help=text)


Look = tuple[float, dict[str, Any] | None]


def look(nodes: Sequence[Space]) -> list[Look]:
    """What all engines show, and when each was asked."""

    def ask(node: Space) -> Look:
        return (time.monotonic(), members.show(node))

    with ThreadPoolExecutor(HANDS) as pool:
        return list(pool.map(ask, nodes))


def row(name: str, address: str, before: Look, after: Look) -> Row:
    """A node between two looks."""
    shown = after[1]
    if shown is None:
        return Row(name, address)
    peers = shown["peers"]
    queues = shown["queues"]
    busiest = max(queues, key=lambda queue: queue["rx_frames"], default=None)
    latency = busiest["latency_ns"] if busiest else {}
    return Row(
        name,
        address,
        sum(peer["state"] == "established" for peer in peers),
        len(peers),
        rate(before, after, "rx_bytes"),
        rate(before, after, "tx_bytes"),
        sum(shown["drops"].values()),
        latency.get("p50"),
        latency.get("p99"),
        f"{busiest['port']} {busiest['queue']}" if busiest else "",
    )


def rate(before: Look, after: Look, counter: str) -> float | None:
    """A counter of all peers for each second between two looks; None when the engine was not there
    at both, or has started anew.
    """
    (since, earlier), (until, later) = before, after
    if earlier is None or later is None or until <= since:
        return None
    amounts = [sum(peer[counter] for peer in each["peers"]) for each in (earlier, later)]
    return (amounts[1] - amounts[0]) / (until - since) if amounts[1] >= amounts[0] else None


def octets(amount: float | None) -> str:
    """A rate with its prefix."""
    if amount is None:
        return "-"
    for prefix in ("", "k", "M"):
        if amount < 999.5:
            return f"{amount:.0f} {prefix}B"
        amount /= 1000
    return f"{amount:.2f} GB"


def cells(one: Row) -> tuple[str, ...]:
    """A row as it is printed."""
    if one.established is None:
        return (one.node, one.address, "no answer", *[""] * 6)
    times = [duration(each) if each is not None else "-" for each in (one.p50_ns, one.p99_ns)]
    rates = (octets(one.rx_octets_per_s), octets(one.tx_octets_per_s))
    peers = f"{one.established}/{one.peers}"
    return (one.node, one.address, peers, *rates, str(one.drops), *times, one.queue)


def lines(rows: Sequence[Row], height: int | None = None) -> list[str]:
    """The table; with a height, as many rows as fit and one line about the rest."""
    shown = rows
    if height is not None and len(rows) > height - 3:
        shown = rows[: max(height - 3, 1)]
    texts = [HEADINGS, *map(cells, shown)]
    widths = [max(len(text[column]) for text in texts) for column in range(len(HEADINGS))]
    found = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(text, widths)).rstrip()
        for text in texts
    ]
    silent = sum(each.established is None for each in rows)
    drops = sum(each.drops or 0 for each in rows)
    whole = sum(each.established is not None and each.established == each.peers for each in rows)
    total = f"{len(rows)} nodes, {silent} without an answer, {whole} with all sessions, "
    total += f"{drops} drops"
    more = len(rows) - len(shown)
    return [*found, total + (f"; {more} nodes more than fit here" if more else "")]


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when all engines answered the last time."""
    lab = state.load(options.name)
    once = options.once or options.json or not sys.stdout.isatty()
    catch_signals()
    rows: list[Row] = []
    try:
        before = look(lab.nodes)
        while True:
            time.sleep(ONCE_SECONDS if once else options.interval)
            after = look(lab.nodes)
            rows = table(lab, before, after)
            if options.json:
                print(json.dumps([asdict(each) for each in rows], indent=1))
            elif once:
                print("\n".join(lines(rows)))
            else:
                height = shutil.get_terminal_size().lines
                print(CLEAR + "\n".join(lines(rows, height)), flush=True)
            if once:
                break
            before = after
    except Interrupted:
        print()
    return 1 if any(each.established is None for each in rows) else 0


def table(lab: State, before: Sequence[Look], after: Sequence[Look]) -> list[Row]:
    """A row for each node."""
    return [
        row(node.name, str(node.overlay), *looks) for node, *looks in zip(lab.nodes, before, after)
    ]
