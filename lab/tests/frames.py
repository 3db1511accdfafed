"""Frames made by hand for the tests."""

import struct

PORT = 51820
ALPHA, BETA = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
MACS = bytes.fromhex("020000000002020000000001")


def ethernet(ethertype: int, payload: bytes) -> bytes:
    """An Ethernet frame between the hosts."""
    return MACS + struct.pack("!H", ethertype) + payload


def ipv4(protocol: int, body: bytes, fragment: int = 0x4000) -> bytes:
    """A frame with an IPv4 packet, DF set unless said otherwise. Checksums are not looked at."""
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, fragment, 64, protocol, 0)
    return ethernet(0x0800, header + ALPHA + BETA + body)


def udp(
    payload: bytes, destination: int = PORT, fragment: int = 0x4000, source: int = PORT
) -> bytes:
    """A frame with a UDP datagram, from and to the fabric's port unless said otherwise."""
    header = struct.pack("!HHHH", source, destination, 8 + len(payload), 0)
    return ipv4(17, header + payload, fragment)


def message(session: int, type_: int, lane: int, length: int, flags: int = 0) -> bytes:
    """A message of `length` octets, with nothing of meaning behind the prefix."""
    return struct.pack("!IBBH", session, type_, flags, lane).ljust(length, b"\xa5")


def data(frame_octets: int = 60, lane: int = 0) -> bytes:
    """A frame with a data message that holds an inner frame."""
    return udp(message(0xC0FFEE01, 4, lane, 32 + frame_octets))
