"""Who is a member: certificates, revocations and registrations (docs/nucleus-records.proto)."""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass

from . import ed25519
from .cookies import Endpoint
from .protobuf import Message, field
from .records import VLAN_RESERVED
from .x25519 import KEY_OCTETS

CERTIFICATE, REVOCATION, REGISTRATION = "certificate", "revocation", "registration"
RECORD_OCTETS = {CERTIFICATE: 20480, REVOCATION: 2048, REGISTRATION: 32768}
ENDPOINTS_MOST = 16
CONFIGURED, LOCAL, REFLEXIVE = 1, 2, 3
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
ARMOUR = re.compile(
    "-----BEGIN OMNI CERTIFICATE-----\n(.*)\n-----END OMNI CERTIFICATE-----\n?", re.DOTALL
)


class NotBelieved(Exception):
    """A record is malformed, does not verify, or is not valid now. The text says which."""


@dataclass(frozen=True)
class Grants:
    """What may be behind a node; None is anything."""

    vlans: tuple[tuple[int, int], ...] | None = None
    macs: frozenset[bytes] | None = None
    prefixes: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] | None = None

    def mac(self, vlan: int, mac: bytes) -> bool:
        """Whether a MAC address may be."""
        if self.vlans is not None and not any(first <= vlan <= last for first, last in self.vlans):
            return False
        return self.macs is None or mac in self.macs

    def ip(self, ip: str) -> bool:
        """Whether an IP address may be."""
        if self.prefixes is None:
            return True
        address = ipaddress.ip_address(ip)
        return any(address in prefix for prefix in self.prefixes)


@dataclass(frozen=True)
class Certificate:
    """What the authority says of a node."""

    public_key: bytes
    name: str
    serial: int
    not_before: int
    not_after: int
    grants: Grants

    def valid(self, seconds: float) -> bool:
        """Whether it holds at a time since 1970."""
        return self.not_before <= seconds and (not self.not_after or seconds < self.not_after + 1)


@dataclass(frozen=True)
class Registration:
    """What a node says of itself."""

    public_key: bytes
    sequence: int
    endpoints: tuple[Endpoint, ...]
    certificate: bytes | None
    expires: int
    name: str


def signed_octets(fabric: str, kind: str, body: bytes) -> bytes:
    """What a signature is over."""
    name = fabric.encode()
    return f"OmniNervous {kind} v1".encode() + b"\0" + bytes([len(name)]) + name + body


def unsigned(octets: bytes, kind: str) -> tuple[bytes, bytes]:
    """The body and the signature of a Signed."""
    if len(octets) > RECORD_OCTETS[kind]:
        raise NotBelieved(f"the {kind} is too long")
    message = Message(octets)
    return message.octets(1), message.octets(2)


def key_of(message: Message) -> bytes:
    """The key that a record is about."""
    key = message.octets(1)
    if len(key) != KEY_OCTETS or key == bytes(KEY_OCTETS):
        raise NotBelieved("not a key")
    return key


def name_of(octets: bytes) -> str:
    """A node's name."""
    name = octets.decode("ascii", "replace")
    if not NAME.fullmatch(name):
        raise NotBelieved("not a name")
    return name


def read_certificate(octets: bytes, fabric: str, authority: bytes) -> Certificate:
    """A certificate of the authority. Raises NotBelieved or DecodeError."""
    body, signature = unsigned(octets, CERTIFICATE)
    if not ed25519.verify(authority, signed_octets(fabric, CERTIFICATE, body), signature):
        raise NotBelieved("the certificate is not the authority's")
    message = Message(body)
    grants = Grants(
        vlans=vlans_of(message.octets(6)) if message.has(6) else None,
        macs=frozenset(Message(message.octets(7)).many(1)) if message.has(7) else None,
        prefixes=prefixes_of(message.octets(8)) if message.has(8) else None,
    )
    return Certificate(
        key_of(message),
        name_of(message.octets(2)),
        message.number(3),
        message.number(4),
        message.number(5),
        grants,
    )


def vlans_of(octets: bytes) -> tuple[tuple[int, int], ...]:
    """A VlanList."""
    ranges = [Message(each) for each in Message(octets).many(1)]
    found = tuple((each.number(1), each.number(2)) for each in ranges)
    if not all(first <= last < VLAN_RESERVED for first, last in found):
        raise NotBelieved("not a range of VLANs")
    return found


def prefixes_of(octets: bytes) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """A PrefixList."""
    found = []
    for each in map(Message, Message(octets).many(1)):
        try:
            address = ipaddress.ip_address(each.octets(1))
            found.append(ipaddress.ip_network(f"{address}/{each.number(2)}"))
        except ValueError as error:
            raise NotBelieved(str(error)) from error
    return tuple(found)


def read_revocation(octets: bytes, fabric: str, authority: bytes) -> tuple[bytes, int]:
    """Whose certificates are void, and up to which serial."""
    body, signature = unsigned(octets, REVOCATION)
    if not ed25519.verify(authority, signed_octets(fabric, REVOCATION, body), signature):
        raise NotBelieved("the revocation is not the authority's")
    message = Message(body)
    return key_of(message), message.number(2)


def read_registration(octets: bytes, fabric: str) -> Registration:
    """A node's own registration."""
    body, signature = unsigned(octets, REGISTRATION)
    message = Message(body)
    key = key_of(message)
    if not ed25519.x_verify(key, signed_octets(fabric, REGISTRATION, body), signature):
        raise NotBelieved("the registration is not the node's")
    certificate = message.octets(7) if message.has(7) else None
    name = name_of(message.octets(9)) if message.has(9) else key.hex()[:8]
    endpoints = tuple(filter(None, map(endpoint_of, message.many(3)[:ENDPOINTS_MOST])))
    return Registration(key, message.number(2), endpoints, certificate, message.number(8), name)


def endpoint_of(octets: bytes) -> Endpoint | None:
    """An Endpoint of a kind that is known."""
    message = Message(octets)
    ip, port, kind = message.octets(1), message.number(2), message.number(3)
    if kind not in (CONFIGURED, LOCAL, REFLEXIVE) or not 1 <= port <= 65535:
        return None
    try:
        return str(ipaddress.ip_address(ip)), port
    except ValueError:
        return None


def write_registration(
    fabric: str,
    private: bytes,
    public: bytes,
    *,
    sequence: int,
    endpoints: list[tuple[Endpoint, int]],
    lanes: int,
    largest_frame: int,
    vlans: list[tuple[int, int]] | None,
    certificate: bytes | None,
    expires: int,
    name: str,
) -> bytes:
    """A Signed with this node's registration."""
    body = field(1, public) + field(2, sequence)
    for (host, port), kind in endpoints[:ENDPOINTS_MOST]:
        packed = ipaddress.ip_address(host).packed
        body += field(3, field(1, packed) + field(2, port) + field(3, kind))
    body += field(4, lanes) + field(5, largest_frame)
    if vlans is not None:
        ranges = (field(1, field(1, first) + field(2, last), True) for first, last in vlans)
        body += field(6, b"".join(ranges), True)
    if certificate is not None:
        body += field(7, certificate, True)
    body += field(8, expires) + field(9, name)
    signature = ed25519.x_sign(private, signed_octets(fabric, REGISTRATION, body))
    return field(1, body) + field(2, signature)


def dearmoured(text: str) -> bytes:
    """The Signed in a certificate's file."""
    found = ARMOUR.fullmatch(text)
    if found is None:
        raise ValueError("no certificate: omni authority enroll makes one")
    return base64.b64decode(found[1])
