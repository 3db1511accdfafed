//! Frames as a hostile host sends them: claims to be somebody else, a router, a DHCP server.

use std::net::{Ipv4Addr, Ipv6Addr};

use omni_wire::MacAddr;
use omni_wire::arp::{Arp, Operation};

/// Everybody.
pub(crate) const BROADCAST: MacAddr = MacAddr([0xff; 6]);
/// All IPv6 nodes (RFC 2464 s.7).
const ALL_NODES: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
/// IP protocols.
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// UDP ports of DHCP (RFC 2131 s.4.1).
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;

fn ethernet(source: MacAddr, destination: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [destination.0, source.0].concat();
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An ARP reply to `victim` that `address` is at `mac`, from the Ethernet address `source`.
pub(crate) fn arp_reply(
    source: MacAddr,
    (mac, address): (MacAddr, Ipv4Addr),
    (victim_mac, victim): (MacAddr, Ipv4Addr),
) -> Vec<u8> {
    let arp = Arp {
        operation: Operation::Reply,
        sender_mac: mac,
        sender_ip: address,
        target_mac: victim_mac,
        target_ip: victim,
    };
    ethernet(source, victim_mac, 0x0806, &arp.emit())
}

/// A request to everybody that tells everybody that `address` is at `mac`.
pub(crate) fn gratuitous_arp(source: MacAddr, mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    let arp = Arp {
        operation: Operation::Request,
        sender_mac: mac,
        sender_ip: address,
        target_mac: MacAddr::ZERO,
        target_ip: address,
    };
    ethernet(source, BROADCAST, 0x0806, &arp.emit())
}

/// A frame to everybody that means nothing (IEEE 802, clause 9.2.3).
pub(crate) fn experiment(source: MacAddr) -> Vec<u8> {
    ethernet(source, BROADCAST, 0x88b5, b"nothing")
}

/// An advertisement to all nodes that `target` is at `mac` now, whatever they knew.
pub(crate) fn advertisement(source: MacAddr, mac: MacAddr, target: Ipv6Addr) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    let mut body = vec![136, 0, 0, 0, OVERRIDE, 0, 0, 0];
    body.extend(target.octets());
    body.extend([2, 1]);
    body.extend(mac.0);
    icmpv6(source, target, body)
}

/// An advertisement of a router that is the default one for half an hour.
pub(crate) fn router_advertisement(source: MacAddr, router: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend([1, 1]);
    body.extend(source.0);
    icmpv6(source, router, body)
}

/// To all nodes on the link, with its checksum.
fn icmpv6(source: MacAddr, from: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut pseudo = [from.octets(), to.octets()].concat();
    pseudo.extend((body.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, ICMPV6]);
    let sum = checksum(&[&pseudo, &body[..]].concat());
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([ICMPV6, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(body);
    ethernet(source, ALL_NODES, 0x86dd, &packet)
}

/// What a DHCP server says to everybody; of its message only the beginning.
pub(crate) fn dhcp_offer(source: MacAddr, server: Ipv4Addr) -> Vec<u8> {
    let message = [2, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef];
    let udp_len = (8 + message.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_len).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
    packet.extend(server.octets());
    packet.extend([255; 4]);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    for field in [DHCP_SERVER, DHCP_CLIENT, udp_len, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(message);
    ethernet(source, BROADCAST, 0x0800, &packet)
}

/// The Internet checksum (RFC 1071).
fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks(2);
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
