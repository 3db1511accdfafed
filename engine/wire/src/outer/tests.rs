//! Outer headers: what is written reads back and verifies; what is malformed is refused.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::limits::{ETHERNET_LEN, VLAN_TAG_LEN};

fn path_v4() -> Path {
    Path {
        source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        next_hop_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        vlan: None,
        source: Ipv4Addr::new(192, 0, 2, 1).into(),
        source_port: 51820,
        endpoint: SocketAddr::new(Ipv4Addr::new(198, 51, 100, 2).into(), 51821),
    }
}

fn path_v6() -> Path {
    Path {
        source: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        endpoint: SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2).into(), 51821),
        ..path_v4()
    }
}

fn template(path: &Path) -> Template {
    Template::new(path).expect("the path is consistent")
}

/// An outer frame with this message. What was in the headers' place before does not matter.
fn framed(path: &Path, message: &[u8], source_port: u16) -> Vec<u8> {
    let template = template(path);
    let mut frame = vec![0xd7; template.len()];
    frame.extend(message);
    assert!(template.emit(&mut frame, source_port, 0));
    frame
}

#[test]
fn template_lengths_are_those_of_the_limits() {
    use crate::limits::{OUTER_IPV4, OUTER_IPV6};
    for (path, untagged) in [(path_v4(), OUTER_IPV4), (path_v6(), OUTER_IPV6)] {
        assert_eq!(template(&path).len(), untagged);
        let tagged = Path {
            vlan: Some(100),
            ..path
        };
        assert_eq!(template(&tagged).len(), untagged + VLAN_TAG_LEN);
        assert_eq!(template(&tagged).endpoint(), path.endpoint);
        assert_eq!(template(&tagged).source(), path.source);
        assert_eq!(template(&tagged).is_ipv6(), path.source.is_ipv6());
    }
}

#[test]
fn a_template_needs_one_family_and_a_vlan_that_frames_carry() {
    let mixed = Path {
        source: path_v6().source,
        ..path_v4()
    };
    assert!(!mixed.is_consistent() && Template::new(&mixed).is_none());
    let mixed = Path {
        source: path_v4().source,
        ..path_v6()
    };
    assert!(!mixed.is_consistent() && Template::new(&mixed).is_none());
    for (vid, carried) in [
        (0, false),
        (1, true),
        (4094, true),
        (4095, false),
        (4097, false),
    ] {
        let path = Path {
            vlan: Some(vid),
            ..path_v4()
        };
        assert_eq!(path.is_consistent(), carried, "{vid}");
        assert_eq!(Template::new(&path).is_some(), carried, "{vid}");
    }
}

#[test]
fn an_ipv4_frame_is_the_known_one() {
    let frame = framed(
        &Path {
            vlan: Some(0x123),
            ..path_v4()
        },
        &[0x11; 32],
        40000,
    );
    let expected = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0x00, 0x01, 0x23, 0x08, 0x00, //
        0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 17, 0x4e, 0x7a, 192, 0, 2, 1, 198, 51, 100, 2, //
        0x9c, 0x40, 0xca, 0x6d, 0, 40, 0, 0,
    ];
    assert_eq!(frame[..46], expected);
    assert_eq!(frame[46..], [0x11; 32]);
}

#[test]
fn the_ds_field_is_written_and_nothing_else_but_the_checksum_changes() {
    for ds_field in 0..=u8::MAX {
        for path in [path_v4(), path_v6()] {
            let zero = framed(&path, &[5; 40], 9);
            let mut frame = zero.clone();
            assert!(template(&path).emit(&mut frame, 9, ds_field));
            let outer = Outer::parse(&frame).expect("whole headers");
            assert_eq!(outer.ds_field, ds_field);
            assert!(checksums_hold(&path, &frame, ETHERNET_LEN));
            let mut back = frame.clone();
            if path.source.is_ipv4() {
                back[15] = 0;
                back[24..26].copy_from_slice(&zero[24..26]);
            } else {
                back[14] &= 0xf0;
                back[15] &= 0x0f;
            }
            assert_eq!(back, zero, "{ds_field:#04x}");
        }
    }
}

#[test]
fn ipv6_udp_checksum_of_zero_is_sent_as_all_ones() {
    let bare = framed(&path_v6(), &[0; 32], 1000);
    let checksum = [bare[60], bare[61]];
    // Put the complement of zero's place into the message: the sum of all becomes 0xffff.
    let mut message = [0; 32];
    message[..2].copy_from_slice(&checksum);
    let frame = framed(&path_v6(), &message, 1000);
    assert_eq!(frame[60..62], [0xff, 0xff]);
}

