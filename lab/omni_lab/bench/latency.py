"""`lab latency`: round trips between nodes on a fixed schedule, without coordinated omission.

Node1 sends to node2, node3 to node4, and so on, as many pairs as there are flows, all at once; rate
after rate. The floor is the same over loopback, on the sender's host.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..figures import Figure, kept, table
from ..interrupt import catch_signals
from ..report import heading
from . import drops, fleet, histograms, over, runs, state
from .arguments import add_name, fraction, numbers, seconds, whole
from .fleet import Fleet
from .over import Over
from .state import LabError, State

PORT = 7100
MARGIN_SECONDS = 15.0
LOST_AT_MOST = 0.01


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)
    over.add_argument(parser)
    add = parser.add_argument
    text = "datagrams a second of each flow, with commas (100,1000)"
    add("--rates", type=numbers(1, 100_000), default=[100, 1000], metavar="LIST", help=text)
    add("--flows", type=whole(1, 500), default=1, help="pairs of nodes at once (1)")
    add("--seconds", type=seconds(0.5, 3600), default=5.0, help="at each rate (5)")
    add("--octets", type=whole(24, 8972), default=64, help="of each datagram (64)")
    add("--spin", action="store_true", help="keep cores busy: for machines with cores to spare")
    text = f"share of datagrams that may be lost ({LOST_AT_MOST})"
    add("--lost-at-most", type=fraction, default=LOST_AT_MOST, metavar="P", help=text)
    text = "the 99th percentile of all flows together, in microseconds (any)"
    add("--p99-at-most", type=whole(1, 10**9), metavar="US", help=text)


def pairs(names: Sequence[str], flows: int) -> list[tuple[str, str]]:
    """Who sends to whom. Raises LabError when there are not enough nodes."""
    found = list(zip(names[::2], names[1::2], strict=False))[:flows]
    if len(found) < flows:
        raise LabError(f"--flows: {flows} flows need {2 * flows} nodes")
    return found


def send_command(
    lab: State, options: argparse.Namespace, place: Over, target: str, rate: int, result: Path
) -> list[str]:
    """What sends a flow."""
    words = [f"{lab.programs}/omni-perf", "latency", "send", "--calibrate"]
    words += ["--to", f"{place.addresses[target]}:{PORT}", "--rate", str(rate)]
    words += ["--seconds", str(options.seconds), "--octets", str(options.octets)]
    words += ["--contestant", place.contestant, "--json", str(result)]
    return [*words, "--spin"] if options.spin else words


def measure(
    lab: State, options: argparse.Namespace, place: Over, rate: int
) -> tuple[dict[str, Any], list[str]]:
    """All flows at one rate. Returns what was measured, and what failed."""
    chosen = pairs(place.names, options.flows)
    flows: list[dict[str, Any]] = []
    floor: list[dict[str, Any]] = []
    failed = []
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="latency-", dir=lab.folder)
        folder = Path(stack.enter_context(made))
        ships = stack.enter_context(Fleet())
        echoes = []
        # Twice the time, as the floor takes as long; the echo is ended when all is over.
        patience = 2 * options.seconds + MARGIN_SECONDS
        for _, target in chosen:
            listen = f"{place.addresses[target]}:{PORT}"
            words = [f"{lab.programs}/omni-perf", "latency", "echo", "--listen", listen]
            words += ["--seconds", str(2 * patience), *(["--spin"] if options.spin else [])]
            echo = ships.start(f"echo on {target}", place.namespace(target), words)
            echoes.append((echo, PORT))
        fleet.wait_for_ports(echoes, "udp")
        jobs = []
        for source, target in chosen:
            words = send_command(lab, options, place, target, rate, folder / source)
            jobs.append(ships.start(f"{source} to {target}", place.namespace(source), words))
        late = ships.wait(jobs, patience)
        for (source, target), job in zip(chosen, jobs, strict=True):
            if job in late or job.process.returncode:
                reason = f"no end after {patience:g} s" if job in late else job.words()
                failed.append(f"{job.title}: {reason}")
                continue
            said = json.loads((folder / source).read_text())
            flows += [flow | {"from": source, "to": target} for flow in said["flows"]]
            floor += [flow | {"from": source, "to": source} for flow in said["floor"]]
    head = {"seconds": options.seconds, "octets": options.octets, "spin": options.spin}
    return head | {"rate_per_s": rate, "flows": flows, "floor": floor}, failed


def figures(
    options: argparse.Namespace, report: dict[str, Any], failed: Sequence[str]
) -> list[Figure]:
    """What is to be held to its target, of all flows together."""
    rate, flows = report["rate_per_s"], report["flows"]
    merged = histograms.merge(flow["histogram"] for flow in flows)
    floor = histograms.merge(flow["histogram"] for flow in report["floor"])
    sent, lost, late = (sum(f[key] for f in flows) for key in ("sent", "lost", "late_sends"))
    name = f"{rate:,}/s"

    def us(histogram: dict[str, Any], percent: float) -> float | None:
        at = histograms.percentile(histogram, percent)
        return None if at is None else at / 1000

    return [
        Figure(f"{name}: flows that failed", len(failed), at_most=0),
        Figure(
            f"{name}: lost",
            100 * lost / sent if sent else None,
            "%",
            at_most=100 * options.lost_at_most,
        ),
        Figure(f"{name}: sent late", 100 * late / sent if sent else None, "%"),
        Figure(f"{name}: p50", us(merged, 50), "us"),
        Figure(f"{name}: p99", us(merged, 99), "us", at_most=options.p99_at_most),
        Figure(f"{name}: p99.9", us(merged, 99.9), "us"),
        Figure(f"{name}: floor, p50", us(floor, 50), "us"),
        Figure(f"{name}: floor, p99", us(floor, 99), "us"),
    ]


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when all flows were answered, and fast enough."""
    catch_signals()
    lab = state.load_complete(options.name)
    place = over.find(lab, options)
    pairs(place.names, options.flows)
    heading(f"Round trips over {place.contestant}: {options.flows} flows, {options.octets} octets")
    measured: list[Figure] = []
    for rate in options.rates:
        runs.add_event(lab, f"latency {rate}", detail=place.contestant)
        head = runs.result("latency", place.contestant)
        with drops.watched(lab, place, f"latency {rate}"):
            report, failed = measure(lab, options, place, rate)
        for each in failed[:8]:
            print(f"failed: {each}")
        held = figures(options, report, failed)
        name = f"latency-{runs.slug(place.contestant)}-{rate}"
        runs.write(Path(lab.run), name, head | report | {"failed": failed, "figures": kept(held)})
        measured += held
    print("\n".join(table(measured)), flush=True)
    return 0 if all(each.met for each in measured) else 1
