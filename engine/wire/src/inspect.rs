//! What a frame is to a switch that guards its ports: ARP, neighbour discovery, reports of
//! multicast listeners, servers' messages, and attempts to get such past it.
//!
//! Other frames are told by one or two comparisons. Not in here: what is done about any of them.

use core::net::IpAddr;

use crate::arp::Arp;
use crate::ethernet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet,
};
use crate::extension::{Part, Upper, is_extension, upper_layer};
use crate::ip::{IPV4_PROTOCOL, IPV6_NEXT_HEADER, Ipv4, Ipv6, PROTOCOL_ICMPV6, PROTOCOL_UDP};
use crate::limits::{IPV4_LEN, IPV6_LEN};
use crate::membership::{self, Membership, PROTOCOL_IGMP};
use crate::nd::{self, Advertisement, Solicitation};

/// The first value that is an EtherType and not a length (IEEE 802.3 s.3.2.6).
const ETHERTYPE_MIN: u16 = 1536;

/// LLC/SNAP headers in one another that are walked at most. Nobody sends two.
const WRAPPINGS_MAX: usize = 4;

/// The fragment offset of an IPv4 header, in the word of flags and offset.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// UDP ports of DHCP servers and clients (RFC 2131 s.4.1).
const DHCP: Ports = Ports {
    server: 67,
    client: 68,
};
/// UDP ports of DHCPv6 servers and clients (RFC 8415 s.7.2).
const DHCP_V6: Ports = Ports {
    server: 547,
    client: 546,
};

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inspected<'a> {
    /// Nothing of what follows.
    Other,
    /// ARP, well-formed.
    Arp(Arp),
    /// A valid neighbour solicitation.
    Solicitation(Solicitation),
    /// A valid neighbour advertisement.
    Advertisement(Advertisement),
    /// A valid router advertisement.
    RouterAdvertisement,
    /// A valid redirect.
    Redirect,
    /// From a DHCP server, or to a client, of either family.
    DhcpServer,
    /// A report or leave of an IPv4 multicast listener.
    Igmp(Membership<'a>),
    /// A report or leave of an IPv6 multicast listener.
    Mld(Membership<'a>),
    /// Asks for multicast listeners. A switch that asks on nobody's behalf has no address
    /// (RFC 4541 s.2.1.1), a router has one.
    Query {
        /// Who asks; unspecified, over IPv4, for a switch.
        source: IpAddr,
    },
    /// ARP, IP or a VLAN tag inside an LLC/SNAP header, which some receivers unwrap and checks by
    /// EtherType miss (CERT VU#855201).
    Wrapped,
    /// Claims to be ARP or neighbour discovery and is not valid, or hides what it is: IPv6 whose
    /// headers cannot be walked to their end, or which sends neighbour discovery in fragments.
    Malformed,
}

/// Looks at a frame whose headers are `ethernet`.
#[inline]
#[must_use]
pub fn inspect<'a>(frame: &'a [u8], ethernet: &Ethernet) -> Inspected<'a> {
    let Some(payload) = frame.get(ethernet.payload_offset..) else {
        return Inspected::Other;
    };
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => match payload.get(IPV4_PROTOCOL) {
            Some(&PROTOCOL_UDP) => udp_over_ipv4(payload),
            Some(&PROTOCOL_IGMP) => igmp(payload),
            _ => Inspected::Other,
        },
        ETHERTYPE_IPV6 => match payload.get(IPV6_NEXT_HEADER) {
            Some(&PROTOCOL_UDP) => udp(payload.get(IPV6_LEN..), DHCP_V6),
            Some(&next) if next == PROTOCOL_ICMPV6 || is_extension(next) => ipv6(payload),
            _ => Inspected::Other,
        },
        ETHERTYPE_ARP => Arp::parse(payload).map_or(Inspected::Malformed, Inspected::Arp),
        ..ETHERTYPE_MIN => llc(payload),
        _ => Inspected::Other,
    }
}

/// The UDP ports of a protocol with servers and clients.
#[derive(Clone, Copy)]
struct Ports {
    server: u16,
    client: u16,
}

/// Judges a UDP header. Clients look at the port that they receive on and not at the server's, so
/// either tells a server's message (RFC 7610 s.5).
#[inline]
fn udp(datagram: Option<&[u8]>, ports: Ports) -> Inspected<'static> {
    let Some(&[s0, s1, d0, d1]) = datagram.and_then(<[u8]>::first_chunk) else {
        return Inspected::Other;
    };
    let (source, destination) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    if source == ports.server || destination == ports.client {
        Inspected::DhcpServer
    } else {
        Inspected::Other
    }
}

