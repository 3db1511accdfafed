//! The peers, and when each of them is to be looked at.
//!
//! What is due with a peer follows from what is known of it: nothing is armed. To look at a
//! thousand peers at every turn because one of them said something would cost more than what they
//! say, so the answer is kept for as long as nobody had a peer in hand to change it.

use std::collections::{BTreeMap, BTreeSet};

use omni_wire::Instant;

use crate::message::PeerId;
use crate::peer::Peer;
use crate::timers::{Timer, Timers};

/// All peers.
#[derive(Default)]
pub(super) struct Peers {
    all: BTreeMap<PeerId, Peer>,
    /// When something is due with those of which anything is, the changed ones apart.
    due: BTreeSet<(Instant, PeerId)>,
    /// The same by peer.
    due_of: BTreeMap<PeerId, Instant>,
    /// Those that may have been changed since.
    changed: BTreeSet<PeerId>,
}

impl Peers {
    pub(super) fn get(&self, id: &PeerId) -> Option<&Peer> {
        self.all.get(id)
    }

    /// A peer to be changed.
    pub(super) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Peer> {
        let peer = self.all.get_mut(id)?;
        self.changed.insert(*id);
        Some(peer)
    }

    pub(super) fn insert(&mut self, id: PeerId, peer: Peer) {
        self.all.insert(id, peer);
        self.changed.insert(id);
    }

    pub(super) fn remove(&mut self, id: &PeerId) -> Option<Peer> {
        self.changed.remove(id);
        self.set_due(*id, None);
        self.all.remove(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.all.iter()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &PeerId> {
        self.all.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether traffic of any has to be looked at from time to time.
    pub(super) fn is_any_alive(&self) -> bool {
        self.all.values().any(Peer::is_alive)
    }

    /// When something is due with any.
    pub(super) fn next(&self, timers: &Timers) -> Option<Instant> {
        let mut kept = self.due.iter();
        let kept = kept.find(|(_, id)| !self.changed.contains(id));
        let changed = self.changed.iter().filter_map(|id| self.all.get(id));
        let changed = changed.filter_map(|peer| first_deadline(peer, timers));
        let next = changed.chain(kept.map(|&(at, _)| at)).min();
        debug_assert_eq!(next, self.next_of_all(timers), "a peer was changed unseen");
        next
    }

    /// What [`Peers::next`] has to be.
    fn next_of_all(&self, timers: &Timers) -> Option<Instant> {
        let all = self.all.values();
        all.filter_map(|peer| first_deadline(peer, timers)).min()
    }

    /// Those with which something is due now, in the order of their indices.
    pub(super) fn due(&mut self, now: Instant, timers: &Timers) -> BTreeSet<PeerId> {
        for id in std::mem::take(&mut self.changed) {
            let peer = self.all.get(&id);
            let due = peer.and_then(|peer| first_deadline(peer, timers));
            self.set_due(id, due);
        }
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        due.map(|&(_, id)| id).collect()
    }

    fn set_due(&mut self, id: PeerId, due: Option<Instant>) {
        let before = match due {
            Some(due) => self.due_of.insert(id, due),
            None => self.due_of.remove(&id),
        };
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, id));
        }
        self.due.extend(due.map(|due| (due, id)));
    }
}

/// When the first of a peer's timers is due.
fn first_deadline(peer: &Peer, timers: &Timers) -> Option<Instant> {
    let all = Timer::ALL.iter();
    all.filter_map(|timer| timer.deadline(peer, timers)).min()
}
