//! Addresses and whose they are: one table for MAC addresses, one for IP addresses.
//!
//! Each worker has copies. An address is learned only from a frame that was authenticated (or came
//! in on a local port), and only if nobody else owns it: a live owner is never displaced by a mere
//! frame. What one worker learns it reports; the control thread tells the others and ages entries
//! out. So these tables have no clock but the time of a report.
//!
//! An owner with as many addresses as it may have loses its own least recently used one to a new
//! one, and nobody else loses anything.

use core::hash::Hash;
use core::time::Duration;
use std::collections::{HashMap, VecDeque};

use omni_control::message::Owner;
use omni_wire::{DropReason, Instant};

use super::hash::BuildIdHasher;
use super::storm::Bucket;

/// The most addresses of a local port.
pub const PORT_ADDRESSES_MAX: usize = 16 * 1024;
/// An address in use is reported again after this time, so that it does not age out.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// A claim of somebody else is reported no more often than this, for one address.
const CONTEST_INTERVAL: Duration = Duration::from_millis(100);
/// How long an owner takes to show as many new addresses as it may have. At once it may show as
/// many. Each costs the control thread more than a frame costs a worker, so a flood of them would
/// be felt by everybody.
const LEARNS_ALL_IN: u64 = 10;
/// New addresses a second that any owner may show.
const LEARNS_MIN: u64 = 100;
/// Entries looked at for one that was not used since it came to the end of the queue.
const EVICTION_TRIES: usize = 32;

/// What is known of an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<V> {
    pub(super) owner: Owner,
    pub(super) value: V,
    report_at: Instant,
    contested_at: Instant,
    /// `report_at` when it was last queued for eviction: another one now means that it is in use.
    queued_with: Instant,
}

/// What a message of an address means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// The owner spoke.
    Known,
    /// The address is new, or was not reported for a while: report it.
    Report,
    /// The owner's address has another value. Nothing was changed.
    Differs,
}

/// What an owner has.
#[derive(Debug)]
struct Holding<K> {
    count: usize,
    limit: usize,
    learns: Bucket,
    /// Its addresses, the least recently used first, more or less. May name some that it lost.
    queue: VecDeque<K>,
}

impl<K> Holding<K> {
    fn of(owner: Owner) -> Self {
        let limit = match owner {
            Owner::Peer(_) => super::policy::PEER_ADDRESSES_MAX,
            Owner::Local(_) => PORT_ADDRESSES_MAX,
        };
        Self {
            count: 0,
            limit,
            learns: learns(limit),
            queue: VecDeque::new(),
        }
    }
}

/// How fast an owner that may have `limit` addresses may show new ones.
fn learns(limit: usize) -> Bucket {
    let limit = limit as u64;
    Bucket::new((limit / LEARNS_ALL_IN).max(LEARNS_MIN), limit)
}

/// One worker's table.
#[derive(Debug)]
pub(super) struct OwnedTable<K, V> {
    entries: HashMap<K, Entry<V>, BuildIdHasher>,
    holdings: HashMap<Owner, Holding<K>, BuildIdHasher>,
    /// What a frame is dropped for when somebody else owns its address.
    not_owned: DropReason,
}

impl<K: Copy + Eq + Hash, V: Copy + PartialEq> OwnedTable<K, V> {
    pub(super) fn new(not_owned: DropReason) -> Self {
        Self {
            entries: HashMap::default(),
            holdings: HashMap::default(),
            not_owned,
        }
    }

    #[inline]
    pub(super) fn get(&self, key: &K) -> Option<&Entry<V>> {
        self.entries.get(key)
    }

    /// What is kept with an address.
    pub(super) fn value_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Whether `owner` may speak for the address; one that is nobody's becomes its own.
    ///
    /// # Errors
    /// The table's reason when somebody else owns it, `LearnRate` when `owner` shows too many.
    #[inline]
    pub(super) fn admit(
        &mut self,
        now: Instant,
        key: K,
        owner: Owner,
        value: V,
    ) -> Result<Admission, DropReason> {
        match self.entries.get_mut(&key) {
            Some(entry) if entry.owner != owner => Err(self.not_owned),
            Some(entry) if entry.value != value => Ok(Admission::Differs),
            Some(entry) if now < entry.report_at => Ok(Admission::Known),
            Some(entry) => {
                entry.report_at = now + REPORT_INTERVAL;
                Ok(Admission::Report)
            }
            None => self.learn(now, key, owner, value),
        }
    }

    #[cold]
    fn learn(
        &mut self,
        now: Instant,
        key: K,
        owner: Owner,
        value: V,
    ) -> Result<Admission, DropReason> {
        let holding = self.holding(owner);
        if !holding.learns.take(now) {
            return Err(DropReason::LearnRate);
        }
        if holding.count >= holding.limit {
            self.evict(owner);
        }
        self.insert(now, key, owner, value);
        Ok(Admission::Report)
    }

