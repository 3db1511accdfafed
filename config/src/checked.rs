//! The configuration as the engine uses it: plain data in which every value is in range.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::secret::SecretBytes32;
use crate::vlan_set::VlanSet;

/// A whole `fabric.yaml`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The fabric's name, bound into every handshake: 1..=64 octets of UTF-8.
    pub fabric: String,
    /// Who this node is.
    pub node: Node,
    /// The interface that carries UDP to other nodes.
    pub underlay: Underlay,
    /// The ports whose frames the fabric carries: 1..=16, their interfaces distinct and none of
    /// them the underlay's.
    pub access: Vec<Access>,
    /// The threads that move frames.
    pub workers: Workers,
    /// The other nodes, by name and key. Names and keys are distinct.
    pub peers: Vec<Peer>,
    /// What the node does as a switch, on all ports and for all peers.
    pub switch: Switch,
    /// Where to register: at most 8, their endpoints distinct.
    pub nucleus: Vec<Nucleus>,
    /// Who certifies members; without one only `peers` are.
    pub authority: Option<Authority>,
    /// Where operators look in.
    pub control: Control,
}

/// Who this node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// 1..=64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// The X25519 private key, as the key file held it (not clamped).
    pub private_key: SecretBytes32,
    /// Where it was read from; a relative name is joined to the configuration file's folder.
    pub private_key_file: PathBuf,
    /// What the node has to remember over a restart. A relative name is joined to the
    /// configuration file's folder.
    pub state_file: PathBuf,
}

/// The interface that carries UDP to other nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Underlay {
    /// Its name: 1..=15 octets.
    pub interface: String,
    /// The UDP port of the fabric, on all of the interface's addresses: 1..=65535.
    pub port: u16,
    /// Which receive queues have a worker.
    pub queues: Queues,
    /// How messages are received, and sent unless `send` says otherwise.
    pub driver: Driver,
    /// How messages are sent.
    pub send: Driver,
    /// How the XDP program is attached, here and on the access ports.
    pub xdp: XdpMode,
    /// Whether the driver's buffers are shared with the engine.
    pub zero_copy: ZeroCopy,
    /// Whether the XDP program drops what the engine would refuse anyhow.
    pub filter: bool,
    /// Where messages of the second and further lanes leave from.
    pub source_ports: SourcePorts,
    /// Where the node can be reached beside the interface's own addresses: at most 8, distinct.
    pub endpoints: Vec<SocketAddr>,
}

/// Which receive queues of the underlay have a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Queues {
    /// All that the device has.
    Auto,
    /// These: 1..=64 distinct numbers, each 0..=1023.
    List(Vec<u32>),
}

/// How the underlay receives and sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    /// AF_XDP sockets.
    Afxdp,
    /// UDP sockets with segmentation offload.
    Udp,
    /// The driver that serves the device best.
    Auto,
}

/// How an XDP program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XdpMode {
    /// Native where the driver can, else generic.
    Auto,
    /// In the driver.
    Native,
    /// In the kernel's generic receive path.
    Generic,
}

/// Whether the device's buffers are the engine's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ZeroCopy {
    /// Zero copy where the driver can, else copies.
    Auto,
    /// Zero copy, or the engine does not start.
    On,
    /// Copies.
    Off,
}

/// Which UDP source ports the lanes use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourcePorts {
    /// All the fabric's.
    One,
    /// The fabric's for lane 0, others for the rest, so that networks and receivers that choose
    /// by ports spread what one node sends. Not through address translation.
    PerLane,
}

/// A port whose frames the fabric carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// The name of the interface that users see: 1..=15 octets. Made where it is absent.
    pub interface: String,
    /// How frames are received and sent. Loading resolves `auto` to [`AccessDriver::Xdp`].
    pub driver: AccessDriver,
    /// Addresses to put on the interface when the engine makes it. Distinct.
    pub addresses: Vec<IpNet>,
    /// The interface's MTU.
    pub mtu: Mtu,
    /// The VLANs that the port carries.
    pub vlans: PortVlans,
    /// The MAC addresses that may be behind it.
    pub macs: PortMacs,
    /// Whose frames are dropped when they come from it.
    pub guard: Guard,
    /// How many frames a second to more than one receiver (broadcast, unknown unicast, multicast)
    /// it may send: 1..=10000000; `None` = any number.
    pub bum_pps: Option<u32>,
}

