//! What frames are, and attempts to look like something else.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::MacAddr;
use crate::ip::PROTOCOL_TCP;
use crate::membership::Change;
use crate::sample::{
    HOST_MAC, HOST_V6, OTHER_V6, advertisement_frame, arp_frame, arp_request, ethernet, frame,
    icmpv6, ipv4, ipv6, over_ip, solicitation_frame, tag, tcp, udp,
};

const ASKED: Solicitation = Solicitation {
    source: HOST_V6,
    target: OTHER_V6,
    link_layer: Some(HOST_MAC),
};

/// A name for what a frame is, so that tables of them stay short.
fn kind(frame: &[u8]) -> &'static str {
    match inspect(frame, &ethernet(frame)) {
        Inspected::Other => "other",
        Inspected::Arp(_) => "arp",
        Inspected::Solicitation(_) => "solicitation",
        Inspected::Advertisement(_) => "advertisement",
        Inspected::RouterAdvertisement => "router",
        Inspected::Redirect => "redirect",
        Inspected::DhcpServer => "dhcp",
        Inspected::Igmp(_) => "igmp",
        Inspected::Mld(_) => "mld",
        Inspected::Query { .. } => "query",
        Inspected::Wrapped => "wrapped",
        Inspected::Malformed => "malformed",
    }
}

/// What a packet is, in a frame to everyone.
fn kind_of(ethertype: u16, packet: &[u8]) -> &'static str {
    kind(&frame(MacAddr::BROADCAST, &[], ethertype, packet))
}

/// What an IPv6 packet is with these extension headers before its payload.
fn behind(next_header: u8, headers: &[u8], payload: &[u8]) -> &'static str {
    let payload = [headers, payload].concat();
    kind_of(
        ETHERTYPE_IPV6,
        &ipv6(nd::ALL_NODES, next_header, 255, &payload),
    )
}

/// A router advertisement without options.
fn router_advertisement() -> Vec<u8> {
    let mut octets = vec![0; 16];
    octets[0] = 134;
    icmpv6(nd::ALL_NODES, &octets)
}

#[test]
fn frames_are_what_they_are_with_any_tags() {
    for tags in [vec![], tag(0), tag(9), [tag(9), tag(10)].concat()] {
        let arp = arp_frame(&tags);
        assert_eq!(
            inspect(&arp, &ethernet(&arp)),
            Inspected::Arp(arp_request())
        );
        let asked = solicitation_frame(&tags, &ASKED);
        assert_eq!(
            inspect(&asked, &ethernet(&asked)),
            Inspected::Solicitation(ASKED)
        );
        for v6 in [false, true] {
            assert_eq!(
                kind(&over_ip(v6, &tags, PROTOCOL_TCP, &tcp(2, &[], b""))),
                "other"
            );
            assert_eq!(
                kind(&over_ip(v6, &tags, PROTOCOL_UDP, &udp(9, 53, b""))),
                "other"
            );
        }
        let server = over_ip(false, &tags, PROTOCOL_UDP, &udp(67, 68, b""));
        assert_eq!(kind(&server), "dhcp");
    }
    assert_eq!(kind(&advertisement_frame()), "advertisement");
    assert_eq!(behind(58, &[], &router_advertisement()), "router");
    assert_eq!(kind_of(0x88b5, &[0; 46]), "other");
    assert_eq!(kind_of(0x8906, &[0; 46]), "other");
}

