//! Frames for tests, and a receiver that judges what is made of them.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec;
use std::vec::Vec;

use crate::MacAddr;
use crate::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use crate::icmpv6::complete;
use crate::ip::{Ipv4, Ipv6, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, pseudo_header};
use crate::limits::{IPV4_LEN, IPV6_LEN};
use crate::nd::{self, Advertisement, Solicitation};
use crate::{arp, checksum};

pub(crate) const HOST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const OTHER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
pub(crate) const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 0x3456);

/// A tag of this VLAN with a priority.
pub(crate) fn tag(vlan: u16) -> Vec<u8> {
    let mut tag = vec![0x81, 0x00];
    tag.extend((0xa000 | vlan).to_be_bytes());
    tag
}

/// A frame from [`HOST_MAC`].
pub(crate) fn frame(to: MacAddr, tags: &[u8], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::from(to.0);
    frame.extend(HOST_MAC.0);
    frame.extend(tags);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// What the headers of a frame say.
pub(crate) fn ethernet(frame: &[u8]) -> Ethernet {
    Ethernet::parse(frame).expect("the headers are whole")
}

/// A packet from [`HOST`] to [`OTHER`] that may not be fragmented.
pub(crate) fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let ip = Ipv4 {
        source: HOST,
        destination: OTHER,
        protocol,
        ttl: 64,
        dont_fragment: true,
        fragment: false,
        header_len: IPV4_LEN,
        total_len: IPV4_LEN + payload.len(),
    };
    let mut packet = Vec::from(ip.emit());
    packet.extend(payload);
    packet
}

