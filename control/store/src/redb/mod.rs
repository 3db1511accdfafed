//! A store in one file of the server's own.
//!
//! One process at a time has it open. Every commit that concerns an item that lasts is on disk
//! before it returns. Ephemeral items are in memory alone, so they vanish with the process.
//!
//! # Back up and restore
//! [`RedbStore::backup`] copies the store while it runs, and marks the copy. To restore, stop the
//! server, put the copy where the store's file is, and start it again: a marked file gets a new
//! incarnation when it is opened. So does a file that was copied by other means, as it is then in
//! another place on the disk. There is no command to forget, and nobody takes the past for now.

mod disk;
mod file;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use ::redb::{Database, StorageBackend};

use self::disk::{Effect, Head, Write};
use crate::error::StoreError;
use crate::feed::{self, Feed, Watch};
use crate::types::{
    Change, Compare, Event, Item, LostReason, Outcome, Revision, Snapshot, Store, Transaction,
};

/// The most events that are kept for watches that begin later.
const MAX_HISTORY: usize = 4096;

/// The most octets of keys and values in those events.
const MAX_HISTORY_OCTETS: usize = 8 << 20;

/// What opens the database, also after an I/O error, and says where on the disk it is.
type Opener = Box<dyn FnMut() -> Result<(Database, u64), StoreError> + Send>;

/// A store in a file. See the [crate] for what it promises.
pub struct RedbStore {
    opener: Opener,
    path: Option<PathBuf>,
    /// `None` after an I/O error: what is in the caches then says nothing about the disk.
    database: Option<Database>,
    head: Head,
    ephemeral: BTreeMap<Vec<u8>, (Revision, Vec<u8>)>,
    /// A commit of which it is not known whether it reached the disk. The next opening tells.
    pending: Option<Plan>,
    history: History,
    feeds: Vec<Feed>,
}

/// A transaction whose compares held.
struct Plan {
    revision: Revision,
    changes: Vec<Change>,
    /// What it needs to write. Nothing, if it is about ephemeral items alone.
    write: Option<Write>,
}

impl RedbStore {
    /// Opens the store in this file, or makes it (mode 0600), and its folder (mode 0700), if it
    /// is absent.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Newer`], [`StoreError::Corrupt`],
    /// [`StoreError::Full`] or [`StoreError::Unavailable`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let again = path.clone();
        let mut may_create = true;
        let opener = Box::new(move || {
            // Later, a missing file is an error: a new one would be without all that was stored.
            file::open(&again, std::mem::take(&mut may_create))
        });
        Self::with_opener(opener, Some(path))
    }

    /// Opens the store on any medium. `make` is called again after an I/O error, for the same
    /// contents.
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub fn with_backend<B: StorageBackend>(
        mut make: impl FnMut() -> io::Result<B> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let opener = Box::new(move || {
            let backend = make().map_err(|error| disk::io_error(&error))?;
            Ok((
                file::build(|builder| builder.create_with_backend(backend))?,
                0,
            ))
        });
        Self::with_opener(opener, None)
    }

    fn with_opener(mut opener: Opener, path: Option<PathBuf>) -> Result<Self, StoreError> {
        let (database, place) = opener()?;
        let head = disk::begin_life(&database, place)?;
        Ok(Self {
            opener,
            path,
            database: Some(database),
            ephemeral: BTreeMap::new(),
            pending: None,
            history: History::new(head.revision),
            head,
            feeds: Vec::new(),
        })
    }

    /// Copies the store as it is now, without its ephemeral items, while it goes on. The copy is
    /// written beside `to` and takes its place when it is complete and on disk.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when `to` is the store itself; else as [`RedbStore::open`].
    pub fn backup(&mut self, to: &Path) -> Result<(), StoreError> {
        if let Some(own) = &self.path
            && file::is_same(own, to)
        {
            return Err(StoreError::Invalid("a backup in the place of the store"));
        }
        let copied = file::write_beside(to, |copy| disk::copy(self.database()?, copy));
        self.after_read(copied)
    }

    /// The open database. After an I/O error it is opened anew, and so is known to be on disk
    /// what it then holds: opening commits.
    fn database(&mut self) -> Result<&Database, StoreError> {
        if self.database.is_none() {
            let (database, place) = (self.opener)()?;
            let committed = disk::go_on(&database, place, &self.head)?;
            self.database = Some(database);
            if let Some(plan) = self.pending.take()
                && plan.revision.0 == committed
            {
                self.apply(plan);
            }
        }
        self.database
            .as_ref()
            .ok_or_else(|| StoreError::Unavailable("it is not open".into()))
    }

    /// Closes the database when a read failed, so that the next call looks at the disk again.
    fn after_read<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_err() {
            self.database = None;
        }
        result
    }

    fn modified(&mut self, key: &[u8]) -> Result<Option<Revision>, StoreError> {
        if let Some((revision, _)) = self.ephemeral.get(key) {
            return Ok(Some(*revision));
        }
        let found = disk::modified(self.database()?, key);
        self.after_read(found)
    }

    fn holds(&mut self, compare: &Compare) -> Result<bool, StoreError> {
        Ok(self.modified(&compare.key)? == compare.expected)
    }

    /// What a transaction comes to, without the deletes of items that are not there.
    fn plan(&mut self, transaction: &Transaction) -> Result<Plan, StoreError> {
        let revision = Revision(self.head.revision.0 + 1);
        let mut changes = Vec::new();
        let mut effects = Vec::new();
        for change in &transaction.changes {
            let key = change.key();
            let exists = self.modified(key)?.is_some();
            let on_disk = exists && !self.ephemeral.contains_key(key);
            match change {
                Change::Delete { .. } if !exists => continue,
                Change::Put {
                    value,
                    ephemeral: false,
                    ..
                } => effects.push(Effect::Insert(key.to_vec(), value.clone())),
                _ if on_disk => effects.push(Effect::Remove(key.to_vec())),
                _ => {}
            }
            changes.push(change.clone());
        }
        let reserve = revision > self.head.reserved;
        let needs_write = reserve || !effects.is_empty();
        Ok(Plan {
            revision,
            changes,
            write: needs_write.then(|| Write::new(revision, effects, reserve)),
        })
    }

    /// Writes a plan to disk. An error says whether it may have got there all the same.
    fn write(&mut self, plan: &Plan) -> Result<(), (StoreError, bool)> {
        let Some(write) = &plan.write else {
            return Ok(());
        };
        let database = self.database().map_err(|error| (error, false))?;
        disk::commit(database, write)
    }

    /// Makes a plan that is on disk known to readers and watchers.
    fn apply(&mut self, plan: Plan) {
        let Plan {
            revision,
            changes,
            write,
        } = plan;
        self.head.revision = revision;
        if let Some(reserved) = write.and_then(|write| write.reserved) {
            self.head.reserved = reserved;
        }
        for change in changes {
            let event = self.apply_change(revision, change);
            self.feeds.retain(|feed| feed.push(event.clone()));
            self.history.add(revision, event);
        }
    }

    fn apply_change(&mut self, revision: Revision, change: Change) -> Event {
        match change {
            Change::Put {
                key,
                value,
                ephemeral,
            } => {
                if ephemeral {
                    let item = (revision, value.clone());
                    self.ephemeral.insert(key.clone(), item);
                } else {
                    self.ephemeral.remove(&key);
                }
                Event::Put(Item {
                    key,
                    value,
                    modified: revision,
                    ephemeral,
                })
            }
            Change::Delete { key } => {
                self.ephemeral.remove(&key);
                Event::Deleted {
                    key,
                    revision,
                    expired: false,
                }
            }
        }
    }
}

