//! What is asked of the store, and what it says.

use core::time::Duration;

use omni_membership::PublicKey;
use omni_store::{Change, Compare, Event, Outcome, Revision, Snapshot, StoreError, Transaction};
use omni_wire::{Instant, Now};

use super::decide::Decision;
use super::key::{FABRIC, Key};
use super::list::List;
use super::requests::{ATTEMPTS, Batch, Put, Request};
use super::types::{Conn, GRACE, OtherFabric, READ_AGAIN, ToStore};
use super::{Core, seconds};
use crate::protocol::Refused;

/// After what failed.
const AGAIN: Duration = Duration::from_secs(1);

/// The most expired records that are removed at once.
const EXPIRED: usize = 32;

/// Where things stand with the store.
#[derive(Debug)]
pub(super) struct Stage {
    loaded: bool,
    /// Whether it is to be read as a whole, and when at the earliest.
    load: Option<Instant>,
    /// What was read last was much less than before, and is to be read once more.
    doubts: bool,
    /// When it is to be read as a whole though nothing calls for it.
    read_again: Option<Instant>,
    in_flight: Option<InFlight>,
    /// Whose turn it is: that of what nodes ask, or of what is to be kept in order.
    chores_next: bool,
    /// When expired records are looked for again.
    sweep: Instant,
}

#[derive(Debug)]
enum InFlight {
    Load,
    Requests(Vec<(Request, Put)>),
    /// Nodes that came or left.
    Presence(Vec<PublicKey>),
    /// So many records that expired.
    Expired(usize),
    /// Whose store it is.
    Name,
}

impl Stage {
    pub(super) const fn new() -> Self {
        Self {
            loaded: false,
            load: Some(Instant(0)),
            doubts: false,
            read_again: None,
            in_flight: None,
            chores_next: false,
            sweep: Instant(0),
        }
    }

    /// Whether anything is known of what is stored.
    pub(super) const fn is_loaded(&self) -> bool {
        self.loaded
    }
}

impl Core {
    /// The next thing for the store to do. One at a time.
    pub fn poll_store(&mut self, now: Now) -> Option<ToStore> {
        if self.store.in_flight.is_some() {
            return None;
        }
        if self.store.read_again.is_some_and(|at| now.instant >= at) {
            self.store.load.get_or_insert(now.instant);
        }
        if let Some(at) = self.store.load {
            if now.instant < at {
                return None;
            }
            self.store.load = None;
            self.store.read_again = None;
            self.store.in_flight = Some(InFlight::Load);
            return Some(ToStore::Load);
        }
        self.store.chores_next = !self.store.chores_next;
        let transaction = match self.store.chores_next {
            true => self.batch(now).or_else(|| self.chore(now)),
            false => self.chore(now).or_else(|| self.batch(now)),
        };
        transaction.map(ToStore::Commit)
    }

