//! The Ganglion: the peers of one node, and what is to be done about them now.
//!
//! After each call that changes something, everything is to be taken, in this order: first
//! [`Ganglion::take_remembered`], which must be on disk before anything is sent, then what the
//! `poll_*` calls give. What is not taken is kept. Everything that is kept has its bound:
//!
//! | what | at most |
//! |---|---|
//! | datagrams that wait | 1024, the oldest goes first; and 256 cookie replies, the newest goes |
//! | events that wait | one per peer |
//! | commands of any call but the next | 5 |
//! | commands of a time-out, another identity or frame limit, an address gone | 10 per peer |
//! | probes of the path MTU that an answer is awaited to | 16 per peer |
//! | indices in use | 6 per peer: 5 sessions and an initiation |
//! | endpoints known, cookies of peers, permits for known endpoints | one per peer |
//! | initiations known to be replays | 1024 |
//! | sources that are told apart under load | 16384 |
//! | timestamps remembered | one entry per peer, and 4096 of peers that were removed |
//! | peers | 65536 over the life of a Ganglion |

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use omni_wire::handshake::ResponsePayload;
use omni_wire::limits::MAX_LANES;
use omni_wire::{DropCounters, DropReason, Instant, Now};

use crate::cookie::CookieChecker;
use crate::handshake::ReplayGate;
use crate::load::{LoadGauge, SourceLimiter};
use crate::memory::{Memory, Remembered};
use crate::message::{Command, PeerId, PeerTraffic, Upcall};
use crate::noise::Identity;
use crate::peer::Peer;
use crate::random::{self, Random};
use crate::timers::{Timer, Timers};
use crate::timestamp::Clock;
use omni_membership::PublicKey;

mod datagrams;
mod knocks;
mod path_mtu;
mod places;
mod reload;
mod schedule;
mod sessions;
mod types;

use knocks::Knocks;
use schedule::Peers;

pub use types::{
    AddPeerError, GanglionConfig, GanglionEvent, PeerConfig, PeerState, PeerStatus,
    SetIdentityError, Transmit,
};

/// The most datagrams that wait to be sent, cookie replies apart.
const MAX_TRANSMITS: usize = 1024;

/// The most cookie replies that wait to be sent. They have their own queue and leave last, so
/// that whoever provokes them holds up no handshake.
const MAX_COOKIE_REPLIES: usize = 256;

