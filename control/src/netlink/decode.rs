//! What the kernel's messages say, as far as the engine needs it.
//!
//! Of a message only the attributes that matter here are read. An attribute that a newer kernel
//! adds, or that a driver fills in an unusual way, thus cannot make an interface unreadable.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLA_HEADER_SIZE, NlasIterator};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressFlags, AddressHeader};
use netlink_packet_route::link::{LinkFlags, LinkHeader};
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourHeader};
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteType};
use omni_wire::MacAddr;

use super::link::{Link, LinkStats};

/// Message types (linux/rtnetlink.h).
pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_DELNEIGH: u16 = 29;
pub(super) const RTM_NEWRULE: u16 = 32;
pub(super) const RTM_DELRULE: u16 = 33;

/// Lengths of the fixed parts before the attributes, in octets.
const LINK_HEADER_LEN: usize = 16;
const ADDRESS_HEADER_LEN: usize = 8;
const ROUTE_HEADER_LEN: usize = 12;
const NEIGHBOUR_HEADER_LEN: usize = 12;

/// Attributes of a link (linux/if_link.h).
mod ifla {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const IFNAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const LINK: u16 = 5;
    pub(super) const MASTER: u16 = 10;
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const IFALIAS: u16 = 20;
    pub(super) const STATS64: u16 = 23;
    pub(super) const NUM_TX_QUEUES: u16 = 31;
    pub(super) const NUM_RX_QUEUES: u16 = 32;
    pub(super) const LINK_NETNSID: u16 = 37;
    pub(super) const XDP: u16 = 43;
    /// Within XDP: programs by where they run; the first when there is one only.
    pub(super) const XDP_PROGRAMS: core::ops::RangeInclusive<u16> = 4..=7;
    /// Within LINKINFO.
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    /// Within INFO_DATA of a VLAN.
    pub(super) const VLAN_ID: u16 = 1;
    pub(super) const VLAN_PROTOCOL: u16 = 5;
}

/// Attributes of an address (linux/if_addr.h).
mod ifa {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    pub(super) const FLAGS: u16 = 8;
    pub(super) const PROTO: u16 = 11;
}

/// Attributes of a route (linux/rtnetlink.h).
mod rta {
    pub(super) const OIF: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const PREFSRC: u16 = 7;
    pub(super) const METRICS: u16 = 8;
    pub(super) const VIA: u16 = 18;
    pub(super) const ENCAP_TYPE: u16 = 21;
    /// Within METRICS.
    pub(super) const MTU: u16 = 2;
}

/// Attributes of a neighbour (linux/neighbour.h).
mod nda {
    pub(super) const DST: u16 = 1;
    pub(super) const LLADDR: u16 = 2;
}

/// States of a neighbour (linux/neighbour.h).
mod nud {
    pub(super) const REACHABLE: u16 = 0x02;
    pub(super) const STALE: u16 = 0x04;
    pub(super) const DELAY: u16 = 0x08;
    pub(super) const PROBE: u16 = 0x10;
    pub(super) const NOARP: u16 = 0x40;
    pub(super) const PERMANENT: u16 = 0x80;
    /// Those in which frames may be sent to the link-layer address.
    pub(super) const VALID: u16 = REACHABLE | STALE | DELAY | PROBE | NOARP | PERMANENT;
}

/// TPID of a customer tag in host order (IEEE 802.1Q).
const ETH_P_8021Q: u16 = 0x8100;

/// Attributes as kind and value, up to the first that is cut off.
pub(super) fn attributes(octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(octets).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), attribute.length().into());
        attribute
            .into_inner()
            .get(NLA_HEADER_SIZE..length)
            .map(|value| (kind, value))
    })
}

fn u16_of(value: &[u8]) -> Option<u16> {
    value
        .first_chunk()
        .map(|octets| u16::from_ne_bytes(*octets))
}

fn u32_of(value: &[u8]) -> Option<u32> {
    value
        .first_chunk()
        .map(|octets| u32::from_ne_bytes(*octets))
}

fn ip_of(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(value)
        .ok()
        .map(|octets| Ipv6Addr::from(octets).into())
}

fn mac_of(value: &[u8]) -> Option<MacAddr> {
    value.try_into().ok().map(MacAddr)
}

