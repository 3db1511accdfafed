//! "Packet too big": tells a host how long its packets to a destination may be, so that it sends
//! shorter ones (RFC 1191, RFC 8201).
//!
//! ```text
//!  0      1      2          4        6     8
//!  | 3    | 4    | checksum | 0      | MTU | header and first octets of the packet     ICMP
//!  | 2    | 0    | checksum | MTU          | the packet from its start on              ICMPv6
//! ```
//!
//! A layer-2 network has no address to answer from, so the answer comes from the destination that
//! the packet did not reach. Not in here: how often to answer.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::checksum;
use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use crate::extension::{Part, upper_layer};
use crate::icmpv6::{self, PACKET_TOO_BIG};
use crate::ip::{Ipv4, Ipv6, PROTOCOL_ICMP, PROTOCOL_ICMPV6};
use crate::limits::{IPV4_LEN, IPV6_LEN};
use crate::write::Writer;

/// The longest answer over IPv4, in octets of its packet: every host takes as much
/// (RFC 1812 s.4.3.2.3).
const IPV4_MAX: usize = 576;
/// The longest answer over IPv6: every link takes as much (RFC 4443 s.3.2).
const IPV6_MAX: usize = 1280;

/// Length of an ICMP or ICMPv6 header.
const ICMP_LEN: usize = 8;
/// ICMP type "destination unreachable" and its code "fragmentation needed and DF set"
/// (RFC 792, RFC 1191 s.4).
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
/// The fragment offset of an IPv4 header, in the word of flags and offset.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Hop limit of answers, as hosts send.
const TTL: u8 = 64;

/// Room for the longest answer, with two tags.
pub const LEN_MAX: usize = 22 + IPV6_MAX;

/// Writes the answer to the packet in `frame`, of which no more than `mtu` octets (from its IP
/// header on) would get through, as a frame into `out`, and gives its length: at most [`LEN_MAX`].
///
/// `None`, and nothing of use written, when the packet fits, is no valid IPv4 or IPv6, must not be
/// answered, or `out` is too short. Not answered are IPv4 that may be fragmented, errors of ICMP,
/// fragments but the first, and what goes to, or says that it comes from, anything but one host
/// (RFC 1122 s.3.2.2, RFC 1812 s.4.3.2.7, RFC 4443 s.2.4).
#[must_use]
pub fn reply(frame: &[u8], ethernet: &Ethernet, mtu: u16, out: &mut [u8]) -> Option<usize> {
    let packet = frame.get(ethernet.payload_offset..)?;
    if ethernet.destination.is_multicast() {
        return None;
    }
    let mut writer = Writer::new(out);
    writer.put(&ethernet.source.0)?;
    writer.put(&ethernet.destination.0)?;
    writer.put(frame.get(12..ethernet.payload_offset)?)?;
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => reply_ipv4(packet, mtu, &mut writer)?,
        ETHERTYPE_IPV6 => reply_ipv6(packet, mtu, &mut writer)?,
        _ => return None,
    }
    // Both kinds are longer than Ethernet's least length.
    writer.finish()
}

fn reply_ipv4(packet: &[u8], mtu: u16, writer: &mut Writer<'_>) -> Option<()> {
    let ip = Ipv4::parse(packet)?;
    let packet = packet.get(..ip.total_len)?;
    let header = packet.get(..ip.header_len)?;
    let fits = ip.total_len <= usize::from(mtu);
    let intact = checksum::fold(checksum::add(0, header)) == 0xffff;
    if fits || !intact || !ip.dont_fragment || !is_first(header)? {
        return None;
    }
    if !is_host(ip.source) || !is_host(ip.destination) || is_icmp_error(&ip, packet)? {
        return None;
    }
    let quoted = packet.get(..packet.len().min(IPV4_MAX - IPV4_LEN - ICMP_LEN))?;
    let answer = Ipv4 {
        source: ip.destination,
        destination: ip.source,
        protocol: PROTOCOL_ICMP,
        ttl: TTL,
        dont_fragment: true,
        fragment: false,
        header_len: IPV4_LEN,
        total_len: IPV4_LEN + ICMP_LEN + quoted.len(),
    };
    let [m0, m1] = mtu.to_be_bytes();
    writer.put(&answer.emit())?;
    writer.put(&[UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, 0, 0, m0, m1])?;
    writer.put(quoted)?;
    icmpv6::complete_over(0, writer.last(ICMP_LEN + quoted.len())?);
    Some(())
}

/// Whether an IPv4 packet begins with its upper-layer header.
fn is_first(header: &[u8]) -> Option<bool> {
    let word = u16::from_be_bytes(*header.get(6..)?.first_chunk()?);
    Some(word & FRAGMENT_OFFSET == 0)
}

/// Whether an IPv4 address may be one host's. What is broadcast in a network with another mask
/// than ours is known by its MAC address.
fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}

/// Whether an IPv4 packet is an error of ICMP: every type but those of questions and answers.
fn is_icmp_error(ip: &Ipv4, packet: &[u8]) -> Option<bool> {
    if ip.protocol != PROTOCOL_ICMP {
        return Some(false);
    }
    // Echo, router discovery, timestamp, information and mask, extended echo (RFC 792, RFC 950,
    // RFC 1256, RFC 8335).
    let kind = *packet.get(ip.header_len)?;
    Some(!matches!(kind, 0 | 8..=10 | 13..=18 | 42 | 43))
}

fn reply_ipv6(packet: &[u8], mtu: u16, writer: &mut Writer<'_>) -> Option<()> {
    let ip = Ipv6::parse(packet)?;
    let packet = packet.get(..IPV6_LEN + ip.payload_len)?;
    let upper = upper_layer(packet, &ip)?;
    let fits = packet.len() <= usize::from(mtu);
    if fits || upper.part == Part::Later || !is_host_v6(ip.source) || !is_host_v6(ip.destination) {
        return None;
    }
    if upper.protocol == PROTOCOL_ICMPV6 {
        let kind = *upper.payload.first()?;
        if icmpv6::is_error(kind) || kind == icmpv6::REDIRECT {
            return None;
        }
    }
    let quoted = packet.get(..packet.len().min(IPV6_MAX - IPV6_LEN - ICMP_LEN))?;
    let answer = Ipv6 {
        source: ip.destination,
        destination: ip.source,
        next_header: PROTOCOL_ICMPV6,
        hop_limit: TTL,
        payload_len: ICMP_LEN + quoted.len(),
    };
    let [m0, m1] = mtu.to_be_bytes();
    writer.put(&answer.emit())?;
    writer.put(&[PACKET_TOO_BIG, 0, 0, 0, 0, 0, m0, m1])?;
    writer.put(quoted)?;
    let message = writer.last(answer.payload_len)?;
    icmpv6::complete(answer.source, answer.destination, message);
    Some(())
}

/// Whether an IPv6 address may be one host's.
const fn is_host_v6(address: Ipv6Addr) -> bool {
    !address.is_multicast() && !address.is_unspecified() && !address.is_loopback()
}

#[cfg(test)]
mod tests;
