//! The forwarding table: (VLAN, MAC) to the port or peer behind which the address is.

use omni_control::message::{FdbKey, Owner};
use omni_wire::{DropReason, Instant};

use super::owned::{Admission, OwnedTable};

/// One worker's forwarding table.
#[derive(Debug)]
pub struct Fdb(OwnedTable<FdbKey, ()>);

impl Default for Fdb {
    fn default() -> Self {
        Self(OwnedTable::new(DropReason::SourceMacNotOwned))
    }
}

impl Fdb {
    /// Behind whom an address is.
    #[inline]
    #[must_use]
    pub fn lookup(&self, key: FdbKey) -> Option<Owner> {
        self.0.get(&key).map(|entry| entry.owner)
    }

    /// Whether `owner` may speak for the address; an address that is nobody's becomes its own.
    ///
    /// # Errors
    /// `SourceMacNotOwned` when somebody else owns it, `LearnRate` when `owner` shows too many.
    #[inline]
    pub fn admit(
        &mut self,
        now: Instant,
        key: FdbKey,
        owner: Owner,
    ) -> Result<Admission, DropReason> {
        self.0.admit(now, key, owner, ())
    }

    /// Sets an entry whatever was there: the control thread has decided.
    pub fn insert(&mut self, now: Instant, key: FdbKey, owner: Owner) {
        self.0.insert(now, key, owner, ());
    }

    /// Forgets an address.
    pub fn remove(&mut self, key: FdbKey) {
        self.0.remove(&key);
    }

    /// Forgets everything behind `owner`.
    pub fn remove_owner(&mut self, owner: Owner) {
        self.0.remove_owner(owner);
    }

    /// Sets how many addresses may be behind `owner`.
    pub fn set_limit(&mut self, owner: Owner, limit: usize) {
        self.0.set_limit(owner, limit);
    }

    /// The owner's next frame reports the address.
    pub fn unreport(&mut self, key: FdbKey) {
        self.0.unreport(&key);
    }

    /// Somebody else has just used the address. Whether that is to be reported.
    pub fn contest(&mut self, now: Instant, key: FdbKey) -> bool {
        self.0.contest(now, &key)
    }

    /// How many addresses there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
