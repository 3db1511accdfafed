"""Control records: what nodes tell each other in a session."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ANNOUNCE, WITHDRAW, CLAIM, RELEASE, VLANS, GROUPS = 1, 2, 3, 4, 5, 6
PROBE, PROBE_ACK = 16, 17
HEAD = struct.Struct("!BBH")
BODY_MOST = 1200 - HEAD.size
FAMILIES = {4: (socket.AF_INET, 4), 6: (socket.AF_INET6, 16)}
VLANS_OCTETS = 512
VLAN_RESERVED = 4095
KEY_OCTETS = 32
NOBODY = bytes(KEY_OCTETS)
# Of GROUPS: first and last record of a full list, and everything wanted.
GROUPS_FIRST, GROUPS_LAST, GROUPS_ALL = 1, 2, 4
PROBE_TOKEN_OCTETS = 8

# A VLAN and a MAC address; a VLAN and an IP address as text.
Address = tuple[int, bytes]
Binding = tuple[int, str]


@dataclass(frozen=True)
class Announced:
    """An entry of ANNOUNCE."""

    vlan: int
    ip: str
    sequence: int
    lifetime: int
    mac: bytes


@dataclass(frozen=True)
class Withdrawn:
    """An entry of WITHDRAW."""

    vlan: int
    ip: str
    sequence: int


@dataclass(frozen=True)
class Claimed:
    """An entry of CLAIM."""

    vlan: int
    mac: bytes
    sequence: int


@dataclass(frozen=True)
class Released:
    """An entry of RELEASE."""

    vlan: int
    mac: bytes
    sequence: int
    owner: bytes


def newer(a: int, b: int) -> bool:
    """Whether sequence `a` is newer than `b`, modulo 2^32."""
    return 1 <= (a - b) % (1 << 32) < 1 << 31


def split(record: bytes) -> tuple[int, bytes] | None:
    """The kind and the body; None if it is none. What follows the body is padding."""
    if len(record) < HEAD.size:
        return None
    kind, _, length = HEAD.unpack_from(record)
    body = record[HEAD.size : HEAD.size + length]
    return (kind, body) if len(body) == length else None


def join(kind: int, body: bytes) -> bytes:
    """A record."""
    return HEAD.pack(kind, 0, len(body)) + body


def records(kind: int, entries: Iterable[bytes]) -> Iterator[bytes]:
    """Entries in as few records as they fit into."""
    body = b""
    for entry in entries:
        if len(body) + len(entry) > BODY_MOST:
            yield join(kind, body)
            body = b""
        body += entry
    if body:
        yield join(kind, body)


def is_host(ip: str) -> bool:
    """Whether a host can have an IP address."""
    address = ipaddress.ip_address(ip)
    none = address.is_unspecified or address.is_loopback or address.is_multicast
    mapped = getattr(address, "ipv4_mapped", None) is not None
    return not (none or mapped or ip == "255.255.255.255")


def packed_ip(ip: str) -> tuple[int, bytes]:
    """The family's number and the octets of an address."""
    family = 6 if ":" in ip else 4
    return family, socket.inet_pton(FAMILIES[family][0], ip)


def encode_announced(entry: Announced) -> bytes:
    """An entry of ANNOUNCE."""
    family, octets = packed_ip(entry.ip)
    head = struct.pack("!HBBIH", entry.vlan, family, 0, entry.sequence, entry.lifetime)
    return head + entry.mac + octets


def encode_withdrawn(entry: Withdrawn) -> bytes:
    """An entry of WITHDRAW."""
    family, octets = packed_ip(entry.ip)
    return struct.pack("!HBBI", entry.vlan, family, 0, entry.sequence) + octets


def encode_claimed(entry: Claimed) -> bytes:
    """An entry of CLAIM."""
    return struct.pack("!H6sI", entry.vlan, entry.mac, entry.sequence)


def encode_released(entry: Released) -> bytes:
    """An entry of RELEASE."""
    return struct.pack("!H6sI32s", entry.vlan, entry.mac, entry.sequence, entry.owner)


def with_addresses(body: bytes, fixed: int) -> Iterator[tuple[bytes, str]]:
    """Entries of `fixed` octets, whose third is the family, and an IP address. An unknown family
    ends the list, as the entry's length is not known.
    """
    at = 0
    while at + fixed <= len(body):
        known = FAMILIES.get(body[at + 2])
        if known is None or at + fixed + known[1] > len(body):
            return
        family, octets = known
        end = at + fixed + octets
        yield body[at : at + fixed], socket.inet_ntop(family, body[at + fixed : end])
        at = end


def parse_announced(body: bytes) -> Iterator[Announced]:
    """The entries of ANNOUNCE."""
    for head, ip in with_addresses(body, 16):
        vlan, _, _, sequence, lifetime, mac = struct.unpack("!HBBIH6s", head)
        if vlan < VLAN_RESERVED:
            yield Announced(vlan, ip, sequence, lifetime, mac)


def parse_withdrawn(body: bytes) -> Iterator[Withdrawn]:
    """The entries of WITHDRAW."""
    for head, ip in with_addresses(body, 8):
        vlan, _, _, sequence = struct.unpack("!HBBI", head)
        if vlan < VLAN_RESERVED:
            yield Withdrawn(vlan, ip, sequence)


def whole(body: bytes, octets: int) -> Iterator[bytes]:
    """The whole entries of a body."""
    for at in range(0, len(body) - octets + 1, octets):
        yield body[at : at + octets]


def parse_claimed(body: bytes) -> Iterator[Claimed]:
    """The entries of CLAIM."""
    for entry in whole(body, 12):
        vlan, mac, sequence = struct.unpack("!H6sI", entry)
        if vlan < VLAN_RESERVED:
            yield Claimed(vlan, mac, sequence)


def parse_released(body: bytes) -> Iterator[Released]:
    """The entries of RELEASE."""
    for entry in whole(body, 44):
        vlan, mac, sequence, owner = struct.unpack("!H6sI32s", entry)
        if vlan < VLAN_RESERVED:
            yield Released(vlan, mac, sequence, owner)


def encode_vlans(vlans: Iterable[int]) -> bytes:
    """A record VLANS."""
    bits = bytearray(VLANS_OCTETS)
    for vlan in vlans:
        bits[vlan // 8] |= 1 << vlan % 8
    return join(VLANS, bytes(bits))


def parse_vlans(body: bytes) -> frozenset[int] | None:
    """The VLANs of a record, None if it is not whole."""
    if len(body) < VLANS_OCTETS:
        return None
    return frozenset(v for v in range(VLAN_RESERVED) if body[v // 8] >> v % 8 & 1)


def everything_wanted() -> bytes:
    """A record GROUPS of one that wants every group."""
    return join(GROUPS, bytes([GROUPS_FIRST | GROUPS_LAST | GROUPS_ALL]))


def probe_ack(record: bytes, body: bytes) -> bytes | None:
    """The answer to a PROBE, None to one without a token. `record` is all that arrived."""
    if len(body) < PROBE_TOKEN_OCTETS:
        return None
    return join(PROBE_ACK, body[:PROBE_TOKEN_OCTETS] + len(record).to_bytes(2, "big"))
