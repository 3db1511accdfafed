//! Stores that are made anew or restored under a running server.

use std::fs;
use std::path::Path;

use omni_store::{Event, LostReason, Outcome, Store, StoreError};
use serde_json::json;

use super::cluster::Cluster;
use super::conformance::{commit, next, of, put};

/// What base64 makes of the key of the incarnation of the fabric `home`.
const INCARNATION: &str = "L29tbmkvaG9tZS9tZXRhL2luY2FybmF0aW9u";

#[test]
fn without_its_incarnation_a_store_is_another_one() {
    let cluster = Cluster::new(1);
    let mut store = cluster.store("home");
    let last = commit(&mut store, &of([put("a", "1")]));
    let before = store.snapshot().expect("a cluster that works");
    let mut watch = store.watch(last).expect("a watch");
    let request = json!({ "key": INCARNATION });
    let deleted = cluster
        .ask(0, "kv/deleterange", &request)
        .expect("an answer");
    assert_eq!(deleted["deleted"], "1");
    assert_eq!(next(&mut watch), Event::Lost(LostReason::Replaced));
    for _ in 0..2 {
        let refused = store.commit(&of([put("a", "2")]));
        assert_eq!(refused, Err(StoreError::Replaced));
    }
    let after = store.snapshot().expect("a cluster that works");
    assert_ne!(after.incarnation, before.incarnation);
    assert_eq!(after.items, before.items);
    commit(&mut store, &of([put("a", "2")]));
}

#[test]
fn a_cluster_that_lost_its_data_is_another_store() {
    let mut cluster = Cluster::new(1);
    let mut store = cluster.store("home");
    let last = commit(&mut store, &of([put("a", "1")]));
    let before = store.snapshot().expect("a cluster that works");
    let mut watch = store.watch(last).expect("a watch");
    cluster.kill(0);
    fs::remove_dir_all(cluster.data(0)).expect("removed");
    cluster.start(0);
    cluster.wait_for_leader();
    let mut event = next(&mut watch);
    // The lease is lost with the data. Which is noticed first depends on who asks first.
    if event == Event::LeaseLost {
        event = next(&mut watch);
    }
    assert_eq!(event, Event::Lost(LostReason::Replaced));
    let refused = store.commit(&of([put("a", "2")]));
    assert_eq!(refused, Err(StoreError::Replaced));
    let after = store.snapshot().expect("a cluster that works");
    assert_ne!(after.incarnation, before.incarnation);
    assert!(after.items.is_empty());
}

#[test]
fn a_server_notices_that_revisions_went_back() {
    let mut cluster = Cluster::new(1);
    let mut store = cluster.store("home");
    commit(&mut store, &of([put("a", "1")]));
    let before = store.snapshot().expect("a cluster that works");
    cluster.kill(0);
    let saved = cluster.data(0).with_extension("saved");
    copy(&cluster.data(0), &saved);
    cluster.start(0);
    cluster.wait_for_leader();
    let mut last = before.revision;
    for _ in 0..20 {
        // The first may go to a connection that the restart closed.
        if let Ok(Outcome::Committed(revision)) = store.commit(&of([put("a", "2")])) {
            last = revision;
        }
    }
    assert!(last > before.revision);
    let mut watch = store.watch(last).expect("a watch");
    cluster.kill(0);
    fs::remove_dir_all(cluster.data(0)).expect("removed");
    fs::rename(&saved, cluster.data(0)).expect("restored");
    cluster.start(0);
    cluster.wait_for_leader();
    assert_eq!(next(&mut watch), Event::Lost(LostReason::Replaced));
    let after = store.snapshot().expect("a cluster that works");
    assert_ne!(after.incarnation, before.incarnation);
    assert_eq!(after.items, before.items);
    // Another server that knew the old life notices by the incarnation.
    let again = cluster
        .store("home")
        .snapshot()
        .expect("a cluster that works");
    assert_eq!(again.incarnation, after.incarnation);
    commit(&mut store, &of([put("a", "3")]));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}
