//! The store in etcd: what every store does, and what a cluster adds.

mod claims;
mod cluster;
#[path = "../conformance/mod.rs"]
mod conformance;
mod faults;
mod impostors;
mod lives;
mod relay;
mod secured;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use omni_store::{
    EtcdConfig, EtcdStore, Event, LostReason, Outcome, Revision, Store, StoreError, Transaction,
};
use serde_json::{Value, json};

use self::cluster::{Cluster, TIMING};
use self::conformance::{commit, expect, next, of, put, put_ephemeral};
use self::relay::Relay;

/// A request that compacts all that is older than a revision.
fn compaction(revision: Revision) -> Value {
    json!({ "revision": revision.to_string() })
}

#[test]
fn it_conforms() {
    let cluster = Cluster::new(1);
    let count = Cell::new(0);
    let make = || {
        count.set(count.get() + 1);
        cluster.store(&format!("fabric {}", count.get()))
    };
    conformance::conformance(make, 16);
}

#[test]
fn servers_share_a_store_and_fabrics_do_not() {
    let cluster = Cluster::new(1);
    let (mut one, mut other) = (cluster.store("home"), cluster.store("home"));
    let start = other.snapshot().expect("a cluster that works");
    let mut watch = other.watch(start.revision).expect("a watch");
    let claim = |value| Transaction {
        compares: vec![expect("claim", None)],
        changes: vec![put("claim", value)],
    };
    let revision = commit(&mut one, &claim("one"));
    assert_eq!(other.commit(&claim("other")), Ok(Outcome::Conflict));
    let mine = one.snapshot().expect("a cluster that works");
    let others = other.snapshot().expect("a cluster that works");
    assert_eq!(mine.items, others.items);
    assert_eq!(mine.incarnation, others.incarnation);
    assert_eq!(next(&mut watch), Event::Put(mine.items[0].clone()));
    assert_eq!(mine.items[0].modified, revision);
    let mut neighbor = cluster.store("home2");
    let elsewhere = neighbor.snapshot().expect("a cluster that works");
    assert!(elsewhere.items.is_empty());
    assert_ne!(elsewhere.incarnation, mine.incarnation);
}

#[test]
fn a_snapshot_of_many_pages_is_of_one_revision() {
    let cluster = Cluster::new(1);
    let (mut store, mut other) = (cluster.store("home"), cluster.store("home"));
    for group in 0..25 {
        let change = |number| put(&format!("{group:02}/{number:02}"), "0");
        commit(&mut store, &of::<60>(std::array::from_fn(change)));
    }
    // The first and the last item always change together, from page to page of every snapshot.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let value = number.to_string();
                commit(
                    &mut other,
                    &of([put("00/00", &value), put("24/59", &value)]),
                );
            }
        });
        let mut values = BTreeSet::new();
        while values.len() < 10 {
            let items = store.snapshot().expect("a cluster that works").items;
            assert_eq!(items.len(), 1500);
            assert!(items.is_sorted_by(|a, b| a.key < b.key));
            assert_eq!(items[0].value, items[1499].value, "torn");
            values.insert(items[0].value.clone());
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_quota_that_is_reached_is_told() {
    let flags = ["--quota-backend-bytes=1000000".to_owned()];
    let cluster = Cluster::start_all(1, "http", |_| flags.into());
    cluster.wait_for_leader();
    let mut store = cluster.store("home");
    let big = "x".repeat(60_000);
    let mut count = 0;
    let error = loop {
        match store.commit(&of([put(&count.to_string(), &big)])) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 100, "more than the quota");
    };
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    let items = store.snapshot().expect("it can be read").items;
    // On a slow machine the last one may be there: done, its answer too late, and refused when it
    // was tried again.
    let keys = items.into_iter().map(|item| item.key);
    let keys: BTreeSet<String> = keys
        .map(|key| String::from_utf8(key).expect("a number"))
        .collect();
    let acknowledged: BTreeSet<String> = (0..count).map(|n| n.to_string()).collect();
    let left: Vec<&String> = keys.symmetric_difference(&acknowledged).collect();
    assert!(left.is_empty() || left == [&count.to_string()], "{left:?}");
}

