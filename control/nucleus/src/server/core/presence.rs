//! Who is there: nodes that are connected here, and what other servers say of theirs.
//!
//! That a node is not there says nothing but that others may have its addresses after a while. Its
//! records stay.

use std::collections::{BTreeMap, BTreeSet};

use omni_membership::PublicKey;
use omni_wire::Instant;

use super::types::GONE_AFTER;

/// The most nodes of one transaction.
pub(crate) const BATCH: usize = 32;

/// Who is there, and since when others are not.
#[derive(Debug)]
pub(crate) struct Presence {
    /// Since when it is known who is there. A node of which nothing else is known is gone since.
    known_since: Instant,
    absent_since: BTreeMap<PublicKey, Instant>,
    /// Nodes of which the store does not say yet what is so.
    dirty: BTreeSet<PublicKey>,
    /// When the store is told the next time.
    not_before: Instant,
}

impl Presence {
    pub(crate) const fn new() -> Self {
        Self {
            known_since: Instant(0),
            absent_since: BTreeMap::new(),
            dirty: BTreeSet::new(),
            not_before: Instant(0),
        }
    }

    /// All is read anew. Who left meanwhile did so now, as far as is known.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.known_since = now;
    }

    /// A node connected to this server.
    pub(crate) fn arrive(&mut self, node: PublicKey) {
        self.absent_since.remove(&node);
        self.dirty.insert(node);
    }

    /// A node is connected to another server.
    pub(crate) fn appear(&mut self, node: &PublicKey) {
        self.absent_since.remove(node);
    }

    /// A node left this server.
    pub(crate) fn leave(&mut self, node: PublicKey) {
        self.dirty.insert(node);
    }

    /// A node is nowhere any more, and was last heard at `heard`: the connection of one that lost
    /// its network lasts for a while.
    pub(crate) fn vanish(&mut self, node: PublicKey, heard: Instant) {
        self.absent_since.entry(node).or_insert(heard);
    }

    /// Whether a node that is nowhere has been so for long enough.
    pub(crate) fn is_gone(&self, node: &PublicKey, now: Instant) -> bool {
        let since = self.absent_since.get(node).copied();
        let since = since.map_or(self.known_since, |since| since.max(self.known_since));
        now.since(since) >= GONE_AFTER
    }

    /// Forgets what `known_since` says as well.
    pub(crate) fn tidy(&mut self, now: Instant) {
        let known_since = self.known_since;
        self.absent_since
            .retain(|_, since| *since > known_since && now.since(*since) < GONE_AFTER);
    }

    /// The store is to be told of these nodes.
    pub(crate) fn mark(&mut self, nodes: impl IntoIterator<Item = PublicKey>) {
        self.dirty.extend(nodes);
    }

    /// Nodes that the store is to be told of now. They are marked again if that fails.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<PublicKey> {
        if now < self.not_before {
            return Vec::new();
        }
        let batch: Vec<_> = self.dirty.iter().take(BATCH).copied().collect();
        for node in &batch {
            self.dirty.remove(node);
        }
        batch
    }

    /// The store could not be told.
    pub(crate) fn retry(&mut self, nodes: Vec<PublicKey>, not_before: Instant) {
        self.mark(nodes);
        self.not_before = not_before;
    }
}
