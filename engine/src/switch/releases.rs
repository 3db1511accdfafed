//! Addresses that were ours and are somebody else's: all peers are told, and told again when one
//! seems not to know. And what peers say of theirs.

use std::collections::BTreeMap;
use std::time::Duration;

use omni_control::PublicKey;
use omni_control::message::{FdbKey, Owner, PeerId};
use omni_wire::Instant;
use omni_wire::record::{Claim, Release};

use super::Switch;
use super::deadlines::{Deadlines, News, is_newer};
use super::fdb::Stamp;

/// The most addresses given away that are remembered; the oldest goes first.
pub(super) const GIVEN_MAX: usize = 4096;
/// The most answers to single peers that wait or were given within [`TELL_AGAIN`].
pub(super) const ANSWERS_MAX: usize = 4096;
/// A peer is told of one address no more often than this.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// After a start, local hosts have this long to be heard before others get what they may have had.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// The key of a new owner where we know no more than that we are not.
const NOBODY: [u8; 32] = [0; 32];

/// To whom an address went.
#[derive(Clone, Copy, Debug)]
struct Given {
    to: PublicKey,
    sequence: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Releases {
    given: BTreeMap<FdbKey, Given>,
    forget: Deadlines<FdbKey>,
    /// For all peers.
    pub(super) news: News<FdbKey>,
    /// For single peers.
    answers: BTreeMap<(PeerId, FdbKey), Release>,
    answered: Deadlines<(PeerId, FdbKey)>,
}

impl Releases {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let times = [self.forget.next(), self.news.next()];
        times.into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.news.handle_timeout(now);
        while self.answered.pop_due(now).is_some() {}
        while let Some(key) = self.forget.pop_due(now) {
            self.given.remove(&key);
        }
    }

    /// The address is ours again.
    pub(super) fn take_back(&mut self, key: FdbKey) {
        self.forget.remove(&key);
        self.given.remove(&key);
    }

    /// What is to be said of an address that was given away.
    pub(super) fn get(&self, key: FdbKey) -> Option<Release> {
        let given = self.given.get(&key)?;
        Some(Release {
            vlan: key.vlan,
            mac: key.mac,
            sequence: given.sequence,
            owner: given.to.0,
        })
    }

    /// The first address after `after` that was given away.
    pub(super) fn next_given(&self, after: Option<FdbKey>) -> Option<FdbKey> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, Excluded);
        let mut rest = self.given.range((start, Unbounded));
        rest.next().map(|(&key, _)| key)
    }

    /// Takes an answer to `peer`, or to anybody.
    pub(super) fn take_answer(&mut self, peer: Option<PeerId>) -> Option<(PeerId, Release)> {
        let (&(to, key), &release) = match peer {
            None => self.answers.first_key_value()?,
            Some(peer) => self.answers.range((peer, FIRST_KEY)..).next()?,
        };
        if peer.is_some_and(|peer| peer != to) {
            return None;
        }
        self.answers.remove(&(to, key));
        Some((to, release))
    }

    /// Puts an answer back that found no room.
    pub(super) fn put_answer(&mut self, peer: PeerId, release: Release) {
        let Release { vlan, mac, .. } = release;
        self.answers.insert((peer, FdbKey { vlan, mac }), release);
    }

    /// Forgets what waits for a peer.
    pub(super) fn remove(&mut self, peer: PeerId) {
        self.answers.retain(|&(to, _), _| to != peer);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.given.len().max(self.answers.len())
    }
}

/// No key comes before this.
const FIRST_KEY: FdbKey = FdbKey {
    vlan: 0,
    mac: omni_wire::MacAddr::ZERO,
};

impl Switch {
    /// An address of ours went to a peer.
    pub(super) fn release(&mut self, now: Instant, key: FdbKey, to: PublicKey, sequence: u32) {
        let releases = &mut self.releases;
        if releases.given.len() >= GIVEN_MAX && !releases.given.contains_key(&key) {
            let oldest = releases.forget.pop_due(Instant(u64::MAX));
            oldest.map(|oldest| releases.given.remove(&oldest));
        }
        releases.given.insert(key, Given { to, sequence });
        releases.forget.set(key, now + self.config.ageing);
        releases.news.changed(now, key);
    }

    /// A peer sent a frame for an address that is not here.
    pub fn strayed(&mut self, now: Instant, key: FdbKey, peer: PeerId) {
        let is_anothers = match self.fdb.owner(key) {
            Some(Owner::Local(_)) => return,
            Some(owner) => owner != Owner::Peer(peer) && self.claims.port(key).is_none(),
            None => false,
        };
        if let Some(release) = self.releases.get(key) {
            self.tell_release(now, peer, release);
        } else if is_anothers && self.may_be_of_earlier(now) {
            // Whose it is, the peer learns from frames that it takes for forged until then.
            let release = Release {
                vlan: key.vlan,
                mac: key.mac,
                sequence: 0,
                owner: NOBODY,
            };
            self.tell_release(now, peer, release);
        }
    }

