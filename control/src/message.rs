//! What the Ganglion and the workers say to each other.
//!
//! Commands go down and are applied by every worker between two bursts; upcalls come up. Both
//! travel in bounded mailboxes. What is told per frame (traffic of a peer, for timers) does not
//! travel at all: workers write it to [`PeerTraffic`], one cache line each, and the Ganglion reads.

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use omni_wire::outer::Path;
use omni_wire::{Instant, MacAddr};

use omni_membership::{PublicKey, SymmetricKey};

/// A peer's index in every table of one engine. Dense, given out by the Ganglion, never reused
/// for another peer while the engine runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerId(pub u16);

/// Which side of the handshake made a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We sent the initiation: the session may be used for sending at once.
    Initiator,
    /// We sent the response: nothing may be sent before a message in the session verified.
    Responder,
}

/// A new session, for all workers.
#[derive(Clone, Debug)]
pub struct InstallSession {
    /// Whose.
    pub peer: PeerId,
    /// Our index: what arriving messages carry.
    pub session_id: u32,
    /// The peer's index: what leaving messages carry.
    pub remote_session_id: u32,
    /// Decides whether it becomes the current session now or when the first message verified.
    pub role: Role,
    /// Opens arriving messages.
    pub receive_key: SymmetricKey,
    /// Seals leaving messages.
    pub send_key: SymmetricKey,
    /// How many lanes the peer sends on (1..=256).
    pub peer_lanes: u16,
    /// The longest inner frame the peer accepts, in octets from the destination MAC on.
    pub peer_max_frame: u16,
    /// Age counts from here.
    pub established_at: Instant,
}

/// From the Ganglion to every worker.
#[derive(Clone, Debug)]
pub enum Command {
    /// A peer to have a table entry.
    AddPeer {
        /// Its index from now on.
        peer: PeerId,
        /// Its identity.
        public_key: PublicKey,
        /// Where workers count what it sends and receives.
        traffic: Arc<PeerTraffic>,
    },
    /// Forget the peer, its sessions, its addresses and its staged frames.
    RemovePeer {
        /// Which.
        peer: PeerId,
    },
    /// How messages reach the peer from now on; `None` while that is not known.
    SetPath {
        /// Which peer.
        peer: PeerId,
        /// Outer addresses, resolved down to the next hop's MAC.
        path: Option<Path>,
    },
    /// A session. As initiator it replaces the current one for sending, as responder it waits for
    /// its first verified message. The one that it replaces goes on receiving.
    InstallSession(Box<InstallSession>),
    /// A responder's session was confirmed on one worker: all may send in it now.
    ConfirmSession {
        /// Our index.
        session_id: u32,
    },
    /// Forget this session and its keys.
    EraseSession {
        /// Our index.
        session_id: u32,
    },
    /// Send an empty message in the current session, on lane 0.
    SendKeepalive {
        /// To whom.
        peer: PeerId,
    },
    /// The handshake was given up: drop, and count, what was staged for it.
    DropStaged {
        /// For whom.
        peer: PeerId,
    },
    /// A handshake with the peer cannot be started now (no endpoint known), or it can again.
    /// While unreachable, frames to the peer are dropped and counted, not staged.
    SetReachable {
        /// Which peer.
        peer: PeerId,
        /// Whether an endpoint is known.
        reachable: bool,
    },
    /// An address learned by another worker, or moved, or static.
    FdbInsert {
        /// VLAN and MAC.
        key: FdbKey,
        /// Behind whom.
        owner: Owner,
    },
    /// An address aged out.
    FdbRemove {
        /// VLAN and MAC.
        key: FdbKey,
    },
    /// Report the address's owner with its next frame: it is in question whether it is there.
    FdbWatch {
        /// VLAN and MAC.
        key: FdbKey,
    },
    /// Who asks for this IP address is answered with this MAC address.
    Bind {
        /// Outermost VLAN id.
        vlan: u16,
        /// The IP address.
        ip: IpAddr,
        /// Its MAC address.
        mac: MacAddr,
        /// Behind whom it is.
        owner: Owner,
    },
    /// Nothing is known of this IP address any more: who asks for it is flooded.
    Unbind {
        /// Outermost VLAN id.
        vlan: u16,
        /// The IP address.
        ip: IpAddr,
    },
    /// A rendezvous names the peer that an address is behind, for frames to an address that nobody
    /// was heard with; `None` when it names nobody any more.
    SetDirectory {
        /// VLAN and MAC.
        key: FdbKey,
        /// Behind whom.
        peer: Option<PeerId>,
    },
    /// Report the next message in which its owner tells this IP address: it is in question whether
    /// the host still has it.
    BindWatch {
        /// Outermost VLAN id.
        vlan: u16,
        /// The IP address.
        ip: IpAddr,
    },
    /// Which VLANs there are at the peer: it gets broadcasts of no others.
    SetCarried {
        /// Which peer.
        peer: PeerId,
        /// By VLAN id.
        vlans: Arc<VlanBits>,
    },
    /// Who gets what is sent to a multicast group; nobody in particular when there are no members.
    SetGroup {
        /// Outermost VLAN id.
        vlan: u16,
        /// The group's address.
        group: IpAddr,
        /// Ports and peers behind which it is wanted.
        members: Arc<[Owner]>,
    },
    /// Whether a port or peer gets what is sent to any group.
    SetWantsAll {
        /// Who.
        owner: Owner,
        /// In this VLAN, or in all.
        vlan: Option<u16>,
        /// Whether it does.
        wants: bool,
    },
    /// Send a control record (`PROTOCOL` section 5) in the current session, on lane 0.
    SendRecord {
        /// To whom.
        peer: PeerId,
        /// Kind, reserved octet, length and body.
        record: Arc<[u8]>,
    },
    /// Send a frame of the engine's own to a host.
    SendFrame {
        /// Out of which port.
        port: PortId,
        /// From the destination MAC on, tagged as on the fabric.
        frame: Arc<[u8]>,
    },
    /// The longest inner frame that the way to the peer carries, as far as is known.
    SetFrameLimit {
        /// Which peer.
        peer: PeerId,
        /// Octets from the destination MAC on.
        octets: u16,
    },
}

