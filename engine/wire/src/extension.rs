//! IPv6 extension headers: what a packet carries behind them.
//!
//! A packet may carry several (RFC 8200 s.4), and receivers walk as many as there are. So does who
//! guards them (RFC 7113), and what cannot be walked to its end is refused rather than guessed.

use crate::ip::Ipv6;
use crate::limits::IPV6_LEN;

/// Extension headers that are walked at most. Receivers need two or three; more are there to hide
/// what follows.
const HEADERS_MAX: usize = 8;

/// Protocol numbers of extension headers (IANA, "IPv6 Extension Header Types").
pub(crate) const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// The fragment offset, in the word of offset and flags (RFC 8200 s.4.5).
const FRAGMENT_OFFSET: u16 = 0xfff8;

/// Which part of a packet this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// All of it, without a fragment header.
    Whole,
    /// The part that begins with the upper-layer header, or all of it (RFC 6946).
    First,
    /// A part that begins somewhere in the middle: what it holds is no header.
    Later,
}

/// What lies behind the extension headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Upper<'a> {
    /// The upper-layer protocol.
    pub(crate) protocol: u8,
    /// Which part of the packet this is.
    pub(crate) part: Part,
    /// Where the upper-layer header begins, counted from the IPv6 header.
    pub(crate) offset: usize,
    /// What begins there, without Ethernet padding.
    pub(crate) payload: &'a [u8],
}

/// Whether an extension header follows this protocol number, and not an upper-layer one.
#[inline]
pub(crate) const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP
            | ROUTING
            | FRAGMENT
            | AUTHENTICATION
            | DESTINATION
            | MOBILITY
            | HOST_IDENTITY
            | SHIM6
    )
}

