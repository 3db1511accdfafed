//! A store in an etcd cluster, which several servers share.
//!
//! It speaks to etcd's JSON gateway (etcd 3.4 or newer) over HTTP/1.1. Reads are linearizable,
//! commits are etcd's transactions, and revisions are etcd's. Nothing uses etcd's locks: they are
//! not safe (Jepsen's analysis of etcd 3.4.3).
//!
//! # Operating
//! Heartbeats grow etcd's history, so it has to be compacted: `--auto-compaction-retention=1h` is
//! long enough for every watch to catch up. After restoring etcd from a snapshot, delete the key
//! `/omni/<fabric>/meta/incarnation` before servers come back, or restore with another
//! `--initial-cluster-token`: either begins a new incarnation. A server that was running notices
//! by itself that revisions went back.

mod backoff;
mod client;
mod config;
mod keys;
mod lease;
mod watch;
mod wire;

use std::sync::Arc;

use serde_json::{Value, json};

pub use self::config::{ClientCertificate, Credentials, EtcdConfig, Timing};

use self::client::{Client, Failure, Repeat};
use self::keys::Keys;
use self::lease::Shared;
use self::wire::{Header, KeyValue, PutAnswer, RangeAnswer, TxnAnswer};
use crate::error::StoreError;
use crate::feed::{self, Watch};
use crate::types::{Change, Compare, Item, Outcome, Revision, Snapshot, Store, Transaction};

/// The most items of one answer. With values of the greatest length it is 45 MB of JSON.
const PAGE: usize = 500;

/// How often a snapshot is begun anew when the store changes its life or is compacted meanwhile.
const ATTEMPTS: usize = 4;

/// A store in etcd. See the [crate] for what it promises.
///
/// Ephemeral items outlive a server by up to [`Timing::lease`], also one that stops in order: so
/// a restart does not make what it told flap.
pub struct EtcdStore {
    shared: Arc<Shared>,
    state: State,
    /// The newest revision that was seen. A store that is behind it was restored.
    newest: u64,
    fence: Option<Fence>,
    /// A commit may still be on its way.
    unsettled: bool,
}

/// A key of this process, at the revision that all of its commits compare. A request that hangs
/// in a member for minutes may be carried out after all; once the key was put again, it is not.
#[derive(Clone, Copy)]
struct Fence {
    /// What the key hangs on and is named after.
    lease: i64,
    revision: u64,
}

/// What is known of the store's life.
#[derive(Clone, Copy)]
enum State {
    Unknown,
    Known(Life),
    /// It is another one than that of the last snapshot.
    Replaced,
}

/// One life of the store.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Life {
    /// The value of the incarnation's key.
    key: [u8; 16],
    cluster: u64,
}

impl Life {
    fn new(key: &[u8], header: &Header) -> Result<Self, StoreError> {
        let key = key.try_into().map_err(|_| {
            StoreError::Corrupt("the incarnation in etcd is not 16 octets long".into())
        })?;
        Ok(Self {
            key,
            cluster: header.cluster_id.0,
        })
    }

    /// Differs when either differs.
    fn incarnation(&self) -> [u8; 16] {
        let mut mixed = self.key;
        for (octet, cluster) in mixed.iter_mut().zip(self.cluster.to_be_bytes()) {
            *octet ^= cluster;
        }
        mixed
    }
}

impl EtcdStore {
    /// Begins to use a cluster. It need not be reachable yet.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], or [`StoreError::Unavailable`] when there is no thread to be had.
    pub fn open(config: EtcdConfig) -> Result<Self, StoreError> {
        config.check()?;
        let (keys, timing) = (Keys::new(&config.fabric), config.timing);
        let shared = Arc::new(Shared::new(Client::new(config)?, keys, timing));
        lease::start_keeper(&shared)?;
        Ok(Self {
            shared,
            state: State::Unknown,
            newest: 0,
            fence: None,
            unsettled: false,
        })
    }

    /// The life that compares are about. The first snapshot or commit finds it.
    fn life(&mut self) -> Result<Life, StoreError> {
        match self.state {
            State::Known(life) => Ok(life),
            State::Replaced => Err(StoreError::Replaced),
            State::Unknown => {
                let life = self.begin_life()?;
                self.state = State::Known(life);
                Ok(life)
            }
        }
    }

    /// Reads the incarnation, or makes one if there is none.
    fn begin_life(&self) -> Result<Life, StoreError> {
        let key = self.shared.keys.incarnation();
        let compare = json!({
            "key": wire::octets(&key), "target": "CREATE", "result": "EQUAL",
            "create_revision": wire::number(0),
        });
        let fresh = fresh_incarnation()?;
        let answer = self.decide(compare, &key, &fresh)?;
        let header = answer.header;
        if answer.succeeded {
            return Life::new(&fresh, &header);
        }
        let found = answer.read(0).map_or(&[][..], |found| &found.value.0);
        Life::new(found, &header)
    }