/// From a worker to the Ganglion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Upcall {
    /// A frame for this peer was staged: there is no session to send it in.
    NeedSession {
        /// For whom.
        peer: PeerId,
    },
    /// A session's send counter passed the rekey limit on some lane.
    RekeySoon {
        /// With whom.
        peer: PeerId,
    },
    /// The first message in a responder's session verified.
    Confirmed {
        /// Our index.
        session_id: u32,
    },
    /// A verified message on lane 0 of the newest session, newer than any before it, came from
    /// another address than the one we send to, or to another one than we send from.
    Moved {
        /// Who moved.
        peer: PeerId,
        /// The session it was in.
        session_id: u32,
        /// Where it came from.
        source: SocketAddr,
        /// The address of ours that it came to.
        local: IpAddr,
    },
    /// A source address was seen for the first time, or again after a while.
    Learned {
        /// VLAN and MAC.
        key: FdbKey,
        /// Behind whom.
        owner: Owner,
    },
    /// A frame had a source address that somebody else owns, and was dropped.
    Contested {
        /// VLAN and MAC.
        key: FdbKey,
        /// Behind whom the frame came from.
        claimant: Owner,
    },
    /// An ARP or neighbour discovery message of an address's owner told its MAC address.
    Bound {
        /// Outermost VLAN id.
        vlan: u16,
        /// The IP address.
        ip: IpAddr,
        /// Its MAC address.
        mac: MacAddr,
        /// Behind whom it is.
        owner: Owner,
    },
    /// A host joined or left a multicast group.
    Group {
        /// Outermost VLAN id.
        vlan: u16,
        /// Behind which port.
        port: PortId,
        /// The group's address.
        group: IpAddr,
        /// Whether it is wanted from now on.
        join: bool,
    },
    /// A router asks on this port which groups are wanted.
    Querier {
        /// Outermost VLAN id.
        vlan: u16,
        /// Behind which port.
        port: PortId,
    },
    /// A peer sent a frame for an address that is not here.
    Strayed {
        /// VLAN and MAC.
        key: FdbKey,
        /// Which peer.
        peer: PeerId,
    },
    /// A control record (`PROTOCOL` section 5) verified.
    Record {
        /// Whose.
        peer: PeerId,
        /// Kind, reserved octet, length and body, as far as they came.
        record: Box<[u8]>,
    },
}

/// A set of VLANs, by VLAN id: bit `v % 64` of word `v / 64`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VlanBits(pub [u64; 64]);

impl VlanBits {
    /// Every VLAN, the untagged one included.
    pub const ALL: Self = Self([u64::MAX; 64]);
    /// None.
    pub const NONE: Self = Self([0; 64]);

