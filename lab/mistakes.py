#!/usr/bin/env python3
"""Mistakes that people make with a fabric: are they told the cause?

Two hosts in network namespaces, and one mistake after the other: wrong keys, a port that is taken,
a firewall, clocks, limits, interfaces. Of each, the engine's first error line or a line of `omni
doctor` has to name the cause. Ends with a table; exit status 1 when a cause is not named. Needs
root and the built programs. Removes all it made, also when interrupted.
"""

from __future__ import annotations

import argparse
import sys

from omni_lab import figures, mistakes
from omni_lab.commands import CommandError
from omni_lab.interrupt import Interrupted, undoing
from omni_lab.node import NodeError, Programs, add_programs
from omni_lab.report import heading


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("names", nargs="*", metavar="TEXT", help="only mistakes with these in their names")
    add_programs(parser)
    return parser.parse_args()


def main() -> int:
    """Exit status 0 when every cause is named."""
    options = parse_arguments()
    folder = options.programs.resolve()
    programs = Programs(folder / "omni-engine", folder / "omni")
    for obstacle in (found := programs.obstacles()):
        print(f"mistakes: {obstacle}", file=sys.stderr)
    if found:
        return 1
    try:
        with undoing() as stack:
            named = mistakes.run(stack, programs, options.names)
    except Interrupted as name:
        print(f"\ninterrupted by {name}: all that was made is removed", flush=True)
        return 130
    except (CommandError, NodeError) as error:
        print(f"\nFAILED: {error}", flush=True)
        return 1
    heading("mistakes")
    print("\n".join(figures.table(named)), flush=True)
    return 0 if named and all(each.met for each in named) else 1


if __name__ == "__main__":
    sys.exit(main())
