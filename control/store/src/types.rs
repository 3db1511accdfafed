//! The interface: what is stored, how it changes, and how changes are told.

use core::fmt;

use crate::error::StoreError;
use crate::feed::Watch;

/// The longest key, in octets. No key is empty.
pub const MAX_KEY: usize = 512;

/// The longest value, in octets.
pub const MAX_VALUE: usize = 64 << 10;

/// The most changes of a transaction, and the most compares. etcd takes 128 of each, among them
/// ours.
pub const MAX_CHANGES: usize = 64;

/// The most octets of a transaction, keys and values together. etcd takes requests of 1.5 MiB.
pub const MAX_TRANSACTION: usize = 1 << 20;

/// A point in a store's life. It grows with every commit that changes something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key, and what is stored under it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// 1..=[`MAX_KEY`] octets.
    pub key: Vec<u8>,
    /// Up to [`MAX_VALUE`] octets.
    pub value: Vec<u8>,
    /// The commit that put it last. Later owners of a key have higher ones.
    pub modified: Revision,
    /// Whether it vanishes with the server that put it.
    pub ephemeral: bool,
}

/// All that a store held at one revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Which life of the store this is. A store that was restored from a backup, or made anew,
    /// has another one: what was known of the old one, its revisions above all, is void.
    pub incarnation: [u8; 16],
    /// The point in that life. [`Store::watch`] after it goes on from here.
    pub revision: Revision,
    /// In the order of their keys.
    pub items: Vec<Item>,
}

/// A condition of a [`Transaction`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compare {
    /// Which key it is about.
    pub key: Vec<u8>,
    /// The item's [`Item::modified`]; `None`: there is no such item.
    pub expected: Option<Revision>,
}

/// A step of a [`Transaction`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Stores a value, whether or not there is one.
    Put {
        /// Where.
        key: Vec<u8>,
        /// What.
        value: Vec<u8>,
        /// Whether it vanishes with this server. A later put decides anew.
        ephemeral: bool,
    },
    /// Removes an item. Nothing happens when there is none.
    Delete {
        /// Which.
        key: Vec<u8>,
    },
}

impl Change {
    /// The key that it changes.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    fn value_len(&self) -> usize {
        match self {
            Self::Put { value, .. } => value.len(),
            Self::Delete { .. } => 0,
        }
    }
}

/// Changes that happen all at once, if all compares hold, or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transaction {
    /// Up to [`MAX_CHANGES`].
    pub compares: Vec<Compare>,
    /// Up to [`MAX_CHANGES`], each of another key.
    pub changes: Vec<Change>,
}

impl Transaction {
    /// Whether it keeps to the bounds. Both stores ask this before anything else.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] or [`StoreError::Invalid`].
    pub fn check(&self) -> Result<(), StoreError> {
        let compared = self.compares.iter().map(|compare| compare.key.as_slice());
        let changed = self.changes.iter().map(Change::key);
        within("compares", self.compares.len(), MAX_CHANGES)?;
        within("changes", self.changes.len(), MAX_CHANGES)?;
        for key in compared.clone().chain(changed.clone()) {
            within("octets of a key", key.len(), MAX_KEY)?;
            if key.is_empty() {
                return Err(StoreError::Invalid("a key is empty"));
            }
        }
        for change in &self.changes {
            within("octets of a value", change.value_len(), MAX_VALUE)?;
        }
        let values: usize = self.changes.iter().map(Change::value_len).sum();
        let keys: usize = compared.chain(changed.clone()).map(<[u8]>::len).sum();
        within("octets of a transaction", keys + values, MAX_TRANSACTION)?;
        let mut changed: Vec<_> = changed.collect();
        changed.sort_unstable();
        if changed.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(StoreError::Invalid(
                "two changes of one key in a transaction",
            ));
        }
        Ok(())
    }
}

fn within(what: &'static str, count: usize, limit: usize) -> Result<(), StoreError> {
    if count <= limit {
        return Ok(());
    }
    Err(StoreError::TooLarge { what, count, limit })
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All of it happened, and lasts. The revision is that of the items that were put.
    Committed(Revision),
    /// A compare did not hold. Nothing happened.
    Conflict,
}

