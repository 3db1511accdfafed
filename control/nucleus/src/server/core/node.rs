//! A node that is connected: what it may say, what waits to be told to it.

use core::net::SocketAddr;
use std::collections::{BTreeSet, VecDeque};

use omni_membership::{Certificate, Grants, PublicKey, Signed};
use omni_wire::{Instant, Now};

use super::bucket::Bucket;
use super::list::Place;
use super::types::Limits;
use crate::protocol::{Refused, Result as Answer, TOKEN_LEN, from_nucleus};

/// The most calls of others that wait to be told to a node. Each caller counts once.
const CALLED_MAX: usize = 256;

/// Answers that may wait for a node. Only one that asks on and reads nothing has more.
const OUTBOX_MAX: usize = 1024;

/// A burst of calls.
const CALL_BURST: u32 = 256;

/// A burst of registrations.
const REGISTRATION_BURST: u32 = 10;

/// Messages beyond a limit that are borne: so many at once, and 20 a second.
const EXCESS: (u32, u32) = (20, 1000);

/// What a node is to the fabric.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// It did not show that it is a member.
    Stranger,
    /// It is on the list of members.
    Listed,
    /// The authority certified it.
    Certified(Box<Signed<Certificate>>),
}

impl Standing {
    pub(crate) const fn is_member(&self) -> bool {
        !matches!(self, Self::Stranger)
    }

    /// What it may bind; `None` for everything.
    pub(crate) fn grants(&self) -> Option<&Grants> {
        match self {
            Self::Certified(certificate) => Some(&certificate.grants),
            Self::Stranger | Self::Listed => None,
        }
    }
}

/// A node that is connected.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) key: PublicKey,
    pub(crate) source: SocketAddr,
    pub(crate) since: Now,
    /// When it last said anything.
    pub(crate) heard: Instant,
    pub(crate) standing: Standing,
    pub(crate) token: [u8; TOKEN_LEN],
    /// How far it was told the list, and of which life; `None` before its hello.
    pub(crate) told: Option<([u8; 16], Place)>,
    /// Whether the last changes that it was told said that these are all.
    pub(crate) told_all: bool,
    /// Requests of its that are not decided yet.
    pub(crate) pending: usize,
    outbox: VecDeque<from_nucleus::What>,
    called: BTreeSet<PublicKey>,
    pub(crate) buckets: Buckets,
}

/// What a node may do still. They outlive a connection: to connect again brings nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buckets {
    pub(crate) messages: Bucket,
    /// Octets of those.
    pub(crate) octets: Bucket,
    pub(crate) registrations: Bucket,
    pub(crate) bindings: Bucket,
    pub(crate) calls: Bucket,
    pub(crate) called: Bucket,
    /// Messages beyond a limit.
    pub(crate) excess: Bucket,
}

/// Octets of a message, by which those that a node may send are limited as well: those of a
/// binding.
const MESSAGE_LEN: u32 = 512;

/// A registration with a long certificate is more than that.
const LONGEST_LEN: u32 = 64 << 10;

/// A message beyond a limit counts as one for each of so many octets.
const EXCESS_LEN: u32 = 4096;

impl Buckets {
    /// Whether a node may send a message of so many octets.
    pub(crate) fn take_message(&mut self, now: Instant, len: usize) -> bool {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.messages.take(now) && self.octets.take_many(now, len)
    }

    /// Whether one beyond its limits is borne.
    pub(crate) fn bear(&mut self, now: Instant, len: usize) -> bool {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.excess.take_many(now, 1 + len / EXCESS_LEN)
    }

    pub(crate) const fn new(limits: &Limits) -> Self {
        Self {
            messages: Bucket::new(limits.messages, limits.message_burst()),
            octets: Bucket::new(
                limits.messages.saturating_mul(MESSAGE_LEN),
                limits
                    .message_burst()
                    .saturating_mul(MESSAGE_LEN)
                    .saturating_add(LONGEST_LEN),
            ),
            registrations: Bucket::new(limits.registrations, REGISTRATION_BURST),
            bindings: Bucket::new(limits.binding_rate, limits.bindings),
            calls: Bucket::new(limits.calls, CALL_BURST),
            called: Bucket::new(limits.called, CALL_BURST),
            excess: Bucket::new(EXCESS.0, EXCESS.1),
        }
    }
}

impl Node {
    pub(crate) fn new(
        key: PublicKey,
        source: SocketAddr,
        since: Now,
        token: [u8; TOKEN_LEN],
        buckets: Buckets,
    ) -> Self {
        Self {
            key,
            source,
            since,
            heard: since.instant,
            standing: Standing::Stranger,
            token,
            told: None,
            told_all: false,
            pending: 0,
            outbox: VecDeque::new(),
            called: BTreeSet::new(),
            buckets,
        }
    }

    /// Says something as soon as the node listens. `false`: it has not listened for long.
    pub(crate) fn say(&mut self, what: from_nucleus::What) -> bool {
        self.outbox.push_back(what);
        self.outbox.len() <= OUTBOX_MAX
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, number: u64, refused: Refused, why: String) -> bool {
        let refused = refused.into();
        self.say(from_nucleus::What::Result(Answer {
            number,
            refused,
            why,
        }))
    }

    /// Another node calls it. `false`: too many do.
    pub(crate) fn call(&mut self, caller: PublicKey, now: Instant) -> bool {
        if self.called.contains(&caller) {
            return true;
        }
        let fits = self.called.len() < CALLED_MAX && self.buckets.called.take(now);
        fits && self.called.insert(caller)
    }

    /// What is to be said first.
    pub(crate) fn next_said(&mut self) -> Option<from_nucleus::What> {
        if let Some(what) = self.outbox.pop_front() {
            return Some(what);
        }
        let public_key = self.called.pop_first()?.0.to_vec();
        Some(from_nucleus::What::Called(crate::protocol::Called {
            public_key,
        }))
    }
}
