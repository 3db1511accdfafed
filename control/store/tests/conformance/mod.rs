//! What every store keeps to. The same tests run on all of them.

pub(crate) mod model;

use std::time::Duration;

use omni_store::{
    Change, Compare, Event, LostReason, MAX_CHANGES, MAX_KEY, MAX_TRANSACTION, MAX_VALUE, Outcome,
    Revision, Store, StoreError, Transaction, Watch,
};
use proptest::test_runner::{Config, TestRunner};

use self::model::Model;

/// Longer than any healthy store takes to tell a change.
const SOON: Duration = Duration::from_secs(10);

/// Runs everything. `make` gives an empty store each time.
pub(crate) fn conformance<S: Store>(make: impl Fn() -> S, cases: u32) {
    agrees_with_a_model(&make, cases);
    commits_are_told_in_order_and_once(&mut make());
    compares_decide_alone(&mut make());
    a_conflict_changes_nothing(&mut make());
    a_put_decides_anew_whether_an_item_lasts(&mut make());
    bounds_hold(&mut make());
    the_future_cannot_be_watched(&mut make());
    closing_ends_a_watch(make());
    stores_have_incarnations_of_their_own(&mut make(), &mut make());
}

pub(crate) fn put(key: &str, value: &str) -> Change {
    Change::Put {
        key: key.into(),
        value: value.into(),
        ephemeral: false,
    }
}

pub(crate) fn put_ephemeral(key: &str, value: &str) -> Change {
    Change::Put {
        key: key.into(),
        value: value.into(),
        ephemeral: true,
    }
}

pub(crate) fn delete(key: &str) -> Change {
    Change::Delete { key: key.into() }
}

pub(crate) fn expect(key: &str, expected: Option<Revision>) -> Compare {
    Compare {
        key: key.into(),
        expected,
    }
}

pub(crate) fn of<const N: usize>(changes: [Change; N]) -> Transaction {
    Transaction {
        compares: Vec::new(),
        changes: changes.into(),
    }
}

/// Commits what must not conflict.
pub(crate) fn commit(store: &mut impl Store, transaction: &Transaction) -> Revision {
    match store.commit(transaction).expect("a store that works") {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict => panic!("{transaction:?} conflicts"),
    }
}

/// The next event that is not about the watch itself.
pub(crate) fn next(watch: &mut Watch) -> Event {
    loop {
        match watch.next(SOON).expect("an event soon") {
            Event::Progress(_) => {}
            event => return event,
        }
    }
}

