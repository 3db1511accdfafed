"""What a frame on the underlay is: one of the fabric's messages, the underlay's own
housekeeping, or something that must not be there. Pure: octets in, verdict out.

A message is the payload of UDP over IPv4 and begins with

    0  session_id (4)   4  type (1)   5  flags (1)   6  lane, or version (2)   8  ...
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

ETHERNET_LEN = 14
IPV4_LEN = 20
UDP_LEN = 8
PREFIX_LEN = 8
HEADER_LEN = 32
INNER_ETHERNET_LEN = 14
VERSION = 1

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD
PROTOCOL_ICMP = 1
PROTOCOL_TCP = 6
PROTOCOL_UDP = 17
PROTOCOL_ICMPV6 = 58
HOP_BY_HOP = 0
DONT_FRAGMENT = 0x4000

# Multicast listener reports and neighbour discovery (RFC 3810, RFC 4861).
ICMPV6_HOUSEKEEPING = frozenset({130, 131, 132, 133, 134, 135, 136, 143})
ICMP_UNREACHABLE = 3


class Kind(Enum):
    """What a frame is."""

    INITIATION = "handshake initiation"
    RESPONSE = "handshake response"
    COOKIE = "cookie reply"
    DATA = "data"
    KEEPALIVE = "keepalive"
    CONTROL = "in-session control"
    RENDEZVOUS = "to and from the Nucleus"
    NEIGHBOUR = "ARP and neighbour discovery of the underlay"
    UNREACHABLE = "ICMP about a message to a port not open yet"
    FOREIGN = "not of the fabric"


# Type and exact length of the messages without a session.
RENDEZVOUS_PORT = 51821
# Type of a question where one is seen, of its answer, and the length of both.
PROBE, ANSWER, REFLECTION_LEN = 16, 17, 48
HANDSHAKES = {1: (168, Kind.INITIATION), 2: (116, Kind.RESPONSE), 3: (68, Kind.COOKIE)}


@dataclass(frozen=True)
class Verdict:
    """What a frame is, and why when it is not of the fabric."""

    kind: Kind
    why: str = ""


def foreign(why: str) -> Verdict:
    """A frame that must not be there."""
    return Verdict(Kind.FOREIGN, why)


def classify(frame: bytes, port: int, lanes: int) -> Verdict:
    """Says what an Ethernet frame on the underlay is.

    `port` is the fabric's UDP port, `lanes` how many lanes each node announced.
    """
    if len(frame) < ETHERNET_LEN:
        return foreign("shorter than an Ethernet header")
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    if ethertype == ETHERTYPE_ARP:
        return Verdict(Kind.NEIGHBOUR)
    if ethertype == ETHERTYPE_IPV6:
        return classify_ipv6(frame[ETHERNET_LEN:])
    if ethertype == ETHERTYPE_IPV4:
        return classify_ipv4(frame[ETHERNET_LEN:], port, lanes)
    return foreign(f"ethertype {ethertype:#06x}")


def classify_ipv6(packet: bytes) -> Verdict:
    """The underlay of this lab is IPv4: over IPv6 hosts only look for each other."""
    if len(packet) < 48:
        return foreign("cut-off IPv6")
    following, at = packet[6], 40
    if following == HOP_BY_HOP:
        following, at = packet[at], at + 8 * (packet[at + 1] + 1)
    if following == PROTOCOL_ICMPV6 and len(packet) > at and packet[at] in ICMPV6_HOUSEKEEPING:
        return Verdict(Kind.NEIGHBOUR)
    return foreign(f"IPv6 with next header {following}")


def classify_ipv4(packet: bytes, port: int, lanes: int) -> Verdict:
    """An IPv4 packet must be UDP to the fabric's port, whole, and a message."""
    if len(packet) < IPV4_LEN or packet[0] != 0x45:
        return foreign("malformed IPv4, or with options")
    total, _, fragment = struct.unpack_from("!HHH", packet, 2)
    protocol = packet[9]
    if not IPV4_LEN <= total <= len(packet):
        return foreign(f"IPv4 of {total} octets in {len(packet)}")
    # Short frames may be padded behind the packet, but only up to Ethernet's minimum.
    if len(packet) > max(total, 46):
        return foreign(f"{len(packet) - total} octets behind the packet")
    body = packet[IPV4_LEN:total]
    if protocol == PROTOCOL_ICMP:
        return classify_icmp(body, port)
    if protocol == PROTOCOL_TCP and len(body) >= 20:
        ports = struct.unpack_from("!HH", body)
        if RENDEZVOUS_PORT in ports:
            return Verdict(Kind.RENDEZVOUS)
    if protocol != PROTOCOL_UDP:
        return foreign(f"IPv4 with protocol {protocol}")
    if fragment & 0x3FFF:
        return foreign("fragment of IPv4")
    if len(body) < UDP_LEN:
        return foreign("cut-off UDP")
    source, destination, length, _ = struct.unpack_from("!HHHH", body)
    if is_reflection((source, destination), body[UDP_LEN:], port):
        return Verdict(Kind.RENDEZVOUS)
    if destination != port:
        return foreign(f"UDP from port {source} to port {destination}")
    if length != len(body):
        return foreign(f"UDP of {length} octets in {len(body)}")
    return classify_message(body[UDP_LEN:], fragment == DONT_FRAGMENT, lanes)


