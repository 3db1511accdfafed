//! The world of the tests: nodes, their workers, the network between them, and a clock.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;

use omni_control::message::{PeerId, Upcall};
use omni_control::{
    Ganglion, GanglionConfig, GanglionEvent, PeerConfig, PeerState, PeerStatus, PrivateKey,
    PublicKey, Random, Remembered, SymmetricKey, Timers,
};
use omni_wire::outer::Path;
use omni_wire::{DropReason, Instant, MacAddr, Now, WallTime};

use crate::worker::{Body, Worker};

/// A generator that gives the same sequence for the same seed (splitmix64).
#[derive(Clone)]
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True in `percent` of all cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

impl Random for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes()[..chunk.len()]);
        }
    }
}

/// A datagram under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Datagram {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) body: Body,
}

impl Datagram {
    /// Whether it is a handshake message of this type (octet 4).
    pub(crate) fn is_handshake(&self, kind: u8) -> bool {
        matches!(&self.body, Body::Handshake(message) if message.get(4) == Some(&kind))
    }
}

/// A node: Ganglion, workers, and the runtime between them.
pub(crate) struct Node {
    pub(crate) ganglion: Ganglion,
    pub(crate) worker: Worker,
    pub(crate) address: SocketAddr,
    pub(crate) public_key: PublicKey,
    /// All commands so far, in words.
    pub(crate) commands: Vec<String>,
    /// All events so far.
    pub(crate) events: Vec<GanglionEvent>,
    /// Whether events are answered at once by a path to the endpoint.
    pub(crate) resolves: bool,
    /// Addresses besides its own that it has and can be reached at.
    pub(crate) further: Vec<IpAddr>,
    /// How far its wall clock is ahead of the world's, in seconds.
    pub(crate) skew: i64,
    /// What was to be remembered last, as written.
    pub(crate) disk: Option<String>,
}

/// How a node is made.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) fabric: &'static str,
    pub(crate) psk: Option<[u8; 32]>,
    pub(crate) knows_endpoint: bool,
    pub(crate) timers: Timers,
    pub(crate) max_frame: u16,
    pub(crate) path_mtu: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            fabric: "lab",
            psk: None,
            knows_endpoint: true,
            timers: Timers::default(),
            max_frame: 1440,
            path_mtu: false,
        }
    }
}

/// The private key of the `index`th node.
pub(crate) fn private_key(index: usize) -> PrivateKey {
    let mut key = [0x11; 32];
    key[1] = u8::try_from(index).expect("few nodes");
    PrivateKey(key)
}

/// The address of the `index`th node.
pub(crate) fn address(index: usize) -> SocketAddr {
    format!("192.0.2.{}:51820", index + 1)
        .parse()
        .expect("an address and a port")
}

/// The peer that every node of a pair has.
pub(crate) const PEER: PeerId = PeerId(0);

fn config(setup: &Setup, index: usize, disk: Option<&str>) -> GanglionConfig {
    let remembered = disk.map(|text| Remembered::parse(text.as_bytes()).expect("what we wrote"));
    GanglionConfig {
        fabric: setup.fabric.to_owned(),
        private_key: private_key(index),
        lanes: 2,
        max_frame: setup.max_frame,
        capabilities: 0b11 + (1 << (8 + index)),
        workers: 1,
        path_mtu: setup.path_mtu,
        remembered,
    }
}

/// The same moment by a wall clock that is ahead.
fn skewed(now: Now, seconds: i64) -> Now {
    let skew = seconds * 1_000_000_000;
    Now {
        wall: WallTime(now.wall.0.saturating_add_signed(skew)),
        ..now
    }
}

impl Node {
    /// A node that has the other one of its pair as its peer.
    fn new(index: usize, setup: &Setup, seed: u64, now: Now, disk: Option<String>) -> Self {
        let rng = Box::new(Seeded(seed));
        let config = config(setup, index, disk.as_deref());
        let mut ganglion = Ganglion::with_timers(config, setup.timers, rng, now);
        let other = 1 - index;
        let added = ganglion.add_peer(
            now,
            PeerConfig {
                public_key: PublicKey::from_private(&private_key(other)),
                preshared_key: setup.psk.map(SymmetricKey),
                endpoint: setup.knows_endpoint.then(|| address(other)),
            },
        );
        assert_eq!(added, Ok(PEER));
        Self {
            public_key: ganglion.public_key(),
            ganglion,
            worker: Worker::default(),
            address: address(index),
            commands: Vec::new(),
            events: Vec::new(),
            resolves: true,
            further: Vec::new(),
            skew: 0,
            disk,
        }
    }