fn agrees_with_a_model<S: Store>(make: &impl Fn() -> S, cases: u32) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let run = TestRunner::new(config).run(&model::steps(), |steps| {
        let mut store = make();
        let start = store.snapshot().expect("a store that works");
        assert!(start.items.is_empty(), "a store of its own each time");
        let mut live = store.watch(start.revision).expect("a watch");
        let mut model = Model::new(start.revision);
        for step in &steps {
            model.commit(&mut store, step);
        }
        model.check_snapshot(&mut store);
        model.check_watch(&mut live);
        // A watch that begins late tells the same.
        let mut late = store.watch(start.revision).expect("a watch");
        model.check_watch(&mut late);
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}

fn commits_are_told_in_order_and_once(store: &mut impl Store) {
    let start = store.snapshot().expect("a store that works").revision;
    let mut watch = store.watch(start).expect("a watch");
    let revisions: Vec<_> = (0..100)
        .map(|i| commit(store, &of([put("a", &i.to_string()), put("b", "b")])))
        .collect();
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    for (i, revision) in revisions.iter().enumerate() {
        for (key, value) in [("a", i.to_string()), ("b", "b".into())] {
            let Event::Put(item) = next(&mut watch) else {
                panic!("only puts were committed");
            };
            assert_eq!(item.modified, *revision);
            assert_eq!(item.key, key.as_bytes());
            assert_eq!(item.value, value.as_bytes());
        }
    }
    // From the middle on, too.
    let mut watch = store.watch(revisions[49]).expect("a watch");
    let Event::Put(item) = next(&mut watch) else {
        panic!("only puts were committed");
    };
    assert_eq!(item.modified, revisions[50]);
}

fn compares_decide_alone(store: &mut impl Store) {
    let claim = |expected, value| Transaction {
        compares: vec![expect("claim", expected)],
        changes: vec![put("claim", value)],
    };
    let first = commit(store, &claim(None, "one"));
    assert_eq!(store.commit(&claim(None, "two")), Ok(Outcome::Conflict));
    let second = commit(store, &claim(Some(first), "three"));
    let stale = store.commit(&claim(Some(first), "four"));
    assert_eq!(stale, Ok(Outcome::Conflict));
    commit(store, &of([delete("claim")]));
    let gone = store.commit(&claim(Some(second), "five"));
    assert_eq!(gone, Ok(Outcome::Conflict));
    // A compare without a change of that key, and a transaction of compares alone.
    let only = |expected| Transaction {
        compares: vec![expect("claim", expected)],
        changes: Vec::new(),
    };
    assert_eq!(store.commit(&only(Some(second))), Ok(Outcome::Conflict));
    commit(store, &only(None));
}

fn a_conflict_changes_nothing(store: &mut impl Store) {
    commit(store, &of([put("a", "1"), put_ephemeral("b", "1")]));
    let before = store.snapshot().expect("a store that works");
    let mut watch = store.watch(before.revision).expect("a watch");
    let torn = Transaction {
        compares: vec![expect("c", None), expect("a", None)],
        changes: vec![put("a", "2"), delete("b"), put_ephemeral("c", "2")],
    };
    assert_eq!(store.commit(&torn), Ok(Outcome::Conflict));
    let after = store.snapshot().expect("a store that works");
    assert_eq!(before.items, after.items);
    let last = commit(store, &of([put("d", "1")]));
    let Event::Put(item) = next(&mut watch) else {
        panic!("nothing else happened");
    };
    assert_eq!(
        (item.key.as_slice(), item.modified),
        (b"d".as_slice(), last)
    );
}

fn a_put_decides_anew_whether_an_item_lasts(store: &mut impl Store) {
    let start = store.snapshot().expect("a store that works").revision;
    let mut watch = store.watch(start).expect("a watch");
    for (change, ephemeral) in [
        (put_ephemeral("live", "1"), true),
        (put("live", "2"), false),
        (put_ephemeral("live", "3"), true),
    ] {
        let revision = commit(store, &of([change]));
        let items = store.snapshot().expect("a store that works").items;
        assert_eq!(items.len(), 1);
        assert_eq!(
            (items[0].ephemeral, items[0].modified),
            (ephemeral, revision)
        );
        assert_eq!(next(&mut watch), Event::Put(items[0].clone()));
    }
    let revision = commit(store, &of([delete("live")]));
    let deleted = Event::Deleted {
        key: b"live".to_vec(),
        revision,
        expired: false,
    };
    assert_eq!(next(&mut watch), deleted, "deleted on purpose, not expired");
    assert!(
        store
            .snapshot()
            .expect("a store that works")
            .items
            .is_empty()
    );
}

fn bounds_hold(store: &mut impl Store) {
    let big = |key: Vec<u8>, len| Change::Put {
        key,
        value: vec![0xff; len],
        ephemeral: false,
    };
    // The greatest of everything at once: 16 values of 64 KiB less the keys.
    let key = |number: u8| [vec![number], vec![0; MAX_KEY - 1]].concat();
    let room = MAX_TRANSACTION - MAX_CHANGES * MAX_KEY;
    let mut left = room;
    let full: Vec<_> = (0..MAX_CHANGES as u8)
        .map(|number| {
            let len = left.min(MAX_VALUE);
            left -= len;
            big(key(number), len)
        })
        .collect();
    let full = Transaction {
        compares: Vec::new(),
        changes: full,
    };
    let revision = commit(store, &full);
    let items = store.snapshot().expect("a store that works").items;
    assert_eq!(items.len(), MAX_CHANGES);
    assert_eq!(
        items.iter().map(|item| item.value.len()).sum::<usize>(),
        room
    );
    assert!(items.iter().all(|item| item.modified == revision));

    let mut beyond = full.clone();
    beyond.changes.push(put("one more", ""));
    for transaction in [
        beyond,
        of([big(vec![0; MAX_KEY + 1], 0)]),
        of([big(vec![0], MAX_VALUE + 1)]),
    ] {
        let refused = store.commit(&transaction);
        assert!(
            matches!(refused, Err(StoreError::TooLarge { .. })),
            "{refused:?}"
        );
    }
    for transaction in [of([put("", "")]), of([put("a", ""), delete("a")])] {
        let refused = store.commit(&transaction);
        assert!(
            matches!(refused, Err(StoreError::Invalid(_))),
            "{refused:?}"
        );
    }
    assert_eq!(store.snapshot().expect("a store that works").items, items);
}

fn the_future_cannot_be_watched(store: &mut impl Store) {
    let now = store.snapshot().expect("a store that works").revision;
    let mut watch = store.watch(Revision(now.0 + 1_000_000)).expect("a watch");
    assert_eq!(next(&mut watch), Event::Lost(LostReason::Replaced));
}

fn closing_ends_a_watch(mut store: impl Store) {
    let now = store.snapshot().expect("a store that works").revision;
    let mut watch = store.watch(now).expect("a watch");
    drop(store);
    assert_eq!(next(&mut watch), Event::Lost(LostReason::Closed));
}

fn stores_have_incarnations_of_their_own(one: &mut impl Store, other: &mut impl Store) {
    let incarnation = one.snapshot().expect("a store that works").incarnation;
    let again = one.snapshot().expect("a store that works").incarnation;
    let others = other.snapshot().expect("a store that works").incarnation;
    assert_eq!(incarnation, again);
    assert_ne!(incarnation, others);
}
