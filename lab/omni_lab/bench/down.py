"""`lab down`: removes all of a lab, whatever is left of it."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from ..interrupt import ignore_signals
from . import build, runs, state
from .arguments import add_name
from .state import LabError, State

TARGET_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)
    parser.add_argument("--all", action="store_true", help="all labs of this machine")
    text = "keep what all programs said in the run's folder, in logs/"
    parser.add_argument("--keep-logs", action="store_true", help=text)


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when nothing is left, within the time that it may take."""
    wanted = state.names() if options.all else [options.name]
    # A second Ctrl-C must not leave half of it.
    ignore_signals()
    status = 0
    for name in wanted:
        try:
            lab = state.load(name)
        except LabError as error:
            print(f"lab: {error}", file=sys.stderr)
            status = 1
            continue
        status = max(status, remove(lab, options.keep_logs))
    return status


def remove(lab: State, with_logs: bool) -> int:
    """Removes one, and says how long that took."""
    if with_logs:
        keep_logs(lab)
    began = time.monotonic()
    left = build.take_down(lab)
    took = time.monotonic() - began
    for each in left:
        print(f"lab: left behind: {each}", file=sys.stderr)
    if Path(lab.run).is_dir():
        runs.add_event(lab, "down", detail=f"{took:.2f} s")
    print(f"the lab {lab.name} is down: {took:.1f} s (target: {TARGET_SECONDS:g} s)", flush=True)
    return 1 if left or took > TARGET_SECONDS else 0


def keep_logs(lab: State) -> None:
    """Copies what programs said to the run's folder."""
    folder = Path(lab.run) / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    for space in lab.spaces:
        if space.log.exists():
            shutil.copyfile(space.log, folder / f"{space.name}.log")
    for log in lab.folder.glob("*.log"):
        shutil.copyfile(log, folder / log.name)
