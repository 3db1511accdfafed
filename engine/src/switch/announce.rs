//! What is sent to peers.
//!
//! Changes go to all peers at once, packed into records. Everything goes to a peer when there is a
//! session with it and every minute from then on, a few records at a time, so that it is neither
//! more than the peer reads nor more than the workers' mailboxes take.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use omni_control::message::{FdbKey, Owner, PeerId, VlanBits};
use omni_wire::Instant;
use omni_wire::record::{
    Announcement, Claim, Entry, GROUPS_ALL, GROUPS_FIRST, GROUPS_LAST, GroupChange,
    RECORD_HEADER_LEN, RECORD_MAX, Release, VLANS_LEN, Withdrawal, Writer, emit_vlans,
};

use super::Switch;
use super::bindings::BindKey;
use super::deadlines::Deadlines;
use super::groups::{GroupKey, MEMBERSHIPS_MAX};
use super::types::Send;

/// The most questions to hosts that wait; further ones are left out.
pub(super) const ASKS_MAX: usize = 4096;
/// Everything is told again after this time.
const REFRESH: Duration = Duration::from_secs(60);
/// Full lists are sent so many records at a time, for all peers together ...
const LIST_RECORDS: usize = 64;
/// ... in this time.
const LIST_INTERVAL: Duration = Duration::from_millis(10);

/// What is next in telling a peer everything: after which key to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Vlans,
    Groups { after: Option<GroupKey> },
    Bindings { after: Option<BindKey> },
    Releases { after: Option<FdbKey> },
    Done,
}

/// Everything that waits to be sent.
#[derive(Debug)]
pub(super) struct Outbox {
    asks: VecDeque<Send>,
    /// Claims to be sent.
    pub(super) claims: BTreeSet<(PeerId, FdbKey)>,
    /// A record on its way to all peers, and who is next.
    broadcast: Option<(Box<[u8]>, PeerId)>,
    lists: BTreeMap<PeerId, Stage>,
    /// Whose turn it is.
    turn: PeerId,
    refresh: Deadlines<PeerId>,
    /// Records of lists that may still be sent before `more_at`.
    budget: usize,
    more_at: Instant,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            asks: VecDeque::new(),
            claims: BTreeSet::new(),
            broadcast: None,
            lists: BTreeMap::new(),
            turn: PeerId(0),
            refresh: Deadlines::default(),
            budget: LIST_RECORDS,
            more_at: Instant(0),
        }
    }
}

impl Outbox {
    /// Adds a question to hosts. False when too many wait.
    pub(super) fn push(&mut self, ask: Send) -> bool {
        let fits = self.asks.len() < ASKS_MAX;
        if fits {
            self.asks.push_back(ask);
        }
        fits
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.next_list_at()
            .into_iter()
            .chain(self.refresh.next())
            .min()
    }

    /// When the lists that are being told go on.
    pub(super) fn next_list_at(&self) -> Option<Instant> {
        let waits = !self.lists.is_empty() && self.budget == 0;
        waits.then_some(self.more_at)
    }

    /// Tells a peer everything, now and from time to time.
    pub(super) fn tell_everything(&mut self, now: Instant, peer: PeerId) {
        self.lists.insert(peer, Stage::Vlans);
        self.refresh.set(peer, now + REFRESH);
        self.replenish(now);
    }

    /// The peer is told nothing any more.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.lists.remove(&peer);
        self.refresh.remove(&peer);
        self.claims.retain(|&(to, _)| to != peer);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(peer) = self.refresh.pop_due(now) {
            self.tell_everything(now, peer);
        }
        self.replenish(now);
    }

    fn replenish(&mut self, now: Instant) {
        if now >= self.more_at {
            self.budget = LIST_RECORDS;
            self.more_at = now + LIST_INTERVAL;
        }
    }

    /// The peer whose list goes on.
    fn next_list(&mut self) -> Option<(PeerId, Stage)> {
        if self.budget == 0 {
            return None;
        }
        let mut rest = self.lists.range(self.turn..);
        let next = rest.next().or_else(|| self.lists.first_key_value());
        let (&peer, &stage) = next?;
        self.turn = PeerId(peer.0.wrapping_add(1));
        Some((peer, stage))
    }

    fn set_list(&mut self, peer: PeerId, stage: Stage) {
        if stage == Stage::Done {
            self.lists.remove(&peer);
        } else {
            self.lists.insert(peer, stage);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.asks.len().max(self.claims.len())
    }
}

