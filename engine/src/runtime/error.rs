//! Why a node does not start, or cannot go on.

use std::io;
use std::path::PathBuf;

use omni_control::netlink::NetlinkError;
use omni_xdp_redirect::RedirectError;

use crate::cores::CoreError;
use crate::io::kernel::KernelIoError;
use crate::privileges::PrivilegeError;

/// Why a node does not start, or cannot go on. Each text names the thing and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A configured interface does not exist.
    #[error("{key}: interface {name} does not exist")]
    NoInterface {
        /// Key of the configuration.
        key: &'static str,
        /// The interface.
        name: String,
    },
    /// Nobody can ask for metrics.
    #[error("control.metrics: cannot listen at {at}: {source}")]
    Metrics {
        /// Where.
        at: String,
        /// Why not.
        source: io::Error,
    },
    /// An interface that the engine works on went away.
    #[error("interface {name} was deleted: the engine cannot go on without it")]
    InterfaceGone {
        /// The interface.
        name: String,
    },
    /// A configured queue does not exist.
    #[error(
        "underlay.queues: {interface} has no queue {queue}, it has {count} (0..={})",
        count - 1
    )]
    NoQueue {
        /// The underlay.
        interface: String,
        /// The queue that is not there.
        queue: u32,
        /// How many there are.
        count: u32,
    },
    /// Two interfaces of access ports would have one name.
    #[error(
        "access: {name} is a port's interface, and the other side of a port that is made: \
         give one of them another name"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// An access port's MTU does not fit into the underlay's.
    #[error(
        "access[{port}].mtu: {wanted} does not fit, the underlay's MTU {underlay} leaves {most}; \
         lower it, or raise the underlay's"
    )]
    MtuTooBig {
        /// The port's place in the configuration.
        port: usize,
        /// Configured.
        wanted: u32,
        /// The underlay's.
        underlay: u32,
        /// What would fit.
        most: u32,
    },
    /// An offload that hides a part of the frames from XDP cannot be switched off.
    #[error(
        "cannot switch offloads of {interface} off: {source}; see `ethtool -k {interface}`, \
         transmit checksums, segmentation and VLAN tags must be done in software"
    )]
    Offload {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A tap cannot be had.
    #[error(
        "cannot open the tap {interface}: {source}; it takes /dev/net/tun and CAP_NET_ADMIN, and \
         one that exists must be made by `ip tuntap add {interface} mode tap` (with \
         `multi_queue` for several workers) and be nobody else's"
    )]
    Tap {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Privileges cannot be given up.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// What makes the node a member is not good.
    #[error("{why}")]
    Membership {
        /// The key of the configuration, and what is wrong.
        why: String,
    },
    /// A peer has our own key.
    #[error("peers: {name} has this node's own public key")]
    PeerIsSelf {
        /// The peer.
        name: String,
    },
    /// No secret can be agreed on with a peer's key.
    #[error("peers: the public key of {name} is not one that a private key gives")]
    PeerKeyWeak {
        /// The peer.
        name: String,
    },
    /// The UDP port cannot be had.
    #[error(
        "underlay.port: cannot bind UDP port {port}: {source}{}",
        port_hint(source)
    )]
    UdpPort {
        /// Which.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// The control socket cannot be had.
    #[error("control.socket: cannot bind {}: {source}", path.display())]
    ControlSocket {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another engine answers on the control socket.
    #[error("control.socket: another engine is running on {}", path.display())]
    AlreadyRunning {
        /// Where.
        path: PathBuf,
    },
    /// The key log that the environment asks for cannot be written, or not without giving it away.
    #[error("OMNI_KEYLOG: {} {why}", path.display())]
    KeyLog {
        /// Where.
        path: PathBuf,
        /// What is wrong, and the remedy.
        why: String,
    },
    /// A worker takes no orders any more, or does not come round.
    #[error("worker {worker} does nothing any more: the engine cannot go on without it")]
    WorkerStuck {
        /// Which.
        worker: usize,
    },
    /// A worker's thread is over.
    #[error("worker {worker} has ended by itself: the engine cannot go on without it")]
    WorkerEnded {
        /// Which.
        worker: usize,
    },
    /// The system is short of something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// From netlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// From AF_XDP.
    #[error(transparent)]
    Xsk(#[from] KernelIoError),
    /// From the XDP programs.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// From the choice of cores.
    #[error(transparent)]
    Cores(#[from] CoreError),
}

fn port_hint(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::AddrInUse {
        " (WireGuard uses 51820 as well: choose another port on all nodes, or stop it)"
    } else {
        ""
    }
}
