//! From the configuration to what the data path and the switch go by.

use std::net::IpAddr;
use std::sync::Arc;

use omni_config::{
    Access, Config, Dscp, LlcSnap, Multicast, PeerPolicy as PeerSettings, PortMacs,
    PortVlans as ConfiguredVlans, StaticOwner, UnknownUnicast, VlanSet,
};
use omni_control::PublicKey;
use omni_control::message::{FdbKey, PortId, VlanBits};
use omni_wire::MacAddr;

use crate::datapath::policy::{PeerPolicy, PortPolicy, PortVlans, SwitchPolicy};
use crate::datapath::storm::StormBucket;
use crate::switch::{PeerLimits, SwitchConfig};

/// How frames are switched.
pub(super) fn switch_policy(config: &Config, engine_mac: MacAddr) -> SwitchPolicy {
    let switch = &config.switch;
    SwitchPolicy {
        ports: config.access.iter().map(port_policy).collect(),
        suppression: switch.suppression,
        drop_unknown: switch.unknown_unicast == UnknownUnicast::Drop,
        snoop: switch.multicast == Multicast::Snoop,
        carry_wrapped: switch.llc_snap == LlcSnap::Carry,
        dscp: match switch.dscp {
            Dscp::Copy => None,
            Dscp::Fixed(dscp) => Some(dscp),
        },
        mss_clamp: switch.mss_clamp,
        engine_mac,
    }
}

fn port_policy(access: &Access) -> PortPolicy {
    PortPolicy {
        vlans: port_vlans(access),
        only: match &access.macs {
            PortMacs::Learn => None,
            PortMacs::Only(macs) => Some(macs.iter().copied().map(MacAddr).collect()),
        },
        guard_ra: access.guard.ra,
        guard_dhcp: access.guard.dhcp,
        storm: storm(access.bum_pps),
    }
}

/// What a port carries.
pub(super) fn port_vlans(access: &Access) -> PortVlans {
    match &access.vlans {
        ConfiguredVlans::Trunk(vlans) => PortVlans::Trunk(Box::new(bits(vlans))),
        ConfiguredVlans::Access(vlan) => PortVlans::Access(*vlan),
    }
}

/// What a peer may send and is sent.
pub(super) fn peer_policy(settings: &PeerSettings) -> PeerPolicy {
    PeerPolicy {
        vlans: bits(&settings.vlans),
        macs_max: settings.macs_max as usize,
        addresses_max: settings.addresses_max as usize,
        storm: storm(settings.bum_pps),
        grants: None,
    }
}

/// How much of the switch's tables a peer may fill.
pub(super) fn peer_limits(settings: &PeerSettings) -> PeerLimits {
    PeerLimits {
        macs_max: settings.macs_max as usize,
        addresses_max: settings.addresses_max as usize,
    }
}

/// The authority over the tables.
pub(super) fn switch_config(config: &Config, own_key: PublicKey) -> SwitchConfig {
    let carried = config.access.iter().map(|access| match &access.vlans {
        ConfiguredVlans::Trunk(vlans) => bits(vlans),
        ConfiguredVlans::Access(vlan) => {
            let mut only = VlanBits::NONE;
            only.insert(*vlan);
            only
        }
    });
    SwitchConfig {
        carried: carried.collect(),
        ageing: config.switch.ageing,
        snoop: config.switch.multicast == Multicast::Snoop,
        asks_directory: config.switch.unknown_unicast == UnknownUnicast::Query,
        tells_hosts: config.switch.suppression,
        ..SwitchConfig::new(config.access.len(), own_key)
    }
}

/// The VLAN on the fabric of what the host itself sends without a tag.
pub(super) fn vlan_of_host(config: &Config, port: PortId) -> u16 {
    let access = config.access.get(usize::from(port.0));
    match access.map(|access| &access.vlans) {
        Some(ConfiguredVlans::Access(vlan)) => *vlan,
        _ => 0,
    }
}

/// An address that is configured.
pub(super) struct StaticAddress {
    pub(super) key: FdbKey,
    pub(super) owner: StaticPlace,
    pub(super) addresses: Vec<IpAddr>,
}

/// Behind whom a configured address is.
pub(super) enum StaticPlace {
    Port(PortId),
    Peer(PublicKey),
}

/// The addresses that need not be learned.
pub(super) fn static_addresses(config: &Config) -> Vec<StaticAddress> {
    let place = |owner: &StaticOwner| match owner {
        StaticOwner::Interface(name) => {
            let mut ports = config.access.iter();
            let index = ports.position(|access| access.interface == *name)?;
            Some(StaticPlace::Port(PortId(index as u8)))
        }
        StaticOwner::Peer(name) => {
            let peer = config.peers.iter().find(|peer| peer.name == *name)?;
            Some(StaticPlace::Peer(PublicKey(peer.public_key)))
        }
    };
    let entries = config.switch.static_entries.iter();
    entries
        .filter_map(|entry| {
            Some(StaticAddress {
                key: FdbKey {
                    vlan: entry.vlan,
                    mac: MacAddr(entry.mac),
                },
                owner: place(&entry.owner)?,
                addresses: entry.addresses.clone(),
            })
        })
        .collect()
}

fn storm(pps: Option<u32>) -> Option<Arc<StormBucket>> {
    pps.map(|pps| Arc::new(StormBucket::new(pps)))
}

/// The same set, as the data path has it.
pub(super) fn bits(vlans: &VlanSet) -> VlanBits {
    VlanBits(*vlans.words())
}