    /// Whether what is sent there arrives here.
    fn is_at(&self, destination: SocketAddr) -> bool {
        let elsewhere = |ip: &IpAddr| SocketAddr::new(*ip, self.address.port()) == destination;
        self.address == destination || self.further.iter().any(elsewhere)
    }

    /// The world's time as this node's clocks show it.
    fn now(&self, now: Now) -> Now {
        skewed(now, self.skew)
    }

    /// Plays the kernel: from the address asked for while there is one like that, to anywhere.
    pub(crate) fn path_to(&self, endpoint: SocketAddr, source: Option<IpAddr>) -> Path {
        let has = |ip: &IpAddr| self.further.contains(ip) || self.address.ip() == *ip;
        Path {
            source: source.filter(has).unwrap_or(self.address.ip()),
            ..path_to(endpoint)
        }
    }

    pub(crate) fn status(&self) -> PeerStatus {
        self.ganglion.peers().next().expect("a peer")
    }

    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        self.ganglion.drops().get(reason)
    }

    /// How many of the commands so far begin like this.
    pub(crate) fn count(&self, command: &str) -> usize {
        self.commands
            .iter()
            .filter(|text| text.starts_with(command))
            .count()
    }
}

/// A path to an endpoint.
pub(crate) fn path_to(endpoint: SocketAddr) -> Path {
    Path {
        source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        next_hop_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        vlan: None,
        source: "192.0.2.200".parse().expect("an address"),
        source_port: 51820,
        endpoint,
    }
}

/// What the network does to a datagram.
pub(crate) struct Network {
    pub(crate) latency: Duration,
    /// The most that is added at random: what is sent later may arrive earlier.
    pub(crate) jitter: Duration,
    pub(crate) loss_percent: u64,
    pub(crate) repeat_percent: u64,
    /// The longest inner frame that it carries, by the sender's index.
    pub(crate) carries: [usize; 2],
    /// A further reason to lose one: the sender's index, and the datagram.
    pub(crate) block: fn(usize, &Datagram) -> bool,
    under_way: BTreeMap<(Instant, u64), Datagram>,
    sequence: u64,
    rng: Seeded,
}

/// Two nodes and a network.
pub(crate) struct Pair {
    pub(crate) nodes: [Node; 2],
    pub(crate) net: Network,
    pub(crate) now: Now,
    /// Everything that was sent, lost or not: when, by whom, what.
    pub(crate) sent: Vec<(Instant, usize, Datagram)>,
    seed: u64,
}

impl Pair {
    /// Two nodes that start now, over a network with a latency of 20 ms.
    pub(crate) fn new(seed: u64) -> Self {
        Self::with([Setup::default(), Setup::default()], seed)
    }

    pub(crate) fn with(setups: [Setup; 2], seed: u64) -> Self {
        let now = Now {
            instant: Instant(1_000_000_000_000),
            wall: WallTime(1_750_000_000_000_000_000),
        };
        let [a, b] = &setups;
        let nodes = [
            Node::new(0, a, seed ^ 0xa, now, None),
            Node::new(1, b, seed ^ 0xb, now, None),
        ];
        let net = Network {
            latency: Duration::from_millis(20),
            jitter: Duration::ZERO,
            loss_percent: 0,
            repeat_percent: 0,
            carries: [usize::MAX; 2],
            block: |_, _| false,
            under_way: BTreeMap::new(),
            sequence: 0,
            rng: Seeded(seed),
        };
        Self {
            nodes,
            net,
            now,
            sent: Vec::new(),
            seed,
        }
    }

