//! Two nodes in memory, each the product's worker: orders, clock, data path, latencies; all but
//! the kernel.
//!
//! ```text
//!   access -> sender -> underlay        egress:  frames become messages
//!   underlay -> receiver -> access      ingress: messages become frames
//! ```
//!
//! A round is all frames once, in turns of a batch. What surrounds it, filling frames in and
//! looking at what came out, is not measured.

mod ports;

use std::net::Ipv4Addr;
use std::sync::Arc;

use omni_config::Poll;
use omni_control::message::{
    Command, FdbKey, InstallSession, Owner, PeerId, PeerTraffic, PortId, Role,
};
use omni_control::{PublicKey, SymmetricKey};
use omni_engine::aead::{Key, OpenJob, SealJob, open_batch, seal_batch};
use omni_engine::clock;
use omni_engine::datapath::policy::{PortPolicy, SwitchPolicy};
use omni_engine::datapath::storm::StormBucket;
use omni_engine::datapath::{BURST_MAX, DatapathConfig, TableCommand};
use omni_engine::io::{Frame, Port};
use omni_engine::mailbox::{ControlMailbox, Order, mailboxes};
use omni_engine::worker::Worker;
use omni_wire::MacAddr;
use omni_wire::ip::{Ipv4, PROTOCOL_TCP};
use omni_wire::outer::Path;

use crate::Failure;
use ports::{ACCESS, Ports, Slot};

/// Octets before an inner frame: Ethernet, IPv4, UDP, and our header with its tag.
pub(crate) const OVERHEAD: usize = OUTER + HEADER;
/// Those of them before our header.
const OUTER: usize = 42;
/// Ours, tag included.
const HEADER: usize = 32;
/// The longest inner frame.
const FRAME_MAX: usize = 9000;
/// Octets from one frame to the next, as in the engine's memory, and those of longer ones.
const CAPACITIES: [usize; 2] = [4096, 16 * 1024];
/// Frames that are not for one host only, a second, as they are by default.
const STORM_RATE: u32 = 1000;

/// What goes through the nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Octets of an inner frame, from its destination address on: what is sealed.
    pub(crate) octets: usize,
    /// Frames that a worker gets at once: 1 to [`BURST_MAX`].
    pub(crate) batch: usize,
    /// Frames of a round, a multiple of the batch.
    pub(crate) frames: usize,
    /// Peers that take turns, each with a session of its own.
    pub(crate) peers: u16,
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Sender,
    Receiver,
}

/// One node.
struct Node {
    worker: Worker<Ports>,
    ports: Ports,
    control: ControlMailbox,
}

impl Node {
    /// A node with sessions to all peers, which have one host each, and so has the node for each.
    fn new(side: Side, load: Load) -> Result<Self, Failure> {
        let (mut control, mut ends) = mailboxes(1)?;
        let end = ends.pop().ok_or("there is no worker")?;
        let config = DatapathConfig {
            worker: 0,
            max_frame: FRAME_MAX,
            complete_checksums: false,
            staged_max: BURST_MAX,
            spread_ports: false,
            policy: Arc::new(policy()),
        };
        for peer in 0..load.peers {
            for command in commands(side, peer) {
                let order = Order::Table(TableCommand::Control(command));
                control.order(0, order);
            }
        }
        let ports = Ports::new(load.batch, load.frames);
        let mut node = Self {
            worker: Worker::new(ports.clone(), config, end, Poll::Spin, None),
            ports,
            control,
        };
        while node.control.flush() {
            node.turns(1);
        }
        // Orders are taken 64 a turn; turns without any do no harm.
        node.turns(5 * usize::from(load.peers) / 64 + 1);
        // What installing a session sends at once.
        node.ports.take_sent(Port::Underlay, &mut Vec::new());
        Ok(node)
    }