    /// Whether a VLAN is among them; ids above 4095 never are.
    #[inline]
    #[must_use]
    pub fn contains(&self, vlan: u16) -> bool {
        let word = self.0.get(usize::from(vlan / 64));
        word.is_some_and(|word| word >> (vlan % 64) & 1 == 1)
    }

    /// Adds a VLAN; ids above 4095 are ignored.
    pub fn insert(&mut self, vlan: u16) {
        if let Some(word) = self.0.get_mut(usize::from(vlan / 64)) {
            *word |= 1 << (vlan % 64);
        }
    }
}

/// What the forwarding table is keyed by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FdbKey {
    /// Outermost VLAN id, 0 for untagged and priority-tagged frames.
    pub vlan: u16,
    /// The address.
    pub mac: MacAddr,
}

/// Behind whom an address is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Owner {
    /// A local access port.
    Local(PortId),
    /// A peer.
    Peer(PeerId),
}

/// Index of an access port, in the order of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(pub u8);

/// What one worker saw of one peer. Written by that worker alone, read by the Ganglion.
///
/// Times are [`Instant`] nanoseconds, 0 = never. Relaxed ordering suffices: each value stands for
/// itself, and the timers they feed are coarser than any delay.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct WorkerTraffic {
    /// Verified frames received, keepalives not included.
    pub rx_frames: AtomicU64,
    /// Their octets, inner frames only.
    pub rx_bytes: AtomicU64,
    /// Frames sent, keepalives not included.
    pub tx_frames: AtomicU64,
    /// Their octets, inner frames only.
    pub tx_bytes: AtomicU64,
    /// When anything last verified, keepalives and control messages included.
    pub last_rx: AtomicU64,
    /// When a data frame last verified.
    pub last_rx_data: AtomicU64,
    /// When anything was last sent, keepalives and control messages included.
    pub last_tx: AtomicU64,
    /// When a data frame was last sent.
    pub last_tx_data: AtomicU64,
    /// Verified messages that were refused for what is in them, as no sound peer sends many.
    pub refused: AtomicU64,
}

/// A peer's traffic, worker by worker.
#[derive(Debug)]
pub struct PeerTraffic(Box<[WorkerTraffic]>);

/// A peer's traffic, summed (counts) and maximised (times) over the workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TrafficTotals {
    /// Verified data frames received.
    pub rx_frames: u64,
    /// Their octets.
    pub rx_bytes: u64,
    /// Data frames sent.
    pub tx_frames: u64,
    /// Their octets.
    pub tx_bytes: u64,
    /// When anything last verified; `None` = never.
    pub last_rx: Option<Instant>,
    /// When a data frame last verified.
    pub last_rx_data: Option<Instant>,
    /// When anything was last sent.
    pub last_tx: Option<Instant>,
    /// When a data frame was last sent.
    pub last_tx_data: Option<Instant>,
    /// Verified messages that were refused for what is in them.
    pub refused: u64,
}

impl PeerTraffic {
    /// For each of `workers` cache lines of its own.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self(
            (0..workers).map(|_| WorkerTraffic::default()).collect(),
        ))
    }

    /// What `worker` writes.
    ///
    /// # Panics
    /// When `worker` is not below the number given to [`PeerTraffic::new`].
    #[must_use]
    pub fn worker(&self, worker: usize) -> &WorkerTraffic {
        &self.0[worker]
    }

    /// All workers together.
    #[must_use]
    pub fn totals(&self) -> TrafficTotals {
        fn newest(old: Option<Instant>, value: &AtomicU64) -> Option<Instant> {
            let seen = value.load(Ordering::Relaxed);
            old.max((seen != 0).then_some(Instant(seen)))
        }
        self.0
            .iter()
            .fold(TrafficTotals::default(), |sum, w| TrafficTotals {
                rx_frames: sum.rx_frames + w.rx_frames.load(Ordering::Relaxed),
                rx_bytes: sum.rx_bytes + w.rx_bytes.load(Ordering::Relaxed),
                tx_frames: sum.tx_frames + w.tx_frames.load(Ordering::Relaxed),
                tx_bytes: sum.tx_bytes + w.tx_bytes.load(Ordering::Relaxed),
                last_rx: newest(sum.last_rx, &w.last_rx),
                last_rx_data: newest(sum.last_rx_data, &w.last_rx_data),
                last_tx: newest(sum.last_tx, &w.last_tx),
                last_tx_data: newest(sum.last_tx_data, &w.last_tx_data),
                refused: sum.refused + w.refused.load(Ordering::Relaxed),
            })
    }
}
