//! The forwarding table: (VLAN, MAC) to the port or peer behind which the address is.
//!
//! Each worker has a copy. A source address is learned only from a frame that was authenticated
//! (or came in on a local port), and only if nobody else owns it: a live owner is never displaced
//! by a mere frame. What one worker learns it reports; the control thread tells the others and
//! ages entries out. So this table itself has no clock but the time of a report.

use core::time::Duration;
use std::collections::HashMap;

use omni_control::message::{FdbKey, Owner};
use omni_wire::{DropReason, Instant};

use super::hash::BuildIdHasher;

/// The most addresses learned from one peer (`docs/operations.md`).
pub const PEER_ADDRESSES_MAX: usize = 1024;
/// The most addresses learned from local ports.
pub const LOCAL_ADDRESSES_MAX: usize = 16 * 1024;
/// An address in use is reported again after this time, so that it does not age out.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
struct Entry {
    owner: Owner,
    report_at: Instant,
}

/// What the source address of a frame means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// The owner spoke.
    Known,
    /// The address is new, or was not reported for a while: report it.
    Report,
}

/// One worker's forwarding table.
#[derive(Debug, Default)]
pub struct Fdb {
    entries: HashMap<FdbKey, Entry, BuildIdHasher>,
    owned: HashMap<Owner, usize, BuildIdHasher>,
}

impl Fdb {
    /// Behind whom an address is.
    #[inline]
    #[must_use]
    pub fn lookup(&self, key: FdbKey) -> Option<Owner> {
        self.entries.get(&key).map(|entry| entry.owner)
    }

    /// Whether `owner` may speak for the address; an address that is nobody's becomes its own.
    ///
    /// # Errors
    /// `SourceMacNotOwned` when somebody else owns it, `FdbFull` when `owner` has too many.
    #[inline]
    pub fn admit(
        &mut self,
        now: Instant,
        key: FdbKey,
        owner: Owner,
    ) -> Result<Admission, DropReason> {
        match self.entries.get_mut(&key) {
            Some(entry) if entry.owner != owner => Err(DropReason::SourceMacNotOwned),
            Some(entry) if now < entry.report_at => Ok(Admission::Known),
            Some(entry) => {
                entry.report_at = now + REPORT_INTERVAL;
                Ok(Admission::Report)
            }
            None => self.learn(now, key, owner),
        }
    }

    #[cold]
    fn learn(&mut self, now: Instant, key: FdbKey, owner: Owner) -> Result<Admission, DropReason> {
        let limit = match owner {
            Owner::Peer(_) => PEER_ADDRESSES_MAX,
            Owner::Local(_) => LOCAL_ADDRESSES_MAX,
        };
        if self.owned.get(&owner).copied().unwrap_or(0) >= limit {
            return Err(DropReason::FdbFull);
        }
        self.insert(now, key, owner);
        Ok(Admission::Report)
    }

    /// Sets an entry whatever was there: the control thread has decided.
    pub fn insert(&mut self, now: Instant, key: FdbKey, owner: Owner) {
        let old = self.entries.insert(
            key,
            Entry {
                owner,
                report_at: now + REPORT_INTERVAL,
            },
        );
        self.disown(old);
        *self.owned.entry(owner).or_default() += 1;
    }

    /// Forgets an address.
    pub fn remove(&mut self, key: FdbKey) {
        let old = self.entries.remove(&key);
        self.disown(old);
    }

    /// Forgets everything behind `owner`.
    pub fn remove_owner(&mut self, owner: Owner) {
        self.entries.retain(|_, entry| entry.owner != owner);
        self.owned.remove(&owner);
    }

    /// The report of an address was lost: the next frame from it reports again.
    pub fn unreport(&mut self, key: FdbKey) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.report_at = Instant(0);
        }
    }

    /// How many addresses there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn disown(&mut self, entry: Option<Entry>) {
        if let Some(count) = entry.and_then(|entry| self.owned.get_mut(&entry.owner)) {
            *count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use omni_control::message::{PeerId, PortId};
    use omni_wire::MacAddr;

    use super::*;

    fn key(vlan: u16, last: u16) -> FdbKey {
        let [high, low] = last.to_be_bytes();
        FdbKey {
            vlan,
            mac: MacAddr([2, 0, 0, 0, high, low]),
        }
    }

    const ALPHA: Owner = Owner::Peer(PeerId(0));
    const BETA: Owner = Owner::Peer(PeerId(1));
    const LOCAL: Owner = Owner::Local(PortId(0));
    const NOW: Instant = Instant(1_000_000_000_000);

    #[test]
    fn the_first_to_speak_owns_and_others_are_refused() {
        let mut fdb = Fdb::default();
        assert_eq!(fdb.admit(NOW, key(0, 1), ALPHA), Ok(Admission::Report));
        assert_eq!(fdb.admit(NOW, key(0, 1), ALPHA), Ok(Admission::Known));
        for thief in [BETA, LOCAL] {
            assert_eq!(
                fdb.admit(NOW, key(0, 1), thief),
                Err(DropReason::SourceMacNotOwned)
            );
        }
        assert_eq!(fdb.lookup(key(0, 1)), Some(ALPHA));
        assert_eq!(
            fdb.admit(NOW, key(5, 1), BETA),
            Ok(Admission::Report),
            "another VLAN"
        );
    }

    #[test]
    fn addresses_in_use_are_reported_now_and_then() {
        let mut fdb = Fdb::default();
        assert_eq!(fdb.admit(NOW, key(0, 1), ALPHA), Ok(Admission::Report));
        let later = NOW + REPORT_INTERVAL;
        assert_eq!(fdb.admit(later, key(0, 1), ALPHA), Ok(Admission::Report));
        assert_eq!(fdb.admit(later, key(0, 1), ALPHA), Ok(Admission::Known));
        fdb.unreport(key(0, 1));
        assert_eq!(fdb.admit(later, key(0, 1), ALPHA), Ok(Admission::Report));
    }

    #[test]
    fn a_peer_that_floods_addresses_harms_only_itself() {
        let mut fdb = Fdb::default();
        for n in 0..PEER_ADDRESSES_MAX as u16 {
            assert!(fdb.admit(NOW, key(0, n), ALPHA).is_ok());
        }
        assert_eq!(
            fdb.admit(NOW, key(0, 5000), ALPHA),
            Err(DropReason::FdbFull)
        );
        assert!(fdb.admit(NOW, key(0, 5000), BETA).is_ok());
        fdb.remove(key(0, 0));
        assert!(fdb.admit(NOW, key(0, 6000), ALPHA).is_ok(), "room was made");
        fdb.remove_owner(ALPHA);
        assert_eq!(fdb.len(), 1);
        assert!(fdb.admit(NOW, key(0, 1), ALPHA).is_ok());
    }
}
