//! Members that die, hang and come back.

use std::time::{Duration, Instant};

use omni_store::{Event, Outcome, Store, StoreError, Watch};

use super::cluster::{Cluster, TIMING};
use super::conformance::{commit, next, of, put, put_ephemeral};

/// The promise: what a store needs to work again once there is a quorum.
const RECOVERY: Duration = Duration::from_secs(5);

/// Commits again and again until it works, as a caller would whose puts may happen twice.
fn commit_through(store: &mut impl Store, value: &str) -> (Duration, usize) {
    let start = Instant::now();
    let mut failures = 0;
    loop {
        match store.commit(&of([put("a", value)])) {
            Ok(Outcome::Committed(_)) => return (start.elapsed(), failures),
            Ok(Outcome::Conflict) => panic!("nothing was compared"),
            Err(StoreError::Uncertain(_) | StoreError::Unavailable(_)) => failures += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it stays away");
    }
}

/// Waits for a value. An uncertain commit may have happened too, so others may come before. A
/// lease of 3 s may run out while there is no leader.
fn wait_for(watch: &mut Watch, value: &str) -> Duration {
    let start = Instant::now();
    loop {
        match next(watch) {
            Event::Put(item) if item.value == value.as_bytes() => return start.elapsed(),
            Event::Put(_) | Event::LeaseLost => {}
            Event::Deleted { expired: true, .. } => {}
            event => panic!("{event:?}"),
        }
    }
}

/// The next value. Members that hang may keep a lease of 3 s from being kept alive.
fn next_put(watch: &mut Watch) -> Vec<u8> {
    loop {
        match next(watch) {
            Event::Put(item) => return item.value,
            Event::LeaseLost => {}
            event => panic!("{event:?}"),
        }
    }
}

#[test]
fn without_a_quorum_it_says_so_and_with_one_it_works_again_within_seconds() {
    let mut cluster = Cluster::new(3);
    let mut store = cluster.store("home");
    let first = commit(
        &mut store,
        &of([put("a", "kept"), put_ephemeral("live", "1")]),
    );
    let mut watch = store.watch(first).expect("a watch");
    let leader = cluster.wait_for_leader();
    let lost = [leader, (leader + 1) % 3];
    for member in lost {
        cluster.kill(member);
    }
    let start = Instant::now();
    let read = store.snapshot();
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    // It goes on trying for a while, and never for much longer.
    let patience = TIMING.patience + 3 * TIMING.request;
    assert!(
        (TIMING.patience..patience).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    let written = store.commit(&of([put("a", "perhaps")]));
    let is_open = matches!(
        written,
        Err(StoreError::Uncertain(_) | StoreError::Unavailable(_))
    );
    assert!(is_open, "{written:?}");

    let start = Instant::now();
    for member in lost {
        cluster.start(member);
    }
    cluster.wait_for_leader();
    let election = start.elapsed();
    let (took, failures) = commit_through(&mut store, "after");
    println!("quorum back: {election:?} until there is a leader again");
    println!("quorum back: a commit {took:?} later, after {failures} failures");
    assert!(took < RECOVERY, "{took:?}");
    let told = wait_for(&mut watch, "after");
    println!("quorum back: the watch told it {told:?} later");
    assert!(told < RECOVERY, "{told:?}");
    let items = store.snapshot().expect("a cluster that works").items;
    assert_eq!(items[0].value, b"after");
}

#[test]
fn a_leader_that_is_killed_or_hangs_is_replaced() {
    let mut cluster = Cluster::new(3);
    let mut store = cluster.store("home");
    let first = commit(&mut store, &of([put("a", "0")]));
    let mut watch = store.watch(first).expect("a watch");
    let leader = cluster.wait_for_leader();
    cluster.kill(leader);
    let (took, failures) = commit_through(&mut store, "killed");
    println!("leader killed: a commit after {took:?} and {failures} failures");
    assert!(took < 2 * RECOVERY, "{took:?}");
    wait_for(&mut watch, "killed");
    cluster.start(leader);
    let leader = cluster.wait_for_leader();
    cluster.freeze(leader);
    let (took, failures) = commit_through(&mut store, "hangs");
    println!("leader hangs: a commit after {took:?} and {failures} failures");
    assert!(took < 2 * RECOVERY, "{took:?}");
    wait_for(&mut watch, "hangs");
    // What it missed does not come back with it.
    cluster.thaw(leader);
    let (took, _) = commit_through(&mut store, "back");
    assert!(took < RECOVERY, "{took:?}");
    wait_for(&mut watch, "back");
    let items = store.snapshot().expect("a cluster that works").items;
    assert_eq!(items[0].value, b"back");
}

#[test]
fn a_watch_that_hangs_goes_on_at_another_member_and_misses_nothing() {
    let cluster = Cluster::new(3);
    let leader = cluster.wait_for_leader();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let mut writer = cluster.store_at(&[leader], "home");
    let mut watcher = cluster.store_at(&others, "home");
    let first = commit(&mut writer, &of([put("a", "first")]));
    let mut watch = watcher.watch(first).expect("a watch");
    let mut count = 0;
    // It is at one of the two, so it hangs at least once.
    for hanging in others {
        commit_through(&mut writer, "before");
        wait_for(&mut watch, "before");
        cluster.freeze(hanging);
        let start = Instant::now();
        for _ in 0..50 {
            commit(&mut writer, &of([put("a", &count.to_string())]));
            count += 1;
        }
        for expected in count - 50..count {
            assert_eq!(next_put(&mut watch), expected.to_string().as_bytes());
        }
        println!("a member hangs: all was told after {:?}", start.elapsed());
        cluster.thaw(hanging);
        cluster.wait_for_leader();
    }
}

#[test]
fn a_commit_that_hung_in_a_member_does_not_come_late() {
    let cluster = Cluster::new(3);
    let leader = cluster.wait_for_leader();
    let mut stores: Vec<_> = (0..20).map(|_| cluster.store("home")).collect();
    for store in &mut stores {
        commit(store, &of([put("a", "before")]));
    }
    cluster.freeze(leader);
    // A third of them speak to the leader, which has the request when it is held.
    let late = of([put("a", "late")]);
    let is_uncertain = |outcome| matches!(outcome, Err(StoreError::Uncertain(_)));
    let store = stores
        .iter_mut()
        .find_map(|store| is_uncertain(store.commit(&late)).then_some(store))
        .expect("one of them speaks to the leader");
    let settled = loop {
        match store.snapshot() {
            Ok(snapshot) => break snapshot.items,
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    cluster.thaw(leader);
    cluster.wait_for_leader();
    // Now the member goes on with what it was asked.
    std::thread::sleep(Duration::from_secs(2));
    let items = store.snapshot().expect("a cluster that works").items;
    assert_eq!(items, settled);
}
