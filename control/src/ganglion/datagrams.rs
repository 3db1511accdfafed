//! Messages without a session: what is sent, and in which order what arrives is judged.
//!
//! Cheap checks come first. Nothing is answered but a verified initiation and, under load, a
//! message with a valid mac1.

use core::net::SocketAddr;

use omni_wire::handshake::{
    self, CookieReply, Initiation, InitiationPayload, Response, ResponsePayload, Tai64n,
};
use omni_wire::header::MessageType;
use omni_wire::{DropReason, Now, WallTime};

use super::{Ganglion, Route};
use crate::cookie::{CookieKeeper, Mac};
use crate::handshake::{Agreement, ConsumedInitiation, CreatedInitiation};
use crate::message::{Command, InstallSession, PeerId, Role};
use crate::peer::{SentInitiation, Session};
use crate::random;

/// What the checks before any public-key operation need of a handshake message.
struct Proof<'a> {
    /// Where it came from.
    route: Route,
    /// Its sender's index.
    sender_session: u32,
    mac1: &'a Mac,
    mac2: &'a Mac,
    /// What mac2 covers.
    covered: &'a [u8],
}

impl Ganglion {
    pub(super) fn receive(
        &mut self,
        now: Now,
        route: Route,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        match handshake::classify(datagram)? {
            MessageType::Initiation => {
                self.receive_initiation(now, route, &Initiation::parse(datagram)?)
            }
            MessageType::Response => self.receive_response(now, route, &Response::parse(datagram)?),
            MessageType::CookieReply => {
                self.receive_cookie_reply(now, &CookieReply::parse(datagram)?)
            }
            MessageType::Data
            | MessageType::Control
            | MessageType::ReflectProbe
            | MessageType::ReflectAnswer => Err(DropReason::MessageMalformed),
        }
    }

    fn receive_initiation(
        &mut self,
        now: Now,
        route: Route,
        initiation: &Initiation<'_>,
    ) -> Result<(), DropReason> {
        if !self
            .cookies
            .verify_mac1(initiation.before_mac1(), initiation.mac1())
        {
            return Err(DropReason::HandshakeBadMac);
        }
        if self.gate.knows(initiation.mac1()) {
            return Err(DropReason::HandshakeReplayed);
        }
        self.admit(
            now,
            &Proof {
                route,
                sender_session: initiation.sender_session(),
                mac1: initiation.mac1(),
                mac2: initiation.mac2(),
                covered: initiation.before_mac2(),
            },
        )?;

        let ephemeral = random::key(&mut *self.rng);
        let consumed = ConsumedInitiation::consume(&self.identity, &ephemeral, initiation)?;
        let Some(&id) = self.by_key.get(&consumed.remote) else {
            self.knocks.remember(now.instant, consumed.remote);
            return Err(DropReason::HandshakeUnknownPeer);
        };
        self.accept_initiation(now, id, &consumed)?;
        self.gate.remember(initiation.mac1());
        self.send_response(now, route, id, consumed)
    }

    /// Whether a verified initiation of the peer is to be answered. If so, none that is as old
    /// will be.
    fn accept_initiation(
        &mut self,
        now: Now,
        id: PeerId,
        consumed: &ConsumedInitiation,
    ) -> Result<(), DropReason> {
        let stamp = consumed.timestamp();
        let greatest = self.memory.stamps(&consumed.remote).theirs;
        if !self.clock.accepts(stamp, greatest, now) {
            return Err(DropReason::HandshakeReplayed);
        }
        let peer = self
            .peers
            .get_mut(&id)
            .ok_or(DropReason::HandshakeUnknownPeer)?;
        let spacing = self.timers.initiation_spacing;
        if peer
            .answered_at
            .is_some_and(|at| now.instant.since(at) < spacing)
        {
            return Err(DropReason::HandshakeRateLimited);
        }
        peer.answered_at = Some(now.instant);
        let clock = self.clock.latest(now);
        self.memory.accepted_theirs(consumed.remote, stamp, clock);
        Ok(())
    }

    /// Answers a verified initiation to where it came from. That does not move the peer, but it
    /// is better than nothing where it is not known at all where the peer is.
    fn send_response(
        &mut self,
        now: Now,
        route: Route,
        id: PeerId,
        consumed: ConsumedInitiation,
    ) -> Result<(), DropReason> {
        let session_id = self.unused_index();
        let peer = self
            .peers
            .get_mut(&id)
            .ok_or(DropReason::HandshakeUnknownPeer)?;
        let created = consumed.create_response(&peer.preshared_key, session_id, &self.announced)?;
        let mut message = created.message;
        set_macs(&mut message, &mut peer.cookies, now);
        let is_homeless = peer.endpoint.is_none();

        self.transmit(route, &message);
        self.install(now, id, created.agreement);
        if is_homeless {
            self.move_to(id, route.remote, route.local);
        }
        Ok(())
    }

