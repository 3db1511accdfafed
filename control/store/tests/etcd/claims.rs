//! Several servers that claim the same keys while the cluster suffers, and what must be true of
//! the history afterwards.
//!
//! One round, or as many as the environment variable `OMNI_STORE_ROUNDS` says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use omni_store::{
    Change, Compare, Event, Outcome, Revision, Snapshot, Store, StoreError, Transaction,
};

use super::cluster::Cluster;
use super::conformance::{commit, of, put};

/// Servers that claim.
const CLIENTS: usize = 4;

/// What they claim: few, so that they meet.
const KEYS: [&str; 3] = ["mac/1", "mac/2", "bind/1"];

/// One attempt to own a key. Its number is what it puts, so no two put the same.
#[derive(Debug)]
struct Claim {
    number: u64,
    key: &'static str,
    expected: Option<Revision>,
    began: Instant,
    ended: Instant,
    result: Result<Outcome, StoreError>,
}

/// A read of everything.
struct Read {
    began: Instant,
    revision: Revision,
}

#[derive(Default)]
struct History {
    claims: Vec<Claim>,
    reads: Vec<Read>,
}

/// One client: reads, then takes a key over from whoever it saw there.
fn run_client(numbers: &AtomicU64, stop: &AtomicBool, mut store: impl Store) -> History {
    let mut history = History::default();
    let mut seen: Option<Snapshot> = None;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let snapshot = match store.snapshot() {
            Ok(snapshot) => snapshot,
            Err(StoreError::Unavailable(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        let revision = snapshot.revision;
        history.reads.push(Read { began, revision });
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let key = KEYS[number as usize % KEYS.len()];
        // Now and then what was seen is old: another one came in between for certain.
        let basis = match &seen {
            Some(old) if number.is_multiple_of(7) => old,
            _ => &snapshot,
        };
        let owner = basis.items.iter().find(|item| item.key == key.as_bytes());
        let expected = owner.map(|item| item.modified);
        let transaction = Transaction {
            compares: vec![Compare {
                key: key.into(),
                expected,
            }],
            changes: vec![Change::Put {
                key: key.into(),
                value: number.to_string().into(),
                ephemeral: false,
            }],
        };
        let began = Instant::now();
        let result = store.commit(&transaction);
        history.claims.push(Claim {
            number,
            key,
            expected,
            began,
            ended: Instant::now(),
            result,
        });
        seen = Some(snapshot);
    }
    history
}

/// What the store says happened to a key: revisions and the claims that won.
type Chain = Vec<(Revision, u64)>;

/// Checks a history against what a watch from the beginning told.
fn check(histories: &[History], told: &BTreeMap<String, Chain>) {
    let claims: BTreeMap<u64, &Claim> = histories
        .iter()
        .flat_map(|history| &history.claims)
        .map(|claim| (claim.number, claim))
        .collect();
    let mut won = BTreeSet::new();
    for (key, chain) in told {
        let mut before = None;
        for &(revision, number) in chain {
            let claim = claims[&number];
            assert_eq!(claim.key, key);
            // Its compare held at that moment: so it followed on the one owner that there was.
            assert_eq!(claim.expected, before, "two owners of {key}: {claim:?}");
            assert!(won.insert(number), "claim {number} happened twice");
            match &claim.result {
                Ok(outcome) => assert_eq!(*outcome, Outcome::Committed(revision)),
                Err(StoreError::Uncertain(_)) => {}
                Err(error) => panic!("{error} says that it did not happen: {claim:?}"),
            }
            before = Some(revision);
        }
    }
    for claim in claims.values() {
        let acknowledged = matches!(claim.result, Ok(Outcome::Committed(_)));
        assert!(
            !acknowledged || won.contains(&claim.number),
            "lost: {claim:?}"
        );
    }
    check_time(histories);
    for history in histories {
        check_settled(history, told);
    }
}

/// What was uncertain and was not there in the client's next read never happened later.
fn check_settled(history: &History, told: &BTreeMap<String, Chain>) {
    let is_uncertain = |claim: &&Claim| matches!(claim.result, Err(StoreError::Uncertain(_)));
    for claim in history.claims.iter().filter(is_uncertain) {
        let chain = told.get(claim.key).into_iter().flatten();
        let won = chain.clone().find(|(_, number)| *number == claim.number);
        let next = history.reads.iter().find(|read| read.began >= claim.ended);
        if let (Some((revision, _)), Some(read)) = (won, next) {
            assert!(*revision <= read.revision, "came late: {claim:?}");
        }
    }
}

/// What began after a commit was acknowledged sees it: revisions follow real time.
fn check_time(histories: &[History]) {
    let all = || histories.iter().flat_map(|history| &history.claims);
    let mut ended: Vec<_> = all()
        .filter_map(|claim| match claim.result {
            Ok(Outcome::Committed(revision)) => Some((claim.ended, revision)),
            _ => None,
        })
        .collect();
    ended.sort_unstable();
    // The newest that was acknowledged by each moment.
    let mut newest = Revision(0);
    for (_, revision) in &mut ended {
        newest = newest.max(*revision);
        *revision = newest;
    }
    let by = |moment: Instant| {
        let count = ended.partition_point(|(end, _)| *end < moment);
        ended[..count].last().map_or(Revision(0), |last| last.1)
    };
    for claim in all() {
        if let Ok(Outcome::Committed(revision)) = claim.result {
            assert!(revision > by(claim.began), "into the past: {claim:?}");
        }
    }
    for read in histories.iter().flat_map(|history| &history.reads) {
        assert!(read.revision >= by(read.began), "a stale read");
    }
}

/// Kills members, holds them, and takes the quorum away. `hang`: how long a leader is held, in
/// milliseconds.
fn torment(cluster: &mut Cluster, hang: u64) {
    let pause = |millis| std::thread::sleep(Duration::from_millis(millis));
    let leader = cluster.wait_for_leader();
    cluster.kill(leader);
    pause(2500);
    cluster.start(leader);
    let leader = cluster.wait_for_leader();
    cluster.freeze(leader);
    pause(hang);
    cluster.thaw(leader);
    let leader = cluster.wait_for_leader();
    let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.freeze(follower);
    pause(1500);
    // Now there is no quorum, and then it is another one.
    cluster.kill(other);
    pause(1500);
    cluster.thaw(follower);
    pause(1500);
    cluster.start(other);
    cluster.wait_for_leader();
}

#[test]
fn a_claim_never_has_two_owners_whatever_happens_to_the_cluster() {
    let rounds: u64 = std::env::var("OMNI_STORE_ROUNDS").map_or(1, |text| {
        text.parse().expect("OMNI_STORE_ROUNDS is a number")
    });
    let mut cluster = Cluster::new(3);
    let mut observer = cluster.store("home");
    let start = observer.snapshot().expect("a cluster that works").revision;
    let mut watch = observer.watch(start).expect("a watch");
    let numbers = AtomicU64::new(1);
    let stop = AtomicBool::new(false);
    let stores: Vec<_> = (0..CLIENTS).map(|_| cluster.store("home")).collect();
    let histories: Vec<History> = std::thread::scope(|scope| {
        let clients: Vec<_> = stores
            .into_iter()
            .map(|store| scope.spawn(|| run_client(&numbers, &stop, store)))
            .collect();
        for round in 0..rounds {
            let hang = if round == 0 { 3500 } else { 15_000 };
            torment(&mut cluster, hang);
        }
        stop.store(true, Ordering::Relaxed);
        let join = |client: std::thread::ScopedJoinHandle<'_, History>| client.join();
        let joined = clients
            .into_iter()
            .map(|client| join(client).expect("no panic"));
        joined.collect()
    });
    let end = commit(&mut observer, &of([put("end", "")]));
    let mut told: BTreeMap<String, Chain> = BTreeMap::new();
    loop {
        match super::conformance::next(&mut watch) {
            Event::Put(item) if item.modified == end => break,
            Event::Put(item) => {
                let text = |octets: Vec<u8>| String::from_utf8(octets).expect("text");
                let number = text(item.value).parse().expect("a number");
                told.entry(text(item.key))
                    .or_default()
                    .push((item.modified, number));
            }
            // Without a quorum for as long as a lease lasts, that is how it has to be.
            Event::LeaseLost => {}
            event => panic!("{event:?}"),
        }
    }
    check(&histories, &told);

    let results = || histories.iter().flat_map(|history| &history.claims);
    let count = |is: fn(&Claim) -> bool| results().filter(|claim| is(claim)).count();
    let committed = count(|claim| matches!(claim.result, Ok(Outcome::Committed(_))));
    let conflicts = count(|claim| claim.result == Ok(Outcome::Conflict));
    let uncertain = count(|claim| matches!(claim.result, Err(StoreError::Uncertain(_))));
    println!("claims: {committed} committed, {conflicts} conflicts, {uncertain} uncertain");
    assert!(committed > 50 && conflicts > 20, "too little happened");
}

mod the_checker {
    use super::*;

    /// A history of one client: (number, expected, result), and what the store says.
    fn judge(claims: &[(u64, Option<u64>, Result<Outcome, StoreError>)], chain: &[(u64, u64)]) {
        let start = Instant::now();
        let at = |step: u64| start + Duration::from_secs(step);
        let claims = (0..)
            .zip(claims)
            .map(|(step, (number, expected, result))| Claim {
                number: *number,
                key: "mac/1",
                expected: expected.map(Revision),
                began: at(2 * step),
                ended: at(2 * step + 1),
                result: result.clone(),
            });
        let history = History {
            claims: claims.collect(),
            reads: Vec::new(),
        };
        let chain = chain.iter().map(|&(at, number)| (Revision(at), number));
        check(
            &[history],
            &BTreeMap::from([("mac/1".to_owned(), chain.collect())]),
        );
    }

    fn won(revision: u64) -> Result<Outcome, StoreError> {
        Ok(Outcome::Committed(Revision(revision)))
    }

    #[test]
    fn accepts_what_is_right() {
        let unknown = Err(StoreError::Uncertain(String::new()));
        let claims = [
            (1, None, won(5)),
            (2, None, Ok(Outcome::Conflict)),
            (3, Some(5), unknown.clone()),
            (4, Some(7), won(9)),
            (5, Some(9), unknown),
        ];
        judge(&claims, &[(5, 1), (7, 3), (9, 4)]);
    }

    #[test]
    #[should_panic(expected = "two owners")]
    fn sees_two_owners() {
        judge(&[(1, None, won(5)), (2, None, won(6))], &[(5, 1), (6, 2)]);
    }

    #[test]
    #[should_panic(expected = "lost")]
    fn sees_a_lost_write() {
        judge(&[(1, None, won(5)), (2, None, won(6))], &[(6, 2)]);
    }

    #[test]
    #[should_panic(expected = "into the past")]
    fn sees_time_go_back() {
        judge(
            &[(1, Some(4), won(5)), (2, None, won(4))],
            &[(4, 2), (5, 1)],
        );
    }

    #[test]
    #[should_panic(expected = "did not happen")]
    fn sees_a_failure_that_was_none() {
        let failed = Err(StoreError::Unavailable(String::new()));
        judge(&[(1, None, failed)], &[(5, 1)]);
    }
}
