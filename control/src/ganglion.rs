//! The Ganglion: the peers of one node, and what is to be done about them now.
//!
//! After each `handle_*` call, everything that the `poll_*` calls give is to be taken. What is
//! not taken is kept, and only transmits are bounded by themselves: the oldest goes first.

use core::fmt;
use core::net::SocketAddr;
use std::collections::{BTreeMap, VecDeque};

use omni_wire::handshake::{InitiationPayload, ResponsePayload, Tai64n};
use omni_wire::limits::MAX_LANES;
use omni_wire::outer::Path;
use omni_wire::{DropCounters, DropReason, Instant, Now};

use crate::cookie::CookieChecker;
use crate::handshake::{ReplayGate, TimestampClock};
use crate::key::{PrivateKey, PublicKey, SymmetricKey};
use crate::load::{LoadGauge, SourceLimiter};
use crate::message::{Command, PeerId, PeerTraffic, TrafficTotals, Upcall};
use crate::noise::Identity;
use crate::peer::{Attempt, Peer};
use crate::random::{self, Random};
use crate::timers::{Timer, Timers};

mod datagrams;

/// The most datagrams that wait to be sent.
const MAX_TRANSMITS: usize = 1024;

/// What a [`Ganglion`] is made from.
#[derive(Clone, Debug)]
pub struct GanglionConfig {
    /// Name of the fabric; bound into every handshake.
    pub fabric: String,
    /// Who we are.
    pub private_key: PrivateKey,
    /// How many lanes we send on, 1..=256; brought into this range.
    pub lanes: u16,
    /// The longest inner frame we accept, in octets from the destination MAC on.
    pub max_frame: u16,
    /// What we can do beyond version 1, one bit each.
    pub capabilities: u32,
    /// How many workers there are.
    pub workers: usize,
}

/// A peer to be added.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Its identity.
    pub public_key: PublicKey,
    /// A secret shared beforehand, mixed into every handshake with it.
    pub preshared_key: Option<SymmetricKey>,
    /// Where it is. Without it, the peer must speak first.
    pub endpoint: Option<SocketAddr>,
}

/// Why a peer was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddPeerError {
    /// It has our own key.
    #[error("the public key is this node's own")]
    OwnKey,
    /// There is a peer with this key.
    #[error("there is a peer with this public key already")]
    Duplicate,
    /// No secret can be agreed on with this key.
    #[error("the public key is not one that a private key gives")]
    WeakKey,
    /// Indices are never reused, and all of them were given out.
    #[error("more than 65536 peers were added since the start")]
    TooMany,
}

/// A datagram to be sent from the fabric port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// What the runtime is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GanglionEvent {
    /// Find out how messages reach this endpoint, and keep [`Ganglion::handle_path`] informed.
    ResolvePath {
        /// Whose it is.
        peer: PeerId,
        /// Where the peer is now.
        endpoint: SocketAddr,
    },
}

/// How far things are with a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// No session, and none is being made.
    Idle,
    /// No session yet: a handshake is under way.
    Handshaking,
    /// There is a session to send in.
    Established,
}

/// A peer, to be shown.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its index.
    pub id: PeerId,
    /// Its identity.
    pub public_key: PublicKey,
    /// Where it is, if known.
    pub endpoint: Option<SocketAddr>,
    /// How far things are.
    pub state: PeerState,
    /// When a session with it last became usable.
    pub last_handshake: Option<Instant>,
    /// What both sides of the current session can do beyond version 1.
    pub capabilities: u32,
    /// What went to and fro.
    pub traffic: TrafficTotals,
}

/// The control plane of a node. See the crate's documentation.
pub struct Ganglion {
    identity: Identity,
    /// What we say of ourselves in handshakes.
    announced: ResponsePayload,
    workers: usize,
    timers: Timers,
    rng: Box<dyn Random>,
    clock: TimestampClock,
    gate: ReplayGate,
    cookies: CookieChecker,
    load: LoadGauge,
    sources: SourceLimiter,
    peers: BTreeMap<PeerId, Peer>,
    by_key: BTreeMap<PublicKey, PeerId>,
    /// Every index of ours that is in use, by a session or by an initiation.
    indices: BTreeMap<u32, PeerId>,
    /// `None` when all were given out.
    next_peer: Option<u16>,
    transmits: VecDeque<Transmit>,
    commands: VecDeque<Command>,
    events: VecDeque<GanglionEvent>,
    drops: DropCounters,
    /// When traffic was last looked at.
    polled_at: Instant,
}

impl Ganglion {
    /// A Ganglion without peers, with the protocol's timers.
    #[must_use]
    pub fn new(config: GanglionConfig, rng: Box<dyn Random>, now: Now) -> Self {
        Self::with_timers(config, Timers::default(), rng, now)
    }

