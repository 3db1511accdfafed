"""Network namespaces and the wire between them.

    alpha                 wire                  beta
    eth0 ------- to-alpha [ br0 ] to-beta ------ eth0

The nodes do not share one veth pair, for two reasons. A bridge is what lies between hosts in
earnest; and a frame that XDP takes off an interface, or that AF_XDP sends by it, passes by every
capture on that interface. On the bridge's ports all is seen.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import commands
from .commands import CommandError, Runner

UNDERLAY = "eth0"
BRIDGE = "br0"
# Where `ip netns` keeps them.
NAMESPACES = "/run/netns"
BATCH_SECONDS = 120.0
# Of <sched.h>; Python 3.11 has no name for it.
CLONE_NEWNET = 0x40000000
# The bridge is a wire, not a host: without IPv6 it says nothing of its own.
WITHOUT_IPV6 = (
    "for s in all default; do f=/proc/sys/net/ipv6/conf/$s/disable_ipv6; "
    "[ ! -e $f ] || echo 1 >$f; done"
)


@dataclass(frozen=True)
class Namespace:
    """A network namespace by its name."""

    name: str

    def inside(self, *command: str) -> list[str]:
        """The command that runs `command` in the namespace."""
        return ["ip", "netns", "exec", self.name, *command]

    def ip(self, *arguments: str) -> list[str]:
        """The command that runs `ip` on the namespace."""
        return ["ip", "-n", self.name, *arguments]


@dataclass(frozen=True)
class Host:
    """A host to be: its name, and its underlay address with prefix length."""

    name: str
    address: str


@dataclass(frozen=True)
class Underlay:
    """Hosts on one wire. Their interfaces are down until `connect`."""

    wire: Namespace
    hosts: dict[str, Namespace]

    def ports(self) -> list[str]:
        """The bridge's ports, in the order of the hosts."""
        return [port_of(name) for name in self.hosts]

    def connect(self, run: Runner = commands.run) -> None:
        """Sets the hosts' interfaces up; from here on there is traffic on the wire."""
        for namespace in self.hosts.values():
            run(namespace.ip("link", "set", UNDERLAY, "up"))


def port_of(host: str) -> str:
    """The bridge's port towards a host."""
    return f"to-{host}"


def build(
    stack: ExitStack, prefix: str, hosts: Sequence[Host], run: Runner = commands.run
) -> Underlay:
    """Makes a namespace for each host and one for the wire; `stack` deletes them all again.

    Each veth pair has one queue, so that a node has one worker.
    """
    wire = make_namespace(stack, f"{prefix}-wire", run)
    run(wire.inside("sh", "-c", WITHOUT_IPV6))
    try:
        run(wire.ip("link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0"))
    except CommandError as error:
        reason = f"the lab needs bridges in the kernel (module bridge): {error}"
        raise CommandError(reason) from error
    run(wire.ip("link", "set", BRIDGE, "up"))
    made = {}
    for host in hosts:
        made[host.name] = make_namespace(stack, f"{prefix}-{host.name}", run)
        plug_in(wire, made[host.name], host, run)
    return Underlay(wire, made)


def build_many(stack: ExitStack, prefix: str, hosts: Sequence[Host]) -> Underlay:
    """The same wire for many hosts: few commands, and no part of the kernel that all share.

    Else what arrives at a veth of the bridge waits in its core's queue, which is one for all hosts
    and which they fill together, as hosts with network cards of their own cannot. With GRO a veth
    has a queue of its own. The hosts' interfaces are up at the end.
    """
    wire = Namespace(f"{prefix}-wire")
    made = {host.name: Namespace(f"{prefix}-{host.name}") for host in hosts}
    namespaces = [wire, *made.values()]
    there = [each.name for each in namespaces if Path(NAMESPACES, each.name).exists()]
    if there:
        raise CommandError(f"{there[0]} is there already: another lab's, or one's that was killed")
    stack.callback(delete_many, namespaces)
    batch([f"netns add {each.name}" for each in namespaces], ["ip"])
    batch(wire_lines(made), ["ip", "-n", wire.name])
    commands.run(wire.inside("sh", "-c", WITHOUT_IPV6))
    for host in hosts:
        lines = [
            "link set lo up",
            f"address add {host.address} dev {UNDERLAY}",
            f"link set {UNDERLAY} up",
        ]
        batch(lines, ["ip", "-n", made[host.name].name])
        commands.run(wire.inside("ethtool", "-K", port_of(host.name), "gro", "on"))
    return Underlay(wire, made)


