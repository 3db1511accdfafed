//! A fabric in memory.
//!
//! ```text
//! push(frame) -> access port -> egress -> sealed message -> network -> ingress -> delivered
//!                                 ^   Ganglion, Switch (as the runtime wires them)   ^
//! ```
//!
//! The network delivers every message at once and in order, to the worker that the test chooses.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use omni_control::message::{Command, FdbKey, Owner, PeerId, PortId};
use omni_control::{
    Ganglion, GanglionConfig, GanglionEvent, PeerConfig, PrivateKey, PublicKey, Random,
};
use omni_engine::control_plane::ControlPlane;
use omni_engine::datapath::policy::SwitchPolicy;
use omni_engine::datapath::session::SharedSession;
use omni_engine::datapath::{BURST_MAX, Datapath, DatapathConfig, Output, TableCommand};
use omni_engine::io::mem::{MemFrame, MemIo};
use omni_engine::io::{FrameIo, Port};
use omni_engine::switch::{Audience, Switch, SwitchConfig};
use omni_wire::outer::{Outer, Path};
use omni_wire::{DropReason, Instant, MacAddr, Now, WallTime};

pub(crate) const ACCESS: Port = Port::Access(PortId(0));
/// Inner frames at an underlay MTU of 1500.
pub(crate) const MAX_FRAME: usize = 1440;
const PORT: u16 = 51820;
const FRAMES: u64 = 4096;

/// A small generator (splitmix64): the same seed gives the same run.
#[derive(Clone, Debug)]
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

impl Random for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        for octet in out {
            *octet = self.next() as u8;
        }
    }
}

pub(crate) struct WorkerHalf {
    pub(crate) datapath: Datapath<MemFrame>,
    pub(crate) io: MemIo,
    out: Output<MemFrame>,
    burst: Vec<MemFrame>,
}

pub(crate) struct Host {
    pub(crate) plane: ControlPlane,
    pub(crate) workers: Vec<WorkerHalf>,
    pub(crate) address: SocketAddr,
    pub(crate) underlay_mac: MacAddr,
    /// Frames that came out of the access port, in order.
    pub(crate) delivered: VecDeque<Vec<u8>>,
    /// Whether the kernel knows ways to endpoints.
    pub(crate) routes: bool,
}

/// A message on the underlay, before it arrives.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    pub(crate) from: usize,
    pub(crate) frame: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) hosts: Vec<Host>,
    /// Data messages that left and have not arrived.
    pub(crate) wire: VecDeque<InFlight>,
    /// Handshake messages that left and have not arrived: sender, destination, octets.
    pub(crate) control_wire: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// Every data message ever sent, when recording.
    pub(crate) recorded: Option<Vec<InFlight>>,
    /// Whether the network loses everything.
    pub(crate) cut: bool,
    /// Which worker of the receiver a message goes to.
    pub(crate) steer: fn(&Outer, usize) -> usize,
}

#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) hosts: usize,
    pub(crate) workers: usize,
    pub ipv6: bool,
    pub(crate) max_frame: usize,
    /// Whether the kernel knows ways to endpoints.
    pub(crate) routes: bool,
    pub(crate) spread_ports: bool,
    /// Whether nodes answer who asks for addresses.
    pub(crate) suppression: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            hosts: 2,
            workers: 1,
            ipv6: false,
            max_frame: MAX_FRAME,
            routes: true,
            spread_ports: false,
            suppression: true,
        }
    }
}

/// A MAC address of a host behind node `node`.
pub(crate) fn mac(node: usize, host: u16) -> MacAddr {
    let [high, low] = host.to_be_bytes();
    MacAddr([2, 0, node as u8, 0, high, low])
}

/// An untagged frame with a payload that tells it from others.
pub(crate) fn frame(to: MacAddr, from: MacAddr, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0[..], &[0x88, 0xb5]].concat();
    frame.extend_from_slice(payload);
    frame
}

/// The same with tags (TPID, TCI) before the type.
pub(crate) fn tagged(to: MacAddr, from: MacAddr, tags: &[(u16, u16)], payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(to, from, payload);
    for &(tpid, tci) in tags.iter().rev() {
        let tag = [tpid.to_be_bytes(), tci.to_be_bytes()].concat();
        frame.splice(12..12, tag);
    }
    frame
}