#[test]
fn frames_that_headers_do_not_fit_are_left_alone() {
    for path in [
        path_v4(),
        path_v6(),
        Path {
            vlan: Some(7),
            ..path_v6()
        },
    ] {
        let template = template(&path);
        for len in 0..template.len() {
            let mut frame = vec![0xd7; len];
            assert!(!template.emit(&mut frame, 1, 0));
            assert!(frame.iter().all(|octet| *octet == 0xd7), "length {len}");
        }
        let link = template.len() - UDP_LEN - if path.source.is_ipv4() { 20 } else { 40 };
        let most = link + 65_535 + if path.source.is_ipv4() { 0 } else { 40 };
        assert!(template.emit(&mut vec![0; most], 1, 0));
        let mut frame = vec![0xd7; most + 1];
        assert!(!template.emit(&mut frame, 1, 0));
        assert!(frame.iter().all(|octet| *octet == 0xd7));
    }
}

#[test]
fn flow_labels_have_20_bits_and_differ_between_lanes() {
    let mut labels: Vec<u32> = (0..=u16::MAX).map(flow_label).collect();
    assert!(labels.iter().all(|label| *label < 1 << 20));
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), 1 << 16);
}

#[test]
fn malformed_outer_headers_are_refused() {
    let v4 = framed(&path_v4(), &[5; 40], 9);
    let v6 = framed(&path_v6(), &[5; 40], 9);
    let (ip, udp4, udp6) = (
        ETHERNET_LEN,
        ETHERNET_LEN + IPV4_LEN,
        ETHERNET_LEN + IPV6_LEN,
    );
    for (name, frame, at, value) in [
        ("another EtherType", &v4, 13, 0x06),
        ("IPv6's EtherType before IPv4", &v4, 12, 0x86),
        ("version 5", &v4, ip, 0x55),
        ("header shorter than itself", &v4, ip, 0x44),
        ("total length beyond the frame", &v4, ip + 3, 69),
        ("total length cuts the datagram", &v4, ip + 3, 67),
        ("more fragments", &v4, ip + 6, 0x20),
        ("fragment offset", &v4, ip + 7, 0x01),
        ("TCP", &v4, ip + 9, 6),
        ("UDP length below its header", &v4, udp4 + 5, 7),
        ("UDP length beyond the packet", &v4, udp4 + 5, 49),
        ("version 4", &v6, ip, 0x40),
        ("payload length beyond the frame", &v6, ip + 5, 49),
        ("fragment header", &v6, ip + 6, 44),
        ("hop-by-hop header", &v6, ip + 6, 0),
        ("UDP length of a jumbogram", &v6, udp6 + 5, 0),
    ] {
        assert!(Outer::parse(frame).is_ok(), "{name}: before the change");
        let mut changed = frame.clone();
        changed[at] = value;
        assert_eq!(
            Outer::parse(&changed),
            Err(DropReason::OuterMalformed),
            "{name}"
        );
    }
    for frame in [v4, v6] {
        for len in 0..frame.len() {
            assert_eq!(
                Outer::parse(&frame[..len]),
                Err(DropReason::OuterMalformed),
                "{len}"
            );
        }
    }
}

#[test]
fn ipv4_options_move_the_message() {
    let mut frame = framed(&path_v4(), &[5; 40], 9);
    frame.splice(ETHERNET_LEN + IPV4_LEN..ETHERNET_LEN + IPV4_LEN, [1; 8]);
    frame[ETHERNET_LEN] = 0x47;
    frame[ETHERNET_LEN + 3] += 8;
    let outer = Outer::parse(&frame).expect("options are allowed");
    assert_eq!(Located::parse(&frame), Ok(outer.into()));
    assert_eq!((outer.payload, outer.end), (50, 90));
}

#[test]
fn the_message_ends_where_udp_says_even_if_the_packet_is_longer() {
    for (path, udp) in [
        (path_v4(), ETHERNET_LEN + IPV4_LEN),
        (path_v6(), ETHERNET_LEN + IPV6_LEN),
    ] {
        let mut frame = framed(&path, &[5; 40], 9);
        frame[udp + 5] -= 3;
        let outer = Outer::parse(&frame).expect("octets after a datagram are allowed");
        assert_eq!(
            (outer.payload, outer.end),
            (udp + UDP_LEN, udp + UDP_LEN + 37)
        );
    }
}

