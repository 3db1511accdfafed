"""A node dies and its machine shows up behind another: until it is reached again.

Before that: a node that never heard of an address sends to the node that the Nucleus names.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from . import commands, netns
from .fabric import ACCESS_NET, PING_SECONDS, Fabric
from .figures import Figure
from .node import ACCESS, Node, NodeError, Programs
from .pinger import Pinger
from .report import heading

# The first one dies, its machine moves to the second, who is looked at from the third. The last
# one comes late.
NAMES = ("alpha", "beta", "gamma", "delta")
MACHINE = "machine"
# A rendezvous holds a dead node's addresses for 30 s; it is asked again every 10 s, and others
# take a node as dead after three unanswered calls.
TARGET_SECONDS = 60.0
GIVE_UP_SECONDS = 150.0
KNOWN_SECONDS = 20.0
# What a machine that moved says of itself, from time to time.
TALK_SECONDS = "0.5"


def run(stack: ExitStack, programs: Programs, _options: argparse.Namespace) -> list[Figure]:
    """All of it."""
    heading("Three nodes and a Nucleus, and a fourth that comes late")
    fabric = Fabric(stack, "failover", programs, nodes=NAMES)
    fabric.configure(more=["switch: { unknown_unicast: query }"])
    fabric.nuclei["nucleus"].start()
    early = NAMES[:3]
    fabric.start(early)
    pinger = Pinger(fabric.namespaces())
    stack.callback(pinger.close)
    fabric.meet(pinger, early)
    figures = directed(fabric)
    heading("The first node is killed; its machine shows up behind the second")
    return figures + failover(stack, fabric, pinger)


def directed(fabric: Fabric) -> list[Figure]:
    """What the late node sends to an address that it never heard of, and who gets it."""
    first, late = fabric.nodes[NAMES[0]], fabric.nodes[NAMES[3]]
    mac = first.access_mac().hex(":")
    # Its host is to say nothing by itself.
    quiet = "net.ipv6.conf.default.disable_ipv6=1"
    commands.run(late.namespace.inside("sysctl", "-q", "-w", quiet))
    fabric.start([late.name])
    wait("the late node knows all that the Nucleus does", lambda: complete(late.look()))
    heard = any(entry["mac"] == mac for entry in late.look()["fdb"])
    address = fabric.access[first.name]
    neighbour = ("neighbor", "replace", address, "lladdr", mac, "nud", "permanent", "dev", ACCESS)
    commands.run(late.namespace.ip(*neighbour))
    others = [fabric.nodes[name] for name in NAMES[1:3]]
    key = fabric.keys[late.name]
    before = sum(received(node.look(), key) for node in others)
    ping = late.namespace.inside("ping", "-c", "1", "-W", "5", address)
    answered = subprocess.run(ping, capture_output=True, check=False).returncode == 0
    after = sum(received(node.look(), key) for node in others)
    return [
        Figure("the late node had heard of the address", int(heard), at_most=0),
        Figure("its ping was answered", int(answered), at_least=1),
        Figure("frames of it that other nodes got", after - before, at_most=0),
    ]


def failover(stack: ExitStack, fabric: Fabric, pinger: Pinger) -> list[Figure]:
    """How long the machine is out of reach."""
    first, second = fabric.nodes[NAMES[0]], fabric.nodes[NAMES[1]]
    address, mac = fabric.access[first.name], first.access_mac().hex(":")
    began = time.monotonic()
    # As a machine that loses its power: nobody hears that it is gone.
    commands.run(first.namespace.ip("link", "set", netns.UNDERLAY, "down"))
    first.running().kill()
    first.running().wait()
    machine = move_machine(stack, fabric, second, address, mac)
    talk = machine.inside("ping", "-q", "-i", TALK_SECONDS, fabric.access[NAMES[2]])
    talking = subprocess.Popen(talk, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(talking.wait)
    stack.callback(talking.kill)
    pairs = [(name, address) for name in NAMES[2:]]
    streams = pinger.add(pairs, PING_SECONDS, once=True)
    pinger.wait(lambda: all(each.done for each in streams), GIVE_UP_SECONDS)
    times = {
        each.source: None if each.first_answer is None else each.first_answer - began
        for each in streams
    }
    return [
        Figure(f"until {name} reaches the machine again", took, "s", at_most=TARGET_SECONDS)
        for name, took in times.items()
    ]


def move_machine(
    stack: ExitStack, fabric: Fabric, node: Node, address: str, mac: str
) -> netns.Namespace:
    """Makes a machine with an address behind a node, as a bridge of virtual machines has it."""
    name = f"{node.namespace.name}-{MACHINE}"
    machine = netns.make_namespace(stack, name, commands.run)
    link = ("link", "add", "link", ACCESS, "name", MACHINE, "address", mac)
    commands.run(node.namespace.ip(*link, "type", "macvlan", "mode", "bridge"))
    commands.run(node.namespace.ip("link", "set", MACHINE, "netns", name))
    length = ACCESS_NET.prefixlen
    commands.run(machine.ip("address", "add", f"{address}/{length}", "dev", MACHINE))
    commands.run(machine.ip("link", "set", MACHINE, "up"))
    return machine


def complete(shown: dict[str, Any]) -> bool:
    """Whether a node knows all that a Nucleus does."""
    return any(nucleus["complete"] and nucleus["registered"] for nucleus in shown["nuclei"])


def received(shown: dict[str, Any], key: str) -> int:
    """Frames that came from the node with a key."""
    peers = (peer for peer in shown["peers"] if peer["public_key"] == key)
    return sum(int(peer["rx_frames"]) for peer in peers)


def wait(what: str, reached: Callable[[], bool]) -> None:
    """Waits for something that has to come."""
    deadline = time.monotonic() + KNOWN_SECONDS
    while not reached():
        if time.monotonic() > deadline:
            raise NodeError(f"not within {KNOWN_SECONDS:g} s: {what}")
        time.sleep(0.05)