    /// So many turns of the worker's loop, each with a look at the clock, as in the engine. Never
    /// inlined, so that what is compiled here depends little on who measures.
    #[inline(never)]
    fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            self.worker.poll_once(clock::instant());
        }
    }

    /// Fails when anything was dropped.
    fn check(&self) -> Result<(), Failure> {
        match self.ports.dropped() {
            0 => Ok(()),
            dropped => Err(format!(
                "{dropped} frames were dropped: {:?}",
                self.worker.report().drops
            )
            .into()),
        }
    }
}

/// How frames are switched where nothing else is configured.
fn policy() -> SwitchPolicy {
    let port = PortPolicy {
        storm: Some(Arc::new(StormBucket::new(STORM_RATE))),
        ..PortPolicy::default()
    };
    SwitchPolicy {
        ports: vec![port],
        suppression: true,
        snoop: true,
        engine_mac: MacAddr([2, 0xff, 0, 0, 0, 1]),
        ..SwitchPolicy::default()
    }
}

/// The host that belongs to a peer's place on either side.
fn host(side: Side, peer: u16) -> MacAddr {
    let [high, low] = peer.to_be_bytes();
    MacAddr([2, 0, 0, u8::from(side == Side::Receiver), high, low])
}

fn key(side: Side, peer: u16) -> [u8; 32] {
    let mut key = [1 + u8::from(side == Side::Receiver); 32];
    key[..2].copy_from_slice(&peer.to_be_bytes());
    key
}

/// What a control thread would say of a peer.
fn commands(side: Side, peer: u16) -> [Command; 5] {
    let other = match side {
        Side::Sender => Side::Receiver,
        Side::Receiver => Side::Sender,
    };
    let id = PeerId(peer);
    let address = |side| Ipv4Addr::new(198, 18, 0, 1 + u8::from(side == Side::Receiver));
    let path = Path {
        source_mac: MacAddr([2, 1, 0, 0, 0, 1]),
        next_hop_mac: MacAddr([2, 1, 0, 0, 0, 2]),
        vlan: None,
        source: address(side).into(),
        source_port: 51820,
        endpoint: (address(other), 51820).into(),
    };
    let index = |side| 1 + u32::from(peer) + (u32::from(side == Side::Receiver) << 16);
    let behind = |side, owner| Command::FdbInsert {
        key: FdbKey {
            vlan: 0,
            mac: host(side, peer),
        },
        owner,
    };
    [
        Command::AddPeer {
            peer: id,
            public_key: PublicKey(key(other, peer)),
            traffic: PeerTraffic::new(1),
        },
        Command::SetPath {
            peer: id,
            path: Some(path),
        },
        Command::InstallSession(Box::new(InstallSession {
            peer: id,
            session_id: index(side),
            remote_session_id: index(other),
            role: Role::Initiator,
            receive_key: SymmetricKey(key(other, peer)),
            send_key: SymmetricKey(key(side, peer)),
            peer_lanes: 1,
            peer_max_frame: FRAME_MAX as u16,
            established_at: clock::instant(),
        })),
        behind(other, Owner::Peer(id)),
        behind(side, Owner::Local(PortId(0))),
    ]
}

/// A segment of TCP over IPv4 from a host of the sender to its counterpart.
fn segment(peer: u16, octets: usize) -> Result<Vec<u8>, Failure> {
    const ETHERNET: usize = 14;
    const TCP: [u8; 20] = [
        0x30, 0x39, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0,
    ];
    let ip = Ipv4 {
        source: Ipv4Addr::new(10, 7, 0, 1),
        destination: Ipv4Addr::new(10, 7, 0, 2),
        protocol: PROTOCOL_TCP,
        ttl: 64,
        dont_fragment: true,
        fragment: false,
        header_len: 20,
        total_len: octets.checked_sub(ETHERNET).ok_or("a frame is longer")?,
    };
    let (to, from) = (host(Side::Receiver, peer), host(Side::Sender, peer));
    let mut frame = [&to.0[..], &from.0, &[0x08, 0x00], &ip.emit(), &TCP].concat();
    if frame.len() > octets {
        return Err(format!("a frame has at least {} octets", frame.len()).into());
    }
    frame.resize_with(octets, || 0x5a);
    Ok(frame)
}