    /// Makes another incarnation, unless another server just did.
    fn renew_life(&self, old: &KeyValue) -> Result<(), StoreError> {
        let key = self.shared.keys.incarnation();
        let compare = json!({
            "key": wire::octets(&key), "target": "MOD", "result": "EQUAL",
            "mod_revision": wire::number(old.mod_revision.0),
        });
        self.decide(compare, &key, &fresh_incarnation()?)?;
        Ok(())
    }

    /// Puts the incarnation if the compare holds, and else reads it. Repeating that does no harm:
    /// the compare does not hold twice.
    fn decide(&self, compare: Value, key: &[u8], value: &[u8]) -> Result<TxnAnswer, StoreError> {
        let request = json!({
            "compare": [compare],
            "success": [{ "request_put": wire::put(key, value, 0) }],
            "failure": [{ "request_range": { "key": wire::octets(key) } }],
        });
        Ok(self.shared.client.call("kv/txn", &request, Repeat::Safe)?)
    }

    /// Reads all of our keys as they were at one revision.
    fn scan(&self) -> Result<(Header, Vec<KeyValue>), Failure> {
        let keys = &self.shared.keys;
        let (mut from, end) = (keys.prefix().to_vec(), keys.end());
        let mut found: Option<(Header, Vec<KeyValue>)> = None;
        loop {
            let revision = found.as_ref().map_or(0, |(header, _)| header.revision.0);
            let request = json!({
                "key": wire::octets(&from), "range_end": wire::octets(&end),
                "limit": wire::number(PAGE), "revision": wire::number(revision),
            });
            let client = &self.shared.client;
            let page: RangeAnswer = client.call("kv/range", &request, Repeat::Safe)?;
            let (header, all) = found.get_or_insert_with(|| (page.header, Vec::new()));
            if header.cluster_id != page.header.cluster_id {
                return Err(Failure::Compacted);
            }
            all.extend(page.kvs);
            match all.last() {
                Some(last) if page.more => {
                    from.clone_from(&last.key.0);
                    // The key that follows immediately.
                    from.push(0);
                }
                _ => return Ok((*header, std::mem::take(all))),
            }
        }
    }

    /// Whether an answer comes from another life than the one that is known.
    fn is_other(&self, life: &Life, answer: &TxnAnswer) -> bool {
        let header = &answer.header;
        let incarnation = answer.read(0).map(|found| found.value.0.as_slice());
        header.cluster_id.0 != life.cluster
            || header.revision.0 < self.newest
            || (!answer.succeeded && incarnation != Some(&life.key))
    }

    /// The fence, put anew if there is none: what was sent before that either happened or never
    /// will.
    fn fence(&mut self) -> Result<Fence, StoreError> {
        if let Some(fence) = self.fence {
            return Ok(fence);
        }
        for _ in 0..ATTEMPTS {
            let lease = self.shared.lease()?;
            let request = wire::put(&self.shared.keys.writer(lease), b"", lease);
            let sent = self.shared.client.call("kv/put", &request, Repeat::Safe);
            if let Err(Failure::NoLease) = sent {
                self.shared.renew(lease)?;
                continue;
            }
            let PutAnswer { header } = sent?;
            let revision = header.revision.0;
            self.unsettled = false;
            return Ok(*self.fence.insert(Fence { lease, revision }));
        }
        Err(lost_again())
    }

    fn request(&self, life: &Life, fence: Fence, transaction: &Transaction) -> Value {
        let keys = &self.shared.keys;
        let (incarnation, writer) = (keys.incarnation(), keys.writer(fence.lease));
        let mut compares = vec![
            json!({
                "key": wire::octets(&incarnation), "target": "VALUE", "result": "EQUAL",
                "value": wire::octets(&life.key),
            }),
            compare_value(&writer, Some(Revision(fence.revision))),
        ];
        let compare = |compare: &Compare| compare_value(&keys.item(&compare.key), compare.expected);
        compares.extend(transaction.compares.iter().map(compare));
        let mut steps: Vec<Value> = Vec::with_capacity(transaction.changes.len() + 1);
        let mut deletes = false;
        for change in &transaction.changes {
            steps.push(match change {
                Change::Put {
                    key,
                    value,
                    ephemeral,
                } => {
                    let lease = if *ephemeral { fence.lease } else { 0 };
                    json!({ "request_put": wire::put(&keys.item(key), value, lease) })
                }
                Change::Delete { key } => {
                    deletes = true;
                    json!({ "request_delete_range": { "key": wire::octets(&keys.item(key)) } })
                }
            });
        }
        if deletes {
            steps.push(json!({ "request_put": wire::put(&keys.deletion(), b"", 0) }));
        }
        json!({
            "compare": compares,
            "success": steps,
            "failure": [
                { "request_range": { "key": wire::octets(&incarnation) } },
                { "request_range": { "key": wire::octets(&writer) } },
            ],
        })
    }

