//! IPv4 and IPv6 headers, as far as a layer-2 fabric has to look at them.
//!
//! Used for the outer headers, for completing checksums, and for whoever writes an ICMP answer.
//! Not in here: options, extension headers, fragments put together again.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum;
use crate::limits::{IPV4_LEN, IPV6_LEN};

/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// Protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

/// Where an IPv4 header has its octet of DSCP and ECN (RFC 2474 s.3), once "type of service".
pub(crate) const IPV4_DS_FIELD: usize = 1;
/// Where an IPv4 header has its total length, 2 octets (RFC 791 s.3.1).
pub(crate) const IPV4_TOTAL_LEN: usize = 2;
/// Where an IPv4 header has its checksum, 2 octets.
pub(crate) const IPV4_CHECKSUM: usize = 10;
/// Where an IPv4 header says what its payload is, 1 octet.
pub(crate) const IPV4_PROTOCOL: usize = 9;
/// Where an IPv6 header says what follows, 1 octet.
pub(crate) const IPV6_NEXT_HEADER: usize = 6;
/// Where an IPv6 header has its payload length, 2 octets (RFC 8200 s.3).
pub(crate) const IPV6_PAYLOAD_LEN: usize = 4;

/// "Don't fragment", in the word of flags and fragment offset.
const DONT_FRAGMENT: u16 = 0x4000;
/// "More fragments" and the fragment offset: not all zero means a fragment.
const FRAGMENT: u16 = 0x3fff;

/// What an IPv4 header says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ipv4 {
    /// From whom.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
    /// What the payload is.
    pub protocol: u8,
    /// How many more routers may forward it.
    pub ttl: u8,
    /// Whether no router may cut it.
    pub dont_fragment: bool,
    /// Whether it is a fragment, the first included.
    pub fragment: bool,
    /// Length of the header with its options, in octets: 20..=60.
    pub header_len: usize,
    /// Length of header and payload, in octets. Never beyond the octets parsed.
    pub total_len: usize,
}

impl Ipv4 {
    /// Reads the header of a packet; octets after the packet (Ethernet padding) are allowed.
    ///
    /// `None` when it is not IPv4 or a length is impossible. The header checksum is not verified.
    #[inline]
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let header: &[u8; IPV4_LEN] = packet.first_chunk()?;
        let [
            v,
            _,
            l0,
            l1,
            _,
            _,
            f0,
            f1,
            ttl,
            protocol,
            _,
            _,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ] = *header;
        let header_len = usize::from(v & 0x0f) * 4;
        let total_len = usize::from(u16::from_be_bytes([l0, l1]));
        let lengths = IPV4_LEN <= header_len && header_len <= total_len;
        if v >> 4 != 4 || !lengths || total_len > packet.len() {
            return None;
        }
        let flags = u16::from_be_bytes([f0, f1]);
        Some(Self {
            source: Ipv4Addr::new(s0, s1, s2, s3),
            destination: Ipv4Addr::new(d0, d1, d2, d3),
            protocol,
            ttl,
            dont_fragment: flags & DONT_FRAGMENT != 0,
            fragment: flags & FRAGMENT != 0,
            header_len,
            total_len,
        })
    }

    /// The header of a packet with these values: without options, its checksum written.
    ///
    /// Identification is 0, as nobody may cut it (RFC 6864 s.4.1) when `dont_fragment` is set.
    /// `header_len` and `fragment` are not looked at, and of `total_len` the low 16 bits are sent.
    #[must_use]
    pub fn emit(&self) -> [u8; IPV4_LEN] {
        let mut out = [0; IPV4_LEN];
        out[0] = 0x45;
        out[IPV4_TOTAL_LEN..4].copy_from_slice(&(self.total_len as u16).to_be_bytes());
        let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 };
        out[6..8].copy_from_slice(&flags.to_be_bytes());
        out[8] = self.ttl;
        out[9] = self.protocol;
        out[12..16].copy_from_slice(&self.source.octets());
        out[16..].copy_from_slice(&self.destination.octets());
        let sum = !checksum::fold(checksum::add(0, &out));
        out[IPV4_CHECKSUM..12].copy_from_slice(&sum.to_be_bytes());
        out
    }
}

