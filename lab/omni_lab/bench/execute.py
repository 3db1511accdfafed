"""`lab exec`: runs a command on one host of a lab, or on all nodes at once."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Sequence

from ..interrupt import Interrupted, catch_signals, ignore_signals
from . import processes, state
from .arguments import add_name
from .state import LabError, Space

END_SECONDS = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)
    parser.add_argument("--all", action="store_true", help="on all nodes, side by side")
    text = "[NODE] -- COMMAND: a host, Nucleus or switch by its name, and what to run there"
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="[NODE] -- COMMAND", help=text)


def split(words: Sequence[str], on_all: bool) -> tuple[str | None, list[str]]:
    """Where, and what. Raises LabError when one of them is missing, or too many."""
    place: str | None = None
    rest = list(words)
    if not on_all:
        if not rest or rest[0] == "--":
            raise LabError("exec: name a node, or give --all")
        place = rest.pop(0)
    if rest and rest[0] == "--":
        rest.pop(0)
    if not rest:
        raise LabError("exec: there is no command: lab exec NODE -- COMMAND")
    return place, rest


def run(options: argparse.Namespace) -> int:
    """Exit status of the command; with --all the greatest of all."""
    lab = state.load(options.name)
    place, command = split(options.words, options.all)
    if place is not None:
        inside = lab.space(place).netns().inside(*command)
        os.execvp(inside[0], inside)
    catch_signals()
    return on_all(lab.nodes, command)


def on_all(nodes: Sequence[Space], command: Sequence[str]) -> int:
    """Runs it on all, and prints what each says behind its name, line by line."""
    running: list[subprocess.Popen[str]] = []
    threads = []
    width = max((len(node.name) for node in nodes), default=0)
    try:
        for node in nodes:
            process = subprocess.Popen(
                node.netns().inside(*command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            running.append(process)
            thread = threading.Thread(target=copy, args=(process, f"{node.name:<{width}} | "))
            thread.start()
            threads.append(thread)
        for process in running:
            process.wait()
    except Interrupted:
        ignore_signals()
        found = [(each.pid, processes.started(each.pid)) for each in running]
        alive = [processes.Process(pid, at) for pid, at in found if at is not None]
        processes.end(alive, END_SECONDS)
        return 130
    finally:
        for thread in threads:
            thread.join()
    # A command that a signal ended is told as shells tell it.
    return max(
        (each.returncode if each.returncode >= 0 else 128 - each.returncode for each in running),
        default=0,
    )


def copy(process: subprocess.Popen[str], prefix: str) -> None:
    """A thread: prints each line of a process with its prefix in front."""
    if process.stdout is None:
        return
    for line in process.stdout:
        sys.stdout.write(prefix + line.rstrip("\n") + "\n")
        sys.stdout.flush()