    /// Whether nothing that a node asked is on its way to the store.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.requests.count() == 0
    }

    /// Whether the store was ever read.
    #[must_use]
    pub const fn is_loaded(&self) -> bool {
        self.store.is_loaded()
    }

    /// Requests that can be decided, as one transaction.
    fn batch(&mut self, now: Now) -> Option<Transaction> {
        if self.requests.is_idle() || !self.requests.may_commit() {
            return None;
        }
        let mut batch = Batch::default();
        while let Some(request) = self.requests.pop() {
            if self.requests.is_settling(&request.key) || batch.keys.contains(&request.key) {
                self.requests.wait(request);
                continue;
            }
            if !batch.fits(&request) {
                self.requests.unpop(request);
                break;
            }
            match self.decide(&request, &batch, now) {
                Decision::Put(put) if is_stuck(&request, &put, now.instant) => {
                    self.requests.wait(request);
                }
                Decision::Put(put) => batch.push(request, put),
                Decision::Answer(refused, why) => {
                    self.answer(now.instant, &request, refused, why);
                }
            }
        }
        if batch.requests.is_empty() {
            return None;
        }
        let mut transaction = Transaction::default();
        for (request, put) in &batch.requests {
            let key = request.key.octets();
            transaction.compares.push(Compare {
                key: key.clone(),
                expected: put.expected,
            });
            transaction.changes.push(Change::Put {
                key,
                value: request.octets.clone(),
                ephemeral: false,
            });
        }
        self.store.in_flight = Some(InFlight::Requests(batch.requests));
        Some(transaction)
    }

    /// What is to be kept in order: whose store it is, who is there, and what expired.
    fn chore(&mut self, now: Now) -> Option<Transaction> {
        if !self.list.is_named() && now.instant >= self.store.sweep {
            self.store.sweep = now.instant + AGAIN;
            self.store.in_flight = Some(InFlight::Name);
            let key = FABRIC.to_vec();
            return Some(Transaction {
                compares: vec![Compare {
                    key: key.clone(),
                    expected: None,
                }],
                changes: vec![Change::Put {
                    key,
                    value: self.config.trust.fabric.as_str().into(),
                    ephemeral: false,
                }],
            });
        }
        let nodes = self.presence.take(now.instant);
        if !nodes.is_empty() {
            let changes = nodes
                .iter()
                .map(|node| self.presence_change(node, now))
                .collect();
            self.store.in_flight = Some(InFlight::Presence(nodes));
            return Some(Transaction {
                compares: Vec::new(),
                changes,
            });
        }
        if now.instant < self.store.sweep {
            return None;
        }
        let before = seconds(now).saturating_sub(GRACE.as_secs());
        let expired: Vec<_> = self.list.expired(before, EXPIRED).collect();
        // Once a second at most: a sweep that is not committed, or not told of yet, would be
        // tried again at once.
        self.store.sweep = now.instant + AGAIN;
        if expired.is_empty() {
            return None;
        }
        let mut transaction = Transaction::default();
        for (key, revision) in &expired {
            let key = key.octets();
            transaction.compares.push(Compare {
                key: key.clone(),
                expected: Some(*revision),
            });
            transaction.changes.push(Change::Delete { key });
        }
        self.store.in_flight = Some(InFlight::Expired(expired.len()));
        Some(transaction)
    }

    fn presence_change(&self, node: &PublicKey, now: Now) -> Change {
        let key = Key::Live(*node, self.config.server).octets();
        let conn = self.by_key.get(node);
        match conn.and_then(|conn| self.nodes.get(conn)) {
            Some(node) => Change::Put {
                key,
                value: seconds(node.since)
                    .min(seconds(now))
                    .to_string()
                    .into_bytes(),
                ephemeral: true,
            },
            None => Change::Delete { key },
        }
    }

    /// What became of the transaction.
    pub fn handle_committed(&mut self, now: Now, outcome: Result<Outcome, StoreError>) {
        let Some(in_flight) = self.store.in_flight.take() else {
            return;
        };
        match &outcome {
            Ok(Outcome::Committed(_)) => self.counters.commits += 1,
            Ok(Outcome::Conflict) => self.counters.conflicts += 1,
            Err(_) => self.counters.store_errors += 1,
        }
        if matches!(
            outcome,
            Err(StoreError::Uncertain(_) | StoreError::Replaced)
        ) {
            self.store.load = Some(now.instant);
        }
        match (in_flight, outcome) {
            (InFlight::Requests(requests), outcome) => {
                self.requests_committed(now, requests, outcome);
            }
            (InFlight::Presence(nodes), outcome) => {
                if !matches!(outcome, Ok(Outcome::Committed(_))) {
                    self.presence.retry(nodes, now.instant + AGAIN);
                }
            }
            (InFlight::Expired(count), Ok(Outcome::Committed(_))) => {
                self.counters.expired += count as u64;
            }
            (InFlight::Expired(_) | InFlight::Load | InFlight::Name, _) => {}
        }
    }

    fn requests_committed(
        &mut self,
        now: Now,
        requests: Vec<(Request, Put)>,
        outcome: Result<Outcome, StoreError>,
    ) {
        match outcome {
            Ok(Outcome::Committed(revision)) => self.keep(now.instant, requests, revision),
            Ok(Outcome::Conflict) => self.decide_again(now.instant, requests),
            Err(StoreError::Uncertain(why)) => {
                self.wait_all(now.instant, requests, &StoreError::Uncertain(why));
            }
            Err(StoreError::Replaced) => {
                self.wait_all(now.instant, requests, &StoreError::Replaced);
            }
            Err(error) => {
                for (request, _) in requests {
                    let why = error.to_string();
                    self.answer(now.instant, &request, Refused::Unavailable, why);
                }
            }
        }
    }

    fn keep(&mut self, now: Instant, requests: Vec<(Request, Put)>, revision: Revision) {
        for (request, put) in requests {
            self.counters.moved += u64::from(put.moved);
            if self.list.revision() < revision {
                self.requests.settle(request.key, revision, put.more);
            }
            self.answer(now, &request, Refused::No, String::new());
        }
    }

    /// Something is not as the list says. Of several requests the others may be good: they are
    /// tried one by one. A single one waits for the list.
    fn decide_again(&mut self, now: Instant, requests: Vec<(Request, Put)>) {
        if requests.len() > 1 {
            for (mut request, _) in requests.into_iter().rev() {
                request.alone = true;
                self.requests.unpop(request);
            }
            return;
        }
        let error = StoreError::Unavailable("another server changes the same".to_owned());
        self.wait_all(now, requests, &error);
    }

    /// Lets requests wait until more is known, a few times.
    fn wait_all(&mut self, now: Instant, requests: Vec<(Request, Put)>, error: &StoreError) {
        for (mut request, put) in requests {
            request.attempts += 1;
            request.stuck = Some((put.expected, now + AGAIN));
            if request.attempts >= ATTEMPTS {
                // The list may be behind without knowing it.
                self.store.load = Some(now);
                let why = error.to_string();
                self.answer(now, &request, Refused::Unavailable, why);
                continue;
            }
            self.requests.wait(request);
        }
    }

    /// The store was read, and what follows will be told.
    ///
    /// # Errors
    /// It is another fabric's. The core goes on with what it knows, and asks no more to read it.
    pub fn load(&mut self, now: Now, snapshot: Snapshot) -> Result<(), OtherFabric> {
        self.store.in_flight = None;
        self.check_fabric(&snapshot)?;
        self.counters.loads += 1;
        let is_other = snapshot.incarnation != self.list.incarnation();
        let list = List::read(snapshot, &self.config.trust);
        let is_less = self.store.loaded && list.len() < self.list.len() / 2;
        if is_less && !self.store.doubts {
            // An error is not empty.
            self.store.doubts = true;
            self.store.load = Some(now.instant + AGAIN);
            self.counters.doubted += 1;
            return Ok(());
        }
        self.store.doubts = false;
        self.list = list;
        if self.config.shares_store {
            self.store.read_again = Some(now.instant + READ_AGAIN);
        }
        self.presence.restart(now.instant);
        if is_other {
            self.requests.forget_revisions();
        } else {
            self.requests.progress(self.list.revision());
        }
        // What is ephemeral may have been lost with what was not told.
        self.presence.mark(self.by_key.keys().copied());
        self.store.loaded = true;
        self.list_moved = true;
        self.recognize(now);
        self.review(now);
        Ok(())
    }

    fn check_fabric(&self, snapshot: &Snapshot) -> Result<(), OtherFabric> {
        let own = self.config.trust.fabric.as_str();
        let name = snapshot.items.iter().find(|item| item.key == FABRIC);
        match name {
            Some(item) if item.value != own.as_bytes() => Err(OtherFabric {
                found: String::from_utf8_lossy(&item.value).into_owned(),
                own: own.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// The store could not be read.
    pub fn handle_load_error(&mut self, now: Now, error: &StoreError) {
        self.store.in_flight = None;
        self.counters.store_errors += 1;
        self.store.load = Some(now.instant + AGAIN);
        for request in self.requests.drain() {
            let why = error.to_string();
            self.answer(now.instant, &request, Refused::Unavailable, why);
        }
    }

    /// Something changed in the store.
    pub fn handle_event(&mut self, now: Now, event: Event) {
        match event {
            Event::Put(item) => {
                let before = Revision(item.modified.0.saturating_sub(1));
                let key = self.list.put(item, &self.config.trust);
                self.list.progress(before);
                self.on_put(key, now);
            }
            Event::Deleted { key, revision, .. } => {
                let key = self.list.delete(&key, revision);
                self.list.progress(Revision(revision.0.saturating_sub(1)));
                if let Some(Key::Live(node, _)) = key {
                    self.on_left(node, now.instant);
                }
            }
            Event::Progress(revision) => {
                self.list.progress(revision);
                self.requests.progress(self.list.revision());
                self.list_moved = true;
            }
            Event::Lost(_) => self.store.load = Some(now.instant),
            Event::LeaseLost => self.presence.mark(self.by_key.keys().copied()),
        }
    }

    fn on_put(&mut self, key: Option<Key>, now: Now) {
        match key {
            Some(Key::Revoked(node)) => self.on_revoked(&node, now),
            Some(Key::Live(node, server)) if server != self.config.server => {
                self.presence.appear(&node);
            }
            _ => {}
        }
    }

    /// A server says no more that a node is connected to it.
    fn on_left(&mut self, node: PublicKey, now: Instant) {
        if !self.by_key.contains_key(&node) && !self.is_elsewhere(&node) {
            self.presence.vanish(node, now);
        }
    }

    /// Connections, for a runtime that ends.
    pub fn conns(&self) -> impl Iterator<Item = Conn> + '_ {
        self.nodes.keys().copied()
    }
}

/// Whether a request would be tried with what it has just failed with.
fn is_stuck(request: &Request, put: &Put, now: Instant) -> bool {
    let stuck = request.stuck;
    stuck.is_some_and(|(expected, until)| expected == put.expected && now < until)
}
