//! Sessions as the workers see them: what all share, and what each has for itself.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use omni_control::message::{InstallSession, PeerId, Role};
use omni_replay::Lane;
use omni_wire::limits::{
    HANDSHAKE_RETRY, REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES,
};
use omni_wire::{DropReason, Instant};

use super::hash::BuildIdHasher;
use crate::aead::Key;

/// How long before a session ends nothing is sent in it any more. The peer's may have begun
/// earlier than ours by half a round trip, and what is under way must arrive before it ends.
const IN_FLIGHT: Duration = Duration::from_secs(1);

/// The part of a session that all workers share. Nothing in it changes but the replay windows.
#[derive(Debug)]
pub struct SharedSession {
    /// Whose it is.
    pub peer: PeerId,
    /// Our index: what arriving messages carry.
    pub session_id: u32,
    /// The peer's index: what leaving messages carry.
    pub remote_session_id: u32,
    /// Who began.
    pub role: Role,
    /// The longest inner frame the peer accepts, in octets.
    pub peer_max_frame: usize,
    /// When the handshake ended.
    pub established_at: Instant,
    /// Messages are not sent from here on.
    pub closed_at: Instant,
    /// Messages are not received from here on.
    pub rejected_at: Instant,
    receive_key: Key,
    send_key: Key,
    /// Those that the peer announced, each with its replay window.
    lanes: Box<[Lane]>,
}

impl SharedSession {
    /// Expands the keys of a session that the handshake brought.
    #[must_use]
    pub fn new(install: &InstallSession) -> Self {
        Self {
            peer: install.peer,
            session_id: install.session_id,
            remote_session_id: install.remote_session_id,
            role: install.role,
            peer_max_frame: usize::from(install.peer_max_frame),
            established_at: install.established_at,
            closed_at: install.established_at + (REJECT_AFTER_TIME - IN_FLIGHT),
            rejected_at: install.established_at + REJECT_AFTER_TIME,
            receive_key: Key::new(&install.receive_key.0),
            send_key: Key::new(&install.send_key.0),
            lanes: (0..install.peer_lanes).map(|_| Lane::default()).collect(),
        }
    }

    /// Whether a message in this session shows where the peer is, when `current` is the one to
    /// send in: it is no older, but for the time that two handshakes begun by both sides at once
    /// may be apart.
    #[must_use]
    pub fn tells_endpoint(&self, current: &Self) -> bool {
        current.established_at.since(self.established_at) < HANDSHAKE_RETRY
    }

    /// Opens messages of the peer.
    #[must_use]
    pub fn receive_key(&self) -> &Key {
        &self.receive_key
    }

    /// Seals messages to the peer.
    #[must_use]
    pub fn send_key(&self) -> &Key {
        &self.send_key
    }

    /// Whether a message is worth decrypting (`PROTOCOL` sections 2 and 4).
    ///
    /// # Errors
    /// `SessionExpired`, `LaneUnknown`, `NonceLimit`, `NonceTooOld` or `NonceReplayed`.
    #[inline]
    pub fn check(&self, now: Instant, lane: u16, nonce: u64) -> Result<(), DropReason> {
        if now >= self.rejected_at {
            return Err(DropReason::SessionExpired);
        }
        let lane = self.lane(lane)?;
        if nonce >= REJECT_AFTER_MESSAGES {
            return Err(DropReason::NonceLimit);
        }
        lane.check(nonce)
    }

    /// Accepts a message whose tag verified, once; says whether it is the lane's newest.
    ///
    /// # Errors
    /// As [`SharedSession::check`]: another worker may have accepted the same message meanwhile.
    #[inline]
    pub fn commit(&self, lane: u16, nonce: u64) -> Result<bool, DropReason> {
        self.lane(lane)?.commit(nonce)
    }

    #[inline]
    fn lane(&self, lane: u16) -> Result<&Lane, DropReason> {
        self.lanes
            .get(usize::from(lane))
            .ok_or(DropReason::LaneUnknown)
    }
}

