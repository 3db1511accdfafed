//! Bindings of IP addresses to MAC addresses.
//!
//! The first live owner holds an address. What a local host says binds it, and is announced to
//! peers; what hosts behind peers say binds too, until the peer itself announces something. Whose
//! MAC address is somebody else's binds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use omni_control::message::{Command, FdbKey, Owner, PeerId};
use omni_wire::record::{Announcement, Withdrawal};
use omni_wire::{Instant, MacAddr};

use super::Switch;
use super::contests::ASKED_FOR_MAX;
use super::deadlines::{Deadlines, News, is_newer, successor};
use super::fdb::Stamp;
use super::ledger::{Ledger, Room};
use super::moves::EXPIRED_MAX;
use super::peers::is_host;
use super::types::{Audience, Bound, Neighbor, Source};

/// A binding that nobody confirms is forgotten after this time.
pub const BINDING_LIFETIME: Duration = Duration::from_secs(300);
/// A local host that was not heard for this long is asked.
const ASK_AFTER: Duration = Duration::from_secs(225);
/// Between two such questions: three of them.
const ASK_AGAIN: Duration = Duration::from_secs(25);
/// Whoever wanted a binding that was held gets it when it becomes free within this time.
const RIVAL_FRESH: Duration = Duration::from_secs(60);
/// A rival is not replaced by another before this time.
const RIVAL_STALE: Duration = Duration::from_secs(30);
/// The most withdrawn bindings that peers may still have to be told of.
pub(super) const WITHDRAWN_MAX: usize = 4096;
/// For how long.
const WITHDRAWN_FOR: Duration = Duration::from_secs(5);

/// (VLAN, IP address).
pub(super) type BindKey = (u16, IpAddr);

/// What is said of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Word {
    pub(super) mac: MacAddr,
    pub(super) owner: Owner,
    source: Source,
    lifetime: Duration,
    stamp: Option<Stamp>,
}

/// A binding.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) word: Word,
    pub(super) seen: Instant,
    expires: Instant,
    /// Of our announcements.
    sequence: u32,
    /// Who wanted it meanwhile, and when.
    pub(super) rival: Option<(Instant, Word)>,
    /// When its holder was last asked to give it to us, and the number of that announcement.
    pub(super) wished: Option<(Instant, u32)>,
}

impl Binding {
    pub(super) fn is_local(&self) -> bool {
        matches!(self.word.owner, Owner::Local(_))
    }

    pub(super) fn is_static(&self) -> bool {
        self.word.source == Source::Static
    }

    pub(super) fn neighbor(&self, (vlan, ip): BindKey) -> Neighbor {
        let Word { mac, owner, .. } = self.word;
        Neighbor {
            bound: Bound {
                vlan,
                ip,
                mac,
                owner,
            },
            source: self.word.source,
            seen: self.seen,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    entries: BTreeMap<BindKey, Binding>,
    by_mac: BTreeSet<(FdbKey, IpAddr)>,
    ledger: Ledger<BindKey>,
    due: Deadlines<BindKey>,
    withdrawn: BTreeMap<BindKey, u32>,
    forget: Deadlines<BindKey>,
    sequence: Option<u32>,
    pub(super) news: News<BindKey>,
    /// Whether local ones came, went or changed since that was asked.
    pub(super) local_changed: bool,
}

const fn mac_key(key: BindKey, mac: MacAddr) -> FdbKey {
    FdbKey { vlan: key.0, mac }
}

const fn first_ip() -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
}

impl Bindings {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// How many are of local ports, and how many of peers; none that were set.
    pub(super) const fn totals(&self) -> [usize; 2] {
        self.ledger.totals()
    }

