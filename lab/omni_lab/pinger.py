"""Pings from many hosts by one thread, each counted: a socket of its own in every namespace.

`ping` would be a process for each pair of hosts, and a hundred hosts on a few cores would be
measured waiting for those. Times include this thread's own waiting for a core.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import random
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from . import netns
from .netns import Namespace

ECHO_REPLY, ECHO_REQUEST = 0, 8
HEADER = struct.Struct(">BBHHH")
# Of <linux/icmp.h>: a bit for each type of message that the socket is not to be given.
ICMP_FILTER = 1
ALL_BUT_REPLIES = struct.pack("=I", 0xFFFFFFFF & ~(1 << ECHO_REPLY))
SOL_RAW = 255
PAYLOAD = bytes(48)
RECEIVE_BUFFER_BYTES = 1 << 20
PACKET_MAX = 2048
# A ping without an answer for so long is lost.
PATIENCE_SECONDS = 2.0
# The thread looks after new streams, and for its end, this often.
LOOK_SECONDS = 0.02
# Pings that are sent before it is looked for answers again.
BURST = 32
# The host has no such network yet, knows nobody there, or has no room: nothing was sent.
NOT_SENT = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.ENODEV,
    errno.ENOBUFS,
    errno.EAGAIN,
    errno.EINVAL,
}


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071), of an even number of octets."""
    total: int = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(identifier: int, sequence: int) -> bytes:
    """An ICMP echo request (RFC 792)."""
    bare = HEADER.pack(ECHO_REQUEST, 0, 0, identifier, sequence) + PAYLOAD
    head = HEADER.pack(ECHO_REQUEST, 0, checksum(bare), identifier, sequence)
    return head + PAYLOAD


def parse_reply(packet: bytes) -> tuple[int, int] | None:
    """Identifier and sequence of an echo reply with its IPv4 header, None for all else."""
    length = (packet[0] & 0x0F) * 4 if packet else 0
    if length < 20 or len(packet) < length + HEADER.size:
        return None
    kind, code, _, identifier, sequence = HEADER.unpack_from(packet, length)
    return (identifier, sequence) if (kind, code) == (ECHO_REPLY, 0) else None


@dataclass
class Stream:
    """Pings from one host to one address, at a steady pace. Times are of the monotonic clock."""

    source: str
    address: str
    interval: float
    # Ends with the first answer.
    once: bool = False
    sent: int = 0
    lost: int = 0
    # When what was lost was sent.
    lost_at: list[float] = field(default_factory=list)
    answered: int = 0
    first_answer: float | None = None
    slowest_seconds: float = 0.0
    waiting: dict[int, float] = field(default_factory=dict)
    # When each answered ping was sent and how long it took, for who makes a list here and empties
    # it now and then.
    answers: list[tuple[float, float]] | None = None

    def send(self, now: float) -> int:
        """Counts a ping. Returns its sequence number."""
        self.give_up(now)
        sequence = self.sent & 0xFFFF
        self.sent += 1
        self.waiting[sequence] = now
        return sequence

    def receive(self, sequence: int, now: float) -> bool:
        """Counts an answer. False when it is none, or comes too late or twice."""
        at = self.waiting.get(sequence)
        if at is None or now - at > PATIENCE_SECONDS:
            return False
        del self.waiting[sequence]
        self.answered += 1
        if self.answers is not None:
            self.answers.append((at, now - at))
        self.slowest_seconds = max(self.slowest_seconds, now - at)
        if self.first_answer is None:
            self.first_answer = now
        return True

    def give_up(self, now: float) -> None:
        """Counts as lost what is without an answer for too long."""
        late = [key for key, at in self.waiting.items() if now - at > PATIENCE_SECONDS]
        for key in late:
            self.lost += 1
            self.lost_at.append(self.waiting.pop(key))

    @property
    def done(self) -> bool:
        """Whether it needs no more pings."""
        return self.once and self.first_answer is not None


class Pinger:
    """The thread, and its sockets. `close` ends it."""

    def __init__(self, hosts: dict[str, Namespace], seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.sockets: dict[str, socket.socket] = {}
        self.streams: list[Stream] = []
        self.due: list[tuple[float, int]] = []
        # Streams are added by one thread and served by another.
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self.run, name="pinger", daemon=True)
        for name, namespace in hosts.items():
            self.sockets[name] = opened = open_socket(namespace)
            self.selector.register(opened, selectors.EVENT_READ, opened)
        self.thread.start()

    def add(self, pairs: Sequence[tuple[str, str]], interval: float, once: bool) -> list[Stream]:
        """Begins to ping from hosts to addresses, each at a moment of its own."""
        added = [Stream(source, address, interval, once) for source, address in pairs]
        with self.lock:
            now, number = time.monotonic(), itertools.count(len(self.streams))
            self.streams += added
            for each in added:
                first = now + self.random.random() * each.interval
                heapq.heappush(self.due, (first, next(number)))
        return added

    def wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Waits until something is so, at most for so long. Returns whether it is."""
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline and self.thread.is_alive():
            time.sleep(LOOK_SECONDS)
        self.raise_failure()
        return done()

    def finish(self) -> None:
        """Sends no more, and waits for the last answers."""
        with self.lock:
            self.due.clear()
        time.sleep(PATIENCE_SECONDS + LOOK_SECONDS)
        self.close()
        self.raise_failure()
        for stream in self.streams:
            stream.give_up(time.monotonic())

    def close(self) -> None:
        """Ends the thread and closes the sockets, also when that was done before."""
        self.stop.set()
        self.thread.join()
        self.selector.close()
        for opened in self.sockets.values():
            opened.close()

    def raise_failure(self) -> None:
        """What ended the thread is the caller's to know."""
        if self.failure is not None:
            raise self.failure

    def run(self) -> None:
        """The thread."""
        try:
            while not self.stop.is_set():
                with self.lock:
                    pause = self.send_due()
                for key, _ in self.selector.select(pause):
                    self.take_answers(key.data)
        except OSError as error:
            self.failure = error

    def send_due(self) -> float:
        """Sends some of what is due. Returns for how long nothing is, in seconds."""
        now = time.monotonic()
        for _ in range(BURST):
            if not self.due or self.due[0][0] > now:
                break
            at, number = heapq.heappop(self.due)
            stream = self.streams[number]
            if stream.done:
                continue
            packet = echo_request(number & 0xFFFF, stream.send(now))
            try:
                self.sockets[stream.source].sendto(packet, (stream.address, 0))
            except OSError as error:
                # It is lost then, as no answer comes.
                if error.errno not in NOT_SENT:
                    raise
            # A thread that was late does not make up for it by a burst.
            following = at + stream.interval
            if following <= now:
                following = now + stream.interval
            heapq.heappush(self.due, (following, number))
        wait = self.due[0][0] - now if self.due else LOOK_SECONDS
        return min(max(wait, 0.0), LOOK_SECONDS)

    def take_answers(self, opened: socket.socket) -> None:
        """Takes all that arrived at a socket."""
        while True:
            try:
                packet = opened.recv(PACKET_MAX)
            except BlockingIOError:
                return
            reply = parse_reply(packet)
            if reply is None or reply[0] >= len(self.streams):
                continue
            self.streams[reply[0]].receive(reply[1], time.monotonic())


def open_socket(namespace: Namespace) -> socket.socket:
    """A socket in a namespace that receives echo replies and nothing else."""
    with netns.inside(namespace):
        opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    opened.setsockopt(SOL_RAW, ICMP_FILTER, ALL_BUT_REPLIES)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    opened.setblocking(False)
    return opened