#[test]
fn ephemeral_items_expire_with_their_server_and_take_nothing_along() {
    let cluster = Cluster::new(1);
    let (mut dying, mut staying) = (cluster.store("home"), cluster.store("home"));
    commit(&mut staying, &of([put_ephemeral("live/staying", "1")]));
    commit(&mut staying, &of([put("member/dying", "1")]));
    commit(
        &mut dying,
        &of([put_ephemeral("live/dying", "1"), put("member/2", "1")]),
    );
    // Put again without a lease: it lasts. Put again by another server: it lives with that one.
    commit(
        &mut dying,
        &of([
            put_ephemeral("live/kept", "1"),
            put_ephemeral("live/taken", "1"),
        ]),
    );
    commit(&mut dying, &of([put("live/kept", "2")]));
    let last = commit(&mut staying, &of([put_ephemeral("live/taken", "2")]));
    let mut watch = staying.watch(last).expect("a watch");
    let before = staying.snapshot().expect("a cluster that works").items;
    drop(dying);
    let dropped = std::time::Instant::now();
    let Event::Deleted { key, expired, .. } = next(&mut watch) else {
        panic!("nothing is put any more");
    };
    assert_eq!((key.as_slice(), expired), (b"live/dying".as_slice(), true));
    let after = TIMING.lease - TIMING.keep_alive * 2;
    assert!(dropped.elapsed() > after, "after {:?}", dropped.elapsed());
    std::thread::sleep(TIMING.lease);
    let mut expected = before;
    expected.retain(|item| item.key != b"live/dying");
    assert_eq!(
        staying.snapshot().expect("a cluster that works").items,
        expected
    );
}

#[test]
fn a_lease_that_is_revoked_is_noticed_and_another_takes_its_place() {
    let cluster = Cluster::new(1);
    let mut store = cluster.store("home");
    let last = commit(
        &mut store,
        &of([put_ephemeral("live/a", "1"), put("member/a", "1")]),
    );
    let mut watch = store.watch(last).expect("a watch");
    let leases = cluster.ask(0, "lease/leases", &json!({})).expect("leases");
    let leases = leases["leases"].as_array().expect("leases").clone();
    assert_eq!(leases.len(), 1);
    cluster.ask(0, "lease/revoke", &leases[0]).expect("revoked");

    let mut events = [next(&mut watch), next(&mut watch)];
    // The watch and the lease have threads of their own.
    events.sort_by_key(|event| matches!(event, Event::LeaseLost));
    let [Event::Deleted { key, expired, .. }, Event::LeaseLost] = &events else {
        panic!("{events:?}");
    };
    assert_eq!((key.as_slice(), *expired), (b"live/a".as_slice(), true));
    commit(&mut store, &of([put_ephemeral("live/a", "2")]));
    assert!(matches!(next(&mut watch), Event::Put(item) if item.value == b"2"));
    std::thread::sleep(TIMING.lease * 2);
    let items = store.snapshot().expect("a cluster that works").items;
    let values: Vec<_> = items.iter().map(|item| item.value.as_slice()).collect();
    assert_eq!(values, [b"2", b"1"], "the new lease is kept alive");
}

