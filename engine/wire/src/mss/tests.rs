//! Segment sizes lowered in every place they may have, and segments that stay.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::sample::{OTHER_V6, ethernet, frame, host_takes, ipv4, ipv6, over_ip, tag, tcp};
use crate::{MacAddr, ip};

/// The option with this size.
fn mss(size: u16) -> Vec<u8> {
    let mut option = vec![MSS, 4];
    option.extend(size.to_be_bytes());
    option
}

/// A SYN with these options over either family, its checksum right.
fn syn(v6: bool, options: &[u8]) -> Vec<u8> {
    let mut options = Vec::from(options);
    options.resize(options.len().next_multiple_of(4), NO_OPERATION);
    over_ip(v6, &[], PROTOCOL_TCP, &tcp(SYN, &options, b""))
}

/// Clamps a frame; gives the size it then has, read at the offset where the option was put.
fn clamped(mut frame: Vec<u8>, mtu: usize) -> Option<Vec<u8>> {
    assert!(host_takes(&frame));
    let before = frame.clone();
    let headers = ethernet(&frame);
    let changed = clamp(&mut frame, &headers, mtu);
    assert!(host_takes(&frame), "the checksum is right again");
    assert_eq!(changed, frame != before);
    let count = before.iter().zip(&frame).filter(|(a, b)| a != b).count();
    assert!(count <= 4, "size and checksum");
    changed.then_some(frame)
}

#[test]
fn a_size_is_lowered_to_what_fits_and_never_raised() {
    for v6 in [false, true] {
        let most = if v6 { 1346 } else { 1366 };
        for (size, expected) in [
            (1460, most),
            (65_535, most),
            (most + 1, most),
            (most, most),
            (most - 1, most - 1),
            (0, 0),
        ] {
            let result = clamped(syn(v6, &mss(size)), 1406);
            assert_eq!(result.is_some(), size > most);
            if let Some(frame) = result {
                assert_eq!(frame[frame.len() - 2..], expected.to_be_bytes());
            }
        }
        assert!(clamped(syn(v6, &mss(u16::MAX)), 70_000).is_none());
    }
}

#[test]
fn the_option_is_found_wherever_it_is() {
    for before in 0..37 {
        for v6 in [false, true] {
            let options = [vec![NO_OPERATION; before], mss(9000)].concat();
            let frame = clamped(syn(v6, &options), 1500).expect("lowered");
            let at = frame.len() - options.len().next_multiple_of(4) + before;
            let most: u16 = if v6 { 1440 } else { 1460 };
            assert_eq!(frame[at + 2..at + 4], most.to_be_bytes(), "{before}");
        }
    }
    // As Linux sends it: SACK permitted, timestamps and window scale around it.
    let others = [4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0];
    for options in [
        [&mss(1460)[..], &others, &[1, 3, 3, 7]].concat(),
        [&others[..], &[3, 3, 7], &mss(1460), &[1]].concat(),
    ] {
        assert!(clamped(syn(false, &options), 1426).is_some());
    }
}

#[test]
fn answers_to_syn_are_lowered_and_other_segments_stay() {
    for (flags, lowered) in [
        (SYN, true),
        (SYN | 0x10, true),
        (SYN | 0xc0, true),
        (0x10, false),
        (0x18, false),
        (0x04, false),
    ] {
        let frame = over_ip(
            false,
            &tag(7),
            PROTOCOL_TCP,
            &tcp(flags, &mss(1460), b"data"),
        );
        assert_eq!(clamped(frame, 1426).is_some(), lowered, "{flags:#04x}");
    }
}

#[test]
fn options_that_do_not_hold_a_size_stay() {
    for (name, options) in [
        ("none", vec![]),
        ("the list ends before it", [vec![END], mss(1460)].concat()),
        ("length 3", vec![MSS, 3, 5, 180]),
        ("length 0", vec![8, 0, 1, 1, MSS, 4, 5, 180]),
        ("length 1", vec![8, 1, 1, 1, MSS, 4, 5, 180]),
        ("inside another", [vec![8, 8, 0, 0], mss(1460)].concat()),
        ("cut off", vec![NO_OPERATION, NO_OPERATION, MSS, 4]),
        ("beyond the end", vec![8, 200, 0, 0, MSS, 4, 5, 180]),
    ] {
        assert!(clamped(syn(false, &options), 100).is_none(), "{name}");
    }
}