def is_reflection(ports: tuple[int, int], message: bytes, port: int) -> bool:
    """Whether a node asks the Nucleus where it is seen, or is told."""
    if len(message) != REFLECTION_LEN or message[:4] != bytes(4):
        return False
    asks = ports == (port, RENDEZVOUS_PORT) and message[4] == PROBE
    return asks or (ports == (RENDEZVOUS_PORT, port) and message[4] == ANSWER)


def classify_icmp(body: bytes, port: int) -> Verdict:
    """A host answers thus while its engine is not up yet; it quotes the message."""
    quoted = body[8:]
    if len(body) < 8 + IPV4_LEN + UDP_LEN or body[0] != ICMP_UNREACHABLE:
        return foreign("ICMP")
    (destination,) = struct.unpack_from("!H", quoted, IPV4_LEN + 2)
    if quoted[0] == 0x45 and quoted[9] == PROTOCOL_UDP and destination == port:
        return Verdict(Kind.UNREACHABLE)
    return foreign("ICMP about something else than a message")


def classify_message(message: bytes, unfragmented: bool, lanes: int) -> Verdict:
    """A UDP payload must be exactly one of the protocol's messages."""
    if len(message) < PREFIX_LEN:
        return foreign(f"UDP payload of {len(message)} octets")
    session, type_, flags, lane = struct.unpack_from("!IBBH", message)
    if flags:
        return foreign(f"message with flags {flags:#04x}")
    if type_ in HANDSHAKES:
        length, kind = HANDSHAKES[type_]
        if session == 0 and lane == VERSION and len(message) == length:
            return Verdict(kind)
        return foreign(f"type {type_}: session {session}, version {lane}, {len(message)} octets")
    if type_ not in (4, 5):
        return foreign(f"message of type {type_}")
    if session == 0:
        return foreign(f"type {type_} without a session")
    if lane >= lanes:
        return foreign(f"lane {lane}, announced are {lanes}")
    if not unfragmented:
        return foreign("sent without DF")
    if type_ == 5:
        complete = len(message) > HEADER_LEN
        return Verdict(Kind.CONTROL) if complete else foreign("control message without a record")
    if len(message) == HEADER_LEN:
        return Verdict(Kind.KEEPALIVE)
    if len(message) < HEADER_LEN + INNER_ETHERNET_LEN:
        return foreign(f"data of {len(message)} octets, too short for a frame")
    return Verdict(Kind.DATA)


@dataclass(frozen=True)
class Needles:
    """Plaintext to look for.

    `long` ones are searched for everywhere: eight octets or so do not occur in ciphertext by
    chance. `short` ones, such as a single IPv4 address, do, about once in a few million
    messages, so they are searched for only in what is not encrypted anyway.
    """

    long: tuple[bytes, ...] = ()
    short: tuple[bytes, ...] = ()

    def found_in(self, frame: bytes, kind: Kind) -> bytes | None:
        """The first needle that is in the frame."""
        housekeeping = kind in (Kind.NEIGHBOUR, Kind.UNREACHABLE, Kind.FOREIGN)
        wanted: Iterable[bytes] = self.long + self.short if housekeeping else self.long
        return next((needle for needle in wanted if needle in frame), None)