/// Both nodes, and what goes through them.
pub(crate) struct Pair {
    load: Load,
    sender: Node,
    receiver: Node,
    /// The inner frame of each peer.
    frames: Vec<Vec<u8>>,
    /// What the sender made of them in the last round of egress.
    messages: Vec<Vec<u8>>,
    /// Frames that nobody works on now.
    slots: Vec<Slot>,
    /// What each peer's messages are sealed with, for the AEAD alone.
    keys: Vec<Key>,
}

impl Pair {
    /// Nodes that know each other, with all they need for rounds of the load.
    pub(crate) fn new(load: Load) -> Result<Self, Failure> {
        let needed = OVERHEAD + load.octets;
        let capacity = CAPACITIES.into_iter().find(|&capacity| capacity >= needed);
        let capacity = capacity.ok_or("a frame is shorter")?;
        let frames: Result<_, _> = (0..load.peers)
            .map(|peer| segment(peer, load.octets))
            .collect();
        let mut pair = Self {
            load,
            sender: Node::new(Side::Sender, load)?,
            receiver: Node::new(Side::Receiver, load)?,
            frames: frames?,
            messages: vec![vec![0; needed]; load.frames],
            slots: (0..load.frames).map(|_| Slot::new(capacity)).collect(),
            keys: (0..load.peers)
                .map(|peer| Key::new(&key(Side::Sender, peer)))
                .collect(),
        };
        // So that there are messages to open, whatever is measured first.
        pair.egress(|work| work())?;
        pair.ingress(|work| work())?;
        Ok(pair)
    }

    /// A round of frames to messages. `measure` is given what is to be measured, and has to do it
    /// once.
    pub(crate) fn egress<T>(
        &mut self,
        measure: impl FnOnce(&mut dyn FnMut()) -> T,
    ) -> Result<T, Failure> {
        let now = clock::instant();
        for (slot, frame) in self.slots.iter_mut().zip(self.frames.iter().cycle()) {
            slot.fill(OVERHEAD, frame, now);
        }
        self.sender.ports.arrive(ACCESS, &mut self.slots);
        let (sender, turns) = (&mut self.sender, self.load.frames / self.load.batch);
        let measured = measure(&mut || sender.turns(turns));
        self.sender.ports.take_sent(Port::Underlay, &mut self.slots);
        self.check(&self.sender)?;
        for (slot, message) in self.slots.iter().zip(&mut self.messages) {
            message.copy_from_slice(slot.bytes());
        }
        Ok(measured)
    }

    /// A round of messages to frames: those of the last round of egress, which can be received
    /// once.
    pub(crate) fn ingress<T>(
        &mut self,
        measure: impl FnOnce(&mut dyn FnMut()) -> T,
    ) -> Result<T, Failure> {
        let now = clock::instant();
        for (slot, message) in self.slots.iter_mut().zip(&self.messages) {
            slot.fill(0, message, now);
        }
        self.receiver.ports.arrive(Port::Underlay, &mut self.slots);
        let (receiver, turns) = (&mut self.receiver, self.load.frames / self.load.batch);
        let measured = measure(&mut || receiver.turns(turns));
        self.receiver.ports.take_sent(ACCESS, &mut self.slots);
        self.check(&self.receiver)?;
        let sent = self.frames.iter().cycle();
        if !self
            .slots
            .iter()
            .zip(sent)
            .all(|(slot, frame)| slot.bytes() == frame)
        {
            return Err("a frame did not arrive as it was sent".into());
        }
        Ok(measured)
    }

