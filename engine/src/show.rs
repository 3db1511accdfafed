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
    /// Each Nucleus that it registers with, as configured.
    #[serde(default)]
    pub nuclei: Vec<NucleusView>,
    /// The forwarding table, in order.
    pub fdb: Vec<FdbView>,
    /// Bindings of IP to MAC addresses.
    pub neighbors: Vec<NeighborView>,
    /// Every VLAN of which something is known, in order.
    pub vlans: Vec<VlanView>,
    /// Every multicast group that somebody wants, in order.
    pub groups: Vec<GroupView>,
    /// What calls for somebody to look at it; empty when all is well.
    pub alarms: Vec<AlarmView>,
    /// What the switch does and did.
    pub switch: SwitchView,
    /// The underlay, then every access port.
    #[serde(default)]
    pub ports: Vec<PortView>,
    /// Every queue of every worker.
    pub queues: Vec<QueueView>,
    /// Everything dropped, by reason; only reasons that occurred.
    pub drops: BTreeMap<String, u64>,
    /// Where the packet memory's frames are.
    pub umem: UmemView,
    /// What did not go on, and what was done about it.
    #[serde(default)]
    pub recovery: RecoveryView,
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
    /// The longest inner frame that the way to it is known to carry, in octets from the
    /// destination MAC on; null while that is not known.
    pub frame_limit: Option<u16>,
    /// Whether most of what it sends is dropped in the driver, as most of it was refused.
    #[serde(default)]
    pub throttled: bool,
    /// Frames that verified.
    pub rx_frames: u64,
    /// Their octets.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Their octets.
    pub tx_bytes: u64,
}

/// A Nucleus.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NucleusView {
    /// Where it is.
    pub endpoint: String,
    /// `connected` or `connecting`.
    pub state: String,
    /// Whether it has this node's registration.
    pub registered: bool,
    /// Whether it has told all that it knows.
    pub complete: bool,
    /// Up to which revision of its list.
    pub revision: u64,
    /// Since it last said anything.
    pub heard_seconds: Option<u64>,
    /// Where it sees this node's fabric port.
    pub seen_at: Option<String>,
    /// Why it refused something last, in its words.
    pub refusal: Option<String>,
    /// What it said and was not believed: records that do not verify or have expired, and messages
    /// that mean nothing.
    pub not_believed: u64,
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
    /// The number of its last move, by which nodes tell moves apart; null if none is known.
    pub sequence: Option<u32>,
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
    /// Since it was last confirmed.
    pub age_seconds: u64,
}

/// A VLAN, and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VlanView {
    /// Its id, 0 for what is untagged.
    pub vlan: u16,
    /// The access ports that carry it.
    pub ports: Vec<VlanPortView>,
    /// How many peers with a session carry it.
    pub peer_count: usize,
    /// Their public keys; empty when they are more than 8.
    pub peers: Vec<String>,
    /// MAC addresses in it.
    pub macs: usize,
    /// IP addresses in it.
    pub addresses: usize,
    /// Multicast groups in it that somebody wants.
    pub groups: usize,
}

/// A port that carries a VLAN.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VlanPortView {
    /// Its name.
    pub interface: String,
    /// `access`: untagged on the port. `trunk`: tagged as on the fabric.
    pub mode: String,
}

/// A multicast group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupView {
    /// Outermost VLAN id.
    pub vlan: u16,
    /// The group's IP address.
    pub group: String,
    /// Who wants it, each as in [`FdbView::owner`].
    pub members: Vec<String>,
}

/// Something that somebody should look at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlarmView {
    /// Outermost VLAN id.
    pub vlan: u16,
    /// The address.
    pub mac: String,
    /// Behind whom it stays, as in [`FdbView::owner`].
    pub owner: String,
    /// `moved_too_often`.
    pub reason: String,
    /// Until it may move again.
    pub remaining_seconds: u64,
}

