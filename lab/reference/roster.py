"""The members of a fabric, as nodes and their authority say who they are and a Nucleus passes on.

Nothing is believed because of who passes it on: each record is verified here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import membership
from .links import Links
from .membership import Certificate, NotBelieved, Registration
from .peer import Peer
from .protobuf import DecodeError


@dataclass
class Member:
    """A node that has registered."""

    registration: Registration
    certificate: Certificate | None


class Roster:
    """Who is a member now. Peers of the configuration are, whatever anybody says."""

    def __init__(
        self,
        fabric: str,
        authority: bytes | None,
        links: Links,
        removed: Callable[[Peer], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`removed` is told of peers that are members no more. `clock` is in seconds since 1970."""
        self.fabric, self.authority, self.links = fabric, authority, links
        self.removed, self.clock = removed, clock
        self.configured = frozenset(links.peers)
        self.members: dict[bytes, Member] = {}
        # Of each key: the serial up to which its certificates are void.
        self.revoked: dict[bytes, int] = {}
        self.not_believed = 0

    def take(self, registrations: Sequence[bytes], revocations: Sequence[bytes]) -> list[Peer]:
        """Takes records, and makes peers of who is a member. Returns those of whom it is news where
        they are.
        """
        for octets in revocations:
            self.believe(self.take_revocation, octets)
        for octets in registrations:
            self.believe(self.take_registration, octets)
        return self.settle()

    def believe(self, take: Callable[[bytes], None], octets: bytes) -> None:
        """Takes a record, or counts it as none."""
        try:
            take(octets)
        except (NotBelieved, DecodeError):
            self.not_believed += 1

    def take_revocation(self, octets: bytes) -> None:
        """Some certificates of a key are void, for ever."""
        if self.authority is None:
            raise NotBelieved("there is no authority")
        key, serial = membership.read_revocation(octets, self.fabric, self.authority)
        self.revoked[key] = max(serial, self.revoked.get(key, 0))

    def take_registration(self, octets: bytes) -> None:
        """Where a node is. Of two the one with the greater sequence holds."""
        registration = membership.read_registration(octets, self.fabric)
        known = self.members.get(registration.public_key)
        if known is not None and known.registration.sequence >= registration.sequence:
            return
        certificate = None
        if self.authority is not None and registration.certificate is not None:
            certificate = membership.read_certificate(
                registration.certificate, self.fabric, self.authority
            )
            if certificate.public_key != registration.public_key:
                raise NotBelieved("somebody else's certificate")
        self.members[registration.public_key] = Member(registration, certificate)

    def is_member(self, key: bytes) -> bool:
        """Whether a node is certified now."""
        member = self.members.get(key)
        if member is None or member.certificate is None or key == self.links.public:
            return False
        serial = member.certificate.serial
        return serial > self.revoked.get(key, -1) and member.certificate.valid(self.clock())

    def settle(self) -> list[Peer]:
        """Makes the links' peers what the members are now."""
        news = []
        for key, known in list(self.links.peers.items()):
            if key not in self.configured and not self.is_member(key):
                del self.links.peers[key]
                self.removed(known)
        peer: Peer | None
        for key, member in self.members.items():
            certificate = member.certificate
            # Who has not registered again is still who it is, but nobody knows where.
            expired = self.clock() > member.registration.expires
            registration = None if expired else member.registration
            peer = self.links.peers.get(key)
            if peer is None and certificate is not None and self.is_member(key):
                peer = self.links.peers[key] = Peer(certificate.name, key)
            if peer is None:
                continue
            candidates = registration.endpoints if registration else ()
            if candidates and candidates != peer.candidates and not peer.sessions:
                news.append(peer)
            peer.candidates = candidates
            if key not in self.configured and certificate is not None:
                peer.grants = certificate.grants
        return news
