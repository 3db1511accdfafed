//! What ports and peers may do: the configuration of the switch as the data path reads it.

use std::sync::Arc;

use omni_control::message::VlanBits;
use omni_membership::Grants;
use omni_wire::MacAddr;

use super::storm::StormBucket;

/// The most addresses of either sort that a peer has where nothing else is configured.
pub const PEER_ADDRESSES_MAX: usize = 1024;

/// How frames are switched on this node. Does not change while a worker runs.
#[derive(Clone, Debug, Default)]
pub struct SwitchPolicy {
    /// The access ports, by their index.
    pub ports: Vec<PortPolicy>,
    /// Whether who asks for an address that is known is answered here.
    pub suppression: bool,
    /// Whether frames to addresses that nobody is known to have are dropped, not flooded.
    pub drop_unknown: bool,
    /// Whether what is sent to a multicast group goes only to those who want it.
    pub snoop: bool,
    /// Whether LLC/SNAP-wrapped ARP, IP and VLAN tags pass uninspected.
    pub carry_wrapped: bool,
    /// The DSCP of outer packets, 0..=63; `None` copies that of the packet inside.
    pub dscp: Option<u8>,
    /// Whether the MSS of TCP connections is lowered to what the way carries.
    pub mss_clamp: bool,
    /// The engine's own address on its access ports: what it asks hosts from.
    pub engine_mac: MacAddr,
}

impl SwitchPolicy {
    /// So many ports that carry everything, with nothing that answers, drops or limits.
    #[must_use]
    pub fn open(ports: usize) -> Self {
        Self {
            ports: vec![PortPolicy::default(); ports],
            ..Self::default()
        }
    }
}

/// What an access port carries.
#[derive(Clone, Debug, Default)]
pub struct PortPolicy {
    /// VLANs, and how they look there.
    pub vlans: PortVlans,
    /// The only MAC addresses that may be behind it, where that is configured.
    pub only: Option<Arc<[MacAddr]>>,
    /// Whether router advertisements and redirects from it are dropped.
    pub guard_ra: bool,
    /// Whether what DHCP servers send from it is dropped.
    pub guard_dhcp: bool,
    /// Limits broadcasts, multicasts and frames to unknown addresses from it.
    pub storm: Option<Arc<StormBucket>>,
}

/// The VLANs of an access port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortVlans {
    /// Frames are tagged as on the fabric, untagged ones belong to VLAN 0.
    Trunk(Box<VlanBits>),
    /// Frames are untagged and belong to this VLAN.
    Access(u16),
}

impl Default for PortVlans {
    fn default() -> Self {
        Self::Trunk(Box::new(VlanBits::ALL))
    }
}

impl PortVlans {
    /// Whether frames of a VLAN go to the port.
    #[must_use]
    pub fn carry(&self, vlan: u16) -> bool {
        match self {
            Self::Trunk(vlans) => vlans.contains(vlan),
            Self::Access(only) => *only == vlan,
        }
    }
}

/// What a peer may send, and is sent.
#[derive(Clone, Debug)]
pub struct PeerPolicy {
    /// The VLANs that it may use.
    pub vlans: VlanBits,
    /// The most MAC addresses behind it.
    pub macs_max: usize,
    /// The most IP addresses behind it.
    pub addresses_max: usize,
    /// Limits broadcasts, multicasts and frames to unknown addresses from it.
    pub storm: Option<Arc<StormBucket>>,
    /// What its certificate allows; `None` where it has none.
    pub grants: Option<Arc<Grants>>,
}

impl Default for PeerPolicy {
    fn default() -> Self {
        Self {
            vlans: VlanBits::ALL,
            macs_max: PEER_ADDRESSES_MAX,
            addresses_max: PEER_ADDRESSES_MAX,
            storm: None,
            grants: None,
        }
    }
}
