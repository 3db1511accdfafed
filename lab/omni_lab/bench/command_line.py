"""The lab's command line: which subcommand is in which module.

A subcommand is a module with `add_arguments(parser)` and `run(options) -> exit status`. It is
loaded only when it is the one that runs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from ..capture import CaptureError
from ..commands import CommandError
from ..interrupt import Interrupted
from ..node import NodeError
from ..traffic import TrafficError
from .state import LabError

ABOUT = """\
Fabrics of up to 200 hosts on this machine, which stay up between commands, and what is measured on
them. Each host is a network namespace with an engine of its own; results go to the run's folder.

  lab up --nodes 10                     make a fabric, until all nodes know each other
  lab status                            look at it
  lab exec node1 -- ping -c 3 10.7.0.2  use it
  lab iperf --shape pairs               measure it
  lab down                              remove it

Needs root, the built programs (make build) and what scripts/install-deps.sh installs.
"""
ENDINGS = (
    "Exit status: 0 all held, 1 something failed or missed its target, 2 wrong arguments, 130 \
interrupted."
)


@dataclass(frozen=True)
class Subcommand:
    """Where a subcommand is."""

    module: str
    about: str


SUBCOMMANDS = {
    "up": Subcommand("up", "make a fabric"),
    "check": Subcommand("check", "see whether all nodes know and reach each other"),
    "status": Subcommand("status", "a live table of all nodes"),
    "idle": Subcommand("idle", "what all engines take while nobody uses the fabric"),
    "exec": Subcommand("execute", "run a command on a host, or on all nodes"),
    "list": Subcommand("listing", "the labs of this machine"),
    "iperf": Subcommand("iperf", "TCP or UDP between many hosts at once"),
    "latency": Subcommand("latency", "round trips between nodes on a fixed schedule"),
    "allreduce": Subcommand("allreduce", "collective communication between nodes"),
    "arp": Subcommand("arp_storm", "hosts that all resolve each other at once"),
    "baseline": Subcommand("baseline", "set up what others have for the same, on the same hosts"),
    "stages": Subcommand("stages", "how long frames take in the engines, stage by stage"),
    "drops": Subcommand("drops", "what was dropped and why, and what was lost on the way"),
    "chaos": Subcommand("chaos.command", "break things by a seed, and check what arrives where"),
    "report": Subcommand("report", "a page of all that was measured in a run"),
    "down": Subcommand("down", "remove a fabric"),
    "all": Subcommand("everything", "all of it in one go, with the report"),
}
# The last where something of the system is not there, or not ours.
FAILURES = (CommandError, NodeError, TrafficError, LabError, CaptureError, OSError)


def load(name: str) -> ModuleType:
    """A subcommand's module."""
    return importlib.import_module(f"{__package__}.{SUBCOMMANDS[name].module}")


def make_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser. Only the module of the subcommand that was chosen is loaded."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "lab", description=ABOUT, epilog=ENDINGS, formatter_class=formatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, each in SUBCOMMANDS.items():
        one = commands.add_parser(name, help=each.about, formatter_class=formatter)
        if name == chosen:
            module = load(name)
            one.description = module.__doc__
            module.add_arguments(one)
    return parser


def run(words: Sequence[str]) -> int:
    """Runs the subcommand of a command line. Returns the exit status."""
    chosen = words[0] if words and words[0] in SUBCOMMANDS else None
    options = make_parser(chosen).parse_args(words)
    try:
        status: int = load(options.command).run(options)
    except FAILURES as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except Interrupted as signal_name:
        print(f"lab: interrupted by {signal_name}", file=sys.stderr)
        return 130
    return status
