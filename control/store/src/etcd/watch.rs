//! A watch that goes on over lost connections, and notices one that is dead.
//!
//! Whenever the stream ends, or told nothing for too long, it is opened again at the next member,
//! behind the last revision that was told as a whole. etcd keeps all changes since then, or says
//! that it does not. A member that is cut off from the others keeps its streams open and silent:
//! the heartbeats of the servers are missing then.

use std::sync::Arc;
use std::thread;

use serde_json::json;

use super::Life;
use super::backoff::{self, Backoff};
use super::client::{Failure, Repeat, read_line};
use super::lease::Shared;
use super::wire::{self, ErrorAnswer, RangeAnswer, Streamed, WatchAnswer, WatchEvent};
use crate::error::StoreError;
use crate::feed::Feed;
use crate::types::{Event, Item, LostReason, Revision};

/// Why a connection of a watch is over.
enum End {
    /// Nothing is lost. Try again.
    Broken(String),
    /// Changes may be missing.
    Lost(LostReason),
    /// Nobody listens any more.
    Abandoned,
}

struct Watcher {
    shared: Arc<Shared>,
    feed: Feed,
    life: Life,
    /// Everything before this revision was told.
    next: u64,
    /// Which member is asked, counted on and on.
    at: usize,
}

/// Starts the thread that feeds a watch.
pub(super) fn start(
    shared: &Arc<Shared>,
    feed: Feed,
    life: Life,
    after: Revision,
) -> Result<(), StoreError> {
    let mut watcher = Watcher {
        shared: Arc::clone(shared),
        feed,
        life,
        next: after.0.saturating_add(1),
        at: backoff::random() as usize,
    };
    let run = move || watcher.run();
    let spawned = thread::Builder::new().name("store-watch".into()).spawn(run);
    spawned
        .map(|_| ())
        .map_err(|error| StoreError::Unavailable(error.to_string()))
}

impl Watcher {
    fn run(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            let before = self.next;
            match self.connect() {
                End::Abandoned => return,
                End::Lost(reason) => return self.feed.end(reason),
                End::Broken(why) => {
                    tracing::warn!(why, "a watch of etcd is opened again");
                    self.at = self.at.wrapping_add(1);
                }
            }
            if self.next != before {
                backoff = Backoff::new();
            }
            if !self.shared.sleep(backoff.wait()) || !self.feed.is_open() {
                return;
            }
        }
    }

    /// Opens a stream and tells what it says until it ends.
    fn connect(&mut self) -> End {
        if let Err(end) = self.check_life() {
            return end;
        }
        let keys = &self.shared.keys;
        let request = json!({ "create_request": {
            "key": wire::octets(keys.prefix()),
            "range_end": wire::octets(&keys.end()),
            "start_revision": wire::number(self.next),
            "prev_kv": true,
        }});
        let shared = Arc::clone(&self.shared);
        let silence = shared.timing.silence;
        let mut stream = match shared.client.stream(self.at, "watch", &request, silence) {
            Ok(stream) => stream,
            Err(why) => return End::Broken(why),
        };
        loop {
            let line = match read_line(&mut stream) {
                Ok(line) => line,
                Err(why) => return End::Broken(why),
            };
            if let Err(end) = self.take(&line) {
                return end;
            }
        }
    }

    /// Whether the store is the one that was watched, and has got as far as was told. A watch
    /// after a revision that a store has yet to reach would wait for the wrong changes.
    fn check_life(&self) -> Result<(), End> {
        let request = json!({ "key": wire::octets(&self.shared.keys.incarnation()) });
        let answer: RangeAnswer = self
            .shared
            .client
            .call("kv/range", &request, Repeat::Safe)
            .map_err(|failure: Failure| End::Broken(StoreError::from(failure).to_string()))?;
        let found = answer.kvs.first().map(|found| found.value.0.as_slice());
        let is_same = found == Some(self.life.key.as_slice())
            && answer.header.cluster_id.0 == self.life.cluster
            && answer.header.revision.0 >= self.next.saturating_sub(1);
        if is_same {
            return Ok(());
        }
        Err(End::Lost(LostReason::Replaced))
    }

    fn take(&mut self, line: &[u8]) -> Result<(), End> {
        let parsed = serde_json::from_slice::<Streamed<WatchAnswer>>(line);
        let streamed = parsed.map_err(|error| End::Broken(error.to_string()))?;
        let Some(answer) = streamed.result else {
            let (text, _) = ErrorAnswer::from(streamed.error).into_parts();
            return Err(End::Broken(text));
        };
        if answer.compact_revision.0 != 0 {
            return Err(End::Lost(LostReason::Compacted));
        }
        if answer.canceled {
            // It does not say why. A token that is too old is the reason that can be mended.
            self.shared.client.forget_token();
            return Err(End::Broken("etcd ended the watch".into()));
        }
        self.tell(answer.events)
    }

    /// Tells the events of whole commits: etcd does not divide them.
    fn tell(&mut self, events: Vec<WatchEvent>) -> Result<(), End> {
        let deletion = self.shared.keys.deletion();
        // Commits of ours that delete something put this key, so what vanishes without expired.
        let marks = events.iter().filter(|event| event.kv.key.0 == deletion);
        let meant: Vec<u64> = marks.map(|event| event.kv.mod_revision.0).collect();
        let mut told = None;
        for event in events {
            let revision = event.kv.mod_revision.0;
            if revision < self.next {
                continue;
            }
            told = Some(revision);
            let Some(key) = self.shared.keys.item_key(&event.kv.key.0) else {
                self.notice(&event)?;
                continue;
            };
            let key = key.to_vec();
            let event = if event.is_delete() {
                Event::Deleted {
                    key,
                    revision: Revision(revision),
                    expired: !meant.contains(&revision) && self.was_ephemeral(&event)?,
                }
            } else {
                Event::Put(Item {
                    key,
                    value: event.kv.value.0,
                    modified: Revision(revision),
                    ephemeral: event.kv.lease.0 != 0,
                })
            };
            self.push(event)?;
        }
        if let Some(revision) = told {
            self.next = revision + 1;
            self.push(Event::Progress(Revision(revision)))?;
        }
        Ok(())
    }

    /// Whether a key that vanished hung on a lease. etcd starts a watch before it takes note that
    /// previous values were asked for, so the first events may lack them.
    fn was_ephemeral(&self, event: &WatchEvent) -> Result<bool, End> {
        if let Some(before) = &event.prev_kv {
            return Ok(before.lease.0 != 0);
        }
        let request = json!({
            "key": wire::octets(&event.kv.key.0),
            "revision": wire::number(event.kv.mod_revision.0.saturating_sub(1)),
        });
        let client = &self.shared.client;
        match client.call::<RangeAnswer>("kv/range", &request, Repeat::Safe) {
            Ok(answer) => Ok(answer.kvs.first().is_some_and(|before| before.lease.0 != 0)),
            // Only leases and strangers delete without our mark, and strangers hardly ever do.
            Err(Failure::Compacted) => Ok(true),
            Err(failure) => Err(End::Broken(StoreError::from(failure).to_string())),
        }
    }

    /// A key of our own. Another incarnation ends everything.
    fn notice(&self, event: &WatchEvent) -> Result<(), End> {
        let is_incarnation = event.kv.key.0 == self.shared.keys.incarnation();
        if is_incarnation && (event.is_delete() || event.kv.value.0 != self.life.key) {
            return Err(End::Lost(LostReason::Replaced));
        }
        Ok(())
    }

    fn push(&self, event: Event) -> Result<(), End> {
        if self.feed.push(event) {
            return Ok(());
        }
        Err(End::Abandoned)
    }
}
