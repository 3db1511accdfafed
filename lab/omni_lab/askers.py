"""Hosts on a bridge behind a node's access port, whose kernels answer, and sockets in them that
ask."""

from __future__ import annotations

import ipaddress
import selectors
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from . import commands, netns, resolution
from .capture import (
    JEQ,
    LD_H,
    PACKET_IGNORE_OUTGOING,
    RET,
    SO_RCVBUFFORCE,
    SOL_PACKET,
    Instruction,
    attach,
)
from .commands import CommandError
from .netns import Namespace
from .resolution import Round

BRIDGE = "hosts"
ETH = "eth0"
# Of <asm/socket.h>; Python has no name for it.
SO_TIMESTAMPNS = 35
RECEIVE_BUFFER_BYTES = 4 << 20
FRAME_MAX = 256
# No answer comes for this long: all are here.
QUIET_SECONDS = 1.0
WITHOUT_IPV6 = "for s in all default; do echo 1 >/proc/sys/net/ipv6/conf/$s/disable_ipv6; done"
# Passes ARP replies: the operation is behind 14 octets of Ethernet and 6 of ARP.
REPLIES = [
    Instruction(LD_H, 0, 0, 20),
    Instruction(JEQ, 0, 1, resolution.REPLY),
    Instruction(RET, 0, 0, FRAME_MAX),
    Instruction(RET, 0, 0, 0),
]


@dataclass(frozen=True)
class Asker:
    """A host and the socket that asks for it."""

    node: str
    namespace: Namespace
    address: bytes
    mac: bytes
    socket: socket.socket


def silence_ipv6(namespace: Namespace) -> None:
    """Leaves ARP as all that a namespace says by itself."""
    commands.run(namespace.inside("sh", "-c", WITHOUT_IPV6))


def settle_hosts(
    stack: ExitStack, prefix: str, node: str, node_namespace: Namespace, addresses: Sequence[str]
) -> list[Asker]:
    """Makes a bridge in the node's namespace, with a host for each address on it."""
    run, ip = commands.run, node_namespace.ip
    run(ip("link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0"))
    run(ip("link", "set", BRIDGE, "up"))
    askers = []
    for number, address in enumerate(addresses):
        host = netns.make_namespace(stack, f"{prefix}-{node}{number}", run)
        silence_ipv6(host)
        port = f"h{number}"
        pair = ("link", "add", port, "type", "veth", "peer", "name", ETH)
        run(ip(*pair, "netns", host.name))
        run(ip("link", "set", port, "master", BRIDGE, "up"))
        run(host.ip("address", "add", f"{address}/24", "dev", ETH))
        run(host.ip("link", "set", ETH, "up"))
        # With it a veth has a queue of its own, and not a part of the one that all share: a
        # broadcast to all hosts at once is more than that takes.
        for side, interface in ((node_namespace, port), (host, ETH)):
            run(side.inside("ethtool", "-K", interface, "gro", "on"))
        link = netns.link(host, ETH)
        if link is None:
            raise CommandError(f"{host.name}: there is no {ETH}")
        mac = bytes.fromhex(link["address"].replace(":", ""))
        with netns.inside(host):
            opened = open_socket()
        stack.callback(opened.close)
        packed = ipaddress.ip_address(address).packed
        askers.append(Asker(node, host, packed, mac, opened))
    return askers


def acquaint(askers: Sequence[Asker]) -> None:
    """Lets every host's kernel know all others for good. Linux answers nobody whom it cannot note,
    and notes about a thousand neighbours in all namespaces together, beside those.
    """
    lines = [
        f"neighbour add {ipaddress.ip_address(asker.address)} lladdr {asker.mac.hex(':')} "
        f"dev {ETH} nud permanent\n"
        for asker in askers
    ]
    for asker, own in zip(askers, lines):
        others = "".join(line for line in lines if line is not own)
        commands.run(asker.namespace.ip("-batch", "-"), stdin=others)


def open_socket(interface: str = ETH) -> socket.socket:
    """A socket that sends frames, receives ARP replies, and knows when they came."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0))
    attach(opened, REPLIES)
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    opened.bind((interface, resolution.ETHERTYPE_ARP))
    opened.setblocking(False)
    return opened


def announce(askers: Sequence[Asker]) -> None:
    """Every host tells its address."""
    for asker in askers:
        asker.socket.send(resolution.request(asker.mac, asker.address, asker.address))


def ask_all(pairs: Sequence[tuple[Asker, Asker]]) -> Round:
    """Every first of a pair asks for the second, all of them without a pause. How many frames that
    was on the fabric, the caller knows.
    """
    frames = [
        (asker.socket, resolution.request(asker.mac, asker.address, target.address))
        for asker, target in pairs
    ]
    sent_ns = []
    for opened, frame in frames:
        sent_ns.append(time.clock_gettime_ns(time.CLOCK_REALTIME))
        opened.send(frame)
    sent = {
        (asker.address, target.address): (at, target.mac)
        for (asker, target), at in zip(pairs, sent_ns)
    }
    askers = {asker.address: asker for asker, _ in pairs}
    latencies: dict[tuple[bytes, bytes], float] = {}
    wrong = 0
    for asker, (frame, received_ns) in answers(askers):
        answer = resolution.parse_answer(frame)
        if answer is None or answer.asker != askers[asker].mac:
            continue
        question = sent.get((asker, answer.address))
        if question is None:
            continue
        wrong += answer.mac != question[1]
        latencies.setdefault((asker, answer.address), (received_ns - question[0]) / 1000)
    return Round(len(pairs), tuple(latencies.values()), wrong, 0)


def answers(askers: dict[bytes, Asker]) -> Iterator[tuple[bytes, tuple[bytes, int]]]:
    """What comes in until nothing does: who asked, the frame, and when it came."""
    with selectors.DefaultSelector() as selector:
        for address, asker in askers.items():
            selector.register(asker.socket, selectors.EVENT_READ, address)
        while ready := selector.select(QUIET_SECONDS):
            for key, _ in ready:
                opened = askers[key.data].socket
                while (received := receive(opened)) is not None:
                    yield key.data, received


def receive(opened: socket.socket) -> tuple[bytes, int] | None:
    """A frame and the kernel's time of its arrival, None when none is there."""
    try:
        frame, control, _, _ = opened.recvmsg(FRAME_MAX, 64)
    except BlockingIOError:
        return None
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("@qq", data[:16])
            return frame, seconds * 1_000_000_000 + nanoseconds
    raise CommandError("the kernel stamps no frames")
