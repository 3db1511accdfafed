//! A store as simple as can be: a map, and a list of what happened.

use std::collections::BTreeMap;

use omni_store::{Change, Compare, Event, Item, Outcome, Revision, Store, Transaction, Watch};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::next;

/// Few enough to meet often; a prefix of another, and octets that are no text, among them.
const KEYS: [&[u8]; 6] = [b"a", b"a/", b"a/b", b"b", &[0], &[0xff, 0x00, 0xff]];

/// A transaction in terms of the state that it finds.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    compares: Vec<(usize, Guess)>,
    changes: Vec<(usize, Doing)>,
}

/// What a compare expects.
#[derive(Clone, Copy, Debug)]
enum Guess {
    Right,
    Absent,
    Stale,
}

#[derive(Clone, Debug)]
enum Doing {
    Put(Vec<u8>, bool),
    Delete,
}

/// Sequences of transactions, most of which hold.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guess = prop_oneof![
        8 => Just(Guess::Right),
        1 => Just(Guess::Absent),
        1 => Just(Guess::Stale),
    ];
    let doing = prop_oneof![
        3 => (vec(any::<u8>(), 0..40), any::<bool>()).prop_map(|(value, lasts)| {
            Doing::Put(value, !lasts)
        }),
        1 => Just(Doing::Delete),
    ];
    let changes = btree_set(0..KEYS.len(), 0..4).prop_flat_map(move |keys| {
        let keys: Vec<_> = keys.into_iter().collect();
        vec(doing.clone(), keys.len())
            .prop_map(move |doings| keys.iter().copied().zip(doings).collect())
            // The order of the changes is that of the events.
            .prop_shuffle()
    });
    let step = (vec((0..KEYS.len(), guess), 0..3), changes)
        .prop_map(|(compares, changes)| Step { compares, changes });
    vec(step, 0..30)
}

pub(crate) struct Model {
    items: BTreeMap<Vec<u8>, Item>,
    happened: Vec<Event>,
    revision: Revision,
    first: Revision,
}

impl Model {
    pub(crate) fn new(revision: Revision) -> Self {
        Self {
            items: BTreeMap::new(),
            happened: Vec::new(),
            revision,
            first: revision,
        }
    }

    /// Carries out a step on both, which must agree on what comes of it.
    pub(crate) fn commit(&mut self, store: &mut impl Store, step: &Step) {
        let transaction = self.transaction(step);
        let holds = |compare: &Compare| {
            let found = self.items.get(&compare.key).map(|item| item.modified);
            found == compare.expected
        };
        let all_hold = transaction.compares.iter().all(holds);
        let outcome = store.commit(&transaction).expect("a store that works");
        let Outcome::Committed(revision) = outcome else {
            assert!(!all_hold, "{transaction:?} conflicts with {:?}", self.items);
            return;
        };
        assert!(all_hold, "{transaction:?} agrees with {:?}", self.items);
        assert!(revision >= self.revision, "revisions never fall");
        let before = self.happened.len();
        for change in transaction.changes {
            self.apply(change, revision);
        }
        let changed = self.happened.len() > before;
        assert!(!changed || revision > self.revision, "a change has its own");
        self.revision = revision;
    }

    fn transaction(&self, step: &Step) -> Transaction {
        let compares = step.compares.iter().map(|&(key, guess)| Compare {
            key: KEYS[key].to_vec(),
            expected: match guess {
                Guess::Right => self.items.get(KEYS[key]).map(|item| item.modified),
                Guess::Absent => None,
                Guess::Stale => Some(self.first),
            },
        });
        let changes = step.changes.iter().map(|(key, doing)| {
            let key = KEYS[*key].to_vec();
            match doing.clone() {
                Doing::Put(value, ephemeral) => Change::Put {
                    key,
                    value,
                    ephemeral,
                },
                Doing::Delete => Change::Delete { key },
            }
        });
        Transaction {
            compares: compares.collect(),
            changes: changes.collect(),
        }
    }

    fn apply(&mut self, change: Change, modified: Revision) {
        match change {
            Change::Put {
                key,
                value,
                ephemeral,
            } => {
                let item = Item {
                    key: key.clone(),
                    value,
                    modified,
                    ephemeral,
                };
                self.happened.push(Event::Put(item.clone()));
                self.items.insert(key, item);
            }
            Change::Delete { key } => {
                if self.items.remove(&key).is_some() {
                    self.happened.push(Event::Deleted {
                        key,
                        revision: modified,
                        expired: false,
                    });
                }
            }
        }
    }

    pub(crate) fn check_snapshot(&self, store: &mut impl Store) {
        let snapshot = store.snapshot().expect("a store that works");
        assert!(snapshot.items.iter().eq(self.items.values()));
        assert!(snapshot.revision >= self.revision);
    }

    /// The watch tells exactly what happened, in that order.
    pub(crate) fn check_watch(&self, watch: &mut Watch) {
        for expected in &self.happened {
            assert_eq!(&next(watch), expected);
        }
    }
}