/// What an IPv6 header says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ipv6 {
    /// From whom.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// What follows: an upper-layer protocol or an extension header.
    pub next_header: u8,
    /// How many more routers may forward it.
    pub hop_limit: u8,
    /// Length of all after the header, in octets. Never beyond the octets parsed.
    pub payload_len: usize,
}

impl Ipv6 {
    /// Reads the header of a packet; octets after the packet (Ethernet padding) are allowed.
    ///
    /// `None` when it is not IPv6 or longer than the octets given.
    #[inline]
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (header, payload) = packet.split_first_chunk::<IPV6_LEN>()?;
        let (&[v, _, _, _, l0, l1, next_header, hop_limit], addresses) =
            header.split_first_chunk()?;
        let (source, destination) = addresses.split_first_chunk::<16>()?;
        let destination = destination.first_chunk::<16>()?;
        let payload_len = usize::from(u16::from_be_bytes([l0, l1]));
        if v >> 4 != 6 || payload_len > payload.len() {
            return None;
        }
        Some(Self {
            source: Ipv6Addr::from(*source),
            destination: Ipv6Addr::from(*destination),
            next_header,
            hop_limit,
            payload_len,
        })
    }

    /// The header of a packet with these values, traffic class and flow label 0.
    ///
    /// Of `payload_len` the low 16 bits are sent.
    #[must_use]
    pub fn emit(&self) -> [u8; IPV6_LEN] {
        let mut out = [0; IPV6_LEN];
        out[0] = 0x60;
        out[IPV6_PAYLOAD_LEN..6].copy_from_slice(&(self.payload_len as u16).to_be_bytes());
        out[6] = self.next_header;
        out[7] = self.hop_limit;
        out[8..24].copy_from_slice(&self.source.octets());
        out[24..].copy_from_slice(&self.destination.octets());
        out
    }
}

/// The octet of DSCP and ECN of an IPv6 header: its traffic class, which lies across two octets.
#[inline]
pub(crate) fn ipv6_ds_field(packet: &[u8]) -> Option<u8> {
    let &[first, second] = packet.first_chunk()?;
    Some(first << 4 | second >> 4)
}

