//! A disk that fails at every single operation in turn, and files that are not as they must be.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use ::redb::StorageBackend;
use ::redb::backends::InMemoryBackend;
use tempfile::TempDir;

use super::*;

/// A disk in memory that outlives the store that uses it.
#[derive(Clone, Debug)]
struct Disk {
    octets: Arc<InMemoryBackend>,
    fault: Arc<Mutex<Fault>>,
}

#[derive(Debug)]
struct Fault {
    /// How many operations still work. `None`: all.
    good: Option<usize>,
    /// How many fail then.
    bad: usize,
    kind: ErrorKind,
}

impl Disk {
    fn new() -> Self {
        let fault = Fault {
            good: None,
            bad: 0,
            kind: ErrorKind::Other,
        };
        Self {
            octets: Arc::new(InMemoryBackend::new()),
            fault: Arc::new(Mutex::new(fault)),
        }
    }

    fn store(&self) -> RedbStore {
        let disk = self.clone();
        RedbStore::with_backend(move || Ok(disk.clone())).expect("a disk that works")
    }

    fn fail_after(&self, good: usize, bad: usize, kind: ErrorKind) {
        *self.fault.lock().expect("no panic") = Fault {
            good: Some(good),
            bad,
            kind,
        };
    }

    /// Mends it. Whether it had failed.
    fn mend(&self) -> bool {
        let mut fault = self.fault.lock().expect("no panic");
        fault.good.take() == Some(0)
    }

    fn write_op(&self) -> io::Result<()> {
        let mut fault = self.fault.lock().expect("no panic");
        match fault.good {
            Some(0) if fault.bad > 0 => {
                fault.bad -= 1;
                Err(fault.kind.into())
            }
            Some(good @ 1..) => {
                fault.good = Some(good - 1);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.octets.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.octets.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write_op()?;
        self.octets.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.write_op()?;
        self.octets.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_op()?;
        self.octets.write(offset, data)
    }
}

fn put(key: &str, value: Vec<u8>, ephemeral: bool) -> Change {
    Change::Put {
        key: key.into(),
        value,
        ephemeral,
    }
}

fn of(changes: Vec<Change>) -> Transaction {
    Transaction {
        compares: Vec::new(),
        changes,
    }
}

/// Values by key, and whether they are ephemeral.
fn contents(store: &mut RedbStore) -> Vec<(Vec<u8>, Vec<u8>, bool)> {
    let items = store.snapshot().expect("a disk that works").items;
    let plain = |item: Item| (item.key, item.value, item.ephemeral);
    items.into_iter().map(plain).collect()
}

/// Commits against a disk that fails at operation `good`. Then all views have to agree on whether
/// it happened, and an answer that says so has to be right. Returns whether the disk failed at all.
fn fail_at(good: usize, bad: usize, kind: ErrorKind, reopen: bool) -> bool {
    let disk = Disk::new();
    let mut store = disk.store();
    let old = of(vec![
        put("a", vec![1; 100], false),
        put("b", vec![1; 100], true),
    ]);
    store.commit(&old).expect("a disk that works");
    let start = store.snapshot().expect("a disk that works");
    let mut watch = store.watch(start.revision).expect("a watch");
    let before = contents(&mut store);
    let value = vec![2; 60_000];
    let new = of(vec![
        put("a", value.clone(), false),
        put("b", value.clone(), false),
        put("c", value.clone(), true),
    ]);
    let mut after = Vec::from(["a", "b", "c"].map(|key| (key.into(), value.clone(), key == "c")));

    disk.fail_after(good, bad, kind);
    let outcome = store.commit(&new);
    let failed = disk.mend();
    let mut life = store.head.incarnation;
    if reopen {
        // As after a crash: ephemeral items are gone, so only what lasts is looked at.
        drop(store);
        store = disk.store();
        after.retain(|(_, _, ephemeral)| !ephemeral);
    }
    let now = contents(&mut store);
    let happened = now == after;
    let kept: Vec<_> = before
        .into_iter()
        .filter(|item| !reopen || !item.2)
        .collect();
    assert!(happened || now == kept, "torn at {good}");
    std::mem::swap(&mut life, &mut store.head.incarnation);
    assert_eq!(life, store.head.incarnation, "it is the same life");
    match outcome {
        Ok(Outcome::Committed(_)) => assert!(happened, "a lost commit at {good}"),
        Err(StoreError::Uncertain(_)) => {}
        Err(StoreError::Full(_)) => assert!(!happened && kind == ErrorKind::StorageFull),
        Err(StoreError::Unavailable(_)) => assert!(!happened && kind == ErrorKind::Other),
        other => panic!("{other:?}"),
    }
    if !reopen {
        let told: Vec<_> = std::iter::from_fn(|| watch.next(std::time::Duration::ZERO)).collect();
        assert_eq!(told.len(), if happened { 3 } else { 0 }, "told at {good}");
    }
    // It goes on, with revisions that nobody saw before.
    let next = store.commit(&of(vec![put("d", vec![3], false)]));
    let Ok(Outcome::Committed(revision)) = next else {
        panic!("{next:?}");
    };
    assert!(revision > start.revision);
    assert!(
        store
            .snapshot()
            .expect("a disk that works")
            .items
            .iter()
            .any(|i| i.key == b"d")
    );
    failed
}

#[test]
fn a_failing_disk_loses_nothing_that_was_acknowledged() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for reopen in [false, true] {
            // One operation fails, or all that follow.
            for bad in [1, usize::MAX] {
                let failures = (0..200).take_while(|&good| fail_at(good, bad, kind, reopen));
                let failures = failures.count();
                assert!((3..200).contains(&failures), "{failures} places to fail at");
            }
        }
    }
}

