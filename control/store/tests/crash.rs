//! A process that is killed while it commits, again and again.
//!
//! 200 rounds, or as many as the environment variable `OMNI_STORE_KILLS` says.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use omni_store::{Change, Outcome, RedbStore, Snapshot, Store, Transaction};

/// Tells the child where the store is.
const STORE: &str = "OMNI_STORE_CRASHED";

/// Keys that every commit changes together.
const KEYS: [&str; 3] = ["a", "b", "c"];

/// A transaction that moves all keys to the next number.
fn next(number: u64, len: usize) -> Transaction {
    let put = |key: &str| Change::Put {
        key: key.into(),
        value: [number.to_be_bytes().as_slice(), &vec![7; len]].concat(),
        ephemeral: false,
    };
    Transaction {
        compares: Vec::new(),
        changes: KEYS.map(put).into(),
    }
}

/// The number that all keys have.
fn number(snapshot: &Snapshot) -> u64 {
    let numbers: Vec<_> = snapshot
        .items
        .iter()
        .map(|item| u64::from_be_bytes(item.value[..8].try_into().expect("8 octets")))
        .collect();
    assert!(numbers.iter().all(|number| *number == numbers[0]), "torn");
    assert!(numbers.is_empty() || numbers.len() == KEYS.len(), "torn");
    numbers.first().copied().unwrap_or_default()
}

/// Commits until it is killed, and says so after each. Run by the test below.
#[test]
#[ignore = "the child of the other test"]
fn child() {
    let path = std::env::var_os(STORE).expect("it is run by the other test");
    let mut store = RedbStore::open(path).expect("it opens");
    let mut at = number(&store.snapshot().expect("it can be read"));
    loop {
        at += 1;
        let outcome = store.commit(&next(at, (at % 5) as usize * 4000));
        assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
        println!("committed {at}");
    }
}

/// Runs a child, kills it `after` its start, or after its first commit, and returns the last
/// commit that it acknowledged.
fn run_and_kill(path: &Path, after: Duration, first_commit: bool) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(STORE, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test runs again");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut last = None;
        for line in output.lines().map_while(Result::ok) {
            if let Some(number) = line.strip_prefix("committed ") {
                last = Some(number.parse().expect("a number"));
                // Nobody listens after the first.
                let _ = sender.send(());
            }
        }
        last
    });
    if first_commit {
        receiver
            .recv_timeout(Duration::from_secs(60))
            .expect("a commit");
    }
    std::thread::sleep(after);
    child.kill().expect("it still runs");
    let status = child.wait().expect("it was killed");
    assert!(status.code().is_none(), "it ended by itself: {status}");
    reader.join().expect("no panic")
}

#[test]
fn a_killed_process_lost_nothing_that_it_acknowledged() {
    let rounds = std::env::var("OMNI_STORE_KILLS").map_or(200, |text| {
        text.parse()
            .expect("OMNI_STORE_KILLS is a number of rounds")
    });
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("store");
    let start = Instant::now();
    let (mut acknowledged, mut incarnation, mut silent) = (0_u64, None, 0);
    for round in 0..rounds {
        // From before the file is there to the middle of commits.
        let after = Duration::from_micros(500 + (round * 7919) % 40_000);
        match run_and_kill(&path, after, round % 2 == 1) {
            Some(last) => acknowledged = acknowledged.max(last),
            None => silent += 1,
        }
        let mut store = RedbStore::open(&path).expect("it opens after a crash");
        let snapshot = store.snapshot().expect("it can be read after a crash");
        let found = number(&snapshot);
        assert!(
            found >= acknowledged,
            "round {round}: {found} of {acknowledged}"
        );
        // One may have been committed and not acknowledged.
        assert!(found <= acknowledged + 1, "round {round}: {found}");
        acknowledged = found;
        if acknowledged > 0 {
            let first = *incarnation.get_or_insert(snapshot.incarnation);
            assert_eq!(snapshot.incarnation, first, "a crash is no restore");
        }
    }
    let elapsed = start.elapsed();
    println!("{rounds} kills in {elapsed:?}, {acknowledged} commits, {silent} kills before any");
    assert!(
        acknowledged >= rounds / 2,
        "it was killed too early to commit"
    );
}