/// What a [`Watch`] tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// An item was put. Items of one commit have the same revision.
    Put(Item),
    /// An item is gone.
    Deleted {
        /// Which.
        key: Vec<u8>,
        /// The commit that removed it, or the moment at which its server was given up.
        revision: Revision,
        /// Whether it was ephemeral and its server has not been alive for too long. That says
        /// that nobody speaks for the item any more, and nothing about what it stands for.
        expired: bool,
    },
    /// Every change up to this revision has been told.
    Progress(Revision),
    /// The end of this watch: changes may be missing, and so may [`Event::LeaseLost`]. Take a new
    /// snapshot, look for your own ephemeral items in it, and watch after it.
    Lost(LostReason),
    /// This server's ephemeral items are gone, or will be: put them again.
    LeaseLost,
}

/// Why changes may be missing from a [`Watch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LostReason {
    /// Too many changes waited to be taken from the watch.
    TooSlow,
    /// The store no longer has the changes after that revision.
    Compacted,
    /// The store was made anew or restored from a backup.
    Replaced,
    /// The store was closed.
    Closed,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooSlow => "changes came faster than they were taken",
            Self::Compacted => "the store no longer has the changes since then",
            Self::Replaced => "the store was made anew, or restored from a backup",
            Self::Closed => "the store was closed",
        })
    }
}

/// Where a rendezvous server keeps its records. All calls block.
pub trait Store: Send {
    /// All items at one revision, not older than any commit that returned before the call.
    ///
    /// # Errors
    /// Any but [`StoreError::Uncertain`].
    fn snapshot(&mut self) -> Result<Snapshot, StoreError>;

    /// Carries out a transaction. It is durable and visible to all when this returns
    /// [`Outcome::Committed`].
    ///
    /// # Errors
    /// After [`StoreError::Uncertain`] the transaction may have happened. The next snapshot or
    /// commit here that succeeds settles it: what did not happen until then never will. After
    /// every other error it did not and will not.
    fn commit(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError>;

    /// Every change after a revision, in order, once. The revision is that of a snapshot, or of
    /// an event of an earlier watch.
    ///
    /// # Errors
    /// When it cannot be begun. What ends it later is an [`Event::Lost`].
    fn watch(&mut self, after: Revision) -> Result<Watch, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: impl Into<Vec<u8>>, len: usize) -> Change {
        Change::Put {
            key: key.into(),
            value: vec![0; len],
            ephemeral: false,
        }
    }

    fn of(changes: Vec<Change>) -> Transaction {
        Transaction {
            compares: Vec::new(),
            changes,
        }
    }

    #[test]
    fn the_bounds_themselves_are_allowed() {
        let many = (0..MAX_CHANGES as u8).map(|i| put([i], 1)).collect();
        for fits in [
            of(vec![]),
            of(vec![put(vec![b'k'; MAX_KEY], MAX_VALUE)]),
            of(many),
        ] {
            assert_eq!(fits.check(), Ok(()));
        }
    }

    #[test]
    fn what_is_beyond_a_bound_is_named_with_the_bound() {
        let compare = Compare {
            key: vec![b'k'],
            expected: None,
        };
        let many = (0..=MAX_CHANGES as u8).map(|i| put([i], 1)).collect();
        let heavy = (0..17_u8).map(|i| put([i], MAX_VALUE)).collect();
        let compares = Transaction {
            compares: vec![compare; MAX_CHANGES + 1],
            changes: Vec::new(),
        };
        for (beyond, text) in [
            (of(vec![put(vec![b'k'; 513], 0)]), "513 octets of a key"),
            (of(vec![put("k", MAX_VALUE + 1)]), "65537 octets of a value"),
            (of(many), "65 changes"),
            (compares, "65 compares"),
            (of(heavy), "1114129 octets of a transaction"),
            (of(vec![put("", 0)]), "a key is empty"),
            (of(vec![put("k", 0), put("k", 1)]), "two changes of one key"),
        ] {
            let error = beyond.check().expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