fn address(node: usize, ipv6: bool) -> SocketAddr {
    let last = node as u8 + 1;
    let ip: IpAddr = if ipv6 {
        Ipv6Addr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]).into()
    } else {
        Ipv4Addr::new(192, 0, 2, last).into()
    };
    SocketAddr::new(ip, PORT)
}

/// What node `node` asks hosts from.
pub(crate) fn engine_mac(node: usize) -> MacAddr {
    MacAddr([2, 0xee, node as u8, 0, 0, 1])
}

fn private_key(node: usize) -> PrivateKey {
    PrivateKey([node as u8 + 1; 32])
}

impl World {
    /// Nodes that all know each other, with nothing sent yet.
    pub(crate) fn new(shape: Shape) -> Self {
        let start = Duration::from_secs(1_000_000);
        let now = Now {
            instant: Instant(0) + start,
            wall: WallTime(1_800_000_000_000_000_000),
        };
        let mut hosts: Vec<Host> = (0..shape.hosts)
            .map(|node| host(node, &shape, now))
            .collect();
        let keys: Vec<PublicKey> = (0..shape.hosts)
            .map(|node| PublicKey::from_private(&private_key(node)))
            .collect();
        for (node, host) in hosts.iter_mut().enumerate() {
            for (other, &public_key) in keys.iter().enumerate().filter(|(other, _)| *other != node)
            {
                let endpoint = Some(address(other, shape.ipv6));
                let peer = PeerConfig {
                    public_key,
                    preshared_key: None,
                    endpoint,
                };
                host.plane
                    .ganglion
                    .add_peer(now, peer)
                    .expect("peers are distinct");
            }
        }
        for host in &mut hosts {
            // As the runtime does before it is ready: the workers know the peers.
            host.carry_out(now);
        }
        Self {
            now,
            hosts,
            wire: VecDeque::new(),
            control_wire: VecDeque::new(),
            recorded: None,
            cut: false,
            steer: |_, _| 0,
        }
    }

    /// The same, after all have met.
    pub(crate) fn established(shape: Shape) -> Self {
        let mut world = Self::new(shape);
        world.settle();
        for host in &world.hosts {
            assert!(
                host.plane
                    .ganglion
                    .peers()
                    .all(|peer| peer.state == omni_control::PeerState::Established)
            );
        }
        world
    }

    /// A frame from a host behind `node`, into worker 0.
    pub(crate) fn push(&mut self, node: usize, frame: &[u8]) {
        self.push_to(node, 0, frame);
    }

    pub(crate) fn push_to(&mut self, node: usize, worker: usize, frame: &[u8]) {
        let at = self.now.instant;
        assert!(
            self.hosts[node].workers[worker].io.push(ACCESS, frame, at),
            "no free frame"
        );
    }

    /// Everything that came out at `node` since the last call.
    pub(crate) fn take(&mut self, node: usize) -> Vec<Vec<u8>> {
        self.hosts[node].delivered.drain(..).collect()
    }

