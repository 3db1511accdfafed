"""Sessions are renewed under traffic, and no datagram may be lost to that.

Timers renew a session every two minutes. So that it happens a thousand times, both nodes are given
another preshared key each time and told to reload, upon which each begins a handshake. The
simulator has the timers themselves, a thousand times (sim/tests/rekey.rs).
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack

from . import commands, control, faults_pair, netns
from .faults_kernel import wait
from .faults_wire import Sessions, Tap
from .figures import Figure
from .interrupt import undoing
from .node import PORT, Node, NodeError, Programs, write_private
from .report import heading

# A datagram each way in so many seconds.
INTERVAL_SECONDS = 0.001
RENEWED_SECONDS = 10.0
# The timer of a session, and a handshake.
TIMER_SECONDS = 130.0
SETTLE_SECONDS = 1.0
# Initiations that follow each other sooner are not answered.
SPACE_SECONDS = 0.03
KEY = "psk.key"


def run(stack: ExitStack, programs: Programs, options: argparse.Namespace) -> list[Figure]:
    """All ways to move frames that have an underlay of their own."""
    figures = []
    for way in (way for way in options.ways if way.endswith("/tap")):
        heading(f"Sessions that are renewed {options.cycles} times, {way}")
        with undoing() as inner:
            figures += trial(inner, programs, way, options.cycles)
    return figures


def trial(stack: ExitStack, programs: Programs, way: str, cycles: int) -> list[Figure]:
    """One way to move frames."""
    pair = faults_pair.make(stack, "rekey", programs)
    pair.configure(faults_pair.WAYS[way])
    keys = [commands.run([str(programs.omni), "genpsk"]) for _ in range(2)]
    for node in pair.nodes.values():
        text = node.config.read_text()
        node.config.write_text(
            text.replace("    endpoint:", f"    preshared_key_file: {KEY}\n    endpoint:")
        )
        write_private(node.folder / KEY, keys[0])
    seen = {netns.port_of(name): Sessions(PORT) for name in faults_pair.NAMES}
    tap = Tap(pair.wire, seen, PORT)
    stack.callback(tap.close)
    pair.start()
    talk = pair.talk(stack, INTERVAL_SECONDS)

    def renewals() -> int:
        return min(len(each.seen) for each in seen.values())

    def renewed_after(count: int, seconds: float) -> bool:
        return wait(lambda: renewals() > count, seconds)

    began, missed = time.monotonic(), 0
    for number in range(cycles):
        before = renewals()
        for node in pair.nodes.values():
            reload(node, keys[(number + 1) % 2])
            time.sleep(SPACE_SECONDS)
        missed += not renewed_after(before, RENEWED_SECONDS)
    forced = renewals()
    renewed_after(forced, TIMER_SECONDS)
    ended = time.monotonic()
    talk.pause(SETTLE_SECONDS)
    sent = talk.total("sent") - talk.total("refused")
    name = f"{way}: "
    return [
        Figure(f"{name}renewals asked for, and not made", missed, at_most=0),
        Figure(f"{name}sessions seen on the wire", forced, at_least=cycles + 1),
        Figure(f"{name}renewals by the timer", renewals() - forced, at_least=1),
        Figure(f"{name}datagrams sent", sent),
        Figure(f"{name}of these, lost", talk.lost_since(began, ended), at_most=0),
        Figure(f"{name}delivered twice", talk.total("duplicates"), at_most=0),
        Figure(f"{name}wrong at the end", len(pair.stop()), at_most=0),
    ]


def reload(node: Node, key: str) -> None:
    """Gives a node another preshared key."""
    (node.folder / KEY).write_text(key)
    answer = control.ask(node.socket, "reload")
    if answer is None or "error" in answer:
        raise NodeError(f"{node.name}: does not reload: {answer}")
