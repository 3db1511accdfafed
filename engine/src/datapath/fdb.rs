//! The forwarding table: (VLAN, MAC) to the port or peer behind which the address is.

use omni_control::message::{FdbKey, Owner};
use omni_wire::{DropReason, Instant};

use super::owned::{Admission, OwnedTable};

/// One worker's forwarding table.
#[derive(Debug)]
pub struct Fdb {
    table: OwnedTable<Key, ()>,
    recent: Recent,
}

/// The answers given last: frames that come together often are of one conversation. They are the
/// table's for as long as it does not change.
#[derive(Debug, Default)]
struct Recent {
    /// Who was known to own which address. The table may want a report of it at another time.
    admitted: Option<(Instant, Key, Owner)>,
    found: Option<(Key, Option<Owner>)>,
}

/// An address as one word, to hash and compare at once: VLAN, then MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key(u64);

impl From<FdbKey> for Key {
    #[inline]
    fn from(FdbKey { vlan, mac }: FdbKey) -> Self {
        let [m0, m1, m2, m3, m4, m5] = mac.0;
        let mac = u64::from_be_bytes([0, 0, m0, m1, m2, m3, m4, m5]);
        Self(u64::from(vlan) << 48 | mac)
    }
}

impl Default for Fdb {
    fn default() -> Self {
        Self {
            table: OwnedTable::new(DropReason::SourceMacNotOwned),
            recent: Recent::default(),
        }
    }
}

impl Fdb {
    /// Behind whom an address is.
    #[must_use]
    pub fn lookup(&self, key: FdbKey) -> Option<Owner> {
        self.table.get(&key.into()).map(|entry| entry.owner)
    }

    /// As [`Fdb::lookup`], for the data path: keeps the answer for frames that follow.
    #[inline]
    #[must_use]
    pub fn find(&mut self, key: FdbKey) -> Option<Owner> {
        match self.recent.found {
            Some((found, owner)) if found == key.into() => owner,
            _ => {
                let owner = self.lookup(key);
                self.recent.found = Some((key.into(), owner));
                owner
            }
        }
    }

    /// Whether the same was asked just before, and [`Admission::Known`] was the answer.
    #[inline]
    #[must_use]
    pub fn was_known(&self, now: Instant, key: FdbKey, owner: Owner) -> bool {
        self.recent.admitted == Some((now, Key::from(key), owner))
    }

    /// Whether `owner` may speak for the address; an address that is nobody's becomes its own.
    ///
    /// # Errors
    /// `SourceMacNotOwned` when somebody else owns it, `LearnRate` when `owner` shows too many.
    pub fn admit(
        &mut self,
        now: Instant,
        key: FdbKey,
        owner: Owner,
    ) -> Result<Admission, DropReason> {
        let key = Key::from(key);
        let admission = self.table.admit(now, key, owner, ());
        if admission == Ok(Admission::Known) {
            self.recent.admitted = Some((now, key, owner));
        } else {
            self.recent = Recent::default();
        }
        admission
    }

    /// The table, to change.
    fn change(&mut self) -> &mut OwnedTable<Key, ()> {
        self.recent = Recent::default();
        &mut self.table
    }

    /// Sets an entry whatever was there: the control thread has decided.
    pub fn insert(&mut self, now: Instant, key: FdbKey, owner: Owner) {
        self.change().insert(now, key.into(), owner, ());
    }

    /// Forgets an address.
    pub fn remove(&mut self, key: FdbKey) {
        self.change().remove(&key.into());
    }

    /// Forgets everything behind `owner`.
    pub fn remove_owner(&mut self, owner: Owner) {
        self.change().remove_owner(owner);
    }

    /// Sets how many addresses may be behind `owner`.
    pub fn set_limit(&mut self, owner: Owner, limit: usize) {
        self.change().set_limit(owner, limit);
    }

    /// The owner's next frame reports the address.
    pub fn unreport(&mut self, key: FdbKey) {
        self.change().unreport(&key.into());
    }

    /// Somebody else has just used the address. Whether that is to be reported.
    pub fn contest(&mut self, now: Instant, key: FdbKey) -> bool {
        self.change().contest(now, &key.into())
    }

    /// How many addresses there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use omni_control::message::{PeerId, PortId};
    use omni_wire::MacAddr;

    use super::*;

