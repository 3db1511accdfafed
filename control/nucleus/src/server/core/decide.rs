//! Decisions over requests: what is known against what is wanted.

use omni_membership::Binding;
use omni_wire::Now;

use super::key::Key;
use super::list::{Entry, Record};
use super::requests::{Batch, Put, Request, Wanted};
use super::{Core, seconds};
use crate::protocol::Refused;

/// What is to be done about a request.
pub(super) enum Decision {
    /// To tell its node; [`Refused::No`]: it is as it is wanted already.
    Answer(Refused, String),
    /// To put its record where this still is so.
    Put(Put),
}

use Decision::Answer;

impl Decision {
    fn done() -> Self {
        Answer(Refused::No, String::new())
    }
}

impl Core {
    /// Decides over a request on what the list says now. What is decided holds only for a commit
    /// that compares with the same.
    pub(super) fn decide(&self, request: &Request, batch: &Batch, now: Now) -> Decision {
        let entry = self.list.get(&request.key);
        if entry.is_some_and(|entry| entry.octets == request.octets) {
            return Decision::done();
        }
        match &request.wanted {
            Wanted::Register { sequence } => decide_registration(entry, *sequence),
            Wanted::Revoke { serial } => decide_revocation(entry, *serial),
            Wanted::Bind(binding) => self.decide_binding(entry, binding, batch, now),
        }
    }

    pub(super) fn decide_binding(
        &self,
        entry: Option<&Entry>,
        wanted: &Binding,
        batch: &Batch,
        now: Now,
    ) -> Decision {
        let held = match entry.map(|entry| &entry.record) {
            Some(Record::Binding(held)) => Some(held),
            _ => None,
        };
        let Some(held) = held else {
            return match wanted.withdrawn {
                true => Decision::done(),
                false => self.put_binding(entry, None, wanted, batch),
            };
        };
        let is_own = held.public_key == wanted.public_key;
        if !is_own && (wanted.withdrawn || !self.is_free(held, wanted, now)) {
            let key = Key::of(held);
            let owner = held.public_key;
            return Answer(Refused::Held, format!("{key} is held by {owner}"));
        }
        // Nodes go by the greater sequence, whoever has it.
        let is_past = held.expires < seconds(now) && !is_own;
        let (old, new) = (held.sequence, wanted.sequence);
        if new <= old && !is_past {
            return older(old, new);
        }
        self.put_binding(entry, Some(held), wanted, batch)
    }

    /// Whether an address that somebody has may go to who wants it.
    fn is_free(&self, held: &Binding, wanted: &Binding, now: Now) -> bool {
        let owner = &held.public_key;
        let is_there = self.by_key.contains_key(owner) || self.is_elsewhere(owner);
        held.withdrawn
            || held.expires < seconds(now)
            || held.release_to == Some(wanted.public_key)
            || (!is_there && self.presence.is_gone(owner, now.instant))
    }

    fn put_binding(
        &self,
        entry: Option<&Entry>,
        held: Option<&Binding>,
        wanted: &Binding,
        batch: &Batch,
    ) -> Decision {
        let owner = wanted.public_key;
        let held = held
            .filter(|held| !held.withdrawn)
            .map(|held| held.public_key);
        let is_more = !wanted.withdrawn && held != Some(owner);
        if is_more {
            let known = self.list.held(&owner) + self.requests.settling_of(&owner);
            let limit = self.config.limits.bindings;
            if known + batch.more_of(&owner) >= limit {
                return Answer(Refused::Limit, format!("a node may hold {limit} addresses"));
            }
        }
        Decision::Put(Put {
            expected: entry.map(|entry| entry.revision),
            more: is_more.then_some(owner),
            moved: held.is_some_and(|held| held != owner),
        })
    }
}

fn put(entry: Option<&Entry>) -> Decision {
    Decision::Put(Put {
        expected: entry.map(|entry| entry.revision),
        more: None,
        moved: false,
    })
}

fn decide_registration(entry: Option<&Entry>, sequence: u64) -> Decision {
    match entry.map(|entry| &entry.record) {
        Some(Record::Member(known)) if sequence <= known.sequence => {
            older(known.sequence, sequence)
        }
        _ => put(entry),
    }
}

fn decide_revocation(entry: Option<&Entry>, serial: u64) -> Decision {
    match entry.map(|entry| &entry.record) {
        Some(Record::Revocation(known)) if serial <= known.serial => Decision::done(),
        _ => put(entry),
    }
}

fn older(known: u64, wanted: u64) -> Decision {
    let why = format!("its sequence is {wanted}, and {known} is known");
    Answer(Refused::Older, why)
}