    /// A pair whose first node alone knows where the other one is, and has just spoken to it.
    pub(crate) fn established(seed: u64) -> Self {
        let deaf = Setup {
            knows_endpoint: false,
            ..Setup::default()
        };
        let mut pair = Self::with([Setup::default(), deaf], seed);
        pair.run(Duration::from_secs(1));
        pair.assert_established();
        pair
    }

    pub(crate) fn assert_established(&self) {
        for node in &self.nodes {
            assert_eq!(node.status().state, PeerState::Established);
        }
    }

    /// A node loses all it knew, and starts again.
    pub(crate) fn restart(&mut self, index: usize, setup: &Setup) {
        self.nodes[index].disk = None;
        self.restart_with_memory(index, setup);
    }

    /// A node starts again, with what it wrote to disk.
    pub(crate) fn restart_with_memory(&mut self, index: usize, setup: &Setup) {
        self.seed += 0x100;
        let node = &self.nodes[index];
        let (skew, disk) = (node.skew, node.disk.clone());
        let node = Node::new(index, setup, self.seed, skewed(self.now, skew), disk);
        self.nodes[index] = Node { skew, ..node };
    }

    /// The operator changes something at a node.
    pub(crate) fn operate<T>(
        &mut self,
        node: usize,
        change: impl FnOnce(&mut Ganglion, Now) -> T,
    ) -> T {
        let node = &mut self.nodes[node];
        let now = node.now(self.now);
        let result = change(&mut node.ganglion, now);
        self.settle();
        result
    }

    /// A host behind the node sends a frame.
    pub(crate) fn send(&mut self, from: usize, frame: u64) {
        self.settle();
        self.nodes[from].worker.send(PEER, frame, self.now.instant);
        self.settle();
    }

    /// Something arrives at a node.
    pub(crate) fn inject(&mut self, to: usize, source: SocketAddr, datagram: &[u8]) {
        let node = &mut self.nodes[to];
        let (now, local) = (node.now(self.now), Some(node.address.ip()));
        node.ganglion.handle_datagram(now, source, local, datagram);
        self.settle();
    }

    /// A worker says something.
    pub(crate) fn upcall(&mut self, to: usize, upcall: &Upcall) {
        let node = &mut self.nodes[to];
        let now = node.now(self.now);
        node.ganglion.handle_upcall(now, upcall);
        self.settle();
    }

