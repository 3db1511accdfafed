//! One Nucleus, as the node sees it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use omni_membership::PublicKey;
use omni_wire::{Instant, Now};
use prost::Message as _;

use super::own::Own;
use super::roster::Address;
use crate::protocol::{
    self, Bind, Call, Changes, FromNode, Hello, Ping, Refused, Register, TOKEN_LEN, VERSION,
    Welcome, from_node,
};

/// Requests that wait for their result.
const WAITING_MAX: usize = 32;
/// Calls that wait to be sent.
const CALLS_MAX: usize = 64;
/// A node that has nothing else to say says so after this time.
const PING_AFTER: Duration = Duration::from_secs(10);
/// What was refused for now is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);
/// What somebody else holds is tried again after this time, should nothing be heard of it.
const RETRY_HELD: Duration = Duration::from_secs(30);

/// What a request was about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Request {
    Registration { sequence: u64 },
    Binding { address: Address, sequence: u64 },
}

/// How things are with a Nucleus, to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkStatus {
    /// Whether there is a channel, and it has welcomed us.
    pub connected: bool,
    /// Whether it has told all that it knows.
    pub complete: bool,
    /// Up to which revision of its list.
    pub revision: u64,
    /// When it last said anything.
    pub heard: Option<Instant>,
    /// Whether it has our registration.
    pub registered: bool,
    /// Why it refused us last, in its words.
    pub refusal: Option<String>,
    /// Where it sees our fabric port.
    pub seen_at: Option<SocketAddr>,
}

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Link {
    connected: bool,
    greeted: bool,
    welcomed: bool,
    /// What was last told of its list. It outlives the channel.
    incarnation: Vec<u8>,
    revision: u64,
    complete: bool,
    heard: Option<Instant>,
    sent: Instant,
    number: u64,
    waiting: BTreeMap<u64, Request>,
    /// The sequence of our registration that it has, or is about to have.
    registered: Option<u64>,
    register_at: Instant,
    acknowledged: bool,
    /// Addresses of ours that it has to be told of.
    news: BTreeSet<Address>,
    /// Those that are tried again later.
    later: BTreeSet<(Instant, Address)>,
    calls: VecDeque<PublicKey>,
    refusal: Option<String>,
    token: Option<[u8; TOKEN_LEN]>,
    reflect_at: Instant,
    seen_at: Option<SocketAddr>,
}

impl Link {
    pub(super) fn connect(&mut self, now: Instant, addresses: impl Iterator<Item = Address>) {
        self.disconnect();
        self.connected = true;
        self.sent = now;
        self.news = addresses.collect();
    }

