//! The model of a node's workers: sessions, staging, replay and traffic as the engine has them,
//! one lane, and keys that are compared instead of used.

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use omni_control::SymmetricKey;
use omni_control::message::{Command, InstallSession, PeerId, PeerTraffic, Role, Upcall};
use omni_wire::Instant;
use omni_wire::outer::Path;

/// How many frames a worker stages for a peer.
const STAGED: usize = 64;

/// The age from which a worker does not use a session any more.
const REJECT_AFTER: Duration = Duration::from_secs(180);

/// What travels between nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Body {
    /// What a Ganglion sent.
    Handshake(Vec<u8>),
    /// What a worker sent: sealed with `key`, an empty one without a frame.
    Data {
        session_id: u32,
        key: SymmetricKey,
        nonce: u64,
        inner: Inner,
    },
}

impl Body {
    /// Octets of what is sealed in it.
    pub(crate) fn inner_octets(&self) -> usize {
        match self {
            Self::Handshake(_) => 0,
            Self::Data { inner, .. } => inner.octets(),
        }
    }

    /// The control record in it.
    pub(crate) fn record(&self) -> Option<&Arc<[u8]>> {
        match self {
            Self::Data {
                inner: Inner::Record(record),
                ..
            } => Some(record),
            _ => None,
        }
    }
}

/// What is sealed in a message of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Inner {
    Keepalive,
    /// One of this number, and of so many octets.
    Frame(u64, u16),
    Record(Arc<[u8]>),
}

impl Inner {
    fn octets(&self) -> usize {
        match self {
            Self::Keepalive => 0,
            Self::Frame(_, octets) => usize::from(*octets),
            Self::Record(record) => record.len(),
        }
    }
}

struct WorkerSession {
    install: InstallSession,
    sent: u64,
    seen: BTreeSet<u64>,
}

struct WorkerPeer {
    traffic: Arc<PeerTraffic>,
    reachable: bool,
    path: Option<Path>,
    /// The longest frame, where that was said.
    frame_limit: Option<u16>,
    current: Option<u32>,
    staged: VecDeque<u64>,
}

/// The model of a node's workers.
pub(crate) struct Worker {
    peers: BTreeMap<PeerId, WorkerPeer>,
    sessions: BTreeMap<u32, WorkerSession>,
    pub(crate) upcalls: VecDeque<Upcall>,
    /// From where, to where, and what.
    pub(crate) out: Vec<(Option<IpAddr>, SocketAddr, Body)>,
    /// Frames that arrived, in order.
    pub(crate) delivered: Vec<u64>,
    /// How many frames had to wait for a session.
    pub(crate) staged: u64,
    /// Frames dropped before they were sent.
    pub(crate) dropped: u64,
    /// Of them, those that were longer than the limit.
    pub(crate) too_long: u64,
    /// How long frames are.
    pub(crate) frame_octets: u16,
    /// Verified messages of which the session was not known any more.
    pub(crate) unknown_session: u64,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            peers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            upcalls: VecDeque::new(),
            out: Vec::new(),
            delivered: Vec::new(),
            staged: 0,
            dropped: 0,
            too_long: 0,
            frame_octets: 64,
            unknown_session: 0,
        }
    }
}

impl Worker {
    pub(crate) fn apply(&mut self, command: Command, now: Instant) {
        match command {
            Command::AddPeer { peer, traffic, .. } => {
                self.peers.insert(
                    peer,
                    WorkerPeer {
                        traffic,
                        reachable: false,
                        path: None,
                        frame_limit: None,
                        current: None,
                        staged: VecDeque::new(),
                    },
                );
            }
            Command::RemovePeer { peer } => {
                self.peers.remove(&peer);
                self.sessions
                    .retain(|_, session| session.install.peer != peer);
            }
            Command::SetPath { peer, path } => self.peer(peer).path = path,
            Command::SetReachable { peer, reachable } => self.peer(peer).reachable = reachable,
            Command::InstallSession(install) => self.install(*install, now),
            Command::ConfirmSession { session_id } => self.advance(session_id, now),
            Command::EraseSession { session_id } => self.erase(session_id),
            Command::SendKeepalive { peer } => self.send_in_current(peer, Inner::Keepalive, now),
            Command::SendRecord { peer, record } => {
                self.send_in_current(peer, Inner::Record(record), now);
            }
            Command::SetFrameLimit { peer, octets } => {
                self.peer(peer).frame_limit = Some(octets);
            }
            Command::DropStaged { peer } => {
                self.dropped += self.peer(peer).staged.drain(..).count() as u64;
            }
            other => panic!("the Ganglion does not know of addresses: {other:?}"),
        }
    }

    fn peer(&mut self, peer: PeerId) -> &mut WorkerPeer {
        self.peers
            .get_mut(&peer)
            .expect("commands name peers that were added")
    }