    /// Runs every node until nothing happens any more without time going on.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut busy = false;
            for node in 0..self.hosts.len() {
                busy |= self.run_node(node);
            }
            busy |= self.deliver();
            if !busy {
                return;
            }
        }
        panic!("the fabric does not come to rest");
    }

    /// Lets time pass in steps, with everything that happens in it.
    pub(crate) fn advance(&mut self, span: Duration, step: Duration) {
        let end = self.now.instant + span;
        while self.now.instant < end {
            self.now = self.now.advanced(step);
            self.settle();
        }
    }

    /// A message on its way to `node`, into the worker that `steer` names.
    pub(crate) fn inject(&mut self, node: usize, frame: &[u8]) {
        let at = self.now.instant;
        let workers = self.hosts[node].workers.len();
        let worker = Outer::parse(frame).map_or(0, |outer| (self.steer)(&outer, workers));
        assert!(
            self.hosts[node].workers[worker]
                .io
                .push(Port::Underlay, frame, at)
        );
    }

    /// Makes the first worker of a node forget an address, as if it had missed the frame.
    pub(crate) fn forget(&mut self, node: usize, mac: MacAddr) {
        let key = FdbKey { vlan: 0, mac };
        let command = TableCommand::Control(Command::FdbRemove { key });
        let now = self.now;
        self.hosts[node].tell(now, Audience::Only(0), &command);
    }

    /// Tells a node's workers something that no control plane decides.
    pub(crate) fn tell_workers(&mut self, node: usize, command: &TableCommand) {
        let now = self.now;
        self.hosts[node].tell(now, Audience::All, command);
    }

    /// An order for all workers of a node.
    pub(crate) fn order(&mut self, node: usize, command: Command) {
        let now = self.now;
        self.hosts[node].tell(now, Audience::All, &TableCommand::Control(command));
    }

    pub(crate) fn drops(&self, node: usize, reason: DropReason) -> u64 {
        let host = &self.hosts[node];
        let dropped: u64 = host
            .workers
            .iter()
            .map(|half| half.datapath.drops().get(reason))
            .sum();
        dropped + host.plane.ganglion.drops().get(reason)
    }

    pub(crate) fn all_drops(&self, node: usize) -> u64 {
        let host = &self.hosts[node];
        let dropped: u64 = host
            .workers
            .iter()
            .map(|half| half.datapath.drops().total())
            .sum();
        dropped + host.plane.ganglion.drops().total()
    }

    /// No frame is lost from the count, and none is held but staged ones.
    pub(crate) fn check_frames(&self) {
        for host in &self.hosts {
            for half in &host.workers {
                let census = half.io.census();
                assert!(census.is_complete(), "{census:?}");
                assert_eq!(census.held, half.datapath.staged() as u64, "{census:?}");
            }
        }
    }

    fn deliver(&mut self) -> bool {
        let mut busy = false;
        if self.cut {
            self.wire.clear();
            self.control_wire.clear();
        }
        while let Some(message) = self.wire.pop_front() {
            busy = true;
            let outer = Outer::parse(&message.frame).expect("what a node sends is well-formed");
            let to = self
                .hosts
                .iter()
                .position(|host| host.address == outer.destination);
            if let Some(to) = to {
                self.inject(to, &message.frame);
            }
        }
        while let Some((source, destination, octets)) = self.control_wire.pop_front() {
            busy = true;
            if let Some(host) = self
                .hosts
                .iter_mut()
                .find(|host| host.address == destination)
            {
                host.plane.ganglion.handle_datagram(
                    self.now,
                    source,
                    Some(destination.ip()),
                    &octets,
                );
            }
        }
        busy
    }

    fn run_node(&mut self, node: usize) -> bool {
        let mut busy = false;
        let now = self.now;
        let host = &mut self.hosts[node];
        host.plane.handle_timeout(now);
        for worker in 0..host.workers.len() {
            busy |= host.run_worker(worker, now);
        }
        busy |= host.carry_out(now);
        let recording = self.recorded.is_some();
        for half in &mut host.workers {
            while let Some(frame) = half.io.pop(Port::Underlay) {
                let message = InFlight { from: node, frame };
                if recording {
                    self.recorded.get_or_insert_default().push(message.clone());
                }
                self.wire.push_back(message);
                busy = true;
            }
            while let Some(frame) = half.io.pop(ACCESS) {
                host.delivered.push_back(frame);
            }
        }
        while let Some(transmit) = host.plane.ganglion.poll_transmit() {
            self.control_wire
                .push_back((host.address, transmit.destination, transmit.payload));
            busy = true;
        }
        busy
    }
}

