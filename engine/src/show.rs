//! What an engine answers on its control socket: its state at one moment, as `omni show --json`
//! prints it, and what a reload changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::Percentiles;

/// The state of a node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Show {
    /// Who it is.
    pub node: NodeView,
    /// All its peers.
    pub peers: Vec<PeerView>,
    /// The forwarding table, in order.
    pub fdb: Vec<FdbView>,
    /// Bindings of IP to MAC addresses.
    pub neighbors: Vec<NeighborView>,
    /// Every queue of every worker.
    pub queues: Vec<QueueView>,
    /// Everything dropped, by reason; only reasons that occurred.
    pub drops: BTreeMap<String, u64>,
    /// Where the packet memory's frames are.
    pub umem: UmemView,
}

/// Who a node is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// From the configuration.
    pub name: String,
    /// The fabric it is in.
    pub fabric: String,
    /// In base64.
    pub public_key: String,
    /// Since it started.
    pub uptime_seconds: u64,
}

/// A peer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerView {
    /// From the configuration.
    pub name: String,
    /// In base64.
    pub public_key: String,
    /// Where messages to it go.
    pub endpoint: Option<String>,
    /// `idle`, `handshaking` or `established`.
    pub state: String,
    /// Since the last handshake.
    pub last_handshake_seconds: Option<u64>,
    /// Frames that verified.
    pub rx_frames: u64,
    /// Their octets.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Their octets.
    pub tx_bytes: u64,
}

/// An address of the forwarding table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FdbView {
    /// Outermost VLAN id, 0 for untagged.
    pub vlan: u16,
    /// The address.
    pub mac: String,
    /// `local:<interface>`, or a public key.
    pub owner: String,
    /// `learned`, `static` or `claimed`.
    pub kind: String,
    /// Since it was last reported by a worker; in use it is reported every 30 s.
    pub age_seconds: u64,
}

/// A binding of an IP address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NeighborView {
    /// Outermost VLAN id.
    pub vlan: u16,
    /// The IP address.
    pub ip: String,
    /// Its MAC address.
    pub mac: String,
    /// As in [`FdbView::owner`].
    pub owner: String,
    /// `snooped`, `nucleus`, `peer` or `static`.
    pub source: String,
}

/// A queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueView {
    /// The worker that serves it.
    pub worker: usize,
    /// The core the worker is pinned to.
    pub core: Option<usize>,
    /// The interface.
    pub port: String,
    /// Number of the queue on the interface.
    pub queue: u32,
    /// `native` or `generic`.
    pub mode: String,
    /// `copy` or `zero_copy`.
    pub copy: String,
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// From the driver's stamp on this queue to the other side's transmit ring.
    pub latency_ns: Percentiles,
}

/// Where the packet memory's frames are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UmemView {
    /// All there are.
    pub frames_total: u64,
    /// In the workers' pools.
    pub frames_free: u64,
    /// With the kernel, to be filled or received.
    pub frames_receiving: u64,
    /// With the kernel, to be sent or returned.
    pub frames_sending: u64,
    /// In the workers' hands, such as staged frames.
    pub frames_held: u64,
}

/// What a reload of the configuration changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// One line for each change, to be read by people; empty when the file means the same.
    pub changes: Vec<String>,
}
