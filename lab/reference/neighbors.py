"""Who has which IP address: ANNOUNCE and WITHDRAW."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from . import records
from .links import Links
from .owners import CONTEST_SECONDS, QUESTION_SECONDS, QUESTIONS
from .peer import Peer
from .records import Address, Announced, Binding, Withdrawn, is_host, newer

LIFETIME_SECONDS = 300
DISPUTE_SECONDS = 2.0
AGAIN_SECONDS = 1.0
BOUND_MOST = 1024


@dataclass
class Bound:
    """An IP address of a peer's host, or of one of this node's where `peer` is None."""

    mac: bytes
    peer: Peer | None
    # None since a new session began: the next one is taken whatever it is.
    sequence: int | None
    expires_at: float

    def older(self, sequence: int) -> bool:
        """Whether what a peer says with this number was said before what is known."""
        return self.sequence is not None and newer(self.sequence, sequence)


@dataclass
class Doubt:
    """A peer announced what a host of this node has: the host is asked."""

    announced: Announced
    peer: Peer
    began_at: float
    asked: int = 0


class Neighbors:
    """The table of bindings, and the contests about them."""

    def __init__(
        self,
        links: Links,
        ask_host: Callable[[Address, str], None],
        owner_of: Callable[[Address], tuple[bool, Peer | None]],
    ) -> None:
        """`owner_of` says whether an address is known, and whose it is."""
        self.links, self.ask_host, self.owner_of = links, ask_host, owner_of
        self.table: dict[Binding, Bound] = {}
        self.doubts: dict[Binding, Doubt] = {}
        self.disputed_at: dict[Binding, float] = {}
        # What peers took back in their present sessions, and with which number.
        self.withdrawn: dict[tuple[Binding, bytes], int] = {}
        self.numbers = itertools.count(1)
        self.again: list[tuple[float, bytes]] = []

    def live(self, binding: Binding, now: float) -> Bound | None:
        """Who has an IP address now."""
        bound = self.table.get(binding)
        return bound if bound is not None and now < bound.expires_at else None

    def ips_of(self, address: Address) -> list[str]:
        """The IP addresses of a host of this node."""
        vlan, mac = address
        return [
            ip
            for (each, ip), bound in self.table.items()
            if each == vlan and bound.mac == mac and bound.peer is None
        ]

    def from_host(self, binding: Binding, mac: bytes, now: float) -> bool:
        """A host of this node says to have an address. False if a peer's host has it."""
        bound = self.live(binding, now)
        if bound is not None and bound.peer is not None:
            self.dispute(binding, mac, bound.peer, now)
            return False
        doubt = self.doubts.get(binding)
        if doubt is not None and doubt.asked:
            del self.doubts[binding]
        expires_at = now + LIFETIME_SECONDS
        if bound is not None and bound.mac == mac:
            bound.expires_at = expires_at
            return True
        self.make_room(None)
        bound = self.table[binding] = Bound(mac, None, next(self.numbers), expires_at)
        self.tell_all(self.announcement(binding, bound), now)
        return True

    def from_peer(self, binding: Binding, peer: Peer, now: float) -> bool:
        """A frame of a peer says so. False if somebody else has it."""
        bound = self.live(binding, now)
        return bound is None or bound.peer is peer

    def dispute(self, binding: Binding, mac: bytes, peer: Peer, now: float) -> None:
        """Tells the peer who has an address that a host of ours says to have it."""
        if now - self.disputed_at.get(binding, float("-inf")) >= DISPUTE_SECONDS:
            self.disputed_at[binding] = now
            bound = Bound(mac, None, next(self.numbers), now + LIFETIME_SECONDS)
            self.links.send_record(peer, self.announcement(binding, bound), now)

    def make_room(self, peer: Peer | None) -> None:
        """The one of an owner that ends first makes room for another."""
        same = [each for each, bound in self.table.items() if bound.peer is peer]
        if len(same) >= BOUND_MOST:
            del self.table[min(same, key=lambda each: self.table[each].expires_at)]

    def announcement(self, binding: Binding, bound: Bound) -> bytes:
        """A record that says who has an address."""
        entry = Announced(*binding, bound.sequence or 0, LIFETIME_SECONDS, bound.mac)
        return records.join(records.ANNOUNCE, records.encode_announced(entry))

    def all_local(self, now: float) -> Iterable[Announced]:
        """What this node's hosts have, to be said again."""
        for binding, bound in self.table.items():
            if bound.peer is None and now < bound.expires_at:
                lifetime = int(bound.expires_at - now)
                yield Announced(*binding, bound.sequence or 0, lifetime, bound.mac)

    def tell_all(self, record: bytes, now: float) -> None:
        """Says a change to everybody, at once and once more."""
        for peer in self.links.peers.values():
            self.links.send_record(peer, record, now)
        self.again.append((now + AGAIN_SECONDS, record))

    def on_announced(self, peer: Peer, entry: Announced, now: float) -> None:
        """A peer says that a host of its own has an address."""
        known, owner = self.owner_of((entry.vlan, entry.mac))
        if (known and owner is not peer) or not entry.lifetime or not is_host(entry.ip):
            return
        if not (peer.grants.mac(entry.vlan, entry.mac) and peer.grants.ip(entry.ip)):
            return
        binding = (entry.vlan, entry.ip)
        withdrawn = self.withdrawn.get((binding, peer.public_key))
        if withdrawn is not None and not newer(entry.sequence, withdrawn):
            # What was said before was overtaken.
            return
        bound = self.live(binding, now)
        if bound is None:
            self.make_room(peer)
            self.take(binding, entry, peer, now)
        elif bound.peer is None:
            if binding not in self.doubts:
                self.doubts[binding] = Doubt(entry, peer, now)
                self.tick(now)
        elif bound.peer is peer and not bound.older(entry.sequence):
            self.take(binding, entry, peer, now)

    def take(self, binding: Binding, entry: Announced, peer: Peer, now: float) -> None:
        """Believes an announcement."""
        lifetime = min(entry.lifetime, LIFETIME_SECONDS)
        self.table[binding] = Bound(entry.mac, peer, entry.sequence, now + lifetime)

    def on_withdrawn(self, peer: Peer, entry: Withdrawn) -> None:
        """A peer says that its host has an address no more."""
        self.withdrawn[(entry.vlan, entry.ip), peer.public_key] = entry.sequence
        bound = self.table.get((entry.vlan, entry.ip))
        if bound is not None and bound.peer is peer and not bound.older(entry.sequence):
            del self.table[entry.vlan, entry.ip]

    def new_session(self, peer: Peer) -> None:
        """The next number of each of its addresses is accepted, whatever it is."""
        for key in [key for key in self.withdrawn if key[1] == peer.public_key]:
            del self.withdrawn[key]
        for bound in self.table.values():
            if bound.peer is peer:
                bound.sequence = None

    def released(self, address: Address, owner: Peer | None) -> None:
        """A MAC address left its owner, and its IP addresses with it."""
        vlan, mac = address
        for binding, bound in list(self.table.items()):
            if binding[0] == vlan and bound.mac == mac and bound.peer is owner:
                del self.table[binding]

    def forget(self, peer: Peer) -> None:
        """A peer is gone."""
        for binding, bound in list(self.table.items()):
            if bound.peer is peer:
                del self.table[binding]
        for binding, doubt in list(self.doubts.items()):
            if doubt.peer is peer:
                del self.doubts[binding]

    def tick(self, now: float) -> None:
        """Asks, decides, repeats, forgets."""
        for binding, doubt in list(self.doubts.items()):
            bound = self.table.get(binding)
            if bound is None or bound.peer is not None:
                del self.doubts[binding]
                continue
            due = doubt.began_at + doubt.asked * QUESTION_SECONDS
            while doubt.asked < QUESTIONS and now >= due:
                self.ask_host((binding[0], bound.mac), binding[1])
                doubt.asked += 1
                due += QUESTION_SECONDS
            if now - doubt.began_at >= CONTEST_SECONDS:
                del self.doubts[binding]
                entry = Withdrawn(*binding, next(self.numbers))
                self.take(binding, doubt.announced, doubt.peer, now)
                record = records.join(records.WITHDRAW, records.encode_withdrawn(entry))
                self.tell_all(record, now)
        due_again = [record for at, record in self.again if at <= now]
        self.again = [(at, record) for at, record in self.again if at > now]
        for record in due_again:
            for peer in self.links.peers.values():
                self.links.send_record(peer, record, now)
        for binding, bound in list(self.table.items()):
            if now >= bound.expires_at:
                del self.table[binding]
