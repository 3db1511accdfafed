//! IP addresses of local hosts that somebody else says to have: the host is asked whether it still
//! has it, and keeps it if it answers. That it is alive otherwise counts for nothing: a service may
//! have moved on from it.

use std::collections::BTreeMap;

use omni_control::message::{Command, FdbKey, Owner};
use omni_wire::Instant;

use super::Switch;
use super::bindings::{BindKey, Word};
use super::contests::{Asking, PATIENCE};
use super::deadlines::Deadlines;
use super::types::Audience;

/// The most disputes.
pub(super) const DISPUTES_TOTAL: usize = 4096;

/// A dispute.
#[derive(Debug)]
struct Dispute {
    rival: Owner,
    asking: Asking,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Disputes {
    open: BTreeMap<BindKey, Dispute>,
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
        self.due.remove(&key);
        self.open.remove(&key)
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
        if self.disputes.open.contains_key(&key)
            || self.disputes.open.len() >= DISPUTES_TOTAL
            || !self.accounts.open(now, rival)
        {
            return;
        }
        let dispute = Dispute {
            rival,
            asking: Asking::until(now + PATIENCE),
        };
        self.disputes.open.insert(key, dispute);
        let (vlan, ip) = key;
        self.order(Audience::All, Command::BindWatch { vlan, ip });
        self.press_dispute(now, key);
    }

    /// Asks the host again.
    fn press_dispute(&mut self, now: Instant, key: BindKey) {
        let Some(dispute) = self.disputes.open.get_mut(&key) else {
            return;
        };
        self.disputes.due.set(key, dispute.asking.again(now));
        let held = self.bindings.get(key).map(|held| held.word);
        if let Some(Word { mac, owner, .. }) = held
            && let Owner::Local(port) = owner
        {
            let host = FdbKey { vlan: key.0, mac };
            self.ask_host(port, host, key.1);
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

    /// Ends a dispute: the host still has the address, or it is gone otherwise.
    pub(super) fn close_dispute(&mut self, key: BindKey) {
        if let Some(dispute) = self.disputes.remove(key) {
            self.accounts.close(dispute.rival);
        }
    }
}
