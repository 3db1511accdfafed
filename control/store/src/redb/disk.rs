//! What the database holds, and how it is read and written.
//!
//! ```text
//! meta   "format"       u64          version of all this
//!        "incarnation"  16 octets    which life of the store this is
//!        "revision"     u64          the last commit that was written
//!        "reserved"     u64          no revision above this one was given out
//!        "place"        u64          where on the disk the file was (its inode)
//!        "backup"       empty        only in a copy: the next opening begins a new life
//! items  key            u64, value   the revision that put it, and the value
//! ```
//!
//! Numbers are big-endian. Revisions of commits that concern ephemeral items alone are not
//! written, so a process goes on behind those that the last one had reserved.

use ::redb::{
    CommitError, Database, Durability, ReadableDatabase, ReadableTable, StorageError, Table,
    TableDefinition, TableError, TransactionError, WriteTransaction,
};

use crate::error::StoreError;
use crate::types::{Item, Revision};

/// The version of the format.
const FORMAT: u64 = 1;

/// How many revisions are reserved at a time.
const RESERVED_AHEAD: u64 = 1 << 20;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const ITEMS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("items");

/// Where the store is in its life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) incarnation: [u8; 16],
    pub(super) revision: Revision,
    /// Higher revisions need a write before they are given out.
    pub(super) reserved: Revision,
}

/// A change of the table of items.
#[derive(Debug)]
pub(super) enum Effect {
    Insert(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
}

/// What one commit writes.
#[derive(Debug)]
pub(super) struct Write {
    revision: Revision,
    effects: Vec<Effect>,
    /// The new bound, when the old one is reached.
    pub(super) reserved: Option<Revision>,
}

impl Write {
    pub(super) fn new(revision: Revision, effects: Vec<Effect>, reserve: bool) -> Self {
        Self {
            revision,
            effects,
            reserved: reserve.then_some(Revision(revision.0 + RESERVED_AHEAD)),
        }
    }
}

/// Reads where a store is when its process starts, and makes an empty one a store. `place` tells
/// a copy from the file that it was copied from.
pub(super) fn begin_life(database: &Database, place: u64) -> Result<Head, StoreError> {
    let transaction = begin(database)?;
    let head = {
        let mut meta = transaction.open_table(META).map_err(table_error)?;
        transaction.open_table(ITEMS).map_err(table_error)?;
        let is_new = check_format(&meta)?;
        let is_copy = meta.remove("backup").map_err(storage_error)?.is_some()
            || number(&meta, "place")? != Some(place);
        if is_new || is_copy {
            let mut incarnation = [0; 16];
            getrandom::fill(&mut incarnation)
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
            put(&mut meta, "incarnation", &incarnation)?;
            put(&mut meta, "place", &place.to_be_bytes())?;
        }
        if is_new {
            put(&mut meta, "format", &FORMAT.to_be_bytes())?;
            put(&mut meta, "revision", &0_u64.to_be_bytes())?;
            put(&mut meta, "reserved", &0_u64.to_be_bytes())?;
        }
        let revision = Revision(required(&meta, "reserved")?);
        let reserved = Revision(
            revision
                .0
                .checked_add(RESERVED_AHEAD)
                .ok_or_else(|| damaged("reserved"))?,
        );
        put(&mut meta, "reserved", &reserved.0.to_be_bytes())?;
        Head {
            incarnation: incarnation(&meta)?,
            revision,
            reserved,
        }
    };
    transaction.commit().map_err(commit_error).map(|()| head)
}

/// Opens the store again after an error, within the same life. Returns the last commit that was
/// written. It commits, so what it saw is on disk and not only in the kernel's memory.
pub(super) fn go_on(database: &Database, place: u64, head: &Head) -> Result<u64, StoreError> {
    let transaction = begin(database)?;
    let committed = {
        let mut meta = transaction.open_table(META).map_err(table_error)?;
        let is_ours = number(&meta, "place")? == Some(place)
            && incarnation(&meta)? == head.incarnation
            && meta.get("backup").map_err(storage_error)?.is_none();
        if !is_ours {
            return Err(StoreError::Corrupt(
                "the file was replaced while the server ran: start it again".into(),
            ));
        }
        let reserved = required(&meta, "reserved")?;
        put(&mut meta, "reserved", &reserved.to_be_bytes())?;
        required(&meta, "revision")?
    };
    transaction.commit().map_err(commit_error)?;
    Ok(committed)
}

/// Writes one commit and waits until it is on disk. An error says whether it may be there.
pub(super) fn commit(database: &Database, write: &Write) -> Result<(), (StoreError, bool)> {
    let prepared = prepare(database, write).map_err(|error| (error, false))?;
    prepared
        .commit()
        .map_err(|error| (commit_error(error), true))
}

fn prepare(database: &Database, write: &Write) -> Result<WriteTransaction, StoreError> {
    let transaction = begin(database)?;
    {
        let mut items = transaction.open_table(ITEMS).map_err(table_error)?;
        for effect in &write.effects {
            match effect {
                Effect::Insert(key, value) => {
                    let stored = [&write.revision.0.to_be_bytes(), value.as_slice()].concat();
                    items.insert(key.as_slice(), stored.as_slice())
                }
                Effect::Remove(key) => items.remove(key.as_slice()),
            }
            .map_err(storage_error)?;
        }
        let mut meta = transaction.open_table(META).map_err(table_error)?;
        put(&mut meta, "revision", &write.revision.0.to_be_bytes())?;
        if let Some(reserved) = write.reserved {
            put(&mut meta, "reserved", &reserved.0.to_be_bytes())?;
        }
    }
    Ok(transaction)
}

/// The commit that put an item.
pub(super) fn modified(database: &Database, key: &[u8]) -> Result<Option<Revision>, StoreError> {
    let items = database
        .begin_read()
        .map_err(transaction_error)?
        .open_table(ITEMS)
        .map_err(table_error)?;
    let found = items.get(key).map_err(storage_error)?;
    found
        .map(|stored| split(key, stored.value()).map(|(revision, _)| revision))
        .transpose()
}

/// All items on disk, in the order of their keys.
pub(super) fn items(database: &Database) -> Result<Vec<Item>, StoreError> {
    let table = database
        .begin_read()
        .map_err(transaction_error)?
        .open_table(ITEMS)
        .map_err(table_error)?;
    let entries = table.range::<&[u8]>(..).map_err(storage_error)?;
    entries
        .map(|entry| {
            let (key, stored) = entry.map_err(storage_error)?;
            let (modified, value) = split(key.value(), stored.value())?;
            Ok(Item {
                key: key.value().to_vec(),
                value: value.to_vec(),
                modified,
                ephemeral: false,
            })
        })
        .collect()
}

/// Copies a store as of now into an empty database, and marks the copy.
pub(super) fn copy(from: &Database, to: &Database) -> Result<(), StoreError> {
    let source = from.begin_read().map_err(transaction_error)?;
    let target = begin(to)?;
    {
        let table = source.open_table(ITEMS).map_err(table_error)?;
        let mut items = target.open_table(ITEMS).map_err(table_error)?;
        for entry in table.range::<&[u8]>(..).map_err(storage_error)? {
            let (key, stored) = entry.map_err(storage_error)?;
            items
                .insert(key.value(), stored.value())
                .map_err(storage_error)?;
        }
        let table = source.open_table(META).map_err(table_error)?;
        let mut meta = target.open_table(META).map_err(table_error)?;
        for entry in table.range::<&str>(..).map_err(storage_error)? {
            let (key, stored) = entry.map_err(storage_error)?;
            put(&mut meta, key.value(), stored.value())?;
        }
        put(&mut meta, "backup", &[])?;
    }
    target.commit().map_err(commit_error)
}

type Meta<'txn> = Table<'txn, &'static str, &'static [u8]>;

/// Whether the store is new. One of a version that this program does not know is refused.
fn check_format(meta: &Meta<'_>) -> Result<bool, StoreError> {
    match number(meta, "format")? {
        Some(FORMAT) => Ok(false),
        Some(found) if found > FORMAT => Err(StoreError::Newer {
            found,
            known: FORMAT,
        }),
        None if meta.first().map_err(storage_error)?.is_none() => Ok(true),
        _ => Err(damaged("format")),
    }
}

fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write().map_err(transaction_error)?;
    transaction
        .set_durability(Durability::Immediate)
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(transaction)
}

