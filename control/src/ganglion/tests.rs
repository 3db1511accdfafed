use core::time::Duration;

use omni_wire::handshake;
use omni_wire::outer::Path;
use omni_wire::{MacAddr, WallTime};

use super::*;
use crate::noise::tests::dh_count;
use crate::pmtu::Record;
use omni_membership::PrivateKey;

/// A generator for tests that counts up.
struct Counting(u64);

impl Random for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.0 += 1;
            chunk.copy_from_slice(&self.0.to_be_bytes()[8 - chunk.len()..]);
        }
    }
}

fn now() -> Now {
    Now {
        instant: Instant(1_000_000_000),
        wall: WallTime(1_750_000_000_000_000_000),
    }
}

fn ganglion(key: u8) -> Ganglion {
    ganglion_that(key, false)
}

/// One that asks for path MTUs, or not.
fn ganglion_that(key: u8, path_mtu: bool) -> Ganglion {
    let config = GanglionConfig {
        fabric: "lab".to_owned(),
        private_key: PrivateKey([key; 32]),
        lanes: 1,
        max_frame: 1440,
        capabilities: 0,
        workers: 1,
        path_mtu,
        remembered: None,
    };
    Ganglion::new(config, Box::new(Counting(u64::from(key) << 32)), now())
}

fn source() -> SocketAddr {
    "192.0.2.1:51820".parse().expect("an address and a port")
}

/// Two that have each other as peers, and the first one's initiation.
fn initiation() -> (Ganglion, Ganglion, Vec<u8>) {
    let (mut a, mut b) = (ganglion(1), ganglion(2));
    let peer = |key, endpoint| PeerConfig {
        public_key: key,
        preshared_key: None,
        endpoint,
    };
    let added = a.add_peer(now(), peer(b.public_key(), Some(source())));
    assert!(added.is_ok());
    assert!(b.add_peer(now(), peer(a.public_key(), None)).is_ok());
    let message = a.poll_transmit().expect("an initiation").payload;
    (a, b, message)
}

#[test]
fn a_ganglion_may_be_given_to_another_thread() {
    fn assert_send<T: Send>(_: &T) {}
    assert_send(&ganglion(1));
}

#[test]
fn who_called_before_it_was_known_is_called_back_once_it_is() {
    let (mut a, mut b) = (ganglion(1), ganglion(2));
    let peer = |key, endpoint| PeerConfig {
        public_key: key,
        preshared_key: None,
        endpoint,
    };
    let added = a.add_peer(now(), peer(b.public_key(), Some(source())));
    assert!(added.is_ok());
    let message = a.poll_transmit().expect("an initiation").payload;
    b.handle_datagram(now(), source(), None, &message);
    assert_eq!(b.drops().get(DropReason::HandshakeUnknownPeer), 1);
    let id = b.add_peer(now(), peer(a.public_key(), None)).expect("room");
    assert!(b.poll_transmit().is_none());
    assert!(b.set_places(now(), id, &[source()]));
    let call = b.poll_transmit().expect("it is called back");
    assert_eq!(call.destination, source());
    // Somebody else is not.
    let stranger = b.add_peer(now(), peer(ganglion(3).public_key(), None));
    assert!(b.set_places(now(), stranger.expect("room"), &[source()]));
    assert!(b.poll_transmit().is_none());
}

#[test]
fn a_wrong_mac1_costs_no_public_key_operation() {
    let (_, mut b, mut message) = initiation();
    let before = dh_count();
    for at in 8..message.len() - handshake::MAC_LEN {
        message[at] ^= 1;
        b.handle_datagram(now(), source(), None, &message);
        message[at] ^= 1;
    }
    assert_eq!(dh_count(), before);
    b.handle_datagram(now(), source(), None, &message);
    assert_eq!(dh_count(), before + 4, "es, ss, ee, se");
}

#[test]
fn a_replayed_initiation_costs_no_public_key_operation() {
    let (_, mut b, message) = initiation();
    b.handle_datagram(now(), source(), None, &message);
    let before = dh_count();
    for _ in 0..1000 {
        b.handle_datagram(
            now().advanced(Duration::from_secs(60)),
            source(),
            None,
            &message,
        );
    }
    assert_eq!(dh_count(), before);
    assert_eq!(b.drops().get(DropReason::HandshakeReplayed), 1000);
}

#[test]
fn an_unexpected_response_costs_no_public_key_operation() {
    let (mut a, mut b, message) = initiation();
    b.handle_datagram(now(), source(), None, &message);
    let response = b.poll_transmit().expect("a response").payload;
    a.handle_datagram(now(), source(), None, &response);
    assert_eq!(a.drops().total(), 0);
    let before = dh_count();
    a.handle_datagram(now(), source(), None, &response);
    assert_eq!(dh_count(), before);
    assert_eq!(a.drops().get(DropReason::HandshakeUnexpected), 1);
}