    /// Sets an entry whatever was there: the control thread has decided.
    pub(super) fn insert(&mut self, now: Instant, key: K, owner: Owner, value: V) {
        let known = self.entries.get(&key);
        if known.is_some_and(|entry| entry.owner == owner && entry.value == value) {
            // When it was reported last stays as it is: the control thread counts on it.
            return;
        }
        let report_at = now + REPORT_INTERVAL;
        let entry = Entry {
            owner,
            value,
            report_at,
            contested_at: Instant(0),
            queued_with: report_at,
        };
        let old = self.entries.insert(key, entry);
        let is_new = old.is_none_or(|old| old.owner != owner);
        if is_new {
            if let Some(old) = old {
                self.disown(old.owner);
            }
            let holding = self.holding(owner);
            holding.count += 1;
            holding.queue.push_back(key);
            self.tidy(owner);
        }
    }

    /// Forgets an address.
    pub(super) fn remove(&mut self, key: &K) {
        if let Some(old) = self.entries.remove(key) {
            self.disown(old.owner);
        }
    }

    /// Forgets everything of `owner`, and its limit.
    pub(super) fn remove_owner(&mut self, owner: Owner) {
        self.entries.retain(|_, entry| entry.owner != owner);
        self.holdings.remove(&owner);
    }

    /// Sets how many addresses `owner` may have. Those that it has stay until new ones come.
    pub(super) fn set_limit(&mut self, owner: Owner, limit: usize) {
        let holding = self.holding(owner);
        holding.limit = limit;
        holding.learns = learns(limit);
    }

    /// The report of an address was lost, or is wanted: the owner's next message reports it.
    pub(super) fn unreport(&mut self, key: &K) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.report_at = Instant(0);
        }
    }

    /// Somebody else has just used the address. Whether that is to be reported.
    pub(super) fn contest(&mut self, now: Instant, key: &K) -> bool {
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        let is_due = now.since(entry.contested_at) >= CONTEST_INTERVAL;
        if is_due {
            entry.contested_at = now;
        }
        is_due
    }

    /// How many addresses there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn holding(&mut self, owner: Owner) -> &mut Holding<K> {
        let holdings = self.holdings.entry(owner);
        holdings.or_insert_with(|| Holding::of(owner))
    }

    fn disown(&mut self, owner: Owner) {
        if let Some(holding) = self.holdings.get_mut(&owner) {
            holding.count -= 1;
        }
    }

    /// Takes an address from `owner` that it did not use for long.
    fn evict(&mut self, owner: Owner) {
        let Self {
            entries, holdings, ..
        } = self;
        let Some(holding) = holdings.get_mut(&owner) else {
            return;
        };
        let mut tries = EVICTION_TRIES;
        while let Some(key) = holding.queue.pop_front() {
            // Names of addresses that it lost are passed over.
            let Some(entry) = entries.get_mut(&key).filter(|entry| entry.owner == owner) else {
                continue;
            };
            if tries > 0 && entry.report_at != entry.queued_with {
                tries -= 1;
                entry.queued_with = entry.report_at;
                holding.queue.push_back(key);
                continue;
            }
            entries.remove(&key);
            holding.count -= 1;
            return;
        }
    }

    /// Keeps the queue of an owner whose addresses come and go from growing.
    fn tidy(&mut self, owner: Owner) {
        let Self {
            entries, holdings, ..
        } = self;
        if let Some(holding) = holdings.get_mut(&owner)
            && holding.queue.len() > 2 * holding.count + 64
        {
            let is_its = |key: &K| entries.get(key).is_some_and(|entry| entry.owner == owner);
            let mut seen = std::collections::HashSet::with_capacity(holding.count);
            holding.queue.retain(|key| is_its(key) && seen.insert(*key));
        }
    }
}

#[cfg(test)]
mod tests {
    use omni_control::message::{PeerId, PortId};

    use super::*;

    const ALPHA: Owner = Owner::Peer(PeerId(0));
    const BETA: Owner = Owner::Peer(PeerId(1));
    const LOCAL: Owner = Owner::Local(PortId(0));
    const NOW: Instant = Instant(1_000_000_000_000);

    fn table() -> OwnedTable<u32, u8> {
        OwnedTable::new(DropReason::SourceMacNotOwned)
    }