fn put(meta: &mut Meta<'_>, key: &str, value: &[u8]) -> Result<(), StoreError> {
    meta.insert(key, value).map_err(storage_error)?;
    Ok(())
}

fn number(meta: &Meta<'_>, key: &str) -> Result<Option<u64>, StoreError> {
    let found = meta.get(key).map_err(storage_error)?;
    let octets = found.map(|stored| stored.value().try_into().map(u64::from_be_bytes));
    octets.transpose().map_err(|_| damaged(key))
}

fn required(meta: &Meta<'_>, key: &str) -> Result<u64, StoreError> {
    number(meta, key)?.ok_or_else(|| damaged(key))
}

fn incarnation(meta: &Meta<'_>) -> Result<[u8; 16], StoreError> {
    let found = meta.get("incarnation").map_err(storage_error)?;
    found
        .and_then(|stored| stored.value().try_into().ok())
        .ok_or_else(|| damaged("incarnation"))
}

fn split<'a>(key: &[u8], stored: &'a [u8]) -> Result<(Revision, &'a [u8]), StoreError> {
    let (revision, value) = stored
        .split_first_chunk()
        .ok_or_else(|| StoreError::Corrupt(format!("the item {}", key.escape_ascii())))?;
    Ok((Revision(u64::from_be_bytes(*revision)), value))
}

fn damaged(key: &str) -> StoreError {
    StoreError::Corrupt(format!("its {key} is missing or not what it must be"))
}

pub(super) fn io_error(error: &std::io::Error) -> StoreError {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StoreError::Full(error.to_string())
        }
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

pub(super) fn storage_error(error: StorageError) -> StoreError {
    match error {
        StorageError::Io(error) => io_error(&error),
        StorageError::Corrupted(what) => StoreError::Corrupt(what),
        error => StoreError::Unavailable(error.to_string()),
    }
}

fn table_error(error: TableError) -> StoreError {
    match error {
        TableError::Storage(error) => storage_error(error),
        error => StoreError::Corrupt(error.to_string()),
    }
}

fn transaction_error(error: TransactionError) -> StoreError {
    match error {
        TransactionError::Storage(error) => storage_error(error),
        error => StoreError::Unavailable(error.to_string()),
    }
}

fn commit_error(error: CommitError) -> StoreError {
    match error {
        CommitError::Storage(error) => storage_error(error),
        error => StoreError::Unavailable(error.to_string()),
    }
}

/// Damages a store's head.
#[cfg(test)]
pub(super) fn overwrite(database: &Database, key: &str, number: Option<u64>) {
    let transaction = begin(database).expect("a disk that works");
    {
        let mut meta = transaction.open_table(META).expect("a store");
        match number {
            Some(number) => put(&mut meta, key, &number.to_be_bytes()).expect("a store"),
            None => assert!(meta.remove(key).expect("a store").is_some()),
        }
    }
    transaction.commit().expect("a disk that works");
}
