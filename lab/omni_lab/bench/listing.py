"""`lab list`: the labs of this machine."""

from __future__ import annotations

import argparse
import json

from . import processes, state

HEADINGS = ("name", "nodes", "running", "topology", "state", "began", "results")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Exit status 0, also when there is none."""
    rows = []
    for name in state.names():
        lab = state.load(name)
        running = sum(processes.is_alive(node.process) for node in lab.nodes)
        condition = "up" if lab.complete else "not whole"
        nodes = len(lab.nodes)
        row = (name, nodes, running, lab.options["topology"], condition, lab.began, lab.run)
        rows.append(dict(zip(HEADINGS, row)))
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    texts = [HEADINGS, *(tuple(str(row[name]) for name in HEADINGS) for row in rows)]
    widths = [max(len(text[column]) for text in texts) for column in range(len(HEADINGS))]
    for text in texts:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(text, widths)).rstrip())
    return 0
