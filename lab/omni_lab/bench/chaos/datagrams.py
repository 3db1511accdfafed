"""Datagrams that say whose they are, and what becomes of each. Pure: no socket is opened in here.

    magic 4 | run 8 | source 2 | destination 2 | sequence 8 | filling | CRC-32 4

The filling follows from the head, and the CRC is over all before it. A datagram is counted at its
destination only if each octet is as it was sent, and it came from where it says.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

MAGIC = b"oChs"
HEAD = struct.Struct(">4sQHHQ")
TAIL = struct.Struct(">I")
SMALL_OCTETS = 64
# With its headers it fits the fabric, and does not where a link carries 1300 octets only.
LARGE_OCTETS = 1300
# One in so many is large.
LARGE_ONE_IN = 8
FILLING = bytes(range(256)) * 6
# What has not arrived after so long is lost. Engines that stand still hold frames for 3 s.
PATIENCE_SECONDS = 5.0
# More pieces of evidence say nothing new.
EVIDENCE_MAX = 50


class Verdict(Enum):
    """What a datagram that arrived is."""

    GOOD = "good"
    DUPLICATE = "duplicate"
    # Later than it is waited for: it was counted as lost.
    LATE = "late"
    # It is whole, and was meant for somebody else, or came from another address than its source's.
    MISDELIVERED = "misdelivered"
    # Some octet is not as it was sent, or it was never sent.
    CORRUPTED = "corrupted"
    # Of an earlier run, or nothing of ours.
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Datagram:
    """What a datagram says."""

    run: int
    source: int
    destination: int
    sequence: int


def octets(sequence: int) -> int:
    """How long the datagram with a number is."""
    return LARGE_OCTETS if sequence % LARGE_ONE_IN == LARGE_ONE_IN - 1 else SMALL_OCTETS


def build(datagram: Datagram) -> bytes:
    """A datagram as it is sent."""
    head = HEAD.pack(MAGIC, datagram.run, datagram.source, datagram.destination, datagram.sequence)
    return seal(head + filling(datagram.sequence))


def filling(sequence: int) -> bytes:
    """What is between the head and the tail."""
    length = octets(sequence) - HEAD.size - TAIL.size
    begin = sequence % 256
    return FILLING[begin : begin + length]


def seal(text: bytes) -> bytes:
    """Octets with their checksum."""
    return text + TAIL.pack(zlib.crc32(text))


def parse(packet: bytes) -> Datagram | None:
    """Reads a datagram; None when some octet is not as it was sent."""
    if len(packet) < HEAD.size + TAIL.size:
        return None
    body, (crc,) = packet[: -TAIL.size], TAIL.unpack(packet[-TAIL.size :])
    magic, run, source, destination, sequence = HEAD.unpack_from(body)
    if magic != MAGIC or crc != zlib.crc32(body):
        return None
    if body[HEAD.size :] != filling(sequence):
        return None
    return Datagram(run, source, destination, sequence)


def is_ours(packet: bytes, run: int) -> bool:
    """Whether something that cannot be read was of this run once, as far as that can be seen."""
    return packet[:4] == MAGIC or struct.pack(">Q", run) in packet


@dataclass
class Interval:
    """Datagrams in a row that never arrived: when the first and the last of them were sent."""

    first: float
    last: float
    lost: int


@dataclass
class Stream:
    """Datagrams from one host to another. Times are seconds of the monotonic clock."""

    source: int
    destination: int
    sent: int = 0
    arrived: int = 0
    # When those were sent that are waited for, by sequence, in order.
    waiting: dict[int, float] = field(default_factory=dict)
    # Those that were given up of late: what comes of them now is late, what comes of others twice.
    given_up: dict[int, float] = field(default_factory=dict)
    intervals: list[Interval] = field(default_factory=list)
    last_lost: int = -2
    # From when on it is looked for the next arrival, and when that was.
    mark: float = 0.0
    reached: float | None = None

    def send(self, now: float) -> int:
        """Counts a datagram. Returns its sequence."""
        sequence = self.sent
        self.sent += 1
        self.waiting[sequence] = now
        return sequence

    def receive(self, sequence: int, now: float) -> Verdict:
        """Counts what arrived."""
        if sequence >= self.sent:
            return Verdict.CORRUPTED
        at = self.waiting.pop(sequence, None)
        if at is None:
            late = self.given_up.pop(sequence, None) is not None
            return Verdict.LATE if late else Verdict.DUPLICATE
        self.arrived += 1
        if self.reached is None and at >= self.mark:
            self.reached = now
        return Verdict.GOOD

    def look_from(self, moment: float) -> None:
        """Waits anew for something that is sent from a moment on."""
        self.mark, self.reached = moment, None

    def give_up(self, now: float) -> None:
        """Counts as lost what is under way for too long."""
        for sequence in list(self.waiting):
            at = self.waiting[sequence]
            if now - at <= PATIENCE_SECONDS:
                # Those after it were sent later.
                break
            del self.waiting[sequence]
            self.given_up[sequence] = at
            if sequence == self.last_lost + 1:
                self.intervals[-1].last = at
                self.intervals[-1].lost += 1
            else:
                self.intervals.append(Interval(at, at, 1))
            self.last_lost = sequence

    @property
    def lost(self) -> int:
        """How many never arrived, or too late."""
        return sum(each.lost for each in self.intervals)


@dataclass
class Ledger:
    """All streams of a run, and what arrived anywhere."""

    run: int
    # By the number of a host.
    addresses: Sequence[str]
    streams: dict[tuple[int, int], Stream]
    counts: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    # The first of those that must not be, as texts.
    evidence: list[str] = field(default_factory=list)

    def take(self, host: int, sender: str, packet: bytes, now: float) -> Verdict:
        """Judges what arrived at a host from an address."""
        verdict = self.judge(host, sender, packet, now)
        self.counts[verdict] += 1
        bad = (Verdict.MISDELIVERED, Verdict.CORRUPTED, Verdict.DUPLICATE)
        if verdict in bad and len(self.evidence) < EVIDENCE_MAX:
            text = packet[:SMALL_OCTETS].hex()
            reason = f"{verdict.value} at {self.addresses[host]} from {sender}: {text}"
            self.evidence.append(reason)
        return verdict

    def judge(self, host: int, sender: str, packet: bytes, now: float) -> Verdict:
        """What it is; a good one is booked."""
        said = parse(packet)
        if said is None:
            return Verdict.CORRUPTED if is_ours(packet, self.run) else Verdict.FOREIGN
        if said.run != self.run:
            return Verdict.FOREIGN
        stream = self.streams.get((said.source, said.destination))
        if stream is None:
            return Verdict.CORRUPTED
        if said.destination != host or sender != self.addresses[said.source]:
            return Verdict.MISDELIVERED
        return stream.receive(said.sequence, now)
