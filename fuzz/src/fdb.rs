//! A worker's forwarding table, operation by operation, against a list of who owns what.

use std::collections::BTreeMap;
use std::time::Duration;

use arbitrary::Unstructured;
use omni_control::message::{FdbKey, Owner, PeerId, PortId};
use omni_engine::datapath::fdb::Fdb;
use omni_engine::datapath::owned::{Admission, REPORT_INTERVAL};
use omni_wire::{DropReason, Instant, MacAddr};

/// Operations of one run.
const STEPS_MAX: usize = 300;
/// An owner may have so many addresses here; more than an input shows in a moment.
const LIMITS: [usize; 4] = [1, 2, 5, 1000];

/// What is known of an address.
#[derive(Clone, Copy, Debug)]
struct Known {
    owner: Owner,
    report_at: Instant,
}

/// Runs the target: a sequence of operations.
pub fn run(octets: &[u8]) {
    let mut choices = Unstructured::new(octets);
    let mut world = World {
        fdb: Fdb::default(),
        known: BTreeMap::new(),
        limits: BTreeMap::new(),
        now: Instant(1_000_000_000_000),
    };
    for _ in 0..STEPS_MAX {
        if choices.is_empty() || world.step(&mut choices).is_err() {
            return;
        }
        world.check();
    }
}

struct World {
    fdb: Fdb,
    known: BTreeMap<FdbKey, Known>,
    limits: BTreeMap<Owner, usize>,
    now: Instant,
}

fn key(choices: &mut Unstructured<'_>) -> arbitrary::Result<FdbKey> {
    let octet = choices.arbitrary::<u8>()?;
    Ok(FdbKey {
        vlan: u16::from(octet >> 6),
        mac: MacAddr([2, 0, 0, 0, 0, octet & 0x0f]),
    })
}

fn owner(choices: &mut Unstructured<'_>) -> arbitrary::Result<Owner> {
    Ok(match choices.arbitrary::<u8>()? % 5 {
        n @ 0..=2 => Owner::Peer(PeerId(n.into())),
        n => Owner::Local(PortId(n)),
    })
}

impl World {
    fn held(&self, owner: Owner) -> usize {
        self.known
            .values()
            .filter(|known| known.owner == owner)
            .count()
    }

    fn step(&mut self, choices: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        match choices.arbitrary::<u8>()? % 10 {
            0..=3 => {
                let (key, owner) = (key(choices)?, owner(choices)?);
                self.admit(key, owner);
            }
            4 => {
                let (key, owner) = (key(choices)?, owner(choices)?);
                self.fdb.insert(self.now, key, owner);
                let report_at = self.now + REPORT_INTERVAL;
                let known = self.known.entry(key).or_insert(Known { owner, report_at });
                if known.owner != owner {
                    *known = Known { owner, report_at };
                }
            }
            5 => {
                let key = key(choices)?;
                self.fdb.remove(key);
                self.known.remove(&key);
            }
            6 => {
                let owner = owner(choices)?;
                self.fdb.remove_owner(owner);
                self.known.retain(|_, known| known.owner != owner);
                self.limits.remove(&owner);
            }
            7 => {
                let owner = owner(choices)?;
                let limit = *choices.choose(&LIMITS)?;
                self.fdb.set_limit(owner, limit);
                self.limits.insert(owner, limit);
            }
            8 => {
                let key = key(choices)?;
                if choices.arbitrary()? {
                    self.fdb.unreport(key);
                    if let Some(known) = self.known.get_mut(&key) {
                        known.report_at = Instant(0);
                    }
                } else {
                    let is_due = self.fdb.contest(self.now, key);
                    assert!(self.known.contains_key(&key) || !is_due);
                    assert!(!self.fdb.contest(self.now, key), "once in a while");
                }
            }
            _ => {
                let seconds = choices.arbitrary::<u8>()?;
                self.now = self.now + Duration::from_secs(seconds.into());
            }
        }
        Ok(())
    }

    fn admit(&mut self, key: FdbKey, owner: Owner) {
        let before = self.known.get(&key).copied();
        let was_known = self.fdb.was_known(self.now, key, owner);
        let got = self.fdb.admit(self.now, key, owner);
        let report_at = self.now + REPORT_INTERVAL;
        match before {
            Some(known) if known.owner != owner => {
                assert_eq!(got, Err(DropReason::SourceMacNotOwned));
            }
            Some(known) if self.now < known.report_at => assert_eq!(got, Ok(Admission::Known)),
            Some(_) => {
                assert_eq!(got, Ok(Admission::Report));
                self.known.insert(key, Known { owner, report_at });
            }
            None if got == Err(DropReason::LearnRate) => {
                assert!(
                    self.limits.contains_key(&owner),
                    "so few are never too many"
                );
            }
            None => {
                assert_eq!(got, Ok(Admission::Report));
                self.make_room(owner);
                self.known.insert(key, Known { owner, report_at });
            }
        }
        assert!(!was_known || got == Ok(Admission::Known));
    }

    /// An owner that has as many as it may loses one of its own: which is the table's choice.
    fn make_room(&mut self, owner: Owner) {
        let is_full = self
            .limits
            .get(&owner)
            .is_some_and(|&limit| self.held(owner) >= limit);
        if !is_full {
            return;
        }
        let fdb = &self.fdb;
        let gone: Vec<FdbKey> = self
            .known
            .iter()
            .filter(|(key, known)| known.owner == owner && fdb.lookup(**key).is_none())
            .map(|(&key, _)| key)
            .collect();
        assert_eq!(gone.len(), 1, "one makes room for one");
        self.known.remove(&gone[0]);
    }

    fn check(&mut self) {
        assert_eq!(self.fdb.len(), self.known.len());
        for (&key, known) in &self.known {
            assert_eq!(self.fdb.lookup(key), Some(known.owner));
            assert_eq!(self.fdb.find(key), Some(known.owner));
        }
    }
}
