//! Checksums that the sending host left to hardware.
//!
//! A frame of a local stack may arrive with only the pseudo-header summed into its TCP or UDP
//! checksum field (`CHECKSUM_PARTIAL` in Linux), for a network card to complete. XDP does not say
//! so; the field's value does. Not in here: checksums of an encapsulated inner packet, SCTP.

use core::net::IpAddr;

use crate::checksum;
use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use crate::ip::{Ipv4, Ipv6, PROTOCOL_TCP, PROTOCOL_UDP, pseudo_header};
use crate::limits::{IPV6_LEN, UDP_LEN};

/// Length of a TCP header without options (RFC 9293 s.3.1).
const TCP_LEN: usize = 20;
/// Where a TCP header has its checksum.
const TCP_CHECKSUM: usize = 16;
/// Where a UDP header has its length.
const UDP_LENGTH: usize = 4;
/// Where a UDP header has its checksum.
const UDP_CHECKSUM: usize = 6;

/// Completes a partial TCP or UDP checksum in place; says whether it did.
///
/// Looks into IPv4 that is not a fragment, and IPv6 without extension headers. The checksum is
/// partial when its field equals the folded, uninverted sum of the pseudo-header. A complete
/// checksum has that value once in 65535 packets by chance, and is computed to the same value
/// again. UDP's 0, "no checksum", is never the sum of a pseudo-header and stays.
#[inline]
pub fn complete_partial_checksum(frame: &mut [u8], ethernet: &Ethernet) -> bool {
    let Some(packet) = frame.get_mut(ethernet.payload_offset..) else {
        return false;
    };
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => complete_ipv4(packet),
        ETHERTYPE_IPV6 => complete_ipv6(packet),
        _ => None,
    }
    .is_some()
}

fn complete_ipv4(packet: &mut [u8]) -> Option<()> {
    let ip = Ipv4::parse(packet).filter(|ip| !ip.fragment)?;
    let segment = packet.get_mut(ip.header_len..ip.total_len)?;
    complete(
        segment,
        ip.protocol,
        ip.source.into(),
        ip.destination.into(),
    )
}

fn complete_ipv6(packet: &mut [u8]) -> Option<()> {
    let ip = Ipv6::parse(packet)?;
    let segment = packet.get_mut(IPV6_LEN..IPV6_LEN + ip.payload_len)?;
    complete(
        segment,
        ip.next_header,
        ip.source.into(),
        ip.destination.into(),
    )
}

/// Completes the checksum of one segment, `None` when there is none to complete.
fn complete(segment: &mut [u8], protocol: u8, source: IpAddr, destination: IpAddr) -> Option<()> {
    let (field, least) = match protocol {
        PROTOCOL_TCP => (TCP_CHECKSUM, TCP_LEN),
        PROTOCOL_UDP => (UDP_CHECKSUM, UDP_LEN),
        _ => return None,
    };
    if segment.len() < least {
        return None;
    }
    let pseudo = pseudo_header(source, destination, protocol, segment.len());
    if word_at(segment, field)? != checksum::fold(pseudo) {
        return None;
    }
    // A local stack never leaves a datagram shorter than its packet, and which length a checksum
    // would then cover is disputed: such a datagram came from elsewhere and stays as it is.
    if protocol == PROTOCOL_UDP && usize::from(word_at(segment, UDP_LENGTH)?) != segment.len() {
        return None;
    }
    // The field holds the pseudo-header's sum already, so summing the segment covers both.
    let sum = match (!checksum::fold(checksum::add(0, segment)), protocol) {
        (0, PROTOCOL_UDP) => 0xffff,
        (sum, _) => sum,
    };
    segment
        .get_mut(field..field + 2)?
        .copy_from_slice(&sum.to_be_bytes());
    Some(())
}