/// Text up to its terminating zero.
pub(super) fn text(value: &[u8]) -> String {
    let end = value
        .iter()
        .position(|octet| *octet == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A link message. `None` when it is cut off, or one of another family than the interface itself
/// (a bridge speaks of its ports in messages of the same type).
pub(super) fn link(body: &[u8]) -> Option<Link> {
    let header = LinkHeader::parse(body).ok()?;
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut link = Link {
        index: header.index,
        up: header.flags.contains(LinkFlags::Up),
        carrier: header.flags.contains(LinkFlags::LowerUp),
        ..Link::default()
    };
    let mut lower = None;
    let mut lower_is_elsewhere = false;
    let mut vlan_id = None;
    for (kind, value) in attributes(body.get(LINK_HEADER_LEN..)?) {
        match kind {
            ifla::IFNAME => link.name = text(value),
            ifla::MTU => link.mtu = u32_of(value).unwrap_or_default(),
            ifla::ADDRESS => link.mac = mac_of(value).unwrap_or(MacAddr::ZERO),
            ifla::LINK => lower = u32_of(value),
            ifla::LINK_NETNSID => lower_is_elsewhere = true,
            ifla::MASTER => link.controller = u32_of(value),
            ifla::LINKINFO => vlan_id = link_info(&mut link, value),
            ifla::IFALIAS => link.alias = Some(text(value)),
            ifla::STATS64 => link.stats = stats(value),
            ifla::NUM_TX_QUEUES => link.tx_queues = u32_of(value).unwrap_or_default(),
            ifla::NUM_RX_QUEUES => link.rx_queues = u32_of(value).unwrap_or_default(),
            ifla::XDP => link.xdp_programs = xdp_programs(value),
            _ => {}
        }
    }
    let lower = lower.filter(|index| *index != 0 && !lower_is_elsewhere);
    link.vlan = lower.zip(vlan_id);
    link.peer_index = lower.filter(|_| link.kind.as_deref() == Some("veth"));
    Some(link)
}

/// Reads the kind, and of a VLAN its id (returned) and kind of tag.
fn link_info(link: &mut Link, octets: &[u8]) -> Option<u16> {
    let mut data: &[u8] = &[];
    for (kind, value) in attributes(octets) {
        match kind {
            ifla::INFO_KIND => link.kind = Some(text(value)),
            ifla::INFO_DATA => data = value,
            _ => {}
        }
    }
    if link.kind.as_deref() != Some("vlan") {
        return None;
    }
    let mut id = None;
    for (kind, value) in attributes(data) {
        match kind {
            ifla::VLAN_ID => id = u16_of(value),
            ifla::VLAN_PROTOCOL => {
                let tpid = value
                    .first_chunk()
                    .map(|octets| u16::from_be_bytes(*octets));
                link.service_tag = tpid.is_some_and(|tpid| tpid != ETH_P_8021Q);
            }
            _ => {}
        }
    }
    id
}

/// The numbers of XDP programs: of the driver, the network stack or the card.
fn xdp_programs(octets: &[u8]) -> Vec<u32> {
    let programs = attributes(octets).filter(|(kind, _)| ifla::XDP_PROGRAMS.contains(kind));
    let mut programs: Vec<u32> = programs.filter_map(|(_, value)| u32_of(value)).collect();
    programs.retain(|&program| program != 0);
    programs
}

/// # Layout
/// `struct rtnl_link_stats64`: 64-bit counters in host order; older kernels have fewer.
fn stats(value: &[u8]) -> LinkStats {
    let counter = |position: usize| {
        let octets = value.get(position * 8..).and_then(<[u8]>::first_chunk);
        octets.map_or(0, |octets| u64::from_ne_bytes(*octets))
    };
    LinkStats {
        rx_packets: counter(0),
        tx_packets: counter(1),
        rx_bytes: counter(2),
        tx_bytes: counter(3),
        rx_errors: counter(4),
        tx_errors: counter(5),
        rx_dropped: counter(6),
        tx_dropped: counter(7),
        rx_missed_errors: counter(15),
    }
}

/// An address of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Address {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
    /// In bits.
    pub(super) prefix_len: u8,
    /// Duplicate address detection is over, and the address is not a duplicate (RFC 4862 s.5.4).
    pub(super) usable: bool,
    /// Who set it (IFA_PROTO).
    pub(super) protocol: Option<u8>,
}

pub(super) fn address(body: &[u8]) -> Option<Address> {
    let header = AddressHeader::parse(body).ok()?;
    let mut local = None;
    let mut remote = None;
    let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
    let mut protocol = None;
    for (kind, value) in attributes(body.get(ADDRESS_HEADER_LEN..)?) {
        match kind {
            ifa::LOCAL => local = ip_of(value),
            // On a point-to-point interface this is the other end's; otherwise the same as LOCAL,
            // which IPv6 then leaves out.
            ifa::ADDRESS => remote = ip_of(value),
            ifa::FLAGS => flags = u32_of(value).map_or(flags, AddressFlags::from_bits_retain),
            ifa::PROTO => protocol = value.first().copied(),
            _ => {}
        }
    }
    let tentative =
        flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    Some(Address {
        ifindex: header.index,
        address: local.or(remote)?,
        prefix_len: header.prefix_len,
        usable: !tentative && !flags.contains(AddressFlags::Dadfailed),
        protocol,
    })
}

/// The kernel's answer to "how would you send to that address".
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Route {
    pub(super) kind: RouteType,
    /// The interface it leaves by.
    pub(super) output: Option<u32>,
    pub(super) source: Option<IpAddr>,
    pub(super) gateway: Option<IpAddr>,
    /// A limit of the route itself, path MTU discovery included.
    pub(super) mtu: Option<u32>,
    /// The kernel would wrap the packet (MPLS, segment routing, ...).
    pub(super) encapsulated: bool,
}

pub(super) fn route(body: &[u8]) -> Option<Route> {
    let header = RouteHeader::parse(body).ok()?;
    let mut route = Route {
        kind: header.kind,
        output: None,
        source: None,
        gateway: None,
        mtu: None,
        encapsulated: false,
    };
    for (kind, value) in attributes(body.get(ROUTE_HEADER_LEN..)?) {
        match kind {
            rta::OIF => route.output = u32_of(value),
            rta::PREFSRC => route.source = ip_of(value),
            rta::GATEWAY => route.gateway = ip_of(value),
            // A gateway of the other family: two octets of family come first.
            rta::VIA => route.gateway = value.get(2..).and_then(ip_of),
            rta::METRICS => {
                let mtu = attributes(value).find(|(metric, _)| *metric == rta::MTU);
                route.mtu = mtu
                    .and_then(|(_, value)| u32_of(value))
                    .filter(|mtu| *mtu != 0);
            }
            rta::ENCAP_TYPE => route.encapsulated = u16_of(value).is_some_and(|kind| kind != 0),
            _ => {}
        }
    }
    Some(route)
}

/// Whether a route message is about a cached clone, not about the table.
pub(super) fn is_cloned_route(body: &[u8]) -> bool {
    RouteHeader::parse(body).is_ok_and(|header| header.flags.contains(RouteFlags::Cloned))
}

/// A neighbour entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Neighbor {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
    /// Where frames may be sent to now.
    pub(super) mac: Option<MacAddr>,
    /// Usable, but not confirmed for a while.
    pub(super) stale: bool,
    /// Set by hand or needing no resolution: the kernel does not probe it, and must not be asked
    /// to, since that would make it an ordinary entry.
    pub(super) fixed: bool,
}