#[test]
fn what_etcd_leaves_out_of_an_event_is_asked_for() {
    let cluster = Cluster::new(1);
    let mut owner = cluster.store("home");
    let last = commit(
        &mut owner,
        &of([put_ephemeral("live/a", "1"), put("member/a", "1")]),
    );
    // The same length, so that nothing else has to change.
    let relay = Relay::new(&cluster.url(0), r#""prev_kv":true"#, r#""prev_kv":null"#);
    let config = EtcdConfig {
        endpoints: vec![relay.url().to_owned()],
        ..cluster.config(&[0], "home")
    };
    let mut watcher = EtcdStore::open(config).expect("a configuration");
    let mut watch = watcher.watch(last).expect("a watch");
    let leases = cluster.ask(0, "lease/leases", &json!({})).expect("leases");
    for lease in leases["leases"].as_array().expect("leases") {
        cluster.ask(0, "lease/revoke", lease).expect("revoked");
    }
    let deleted = loop {
        match next(&mut watch) {
            // The watcher's own lease was revoked as well, if it had one by then.
            Event::LeaseLost => {}
            event => break event,
        }
    };
    let Event::Deleted { key, expired, .. } = deleted else {
        panic!("{deleted:?}");
    };
    assert_eq!((key.as_slice(), expired), (b"live/a".as_slice(), true));
    // A stranger's deletion of what hangs on no lease is none that expired.
    // The key is /omni/home/item/member/a in base64.
    let key = "L29tbmkvaG9tZS9pdGVtL21lbWJlci9h";
    cluster
        .ask(0, "kv/deleterange", &json!({ "key": key }))
        .expect("deleted");
    let deleted = next(&mut watch);
    let Event::Deleted { key, expired, .. } = deleted else {
        panic!("{deleted:?}");
    };
    assert_eq!((key.as_slice(), expired), (b"member/a".as_slice(), false));
    assert!(relay.replaced() > 0, "the watch went through the relay");
}

#[test]
fn a_commit_that_finds_its_lease_gone_gets_another_at_once() {
    let cluster = Cluster::new(1);
    let mut store = cluster.store("home");
    commit(&mut store, &of([put_ephemeral("live/a", "1")]));
    let leases = cluster.ask(0, "lease/leases", &json!({})).expect("leases");
    cluster
        .ask(0, "lease/revoke", &leases["leases"][0])
        .expect("revoked");
    let last = commit(&mut store, &of([put_ephemeral("live/b", "1")]));
    // Nobody watched when it happened, so the next watch says so.
    let mut watch = store.watch(last).expect("a watch");
    assert_eq!(next(&mut watch), Event::LeaseLost);
    let items = store.snapshot().expect("a cluster that works").items;
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].key, b"live/b");
}

#[test]
fn what_is_compacted_is_lost_and_a_watch_that_kept_up_goes_on() {
    let mut cluster = Cluster::new(1);
    let mut store = cluster.store("home");
    let first = commit(&mut store, &of([put("a", "1")]));
    let mut watch = store.watch(first).expect("a watch");
    commit(&mut store, &of([put("a", "2")]));
    assert!(matches!(next(&mut watch), Event::Put(item) if item.value == b"2"));
    let last = commit(&mut store, &of([put("a", "3")]));
    assert!(matches!(next(&mut watch), Event::Put(item) if item.value == b"3"));
    cluster
        .ask(0, "kv/compaction", &compaction(last))
        .expect("compacted");
    let mut old = store.watch(first).expect("a watch");
    assert_eq!(next(&mut old), Event::Lost(LostReason::Compacted));
    // Also over a restart of the member, as it was told everything up to there.
    cluster.kill(0);
    cluster.start(0);
    cluster.wait_for_leader();
    let values = loop {
        match store.commit(&of([put("a", "4")])) {
            Ok(Outcome::Committed(_)) => break next(&mut watch),
            Ok(Outcome::Conflict) => panic!("nothing was compared"),
            Err(StoreError::Uncertain(_) | StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert!(matches!(values, Event::Put(item) if item.value == b"4"));
}

#[test]
fn what_is_compacted_behind_a_broken_connection_is_lost() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.wait_for_leader();
    let watched = (leader + 1) % 3;
    let mut watcher = cluster.store_at(&[watched], "home");
    let mut writer = cluster.store_at(&[leader], "home");
    let first = commit(&mut writer, &of([put("a", "1")]));
    let mut watch = watcher.watch(first).expect("a watch");
    commit(&mut writer, &of([put("a", "2")]));
    assert!(matches!(next(&mut watch), Event::Put(item) if item.value == b"2"));
    cluster.kill(watched);
    commit(&mut writer, &of([put("a", "3")]));
    let last = commit(&mut writer, &of([put("a", "4")]));
    cluster
        .ask(leader, "kv/compaction", &compaction(last))
        .expect("compacted");
    cluster.start(watched);
    assert_eq!(next(&mut watch), Event::Lost(LostReason::Compacted));
}
