//! The rendezvous itself, without sockets, threads and clocks.
//!
//! ```text
//!   connect  handle_message  disconnect          poll_message  poll_close  poll_ready
//!        \         |         /                          ^          ^          ^
//!         +--------v--------+---------------------------+----------+----------+
//!         | Core:  nodes    requests    list (what is stored)    presence     |
//!         +-----------------+------------------------^------------------------+
//!                           |                        |
//!                       poll_store     load  handle_event  handle_committed
//! ```
//!
//! The promises:
//! - A request is answered with success only after the store said that it is kept.
//! - An address goes from one owner to another by a commit that compares what the decision was
//!   made on. So its owners form one line, however many servers decide.
//! - What is told to a node is found by where it is in the list. Nothing queues for a node but
//!   answers to what it asked.

mod bucket;
mod decide;
mod key;
mod list;
mod members;
mod node;
mod operator;
mod presence;
mod requests;
mod store;
mod tell;
mod types;

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use omni_control::Random;
use omni_membership::PublicKey;
use omni_wire::{Instant, Now};

use self::list::{List, Place};
use self::node::{Buckets, Node};
use self::presence::Presence;
use self::requests::{Origin, Request, Requests};
use self::store::Stage;
use crate::protocol::{Call, Hello, Refused, TOKEN_LEN, VERSION, Welcome, from_node, from_nucleus};

pub use self::operator::{Answered, Watching};
pub use self::types::{
    ADMISSION, Closed, Conn, CoreConfig, Counters, EXPIRES_WITHIN, GONE_AFTER, GRACE, Limits,
    OtherFabric, READ_AGAIN, SEQUENCE_AHEAD, TICK, ToStore,
};

/// Nodes that left, and whose limits are remembered.
const DEPARTED_MAX: usize = 16_384;

/// For how long they are.
const DEPARTED_FOR: core::time::Duration = core::time::Duration::from_secs(60);

/// The rendezvous. See the [module](self).
pub struct Core {
    config: CoreConfig,
    rng: Box<dyn Random>,
    nodes: BTreeMap<Conn, Node>,
    by_key: BTreeMap<PublicKey, Conn>,
    by_token: BTreeMap<[u8; TOKEN_LEN], Conn>,
    departed: BTreeMap<PublicKey, (Instant, Buckets)>,
    list: List,
    presence: Presence,
    requests: Requests,
    store: Stage,
    /// Connections to be asked for messages.
    ready: BTreeSet<Conn>,
    /// Whether all connections are, as the list went on.
    list_moved: bool,
    closing: VecDeque<(Conn, Closed)>,
    answered: VecDeque<Answered>,
    counters: Counters,
    next_tick: Instant,
}

impl core::fmt::Debug for Core {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Core")
            .field("nodes", &self.nodes.len())
            .field("revision", &self.list.revision())
            .finish_non_exhaustive()
    }
}

impl Core {
    /// A server that knows nothing yet. It asks for a [`ToStore::Load`] first.
    #[must_use]
    pub fn new(config: CoreConfig, rng: Box<dyn Random>) -> Self {
        Self {
            config,
            rng,
            nodes: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_token: BTreeMap::new(),
            departed: BTreeMap::new(),
            list: List::new(),
            presence: Presence::new(),
            requests: Requests::default(),
            store: Stage::new(),
            ready: BTreeSet::new(),
            list_moved: false,
            closing: VecDeque::new(),
            answered: VecDeque::new(),
            counters: Counters::default(),
            next_tick: Instant(0),
        }
    }

    /// A node proved that it is there: its first sealed message was opened. An older connection of
    /// it is closed.
    pub fn connect(&mut self, now: Now, conn: Conn, key: PublicKey, source: SocketAddr) {
        self.counters.connected += 1;
        if let Some(older) = self.by_key.get(&key).copied() {
            self.close(older, Closed::Replaced, now.instant);
        }
        let limits = &self.config.limits;
        if self.nodes.len() >= limits.connections {
            self.counters.closed += 1;
            self.closing.push_back((conn, Closed::Full));
            return;
        }
        let departed = self.departed.remove(&key);
        let buckets = departed.map_or_else(|| Buckets::new(limits), |(_, buckets)| buckets);
        let mut token = [0; TOKEN_LEN];
        self.rng.fill(&mut token);
        let mut node = Node::new(key, source, now, token, buckets);
        node.standing = self.standing_of(&key, now);
        let is_stranger = self.store.is_loaded() && !node.standing.is_member();
        if is_stranger && self.strangers() >= limits.strangers {
            self.counters.closed += 1;
            self.closing.push_back((conn, Closed::Full));
            return;
        }
        self.nodes.insert(conn, node);
        self.by_key.insert(key, conn);
        self.by_token.insert(token, conn);
        self.presence.arrive(key);
    }

