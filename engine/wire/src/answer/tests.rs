//! Answers, octet for octet, and as hosts take them.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::inspect::{Inspected, inspect};
use crate::sample::{
    HOST, HOST_MAC, HOST_V6, OTHER, OTHER_MAC, OTHER_V6, arp_frame, arp_request, ethernet,
    host_takes, solicitation_frame, tag,
};

const ASKED: Solicitation = Solicitation {
    source: HOST_V6,
    target: OTHER_V6,
    link_layer: Some(HOST_MAC),
};

/// The frame of a solicitation, answered, in a buffer of this many octets.
fn advertised(tags: &[u8], asked: &Solicitation, router: bool, room: usize) -> Option<Vec<u8>> {
    let mut frame = solicitation_frame(tags, asked);
    let ethernet = ethernet(&frame);
    frame.resize(room, 0xd7);
    let before = frame.clone();
    let Some(len) = solicitation(&mut frame, &ethernet, asked, OTHER_MAC, router) else {
        assert_eq!(frame, before, "nothing is written");
        return None;
    };
    assert!(frame[len..].iter().all(|octet| *octet == 0xd7));
    frame.truncate(len);
    Some(frame)
}

#[test]
fn an_arp_reply_is_the_known_one() {
    let mut frame = arp_frame(&[]);
    let ethernet = ethernet(&frame);
    assert!(arp(&mut frame, &ethernet, &arp_request(), OTHER_MAC));
    let expected = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 6, //
        0, 1, 8, 0, 6, 4, 0, 2, //
        2, 0, 0, 0, 0, 2, 10, 0, 0, 2, //
        2, 0, 0, 0, 0, 1, 10, 0, 0, 1,
    ];
    assert_eq!(frame[..42], expected);
    assert_eq!(frame[42..], [0; 18], "the padding stays");
}

#[test]
fn an_arp_reply_keeps_tags_and_goes_to_who_sent_the_frame() {
    for tags in [tag(7), [tag(7), tag(8)].concat()] {
        let mut frame = arp_frame(&tags);
        let ethernet = ethernet(&frame);
        assert!(arp(&mut frame, &ethernet, &arp_request(), OTHER_MAC));
        assert_eq!(frame[..6], HOST_MAC.0);
        assert_eq!(frame[6..12], OTHER_MAC.0);
        assert_eq!(frame[12..12 + tags.len()], tags);
        let payload = &frame[ethernet.payload_offset..];
        let reply = Arp::parse(payload).expect("a reply");
        assert_eq!(reply.operation, Operation::Reply);
        assert_eq!((reply.sender_ip, reply.target_ip), (OTHER, HOST));
    }
}

#[test]
fn a_probe_is_answered_to_nobodys_address() {
    let probe = Arp {
        sender_ip: Ipv4Addr::UNSPECIFIED,
        ..arp_request()
    };
    let mut frame = arp_frame(&[]);
    let ethernet = ethernet(&frame);
    assert!(arp(&mut frame, &ethernet, &probe, OTHER_MAC));
    let reply = Arp::parse(&frame[14..]).expect("a reply");
    assert_eq!((reply.sender_ip, reply.sender_mac), (OTHER, OTHER_MAC));
    assert_eq!(
        (reply.target_ip, reply.target_mac),
        (Ipv4Addr::UNSPECIFIED, HOST_MAC)
    );
}

#[test]
fn a_frame_shorter_than_its_request_stays() {
    let whole = arp_frame(&[]);
    for len in 0..42 {
        let mut frame = Vec::from(&whole[..len]);
        assert!(!arp(
            &mut frame,
            &ethernet(&whole),
            &arp_request(),
            OTHER_MAC
        ));
        assert_eq!(frame, whole[..len]);
    }
}

#[test]
fn an_advertisement_is_the_known_one() {
    let frame = advertised(&[], &ASKED, false, 100).expect("room");
    assert_eq!(frame.len(), 86);
    let headers = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, //
        0x60, 0, 0, 0, 0, 32, 58, 255,
    ];
    assert_eq!(frame[..22], headers);
    assert_eq!(frame[22..38], OTHER_V6.octets());
    assert_eq!(frame[38..54], HOST_V6.octets());
    assert_eq!(frame[54..56], [136, 0]);
    assert_eq!(frame[58..62], [0x40, 0, 0, 0], "solicited, no override");
    assert_eq!(frame[62..78], OTHER_V6.octets());
    assert_eq!(frame[78..], [2, 1, 2, 0, 0, 0, 0, 2]);
    assert!(host_takes(&frame));
}

#[test]
fn a_router_is_said_to_be_one_and_tags_stay() {
    for tags in [tag(7), [tag(7), tag(8)].concat()] {
        let frame = advertised(&tags, &ASKED, true, 120).expect("room");
        assert_eq!(frame.len(), 86 + tags.len());
        assert_eq!(frame[12..12 + tags.len()], tags);
        assert!(host_takes(&frame));
        let expected = Advertisement {
            source: OTHER_V6,
            destination: HOST_V6,
            target: OTHER_V6,
            link_layer: Some(OTHER_MAC),
            router: true,
            solicited: true,
            overrides: false,
        };
        assert_eq!(
            inspect(&frame, &ethernet(&frame)),
            Inspected::Advertisement(expected)
        );
    }
}

#[test]
fn duplicate_address_detection_is_answered_to_all() {
    let asked = Solicitation {
        source: Ipv6Addr::UNSPECIFIED,
        target: OTHER_V6,
        link_layer: None,
    };
    let question = solicitation_frame(&[], &asked);
    assert_eq!(question.len(), 78, "shorter than the answer");
    let frame = advertised(&[], &asked, false, 86).expect("room");
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(frame[6..12], OTHER_MAC.0);
    assert_eq!(frame[58..62], [0, 0, 0, 0], "not solicited, no override");
    assert!(host_takes(&frame));
    let Inspected::Advertisement(told) = inspect(&frame, &ethernet(&frame)) else {
        panic!("not valid");
    };
    assert_eq!((told.destination, told.solicited), (nd::ALL_NODES, false));
    assert_eq!(advertised(&[], &asked, false, 85), None, "no room");
    assert_eq!(advertised(&tag(7), &asked, false, 89), None, "no room");
}

proptest! {
    #[test]
    fn every_answer_is_valid(
        source: [u8; 16],
        target: [u8; 16],
        mac: [u8; 6],
        router: bool,
        tags in 0usize..3,
    ) {
        let (source, target) = (Ipv6Addr::from(source), Ipv6Addr::from(target));
        let asked = Solicitation { source, target, link_layer: None };
        let mut frame = solicitation_frame(&tag(5).repeat(tags), &asked);
        let before = ethernet(&frame);
        prop_assume!(inspect(&frame, &before) == Inspected::Solicitation(asked));
        frame.resize(100, 0);
        let len = solicitation(&mut frame, &before, &asked, MacAddr(mac), router);
        frame.truncate(len.expect("room"));
        prop_assert!(host_takes(&frame));
        let after = ethernet(&frame);
        prop_assert_eq!((after.vlan, after.source), (before.vlan, MacAddr(mac)));
        let told = match inspect(&frame, &after) {
            Inspected::Advertisement(told) => Some((told.target, told.link_layer, told.router)),
            _ => None,
        };
        prop_assert_eq!(told, Some((target, Some(MacAddr(mac)), router)));
    }
}