#[test]
fn servers_and_only_they_are_dhcp() {
    for (source, destination, v4, v6) in [
        (67, 68, "dhcp", "other"),
        (67, 67, "dhcp", "other"),
        (68, 67, "other", "other"),
        // Clients do not look at the server's port.
        (1067, 68, "dhcp", "other"),
        (547, 546, "other", "dhcp"),
        (547, 547, "other", "dhcp"),
        (546, 547, "other", "other"),
        (1547, 546, "other", "dhcp"),
        (53, 1024, "other", "other"),
    ] {
        let datagram = udp(source, destination, b"payload");
        assert_eq!(kind(&over_ip(false, &[], PROTOCOL_UDP, &datagram)), v4);
        assert_eq!(kind(&over_ip(true, &[], PROTOCOL_UDP, &datagram)), v6);
        assert_eq!(behind(60, &[17, 0, 1, 4, 0, 0, 0, 0], &datagram), v6);
    }
    let server = udp(67, 68, b"payload");
    let mut options = ipv4(PROTOCOL_UDP, &[&[1; 4], &server[..]].concat());
    options[0] = 0x46;
    assert_eq!(kind_of(ETHERTYPE_IPV4, &options), "dhcp");
    let mut first = ipv4(PROTOCOL_UDP, &server);
    first[6] = 0x20;
    assert_eq!(kind_of(ETHERTYPE_IPV4, &first), "dhcp");
    let mut later = ipv4(PROTOCOL_UDP, &server);
    later[7] = 1;
    assert_eq!(kind_of(ETHERTYPE_IPV4, &later), "other");
    for len in 0..24 {
        assert_eq!(
            kind_of(ETHERTYPE_IPV4, &ipv4(PROTOCOL_UDP, &server)[..len]),
            "other"
        );
    }
}

#[test]
fn servers_hide_in_no_fragment() {
    let server = udp(547, 546, b"payload");
    let first = [17, 0, 0, 1, 0, 0, 0, 1];
    assert_eq!(behind(44, &first, &server), "dhcp");
    assert_eq!(behind(44, &[17, 0, 0, 9, 0, 0, 0, 1], &server), "other");
    for len in 0..4 {
        assert_eq!(behind(44, &first, &server[..len]), "malformed", "{len}");
    }
    assert_eq!(behind(44, &[60, 0, 0, 1, 0, 0, 0, 1], &[]), "malformed");
}

