//! Who has how many entries of a table, and which of them is to make room.
//!
//! Local ports together and peers together have a part of the table each, so neither side takes
//! from the other. Within a side, who is at its own limit gives up its own least recently used
//! entry; when the side is full, who has the most does. So a flood costs others nothing that is
//! not more than what the flooder has.

use std::collections::{BTreeMap, BTreeSet};

use omni_control::message::{Owner, PortId};
use omni_wire::Instant;

/// Accounts of a table with keys `K`.
#[derive(Debug)]
pub(super) struct Ledger<K> {
    /// In the order of use, for each account.
    uses: BTreeMap<Owner, BTreeSet<(Instant, K)>>,
    /// By side, then size.
    ranking: BTreeSet<(Side, usize, Owner)>,
    totals: [usize; 2],
}

/// Which part of the table an owner's entries are in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Side {
    Local,
    Peers,
}

impl Side {
    const fn of(owner: Owner) -> Self {
        match owner {
            Owner::Local(_) => Self::Local,
            Owner::Peer(_) => Self::Peers,
        }
    }
}

/// Whether an account may have one more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room<K> {
    /// It may.
    Free,
    /// It may, once this one is gone.
    After(K),
}

impl<K> Default for Ledger<K> {
    fn default() -> Self {
        Self {
            uses: BTreeMap::new(),
            ranking: BTreeSet::new(),
            totals: [0; 2],
        }
    }
}

impl<K: Ord + Copy> Ledger<K> {
    pub(super) fn add(&mut self, owner: Owner, used: Instant, key: K) {
        let before = self.count(owner);
        let added = self.uses.entry(owner).or_default().insert((used, key));
        if added {
            self.recount(owner, before);
        }
    }

    pub(super) fn remove(&mut self, owner: Owner, used: Instant, key: K) {
        let before = self.count(owner);
        let Some(uses) = self.uses.get_mut(&owner) else {
            return;
        };
        if uses.remove(&(used, key)) {
            self.recount(owner, before);
        }
    }

    /// Moves a key to the end of the order.
    pub(super) fn touch(&mut self, owner: Owner, before: Instant, now: Instant, key: K) {
        if let Some(uses) = self.uses.get_mut(&owner)
            && uses.remove(&(before, key))
        {
            uses.insert((now, key));
        }
    }

    /// How many local ports have together, and how many peers.
    pub(super) const fn totals(&self) -> [usize; 2] {
        self.totals
    }

    pub(super) fn count(&self, owner: Owner) -> usize {
        self.uses.get(&owner).map_or(0, BTreeSet::len)
    }

    /// Whether `owner` may have one more, where it may have `own_max` and its side `side_max`.
    pub(super) fn room(&self, owner: Owner, own_max: usize, side_max: usize) -> Room<K> {
        let side = Side::of(owner);
        let own = self.count(owner);
        let giver = if own >= own_max.max(1) {
            Some(owner)
        } else if self.totals[side as usize] >= side_max {
            match self.greatest(side) {
                Some(greatest) if self.count(greatest) > own => Some(greatest),
                _ => Some(owner),
            }
        } else {
            None
        };
        let oldest = giver.and_then(|giver| self.oldest(giver));
        oldest.map_or(Room::Free, Room::After)
    }

    /// The least recently used key of `owner`.
    pub(super) fn oldest(&self, owner: Owner) -> Option<K> {
        let &(_, key) = self.uses.get(&owner)?.first()?;
        Some(key)
    }

    fn greatest(&self, side: Side) -> Option<Owner> {
        // Local ports come first.
        let first_peer = (Side::Peers, 0, Owner::Local(PortId(0)));
        let last = match side {
            Side::Local => self.ranking.range(..first_peer).next_back(),
            Side::Peers => self.ranking.range(first_peer..).next_back(),
        };
        last.map(|&(_, _, owner)| owner)
    }

    fn recount(&mut self, owner: Owner, before: usize) {
        let side = Side::of(owner);
        let after = self.count(owner);
        self.ranking.remove(&(side, before, owner));
        if after == 0 {
            self.uses.remove(&owner);
        } else {
            self.ranking.insert((side, after, owner));
        }
        let total = &mut self.totals[side as usize];
        *total = *total + after - before;
    }
}

#[cfg(test)]
mod tests {
    use omni_control::message::PeerId;

    use super::*;

    const ALPHA: Owner = Owner::Peer(PeerId(0));
    const BETA: Owner = Owner::Peer(PeerId(1));
    const LOCAL: Owner = Owner::Local(PortId(0));

    #[test]
    fn who_is_at_its_limit_gives_up_its_own_oldest() {
        let mut ledger = Ledger::default();
        for n in 0..3 {
            ledger.add(ALPHA, Instant(n), n);
        }
        ledger.touch(ALPHA, Instant(0), Instant(9), 0);
        assert_eq!(ledger.room(ALPHA, 3, 100), Room::After(1));
        assert_eq!(ledger.room(ALPHA, 4, 100), Room::Free);
        assert_eq!(ledger.room(BETA, 3, 100), Room::Free);
        ledger.remove(ALPHA, Instant(1), 1);
        assert_eq!(ledger.room(ALPHA, 3, 100), Room::Free);
    }

    #[test]
    fn in_a_full_table_who_has_the_most_gives() {
        let mut ledger = Ledger::default();
        for n in 0..6 {
            ledger.add(ALPHA, Instant(n), n);
        }
        ledger.add(BETA, Instant(0), 100);
        ledger.add(LOCAL, Instant(0), 200);
        assert_eq!(ledger.room(BETA, 50, 7), Room::After(0));
        assert_eq!(ledger.room(ALPHA, 50, 7), Room::After(0), "its own");
        assert_eq!(ledger.room(LOCAL, 50, 7), Room::Free, "the other side");
    }
}
