//! Two nodes that have each other as peers, what their workers would do, and what has to hold at
//! every step: no session that the other side did not agree to, none twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use omni_control::message::{Command, InstallSession, PeerId, PeerTraffic, Role, Upcall};
use omni_control::{
    Ganglion, GanglionConfig, GanglionEvent, PeerConfig, PrivateKey, PublicKey, Random, Remembered,
    SymmetricKey,
};
use omni_wire::handshake::Initiation;
use omni_wire::outer::Path;
use omni_wire::{Instant, MacAddr, Now, WallTime};

/// When a pair begins.
const START: Now = Now {
    instant: Instant(1_000_000_000_000),
    wall: WallTime(1_750_000_000_000_000_000),
};

/// Messages that may be under way; beyond it the oldest are lost.
const UNDER_WAY_MAX: usize = 64;

/// Messages that an attacker keeps to send again.
const RECORDED_MAX: usize = 32;

/// Sessions that a node's workers may know of one peer.
const SESSIONS_MAX: usize = 5;

/// Until when both hear each other once all is calm.
const CALM: Duration = Duration::from_secs(60);

/// How often hosts send then.
const TICK: Duration = Duration::from_millis(100);

/// A generator that counts up from a number of its own.
struct Counting(u64);

impl Random for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.0 += 1;
            // Spread (Knuth, The Art of Computer Programming, s.6.4): keys differ in all octets.
            let spread = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            chunk.copy_from_slice(&spread[..chunk.len()]);
        }
    }
}

/// What a message says.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Without a session.
    Datagram(Vec<u8>),
    /// In a session: its receiver's index, and the key that it is sealed with.
    Data(u32, SymmetricKey),
}

/// A message under way.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) content: Content,
}

/// A node and what its workers know.
pub(crate) struct Node {
    pub(crate) ganglion: Ganglion,
    private_key: PrivateKey,
    public_key: PublicKey,
    /// Of the other node.
    peer: PeerId,
    peer_key: PublicKey,
    pub(crate) preshared_key: Option<SymmetricKey>,
    pub(crate) address: SocketAddr,
    /// How far its wall clock is ahead of the true time, in seconds.
    pub(crate) clock_ahead: i64,
    disk: Option<Remembered>,
    lives: u64,
    traffic: Option<Arc<PeerTraffic>>,
    /// Its endpoint and the path to it, as workers are told.
    path: Option<Path>,
    sessions: BTreeMap<u32, InstallSession>,
    current: Option<u32>,
    keepalives: usize,
    /// Indices that it gave in initiations.
    offered: BTreeSet<u32>,
    /// Every session that was ever installed, by index.
    installed: BTreeMap<u32, InstallSession>,
    /// The other side's indices that it made sessions for as a responder.
    answered: BTreeSet<u32>,
    /// Data messages that verified.
    pub(crate) heard: u64,
}

impl Node {
    fn ganglion(&self, now: Now) -> Ganglion {
        let config = GanglionConfig {
            fabric: "home".to_owned(),
            private_key: self.private_key.clone(),
            lanes: 1,
            max_frame: 1440,
            capabilities: 0,
            workers: 1,
            path_mtu: false,
            remembered: self.disk.clone(),
        };
        let [octet, ..] = self.private_key.0;
        let start = u64::from(octet) << 56 | self.lives << 32;
        Ganglion::new(config, Box::new(Counting(start)), now)
    }
}

/// Two nodes and what is under way between them.
pub(crate) struct Pair {
    pub(crate) nodes: [Node; 2],
    now: Now,
    pub(crate) under_way: VecDeque<Message>,
    pub(crate) recorded: VecDeque<Message>,
    /// Somebody made mac1 of changed messages right. As in WireGuard, that lets him change the
    /// indices that they name, and nothing else: they lead to keys that lead nowhere.
    pub(crate) forged: bool,
}

fn address(node: usize, place: u8) -> SocketAddr {
    let ip = Ipv4Addr::new(192, 0, 2, node as u8 * 100 + place % 16 + 1);
    SocketAddr::new(ip.into(), 51820)
}

