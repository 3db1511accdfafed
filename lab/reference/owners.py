"""Whose a MAC address is, and how it moves from node to node: CLAIM and RELEASE."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from . import records
from .links import Links
from .peer import Peer
from .records import NOBODY, Address, Claimed, Released, newer

AGEING_SECONDS = 300.0
OWNED_MOST = 1024
CLAIM_SECONDS = 0.2
CLAIM_SLOWER_AFTER_SECONDS = 3.0
CLAIM_SLOW_SECONDS = 5.0
QUESTIONS = 3
QUESTION_SECONDS = 0.1
CONTEST_SECONDS = 0.4
CONTEST_UNKNOWN_SECONDS = 5.0
TOLD_SECONDS = 300.0
RESTART_SECONDS = 300.0
LISTEN_FIRST_SECONDS = 2.0
TELL_SECONDS = 1.0
FREEZE_MOVES, FREEZE_WITHIN_SECONDS, FREEZE_SECONDS = 5, 180.0, 1800.0
SEQUENCES = 1 << 32


@dataclass
class Owner:
    """Who has an address: a peer, or this node where it is None."""

    peer: Peer | None
    heard_at: float


@dataclass
class Attempt:
    """Our own claims of an address that another node has."""

    began_at: float
    last_frame_at: float
    next_at: float


@dataclass
class Contest:
    """A peer claims what is ours: the host is asked."""

    claimant: Peer
    sequence: int
    began_at: float
    seconds: float
    ips: list[str]
    asked: int = 0


@dataclass
class Given:
    """An address that went to another node."""

    owner: bytes
    sequence: int
    at: float
    told_at: dict[bytes, float] = field(default_factory=dict)


class Owners:
    """The table of addresses, and the contests about them."""

    def __init__(
        self,
        links: Links,
        ask_host: Callable[[Address, str], None],
        ips_of: Callable[[Address], Iterable[str]],
        released: Callable[[Address, Peer | None], None],
        started_at: float,
    ) -> None:
        """`released` is told of addresses that the owner given let go of."""
        self.links, self.ask_host, self.ips_of = links, ask_host, ips_of
        self.released, self.started_at = released, started_at
        self.table: dict[Address, Owner] = {}
        self.sequences: dict[Address, int] = {}
        # The newest RELEASE of a peer in its present session.
        self.heard: dict[tuple[Address, bytes], int] = {}
        self.attempts: dict[Address, Attempt] = {}
        self.contests: dict[Address, Contest] = {}
        self.given: dict[Address, Given] = {}
        self.moved_at: dict[Address, deque[float]] = {}
        self.frozen_until: dict[Address, float] = {}
        self.told_nobody_at: dict[tuple[Address, bytes], float] = {}
        # Changes are said again a second later.
        self.again: list[tuple[float, Released]] = []

    def up(self, now: float) -> float:
        """Seconds since the start: others may remember what this node had before."""
        return now - self.started_at

    def owner(self, address: Address) -> Owner | None:
        """Who has an address."""
        return self.table.get(address)

    # What hosts and peers send.

    def from_host(self, address: Address, now: float) -> bool:
        """A frame of a host of this node. False if the address is another node's: it is claimed."""
        owner = self.table.get(address)
        if owner is None:
            self.set(address, None, now)
            return True
        if owner.peer is not None:
            self.claim(address, owner.peer, now)
            return False
        owner.heard_at = now
        contest = self.contests.get(address)
        if contest is not None and contest.asked:
            # The host lives: that refuses the claim, without a word.
            del self.contests[address]
        return True

    def from_peer(self, address: Address, peer: Peer, now: float) -> bool:
        """A frame of a host of a peer. False if the address is not the peer's."""
        owner = self.table.get(address)
        if owner is None:
            self.set(address, peer, now)
            return True
        if owner.peer is peer:
            owner.heard_at = now
            return True
        if owner.peer is None:
            self.contest(address, peer, self.next_sequence(address), now)
        return False

    def for_address(self, address: Address, peer: Peer, now: float) -> None:
        """A peer sent a frame for an address that is not here: it may have to be told."""
        owner = self.table.get(address)
        if owner is None or owner.peer is None:
            return
        if address in self.given:
            self.tell_again(address, peer, now)
        elif owner.peer is not peer and LISTEN_FIRST_SECONDS <= self.up(now) < RESTART_SECONDS:
            key = (address, peer.public_key)
            if now - self.told_nobody_at.get(key, float("-inf")) >= TELL_SECONDS:
                self.told_nobody_at[key] = now
                self.tell([peer], Released(*address, 0, NOBODY), now)

    def set(self, address: Address, peer: Peer | None, now: float) -> None:
        """Notes whose an address is from now on. The oldest of the same owner makes room."""
        self.table.pop(address, None)
        same = [each for each, owner in self.table.items() if owner.peer is peer]
        if len(same) >= OWNED_MOST:
            oldest = min(same, key=lambda each: self.table[each].heard_at)
            del self.table[oldest]
        self.table[address] = Owner(peer, now)
        self.attempts.pop(address, None)
        if peer is None:
            self.given.pop(address, None)

    # The side that wants an address.

    def next_sequence(self, address: Address) -> int:
        """One more than that of the last move that is known."""
        return (self.sequences.get(address, 0) + 1) % SEQUENCES

    def claim(self, address: Address, owner: Peer, now: float) -> None:
        """Asks the owner to let go, as often as is allowed."""
        attempt = self.attempts.get(address)
        if attempt is None or now - attempt.last_frame_at > 2 * CLAIM_SLOW_SECONDS:
            attempt = self.attempts[address] = Attempt(now, now, now)
        attempt.last_frame_at = now
        if now < attempt.next_at or self.frozen(address, now):
            return
        slow = now - attempt.began_at >= CLAIM_SLOWER_AFTER_SECONDS
        attempt.next_at = now + (CLAIM_SLOW_SECONDS if slow else CLAIM_SECONDS)
        entry = Claimed(*address, self.next_sequence(address))
        record = records.join(records.CLAIM, records.encode_claimed(entry))
        self.links.send_record(owner, record, now)

    def on_release(self, peer: Peer, entry: Released, now: float) -> None:
        """The present owner says whose an address is."""
        address = (entry.vlan, entry.mac)
        owner = self.table.get(address)
        if owner is None or owner.peer is not peer or self.frozen(address, now):
            return
        last = self.heard.get((address, peer.public_key))
        to = self.links.peers.get(entry.owner)
        if to is peer or (last is not None and not newer(entry.sequence, last)):
            return
        self.heard[address, peer.public_key] = entry.sequence
        self.sequences[address] = entry.sequence
        self.released(address, peer)
        if entry.owner == self.links.public and address in self.attempts:
            self.moved(address, now)
            self.set(address, None, now)
        elif to is not None:
            self.moved(address, now)
            self.set(address, to, now)
        else:
            del self.table[address]

    # The side that has it.

    def on_claim(self, peer: Peer, entry: Claimed, now: float) -> None:
        """A peer wants an address."""
        address = (entry.vlan, entry.mac)
        owner = self.table.get(address)
        if owner is not None and owner.peer is None:
            self.contest(address, peer, entry.sequence, now)
        elif address in self.given:
            self.tell_again(address, peer, now)
        elif owner is None or owner.peer is peer:
            self.release_unknown(address, peer, entry.sequence, now)

    def contest(self, address: Address, peer: Peer, sequence: int, now: float) -> None:
        """Asks the host whether it is still here."""
        if address not in self.contests and not self.frozen(address, now):
            ips = list(self.ips_of(address))
            seconds = CONTEST_SECONDS if ips else CONTEST_UNKNOWN_SECONDS
            self.contests[address] = Contest(peer, sequence, now, seconds, ips)
            self.tick(now)

    def release_unknown(self, address: Address, peer: Peer, sequence: int, now: float) -> None:
        """Nobody here has heard of an address that a peer thinks to be ours."""
        if self.up(now) < LISTEN_FIRST_SECONDS:
            return
        peers = self.links.peers.values() if self.up(now) < RESTART_SECONDS else [peer]
        self.sequences[address] = sequence
        self.set(address, peer, now)
        self.tell(peers, Released(*address, sequence, peer.public_key), now)

    def give(self, address: Address, contest: Contest, now: float) -> None:
        """The host is silent: the claimant has the address, and everybody is told."""
        sequence = self.next_sequence(address)
        if newer(contest.sequence, sequence):
            sequence = contest.sequence
        self.sequences[address] = sequence
        self.released(address, None)
        self.moved(address, now)
        self.set(address, contest.claimant, now)
        self.given[address] = Given(contest.claimant.public_key, sequence, now)
        released = Released(*address, sequence, contest.claimant.public_key)
        self.tell(self.links.peers.values(), released, now)
        self.again.append((now + TELL_SECONDS, released))

    def tell_again(self, address: Address, peer: Peer, now: float) -> None:
        """Says where an address went, once a second."""
        given = self.given[address]
        if now - given.told_at.get(peer.public_key, float("-inf")) >= TELL_SECONDS:
            given.told_at[peer.public_key] = now
            self.tell([peer], Released(*address, given.sequence, given.owner), now)

    def tell(self, peers: Iterable[Peer], released: Released, now: float) -> None:
        """Sends a release."""
        record = records.join(records.RELEASE, records.encode_released(released))
        for peer in list(peers):
            self.links.send_record(peer, record, now)

    def all_given(self) -> list[Released]:
        """What was given away in the last while."""
        return [Released(*address, g.sequence, g.owner) for address, g in self.given.items()]

    def new_session(self, peer: Peer) -> None:
        """What it says from now on may be from after a restart: any number is the first."""
        for key in [key for key in self.heard if key[1] == peer.public_key]:
            del self.heard[key]

    def forget(self, peer: Peer) -> None:
        """A peer is gone."""
        for address, owner in list(self.table.items()):
            if owner.peer is peer:
                del self.table[address]
        for address, contest in list(self.contests.items()):
            if contest.claimant is peer:
                del self.contests[address]

    # Time.

    def frozen(self, address: Address, now: float) -> bool:
        """Whether it moved too often."""
        return now < self.frozen_until.get(address, float("-inf"))

    def moved(self, address: Address, now: float) -> None:
        """Counts a move. Too many in a short while freeze the address."""
        moves = self.moved_at.setdefault(address, deque(maxlen=FREEZE_MOVES))
        moves.append(now)
        if len(moves) == FREEZE_MOVES and now - moves[0] <= FREEZE_WITHIN_SECONDS:
            self.frozen_until[address] = now + FREEZE_SECONDS

    def tick(self, now: float) -> None:
        """Asks, decides, repeats, forgets."""
        for address, contest in list(self.contests.items()):
            due = contest.began_at + contest.asked * QUESTION_SECONDS
            while contest.asked < QUESTIONS and now >= due:
                for ip in contest.ips:
                    self.ask_host(address, ip)
                contest.asked += 1
                due += QUESTION_SECONDS
            if now - contest.began_at >= contest.seconds:
                del self.contests[address]
                self.give(address, contest, now)
        due_again = [each for at, each in self.again if at <= now]
        self.again = [(at, each) for at, each in self.again if at > now]
        for released in due_again:
            self.tell(self.links.peers.values(), released, now)
        for address, given in list(self.given.items()):
            if now - given.at >= TOLD_SECONDS:
                del self.given[address]
        for address, owner in list(self.table.items()):
            if now - owner.heard_at >= AGEING_SECONDS:
                del self.table[address]
                self.contests.pop(address, None)