    fn install(&mut self, install: InstallSession, now: Instant) {
        let (id, role) = (install.session_id, install.role);
        let session = WorkerSession {
            install,
            sent: 0,
            seen: BTreeSet::new(),
        };
        assert!(
            self.sessions.insert(id, session).is_none(),
            "indices are unique"
        );
        if role == Role::Initiator {
            self.advance(id, now);
        }
    }

    fn advance(&mut self, session_id: u32, now: Instant) {
        let Some(session) = self.sessions.get(&session_id) else {
            return;
        };
        let id = session.install.peer;
        self.peer(id).current = Some(session_id);
        for frame in std::mem::take(&mut self.peer(id).staged) {
            self.send(id, frame, now);
        }
    }

    fn erase(&mut self, session_id: u32) {
        let session = self
            .sessions
            .remove(&session_id)
            .expect("it was installed, and once");
        let peer = self.peer(session.install.peer);
        peer.current.take_if(|current| *current == session_id);
    }

    /// A frame for the peer leaves, is staged, or is dropped.
    pub(crate) fn send(&mut self, id: PeerId, frame: u64, now: Instant) {
        let current = self.peer(id).current;
        let session = current.and_then(|current| self.sessions.get(&current));
        if session.is_some_and(|s| now.since(s.install.established_at) < REJECT_AFTER) {
            let octets = self.frame_octets;
            if self
                .peer(id)
                .frame_limit
                .is_some_and(|limit| octets > limit)
            {
                self.dropped += 1;
                self.too_long += 1;
                return;
            }
            self.send_in_current(id, Inner::Frame(frame, octets), now);
            return;
        }
        let peer = self.peer(id);
        if !peer.reachable {
            self.dropped += 1;
            return;
        }
        peer.staged.push_back(frame);
        let overflow = peer.staged.len() > STAGED;
        if overflow {
            peer.staged.pop_front();
        }
        self.staged += 1;
        self.dropped += u64::from(overflow);
        self.upcalls.push_back(Upcall::NeedSession { peer: id });
    }

    fn send_in_current(&mut self, id: PeerId, inner: Inner, now: Instant) {
        let peer = self
            .peers
            .get_mut(&id)
            .expect("commands name peers that were added");
        let Some(session) = peer
            .current
            .and_then(|current| self.sessions.get_mut(&current))
        else {
            return;
        };
        let is_frame = matches!(inner, Inner::Frame(..));
        let Some(path) = peer.path else {
            self.dropped += u64::from(is_frame);
            return;
        };
        let body = Body::Data {
            session_id: session.install.remote_session_id,
            key: session.install.send_key.clone(),
            nonce: session.sent,
            inner,
        };
        session.sent += 1;
        let traffic = peer.traffic.worker(0);
        traffic.last_tx.store(now.0, Ordering::Relaxed);
        if is_frame {
            traffic.last_tx_data.store(now.0, Ordering::Relaxed);
            traffic.tx_frames.fetch_add(1, Ordering::Relaxed);
        }
        self.out.push((Some(path.source), path.endpoint, body));
    }

    pub(crate) fn receive(
        &mut self,
        (source, local): (SocketAddr, IpAddr),
        body: &Body,
        now: Instant,
    ) {
        let Body::Data {
            session_id,
            key,
            nonce,
            inner,
        } = body
        else {
            return;
        };
        let Some(session) = self.sessions.get_mut(session_id) else {
            self.unknown_session += 1;
            return;
        };
        assert_eq!(
            *key, session.install.receive_key,
            "both sides have the same keys"
        );
        let is_newest = session.seen.last().is_none_or(|newest| nonce > newest);
        if now.since(session.install.established_at) >= REJECT_AFTER || !session.seen.insert(*nonce)
        {
            return;
        }
        let (id, is_first) = (session.install.peer, session.seen.len() == 1);
        if is_first && session.install.role == Role::Responder {
            self.upcalls.push_back(Upcall::Confirmed {
                session_id: *session_id,
            });
            self.advance(*session_id, now);
        }
        let peer = self.peer(id);
        let traffic = peer.traffic.worker(0);
        traffic.last_rx.store(now.0, Ordering::Relaxed);
        if matches!(inner, Inner::Frame(..)) {
            traffic.last_rx_data.store(now.0, Ordering::Relaxed);
            traffic.rx_frames.fetch_add(1, Ordering::Relaxed);
        }
        let here = peer.path.map(|path| (path.endpoint, path.source));
        let moved = here != Some((source, local));
        if moved && is_newest {
            let session_id = *session_id;
            self.upcalls.push_back(Upcall::Moved {
                peer: id,
                session_id,
                source,
                local,
            });
        }
        match inner {
            Inner::Keepalive => {}
            Inner::Frame(frame, _) => self.delivered.push(*frame),
            Inner::Record(record) => self.upcalls.push_back(Upcall::Record {
                peer: id,
                record: record[..].into(),
            }),
        }
    }
}