#[test]
fn discovery_is_found_behind_extension_headers_and_refused_in_fragments() {
    let router = router_advertisement();
    for (name, next, headers, expected) in [
        ("nothing", 58, vec![], "router"),
        ("hop by hop", 0, vec![58, 0, 1, 4, 0, 0, 0, 0], "router"),
        ("destination", 60, vec![58, 0, 1, 4, 0, 0, 0, 0], "router"),
        ("routing", 43, vec![58, 0, 4, 0, 0, 0, 0, 0], "router"),
        (
            "authentication",
            51,
            vec![58, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            "router",
        ),
        (
            "two",
            0,
            vec![60, 0, 1, 4, 0, 0, 0, 0, 58, 0, 1, 4, 0, 0, 0, 0],
            "router",
        ),
        (
            "all in one fragment",
            44,
            vec![58, 0, 0, 0, 0, 0, 0, 1],
            "malformed",
        ),
        (
            "the first fragment",
            44,
            vec![58, 0, 0, 1, 0, 0, 0, 1],
            "malformed",
        ),
        (
            "a later fragment",
            44,
            vec![58, 0, 0, 9, 0, 0, 0, 1],
            "other",
        ),
        (
            "options in the first fragment",
            44,
            vec![60, 0, 0, 1, 0, 0, 0, 1, 58, 0, 1, 4, 0, 0, 0, 0],
            "malformed",
        ),
        (
            "a fragment in a fragment",
            44,
            vec![44, 0, 0, 0, 0, 0, 0, 1, 58, 0, 0, 0, 0, 0, 0, 1],
            "malformed",
        ),
        ("a header cut off", 60, vec![58, 99], "malformed"),
        (
            "nine headers",
            60,
            [[60, 0, 1, 4, 0, 0, 0, 0]; 9].concat(),
            "malformed",
        ),
        ("encrypted", 50, vec![], "other"),
        ("no next header", 59, vec![], "other"),
    ] {
        assert_eq!(behind(next, &headers, &router), expected, "{name}");
    }
    assert_eq!(behind(58, &[], &[]), "malformed", "no type");
    let packet = ipv6(nd::ALL_NODES, 58, 255, &router);
    assert_eq!(
        kind_of(ETHERTYPE_IPV6, &packet[..packet.len() - 1]),
        "malformed"
    );
    assert_eq!(kind_of(ETHERTYPE_IPV6, &packet[..6]), "other");
}

#[test]
fn each_message_of_discovery_is_told_and_others_pass() {
    for (octets, expected) in [
        (vec![133; 1], "malformed"),
        ([&[133, 0, 0, 0][..], &[0; 4]].concat(), "other"),
        ([&[134, 0, 0, 0][..], &[0; 12]].concat(), "router"),
        ([&[134, 1, 0, 0][..], &[0; 12]].concat(), "malformed"),
        (
            [
                &[137, 0, 0, 0, 0, 0, 0, 0][..],
                &HOST_V6.octets(),
                &OTHER_V6.octets(),
            ]
            .concat(),
            "redirect",
        ),
        ([&[137, 0, 0, 0][..], &[0; 12]].concat(), "malformed"),
        ([&[135, 0, 0, 0][..], &[0; 20]].concat(), "malformed"),
        ([&[136, 0, 0, 0][..], &[0; 20]].concat(), "malformed"),
        ([&[128, 0, 0, 0][..], &[0; 20]].concat(), "other"),
        ([&[1, 0, 0, 0][..], &[0; 20]].concat(), "other"),
        ([&[143, 0, 0, 0][..], &[0; 20]].concat(), "other"),
    ] {
        assert_eq!(
            behind(58, &[], &icmpv6(nd::ALL_NODES, &octets)),
            expected,
            "{octets:?}"
        );
    }
}

#[test]
fn what_claims_to_be_arp_and_is_not_is_malformed() {
    for len in 14..42 {
        assert_eq!(kind(&arp_frame(&[])[..len]), "malformed", "{len}");
    }
    for (at, value) in [(15, 6), (17, 1), (18, 5), (19, 16), (21, 3)] {
        let mut frame = arp_frame(&[]);
        frame[at] = value;
        assert_eq!(kind(&frame), "malformed", "octet {at}");
    }
}

#[test]
fn reports_of_listeners_are_read() {
    let report = [0x16, 0, 0x09, 0x04, 224, 0, 0, 251];
    let mut packet = ipv4(2, &[&[0x94, 4, 0, 0], &report[..]].concat());
    packet[0] = 0x46;
    let octets = frame(MacAddr::BROADCAST, &[], ETHERTYPE_IPV4, &packet);
    let Inspected::Igmp(heard) = inspect(&octets, &ethernet(&octets)) else {
        panic!("not a report");
    };
    let change = Change {
        group: Ipv4Addr::new(224, 0, 0, 251).into(),
        join: true,
    };
    assert_eq!(heard.changes().collect::<Vec<_>>(), [change]);
    let mut fragment = ipv4(2, &report);
    fragment[6] = 0x20;
    assert_eq!(kind_of(ETHERTYPE_IPV4, &fragment), "other");
    assert_eq!(kind_of(ETHERTYPE_IPV4, &ipv4(2, &report[..7])), "other");
    let query = ipv4(2, &[0x11, 0, 0xee, 0xff, 0, 0, 0, 0]);
    assert_eq!(kind_of(ETHERTYPE_IPV4, &query), "query");

    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
    let mut octets = vec![143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0];
    octets.extend(group.octets());
    let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
    let alert = [58, 0, 5, 2, 0, 0, 1, 0];
    let payload = [&alert[..], &icmpv6(to, &octets)].concat();
    let octets = frame(
        MacAddr::BROADCAST,
        &[],
        ETHERTYPE_IPV6,
        &ipv6(to, 0, 1, &payload),
    );
    let Inspected::Mld(heard) = inspect(&octets, &ethernet(&octets)) else {
        panic!("not a report");
    };
    let change = Change {
        group: group.into(),
        join: true,
    };
    assert_eq!(heard.changes().collect::<Vec<_>>(), [change]);
}

#[test]
fn wrapped_frames_are_told_however_they_are_wrapped() {
    let snap = |oui: [u8; 3], ethertype: u16| {
        let mut header = vec![0xaa, 0xaa, 3];
        header.extend(oui);
        header.extend(ethertype.to_be_bytes());
        header
    };
    let wrapped = |length: u16, headers: &[u8]| {
        let payload = [headers, &arp_frame(&[])[14..]].concat();
        for tags in [vec![], tag(0), [tag(9), tag(10)].concat()] {
            let octets = frame(MacAddr::BROADCAST, &tags, length, &payload);
            assert_eq!(
                kind(&octets),
                kind_of(length, &payload),
                "tags do not matter"
            );
        }
        kind_of(length, &payload)
    };
    let (rfc1042, bridge) = ([0, 0, 0], [0, 0, 0xf8]);
    for ethertype in [0x0806, 0x0800, 0x86dd, 0x8100, 0x88a8] {
        for oui in [rfc1042, bridge] {
            // The length is right, none, or impossible.
            for length in [54, 0, 3, 1500, 1535] {
                assert_eq!(wrapped(length, &snap(oui, ethertype)), "wrapped");
            }
        }
        assert_eq!(wrapped(54, &snap([0, 0, 0x0c], ethertype)), "other");
    }
    let once = snap(rfc1042, 0x0806);
    let within = [snap(bridge, 54), once.clone()].concat();
    assert_eq!(wrapped(62, &within), "wrapped");
    let tagged = [snap(rfc1042, 0x8100), vec![0, 0, 0, 54], once.clone()].concat();
    assert_eq!(wrapped(70, &tagged), "wrapped");
    assert_eq!(
        wrapped(900, &snap(rfc1042, 54).repeat(9)),
        "wrapped",
        "too deep"
    );
    for (at, value) in [(0, 0xab), (1, 0xab), (2, 0x13)] {
        let mut bits = once.clone();
        bits[at] = value;
        assert_eq!(wrapped(54, &bits), "wrapped", "a bit that does not matter");
    }
    for (name, headers) in [
        ("spanning tree", vec![0x42, 0x42, 3, 0, 0, 0, 8, 6]),
        ("IPX in RFC 1042", snap(rfc1042, 0x8137)),
        ("AppleTalk", snap([8, 0, 7], 0x809b)),
        ("test", vec![0xaa, 0xaa, 0xe3, 0, 0, 0, 8, 6]),
        ("no LLC at all", vec![0xff; 8]),
    ] {
        assert_eq!(wrapped(54, &headers), "other", "{name}");
    }
    for len in 0..8 {
        assert_eq!(kind_of(8, &once[..len]), "other");
    }
    assert_eq!(kind_of(1536, &once), "other", "the first EtherType");
}

#[test]
fn headers_beyond_the_frame_are_nothing() {
    let arp = arp_frame(&[]);
    let ethernet = ethernet(&arp);
    assert_eq!(inspect(&arp[..13], &ethernet), Inspected::Other);
}

proptest! {
    #[test]
    fn any_payload_of_any_kind_is_survived(
        ethertype in prop_oneof![
            Just(ETHERTYPE_ARP), Just(ETHERTYPE_IPV4), Just(ETHERTYPE_IPV6), 0u16..1536,
        ],
        start in prop_oneof![
            Just(vec![]),
            Just(vec![0x45, 0, 0, 40, 0, 0, 0, 0, 1, 2]),
            Just(vec![0x45, 0, 0, 40, 0, 0, 0, 0, 1, 17]),
            Just(vec![0x60, 0, 0, 0, 0, 20, 58, 255]),
            Just(vec![0x60, 0, 0, 0, 0, 20, 0, 1]),
            Just(vec![0xaa, 0xaa, 3, 0, 0, 0, 0, 20]),
        ],
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let payload = [start, rest].concat();
        let octets = frame(MacAddr::BROADCAST, &[], ethertype, &payload);
        match inspect(&octets, &ethernet(&octets)) {
            Inspected::Igmp(heard) | Inspected::Mld(heard) => {
                prop_assert!(heard.changes().count() <= octets.len() / 8);
            }
            Inspected::Arp(_) => prop_assert_eq!(ethertype, ETHERTYPE_ARP),
            Inspected::Wrapped => prop_assert!(ethertype < 1536),
            _ => {}
        }
    }
}
