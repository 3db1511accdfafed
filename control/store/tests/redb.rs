//! The embedded store: what every store does, and what a file adds.

mod conformance;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::{commit, delete, expect, next, of, put, put_ephemeral};
use omni_store::{
    Event, LostReason, Outcome, RedbStore, Revision, Snapshot, Store, StoreError, Transaction,
};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn open(path: &Path) -> RedbStore {
    RedbStore::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn snapshot(store: &mut RedbStore) -> Snapshot {
    store.snapshot().expect("a store that works")
}

fn refusal(path: &Path) -> StoreError {
    match RedbStore::open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

#[test]
fn it_conforms() {
    let folder = Folder::new();
    let count = std::cell::Cell::new(0);
    let make = || {
        count.set(count.get() + 1);
        open(&folder.path(&format!("store-{}", count.get())))
    };
    conformance::conformance(make, 64);
}

#[test]
fn only_its_owner_can_read_the_file() {
    let folder = Folder::new();
    let path = folder.path("new/folder/store");
    drop(open(&path));
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode();
    assert_eq!(mode(&path) & 0o7777, 0o600);
    assert_eq!(mode(&folder.path("new/folder")) & 0o7777, 0o700);
    let names = fs::read_dir(folder.path("new/folder")).expect("a folder");
    assert_eq!(names.count(), 1, "nothing is left beside it");
}

#[test]
fn a_second_opening_is_refused_and_says_why() {
    let folder = Folder::new();
    let path = folder.path("store");
    let first = open(&path);
    let text = refusal(&path).to_string();
    assert!(text.contains("in use") && text.contains("store"), "{text}");
    drop(first);
    drop(open(&path));
}

#[test]
fn what_lasts_is_there_after_a_restart_and_what_is_ephemeral_is_not() {
    let folder = Folder::new();
    let path = folder.path("store");
    let mut store = open(&path);
    commit(&mut store, &of([put("a", "1"), put_ephemeral("b", "1")]));
    commit(&mut store, &of([put("was ephemeral", "1")]));
    commit(&mut store, &of([put("becomes ephemeral", "1")]));
    let last = commit(&mut store, &of([put_ephemeral("becomes ephemeral", "2")]));
    let before = snapshot(&mut store);
    drop(store);
    let mut store = open(&path);
    let after = snapshot(&mut store);
    let names: Vec<_> = after.items.iter().map(|item| item.key.as_slice()).collect();
    assert_eq!(names, [b"a".as_slice(), b"was ephemeral"]);
    assert!(after.items.iter().all(|item| before.items.contains(item)));
    assert_eq!(after.incarnation, before.incarnation);
    assert!(after.revision >= last);
}

#[test]
fn no_revision_comes_twice_though_ephemeral_ones_are_not_written() {
    let folder = Folder::new();
    let path = folder.path("store");
    let mut last = Revision(0);
    for _ in 0..3 {
        let mut store = open(&path);
        for value in 0..3 {
            let change = put_ephemeral("live", &value.to_string());
            let revision = commit(&mut store, &of([change]));
            assert!(revision > last);
            last = revision;
        }
    }
}

#[test]
fn a_watch_of_what_happened_before_a_restart_says_that_it_cannot_know() {
    let folder = Folder::new();
    let path = folder.path("store");
    let revision = commit(&mut open(&path), &of([put("a", "1")]));
    let mut store = open(&path);
    let mut watch = store.watch(revision).expect("a watch");
    assert_eq!(next(&mut watch), Event::Lost(LostReason::Compacted));
}

#[test]
fn an_old_watch_is_lost_rather_than_told_a_part() {
    let folder = Folder::new();
    let mut store = open(&folder.path("store"));
    let start = snapshot(&mut store).revision;
    let mut slow = store.watch(start).expect("a watch");
    for i in 0..5000 {
        commit(&mut store, &of([put_ephemeral("a", &i.to_string())]));
    }
    let mut late = store.watch(start).expect("a watch");
    assert_eq!(next(&mut late), Event::Lost(LostReason::Compacted));
    for i in 0..5000 {
        let Event::Put(item) = next(&mut slow) else {
            panic!("it was there from the beginning");
        };
        assert_eq!(item.value, i.to_string().as_bytes());
    }
}

#[test]
fn a_watcher_that_sleeps_is_told_that_it_lost_its_place() {
    let folder = Folder::new();
    let mut store = open(&folder.path("store"));
    let start = snapshot(&mut store).revision;
    let mut watch = store.watch(start).expect("a watch");
    for i in 0..70_000 {
        commit(&mut store, &of([put_ephemeral("a", &i.to_string())]));
    }
    assert_eq!(next(&mut watch), Event::Lost(LostReason::TooSlow));
}

#[test]
fn a_backup_is_a_copy_of_one_revision_and_begins_a_new_life() {
    let folder = Folder::new();
    let (path, copy) = (folder.path("store"), folder.path("copy"));
    let mut store = open(&path);
    commit(&mut store, &of([put("a", "1"), put_ephemeral("live", "1")]));
    store.backup(&copy).expect("a backup");
    let revision = commit(&mut store, &of([put("a", "2")]));
    let before = snapshot(&mut store);
    drop(store);
    assert_eq!(
        fs::metadata(&copy).expect("it exists").mode() & 0o7777,
        0o600
    );

    // Restored over the old file, which keeps its place on the disk.
    fs::copy(&copy, &path).expect("a copy");
    let mut restored = open(&path);
    let after = snapshot(&mut restored);
    assert_ne!(after.incarnation, before.incarnation);
    assert_eq!(after.items.len(), 1, "ephemeral items are not in a backup");
    assert_eq!(after.items[0].value, b"1");
    let stale = Transaction {
        compares: vec![expect("a", Some(revision))],
        changes: vec![delete("a")],
    };
    assert_eq!(restored.commit(&stale), Ok(Outcome::Conflict));
    drop(restored);
    let again = snapshot(&mut open(&path));
    assert_eq!(again.incarnation, after.incarnation, "one life per restore");
}

#[test]
fn a_file_that_was_copied_by_hand_begins_a_new_life_and_a_moved_one_does_not() {
    let folder = Folder::new();
    let (path, copy) = (folder.path("store"), folder.path("copy"));
    let before = snapshot(&mut open(&path)).incarnation;
    fs::copy(&path, &copy).expect("a copy");
    assert_ne!(snapshot(&mut open(&copy)).incarnation, before);
    fs::rename(&path, folder.path("moved")).expect("a move");
    let moved = snapshot(&mut open(&folder.path("moved"))).incarnation;
    assert_eq!(moved, before);
}

#[test]
fn a_backup_replaces_an_older_one_but_never_the_store() {
    let folder = Folder::new();
    let (path, copy) = (folder.path("store"), folder.path("copy"));
    let mut store = open(&path);
    for value in ["1", "2"] {
        commit(&mut store, &of([put("a", value)]));
        store.backup(&copy).expect("a backup");
    }
    assert!(matches!(store.backup(&path), Err(StoreError::Invalid(_))));
    let nowhere = folder.path("no such folder/copy");
    assert!(store.backup(&nowhere).is_err());
    commit(&mut store, &of([put("a", "3")]));
    assert_eq!(snapshot(&mut open(&copy)).items[0].value, b"2");
    let names = fs::read_dir(folder.0.path()).expect("a folder");
    assert_eq!(names.count(), 2, "nothing is left beside them");
}

#[test]
fn files_that_are_no_stores_are_refused() {
    let folder = Folder::new();
    let path = folder.path("store");
    fs::write(&path, "").expect("a file");
    assert!(matches!(refusal(&path), StoreError::Corrupt(_)), "emptied");
    fs::write(&path, "#!/bin/sh\n".repeat(2000)).expect("a file");
    let before = fs::read(&path).expect("a file");
    assert!(
        matches!(refusal(&path), StoreError::Corrupt(_)),
        "another's"
    );
    assert_eq!(fs::read(&path).expect("a file"), before, "left alone");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a folder");
    refusal(&path);
}

#[test]
fn what_a_crash_left_of_a_new_store_is_in_nobodys_way() {
    let folder = Folder::new();
    fs::write(folder.path("store.new"), "half of it").expect("a file");
    let mut store = open(&folder.path("store"));
    commit(&mut store, &of([put("a", "1")]));
    assert!(!folder.path("store.new").exists());
}

#[test]
fn a_watch_waits_for_what_comes() {
    let folder = Folder::new();
    let mut store = open(&folder.path("store"));
    let start = snapshot(&mut store).revision;
    let mut watch = store.watch(start).expect("a watch");
    assert_eq!(watch.next(Duration::from_millis(10)), None);
    let waiting = std::thread::spawn(move || next(&mut watch));
    let revision = commit(&mut store, &of([put("a", "1")]));
    let Event::Put(item) = waiting.join().expect("no panic") else {
        panic!("a put was committed");
    };
    assert_eq!(item.modified, revision);
}
