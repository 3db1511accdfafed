"""A machine with an address of its own that goes from node to node, as virtual machines do."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import random
import socket

from ... import commands, netns, resolution
from ...commands import CommandError
from ...node import ACCESS
from .. import plan as plans
from ..state import Space, State

ROLE = "machine"
INTERFACE = "machine0"
# Several, as one that moves five times in 180 s is taken for two with one address.
NAMES = tuple(f"{ROLE}{number}" for number in range(1, 5))
# Locally administered (IEEE 802).
MAC_PREFIX = b"\x02om"
# Addresses are from the end of the fabric's network, where no nodes are.
ADDRESSES = 4096


def make_all(lab: State) -> list[Machine]:
    """All machines of a run. Their addresses are new with each run: what the fabric remembers of
    the one before is no move of theirs.
    """
    last = random.SystemRandom().sample(range(2, ADDRESSES), len(NAMES))
    return [Machine(lab, name, str(plans.OVERLAY_NET[-at])) for name, at in zip(NAMES, last)]


class Machine:
    """A machine, behind the access port of one node at a time."""

    def __init__(self, lab: State, name: str, address: str) -> None:
        self.lab, self.name, self.address = lab, name, address
        self.mac = MAC_PREFIX + os.urandom(3)
        self.space = Space(name, ROLE, f"omni-{lab.name}-{name}", str(lab.folder / name))
        self.space.overlay = address
        self.home = ""

    def make(self) -> None:
        """Makes its namespace, which `lab down` removes too. One that a run left behind goes."""
        if any(each.name == self.name for each in self.lab.spaces):
            self.remove()
        self.lab.spaces.append(self.space)
        self.lab.save()
        netns.batch([f"netns add {self.space.namespace}"], ["ip"])
        netns.batch(["link set lo up"], ["ip", "-n", self.space.namespace])

    def remove(self) -> None:
        """Removes all of it."""
        with contextlib.suppress(CommandError):
            commands.run(["ip", "netns", "delete", self.space.namespace])
        self.lab.spaces = [each for each in self.lab.spaces if each.name != self.name]
        self.lab.save()

    def move(self, home: str) -> None:
        """Goes to another node, and says so as hosts do. Where that node has no access port now, it
        comes up with it.
        """
        self.home = home
        self.unplug()
        self.plug_in()

    def unplug(self) -> None:
        """Takes it off the port that it is on, if any."""
        with contextlib.suppress(CommandError):
            commands.run(self.space.netns().ip("link", "delete", INTERFACE))

    def plug_in(self) -> None:
        """Puts it on the port of its home, if there is one, and announces its address."""
        namespace = self.lab.space(self.home).netns()
        if not has_interface(namespace, ACCESS):
            return
        mine = self.space.namespace
        try:
            line = (
                f"link add link {ACCESS} name {INTERFACE} netns {mine} address {self.mac.hex(':')}"
            )
            netns.batch([f"{line} type macvlan mode bridge"], ["ip", "-n", namespace.name])
            address = f"{self.address}/{plans.OVERLAY_NET.prefixlen}"
            lines = [f"address add {address} dev {INTERFACE}", f"link set {INTERFACE} up"]
            netns.batch(lines, ["ip", "-n", mine])
            self.announce()
        except (CommandError, OSError):
            # The engine ends just now: it comes up with the next one.
            self.unplug()

    def announce(self) -> None:
        """An ARP announcement (RFC 5227)."""
        packed = ipaddress.ip_address(self.address).packed
        with netns.inside(self.space.netns()):
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with opened:
            opened.bind((INTERFACE, 0))
            opened.send(resolution.request(self.mac, packed, packed))

    def tend(self) -> None:
        """Plugs it in again where an engine made its access port anew."""
        if self.home and not has_interface(self.space.netns(), INTERFACE):
            self.plug_in()


def has_interface(namespace: netns.Namespace, interface: str) -> bool:
    """Whether there is an interface: seen without a process, as it is looked for often."""
    with netns.inside(namespace):
        try:
            socket.if_nametoindex(interface)
        except OSError:
            return False
    return True