    fn after(milliseconds: u64) -> Instant {
        NOW + Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_first_to_speak_owns_and_others_are_refused() {
        let mut table = table();
        assert_eq!(table.admit(NOW, 1, ALPHA, 0), Ok(Admission::Report));
        assert_eq!(table.admit(NOW, 1, ALPHA, 0), Ok(Admission::Known));
        for thief in [BETA, LOCAL] {
            let refused = table.admit(NOW, 1, thief, 0);
            assert_eq!(refused, Err(DropReason::SourceMacNotOwned));
        }
        assert_eq!(table.get(&1).map(|entry| entry.owner), Some(ALPHA));
    }

    #[test]
    fn addresses_in_use_are_reported_now_and_then_and_keep_their_value() {
        let mut table = table();
        assert_eq!(table.admit(NOW, 1, ALPHA, 0), Ok(Admission::Report));
        let later = NOW + REPORT_INTERVAL;
        assert_eq!(table.admit(later, 1, ALPHA, 0), Ok(Admission::Report));
        assert_eq!(table.admit(later, 1, ALPHA, 0), Ok(Admission::Known));
        assert_eq!(table.admit(later, 1, ALPHA, 9), Ok(Admission::Differs));
        assert_eq!(table.get(&1).map(|entry| entry.value), Some(0));
        table.unreport(&1);
        assert_eq!(table.admit(later, 1, ALPHA, 0), Ok(Admission::Report));
    }

    #[test]
    fn being_told_what_is_known_does_not_put_off_a_report() {
        let mut table = table();
        assert_eq!(table.admit(NOW, 1, ALPHA, 0), Ok(Admission::Report));
        let later = NOW + REPORT_INTERVAL;
        table.insert(later, 1, ALPHA, 0);
        assert_eq!(table.admit(later, 1, ALPHA, 0), Ok(Admission::Report));
        table.insert(later, 1, ALPHA, 9);
        assert_eq!(table.admit(later, 1, ALPHA, 9), Ok(Admission::Known));
    }

    #[test]
    fn who_shows_too_many_loses_its_own_unused_ones_and_nobody_else_any() {
        let mut table = table();
        table.set_limit(ALPHA, 100);
        table.admit(NOW, 5000, BETA, 0).expect("nobody's");
        for n in 0..100 {
            assert_eq!(table.admit(NOW, n, ALPHA, 0), Ok(Admission::Report));
        }
        // The first ten are in use.
        let later = NOW + REPORT_INTERVAL;
        for n in 0..10 {
            assert_eq!(table.admit(later, n, ALPHA, 0), Ok(Admission::Report));
        }
        for n in 100..120 {
            assert_eq!(table.admit(later, n, ALPHA, 0), Ok(Admission::Report));
        }
        assert_eq!(table.len(), 101);
        let mut kept = (0..10).chain(30..120);
        assert!(kept.all(|n| table.get(&n).is_some()));
        assert!((10..30).all(|n| table.get(&n).is_none()));
        assert_eq!(table.get(&5000).map(|entry| entry.owner), Some(BETA));
    }

    #[test]
    fn a_flood_of_addresses_is_learned_at_a_rate() {
        let mut table = table();
        let mut learned = 0;
        for n in 0..10_000 {
            learned += u32::from(table.admit(NOW, n, ALPHA, 0).is_ok());
        }
        assert_eq!(learned, 1024);
        let refused = table.admit(NOW, 20_000, ALPHA, 0);
        assert_eq!(refused, Err(DropReason::LearnRate));
        assert_eq!(table.admit(NOW, 20_000, BETA, 0), Ok(Admission::Report));
        assert_eq!(
            table.admit(after(10), 20_001, ALPHA, 0),
            Ok(Admission::Report)
        );
        // Who may have more may show them faster.
        table.set_limit(ALPHA, 65_536);
        let at_once = (100_000..).take_while(|&n| table.admit(NOW, n, ALPHA, 0).is_ok());
        assert_eq!(at_once.count(), 65_536);
        let mut second = (200_000..).take_while(|&n| table.admit(after(1000), n, ALPHA, 0).is_ok());
        assert!((6550..6560).contains(&second.by_ref().count()));
    }

    #[test]
    fn contests_are_reported_ten_times_a_second() {
        let mut table = table();
        assert!(!table.contest(NOW, &1), "nobody's");
        table.insert(NOW, 1, ALPHA, 0);
        let reported = (0..1000).filter(|&ms| table.contest(after(ms), &1));
        assert_eq!(reported.count(), 10);
    }

    #[test]
    fn owners_that_come_and_go_leave_nothing() {
        let mut table = table();
        for round in 0..1000 {
            table.insert(NOW, round % 7, ALPHA, 0);
            table.insert(NOW, round % 7, BETA, 0);
            table.remove(&(round % 5));
        }
        let queued: usize = table.holdings.values().map(|held| held.queue.len()).sum();
        assert!(queued < 200, "{queued} names");
        let counted: usize = table.holdings.values().map(|held| held.count).sum();
        assert_eq!(counted, table.len());
        table.remove_owner(BETA);
        table.remove_owner(ALPHA);
        assert_eq!(table.len(), 0);
        assert!(table.holdings.is_empty());
    }
}