    fn receive_response(
        &mut self,
        now: Now,
        route: Route,
        response: &Response<'_>,
    ) -> Result<(), DropReason> {
        if !self
            .cookies
            .verify_mac1(response.before_mac1(), response.mac1())
        {
            return Err(DropReason::HandshakeBadMac);
        }
        let awaited = response.receiver_session();
        let id = *self
            .indices
            .get(&awaited)
            .ok_or(DropReason::HandshakeUnexpected)?;
        let is_awaited = |id| self.peers.get(id).and_then(|p| p.awaited_index()) == Some(awaited);
        if !is_awaited(&id) {
            return Err(DropReason::HandshakeUnexpected);
        }
        self.admit(
            now,
            &Proof {
                route,
                sender_session: response.sender_session(),
                mac1: response.mac1(),
                mac2: response.mac2(),
                covered: response.before_mac2(),
            },
        )?;

        let unexpected = DropReason::HandshakeUnexpected;
        let peer = self.peers.get_mut(&id).ok_or(unexpected)?;
        let attempt = peer.attempt.as_mut().ok_or(unexpected)?;
        let sent = attempt.last.as_mut().ok_or(unexpected)?;
        let consumed = sent.created.consume_response(response)?;
        let (stamp, sent_at, key) = (sent.stamp, sent.sent_at, peer.public_key);
        peer.line.accepted(stamp, sent_at);
        let beyond = peer.line.beyond().map(Tai64n::from_wall);
        let (stamp, clock) = (Tai64n::from_wall(stamp), self.clock.latest(now));
        self.memory.accepted_ours(key, stamp, beyond, clock);
        self.drop_attempt(id);
        self.found_at(id, route);
        self.install(now, id, consumed.agreement);
        Ok(())
    }

    fn receive_cookie_reply(
        &mut self,
        now: Now,
        reply: &CookieReply<'_>,
    ) -> Result<(), DropReason> {
        let id = self.indices.get(&reply.receiver_session());
        let peer = id.and_then(|id| self.peers.get_mut(id));
        let peer = peer
            .filter(|p| p.cookies.awaits_cookie())
            .ok_or(DropReason::HandshakeUnexpected)?;
        if peer
            .cookies
            .consume(reply.nonce(), reply.sealed(), now.instant)
        {
            Ok(())
        } else {
            Err(DropReason::HandshakeInvalid)
        }
    }

    /// Whether a message with a valid mac1 may cause public-key operations. Under load its sender
    /// has to show first that it receives at its address, and then has to keep to a rate.
    ///
    /// A cookie costs a peer one retry's time, 5 s. So what comes from where a peer is known to be
    /// may pass without one, at a rate that suits a peer. Who forges that address takes the permits
    /// of that one peer, which then needs a cookie like everyone else.
    fn admit(&mut self, now: Now, proof: &Proof<'_>) -> Result<(), DropReason> {
        if !self.load.count(now.instant) {
            return Ok(());
        }
        self.cookies.rotate(&mut *self.rng, now.instant);
        let remote = proof.route.remote;
        if self.cookies.verify_mac2(remote, proof.covered, proof.mac2) {
            return if self.sources.admit(remote.ip(), now.instant) {
                Ok(())
            } else {
                Err(DropReason::HandshakeRateLimited)
            };
        }
        let known = self.peer_at(remote);
        if known.is_some_and(|peer| peer.permits.admit(now.instant)) {
            return Ok(());
        }
        let (nonce, sealed) = self.cookies.seal_cookie(remote, proof.mac1, &mut *self.rng);
        let reply = handshake::cookie_reply(proof.sender_session, &nonce, &sealed);
        self.transmit_cookie_reply(proof.route, &reply);
        Err(DropReason::HandshakeNoCookie)
    }

