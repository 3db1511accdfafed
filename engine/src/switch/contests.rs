//! Addresses of local hosts that somebody else claims: the host is asked whether it is still
//! there, and only if it is silent does the address go.
//!
//! A host whose IP addresses are known answers within [`PATIENCE`] if it lives. One without may
//! have nothing to say, so it gets [`IDLE`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use omni_control::message::{Command, FdbKey, Owner, PortId};
use omni_wire::Instant;

use super::Switch;
use super::deadlines::{Deadlines, successor};
use super::fdb::Stamp;
use super::types::{Audience, Send};

/// The most contests of MAC addresses.
pub(super) const CONTESTS_TOTAL: usize = 4096;
/// How often a host is asked for each IP address.
const ASKS: u8 = 3;
/// Between two questions.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// From the first question until a silent host is taken as gone.
pub(super) const PATIENCE: Duration = Duration::from_millis(400);
/// From the last question until then, should the questions be late.
const LAST_CHANCE: Duration = Duration::from_millis(200);
/// How long a host that cannot be asked has to be silent.
const IDLE: Duration = Duration::from_secs(5);
/// The most IP addresses that a host is asked for.
pub(super) const ASKED_FOR_MAX: usize = 8;

/// How often a host was asked, and until when it may answer.
#[derive(Debug)]
pub(super) struct Asking {
    asked: u8,
    decide_at: Instant,
}

impl Asking {
    pub(super) const fn until(decide_at: Instant) -> Self {
        Self {
            asked: 0,
            decide_at,
        }
    }

    /// It is asked now. Gives when to look after it next.
    pub(super) fn again(&mut self, now: Instant) -> Instant {
        self.asked += 1;
        if self.asked < ASKS {
            return now + ASK_INTERVAL;
        }
        self.decide_at = self.decide_at.max(now + LAST_CHANCE);
        self.decide_at
    }

    /// Whether it was asked often enough and its time is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.asked >= ASKS && now >= self.decide_at
    }
}

/// A contest.
#[derive(Debug)]
struct Contest {
    claimant: Owner,
    /// What the host is asked for.
    addresses: Vec<IpAddr>,
    asking: Asking,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Contests {
    open: BTreeMap<FdbKey, Contest>,
    due: Deadlines<FdbKey>,
}

impl Contests {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.due.next()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn remove(&mut self, key: FdbKey) -> Option<Contest> {
        self.due.remove(&key);
        self.open.remove(&key)
    }

    /// What somebody has open.
    pub(super) fn of(&self, claimant: Owner) -> Vec<FdbKey> {
        let of_claimant = self.open.iter().filter(|(_, c)| c.claimant == claimant);
        of_claimant.map(|(&key, _)| key).collect()
    }
}

impl Switch {
    /// A frame from `claimant` had a source address that somebody else owns.
    pub fn contested(&mut self, now: Instant, key: FdbKey, claimant: Owner) {
        match (self.fdb.owner(key), claimant) {
            (Some(owner), _) if owner == claimant => {}
            (Some(Owner::Local(_)), _) => self.open_contest(now, key, claimant),
            (Some(Owner::Peer(peer)), Owner::Local(port)) => self.claim(now, key, peer, port),
            // Between two peers it is not for us to decide.
            (Some(Owner::Peer(_)), Owner::Peer(_)) => {}
            // The worker's report of an owner was lost, and that one has said nothing since.
            (None, _) => self.order(Audience::All, Command::FdbRemove { key }),
        }
    }

    /// Somebody claims an address of a local host.
    pub(super) fn open_contest(&mut self, now: Instant, key: FdbKey, claimant: Owner) {
        if self.contests.open.contains_key(&key) {
            return;
        }
        let known = match claimant {
            Owner::Local(_) => true,
            Owner::Peer(peer) => self.peers.get(peer).is_some(),
        };
        if !known
            || self.fdb.is_fixed(now, key)
            || self.contests.open.len() >= CONTESTS_TOTAL
            || !self.accounts.open(now, claimant)
        {
            self.counters.claims_refused += 1;
            return;
        }
        let addresses = self.bindings.latest_of(key, ASKED_FOR_MAX);
        let decide_at = if addresses.is_empty() {
            (now + PATIENCE).max(self.quiet_since(now, key) + IDLE)
        } else {
            now + PATIENCE
        };
        let contest = Contest {
            claimant,
            addresses,
            asking: Asking::until(decide_at),
        };
        self.contests.open.insert(key, contest);
        self.order(Audience::All, Command::FdbWatch { key });
        self.press_contest(now, key);
    }

    /// Asks the host again, or waits for the decision.
    fn press_contest(&mut self, now: Instant, key: FdbKey) {
        let Some(contest) = self.contests.open.get_mut(&key) else {
            return;
        };
        if contest.addresses.is_empty() {
            self.contests.due.set(key, contest.asking.decide_at);
            return;
        }
        let addresses = contest.addresses.clone();
        self.contests.due.set(key, contest.asking.again(now));
        let Some(Owner::Local(port)) = self.fdb.owner(key) else {
            return;
        };
        for ip in addresses {
            self.ask_host(port, key, ip);
        }
    }

    /// Asks a host whether it has an IP address.
    pub(super) fn ask_host(&mut self, port: PortId, host: FdbKey, ip: IpAddr) {
        let FdbKey { vlan, mac } = host;
        let asked = self.outbox.push(Send::Ask {
            port,
            vlan,
            mac,
            ip,
        });
        self.counters.sends_left_out += u64::from(!asked);
    }

    /// Asks again, and lets go of what silent hosts have.
    pub(super) fn run_contests(&mut self, now: Instant) {
        while let Some(key) = self.contests.due.pop_due(now) {
            let Some(contest) = self.contests.open.get(&key) else {
                continue;
            };
            let is_idle = contest.addresses.is_empty() && now >= contest.asking.decide_at;
            if is_idle || contest.asking.is_over(now) {
                self.let_go(now, key);
            } else {
                self.press_contest(now, key);
            }
        }
    }

    fn let_go(&mut self, now: Instant, key: FdbKey) {
        let Some(contest) = self.end_contest(key) else {
            return;
        };
        let stamp = self.fdb.get(key).and_then(|entry| entry.stamp);
        let peer = match contest.claimant {
            Owner::Local(_) => {
                let to = contest.claimant;
                self.hand_over(now, key, to, to, stamp);
                return;
            }
            Owner::Peer(peer) => peer,
        };
        let Some(public_key) = self.peers.get(peer).map(|peer| peer.public_key) else {
            return;
        };
        let sequence = successor(now, stamp.map(|stamp| stamp.sequence));
        let to = Owner::Peer(peer);
        let stamp = Stamp {
            sequence,
            epoch: self.peers.epoch(to),
        };
        self.hand_over(now, key, to, to, Some(stamp));
        self.release(now, key, public_key, sequence);
    }

    /// The host is there: whoever claims its address is not answered.
    pub(super) fn answer_contest(&mut self, key: FdbKey) {
        if self.end_contest(key).is_some() {
            self.counters.claims_refused += 1;
        }
    }

    /// Ends a contest without a decision.
    pub(super) fn close_contest(&mut self, key: FdbKey) {
        self.end_contest(key);
    }

    fn end_contest(&mut self, key: FdbKey) -> Option<Contest> {
        let contest = self.contests.remove(key)?;
        self.accounts.close(contest.claimant);
        Some(contest)
    }
}
