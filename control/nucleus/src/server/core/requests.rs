//! Requests on their way to the store.
//!
//! ```text
//!   queue --decide--> in flight --committed--> answered
//!     ^                  |
//!     |                  | a compare did not hold, or nobody knows
//!     +--- the list ---- waiting
//!          goes on
//! ```
//!
//! One transaction is in flight at a time. What comes in meanwhile goes into the next one, so that
//! many nodes share a write to disk. When a compare in such a transaction does not hold, its
//! requests are tried one by one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use omni_membership::{Binding, PublicKey};
use omni_store::Revision;
use omni_wire::Instant;

use super::key::Key;
use super::types::{Conn, Limits};

/// The most requests of one transaction.
pub(crate) const BATCH: usize = 32;

/// The most octets of records in one transaction: half of what a store takes.
pub(crate) const BATCH_OCTETS: usize = 512 << 10;

/// How often a request is decided before its node is told to try again later.
pub(crate) const ATTEMPTS: u8 = 10;

/// Keys of which the list does not know yet what was committed. With more, requests wait.
const SETTLING_MAX: usize = 4096;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// A node, under a number.
    Node {
        conn: Conn,
        node: PublicKey,
        number: u64,
    },
    /// The operator, under a number.
    Operator(u64),
}

/// What for.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// To replace what is known of a node, by something of this sequence.
    Register { sequence: u64 },
    /// To hold an address, or to let go of it.
    Bind(Binding),
    /// To take back certificates up to this serial.
    Revoke { serial: u64 },
}

/// A request whose record verified.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) origin: Origin,
    pub(crate) key: Key,
    pub(crate) octets: Vec<u8>,
    pub(crate) wanted: Wanted,
    /// Not to be put together with others.
    pub(crate) alone: bool,
    pub(crate) attempts: u8,
    /// A compare with this did not hold: with the same again it waits until then.
    pub(crate) stuck: Option<(Option<Revision>, Instant)>,
}

/// All requests that are not answered.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    queue: VecDeque<Request>,
    /// Until the list goes on.
    waiting: VecDeque<Request>,
    /// What was committed, and the list does not show yet: at which revision, and whether it is an
    /// address more for somebody.
    settling: BTreeMap<Key, (Revision, Option<PublicKey>)>,
    /// How many there are of each key, those in flight included.
    keys: BTreeMap<Key, usize>,
    /// Of all requests, those in flight included.
    count: usize,
    octets: usize,
}

impl Requests {
    /// Takes a request in. `false`: there is no room.
    pub(crate) fn push(&mut self, request: Request, limits: &Limits) -> bool {
        let octets = self.octets + request.octets.len();
        if self.count >= limits.pending_total || octets > limits.pending_octets {
            return false;
        }
        self.count += 1;
        *self.keys.entry(request.key).or_default() += 1;
        self.octets = octets;
        self.queue.push_back(request);
        true
    }

    /// A request is answered.
    pub(crate) fn done(&mut self, request: &Request) {
        self.count -= 1;
        self.octets -= request.octets.len();
        if let Some(count) = self.keys.get_mut(&request.key) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&request.key);
            }
        }
    }

    /// Whether what is under a key may be another soon.
    pub(crate) fn is_open(&self, key: &Key) -> bool {
        self.keys.contains_key(key) || self.is_settling(key)
    }

    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<Request> {
        self.queue.pop_front()
    }

    /// Puts a request back where it came from.
    pub(crate) fn unpop(&mut self, request: Request) {
        self.queue.push_front(request);
    }

    /// Keeps a request until the list goes on.
    pub(crate) fn wait(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    /// Whether more may be committed before the list goes on.
    pub(crate) fn may_commit(&self) -> bool {
        self.settling.len() < SETTLING_MAX
    }

    /// Whether the list is behind what was committed under a key.
    pub(crate) fn is_settling(&self, key: &Key) -> bool {
        self.settling.contains_key(key)
    }

    /// How many addresses a node holds that the list does not know of.
    pub(crate) fn settling_of(&self, node: &PublicKey) -> u32 {
        let of_it = self
            .settling
            .values()
            .filter(|(_, more)| *more == Some(*node));
        of_it.count() as u32
    }

    /// Something was committed under a key.
    pub(crate) fn settle(&mut self, key: Key, revision: Revision, more: Option<PublicKey>) {
        self.settling.insert(key, (revision, more));
    }

    /// The list knows everything up to a revision: what waited for it is decided again.
    pub(crate) fn progress(&mut self, known: Revision) {
        self.settling.retain(|_, (revision, _)| *revision > known);
        self.wake();
    }

    /// Another life of the store: revisions say nothing.
    pub(crate) fn forget_revisions(&mut self) {
        self.settling = BTreeMap::new();
        self.wake();
    }

    /// What waits is decided again, before what came later.
    pub(crate) fn wake(&mut self) {
        self.waiting.append(&mut self.queue);
        core::mem::swap(&mut self.waiting, &mut self.queue);
    }

    /// Takes out all requests.
    pub(crate) fn drain(&mut self) -> Vec<Request> {
        self.wake();
        self.queue.drain(..).collect()
    }
}

/// A request is carried out by a put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Put {
    /// What is under the key: what the decision was made on.
    pub(crate) expected: Option<Revision>,
    /// Who holds an address more by it.
    pub(crate) more: Option<PublicKey>,
    /// Whether another node held the address.
    pub(crate) moved: bool,
}

/// A transaction that is put together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) requests: Vec<(Request, Put)>,
    pub(crate) keys: BTreeSet<Key>,
    pub(crate) octets: usize,
}

impl Batch {
    /// Whether a request still fits.
    pub(crate) fn fits(&self, request: &Request) -> bool {
        let alone = request.alone || self.requests.iter().any(|(other, _)| other.alone);
        let full = self.requests.len() >= BATCH
            || self.octets + request.octets.len() > BATCH_OCTETS
            || alone;
        self.requests.is_empty() || !full
    }

    pub(crate) fn push(&mut self, request: Request, put: Put) {
        self.octets += request.octets.len();
        self.keys.insert(request.key);
        self.requests.push((request, put));
    }

    /// How many addresses more a node would hold.
    pub(crate) fn more_of(&self, node: &PublicKey) -> u32 {
        let of_it = self
            .requests
            .iter()
            .filter(|(_, put)| put.more == Some(*node));
        of_it.count() as u32
    }
}