    /// Sends the first or the next initiation of the handshake that we run with the peer. From the
    /// second on it is sent wherever the peer may be: what is known may be out of date. To a peer
    /// that there was no session with yet, the first one is as well: nothing is known.
    pub(super) fn send_initiation(&mut self, id: PeerId, now: Now) {
        let session_id = self.unused_index();
        let ephemeral = random::key(&mut *self.rng);
        let jitter = random::jitter(&mut *self.rng, self.timers.handshake_jitter);
        let announced = self.announced;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let (last_index, route) = (peer.awaited_index(), Self::route_to(peer));
        let (Some(attempt), Some(route)) = (&mut peer.attempt, route) else {
            return;
        };
        attempt.send_at = now.instant + self.timers.handshake_retry + jitter;
        let is_first = !std::mem::replace(&mut attempt.has_begun, true);
        let stamp = peer.line.next(is_first, now);
        let (last, beyond) = (peer.line.last(), peer.line.beyond());
        let (last, beyond) = (Tai64n::from_wall(last), beyond.map(Tai64n::from_wall));
        self.memory.gave(peer.public_key, last, beyond);
        let payload = initiation_payload(&announced, stamp);
        let remote = (&peer.public_key, &peer.preshared_key);
        // Keys with which this fails are refused when a peer is added.
        let Ok((created, mut message)) =
            CreatedInitiation::create(&self.identity, remote, &ephemeral, session_id, &payload)
        else {
            return;
        };
        attempt.last = Some(SentInitiation {
            created,
            stamp,
            sent_at: now.instant,
        });
        peer.initiated_at = Some(now.instant);
        self.handshakes.initiations += 1;
        set_macs(&mut message, &mut peer.cookies, now);

        if let Some(index) = last_index {
            self.indices.remove(&index);
        }
        let others = peer.candidates.iter().filter(|&&at| at != route.remote);
        let looks_around = !is_first || peer.last_handshake.is_none();
        let others: Vec<SocketAddr> = others.filter(|_| looks_around).copied().collect();
        self.indices.insert(session_id, id);
        self.transmit(route, &message);
        for remote in others {
            self.transmit(
                Route {
                    remote,
                    local: None,
                },
                &message,
            );
        }
    }

    /// Gives a new session to the workers.
    fn install(&mut self, now: Now, id: PeerId, agreement: Agreement) {
        let jitter = random::jitter(&mut *self.rng, self.timers.handshake_jitter);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let session = Session {
            id: agreement.session_id,
            role: agreement.role,
            established_at: now.instant,
            rekey_at: now.instant + self.timers.rekey_after + jitter,
            capabilities: self.announced.capabilities & agreement.peer_capabilities,
            peer_max_frame: agreement.peer_max_frame,
        };
        self.handshakes.rekeys += u64::from(peer.sessions.current.is_some());
        match agreement.role {
            Role::Initiator => self.handshakes.initiated += 1,
            Role::Responder => self.handshakes.answered += 1,
        }
        let gone = peer
            .sessions
            .install(session, now.instant + self.timers.retire_after);
        peer.last_session_at = Some(now.instant);
        if agreement.role == Role::Initiator {
            peer.last_handshake = Some(now.instant);
        }
        self.indices.insert(session.id, id);
        self.commands
            .push_back(Command::InstallSession(Box::new(InstallSession {
                peer: id,
                session_id: agreement.session_id,
                remote_session_id: agreement.remote_session_id,
                role: agreement.role,
                receive_key: agreement.receive_key,
                send_key: agreement.send_key,
                peer_lanes: agreement.peer_lanes,
                peer_max_frame: agreement.peer_max_frame,
                established_at: now.instant,
            })));
        if let Some(gone) = gone {
            self.forget_session(gone.id);
        }
        if agreement.role == Role::Initiator {
            // The responder may not send before it heard something in the session.
            self.commands.push_back(Command::SendKeepalive { peer: id });
            self.follow_path(id, now);
        }
    }
}

/// What we say of ourselves in an initiation that is created at `stamp`.
fn initiation_payload(announced: &ResponsePayload, stamp: WallTime) -> InitiationPayload {
    InitiationPayload {
        timestamp: Tai64n::from_wall(stamp).0,
        lanes: announced.lanes,
        max_frame: announced.max_frame,
        capabilities: announced.capabilities,
    }
}

/// Completes a message to a peer with both macs, of which the second covers the first.
fn set_macs<const LEN: usize>(message: &mut [u8; LEN], cookies: &mut CookieKeeper, now: Now) {
    let mac1 = cookies.mac1(handshake::before_mac1(message));
    handshake::set_mac1(message, &mac1);
    let mac2 = cookies.mac2(handshake::before_mac2(message), now.instant);
    handshake::set_mac2(message, &mac2);
}
