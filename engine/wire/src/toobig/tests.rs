//! Answers to packets that are too long, as hosts take them, and what must not be answered.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::MacAddr;
use crate::ip::{PROTOCOL_TCP, PROTOCOL_UDP};
use crate::sample::{
    HOST, HOST_MAC, HOST_V6, OTHER, OTHER_MAC, OTHER_V6, ethernet, frame, host_takes, icmpv6, ipv4,
    ipv6, mend_ipv4, over_ip, tag, udp,
};

/// A datagram of this many octets.
fn datagram(len: usize) -> Vec<u8> {
    udp(1000, 2000, &vec![0x5a; len - 8])
}

/// The answer to a frame.
fn answered(frame: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let mut out = vec![0; LEN_MAX];
    let len = reply(frame, &ethernet(frame), mtu, &mut out)?;
    for room in [0, 11, 14, len - 1] {
        let answer = reply(frame, &ethernet(frame), mtu, &mut vec![0; room]);
        assert_eq!(answer, None, "no room in {room}");
    }
    out.truncate(len);
    assert!(host_takes(&out));
    Some(out)
}

fn answers_ipv4(packet: &[u8]) -> bool {
    answered(&frame(OTHER_MAC, &[], ETHERTYPE_IPV4, packet), 1000).is_some()
}

fn answers_ipv6(packet: &[u8]) -> bool {
    answered(&frame(OTHER_MAC, &[], ETHERTYPE_IPV6, packet), 1280).is_some()
}

#[test]
fn an_ipv4_answer_is_the_known_one() {
    for tags in [vec![], tag(7), [tag(7), tag(8)].concat()] {
        let frame = over_ip(false, &tags, PROTOCOL_UDP, &datagram(1480));
        let answer = answered(&frame, 1426).expect("too long");
        assert_eq!(answer[..6], HOST_MAC.0);
        assert_eq!(answer[6..12], OTHER_MAC.0);
        let headers = 14 + tags.len();
        assert_eq!(answer[12..headers], frame[12..headers], "tags stay");
        let packet = &answer[headers..];
        assert_eq!(packet.len(), 576);
        assert_eq!(packet[..10], [0x45, 0, 2, 64, 0, 0, 0x40, 0, 64, 1]);
        assert_eq!(packet[12..16], OTHER.octets(), "as from the destination");
        assert_eq!(packet[16..20], HOST.octets());
        assert_eq!(packet[20..22], [3, 4]);
        assert_eq!(packet[24..28], [0, 0, 0x05, 0x92]);
        assert_eq!(packet[28..], frame[headers..headers + 548]);
    }
}

#[test]
fn an_ipv6_answer_is_the_known_one() {
    for tags in [vec![], tag(7), [tag(7), tag(8)].concat()] {
        let frame = over_ip(true, &tags, PROTOCOL_UDP, &datagram(1460));
        let answer = answered(&frame, 1406).expect("too long");
        assert_eq!(answer[..6], HOST_MAC.0);
        assert_eq!(answer[6..12], OTHER_MAC.0);
        let headers = 14 + tags.len();
        assert_eq!(answer[12..headers], frame[12..headers], "tags stay");
        let packet = &answer[headers..];
        assert_eq!(packet.len(), 1280);
        assert_eq!(packet[..8], [0x60, 0, 0, 0, 0x04, 0xd8, 58, 64]);
        assert_eq!(packet[8..24], OTHER_V6.octets(), "as from the destination");
        assert_eq!(packet[24..40], HOST_V6.octets());
        assert_eq!(packet[40..42], [2, 0]);
        assert_eq!(packet[44..48], [0, 0, 0x05, 0x7e]);
        assert_eq!(packet[48..], frame[headers..headers + 1232]);
    }
}

#[test]
fn short_packets_are_quoted_whole_and_without_padding() {
    let mut frame = over_ip(false, &[], PROTOCOL_UDP, &datagram(80));
    frame.extend([0xee; 9]);
    let answer = answered(&frame, 99).expect("too long");
    assert_eq!(answer[42..], frame[14..114]);
    let mut frame = over_ip(true, &[], PROTOCOL_UDP, &datagram(60));
    frame.extend([0xee; 9]);
    let answer = answered(&frame, 99).expect("too long");
    assert_eq!(answer[62..], frame[14..114]);
}

#[test]
fn what_fits_is_not_answered() {
    for v6 in [false, true] {
        let len = if v6 { 1406 - 40 } else { 1406 - 20 };
        let frame = over_ip(v6, &[], PROTOCOL_UDP, &datagram(len));
        assert_eq!(answered(&frame, 1406), None);
        assert_eq!(answered(&frame, u16::MAX), None);
        assert!(answered(&frame, 1405).is_some());
    }
}

