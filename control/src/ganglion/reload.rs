//! What the operator may change while the node runs. Nothing of it touches the sessions of other
//! peers, but for a new identity, which is new to all.

use core::net::SocketAddr;

use omni_wire::Now;

use super::{Ganglion, SetIdentityError};
use crate::cookie::CookieChecker;
use crate::handshake::ReplayGate;
use crate::message::PeerId;
use crate::noise::Identity;
use crate::peer::Peer;
use omni_membership::{PrivateKey, SymmetricKey};

impl Ganglion {
    /// Sets where a peer is, in place of what was configured or learned before. False when there
    /// is no such peer.
    ///
    /// A handshake is begun with it there, unless it is there already and there is a session.
    /// With `None` the peer has to speak first. While there is a session it has: then what it
    /// showed of itself stays.
    pub fn set_endpoint(&mut self, now: Now, peer: PeerId, endpoint: Option<SocketAddr>) -> bool {
        let Some(known) = self.peers.get(&peer) else {
            return false;
        };
        let is_elsewhere = known.endpoint != endpoint;
        let has_session = known.sessions.current.is_some();
        self.set_candidates(peer, endpoint);
        match endpoint {
            Some(endpoint) => {
                self.move_to(peer, endpoint, None);
                if is_elsewhere {
                    self.restart_handshake(peer, now);
                } else if !has_session {
                    self.start_handshake(peer, now);
                }
            }
            None if has_session => {}
            None => {
                self.drop_attempt(peer);
                self.lose_sight(peer);
            }
        }
        true
    }

    /// Sets the secret that is mixed into handshakes with a peer; `None` stands for zeros. False
    /// when there is no such peer.
    ///
    /// A handshake with it begins at once. The current session goes on until it is replaced or
    /// expires, so that both sides can be changed one after the other.
    pub fn set_preshared_key(
        &mut self,
        now: Now,
        peer: PeerId,
        preshared_key: Option<SymmetricKey>,
    ) -> bool {
        let Some(known) = self.peers.get_mut(&peer) else {
            return false;
        };
        let preshared_key = preshared_key.unwrap_or(Peer::NO_SECRET);
        if known.preshared_key == preshared_key {
            return true;
        }
        known.preshared_key = preshared_key;
        // Not in use yet, and made with the secret of before.
        if let Some(next) = known.sessions.next.take() {
            self.forget_session(next.id);
        }
        self.restart_handshake(peer, now);
        true
    }

    /// Becomes someone else, or a node of another fabric. All sessions and handshakes are erased,
    /// and handshakes begin with all peers that it is known of where they are.
    ///
    /// # Errors
    /// When a peer has the new key; nothing changed then.
    pub fn set_identity(
        &mut self,
        now: Now,
        fabric: &str,
        private_key: PrivateKey,
    ) -> Result<(), SetIdentityError> {
        let identity = Identity::new(fabric, private_key);
        if let Some(&peer) = self.by_key.get(identity.public()) {
            return Err(SetIdentityError::PeerHasKey { peer });
        }
        if identity.is_same(&self.identity) {
            return Ok(());
        }
        if identity.public() != self.identity.public() {
            self.memory.change_owner(*identity.public());
        }
        self.cookies = CookieChecker::new(identity.public(), &mut *self.rng, now.instant);
        self.gate = ReplayGate::default();
        self.identity = identity;
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.begin_anew(id, now);
        }
        Ok(())
    }

    /// Forgets all that was agreed on with a peer, and begins again.
    fn begin_anew(&mut self, id: PeerId, now: Now) {
        self.erase(id);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let stamps = self.memory.stamps(&peer.public_key);
        let line = self.clock.line(stamps, now.instant);
        peer.begin_anew(self.identity.public(), line);
        self.restart_handshake(id, now);
    }

    /// Announces another limit for inner frames from the next handshake on. A higher one is told
    /// at once, by a handshake with every peer that there is a session with; of a lower one peers
    /// need not know, as what is too long for the underlay is dropped where it is sent.
    pub fn set_max_frame(&mut self, now: Now, max_frame: u16) {
        let grows = max_frame > self.announced.max_frame;
        self.announced.max_frame = max_frame;
        let speaking = |peer: &Peer| peer.sessions.current.is_some();
        let told = self
            .peers
            .iter()
            .filter(|(_, peer)| grows && speaking(peer));
        for id in told.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.start_handshake(id, now);
        }
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.follow_path(id, now);
        }
    }
}
