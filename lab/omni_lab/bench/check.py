"""`lab check`: whether each node knows all others, and reaches them."""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Sequence
from pathlib import Path

from ..figures import Figure, kept, percentile, table
from ..interrupt import catch_signals
from ..pinger import Pinger
from . import members, runs, state
from .arguments import add_name, seconds
from .state import State

ALL, SOME = "all", "some"
PATIENCE_SECONDS = 60.0
# Partners by lot of each node, beside its neighbour, where not all are to be reached.
PARTNERS = 3
# All pings together, until they are answered. More would take the cores from the nodes.
PINGS_PER_SECOND = 2000.0
INTERVAL_SECONDS = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_name(parser)
    text = "which pairs: all, or each with its neighbour and three others by lot (some)"
    parser.add_argument("--pairs", choices=(ALL, SOME), default=SOME, help=text)
    text = "until all have to have answered (60)"
    parser.add_argument("--seconds", type=seconds(1, 600), default=PATIENCE_SECONDS, help=text)


def choose(names: Sequence[str], which: str, seed: int) -> list[tuple[str, str]]:
    """Which pairs are tried, none of them in both directions."""
    if which == ALL or len(names) <= PARTNERS + 1:
        return list(itertools.combinations(names, 2))
    chooser, found = random.Random(seed), set()
    for at, name in enumerate(names):
        others = [other for other in names if other != name]
        for other in [names[(at + 1) % len(names)], *chooser.sample(others, PARTNERS)]:
            found.add((name, other) if (other, name) not in found else (other, name))
    return sorted(found)


def reach(lab: State, which: str, patience: float) -> list[Figure]:
    """Pings pairs until each was answered once."""
    nodes = {node.name: node for node in lab.nodes}
    pairs = choose(list(nodes), which, lab.options["seed"])
    interval = max(INTERVAL_SECONDS, len(pairs) / PINGS_PER_SECOND)
    pinger = Pinger({node.name: node.netns() for node in lab.nodes}, lab.options["seed"])
    began = time.monotonic()
    try:
        wanted = [(one, str(nodes[other].overlay)) for one, other in pairs]
        streams = pinger.add(wanted, interval, once=True)
        pinger.wait(lambda: all(each.done for each in streams), patience)
    finally:
        pinger.close()
    answers = [each.first_answer - began for each in streams if each.first_answer is not None]
    silent = [f"{each.source} to {each.address}" for each in streams if each.first_answer is None]
    if silent:
        print(f"no answer: {', '.join(silent[:8])}{', ...' if len(silent) > 8 else ''}")
    return [
        Figure("pairs that were pinged", len(pairs)),
        Figure("pairs that never answered", len(silent), at_most=0),
        Figure(
            "until all had answered", percentile(answers, 100, len(pairs)), "s", at_most=patience
        ),
    ]


def known(lab: State) -> list[Figure]:
    """Whether engines run and know each other."""
    shown = [members.show(node) for node in lab.nodes]
    silent = sum(each is None for each in shown)
    others = len(lab.nodes) - 1
    ignorant = sum(each is not None and len(each["peers"]) < others for each in shown)
    return [
        Figure("nodes", len(lab.nodes)),
        Figure("engines that do not answer", silent, at_most=0),
        Figure("engines that do not know all others", ignorant, at_most=0),
    ]


def run(options: argparse.Namespace) -> int:
    """Checks a lab. Exit status 0 when all is as it should be."""
    catch_signals()
    lab = state.load_complete(options.name)
    head = runs.result("check")
    figures = [*known(lab), *reach(lab, options.pairs, options.seconds)]
    runs.write(Path(lab.run), "check", head | {"figures": kept(figures)})
    print("\n".join(table(figures)), flush=True)
    return 0 if all(each.met for each in figures) else 1
