//! The authority over the forwarding tables: what one worker learns, the others are told, and
//! what nobody reports any more is forgotten.
//!
//! Workers learn on their own and report. Two of them may learn the same address behind different
//! owners at the same moment; then the first report holds, and the other worker is set right.

use std::collections::BTreeMap;
use std::time::Duration;

use omni_control::message::{Command, FdbKey, Owner};
use omni_wire::Instant;

/// An address that was not reported for this long is forgotten: 802.1D's default ageing time.
pub const AGEING: Duration = Duration::from_secs(300);
/// The most addresses of the whole table; beyond it, new ones are not spread to other workers.
const ADDRESSES_MAX: usize = 128 * 1024;

/// How an address came into the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// From a frame's source; it ages.
    Learned,
    /// Set by the engine; it stays.
    Static,
}

/// An address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Behind whom it is.
    pub owner: Owner,
    /// How it came here.
    pub kind: Kind,
    /// When it was last reported.
    pub seen: Instant,
}

/// Who is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// Every worker.
    All,
    /// Every worker but this.
    AllBut(usize),
    /// This worker.
    Only(usize),
}

/// The table that the workers' copies follow.
#[derive(Debug, Default)]
pub struct Switch {
    entries: BTreeMap<FdbKey, Entry>,
}

impl Switch {
    /// A worker reports a source address. Says what the workers must be told.
    pub fn learned(
        &mut self,
        now: Instant,
        worker: usize,
        key: FdbKey,
        owner: Owner,
    ) -> Option<(Audience, Command)> {
        let full = self.entries.len() >= ADDRESSES_MAX;
        match self.entries.get_mut(&key) {
            Some(entry) if entry.owner == owner => {
                entry.seen = now;
                None
            }
            Some(entry) => {
                let owner = entry.owner;
                Some((Audience::Only(worker), Command::FdbInsert { key, owner }))
            }
            None if full => None,
            None => {
                self.entries.insert(
                    key,
                    Entry {
                        owner,
                        kind: Kind::Learned,
                        seen: now,
                    },
                );
                Some((Audience::AllBut(worker), Command::FdbInsert { key, owner }))
            }
        }
    }

    /// Sets an address that stays.
    pub fn insert_static(
        &mut self,
        now: Instant,
        key: FdbKey,
        owner: Owner,
    ) -> (Audience, Command) {
        self.entries.insert(
            key,
            Entry {
                owner,
                kind: Kind::Static,
                seen: now,
            },
        );
        (Audience::All, Command::FdbInsert { key, owner })
    }

    /// Forgets what is behind an owner who is gone. The workers do so by themselves.
    pub fn remove_owner(&mut self, owner: Owner) {
        self.entries.retain(|_, entry| entry.owner != owner);
    }

    /// Forgets what was not reported for [`AGEING`].
    pub fn expire(&mut self, now: Instant) -> Vec<(Audience, Command)> {
        let stale = |entry: &Entry| entry.kind == Kind::Learned && now.since(entry.seen) >= AGEING;
        let keys: Vec<FdbKey> = self
            .entries
            .iter()
            .filter(|(_, entry)| stale(entry))
            .map(|(&key, _)| key)
            .collect();
        keys.into_iter()
            .map(|key| {
                self.entries.remove(&key);
                (Audience::All, Command::FdbRemove { key })
            })
            .collect()
    }

    /// Every address, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&FdbKey, &Entry)> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use omni_control::message::{PeerId, PortId};
    use omni_wire::MacAddr;

    use super::*;

    const KEY: FdbKey = FdbKey {
        vlan: 7,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
    };
    const ALPHA: Owner = Owner::Peer(PeerId(0));
    const LOCAL: Owner = Owner::Local(PortId(0));

    #[test]
    fn the_first_report_holds_and_the_other_worker_is_set_right() {
        let mut switch = Switch::default();
        let told = switch.learned(Instant(1), 0, KEY, ALPHA);
        let insert = Command::FdbInsert {
            key: KEY,
            owner: ALPHA,
        };
        assert_eq!(
            format!("{told:?}"),
            format!("{:?}", Some((Audience::AllBut(0), insert.clone())))
        );
        let told = switch.learned(Instant(2), 1, KEY, LOCAL);
        assert_eq!(
            format!("{told:?}"),
            format!("{:?}", Some((Audience::Only(1), insert)))
        );
        assert!(switch.learned(Instant(3), 1, KEY, ALPHA).is_none());
    }

    #[test]
    fn unreported_addresses_age_out_and_static_ones_stay() {
        let mut switch = Switch::default();
        let stay = FdbKey { vlan: 0, ..KEY };
        switch.insert_static(Instant(0), stay, LOCAL);
        switch.learned(Instant(0), 0, KEY, ALPHA);
        assert!(
            switch
                .expire(Instant(0) + AGEING - Duration::from_nanos(1))
                .is_empty()
        );
        switch.learned(Instant(0) + AGEING / 2, 0, KEY, ALPHA);
        assert!(
            switch.expire(Instant(0) + AGEING).is_empty(),
            "it was reported again"
        );
        let told = switch.expire(Instant(0) + AGEING / 2 + AGEING);
        assert!(matches!(
            told[..],
            [(Audience::All, Command::FdbRemove { key: KEY })]
        ));
        assert_eq!(
            switch.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
            [stay]
        );
    }
}
