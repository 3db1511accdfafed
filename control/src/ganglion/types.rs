//! What a Ganglion is made from, what it is asked for, and what it tells.

use core::net::{IpAddr, SocketAddr};

use omni_wire::Instant;

use crate::memory::Remembered;
use crate::message::{PeerId, TrafficTotals};
use omni_membership::{PrivateKey, PublicKey, SymmetricKey};

/// What a [`Ganglion`] is made from.
#[derive(Clone, Debug)]
pub struct GanglionConfig {
    /// Name of the fabric; bound into every handshake.
    pub fabric: String,
    /// Who we are.
    pub private_key: PrivateKey,
    /// How many lanes we send on, 1..=256; brought into this range.
    pub lanes: u16,
    /// The longest inner frame we accept, in octets from the destination MAC on.
    pub max_frame: u16,
    /// What we can do beyond version 1, one bit each.
    pub capabilities: u32,
    /// How many workers there are.
    pub workers: usize,
    /// Whether it is probed how long frames to peers may be (RFC 8899). Probes of peers are
    /// answered in any case.
    pub path_mtu: bool,
    /// What [`Ganglion::take_remembered`] gave last before the node was stopped; `None` at its
    /// first start.
    pub remembered: Option<Remembered>,
}

/// A peer to be added.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Its identity.
    pub public_key: PublicKey,
    /// A secret shared beforehand, mixed into every handshake with it.
    pub preshared_key: Option<SymmetricKey>,
    /// Where it is. Without it, the peer must speak first.
    pub endpoint: Option<SocketAddr>,
}

/// Why a peer was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddPeerError {
    /// It has our own key.
    #[error("the public key is this node's own")]
    OwnKey,
    /// There is a peer with this key.
    #[error("there is a peer with this public key already")]
    Duplicate,
    /// No secret can be agreed on with this key.
    #[error("the public key is not one that a private key gives")]
    WeakKey,
    /// Indices are never reused, and all of them were given out.
    #[error("more than 65536 peers were added since the start")]
    TooMany,
}

/// Why the node did not become someone else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SetIdentityError {
    /// A peer has the new key.
    #[error("the new key is that of a peer")]
    PeerHasKey {
        /// Which.
        peer: PeerId,
    },
}

/// A datagram to be sent from the fabric port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// From which address of ours; `None` leaves that to the kernel. When the kernel refuses it,
    /// the datagram is better sent from another one than not at all.
    pub source: Option<IpAddr>,
    /// Where to.
    pub destination: SocketAddr,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// What the runtime is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GanglionEvent {
    /// Find out how messages reach this endpoint, and keep [`Ganglion::handle_path`] informed.
    ResolvePath {
        /// Whose it is.
        peer: PeerId,
        /// Where the peer is now.
        endpoint: SocketAddr,
        /// The address of ours that the peer speaks to, to be used while it can be. `None`
        /// leaves the choice to the kernel.
        source: Option<IpAddr>,
    },
}

/// How far things are with a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// No session, and none is being made.
    Idle,
    /// No session yet: a handshake is under way.
    Handshaking,
    /// There is a session to send in.
    Established,
}

impl PeerState {
    /// How it is called where it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Handshaking => "handshaking",
            Self::Established => "established",
        }
    }
}

/// A peer, to be shown.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its index.
    pub id: PeerId,
    /// Its identity.
    pub public_key: PublicKey,
    /// Where it is, if known.
    pub endpoint: Option<SocketAddr>,
    /// The address of ours that it speaks to, if it is known and can be spoken from.
    pub local: Option<IpAddr>,
    /// How far things are.
    pub state: PeerState,
    /// When a session with it last became usable.
    pub last_handshake: Option<Instant>,
    /// Since when it is called and does not answer; `None` while it is not called, or was heard.
    pub unanswered_since: Option<Instant>,
    /// What both sides of the current session can do beyond version 1.
    pub capabilities: u32,
    /// The longest inner frame that the way to it is known to carry, in octets from the destination
    /// MAC on; `None` while only what it accepts limits.
    pub frame_limit: Option<u16>,
    /// The longest inner frame that it accepts in the current session; `None` without one.
    pub accepts: Option<u16>,
    /// What went to and fro.
    pub traffic: TrafficTotals,
}
