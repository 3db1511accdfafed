//! What a rendezvous says of who has which address, every word of it signed by who says to.
//!
//! It is not heard on the wire, so it never displaces anybody who is: it says where to send what
//! would be flooded, and it settles who comes after a peer that does not answer any more. Until
//! then a peer's addresses are its own, as long as nothing else is heard of them.
//!
//! ```text
//!   told, untold ----> Directory ----> SetDirectory, for frames to addresses that nobody has
//!   set_silent ------>     |    \----> the addresses of a silent peer, to whom they are told of
//!   claims, rivals ---> wanted ------> local_bindings, to be settled by a rendezvous
//!                       granted <----- it has
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use omni_control::message::{Command, FdbKey, Owner, PeerId};
use omni_wire::{Instant, MacAddr};

use super::Switch;
use super::bindings::BindKey;
use super::deadlines::successor;
use super::fdb::Stamp;
use super::peers::is_host;
use super::types::{Audience, Told};

/// One word about a host: that it has this IP address, or that it is there.
type Word = (FdbKey, Option<IpAddr>);

/// Whose word it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Said {
    peer: PeerId,
    sequence: u64,
    until: Instant,
}

/// All that was said and holds.
#[derive(Debug, Default)]
pub(super) struct Directory {
    said: BTreeMap<Word, Said>,
    counts: BTreeMap<PeerId, usize>,
    /// Peers to be asked whether they are there.
    checks: BTreeSet<PeerId>,
}

impl Directory {
    /// Behind whom a host is: of what is said of it the newest holds.
    pub(super) fn place(&self, key: FdbKey) -> Option<PeerId> {
        let of_key = self.said.range((key, None)..);
        let of_key = of_key.take_while(|((other, _), _)| *other == key);
        let newest = of_key.max_by_key(|(_, said)| said.sequence);
        newest.map(|(_, said)| said.peer)
    }

    /// What is said of a host's IP addresses.
    fn addresses(&self, key: FdbKey) -> impl Iterator<Item = (IpAddr, Said)> {
        let of_key = self.said.range((key, None)..);
        let of_key = of_key.take_while(move |((other, _), _)| *other == key);
        of_key.filter_map(|(&(_, ip), &said)| Some((ip?, said)))
    }

    fn insert(&mut self, word: Word, said: Said) {
        self.remove(&word);
        *self.counts.entry(said.peer).or_default() += 1;
        self.said.insert(word, said);
    }

    fn remove(&mut self, word: &Word) -> Option<Said> {
        let said = self.said.remove(word)?;
        if let Some(count) = self.counts.get_mut(&said.peer) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&said.peer);
            }
        }
        Some(said)
    }

    fn count(&self, peer: PeerId) -> usize {
        self.counts.get(&peer).copied().unwrap_or(0)
    }

    fn of(&self, peer: PeerId) -> Vec<Word> {
        if self.count(peer) == 0 {
            return Vec::new();
        }
        let all = self.said.iter();
        let its = all.filter(|(_, said)| said.peer == peer);
        its.map(|(&word, _)| word).collect()
    }

    /// The next peer to be asked whether it is there.
    pub(super) fn next_check(&mut self) -> Option<PeerId> {
        self.checks.pop_first()
    }

    /// Has a peer asked.
    pub(super) fn check(&mut self, peer: PeerId) {
        self.checks.insert(peer);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.said.len()
    }
}

impl Switch {
    /// A rendezvous says that a host behind a peer has an address, for so long. Where anybody is
    /// heard with it, that holds.
    pub fn told(&mut self, now: Instant, told: Told, lifetime: Duration) {
        let Told {
            key,
            ip,
            peer,
            sequence,
        } = told;
        let limits = self.peers.limits(peer);
        let most = limits.macs_max + limits.addresses_max;
        let may_be = self.peers.get(peer).is_some()
            && self.carries(key.vlan)
            && !(key.mac.is_multicast() || key.mac.is_zero())
            && ip.is_none_or(is_host);
        let known = self.directory.said.get(&(key, ip));
        let is_new = known.is_none_or(|said| said.peer != peer);
        if !may_be || is_new && self.directory.count(peer) >= most {
            self.counters.bindings_refused += 1;
            return;
        }
        let before = self.directory.place(key);
        let until = now + lifetime;
        let said = Said {
            peer,
            sequence,
            until,
        };
        self.directory.insert((key, ip), said);
        self.follow_directory(key, before);
        self.inherit_host(now, key);
        if let Some(ip) = ip {
            self.inherit_address(now, (key.vlan, ip), said);
            self.tell_binding(now, (key.vlan, ip), key.mac, said);
        }
    }