impl Pair {
    /// Both know of each other; the first one knows where the second is and has begun to speak.
    pub(crate) fn new(both_know: bool) -> Self {
        let keys = [1, 2].map(|octet| PrivateKey([octet; 32]));
        let public = keys.each_ref().map(PublicKey::from_private);
        let node = |at: usize| {
            let other = 1 - at;
            let config = GanglionConfig {
                fabric: String::new(),
                private_key: keys[at].clone(),
                lanes: 1,
                max_frame: 1440,
                capabilities: 0,
                workers: 1,
                path_mtu: false,
                remembered: None,
            };
            Node {
                // Replaced when the node starts.
                ganglion: Ganglion::new(config, Box::new(Counting(0)), START),
                private_key: keys[at].clone(),
                public_key: public[at],
                peer: PeerId(0),
                peer_key: public[other],
                preshared_key: None,
                address: address(at, 0),
                clock_ahead: 0,
                disk: None,
                lives: 0,
                traffic: None,
                path: None,
                sessions: BTreeMap::new(),
                current: None,
                keepalives: 0,
                offered: BTreeSet::new(),
                installed: BTreeMap::new(),
                answered: BTreeSet::new(),
                heard: 0,
            }
        };
        let mut pair = Self {
            nodes: [node(0), node(1)],
            now: START,
            under_way: VecDeque::new(),
            recorded: VecDeque::new(),
            forged: false,
        };
        pair.start(1, both_know);
        pair.start(0, true);
        pair
    }

    /// The time as a node has it.
    pub(crate) fn now(&self, at: usize) -> Now {
        let ahead = self.nodes[at].clock_ahead * 1_000_000_000;
        Now {
            instant: self.now.instant,
            wall: WallTime(self.now.wall.0.saturating_add_signed(ahead)),
        }
    }

    /// A node starts, with what is on its disk.
    pub(crate) fn start(&mut self, at: usize, knows_where: bool) {
        let now = self.now(at);
        let there = self.nodes[1 - at].address;
        let node = &mut self.nodes[at];
        node.lives += 1;
        node.ganglion = node.ganglion(now);
        node.sessions.clear();
        (node.current, node.path, node.traffic) = (None, None, None);
        let config = PeerConfig {
            public_key: node.peer_key,
            preshared_key: node.preshared_key.clone(),
            endpoint: knows_where.then_some(there),
        };
        node.peer = node
            .ganglion
            .add_peer(now, config)
            .expect("another node's key");
        self.drain(at);
    }

    /// The other node's key.
    pub(crate) fn key_of_receiver(&self, destination: SocketAddr) -> Option<PublicKey> {
        let receiver = self.nodes.iter().find(|node| node.address == destination);
        receiver.map(|node| node.public_key)
    }

    /// Time passes, and what is due is done.
    pub(crate) fn advance(&mut self, span: Duration) {
        self.now = self.now.advanced(span);
        for at in 0..2 {
            let now = self.now(at);
            if self.nodes[at]
                .ganglion
                .poll_timeout()
                .is_some_and(|due| due <= now.instant)
            {
                self.nodes[at].ganglion.handle_timeout(now);
                self.drain(at);
            }
        }
    }

    /// The earliest time at which either wants to be called, from now on.
    pub(crate) fn until_due(&self) -> Duration {
        let due = self
            .nodes
            .iter()
            .filter_map(|node| node.ganglion.poll_timeout())
            .min();
        due.map_or(Duration::from_secs(1), |due| due.since(self.now.instant))
    }

