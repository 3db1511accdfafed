//! Addresses that came up behind a port of ours while a peer has them: the peer is asked to let
//! go, often at first and then now and then, for as long as the host speaks.

use std::collections::BTreeMap;
use std::time::Duration;

use omni_control::message::{FdbKey, Owner, PeerId, PortId};
use omni_wire::Instant;

use super::Switch;
use super::deadlines::Deadlines;

/// The most claims for hosts behind one port.
pub(super) const CLAIMS_MAX: usize = 256;
/// A claim is repeated so often ...
const REPEAT: Duration = Duration::from_millis(200);
/// ... for this time ...
const EAGER: Duration = Duration::from_secs(3);
/// ... and so often from then on.
const RELUCTANT: Duration = Duration::from_secs(5);
/// A host that was not heard for this long does not go on speaking. One frame alone has its claim
/// repeated a few times, as records may be lost.
const SPEAKING: Duration = Duration::from_secs(1);

/// A claim.
#[derive(Debug)]
struct Claim {
    port: PortId,
    started: Instant,
    sent: Instant,
    heard: Instant,
}

impl Claim {
    fn is_eager(&self, now: Instant) -> bool {
        now.since(self.started) < EAGER
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Claims {
    open: BTreeMap<FdbKey, Claim>,
    by_port: BTreeMap<PortId, usize>,
    /// Whether any came or went since that was asked.
    changed: bool,
    due: Deadlines<FdbKey>,
}

impl Claims {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.due.next()
    }

    /// The addresses that are claimed.
    pub(super) fn keys(&self) -> impl Iterator<Item = FdbKey> {
        self.open.keys().copied()
    }

    /// Whether [`Claims::keys`] gives others than when this was asked last.
    pub(super) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Behind which port the host is.
    pub(super) fn port(&self, key: FdbKey) -> Option<PortId> {
        self.open.get(&key).map(|claim| claim.port)
    }

    pub(super) fn remove(&mut self, key: FdbKey) {
        self.due.remove(&key);
        if let Some(claim) = self.open.remove(&key) {
            self.changed = true;
            self.uncount(claim.port);
        }
    }

    fn uncount(&mut self, port: PortId) {
        if let Some(count) = self.by_port.get_mut(&port) {
            *count = count.saturating_sub(1);
        }
    }

    /// A frame came from behind `port`. False when there are too many claims already.
    fn heard(&mut self, now: Instant, key: FdbKey, port: PortId) -> bool {
        if let Some(claim) = self.open.get_mut(&key)
            && claim.port == port
        {
            claim.heard = now;
            return true;
        }
        self.remove(key);
        let count = self.by_port.entry(port).or_default();
        if *count >= CLAIMS_MAX {
            return false;
        }
        *count += 1;
        self.changed = true;
        // Due at once.
        let claim = Claim {
            port,
            started: now,
            sent: Instant(0),
            heard: now,
        };
        self.open.insert(key, claim);
        self.due.set(key, now);
        true
    }

    /// Whether a claim is to be sent now. Sets when to look again, or gives it up.
    fn press(&mut self, now: Instant, key: FdbKey) -> bool {
        let Some(claim) = self.open.get_mut(&key) else {
            return false;
        };
        let pause = if claim.is_eager(now) {
            REPEAT
        } else {
            RELUCTANT
        };
        let speaks = if claim.is_eager(now) {
            now.since(claim.heard) <= SPEAKING
        } else {
            claim.heard > claim.sent
        };
        if now.since(claim.sent) < pause {
            self.due.set(key, claim.sent + pause);
            return false;
        }
        if speaks {
            claim.sent = now;
            self.due.set(key, now + REPEAT);
            return true;
        }
        let look_again = claim.sent + RELUCTANT;
        if look_again <= now {
            self.remove(key);
        } else {
            self.due.set(key, look_again);
        }
        false
    }
}

impl Switch {
    /// A frame came in at `port` from an address that `peer` has.
    pub(super) fn claim(&mut self, now: Instant, key: FdbKey, peer: PeerId, port: PortId) {
        if self.fdb.is_fixed(now, key) || !self.claims.heard(now, key, port) {
            self.counters.claims_refused += 1;
            return;
        }
        self.directory.check(peer);
        self.press_claim(now, key, peer);
    }

    fn press_claim(&mut self, now: Instant, key: FdbKey, peer: PeerId) {
        if self.claims.press(now, key) {
            self.counters.claims_sent += 1;
            self.outbox.claims.insert((peer, key));
        }
    }

    /// Repeats claims.
    pub(super) fn run_claims(&mut self, now: Instant) {
        while let Some(key) = self.claims.due.pop_due(now) {
            match self.fdb.owner(key) {
                Some(Owner::Peer(peer)) => self.press_claim(now, key, peer),
                _ => self.claims.remove(key),
            }
        }
    }
}
