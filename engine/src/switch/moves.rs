//! Addresses that come, go, and change hands.

use std::time::Duration;

use omni_control::message::{Command, FdbKey, Owner};
use omni_wire::Instant;

use super::Switch;
use super::fdb::Stamp;
use super::ledger::Room;
use super::types::Audience;

/// The most addresses and bindings that one call lets age out; the rest is due at once.
pub(super) const EXPIRED_MAX: usize = 4096;

impl Switch {
    /// A worker reports a source address.
    pub fn learned(&mut self, now: Instant, worker: usize, key: FdbKey, owner: Owner) {
        if let Owner::Peer(peer) = owner
            && self.peers.get(peer).is_none()
        {
            // The worker has not heard yet that the peer was removed.
            return;
        }
        match self.fdb.owner(key) {
            Some(held) if held == owner => self.spoke(now, key),
            Some(held) => {
                // Two workers learned it behind different owners: the first report holds.
                let insert = Command::FdbInsert { key, owner: held };
                self.order(Audience::Only(worker), insert);
                return;
            }
            None => {
                self.make_room(owner, None);
                self.fdb.learn(now, key, owner);
                // The worker that reports it, too: an order to forget it may be on its way there.
                self.order(Audience::All, Command::FdbInsert { key, owner });
                self.match_bindings(now, key, owner);
                if matches!(owner, Owner::Local(_)) {
                    self.releases.take_back(key);
                }
            }
        }
        if let Owner::Local(port) = owner {
            self.segment_seen(now, port, key.vlan);
        }
    }

    /// Sets an address that stays.
    pub fn insert_static(&mut self, now: Instant, key: FdbKey, owner: Owner) {
        self.close_contest(key);
        self.claims.remove(key);
        self.releases.take_back(key);
        self.fdb.insert_static(now, key, owner);
        self.order(Audience::All, Command::FdbInsert { key, owner });
        self.match_bindings(now, key, owner);
    }

    /// The owner of an address spoke.
    fn spoke(&mut self, now: Instant, key: FdbKey) {
        let given = self.fdb.get(key).filter(|entry| entry.payer != entry.owner);
        if let Some(owner) = given.map(|entry| entry.owner) {
            self.make_room(owner, Some(key));
        }
        self.fdb.touch(now, key);
        self.answer_contest(key);
    }

    /// Makes room for one more address on an account, for `key` if that is in the table already.
    fn make_room(&mut self, payer: Owner, key: Option<FdbKey>) {
        let limits = &self.config.limits;
        let (own_max, side_max) = match payer {
            Owner::Local(_) => (limits.local_macs, limits.local_macs),
            Owner::Peer(peer) => (self.peers.limits(peer).macs_max, limits.peer_macs),
        };
        if let Room::After(oldest) = self.fdb.room(payer, own_max, side_max)
            && Some(oldest) != key
        {
            self.counters.evicted += 1;
            self.forget(oldest);
        }
    }

    /// Gives an address to another owner, everywhere on this node.
    pub(super) fn hand_over(
        &mut self,
        now: Instant,
        key: FdbKey,
        to: Owner,
        payer: Owner,
        stamp: Option<Stamp>,
    ) {
        if self.fdb.get(key).is_none_or(|entry| entry.payer != payer) {
            self.make_room(payer, Some(key));
        }
        let frozen = self.fdb.move_to(now, key, to, payer, stamp);
        self.counters.moves += 1;
        self.counters.frozen += u64::from(frozen);
        self.close_contest(key);
        self.claims.remove(key);
        self.order(Audience::All, Command::FdbInsert { key, owner: to });
        self.order(Audience::All, Command::FdbWatch { key });
        self.match_bindings(now, key, to);
        if matches!(to, Owner::Local(_)) {
            self.releases.take_back(key);
        }
    }

    /// Forgets an address: it is nobody's from now on.
    pub(super) fn forget(&mut self, key: FdbKey) {
        if self.fdb.remove(key).is_some() {
            self.close_contest(key);
            self.claims.remove(key);
            self.order(Audience::All, Command::FdbRemove { key });
        }
    }

    /// Lets addresses age out.
    pub(super) fn expire_addresses(&mut self, now: Instant) {
        for _ in 0..EXPIRED_MAX {
            let Some(key) = self.fdb.next_stale(now) else {
                return;
            };
            self.forget(key);
        }
    }

    /// Forgets what a peer has beyond its limit.
    pub(super) fn trim_addresses(&mut self, owner: Owner, most: usize) {
        loop {
            let (count, oldest) = self.fdb.account(owner);
            match oldest {
                Some(key) if count > most.max(1) => self.forget(key),
                _ => return,
            }
        }
    }

    /// Forgets everything behind an owner.
    pub(super) fn forget_addresses(&mut self, owner: Owner) {
        for key in self.fdb.of(owner) {
            self.forget(key);
        }
    }

    /// Since when an address is known not to be in use, at the latest: had it been, a worker would
    /// have reported it.
    pub(super) fn quiet_since(&self, now: Instant, key: FdbKey) -> Instant {
        let seen = self.fdb.get(key).map_or(now, |entry| entry.seen);
        now.min(seen + REPORTED_AGAIN)
    }
}

/// A frame this long after an address was reported is reported again, with some time to spare for
/// what is on its way.
pub(super) const REPORTED_AGAIN: Duration =
    crate::datapath::owned::REPORT_INTERVAL.saturating_add(Duration::from_secs(1));