/// How the switch is configured, and what happened since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SwitchView {
    /// `on` or `off`: whether questions for known addresses are answered here.
    pub suppression: String,
    /// `flood` or `drop`.
    pub unknown_unicast: String,
    /// `snoop` or `flood`.
    pub multicast: String,
    /// Who gets everything that is sent to groups.
    pub wanting_all: Vec<WantingAllView>,
    /// Questions for IPv4 addresses that were answered here.
    pub arp_answered: u64,
    /// Questions for IPv4 addresses of which nothing is known; they went on.
    pub arp_unknown: u64,
    /// Questions for IPv6 addresses that were answered here.
    pub nd_answered: u64,
    /// Questions for IPv6 addresses of which nothing is known; they went on.
    pub nd_unknown: u64,
    /// Addresses that went to another host, or were gone, within a minute of being given as an
    /// answer: who asked may go by it for a while.
    #[serde(default)]
    pub stale_answers: u64,
    /// Hosts told that their packets do not fit.
    pub too_big_answered: u64,
    /// Addresses that went from one owner to another.
    pub moves: u64,
    /// Addresses that moved too often.
    pub frozen: u64,
    /// Times that a peer was asked to let go of an address.
    pub claims_sent: u64,
    /// Claims and releases that were not followed.
    pub claims_refused: u64,
    /// Addresses and bindings that made room for others.
    pub evicted: u64,
    /// Bindings refused.
    pub bindings_refused: u64,
    /// Group memberships refused.
    pub groups_refused: u64,
    /// Control records, and entries of them, beyond what a peer may send.
    pub records_limited: u64,
    /// Control records that were none.
    pub records_malformed: u64,
    /// Questions to hosts, and repeats to peers, left out as too many waited.
    pub sends_left_out: u64,
}

/// Somebody who gets what is sent to any group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WantingAllView {
    /// As in [`FdbView::owner`].
    pub owner: String,
    /// In which VLAN; null for all.
    pub vlan: Option<u16>,
}

/// An interface that the engine works on. All is seen from the engine: `rx` is what the interface
/// brings it, from the wire or from hosts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortView {
    /// The interface.
    pub name: String,
    /// `underlay` or `access`.
    pub side: String,
    /// How frames come: `afxdp`, `tap` or `udp`.
    pub driver: String,
    /// How frames leave: one of the same.
    pub sends_by: String,
    /// As in [`QueueView::mode`].
    pub mode: String,
    /// Whether the engine made the interface, and removes it.
    pub made: bool,
    /// Without the Ethernet header.
    pub mtu: u32,
    /// The VLANs of an access port, as in the configuration: `all`, or such as `0,10,100-200`. Null
    /// on the underlay.
    pub vlans: Option<String>,
    /// `access`: untagged on the port. `trunk`: tagged as on the fabric. Null on the underlay.
    pub vlan_mode: Option<String>,
    /// `up`; `down`: switched off or without a carrier; `gone`: deleted, and waited for.
    pub state: String,
    /// Frames received since the engine started, as the kernel counts the interface: everybody's.
    pub rx_frames: u64,
    /// Their octets.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Their octets.
    pub tx_bytes: u64,
    /// Received frames that the kernel, the device or the XDP program dropped before the engine.
    pub rx_dropped: u64,
    /// Frames that the interface did not send.
    pub tx_dropped: u64,
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
    /// Times that it stood still. What a port did not receive counts on its first queue.
    #[serde(default)]
    pub stalls: u64,
    /// From the driver's stamp on this queue until the frame was sent. Taps and UDP sockets have no
    /// stamp: there it begins when the worker reads.
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

/// What did not go on, and what was done about it, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RecoveryView {
    /// Times that a worker did not come round for two seconds.
    pub worker_stalls: u64,
    /// Times that a queue stood still for two seconds.
    pub queue_stalls: u64,
    /// Times that all sockets and the packet memory were made anew.
    pub reopened: u64,
    /// Times that an XDP program was attached again.
    pub reattached: u64,
    /// Times that frames of the packet memory did not add up: a defect.
    pub unsound: u64,
}

/// What a reload of the configuration changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// One line for each change, to be read by people; empty when the file means the same.
    pub changes: Vec<String>,
}
