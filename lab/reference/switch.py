"""The switch: learns whose addresses are, carries frames to peers and to the access port."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from . import frames, records
from .frames import Frame
from .links import Links
from .neighbors import Neighbors
from .owners import Owners
from .peer import Peer
from .records import Address
from .session import Dropped

SAY_AGAIN_SECONDS = 60.0


def made_mac(public: bytes, purpose: bytes) -> bytes:
    """A locally administered MAC address from the public key, which stays over restarts."""
    return b"\x06" + hashlib.blake2s(public, person=purpose).digest()[:5]


class Switch:
    """Between one access port and all peers. What is for the port's hosts is in `delivered`."""

    def __init__(self, links: Links, vlans: Iterable[int], now: float) -> None:
        self.links, self.vlans = links, frozenset(vlans)
        self.mac = made_mac(links.public, b"question")
        self.owners = Owners(links, self.ask_host, self.ips_of, self.released, now)
        self.neighbors = Neighbors(links, self.ask_host, self.owner_of)
        self.delivered: list[bytes] = []
        # What peers said to carry; those that said nothing carry all.
        self.carried: dict[bytes, frozenset[int]] = {}
        self.said_at: dict[bytes, float] = {}
        links.upper = self

    def ask_host(self, address: Address, ip: str) -> None:
        """Asks a host of this node whether it is there."""
        vlan, mac = address
        self.delivered.append(frames.question(self.mac, mac, vlan, ip))

    def ips_of(self, address: Address) -> Iterable[str]:
        return self.neighbors.ips_of(address)

    def released(self, address: Address, owner: Peer | None) -> None:
        self.neighbors.released(address, owner)

    def owner_of(self, address: Address) -> tuple[bool, Peer | None]:
        owner = self.owners.owner(address)
        return owner is not None, owner.peer if owner else None

    # From the access port.

    def from_host(self, octets: bytes, now: float) -> None:
        """A frame of a host of this node."""
        try:
            frame = frames.parse(octets)
            if frame.vlan not in self.vlans:
                raise Dropped("vlan_not_allowed")
            self.admit_host(frame, now)
            self.forward(frame, now)
        except Dropped as dropped:
            self.links.drops[str(dropped.args[0])] += 1

    def admit_host(self, frame: Frame, now: float) -> None:
        """Learns from a frame. Raises Dropped for what is another node's."""
        if frame.destination == self.mac:
            # The answer to a question of ours; nobody else has that address.
            self.owners.from_host((frame.vlan, frame.source), now)
            self.bind_host(frame, now)
            raise Dropped("answered")
        if not self.owners.from_host((frame.vlan, frame.source), now):
            raise Dropped("source_mac_not_owned")
        self.bind_host(frame, now)

    def bind_host(self, frame: Frame, now: float) -> None:
        """Learns the IP address in an ARP or neighbour discovery message."""
        ip = frames.binding(frame)
        if ip and not self.neighbors.from_host((frame.vlan, ip), frame.source, now):
            raise Dropped("binding_not_owned")

    def forward(self, frame: Frame, now: float) -> None:
        """Sends a frame to the peer that has its destination, or to all that carry its VLAN."""
        owner = None if frame.to_many else self.owners.owner((frame.vlan, frame.destination))
        if owner is None:
            self.flood(frame, now)
        elif owner.peer is None:
            raise Dropped("reflected")
        else:
            self.links.send_frame(owner.peer, frame.octets, now)

    def flood(self, frame: Frame, now: float) -> None:
        """To everybody; groups are not told apart."""
        for peer in self.links.peers.values():
            carried = self.carried.get(peer.public_key)
            if carried is None or frame.vlan in carried:
                self.links.send_frame(peer, frame.octets, now)

    # From peers.

    def on_frame(self, peer: Peer, octets: bytes, now: float) -> None:
        """A frame of a peer's host. It is never sent on to another peer."""
        frame = frames.parse(octets)
        if frame.vlan not in self.vlans:
            raise Dropped("vlan_not_allowed")
        if not peer.grants.mac(frame.vlan, frame.source):
            raise Dropped("source_mac_not_owned")
        if not self.owners.from_peer((frame.vlan, frame.source), peer, now):
            raise Dropped("source_mac_not_owned")
        ip = frames.binding(frame)
        if ip and not peer.grants.ip(ip):
            raise Dropped("address_not_granted")
        if ip and not self.neighbors.from_peer((frame.vlan, ip), peer, now):
            raise Dropped("binding_not_owned")
        if not frame.to_many:
            address = (frame.vlan, frame.destination)
            self.owners.for_address(address, peer, now)
            known, owner = self.owner_of(address)
            if known and owner is not None:
                raise Dropped("split_horizon")
        self.delivered.append(octets)

    def forget(self, peer: Peer) -> None:
        """A peer is a member no more: all that was its is nobody's."""
        self.owners.forget(peer)
        self.neighbors.forget(peer)
        self.carried.pop(peer.public_key, None)
        self.said_at.pop(peer.public_key, None)

    def on_session(self, peer: Peer, now: float) -> None:
        """All that matters is said in a new session."""
        self.owners.new_session(peer)
        self.neighbors.new_session(peer)
        self.say_all(peer, now)

    def say_all(self, peer: Peer, now: float) -> None:
        """What a peer has to know of this node."""
        self.said_at[peer.public_key] = now
        announced = map(records.encode_announced, self.neighbors.all_local(now))
        released = map(records.encode_released, self.owners.all_given())
        for record in (
            records.encode_vlans(self.vlans),
            records.everything_wanted(),
            *records.records(records.ANNOUNCE, announced),
            *records.records(records.RELEASE, released),
        ):
            self.links.send_record(peer, record, now)

    def on_record(self, peer: Peer, record: bytes, now: float) -> None:
        """A control record of a peer."""
        parts = records.split(record)
        if parts is None:
            raise Dropped("record_malformed")
        kind, body = parts
        if kind == records.ANNOUNCE:
            for announced in records.parse_announced(body):
                self.neighbors.on_announced(peer, announced, now)
        elif kind == records.WITHDRAW:
            for withdrawn in records.parse_withdrawn(body):
                self.neighbors.on_withdrawn(peer, withdrawn)
        elif kind == records.CLAIM:
            for claimed in records.parse_claimed(body):
                self.owners.on_claim(peer, claimed, now)
        elif kind == records.RELEASE:
            for released in records.parse_released(body):
                self.owners.on_release(peer, released, now)
        elif kind == records.VLANS:
            vlans = records.parse_vlans(body)
            if vlans is not None:
                self.carried[peer.public_key] = vlans
        elif kind == records.PROBE:
            answer = records.probe_ack(record, body)
            if answer is not None:
                self.links.send_record(peer, answer, now)

    def tick(self, now: float) -> None:
        """Does what is due."""
        self.owners.tick(now)
        self.neighbors.tick(now)
        for peer in self.links.peers.values():
            said_at = self.said_at.get(peer.public_key)
            if said_at is not None and now - said_at >= SAY_AGAIN_SECONDS:
                self.say_all(peer, now)
