"""`lab report`: makes report.html and report.md of whatever was measured in a run.

report.html needs no network and nothing beside itself; report.md has the same tables. Sections of
what was not measured are left out, with the command that would measure it. A file that cannot be
read is told, and the rest shown all the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .. import runs
from ..state import LabError, now
from . import (
    allreduce_section,
    checks_section,
    drops_section,
    headline,
    load,
    markdown,
    page,
    stages_section,
    tail_section,
    timeline_section,
    told_section,
    traffic_section,
    units,
)
from .blocks import Section
from .colours import Colours
from .load import Results
from .page import Head

LATEST = runs.ROOT / "latest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    text = "the run's folder (target/lab/latest)"
    parser.add_argument("folder", nargs="?", type=Path, default=LATEST, metavar="RUN", help=text)


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when all files could be read and every target was met."""
    folder: Path = options.folder
    if not folder.is_dir():
        raise LabError(f"{folder} is no folder: `lab up` makes one for its run")
    try:
        results = load.read(folder.resolve())
    except OSError as error:
        raise LabError(f"{folder} cannot be listed: {error}") from error
    if not results.results and not results.problems:
        raise LabError(f"{folder} has no results")
    head, sections, colours = compose(results, now())
    try:
        write(folder / "report.html", page.page(head, sections, colours))
        write(folder / "report.md", markdown.document(head, sections))
    except OSError as error:
        raise LabError(f"the report cannot be written: {error}") from error
    print(head.verdict)
    for each in head.problems:
        print(each)
    print(f"{(folder / 'report.html').resolve()}", flush=True)
    return 0 if head.held else 1


def compose(results: Results, made: str) -> tuple[Head, Sequence[Section], Colours]:
    """All that is to be told, before it is a page."""
    colours = Colours(results.contestants)
    top = headline.section(results)
    all_held, verdict = headline.held(results, top)
    sections = [
        told_section.section(results),
        allreduce_section.section(results, colours),
        tail_section.section(results, colours),
        stages_section.section(results, colours),
        traffic_section.iperf(results, colours),
        traffic_section.arp(results, colours),
        drops_section.section(results),
        timeline_section.section(results),
        checks_section.section(results),
    ]
    others = f" Not shown: {', '.join(results.others)}." if results.others else ""
    files = f"{len(results.results)} files of {results.folder.name}"
    head = Head(
        title=f"Fabric lab, run {results.folder.name}",
        about=headline.about(results),
        verdict=verdict,
        held=all_held and not results.problems,
        problems=results.problems,
        made=f"Made {units.time(made)} from {files}.{others}",
    )
    # An empty headline has no command that would make it.
    return head, ([top] if top.blocks else []) + sections, colours


def write(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    new = path.with_suffix(path.suffix + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
