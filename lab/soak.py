#!/usr/bin/env python3
"""A small fabric that things happen to for as long as you like, and that must not wear out.

Every few seconds one node's link flaps, its underlay is deleted and made again, its XDP program is
taken off, or its engine is stopped while its rings run full. Meanwhile all nodes ping each other.
Every second each engine is looked at: whether all frames of its packet memory are somewhere, its
memory, its descriptors. A line is printed each minute, and a verdict at the end: how soon traffic
flowed again, how much memory and how many descriptors there are more, and whether round trips are
slower in the last third than in the first.

Needs root and the built programs; works in network namespaces of its own and removes all it made.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from omni_lab import figures, soak_figures
from omni_lab.commands import CommandError
from omni_lab.interrupt import Interrupted, catch_signals, ignore_signals
from omni_lab.node import NodeError, Programs
from omni_lab.soak_churn import Soak

REPOSITORY = Path(__file__).resolve().parent.parent
NODES_LEAST, NODES_MOST = 2, 20
MINUTES_LEAST, MINUTES_MOST = 1.0, 72 * 60.0
WRONG_MOST = 20


def bounded(text: str, least: float, most: float) -> float:
    """A number of the command line within bounds."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no number") from error
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text} is not from {least:g} to {most:g}")
    return value


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option(
        "--minutes",
        type=lambda text: bounded(text, MINUTES_LEAST, MINUTES_MOST),
        default=10.0,
        help="how long (10)",
    )
    option(
        "--nodes",
        type=lambda text: int(bounded(text, NODES_LEAST, NODES_MOST)),
        default=4,
        help="how many (4)",
    )
    option("--seed", type=int, default=1, help="what is left to chance is chosen by it (1)")
    option(
        "--programs",
        type=Path,
        default=REPOSITORY / "target" / "release",
        metavar="FOLDER",
        help="where omni-engine and omni are (target/release)",
    )
    option("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser.parse_args()


def main() -> int:
    """Exit status 0 when all targets are met."""
    options = parse_arguments()
    folder = options.programs.resolve()
    programs = Programs(folder / "omni-engine", folder / "omni")
    if os.geteuid() != 0:
        print("soak: it makes network namespaces: run it as root", file=sys.stderr)
        return 1
    for program in (programs.engine, programs.omni):
        if not os.access(program, os.X_OK):
            print(f"soak: {program} is not built: `make build` builds it", file=sys.stderr)
            return 1
    catch_signals()
    soak = None
    try:
        with ExitStack() as stack:
            try:
                soak = Soak(
                    stack, programs, options.nodes, options.minutes * 60, options.seed
                )
                soak.run()
            except (CommandError, NodeError, OSError):
                for node in soak.nodes.values() if soak is not None else ():
                    print(f"\n-- {node.name}: {node.condition()}", *node.log_tail(), sep="\n")
                raise
            finally:
                # From here on all is undone; nothing may cut that short.
                ignore_signals()
    except Interrupted as signal_name:
        print(f"\ninterrupted by {signal_name}: all that was made is removed", flush=True)
        return 130
    except (CommandError, NodeError, OSError) as error:
        print(f"\nFAILED: {error}", flush=True)
        return 1
    measured = soak_figures.figures(soak.book)
    for wrong in soak.book.wrong[:WRONG_MOST]:
        print(f"wrong: {wrong}")
    print("\n".join(["", *figures.table(measured)]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures.kept(measured), indent=1) + "\n")
    return 0 if all(each.met for each in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