/// A neighbour message. `None` when it is about something else than an IP neighbour that can be
/// sent to (a bridge's forwarding entry, a proxied address, a multicast group).
pub(super) fn neighbor(body: &[u8]) -> Option<Neighbor> {
    let header = NeighbourHeader::parse(body).ok()?;
    let of_ip = matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6);
    if !of_ip || header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    for (kind, value) in attributes(body.get(NEIGHBOUR_HEADER_LEN..)?) {
        match kind {
            nda::DST => address = ip_of(value),
            nda::LLADDR => mac = mac_of(value),
            _ => {}
        }
    }
    let state = u16::from(header.state);
    let sendable = |mac: &MacAddr| !mac.is_zero() && !mac.is_multicast();
    Some(Neighbor {
        ifindex: header.ifindex,
        address: address.filter(|address| !address.is_multicast())?,
        mac: mac.filter(sendable).filter(|_| state & nud::VALID != 0),
        stale: state & nud::STALE != 0,
        fixed: state & (nud::PERMANENT | nud::NOARP) != 0,
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;
    use netlink_packet_route::link::{
        InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkMessage, VlanProtocol,
    };
    use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
    use proptest::prelude::*;

    use super::*;

    fn octets(message: &impl Emitable) -> Vec<u8> {
        let mut octets = vec![0; message.buffer_len()];
        message.emit(&mut octets);
        octets
    }

    fn vlan_message(protocol: VlanProtocol) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 9;
        message.attributes = vec![
            LinkAttribute::IfName("eth0.7".to_owned()),
            LinkAttribute::Link(2),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(vec![
                    InfoVlan::Protocol(protocol),
                    InfoVlan::Id(7),
                ])),
            ]),
        ];
        message
    }

    #[test]
    fn a_vlan_sub_interface_has_its_parent_and_id() {
        let found = link(&octets(&vlan_message(VlanProtocol::Ieee8021Q))).expect("a link");
        assert_eq!((found.index, found.name.as_str()), (9, "eth0.7"));
        assert_eq!(
            (found.vlan, found.service_tag, found.peer_index),
            (Some((2, 7)), false, None)
        );
        let found = link(&octets(&vlan_message(VlanProtocol::Ieee8021Ad))).expect("a link");
        assert_eq!((found.vlan, found.service_tag), (Some((2, 7)), true));
    }

    #[test]
    fn a_parent_in_another_namespace_is_no_parent_here() {
        let mut message = vlan_message(VlanProtocol::Ieee8021Q);
        message.attributes.push(LinkAttribute::LinkNetNsId(0));
        assert_eq!(link(&octets(&message)).expect("a link").vlan, None);
    }

    #[test]
    fn a_bridges_words_about_a_port_are_not_about_the_interface() {
        let mut message = vlan_message(VlanProtocol::Ieee8021Q);
        message.header.interface_family = AddressFamily::Bridge;
        assert_eq!(link(&octets(&message)), None);
    }

    #[test]
    fn only_neighbours_in_a_usable_state_have_a_mac() {
        let states = [
            (NeighbourState::Reachable, true, false, false),
            (NeighbourState::Delay, true, false, false),
            (NeighbourState::Probe, true, false, false),
            (NeighbourState::Stale, true, true, false),
            (NeighbourState::Permanent, true, false, true),
            (NeighbourState::Noarp, true, false, true),
            (NeighbourState::Incomplete, false, false, false),
            (NeighbourState::Failed, false, false, false),
            (NeighbourState::None, false, false, false),
        ];
        for (state, usable, stale, fixed) in states {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Inet;
            message.header.state = state;
            message.attributes = vec![
                NeighbourAttribute::Destination(Ipv4Addr::new(192, 0, 2, 2).into()),
                NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 1]),
            ];
            let found = neighbor(&octets(&message)).expect("a neighbour");
            assert_eq!(found.mac.is_some(), usable, "{state}");
            assert_eq!((found.stale, found.fixed), (stale, fixed), "{state}");
        }
    }

    #[test]
    fn a_zero_or_group_mac_is_not_sent_to() {
        for mac in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Inet;
            message.header.state = NeighbourState::Noarp;
            message.attributes = vec![
                NeighbourAttribute::Destination(Ipv4Addr::new(192, 0, 2, 2).into()),
                NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
            ];
            assert_eq!(neighbor(&octets(&message)).expect("a neighbour").mac, None);
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (link(&body), address(&body), route(&body), neighbor(&body));
        }

        #[test]
        fn cut_off_and_altered_links_are_read_without_a_panic(
            end in 0_usize..200,
            position in 0_usize..200,
            value in any::<u8>(),
        ) {
            let mut body = octets(&vlan_message(VlanProtocol::Ieee8021Q));
            if let Some(octet) = body.get_mut(position) {
                *octet = value;
            }
            body.truncate(end);
            let _ = link(&body);
        }
    }
}
