"""Sessions with all peers: what comes by UDP goes in, what is to be sent comes out.

Nothing here opens a socket or reads a clock. `now` is in seconds and never runs back; `wall` gives
the nanoseconds since 1970. What is to be sent is in `outbox`, for who calls to take.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from . import chacha20poly1305 as aead
from . import cookies, messages
from .cookies import Endpoint
from .messages import Offer
from .noise import Handshake, HandshakeError
from .peer import (
    GIVE_UP_SECONDS,
    KEEPALIVE_SECONDS,
    RENEW_SECONDS,
    RETRY_JITTER_SECONDS,
    RETRY_SECONDS,
    SESSIONS,
    STAGED_FRAMES,
    UNANSWERED_SECONDS,
    Peer,
    Pending,
)
from .session import Dropped, Session
from .x25519 import public_key

ANSWER_SECONDS = 0.02
AHEAD_NANOSECONDS = 24 * 3600 * messages.NANOSECONDS
SOURCE_RATE = 20.0
SOURCE_BURST = 5.0
SOURCES_MOST = 16384
# What a packet has beside the frame: IP, UDP, and the message's header.
OUTER_OCTETS = {4: 20 + 8 + messages.HEADER_OCTETS, 6: 40 + 8 + messages.HEADER_OCTETS}


class Upper(Protocol):
    """Who takes what verified."""

    def on_session(self, peer: Peer, now: float) -> None: ...

    def on_frame(self, peer: Peer, frame: bytes, now: float) -> None: ...

    def on_record(self, peer: Peer, record: bytes, now: float) -> None: ...


class Links:
    """All that a node has with its peers."""

    def __init__(
        self,
        fabric: str,
        private: bytes,
        peers: Iterable[Peer],
        offer: Offer,
        *,
        renew_seconds: float = RENEW_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
        under_load: bool = False,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self.prologue = messages.prologue(fabric)
        self.private, self.public = private, public_key(private)
        self.peers = {peer.public_key: peer for peer in peers}
        self.offer, self.wall = offer, wall
        self.renew_seconds, self.retry_seconds = renew_seconds, retry_seconds
        self.under_load = under_load
        self.jar = cookies.Jar(self.public)
        self.upper: Upper | None = None
        self.outbox: list[tuple[bytes, Endpoint]] = []
        self.drops: Counter[str] = Counter()
        self.last_timestamp = 0
        # What remains of the allowance of those that sent a good mac2: (allowance, when).
        self.sources: dict[str, tuple[float, float]] = {}
        self.underlay_mtu = 1500

    # What is to be sent.

    def send_frame(self, peer: Peer, frame: bytes, now: float) -> None:
        """Sends a frame in the session, or stages it and begins a handshake."""
        if not peer.sessions and peer.endpoint is None and not peer.candidates:
            self.drops["no_endpoint"] += 1
            return
        session = peer.current(now)
        if session is None:
            if len(peer.staged) == STAGED_FRAMES:
                peer.staged.popleft()
                self.drops["staged_overflow"] += 1
            peer.staged.append(frame)
            self.begin(peer, now)
        elif len(frame) > self.frame_limit(peer, session):
            self.drops["inner_too_big"] += 1
        else:
            peer.sent += 1
            self.send_in(peer, session, messages.DATA, frame, now)

    def frame_limit(self, peer: Peer, session: Session) -> int:
        """The longest frame for a peer: what it accepts, and the underlay carries in one piece."""
        family = 6 if peer.endpoint and ":" in peer.endpoint[0] else 4
        return min(session.offer.largest_frame, self.underlay_mtu - OUTER_OCTETS[family])

    def send_record(self, peer: Peer, record: bytes, now: float) -> bool:
        """Sends a control record if there is a session; else it is lost, and False is returned."""
        session = peer.current(now)
        if session is not None:
            self.send_in(peer, session, messages.CONTROL, record, now)
        return session is not None

    def send_in(self, peer: Peer, session: Session, type_: int, payload: bytes, now: float) -> None:
        """Seals a message and sends it to where the peer is."""
        if peer.endpoint is None:
            self.drops["no_endpoint"] += 1
            return
        self.outbox.append((session.seal(type_, payload), peer.endpoint))
        peer.note_sent(now, data=type_ == messages.DATA and bool(payload))
        # What nodes tell each other now and then keeps no session alive.
        if type_ == messages.DATA and peer.wants_renewal(now, True, self.renew_seconds):
            self.begin(peer, now)

    def begin(self, peer: Peer, now: float) -> None:
        """Begins a handshake, unless one is under way or nobody knows where the peer is."""
        if peer.pending is None and (peer.endpoint or peer.candidates):
            self.initiate(peer, now, began_at=now)

    def initiate(self, peer: Peer, now: float, began_at: float) -> None:
        """Sends an initiation. An earlier one is forgotten with its ephemeral key."""
        try:
            noise = Handshake(
                initiator=True,
                prologue=self.prologue,
                private=self.private,
                remote=peer.public_key,
                psk=peer.psk,
            )
            index = self.new_index()
            offer = self.offer.encoded(messages.FIRST_PAYLOAD_OCTETS - 12)
            payload = self.timestamp() + offer
            body = messages.prefix(messages.INITIATION) + index.to_bytes(4, "big")
            body += noise.write_first(payload)
        except HandshakeError:
            # The peer's key is a point of small order: there is nobody there.
            self.drops["handshake_invalid"] += 1
            return
        message = cookies.with_macs(body, peer.public_key, peer.fresh_cookie(now))
        again = now + self.retry_seconds + random.uniform(0, RETRY_JITTER_SECONDS)
        peer.pending = Pending(index, noise, message[136:152], began_at, again)
        for endpoint in dict.fromkeys((peer.endpoint, *peer.candidates)):
            if endpoint is not None:
                self.outbox.append((message, endpoint))

    def timestamp(self) -> bytes:
        """One that is newer than all before it."""
        self.last_timestamp = max(self.wall(), self.last_timestamp + 1)
        return messages.timestamp_of(self.last_timestamp)

    def new_index(self) -> int:
        """A random index that no session of this node has."""
        while True:
            index = int.from_bytes(os.urandom(4), "big")
            if index and self.find(index) is None and self.find_pending(index) is None:
                return index

    # What came.

    def datagram(self, message: bytes, source: Endpoint, now: float) -> None:
        """Takes what came by UDP. What is wrong with it is counted, and never answered."""
        try:
            if len(message) < messages.PREFIX.size:
                raise Dropped("message_malformed")
            session_id, type_, flags, version = messages.PREFIX.unpack_from(message)
            if session_id:
                self.in_session(message, session_id, type_, flags, source, now)
            elif flags or version != messages.VERSION:
                raise Dropped("message_version")
            elif len(message) != messages.LENGTHS.get(type_):
                raise Dropped("message_malformed")
            elif type_ == messages.COOKIE_REPLY:
                self.cookie_reply(message, now)
            elif type_ in (messages.INITIATION, messages.RESPONSE):
                self.handshake(message, type_, source, now)
            else:
                raise Dropped("message_malformed")
        except Dropped as dropped:
            self.drops[str(dropped.args[0])] += 1
        except HandshakeError:
            self.drops["handshake_invalid"] += 1

    def in_session(
        self, message: bytes, session_id: int, type_: int, flags: int, source: Endpoint, now: float
    ) -> None:
        """A message of types 4 and 5."""
        if len(message) < messages.HEADER_OCTETS:
            raise Dropped("header_too_short")
        if type_ not in (messages.DATA, messages.CONTROL):
            raise Dropped("header_bad_type")
        if flags:
            raise Dropped("header_bad_flags")
        found = self.find(session_id)
        if found is None:
            raise Dropped("unknown_session")
        peer, session = found
        payload, newest = session.unseal(message, now)
        if session is peer.unconfirmed:
            peer.unconfirmed = None
            self.use(peer, session, now)
            if newest:
                peer.endpoint = source
            self.became_usable(peer, now)
        elif newest and peer.sessions and session is peer.sessions[0]:
            peer.endpoint = source
        data = type_ == messages.DATA and bool(payload)
        peer.note_received(now, data)
        if data and peer.wants_renewal(now, False, self.renew_seconds):
            self.begin(peer, now)
        if type_ == messages.CONTROL:
            if self.upper is not None:
                self.upper.on_record(peer, payload, now)
        elif payload:
            self.frame(peer, payload, now)

    def frame(self, peer: Peer, frame: bytes, now: float) -> None:
        """An inner frame that verified."""
        if len(frame) < messages.ETHERNET_OCTETS:
            raise Dropped("inner_too_short")
        if len(frame) > self.offer.largest_frame:
            raise Dropped("inner_too_big")
        peer.received += 1
        if self.upper is not None:
            self.upper.on_frame(peer, frame, now)

    def handshake(self, message: bytes, type_: int, source: Endpoint, now: float) -> None:
        """An initiation or a response: mac1, cookies under load, then the costly part."""
        if not cookies.good_mac1(message, self.public):
            raise Dropped("handshake_bad_mac")
        if self.under_load:
            if not self.jar.good_mac2(message, source, now):
                self.outbox.append((self.jar.reply(message, source, now), source))
                raise Dropped("handshake_no_cookie")
            self.limit(source, now)
        if type_ == messages.INITIATION:
            self.initiation(message, source, now)
        else:
            self.response(message, source, now)

    def limit(self, source: Endpoint, now: float) -> None:
        """A source that is proven has SOURCE_RATE a second, SOURCE_BURST at once."""
        host = source[0]
        allowance, since = self.sources.get(host, (SOURCE_BURST, now))
        allowance = min(SOURCE_BURST, allowance + (now - since) * SOURCE_RATE)
        if allowance < 1 or (host not in self.sources and len(self.sources) >= SOURCES_MOST):
            raise Dropped("handshake_rate_limited")
        self.sources[host] = (allowance - 1, now)

    def initiation(self, message: bytes, source: Endpoint, now: float) -> None:
        """Answers an initiation of a peer, once."""
        noise = Handshake(initiator=False, prologue=self.prologue, private=self.private)
        payload = noise.read_first(message[12:136])
        peer = self.peers.get(noise.remote or b"")
        if peer is None:
            raise Dropped("handshake_unknown_peer")
        timestamp, offer = payload[:12], messages.parse_offer(payload[12:])
        ahead = messages.nanoseconds_of(timestamp) - self.wall()
        if timestamp <= peer.timestamp or ahead > AHEAD_NANOSECONDS:
            raise Dropped("handshake_replayed")
        if now - peer.answered_at < ANSWER_SECONDS:
            raise Dropped("handshake_rate_limited")
        send_index = int.from_bytes(message[8:12], "big")
        if offer is None or not send_index:
            raise Dropped("handshake_bad_payload")
        peer.timestamp, peer.answered_at = timestamp, now
        noise.psk = peer.psk
        index = self.new_index()
        body = messages.prefix(messages.RESPONSE) + index.to_bytes(4, "big") + message[8:12]
        body += noise.write_second(self.offer.encoded(messages.SECOND_PAYLOAD_OCTETS))
        receive_key, send_key = noise.split()
        peer.unconfirmed = Session(
            index, send_index, receive_key, send_key, False, offer, now, usable=False
        )
        # The answer goes where the question came from; that moves nothing.
        answer = cookies.with_macs(body, peer.public_key, peer.fresh_cookie(now))
        peer.answer_mac1 = answer[84:100]
        self.outbox.append((answer, source))

    def response(self, message: bytes, source: Endpoint, now: float) -> None:
        """The answer to an initiation of this node."""
        peer = self.find_pending(int.from_bytes(message[12:16], "big"))
        if peer is None or peer.pending is None:
            raise Dropped("handshake_unexpected")
        noise, payload = peer.pending.noise.read_second(message[16:84])
        offer, send_index = messages.parse_offer(payload), int.from_bytes(message[8:12], "big")
        if offer is None or not send_index:
            raise Dropped("handshake_bad_payload")
        send_key, receive_key = noise.split()
        index = peer.pending.index
        peer.pending = None
        session = Session(index, send_index, receive_key, send_key, True, offer, now, usable=True)
        if not peer.sessions or peer.endpoint is None or source in peer.candidates:
            # It is at one of the places where it was looked for.
            peer.endpoint = source
        self.use(peer, session, now)
        if not peer.staged:
            self.send_in(peer, session, messages.DATA, b"", now)
        self.became_usable(peer, now)

    def cookie_reply(self, message: bytes, now: float) -> None:
        """A cookie for the next attempt, which comes when it would have come anyhow."""
        index = int.from_bytes(message[8:12], "big")
        for peer in self.peers.values():
            if peer.pending is not None and peer.pending.index == index:
                mac1 = peer.pending.mac1
                break
            if peer.unconfirmed is not None and peer.unconfirmed.receive_index == index:
                mac1 = peer.answer_mac1
                break
        else:
            raise Dropped("handshake_unexpected")
        try:
            cookie = cookies.open_reply(message, peer.public_key, mac1)
        except aead.TagError as error:
            raise Dropped("handshake_invalid") from error
        peer.cookie, peer.cookie_at = cookie, now

    # Sessions.

    def use(self, peer: Peer, session: Session, now: float) -> None:
        """From now on the peer is spoken to in this session."""
        session.usable = True
        peer.sessions = [session, *peer.sessions][:SESSIONS]
        peer.sessions_made += 1
        peer.waits_since = None

    def became_usable(self, peer: Peer, now: float) -> None:
        """Sends what waited for a session."""
        while peer.staged:
            self.send_frame(peer, peer.staged.popleft(), now)
        if self.upper is not None:
            self.upper.on_session(peer, now)

    def find(self, index: int) -> tuple[Peer, Session] | None:
        """The session with a receive index. A slow search: this node has few peers."""
        for peer in self.peers.values():
            for session in (*peer.sessions, peer.unconfirmed):
                if session is not None and session.receive_index == index:
                    return peer, session
        return None

    def find_pending(self, index: int) -> Peer | None:
        """The peer with whom a handshake with this index is under way."""
        for peer in self.peers.values():
            if peer.pending is not None and peer.pending.index == index:
                return peer
        return None

    # Timers.

    def tick(self, now: float) -> None:
        """Does what is due."""
        for peer in self.peers.values():
            self.tick_handshake(peer, now)
            self.tick_session(peer, now)
        for host, (_, since) in list(self.sources.items()):
            if now - since > 1:
                del self.sources[host]

    def tick_handshake(self, peer: Peer, now: float) -> None:
        """Asks again, or gives up."""
        pending = peer.pending
        if pending is None or now < pending.next_at:
            return
        if now - pending.began_at >= GIVE_UP_SECONDS:
            peer.pending = None
            self.drops["staged_expired"] += len(peer.staged)
            peer.staged.clear()
        else:
            self.initiate(peer, now, pending.began_at)

    def tick_session(self, peer: Peer, now: float) -> None:
        """Keepalives, lost sessions, and keys that nobody needs any more."""
        session = peer.current(now)
        if session is not None:
            if peer.owes_since is not None and now - peer.owes_since >= KEEPALIVE_SECONDS:
                self.send_in(peer, session, messages.DATA, b"", now)
            if peer.waits_since is not None and now - peer.waits_since >= UNANSWERED_SECONDS:
                peer.waits_since = None
                self.begin(peer, now)
        # Neither side takes or sends anything in a session of that age, so its keys are erased
        # long before they have to be, after 540 s.
        peer.sessions = [each for each in peer.sessions if each.alive(now)]
        if peer.unconfirmed is not None and not peer.unconfirmed.alive(now):
            peer.unconfirmed = None
