//! IP addresses of local hosts that somebody else says to have: the host is asked whether it still
//! has it, and keeps it if it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use omni_control::message::{Command, FdbKey, Owner};
use omni_wire::Instant;

use super::Switch;
use super::bindings::BindKey;
use super::contests::{Asking, PATIENCE};
use super::deadlines::Deadlines;
use super::moves::REPORTED_AGAIN;
use super::types::Audience;

/// The most disputes.
pub(super) const DISPUTES_TOTAL: usize = 4096;

/// A dispute.
#[derive(Debug)]
struct Dispute {
    rival: Owner,
    holder: FdbKey,
    asking: Asking,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Disputes {
    open: BTreeMap<BindKey, Dispute>,
    by_holder: BTreeSet<(FdbKey, IpAddr)>,
    due: Deadlines<BindKey>,
}

impl Disputes {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.due.next()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn remove(&mut self, key: BindKey) -> Option<Dispute> {
        let dispute = self.open.remove(&key)?;
        self.due.remove(&key);
        self.by_holder.remove(&(dispute.holder, key.1));
        Some(dispute)
    }

    fn of_holder(&self, holder: FdbKey) -> Vec<BindKey> {
        let first = (holder, IpAddr::from([0; 4]));
        let from = self.by_holder.range(first..);
        let of_holder = from.take_while(|(other, _)| *other == holder);
        of_holder.map(|&(key, ip)| (key.vlan, ip)).collect()
    }

    /// What somebody has open.
    pub(super) fn of(&self, rival: Owner) -> Vec<BindKey> {
        let of_rival = self.open.iter().filter(|(_, d)| d.rival == rival);
        of_rival.map(|(&key, _)| key).collect()
    }
}

impl Switch {
    /// Somebody wants an IP address that a local host has.
    pub(super) fn open_dispute(&mut self, now: Instant, key: BindKey, rival: Owner) {
        let Some(held) = self.bindings.get(key) else {
            return;
        };
        let mac = held.word.mac;
        if self.disputes.open.contains_key(&key)
            || self.disputes.open.len() >= DISPUTES_TOTAL
            || !self.accounts.open(now, rival)
        {
            return;
        }
        let holder = FdbKey { vlan: key.0, mac };
        let dispute = Dispute {
            rival,
            holder,
            asking: Asking::until(now + PATIENCE),
        };
        self.disputes.open.insert(key, dispute);
        self.disputes.by_holder.insert((holder, key.1));
        self.order(Audience::All, Command::FdbWatch { key: holder });
        self.press_dispute(now, key);
    }

    /// Asks the host again.
    fn press_dispute(&mut self, now: Instant, key: BindKey) {
        let Some(dispute) = self.disputes.open.get_mut(&key) else {
            return;
        };
        let holder = dispute.holder;
        self.disputes.due.set(key, dispute.asking.again(now));
        let owner = self.bindings.get(key).map(|held| held.word.owner);
        if let Some(Owner::Local(port)) = owner {
            self.ask_host(port, holder, key.1);
        }
    }

    /// Asks again, and takes from silent hosts what others want.
    pub(super) fn run_disputes(&mut self, now: Instant) {
        while let Some(key) = self.disputes.due.pop_due(now) {
            let Some(dispute) = self.disputes.open.get(&key) else {
                continue;
            };
            if dispute.asking.is_over(now) {
                self.unbind(now, key, true);
            } else {
                self.press_dispute(now, key);
            }
        }
    }

    /// The host sent a frame. A worker that reported a binding a moment ago says nothing of an
    /// answer, so a frame stands for it.
    pub(super) fn answer_disputes(&mut self, now: Instant, holder: FdbKey) {
        if self.disputes.by_holder.is_empty() {
            return;
        }
        for key in self.disputes.of_holder(holder) {
            let held = self.bindings.get(key);
            if held.is_some_and(|held| now.since(held.seen) <= REPORTED_AGAIN) {
                self.close_dispute(key);
            }
        }
    }

    /// Ends a dispute: the host still has the address, or it is gone otherwise.
    pub(super) fn close_dispute(&mut self, key: BindKey) {
        if let Some(dispute) = self.disputes.remove(key) {
            self.accounts.close(dispute.rival);
        }
    }
}