    /// Sends a transaction until the fence is not the reason that it fails. etcd did nothing then.
    fn send(&mut self, life: &Life, transaction: &Transaction) -> Result<TxnAnswer, StoreError> {
        for _ in 0..ATTEMPTS {
            let fence = self.fence()?;
            let request = self.request(life, fence, transaction);
            let sent = self.shared.client.call("kv/txn", &request, Repeat::Never);
            let answer: TxnAnswer = match sent {
                Err(Failure::NoLease) => {
                    self.fence = None;
                    self.shared.renew(fence.lease)?;
                    continue;
                }
                Err(failure) => {
                    let error = StoreError::from(failure);
                    if let StoreError::Uncertain(_) = error {
                        self.fence = None;
                        self.unsettled = true;
                    }
                    return Err(error);
                }
                Ok(answer) => answer,
            };
            let found = answer.read(1).map(|found| found.mod_revision.0);
            let is_fenced_off = !answer.succeeded && found != Some(fence.revision);
            if !is_fenced_off || self.is_other(life, &answer) {
                return Ok(answer);
            }
            self.fence = None;
        }
        Err(lost_again())
    }
}

fn lost_again() -> StoreError {
    StoreError::Unavailable("etcd gives leases up as fast as it grants them".into())
}

fn compare_value(key: &[u8], expected: Option<Revision>) -> Value {
    let key = wire::octets(key);
    match expected {
        Some(Revision(revision)) => json!({
            "key": key, "target": "MOD", "result": "EQUAL",
            "mod_revision": wire::number(revision),
        }),
        None => json!({
            "key": key, "target": "CREATE", "result": "EQUAL",
            "create_revision": wire::number(0),
        }),
    }
}

fn fresh_incarnation() -> Result<[u8; 16], StoreError> {
    let mut fresh = [0; 16];
    getrandom::fill(&mut fresh).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(fresh)
}

impl Store for EtcdStore {
    fn snapshot(&mut self) -> Result<Snapshot, StoreError> {
        if self.unsettled {
            self.fence()?;
        }
        for _ in 0..ATTEMPTS {
            let (header, found) = match self.scan() {
                Err(Failure::Compacted) => continue,
                scanned => scanned?,
            };
            let incarnation = self.shared.keys.incarnation();
            let Some(key) = found.iter().find(|found| found.key.0 == incarnation) else {
                self.begin_life()?;
                continue;
            };
            if header.revision.0 < self.newest {
                // What was committed since then is lost, and its revisions will come again.
                self.renew_life(key)?;
                self.newest = 0;
                continue;
            }
            let life = Life::new(&key.value.0, &header)?;
            self.state = State::Known(life);
            self.newest = header.revision.0;
            let item = |found: KeyValue| {
                Some(Item {
                    key: self.shared.keys.item_key(&found.key.0)?.to_vec(),
                    value: found.value.0,
                    modified: Revision(found.mod_revision.0),
                    ephemeral: found.lease.0 != 0,
                })
            };
            return Ok(Snapshot {
                incarnation: life.incarnation(),
                revision: Revision(header.revision.0),
                items: found.into_iter().filter_map(item).collect(),
            });
        }
        let text = "the store changed too fast to be read".to_owned();
        Err(StoreError::Unavailable(text))
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        transaction.check()?;
        let life = self.life()?;
        let answer = self.send(&life, transaction)?;
        if self.is_other(&life, &answer) {
            self.state = State::Replaced;
            if answer.succeeded {
                let text = "another store answered: take a new snapshot".to_owned();
                return Err(StoreError::Uncertain(text));
            }
            return Err(StoreError::Replaced);
        }
        self.newest = answer.header.revision.0;
        if !answer.succeeded {
            return Ok(Outcome::Conflict);
        }
        Ok(Outcome::Committed(Revision(self.newest)))
    }

    fn watch(&mut self, after: Revision) -> Result<Watch, StoreError> {
        let life = self.life()?;
        let (feed, watch) = feed::channel();
        self.shared.add_feed(feed.clone());
        watch::start(&self.shared, feed, life, after)?;
        Ok(watch)
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.shared.close();
    }
}
