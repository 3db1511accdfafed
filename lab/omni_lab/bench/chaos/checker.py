"""One thread that sends datagrams between many hosts, and judges what arrives at each.

It has a socket in every host's namespace, bound to no interface: engines that start anew make their
access ports anew.
"""

from __future__ import annotations

import heapq
import random
import selectors
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ... import netns
from ...commands import CommandError
from ...netns import Namespace
from ...pinger import NOT_SENT
from . import datagrams, transfer
from .content import Content
from .datagrams import Datagram, Ledger, Stream
from .pairs import Pair
from .transfer import Transfer

PORT = 7077
RECEIVE_BUFFER_BYTES = 1 << 20
PACKET_MAX = 2048
# Each stream sends so often, and all together no more than that, to leave the cores to engines.
INTERVAL_SECONDS = 0.05
DATAGRAMS_PER_SECOND = 4000.0
# Sent, or received of one host, before it is looked after others.
BURST = 64
LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Place:
    """A host that takes part."""

    name: str
    namespace: Namespace
    address: str


def interval_of(streams: int) -> float:
    """How often each of so many streams sends, in seconds."""
    return max(INTERVAL_SECONDS, streams / DATAGRAMS_PER_SECOND)


class Checker:
    """The thread, its sockets, and what they saw. `close` ends it."""

    def __init__(
        self, places: Sequence[Place], pairs: Sequence[Pair], carried: Sequence[Pair], seed: int
    ) -> None:
        """Datagrams go between all pairs both ways, TCP transfers from the first to the second of
        those that are `carried`.
        """
        self.random = random.Random(seed)
        self.carried = list(carried)
        self.places = list(places)
        self.numbers = {place.name: number for number, place in enumerate(places)}
        self.pairs = list(pairs)
        both_ways = [
            (self.numbers[one], self.numbers[other])
            for pair in pairs
            for one, other in (pair, pair[::-1])
        ]
        self.streams = [Stream(*each) for each in both_ways]
        self.ledger = Ledger(
            # Not of the seed: what another run with it left under way is not this one's.
            random.SystemRandom().getrandbits(64),
            [place.address for place in places],
            dict(zip(both_ways, self.streams)),
        )
        self.interval = interval_of(len(self.streams))
        # The ledger, which is looked at while the thread writes it.
        self.lock = threading.Lock()
        self.stop, self.paused = threading.Event(), threading.Event()
        self.failure: Exception | None = None
        self.cpu_seconds = 0.0
        self.latest_seconds = 0.0
        self.selector = selectors.DefaultSelector()
        self.sockets: list[socket.socket] = []
        self.transfers: list[Transfer] = []
        self.due: list[tuple[float, int]] = []
        self.thread = threading.Thread(target=self.run, name="checker", daemon=True)

    def start(self) -> None:
        """Opens all sockets, and begins."""
        for number, place in enumerate(self.places):
            opened = open_socket(place.namespace)
            self.sockets.append(opened)
            then = partial(self.take, number)
            self.selector.register(opened, selectors.EVENT_READ, then)
        named = {place.name: place for place in self.places}
        for number, pair in enumerate(self.carried):
            self.transfers.append(begin_transfer(self.selector, number, pair, named))
        now = time.monotonic()
        for number in range(len(self.streams)):
            self.due.append((now + self.random.random() * self.interval, number))
        heapq.heapify(self.due)
        self.thread.start()

    def close(self) -> None:
        """Ends the thread and closes the sockets, also when that was done before."""
        if self.stop.is_set():
            return
        self.stop.set()
        if self.thread.ident is not None:
            self.thread.join()
        for each in self.transfers:
            each.close()
        self.selector.close()
        for opened in self.sockets:
            opened.close()

    def finish(self) -> None:
        """Sends no more, waits for what is under way, and counts what never came."""
        self.paused.set()
        time.sleep(datagrams.PATIENCE_SECONDS + LOOK_SECONDS)
        self.close()
        self.raise_failure()
        for stream in self.streams:
            stream.give_up(time.monotonic() + datagrams.PATIENCE_SECONDS)

    def raise_failure(self) -> None:
        """What ended the thread is the caller's to know."""
        if self.failure is not None:
            raise self.failure

    def look_from(self, moment: float) -> None:
        """Waits anew for all pairs to hear of each other, by what they send from a moment on."""
        with self.lock:
            for stream in self.streams:
                stream.look_from(moment)

    def name(self, number: int) -> str:
        """Of a host."""
        return self.places[number].name

    def run(self) -> None:
        """The thread."""
        began = time.thread_time()
        tick = time.monotonic()
        try:
            while not self.stop.is_set():
                pause = LOOK_SECONDS if self.paused.is_set() else self.send_due()
                for key, _ in self.selector.select(pause):
                    key.data(time.monotonic())
                now = time.monotonic()
                if now >= tick:
                    tick = now + transfer.INTERVAL_SECONDS
                    self.tend(now)
        except (OSError, CommandError) as error:
            self.failure = error
        self.cpu_seconds = time.thread_time() - began

    def tend(self, now: float) -> None:
        """What is done from time to time."""
        with self.lock:
            for stream in self.streams:
                stream.give_up(now)
        if not self.paused.is_set():
            for each in self.transfers:
                each.tick(now)

    def send_due(self) -> float:
        """Sends some of what is due. Returns for how long nothing is, in seconds."""
        now = time.monotonic()
        for _ in range(BURST):
            at, number = self.due[0]
            if at > now:
                break
            self.latest_seconds = max(self.latest_seconds, now - at)
            self.send(self.streams[number], time.monotonic())
            # A thread that was late does not make up for it by a burst.
            following = at + self.interval
            heapq.heapreplace(
                self.due, (following if following > now else now + self.interval, number)
            )
        return min(max(self.due[0][0] - now, 0.0), LOOK_SECONDS)

    def send(self, stream: Stream, now: float) -> None:
        """Sends the next datagram of a stream."""
        with self.lock:
            sequence = stream.send(now)
        said = Datagram(self.ledger.run, stream.source, stream.destination, sequence)
        address = self.places[stream.destination].address
        try:
            self.sockets[stream.source].sendto(datagrams.build(said), (address, PORT))
        except OSError as error:
            # It is lost then, as it never arrives.
            if error.errno not in NOT_SENT:
                raise

    def take(self, host: int, _now: float) -> None:
        """Takes some of what arrived at a host."""
        for _ in range(BURST):
            try:
                packet, (sender, _) = self.sockets[host].recvfrom(PACKET_MAX)
            except BlockingIOError:
                return
            with self.lock:
                self.ledger.take(host, sender, packet, time.monotonic())


def begin_transfer(
    selector: selectors.BaseSelector, number: int, pair: Pair, named: Mapping[str, Place]
) -> Transfer:
    """A transfer between a pair."""
    one, other = (named[name] for name in pair)
    content = Content(number, number)
    return Transfer(selector, content, (one.namespace, other.namespace), other.address)


def open_socket(namespace: Namespace) -> socket.socket:
    """A socket for datagrams in a namespace."""
    with netns.inside(namespace):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    opened.bind(("0.0.0.0", PORT))
    opened.setblocking(False)
    return opened