#[test]
fn one_tag_of_either_kind_is_read_and_two_are_refused() {
    let untagged = framed(&path_v4(), &[5; 40], 9);
    let tagged = |tags: &[[u8; 4]]| {
        let mut frame = untagged.clone();
        frame.splice(12..12, tags.concat());
        Outer::parse(&frame)
    };
    assert_eq!(
        tagged(&[[0x81, 0, 0x60, 100]]).map(|outer| outer.vlan),
        Ok(Some(100))
    );
    assert_eq!(
        tagged(&[[0x88, 0xa8, 0, 100]]).map(|outer| outer.vlan),
        Ok(Some(100))
    );
    assert_eq!(
        tagged(&[[0x81, 0, 0x60, 0]]).map(|outer| outer.vlan),
        Ok(None)
    );
    assert_eq!(
        tagged(&[[0x81, 0, 0x0f, 0xff]]),
        Err(DropReason::OuterMalformed)
    );
    let twice = [[0x88, 0xa8, 0, 100], [0x81, 0, 0, 100]];
    assert_eq!(tagged(&twice), Err(DropReason::OuterMalformed));
}

/// Verifies checksums as a receiving host does. `Some(false)` would be a datagram it drops.
fn checksums_hold(path: &Path, frame: &[u8], link: usize) -> bool {
    let packet = &frame[link..];
    match (path.source, path.endpoint.ip()) {
        (IpAddr::V4(_), _) => {
            let udp_none = packet[26..28] == [0, 0];
            udp_none && checksum::fold(checksum::add(0, &packet[..IPV4_LEN])) == 0xffff
        }
        (source, destination) => {
            let datagram = &packet[IPV6_LEN..];
            let sum = pseudo_header(source, destination, PROTOCOL_UDP, datagram.len());
            let sent = datagram[6..8] != [0, 0];
            sent && checksum::fold(checksum::add(sum, datagram)) == 0xffff
        }
    }
}

fn any_path() -> impl Strategy<Value = Path> {
    let addresses = prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
    ];
    (
        any::<([u8; 6], [u8; 6])>(),
        proptest::option::of(1u16..4095),
        addresses,
        any::<(u16, u16)>(),
    )
        .prop_map(
            |((source_mac, next_hop_mac), vlan, (source, destination), ports)| Path {
                source_mac: MacAddr(source_mac),
                next_hop_mac: MacAddr(next_hop_mac),
                vlan,
                source,
                source_port: ports.0,
                endpoint: SocketAddr::new(destination, ports.1),
            },
        )
}

#[test]
fn lanes_have_ports_of_their_own_beside_the_fabric_port() {
    use std::collections::BTreeSet;
    // Of a fabric port within the range, some lane's turn comes, whatever the endpoint is.
    for source_port in [51820, 1, SPREAD_PORT_MIN, u16::MAX] {
        for path in [path_v4(), path_v6()] {
            let path = Path {
                source_port,
                ..path
            };
            let ports: Vec<u16> = (0..SPREAD_PORTS)
                .map(|lane| path.spread_source_port(lane))
                .collect();
            assert_eq!(ports[0], source_port);
            assert!(ports[1..].iter().all(|&port| port >= SPREAD_PORT_MIN));
            let distinct: BTreeSet<_> = ports.iter().collect();
            assert_eq!(distinct.len(), ports.len(), "two lanes share a port");
        }
    }
}

/// Other implementations need not agree, but a node that restarts must.
#[test]
fn a_lanes_port_is_the_same_always_and_another_one_to_another_peer() {
    let ports = |path: Path| [1, 2, 3].map(|lane| path.spread_source_port(lane));
    assert_eq!(ports(path_v4()), [57_859, 51_600, 61_725]);
    assert_eq!(ports(path_v6()), [52_691, 62_816, 56_557]);
    let mut starts = std::collections::BTreeSet::new();
    for host in 0..=255 {
        let endpoint = SocketAddr::new(Ipv4Addr::new(198, 51, 100, host).into(), 51820);
        starts.insert(
            Path {
                endpoint,
                ..path_v4()
            }
            .spread_source_port(1),
        );
    }
    assert!(starts.len() > 240, "{} ports for 256 peers", starts.len());
}

