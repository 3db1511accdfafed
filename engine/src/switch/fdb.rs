//! The forwarding table: who owns an address, since when, and how often it moved.

use std::collections::BTreeMap;
use std::time::Duration;

use omni_control::message::{FdbKey, Owner};
use omni_wire::Instant;

use super::deadlines::Deadlines;
use super::ledger::{Ledger, Room};
use super::types::Kind;

/// An address that moves so often ...
const MOVES_MAX: usize = 5;
/// ... within this time ...
const MOVES_WITHIN: Duration = Duration::from_secs(180);
/// ... stays where it is for this time (RFC 7432 s.15.1 has the first two).
pub const FREEZE: Duration = Duration::from_secs(1800);

/// An address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Behind whom it is.
    pub owner: Owner,
    /// How it came here.
    pub kind: Kind,
    /// When it was last reported.
    pub seen: Instant,
    /// Whose account it is on. An address that one peer gave to another stays on the giver's
    /// until the new owner has spoken, so that nobody fills another's account.
    pub(super) payer: Owner,
    /// Of its last move, if that is known.
    pub(super) stamp: Option<Stamp>,
    /// When it moved, the latest last.
    pub(super) moves: Vec<Instant>,
}

impl Entry {
    /// The number of its last move, where that is known: nodes tell moves apart by it.
    #[must_use]
    pub fn sequence(&self) -> Option<u32> {
        self.stamp.map(|stamp| stamp.sequence)
    }
}

/// A sequence number, and the life of the peer that it is good for: one that was restarted counts
/// anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub(super) sequence: u32,
    pub(super) epoch: u32,
}

/// The table.
#[derive(Debug)]
pub(super) struct Fdb {
    ageing: Duration,
    entries: BTreeMap<FdbKey, Entry>,
    ledger: Ledger<FdbKey>,
    ages: Deadlines<FdbKey>,
    frozen: Deadlines<FdbKey>,
    /// Whether local ones came or went since that was asked.
    local_changed: bool,
}

impl Fdb {
    pub(super) fn new(ageing: Duration) -> Self {
        Self {
            ageing,
            entries: BTreeMap::new(),
            ledger: Ledger::default(),
            ages: Deadlines::default(),
            frozen: Deadlines::default(),
            local_changed: false,
        }
    }

    pub(super) fn get(&self, key: FdbKey) -> Option<&Entry> {
        self.entries.get(&key)
    }

    pub(super) fn owner(&self, key: FdbKey) -> Option<Owner> {
        self.entries.get(&key).map(|entry| entry.owner)
    }

    /// Every address behind a port.
    pub(super) fn local(&self) -> impl Iterator<Item = FdbKey> {
        let all = self.entries.iter();
        let local = all.filter(|(_, entry)| matches!(entry.owner, Owner::Local(_)));
        local.map(|(&key, _)| key)
    }

    /// Whether [`Fdb::local`] gives others than when this was asked last.
    pub(super) fn take_local_change(&mut self) -> bool {
        std::mem::take(&mut self.local_changed)
    }

    fn changes(&mut self, owner: Owner) {
        self.local_changed |= matches!(owner, Owner::Local(_));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&FdbKey, &Entry)> {
        self.entries.iter()
    }

    /// How many are behind local ports, and how many behind peers; none that were set.
    pub(super) const fn totals(&self) -> [usize; 2] {
        self.ledger.totals()
    }

