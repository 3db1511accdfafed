//! Handshakes that we begin, and what becomes of sessions.

use omni_wire::{Instant, Now};

use super::Ganglion;
use crate::message::{Command, PeerId};
use crate::peer::Attempt;

impl Ganglion {
    pub(super) fn expire(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        for session in peer.sessions.take_expired(self.timers.reject_after, now) {
            self.forget_session(session.id);
        }
    }

    pub(super) fn erase(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.last_session_at = None;
        peer.cookies.erase();
        for session in peer.sessions.take_all() {
            self.forget_session(session.id);
        }
    }

    /// Starts a handshake unless one is under way or there is nowhere to send to. Initiations
    /// keep their distance even when the last handshake ended in between.
    pub(super) fn start_handshake(&mut self, id: PeerId, now: Now) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.attempt.is_some() || peer.endpoint.is_none() {
            return;
        }
        let distance = self.timers.handshake_retry;
        let start = peer
            .initiated_at
            .map_or(now.instant, |at| now.instant.max(at + distance));
        peer.attempt = Some(Attempt {
            started_at: start,
            send_at: start,
            has_begun: false,
            last: None,
        });
        if start <= now.instant {
            self.send_initiation(id, now);
        }
    }

    /// Begins anew with a peer for which something changed that its handshakes depend on. Does
    /// not wait: that happens only when the operator changes it.
    pub(super) fn restart_handshake(&mut self, id: PeerId, now: Now) {
        self.drop_attempt(id);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.initiated_at = None;
        }
        self.start_handshake(id, now);
    }

    /// Ends the handshake that we run with the peer, if any.
    pub(super) fn drop_attempt(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if let Some(index) = peer.awaited_index() {
            self.indices.remove(&index);
        }
        peer.attempt = None;
    }

    /// A session turned out to be usable for sending: `next` becomes current.
    pub(super) fn confirm(&mut self, now: Now, session_id: u32) {
        let Some(&id) = self.indices.get(&session_id) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let retire_at = now.instant + self.timers.retire_after;
        let (confirmed, displaced) = peer.sessions.confirm(session_id, retire_at);
        if !confirmed {
            return;
        }
        peer.last_handshake = Some(now.instant);
        self.commands
            .push_back(Command::ConfirmSession { session_id });
        if let Some(displaced) = displaced {
            self.forget_session(displaced.id);
        }
        self.drop_needless_attempt(id, now.instant);
        self.follow_path(id, now);
    }

    /// Ends our own handshake when the peer's has just given us a session that is still young.
    fn drop_needless_attempt(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let current = peer.sessions.current.as_ref();
        if current.is_some_and(|c| now.since(c.established_at) < self.timers.rekey_after) {
            self.drop_attempt(id);
        }
    }

    pub(super) fn forget_session(&mut self, session_id: u32) {
        self.indices.remove(&session_id);
        self.commands
            .push_back(Command::EraseSession { session_id });
    }
}