/// Judges UDP over IPv4. Fragments but the first have no UDP header, and the first has all of it:
/// fragments are cut at 8 octets (RFC 791 s.3.2).
#[inline]
fn udp_over_ipv4(packet: &[u8]) -> Inspected<'static> {
    let Some(header) = packet.first_chunk::<IPV4_LEN>() else {
        return Inspected::Other;
    };
    if u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_OFFSET != 0 {
        return Inspected::Other;
    }
    let header_len = usize::from(header[0] & 0x0f) * 4;
    udp(packet.get(header_len..), DHCP)
}

fn igmp(packet: &[u8]) -> Inspected<'_> {
    let message = Ipv4::parse(packet)
        .filter(|ip| !ip.fragment)
        .and_then(|ip| Some((ip, packet.get(ip.header_len..ip.total_len)?)));
    let Some((ip, message)) = message else {
        return Inspected::Other;
    };
    match membership::parse_igmp(message) {
        Some(membership::Message::Report(report)) => Inspected::Igmp(report),
        Some(membership::Message::Query) => Inspected::Query {
            source: ip.source.into(),
        },
        None => Inspected::Other,
    }
}

/// Judges IPv6 with extension headers or ICMPv6.
fn ipv6(packet: &[u8]) -> Inspected<'_> {
    let parsed = Ipv6::parse(packet).and_then(|ip| Some((ip, upper_layer(packet, &ip)?)));
    let Some((ip, upper)) = parsed else {
        return Inspected::Malformed;
    };
    match (upper.part, upper.protocol) {
        // What it holds is judged with the first one, without which it is nothing.
        (Part::Later, _) => Inspected::Other,
        (_, PROTOCOL_ICMPV6) => icmpv6(&ip, &upper),
        (_, PROTOCOL_UDP) => {
            // Its header may not be cut off: the ports would come in the next one.
            if upper.part == Part::First && upper.payload.len() < 4 {
                return Inspected::Malformed;
            }
            udp(Some(upper.payload), DHCP_V6)
        }
        _ => Inspected::Other,
    }
}

fn icmpv6<'a>(ip: &Ipv6, upper: &Upper<'a>) -> Inspected<'a> {
    let message = upper.payload;
    let Some(&kind) = message.first() else {
        return Inspected::Malformed;
    };
    let whole = upper.part == Part::Whole;
    if nd::is_discovery(kind) {
        return match nd::parse(ip, message).filter(|_| whole) {
            Some(nd::Message::Solicitation(solicitation)) => Inspected::Solicitation(solicitation),
            Some(nd::Message::Advertisement(advertisement)) => {
                Inspected::Advertisement(advertisement)
            }
            Some(nd::Message::RouterAdvertisement) => Inspected::RouterAdvertisement,
            Some(nd::Message::Redirect) => Inspected::Redirect,
            Some(nd::Message::RouterSolicitation) => Inspected::Other,
            None => Inspected::Malformed,
        };
    }
    if !whole || !membership::is_mld(kind) {
        return Inspected::Other;
    }
    match membership::parse_mld(ip, message) {
        Some(membership::Message::Report(report)) => Inspected::Mld(report),
        Some(membership::Message::Query) => Inspected::Query {
            source: ip.source.into(),
        },
        None => Inspected::Other,
    }
}

/// Judges a frame with a length in place of an EtherType. The length is not looked at: receivers
/// that unwrap frames do not agree on what a wrong one means (CVE-2021-27861, CVE-2021-27862).
fn llc(mut payload: &[u8]) -> Inspected<'static> {
    for _ in 0..WRAPPINGS_MAX {
        let Some((header, rest)) = payload.split_first_chunk::<8>() else {
            return Inspected::Other;
        };
        let Some(ethertype) = snap(header) else {
            return Inspected::Other;
        };
        match ethertype {
            ETHERTYPE_ARP | ETHERTYPE_IPV4 | ETHERTYPE_IPV6 | ETHERTYPE_VLAN | ETHERTYPE_QINQ => {
                return Inspected::Wrapped;
            }
            ..ETHERTYPE_MIN => payload = rest,
            _ => return Inspected::Other,
        }
    }
    Inspected::Wrapped
}

/// The EtherType in an LLC header with both access points of SNAP and unnumbered information
/// (IEEE 802 s.9.4), of RFC 1042 (00-00-00) or of IEEE 802.1H (00-00-F8). The bits for group,
/// response and final do not matter.
fn snap(&[dsap, ssap, control, o0, o1, o2, e0, e1]: &[u8; 8]) -> Option<u16> {
    let llc = dsap & 0xfe == 0xaa && ssap & 0xfe == 0xaa && control & 0xef == 0x03;
    let encapsulates = matches!([o0, o1, o2], [0, 0, 0] | [0, 0, 0xf8]);
    (llc && encapsulates).then(|| u16::from_be_bytes([e0, e1]))
}

#[cfg(test)]
mod tests;