    /// A message arrives, or is lost where nobody is.
    pub(crate) fn deliver(&mut self, message: &Message) {
        let found = self
            .nodes
            .iter()
            .position(|node| node.address == message.destination);
        let Some(at) = found else {
            return;
        };
        let now = self.now(at);
        let node = &mut self.nodes[at];
        match &message.content {
            Content::Datagram(octets) => {
                let local = Some(node.address.ip());
                node.ganglion
                    .handle_datagram(now, message.source, local, octets);
            }
            Content::Data(session_id, key) => {
                let opens = |session: &&InstallSession| session.receive_key == *key;
                if node.sessions.get(session_id).filter(opens).is_none() {
                    return;
                }
                node.heard += 1;
                if let Some(traffic) = &node.traffic {
                    let traffic = traffic.worker(0);
                    traffic.last_rx.store(now.instant.0, Ordering::Relaxed);
                    traffic.last_rx_data.store(now.instant.0, Ordering::Relaxed);
                }
                let confirmed = Upcall::Confirmed {
                    session_id: *session_id,
                };
                node.ganglion.handle_upcall(now, &confirmed);
                if node.path.is_none_or(|path| path.endpoint != message.source) {
                    let moved = Upcall::Moved {
                        peer: node.peer,
                        session_id: *session_id,
                        source: message.source,
                        local: node.address.ip(),
                    };
                    node.ganglion.handle_upcall(now, &moved);
                }
            }
        }
        self.drain(at);
    }

    /// A host of a node sends a frame. Without a session the node is told that one is needed.
    pub(crate) fn send(&mut self, at: usize) {
        let now = self.now(at);
        let node = &mut self.nodes[at];
        match node.current {
            Some(_) => {
                if let Some(traffic) = &node.traffic {
                    let traffic = traffic.worker(0);
                    traffic.last_tx.store(now.instant.0, Ordering::Relaxed);
                    traffic.last_tx_data.store(now.instant.0, Ordering::Relaxed);
                }
                self.seal(at);
            }
            None => {
                let peer = node.peer;
                node.ganglion
                    .handle_upcall(now, &Upcall::NeedSession { peer });
            }
        }
        self.drain(at);
    }

    /// A worker sends in the current session, if it has one and knows the way.
    fn seal(&mut self, at: usize) {
        let node = &self.nodes[at];
        let session = node.current.and_then(|id| node.sessions.get(&id));
        if let (Some(session), Some(path)) = (session, node.path) {
            let message = Message {
                source: node.address,
                destination: path.endpoint,
                content: Content::Data(session.remote_session_id, session.send_key.clone()),
            };
            self.put(message);
        }
    }

    fn put(&mut self, message: Message) {
        if self.recorded.len() == RECORDED_MAX {
            self.recorded.pop_front();
        }
        self.recorded.push_back(message.clone());
        if self.under_way.len() == UNDER_WAY_MAX {
            self.under_way.pop_front();
        }
        self.under_way.push_back(message);
    }

    /// A node is somewhere else from now on.
    pub(crate) fn roam(&mut self, at: usize, place: u8) {
        let gone = self.nodes[at].address;
        self.nodes[at].address = address(at, place);
        if gone != self.nodes[at].address {
            let now = self.now(at);
            self.nodes[at].ganglion.handle_address_gone(now, gone.ip());
            self.drain(at);
        }
    }

    /// The operator writes down where the other node is, and their secret.
    pub(crate) fn reload(&mut self, at: usize, there: SocketAddr, secret: Option<SymmetricKey>) {
        let now = self.now(at);
        let node = &mut self.nodes[at];
        node.preshared_key.clone_from(&secret);
        assert!(node.ganglion.set_endpoint(now, node.peer, Some(there)));
        assert!(node.ganglion.set_preshared_key(now, node.peer, secret));
        self.drain(at);
    }

    /// Nothing is lost any more, both know where the other is, and hosts send: each has to hear the
    /// other soon.
    pub(crate) fn calm(&mut self) {
        let secret = self.nodes[0].preshared_key.clone();
        for at in 0..2 {
            let there = self.nodes[1 - at].address;
            self.reload(at, there, secret.clone());
        }
        let mut passed = Duration::ZERO;
        while passed < CALM {
            let before = self.nodes.each_ref().map(|node| node.heard);
            (0..2).for_each(|at| self.send(at));
            // What a delivery leads to is delivered as well, and that comes to an end.
            for _ in 0..1000 {
                let Some(message) = self.under_way.pop_front() else {
                    break;
                };
                self.deliver(&message);
            }
            assert!(self.under_way.is_empty(), "nodes talk without end");
            let after = self.nodes.each_ref().map(|node| node.heard);
            if before[0] < after[0] && before[1] < after[1] {
                return;
            }
            self.advance(TICK);
            passed += TICK;
        }
        panic!("after {CALM:?} of calm they do not hear each other");
    }

