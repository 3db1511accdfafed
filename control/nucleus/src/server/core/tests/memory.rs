//! A store in memory that several cores share, with a log of all commits, and faults on demand.

use std::collections::BTreeMap;

use omni_store::{Change, Event, Item, Outcome, Revision, Snapshot, StoreError, Transaction};

/// What goes wrong with the next commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Unavailable,
    /// It happens, and nobody is told.
    UncertainDone,
    /// It does not happen, and nobody is told.
    UncertainNot,
}

/// A store.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) incarnation: [u8; 16],
    pub(super) revision: u64,
    pub(super) items: BTreeMap<Vec<u8>, Item>,
    /// All that happened, in order.
    pub(super) log: Vec<Event>,
    pub(super) fault: Option<Fault>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            incarnation: [7; 16],
            revision: 0,
            items: BTreeMap::new(),
            log: Vec::new(),
            fault: None,
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            incarnation: self.incarnation,
            revision: Revision(self.revision),
            items: self.items.values().cloned().collect(),
        }
    }

    pub(super) fn commit(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        transaction.check()?;
        let fault = self.fault.take();
        let uncertain = || StoreError::Uncertain("in a test".into());
        match fault {
            Some(Fault::Unavailable) => return Err(StoreError::Unavailable("in a test".into())),
            Some(Fault::UncertainNot) => return Err(uncertain()),
            Some(Fault::UncertainDone) | None => {}
        }
        let holds = transaction.compares.iter().all(|compare| {
            let found = self.items.get(&compare.key).map(|item| item.modified);
            found == compare.expected
        });
        if !holds {
            return Ok(Outcome::Conflict);
        }
        self.revision += 1;
        let revision = Revision(self.revision);
        for change in &transaction.changes {
            self.apply(change, revision);
        }
        self.log.push(Event::Progress(revision));
        match fault {
            None => Ok(Outcome::Committed(revision)),
            Some(_) => Err(uncertain()),
        }
    }

    fn apply(&mut self, change: &Change, revision: Revision) {
        match change.clone() {
            Change::Put {
                key,
                value,
                ephemeral,
            } => {
                let item = Item {
                    key: key.clone(),
                    value,
                    modified: revision,
                    ephemeral,
                };
                self.items.insert(key, item.clone());
                self.log.push(Event::Put(item));
            }
            Change::Delete { key } => {
                if self.items.remove(&key).is_some() {
                    self.log.push(Event::Deleted {
                        key,
                        revision,
                        expired: false,
                    });
                }
            }
        }
    }

    /// What a record is stored as.
    pub(super) fn value(&self, key: &str) -> Option<&[u8]> {
        self.items
            .get(key.as_bytes())
            .map(|item| item.value.as_slice())
    }
}
