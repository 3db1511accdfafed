//! What a rendezvous server keeps: small signed records, opaque here, under keys.
//!
//! One trait, [`Store`], and two stores behind it that behave the same: [`RedbStore`] is a file
//! of the server's own, `EtcdStore` is an etcd cluster that several servers share. A commit is a
//! [`Transaction`]: all of its changes happen, or none, and only if every [`Compare`] holds. Once
//! [`Store::commit`] returned [`Outcome::Committed`], it is on disk, or with a majority of the
//! cluster, and no later read misses it. There are no locks: whoever wants to own a key compares.
//!
//! ```text
//!   snapshot at revision R            commit: compares, changes
//!          |                                    |
//!          v                                    v
//!   +--------------------------- Store ---------------------------+
//!   |  RedbStore: one file, one process, fsync per commit         |
//!   |  EtcdStore: JSON over HTTP, a lease, a heartbeat            |
//!   +----------------------------+--------------------------------+
//!                                | watch after R: every change, in order, once
//!                                v
//!             Put  Deleted  Progress  LeaseLost | Lost: take a new snapshot
//! ```
//!
//! All calls block. Nothing here knows what the records mean.
#![forbid(unsafe_code)]

mod error;
#[cfg(feature = "etcd")]
mod etcd;
mod feed;
mod redb;
mod types;

pub use error::StoreError;
#[cfg(feature = "etcd")]
pub use etcd::{ClientCertificate, Credentials, EtcdConfig, EtcdStore, Timing};
pub use feed::Watch;
pub use redb::RedbStore;
pub use types::{
    Change, Compare, Event, Item, LostReason, MAX_CHANGES, MAX_KEY, MAX_TRANSACTION, MAX_VALUE,
    Outcome, Revision, Snapshot, Store, Transaction,
};