    /// Takes all that a node has to say, in the order in which the runtime takes it.
    pub(crate) fn drain(&mut self, at: usize) {
        let now = self.now(at);
        loop {
            while let Some(command) = self.nodes[at].ganglion.poll_command() {
                self.follow(at, command);
            }
            let node = &mut self.nodes[at];
            let Some(GanglionEvent::ResolvePath { peer, endpoint, .. }) =
                node.ganglion.poll_event()
            else {
                break;
            };
            let path = Path {
                source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
                next_hop_mac: MacAddr([2, 0, 0, 0, 0, 2]),
                vlan: None,
                source: node.address.ip(),
                source_port: node.address.port(),
                endpoint,
            };
            node.ganglion.handle_path(now, peer, endpoint, Some(path));
        }
        let node = &mut self.nodes[at];
        if let Some(memory) = node.ganglion.take_remembered() {
            node.disk = Some(memory);
        }
        while let Some(sent) = self.nodes[at].ganglion.poll_transmit() {
            let node = &mut self.nodes[at];
            if let Ok(initiation) = Initiation::parse(&sent.payload) {
                node.offered.insert(initiation.sender_session());
            }
            let message = Message {
                source: node.address,
                destination: sent.destination,
                content: Content::Datagram(sent.payload),
            };
            self.put(message);
        }
        for _ in 0..std::mem::take(&mut self.nodes[at].keepalives) {
            self.seal(at);
        }
    }

    fn follow(&mut self, at: usize, command: Command) {
        match command {
            Command::AddPeer { traffic, .. } => self.nodes[at].traffic = Some(traffic),
            Command::SetPath { path, .. } => self.nodes[at].path = path,
            Command::InstallSession(session) => self.install(at, *session),
            Command::ConfirmSession { session_id } => {
                let node = &mut self.nodes[at];
                assert!(
                    node.sessions.contains_key(&session_id),
                    "confirmed, and unknown"
                );
                node.current = Some(session_id);
            }
            Command::EraseSession { session_id } => {
                let node = &mut self.nodes[at];
                node.sessions.remove(&session_id);
                node.current.take_if(|current| *current == session_id);
            }
            Command::SendKeepalive { .. } => self.nodes[at].keepalives += 1,
            _ => {}
        }
    }

    /// A session has to be what the other side agreed to, and new.
    fn install(&mut self, at: usize, session: InstallSession) {
        let other = &self.nodes[1 - at];
        assert_eq!(session.peer, self.nodes[at].peer);
        assert_ne!(session.session_id, 0);
        match session.role {
            Role::Initiator => {
                let agrees = |agreed: &&InstallSession| {
                    agreed.send_key == session.receive_key && agreed.receive_key == session.send_key
                };
                let agreed = other.installed.values().find(agrees);
                let agreed = agreed.expect("the responder installed it before it answered");
                let named = (agreed.session_id, agreed.remote_session_id);
                let ours = (session.remote_session_id, session.session_id);
                assert!(self.forged || named == ours, "{named:?} and {ours:?}");
            }
            Role::Responder => {
                let offered = session.remote_session_id;
                assert!(
                    self.forged || other.offered.contains(&offered),
                    "nobody asked for it"
                );
                let is_new = self.nodes[at].answered.insert(offered);
                assert!(self.forged || is_new, "an initiation was accepted twice");
            }
        }
        let node = &mut self.nodes[at];
        let id = session.session_id;
        if session.role == Role::Initiator {
            node.current = Some(id);
        }
        let before = node.installed.insert(id, session.clone());
        assert!(before.is_none(), "an index was given twice");
        node.sessions.insert(id, session);
        assert!(node.sessions.len() <= SESSIONS_MAX);
    }
}
