"""A node at a Nucleus: registers, learns who else is there, and asks to be called."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as made_of

from . import chacha20poly1305 as aead
from . import membership, messages
from .cookies import Endpoint
from .links import Links
from .membership import CONFIGURED, LOCAL, REFLEXIVE
from .noise import Handshake, HandshakeError, nonce_of
from .protobuf import DecodeError, Message, field
from .roster import Roster

PROLOGUE = "OmniNervous nucleus v1 "
ANSWER_OCTETS = 48
HELLO, REGISTER, CALL, PING = 1, 2, 4, 5
WELCOME, RESULT, CHANGES, CALLED = 1, 2, 3, 4
PING_SECONDS = 10.0
SILENCE_SECONDS = 30.0
RETRY_SECONDS = 5.0
REFLECTION_SECONDS = 25.0
CALL_SECONDS = 5.0
LIFETIME_SECONDS = 24 * 3600
REGISTER_AGAIN_SECONDS = 3600.0
REFUSED_AGAIN_SECONDS = 30.0


class Channel:
    """The sealed stream: Noise_IK, each message behind two octets of length."""

    def __init__(self, fabric: str, private: bytes, remote: bytes) -> None:
        self.noise = Handshake(
            initiator=True,
            prologue=(PROLOGUE + fabric).encode(),
            private=private,
            remote=remote,
            with_psk=False,
        )
        self.keys: tuple[bytes, bytes] | None = None
        self.sent, self.received = 0, 0
        self.buffer = b""

    def first(self) -> bytes:
        """What begins it."""
        return framed(self.noise.write_first(b""))

    def seal(self, plain: bytes) -> bytes:
        """A message to be sent."""
        assert self.keys is not None
        self.sent += 1
        return framed(aead.seal(self.keys[0], nonce_of(self.sent - 1), b"", plain))

    def feed(self, octets: bytes) -> list[bytes]:
        """The messages that have come. The handshake's is an empty one. Raises HandshakeError or
        aead.TagError: then the stream is over.
        """
        self.buffer += octets
        found = []
        while len(self.buffer) >= 2:
            length = int.from_bytes(self.buffer[:2], "big")
            if len(self.buffer) < 2 + length:
                break
            message, self.buffer = self.buffer[2 : 2 + length], self.buffer[2 + length :]
            if self.keys is None:
                if length != ANSWER_OCTETS:
                    raise HandshakeError("no answer of a Nucleus")
                self.noise, plain = self.noise.read_second(message)
                self.keys = self.noise.split()
            else:
                plain = aead.unseal(self.keys[1], nonce_of(self.received), b"", message)
                self.received += 1
            found.append(plain)
        return found


def framed(message: bytes) -> bytes:
    """A message behind its length."""
    return len(message).to_bytes(2, "big") + message


def reflection_probe(token: bytes) -> bytes:
    """What a Nucleus answers with where it came from."""
    return (messages.prefix(messages.REFLECTION_PROBE) + token).ljust(48, b"\0")


def reflected(answer: bytes, token: bytes) -> Endpoint | None:
    """What an answer says, None if it is not the answer to this token."""
    family, port, address = answer[24], int.from_bytes(answer[26:28], "big"), answer[28:44]
    if answer[8:24] != token or family not in (4, 6) or not port:
        return None
    return str(ipaddress.ip_address(address[:4] if family == 4 else address)), port


@dataclass
class Nucleus:
    """One server: where it is, and what it said."""

    endpoint: Endpoint
    public_key: bytes
    opened: socket.socket | None = None
    channel: Channel | None = None
    outgoing: bytearray = made_of(default_factory=bytearray)
    next_try_at: float = 0.0
    heard_at: float = 0.0
    ping_at: float = 0.0
    probe_at: float = 0.0
    register_at: float | None = None
    token: bytes = b""
    incarnation: bytes = b""
    revision: int = 0
    seen_at: Endpoint | None = None
    registered: bool = False
    numbers: int = 0


class Rendezvous:
    """All that a node has with its Nuclei. What watches the sockets is given from outside."""

    def __init__(
        self,
        links: Links,
        roster: Roster,
        nuclei: list[Nucleus],
        *,
        fabric: str,
        name: str,
        port: int,
        endpoints: tuple[Endpoint, ...],
        vlans: frozenset[int],
        certificate: bytes | None,
        watch: Callable[[Nucleus], None],
        unwatch: Callable[[Nucleus], None],
        log: Callable[[str], None],
    ) -> None:
        self.links, self.roster, self.nuclei = links, roster, nuclei
        self.fabric, self.name, self.port = fabric, name, port
        self.endpoints, self.vlans, self.certificate = endpoints, vlans, certificate
        self.watch, self.unwatch, self.log = watch, unwatch, log
        self.called_at: dict[bytes, float] = {}
        self.settled_at = 0.0

    # The connection.

    def connect(self, nucleus: Nucleus, now: float) -> None:
        """Opens the stream; whether there is anybody shows later."""
        family = socket.AF_INET6 if ":" in nucleus.endpoint[0] else socket.AF_INET
        nucleus.opened = socket.socket(family, socket.SOCK_STREAM)
        nucleus.opened.setblocking(False)
        nucleus.opened.connect_ex(nucleus.endpoint)
        nucleus.channel = Channel(self.fabric, self.links.private, nucleus.public_key)
        nucleus.outgoing = bytearray(nucleus.channel.first())
        nucleus.heard_at, nucleus.register_at = now, None
        nucleus.token, nucleus.registered = b"", False
        self.watch(nucleus)

    def close(self, nucleus: Nucleus, why: str, now: float) -> None:
        """Ends the stream; another one is tried later."""
        self.log(f"nucleus {nucleus.endpoint[0]}: {why}")
        if nucleus.opened is not None:
            self.unwatch(nucleus)
            nucleus.opened.close()
        nucleus.opened, nucleus.channel = None, None
        nucleus.next_try_at = now + RETRY_SECONDS

    def readable(self, nucleus: Nucleus, now: float) -> None:
        """Something came, or the stream ended."""
        assert nucleus.opened is not None and nucleus.channel is not None
        try:
            octets = nucleus.opened.recv(1 << 16)
            if not octets:
                self.close(nucleus, "closed the stream", now)
                return
            nucleus.heard_at = now
            for plain in nucleus.channel.feed(octets):
                self.said(nucleus, plain, now)
        except BlockingIOError:
            return
        except (OSError, HandshakeError, aead.TagError, DecodeError) as error:
            self.close(nucleus, str(error), now)

    def say(self, nucleus: Nucleus, number: int, body: bytes) -> None:
        """A FromNode with one of its kinds."""
        if nucleus.channel is not None and nucleus.channel.keys is not None:
            nucleus.outgoing += nucleus.channel.seal(field(number, body, always=True))

    # What a Nucleus says.

    def said(self, nucleus: Nucleus, plain: bytes, now: float) -> None:
        """The end of the handshake, or a FromNucleus."""
        if not plain:
            known = field(1, 1) + field(2, nucleus.incarnation) + field(3, nucleus.revision)
            self.say(nucleus, HELLO, known)
            nucleus.register_at = now
            return
        message = Message(plain)
        if message.has(WELCOME):
            nucleus.token = Message(message.octets(WELCOME)).octets(2)
            nucleus.probe_at = now
        elif message.has(RESULT):
            self.result(nucleus, Message(message.octets(RESULT)), now)
        elif message.has(CHANGES):
            self.changes(nucleus, Message(message.octets(CHANGES)), now)
        elif message.has(CALLED):
            peer = self.links.peers.get(Message(message.octets(CALLED)).octets(1))
            if peer is not None:
                self.links.begin(peer, now)

    def result(self, nucleus: Nucleus, result: Message, now: float) -> None:
        """The answer to a registration."""
        if result.number(2):
            why = result.octets(3).decode(errors="replace")
            self.log(f"nucleus {nucleus.endpoint[0]}: refused: {why}")
            nucleus.register_at = now + REFUSED_AGAIN_SECONDS
        elif not nucleus.registered:
            nucleus.registered = True
            self.log(f"nucleus {nucleus.endpoint[0]}: registered")

    def changes(self, nucleus: Nucleus, changes: Message, now: float) -> None:
        """Records that this node did not know. Bindings are left to the nodes themselves."""
        for peer in self.roster.take(changes.many(3), changes.many(5)):
            self.links.begin(peer, now)
        nucleus.incarnation, nucleus.revision = changes.octets(1), changes.number(2)

    def reflection(self, answer: bytes, now: float) -> None:
        """A Nucleus says where this node's messages come from."""
        for nucleus in self.nuclei:
            seen = reflected(answer, nucleus.token) if nucleus.token else None
            if seen is not None and seen != nucleus.seen_at:
                nucleus.seen_at, nucleus.register_at = seen, now

    # What is due.

    def tick(self, now: float) -> None:
        """Connects, registers, asks, calls."""
        for nucleus in self.nuclei:
            if nucleus.opened is None:
                if now >= nucleus.next_try_at:
                    self.connect(nucleus, now)
            elif now - nucleus.heard_at >= SILENCE_SECONDS:
                self.close(nucleus, "is silent", now)
            else:
                self.tick_open(nucleus, now)
        if now - self.settled_at >= 1:
            # Certificates and registrations expire.
            self.settled_at = now
            self.roster.settle()
            self.call(now)

    def tick_open(self, nucleus: Nucleus, now: float) -> None:
        """Keeps a stream going."""
        assert nucleus.opened is not None and nucleus.channel is not None
        if nucleus.channel.keys is not None:
            if nucleus.register_at is not None and now >= nucleus.register_at:
                self.register(nucleus, now)
            if now >= nucleus.ping_at:
                nucleus.ping_at = now + PING_SECONDS
                self.say(nucleus, PING, b"")
        if nucleus.token and now >= nucleus.probe_at:
            nucleus.probe_at = now + REFLECTION_SECONDS
            self.links.outbox.append((reflection_probe(nucleus.token), nucleus.endpoint))
        try:
            while nucleus.outgoing:
                del nucleus.outgoing[: nucleus.opened.send(nucleus.outgoing)]
        except BlockingIOError:
            return
        except OSError as error:
            self.close(nucleus, str(error), now)

    def register(self, nucleus: Nucleus, now: float) -> None:
        """Says where this node is."""
        assert nucleus.opened is not None
        nucleus.register_at = now + REGISTER_AGAIN_SECONDS
        local = str(nucleus.opened.getsockname()[0])
        places = [(endpoint, CONFIGURED) for endpoint in self.endpoints]
        places.append(((local, self.port), LOCAL))
        seen = {each.seen_at for each in self.nuclei if each.seen_at is not None}
        places += [(endpoint, REFLEXIVE) for endpoint in sorted(seen)]
        known: dict[Endpoint, int] = {}
        for endpoint, kind in places:
            known.setdefault(endpoint, kind)
        registration = membership.write_registration(
            self.fabric,
            self.links.private,
            self.links.public,
            sequence=time.time_ns() // 1_000_000,
            endpoints=list(known.items()),
            lanes=self.links.offer.lanes,
            largest_frame=self.links.offer.largest_frame,
            vlans=ranges(self.vlans),
            certificate=self.certificate,
            expires=int(time.time()) + LIFETIME_SECONDS,
            name=self.name,
        )
        nucleus.numbers += 1
        self.say(nucleus, REGISTER, field(1, nucleus.numbers) + field(2, registration))

    def call(self, now: float) -> None:
        """Asks every Nucleus to call those that did not answer the first initiation."""
        for key, peer in self.links.peers.items():
            waits = peer.pending is not None and now - peer.pending.began_at >= CALL_SECONDS
            if waits and now - self.called_at.get(key, float("-inf")) >= CALL_SECONDS:
                self.called_at[key] = now
                for nucleus in self.nuclei:
                    self.say(nucleus, CALL, field(1, key))


def ranges(vlans: frozenset[int]) -> list[tuple[int, int]] | None:
    """A set as ranges, None for all there are."""
    found: list[tuple[int, int]] = []
    for vlan in sorted(vlans):
        if found and found[-1][1] == vlan - 1:
            found[-1] = (found[-1][0], vlan)
        else:
            found.append((vlan, vlan))
    return None if found == [(0, 4094)] else found
