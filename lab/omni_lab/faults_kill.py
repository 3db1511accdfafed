"""kill -9 on a node under traffic both ways, again and again: what is left, how soon it is back,
and whether anything that was said before is believed afterwards.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack

from . import faults_kernel, faults_pair, netns
from .faults_pair import Pair
from .faults_talk import Talk
from .faults_wire import Wire
from .figures import Figure, spread
from .interrupt import undoing
from .netns import Namespace
from .node import PORT, NodeError, Programs
from .report import heading

BACK_P99_SECONDS = 2.0
# So long a cycle waits for traffic both ways before it counts as never.
GIVE_UP_SECONDS = 20.0
# BPF objects that an engine holds at least: a program, a link and maps for each port with XDP.
OBJECTS_LEAST = {"afxdp/tap": 3, "afxdp/xdp": 6, "udp/tap": 0, "udp/xdp": 3}
# Of earlier lives, each way, beside all of the last one.
REPLAYED = 64
# What is sent again has to arrive before it is looked at what came of it.
SETTLE_SECONDS = 0.05
# Of all that is sent again, so much has to be seen as dropped by the nodes: else it never came.
SEEN_LEAST = 0.9


def run(stack: ExitStack, programs: Programs, options: argparse.Namespace) -> list[Figure]:
    """All ways to move frames, one after the other."""
    figures = []
    for way in options.ways:
        heading(f"kill -9, {options.cycles} times, {way}")
        with undoing() as inner:
            figures += Trial(inner, programs, way, options.seed).run(options.cycles)
    return figures


class Trial:
    """One way to move frames."""

    def __init__(self, stack: ExitStack, programs: Programs, way: str, seed: int) -> None:
        self.way = way
        self.pair: Pair = faults_pair.make(stack, "kill", programs)
        self.pair.configure(faults_pair.WAYS[way])
        ports = [netns.port_of(name) for name in faults_pair.NAMES]
        self.wire = Wire(self.pair.wire, ports, PORT, seed)
        stack.callback(self.wire.close)
        self.pair.start()
        self.talk: Talk = self.pair.talk(stack)
        self.left: list[str] = []
        self.first: list[float] = []
        self.both: list[float] = []
        self.held = self.replayed = self.seen = 0

    def run(self, cycles: int) -> list[Figure]:
        """Kills and starts."""
        for number in range(cycles):
            self.cycle()
            if (number + 1) % 100 == 0:
                print(f"{number + 1} of {cycles}", flush=True)
        self.left += self.pair.stop()
        for each in self.left[:10]:
            print(f"LEFT: {each}", flush=True)
        name = f"{self.way}: "
        held_least = OBJECTS_LEAST[self.way] * cycles
        seen = self.seen / self.replayed if self.replayed else None
        return [
            Figure(f"{name}BPF objects that were held", self.held, at_least=held_least),
            Figure(f"{name}left over", len(self.left), at_most=0),
            *spread(f"{name}restart to first delivery", self.first, "s", count=cycles),
            *spread(
                f"{name}restart to delivery both ways",
                self.both,
                "s",
                count=cycles,
                p99_at_most=BACK_P99_SECONDS,
            ),
            Figure(f"{name}datagrams sent again", self.replayed),
            Figure(f"{name}of these, dropped with a reason", seen, at_least=SEEN_LEAST),
            Figure(f"{name}delivered twice", self.talk.total("duplicates"), at_most=0),
        ]

    def cycle(self) -> None:
        """A kill, what is left of it, and a start."""
        alpha = self.pair.alpha
        held = faults_kernel.held_by(alpha.running().pid)
        # What is not found while the engine runs would not be found afterwards.
        if not all(map(faults_kernel.exists, held)) or not traces(alpha.namespace):
            raise NodeError("alpha runs, and there is no trace of it")
        self.held += len(held)
        alpha.running().kill()
        alpha.running().wait()
        self.wire.end_life()
        self.left += [f"BPF {each.kind} {each.number}" for each in faults_kernel.left_of(held)]
        self.left += traces(alpha.namespace)
        began = self.talk.set_mark()
        alpha.start()
        alpha.wait_ready()
        self.replay()
        self.talk.wait_both(GIVE_UP_SECONDS)
        times = [at - began for at in self.talk.firsts().values() if at is not None]
        if times:
            self.first.append(min(times))
        if len(times) == len(self.talk.order):
            self.both.append(max(times))
        self.replay()

    def replay(self) -> None:
        """Sends again what was said before, and looks what came of it."""
        nodes = self.pair.nodes.values()
        before = sum(map(faults_pair.drops, nodes))
        self.replayed += self.wire.replay(REPLAYED)
        time.sleep(SETTLE_SECONDS)
        self.seen += sum(map(faults_pair.drops, nodes)) - before


def traces(talking: Namespace) -> list[str]:
    """What there is of an engine in a namespace where the trial has a socket of UDP itself."""
    counts = faults_kernel.sockets(talking)
    counts["UDP"] = counts.get("UDP", 0) - 1
    return faults_kernel.traces(faults_kernel.links(talking), counts)