    /// How many are behind this one.
    pub(super) fn count(&self, owner: Owner) -> usize {
        self.ledger.count(owner)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether one more address fits on an account.
    pub(super) fn room(&self, payer: Owner, own_max: usize, side_max: usize) -> Room<FdbKey> {
        self.ledger.room(payer, own_max, side_max)
    }

    /// How many addresses are on an account, and the least recently used of them.
    pub(super) fn account(&self, payer: Owner) -> (usize, Option<FdbKey>) {
        (self.ledger.count(payer), self.ledger.oldest(payer))
    }

    /// Adds an address that is nobody's.
    pub(super) fn learn(&mut self, now: Instant, key: FdbKey, owner: Owner) {
        self.remove(key);
        self.changes(owner);
        let entry = Entry {
            owner,
            kind: Kind::Learned,
            seen: now,
            payer: owner,
            stamp: None,
            moves: Vec::new(),
        };
        self.ledger.add(owner, now, key);
        self.ages.set(key, now + self.ageing);
        self.entries.insert(key, entry);
    }

    /// Sets an address that stays. It is on nobody's account.
    pub(super) fn insert_static(&mut self, now: Instant, key: FdbKey, owner: Owner) {
        self.remove(key);
        self.changes(owner);
        let entry = Entry {
            owner,
            kind: Kind::Static,
            seen: now,
            payer: owner,
            stamp: None,
            moves: Vec::new(),
        };
        self.entries.insert(key, entry);
    }

    /// The owner spoke: it is in use, and on the owner's account from now on.
    pub(super) fn touch(&mut self, now: Instant, key: FdbKey) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let seen = std::mem::replace(&mut entry.seen, now);
        if entry.kind == Kind::Static {
            return;
        }
        let payer = std::mem::replace(&mut entry.payer, entry.owner);
        if payer == entry.owner {
            self.ledger.touch(payer, seen, now, key);
        } else {
            self.ledger.remove(payer, seen, key);
            self.ledger.add(entry.owner, now, key);
        }
        self.ages.set(key, now + self.ageing);
    }

    /// Gives an address to another owner. Says whether it moved too often and is frozen now.
    pub(super) fn move_to(
        &mut self,
        now: Instant,
        key: FdbKey,
        owner: Owner,
        payer: Owner,
        stamp: Option<Stamp>,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(&key) else {
            return false;
        };
        self.ledger.remove(entry.payer, entry.seen, key);
        self.ledger.add(payer, now, key);
        self.ages.set(key, now + self.ageing);
        let before = std::mem::replace(&mut entry.owner, owner);
        entry.payer = payer;
        entry.seen = now;
        entry.stamp = stamp;
        entry.moves.retain(|&at| now.since(at) < MOVES_WITHIN);
        entry.moves.push(now);
        let too_often = entry.moves.len() >= MOVES_MAX;
        if too_often {
            entry.moves = Vec::new();
            self.frozen.set(key, now + FREEZE);
        }
        self.changes(before);
        self.changes(owner);
        too_often
    }

    /// Forgets an address.
    pub(super) fn remove(&mut self, key: FdbKey) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.changes(entry.owner);
        if entry.kind == Kind::Learned {
            self.ledger.remove(entry.payer, entry.seen, key);
            self.ages.remove(&key);
            self.frozen.remove(&key);
        }
        Some(entry)
    }

    /// Whether the address stays where it is.
    pub(super) fn is_fixed(&self, now: Instant, key: FdbKey) -> bool {
        let frozen = self.frozen.get(&key).is_some_and(|until| now < until);
        frozen
            || self
                .entries
                .get(&key)
                .is_some_and(|e| e.kind == Kind::Static)
    }

    /// Every frozen address, and until when.
    pub(super) fn frozen(&self) -> impl Iterator<Item = (FdbKey, Instant)> {
        self.frozen.iter().map(|(&key, &until)| (key, until))
    }

    /// Lets go of what was frozen long enough, and names an address that was not in use for too
    /// long. What is frozen does not age: its alarm would end with it.
    pub(super) fn next_stale(&mut self, now: Instant) -> Option<FdbKey> {
        while self.frozen.pop_due(now).is_some() {}
        loop {
            let key = self.ages.pop_due(now)?;
            match self.frozen.get(&key) {
                Some(until) => self.ages.set(key, until),
                None => return Some(key),
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.ages.next().into_iter().chain(self.frozen.next()).min()
    }

    /// Everything that is behind `owner`, or on its account.
    pub(super) fn of(&self, owner: Owner) -> Vec<FdbKey> {
        let of_owner = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.owner == owner || entry.payer == owner);
        of_owner.map(|(&key, _)| key).collect()
    }
}
