//! What can be wrong with a store, by what the caller can do about it.

/// Why a call of a [`Store`](crate::Store) failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached or read now. Nothing was committed. Try again later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Whether the transaction was committed is not known: read again before deciding anything.
    #[error("the commit may have happened or not: {0}")]
    Uncertain(String),
    /// The disk or the quota is full. Nothing was committed.
    #[error("the store is full: {0}")]
    Full(String),
    /// What is stored cannot be right. An operator has to restore a backup.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The file is of a version that this program does not know.
    #[error("the store has format {found}, this program knows formats up to {known}")]
    Newer {
        /// The file's.
        found: u64,
        /// The newest that this program reads.
        known: u64,
    },
    /// Another process, or another handle of this one, has the file open.
    #[error("{0} is in use: one process at a time may have it open")]
    InUse(String),
    /// Name, password, certificate or permission are not accepted, or no etcd is configured
    /// that way.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// The store was made anew or restored since the last snapshot, so compares mean nothing.
    /// Nothing was committed. Take a new snapshot.
    #[error("the store was made anew or restored from a backup: take a new snapshot")]
    Replaced,
    /// Beyond a bound of the interface.
    #[error("{count} {what}, at most {limit} are allowed")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        count: usize,
        /// How much is allowed.
        limit: usize,
    },
    /// Not a transaction, or not a configuration.
    #[error("not allowed: {0}")]
    Invalid(&'static str),
}
