"""Messages for the dissector, of every type and kind, sound and not, sealed with a known key.

What is said of each is what tshark has to make of it.
"""

import ipaddress
import struct
from collections.abc import Sequence

from reference.chacha20poly1305 import seal

PORT = 51820
KEY = bytes(range(32))
SESSION = 0x0A0B0C0D
DATA, CONTROL = 4, 5
MAC = bytes.fromhex("020000000001")
IPV4 = ipaddress.ip_address("10.0.0.7").packed
IPV6 = ipaddress.ip_address("fd00::7").packed
ECHO = 8


def key_log(key: bytes = KEY, session: int = SESSION) -> str:
    """A line as an engine writes it."""
    return f"omni1 in {session:08x} {key.hex()} -\n"


def ipv4(protocol: int, body: bytes, addresses: bytes) -> bytes:
    """A packet without options, its checksum left out."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, protocol, 0)
    return head + addresses + body


def datagram(message: bytes, port: int = PORT) -> bytes:
    """The frame around a message, on the underlay."""
    udp = struct.pack("!HHHH", port, port, 8 + len(message), 0) + message
    return bytes(12) + b"\x08\x00" + ipv4(17, udp, bytes([192, 0, 2, 1, 192, 0, 2, 2]))


def ping() -> bytes:
    """An inner frame: an echo request."""
    icmp = struct.pack("!BBHHH", ECHO, 0, 0, 1, 1)
    return MAC + MAC + b"\x08\x00" + ipv4(1, icmp, IPV4 + IPV4)


def sealed(
    type_: int, plain: bytes, nonce: int = 0, *, lane: int = 0, session: int = SESSION
) -> bytes:
    """A message of a session."""
    head = struct.pack("!IBBHQ", session, type_, 0, lane, nonce)
    closed = seal(KEY, bytes(2) + head[6:16], head, plain)
    return head + closed[-16:] + closed[:-16]


def record(kind: int, body: bytes, padding: bytes = b"") -> bytes:
    """A record of control."""
    return struct.pack("!BBH", kind, 0, len(body)) + body + padding


def plain_message(type_: int, body: bytes, version: int = 1) -> bytes:
    """A message outside of sessions."""
    return struct.pack("!IBBH", 0, type_, 0, version) + body


def initiation(index: int) -> bytes:
    """Whose sealed parts are nobody's."""
    return plain_message(1, struct.pack("!I", index) + bytes(range(124)) + b"\x11" * 16 + bytes(16))


def response(index: int, receiver: int) -> bytes:
    """To an initiation."""
    return plain_message(2, struct.pack("!II", index, receiver) + bytes(68) + b"\x22" * 32)


def cookie(receiver: int) -> bytes:
    """To whoever has that index."""
    return plain_message(3, struct.pack("!I", receiver) + b"\x33" * 24 + b"\x44" * 32)


TOKEN = b"\x55" * 16
PROBE = plain_message(16, TOKEN + bytes(24))


def answer(family: int, address: bytes, rest: bytes) -> bytes:
    """Of a reflection."""
    return plain_message(17, TOKEN + struct.pack("!BBH", family, 0, 4242) + address + rest)


VLANS = bytes(
    sum(1 << bit for bit in range(8) if 8 * octet + bit in {0, 7, 8, 9, 4094})
    for octet in range(512)
)

# Records: their octets, what is told of them at a glance, fields of tshark with their values.
Told = tuple[bytes, str, dict[str, list[str]]]
RECORDS: Sequence[Told] = (
    (
        record(1, struct.pack("!HBBIH6s", 7, 4, 0, 99, 300, MAC) + IPV4),
        "ANNOUNCE, 1 entry",
        {
            "omni.record.vlan": ["7"],
            "omni.record.family": ["4"],
            "omni.record.sequence": ["99"],
            "omni.record.lifetime": ["300"],
            "omni.record.mac": ["02:00:00:00:00:01"],
            "omni.record.ipv4": ["10.0.0.7"],
        },
    ),
    (
        record(
            2, struct.pack("!HBBI", 7, 4, 0, 5) + IPV4 + struct.pack("!HBBI", 0, 6, 0, 6) + IPV6
        ),
        "WITHDRAW, 2 entries",
        {
            "omni.record.vlan": ["7", "0"],
            "omni.record.sequence": ["5", "6"],
            "omni.record.ipv4": ["10.0.0.7"],
            "omni.record.ipv6": ["fd00::7"],
        },
    ),
    (
        record(3, struct.pack("!H6sI", 4094, MAC, 0xFFFFFFFF)),
        "CLAIM, 1 entry",
        {"omni.record.vlan": ["4094"], "omni.record.sequence": ["4294967295"]},
    ),
    (
        record(4, struct.pack("!H6sI", 1, MAC, 2) + b"\xab" * 32, b"\xee" * 3),
        "RELEASE, 1 entry",
        {"omni.record.owner": ["ab" * 32], "omni.record.padding": ["ee" * 3]},
    ),
    (record(5, VLANS), "VLANS, 0, 7-9, 4094", {"omni.record.vlans.list": ["0, 7-9, 4094"]}),
    (
        record(6, b"\x05" + struct.pack("!BBH", 1, 4, 7) + bytes([239, 1, 2, 3])),
        "GROUPS, 1 entry",
        {
            "omni.record.groups.first": ["1"],
            "omni.record.groups.last": ["0"],
            "omni.record.groups.all": ["1"],
            "omni.record.operation": ["1"],
            "omni.record.ipv4": ["239.1.2.3"],
        },
    ),
    (
        record(16, bytes(range(8)) + bytes(100)),
        "PROBE, 112 octets",
        {"omni.record.probe.token": ["0x0001020304050607"], "omni.record.kind": ["16"]},
    ),
    (
        record(17, bytes(range(8)) + struct.pack("!H", 112)),
        "PROBE_ACK, 112 octets",
        {"omni.record.probe.size": ["112"], "omni.record.kind": ["17"]},
    ),
)

