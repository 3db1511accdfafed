"""`lab iperf`: TCP or UDP between many hosts at once.

pairs    node1 to node2, node3 to node4, ...: all at once
matrix   each host to each other one, in rounds: in every round each host sends to one and
         receives from one
incast   all hosts to node1 at once
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..figures import Figure, kept, table
from ..interrupt import catch_signals
from ..report import heading
from ..traffic import TrafficError, iperf_end
from . import drops, fleet, over, runs, state
from .arguments import add_name, fraction, rate, whole
from .fleet import Fleet
from .over import Over

SHAPES = ("pairs", "matrix", "incast")
MATRIX_NODES = 8
PORT = 5201
# What iperf3 needs beside the time it sends: the more of them, the slower they start.
MARGIN_SECONDS = 20.0
MARGIN_A_STREAM = 0.5

Pair = tuple[str, str]


@dataclass(frozen=True)
class Stream:
    """What came of one stream. None where the protocol has no such figure."""

    sender: str
    receiver: str
    round: int
    bps: float
    retransmits: int | None
    lost_packets: int | None
    sent_packets: int | None

    def kept(self) -> dict[str, Any]:
        """As results have it."""
        fields = asdict(self)
        ends = {"from": fields.pop("sender"), "to": fields.pop("receiver")}
        return ends | fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)
    add = parser.add_argument
    add("--shape", choices=SHAPES, default="pairs", help="who sends to whom (pairs)")
    over.add_argument(parser)
    add("--seconds", type=whole(1, 300), default=5, help="of each stream (5)")
    add("--udp", action="store_true", help="UDP at a fixed rate in place of TCP")
    add("--rate", type=rate, default=50_000_000, help="of each UDP stream, bits a second (50M)")
    text = "of UDP datagrams that may be lost, as a share of all (0.05)"
    add("--lost-at-most", type=fraction, default=0.05, metavar="P", help=text)
    text = "bits a second that the slowest stream must have (any)"
    add("--at-least", type=rate, metavar="BPS", help=text)


def rounds(shape: str, names: Sequence[str]) -> list[list[Pair]]:
    """Who sends to whom, round by round."""
    if shape == "pairs":
        return [list(zip(names[::2], names[1::2]))]
    if shape == "incast":
        return [[(name, names[0]) for name in names[1:]]]
    count = len(names)
    return [
        [(names[at], names[(at + step) % count]) for at in range(count)] for step in range(1, count)
    ]


def command(options: argparse.Namespace, address: str, port: int) -> list[str]:
    """The client's side of a stream."""
    ask = ["iperf3", "-c", address, "-p", str(port), "-t", str(options.seconds), "--json"]
    return [*ask, "-u", "-b", str(options.rate)] if options.udp else ask


def parse(text: str, pair: Pair, number: int, is_udp: bool) -> Stream:
    """A stream from its client's JSON. Raises TrafficError when it failed."""
    end = iperf_end(text)
    try:
        if not is_udp:
            received, sent = end["sum_received"], end["sum_sent"]
            again = int(sent.get("retransmits", 0))
            return Stream(*pair, number, float(received["bits_per_second"]), again, None, None)
        seen = end.get("sum_received") or end["sum"]
        lost, packets = int(seen["lost_packets"]), int(seen["packets"])
        return Stream(*pair, number, float(seen["bits_per_second"]), None, lost, packets)
    except (KeyError, TypeError) as error:
        raise TrafficError(f"iperf3 left out {error}") from error


