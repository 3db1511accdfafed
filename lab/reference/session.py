"""A session: one pair of transport keys, its counters and its replay windows."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from . import chacha20poly1305 as aead
from . import messages

WINDOW = 8192
REJECT_SECONDS = 180.0
RENEW_MESSAGES = 1 << 60
REJECT_NONCE = (1 << 64) - (1 << 13) - 1
NONCE = struct.Struct("!Q")


class Dropped(Exception):
    """A message or frame that is discarded; `args[0]` is the reason of docs/drops.md."""


@dataclass
class ReplayWindow:
    """Which nonces of a lane were accepted. Bit n of `seen` is the nonce `newest - n`."""

    newest: int = -1
    seen: int = 0

    def check(self, nonce: int) -> None:
        """Raises Dropped for a nonce that must not be accepted; changes nothing."""
        if nonce > self.newest:
            return
        if nonce <= self.newest - WINDOW:
            raise Dropped("nonce_too_old")
        if self.seen >> (self.newest - nonce) & 1:
            raise Dropped("nonce_replayed")

    def commit(self, nonce: int) -> None:
        """Notes a nonce whose message verified."""
        if nonce > self.newest:
            ahead = min(nonce - self.newest, WINDOW)
            self.seen = (self.seen << ahead | 1) & ((1 << WINDOW) - 1)
            self.newest = nonce
        else:
            self.seen |= 1 << (self.newest - nonce)


@dataclass
class Session:
    """Of two nodes; `receive_index` is ours, and what the peer's messages begin with."""

    receive_index: int
    send_index: int
    receive_key: bytes
    send_key: bytes
    initiator: bool
    offer: messages.Offer
    made_at: float
    # Whether it may be sent in: a responder waits for the first message in it.
    usable: bool
    sent: int = 0
    windows: dict[int, ReplayWindow] = field(default_factory=dict)

    def age(self, now: float) -> float:
        """Seconds since the handshake."""
        return now - self.made_at

    def alive(self, now: float) -> bool:
        """Whether it may be used at all."""
        return self.age(now) < REJECT_SECONDS and self.sent < REJECT_NONCE

    def seal(self, type_: int, payload: bytes) -> bytes:
        """The next message, on lane 0."""
        head = messages.PREFIX.pack(self.send_index, type_, 0, 0) + NONCE.pack(self.sent)
        self.sent += 1
        sealed = aead.seal(self.send_key, bytes(2) + head[6:16], head, payload)
        return head + sealed[-aead.TAG_OCTETS :] + sealed[: -aead.TAG_OCTETS]

    def unseal(self, message: bytes, now: float) -> tuple[bytes, bool]:
        """The payload, and whether it is newer than all before it on lane 0. The order of the
        checks is that of the document. Raises Dropped.
        """
        head, tag = message[: messages.ASSOCIATED_OCTETS], message[16 : messages.HEADER_OCTETS]
        lane, nonce = struct.unpack("!HQ", head[6:])
        if self.age(now) >= REJECT_SECONDS:
            raise Dropped("session_expired")
        if lane >= self.offer.lanes:
            raise Dropped("lane_unknown")
        if nonce >= REJECT_NONCE:
            raise Dropped("nonce_limit")
        window = self.windows.setdefault(lane, ReplayWindow())
        window.check(nonce)
        try:
            sealed = message[messages.HEADER_OCTETS :] + tag
            payload = aead.unseal(self.receive_key, bytes(2) + head[6:16], head, sealed)
        except aead.TagError as error:
            raise Dropped("bad_tag") from error
        newest = lane == 0 and nonce > window.newest
        window.commit(nonce)
        return payload, newest
