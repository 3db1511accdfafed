#!/usr/bin/env python3
"""Nodes and what fails around them, with whole programs: killed, stopped, out of memory or room.

    kill     kill -9 under traffic: nothing is left, soon back, nothing old is believed
    restart  start and stop: all is as before
    clock    the wall clock jumps; the engine stands still
    memory   too little of it, of each kind
    disk     full: state, the Nucleus's store, its backup, keys, certificates, reports
    missing  capabilities, devices, interfaces, ports: the first error names cause and remedy
    rekey    sessions are renewed under traffic, and nothing is lost

Each makes hosts in network namespaces of its own and runs the programs there. All end with one
table: figure, target, measured, ok; exit status 1 when a target is missed. Needs root, the built
programs and what scripts/install-deps.sh installs. Removes all it made, also when interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from omni_lab import (
    faults_clock,
    faults_disk,
    faults_kill,
    faults_memory,
    faults_missing,
    faults_pair,
    faults_rekey,
    faults_restart,
    figures,
)
from omni_lab.bench.arguments import whole
from omni_lab.commands import CommandError
from omni_lab.figures import Figure
from omni_lab.interrupt import Interrupted, undoing
from omni_lab.node import NodeError, Programs, add_programs
from omni_lab.report import heading

Trial = Callable[[ExitStack, Programs, argparse.Namespace], list[Figure]]
TRIALS: dict[str, Trial] = {
    "kill": faults_kill.run,
    "restart": faults_restart.run,
    "clock": faults_clock.run,
    "memory": faults_memory.run,
    "disk": faults_disk.run,
    "missing": faults_missing.run,
    "rekey": faults_rekey.run,
}
CYCLES = 1000
LAB_ERRORS = (CommandError, NodeError)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("trials", nargs="+", choices=[*TRIALS, "all"], metavar="TRIAL", help="which, or all")
    add_programs(parser)
    option(
        "--cycles",
        type=whole(1, 1_000_000),
        default=CYCLES,
        metavar="N",
        help=f"kills, restarts and renewals, of each way to move frames ({CYCLES})",
    )
    option(
        "--ways",
        nargs="+",
        choices=faults_pair.WAYS,
        default=list(faults_pair.WAYS),
        help="of moving frames: underlay.driver/access[].driver (all)",
    )
    option(
        "--freeze",
        nargs="+",
        type=whole(1, 3600),
        default=[60, 200],
        metavar="SECONDS",
        help="how long an engine stands still in `clock` (60 200)",
    )
    option("--seed", type=int, default=1, help="what is left to chance is chosen by it (1)")
    option("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser.parse_args()


def main() -> int:
    """Runs the trials. Exit status 0 when all targets are met."""
    options = parse_arguments()
    folder = options.programs.resolve()
    programs = Programs(folder / "omni-engine", folder / "omni")
    for obstacle in (found := programs.obstacles()):
        print(f"faults: {obstacle}", file=sys.stderr)
    if found:
        return 1
    names = list(TRIALS) if "all" in options.trials else list(dict.fromkeys(options.trials))
    measured: dict[str, list[Figure]] = {}
    try:
        for name in names:
            with undoing() as stack:
                measured[name] = TRIALS[name](stack, programs, options)
    except Interrupted as signal_name:
        print(f"\ninterrupted by {signal_name}: all that was made is removed", flush=True)
        return 130
    except LAB_ERRORS as error:
        print(f"\nFAILED: {error}", flush=True)
        return 1
    for name, found_figures in measured.items():
        heading(f"faults {name}")
        print("\n".join(figures.table(found_figures)), flush=True)
    if options.json is not None:
        kept = {name: figures.kept(each) for name, each in measured.items()}
        options.json.write_text(json.dumps(kept, indent=1) + "\n")
    return 0 if all(each.met for several in measured.values() for each in several) else 1


if __name__ == "__main__":
    sys.exit(main())