    pub(super) fn disconnect(&mut self) {
        let known = (std::mem::take(&mut self.incarnation), self.revision);
        let (heard, refusal) = (self.heard, self.refusal.take());
        *self = Self {
            incarnation: known.0,
            revision: known.1,
            heard,
            refusal,
            seen_at: self.seen_at,
            ..Self::default()
        };
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    pub(super) fn welcome(&mut self, now: Instant, welcome: &Welcome) {
        self.welcomed = true;
        self.token = welcome.token.as_slice().try_into().ok();
        self.reflect_at = now;
    }

    /// Takes in how far the node knows the list now. False when that makes no sense.
    pub(super) fn changes(&mut self, changes: &Changes) -> bool {
        if changes.incarnation.len() != 16 {
            return false;
        }
        if changes.incarnation == self.incarnation {
            // One that goes back has lost something, and will say it again.
            self.revision = changes.revision.max(self.revision);
        } else {
            self.incarnation.clone_from(&changes.incarnation);
            self.revision = changes.revision;
        }
        self.complete = changes.all;
        true
    }

    pub(super) fn result(&mut self, now: Instant, result: &protocol::Result, own: &Own) {
        let Some(request) = self.waiting.remove(&result.number) else {
            return;
        };
        let refused = Refused::try_from(result.refused).unwrap_or(Refused::Unavailable);
        if refused != Refused::No {
            self.refusal = Some(result.why.chars().take(200).collect());
        }
        match (request, refused) {
            (Request::Registration { sequence }, Refused::No) => {
                self.acknowledged = self.registered == Some(sequence);
                self.refusal = None;
            }
            (Request::Registration { .. }, _) => {
                self.registered = None;
                self.register_at = now + RETRY;
            }
            // Meanwhile something newer is to be said of it: as when what somebody else said became
            // known here before the answer did, by which this was too old.
            (Request::Binding { address, sequence }, _)
                if own.binding_sequence(&address) != Some(sequence) =>
            {
                self.news.insert(address);
            }
            (Request::Binding { .. }, Refused::No) => {}
            (Request::Binding { address, .. }, Refused::Held) => {
                self.later.insert((now + RETRY_HELD, address));
            }
            (Request::Binding { address, .. }, _) => {
                self.later.insert((now + RETRY, address));
            }
        }
    }

    /// An address of ours changed.
    pub(super) fn changed(&mut self, address: Address) {
        if self.connected {
            self.news.insert(address);
        }
    }

    /// Something was heard of an address that we may have been refused.
    pub(super) fn look_again(&mut self, address: Address) {
        let at = self.later.iter().find(|(_, other)| *other == address);
        if let Some(&waiting) = at {
            self.later.remove(&waiting);
            self.news.insert(address);
        }
    }

    pub(super) fn call(&mut self, public_key: PublicKey) {
        if self.connected && self.calls.len() < CALLS_MAX && !self.calls.contains(&public_key) {
            self.calls.push_back(public_key);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, address)) = self.later.first()
            && at <= now
        {
            self.later.pop_first();
            self.news.insert(address);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        if !self.welcomed {
            return None;
        }
        let later = self.later.first().map(|&(at, _)| at);
        let reflect = self.token.map(|_| self.reflect_at);
        let register = self.registered.is_none().then_some(self.register_at);
        let times = [Some(self.sent + PING_AFTER), later, reflect, register];
        times.into_iter().flatten().min()
    }

    pub(super) fn poll_send(&mut self, now: Now, own: &mut Own) -> Option<Vec<u8>> {
        if !self.connected {
            return None;
        }
        let what = self.next(now, own)?;
        self.sent = now.instant;
        Some(FromNode::from(what).encode_to_vec())
    }

    fn next(&mut self, now: Now, own: &Own) -> Option<from_node::What> {
        if !self.greeted {
            self.greeted = true;
            return Some(from_node::What::Hello(Hello {
                version: VERSION,
                incarnation: self.incarnation.clone(),
                revision: self.revision,
            }));
        }
        if !self.welcomed {
            return None;
        }
        self.next_registration(now.instant, own)
            .or_else(|| self.next_binding(own))
            .or_else(|| self.next_call())
            .or_else(|| {
                let is_quiet = now.instant.since(self.sent) >= PING_AFTER;
                is_quiet.then_some(from_node::What::Ping(Ping {}))
            })
    }

    fn next_registration(&mut self, now: Instant, own: &Own) -> Option<from_node::What> {
        let wanted = own.registration_sequence();
        let waits = self.registered.is_none() && now < self.register_at;
        let is_full = self.waiting.len() >= WAITING_MAX;
        if self.registered == wanted || waits || is_full {
            return None;
        }
        let (sequence, registration) = own.registration()?;
        self.registered = Some(sequence);
        self.acknowledged = false;
        let number = self.ask(Request::Registration { sequence });
        Some(from_node::What::Register(Register {
            number,
            registration,
        }))
    }

    /// Nothing is bound by a node that is not registered yet.
    fn next_binding(&mut self, own: &Own) -> Option<from_node::What> {
        while self.acknowledged && self.waiting.len() < WAITING_MAX {
            let address = self.news.pop_first()?;
            // It may be long gone.
            if let Some((sequence, binding)) = own.binding(&address) {
                let number = self.ask(Request::Binding { address, sequence });
                return Some(from_node::What::Bind(Bind { number, binding }));
            }
        }
        None
    }

    fn next_call(&mut self) -> Option<from_node::What> {
        let public_key = self.calls.pop_front()?.0.to_vec();
        Some(from_node::What::Call(Call { public_key }))
    }

    fn ask(&mut self, request: Request) -> u64 {
        self.number += 1;
        self.waiting.insert(self.number, request);
        self.number
    }

    pub(super) fn token(&self) -> Option<&[u8; TOKEN_LEN]> {
        self.token.as_ref()
    }

    pub(super) fn reflected(&mut self, now: Instant, seen: SocketAddr) {
        self.seen_at = Some(seen);
        self.reflect_at = now + super::REFLECT_INTERVAL;
    }

    pub(super) fn seen_at(&self) -> Option<SocketAddr> {
        self.seen_at
    }

    pub(super) fn poll_reflection(&mut self, now: Instant) -> Option<[u8; TOKEN_LEN]> {
        let token = self.token?;
        if !self.connected || now < self.reflect_at {
            return None;
        }
        // Until there is an answer.
        self.reflect_at = now + super::REFLECT_AGAIN;
        Some(token)
    }

    pub(super) fn status(&self) -> LinkStatus {
        LinkStatus {
            connected: self.welcomed,
            complete: self.complete,
            revision: self.revision,
            heard: self.heard,
            registered: self.acknowledged,
            refusal: self.refusal.clone(),
            seen_at: self.seen_at,
        }
    }
}
