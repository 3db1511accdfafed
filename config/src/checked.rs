//! The configuration as the engine uses it: plain data in which every value is in range.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::secret::SecretBytes32;

/// A whole `fabric.yaml`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The fabric's name, bound into every handshake: 1..=64 octets of UTF-8.
    pub fabric: String,
    /// Who this node is.
    pub node: Node,
    /// The interface that carries UDP to other nodes.
    pub underlay: Underlay,
    /// The ports whose frames the fabric carries. This version loads exactly one.
    pub access: Vec<Access>,
    /// The threads that move frames.
    pub workers: Workers,
    /// The other nodes, by name and key. Names and keys are distinct.
    pub peers: Vec<Peer>,
    /// Where to register. Always empty in this version, which refuses entries.
    pub nucleus: Vec<Nucleus>,
    /// Who certifies members. Always `None` in this version, which refuses the key.
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
    /// How frames are received and sent. Loading resolves `auto` to [`Driver::Afxdp`].
    pub driver: Driver,
    /// How the XDP program is attached, here and on the access ports.
    pub xdp: XdpMode,
    /// Whether the driver's buffers are shared with the engine.
    pub zero_copy: ZeroCopy,
    /// Whether the XDP program drops what the engine would refuse anyhow.
    pub filter: bool,
    /// Where messages of the second and further lanes leave from.
    pub source_ports: SourcePorts,
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
    /// A UDP socket with segmentation offload. This version refuses it.
    Udp,
    /// The driver that serves the device best. Loading resolves it, so a loaded
    /// [`Config`] never holds it.
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
}

/// How an access port receives and sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessDriver {
    /// The driver that serves the port best. Loading resolves it, so a loaded [`Config`]
    /// never holds it.
    Auto,
    /// AF_XDP on the far end of a veth pair, or on an existing interface.
    Xdp,
    /// A tap with virtio-net header. This version refuses it.
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
    /// Where Prometheus scrapes. Always `None` in this version, which refuses the key.
    pub metrics: Option<SocketAddr>,
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
