//! The list: what the store holds, read, with an index by revision.
//!
//! Nodes are told what is in the index behind the place where they are. What changes twice before
//! a node asks is told once, and a node that does not ask costs nothing.

use core::ops::Bound::{Excluded, Included, Unbounded};
use std::collections::{BTreeMap, BTreeSet};

use omni_membership::{Binding, PublicKey, Registration, Revocation, Revocations, Signed, Trust};
use omni_store::{Item, Revision, Snapshot};

use super::key::{FABRIC, Key};

/// What an item says.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    /// Of a node, by itself.
    Member(Registration),
    /// Of an address, by its owner.
    Binding(Binding),
    /// Of a node's certificates, by the authority.
    Revocation(Signed<Revocation>),
    /// Of a node, by a server.
    Live,
}

impl Record {
    /// The last second that it is to be believed in, where it has one.
    fn expires(&self) -> Option<u64> {
        match self {
            Self::Member(registration) => Some(registration.expires),
            Self::Binding(binding) => Some(binding.expires),
            Self::Revocation(_) | Self::Live => None,
        }
    }
}

/// An item with what it says.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Of its last change. A compare is with this.
    pub(crate) revision: Revision,
    /// As it is stored, and told.
    pub(crate) octets: Vec<u8>,
    pub(crate) record: Record,
}

/// A place in the list: everything up to it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    revision: Revision,
    /// The last one told of the changes of that revision; `None`: all of them were.
    key: Option<Key>,
}

impl Place {
    /// Behind all changes of a revision.
    pub(crate) const fn after(revision: Revision) -> Self {
        Self {
            revision,
            key: None,
        }
    }

    /// Behind all changes up to a revision. Who is ahead of it stays so.
    pub(crate) fn at_least(self, revision: Revision) -> Self {
        match self.revision <= revision {
            true => Self::after(revision),
            false => self,
        }
    }
}

/// Everything that is stored, as far as it is known.
#[derive(Debug)]
pub(crate) struct List {
    incarnation: [u8; 16],
    /// Everything up to here is known.
    revision: Revision,
    entries: BTreeMap<Key, Entry>,
    /// Of all entries that nodes are told.
    by_revision: BTreeSet<(Revision, Key)>,
    by_expiry: BTreeSet<(u64, Key)>,
    /// How many addresses each node holds: those that it did not withdraw.
    held: BTreeMap<PublicKey, u32>,
    revocations: Revocations,
    /// Whether it says which fabric it is of.
    is_named: bool,
    /// Items that are no records.
    garbage: u64,
}

impl List {
    pub(crate) fn new() -> Self {
        Self {
            incarnation: [0; 16],
            revision: Revision(0),
            entries: BTreeMap::new(),
            by_revision: BTreeSet::new(),
            by_expiry: BTreeSet::new(),
            held: BTreeMap::new(),
            revocations: Revocations::new(),
            is_named: false,
            garbage: 0,
        }
    }

    /// The list that a snapshot is.
    pub(crate) fn read(snapshot: Snapshot, trust: &Trust) -> Self {
        let mut list = Self {
            incarnation: snapshot.incarnation,
            revision: snapshot.revision,
            ..Self::new()
        };
        for item in snapshot.items {
            list.put(item, trust);
        }
        list.revision = snapshot.revision;
        list
    }

    pub(crate) const fn incarnation(&self) -> [u8; 16] {
        self.incarnation
    }

    pub(crate) const fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    pub(crate) const fn is_named(&self) -> bool {
        self.is_named
    }

    pub(crate) const fn garbage(&self) -> u64 {
        self.garbage
    }

