//! What goes into the switch and what comes out.

use std::net::IpAddr;
use std::time::Duration;

use omni_control::PublicKey;
use omni_control::message::{FdbKey, Owner, PeerId, PortId, VlanBits};
use omni_wire::{Instant, MacAddr};

/// An address that was not reported for this long is forgotten: 802.1D's default ageing time.
pub const AGEING: Duration = Duration::from_secs(300);

/// How a switch is.
#[derive(Clone, Debug)]
pub struct SwitchConfig {
    /// How many access ports there are, numbered from 0.
    pub ports: usize,
    /// The VLANs of each port, by its number; a port that is not in here carries none. Peers are
    /// told of all of them together.
    pub carried: Vec<VlanBits>,
    /// Our public key.
    pub own_key: PublicKey,
    /// After what time an address that is not in use is forgotten.
    pub ageing: Duration,
    /// Whether multicast goes only where it is wanted.
    pub snoop: bool,
    /// Whether frames to addresses that nobody was heard with go to whom a rendezvous names.
    pub asks_directory: bool,
    /// Whether local hosts are told when an IP address is at another MAC address than before.
    pub tells_hosts: bool,
    /// Of the tables.
    pub limits: SwitchLimits,
}

impl SwitchConfig {
    /// A switch with so many ports, each of which carries every VLAN, and with all else as it is
    /// where nothing is configured.
    #[must_use]
    pub fn new(ports: usize, own_key: PublicKey) -> Self {
        Self {
            ports,
            carried: vec![VlanBits::ALL; ports],
            own_key,
            ageing: AGEING,
            snoop: true,
            asks_directory: false,
            tells_hosts: true,
            limits: SwitchLimits::default(),
        }
    }
}

/// How much there may be in the tables. A flood from one side never takes from the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SwitchLimits {
    /// MAC addresses behind local ports.
    pub local_macs: usize,
    /// MAC addresses behind peers, all together.
    pub peer_macs: usize,
    /// IP addresses behind local ports.
    pub local_addresses: usize,
    /// IP addresses behind peers, all together.
    pub peer_addresses: usize,
}

impl Default for SwitchLimits {
    fn default() -> Self {
        Self {
            local_macs: 16 * 1024,
            peer_macs: 112 * 1024,
            local_addresses: 16 * 1024,
            peer_addresses: 112 * 1024,
        }
    }
}

/// How full the tables are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableSizes {
    /// What there is beside what was set.
    pub now: SwitchLimits,
    /// What there may be of that.
    pub most: SwitchLimits,
    /// MAC addresses that were set.
    pub static_macs: usize,
    /// IP addresses that were set.
    pub static_addresses: usize,
    /// Multicast groups that somebody wants.
    pub groups: usize,
}

/// How much one peer may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerLimits {
    /// MAC addresses, at least 1.
    pub macs_max: usize,
    /// IP addresses, at least 1.
    pub addresses_max: usize,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            macs_max: 1024,
            addresses_max: 1024,
        }
    }
}

/// Who is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// Every worker.
    All,
    /// This worker.
    Only(usize),
}

/// What is to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Send {
    /// A control record to a peer.
    Record {
        /// To whom.
        peer: PeerId,
        /// Kind, reserved octet, length and body, 1200 octets at most.
        record: Box<[u8]>,
    },
    /// A question to a host, at its MAC address, whether it has an IP address: ARP or a neighbour
    /// solicitation.
    Ask {
        /// Out of which port.
        port: PortId,
        /// Outermost VLAN id.
        vlan: u16,
        /// The host's address.
        mac: MacAddr,
        /// What it is asked for.
        ip: IpAddr,
    },
    /// Tells all hosts behind a port at which MAC address an IP address is now: an ARP announcement
    /// or an unsolicited neighbour advertisement.
    Tell {
        /// Out of which port.
        port: PortId,
        /// Outermost VLAN id.
        vlan: u16,
        /// Where the address is.
        mac: MacAddr,
        /// The address.
        ip: IpAddr,
    },
    /// A question to all hosts which multicast groups they want: a general query of IGMP or MLD.
    Query {
        /// Out of which port.
        port: PortId,
        /// Outermost VLAN id.
        vlan: u16,
        /// MLD, not IGMP.
        ipv6: bool,
    },
}

/// An IP address and who has it, as a worker reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    /// Outermost VLAN id.
    pub vlan: u16,
    /// The IP address.
    pub ip: IpAddr,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Behind whom it is.
    pub owner: Owner,
}

/// An address and who has it, as a rendezvous says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// VLAN and MAC address.
    pub key: FdbKey,
    /// The IP address; `None`: this is about the MAC address alone.
    pub ip: Option<IpAddr>,
    /// Behind whom it is.
    pub peer: PeerId,
    /// Of what is said of one MAC address the greatest holds.
    pub sequence: u64,
}

/// A host joined or left a multicast group, as a worker reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupReport {
    /// Outermost VLAN id.
    pub vlan: u16,
    /// Behind which port.
    pub port: PortId,
    /// The group's address.
    pub group: IpAddr,
    /// Whether it is wanted from now on.
    pub join: bool,
}

/// How an address came into the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// From a frame's source; it ages.
    Learned,
    /// Set by the engine; it stays.
    Static,
}

/// How a binding became known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// From ARP or neighbour discovery.
    Snooped,
    /// Its owner announced it.
    Announced,
    /// A rendezvous passed on what its owner signed.
    Nucleus,
    /// Set by the engine; it stays.
    Static,
}

/// A binding, as it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbor {
    /// What is bound to what.
    pub bound: Bound,
    /// How it became known.
    pub source: Source,
    /// When that was last confirmed.
    pub seen: Instant,
}

/// An address that moved too often and stays where it is for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alarm {
    /// VLAN and MAC.
    pub key: FdbKey,
    /// Where it stays.
    pub owner: Owner,
    /// Until when.
    pub until: Instant,
}

/// What happened since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Addresses that went from one owner to another.
    pub moves: u64,
    /// Addresses that moved too often and were frozen.
    pub frozen: u64,
    /// Claims sent.
    pub claims_sent: u64,
    /// Claims and releases that were not followed: the owner is alive, frozen, static or another,
    /// or too many were open.
    pub claims_refused: u64,
    /// Addresses that made room for others of the same owner, or of one who has fewer.
    pub evicted: u64,
    /// Bindings refused: somebody else holds the IP or the MAC address, or one is none.
    pub bindings_refused: u64,
    /// Group memberships refused: no group, or too many.
    pub groups_refused: u64,
    /// Records and entries of records beyond what a peer may send.
    pub records_limited: u64,
    /// Records that were none.
    pub records_malformed: u64,
    /// Questions and repeats left out as too many waited.
    pub sends_left_out: u64,
}
