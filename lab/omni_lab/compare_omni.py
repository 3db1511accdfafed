"""Omni as a contestant: any driver of the access port with any of the underlay, and how its workers
wait.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from . import commands
from .compare_contestants import ContestError, Contestant, Kind, Link, first_line
from .compare_pair import Pair
from .node import Drivers, Identity, Node, NodeError, Programs, render_config

FABRIC = "comparison"
ACCESS_DRIVERS = ("tap", "xdp", "auto")
UNDERLAY_DRIVERS = ("udp", "afxdp", "auto")
POLLS = ("spin", "adaptive", "sleep")
PRIORITIES = ("normal", "realtime")


@dataclass(frozen=True)
class Setup:
    """What is written into fabric.yaml. What is not said is the engine's default."""

    drivers: Drivers
    poll: str | None = None
    priority: str | None = None

    @property
    def name(self) -> str:
        """As it is given on the command line."""
        more = "".join(f"/{word}" for word in (self.poll, self.priority) if word)
        send = f"-{self.drivers.send}" if self.drivers.send else ""
        return f"{self.drivers.access}+{self.drivers.underlay}{send}{more}"

    def lines(self) -> list[str]:
        """Lines of fabric.yaml beside the drivers."""
        said = {"poll": self.poll, "priority": self.priority}
        lines = [f"  {key}: {value}" for key, value in said.items() if value]
        return ["workers:", *lines] if lines else []


def parse_setup(text: str) -> Setup:
    """Reads `tap+udp`, `xdp+afxdp/spin`, `tap+afxdp/adaptive/realtime`, or `tap+afxdp-udp`, which
    receives by the one and sends by the other.

    Raises ValueError with what is wrong.
    """
    drivers, *words = text.strip().split("/")
    access, plus, both = drivers.partition("+")
    underlay, minus, send = both.partition("-")
    sides = (underlay, send) if minus else (underlay,)
    if not plus or access not in ACCESS_DRIVERS or any(s not in UNDERLAY_DRIVERS for s in sides):
        known = f"{'|'.join(ACCESS_DRIVERS)} + {'|'.join(UNDERLAY_DRIVERS)}"
        raise ValueError(f"{text!r}: drivers are {known}")
    poll = priority = None
    for word in words:
        if word in POLLS and poll is None:
            poll = word
        elif word in PRIORITIES and priority is None:
            priority = word
        else:
            raise ValueError(f"{text!r}: after a slash is one of {', '.join(POLLS + PRIORITIES)}")
    return Setup(Drivers(access, underlay, send or None), poll, priority)


class Omni(Contestant):
    """A fabric of two nodes."""

    kind = Kind.OMNI

    def __init__(self, setup: Setup, programs: Programs) -> None:
        self.setup, self.own_programs = setup, programs
        self.name = f"omni {setup.name}"
        self.about = "two nodes; what its name does not say is the engine's default"

    def version(self) -> str:
        return first_line([str(self.own_programs.engine), "--version"])

    def up(self, stack: ExitStack, pair: Pair) -> Link:
        nodes = [Node(end.name, end.namespace, end.folder, self.own_programs) for end in pair.ends]
        keys = {node.name: node.make_keys() for node in nodes}
        for node, end in zip(nodes, pair.ends):
            me, there = (
                Identity(each.name, each.underlay, (each.overlay_prefix,), keys[each.name])
                for each in (end, pair.other(end))
            )
            drivers, lines = self.setup.drivers, self.setup.lines()
            text = render_config(FABRIC, me, [there], node.socket, lines, drivers)
            node.config.write_text(text)
        try:
            for node in nodes:
                stack.callback(node.kill)
                node.start()
                # One after the other: the second sees on which core the first one works.
                node.wait_ready()
            # A session is made when there is something to send.
            ping = ("ping", "-n", "-c", "1", "-W", "5", pair.right.overlay)
            commands.run(pair.left.namespace.inside(*ping))
            for node in nodes:
                node.wait_established()
        except (NodeError, commands.CommandError) as error:
            words = " | ".join(line for node in nodes for line in node.log_tail()[-2:])
            raise ContestError(f"{error}: {words}") from error
        processes = [node.running() for node in nodes]
        return Link(pair.left.overlay, pair.right.overlay, processes, nodes)


def drops_of(shown: dict[str, Any]) -> dict[str, int]:
    """What a node says that it dropped, by reason."""
    return {str(reason): int(count) for reason, count in shown["drops"].items()}