#[test]
fn indices_are_unique_and_never_zero() {
    /// Gives zero, then the same number again and again, then others.
    struct Stubborn(u8);
    impl Random for Stubborn {
        fn fill(&mut self, out: &mut [u8]) {
            self.0 += 1;
            out.fill(if self.0 < 4 { 0 } else { self.0 / 4 });
        }
    }
    let (mut a, _, _) = initiation();
    a.rng = Box::new(Stubborn(0));
    for _ in 0..20 {
        let index = a.unused_index();
        assert_ne!(index, 0);
        assert!(a.indices.insert(index, PeerId(0)).is_none());
    }
}

#[test]
fn every_index_in_use_belongs_to_something() {
    let (mut a, mut b, message) = initiation();
    assert_eq!(a.indices.len(), 1);
    b.handle_datagram(now(), source(), None, &message);
    let response = b.poll_transmit().expect("a response").payload;
    a.handle_datagram(now(), source(), None, &response);
    assert_eq!((a.indices.len(), b.indices.len()), (1, 1));
    for ganglion in [&mut a, &mut b] {
        ganglion.handle_timeout(now().advanced(Duration::from_secs(180)));
        assert!(ganglion.indices.is_empty());
        assert!(
            ganglion
                .peers
                .iter()
                .all(|(_, peer)| peer.sessions.are_empty())
        );
    }
}

#[test]
fn a_repeated_initiation_gives_its_old_index_back() {
    let (mut a, _, _) = initiation();
    for round in 1..10 {
        a.handle_timeout(now().advanced(Duration::from_millis(5400 * round)));
        assert!(a.poll_transmit().is_some());
        assert_eq!(a.indices.len(), 1);
    }
}

/// Initiations with a valid mac1 by somebody who is no peer.
fn junk(victim: &Ganglion, count: u64) -> Vec<Vec<u8>> {
    let mut stranger = ganglion(9);
    let mut messages = Vec::new();
    for round in 0..count {
        let peer = PeerConfig {
            public_key: victim.public_key(),
            preshared_key: None,
            endpoint: Some(source()),
        };
        let now = now().advanced(Duration::from_millis(20 * round));
        let added = stranger.add_peer(now, peer).expect("it was removed");
        messages.push(stranger.poll_transmit().expect("an initiation").payload);
        stranger.remove_peer(added);
    }
    messages
}

#[test]
fn public_key_work_is_bounded_under_any_flood() {
    let (mut a, mut b, _) = initiation();
    let known = "192.0.2.77:51820".parse().expect("an address and a port");
    let peer = b.by_key[&a.public_key()];
    b.set_endpoint(now(), peer, Some(known));
    a.handle_timeout(now());
    let messages = junk(&b, 2000);
    let before = dh_count();
    for (at, message) in (0_u32..).zip(&messages) {
        let anywhere = SocketAddr::new(core::net::Ipv4Addr::from_bits(at).into(), 1);
        for source in [anywhere, known] {
            b.handle_datagram(now(), source, None, message);
        }
    }
    // Two each for initiations of strangers: es and ss.
    let most = 2 * (512 + 3);
    let done = dh_count() - before;
    assert!((2 * 512..=most).contains(&done), "{done} operations");
}

/// A few nodes that all know each other, and everything between them.
struct Crowd {
    nodes: Vec<Ganglion>,
    rng: Counting,
    now: Now,
    /// From, to, and what.
    under_way: Vec<(usize, usize, Vec<u8>)>,
    /// The indices that were ever given to workers.
    sessions: Vec<(usize, u32)>,
    /// Probes of path MTUs: by whom, to whom, and what.
    probes: Vec<(usize, PeerId, std::sync::Arc<[u8]>)>,
    /// How many limits were found.
    limits: usize,
}

impl Crowd {
    const SIZE: usize = 5;

    fn address(node: usize) -> SocketAddr {
        SocketAddr::new([10, 0, 0, node as u8].into(), 51820)
    }

    fn new() -> Self {
        let asks = |n| ganglion_that(n as u8 + 1, true);
        let mut nodes: Vec<_> = (0..Self::SIZE).map(asks).collect();
        let keys: Vec<_> = nodes.iter().map(Ganglion::public_key).collect();
        for (at, node) in nodes.iter_mut().enumerate() {
            for (other, &public_key) in keys.iter().enumerate().filter(|(other, _)| *other != at) {
                let endpoint = (other % 2 == 0).then(|| Self::address(other));
                let peer = PeerConfig {
                    public_key,
                    preshared_key: None,
                    endpoint,
                };
                node.add_peer(now(), peer).expect("keys differ");
            }
        }
        Self {
            nodes,
            rng: Counting(77),
            now: now(),
            under_way: Vec::new(),
            sessions: Vec::new(),
            probes: Vec::new(),
            limits: 0,
        }
    }

    /// A number below `most`, by a multiplicative sequence.
    fn below(&mut self, most: usize) -> usize {
        self.rng.0 = self
            .rng
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(11);
        (self.rng.0 >> 33) as usize % most
    }