#[test]
fn ipv4_that_must_not_be_answered_is_not() {
    let whole = ipv4(PROTOCOL_UDP, &datagram(1400));
    assert!(answers_ipv4(&whole), "what those are made from");
    let changed = |at: usize, octets: &[u8]| {
        let mut packet = whole.clone();
        packet[at..at + octets.len()].copy_from_slice(octets);
        mend_ipv4(&mut packet);
        answers_ipv4(&packet)
    };
    assert!(!changed(6, &[0x00, 0]), "may be fragmented");
    assert!(!changed(6, &[0x40, 1]), "a later fragment");
    assert!(changed(6, &[0x60, 0]), "the first fragment");
    for host in [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [239, 255, 0, 1],
        [240, 0, 0, 1],
        [255, 255, 255, 255],
    ] {
        assert!(!changed(12, &host), "from {host:?}");
        assert!(!changed(16, &host), "to {host:?}");
    }
    let mut damaged = whole.clone();
    damaged[8] ^= 1;
    assert!(!answers_ipv4(&damaged), "a wrong header checksum");
    assert!(!answers_ipv4(&whole[..whole.len() - 1]), "cut off");
    for group in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1])] {
        let frame = frame(group, &[], ETHERTYPE_IPV4, &whole);
        assert_eq!(answered(&frame, 1000), None, "to {group}");
    }
    let other = frame(OTHER_MAC, &[], 0x88b5, &whole);
    assert_eq!(answered(&other, 1000), None, "another EtherType");
}

#[test]
fn errors_of_icmp_are_not_answered_but_questions_are() {
    for kind in 0..=u8::MAX {
        let mut message = vec![0; 1400];
        message[0] = kind;
        let question = matches!(kind, 0 | 8..=10 | 13..=18 | 42 | 43);
        assert_eq!(
            answers_ipv4(&ipv4(PROTOCOL_ICMP, &message)),
            question,
            "{kind}"
        );
        let question = kind >= 128 && kind != 137;
        let packet = ipv6(OTHER_V6, PROTOCOL_ICMPV6, 64, &icmpv6(OTHER_V6, &message));
        assert_eq!(answers_ipv6(&packet), question, "{kind}");
        let mut behind = vec![PROTOCOL_ICMPV6, 0, 1, 4, 0, 0, 0, 0];
        behind.extend(&message);
        assert_eq!(
            answers_ipv6(&ipv6(OTHER_V6, 60, 64, &behind)),
            question,
            "{kind} behind options"
        );
    }
}

#[test]
fn ipv6_that_must_not_be_answered_is_not() {
    let whole = ipv6(OTHER_V6, PROTOCOL_UDP, 64, &datagram(1400));
    assert!(answers_ipv6(&whole), "what those are made from");
    for host in [
        Ipv6Addr::UNSPECIFIED,
        Ipv6Addr::LOCALHOST,
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
    ] {
        for at in [8, 24] {
            let mut packet = whole.clone();
            packet[at..at + 16].copy_from_slice(&host.octets());
            assert!(!answers_ipv6(&packet), "{host} at {at}");
        }
    }
    assert!(!answers_ipv6(&whole[..whole.len() - 1]), "cut off");
    let fragment = |offset: u8| {
        let mut payload = vec![PROTOCOL_UDP, 0, 0, offset, 0, 0, 0, 9];
        payload.extend(datagram(1400));
        answers_ipv6(&ipv6(OTHER_V6, 44, 64, &payload))
    };
    assert!(fragment(0) && fragment(1) && !fragment(8) && !fragment(9));
    assert!(!answers_ipv6(&ipv6(OTHER_V6, 60, 64, &[60; 1400])));
}

proptest! {
    #[test]
    fn every_answer_is_valid_and_short(
        v6: bool,
        tcp: bool,
        tags in 0usize..3,
        len in 20usize..9000,
        mtu: u16,
    ) {
        let protocol = if tcp { PROTOCOL_TCP } else { PROTOCOL_UDP };
        let frame = over_ip(v6, &tag(5).repeat(tags), protocol, &datagram(len));
        let before = ethernet(&frame);
        let answer = answered(&frame, mtu);
        let too_long = frame.len() - before.payload_offset > usize::from(mtu);
        prop_assert_eq!(answer.is_some(), too_long);
        if let Some(answer) = answer {
            let after = ethernet(&answer);
            prop_assert_eq!(after.vlan, before.vlan);
            prop_assert_eq!((after.source, after.destination), (OTHER_MAC, HOST_MAC));
            let most = if v6 { 1280 } else { 576 };
            prop_assert!(answer.len() - after.payload_offset <= most && answer.len() >= 60);
        }
    }

    #[test]
    fn any_octets_give_an_answer_within_its_room_or_none(
        mut octets: Vec<u8>,
        v6: bool,
        mtu: u16,
        at in 0usize..30,
    ) {
        if let Some(first) = octets.get_mut(at) {
            *first = if v6 { 0x60 } else { 0x45 };
        }
        let ethertype = if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        let (destination, source) = (OTHER_MAC, HOST_MAC);
        let headers =
            Ethernet { destination, source, vlan: 0, tags: 0, ethertype, payload_offset: at };
        let mut out = [0; 64];
        if let Some(len) = reply(&octets, &headers, mtu, &mut out) {
            prop_assert!(len <= out.len());
        }
    }
}