    /// As [`Ganglion::new`], with other timers.
    #[must_use]
    pub fn with_timers(
        config: GanglionConfig,
        timers: Timers,
        mut rng: Box<dyn Random>,
        now: Now,
    ) -> Self {
        let identity = Identity::new(&config.fabric, config.private_key);
        let cookies = CookieChecker::new(identity.public(), &mut *rng, now.instant);
        Self {
            identity,
            announced: ResponsePayload {
                lanes: config.lanes.clamp(1, MAX_LANES),
                max_frame: config.max_frame,
                capabilities: config.capabilities,
            },
            workers: config.workers,
            timers,
            rng,
            clock: TimestampClock::default(),
            gate: ReplayGate::default(),
            cookies,
            load: LoadGauge::new(now.instant),
            sources: SourceLimiter::new(),
            peers: BTreeMap::new(),
            by_key: BTreeMap::new(),
            indices: BTreeMap::new(),
            next_peer: Some(0),
            transmits: VecDeque::new(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
            drops: DropCounters::new(),
            polled_at: now.instant,
        }
    }

    /// Our public key.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        *self.identity.public()
    }

    /// Adds a peer, and starts a handshake with it when it is known where it is.
    ///
    /// # Errors
    /// See [`AddPeerError`]; nothing changed then.
    pub fn add_peer(&mut self, now: Now, config: PeerConfig) -> Result<PeerId, AddPeerError> {
        let PeerConfig {
            public_key,
            preshared_key,
            endpoint,
        } = config;
        if public_key == *self.identity.public() {
            return Err(AddPeerError::OwnKey);
        }
        if self.by_key.contains_key(&public_key) {
            return Err(AddPeerError::Duplicate);
        }
        if !self.identity.can_agree_with(&public_key) {
            return Err(AddPeerError::WeakKey);
        }
        let index = self.next_peer.ok_or(AddPeerError::TooMany)?;
        self.next_peer = index.checked_add(1);

        let id = PeerId(index);
        let traffic = PeerTraffic::new(self.workers);
        self.commands.push_back(Command::AddPeer {
            peer: id,
            public_key,
            traffic: traffic.clone(),
        });
        let peer = Peer::new(public_key, preshared_key, self.identity.public(), traffic);
        self.peers.insert(id, peer);
        self.by_key.insert(public_key, id);
        match endpoint {
            Some(endpoint) => {
                self.set_endpoint(id, endpoint);
                self.start_handshake(id, now);
            }
            None => {
                self.commands.push_back(Command::SetReachable {
                    peer: id,
                    reachable: false,
                });
            }
        }
        Ok(id)
    }

    /// Forgets a peer, its sessions and its handshake. False when there is none.
    pub fn remove_peer(&mut self, peer: PeerId) -> bool {
        let Some(removed) = self.peers.remove(&peer) else {
            return false;
        };
        self.by_key.remove(&removed.public_key);
        self.indices.retain(|_, owner| *owner != peer);
        self.events
            .retain(|GanglionEvent::ResolvePath { peer: of, .. }| *of != peer);
        self.commands.push_back(Command::RemovePeer { peer });
        true
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
    }

    /// Takes in a datagram that arrived at the fabric port without a session.
    pub fn handle_datagram(&mut self, now: Now, source: SocketAddr, datagram: &[u8]) {
        if let Err(reason) = self.receive(now, source, datagram) {
            self.drops.count(reason);
        }
    }

    /// Takes in what a worker has to say. What it says of addresses is not for the Ganglion.
    pub fn handle_upcall(&mut self, now: Now, upcall: &Upcall) {
        match *upcall {
            Upcall::NeedSession { peer } | Upcall::RekeySoon { peer } => {
                let fresh = self.timers.handshake_retry;
                if self
                    .peers
                    .get(&peer)
                    .is_some_and(|p| !p.is_fresh(fresh, now.instant))
                {
                    self.start_handshake(peer, now);
                }
            }
            Upcall::Confirmed { session_id } => self.confirm(now, session_id),
            Upcall::Moved {
                peer,
                session_id,
                source,
            } => {
                // Whatever verified confirms its session, in whichever order workers report.
                self.confirm(now, session_id);
                let Some(moved) = self.peers.get(&peer) else {
                    return;
                };
                if moved
                    .sessions
                    .tells_endpoint(session_id, self.timers.handshake_retry)
                {
                    self.set_endpoint(peer, source);
                }
            }
            Upcall::Learned { .. } => {}
        }
    }

