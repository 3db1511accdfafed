//! The authority over the workers' tables: who owns an address, who is bound to it, who wants
//! which group.
//!
//! ```text
//!  workers --upcalls--> learned, contested, bound, group, ... --+            +--> poll_order
//!  peers ---records---> record -------------------------------- + -> Switch -+
//!  time --------------> handle_timeout -------------------------+            +--> poll_send
//! ```
//!
//! Workers have copies of all tables, learn on their own and report; what one learns, the others
//! are told. The switch waits for nobody, reads no clock and does no I/O: the same calls give the
//! same orders. After each call everything is to be taken from [`Switch::poll_order`] and
//! [`Switch::poll_send`].
//!
//! The rules, which hold against a peer that says whatever it likes:
//!
//! - A live owner is never displaced. An address moves when its owner lets go of it, or after it
//!   has aged out. Its node asks the host before it lets go (`contests`, `disputes`), of an IP
//!   address also when another node wishes for it (`wishes`).
//! - Only the owner gives an address away (`releases`), and only who announced or spoke from it
//!   takes a binding back (`bindings`).
//! - A rendezvous displaces nobody who is heard. It settles what becomes of the addresses of a peer
//!   that is called and does not answer (`directory`).
//! - An address that moves too often stays where it is for a while (`fdb`).
//! - Who has too much loses its own least recently used; in a table that is full, who has the most
//!   does (`ledger`).
//! - What may be lost is said again: changes once after a second, everything every minute
//!   (`announce`).
//!
//! Everything that is kept has its bound:
//!
//! | what | at most |
//! |---|---|
//! | MAC addresses | by configuration: 1024 a peer, 114688 of all peers, 16384 local; static ones |
//! | bindings, each with one rival | the same |
//! | moves remembered of an address | 4 |
//! | contests and disputes | 64 of each owner together, 64 new ones a second; 4096 of each kind |
//! | IP addresses that a host is asked for, in a contest or when it moved here | 8 |
//! | claims | 256 of each port |
//! | wishes for IP addresses of peers | one in 2 s of each binding, 64 a second |
//! | addresses given away that are remembered | 4096, the oldest goes first |
//! | answers to single peers | 4096, one a second of each address and peer |
//! | addresses that a rendezvous told | of each peer as many as it may have |
//! | withdrawn bindings that are remembered | 4096 of ours, 256 of each peer |
//! | places where IP addresses were | 4096, the oldest goes first; hosts are told of 64 a second |
//! | group memberships | 1024 of each port and peer; 16384 groups |
//! | networks that are asked for groups | VLANs times ports |
//! | questions to hosts and news for them that wait | 4096, the newest is left out |
//! | records read from a peer | 1000 a second |
//! | changes of bindings and groups by one owner, and moves by a peer | 4096, then 1000 a second |
//! | lists that are told to peers | one for each; 64 records in 10 ms for all |
//! | orders of one call | those of the entries that it touches; 4096 addresses age out at once |

mod announce;
mod bindings;
mod claims;
mod contests;
mod deadlines;
mod directory;
mod disputes;
mod fdb;
mod formers;
mod groups;
mod ledger;
mod moves;
mod peers;
mod queries;
mod releases;
mod types;
mod wishes;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use omni_control::PublicKey;
use omni_control::message::{Command, FdbKey, Owner, PeerId, PortId, VlanBits};
use omni_membership::Grants;
use omni_wire::Instant;
use omni_wire::record::{Record, VLANS_LEN};

pub use bindings::BINDING_LIFETIME;
pub use fdb::{Entry, FREEZE};
pub use types::{
    AGEING, Alarm, Audience, Bound, Counters, GroupReport, Kind, Neighbor, PeerLimits, Send,
    Source, SwitchConfig, SwitchLimits, Told,
};

use announce::Outbox;
use bindings::Bindings;
use claims::Claims;
use contests::Contests;
use directory::Directory;
use disputes::Disputes;
use fdb::Fdb;
use formers::Formers;
use groups::Groups;
use peers::{Accounts, Peer, Peers};
use releases::Releases;
use wishes::Wishes;

/// The tables that the workers' copies follow.
#[derive(Debug)]
pub struct Switch {
    config: SwitchConfig,
    /// What any port carries.
    vlans: VlanBits,
    started: Option<Instant>,
    peers: Peers,
    accounts: Accounts,
    fdb: Fdb,
    contests: Contests,
    claims: Claims,
    releases: Releases,
    bindings: Bindings,
    formers: Formers,
    disputes: Disputes,
    wishes: Wishes,
    directory: Directory,
    groups: Groups,
    outbox: Outbox,
    orders: VecDeque<(Audience, Command)>,
    counters: Counters,
}