/// The running sum of the pseudo-header that TCP, UDP and ICMPv6 checksums cover, for a segment
/// of `len` octets (RFC 768, RFC 9293 s.3.1, RFC 8200 s.8.1).
///
/// Both layouts have the same sum: what differs between them is where the zeros are.
#[must_use]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> u64 {
    fn add_address(sum: u64, address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(v4) => checksum::add(sum, &v4.octets()),
            IpAddr::V6(v6) => checksum::add(sum, &v6.octets()),
        }
    }
    let sum = u64::from(protocol) + len as u64;
    add_address(add_address(sum, source), destination)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const V4: Ipv4 = Ipv4 {
        source: Ipv4Addr::new(192, 0, 2, 1),
        destination: Ipv4Addr::new(198, 51, 100, 2),
        protocol: PROTOCOL_UDP,
        ttl: 64,
        dont_fragment: true,
        fragment: false,
        header_len: IPV4_LEN,
        total_len: 28,
    };

    fn v4_packet(payload: usize) -> Vec<u8> {
        let mut packet = Vec::from(
            Ipv4 {
                total_len: IPV4_LEN + payload,
                ..V4
            }
            .emit(),
        );
        packet.resize(IPV4_LEN + payload, 0x5a);
        packet
    }

    #[test]
    fn ipv4_header_is_the_known_one() {
        let header = V4.emit();
        assert_eq!(header[..10], [0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17]);
        assert_eq!(header[12..], [192, 0, 2, 1, 198, 51, 100, 2]);
        assert_eq!(checksum::fold(checksum::add(0, &header)), 0xffff);
    }

    #[test]
    fn ipv4_lengths_must_fit_into_each_other() {
        let packet = v4_packet(8);
        assert_eq!(Ipv4::parse(&packet), Some(V4));
        for len in 0..packet.len() {
            assert_eq!(Ipv4::parse(&packet[..len]), None, "cut to {len}");
        }
        for first in 0..=u8::MAX {
            let mut changed = packet.clone();
            changed[0] = first;
            let fits = matches!(first, 0x45..=0x47);
            assert_eq!(
                Ipv4::parse(&changed).is_some(),
                fits,
                "first octet {first:#04x}"
            );
        }
        for total in 0..64u16 {
            let mut changed = packet.clone();
            changed[2..4].copy_from_slice(&total.to_be_bytes());
            assert_eq!(
                Ipv4::parse(&changed).is_some(),
                (20..=28).contains(&total),
                "{total}"
            );
        }
    }

    #[test]
    fn every_fragment_word_is_judged_by_more_fragments_and_offset() {
        for word in 0..=u16::MAX {
            let mut packet = v4_packet(8);
            packet[6..8].copy_from_slice(&word.to_be_bytes());
            let ip = Ipv4::parse(&packet).expect("only the fragment word differs");
            assert_eq!(
                ip.fragment,
                word & 0x2000 != 0 || word & 0x1fff != 0,
                "{word:#06x}"
            );
            assert_eq!(ip.dont_fragment, word & 0x4000 != 0, "{word:#06x}");
        }
    }

    #[test]
    fn pseudo_headers_sum_as_they_are_laid_out() {
        let (a, b) = (Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(10, 200, 5, 6));
        let octets = [10, 1, 2, 3, 10, 200, 5, 6, 0, 17, 0x01, 0x02];
        assert_eq!(
            checksum::fold(pseudo_header(a.into(), b.into(), PROTOCOL_UDP, 0x0102)),
            checksum::fold(checksum::add(0, &octets)),
        );
        let (a, b) = (
            Ipv6Addr::LOCALHOST,
            Ipv6Addr::new(0xfd00, 1, 2, 3, 4, 5, 6, 0xffee),
        );
        let mut octets = Vec::from(a.octets());
        octets.extend(b.octets());
        octets.extend([0, 1, 0, 2, 0, 0, 0, 6]);
        assert_eq!(
            checksum::fold(pseudo_header(a.into(), b.into(), PROTOCOL_TCP, 0x1_0002)),
            checksum::fold(checksum::add(0, &octets)),
        );
    }

    proptest! {
        #[test]
        fn emitted_ipv4_reads_back_with_a_valid_checksum(
            source: [u8; 4],
            destination: [u8; 4],
            protocol: u8,
            ttl: u8,
            dont_fragment: bool,
            payload in 0usize..1500,
        ) {
            let ip = Ipv4 {
                source: source.into(),
                destination: destination.into(),
                protocol,
                ttl,
                dont_fragment,
                total_len: IPV4_LEN + payload,
                ..V4
            };
            let mut packet = Vec::from(ip.emit());
            prop_assert_eq!(checksum::fold(checksum::add(0, &packet)), 0xffff);
            packet.resize(IPV4_LEN + payload + 3, 0);
            prop_assert_eq!(Ipv4::parse(&packet), Some(ip));
        }

        #[test]
        fn emitted_ipv6_reads_back(
            source: [u8; 16],
            destination: [u8; 16],
            next_header: u8,
            hop_limit: u8,
            payload_len in 0usize..1500,
        ) {
            let (source, destination) = (source.into(), destination.into());
            let ip = Ipv6 { source, destination, next_header, hop_limit, payload_len };
            let mut packet = Vec::from(ip.emit());
            packet.resize(IPV6_LEN + payload_len, 0);
            prop_assert_eq!(Ipv6::parse(&packet), Some(ip));
            packet.pop();
            prop_assert_eq!(Ipv6::parse(&packet), None);
        }

        #[test]
        fn any_octets_give_lengths_within_them(octets: Vec<u8>, version in 4u8..7) {
            let mut octets = octets;
            if let Some(first) = octets.first_mut() {
                *first = version << 4 | *first & 0x0f;
            }
            if let Some(ip) = Ipv4::parse(&octets) {
                prop_assert!(IPV4_LEN <= ip.header_len && ip.header_len <= ip.total_len);
                prop_assert!(ip.total_len <= octets.len());
            }
            if let Some(ip) = Ipv6::parse(&octets) {
                prop_assert!(IPV6_LEN + ip.payload_len <= octets.len());
            }
        }
    }
}
