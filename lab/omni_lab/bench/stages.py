"""`lab stages`: how long frames take in the engines, stage by stage, all engines merged.

Measurements over our own fabric keep the same of their own time: stages-CONTESTANT-DURING.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import commands
from ..commands import CommandError
from ..interrupt import catch_signals
from . import disclosure, runs, state
from .arguments import add_name, whole
from .over import Over
from .state import State

ASK_SECONDS = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)
    text = "tell what the slowest of so many frames takes, half of the time"
    parser.add_argument("--steps", type=whole(1, 10**6), metavar="N", help=text)


def command(lab: State, *options: str) -> list[str]:
    """`omni report` of all engines."""
    sockets = [str(node.socket) for node in lab.nodes]
    return [f"{lab.programs}/omni", "report", *options, *sockets]


def ask(lab: State, *options: str) -> str:
    """What `omni report` prints."""
    return commands.run(command(lab, *options), timeout=ASK_SECONDS)


@contextlib.contextmanager
def watched(lab: State, place: Over, during: str) -> Iterator[None]:
    """Keeps what the engines' frames took while something is measured over our own fabric."""
    if not place.is_omni:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="stages-", dir=lab.folder) as folder:
        before = Path(folder) / "before.json"
        before.write_text(ask(lab, "--json"))
        head = runs.result("stages", place.contestant)
        yield
        try:
            report: dict[str, Any] = json.loads(ask(lab, "--json", "--since", str(before)))
        except CommandError as error:
            # An engine was started anew meanwhile: what it had counted is gone.
            print(f"no times by stage: {error}")
            return
        name = f"stages-{runs.slug(place.contestant)}-{runs.slug(during)}"
        runs.write(Path(lab.run), name, report | head | {"during": during})


def run(options: argparse.Namespace) -> int:
    """Prints the table, and keeps the histograms."""
    catch_signals()
    lab = state.load_complete(options.name)
    contestant = disclosure.contestant_of(lab)
    head = runs.result("stages", contestant)
    report = json.loads(ask(lab, "--json"))
    runs.write(Path(lab.run), f"stages-{runs.slug(contestant)}", report | head)
    steps = [] if options.steps is None else ["--steps", str(options.steps)]
    print(ask(lab, *steps), end="")
    return 0