def run_round(
    options: argparse.Namespace, lab_over: Over, pairs: Sequence[Pair], number: int, folder: Path
) -> tuple[list[Stream], list[str]]:
    """All streams of a round at once. Returns what came of them, and what failed."""
    streams, failed = [], []
    with Fleet() as ships:
        servers = []
        for at, (_, receiver) in enumerate(pairs):
            address, port = lab_over.addresses[receiver], PORT + at
            serve = ["iperf3", "-s", "-1", "-p", str(port), "-B", address]
            where = lab_over.namespace(receiver)
            servers.append((ships.start(f"iperf3 of {receiver}", where, serve), port))
        fleet.wait_for_ports(servers)
        clients = []
        for at, (sender, receiver) in enumerate(pairs):
            ask = command(options, lab_over.addresses[receiver], PORT + at)
            clients.append(ships.start(f"{sender} to {receiver}", lab_over.namespace(sender), ask))
        patience = options.seconds + MARGIN_SECONDS + MARGIN_A_STREAM * len(pairs)
        late = ships.wait(clients, patience)
        for pair, client in zip(pairs, clients):
            if client in late:
                failed.append(f"{client.title}: no end after {patience:g} s")
                continue
            said = client.said()
            name = f"iperf-{runs.slug(lab_over.contestant)}-{options.shape}-{number}"
            runs.keep_raw(folder, f"{name}-{pair[0]}-{pair[1]}.json", said)
            try:
                stream = parse(said, pair, number, options.udp)
            except TrafficError as error:
                failed.append(f"{client.title}: {error}")
                continue
            if stream.bps > 0:
                streams.append(stream)
            else:
                failed.append(f"{client.title}: nothing arrived")
    return streams, failed


def figures(
    options: argparse.Namespace, streams: Sequence[Stream], failed: Sequence[str], count: int
) -> list[Figure]:
    """What is to be held to its target."""
    rates = [each.bps for each in streams]
    together = sum(rates) / count if count else 0.0
    found = [
        Figure("streams", len(streams) + len(failed)),
        Figure("streams that failed", len(failed), at_most=0),
        Figure("all at once, mean of rounds", together / 1e6, "Mb/s"),
        Figure(
            "slowest stream",
            min(rates, default=0) / 1e6,
            "Mb/s",
            at_least=options.at_least and options.at_least / 1e6,
        ),
        Figure("fastest stream", max(rates, default=0) / 1e6, "Mb/s"),
    ]
    if options.udp:
        lost = sum(each.lost_packets or 0 for each in streams)
        sent = sum(each.sent_packets or 0 for each in streams)
        share = lost / sent if sent else 1.0
        found.append(Figure("lost", 100 * share, "%", at_most=100 * options.lost_at_most))
    else:
        found.append(Figure("segments sent again", sum(s.retransmits or 0 for s in streams)))
    return found


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when all streams went through, and fast enough."""
    catch_signals()
    lab = state.load_complete(options.name)
    if options.shape == "matrix" and options.nodes is None:
        options.nodes = MATRIX_NODES
    lab_over = over.find(lab, options)
    plan = rounds(options.shape, lab_over.names)
    protocol = "udp" if options.udp else "tcp"
    heading(
        f"iperf3 over {lab_over.contestant}: {options.shape}, {protocol}, "
        f"{len(plan)} x {len(plan[0])} streams of {options.seconds} s"
    )
    runs.add_event(lab, f"iperf {options.shape}", detail=lab_over.contestant)
    head = runs.result("iperf", lab_over.contestant)
    streams: list[Stream] = []
    failed: list[str] = []
    with drops.watched(lab, lab_over, f"iperf {options.shape}"):
        for number, pairs in enumerate(plan):
            some, wrong = run_round(options, lab_over, pairs, number, Path(lab.run))
            streams += some
            failed += wrong
    for each in failed[:8]:
        print(f"failed: {each}")
    measured = figures(options, streams, failed, len(plan))
    report = head | {
        "shape": options.shape,
        "protocol": protocol,
        "seconds": options.seconds,
        "rounds": len(plan),
        "streams": [each.kept() for each in streams],
        "failed": failed,
        "figures": kept(measured),
    }
    name = f"iperf-{runs.slug(lab_over.contestant)}-{options.shape}"
    runs.write(Path(lab.run), name + ("-udp" if options.udp else ""), report)
    print("\n".join(table(measured)), flush=True)
    return 0 if all(each.met for each in measured) else 1
