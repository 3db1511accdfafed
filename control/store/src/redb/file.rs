//! Files: made whole or not at all, locked, and readable by nobody else.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ::redb::backends::FileBackend;
use ::redb::{Builder, Database, DatabaseError};

use super::disk::{self, io_error};
use crate::error::StoreError;

/// What the database may keep of the file in memory, in octets. It holds all of a large fabric.
const CACHE: usize = 64 << 20;

/// Opens the database in this file, or makes both where it may. Also says where on the disk the
/// file is: a copy is elsewhere.
pub(super) fn open(path: &Path, may_create: bool) -> Result<(Database, u64), StoreError> {
    match options().open(path) {
        Ok(file) => open_existing(path, file),
        Err(error) if may_create && error.kind() == ErrorKind::NotFound => create(path),
        Err(error) => Err(at(path, &error)),
    }
}

fn open_existing(path: &Path, file: File) -> Result<(Database, u64), StoreError> {
    let about = file.metadata().map_err(|error| at(path, &error))?;
    if !about.is_file() {
        let text = format!("{} is not a file", path.display());
        return Err(StoreError::Unavailable(text));
    }
    if about.len() == 0 {
        // Anything that was in it is lost. That must not pass for a new store.
        return Err(StoreError::Corrupt(format!("{} is empty", path.display())));
    }
    let database =
        build(|builder| builder.create_with_backend(FileBackend::new(file)?)).map_err(|error| {
            match error {
                StoreError::InUse(_) => StoreError::InUse(path.display().to_string()),
                other => other,
            }
        })?;
    Ok((database, about.ino()))
}

/// Makes a store beside its place, and puts it there when it is one. A crash leaves no file, or a
/// whole one.
fn create(path: &Path) -> Result<(Database, u64), StoreError> {
    let folder = folder_of(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| at(folder, &error))?;
    let beside = beside(path);
    let file = empty(&beside)?;
    let place = file.metadata().map_err(|error| at(&beside, &error))?.ino();
    let database = build(|builder| builder.create_with_backend(FileBackend::new(file)?))?;
    disk::begin_life(&database, place)?;
    // A link, unlike a renaming, never replaces what another process put there meanwhile.
    let linked = fs::hard_link(&beside, path);
    let removed = fs::remove_file(&beside);
    linked.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => StoreError::InUse(path.display().to_string()),
        _ => at(path, &error),
    })?;
    removed.map_err(|error| at(&beside, &error))?;
    sync_folder(folder)?;
    Ok((database, place))
}

/// Writes a database beside `path`, which it replaces when it is complete and on disk.
pub(super) fn write_beside(
    path: &Path,
    fill: impl FnOnce(&Database) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let beside = beside(path);
    let file = empty(&beside)?;
    let database = build(|builder| builder.create_with_backend(FileBackend::new(file)?));
    // Closed at the end of it, which writes its last page.
    let filled = database.and_then(|database| fill(&database));
    let replaced = filled.and_then(|()| {
        let file = File::open(&beside).and_then(|file| file.sync_all());
        file.and_then(|()| fs::rename(&beside, path))
            .map_err(|error| at(path, &error))
    });
    if replaced.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    replaced?;
    sync_folder(folder_of(path))
}

/// Whether both are one file.
pub(super) fn is_same(a: &Path, b: &Path) -> bool {
    let place = |path| fs::metadata(path).map(|about| (about.dev(), about.ino()));
    matches!((place(a), place(b)), (Ok(a), Ok(b)) if a == b)
}

/// Opens a database with the settings of all of ours.
pub(super) fn build(
    open: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
) -> Result<Database, StoreError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    // A file that something altered is refused then, rather than trusted until it makes redb panic.
    builder.set_check_integrity_on_open(true);
    open(&builder).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse("the file".into()),
        DatabaseError::Storage(error) => disk::storage_error(error),
        other => StoreError::Corrupt(other.to_string()),
    })
}

/// A locked file without contents, which nobody else may read.
fn empty(path: &Path) -> Result<File, StoreError> {
    let file = options()
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| at(path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::InUse(path.display().to_string()));
        }
        Err(TryLockError::Error(error)) => return Err(at(path, &error)),
    }
    // What a crash left of an earlier attempt. It was not locked, so nobody writes it.
    file.set_len(0).map_err(|error| at(path, &error))?;
    Ok(file)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a new name in a folder last.
fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| at(folder, &error))
}

fn at(path: &Path, error: &io::Error) -> StoreError {
    let named = io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    io_error(&named)
}
