#!/usr/bin/env python3
"""A node that stands still for a while, as a suspended or overloaded machine does.

Two nodes under traffic; one is stopped (SIGSTOP) for longer than a session lives, and then goes on.
Traffic has to flow again within one retry of a handshake, whichever side begins. Needs root and the
built programs; works in network namespaces of its own and removes all it made.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from omni_lab import commands, netns
from omni_lab.commands import CommandError
from omni_lab.interrupt import Interrupted, catch_signals, ignore_signals
from omni_lab.netns import Host, Namespace
from omni_lab.node import Identity, Node, NodeError, Programs, render_config

REPOSITORY = Path(__file__).resolve().parent.parent
NAMES = ("alpha", "beta")
UNDERLAY = {"alpha": "192.0.2.1", "beta": "192.0.2.2"}
ACCESS = {"alpha": "10.7.0.1", "beta": "10.7.0.2"}
# One retry of a handshake, 5 s and up to 333 ms of jitter, and a round trip.
ALLOWED_SECONDS = 6.0
GIVE_UP_SECONDS = 60.0


def answers(namespace: Namespace, address: str) -> bool:
    """Whether one ping is answered soon."""
    command = namespace.inside("ping", "-n", "-c", "1", "-W", "0.2", address)
    try:
        commands.run(command)
    except CommandError:
        return False
    return True


def seconds_until_answer(namespace: Namespace, address: str) -> float:
    """How long it takes until a ping is answered."""
    began = time.monotonic()
    while not answers(namespace, address):
        if time.monotonic() - began > GIVE_UP_SECONDS:
            break
    return time.monotonic() - began


def start(stack: ExitStack, programs: Programs) -> dict[str, Node]:
    """Two nodes on one wire, with a session."""
    hosts = [Host(name, f"{UNDERLAY[name]}/30") for name in NAMES]
    underlay = netns.build(stack, f"omni-suspend-{os.getpid()}", hosts)
    underlay.connect()
    nodes, identities = {}, {}
    for name in NAMES:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"omni-{name}-"))
        nodes[name] = Node(name, underlay.hosts[name], Path(folder), programs)
        stack.callback(nodes[name].kill)
        access = (f"{ACCESS[name]}/24",)
        identities[name] = Identity(name, UNDERLAY[name], access, nodes[name].make_keys())
    for name, node in nodes.items():
        peers = [identities[other] for other in NAMES if other != name]
        node.config.write_text(render_config("suspend", identities[name], peers, node.socket))
        node.start()
        node.wait_ready()
    answers(nodes["alpha"].namespace, ACCESS["beta"])
    for node in nodes.values():
        node.wait_established()
    return nodes


def suspend(nodes: dict[str, Node], first: str, seconds: float) -> float:
    """Stops alpha under traffic; how long `first`, who speaks first, then waits for an answer."""
    alpha = nodes["alpha"].running()
    deadline = time.monotonic() + seconds
    alpha.send_signal(signal.SIGSTOP)
    try:
        while time.monotonic() < deadline:
            answers(nodes["beta"].namespace, ACCESS["alpha"])
            time.sleep(0.5)
    finally:
        alpha.send_signal(signal.SIGCONT)
    other = next(name for name in NAMES if name != first)
    return seconds_until_answer(nodes[first].namespace, ACCESS[other])


def main() -> int:
    """Exit status 0 when traffic flowed again in time, each time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--programs", type=Path, default=REPOSITORY / "target" / "release", metavar="FOLDER"
    )
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[30.0, 100.0, 200.0], help="how long to stop"
    )
    arguments = parser.parse_args()
    folder = arguments.programs.resolve()
    late = 0
    catch_signals()
    try:
        with ExitStack() as stack:
            nodes = start(stack, Programs(folder / "omni-engine", folder / "omni"))
            # The first to be called when all is undone: nothing may cut that short.
            stack.callback(ignore_signals)
            for seconds in arguments.seconds:
                for first in NAMES:
                    took = suspend(nodes, first, seconds)
                    late += took > ALLOWED_SECONDS
                    print(f"stopped {seconds:g} s, {first} speaks first: {took:.2f} s", flush=True)
    except Interrupted as signal_name:
        print(f"interrupted by {signal_name}: all that was made is removed", flush=True)
        return 130
    except (CommandError, NodeError) as error:
        print(f"FAILED: {error}", flush=True)
        return 1
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
