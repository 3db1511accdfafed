#!/usr/bin/env python3
"""Nodes and their rendezvous under load and faults, with whole programs.

    crowd     many nodes that know nobody start at once, and have to talk within a minute
    outage    the Nucleus is away: established traffic goes on, and newcomers come in afterwards
    etcd      two Nuclei on three members of etcd, which suffer: no traffic and no owner is lost
    moves     an address goes from node to node, and all have to know
    failover  a node dies, and its machine shows up behind another

Each makes hosts in network namespaces of its own, runs omni-engine and omni-nucleus there, and
ends with a table: figure, target, measured, ok. Needs root, the built programs and what
scripts/install-deps.sh installs. Removes all it made, also when interrupted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

from omni_lab import figures, meet_crowd, meet_etcd, meet_failover, meet_moves, meet_outage
from omni_lab.bench.arguments import whole
from omni_lab.commands import CommandError
from omni_lab.interrupt import Interrupted, catch_signals, ignore_signals
from omni_lab.node import NodeError, Programs, add_programs
from omni_lab.report import heading
from omni_lab.traffic import TrafficError

TRIALS = {
    "crowd": meet_crowd.run,
    "outage": meet_outage.run,
    "etcd": meet_etcd.run,
    "moves": meet_moves.run,
    "failover": meet_failover.run,
}
# What they need beside our own programs and `ip`.
TOOLS = {"outage": "iperf3", "etcd": "etcd"}
# More hosts have no place on a bridge.
NODES_MAX = 1000
MINUTES_MIN, MINUTES_MAX = 0.5, 1440.0
LAB_ERRORS = (CommandError, NodeError, TrafficError)


def partners(text: str) -> int | None:
    """With how many others a node talks; None for all."""
    return None if text == "all" else whole(1, NODES_MAX)(text)


def minutes(text: str) -> float:
    """A time that is long enough for something to happen in it."""
    number = float(text)
    if not MINUTES_MIN <= number <= MINUTES_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not within {MINUTES_MIN}..={MINUTES_MAX}")
    return number


def parse_arguments() -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    option = common.add_argument
    add_programs(common)
    option("--json", type=Path, metavar="FILE", help="write the figures there as well")
    option("--seed", type=int, default=1, help="what is left to chance is chosen by it (1)")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    trials = parser.add_subparsers(dest="trial", required=True, metavar="TRIAL")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return trials.add_parser(name, help=text, description=text, parents=[common])

    crowd = add("crowd", meet_crowd.__doc__ or "")
    crowd.add_argument("--nodes", type=whole(2, NODES_MAX), default=100, help="how many (100)")
    crowd.add_argument(
        "--talk",
        type=partners,
        default=4,
        metavar="N|all",
        help="others that each node chooses to ping (4); all: every pair",
    )
    outage = add("outage", meet_outage.__doc__ or "")
    outage.add_argument(
        "--minutes", type=minutes, default=10.0, help="how long the Nucleus is away (10)"
    )
    etcd = add("etcd", meet_etcd.__doc__ or "")
    etcd.add_argument(
        "--kills", type=whole(1, 10_000), default=20, help="times that the leader is killed (20)"
    )
    etcd.add_argument(
        "--hold",
        type=whole(5, 600),
        default=15,
        metavar="SECONDS",
        help="how long a member is stopped, cut off or without room (15)",
    )
    moves = add("moves", meet_moves.__doc__ or "")
    moves.add_argument("--moves", type=whole(1, 100_000), default=100, help="how many (100)")
    add("failover", meet_failover.__doc__ or "")
    return parser.parse_args()


def obstacles(programs: Programs, trial: str) -> list[str]:
    """What keeps it from running at all."""
    found = programs.obstacles()
    tool = TOOLS.get(trial)
    if tool is not None and shutil.which(tool) is None:
        found.append(f"{tool} is not installed: scripts/install-deps.sh installs it")
    return found


def main() -> int:
    """Runs one trial. Exit status 0 when all targets are met."""
    options = parse_arguments()
    folder = options.programs.resolve()
    programs = Programs(folder / "omni-engine", folder / "omni")
    for obstacle in (found := obstacles(programs, options.trial)):
        print(f"meet: {obstacle}", file=sys.stderr)
    if found:
        return 1
    catch_signals()
    try:
        with ExitStack() as stack:
            try:
                measured = TRIALS[options.trial](stack, programs, options)
            finally:
                # From here on all is undone; nothing may cut that short.
                ignore_signals()
    except Interrupted as signal_name:
        print(f"\ninterrupted by {signal_name}: all that was made is removed", flush=True)
        return 130
    except LAB_ERRORS as error:
        print(f"\nFAILED: {error}", flush=True)
        return 1
    heading(f"meet {options.trial}")
    print("\n".join(figures.table(measured)), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures.kept(measured), indent=1) + "\n")
    return 0 if all(each.met for each in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