    /// All changes up to here are known.
    pub(crate) fn progress(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Takes an item in, and says what it is. `None` for one that is no record, or an older one
    /// than is known.
    pub(crate) fn put(&mut self, item: Item, trust: &Trust) -> Option<Key> {
        if item.key == FABRIC {
            self.is_named = true;
            return None;
        }
        let Some((key, record)) = read(&item, trust) else {
            self.garbage += 1;
            return None;
        };
        if self
            .entries
            .get(&key)
            .is_some_and(|entry| entry.revision > item.modified)
        {
            return None;
        }
        self.take(&key);
        let entry = Entry {
            revision: item.modified,
            octets: item.value,
            record,
        };
        self.index(key, &entry);
        self.entries.insert(key, entry);
        Some(key)
    }

    /// Forgets an item that was deleted at a revision, and says what it was.
    pub(crate) fn delete(&mut self, key: &[u8], revision: Revision) -> Option<Key> {
        let key = Key::read(key)?;
        let entry = self.entries.get(&key)?;
        if entry.revision > revision {
            return None;
        }
        self.take(&key);
        Some(key)
    }

    fn index(&mut self, key: Key, entry: &Entry) {
        if !matches!(entry.record, Record::Live) {
            self.by_revision.insert((entry.revision, key));
        }
        if let Some(expires) = entry.record.expires() {
            self.by_expiry.insert((expires, key));
        }
        if let Some(owner) = holder(&entry.record) {
            *self.held.entry(owner).or_default() += 1;
        }
        if let Record::Revocation(revocation) = &entry.record
            && self.revocations.insert(revocation.clone()).is_err()
        {
            self.garbage += 1;
        }
    }

    /// Takes an entry out, and out of every index.
    fn take(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else {
            return;
        };
        self.by_revision.remove(&(entry.revision, *key));
        if let Some(expires) = entry.record.expires() {
            self.by_expiry.remove(&(expires, *key));
        }
        if let Some(owner) = holder(&entry.record)
            && let Some(count) = self.held.get_mut(&owner)
        {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&owner);
            }
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All entries, in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// How many records there are: members, addresses, revocations.
    pub(crate) fn len(&self) -> usize {
        self.by_revision.len()
    }

    /// The registration of a node.
    pub(crate) fn member(&self, node: &PublicKey) -> Option<(&Entry, &Registration)> {
        let entry = self.entries.get(&Key::Member(*node))?;
        match &entry.record {
            Record::Member(registration) => Some((entry, registration)),
            _ => None,
        }
    }

    /// How many addresses a node holds.
    pub(crate) fn held(&self, node: &PublicKey) -> u32 {
        self.held.get(node).copied().unwrap_or(0)
    }

    /// The servers that a node is connected to, as far as they say so.
    pub(crate) fn servers(&self, node: &PublicKey) -> impl Iterator<Item = PublicKey> + '_ {
        let first = Key::Live(*node, PublicKey([0; 32]));
        let last = Key::Live(*node, PublicKey([0xff; 32]));
        let range = self.entries.range((Included(first), Included(last)));
        range.filter_map(|(key, _)| match key {
            Key::Live(_, server) => Some(*server),
            _ => None,
        })
    }

    /// The first `limit` records that expired before a second since 1970.
    pub(crate) fn expired(
        &self,
        before: u64,
        limit: usize,
    ) -> impl Iterator<Item = (Key, Revision)> + '_ {
        let expired = self
            .by_expiry
            .iter()
            .take_while(move |(expires, _)| *expires < before);
        expired.take(limit).filter_map(|(_, key)| {
            let entry = self.entries.get(key)?;
            Some((*key, entry.revision))
        })
    }

    /// What nodes are told behind a place, in order, with the place behind each.
    pub(crate) fn after(&self, place: Place) -> impl Iterator<Item = (Place, Key, &Entry)> {
        let from = match place.key {
            Some(key) => Excluded((place.revision, key)),
            None => Included((Revision(place.revision.0.saturating_add(1)), FIRST)),
        };
        let range = self.by_revision.range((from, Unbounded));
        let known = range.take_while(|(revision, _)| *revision <= self.revision);
        known.filter_map(|&(revision, key)| {
            let entry = self.entries.get(&key)?;
            let place = Place {
                revision,
                key: Some(key),
            };
            Some((place, key, entry))
        })
    }

    /// Up to which revision everything was told to who is at a place.
    pub(crate) fn told_at(place: Place) -> Revision {
        match place.key {
            Some(_) => Revision(place.revision.0.saturating_sub(1)),
            None => place.revision,
        }
    }
}

/// The first of all keys.
const FIRST: Key = Key::Member(PublicKey([0; 32]));

/// The node that holds what a record is about.
fn holder(record: &Record) -> Option<PublicKey> {
    match record {
        Record::Binding(binding) if !binding.withdrawn => Some(binding.public_key),
        _ => None,
    }
}

/// Reads an item. Signatures of nodes were verified before it was stored, and nodes verify them
/// again. Those of the authority are verified here: they decide over members.
fn read(item: &Item, trust: &Trust) -> Option<(Key, Record)> {
    let key = Key::read(&item.key)?;
    let record = match key {
        Key::Member(node) => {
            let registration = Registration::unverified(&item.value).ok()?;
            (registration.public_key == node).then_some(Record::Member(registration))?
        }
        Key::Ip(..) | Key::Mac(..) => {
            let binding = Binding::unverified(&item.value).ok()?;
            (Key::of(&binding) == key).then_some(Record::Binding(binding))?
        }
        Key::Revoked(node) => {
            let authority = trust.authority.as_ref()?;
            let revocation = Revocation::verify(&item.value, &trust.fabric, authority).ok()?;
            (revocation.public_key == node).then_some(Record::Revocation(revocation))?
        }
        Key::Live(..) => Record::Live,
    };
    Some((key, record))
}