impl Switch {
    /// A switch that knows nothing but its ports.
    #[must_use]
    pub fn new(config: SwitchConfig) -> Self {
        let mut vlans = VlanBits::NONE;
        for carried in config.carried.iter().take(config.ports) {
            for (all, word) in vlans.0.iter_mut().zip(carried.0) {
                *all |= word;
            }
        }
        // VLAN id 4095 is reserved (IEEE 802.1Q s.9.6).
        vlans.0[63] &= u64::MAX >> 1;
        Self {
            vlans,
            started: None,
            peers: Peers::default(),
            accounts: Accounts::default(),
            fdb: Fdb::new(config.ageing),
            contests: Contests::default(),
            claims: Claims::default(),
            releases: Releases::default(),
            bindings: Bindings::default(),
            formers: Formers::default(),
            disputes: Disputes::default(),
            wishes: Wishes::default(),
            directory: Directory::default(),
            groups: Groups::default(),
            outbox: Outbox::default(),
            orders: VecDeque::new(),
            counters: Counters::default(),
            config,
        }
    }

    /// Adds a peer, or changes the limits of one. What it has beyond them goes.
    pub fn add_peer(
        &mut self,
        now: Instant,
        peer: PeerId,
        public_key: PublicKey,
        limits: PeerLimits,
    ) {
        let owner = Owner::Peer(peer);
        match self.peers.get_mut(peer) {
            Some(known) if known.public_key == public_key => known.limits = limits,
            _ => {
                self.peers.add(peer, Peer::new(public_key, limits));
                // Until it is known what it wants.
                self.order_wants(owner, None, true);
            }
        }
        self.trim_addresses(owner, limits.macs_max);
        self.trim_bindings(now, owner, limits.addresses_max);
    }

    /// Sets what a peer's certificate allows; `None`: it has none. What it announced and may not
    /// have goes; its frames are for workers to judge.
    pub fn set_grants(&mut self, now: Instant, peer: PeerId, grants: Option<Arc<Grants>>) {
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        known.grants = grants;
        let its = |neighbor: &Neighbor| neighbor.bound.owner == Owner::Peer(peer);
        let held: Vec<Bound> = self.neighbors().filter(its).map(|n| n.bound).collect();
        for Bound { vlan, ip, mac, .. } in held {
            if !self.peers.grants(peer, vlan, mac, ip) {
                self.unbind(now, (vlan, ip), true);
            }
        }
    }

    /// There is a new session with a peer: it is told everything.
    pub fn peer_up(&mut self, now: Instant, peer: PeerId) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.revive();
            self.outbox.tell_everything(now, peer);
            self.set_silent(now, peer, false);
        }
    }

    /// There is no session with a peer any more: it is told nothing. What it has ages out.
    pub fn peer_down(&mut self, peer: PeerId) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.up = false;
            self.outbox.remove(peer);
            self.releases.remove(peer);
        }
    }

    /// Forgets an owner who is gone, and everything behind it.
    pub fn remove_owner(&mut self, now: Instant, owner: Owner) {
        self.forget_addresses(owner);
        self.forget_bindings(now, owner);
        self.forget_groups(now, owner);
        for key in self.contests.of(owner) {
            self.close_contest(key);
        }
        for key in self.disputes.of(owner) {
            self.close_dispute(key);
        }
        self.accounts.remove(owner);
        if let Owner::Peer(peer) = owner {
            self.forget_directory(peer);
            self.outbox.remove(peer);
            self.releases.remove(peer);
            self.peers.remove(peer);
        }
    }

    /// Takes in a control record of a peer.
    pub fn record(&mut self, now: Instant, peer: PeerId, octets: &[u8]) {
        let Some(from) = self.peers.get_mut(peer) else {
            return;
        };
        if !from.may_send(now) {
            self.counters.records_limited += 1;
            return;
        }
        match Record::parse(octets) {
            Some(Record::Announce(entries)) => {
                entries.for_each(|entry| self.handle_announcement(now, peer, entry));
            }
            Some(Record::Withdraw(entries)) => {
                entries.for_each(|entry| self.handle_withdrawal(now, peer, entry));
            }
            Some(Record::Claim(entries)) => {
                entries.for_each(|entry| self.handle_claim(now, peer, entry));
            }
            Some(Record::Release(entries)) => {
                entries.for_each(|entry| self.handle_release(now, peer, entry));
            }
            Some(Record::Vlans(bits)) => self.handle_vlans(now, peer, bits),
            Some(Record::Groups { flags, changes }) => {
                self.handle_groups(now, peer, flags, changes);
            }
            // Not for the switch.
            Some(Record::Probe { .. } | Record::ProbeAck { .. } | Record::Unknown { .. }) => {}
            None => self.counters.records_malformed += 1,
        }
    }

    /// A rendezvous says which VLANs there are at a peer: it is not bothered with others, and no
    /// session is made for them. What it says itself in a session goes before that.
    pub fn told_vlans(&mut self, peer: PeerId, vlans: VlanBits) {
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        let before = known.carried.as_deref().unwrap_or(&VlanBits::ALL);
        if !known.up && *before != vlans {
            let vlans = Arc::new(vlans);
            known.carried = Some(vlans.clone());
            self.order(Audience::All, Command::SetCarried { peer, vlans });
        }
    }

    fn handle_vlans(&mut self, now: Instant, peer: PeerId, bits: &[u8; VLANS_LEN]) {
        let mut vlans = VlanBits::NONE;
        let (words, _) = bits.as_chunks();
        for (word, &octets) in vlans.0.iter_mut().zip(words) {
            *word = u64::from_le_bytes(octets);
        }
        let Some(from) = self.peers.get_mut(peer) else {
            return;
        };
        if from.carried.as_deref() == Some(&vlans) {
            return;
        }
        if !self.accounts.may_change(now, Owner::Peer(peer)) {
            self.counters.records_limited += 1;
            return;
        }
        let vlans = Arc::new(vlans);
        from.carried = Some(vlans.clone());
        self.order(Audience::All, Command::SetCarried { peer, vlans });
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.begin(now);
        self.expire_addresses(now);
        self.run_contests(now);
        self.run_claims(now);
        self.releases.handle_timeout(now);
        self.run_disputes(now);
        self.wishes.handle_timeout(now);
        self.run_bindings(now);
        self.run_groups(now);
        self.outbox.handle_timeout(now);
    }

    /// When [`Switch::handle_timeout`] is to be called next; `None` when time changes nothing.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.started.is_none() {
            return Some(Instant(0));
        }
        let times = [
            self.fdb.next_timeout(),
            self.contests.next_timeout(),
            self.claims.next_timeout(),
            self.releases.next_timeout(),
            self.bindings.next_timeout(),
            self.disputes.next_timeout(),
            self.wishes.next_timeout(),
            self.groups.next_timeout(),
            self.outbox.next_timeout(),
        ];
        times.into_iter().flatten().min()
    }

    /// The part of it that is not to be late by a fraction of a second: lists that are told to
    /// peers piece by piece.
    #[must_use]
    pub fn poll_urgent(&self) -> Option<Instant> {
        self.outbox.next_list_at()
    }

    /// What workers are to be told next.
    pub fn poll_order(&mut self) -> Option<(Audience, Command)> {
        let order = self.orders.pop_front();
        order.or_else(|| Some((Audience::All, self.groups.next_order()?)))
    }

    fn order(&mut self, audience: Audience, command: Command) {
        self.orders.push_back((audience, command));
    }

    fn carries(&self, vlan: u16) -> bool {
        self.vlans.contains(vlan)
    }

    fn has_port(&self, port: PortId) -> bool {
        usize::from(port.0) < self.config.ports
    }

    fn port_carries(&self, port: PortId, vlan: u16) -> bool {
        let carried = self.config.carried.get(usize::from(port.0));
        self.has_port(port) && self.carries(vlan) && carried.is_some_and(|c| c.contains(vlan))
    }
}