    /// Lets `span` pass.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now.instant + span;
        self.settle();
        while let Some(at) = self.next_event().filter(|&at| at <= end) {
            self.advance_to(at);
            self.deliver();
            for index in 0..self.nodes.len() {
                let node = &mut self.nodes[index];
                let due = node.ganglion.poll_timeout();
                if due.is_some_and(|due| due <= self.now.instant) {
                    let now = node.now(self.now);
                    node.ganglion.handle_timeout(now);
                }
            }
            self.settle();
        }
        self.advance_to(end);
    }

    /// Sends a frame from each of `from` every `interval` for `span`; the frames are numbered
    /// from `first` on, and one number is used once. Returns the next number.
    pub(crate) fn chat(
        &mut self,
        from: &[usize],
        interval: Duration,
        span: Duration,
        first: u64,
    ) -> u64 {
        let end = self.now.instant + span;
        let mut frame = first;
        while self.now.instant < end {
            for &index in from {
                self.send(index, frame);
                frame += 1;
            }
            self.run(interval);
        }
        frame
    }

    /// When and by whom messages of this handshake type were sent.
    pub(crate) fn handshakes(&self, kind: u8) -> Vec<(Instant, usize)> {
        let of_kind = self
            .sent
            .iter()
            .filter(|(_, _, datagram)| datagram.is_handshake(kind));
        of_kind.map(|&(at, from, _)| (at, from)).collect()
    }

    /// The octets of all messages of this handshake type that `from` sent, lost or not.
    pub(crate) fn recorded(&self, kind: u8, from: usize) -> Vec<Vec<u8>> {
        let sent = self.sent.iter().filter(|(_, by, _)| *by == from);
        let of_kind = sent.filter_map(|(_, _, datagram)| match &datagram.body {
            Body::Handshake(message) if datagram.is_handshake(kind) => Some(message.clone()),
            _ => None,
        });
        of_kind.collect()
    }

    /// The octets of the last of them.
    pub(crate) fn last_handshake(&self, kind: u8, from: usize) -> Vec<u8> {
        let mut recorded = self.recorded(kind, from);
        recorded.pop().expect("such a message was sent")
    }

    fn next_event(&self) -> Option<Instant> {
        let arrival = self.net.under_way.keys().next().map(|&(at, _)| at);
        let timeouts = self
            .nodes
            .iter()
            .filter_map(|node| node.ganglion.poll_timeout());
        arrival.into_iter().chain(timeouts).min()
    }

    fn advance_to(&mut self, at: Instant) {
        self.now = self.now.advanced(at.since(self.now.instant));
    }

    fn deliver(&mut self) {
        let later = self
            .net
            .under_way
            .split_off(&(Instant(self.now.instant.0 + 1), 0));
        for datagram in std::mem::replace(&mut self.net.under_way, later).into_values() {
            let to = self
                .nodes
                .iter_mut()
                .find(|node| node.is_at(datagram.destination));
            let Some(node) = to else { continue };
            let (now, local) = (node.now(self.now), datagram.destination.ip());
            match &datagram.body {
                Body::Handshake(message) => {
                    node.ganglion
                        .handle_datagram(now, datagram.source, Some(local), message);
                }
                data @ Body::Data { .. } => {
                    let addresses = (datagram.source, local);
                    node.worker.receive(addresses, data, now.instant);
                }
            }
            self.settle();
        }
    }

    /// Carries everything that is ready between Ganglions, workers and network.
    fn settle(&mut self) {
        for index in 0..self.nodes.len() {
            while self.settle_node(index) {}
        }
    }

    fn settle_node(&mut self, index: usize) -> bool {
        let node = &mut self.nodes[index];
        let now = node.now(self.now);
        let mut busy = false;
        if let Some(remembered) = node.ganglion.take_remembered() {
            node.disk = Some(remembered.to_string());
        }
        while let Some(command) = node.ganglion.poll_command() {
            node.commands.push(format!("{command:?}"));
            node.worker.apply(command, now.instant);
            busy = true;
        }
        while let Some(event) = node.ganglion.poll_event() {
            let GanglionEvent::ResolvePath {
                peer,
                endpoint,
                source,
            } = event;
            node.events.push(event);
            if node.resolves {
                let path = node.path_to(endpoint, source);
                node.ganglion.handle_path(now, peer, endpoint, Some(path));
            }
            busy = true;
        }
        while let Some(upcall) = node.worker.upcalls.pop_front() {
            match &upcall {
                Upcall::Record { peer, record } => {
                    assert!(node.ganglion.handle_record(now, *peer, record));
                }
                _ => node.ganglion.handle_upcall(now, &upcall),
            }
            busy = true;
        }
        let mut out = std::mem::take(&mut node.worker.out);
        while let Some(transmit) = node.ganglion.poll_transmit() {
            let body = Body::Handshake(transmit.payload);
            out.push((transmit.source, transmit.destination, body));
        }
        let (address, further) = (node.address, node.further.clone());
        for (source, destination, body) in out {
            let source = source.filter(|ip| further.contains(ip));
            let source = source.map_or(address, |ip| SocketAddr::new(ip, address.port()));
            self.post(
                index,
                Datagram {
                    source,
                    destination,
                    body,
                },
            );
            busy = true;
        }
        busy
    }

    fn post(&mut self, from: usize, datagram: Datagram) {
        self.sent.push((self.now.instant, from, datagram.clone()));
        let net = &mut self.net;
        let copies = 1 + u64::from(net.rng.chance(net.repeat_percent));
        for _ in 0..copies {
            let lost = net.rng.chance(net.loss_percent)
                || datagram.body.inner_octets() > net.carries[from]
                || (net.block)(from, &datagram);
            let most = u64::try_from(net.jitter.as_nanos()).expect("a short time");
            let jitter = Duration::from_nanos(net.rng.next() % (most + 1));
            if !lost {
                let at = self.now.instant + net.latency + jitter;
                net.under_way.insert((at, net.sequence), datagram.clone());
                net.sequence += 1;
            }
        }
    }
}