proptest! {
    #[test]
    fn emitted_headers_read_back_and_verify(
        path in any_path(),
        source_port: u16,
        ds_field: u8,
        message in proptest::collection::vec(any::<u8>(), 32..1600),
        padding in 0usize..30,
    ) {
        let len = template(&path).len();
        let mut frame = vec![0xd7; len];
        frame.extend(&message);
        prop_assert!(template(&path).emit(&mut frame, source_port, ds_field));
        let link = ETHERNET_LEN + if path.vlan.is_some() { VLAN_TAG_LEN } else { 0 };
        prop_assert!(checksums_hold(&path, &frame, link));
        prop_assert_eq!(&frame[len..], &message[..], "the message is not touched");
        prop_assert_eq!(&frame[..6], &path.next_hop_mac.0);
        prop_assert_eq!(&frame[6..12], &path.source_mac.0);
        frame.resize(frame.len() + padding, 0);
        let expected = Outer {
            source: SocketAddr::new(path.source, source_port),
            destination: path.endpoint,
            vlan: path.vlan,
            ds_field,
            payload: len,
            end: len + message.len(),
        };
        prop_assert_eq!(Outer::parse(&frame), Ok(expected));
        prop_assert_eq!(Located::parse(&frame), Ok(expected.into()));
    }

    #[test]
    fn any_change_to_a_frame_gives_a_message_within_it_or_a_reason(
        path in any_path(),
        at: proptest::sample::Index,
        value: u8,
        cut: proptest::sample::Index,
    ) {
        let mut frame = framed(&path, &[3; 32], 1);
        let at = at.index(frame.len());
        frame[at] = value;
        frame.truncate(cut.index(frame.len() + 1));
        let outer = Outer::parse(&frame);
        if let Ok(outer) = outer {
            prop_assert!(outer.payload <= outer.end && outer.end <= frame.len());
        }
        prop_assert_eq!(Located::parse(&frame), outer.map(Located::from));
    }

    #[test]
    fn an_answer_is_known_by_its_addresses_and_nothing_else_is(
        path in any_path(),
        at: proptest::sample::Index,
        value: u8,
    ) {
        let ours = template(&path);
        let back = Path {
            source: path.endpoint.ip(),
            source_port: path.endpoint.port(),
            endpoint: SocketAddr::new(path.source, path.source_port),
            ..path
        };
        let mut frame = framed(&back, &[3; 32], back.source_port);
        prop_assert!(ours.is_answered_by(&frame, ours.len()));
        prop_assert!(!ours.is_answered_by(&frame, ours.len() + 4));
        prop_assert!(!ours.is_answered_by(&frame[..ours.len() - 1], ours.len()));
        let at = at.index(ours.len());
        frame[at] = value;
        if let Ok(outer) = Outer::parse(&frame)
            && ours.is_answered_by(&frame, outer.payload)
        {
            let there = (outer.source, outer.destination.ip());
            prop_assert_eq!(there, (ours.endpoint(), ours.source()));
        }
    }

    #[test]
    fn any_octets_give_a_message_within_them_or_a_reason(octets: Vec<u8>) {
        if let Ok(outer) = Outer::parse(&octets) {
            prop_assert!(outer.payload <= outer.end && outer.end <= octets.len());
        }
    }
}

#[test]
fn stand_ins_read_as_what_they_stand_for() {
    for path in [path_v4(), path_v6()] {
        let source = SocketAddr::new(path.source, 4000);
        for (ds_field, len) in [(0, 0), (0xb9, 32), (0xff, 1500), (3, 9000)] {
            let headers = StandIn::new(source, path.endpoint, ds_field).expect("of one family");
            let message = vec![0x5a; len];
            let mut frame = vec![0xd7; headers.len() + len];
            headers.emit(&message, &mut frame);
            let outer = Outer::parse(&frame).expect("outer headers");
            let told = (outer.source, outer.destination, outer.ds_field, outer.vlan);
            assert_eq!(told, (source, path.endpoint, ds_field, None));
            assert_eq!(frame[outer.payload..outer.end], message);
            assert_eq!(outer.end, frame.len());
        }
        let other = if path.source.is_ipv4() {
            path_v6()
        } else {
            path_v4()
        };
        assert_eq!(StandIn::new(source, other.endpoint, 0), None);
    }
}
