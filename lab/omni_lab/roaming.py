"""Addresses that hosts get and give away while the fabric runs, and announce as hosts do."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import ExitStack

from . import commands, netns, resolution
from .fabric import ACCESS_NET, Fabric
from .node import ACCESS


class Roaming:
    """All hosts' access interfaces; nodes have to run. The stack closes what is opened."""

    def __init__(self, stack: ExitStack, fabric: Fabric) -> None:
        self.fabric = fabric
        self.macs: dict[str, bytes] = {}
        self.sockets: dict[str, socket.socket] = {}
        for name, node in fabric.nodes.items():
            self.macs[name] = node.access_mac()
            with netns.inside(node.namespace):
                opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            stack.callback(opened.close)
            opened.bind((ACCESS, 0))
            self.sockets[name] = opened

    def settle(self, name: str, address: str) -> None:
        """Gives a host an address, which it announces."""
        self.change(name, "add", address)
        self.announce(name, address)

    def leave(self, name: str, address: str) -> None:
        """Takes an address from a host, of which it says nothing."""
        self.change(name, "del", address)

    def change(self, name: str, what: str, address: str) -> None:
        """`add` or `del`."""
        length = ACCESS_NET.prefixlen
        ip = self.fabric.nodes[name].namespace.ip
        commands.run(ip("address", what, f"{address}/{length}", "dev", ACCESS))

    def announce(self, name: str, address: str) -> None:
        """An ARP announcement (RFC 5227)."""
        packed = ipaddress.ip_address(address).packed
        self.sockets[name].send(resolution.request(self.macs[name], packed, packed))
