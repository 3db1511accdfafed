"""Inner frames: VLAN tags, and who has which IP address (ARP, RFC 826; ND, RFC 4861)."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from .records import VLAN_RESERVED, is_host
from .session import Dropped

ARP, IPV6 = 0x0806, 0x86DD
TAGS = (0x8100, 0x88A8)
VLAN_BITS = 0x0FFF
BROADCAST = b"\xff" * 6
# 01:80:C2:00:00:0x: what bridges keep to a link (IEEE 802.1Q, table 8-1).
RESERVED = bytes.fromhex("0180c20000")
ARP_HEAD = bytes.fromhex("0001080006040001")
ARP_BODY = struct.Struct("!H6s4s6s4s")
ICMPV6, SOLICITATION, ADVERTISEMENT = 58, 135, 136
SOURCE_OPTION, TARGET_OPTION = 1, 2


@dataclass(frozen=True)
class Frame:
    """What the switch has to know of a frame."""

    octets: bytes
    destination: bytes
    source: bytes
    # The outermost tag's, 0 where there is none.
    vlan: int
    ethertype: int
    payload: bytes

    @property
    def to_many(self) -> bool:
        """Whether it is a broadcast or a multicast."""
        return bool(self.destination[0] & 1)


def parse(octets: bytes) -> Frame:
    """A frame of a host. Raises Dropped for what no switch would carry."""
    if len(octets) < 14:
        raise Dropped("inner_too_short")
    destination, source = octets[:6], octets[6:12]
    if source[0] & 1 or source == bytes(6):
        raise Dropped("source_mac_invalid")
    if destination[:5] == RESERVED and destination[5] < 16:
        raise Dropped("reserved_destination")
    ethertype, at, tags = int.from_bytes(octets[12:14], "big"), 14, []
    while ethertype in TAGS:
        if len(octets) < at + 4:
            raise Dropped("inner_too_short")
        tag, ethertype = struct.unpack_from("!HH", octets, at)
        tags.append(tag & VLAN_BITS)
        at += 4
    if len(tags) > 2 or VLAN_RESERVED in tags or (len(tags) == 2 and 0 in tags):
        raise Dropped("vlan_invalid")
    return Frame(octets, destination, source, tags[0] if tags else 0, ethertype, octets[at:])


def binding(frame: Frame) -> str | None:
    """The IP address that the source of a frame says to have. Raises Dropped where it says to
    have it at another hardware address than its own.
    """
    ip = None
    if frame.ethertype == ARP:
        ip = arp_binding(frame)
    elif frame.ethertype == IPV6:
        ip = neighbor_binding(frame)
    return ip if ip and is_host(ip) else None


def arp_binding(frame: Frame) -> str:
    """The sender of an ARP message."""
    body = frame.payload[6:28]
    if frame.payload[:6] != ARP_HEAD[:6] or len(body) < ARP_BODY.size:
        raise Dropped("neighbor_malformed")
    _, sender_mac, sender_ip, _, _ = ARP_BODY.unpack(body)
    if sender_mac != frame.source:
        raise Dropped("neighbor_spoofed")
    return socket.inet_ntop(socket.AF_INET, sender_ip)


def neighbor_binding(frame: Frame) -> str | None:
    """The source of a neighbour solicitation, the target of an advertisement. Headers between that
    of IPv6 and ICMPv6 are not followed: no host puts any there.
    """
    packet = frame.payload
    if len(packet) < 64 or packet[6] != ICMPV6 or packet[7] != 255:
        return None
    kind, target, options = packet[40], packet[48:64], packet[64:]
    if kind == SOLICITATION:
        address, option = packet[8:24], SOURCE_OPTION
    elif kind == ADVERTISEMENT:
        address, option = target, TARGET_OPTION
    else:
        return None
    stated = link_layer(options, option)
    if stated is not None and stated != frame.source:
        raise Dropped("neighbor_spoofed")
    return socket.inet_ntop(socket.AF_INET6, address)


def link_layer(options: bytes, wanted: int) -> bytes | None:
    """The link-layer address among the options of neighbour discovery."""
    at = 0
    while at + 8 <= len(options) and options[at + 1]:
        if options[at] == wanted and options[at + 1] == 1:
            return options[at + 2 : at + 8]
        at += 8 * options[at + 1]
    return None


def question(source: bytes, mac: bytes, vlan: int, ip: str) -> bytes:
    """Asks a host, by unicast, whether it still has its address: a probe as in RFC 5227 or a
    solicitation, from somebody without an address.
    """
    if ":" in ip:
        ethertype, payload = IPV6, solicitation(source, ip)
    else:
        target = socket.inet_pton(socket.AF_INET, ip)
        ethertype = ARP
        payload = ARP_HEAD[:6] + ARP_BODY.pack(1, source, bytes(4), mac, target)
    tag = struct.pack("!HH", TAGS[0], vlan) if vlan else b""
    return mac + source + tag + struct.pack("!H", ethertype) + payload


def solicitation(source: bytes, ip: str) -> bytes:
    """A neighbour solicitation from the link-local address that belongs to `source`."""
    target = socket.inet_pton(socket.AF_INET6, ip)
    identifier = bytes([source[0] ^ 2, *source[1:3], 0xFF, 0xFE, *source[3:]])
    own = bytes.fromhex("fe80000000000000") + identifier
    body = struct.pack("!BBHI", SOLICITATION, 0, 0, 0) + target + b"\x01\x01" + source
    pseudo = own + target + struct.pack("!II", len(body), ICMPV6)
    total = checksum(pseudo + body)
    body = body[:2] + total.to_bytes(2, "big") + body[4:]
    return struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, 255) + own + target + body


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of octets."""
    total = int(sum(struct.unpack(f"!{len(data) // 2}H", data)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