    /// One thing happens to one node. Returns which node, and how many commands it may cost.
    fn happen(&mut self) -> (usize, usize) {
        let at = self.below(Self::SIZE);
        let peer = PeerId(self.below(Self::SIZE - 1) as u16);
        let (now, local) = (self.now, Self::address(at).ip());
        let at_home = usize::from(peer.0) + usize::from(usize::from(peer.0) >= at);
        let elsewhere = if self.below(3) > 0 {
            Self::address(at_home)
        } else {
            SocketAddr::new([10, 0, 1, self.below(4) as u8].into(), 1)
        };
        let peers = Self::SIZE - 1;
        match self.below(16) {
            0..9 if !self.under_way.is_empty() => {
                let newest = self.under_way.len().saturating_sub(8);
                let which = newest + self.below(self.under_way.len() - newest);
                let (from, to, message) = self.under_way.remove(which);
                let source = Self::address(from);
                self.nodes[to].handle_datagram(now, source, Some(local), &message);
                return (to, 5);
            }
            9..12 if !self.sessions.is_empty() => {
                let newest = self.sessions.len().saturating_sub(8);
                let which = newest + self.below(self.sessions.len() - newest);
                let (owner, session_id) = self.sessions[which];
                let moved = Upcall::Moved {
                    peer,
                    session_id,
                    source: elsewhere,
                    local,
                };
                self.nodes[owner].handle_upcall(now, &moved);
                return (owner, 5);
            }
            12 => {
                let endpoint = (self.below(3) > 0).then_some(elsewhere);
                self.nodes[at].set_endpoint(now, peer, endpoint);
                return (at, 3);
            }
            13 if self.below(50) == 0 => {
                let key = crate::SymmetricKey([self.below(2) as u8; 32]);
                self.nodes[at].set_preshared_key(now, peer, Some(key));
                return (at, 3);
            }
            13 if !self.probes.is_empty() => {
                let newest = self.probes.len().saturating_sub(8);
                let which = newest + self.below(self.probes.len() - newest);
                let (owner, peer, probe) = self.probes[which].clone();
                if self.below(4) == 0 {
                    self.nodes[at].handle_record(now, peer, &probe);
                    return (at, 1);
                }
                let Some(Record::Probe { token, octets }) = Record::parse(&probe) else {
                    return (at, 0);
                };
                if let Command::SendRecord { record, .. } =
                    (Record::Answer { token, octets }).to(peer)
                {
                    self.nodes[owner].handle_record(now, peer, &record);
                }
                return (owner, 2);
            }
            14 => self.nodes[at].handle_upcall(now, &Upcall::NeedSession { peer }),
            _ => {
                let span = [20, 5000, 20_000, 100_000][self.below(4)];
                self.now = now.advanced(Duration::from_millis(span));
                self.nodes[at].handle_timeout(self.now);
            }
        }
        (at, 10 * peers)
    }

    fn take_all(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        while let Some(command) = node.poll_command() {
            match command {
                Command::InstallSession(install) => self.sessions.push((at, install.session_id)),
                Command::SendRecord { peer, record } if record.len() > 14 => {
                    self.probes.push((at, peer, record));
                }
                Command::SetFrameLimit { .. } => self.limits += 1,
                _ => {}
            }
        }
        while let Some(event) = node.poll_event() {
            let GanglionEvent::ResolvePath { peer, endpoint, .. } = event;
            let path = Path {
                source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
                next_hop_mac: MacAddr([2, 0, 0, 0, 0, 2]),
                vlan: None,
                source: Self::address(at).ip(),
                source_port: 51820,
                endpoint,
            };
            node.handle_path(self.now, peer, endpoint, Some(path));
            assert!(node.commands.len() <= 5, "{:?}", node.commands);
            while let Some(command) = node.poll_command() {
                if let Command::SendRecord { peer, record } = command {
                    self.probes.push((at, peer, record));
                }
            }
        }
        while let Some(transmit) = node.poll_transmit() {
            let to = (0..Self::SIZE).find(|&to| Self::address(to) == transmit.destination);
            self.under_way
                .extend(to.map(|to| (at, to, transmit.payload)));
        }
    }
}

#[test]
fn every_queue_and_table_keeps_its_bound() {
    let mut crowd = Crowd::new();
    for at in 0..Crowd::SIZE {
        crowd.take_all(at);
    }
    let mut most = 0;
    for _ in 0..20_000 {
        let (at, allowed) = crowd.happen();
        let node = &crowd.nodes[at];
        let peers = node.peers.len();
        assert!(node.commands.len() <= allowed, "{:?}", node.commands);
        assert!(node.events.len() <= peers);
        assert!(node.by_endpoint.len() <= peers);
        assert!(node.indices.len() <= 6 * peers);
        let known = node
            .peers
            .iter()
            .filter(|(_, peer)| peer.endpoint.is_some());
        let known: BTreeSet<_> = known
            .filter_map(|(&id, peer)| Some((peer.endpoint?, id)))
            .collect();
        assert_eq!(node.by_endpoint, known);
        most = most.max(node.indices.len());
        crowd.take_all(at);
        let probes = crowd.probes.len();
        crowd.probes.drain(..probes.saturating_sub(64));
    }
    assert!(crowd.limits > 10, "{} limits", crowd.limits);
    let sessions = crowd.sessions.len();
    assert!(
        sessions > 500 && most > 4,
        "{sessions} sessions, {most} indices at once"
    );
}
