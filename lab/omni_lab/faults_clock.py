"""A node's wall clock is wrong, or jumps while it runs, and the engine stands still: it has to be
reached again soon, and must never be locked out for good.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

from . import faults_pair, faults_vdso
from .faults_cases import engine_command
from .faults_pair import Pair
from .faults_talk import Talk
from .figures import Figure
from .interrupt import undoing
from .node import Node, NodeError, Programs
from .report import heading

YEAR_SECONDS = 31_557_600
JUMPS = {
    "+1 h": 3600,
    "-1 h": -3600,
    "+10 years": 10 * YEAR_SECONDS,
    "-10 years": -10 * YEAR_SECONDS,
}
# One retry of a handshake, 5 s and up to 333 ms of jitter, and a round trip.
BACK_SECONDS = 6.0
GIVE_UP_SECONDS = 60.0
# What is looked at after a jump, and when what was sent by then has arrived.
WATCH_SECONDS = 1.0
SETTLE_SECONDS = 0.2
# How long a node without memory is given while its clock is wrong.
HOPELESS_SECONDS = 10.0


def run(stack: ExitStack, programs: Programs, options: argparse.Namespace) -> list[Figure]:
    """Jumps, then standstills."""
    way = options.ways[0]
    heading(f"Wall clocks that jump, {way}")
    figures = []
    for name, seconds in JUMPS.items():
        with undoing() as inner:
            figures += Trial(inner, programs, way).jumps(name, seconds)
    with undoing() as inner:
        figures += Trial(inner, programs, way).without_memory()
    with undoing() as inner:
        trial = Trial(inner, programs, way)
        for seconds in options.freeze:
            heading(f"An engine stands still for {seconds} s")
            figures.append(trial.freeze(seconds))
    return figures


class Trial:
    """A pair whose alpha has a wall clock of its own."""

    def __init__(self, stack: ExitStack, programs: Programs, way: str) -> None:
        self.pair: Pair = faults_pair.make(stack, "clock", programs)
        self.pair.configure(faults_pair.WAYS[way])
        self.pair.beta.start()
        self.pair.beta.wait_ready()
        start(self.pair.alpha, 0)
        self.talk: Talk = self.pair.talk(stack)

    def jumps(self, name: str, seconds: int) -> list[Figure]:
        """One jump: at the start, back at the next, and there and back while it runs."""
        print(name, flush=True)
        alpha = self.pair.alpha
        found = [self.back(f"{name} at the start", lambda: self.restart(seconds))]
        found.append(self.back(f"right again after {name}", lambda: self.restart(0)))
        for text, to in ((f"{name} while it runs", seconds), (f"back from {name}", 0)):
            found.append(self.unnoticed(text, to))
            # A handshake under that clock.
            found.append(self.back(f"{text}, peer restarts", self.restart_beta))
        found.append(Figure(f"{name}: panics", int(panicked(alpha)), at_most=0))
        return found

    def restart(self, seconds: int) -> None:
        """Kills alpha and starts it with another clock."""
        alpha = self.pair.alpha
        alpha.running().kill()
        alpha.running().wait()
        self.talk.set_mark()
        start(alpha, seconds)

    def restart_beta(self) -> None:
        """Kills beta and starts it, so that both have to agree anew."""
        beta = self.pair.beta
        beta.running().kill()
        beta.running().wait()
        self.talk.set_mark()
        beta.start()

    def back(self, name: str, action: Callable[[], None]) -> Figure:
        """How long it takes after something until traffic flows both ways."""
        action()
        return self.until_both(f"{name}: traffic both ways")

    def until_both(self, name: str) -> Figure:
        """How long it takes from the last mark until traffic flows both ways."""
        marked = self.talk.order[0].mark
        reached = self.talk.wait_both(GIVE_UP_SECONDS)
        times = [at for at in self.talk.firsts().values() if at is not None]
        took = max(times) - marked if reached else None
        print(f"    {name}: {took if took is None else round(took, 2)} s", flush=True)
        return Figure(name, took, "s", at_most=BACK_SECONDS)

    def unnoticed(self, name: str, seconds: int) -> Figure:
        """The clock jumps under traffic, of which nothing may be lost."""
        began = time.monotonic()
        faults_vdso.jump(self.pair.alpha.running(), seconds)
        time.sleep(WATCH_SECONDS)
        ended = time.monotonic()
        time.sleep(SETTLE_SECONDS)
        return Figure(f"{name}: datagrams lost", self.talk.lost_since(began, ended), at_most=0)

    def without_memory(self) -> list[Figure]:
        """The clock is wrong and the state file is gone: out until the clock is right, and only
        until then.
        """
        print("-10 years, and no state file", flush=True)
        alpha = self.pair.alpha
        alpha.running().kill()
        alpha.running().wait()
        (alpha.folder / "alpha.state").unlink()
        self.talk.set_mark()
        start(alpha, JUMPS["-10 years"])
        reached = self.talk.wait_both(HOPELESS_SECONDS)
        name = "-10 years, no state file"
        self.talk.set_mark()
        faults_vdso.jump(alpha.running(), 0)
        return [
            Figure(f"{name}: traffic within {HOPELESS_SECONDS:g} s", int(reached)),
            self.until_both(f"{name}: traffic both ways once it is right"),
        ]

    def freeze(self, seconds: int) -> Figure:
        """Alpha stands still under traffic, and goes on."""
        alpha = self.pair.alpha.running()
        alpha.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.talk.set_mark()
            alpha.send_signal(signal.SIGCONT)
        return self.until_both(f"stood still for {seconds} s: traffic both ways")


def start(node: Node, offset_seconds: int) -> None:
    """Starts an engine with a wall clock of its own, and waits until it is ready."""
    with node.log.open("wb") as log:
        command = engine_command(node)
        node.process = faults_vdso.start(command, node.namespace, log, offset_seconds)
    node.wait_ready()
    check_year(node, offset_seconds)


def check_year(node: Node, offset_seconds: int) -> None:
    """The log has to show that the clock is off."""
    told = node.log.read_text(errors="replace")[:19]
    wanted = time.gmtime(time.time() + offset_seconds)
    if not told.startswith(time.strftime("%Y-%m-%dT", wanted)):
        raise NodeError(f"{node.name}: its clock says {told}, not {time.asctime(wanted)}")


def panicked(node: Node) -> bool:
    """Whether an engine's log tells of a panic, or it ended."""
    return "panicked" in node.log.read_text(errors="replace") or node.running().poll() is not None
