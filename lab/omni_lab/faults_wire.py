"""Someone on the way between two nodes: writes down what they send, and sends it again later.

Frames are taken where they enter the bridge, and put out by its other port, as if they came late.
"""

from __future__ import annotations

import random
import selectors
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from . import netns
from .attack_tap import message_of, session_of
from .capture import ETH_P_ALL, FRAME_MAX, PACKET_IGNORE_OUTGOING, SO_RCVBUFFORCE, SOL_PACKET
from .classify import ETHERNET_LEN, IPV4_LEN, UDP_LEN
from .netns import Namespace

RECEIVE_BUFFER_BYTES = 8 << 20
LOOK_SECONDS = 0.1
# Frames of a direction that are kept of each life of a node: its first, with the handshakes, and
# its last.
FIRST, LAST = 64, 64
ENGINE_FRAME_MAX = 1514
UDP_CHECKSUM = ETHERNET_LEN + IPV4_LEN + 6


def without_checksum(frame: bytes) -> bytes:
    """The same message without a UDP checksum (RFC 768), which is not complete on a veth pair. A
    receiver would refuse the message for that, and not as it was there before.
    """
    return frame[:UDP_CHECKSUM] + b"\0\0" + frame[UDP_CHECKSUM + 2 :]


def is_message(frame: bytes, port: int) -> bool:
    """Whether it is a whole UDP datagram over IPv4 to a port."""
    headers = ETHERNET_LEN + IPV4_LEN + UDP_LEN
    return (
        headers < len(frame) <= ENGINE_FRAME_MAX
        and frame[12:15] == b"\x08\x00\x45"
        and frame[23] == socket.IPPROTO_UDP
        and int.from_bytes(frame[36:38], "big") == port
    )


class Lives:
    """What was kept of one direction, by lives of the node that is killed."""

    def __init__(self) -> None:
        self.first: list[bytes] = []
        self.last: list[bytes] = []
        self.past: list[list[bytes]] = []

    def add(self, frame: bytes) -> None:
        """Keeps a frame of this life, if it is among the first or, so far, the last."""
        if len(self.first) < FIRST:
            self.first.append(frame)
        else:
            self.last.append(frame)
            del self.last[:-LAST]

    def end(self) -> None:
        """Here a life ends."""
        self.past.append(self.first + self.last)
        self.first, self.last = [], []

    def choose(self, count: int, chance: random.Random) -> list[bytes]:
        """All of the last life that is over, in its order, and as many as `count` of earlier ones
        in any.
        """
        if not self.past:
            return []
        earlier = [chance.choice(life) for life in chance.choices(self.past, k=count) if life]
        return self.past[-1] + earlier


class Sessions:
    """The sessions that one direction's data messages name, each a receiver's index."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: set[int] = set()

    def add(self, frame: bytes) -> None:
        """Notes the session of a data message."""
        message = message_of(frame, self.port)
        if message is not None:
            self.seen.add(session_of(message)[0])


class Keeper(Protocol):
    """What is done with a frame of one direction."""

    def add(self, frame: bytes) -> None: ...


class Tap:
    """The thread, and its sockets in the wire's namespace. `close` ends it."""

    def __init__(self, wire: Namespace, kept: Mapping[str, Keeper], port: int) -> None:
        """`kept` has a keeper for each of the bridge's ports, `port` is the fabric's of UDP."""
        self.port, self.keepers = port, kept
        self.selector = selectors.DefaultSelector()
        self.sockets: dict[str, socket.socket] = {}
        self.lock = threading.Lock()
        for name in kept:
            with netns.inside(wire):
                opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
                opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
                opened.bind((name, ETH_P_ALL))
            opened.setblocking(False)
            self.sockets[name] = opened
            self.selector.register(opened, selectors.EVENT_READ, name)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, name="wire", daemon=True)
        self.thread.start()

    def run(self) -> None:
        """The thread."""
        while not self.stop.is_set():
            for key, _ in self.selector.select(LOOK_SECONDS):
                self.take(key.data)

    def take(self, name: str) -> None:
        """Takes all that entered by a port."""
        while True:
            try:
                frame = self.sockets[name].recv(FRAME_MAX)
            except BlockingIOError:
                return
            if is_message(frame, self.port):
                with self.lock:
                    self.keepers[name].add(without_checksum(frame))

    def close(self) -> None:
        """Ends the thread and closes the sockets, also when that was done before."""
        self.stop.set()
        self.thread.join()
        self.selector.close()
        for opened in self.sockets.values():
            opened.close()


class Wire(Tap):
    """One that keeps what it sees, and sends it again."""

    def __init__(self, wire: Namespace, ports: Sequence[str], port: int, seed: int) -> None:
        """`ports` are the two of the bridge, `port` is the fabric's of UDP."""
        self.chance = random.Random(seed)
        self.kept = {name: Lives() for name in ports}
        self.senders: dict[str, socket.socket] = {}
        for name in ports:
            with netns.inside(wire):
                # It waits where a queue is full, and is given nothing to read.
                self.senders[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                self.senders[name].bind((name, 0))
        super().__init__(wire, self.kept, port)

    def end_life(self) -> None:
        """A node was killed."""
        with self.lock:
            for lives in self.kept.values():
                lives.end()

    def replay(self, count: int) -> int:
        """Sends again, both ways, what earlier lives said. Returns how many frames that was."""
        first, second = self.sockets
        sent = 0
        for entered, leaves in ((first, second), (second, first)):
            with self.lock:
                frames = self.kept[entered].choose(count, self.chance)
            for frame in frames:
                self.senders[leaves].send(frame)
            sent += len(frames)
        return sent

    def close(self) -> None:
        """Ends the thread and closes the sockets, also when that was done before."""
        super().close()
        for opened in self.senders.values():
            opened.close()
