"""`lab all`: makes a lab, measures all there is to measure beside others, and writes the report.

    up, check, idle                          until everybody reaches everybody
    iperf, latency, allreduce                over our own fabric, the bare underlay, VXLAN, and the
                                             tunnels of others that are installed, on the same hosts
    iperf, allreduce, arp                    of more kinds, over our own fabric
    chaos                                    faults by a seed, while all that is sent is checked
    stages, drops, report, down

What fails is told, and the rest goes on. Removes the lab at the end, also when interrupted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import compare_peers
from ..figures import Figure, kept, table
from ..interrupt import Interrupted, catch_signals, ignore_signals
from ..report import heading
from . import baseline, baseline_tunnels, runs, state
from .arguments import lab_name, seconds, whole
from .over import BARE, OMNI

# Ranks and hosts that are compared, as tunnels join no more.
COMPARED = 8
# Layer-2 tunnels of others; what VXLAN within WireGuard comes to is one more.
TUNNELS = ("fastd", "vpncloud", "wireguard")
PEERS = ("fastd", "vpncloud", "vxlan-wireguard-go")
INTERRUPTED = 130
# Of the job completion time of others.
JCT_SHARE = 0.5
Runs = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Step:
    """A command of the lab."""

    words: tuple[str, ...]
    # Nothing that follows is of use when this one fails.
    vital: bool = False

    def __str__(self) -> str:
        return f"lab {' '.join(self.words)}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add = parser.add_argument
    add("--nodes", type=whole(4, 200), default=10, help="hosts with an engine (10)")
    add("--name", type=lab_name, default="lab", help="the lab's name (lab)")
    add("--seconds", type=seconds(0.5, 600), default=2.0, help="of each measurement (2)")
    text = "faults for so many minutes; 0 for none (1)"
    add("--chaos", type=seconds(0, 600), default=1.0, metavar="MINUTES", help=text)
    add("--seed", type=whole(0, 2**32 - 1), default=1, help="of what is left to chance (1)")
    text = "how long hosts come to rest before idle engines are watched (0)"
    add("--rest", type=seconds(0, 7200), default=0.0, metavar="SECONDS", help=text)
    text = "tunnels of others, with commas; none for none (those that are installed)"
    add("--peers", metavar="LIST", help=text)
    add("--install", action="store_true", help="first install those that are missing")
    add("--up", default="", metavar="OPTIONS", help="more options of `lab up`, in one word")
    add("--run", type=Path, metavar="FOLDER", help="of the results (target/lab/TIME)")


def installed(wanted: str | None) -> list[str]:
    """The tunnels that take part."""
    if wanted == "none":
        return []
    names = TUNNELS if wanted is None else tuple(wanted.split(","))
    if unknown := [name for name in names if name not in TUNNELS]:
        raise state.LabError(f"--peers: {unknown[0]} is none of {', '.join(TUNNELS)}")
    needs = {name: baseline.RECIPES[name].needs for name in names}
    missing = {
        name: program
        for name, programs in needs.items()
        for program in programs
        if baseline_tunnels.find(program) is None
    }
    for name, program in missing.items():
        print(f"{name} is left out: {program} is not installed (--install installs it)")
    return [name for name in names if name not in missing]


def compared(options: argparse.Namespace, over: str) -> list[Step]:
    """What is measured over each contestant, with the same hosts and settings."""
    count = min(COMPARED, options.nodes)
    nodes, span = str(count), f"{options.seconds:g}"
    rank = ("allreduce", "--over", over, "--ranks", nodes, "--algorithm", "ring")
    return [
        Step(("iperf", "--shape", "pairs", "--nodes", nodes, "--seconds", whole_seconds(options))
             + ("--over", over)),
        Step(("latency", "--rates", "1000", "--nodes", nodes, "--seconds", span, "--over", over)),
        Step((*rank, "--sizes", "64K,1M", "--iterations", "20", "--compute-us", "1000:200")),
    ]  # fmt: skip


def whole_seconds(options: argparse.Namespace) -> str:
    """iperf3 knows no parts of a second."""
    return str(max(round(options.seconds), 1))


def plan(options: argparse.Namespace, tunnels: Sequence[str]) -> list[Step]:
    """Everything between `up` and `report`, in order."""
    nodes, span = options.nodes, whole_seconds(options)
    steps = [Step(("check", "--pairs", "all"), vital=True)]
    steps.append(Step(("idle", "--rest", f"{options.rest:g}")))
    for over in (OMNI, BARE, "vxlan", *tunnels):
        apart = over not in (OMNI, BARE)
        if apart:
            count = ("--nodes", str(min(COMPARED, nodes)))
            steps.append(Step(("baseline", over, *count)))
        steps += compared(options, over)
        if apart:
            steps.append(Step(("baseline", over, "--remove")))
    steps += [
        Step(("iperf", "--shape", "incast", "--seconds", span)),
        Step(("iperf", "--shape", "matrix", "--nodes", "8" if nodes >= 8 else "4")
             + ("--seconds", "1")),
        Step(("latency", "--rates", "100", "--flows", str(nodes // 2), "--seconds", span)),
    ]  # fmt: skip
    for algorithm in ("tree", "halving-doubling"):
        steps.append(
            Step(("allreduce", "--ranks", "8" if nodes >= 8 else "4", "--algorithm", algorithm)
                 + ("--sizes", "64K,1M"))
        )  # fmt: skip
    if nodes > COMPARED:
        more = ("--sizes", "1M", "--iterations", "5", "--warmup", "1", "--timeout", "120")
        steps.append(Step(("allreduce", "--ranks", "all", "--algorithm", "ring", *more)))
    few = str(min(nodes, COMPARED))
    steps += [
        Step(("allreduce", "--ranks", few, "--collective", "all-to-all", "--sizes", "64K")),
        Step(("allreduce", "--ranks", few, "--collective", "broadcast", "--sizes", "1M")),
        Step(("stages", "--steps", str(2 * (nodes - 1)))),
    ]
    if options.chaos > 0:
        fault = ("chaos", "--seed", str(options.seed), "--minutes", f"{options.chaos:g}")
        steps.append(Step(fault))
    # Last, as it starts engines anew.
    steps += [Step(("drops",)), Step(("arp",))]
    return steps


def named(options: argparse.Namespace, step: Step) -> list[str]:
    """The words of a step, of this lab."""
    return [*step.words, "--name", options.name]


def run_all(
    options: argparse.Namespace, steps: Sequence[Step], run_words: Runs
) -> dict[Step, tuple[int, float]]:
    """Runs steps one after the other. Returns the exit status of each, and how long it took."""
    done: dict[Step, tuple[int, float]] = {}
    for number, step in enumerate(steps, 1):
        print(f"\n[{number}/{len(steps)}] {step}", flush=True)
        began = time.monotonic()
        status = run_words(named(options, step))
        done[step] = (status, time.monotonic() - began)
        if status == INTERRUPTED:
            raise Interrupted("a signal")
        if status and step.vital:
            print(f"{step} failed: the rest is left out")
            break
    return done


def jct(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Job completion time in seconds by contestant: all sizes of the ring that is compared."""
    return {
        each["contestant"]: sum(size["jct_ns"] for size in each["sizes"]) / 1e9
        for each in results
        if each.get("algorithm") == "ring" and each.get("sizes")
    }