    const ALPHA: Owner = Owner::Peer(PeerId(0));
    const BETA: Owner = Owner::Peer(PeerId(1));
    const LOCAL: Owner = Owner::Local(PortId(0));
    const NOW: Instant = Instant(1_000_000_000_000);

    fn key(vlan: u16, last: u8) -> FdbKey {
        let mac = MacAddr([2, 0, 0, 0, 0, last]);
        FdbKey { vlan, mac }
    }

    #[test]
    fn answers_given_again_are_those_of_the_table_after_every_change() {
        let mut fdb = Fdb::default();
        let thief = Err(DropReason::SourceMacNotOwned);
        let (mine, other) = (key(7, 1), key(7, 2));
        assert_eq!(fdb.find(mine), None);
        assert_eq!(fdb.admit(NOW, mine, ALPHA), Ok(Admission::Report));
        for _ in 0..2 {
            assert_eq!(fdb.find(mine), Some(ALPHA));
            assert_eq!(fdb.admit(NOW, mine, ALPHA), Ok(Admission::Known));
            assert!(fdb.was_known(NOW, mine, ALPHA));
            for (other, owner) in [(mine, BETA), (mine, LOCAL), (other, ALPHA)] {
                assert!(!fdb.was_known(NOW, other, owner));
            }
            assert_eq!(fdb.admit(NOW, mine, BETA), thief);
            assert_eq!(fdb.admit(NOW, mine, LOCAL), thief);
        }
        assert_eq!(fdb.admit(NOW, mine, ALPHA), Ok(Admission::Known));
        fdb.unreport(mine);
        assert!(!fdb.was_known(NOW, mine, ALPHA));
        assert_eq!(fdb.admit(NOW, mine, ALPHA), Ok(Admission::Report));
        assert_eq!(fdb.admit(NOW, mine, ALPHA), Ok(Admission::Known));
        fdb.insert(NOW, mine, BETA);
        assert!(!fdb.was_known(NOW, mine, ALPHA));
        assert_eq!(fdb.find(mine), Some(BETA));
        assert_eq!(fdb.admit(NOW, mine, ALPHA), thief);
        assert_eq!(fdb.admit(NOW, mine, BETA), Ok(Admission::Known));
        fdb.remove(mine);
        assert_eq!(fdb.find(mine), None);
        assert_eq!(fdb.admit(NOW, mine, BETA), Ok(Admission::Report));
        assert_eq!(fdb.find(mine), Some(BETA));
        fdb.remove_owner(BETA);
        assert_eq!((fdb.find(mine), fdb.find(other)), (None, None));
    }

    #[test]
    fn an_address_that_had_to_make_room_is_not_remembered() {
        let mut fdb = Fdb::default();
        fdb.set_limit(ALPHA, 1);
        let (first, second) = (key(0, 1), key(0, 2));
        assert_eq!(fdb.admit(NOW, first, ALPHA), Ok(Admission::Report));
        assert_eq!(fdb.admit(NOW, first, ALPHA), Ok(Admission::Known));
        assert_eq!(fdb.find(first), Some(ALPHA));
        let later = NOW + core::time::Duration::from_secs(1);
        assert_eq!(fdb.admit(later, second, ALPHA), Ok(Admission::Report));
        assert!(!fdb.was_known(NOW, first, ALPHA));
        assert_eq!(fdb.find(first), None);
        assert_eq!(fdb.find(second), Some(ALPHA));
    }

    #[test]
    fn reports_are_due_whoever_spoke_last() {
        let mut fdb = Fdb::default();
        assert_eq!(fdb.admit(NOW, key(0, 1), ALPHA), Ok(Admission::Report));
        assert_eq!(fdb.admit(NOW, key(0, 1), ALPHA), Ok(Admission::Known));
        let later = NOW + super::super::owned::REPORT_INTERVAL;
        assert!(!fdb.was_known(later, key(0, 1), ALPHA));
        assert_eq!(fdb.admit(later, key(0, 1), ALPHA), Ok(Admission::Report));
    }

    #[test]
    fn vlans_and_addresses_are_told_apart() {
        let mut fdb = Fdb::default();
        fdb.insert(NOW, key(1, 1), ALPHA);
        fdb.insert(NOW, key(2, 1), BETA);
        fdb.insert(NOW, key(1, 2), LOCAL);
        let found = [key(1, 1), key(2, 1), key(1, 2), key(2, 2)].map(|key| fdb.find(key));
        assert_eq!(found, [Some(ALPHA), Some(BETA), Some(LOCAL), None]);
    }
}