    /// A round of the AEAD alone, as the data path calls it for egress, in the same memory.
    pub(crate) fn seal<T>(&mut self, measure: impl FnOnce(&mut dyn FnMut()) -> T) -> T {
        let now = clock::instant();
        for (slot, frame) in self.slots.iter_mut().zip(self.frames.iter().cycle()) {
            slot.fill(OVERHEAD, frame, now);
        }
        let (slots, keys) = (&mut self.slots, &self.keys);
        let batch = self.load.batch;
        measure(&mut || {
            let mut keys = keys.iter().cycle();
            for slots in slots.chunks_mut(batch) {
                let jobs = slots.iter_mut().zip(&mut keys).map(|(slot, key)| SealJob {
                    key,
                    message: &mut slot.bytes_mut()[OUTER..],
                    plaintext_offset: HEADER,
                });
                seal_batch(&mut jobs.collect::<arrayvec::ArrayVec<_, BURST_MAX>>());
            }
        })
    }

    /// A round of the AEAD alone, as the data path calls it for ingress, in the same memory.
    pub(crate) fn open<T>(
        &mut self,
        measure: impl FnOnce(&mut dyn FnMut()) -> T,
    ) -> Result<T, Failure> {
        let now = clock::instant();
        for (slot, message) in self.slots.iter_mut().zip(&self.messages) {
            slot.fill(0, message, now);
        }
        let (slots, keys) = (&mut self.slots, &self.keys);
        let (batch, mut verified) = (self.load.batch, true);
        let measured = measure(&mut || {
            let mut keys = keys.iter().cycle();
            for slots in slots.chunks_mut(batch) {
                let jobs = slots.iter_mut().zip(&mut keys).map(|(slot, key)| OpenJob {
                    key,
                    frame: slot.bytes_mut(),
                    header_offset: OUTER,
                    verified: false,
                });
                let mut jobs: arrayvec::ArrayVec<_, BURST_MAX> = jobs.collect();
                open_batch(&mut jobs);
                verified &= jobs.iter().all(|job| job.verified);
            }
        });
        if !verified {
            return Err("what was sealed does not open".into());
        }
        Ok(measured)
    }

    /// Fails unless a round's frames all came out again.
    fn check(&self, node: &Node) -> Result<(), Failure> {
        node.check()?;
        if self.slots.len() == self.load.frames {
            return Ok(());
        }
        let (came, sent) = (self.slots.len(), self.load.frames);
        Err(format!("{came} of {sent} frames came out").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_lengths_and_peers_go_through_in_any_batch() {
        for (octets, batch, peers) in [(64, 1, 1), (65, 64, 1), (1420, 8, 3), (8900, 64, 130)] {
            let frames = 192;
            let load = Load {
                octets,
                batch,
                frames,
                peers,
            };
            let mut pair = Pair::new(load).expect("nodes");
            for _ in 0..3 {
                let mut measured = 0;
                pair.seal(|work| work());
                pair.egress(|work| {
                    work();
                    measured += 1;
                })
                .expect("sealed");
                pair.open(|work| work()).expect("opened");
                pair.ingress(|work| {
                    work();
                    measured += 1;
                })
                .expect("opened and accepted");
                assert_eq!(measured, 2);
            }
        }
    }

    #[test]
    fn what_the_receiver_refuses_fails_the_round() {
        let load = Load {
            octets: 100,
            batch: 8,
            frames: 8,
            peers: 1,
        };
        let mut pair = Pair::new(load).expect("nodes");
        // These messages were received once already.
        let refused = pair.ingress(|work| work()).expect_err("replayed");
        assert!(refused.to_string().contains("dropped"), "{refused}");
        let mut pair = Pair::new(load).expect("nodes");
        pair.messages[3][OVERHEAD] ^= 1;
        assert!(pair.open(|work| work()).is_err());
    }

    #[test]
    fn loads_that_no_frame_has_are_refused() {
        for octets in [0, 40, 20_000] {
            let load = Load {
                octets,
                batch: 1,
                frames: 1,
                peers: 1,
            };
            assert!(Pair::new(load).is_err(), "{octets} octets");
        }
    }
}
