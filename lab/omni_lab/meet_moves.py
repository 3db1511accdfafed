"""Addresses go from host to host: until all nodes name the new owner."""

from __future__ import annotations

import argparse
import random
import time
from contextlib import ExitStack

from . import control
from .fabric import Fabric
from .figures import Figure, spread
from .node import NodeError, Programs
from .pinger import Pinger
from .report import heading
from .roaming import Roaming

NAMES = ("alpha", "beta", "gamma")
# As many as move in turn, so that each has some rest in between.
ADDRESSES = [f"10.7.1.{number}" for number in range(1, 11)]
TARGET_SECONDS = 1.0
GIVE_UP_SECONDS = 30.0
LOOK_SECONDS = 0.005
# A host announces twice (RFC 5227, ANNOUNCE_INTERVAL).
ANNOUNCE_SECONDS = 2.0
# Between two moves, at least and at most.
PAUSE_SECONDS = (0.1, 0.5)


def run(stack: ExitStack, programs: Programs, options: argparse.Namespace) -> list[Figure]:
    """All of it."""
    heading("Three nodes and a Nucleus")
    moves = Moves(stack, programs)
    chance = random.Random(options.seed)
    for number, address in enumerate(ADDRESSES):
        name = NAMES[number % len(NAMES)]
        moves.roaming.settle(name, address)
        if moves.known(name, address) is None:
            raise NodeError(f"{address} of {name} is not known to all nodes")
    heading(f"{options.moves} moves of {len(ADDRESSES)} addresses")
    times = []
    for number in range(options.moves):
        time.sleep(chance.uniform(*PAUSE_SECONDS))
        address = ADDRESSES[number % len(ADDRESSES)]
        turn = number // len(ADDRESSES) + number % len(ADDRESSES)
        before, after = NAMES[turn % len(NAMES)], NAMES[(turn + 1) % len(NAMES)]
        moves.roaming.leave(before, address)
        moves.roaming.settle(after, address)
        took = moves.known(after, address)
        if took is None or took > TARGET_SECONDS:
            said = "not known to all" if took is None else f"{took:.2f} s"
            print(f"move {number + 1}, {address} from {before} to {after}: {said}", flush=True)
        if took is not None:
            times.append(took)
    moves.fabric.check_running()
    return [
        Figure("moves", options.moves),
        Figure("moves that some node never saw", options.moves - len(times), at_most=0),
        *spread(
            "until all name the owner", times, "s", count=options.moves, p99_at_most=TARGET_SECONDS
        ),
    ]


class Moves:
    """Nodes that have met, and what they know of addresses."""

    def __init__(self, stack: ExitStack, programs: Programs) -> None:
        self.fabric = Fabric(stack, "moves", programs, nodes=NAMES)
        self.fabric.configure()
        self.fabric.nuclei["nucleus"].start()
        self.fabric.start(NAMES)
        pinger = Pinger(self.fabric.namespaces())
        stack.callback(pinger.close)
        self.fabric.meet(pinger, NAMES)
        self.roaming = Roaming(stack, self.fabric)

    def known(self, name: str, address: str) -> float | None:
        """How long it takes from now until all nodes know whose an address is; None when they do
        not in time.
        """
        wanted = (self.fabric.keys[name], self.roaming.macs[name].hex(":"))
        began = time.monotonic()
        again = began + ANNOUNCE_SECONDS
        waiting = list(self.fabric.nodes.values())
        while True:
            waiting = [
                node for node in waiting if control.owners(node.look()).get((0, address)) != wanted
            ]
            now = time.monotonic()
            if not waiting:
                return now - began
            if now > began + GIVE_UP_SECONDS:
                return None
            if now > again:
                again = began + GIVE_UP_SECONDS
                self.roaming.announce(name, address)
            time.sleep(LOOK_SECONDS)