/// What is shown.
impl Switch {
    /// Every address, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&FdbKey, &Entry)> {
        self.fdb.iter()
    }

    /// Who owns an address.
    #[must_use]
    pub fn owner(&self, key: FdbKey) -> Option<Owner> {
        self.fdb.owner(key)
    }

    /// How many addresses there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fdb.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every binding, in order.
    pub fn neighbors(&self) -> impl Iterator<Item = Neighbor> {
        self.bindings.iter().map(|(&key, b)| b.neighbor(key))
    }

    /// Every group, in order, and who wants it.
    pub fn groups(&self) -> impl Iterator<Item = (u16, IpAddr, Vec<Owner>)> {
        let all = self.groups.iter();
        all.map(|((vlan, group), members)| (vlan, group, members))
    }

    /// Who gets what is sent to any group, in one VLAN or, without one, in all: ports behind which
    /// a router asks, ports of which it is not known yet what is wanted there, and such peers with
    /// a session. Nobody in particular where multicast is flooded.
    pub fn wanting_all(&self) -> impl Iterator<Item = (Owner, Option<u16>)> {
        let ports = self.groups.wanting_all();
        let ports = ports.map(|(port, vlan)| (Owner::Local(port), vlan));
        let peers = self
            .peers
            .wanting_all()
            .map(|peer| (Owner::Peer(peer), None));
        let snoops = self.config.snoop;
        ports.chain(peers).filter(move |_| snoops)
    }

    /// The VLANs that a peer said to carry; `None` while it has said nothing, and gets all.
    #[must_use]
    pub fn carried(&self, peer: PeerId) -> Option<&VlanBits> {
        self.peers.get(peer)?.carried.as_deref()
    }

    /// What a peer's certificate allows; `None`: it has none.
    #[must_use]
    pub fn grants(&self, peer: PeerId) -> Option<&Grants> {
        self.peers.get(peer)?.grants.as_deref()
    }

    /// Whom a rendezvous names for an address that nobody was heard with, where it is asked.
    #[must_use]
    pub fn directed(&self, key: FdbKey) -> Option<PeerId> {
        let asks = self.config.asks_directory;
        self.directory.place(key).filter(|_| asks)
    }

    /// Every address that is frozen.
    pub fn alarms(&self) -> impl Iterator<Item = Alarm> {
        self.fdb.frozen().filter_map(|(key, until)| {
            let owner = self.fdb.owner(key)?;
            Some(Alarm { key, owner, until })
        })
    }

    /// What happened since the start.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }
}
