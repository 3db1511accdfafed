"""Two hosts and the wire between them, for whatever is compared.

    left                            right
    eth0 ---------- veth ---------- eth0

No bridge lies between: it would cost every contestant the same, and so make them alike. Each turn
has namespaces of its own, so that nobody inherits what the one before left behind.
"""

from __future__ import annotations

import enum
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import commands, netns
from .netns import UNDERLAY, Namespace

MTU = 1500
UNDERLAY_ADDRESSES = ("192.0.2.1", "192.0.2.2")
OVERLAY_ADDRESSES = ("10.7.0.1", "10.7.0.2")
PREFIX_BITS = 24
NAMES = ("left", "right")
# What lets a veth pass more than one packet at once. `gso` off makes the kernel cut super-frames
# before they reach the interface, whatever its other features say.
OFFLOADS = ("tso", "gso", "gro", "tx-udp-segmentation")


class Wire(enum.Enum):
    """What the wire does with more than one packet at once."""

    # It passes super-frames whole, as no network does: hosts on one machine have this.
    WHOLE = "whole"
    # Every packet crosses by itself.
    CUT = "cut"
    # As that, and the receiver joins them again: nearest to a network card.
    CUT_GRO = "cutgro"

    @property
    def is_cut(self) -> bool:
        """Whether every packet crosses by itself."""
        return self is not Wire.WHOLE


@dataclass(frozen=True)
class End:
    """One of the two hosts, with a folder of its own for what is written there."""

    name: str
    namespace: Namespace
    underlay: str
    overlay: str
    folder: Path

    @property
    def overlay_prefix(self) -> str:
        """The overlay address with its prefix length."""
        return f"{self.overlay}/{PREFIX_BITS}"


@dataclass(frozen=True)
class Pair:
    """Both hosts. Traffic goes from left to right, where nothing else is said."""

    left: End
    right: End
    wire: Wire

    @property
    def ends(self) -> tuple[End, End]:
        """Both."""
        return (self.left, self.right)

    def other(self, end: End) -> End:
        """The one at the other side."""
        return self.right if end is self.left else self.left


def build(stack: ExitStack, wire: Wire) -> Pair:
    """Makes both hosts, joined and reachable; `stack` removes them again."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omni-fabric-")))
    ends = []
    for name, underlay, overlay in zip(NAMES, UNDERLAY_ADDRESSES, OVERLAY_ADDRESSES):
        made = netns.make_namespace(stack, f"omni-fabric-{os.getpid()}-{name}", commands.run)
        # Without IPv6 nobody says anything unasked.
        commands.run(made.inside("sh", "-c", netns.WITHOUT_IPV6))
        own = folder / name
        own.mkdir(mode=0o700)
        ends.append(End(name, made, underlay, overlay, own))
    left, right = ends
    queues = ("numrxqueues", "1", "numtxqueues", "1")
    veth = ("link", "add", UNDERLAY, "mtu", str(MTU), *queues, "type", "veth")
    peer = ("peer", "name", UNDERLAY, "mtu", str(MTU), "netns", right.namespace.name, *queues)
    commands.run(left.namespace.ip(*veth, *peer))
    for end in ends:
        address = f"{end.underlay}/{PREFIX_BITS}"
        commands.run(end.namespace.ip("address", "add", address, "dev", UNDERLAY))
        set_offloads(end.namespace, UNDERLAY, wire)
        commands.run(end.namespace.ip("link", "set", UNDERLAY, "up"))
    pair = Pair(left, right, wire)
    for end in pair.ends:
        # Some programs end when there is no way to the world, whether they need it or not.
        way = ("route", "add", "default", "via", pair.other(end).underlay)
        commands.run(end.namespace.ip(*way))
    return pair


def set_offloads(namespace: Namespace, interface: str, wire: Wire) -> None:
    """Makes an interface pass what the wire passes."""
    command = offload_command(interface, wire)
    if command:
        commands.run(namespace.inside(*command))


def offload_command(interface: str, wire: Wire) -> list[str]:
    """The command that does it, none where all stays as it is."""
    if not wire.is_cut:
        return []
    settings = {name: "off" for name in OFFLOADS}
    if wire is Wire.CUT_GRO:
        settings["gro"] = "on"
    words = [word for setting in settings.items() for word in setting]
    return ["ethtool", "-K", interface, *words]