def figures(times: dict[str, float]) -> list[Figure]:
    """Our own job completion time beside that of others."""
    own = [time for name, time in times.items() if name.startswith(OMNI)]
    if not own:
        return [Figure("job completion time of our own fabric", None, at_most=0)]
    tunnels = {name: time for name, time in times.items() if name in TUNNELS}
    layer_2 = {name: time for name, time in tunnels.items() if name != "wireguard"}
    found = [Figure(f"job completion time, {name}", time, "s") for name, time in times.items()]
    if layer_2:
        best = min(layer_2, key=lambda name: layer_2[name])
        share = own[0] / layer_2[best]
        found.append(Figure(f"ours / {best}, the best layer-2 peer", share, at_most=JCT_SHARE))
    if "wireguard" in tunnels:
        share = own[0] / tunnels["wireguard"]
        found.append(Figure("ours / VXLAN within wireguard-go", share, at_most=JCT_SHARE))
    return found


def read(folder: Path, ranks: int) -> list[dict[str, Any]]:
    """The results of the ring that is compared."""
    paths = sorted(folder.glob(f"allreduce-ring-{ranks}-*.json"))
    return [json.loads(path.read_text()) for path in paths]


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when everything held."""
    # The table that this module is a line of.
    from .command_line import run as run_words

    catch_signals()
    began = time.monotonic()
    if options.install:
        compare_peers.install(compare_peers.make(PEERS, None))
    steps = plan(options, installed(options.peers))
    up = ["up", "--name", options.name, "--nodes", str(options.nodes), "--seed", str(options.seed)]
    up += options.up.split()
    folder = runs.make(options.run)
    status = run_words([*up, "--run", str(folder)])
    if status:
        return status
    failed = []
    try:
        done = run_all(options, steps, run_words)
        failed = [step for step, (each, _) in done.items() if each]
        measured = figures(jct(read(folder, min(COMPARED, options.nodes))))
        kept_figures = {"figures": kept(measured)}
        times = [
            {"step": str(step), "status": each, "seconds": round(took, 1)}
            for step, (each, took) in done.items()
        ]
        runs.write(folder, "all", runs.result("all") | kept_figures | {"steps": times})
        if run_words(["report", str(folder)]):
            failed.append(Step(("report",)))
    except Interrupted:
        ignore_signals()
        run_words(["down", "--name", options.name])
        return INTERRUPTED
    if run_words(["down", "--name", options.name]):
        failed.append(Step(("down",)))
    heading(f"All of it, in {time.monotonic() - began:.0f} s")
    print("\n".join(table(measured)))
    for step in failed:
        print(f"failed: {step}")
    print(f"report: {folder / 'report.html'}", flush=True)
    return 0 if not failed and all(each.met for each in measured) else 1