    pub(super) fn get(&self, key: BindKey) -> Option<&Binding> {
        self.entries.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: BindKey) -> Option<&mut Binding> {
        self.entries.get_mut(&key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&BindKey, &Binding)> {
        self.entries.iter()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let times = [self.due.next(), self.forget.next(), self.news.next()];
        times.into_iter().flatten().min()
    }

    /// Whether a local host has any IP address.
    pub(super) fn is_bound(&self, key: FdbKey) -> bool {
        let mut of_mac = self.of_mac(key);
        of_mac.any(|bind| self.entries.get(&bind).is_some_and(Binding::is_local))
    }

    fn of_mac(&self, key: FdbKey) -> impl Iterator<Item = BindKey> {
        let from = self.by_mac.range((key, first_ip())..);
        let of_key = from.take_while(move |(other, _)| *other == key);
        of_key.map(|&(key, ip)| (key.vlan, ip))
    }

    /// The IP addresses of a host that were confirmed last, some of them.
    pub(super) fn latest_of(&self, key: FdbKey, most: usize) -> Vec<IpAddr> {
        let known = self.of_mac(key).take(most * 8);
        let mut known: Vec<(Instant, IpAddr)> = known
            .filter_map(|bind| Some((self.entries.get(&bind)?.seen, bind.1)))
            .collect();
        known.sort_unstable_by(|a, b| b.cmp(a));
        known.truncate(most);
        known.into_iter().map(|(_, ip)| ip).collect()
    }

    /// What is to be announced of a binding: it, or that it is gone.
    pub(super) fn announcement(&self, key: BindKey) -> Option<Result<Announcement, Withdrawal>> {
        let (vlan, ip) = key;
        match self.entries.get(&key).filter(|binding| binding.is_local()) {
            Some(binding) => Some(Ok(Announcement {
                vlan,
                sequence: binding.sequence,
                lifetime: BINDING_LIFETIME.as_secs() as u16,
                mac: binding.word.mac,
                ip,
            })),
            None => self
                .withdrawn
                .get(&key)
                .map(|&sequence| Err(Withdrawal { vlan, sequence, ip })),
        }
    }

    /// The first local binding after `after`.
    pub(super) fn next_local(&self, after: Option<BindKey>) -> Option<BindKey> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, Excluded);
        let mut rest = self.entries.range((start, Unbounded));
        rest.find(|(_, binding)| binding.is_local())
            .map(|(&key, _)| key)
    }

    pub(super) fn next_sequence(&mut self, now: Instant) -> u32 {
        let next = successor(now, self.sequence);
        self.sequence = Some(next);
        next
    }

    fn insert(&mut self, now: Instant, key: BindKey, word: Word) {
        let is_local = matches!(word.owner, Owner::Local(_));
        let binding = Binding {
            word,
            seen: now,
            expires: now + word.lifetime,
            sequence: if is_local { self.next_sequence(now) } else { 0 },
            rival: None,
            wished: None,
        };
        self.by_mac.insert((mac_key(key, word.mac), key.1));
        if word.source != Source::Static {
            self.ledger.add(word.owner, now, key);
            self.due.set(key, look_at(now, &binding));
        }
        self.entries.insert(key, binding);
        if is_local {
            self.withdrawn.remove(&key);
            self.forget.remove(&key);
            self.news.changed(now, key);
            self.local_changed = true;
        }
    }

    fn remove(&mut self, now: Instant, key: BindKey) -> Option<Binding> {
        let binding = self.entries.remove(&key)?;
        self.by_mac.remove(&(mac_key(key, binding.word.mac), key.1));
        self.ledger.remove(binding.word.owner, binding.seen, key);
        self.due.remove(&key);
        if binding.is_local() {
            self.withdraw(now, key);
            self.local_changed = true;
        }
        Some(binding)
    }

    fn withdraw(&mut self, now: Instant, key: BindKey) {
        let sequence = self.next_sequence(now);
        if self.withdrawn.len() >= WITHDRAWN_MAX
            && let Some(oldest) = self.forget.pop_due(Instant(u64::MAX))
        {
            self.withdrawn.remove(&oldest);
        }
        self.withdrawn.insert(key, sequence);
        self.forget.set(key, now + WITHDRAWN_FOR);
        self.news.changed(now, key);
    }

    fn confirm(&mut self, now: Instant, key: BindKey, word: Word) {
        let Some(binding) = self.entries.get_mut(&key) else {
            return;
        };
        let seen = std::mem::replace(&mut binding.seen, now);
        if binding.is_static() {
            return;
        }
        if word.source == Source::Announced || binding.word.source == Source::Nucleus {
            binding.word.source = word.source;
            binding.word.stamp = word.stamp;
        }
        binding.expires = binding.expires.max(now + word.lifetime);
        self.ledger.touch(binding.word.owner, seen, now, key);
        self.due.set(key, look_at(now, binding));
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.news.handle_timeout(now);
        while let Some(key) = self.forget.pop_due(now) {
            self.withdrawn.remove(&key);
        }
    }
}

/// When a binding needs looking after: its host is to be asked, or it is over.
fn look_at(now: Instant, binding: &Binding) -> Instant {
    let asked = if now < binding.seen + ASK_AFTER {
        binding.seen + ASK_AFTER
    } else {
        now + ASK_AGAIN
    };
    if binding.is_local() {
        asked.min(binding.expires)
    } else {
        binding.expires
    }
}