/// The VLANs of an access port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortVlans {
    /// These, with their tags on the port as on the fabric. Not empty.
    Trunk(VlanSet),
    /// This one alone, 1..=4094: tagged on the fabric, untagged on the port.
    Access(u16),
}

impl PortVlans {
    /// Whether frames that belong to the VLAN on the fabric pass through the port.
    #[must_use]
    pub fn contains(&self, vlan: u16) -> bool {
        match self {
            Self::Trunk(vlans) => vlans.contains(vlan),
            Self::Access(only) => *only == vlan,
        }
    }
}

/// The MAC addresses that may be behind an access port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortMacs {
    /// Those that send frames.
    Learn,
    /// These: 1..=4096 distinct unicast addresses, none of them zero.
    Only(Vec<[u8; 6]>),
}

/// What hosts behind an access port must not be. By default they may be anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Guard {
    /// IPv6 routers: their advertisements and redirects are dropped (RFC 6105).
    pub ra: bool,
    /// DHCP servers: what they send to clients is dropped.
    pub dhcp: bool,
}

/// How an access port receives and sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessDriver {
    /// A tap where the engine makes the interface, else AF_XDP.
    Auto,
    /// AF_XDP on the far end of a veth pair, or on an existing interface.
    Xdp,
    /// A tap with virtio-net header: one that the engine makes, or an existing one.
    Tap,
}

/// An interface's MTU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mtu {
    /// What the underlay leaves: its MTU - 74 while all endpoints are IPv4, else - 94.
    Auto,
    /// This many octets of IP packet: 576..=9578.
    Octets(u16),
}

/// The threads that move frames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workers {
    /// Where they run.
    pub cores: Cores,
    /// What they do while nothing arrives.
    pub poll: Poll,
    /// What they run before.
    pub priority: Priority,
}

/// What workers run before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// Realtime where it is allowed and workers do not spin all the time, else normal.
    Auto,
    /// Other programs' turns come as often as theirs.
    Normal,
    /// Before all ordinary programs on their cores (SCHED_FIFO), or the engine does not start.
    Realtime,
}

/// Where workers run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cores {
    /// The engine chooses.
    Auto,
    /// One worker after the other on these: 1..=64 distinct numbers, each 0..=1023.
    List(Vec<usize>),
}

/// What workers do while nothing arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Poll {
    /// Look again at once: lowest latency, a whole core.
    Spin,
    /// Look again for a while, then sleep.
    Adaptive,
    /// Sleep at once: least power.
    Sleep,
}

/// Another node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// 1..=64 of `A-Z a-z 0-9 . _ -`, distinct among peers.
    pub name: String,
    /// Its X25519 public key, distinct among peers.
    pub public_key: [u8; 32],
    /// Its outer address. A peer without one must speak first.
    pub endpoint: Option<SocketAddr>,
    /// Mixed into every handshake with it.
    pub preshared_key: Option<SecretBytes32>,
    /// The VLANs that it may send in, and is sent. Not empty.
    pub vlans: VlanSet,
    /// How many MAC addresses may be behind it: 1..=65536.
    pub macs_max: u32,
    /// How many IP addresses may be behind it: 1..=65536.
    pub addresses_max: u32,
    /// How many frames a second to more than one receiver (broadcast, unknown unicast, multicast)
    /// it may send: 1..=10000000; `None` = any number.
    pub bum_pps: Option<u32>,
}