fn host(node: usize, shape: &Shape, now: Now) -> Host {
    let public_key = PublicKey::from_private(&private_key(node));
    let config = GanglionConfig {
        fabric: "lab".into(),
        private_key: private_key(node),
        lanes: shape.workers as u16,
        max_frame: shape.max_frame as u16,
        capabilities: 0,
        workers: shape.workers,
        path_mtu: false,
        remembered: None,
    };
    let workers = (0..shape.workers as u16)
        .map(|worker| WorkerHalf {
            datapath: Datapath::new(DatapathConfig {
                worker,
                max_frame: shape.max_frame,
                complete_checksums: false,
                staged_max: 256,
                spread_ports: shape.spread_ports,
                policy: Arc::new(SwitchPolicy {
                    suppression: shape.suppression,
                    engine_mac: engine_mac(node),
                    ..SwitchPolicy::open(1)
                }),
            }),
            io: MemIo::new(FRAMES, if shape.ipv6 { 94 } else { 74 }),
            out: Output::new(1),
            burst: Vec::new(),
        })
        .collect();
    Host {
        plane: ControlPlane::new(
            Ganglion::new(config, Box::new(Seeded(node as u64)), now),
            Switch::new(SwitchConfig {
                snoop: false,
                ..SwitchConfig::new(1, public_key)
            }),
            engine_mac(node),
        ),
        workers,
        address: address(node, shape.ipv6),
        underlay_mac: MacAddr([6, 0, 0, 0, 0, node as u8 + 1]),
        delivered: VecDeque::new(),
        routes: shape.routes,
    }
}

impl Host {
    fn run_worker(&mut self, worker: usize, now: Now) -> bool {
        let WorkerHalf {
            datapath,
            io,
            out,
            burst,
        } = &mut self.workers[worker];
        let mut busy = false;
        if io.receive(Port::Underlay, burst, BURST_MAX) > 0 {
            datapath.ingress(now.instant, burst, io, out);
            busy = true;
        }
        if io.receive(ACCESS, burst, BURST_MAX) > 0 {
            datapath.egress(now.instant, PortId(0), burst, io, out);
            busy = true;
        }
        flush(datapath, io, out);
        let mut upcalls = Vec::new();
        datapath.drain_upcalls(|upcall| {
            upcalls.push(upcall);
            Ok(())
        });
        for upcall in upcalls {
            busy = true;
            self.plane.handle_upcall(now, worker, upcall);
        }
        busy
    }

    fn carry_out(&mut self, now: Now) -> bool {
        let mut busy = false;
        loop {
            while let Some((audience, command)) = self.plane.poll_order(now.instant) {
                busy = true;
                let command = match command {
                    Command::InstallSession(install) => {
                        TableCommand::Install(Arc::new(SharedSession::new(&install)))
                    }
                    other => TableCommand::Control(other),
                };
                self.tell(now, audience, &command);
            }
            let Some(GanglionEvent::ResolvePath {
                peer,
                endpoint,
                source,
            }) = self.plane.ganglion.poll_event()
            else {
                return busy;
            };
            busy = true;
            self.resolve_from(now, peer, endpoint, source);
        }
    }

    /// Plays the kernel: every node is a neighbour.
    pub(crate) fn resolve(&mut self, now: Now, peer: PeerId, endpoint: SocketAddr) {
        self.resolve_from(now, peer, endpoint, None);
    }

    /// The same, for messages that are to leave from a certain address.
    fn resolve_from(
        &mut self,
        now: Now,
        peer: PeerId,
        endpoint: SocketAddr,
        source: Option<IpAddr>,
    ) {
        let path = self.routes.then(|| Path {
            source_mac: self.underlay_mac,
            next_hop_mac: MacAddr([6, 0, 0, 0, 0, 0xff]),
            vlan: None,
            source: source.unwrap_or(self.address.ip()),
            source_port: PORT,
            endpoint,
        });
        self.plane.ganglion.handle_path(now, peer, endpoint, path);
    }

    fn tell(&mut self, now: Now, audience: Audience, command: &TableCommand) {
        for (index, half) in self.workers.iter_mut().enumerate() {
            let meant = match audience {
                Audience::All => true,
                Audience::Only(worker) => index == worker,
            };
            if meant {
                let WorkerHalf {
                    datapath, io, out, ..
                } = half;
                datapath.apply(now.instant, command.clone(), io, out);
                flush(datapath, io, out);
            }
        }
    }

    /// Behind whom the authority believes an address.
    pub(crate) fn owner(&self, vlan: u16, mac: MacAddr) -> Option<Owner> {
        self.plane.switch.owner(FdbKey { vlan, mac })
    }
}

fn flush(datapath: &Datapath<MemFrame>, io: &mut MemIo, out: &mut Output<MemFrame>) {
    datapath.tap_leaving(out);
    io.transmit(ACCESS, &mut out.access[0]);
    io.transmit(Port::Underlay, &mut out.underlay);
    io.free(&mut out.free);
    io.flush();
}