    /// A connection is gone.
    pub fn disconnect(&mut self, now: Now, conn: Conn) {
        self.forget(conn, now.instant);
    }

    /// Closes a connection from here.
    fn close(&mut self, conn: Conn, why: Closed, now: Instant) {
        if self.forget(conn, now) {
            self.counters.closed += 1;
            self.closing.push_back((conn, why));
        }
    }

    fn forget(&mut self, conn: Conn, now: Instant) -> bool {
        let Some(node) = self.nodes.remove(&conn) else {
            return false;
        };
        self.by_token.remove(&node.token);
        self.by_key.remove(&node.key);
        self.ready.remove(&conn);
        if self.departed.len() < DEPARTED_MAX {
            self.departed.insert(node.key, (now, node.buckets));
        }
        self.presence.leave(node.key);
        if !self.is_elsewhere(&node.key) {
            self.presence.vanish(node.key, node.heard);
        }
        true
    }

    /// A node says something, in a message of so many octets.
    pub fn handle_message(&mut self, now: Now, conn: Conn, what: from_node::What, len: usize) {
        let Some(node) = self.nodes.get_mut(&conn) else {
            return;
        };
        self.counters.messages += 1;
        node.heard = now.instant;
        let has_greeted = node.told.is_some();
        let is_hello = matches!(what, from_node::What::Hello(_));
        if has_greeted == is_hello {
            return self.close(conn, Closed::Misbehaved, now.instant);
        }
        if !node.buckets.take_message(now.instant, len) {
            return self.exceeded(now.instant, conn, what, len);
        }
        match what {
            from_node::What::Hello(hello) => self.hello(now.instant, conn, &hello),
            from_node::What::Register(register) => self.register(now, conn, register),
            from_node::What::Bind(bind) => self.bind(now, conn, bind),
            from_node::What::Call(call) => self.call(now.instant, conn, &call),
            from_node::What::Ping(_) => {
                let pong = from_nucleus::What::Pong(crate::protocol::Pong {});
                self.say(now.instant, conn, pong);
            }
        }
    }

    /// A node says something that a later version may understand.
    pub fn handle_unknown(&mut self, now: Now, conn: Conn, len: usize) {
        let Some(node) = self.nodes.get_mut(&conn) else {
            return;
        };
        self.counters.messages += 1;
        if node.told.is_none() {
            return self.close(conn, Closed::Misbehaved, now.instant);
        }
        let (buckets, now) = (&mut node.buckets, now.instant);
        if !buckets.take_message(now, len) && !buckets.bear(now, len) {
            self.counters.limited += 1;
            self.close(conn, Closed::TooMuch, now);
        }
    }

    /// A message beyond a limit. Requests are refused; all else is passed over.
    fn exceeded(&mut self, now: Instant, conn: Conn, what: from_node::What, len: usize) {
        self.counters.limited += 1;
        let Some(node) = self.nodes.get_mut(&conn) else {
            return;
        };
        if !node.buckets.bear(now, len) {
            return self.close(conn, Closed::TooMuch, now);
        }
        let number = match what {
            from_node::What::Register(register) => register.number,
            from_node::What::Bind(bind) => bind.number,
            _ => return,
        };
        let why = "too many at once: to be tried again after a second or more".to_owned();
        self.refuse(now, conn, number, Refused::Limit, why);
    }

    fn hello(&mut self, now: Instant, conn: Conn, hello: &Hello) {
        if hello.version == 0 {
            return self.close(conn, Closed::Misbehaved, now);
        }
        let Some(node) = self.nodes.get_mut(&conn) else {
            return;
        };
        let incarnation = <[u8; 16]>::try_from(&hello.incarnation[..]).unwrap_or_default();
        let place = Place::after(omni_store::Revision(hello.revision));
        node.told = Some((incarnation, place));
        let welcome = from_nucleus::What::Welcome(Welcome {
            version: VERSION,
            token: node.token.to_vec(),
        });
        self.say(now, conn, welcome);
    }