# Records that a receiver ignores in part or whole, and what is said of it.
ODD_RECORDS: Sequence[tuple[bytes, str]] = (
    (b"", "no record"),
    (b"\x01\x00\x00", "a record has at least 4 octets"),
    (record(1, b"")[:3] + b"\x01", "the body is cut off: the record is ignored"),
    (b"\x01\x00\xff\xff" + bytes(40), "the body is cut off: the record is ignored"),
    (record(1, bytes(2) + b"\x05" + bytes(40)), "an unknown family ends the list"),
    (record(1, struct.pack("!HBBIH6s", 7, 4, 0, 99, 300, MAC) + IPV4[:3]), "the last entry is cut"),
    (record(1, struct.pack("!HBBIH6s", 7, 4, 9, 99, 300, MAC) + IPV4), "this octet is zero"),
    (record(1, struct.pack("!HBBIH6s", 7, 4, 0, 99, 0, MAC) + IPV4), "a lifetime of 0"),
    (record(3, struct.pack("!H6sI", 4095, MAC, 1)), "there is no VLAN 4095"),
    (record(5, VLANS[:511]), "less than 512 octets"),
    (record(5, VLANS[:511] + b"\xff"), "VLAN 4095 is never used"),
    (record(6, b""), "the body is too short for its kind"),
    (record(6, b"\x08"), "unknown flags"),
    (record(6, b"\x00" + struct.pack("!BBH", 3, 4, 7) + IPV4), "an unknown operation"),
    (record(16, bytes(7)), "the body is too short for its kind"),
    (record(17, bytes(9)), "the body is too short for its kind"),
    (record(99, bytes(9)), "an unknown kind is ignored"),
    (b"\x03\x01\x00\x00", "this octet is zero"),
)

# Messages that are no good, and what is said of each.
ODD_MESSAGES: Sequence[tuple[bytes, str]] = (
    (b"\x00", "a message has at least 8 octets"),
    (bytes(7), "a message has at least 8 octets"),
    (bytes(8), "an unknown type"),
    (plain_message(1, bytes(160)), "an index is not 0"),
    (initiation(1)[:-1], "this type has 168 octets, not 167"),
    (response(1, 2) + b"\x00", "this type has 116 octets, not 117"),
    (cookie(1)[:40], "this type has 68 octets, not 40"),
    (PROBE[:47], "this type has 48 octets, not 47"),
    (plain_message(1, initiation(1)[8:], version=2), "another version"),
    (b"\x00\x00\x00\x09" + initiation(1)[4:], "here the session is 0"),
    (initiation(1)[:5] + b"\x80" + initiation(1)[6:], "flags are 0"),
    (plain_message(16, TOKEN + b"\x04" + bytes(23)), "octets that have to be zero are not"),
    (answer(4, IPV4, bytes(15) + b"\x01"), "octets that have to be zero are not"),
    (answer(5, IPV4, bytes(16)), "a family is 4 or 6"),
    (sealed(DATA, ping())[:31], "this type has at least 32 octets, not 31"),
    (sealed(DATA, ping(), session=0), "a session is not 0"),
    (sealed(DATA, ping(), lane=256), "a lane is below 256"),
    (sealed(DATA, ping(), 2**64 - 2**13 - 1), "beyond the nonces of a session"),
    (sealed(DATA, bytes(13)), "a frame has at least 14 octets"),
    (sealed(DATA, ping())[:-1] + b"\x99", "the tag does not verify with the session's key"),
    (sealed(DATA, ping(), session=77), "no key log has the keys of this session"),
)