/// Packs entries into one record, as many as fit. `None` when there are none.
pub(super) fn pack<E: Entry>(
    mut next: impl FnMut(&mut Writer<'_, E>) -> bool,
) -> Option<Box<[u8]>> {
    let mut out = [0; RECORD_MAX];
    let mut writer = Writer::new(&mut out, &[])?;
    let mut count = 0;
    while next(&mut writer) {
        count += 1;
    }
    let len = writer.finish();
    (count > 0).then(|| out[..len].into())
}

/// Packs entries of a list, from the one after `after` on. Gives also the last that fitted,
/// `None` when the list ended.
fn pack_list<E: Entry, K: Copy>(
    after: Option<K>,
    next: impl Fn(Option<K>) -> Option<K>,
    entry: impl Fn(K) -> Option<E>,
) -> (Option<Box<[u8]>>, Option<K>) {
    let mut last = after;
    let mut ended = false;
    let record = pack(|writer| {
        while let Some(key) = next(last) {
            let fits = entry(key).map(|entry| writer.push(&entry));
            if fits != Some(false) {
                last = Some(key);
            }
            if let Some(fits) = fits {
                return fits;
            }
        }
        ended = true;
        false
    });
    (record, last.filter(|_| !ended))
}

impl Switch {
    /// What is to be sent next.
    pub fn poll_send(&mut self) -> Option<Send> {
        if let Some(ask) = self.outbox.asks.pop_front() {
            return Some(ask);
        }
        self.next_claim()
            .or_else(|| self.next_wish())
            .or_else(|| self.next_answer())
            .or_else(|| self.next_broadcast())
            .or_else(|| self.next_list())
            .map(|(peer, record)| Send::Record { peer, record })
    }

    fn next_claim(&mut self) -> Option<(PeerId, Box<[u8]>)> {
        loop {
            let &(peer, _) = self.outbox.claims.first()?;
            let record = pack(|writer| {
                while let Some(&(to, key)) = self.outbox.claims.first()
                    && to == peer
                {
                    let entry = self.fdb.get(key);
                    let asked = entry.filter(|entry| entry.owner == Owner::Peer(peer));
                    let fits = asked.map(|entry| {
                        let known = entry.stamp.map_or(0, |stamp| stamp.sequence);
                        writer.push(&Claim {
                            vlan: key.vlan,
                            mac: key.mac,
                            sequence: known.wrapping_add(1),
                        })
                    });
                    if fits != Some(false) {
                        self.outbox.claims.pop_first();
                    }
                    if let Some(fits) = fits {
                        return fits;
                    }
                }
                false
            });
            if let Some(record) = record {
                return Some((peer, record));
            }
        }
    }

    fn next_answer(&mut self) -> Option<(PeerId, Box<[u8]>)> {
        let mut peer = None;
        let record = pack(|writer: &mut Writer<'_, Release>| {
            let Some((to, release)) = self.releases.take_answer(peer) else {
                return false;
            };
            peer = Some(to);
            let fits = writer.push(&release);
            if !fits {
                self.releases.put_answer(to, release);
            }
            fits
        });
        peer.zip(record)
    }

    /// The record that is on its way to all peers, to the next of them.
    fn next_broadcast(&mut self) -> Option<(PeerId, Box<[u8]>)> {
        loop {
            let (record, from) = match self.outbox.broadcast.take() {
                Some(begun) => begun,
                None => (self.next_news()?, PeerId(0)),
            };
            let Some(peer) = self.peers.next_up(from) else {
                continue;
            };
            if let Some(next) = peer.0.checked_add(1) {
                self.outbox.broadcast = Some((record.clone(), PeerId(next)));
            }
            return Some((peer, record));
        }
    }

    /// A record of what changed.
    fn next_news(&mut self) -> Option<Box<[u8]>> {
        self.released()
            .or_else(|| self.announced())
            .or_else(|| self.withdrawn())
            .or_else(|| self.regrouped())
    }

    fn released(&mut self) -> Option<Box<[u8]>> {
        pack(|writer| {
            while let Some(key) = self.releases.news.first() {
                // It may be ours again.
                let fits = self.releases.get(key).map(|release| writer.push(&release));
                if fits != Some(false) {
                    self.releases.news.told(&key);
                }
                if let Some(fits) = fits {
                    return fits;
                }
            }
            false
        })
    }

    /// Announcements, up to the first binding that is gone.
    fn announced(&mut self) -> Option<Box<[u8]>> {
        pack::<Announcement>(|writer| {
            while let Some(key) = self.bindings.news.first() {
                let fits = match self.bindings.announcement(key) {
                    Some(Ok(announcement)) => writer.push(&announcement),
                    Some(Err(_)) => return false,
                    None => {
                        self.bindings.news.told(&key);
                        continue;
                    }
                };
                if fits {
                    self.bindings.news.told(&key);
                }
                return fits;
            }
            false
        })
    }

    /// Withdrawals, up to the first binding that is there.
    fn withdrawn(&mut self) -> Option<Box<[u8]>> {
        pack::<Withdrawal>(|writer| {
            let Some(key) = self.bindings.news.first() else {
                return false;
            };
            let Some(Err(withdrawal)) = self.bindings.announcement(key) else {
                return false;
            };
            let fits = writer.push(&withdrawal);
            if fits {
                self.bindings.news.told(&key);
            }
            fits
        })
    }

    fn regrouped(&mut self) -> Option<Box<[u8]>> {
        let flags = self.group_flags();
        let told = self.groups.flags.first().is_some();
        let news = &mut self.groups.news;
        if !told && news.first().is_none() {
            return None;
        }
        let mut out = [0; RECORD_MAX];
        let mut writer = Writer::new(&mut out, &[flags])?;
        while let Some(key) = self.groups.news.first() {
            let (vlan, group) = key;
            let change = GroupChange {
                join: self.groups.is_local(key),
                vlan,
                group,
            };
            if !writer.push(&change) {
                break;
            }
            self.groups.news.told(&key);
        }
        self.groups.flags.told(&());
        let len = writer.finish();
        Some(out[..len].into())
    }

    fn group_flags(&self) -> u8 {
        if self.wants_everything() {
            GROUPS_ALL
        } else {
            0
        }
    }

    /// The next record of a list that is being told to a peer.
    fn next_list(&mut self) -> Option<(PeerId, Box<[u8]>)> {
        loop {
            let (peer, stage) = self.outbox.next_list()?;
            if !self.peers.is_up(peer) {
                self.outbox.remove(peer);
                continue;
            }
            let (record, next) = self.list_record(stage);
            self.outbox.set_list(peer, next);
            if let Some(record) = record {
                self.outbox.budget -= 1;
                return Some((peer, record));
            }
        }
    }

    fn list_record(&self, stage: Stage) -> (Option<Box<[u8]>>, Stage) {
        match stage {
            Stage::Vlans => (vlans_record(&self.vlans), Stage::Groups { after: None }),
            Stage::Groups { after } => self.groups_record(after),
            Stage::Bindings { after } => {
                let (record, more) = pack_list(
                    after,
                    |after| self.bindings.next_local(after),
                    |key| self.bindings.announcement(key)?.ok(),
                );
                let next = match more {
                    Some(_) => Stage::Bindings { after: more },
                    None => Stage::Releases { after: None },
                };
                (record, next)
            }
            Stage::Releases { after } => {
                let (record, more) = pack_list(
                    after,
                    |after| self.releases.next_given(after),
                    |key| self.releases.get(key),
                );
                let next = match more {
                    Some(_) => Stage::Releases { after: more },
                    None => Stage::Done,
                };
                (record, next)
            }
            Stage::Done => (None, Stage::Done),
        }
    }

    /// A record of the full list of groups. Who wants more of them than peers keep wants all.
    fn groups_record(&self, after: Option<GroupKey>) -> (Option<Box<[u8]>>, Stage) {
        let done = Stage::Bindings { after: None };
        let first = if after.is_none() { GROUPS_FIRST } else { 0 };
        let mut out = [0; RECORD_MAX];
        let Some(mut writer) = Writer::new(&mut out, &[0]) else {
            return (None, done);
        };
        let none = self.groups.local_count() > MEMBERSHIPS_MAX;
        let mut last = after;
        let next = loop {
            let key = self.groups.next_local(last).filter(|_| !none);
            let Some(key @ (vlan, group)) = key else {
                break done;
            };
            let change = GroupChange {
                join: true,
                vlan,
                group,
            };
            if !writer.push(&change) {
                break Stage::Groups { after: last };
            }
            last = Some(key);
        };
        let len = writer.finish();
        let end = if next == done { GROUPS_LAST } else { 0 };
        out[RECORD_HEADER_LEN] = first | end | self.group_flags();
        (Some(out[..len].into()), next)
    }
}

fn vlans_record(vlans: &VlanBits) -> Option<Box<[u8]>> {
    let mut bits = [0; VLANS_LEN];
    for (octets, word) in bits.chunks_exact_mut(8).zip(vlans.0) {
        octets.copy_from_slice(&word.to_le_bytes());
    }
    let mut out = [0; RECORD_MAX];
    let len = emit_vlans(&mut out, &bits)?;
    Some(out[..len].into())
}