impl Store for RedbStore {
    fn snapshot(&mut self) -> Result<Snapshot, StoreError> {
        let read = disk::items(self.database()?);
        let mut items = self.after_read(read)?;
        let ephemeral = self.ephemeral.iter();
        items.extend(ephemeral.map(|(key, (modified, value))| Item {
            key: key.clone(),
            value: value.clone(),
            modified: *modified,
            ephemeral: true,
        }));
        items.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(Snapshot {
            incarnation: self.head.incarnation,
            revision: self.head.revision,
            items,
        })
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        transaction.check()?;
        // What is pending is settled before anything is compared.
        self.database()?;
        for compare in &transaction.compares {
            if !self.holds(compare)? {
                return Ok(Outcome::Conflict);
            }
        }
        let plan = self.plan(transaction)?;
        if plan.changes.is_empty() {
            return Ok(Outcome::Committed(self.head.revision));
        }
        let revision = plan.revision;
        let Err((error, may_be_on_disk)) = self.write(&plan) else {
            self.apply(plan);
            return Ok(Outcome::Committed(revision));
        };
        self.database = None;
        if !may_be_on_disk {
            return Err(error);
        }
        self.pending = Some(plan);
        if self.database().is_err() {
            return Err(StoreError::Uncertain(error.to_string()));
        }
        if self.head.revision == revision {
            return Ok(Outcome::Committed(revision));
        }
        Err(error)
    }

    fn watch(&mut self, after: Revision) -> Result<Watch, StoreError> {
        self.feeds.retain(Feed::is_open);
        let (feed, watch) = feed::channel();
        if after > self.head.revision {
            feed.end(LostReason::Replaced);
        } else if after < self.history.floor {
            feed.end(LostReason::Compacted);
        } else {
            let missed = self.history.after(after);
            missed.for_each(|event| {
                feed.push(event.clone());
            });
            self.feeds.push(feed);
        }
        Ok(watch)
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        for feed in &self.feeds {
            feed.end(LostReason::Closed);
        }
    }
}

/// The last events, for watches that begin after they happened.
struct History {
    events: VecDeque<(Revision, Event)>,
    octets: usize,
    /// All events after this revision are there.
    floor: Revision,
}

impl History {
    fn new(floor: Revision) -> Self {
        Self {
            events: VecDeque::new(),
            octets: 0,
            floor,
        }
    }

    fn add(&mut self, revision: Revision, event: Event) {
        self.octets += feed::octets(&event);
        self.events.push_back((revision, event));
        while self.events.len() > MAX_HISTORY || self.octets > MAX_HISTORY_OCTETS {
            let Some((revision, event)) = self.events.pop_front() else {
                break;
            };
            self.octets -= feed::octets(&event);
            // The rest of that commit may still be there, which is not all of it.
            self.floor = revision;
        }
    }

    fn after(&self, revision: Revision) -> impl Iterator<Item = &Event> {
        let from = self.events.partition_point(|(at, _)| *at <= revision);
        self.events.range(from..).map(|(_, event)| event)
    }
}

#[cfg(test)]
mod tests;