    /// What a rendezvous said holds no more.
    pub fn untold(&mut self, now: Instant, told: Told) {
        let Told { key, ip, peer, .. } = told;
        let word = (key, ip);
        let is_its = self.directory.said.get(&word);
        if is_its.is_none_or(|said| said.peer != peer) {
            return;
        }
        let before = self.directory.place(key);
        self.directory.remove(&word);
        self.follow_directory(key, before);
        if let Some(ip) = ip {
            self.forget_told(now, (key.vlan, ip), Owner::Peer(peer));
        }
    }

    /// Forgets what a peer that is gone said.
    pub(super) fn forget_directory(&mut self, peer: PeerId) {
        self.directory.checks.remove(&peer);
        for word @ (key, _) in self.directory.of(peer) {
            let before = self.directory.place(key);
            self.directory.remove(&word);
            self.follow_directory(key, before);
        }
    }

    /// Workers are told, where they go by it.
    fn follow_directory(&mut self, key: FdbKey, before: Option<PeerId>) {
        let peer = self.directory.place(key);
        if self.config.asks_directory && peer != before {
            self.order(Audience::All, Command::SetDirectory { key, peer });
        }
    }

    /// A peer is called and does not answer, or was heard again. What a silent one has goes to
    /// whom the rendezvous names, and may be asked for by us.
    pub fn set_silent(&mut self, now: Instant, peer: PeerId, silent: bool) {
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        if std::mem::replace(&mut known.silent, silent) == silent {
            return;
        }
        self.bindings.local_changed = true;
        if !silent {
            return;
        }
        let owner = Owner::Peer(peer);
        for key in self.fdb.of(owner) {
            self.inherit_host(now, key);
        }
        let all = self.bindings.iter();
        let its = all.filter(|(_, binding)| binding.word.owner == owner);
        let its: BTreeSet<BindKey> = its.map(|(&key, _)| key).collect();
        let told: Vec<(BindKey, MacAddr, Said)> = self
            .directory
            .said
            .iter()
            .filter_map(|(&(key, ip), &said)| Some(((key.vlan, ip?), key.mac, said)))
            .filter(|(key, ..)| its.contains(key))
            .collect();
        for (key, mac, said) in told {
            self.inherit_address(now, key, said);
            self.tell_binding(now, key, mac, said);
        }
    }

    fn is_silent(&self, owner: Owner) -> bool {
        match owner {
            Owner::Local(_) => false,
            Owner::Peer(peer) => self.peers.get(peer).is_some_and(|peer| peer.silent),
        }
    }

    /// A silent peer's host goes to whom the rendezvous names.
    fn inherit_host(&mut self, now: Instant, key: FdbKey) {
        let (Some(Owner::Peer(held)), Some(heir)) =
            (self.fdb.owner(key), self.directory.place(key))
        else {
            return;
        };
        if held == heir || self.fdb.is_fixed(now, key) {
            return;
        }
        if !self.is_silent(Owner::Peer(held)) {
            // Whether it is silent is to be found out.
            self.directory.check(held);
            return;
        }
        let to = Owner::Peer(heir);
        if !self.accounts.may_change(now, to) {
            self.counters.records_limited += 1;
            return;
        }
        // Its next number is its own to give.
        self.hand_over(now, key, to, to, None);
        let addresses: Vec<(IpAddr, Said)> = self.directory.addresses(key).collect();
        for (ip, said) in addresses {
            self.tell_binding(now, (key.vlan, ip), key.mac, said);
        }
    }