#[test]
fn other_packets_stay() {
    let segment = tcp(SYN, &mss(1460), b"");
    let mut fragment = ipv4(PROTOCOL_TCP, &segment);
    fragment[6] = 0x20;
    let mut later = ipv4(PROTOCOL_TCP, &segment);
    later[7] = 1;
    let mut cut = ipv4(PROTOCOL_TCP, &segment);
    cut.truncate(43);
    let fragmented = [&[PROTOCOL_TCP, 0, 0, 1, 0, 0, 0, 1], &segment[..]].concat();
    let mut short = segment.clone();
    short[TCP_OFFSET] = 0x40;
    for (name, ethertype, packet) in [
        ("a fragment", ETHERTYPE_IPV4, fragment),
        ("a later fragment", ETHERTYPE_IPV4, later),
        ("cut off", ETHERTYPE_IPV4, cut),
        ("UDP", ETHERTYPE_IPV4, ipv4(ip::PROTOCOL_UDP, &segment)),
        (
            "a header of 16 octets",
            ETHERTYPE_IPV4,
            ipv4(PROTOCOL_TCP, &short),
        ),
        (
            "a fragment",
            ETHERTYPE_IPV6,
            ipv6(OTHER_V6, 44, 64, &fragmented),
        ),
        ("ARP", 0x0806, ipv4(PROTOCOL_TCP, &segment)),
    ] {
        let mut octets = frame(MacAddr::BROADCAST, &[], ethertype, &packet);
        let before = octets.clone();
        let headers = ethernet(&octets);
        assert!(!clamp(&mut octets, &headers, 576), "{name}");
        assert_eq!(octets, before, "{name}");
    }
    for mtu in [0, 39, 59] {
        assert!(clamped(syn(true, &mss(1460)), mtu).is_none());
    }
}

#[test]
fn ipv6_extension_headers_are_walked() {
    let segment = over_ip(true, &[], PROTOCOL_TCP, &tcp(SYN, &mss(1460), b""))[54..].to_vec();
    let payload = [&[PROTOCOL_TCP, 0, 1, 4, 0, 0, 0, 0], &segment[..]].concat();
    let packet = ipv6(OTHER_V6, 60, 64, &payload);
    let mut octets = frame(MacAddr::BROADCAST, &[], ETHERTYPE_IPV6, &packet);
    let headers = ethernet(&octets);
    assert!(clamp(&mut octets, &headers, 1406));
    assert_eq!(octets[octets.len() - 2..], 1346u16.to_be_bytes());
}

proptest! {
    #[test]
    fn whatever_the_options_the_checksum_stays_right(
        v6: bool,
        options in proptest::collection::vec(prop_oneof![
            Just(vec![NO_OPERATION]),
            any::<u16>().prop_map(mss),
            any::<[u8; 2]>().prop_map(|octets| [&[8, 4], &octets[..]].concat()),
            any::<Vec<u8>>().prop_map(|octets| octets.into_iter().take(7).collect()),
        ], 0..8),
        mtu in 0usize..70_000,
    ) {
        let mut options = options.concat();
        options.truncate(40);
        let _ = clamped(syn(v6, &options), mtu);
    }

    #[test]
    fn any_octets_are_survived(mut octets: Vec<u8>, at in 0usize..30, v6: bool, mtu: u16) {
        let ethertype = if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        if let Some([first, ..]) = octets.get_mut(at..) {
            *first = if v6 { 0x60 } else { 0x45 };
        }
        let (destination, source) = (MacAddr::ZERO, MacAddr::ZERO);
        let headers =
            Ethernet { destination, source, vlan: 0, tags: 0, ethertype, payload_offset: at };
        let len = octets.len();
        clamp(&mut octets, &headers, mtu.into());
        prop_assert_eq!(octets.len(), len);
    }
}