/// A session in one worker's table.
#[derive(Debug)]
pub struct Session {
    /// What the workers share.
    pub shared: Arc<SharedSession>,
    /// Whether a message in it verified, or it needs none: it may be sent in.
    pub confirmed: bool,
    /// This worker's lane: the nonce of its next message.
    next_nonce: u64,
    rekey_asked: bool,
}

/// A nonce to seal with, and whether a new session is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendNonce {
    /// Never given out before on this lane.
    pub nonce: u64,
    /// The counter just passed the rekey limit: ask for a new session. Said once.
    pub rekey_soon: bool,
}

impl Session {
    fn new(shared: Arc<SharedSession>) -> Self {
        let confirmed = shared.role == Role::Initiator;
        Self {
            shared,
            confirmed,
            next_nonce: 0,
            rekey_asked: false,
        }
    }

    /// The next nonce of this worker's lane.
    ///
    /// # Errors
    /// `SessionExpired` or `NonceExhausted`.
    #[inline]
    pub fn take_nonce(&mut self, now: Instant) -> Result<SendNonce, DropReason> {
        if now >= self.shared.closed_at {
            return Err(DropReason::SessionExpired);
        }
        let nonce = self.next_nonce;
        if nonce >= REJECT_AFTER_MESSAGES {
            return Err(DropReason::NonceExhausted);
        }
        self.next_nonce = nonce + 1;
        let rekey_soon = nonce >= REKEY_AFTER_MESSAGES && !self.rekey_asked;
        self.rekey_asked |= rekey_soon;
        Ok(SendNonce { nonce, rekey_soon })
    }

    /// Moves the counter on, as tests of its limits need.
    #[cfg(test)]
    pub fn skip_to_nonce(&mut self, nonce: u64) {
        assert!(nonce >= self.next_nonce, "a nonce is never used twice");
        self.next_nonce = nonce;
    }
}

/// Where a session is in a [`SessionTable`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionSlot(u32);

/// All sessions of one worker, by our index.
#[derive(Debug, Default)]
pub struct SessionTable {
    slots: Vec<Option<Session>>,
    by_id: HashMap<u32, SessionSlot, BuildIdHasher>,
}

impl SessionTable {
    /// Adds a session. An index is unique on a node; should it not be, the newer one holds.
    pub fn insert(&mut self, shared: Arc<SharedSession>) -> SessionSlot {
        let id = shared.session_id;
        self.remove(id);
        let free = self.slots.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[at] = Some(Session::new(shared));
        let slot = SessionSlot(at as u32);
        self.by_id.insert(id, slot);
        slot
    }

    /// Forgets a session and says where it was.
    pub fn remove(&mut self, id: u32) -> Option<(SessionSlot, Session)> {
        let slot = self.by_id.remove(&id)?;
        let session = self.slots.get_mut(slot.0 as usize).and_then(Option::take)?;
        Some((slot, session))
    }

    /// Forgets every session of a peer.
    pub fn remove_peer(&mut self, peer: PeerId) {
        let ids: Vec<u32> = self
            .slots
            .iter()
            .flatten()
            .filter(|session| session.shared.peer == peer)
            .map(|session| session.shared.session_id)
            .collect();
        for id in ids {
            self.remove(id);
        }
    }

    /// Where the session with this index is.
    #[inline]
    #[must_use]
    pub fn find(&self, id: u32) -> Option<SessionSlot> {
        self.by_id.get(&id).copied()
    }

    /// The session in a slot, if it is still there.
    #[inline]
    #[must_use]
    pub fn get(&self, slot: SessionSlot) -> Option<&Session> {
        self.slots.get(slot.0 as usize).and_then(Option::as_ref)
    }

