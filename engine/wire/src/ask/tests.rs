//! Questions, octet for octet, and as hosts take them.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::inspect::{Inspected, inspect};
use crate::sample::{self, HOST, HOST_MAC, OTHER_MAC, OTHER_V6, ethernet};

fn written(write: impl Fn(&mut [u8]) -> usize) -> Vec<u8> {
    sample::written(LEN_MAX, write)
}

#[test]
fn an_arp_request_asks_as_a_probe_does() {
    let frame = written(|out| arp_request(out, 0, OTHER_MAC, HOST_MAC, HOST));
    let expected = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 6, //
        0, 1, 8, 0, 6, 4, 0, 1, //
        2, 0, 0, 0, 0, 2, 0, 0, 0, 0, //
        0, 0, 0, 0, 0, 0, 10, 0, 0, 1,
    ];
    assert_eq!(frame[..42], expected);
    assert_eq!(frame[42..], [0; 18]);
    let tagged = written(|out| arp_request(out, 0x123, OTHER_MAC, HOST_MAC, HOST));
    assert_eq!(tagged.len(), 64);
    assert_eq!(tagged[12..18], [0x81, 0, 0x01, 0x23, 8, 6]);
    assert_eq!(tagged[18..], frame[14..]);
}

#[test]
fn a_solicitation_says_where_the_answer_goes() {
    for (vlan, len) in [(0, 86), (9, 90)] {
        let frame = written(|out| solicitation(out, vlan, OTHER_MAC, HOST_MAC, OTHER_V6));
        assert_eq!(frame.len(), len);
        let ethernet = ethernet(&frame);
        assert_eq!(
            (ethernet.destination, ethernet.source, ethernet.vlan),
            (HOST_MAC, OTHER_MAC, vlan)
        );
        let asked = Solicitation {
            source: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 2),
            target: OTHER_V6,
            link_layer: Some(OTHER_MAC),
        };
        assert_eq!(inspect(&frame, &ethernet), Inspected::Solicitation(asked));
        let packet = &frame[ethernet.payload_offset..];
        assert_eq!(packet[24..40], OTHER_V6.octets(), "to the host itself");
    }
}

#[test]
fn an_igmp_query_is_the_known_one() {
    let frame = written(|out| igmp_query(out, 0, OTHER_MAC, None));
    let expected = [
        0x01, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, //
        0x46, 0xc0, 0, 36, 0, 0, 0x40, 0, 1, 2, 0x04, 0x13, 0, 0, 0, 0, 224, 0, 0, 1, //
        0x94, 4, 0, 0, //
        0x11, 100, 0xec, 0x1e, 0, 0, 0, 0, 2, 125, 0, 0,
    ];
    assert_eq!(frame[..50], expected);
    let group = Ipv4Addr::new(239, 129, 2, 3);
    let frame = written(|out| igmp_query(out, 0, OTHER_MAC, Some(group)));
    assert_eq!(frame[..6], [0x01, 0, 0x5e, 0x01, 2, 3]);
    assert_eq!(frame[30..34], group.octets());
    assert_eq!(frame[39], 10, "one second");
    assert_eq!(frame[42..46], group.octets());
    assert_eq!(
        inspect(&frame, &ethernet(&frame)),
        Inspected::Query {
            source: Ipv4Addr::UNSPECIFIED.into()
        }
    );
}

#[test]
fn an_mld_query_is_the_known_one() {
    let frame = written(|out| mld_query(out, 5, OTHER_MAC, None));
    assert_eq!(frame.len(), LEN_MAX);
    let headers = [
        0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 5, 0x86, 0xdd, //
        0x60, 0, 0, 0, 0, 36, 0, 1,
    ];
    assert_eq!(frame[..26], headers);
    let source = nd::link_local(OTHER_MAC);
    assert_eq!(frame[26..42], source.octets());
    assert_eq!(frame[42..58], nd::ALL_NODES.octets());
    assert_eq!(frame[58..68], [58, 0, 5, 2, 0, 0, 1, 0, 130, 0]);
    assert_eq!(frame[70..74], [0x27, 0x10, 0, 0], "10 seconds");
    assert_eq!(frame[74..90], [0; 16]);
    assert_eq!(frame[90..], [2, 125, 0, 0]);
    let group = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0x12, 0x3456);
    let frame = written(|out| mld_query(out, 0, OTHER_MAC, Some(group)));
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0x12, 0x34, 0x56]);
    assert_eq!(frame[38..54], group.octets());
    assert_eq!(frame[70..86], group.octets());
    assert_eq!(
        inspect(&frame, &ethernet(&frame)),
        Inspected::Query {
            source: source.into()
        }
    );
}

proptest! {
    #[test]
    fn every_question_is_valid(source: [u8; 6], to: [u8; 6], ip: [u8; 16], vlan in 0u16..4095) {
        let source = MacAddr([source[0] & !1, source[1], source[2], source[3], source[4], 1]);
        let (to, v6) = (MacAddr(to), Ipv6Addr::from(ip));
        let v4 = Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]);
        let group = Ipv4Addr::new(224 | ip[0] & 15, ip[1], ip[2], ip[3]);
        let group_v6 = Ipv6Addr::from_bits(v6.to_bits() | 0xff << 120);
        for frame in [
            written(|out| arp_request(out, vlan, source, to, v4)),
            written(|out| solicitation(out, vlan, source, to, v6)),
            written(|out| igmp_query(out, vlan, source, Some(group))),
            written(|out| mld_query(out, vlan, source, Some(group_v6))),
        ] {
            let ethernet = ethernet(&frame);
            prop_assert_eq!((ethernet.vlan, ethernet.source), (vlan, source));
            let inspected = inspect(&frame, &ethernet);
            prop_assert!(inspected != Inspected::Other);
            let nobody = v6.is_multicast() || v6.is_unspecified();
            prop_assert!(nobody || inspected != Inspected::Malformed);
        }
    }
}
