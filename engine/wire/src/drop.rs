//! Why a frame or message was dropped: one list for the whole node.
//!
//! Every discard is counted under exactly one of these; nothing is lost without a name.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $label:literal,)+) => {
        /// Why a frame or message was dropped.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name under which it is shown and exported.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// What it means, for people.
            #[must_use]
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+),)+ }
            }
        }
    };
}

drop_reasons! {
    // Underlay to access port, in the order of the checks.
    /// Outer Ethernet, IP or UDP header is malformed or not for us.
    OuterMalformed = "outer_malformed",
    /// Message is shorter than the 32-octet header.
    HeaderTooShort = "header_too_short",
    /// Message type is unknown.
    HeaderBadType = "header_bad_type",
    /// Flags are not zero.
    HeaderBadFlags = "header_bad_flags",
    /// No session has this id.
    UnknownSession = "unknown_session",
    /// Session is older than its time limit.
    SessionExpired = "session_expired",
    /// Lane was not announced by the peer.
    LaneUnknown = "lane_unknown",
    /// Too many messages from another address than the peer's (counted in the driver).
    Elsewhere = "elsewhere",
    /// Most of what the peer sent was refused: it is limited for a while (counted in the driver).
    PeerThrottled = "peer_throttled",
    /// Nonce is at or above the reject limit.
    NonceLimit = "nonce_limit",
    /// Nonce is older than the replay window.
    NonceTooOld = "nonce_too_old",
    /// Nonce was accepted before.
    NonceReplayed = "nonce_replayed",
    /// Poly1305 tag does not verify.
    BadTag = "bad_tag",
    /// Frame is longer than the limit announced.
    InnerTooBig = "inner_too_big",
    /// Frame is shorter than an Ethernet header, or its VLAN tags are cut off.
    InnerTooShort = "inner_too_short",
    /// Source MAC is multicast or zero.
    SourceMacInvalid = "source_mac_invalid",
    /// Source MAC belongs to another peer or to a local port.
    SourceMacNotOwned = "source_mac_not_owned",
    /// VLAN tags that are not carried: VID 4095, VID 0 below another tag, more than two tags.
    VlanInvalid = "vlan_invalid",
    /// Destination is another peer: frames are never carried from fabric to fabric.
    SplitHorizon = "split_horizon",
    /// Outer packet says that there is congestion, and the inner one cannot (RFC 6040 s.4.2).
    EcnDropped = "ecn_dropped",
    /// Too many control records from a peer, or no room for them.
    ControlLimited = "control_limited",

    // Both ways: what the switch does not carry.
    /// VLAN is not carried by this port or peer.
    VlanNotAllowed = "vlan_not_allowed",
    /// Destination is one that bridges keep to a link (01:80:c2:00:00:0x, IEEE 802.1Q s.8.6.3).
    ReservedDestination = "reserved_destination",
    /// Source MAC is not among those that the port, or the peer by its certificate, may have.
    SourceMacNotAllowed = "source_mac_not_allowed",
    /// Port or peer shows more new addresses a second than are learned.
    LearnRate = "learn_rate",
    /// Nobody is known to have the destination, and such frames are not flooded.
    UnknownUnicast = "unknown_unicast",
    /// More broadcasts, multicasts and frames to unknown addresses than this port or peer may send.
    StormLimited = "storm_limited",
    /// ARP or neighbour discovery message is not valid.
    NeighborMalformed = "neighbor_malformed",
    /// ARP or neighbour discovery message names another hardware address than it comes from.
    NeighborSpoofed = "neighbor_spoofed",
    /// ARP or neighbour discovery message claims an IP address that somebody else has.
    BindingNotOwned = "binding_not_owned",
    /// ARP or neighbour discovery message claims an IP address that the peer's certificate does not
    /// grant.
    AddressNotGranted = "address_not_granted",
    /// ARP, IP or a VLAN tag is wrapped in LLC/SNAP, past all inspection.
    LlcWrapped = "llc_wrapped",
    /// Router advertisement or redirect from a port where no router may be.
    GuardedRouter = "guarded_router",
    /// DHCP server's message from a port where no server may be.
    GuardedDhcp = "guarded_dhcp",

    // Access port to underlay.
    /// Destination is behind the port the frame came from.
    Reflected = "reflected",
    /// Destination is unknown and there is no peer to flood to.
    NoDestination = "no_destination",
    /// No session with the peer and none can be started: its endpoint is unknown.
    NoEndpoint = "no_endpoint",
    /// The oldest staged frame made room for a newer one.
    StagedOverflow = "staged_overflow",
    /// The handshake that the frame was staged for was given up.
    StagedExpired = "staged_expired",
    /// The send counter of the session is used up.
    NonceExhausted = "nonce_exhausted",
    /// The next hop towards the peer's endpoint is not known.
    NoPath = "no_path",
    /// No room before the frame for the outer headers.
    NoHeadroom = "no_headroom",

    // Both directions.
    /// Transmit ring is full: the other side does not keep up.
    TxRingFull = "tx_ring_full",
    /// No free frame in the UMEM.
    NoFreeFrame = "no_free_frame",
    /// Frame spans more buffers than can be joined.
    TooManyBuffers = "too_many_buffers",
    /// Receive ring was full: the worker did not keep up (counted by the kernel).
    RxRingFull = "rx_ring_full",
    /// Fill ring was empty: no buffer for the frame (counted by the kernel).
    FillRingEmpty = "fill_ring_empty",
    /// Kernel dropped it on the way into the socket for another reason (counted by the kernel).
    RxKernel = "rx_kernel",
    /// Kernel refused a transmit descriptor (counted by the kernel).
    TxInvalid = "tx_invalid",
    /// Kernel handed over a frame to be cut, or a checksum to be done, that makes no sense.
    OffloadInvalid = "offload_invalid",
    /// XDP program had no socket for the receive queue (counted in the driver).
    NoSocket = "no_socket",
    /// XDP program found no headroom before the frame (counted in the driver).
    XdpNoHeadroom = "xdp_no_headroom",
    /// Frame of the host found no room on its way to the engine (counted by the kernel).
    PortRxDropped = "port_rx_dropped",
    /// Interface dropped frames that it was to send (counted by the kernel).
    PortTxDropped = "port_tx_dropped",
    /// Frame was under way while sockets and packet memory were made anew.
    Reopened = "reopened",

    // Handshake and other messages without a session.
    /// Message without a session has a wrong length or type.
    MessageMalformed = "message_malformed",
    /// Protocol version or flags are not ours.
    MessageVersion = "message_version",
    /// Data message reached the control thread: its receive queue has no worker.
    MessageUnsteered = "message_unsteered",
    /// mac1 does not verify.
    HandshakeBadMac = "handshake_bad_mac",
    /// Under load, and no valid cookie: a cookie reply was sent.
    HandshakeNoCookie = "handshake_no_cookie",
    /// Too many handshakes from this source.
    HandshakeRateLimited = "handshake_rate_limited",
    /// Noise message does not verify: wrong key, fabric or preshared key, or forged.
    HandshakeInvalid = "handshake_invalid",
    /// Initiator is not a configured peer.
    HandshakeUnknownPeer = "handshake_unknown_peer",
    /// Initiation is not newer than the last one, or too far in the future.
    HandshakeReplayed = "handshake_replayed",
    /// Lanes or session index in the payload are out of range.
    HandshakeBadPayload = "handshake_bad_payload",
    /// Response or cookie reply answers nothing that is pending.
    HandshakeUnexpected = "handshake_unexpected",
    /// Path MTU probe or answer is malformed, one too many, or answers nothing that is under way.
    ProbeRefused = "probe_refused",
    /// Mailbox between worker and control thread is full.
    MailboxFull = "mailbox_full",
}

/// One counter per [`DropReason`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DropCounters([u64; DropReason::COUNT]);

impl DropCounters {
    /// All zero.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; DropReason::COUNT])
    }

    /// Counts one drop.
    #[inline]
    pub fn count(&mut self, reason: DropReason) {
        self.add(reason, 1);
    }

    /// Counts `n` drops.
    #[inline]
    pub fn add(&mut self, reason: DropReason, n: u64) {
        self.0[reason as usize] += n;
    }

    /// How many were dropped for `reason`.
    #[must_use]
    pub const fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// How many were dropped in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.get(reason)))
    }
}

impl Default for DropCounters {
    fn default() -> Self {
        Self::new()
    }
}
