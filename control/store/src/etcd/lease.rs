//! The lease of this process, which its ephemeral items hang on, and what keeps it alive.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Client, Failure, Repeat};
use super::config::Timing;
use super::keys::Keys;
use super::wire::{self, ErrorAnswer, GrantAnswer, KeepAliveAnswer, Streamed};
use crate::error::StoreError;
use crate::feed::Feed;
use crate::types::{Event, LostReason};

/// What the store and its threads share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) keys: Keys,
    pub(super) timing: Timing,
    lease: Mutex<Option<i64>>,
    feeds: Mutex<Feeds>,
    stopped: Mutex<bool>,
    stop: Condvar,
}

#[derive(Default)]
struct Feeds {
    open: Vec<Feed>,
    /// The lease was lost when nobody watched.
    untold: bool,
}

impl Shared {
    pub(super) fn new(client: Client, keys: Keys, timing: Timing) -> Self {
        Self {
            client,
            keys,
            timing,
            lease: Mutex::new(None),
            feeds: Mutex::default(),
            stopped: Mutex::new(false),
            stop: Condvar::new(),
        }
    }

    /// The lease, granted now if there is none yet.
    pub(super) fn lease(&self) -> Result<i64, Failure> {
        let mut lease = lock(&self.lease);
        match *lease {
            Some(id) => Ok(id),
            None => self.grant(&mut lease),
        }
    }

    /// Puts another lease in the place of one that etcd does not know any more, once.
    pub(super) fn renew(&self, lost: i64) -> Result<(), Failure> {
        let mut lease = lock(&self.lease);
        if *lease != Some(lost) {
            return Ok(());
        }
        tracing::warn!("etcd gave our lease up: ephemeral items have to be put again");
        self.grant(&mut lease)?;
        let mut feeds = lock(&self.feeds);
        feeds.open.retain(|feed| feed.push(Event::LeaseLost));
        feeds.untold = feeds.open.is_empty();
        Ok(())
    }

    fn grant(&self, lease: &mut Option<i64>) -> Result<i64, Failure> {
        let request = json!({ "TTL": wire::number(self.timing.lease.as_secs()) });
        // An answer that is missed leaves a lease that nothing hangs on, which runs out.
        let answer: GrantAnswer = self.client.call("lease/grant", &request, Repeat::Safe)?;
        if answer.id.0 == 0 {
            let text = "etcd granted no lease".to_owned();
            return Err(Failure::Store(StoreError::Unavailable(text)));
        }
        *lease = Some(answer.id.0);
        Ok(answer.id.0)
    }

    /// Registers a watch, which hears of a lost lease from now on.
    pub(super) fn add_feed(&self, feed: Feed) {
        let mut feeds = lock(&self.feeds);
        feeds.open.retain(Feed::is_open);
        if std::mem::take(&mut feeds.untold) {
            feed.push(Event::LeaseLost);
        }
        feeds.open.push(feed);
    }

    /// Ends all threads and watches.
    pub(super) fn close(&self) {
        *lock(&self.stopped) = true;
        self.stop.notify_all();
        for feed in &lock(&self.feeds).open {
            feed.end(LostReason::Closed);
        }
    }

    /// Waits. `false`: the store is closed.
    pub(super) fn sleep(&self, time: Duration) -> bool {
        let stopped = lock(&self.stopped);
        let waited = self
            .stop
            .wait_timeout_while(stopped, time, |stopped| !*stopped);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn keep_alive(&self, lease: i64) -> Result<(), Failure> {
        let request = json!({ "ID": wire::number(lease) });
        let answer: Streamed<KeepAliveAnswer> =
            self.client
                .call("lease/keepalive", &request, Repeat::Safe)?;
        match answer.result {
            Some(KeepAliveAnswer { ttl }) if ttl.0 > 0 => Ok(()),
            Some(_) => Err(Failure::NoLease),
            None => {
                let (text, _) = ErrorAnswer::from(answer.error).into_parts();
                Err(Failure::Store(StoreError::Unavailable(text)))
            }
        }
    }

    fn beat(&self, lease: i64) -> Result<(), Failure> {
        let request = wire::put(&self.keys.beat(lease), b"", lease);
        self.client
            .call::<serde::de::IgnoredAny>("kv/put", &request, Repeat::Safe)
            .map(|_| ())
    }

    /// One turn of the keeper.
    fn tend(&self, keep_alive_is_due: bool) -> Result<(), Failure> {
        let lease = self.lease()?;
        let kept = if keep_alive_is_due {
            self.keep_alive(lease)
        } else {
            Ok(())
        };
        match kept.and_then(|()| self.beat(lease)) {
            Err(Failure::NoLease) => self.renew(lease),
            other => other,
        }
    }
}

/// Starts the thread that keeps the lease alive and puts heartbeats.
pub(super) fn start_keeper(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let shared = Arc::clone(shared);
    let run = move || keep(&shared);
    let spawned = thread::Builder::new().name("store-lease".into()).spawn(run);
    spawned
        .map(|_| ())
        .map_err(|error| StoreError::Unavailable(error.to_string()))
}

fn keep(shared: &Shared) {
    let mut kept = Instant::now();
    loop {
        let due = kept.elapsed() + shared.timing.heartbeat > shared.timing.keep_alive;
        match shared.tend(due) {
            Ok(()) if due => kept = Instant::now(),
            Ok(()) => {}
            Err(failure) => {
                let error = StoreError::from(failure);
                tracing::warn!(%error, "the lease in etcd could not be kept alive");
            }
        }
        if !shared.sleep(shared.timing.heartbeat.min(shared.timing.keep_alive)) {
            return;
        }
    }
}

/// Nothing panics while it holds one of these locks, so a poisoned one is as good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