def wire_lines(hosts: Mapping[str, Namespace]) -> list[str]:
    """What `ip -batch` is told to make in the wire's namespace: a bridge, and a port to each."""
    queues = "numrxqueues 1 numtxqueues 1"
    lines = [f"link add {BRIDGE} type bridge mcast_snooping 0", f"link set {BRIDGE} up"]
    for name, namespace in hosts.items():
        port = port_of(name)
        peer = f"peer name {UNDERLAY} netns {namespace.name} {queues}"
        lines += [
            f"link add {port} {queues} type veth {peer}",
            f"link set {port} master {BRIDGE} up",
        ]
    return lines


def batch(lines: Sequence[str], command: Sequence[str]) -> None:
    """Has one process of `ip` carry out many lines."""
    text = "".join(f"{line}\n" for line in lines)
    commands.run([*command, "-batch", "-"], stdin=text, timeout=BATCH_SECONDS)


def delete_many(namespaces: Sequence[Namespace]) -> None:
    """Deletes those that are there. Says so when it cannot, and lets a clean-up go on."""
    there = [each.name for each in namespaces if Path(NAMESPACES, each.name).exists()]
    try:
        batch([f"netns delete {name}" for name in there], ["ip", "-force"])
    except CommandError as error:
        print(f"left behind: {error}", flush=True)


def make_namespace(stack: ExitStack, name: str, run: Runner) -> Namespace:
    """Makes a namespace with its loopback up; `stack` deletes it, and all interfaces in it."""
    try:
        run(["ip", "netns", "add", name])
    except CommandError as error:
        reason = f"cannot make a network namespace (a container must be privileged): {error}"
        raise CommandError(reason) from error
    stack.callback(delete_namespace, name, run)
    namespace = Namespace(name)
    run(namespace.ip("link", "set", "lo", "up"))
    return namespace


def delete_namespace(name: str, run: Runner) -> None:
    """Deletes a namespace. Says so when it cannot, and lets the rest of a clean-up go on."""
    try:
        run(["ip", "netns", "delete", name])
    except CommandError as error:
        print(f"left behind: {error}", flush=True)


def plug_in(wire: Namespace, namespace: Namespace, host: Host, run: Runner) -> None:
    """Joins a host to the bridge by a veth pair of one queue."""
    port = port_of(host.name)
    queues = ("numrxqueues", "1", "numtxqueues", "1")
    pair = ("link", "add", port, *queues, "type", "veth")
    run(wire.ip(*pair, "peer", "name", UNDERLAY, "netns", namespace.name, *queues))
    run(wire.ip("link", "set", port, "master", BRIDGE, "up"))
    run(namespace.ip("address", "add", host.address, "dev", UNDERLAY))


def link(namespace: Namespace, interface: str) -> dict[str, Any] | None:
    """What `ip` says of an interface, None when there is no such."""
    text = commands.run(["ip", "-n", namespace.name, "-j", "link", "show"])
    links: list[dict[str, Any]] = json.loads(text or "[]")
    return next((link for link in links if link.get("ifname") == interface), None)


def has_xdp(namespace: Namespace, interface: str) -> bool:
    """Whether an XDP program is attached to an interface."""
    found = link(namespace, interface)
    return found is not None and bool(found.get("xdp"))


def has_ipv6(namespace: Namespace) -> bool:
    """Whether the namespace has IPv6 at all."""
    shown = commands.run(namespace.ip("-6", "-o", "address", "show", "dev", "lo"))
    return "::1" in shown


@contextlib.contextmanager
def inside(namespace: Namespace) -> Iterator[None]:
    """Sockets that are opened meanwhile are the namespace's."""
    with open("/proc/thread-self/ns/net") as own, open(f"{NAMESPACES}/{namespace.name}") as other:
        enter(other.fileno())
        try:
            yield
        finally:
            enter(own.fileno())


def enter(descriptor: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, CLONE_NEWNET):
        error = ctypes.get_errno()
        raise CommandError(f"setns: {os.strerror(error)}")