    /// A silent peer loses an IP address that the rendezvous says is somebody else's.
    fn inherit_address(&mut self, now: Instant, key: BindKey, said: Said) {
        let Some(held) = self.bindings.get(key) else {
            return;
        };
        let owner = held.word.owner;
        if owner != Owner::Peer(said.peer) && !held.is_static() && self.is_silent(owner) {
            self.unbind(now, key, false);
        }
    }

    fn tell_binding(&mut self, now: Instant, key: BindKey, mac: MacAddr, said: Said) {
        let left = said.until.since(now);
        self.bind_told(now, key, mac, Owner::Peer(said.peer), left);
    }

    /// Whether [`Switch::local_bindings`] gives something else than when this was asked last.
    pub fn take_local_change(&mut self) -> bool {
        let moved = self.fdb.take_local_change() | self.claims.take_change();
        std::mem::take(&mut self.bindings.local_changed) || moved
    }

    /// The addresses that local hosts have, (VLAN, IP address, MAC address), without an IP address
    /// for hosts of which none is known; and those that they show while a peer that does not
    /// answer has them, for a rendezvous to settle.
    pub fn local_bindings(&self) -> impl Iterator<Item = (u16, Option<IpAddr>, MacAddr)> {
        let local = self.bindings.iter().filter(|(_, held)| held.is_local());
        let local = local.map(|(&(vlan, ip), held)| (vlan, Some(ip), held.word.mac));
        let nameless = self.fdb.local().filter(|&key| !self.bindings.is_bound(key));
        let nameless = nameless.map(|key| (key.vlan, None, key.mac));
        let claimed = self.claims.keys().filter(|&key| self.is_up_for_grabs(key));
        let claimed = claimed.map(|key| (key.vlan, None, key.mac));
        let rivals = self.bindings.iter().filter_map(|(&(vlan, ip), held)| {
            let (_, rival) = held.rival?;
            let is_ours = matches!(rival.owner, Owner::Local(_));
            (is_ours && !held.is_static() && self.is_silent(held.word.owner)).then_some((
                vlan,
                Some(ip),
                rival.mac,
            ))
        });
        local.chain(nameless).chain(claimed).chain(rivals)
    }

    fn is_up_for_grabs(&self, key: FdbKey) -> bool {
        self.fdb
            .owner(key)
            .is_some_and(|owner| self.is_silent(owner))
    }

    /// A rendezvous has settled that an address is ours: what a silent peer still has of it goes
    /// to the host that shows it here.
    pub fn granted(&mut self, now: Instant, vlan: u16, ip: Option<IpAddr>, mac: MacAddr) {
        match ip {
            Some(ip) => self.take_address(now, (vlan, ip), mac),
            None => self.take_host(now, FdbKey { vlan, mac }),
        }
    }

    fn take_host(&mut self, now: Instant, key: FdbKey) {
        let port = self.claims.port(key);
        if let Some(port) = port.filter(|_| self.is_up_for_grabs(key)) {
            let to = Owner::Local(port);
            let last = self.fdb.get(key).and_then(|entry| entry.stamp);
            let sequence = successor(now, last.map(|stamp| stamp.sequence));
            let epoch = self.peers.epoch(to);
            self.hand_over(now, key, to, to, Some(Stamp { sequence, epoch }));
        }
    }

    fn take_address(&mut self, now: Instant, key: BindKey, mac: MacAddr) {
        let Some(held) = self.bindings.get(key) else {
            return;
        };
        let is_ours = held
            .rival
            .is_some_and(|(_, rival)| rival.mac == mac && matches!(rival.owner, Owner::Local(_)));
        if is_ours && !held.is_static() && self.is_silent(held.word.owner) {
            self.unbind(now, key, true);
        }
    }

    /// A peer of whom it is to be found out whether it is there.
    pub fn poll_check(&mut self) -> Option<PeerId> {
        self.directory.next_check()
    }
}
