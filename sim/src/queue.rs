//! What will happen, in the order of time. What is due at the same moment happens in the order in
//! which it was put in.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use omni_control::message::PeerId;
use omni_wire::Instant;

use crate::network::Envelope;
use crate::world::Saying;

/// Something that is due at some time. `life` is that of the host it was meant for: what belongs
/// to a process that ended is not for the one that follows it.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message reaches the end of its way.
    Arrive(Box<Envelope>),
    /// A worker gets its turn.
    Worker {
        host: usize,
        life: u32,
        worker: usize,
    },
    /// A control thread gets its turn.
    Control { host: usize, life: u32 },
    /// A control thread's housekeeping is due.
    Housekeeping { host: usize, life: u32 },
    /// The kernel knows the way to a peer's endpoint.
    Resolved {
        host: usize,
        life: u32,
        peer: PeerId,
    },
    /// A station behind a host has something to say.
    Answer {
        station: usize,
        host: usize,
        saying: Saying,
    },
    /// A host has noticed that its address changed.
    AddressKnown { host: usize },
    /// A host's process has just begun.
    Begin { host: usize },
    /// A host that was stopped goes on.
    Resume { host: usize, since: Instant },
    /// A host that was restarted runs again.
    Boot { host: usize, life: u32 },
    /// A cut of the network ends.
    Heal { one: usize, other: Option<usize> },
    /// The scenario is to choose what happens next.
    Act,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    order: u64,
    event: Event,
}

impl Entry {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.order)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest is the greatest, as a heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

/// All that is due.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    order: u64,
}

impl Queue {
    /// Lets `event` happen at `at`.
    pub(crate) fn push(&mut self, at: Instant, event: Event) {
        let order = self.order;
        self.order += 1;
        self.heap.push(Entry { at, order, event });
    }

    /// What is next, if it is due by `end`.
    pub(crate) fn pop_until(&mut self, end: Instant) -> Option<(Instant, Event)> {
        self.heap.peek().filter(|entry| entry.at <= end)?;
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}