#[test]
fn a_disk_that_fails_while_a_store_is_opened_leaves_it_as_it_was() {
    let disk = Disk::new();
    let kept = of(vec![put("a", vec![1], false)]);
    disk.store().commit(&kept).expect("a disk that works");
    let mut failures = 0;
    for good in 0..200 {
        disk.fail_after(good, usize::MAX, ErrorKind::Other);
        let again = disk.clone();
        let opened = RedbStore::with_backend(move || Ok(again.clone()));
        let is_open = opened.is_ok();
        drop(opened);
        if !disk.mend() {
            assert!(is_open);
            break;
        }
        failures += 1;
        assert_eq!(
            contents(&mut disk.store()),
            [(b"a".to_vec(), vec![1], false)]
        );
    }
    assert!((1..200).contains(&failures), "{failures}");
}

#[test]
fn a_file_that_is_gone_or_another_is_not_gone_on_with() {
    let folder = TempDir::new().expect("a folder");
    let (path, other) = (folder.path().join("store"), folder.path().join("other"));
    let mut store = RedbStore::open(&path).expect("a new store");
    drop(RedbStore::open(&other).expect("a new store"));
    std::fs::remove_file(&path).expect("removed");
    // As after an I/O error.
    store.database = None;
    let gone = store.snapshot();
    assert!(matches!(gone, Err(StoreError::Unavailable(_))), "{gone:?}");
    assert!(!path.exists());
    std::fs::rename(&other, &path).expect("a move");
    let replaced = store.snapshot();
    assert!(
        matches!(replaced, Err(StoreError::Corrupt(_))),
        "{replaced:?}"
    );
}

fn with_meta(path: &Path, change: impl FnOnce(&Database)) -> StoreError {
    drop(RedbStore::open(path).expect("a new store"));
    let (database, _) = file::open(path, false).expect("not in use");
    change(&database);
    drop(database);
    match RedbStore::open(path) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("store");
    let error = with_meta(&path, |database| {
        disk::overwrite(database, "format", Some(2))
    });
    assert_eq!(error, StoreError::Newer { found: 2, known: 1 });
    let text = error.to_string();
    assert!(
        text.contains("format 2") && text.contains("up to 1"),
        "{text}"
    );
}

#[test]
fn a_store_without_its_head_is_refused() {
    for key in ["format", "incarnation", "reserved"] {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("store");
        let error = with_meta(&path, |database| disk::overwrite(database, key, None));
        assert!(
            matches!(&error, StoreError::Corrupt(text) if text.contains(key)),
            "{error}"
        );
    }
}

/// A disk that forgets what was not synced when the power fails, in any order it likes.
#[derive(Clone, Debug, Default)]
struct Unplugged(Arc<Mutex<Platter>>);

