"""What a node knows of a peer: keys, endpoint, handshake under way, sessions, timers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .cookies import COOKIE_SECONDS, Endpoint
from .membership import Grants
from .noise import Handshake
from .session import RENEW_MESSAGES, Session

RENEW_SECONDS = 120.0
RENEW_LISTENING_SECONDS = 165.0
RETRY_SECONDS = 5.0
RETRY_JITTER_SECONDS = 0.333
GIVE_UP_SECONDS = 90.0
KEEPALIVE_SECONDS = 10.0
UNANSWERED_SECONDS = 15.0
CROSSED_SECONDS = 5.0
STAGED_FRAMES = 64
# The newest session, the one before it, and two that some messages may still be on their way in.
SESSIONS = 4


@dataclass
class Pending:
    """A handshake that this node began."""

    index: int
    noise: Handshake
    mac1: bytes
    began_at: float
    next_at: float


@dataclass
class Peer:
    """Another node."""

    name: str
    public_key: bytes
    psk: bytes | None = None
    # Where messages to it go. None until it speaks, where nobody said.
    endpoint: Endpoint | None = None
    # Further places where it may be: initiations go to all of them.
    candidates: tuple[Endpoint, ...] = ()
    # What may be behind it.
    grants: Grants = Grants()
    pending: Pending | None = None
    # As responder: a session in which nothing verified yet.
    unconfirmed: Session | None = None
    # Those that may be sent in, the newest first.
    sessions: list[Session] = field(default_factory=list)
    staged: deque[bytes] = field(default_factory=deque)
    cookie: bytes | None = None
    cookie_at: float = 0.0
    # The greatest timestamp of its initiations, and when the last one was answered.
    timestamp: bytes = b""
    answered_at: float = float("-inf")
    answer_mac1: bytes = b""
    # When data came that nothing was sent after; and the other way round.
    owes_since: float | None = None
    waits_since: float | None = None
    sessions_made: int = 0
    received: int = 0
    sent: int = 0

    def current(self, now: float) -> Session | None:
        """The session to send in: the one that became usable last."""
        return self.sessions[0] if self.sessions and self.sessions[0].alive(now) else None

    def fresh_cookie(self, now: float) -> bytes | None:
        """The latest cookie from it, if that is still worth something."""
        return self.cookie if now - self.cookie_at < COOKIE_SECONDS else None

    def note_sent(self, now: float, data: bool) -> None:
        """Something was sent in a session; `data` waits for an answer."""
        self.owes_since = None
        if data and self.waits_since is None:
            self.waits_since = now

    def note_received(self, now: float, data: bool) -> None:
        """Something verified; `data` is answered by a keepalive, if by nothing else."""
        self.waits_since = None
        if data and self.owes_since is None:
            self.owes_since = now

    def wants_renewal(self, now: float, sending: bool, renew_seconds: float) -> bool:
        """Whether the session is old enough for this side to begin another handshake."""
        session = self.sessions[0] if self.sessions else None
        if session is None or session.sent >= RENEW_MESSAGES:
            return session is not None and sending
        limit = renew_seconds if sending else RENEW_LISTENING_SECONDS
        if self.crossed():
            return sending and session.age(now) >= limit + CROSSED_SECONDS
        return session.initiator and session.age(now) >= limit

    def crossed(self) -> bool:
        """Whether both sides began at once. Each then sends in the session that the other one
        began, and neither would be the one to renew it.
        """
        if len(self.sessions) < 2:
            return False
        newest, other = self.sessions[:2]
        at_once = abs(newest.made_at - other.made_at) < CROSSED_SECONDS
        return at_once and not newest.initiator and other.initiator