/// Writes the checksum of an IPv4 header that was changed.
pub(crate) fn mend_ipv4(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 0x0f) * 4;
    packet[10..12].fill(0);
    let sum = !checksum::fold(checksum::add(0, &packet[..len]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// A packet from [`HOST_V6`].
pub(crate) fn ipv6(to: Ipv6Addr, next_header: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let ip = Ipv6 {
        source: HOST_V6,
        destination: to,
        next_header,
        hop_limit,
        payload_len: payload.len(),
    };
    let mut packet = Vec::from(ip.emit());
    packet.extend(payload);
    packet
}

/// An ICMPv6 message from [`HOST_V6`], its checksum right.
pub(crate) fn icmpv6(to: Ipv6Addr, octets: &[u8]) -> Vec<u8> {
    let mut message = Vec::from(octets);
    complete(HOST_V6, to, &mut message);
    message
}

/// [`HOST`] asks everyone for [`OTHER`].
pub(crate) fn arp_request() -> arp::Arp {
    arp::Arp {
        operation: arp::Operation::Request,
        sender_mac: HOST_MAC,
        sender_ip: HOST,
        target_mac: MacAddr::ZERO,
        target_ip: OTHER,
    }
}

/// The frame of [`arp_request`], padded.
pub(crate) fn arp_frame(tags: &[u8]) -> Vec<u8> {
    let mut payload = Vec::from(arp_request().emit());
    payload.resize(46, 0);
    frame(MacAddr::BROADCAST, tags, ETHERTYPE_ARP, &payload)
}

/// A frame with a solicitation to the target's group.
pub(crate) fn solicitation_frame(tags: &[u8], asked: &Solicitation) -> Vec<u8> {
    let group = nd::solicited_node(asked.target);
    let (message, len) = asked.emit(group);
    let mut packet = ipv6(group, PROTOCOL_ICMPV6, 255, &message[..len]);
    packet[8..24].copy_from_slice(&asked.source.octets());
    frame(nd::group_mac(group), tags, ETHERTYPE_IPV6, &packet)
}

/// A frame with an advertisement of [`HOST_V6`] to all.
pub(crate) fn advertisement_frame() -> Vec<u8> {
    let (message, len) = Advertisement {
        source: HOST_V6,
        destination: nd::ALL_NODES,
        target: HOST_V6,
        link_layer: Some(HOST_MAC),
        router: false,
        solicited: false,
        overrides: true,
    }
    .emit();
    let packet = ipv6(nd::ALL_NODES, PROTOCOL_ICMPV6, 255, &message[..len]);
    frame(nd::group_mac(nd::ALL_NODES), &[], ETHERTYPE_IPV6, &packet)
}

/// A segment with these flags and options, and no checksum yet.
pub(crate) fn tcp(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    assert!(options.len().is_multiple_of(4));
    let mut segment = vec![0x30, 0x39, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0];
    segment.push(((20 + options.len()) * 4) as u8);
    segment.push(flags);
    segment.extend([0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

/// A TCP segment or UDP datagram in a frame of either family, the transport's checksum written.
pub(crate) fn over_ip(v6: bool, tags: &[u8], protocol: u8, segment: &[u8]) -> Vec<u8> {
    let mut segment = Vec::from(segment);
    let at = if protocol == PROTOCOL_TCP { 16 } else { 6 };
    segment[at..at + 2].fill(0);
    let pseudo = if v6 {
        pseudo_header(HOST_V6.into(), OTHER_V6.into(), protocol, segment.len())
    } else {
        pseudo_header(HOST.into(), OTHER.into(), protocol, segment.len())
    };
    let sum = !checksum::fold(checksum::add(pseudo, &segment));
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    if v6 {
        let packet = ipv6(OTHER_V6, protocol, 64, &segment);
        frame(OTHER_MAC, tags, ETHERTYPE_IPV6, &packet)
    } else {
        frame(OTHER_MAC, tags, ETHERTYPE_IPV4, &ipv4(protocol, &segment))
    }
}

/// A UDP datagram between these ports.
pub(crate) fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::from(source.to_be_bytes());
    datagram.extend(destination.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// The sum of 16-bit words as RFC 1071 defines it, with nothing of the crate's own in it.
fn sum(octets: &[u8]) -> u32 {
    octets
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

/// Whether all these octets, a checksum among them, sum to ones.
fn sums_to_ones(octets: &[u8]) -> bool {
    let mut sum = sum(octets);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum == 0xffff
}

/// The frame that a function writes into room of `most` octets. It writes nothing where there is
/// less than it takes, and hosts take it.
pub(crate) fn written(most: usize, write: impl Fn(&mut [u8]) -> usize) -> Vec<u8> {
    let mut out = vec![0xd7; most];
    let len = write(&mut out);
    assert!(len >= 60, "Ethernet's least length");
    for room in 0..len {
        assert_eq!(write(&mut out[..room]), 0, "no room in {room}");
    }
    out.truncate(len);
    assert!(host_takes(&out));
    out
}

/// Whether a host takes the packet in a frame: lengths that fit, and every checksum there is right.
pub(crate) fn host_takes(frame: &[u8]) -> bool {
    let ethernet = ethernet(frame);
    let packet = &frame[ethernet.payload_offset..];
    let (protocol, pseudo, payload) = match ethernet.ethertype {
        ETHERTYPE_IPV4 => {
            let header_len = usize::from(packet[0] & 15) * 4;
            let len = usize::from(packet[2]) << 8 | usize::from(packet[3]);
            let header_holds = packet[0] >> 4 == 4 && sums_to_ones(&packet[..header_len]);
            if !header_holds || len > packet.len() {
                return false;
            }
            (packet[9], &packet[12..20], &packet[header_len..len])
        }
        ETHERTYPE_IPV6 => {
            let len = usize::from(packet[4]) << 8 | usize::from(packet[5]);
            if packet[0] >> 4 != 6 || IPV6_LEN + len > packet.len() {
                return false;
            }
            let payload = &packet[IPV6_LEN..IPV6_LEN + len];
            // One hop-by-hop header, as MLD has.
            let (protocol, payload) = if packet[6] == 0 {
                (payload[0], &payload[8 + usize::from(payload[1]) * 8..])
            } else {
                (packet[6], payload)
            };
            (protocol, &packet[8..40], payload)
        }
        _ => return true,
    };
    let mut covered = Vec::new();
    if matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMPV6) {
        covered.extend(pseudo);
        covered.extend([0, protocol]);
        covered.extend((payload.len() as u16).to_be_bytes());
    }
    covered.extend(payload);
    sums_to_ones(&covered)
}