/// What the node does as a switch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Switch {
    /// Whether the engine itself answers ARP requests and neighbour solicitations for addresses
    /// that it knows (RFC 9161).
    pub suppression: bool,
    /// What is done with frames to unicast addresses that nobody was heard with.
    pub unknown_unicast: UnknownUnicast,
    /// Who gets frames to multicast groups.
    pub multicast: Multicast,
    /// How long an address is remembered of which nothing is heard: 60..=86400 s.
    pub ageing: Duration,
    /// What is done with ARP, IP and VLAN tags that are wrapped into LLC and SNAP headers.
    pub llc_snap: LlcSnap,
    /// The DSCP of outer packets.
    pub dscp: Dscp,
    /// Whether TCP is made to send no segments longer than the way carries.
    pub mss_clamp: bool,
    /// Whether padded messages probe how long a packet each way carries (RFC 8899).
    pub path_mtu: bool,
    /// Addresses that need not be learned: at most 4096, distinct in VLAN and MAC address.
    pub static_entries: Vec<StaticEntry>,
}

impl Default for Switch {
    /// What a file without `switch` means.
    fn default() -> Self {
        Self {
            suppression: true,
            unknown_unicast: UnknownUnicast::Flood,
            multicast: Multicast::Snoop,
            ageing: Duration::from_secs(300),
            llc_snap: LlcSnap::Drop,
            dscp: Dscp::Copy,
            mss_clamp: false,
            path_mtu: true,
            static_entries: Vec::new(),
        }
    }
}

/// What is done with frames to unicast addresses that nobody was heard with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownUnicast {
    /// They are sent to everybody who carries the VLAN.
    Flood,
    /// They are sent to the peer that a Nucleus names, and to everybody where it names none.
    Query,
    /// They are dropped.
    Drop,
}

/// Who gets frames to multicast groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Multicast {
    /// Who asked for the group by IGMP or MLD, and routers.
    Snoop,
    /// Everybody who carries the VLAN.
    Flood,
}

/// What is done with frames that hide their protocol in LLC and SNAP headers (IEEE 802.2), which
/// what looks at ARP and IP does not see into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LlcSnap {
    /// They are dropped.
    Drop,
    /// They are carried as all others.
    Carry,
}

/// The DSCP of outer packets (RFC 2474).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dscp {
    /// That of the packet within (RFC 2983, uniform model).
    Copy,
    /// This one: 0..=63.
    Fixed(u8),
}

/// An address that need not be learned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaticEntry {
    /// The MAC address: unicast, not zero.
    pub mac: [u8; 6],
    /// Its VLAN, one that the owner carries: 0..=4094, 0 being what is untagged.
    pub vlan: u16,
    /// Behind whom it is.
    pub owner: StaticOwner,
    /// Its IP addresses: each a single host's, and in no other entry of the same VLAN.
    pub addresses: Vec<IpAddr>,
}

/// Behind whom a static entry is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StaticOwner {
    /// The access port with this interface, one of [`Config::access`].
    Interface(String),
    /// The peer of this name, one of [`Config::peers`].
    Peer(String),
}

/// A rendezvous to register with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nucleus {
    /// Its address: TCP for records, UDP for reflection.
    pub endpoint: SocketAddr,
    /// Its X25519 public key.
    pub public_key: [u8; 32],
}

/// Who certifies the members of the fabric.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authority {
    /// Its Ed25519 public key.
    pub public_key: [u8; 32],
    /// This node's certificate; a relative name is joined to the configuration file's folder.
    pub certificate_file: PathBuf,
}

/// Where operators look in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Control {
    /// The UNIX socket of `omni show` and its like: at most 107 octets. A relative name is
    /// joined to the configuration file's folder.
    pub socket: PathBuf,
    /// Where Prometheus scrapes.
    pub metrics: Option<MetricsAt>,
}

/// Where metrics are served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetricsAt {
    /// At an address, of this machine alone where only a port is given. The port is not 0.
    Tcp(SocketAddr),
    /// At a UNIX socket: 1..=107 octets. A relative name is joined to the configuration file's
    /// folder.
    Unix(PathBuf),
}

/// An address with the length of its network's prefix, such as `10.7.0.1/24`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IpNet {
    /// The address of the interface itself, host part included.
    pub address: IpAddr,
    /// Bits of network: 1..=32 for IPv4, 1..=128 for IPv6.
    pub prefix: u8,
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