    /// Takes in how messages reach `endpoint`; `None` when they do not now.
    ///
    /// To be called when an event asked for it, and again whenever that changes. Ignored when the
    /// peer is elsewhere by now.
    pub fn handle_path(
        &mut self,
        _now: Now,
        peer: PeerId,
        endpoint: SocketAddr,
        path: Option<Path>,
    ) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if known.endpoint != Some(endpoint) || known.path == path {
            return;
        }
        let first = known.path.is_none();
        known.path = path;
        self.commands.push_back(Command::SetPath { peer, path });
        if first && known.sessions.current.is_some() {
            // What should have confirmed the session had no way to leave before.
            self.commands.push_back(Command::SendKeepalive { peer });
        }
    }

    /// Does what is due, and looks at the workers' traffic.
    pub fn handle_timeout(&mut self, now: Now) {
        self.polled_at = now.instant;
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in peers {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.watch
                    .observe(&peer.traffic.totals(), peer.last_handshake);
            }
            for timer in Timer::ALL {
                let due = self
                    .peers
                    .get(&id)
                    .and_then(|p| timer.deadline(p, &self.timers));
                if due.is_some_and(|at| at <= now.instant) {
                    self.fire(timer, id, now);
                }
            }
        }
    }

    /// When [`Ganglion::handle_timeout`] is to be called next; `None` when time changes nothing.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.peers.values().flat_map(|peer| {
            Timer::ALL
                .iter()
                .filter_map(|timer| timer.deadline(peer, &self.timers))
        });
        let poll = self.peers.values().any(Peer::is_alive);
        due.chain(poll.then(|| self.polled_at + self.timers.poll))
            .min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next command, for every worker, in this order.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The next thing for the runtime to do. At most one per peer waits: the latest.
    pub fn poll_event(&mut self) -> Option<GanglionEvent> {
        self.events.pop_front()
    }

    /// All peers, in the order of their indices.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> + '_ {
        self.peers.iter().map(|(&id, peer)| {
            let current = peer.sessions.current.as_ref();
            let state = match (current, &peer.attempt) {
                (Some(_), _) => PeerState::Established,
                (None, Some(_)) => PeerState::Handshaking,
                (None, None) => PeerState::Idle,
            };
            PeerStatus {
                id,
                public_key: peer.public_key,
                endpoint: peer.endpoint,
                state,
                last_handshake: peer.last_handshake,
                capabilities: current.map_or(0, |session| session.capabilities),
                traffic: peer.traffic.totals(),
            }
        })
    }

    /// What was dropped, by reason.
    #[must_use]
    pub const fn drops(&self) -> &DropCounters {
        &self.drops
    }

    fn fire(&mut self, timer: Timer, id: PeerId, now: Now) {
        match timer {
            Timer::Expire => self.expire(id, now.instant),
            Timer::Erase => self.erase(id),
            Timer::GiveUp => {
                self.drop_attempt(id);
                self.commands.push_back(Command::DropStaged { peer: id });
            }
            Timer::Retry => self.send_initiation(id, now),
            Timer::Rekey => self.start_handshake(id, now),
            Timer::Silence => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.watch.silence_handled(now.instant);
                }
                self.start_handshake(id, now);
            }
            Timer::Keepalive => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.watch.keepalive_ordered(now.instant);
                }
                self.commands.push_back(Command::SendKeepalive { peer: id });
            }
        }
    }

    fn expire(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        for session in peer.sessions.take_expired(self.timers.reject_after, now) {
            self.forget_session(session.id);
        }
    }

    fn erase(&mut self, id: PeerId) {
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
    fn start_handshake(&mut self, id: PeerId, now: Now) {
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
            created: None,
        });
        if start <= now.instant {
            self.send_initiation(id, now);
        }
    }

    /// Ends the handshake that we run with the peer, if any.
    fn drop_attempt(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if let Some(index) = peer.awaited_index() {
            self.indices.remove(&index);
        }
        peer.attempt = None;
    }

    /// A session turned out to be usable for sending: `next` becomes current.
    fn confirm(&mut self, now: Now, session_id: u32) {
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

    fn forget_session(&mut self, session_id: u32) {
        self.indices.remove(&session_id);
        self.commands
            .push_back(Command::EraseSession { session_id });
    }

    /// Messages for the peer go to `endpoint` from now on. The workers keep the old path until
    /// the new one is known.
    fn set_endpoint(&mut self, id: PeerId, endpoint: SocketAddr) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let before = peer.endpoint.replace(endpoint);
        if before == Some(endpoint) {
            return;
        }
        if before.is_none() {
            self.commands.push_back(Command::SetReachable {
                peer: id,
                reachable: true,
            });
        }
        self.events
            .retain(|GanglionEvent::ResolvePath { peer, .. }| *peer != id);
        self.events
            .push_back(GanglionEvent::ResolvePath { peer: id, endpoint });
    }

    /// An index that no session and no initiation of ours has, never 0.
    fn unused_index(&mut self) -> u32 {
        loop {
            let index = random::number(&mut *self.rng);
            if index != 0 && !self.indices.contains_key(&index) {
                return index;
            }
        }
    }

    fn initiation_payload(&self, timestamp: Tai64n) -> InitiationPayload {
        let ResponsePayload {
            lanes,
            max_frame,
            capabilities,
        } = self.announced;
        InitiationPayload {
            timestamp: timestamp.0,
            lanes,
            max_frame,
            capabilities,
        }
    }

    fn transmit(&mut self, destination: SocketAddr, payload: &[u8]) {
        if self.transmits.len() >= MAX_TRANSMITS {
            self.transmits.pop_front();
            self.drops.count(DropReason::MailboxFull);
        }
        self.transmits.push_back(Transmit {
            destination,
            payload: payload.to_vec(),
        });
    }
}

impl fmt::Debug for Ganglion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ganglion")
            .field("public_key", self.identity.public())
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