impl Switch {
    /// A worker saw a host tell its IP address.
    pub fn bound(&mut self, now: Instant, bound: Bound) {
        let Bound {
            vlan,
            ip,
            mac,
            owner,
        } = bound;
        let word = Word {
            mac,
            owner,
            source: Source::Snooped,
            lifetime: BINDING_LIFETIME,
            stamp: None,
        };
        let key = (vlan, ip);
        let owns = self.fdb.owner(FdbKey { vlan, mac }) == Some(owner);
        if is_host(ip) && owns {
            self.say(now, key, word);
        } else {
            self.counters.bindings_refused += 1;
        }
        let held = self.bindings.get(key).map(|held| held.word);
        if held.is_none_or(|held| (held.mac, held.owner) != (mac, owner)) {
            self.set_right(key, held);
        }
    }

    /// The worker that reported a binding may have learned it: tells all how it is.
    fn set_right(&mut self, (vlan, ip): BindKey, held: Option<Word>) {
        let order = match held {
            Some(Word { mac, owner, .. }) => Command::Bind {
                vlan,
                ip,
                mac,
                owner,
            },
            None => Command::Unbind { vlan, ip },
        };
        self.order(Audience::All, order);
    }

    /// Sets a binding that stays.
    pub fn bind_static(&mut self, now: Instant, bound: Bound) {
        let Bound {
            vlan,
            ip,
            mac,
            owner,
        } = bound;
        let key = (vlan, ip);
        let word = Word {
            mac,
            owner,
            source: Source::Static,
            lifetime: BINDING_LIFETIME,
            stamp: None,
        };
        self.close_dispute(key);
        self.remove_binding(now, key);
        self.insert_binding(now, key, word);
    }

    /// Somebody has an address by what a rendezvous says, for so long. Where anybody is heard with
    /// it, that holds.
    pub(super) fn bind_told(
        &mut self,
        now: Instant,
        key: BindKey,
        mac: MacAddr,
        owner: Owner,
        lifetime: Duration,
    ) {
        let held_by = self.fdb.owner(mac_key(key, mac));
        if held_by.is_some_and(|held_by| held_by != owner) {
            self.counters.bindings_refused += 1;
            return;
        }
        let word = Word {
            mac,
            owner,
            source: Source::Nucleus,
            lifetime,
            stamp: None,
        };
        match self.bindings.get(key).map(|held| held.word) {
            None => self.bind(now, key, word),
            Some(held) if held.source != Source::Nucleus => {}
            Some(held) if (held.owner, held.mac) == (owner, mac) => {
                self.bindings.confirm(now, key, word);
            }
            Some(_) => self.rebind(now, key, word),
        }
    }

    /// What a rendezvous said of an address holds no more.
    pub(super) fn forget_told(&mut self, now: Instant, key: BindKey, owner: Owner) {
        let held = self.bindings.get(key).map(|held| held.word);
        if held.is_some_and(|held| (held.source, held.owner) == (Source::Nucleus, owner)) {
            self.unbind(now, key, true);
        }
    }

    /// A peer announces an address.
    pub(super) fn handle_announcement(
        &mut self,
        now: Instant,
        peer: PeerId,
        announcement: Announcement,
    ) {
        let Announcement {
            vlan,
            sequence,
            lifetime,
            mac,
            ip,
        } = announcement;
        let owner = Owner::Peer(peer);
        let key = (vlan, ip);
        let held_by = self.fdb.owner(mac_key(key, mac));
        let may_be = is_host(ip)
            && self.carries(vlan)
            && !(mac.is_multicast() || mac.is_zero())
            && lifetime > 0
            && self.peers.grants(peer, vlan, mac, ip)
            && held_by.is_none_or(|held_by| held_by == owner);
        if !may_be {
            self.counters.bindings_refused += 1;
            return;
        }
        let epoch = self.peers.epoch(owner);
        let overtaken = |binding: &Binding| {
            let newest = binding.word.stamp.filter(|stamp| stamp.epoch == epoch);
            binding.word.owner == owner
                && newest.is_some_and(|newest| is_newer(newest.sequence, sequence))
        };
        let withdrawn = self
            .peers
            .get(peer)
            .is_some_and(|peer| peer.has_withdrawn(key, sequence));
        if withdrawn || self.bindings.get(key).is_some_and(overtaken) {
            return;
        }
        let word = Word {
            mac,
            owner,
            source: Source::Announced,
            lifetime: Duration::from_secs(lifetime.into()).min(BINDING_LIFETIME),
            stamp: Some(Stamp { sequence, epoch }),
        };
        self.say(now, key, word);
    }