    /// The session in a slot, if it is still there, to change.
    #[inline]
    pub fn get_mut(&mut self, slot: SessionSlot) -> Option<&mut Session> {
        self.slots.get_mut(slot.0 as usize).and_then(Option::as_mut)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use omni_control::SymmetricKey;

    use super::*;

    pub(in crate::datapath) fn shared(peer: u16, session_id: u32, role: Role) -> SharedSession {
        SharedSession::new(&InstallSession {
            peer: PeerId(peer),
            session_id,
            remote_session_id: session_id + 1,
            role,
            receive_key: SymmetricKey([1; 32]),
            send_key: SymmetricKey([2; 32]),
            peer_lanes: 2,
            peer_max_frame: 1500,
            established_at: Instant(0),
        })
    }

    #[test]
    fn limits_on_time_lane_and_nonce() {
        let session = shared(0, 7, Role::Initiator);
        let now = Instant(0) + Duration::from_secs(179);
        assert_eq!(session.check(now, 1, 0), Ok(()));
        assert_eq!(session.check(now, 2, 0), Err(DropReason::LaneUnknown));
        assert_eq!(
            session.check(now, 0, REJECT_AFTER_MESSAGES),
            Err(DropReason::NonceLimit)
        );
        assert_eq!(session.check(now, 0, REJECT_AFTER_MESSAGES - 1), Ok(()));
        let late = Instant(0) + Duration::from_secs(180);
        assert_eq!(session.check(late, 0, 0), Err(DropReason::SessionExpired));
    }

    #[test]
    fn lanes_have_windows_of_their_own() {
        let session = shared(0, 7, Role::Initiator);
        assert_eq!(session.commit(0, 5), Ok(true));
        assert_eq!(session.commit(1, 5), Ok(true));
        assert_eq!(session.commit(1, 4), Ok(false));
        assert_eq!(session.commit(0, 5), Err(DropReason::NonceReplayed));
    }

    #[test]
    fn send_counter_asks_for_a_rekey_once_and_ends() {
        let mut session = Session::new(Arc::new(shared(0, 7, Role::Initiator)));
        let now = Instant(0);
        assert_eq!(
            session.take_nonce(now),
            Ok(SendNonce {
                nonce: 0,
                rekey_soon: false
            })
        );
        session.skip_to_nonce(REKEY_AFTER_MESSAGES);
        let due = SendNonce {
            nonce: REKEY_AFTER_MESSAGES,
            rekey_soon: true,
        };
        assert_eq!(session.take_nonce(now), Ok(due));
        assert!(!session.take_nonce(now).expect("within limits").rekey_soon);
        session.skip_to_nonce(REJECT_AFTER_MESSAGES - 1);
        assert!(session.take_nonce(now).is_ok());
        assert_eq!(session.take_nonce(now), Err(DropReason::NonceExhausted));
    }

    #[test]
    fn sending_ends_before_the_peer_would_refuse() {
        let mut session = Session::new(Arc::new(shared(0, 7, Role::Initiator)));
        let at = |millis| Instant(0) + Duration::from_millis(millis);
        assert!(session.take_nonce(at(178_999)).is_ok());
        let refused = session.take_nonce(at(179_000));
        assert_eq!(refused, Err(DropReason::SessionExpired));
        assert_eq!(session.shared.check(at(179_999), 0, 0), Ok(()));
    }

    #[test]
    fn slots_are_used_again_and_ids_found() {
        let mut table = SessionTable::default();
        let first = table.insert(Arc::new(shared(0, 7, Role::Initiator)));
        let second = table.insert(Arc::new(shared(1, 9, Role::Responder)));
        assert_eq!(table.find(7), Some(first));
        assert!(table.remove(7).is_some());
        assert!(table.find(7).is_none() && table.get(first).is_none());
        assert_eq!(
            table.insert(Arc::new(shared(2, 11, Role::Initiator))),
            first
        );
        assert!(
            !table.get(second).expect("there").confirmed,
            "responders wait"
        );
        table.remove_peer(PeerId(1));
        assert!(table.find(9).is_none() && table.find(11).is_some());
    }
}