fn word_at(octets: &[u8], offset: usize) -> Option<u16> {
    octets
        .get(offset..)?
        .first_chunk()
        .map(|word| u16::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::limits::{ETHERNET_LEN, IPV4_LEN};

    const V4: (IpAddr, IpAddr) = (
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
    );
    const V6: (IpAddr, IpAddr) = (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
    );

    /// A segment as a local stack leaves it: the field holds the pseudo-header's sum.
    fn partial_segment(protocol: u8, (a, b): (IpAddr, IpAddr), payload: &[u8]) -> Vec<u8> {
        let (header, field) = match protocol {
            PROTOCOL_UDP => (UDP_LEN, UDP_CHECKSUM),
            _ => (TCP_LEN, TCP_CHECKSUM),
        };
        let len = header + payload.len();
        let mut segment = Vec::from([0x30, 0x39, 0x00, 0x50]);
        segment.extend((len as u16).to_be_bytes());
        segment.resize(header, 0x11);
        segment.extend(payload);
        let sum = checksum::fold(pseudo_header(a, b, protocol, len));
        segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    /// A frame around a segment, with `tags` VLAN tags and four octets of padding after it.
    fn frame(protocol: u8, addresses: (IpAddr, IpAddr), segment: &[u8], tags: usize) -> Vec<u8> {
        let mut octets = Vec::from([2; 12]);
        for _ in 0..tags {
            octets.extend([0x81, 0, 0, 100]);
        }
        match addresses {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (ttl, dont_fragment, fragment) = (64, true, false);
                let (header_len, total_len) = (IPV4_LEN, IPV4_LEN + segment.len());
                let ip = Ipv4 {
                    source,
                    destination,
                    protocol,
                    ttl,
                    dont_fragment,
                    fragment,
                    header_len,
                    total_len,
                };
                octets.extend(ETHERTYPE_IPV4.to_be_bytes());
                octets.extend(ip.emit());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (next_header, payload_len) = (protocol, segment.len());
                let ip = Ipv6 {
                    source,
                    destination,
                    next_header,
                    hop_limit: 64,
                    payload_len,
                };
                octets.extend(ETHERTYPE_IPV6.to_be_bytes());
                octets.extend(ip.emit());
            }
            _ => unreachable!("both addresses are of one family"),
        }
        octets.extend(segment);
        octets.extend([0xee; 4]);
        octets
    }

    fn run(octets: &mut [u8]) -> bool {
        let ethernet = Ethernet::parse(octets).expect("the headers are whole");
        complete_partial_checksum(octets, &ethernet)
    }

    /// Where the segment lies in a frame made by [`frame`].
    fn segment_range(octets: &[u8], addresses: (IpAddr, IpAddr), tags: usize) -> (usize, usize) {
        let ip = if addresses.0.is_ipv4() {
            IPV4_LEN
        } else {
            IPV6_LEN
        };
        (ETHERNET_LEN + 4 * tags + ip, octets.len() - 4)
    }

    fn verifies(octets: &[u8], protocol: u8, addresses: (IpAddr, IpAddr), tags: usize) -> bool {
        let (start, end) = segment_range(octets, addresses, tags);
        let pseudo = pseudo_header(addresses.0, addresses.1, protocol, end - start);
        checksum::fold(checksum::add(pseudo, &octets[start..end])) == 0xffff
    }

    proptest! {
        #[test]
        fn a_partial_checksum_verifies_once_completed(
            udp: bool,
            v6: bool,
            tags in 0usize..3,
            payload in proptest::collection::vec(any::<u8>(), 0..1600),
        ) {
            let protocol = if udp { PROTOCOL_UDP } else { PROTOCOL_TCP };
            let addresses = if v6 { V6 } else { V4 };
            let segment = partial_segment(protocol, addresses, &payload);
            let mut octets = frame(protocol, addresses, &segment, tags);
            let before = octets.clone();
            prop_assert!(run(&mut octets));
            prop_assert!(verifies(&octets, protocol, addresses, tags));
            let changed = before.iter().zip(&octets).filter(|(a, b)| a != b).count();
            prop_assert!(changed <= 2, "nothing but the field changes");
        }

        #[test]
        fn a_complete_checksum_still_verifies_and_a_second_run_changes_nothing(
            udp: bool,
            payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let protocol = if udp { PROTOCOL_UDP } else { PROTOCOL_TCP };
            let segment = partial_segment(protocol, V4, &payload);
            let mut octets = frame(protocol, V4, &segment, 0);
            run(&mut octets);
            let once = octets.clone();
            run(&mut octets);
            prop_assert!(verifies(&octets, protocol, V4, 0));
            prop_assert_eq!(octets, once);
        }

        #[test]
        fn any_octets_are_survived(octets: Vec<u8>, at in 0usize..70, v6: bool) {
            let mut octets = octets;
            let ethertype = if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
            let ethernet = Ethernet {
                destination: crate::MacAddr::ZERO,
                source: crate::MacAddr::ZERO,
                vlan: 0,
                tags: 0,
                ethertype,
                payload_offset: at,
            };
            complete_partial_checksum(&mut octets, &ethernet);
            if let Some(first) = octets.get_mut(at) {
                *first = if v6 { 0x60 } else { 0x45 };
            }
            complete_partial_checksum(&mut octets, &ethernet);
        }
    }

    #[test]
    fn a_udp_checksum_of_zero_is_sent_as_all_ones() {
        // Two octets of payload that bring the sum of all to 0xffff, so that its complement is 0.
        let bare = partial_segment(PROTOCOL_UDP, V4, &[0, 0]);
        let missing = !checksum::fold(checksum::add(0, &bare));
        let segment = partial_segment(PROTOCOL_UDP, V4, &missing.to_be_bytes());
        let mut octets = frame(PROTOCOL_UDP, V4, &segment, 0);
        assert!(run(&mut octets));
        let (start, _) = segment_range(&octets, V4, 0);
        assert_eq!(
            octets[start + UDP_CHECKSUM..start + UDP_CHECKSUM + 2],
            [0xff, 0xff]
        );
        assert!(verifies(&octets, PROTOCOL_UDP, V4, 0));
    }

    #[test]
    fn udp_without_a_checksum_stays_without() {
        let mut segment = partial_segment(PROTOCOL_UDP, V4, b"payload");
        segment[UDP_CHECKSUM..UDP_CHECKSUM + 2].fill(0);
        let mut octets = frame(PROTOCOL_UDP, V4, &segment, 0);
        let before = octets.clone();
        assert!(!run(&mut octets));
        assert_eq!(octets, before);
    }

    #[test]
    fn fragments_other_protocols_and_impossible_lengths_stay_as_they_are() {
        let tcp = partial_segment(PROTOCOL_TCP, V4, b"payload");
        let whole = frame(PROTOCOL_TCP, V4, &tcp, 0);
        let changed = |offset: usize, value: u8| {
            let mut octets = whole.clone();
            octets[ETHERNET_LEN + offset] = value;
            octets
        };
        let mut short_udp = partial_segment(PROTOCOL_UDP, V4, b"payload");
        short_udp[UDP_LENGTH + 1] -= 1;
        for (name, mut octets) in [
            ("more fragments", changed(6, 0x20)),
            ("fragment offset", changed(7, 1)),
            ("another protocol", changed(9, 47)),
            ("total length beyond the frame", changed(2, 0x10)),
            ("total length cuts the TCP header", changed(3, 39)),
            ("not IPv4", changed(0, 0x55)),
            (
                "UDP shorter than its packet",
                frame(PROTOCOL_UDP, V4, &short_udp, 0),
            ),
            ("IPv6 extension header", frame(0, V6, &tcp, 0)),
        ] {
            let before = octets.clone();
            assert!(!run(&mut octets), "{name}");
            assert_eq!(octets, before, "{name}");
        }
        assert!(
            run(&mut whole.clone()),
            "the frame that those were made from"
        );
    }
}
