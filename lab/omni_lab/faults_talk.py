"""Datagrams between two hosts, both ways at a steady pace, each told from all others.

A thread of its own sends and receives. What arrives twice was replayed, as nothing in between
doubles packets; what a host cannot send, as its interface is away, was not sent.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import netns
from .faults_kernel import wait
from .netns import Namespace

PORT = 9901
# The run, the direction and the number.
DATAGRAM = struct.Struct(">8sBQ")
INTERVAL_SECONDS = 0.005
RECEIVE_BUFFER_BYTES = 4 << 20
LEN_MAX = 2048


@dataclass
class Direction:
    """What one host sent to the other. Times are of the monotonic clock."""

    sent: int = 0
    refused: int = 0
    duplicates: int = 0
    foreign: int = 0
    received: set[int] = field(default_factory=set)
    # When each was sent that did not arrive yet, and the last that did.
    waiting: dict[int, float] = field(default_factory=dict)
    last_arrival: float | None = None
    # The first arrival of what was sent after a mark.
    mark: float = 0.0
    first_arrival: float | None = None

    def send(self, now: float) -> int:
        """Counts a datagram. Returns its number."""
        number = self.sent
        self.sent += 1
        self.waiting[number] = now
        return number

    def refuse(self, number: int) -> None:
        """It did not leave the host."""
        del self.waiting[number]
        self.refused += 1

    def receive(self, number: int, now: float) -> None:
        """Counts an arrival."""
        if number >= self.sent:
            self.foreign += 1
            return
        if number in self.received:
            self.duplicates += 1
            return
        self.received.add(number)
        sent_at = self.waiting.pop(number, None)
        self.last_arrival = now
        if self.first_arrival is None and sent_at is not None and sent_at >= self.mark:
            self.first_arrival = now

    def set_mark(self, now: float) -> None:
        """From here on the first arrival counts anew."""
        self.mark, self.first_arrival = now, None

    def lost_since(self, since: float, until: float) -> int:
        """Datagrams that were sent within these times and did not arrive."""
        return sum(since <= at < until for at in self.waiting.values())


class Talk:
    """The thread and its sockets. `close` ends it."""

    def __init__(
        self,
        hosts: Mapping[str, Namespace],
        addresses: Mapping[str, str],
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        """`hosts` are two; each sends to the other's address every `interval` seconds."""
        self.interval = interval
        one, other = hosts
        self.run_id = os.urandom(8)
        self.directions = {f"{one} to {other}": Direction(), f"{other} to {one}": Direction()}
        self.order = list(self.directions.values())
        self.selector = selectors.DefaultSelector()
        self.sockets = {}
        for name, namespace in hosts.items():
            self.sockets[name] = opened = open_socket(namespace)
            self.selector.register(opened, selectors.EVENT_READ, hosts_index(hosts, name))
        self.ways = [(self.sockets[one], addresses[other]), (self.sockets[other], addresses[one])]
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.paused = threading.Event()
        self.thread = threading.Thread(target=self.run, name="talk", daemon=True)
        self.thread.start()

    def run(self) -> None:
        """The thread."""
        due = time.monotonic()
        while not self.stop.is_set():
            now = time.monotonic()
            if now >= due:
                if not self.paused.is_set():
                    self.send_both(now)
                # A thread that was late does not make up for it by a burst.
                due = max(due + self.interval, now)
            for key, _ in self.selector.select(max(due - time.monotonic(), 0.0)):
                self.take(key.data)

    def send_both(self, now: float) -> None:
        """A datagram each way."""
        for index, (opened, address) in enumerate(self.ways):
            direction = self.order[index]
            with self.lock:
                number = direction.send(now)
            try:
                opened.sendto(DATAGRAM.pack(self.run_id, index, number), (address, PORT))
            except OSError:
                with self.lock:
                    direction.refuse(number)

    def take(self, host: int) -> None:
        """Takes all that arrived at a host. The first one receives what the other sends."""
        opened = list(self.sockets.values())[host]
        while True:
            try:
                datagram = opened.recv(LEN_MAX)
            except BlockingIOError:
                return
            except OSError:
                # Refusals of what was sent are told here as well.
                continue
            now = time.monotonic()
            if len(datagram) != DATAGRAM.size:
                continue
            run_id, index, number = DATAGRAM.unpack(datagram)
            if run_id == self.run_id and index == 1 - host:
                with self.lock:
                    self.order[index].receive(number, now)

    def set_mark(self) -> float:
        """From now on first arrivals count anew. Returns when that is."""
        now = time.monotonic()
        with self.lock:
            for direction in self.order:
                direction.set_mark(now)
        return now

    def firsts(self) -> dict[str, float | None]:
        """When the first datagram of each direction arrived that was sent after the mark."""
        with self.lock:
            return {name: each.first_arrival for name, each in self.directions.items()}

    def wait_both(self, seconds: float) -> bool:
        """Waits until both directions delivered after the mark. Returns whether they did."""
        return wait(lambda: all(at is not None for at in self.firsts().values()), seconds)

    def wait_any(self, seconds: float) -> bool:
        """Waits until a direction delivered after the mark. Returns whether one did."""
        return wait(lambda: any(at is not None for at in self.firsts().values()), seconds)

    def pause(self, settle: float) -> None:
        """Sends no more, and waits for what is on its way."""
        self.paused.set()
        time.sleep(settle)

    def go_on(self) -> None:
        """Sends again."""
        self.paused.clear()

    def lost_since(self, since: float, until: float) -> int:
        """Datagrams of both directions that were sent within these times and did not arrive."""
        with self.lock:
            return sum(each.lost_since(since, until) for each in self.order)

    def total(self, name: str) -> int:
        """The sum of a count over both directions."""
        with self.lock:
            return sum(int(getattr(each, name)) for each in self.order)

    def close(self) -> None:
        """Ends the thread and closes the sockets, also when that was done before."""
        self.stop.set()
        self.thread.join()
        self.selector.close()
        for opened in self.sockets.values():
            opened.close()


def hosts_index(hosts: Mapping[str, Namespace], name: str) -> int:
    return list(hosts).index(name)


def open_socket(namespace: Namespace) -> socket.socket:
    """A socket in a namespace, bound to no interface, as the engine makes its anew."""
    with netns.inside(namespace):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    opened.bind(("0.0.0.0", PORT))
    opened.setblocking(False)
    return opened