    /// A peer withdraws an address. Only its own.
    pub(super) fn handle_withdrawal(&mut self, now: Instant, peer: PeerId, gone: Withdrawal) {
        let key = (gone.vlan, gone.ip);
        let owner = Owner::Peer(peer);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.withdrew(key, gone.sequence);
        }
        let epoch = self.peers.epoch(owner);
        let held = self.bindings.get(key).filter(|binding| {
            let stamp = binding.word.stamp.filter(|stamp| stamp.epoch == epoch);
            let renewed = stamp.is_some_and(|stamp| is_newer(stamp.sequence, gone.sequence));
            binding.word.owner == owner && !binding.is_static() && !renewed
        });
        if held.is_none() {
            return;
        }
        if self.accounts.may_change(now, owner) {
            self.unbind(now, key, true);
        } else {
            self.counters.records_limited += 1;
        }
    }

    /// Somebody who may have the MAC address says that it has the IP address.
    fn say(&mut self, now: Instant, key: BindKey, word: Word) {
        let Some(held) = self.bindings.get(key) else {
            self.bind(now, key, word);
            return;
        };
        if (held.word.owner, held.word.mac) == (word.owner, word.mac) {
            self.bindings.confirm(now, key, word);
            self.close_dispute(key);
        } else if held.word.source == Source::Nucleus {
            // Whoever is heard goes before.
            self.rebind(now, key, word);
        } else if held.word.owner == word.owner && word.source == Source::Announced {
            // Which of its hosts has it is for the peer to say.
            if held.is_static() {
                self.counters.bindings_refused += 1;
                let order = bind_order(key, held.word);
                self.order(Audience::All, order);
            } else {
                self.rebind(now, key, word);
            }
        } else {
            self.want_binding(now, key, word);
        }
    }

    /// Somebody wants what somebody else has.
    fn want_binding(&mut self, now: Instant, key: BindKey, word: Word) {
        let Some(held) = self.bindings.entries.get_mut(&key) else {
            return;
        };
        self.counters.bindings_refused += 1;
        if held.is_static() {
            return;
        }
        let replaces = held.rival.is_none_or(|(since, rival)| {
            rival.owner == word.owner
                || now.since(since) >= RIVAL_STALE
                || matches!(word.owner, Owner::Local(_))
        });
        if replaces {
            held.rival = Some((now, word));
        }
        if held.is_local() {
            self.open_dispute(now, key, word.owner);
        } else if let (Owner::Peer(holder), Owner::Local(_)) = (held.word.owner, word.owner) {
            self.bindings.local_changed = true;
            self.directory.check(holder);
            self.wish(now, key);
        }
    }

    fn bind(&mut self, now: Instant, key: BindKey, word: Word) {
        if !self.accounts.may_change(now, word.owner) {
            self.counters.records_limited += 1;
            return;
        }
        self.make_binding_room(now, word.owner);
        self.insert_binding(now, key, word);
    }

    /// Takes one from an owner that has as many as it may, or from who has the most.
    fn make_binding_room(&mut self, now: Instant, owner: Owner) {
        let limits = &self.config.limits;
        let (own_max, side_max) = match owner {
            Owner::Local(_) => (limits.local_addresses, limits.local_addresses),
            Owner::Peer(peer) => {
                let own_max = self.peers.limits(peer).addresses_max;
                (own_max, limits.peer_addresses)
            }
        };
        if let Room::After(oldest) = self.bindings.ledger.room(owner, own_max, side_max) {
            self.counters.evicted += 1;
            self.unbind(now, oldest, false);
        }
    }

    fn insert_binding(&mut self, now: Instant, key: BindKey, word: Word) {
        self.bindings.insert(now, key, word);
        self.order(Audience::All, bind_order(key, word));
        self.tell_hosts(now, key, word);
    }

    fn remove_binding(&mut self, now: Instant, key: BindKey) -> Option<Binding> {
        let removed = self.bindings.remove(now, key)?;
        self.formers.note(now, key, removed.word.mac);
        Some(removed)
    }

    /// The same owner has it at another MAC address, or another port of ours has it, or somebody
    /// was heard with what only a rendezvous told.
    fn rebind(&mut self, now: Instant, key: BindKey, word: Word) {
        if self.accounts.may_change(now, word.owner) {
            self.close_dispute(key);
            self.remove_binding(now, key);
            // The owner may be another one, that has as many as it may.
            self.make_binding_room(now, word.owner);
            self.insert_binding(now, key, word);
        } else {
            self.counters.records_limited += 1;
        }
    }

    /// Forgets a binding. Whoever wanted it meanwhile gets it, when that is asked for.
    pub(super) fn unbind(&mut self, now: Instant, key: BindKey, pass_on: bool) {
        self.close_dispute(key);
        let Some(binding) = self.remove_binding(now, key) else {
            return;
        };
        let (vlan, ip) = key;
        let heir = binding.rival.filter(|&(since, rival)| {
            let owner = self.fdb.owner(mac_key(key, rival.mac));
            let announced = rival.source == Source::Announced && owner.is_none();
            pass_on
                && now.since(since) < RIVAL_FRESH
                && (owner == Some(rival.owner) || announced)
                && self.knows(rival.owner)
        });
        self.order(Audience::All, Command::Unbind { vlan, ip });
        if let Some((_, rival)) = heir {
            self.bind(now, key, rival);
        }
    }

    fn knows(&self, owner: Owner) -> bool {
        match owner {
            Owner::Local(_) => true,
            Owner::Peer(peer) => self.peers.get(peer).is_some(),
        }
    }

    /// A MAC address is `owner`'s now: nobody else binds to it.
    pub(super) fn match_bindings(&mut self, now: Instant, key: FdbKey, owner: Owner) {
        let of_mac: Vec<BindKey> = self.bindings.of_mac(key).collect();
        let mut unknown = Vec::new();
        for bind in of_mac {
            let Some(held) = self.bindings.get(bind) else {
                continue;
            };
            let mut word = held.word;
            if word.owner == owner || held.is_static() {
                continue;
            }
            if held.is_local() && matches!(owner, Owner::Local(_)) {
                word.owner = owner;
                self.close_dispute(bind);
                self.remove_binding(now, bind);
                self.insert_binding(now, bind, word);
            } else {
                // The host is there and will say what it has. Nobody inherits from it.
                let is_heir = |rival: Word| (rival.mac, rival.owner) == (key.mac, owner);
                let returns = held.rival.is_some_and(|(_, rival)| is_heir(rival));
                self.unbind(now, bind, returns);
                unknown.push(bind.1);
            }
        }
        // A host that moved here may say nothing of its IP addresses for long: it is asked for
        // those that it had.
        if let Owner::Local(port) = owner {
            for ip in unknown.into_iter().take(ASKED_FOR_MAX) {
                self.ask_host(port, key, ip);
            }
        }
    }

    /// A MAC address is nobody's that we know, but somebody's.
    pub(super) fn drop_bindings_of(&mut self, now: Instant, key: FdbKey) {
        let of_mac: Vec<BindKey> = self.bindings.of_mac(key).collect();
        for bind in of_mac {
            self.unbind(now, bind, false);
        }
    }

    /// Asks local hosts that were not heard for long, and forgets what nobody confirmed.
    pub(super) fn run_bindings(&mut self, now: Instant) {
        self.bindings.handle_timeout(now);
        for _ in 0..EXPIRED_MAX {
            let Some(key) = self.bindings.due.pop_due(now) else {
                return;
            };
            let Some(binding) = self.bindings.entries.get(&key) else {
                continue;
            };
            if now >= binding.expires {
                self.unbind(now, key, true);
                continue;
            }
            self.bindings.due.set(key, look_at(now, binding));
            let (mac, owner) = (binding.word.mac, binding.word.owner);
            if let Owner::Local(port) = owner
                && now >= binding.seen + ASK_AFTER
            {
                self.ask_host(port, mac_key(key, mac), key.1);
            }
        }
    }

    /// Forgets what a peer has beyond its limit.
    pub(super) fn trim_bindings(&mut self, now: Instant, owner: Owner, most: usize) {
        while self.bindings.ledger.count(owner) > most.max(1)
            && let Some(oldest) = self.bindings.ledger.oldest(owner)
        {
            self.unbind(now, oldest, false);
        }
    }

    /// Forgets everything that is behind an owner.
    pub(super) fn forget_bindings(&mut self, now: Instant, owner: Owner) {
        let all = self.bindings.iter();
        let of_owner = all.filter(|(_, binding)| binding.word.owner == owner);
        let keys: Vec<BindKey> = of_owner.map(|(&key, _)| key).collect();
        for key in keys {
            self.unbind(now, key, true);
        }
    }
}

/// What workers are to know of a binding.
fn bind_order((vlan, ip): BindKey, word: Word) -> Command {
    let Word { mac, owner, .. } = word;
    Command::Bind {
        vlan,
        ip,
        mac,
        owner,
    }
}
