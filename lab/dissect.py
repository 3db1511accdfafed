#!/usr/bin/env python3
"""Captures a fabric of two engines that write key logs, for Wireshark and its dissector.

Needs root and the built programs. Works in network namespaces of its own and removes them again.
The keys of the two nodes are made for this and thrown away: what is written shows nothing else.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from omni_lab import netns, traffic
from omni_lab.commands import CommandError
from omni_lab.interrupt import Interrupted, undoing
from omni_lab.netns import Host, Namespace, Underlay
from omni_lab.node import PORT, Identity, Node, NodeError, Programs, render_config
from omni_lab.traffic import TrafficError

REPOSITORY = Path(__file__).resolve().parent.parent
FABRIC = "sample"
UNDERLAY = {"alpha": "192.0.2.1", "beta": "192.0.2.2"}
ACCESS = {"alpha": ("10.7.0.1/24", "fd00:7::1/64"), "beta": ("10.7.0.2/24", "fd00:7::2/64")}
PINGS = 3
# What is announced is said twice, and the way is probed within seconds.
SETTLE_SECONDS = 3.0
VARIABLE = "OMNI_KEYLOG"

ETH_P_ALL = 3
FRAME_MAX = 1 << 16
LOOK_SECONDS = 0.1
UDP_HEADERS = 42
# Of pcapng: section header, interface description and packet blocks, and the link type Ethernet.
SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
BYTE_ORDER, ETHERNET = 0x1A2B3C4D, 1
# A time stamp counts nanoseconds: option 9, one octet.
NANOSECONDS = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)


def block(kind: int, body: bytes) -> bytes:
    """A block of pcapng."""
    padded = body + bytes(-len(body) % 4)
    length = struct.pack("<I", len(padded) + 12)
    return struct.pack("<I", kind) + length + padded + length


def pcapng(frames: Sequence[tuple[int, bytes]], snap: int = FRAME_MAX) -> bytes:
    """A capture of Ethernet frames, each with its time in nanoseconds; of each the first `snap`
    octets.
    """
    blocks = [
        block(SECTION, struct.pack("<IHHq", BYTE_ORDER, 1, 0, -1)),
        block(INTERFACE, struct.pack("<HHI", ETHERNET, 0, 0) + NANOSECONDS),
    ]
    for at, frame in frames:
        kept = frame[:snap]
        header = struct.pack("<IIIII", 0, at >> 32, at & 0xFFFFFFFF, len(kept), len(frame))
        blocks.append(block(PACKET, header + kept))
    return b"".join(blocks)


def is_of_fabric(frame: bytes) -> bool:
    """Whether it is a UDP datagram of IPv4 to or from the fabric's port."""
    is_udp = frame[12:15] == b"\x08\x00\x45" and frame[23:24] == bytes([socket.IPPROTO_UDP])
    return is_udp and len(frame) >= UDP_HEADERS and PORT in struct.unpack("!HH", frame[34:38])


class Tap(threading.Thread):
    """Keeps the fabric's datagrams that pass an interface."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        super().__init__(daemon=True)
        self.frames: list[tuple[int, bytes]] = []
        self.ended = threading.Event()
        with netns.inside(namespace):
            self.socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)
            )
        self.socket.bind((interface, ETH_P_ALL))
        self.socket.settimeout(LOOK_SECONDS)

    def run(self) -> None:
        """Until `end`."""
        while not self.ended.is_set():
            try:
                frame = self.socket.recv(FRAME_MAX)
            except TimeoutError:
                continue
            if is_of_fabric(frame):
                self.frames.append((time.time_ns(), frame))
        self.socket.close()

    def end(self) -> None:
        """Stops, and closes the socket."""
        self.ended.set()
        self.join()


class LoggingNode(Node):
    """A node that writes a key log, if it has a file for it."""

    key_log: Path | None = None

    def command(self) -> list[str]:
        """The command that starts the engine."""
        engine = [str(self.programs.engine), "--config", str(self.config)]
        # The surroundings may ask for one as well.
        setting = f"{VARIABLE}={self.key_log or ''}"
        return self.namespace.inside("env", setting, *engine)


class World:
    """Two nodes on a wire that is captured."""

    def __init__(self, stack: ExitStack, prefix: str, programs: Programs) -> None:
        self.stack = stack
        hosts = [Host(name, f"{address}/29") for name, address in UNDERLAY.items()]
        self.underlay: Underlay = netns.build(stack, prefix, hosts)
        self.tap = Tap(self.underlay.wire, netns.port_of("alpha"))
        self.tap.start()
        stack.callback(self.tap.end)
        self.underlay.connect()
        self.nodes = {name: self.node(name, programs) for name in UNDERLAY}
        known = {
            name: Identity(name, UNDERLAY[name], ACCESS[name], node.make_keys())
            for name, node in self.nodes.items()
        }
        for name, node in self.nodes.items():
            peers = [peer for peer in known.values() if peer.name != name]
            node.config.write_text(render_config(FABRIC, known[name], peers, node.socket))

    def node(self, name: str, programs: Programs) -> LoggingNode:
        """A node with a folder of its own, killed at the end."""
        made = tempfile.TemporaryDirectory(prefix=f"omni-{name}-")
        folder = Path(self.stack.enter_context(made))
        node = LoggingNode(name, self.underlay.hosts[name], folder, programs)
        self.stack.callback(node.kill)
        return node

    def start(self) -> None:
        """Starts both, and waits until they have a session."""
        for node in self.nodes.values():
            node.start()
            node.wait_ready()
        for node in self.nodes.values():
            node.wait_established()

    def ping(self) -> None:
        """From one host to the other, inside of the fabric."""
        target = ACCESS["beta"][0].split("/")[0]
        if not traffic.ping(self.underlay.hosts["alpha"], target, PINGS).complete:
            raise TrafficError("the hosts do not reach each other by the fabric")


def record(world: World, capture: Path, key_log: Path) -> None:
    """Writes a capture and the key log of alpha, which opens both directions."""
    world.nodes["alpha"].key_log = key_log
    world.start()
    world.ping()
    time.sleep(SETTLE_SECONDS)
    for node in world.nodes.values():
        node.stop()
    world.tap.end()
    capture.write_bytes(pcapng(world.tap.frames))


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    description = (__doc__ or "").strip()
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("capture", type=Path, help="the capture to write, in pcapng")
    made.add_argument("key_log", type=Path, help="the key log to write; there must be none yet")
    made.add_argument(
        "--programs",
        type=Path,
        default=REPOSITORY / "target" / "release",
        help="folder of omni-engine and omni (default: target/release)",
    )
    return made


def main() -> int:
    """0 when both files are there."""
    arguments = parser().parse_args()
    if os.geteuid() != 0:
        print("This needs root: it makes network namespaces.", file=sys.stderr)
        return 1
    if arguments.key_log.exists():
        print(f"{arguments.key_log} is there already", file=sys.stderr)
        return 1
    programs = Programs(*(arguments.programs / name for name in ("omni-engine", "omni")))
    try:
        with undoing() as stack:
            world = World(stack, f"omni-dissect-{os.getpid()}", programs)
            record(world, arguments.capture, arguments.key_log.absolute())
    except (CommandError, NodeError, TrafficError) as error:
        print(error, file=sys.stderr)
        return 1
    except Interrupted:
        return 130
    print(f"{len(world.tap.frames)} messages in {arguments.capture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