/// The control plane of a node. See the crate's documentation.
pub struct Ganglion {
    identity: Identity,
    /// What we say of ourselves in handshakes.
    announced: ResponsePayload,
    workers: usize,
    /// Whether path MTUs are probed.
    path_mtu: bool,
    timers: Timers,
    rng: Box<dyn Random>,
    clock: Clock,
    memory: Memory,
    gate: ReplayGate,
    cookies: CookieChecker,
    load: LoadGauge,
    sources: SourceLimiter,
    knocks: Knocks,
    peers: Peers,
    by_key: BTreeMap<PublicKey, PeerId>,
    /// Where peers are, to recognise them by under load. Several may share an address.
    by_endpoint: BTreeSet<(SocketAddr, PeerId)>,
    /// Every index of ours that is in use, by a session or by an initiation.
    indices: BTreeMap<u32, PeerId>,
    /// `None` when all were given out.
    next_peer: Option<u16>,
    transmits: VecDeque<Transmit>,
    cookie_replies: VecDeque<Transmit>,
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
        let memory = Memory::new(*identity.public(), config.remembered);
        Self {
            identity,
            announced: ResponsePayload {
                lanes: config.lanes.clamp(1, MAX_LANES),
                max_frame: config.max_frame,
                capabilities: config.capabilities,
            },
            workers: config.workers,
            path_mtu: config.path_mtu,
            timers,
            rng,
            clock: Clock::new(now, memory.clock()),
            memory,
            gate: ReplayGate::default(),
            cookies,
            load: LoadGauge::new(now.instant),
            sources: SourceLimiter::new(),
            knocks: Knocks::default(),
            peers: Peers::default(),
            by_key: BTreeMap::new(),
            by_endpoint: BTreeSet::new(),
            indices: BTreeMap::new(),
            next_peer: Some(0),
            transmits: VecDeque::new(),
            cookie_replies: VecDeque::new(),
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

    /// The peer with this key.
    #[must_use]
    pub fn peer(&self, public_key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(public_key).copied()
    }

    /// The key of a peer.
    #[must_use]
    pub fn public_key_of(&self, peer: PeerId) -> Option<PublicKey> {
        self.peers.get(&peer).map(|peer| peer.public_key)
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
        let line = self
            .clock
            .line(self.memory.stamps(&public_key), now.instant);
        let ours = self.identity.public();
        let peer = Peer::new(public_key, preshared_key, ours, traffic, line, now.instant);
        self.peers.insert(id, peer);
        self.by_key.insert(public_key, id);
        self.set_candidates(id, endpoint);
        match endpoint {
            Some(endpoint) => {
                self.move_to(id, endpoint, None);
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

    /// Forgets a peer, its sessions and its handshake. False when there is none. Its timestamps
    /// are remembered, so that nothing old is accepted when it is added again.
    pub fn remove_peer(&mut self, peer: PeerId) -> bool {
        let Some(removed) = self.peers.remove(&peer) else {
            return false;
        };
        self.by_key.remove(&removed.public_key);
        if let Some(endpoint) = removed.endpoint {
            self.by_endpoint.remove(&(endpoint, peer));
        }
        self.indices.retain(|_, owner| *owner != peer);
        self.forget_event(peer);
        self.commands.push_back(Command::RemovePeer { peer });
        true
    }

    /// Takes in a datagram that arrived at the fabric port without a session. Its answer leaves
    /// from `local`, the address of ours that it was sent to, if that is known.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        source: SocketAddr,
        local: Option<IpAddr>,
        datagram: &[u8],
    ) {
        let route = Route {
            remote: source,
            local,
        };
        if let Err(reason) = self.receive(now, route, datagram) {
            self.drops.count(reason);
        }
    }

    /// Takes in what a worker has to say. What it says of addresses is not for the Ganglion, and
    /// control records are for [`Ganglion::handle_record`].
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
                local,
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
                    self.move_to(peer, source, Some(local));
                }
            }
            Upcall::Learned { .. }
            | Upcall::Contested { .. }
            | Upcall::Bound { .. }
            | Upcall::Group { .. }
            | Upcall::Querier { .. }
            | Upcall::Strayed { .. }
            | Upcall::Record { .. } => {}
        }
    }

    /// Does what is due, and looks at the workers' traffic.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.instant >= self.polled_at + self.timers.poll {
            self.polled_at = now.instant;
            let peers: Vec<PeerId> = self.peers.keys().copied().collect();
            for id in peers {
                self.observe(id);
            }
        }
        for id in self.peers.due(now.instant, &self.timers) {
            self.observe(id);
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
        let poll = self.peers.is_any_alive();
        let poll = poll.then(|| self.polled_at + self.timers.poll);
        self.peers.next(&self.timers).into_iter().chain(poll).min()
    }

    /// What is to be remembered over a restart, when that changed since the last call.
    ///
    /// It has to be on disk before the next [`Ganglion::poll_transmit`]: a response to an
    /// initiation that would be forgotten could be provoked again. It is all that there is, and
    /// replaces what was written before.
    pub fn take_remembered(&mut self) -> Option<Remembered> {
        let by_key = &self.by_key;
        self.memory.take(|key| by_key.contains_key(key))
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let next = self.transmits.pop_front();
        next.or_else(|| self.cookie_replies.pop_front())
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
                local: peer.local,
                state,
                last_handshake: peer.last_handshake,
                unanswered_since: peer.unanswered_since(),
                capabilities: current.map_or(0, |session| session.capabilities),
                frame_limit: peer.path_mtu.limit(),
                accepts: current.map(|session| session.peer_max_frame),
                traffic: peer.traffic.totals(),
            }
        })
    }

    /// What was dropped, by reason.
    #[must_use]
    pub const fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// Looks at a peer's traffic.
    fn observe(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            let totals = peer.traffic.totals();
            peer.watch.observe(&totals, peer.last_handshake);
        }
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
            Timer::PathMtu => self.probe_path(id, now),
        }
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

    fn transmit(&mut self, route: Route, payload: &[u8]) {
        if self.transmits.len() >= MAX_TRANSMITS {
            self.transmits.pop_front();
            self.drops.count(DropReason::MailboxFull);
        }
        self.transmits.push_back(route.carry(payload));
    }

    fn transmit_cookie_reply(&mut self, route: Route, payload: &[u8]) {
        if self.cookie_replies.len() >= MAX_COOKIE_REPLIES {
            self.drops.count(DropReason::MailboxFull);
        } else {
            self.cookie_replies.push_back(route.carry(payload));
        }
    }
}

/// Between which addresses a datagram travels.
#[derive(Clone, Copy)]
struct Route {
    /// The other side's.
    remote: SocketAddr,
    /// Ours, if that is known.
    local: Option<IpAddr>,
}

impl Route {
    /// A datagram to the other side.
    fn carry(self, payload: &[u8]) -> Transmit {
        Transmit {
            source: self.local,
            destination: self.remote,
            payload: payload.to_vec(),
        }
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
