"""Start and stop, again and again: programs, maps, links, sockets, interfaces, offloads, routes,
files and the neighbour's descriptors have to be as before.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import Any

from . import faults_kernel, faults_pair
from .attack_tools import Process
from .faults_pair import Pair
from .faults_talk import Talk
from .figures import Figure, spread
from .interrupt import undoing
from .node import Node, NodeError, Programs
from .report import heading

# What a node's folder has when it was started once, beside what was there before.
KEPT = {"alpha.state", "engine.log"}
# So long a cycle waits for traffic both ways.
GIVE_UP_SECONDS = 20.0
# Until the neighbour has let go of what a start or stop made it open.
SETTLE_SECONDS = 1.0
# Cycles before the neighbour is looked at, and how much its memory may grow from there on.
WARM_CYCLES = 2
GROWTH_MOST_MIB = 4.0
MIB = 1 << 20


def run(stack: ExitStack, programs: Programs, options: argparse.Namespace) -> list[Figure]:
    """All ways to move frames, one after the other."""
    figures = []
    for way in options.ways:
        heading(f"Start and stop, {options.cycles} times, {way}")
        with undoing() as inner:
            figures += Trial(inner, programs, way).run(options.cycles)
    return figures


class Trial:
    """One way to move frames."""

    def __init__(self, stack: ExitStack, programs: Programs, way: str) -> None:
        self.way = way
        self.pair: Pair = faults_pair.make(stack, "restart", programs)
        self.pair.configure(faults_pair.WAYS[way])
        self.pair.beta.start()
        self.pair.beta.wait_ready()
        hosts = {name: node.namespace for name, node in self.pair.nodes.items()}
        self.talk = Talk(hosts, faults_pair.ACCESS)
        stack.callback(self.talk.close)
        self.wrong: list[str] = []
        self.back: list[float] = []
        self.held = 0

    def run(self, cycles: int) -> list[Figure]:
        """Starts and stops."""
        alpha, beta = self.pair.alpha, self.pair.beta
        before, pins = snapshot(alpha), faults_kernel.pins()
        for _ in range(WARM_CYCLES):
            self.cycle()
        time.sleep(SETTLE_SECONDS)
        neighbour = Process(beta.running().pid)
        there, open_before = faults_kernel.inventory(beta.namespace), descriptors(beta)
        resident, _ = neighbour.rss_bytes()
        for number in range(cycles):
            self.cycle()
            if (number + 1) % 100 == 0:
                print(f"{number + 1} of {cycles}", flush=True)
        time.sleep(SETTLE_SECONDS)
        self.wrong += faults_kernel.differences(before, snapshot(alpha))
        self.wrong += faults_kernel.differences(there, faults_kernel.inventory(beta.namespace))
        if (now := faults_kernel.pins()) != pins:
            self.wrong.append(f"pinned BPF objects: {pins} became {now}")
        opened = descriptors(beta) - open_before
        grown = (neighbour.rss_bytes()[0] - resident) / MIB
        for each in self.wrong[:10]:
            print(f"NOT AS BEFORE: {each}", flush=True)
        name, total = f"{self.way}: ", cycles + WARM_CYCLES
        return [
            Figure(f"{name}BPF objects that were held", self.held),
            Figure(f"{name}not as before", len(self.wrong), at_most=0),
            Figure(f"{name}descriptors more at the neighbour", opened, at_most=0),
            Figure(f"{name}memory more at the neighbour", grown, "MiB", at_most=GROWTH_MOST_MIB),
            *spread(f"{name}start to delivery both ways", self.back, "s", count=total),
        ]

    def cycle(self) -> None:
        """A start, traffic, and a stop."""
        alpha = self.pair.alpha
        began = self.talk.set_mark()
        alpha.start()
        alpha.wait_ready()
        if self.talk.wait_both(GIVE_UP_SECONDS):
            self.back.append(time.monotonic() - began)
        held = faults_kernel.held_by(alpha.running().pid)
        if not all(map(faults_kernel.exists, held)):
            raise NodeError("alpha runs, and the kernel does not know what it holds")
        self.held += len(held)
        status = alpha.stop()
        if status:
            self.wrong.append(f"exit status {status}")
        self.wrong += [f"BPF {each.kind} {each.number}" for each in faults_kernel.left_of(held)]
        self.wrong += alpha.leftovers()


def snapshot(node: Node) -> dict[str, Any]:
    """A node's namespace, and the names of its files that a start does not make for good."""
    files = sorted({each.name for each in node.folder.iterdir()} - KEPT)
    return {**faults_kernel.inventory(node.namespace), "files": files}


def descriptors(node: Node) -> int:
    """How many descriptors a node has open."""
    return faults_kernel.descriptors(node.running().pid)