/// Walks the extension headers of the packet whose IPv6 header is `ip`.
///
/// `None` when they are cut off, too many, or name a second fragment: no receiver takes such a
/// packet for a whole one, and a first fragment must hold all headers (RFC 7112 s.5).
#[inline]
pub(crate) fn upper_layer<'a>(packet: &'a [u8], ip: &Ipv6) -> Option<Upper<'a>> {
    let packet = packet.get(..IPV6_LEN + ip.payload_len)?;
    let (mut protocol, mut offset, mut part) = (ip.next_header, IPV6_LEN, Part::Whole);
    for _ in 0..=HEADERS_MAX {
        let rest = packet.get(offset..)?;
        if part == Part::Later || !is_extension(protocol) {
            return Some(Upper {
                protocol,
                part,
                offset,
                payload: rest,
            });
        }
        let &[next, len, o0, o1, ..] = rest.first_chunk::<8>()?;
        offset += match protocol {
            FRAGMENT if part == Part::Whole => {
                part = match u16::from_be_bytes([o0, o1]) & FRAGMENT_OFFSET {
                    0 => Part::First,
                    _ => Part::Later,
                };
                8
            }
            FRAGMENT => return None,
            // Counted in words of 4 octets, without the first two (RFC 4302 s.2.2).
            AUTHENTICATION => (usize::from(len) + 2) * 4,
            // Counted in words of 8 octets, without the first one.
            _ => (usize::from(len) + 1) * 8,
        };
        protocol = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::ip::{PROTOCOL_ICMPV6, PROTOCOL_UDP};

    /// A packet with this after its header.
    fn packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let ip = Ipv6 {
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::LOCALHOST,
            next_header,
            hop_limit: 1,
            payload_len: payload.len(),
        };
        let mut packet = Vec::from(ip.emit());
        packet.extend(payload);
        packet
    }

    /// Protocol, part and offset behind the extension headers.
    fn walked(packet: &[u8]) -> Option<(u8, Part, usize)> {
        let ip = Ipv6::parse(packet).expect("the packet is whole");
        upper_layer(packet, &ip).map(|upper| {
            assert_eq!(upper.payload, &packet[upper.offset..]);
            (upper.protocol, upper.part, upper.offset)
        })
    }

    /// An extension header of this many octets.
    fn header(next: u8, octets: usize) -> Vec<u8> {
        let mut header = vec![0; octets];
        header[0] = next;
        header[1] = (octets / 8 - 1) as u8;
        header
    }

    #[test]
    fn without_extension_headers_the_payload_begins_at_once() {
        assert_eq!(
            walked(&packet(PROTOCOL_UDP, &[0; 8])),
            Some((PROTOCOL_UDP, Part::Whole, 40))
        );
        assert_eq!(
            walked(&packet(PROTOCOL_UDP, &[])),
            Some((PROTOCOL_UDP, Part::Whole, 40))
        );
        // Encrypted, and "no next header": whatever they hold, nobody reads on.
        assert_eq!(walked(&packet(50, &[0; 8])), Some((50, Part::Whole, 40)));
        assert_eq!(walked(&packet(59, &[0; 8])), Some((59, Part::Whole, 40)));
    }

    #[test]
    fn every_kind_of_header_is_walked_by_its_length() {
        for kind in [
            HOP_BY_HOP,
            ROUTING,
            DESTINATION,
            MOBILITY,
            HOST_IDENTITY,
            SHIM6,
        ] {
            for octets in [8, 16, 64, 2048] {
                let payload = [header(PROTOCOL_ICMPV6, octets), vec![135; 24]].concat();
                assert_eq!(
                    walked(&packet(kind, &payload)),
                    Some((PROTOCOL_ICMPV6, Part::Whole, 40 + octets)),
                    "{kind}"
                );
            }
        }
        let mut authentication = vec![0; 24];
        authentication[..2].copy_from_slice(&[PROTOCOL_ICMPV6, 4]);
        assert_eq!(
            walked(&packet(AUTHENTICATION, &authentication)),
            Some((PROTOCOL_ICMPV6, Part::Whole, 64))
        );
    }

    #[test]
    fn fragments_are_told_apart() {
        for (word, part) in [
            (0x0000, Part::First),
            (0x0001, Part::First),
            (0x0006, Part::First),
            (0x0008, Part::Later),
            (0xfff9, Part::Later),
        ] {
            let mut fragment = header(PROTOCOL_ICMPV6, 8);
            fragment[1] = 0xff;
            fragment[2..4].copy_from_slice(&u16::to_be_bytes(word));
            fragment.extend([135; 24]);
            assert_eq!(
                walked(&packet(FRAGMENT, &fragment)),
                Some((PROTOCOL_ICMPV6, part, 48)),
                "{word:#06x}"
            );
        }
        // What a later fragment begins with is data, even where its protocol is a header's.
        let mut fragment = header(DESTINATION, 8);
        fragment[3] = 8;
        assert_eq!(
            walked(&packet(FRAGMENT, &fragment)),
            Some((DESTINATION, Part::Later, 48))
        );
        let twice = [
            header(FRAGMENT, 8),
            header(PROTOCOL_ICMPV6, 8),
            vec![135; 24],
        ]
        .concat();
        assert_eq!(walked(&packet(FRAGMENT, &twice)), None);
    }

    #[test]
    fn headers_that_are_cut_off_or_too_many_are_refused() {
        for len in 1..16 {
            let cut = &header(PROTOCOL_UDP, 16)[..len];
            assert_eq!(walked(&packet(DESTINATION, cut)), None, "{len}");
        }
        assert_eq!(
            walked(&packet(DESTINATION, &[])),
            None,
            "a jumbogram, or nothing"
        );
        for count in 1..20 {
            let mut payload = header(DESTINATION, 8).repeat(count - 1);
            payload.extend(header(PROTOCOL_UDP, 8));
            let expected =
                (count <= HEADERS_MAX).then_some((PROTOCOL_UDP, Part::Whole, 40 + count * 8));
            assert_eq!(walked(&packet(DESTINATION, &payload)), expected, "{count}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_give_an_offset_within_them(
            first: u8,
            headers in proptest::collection::vec((any::<u8>(), 0u8..3, any::<[u8; 6]>()), 0..12),
            rest: Vec<u8>,
        ) {
            let mut payload = Vec::new();
            for (next, len, octets) in headers {
                payload.extend([next, len]);
                payload.extend(octets);
            }
            payload.extend(rest);
            let packet = packet(first, &payload);
            if let Some((_, _, offset)) = walked(&packet) {
                prop_assert!(IPV6_LEN <= offset && offset <= packet.len());
            }
        }
    }
}
