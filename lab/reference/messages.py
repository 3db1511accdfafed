"""The messages on the wire: their prefix, types and lengths, the handshake's payloads."""

from __future__ import annotations

import struct
from dataclasses import dataclass

PORT = 51820
VERSION = 1
PREFIX = struct.Struct("!IBBH")
HEADER_OCTETS = 32
ASSOCIATED_OCTETS = 16

INITIATION, RESPONSE, COOKIE_REPLY, DATA, CONTROL = 1, 2, 3, 4, 5
REFLECTION_PROBE, REFLECTION_ANSWER = 16, 17
INITIATION_OCTETS, RESPONSE_OCTETS, COOKIE_REPLY_OCTETS = 168, 116, 68
REFLECTION_OCTETS = 48
LENGTHS = {
    INITIATION: INITIATION_OCTETS,
    RESPONSE: RESPONSE_OCTETS,
    COOKIE_REPLY: COOKIE_REPLY_OCTETS,
}

LANES_MOST = 256
PROLOGUE = "OmniNervous v1 "
# TAI64 counts from 2^62, and TAI was 10 s ahead of UTC in 1970.
TAI_OFFSET = (1 << 62) + 10
NANOSECONDS = 1_000_000_000
TIMESTAMP = struct.Struct("!QI")
PAYLOAD = struct.Struct("!HHI")
FIRST_PAYLOAD_OCTETS, SECOND_PAYLOAD_OCTETS = 28, 20
# The shortest inner frame is an Ethernet header.
ETHERNET_OCTETS = 14


@dataclass(frozen=True)
class Offer:
    """What a side says of itself in the handshake."""

    lanes: int
    largest_frame: int
    capabilities: int = 0

    def encoded(self, octets: int) -> bytes:
        """As octets, with zeros behind."""
        packed = PAYLOAD.pack(self.lanes, self.largest_frame, self.capabilities)
        return packed.ljust(octets, b"\0")


def parse_offer(octets: bytes) -> Offer | None:
    """An offer, None when the lanes are out of range."""
    offer = Offer(*PAYLOAD.unpack_from(octets))
    return offer if 1 <= offer.lanes <= LANES_MOST else None


def prefix(type_: int) -> bytes:
    """The first 8 octets of a message without a session."""
    return PREFIX.pack(0, type_, 0, VERSION)


def prologue(fabric: str) -> bytes:
    """What both sides mix into the handshake."""
    return (PROLOGUE + fabric).encode()


def timestamp_of(nanoseconds: int) -> bytes:
    """TAI64N of nanoseconds since 1970. Greater octets are later."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return TIMESTAMP.pack(TAI_OFFSET + seconds, rest)


def nanoseconds_of(timestamp: bytes) -> int:
    """The nanoseconds since 1970 of a TAI64N."""
    seconds, rest = TIMESTAMP.unpack(timestamp)
    return int(seconds - TAI_OFFSET) * NANOSECONDS + int(rest)