    fn call(&mut self, now: Instant, conn: Conn, call: &Call) {
        let Some(node) = self.nodes.get_mut(&conn) else {
            return;
        };
        let (caller, is_member) = (node.key, node.standing.is_member());
        let callee = <[u8; 32]>::try_from(&call.public_key[..]).map(PublicKey);
        let Some(callee) = callee.ok().and_then(|key| self.by_key.get(&key)).copied() else {
            return;
        };
        if !is_member || callee == conn {
            return;
        }
        if !node.buckets.calls.take(now) {
            self.counters.limited += 1;
            return;
        }
        let Some(other) = self.nodes.get_mut(&callee) else {
            return;
        };
        match other.standing.is_member() && other.call(caller, now) {
            true => {
                self.counters.called += 1;
                self.ready.insert(callee);
            }
            false => self.counters.limited += 1,
        }
    }

    /// Says something to a node, or closes its connection when too much waits for it.
    fn say(&mut self, now: Instant, conn: Conn, what: from_nucleus::What) {
        let Some(node) = self.nodes.get_mut(&conn) else {
            return;
        };
        match node.say(what) {
            true => _ = self.ready.insert(conn),
            false => self.close(conn, Closed::TooSlow, now),
        }
    }

    /// Refuses what is no request yet.
    fn refuse(&mut self, now: Instant, conn: Conn, number: u64, refused: Refused, why: String) {
        self.counters.refused += 1;
        let refused = refused.into();
        let answer = crate::protocol::Result {
            number,
            refused,
            why,
        };
        self.say(now, conn, from_nucleus::What::Result(answer));
    }

    /// Answers a request.
    fn answer(&mut self, now: Instant, request: &Request, refused: Refused, why: String) {
        self.requests.done(request);
        match refused {
            Refused::No => self.counters.accepted += 1,
            _ => self.counters.refused += 1,
        }
        match request.origin {
            Origin::Operator(number) => {
                let outcome = match refused {
                    Refused::No => Ok(()),
                    _ => Err(why),
                };
                self.answered.push_back(Answered { number, outcome });
            }
            Origin::Node { conn, number, .. } => {
                let Some(node) = self.nodes.get_mut(&conn) else {
                    return;
                };
                node.pending -= 1;
                match node.answer(number, refused, why) {
                    true => _ = self.ready.insert(conn),
                    false => self.close(conn, Closed::TooSlow, now),
                }
            }
        }
    }

    /// Whether to read from a connection: not while so many of its requests wait as may.
    #[must_use]
    pub fn may_read(&self, conn: Conn) -> bool {
        let node = self.nodes.get(&conn);
        node.is_none_or(|node| node.pending < self.config.limits.pending)
    }

    /// Whether a node has this token, which is for as long as it is connected.
    #[must_use]
    pub fn knows_token(&self, token: &[u8; TOKEN_LEN]) -> bool {
        self.by_token.contains_key(token)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.instant < self.next_tick {
            return;
        }
        self.next_tick = now.instant + TICK;
        self.presence.tidy(now.instant);
        let departed = |at: &Instant| now.instant.since(*at) < DEPARTED_FOR;
        self.departed.retain(|_, (at, _)| departed(at));
        self.review(now);
        self.requests.wake();
    }

    /// When to call [`Core::handle_timeout`].
    #[must_use]
    pub const fn poll_timeout(&self) -> Instant {
        self.next_tick
    }

    /// A connection that is to be closed. The core has forgotten it.
    pub fn poll_close(&mut self) -> Option<(Conn, Closed)> {
        self.closing.pop_front()
    }

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            garbage: self.list.garbage(),
            ..self.counters
        }
    }
}

/// A wall clock's time in seconds since 1970.
const fn seconds(now: Now) -> u64 {
    now.wall.0 / 1_000_000_000
}

/// What is wrong with when a record expires, if anything is.
fn check_expiry(expires: u64, now: Now) -> Result<(), String> {
    let ours = seconds(now);
    if expires < ours {
        return Err(format!("it expired at {expires} (seconds since 1970)"));
    }
    match expires <= ours.saturating_add(EXPIRES_WITHIN) {
        true => Ok(()),
        false => Err(format!(
            "it expires at {expires} (seconds since 1970), over 31 days ahead of the clock here"
        )),
    }
}

/// What is wrong with a sequence, if anything is: they are milliseconds since 1970.
fn check_sequence(sequence: u64, now: Now) -> Result<(), String> {
    let ours = now.wall.0 / 1_000_000;
    match sequence <= ours.saturating_add(SEQUENCE_AHEAD) {
        true => Ok(()),
        false => Err(format!(
            "its sequence is {sequence}, more than ten minutes ahead of the clock here ({ours})"
        )),
    }
}

#[cfg(test)]
mod tests;