#[derive(Clone, Debug, Default)]
struct Platter {
    synced: Vec<u8>,
    /// What was written since, also as programs see it.
    cached: Vec<(usize, Vec<u8>)>,
    seen: Vec<u8>,
    /// How many operations from now the power fails, and what it left.
    left: usize,
    failed: Option<Box<Platter>>,
}

/// What a disk writes at once, in octets.
const SECTOR: usize = 512;

impl Platter {
    /// `kept` says of each sector that was not synced whether it was written.
    fn lose_power(&self, mut kept: impl FnMut() -> bool) -> Unplugged {
        let mut octets = self.synced.clone();
        for (offset, data) in &self.cached {
            for (sector, at) in data.chunks(SECTOR).zip((*offset..).step_by(SECTOR)) {
                if kept() && at + sector.len() <= octets.len() {
                    octets[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        Unplugged(Arc::new(Mutex::new(Self {
            seen: octets.clone(),
            synced: octets,
            ..Self::default()
        })))
    }

    fn count(&mut self) {
        if self.left == 1 {
            self.failed = Some(Box::new(self.clone()));
        }
        self.left = self.left.saturating_sub(1);
    }
}

impl Unplugged {
    fn platter(&self) -> std::sync::MutexGuard<'_, Platter> {
        self.0.lock().expect("no panic")
    }
}

impl StorageBackend for Unplugged {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter();
        let found = platter
            .seen
            .get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// A file system keeps lengths in its journal.
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.platter();
        platter.count();
        platter.synced.resize(len as usize, 0);
        platter.seen.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.platter();
        platter.count();
        platter.synced = platter.seen.clone();
        platter.cached.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.platter();
        platter.count();
        let at = offset as usize;
        platter.seen[at..at + data.len()].copy_from_slice(data);
        platter.cached.push((at, data.to_vec()));
        Ok(())
    }
}

/// Xorshift: any sequence will do, and a failure has to come again.
fn random(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed as usize
}

#[test]
fn a_power_failure_at_any_write_loses_nothing_that_was_acknowledged() {
    let mut seed = 1;
    let mut disk = Unplugged::default();
    let both = |number: u64| {
        let value = [number.to_be_bytes().as_slice(), &[5; 3000]].concat();
        of(vec![put("a", value.clone(), false), put("b", value, false)])
    };
    let (mut acknowledged, mut interrupted) = (0, 0);
    for round in 0..100 {
        let whole = disk.clone();
        let opened = RedbStore::with_backend(move || Ok(whole.clone()));
        let mut store = opened.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let number = |item: &(Vec<u8>, Vec<u8>, bool)| {
            u64::from_be_bytes(item.1[..8].try_into().expect("8 octets"))
        };
        let found: Vec<_> = contents(&mut store).iter().map(number).collect();
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "torn");
        let newest = found.first().copied().unwrap_or(0);
        // The last commit may have been under way.
        assert!(
            (acknowledged..=acknowledged + 1).contains(&newest),
            "{newest}"
        );
        acknowledged = newest;
        disk.platter().left = random(&mut seed) % 30 + 1;
        let failed = loop {
            store
                .commit(&both(acknowledged + 1))
                .expect("it works so far");
            if let Some(failed) = disk.platter().failed.take() {
                break failed;
            }
            acknowledged += 1;
        };
        interrupted += usize::from(!failed.cached.is_empty());
        disk = failed.lose_power(|| random(&mut seed).is_multiple_of(2));
    }
    assert!(
        interrupted > 50,
        "only {interrupted} commits were interrupted"
    );
}

#[test]
fn flipped_octets_are_noticed_or_harmless() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("store");
    let mut store = RedbStore::open(&path).expect("a new store");
    for key in 0..200 {
        let change = put(&key.to_string(), vec![7; 300], false);
        store.commit(&of(vec![change])).expect("a disk that works");
    }
    let expected = contents(&mut store);
    drop(store);
    let good = std::fs::read(&path).expect("a file");
    let mut refused = 0;
    for step in 0..300 {
        let mut bad = good.clone();
        bad[step * good.len() / 300] ^= 0x10;
        std::fs::write(&path, &bad).expect("written");
        match RedbStore::open(&path) {
            Ok(mut store) => assert_eq!(contents(&mut store), expected, "at {step}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0, "no octet matters");
}