    /// Whether peers may still take for ours what we had before a restart, and local hosts had
    /// the time to be heard again.
    fn may_be_of_earlier(&self, now: Instant) -> bool {
        let start = self.started.unwrap_or(now);
        let age = now.since(start);
        age >= HEARD_WITHIN && age < self.config.ageing
    }

    fn tell_release(&mut self, now: Instant, peer: PeerId, release: Release) {
        let Release { vlan, mac, .. } = release;
        let about = (peer, FdbKey { vlan, mac });
        let releases = &mut self.releases;
        if releases
            .answered
            .get(&about)
            .is_some_and(|until| now < until)
        {
            return;
        }
        let waiting = releases.answered.len().max(releases.answers.len());
        if waiting >= ANSWERS_MAX || !self.accounts.may_change(now, Owner::Peer(peer)) {
            self.counters.sends_left_out += 1;
            return;
        }
        releases.answered.set(about, now + TELL_AGAIN);
        releases.answers.insert(about, release);
    }

    /// A peer claims an address of ours.
    pub(super) fn handle_claim(&mut self, now: Instant, peer: PeerId, claim: Claim) {
        let key = FdbKey {
            vlan: claim.vlan,
            mac: claim.mac,
        };
        match (self.fdb.owner(key), self.releases.get(key)) {
            (Some(Owner::Local(_)), _) => self.open_contest(now, key, Owner::Peer(peer)),
            // It missed where the address went.
            (_, Some(release)) => self.tell_release(now, peer, release),
            (None, None) => self.disown(now, peer, claim),
            (Some(Owner::Peer(_)), None) => self.counters.claims_refused += 1,
        }
    }

    /// A peer claims an address of which we know nothing any more, and we say so.
    ///
    /// If we have been here for long, so do the others: they hear from the host itself. But after a
    /// restart they still take for ours what we have forgotten, and the new owner's frames for
    /// forged: then all are told, as they would have been before.
    fn disown(&mut self, now: Instant, peer: PeerId, claim: Claim) {
        let Some(claimant) = self.peers.get(peer).map(|peer| peer.public_key) else {
            return;
        };
        if self
            .started
            .is_none_or(|start| now.since(start) < HEARD_WITHIN)
        {
            // It is claimed again for as long as the host speaks there.
            self.counters.claims_refused += 1;
            return;
        }
        let Claim {
            vlan,
            mac,
            sequence,
        } = claim;
        let from = Owner::Peer(peer);
        if self.may_be_of_earlier(now) && self.accounts.open(now, from) {
            self.accounts.close(from);
            self.release(now, FdbKey { vlan, mac }, claimant, sequence);
            return;
        }
        let release = Release {
            vlan,
            mac,
            sequence,
            owner: claimant.0,
        };
        self.tell_release(now, peer, release);
    }

    /// A peer gives an address away. Only what it has, and only once for each move.
    pub(super) fn handle_release(&mut self, now: Instant, peer: PeerId, release: Release) {
        let key = FdbKey {
            vlan: release.vlan,
            mac: release.mac,
        };
        let from = Owner::Peer(peer);
        let Some(entry) = self.fdb.get(key) else {
            return;
        };
        if entry.owner != from || self.fdb.is_fixed(now, key) {
            self.counters.claims_refused += 1;
            return;
        }
        let old = entry.stamp.is_some_and(|stamp| {
            stamp.epoch == self.peers.epoch(from) && !is_newer(release.sequence, stamp.sequence)
        });
        let payer = entry.payer;
        let to = self.find_owner(key, &PublicKey(release.owner));
        if old || to == Some(from) {
            return;
        }
        if !self.accounts.may_change(now, from) {
            self.counters.records_limited += 1;
            return;
        }
        match to {
            Some(to) => {
                let stamp = Stamp {
                    sequence: release.sequence,
                    epoch: self.peers.epoch(to),
                };
                // We asked for it; a peer may know nothing of it.
                let payer = if matches!(to, Owner::Local(_)) {
                    to
                } else {
                    payer
                };
                self.hand_over(now, key, to, payer, Some(stamp));
            }
            None => {
                self.forget(key);
                self.drop_bindings_of(now, key);
            }
        }
    }

    /// Where an address is that belongs to the node with a key: behind the port that we claim it
    /// for, or behind a peer. `None` when that is not known.
    fn find_owner(&self, key: FdbKey, public_key: &PublicKey) -> Option<Owner> {
        if *public_key == self.config.own_key {
            self.claims.port(key).map(Owner::Local)
        } else {
            self.peers.find(public_key).map(Owner::Peer)
        }
    }
}
