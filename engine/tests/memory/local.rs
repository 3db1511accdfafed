//! What one node switches between its own ports, and what it refuses.

use std::sync::Arc;

use omni_control::message::{Command, Upcall, VlanBits};
use omni_engine::datapath::policy::{PortPolicy, PortVlans, SwitchPolicy};
use omni_engine::datapath::storm::StormBucket;
use omni_wire::{DropReason, MacAddr};

use crate::bench::{Bench, ENGINE, MAX_FRAME, PEER, ethernet, host, local, tag};

/// Some protocol of which nothing is known.
const OTHER: u16 = 0x88b5;

fn frame(to: MacAddr, from: MacAddr) -> Vec<u8> {
    ethernet(to, from, OTHER, b"anything that is not known")
}

fn vlans(ids: &[u16]) -> VlanBits {
    let mut bits = VlanBits::NONE;
    ids.iter().for_each(|&vlan| bits.insert(vlan));
    bits
}

fn trunk(ids: &[u16]) -> PortPolicy {
    PortPolicy {
        vlans: PortVlans::Trunk(Box::new(vlans(ids))),
        ..PortPolicy::default()
    }
}

fn access(vlan: u16) -> PortPolicy {
    PortPolicy {
        vlans: PortVlans::Access(vlan),
        ..PortPolicy::default()
    }
}

fn policy(ports: Vec<PortPolicy>) -> SwitchPolicy {
    SwitchPolicy {
        ports,
        ..SwitchPolicy::default()
    }
}

#[test]
fn ports_are_switched_without_crossing_the_fabric() {
    let mut bench = Bench::new(SwitchPolicy::open(3));
    bench.reach_peer();
    let (a, b) = (frame(host(2), host(1)), frame(host(1), host(2)));
    assert_eq!(
        bench.send(0, &a),
        [(1, a.clone()), (2, a.clone())],
        "nobody knows"
    );
    assert_eq!(bench.datapath.staged(), 1, "and one copy for the peer");
    assert_eq!(bench.send(1, &b), [(0, b.clone())]);
    assert_eq!(bench.send(0, &a), [(1, a.clone())]);
    assert_eq!(bench.datapath.staged(), 1);
    assert_eq!(bench.datapath.drops().total(), 0);
    bench.refuse(1, &frame(host(2), host(3)), DropReason::Reflected);
}

#[test]
fn a_neighbours_address_cannot_be_used_and_is_reported() {
    let mut bench = Bench::new(SwitchPolicy::open(2));
    bench.send(0, &frame(MacAddr::BROADCAST, host(1)));
    bench.upcalls();
    for _ in 0..20 {
        bench.refuse(1, &frame(host(9), host(1)), DropReason::SourceMacNotOwned);
    }
    let [Upcall::Contested { key, claimant }] = bench.upcalls()[..] else {
        panic!("one report");
    };
    assert_eq!((key.mac, claimant), (host(1), local(1)));
    bench.refuse(1, &frame(host(9), ENGINE), DropReason::SourceMacNotOwned);
    let back = frame(host(1), host(2));
    assert_eq!(bench.send(1, &back), [(0, back)], "it is where it was");
}

#[test]
fn an_untagged_port_is_in_its_vlan_and_in_no_other() {
    let mut bench = Bench::new(policy(vec![access(10), trunk(&[0, 10]), access(20)]));
    let sent = frame(MacAddr::BROADCAST, host(1));
    assert_eq!(bench.send(0, &sent), [(1, tag(10, &sent))]);
    let answer = frame(host(1), host(2));
    assert_eq!(bench.send(1, &tag(10, &answer)), [(0, answer)]);
    // A priority is carried along.
    assert_eq!(
        bench.send(0, &tag(0xa000, &sent)),
        [(1, tag(0xa00a, &sent))]
    );
    let untagged = frame(MacAddr::BROADCAST, host(3));
    bench.refuse(1, &untagged, DropReason::NoDestination);
    for vlan in [10, 20] {
        bench.refuse(0, &tag(vlan, &sent), DropReason::VlanNotAllowed);
    }
    let twice = tag(10, &tag(30, &frame(host(1), host(2))));
    bench.refuse(1, &twice, DropReason::VlanNotAllowed);
}

#[test]
fn a_trunk_carries_its_vlans_and_no_others() {
    let mut bench = Bench::new(policy(vec![trunk(&[5, 7]), trunk(&[0, 7])]));
    let sent = frame(MacAddr::BROADCAST, host(1));
    for vlan in 1..4095 {
        match vlan {
            7 => assert_eq!(bench.send(0, &tag(7, &sent)), [(1, tag(7, &sent))]),
            5 => bench.refuse(0, &tag(5, &sent), DropReason::NoDestination),
            _ => bench.refuse(0, &tag(vlan, &sent), DropReason::VlanNotAllowed),
        }
    }
    bench.refuse(0, &sent, DropReason::VlanNotAllowed);
    // Behind a port that does not carry the VLAN.
    bench.insert(5, host(9), local(1));
    let lost = tag(5, &frame(host(9), host(1)));
    bench.refuse(0, &lost, DropReason::VlanNotAllowed);
}

#[test]
fn addresses_that_bridges_keep_to_a_link_are_not_carried() {
    let mut bench = Bench::new(SwitchPolicy::open(2));
    for last in 0..=0x20 {
        let sent = frame(MacAddr([1, 0x80, 0xc2, 0, 0, last]), host(1));
        if last < 0x10 {
            bench.refuse(0, &sent, DropReason::ReservedDestination);
        } else {
            assert_eq!(bench.send(0, &sent), [(1, sent)]);
        }
    }
}

#[test]
fn a_port_with_a_list_takes_frames_of_nobody_else() {
    let port = PortPolicy {
        only: Some(Arc::from([host(1), host(2)])),
        ..PortPolicy::default()
    };
    let mut bench = Bench::new(policy(vec![port, PortPolicy::default()]));
    let sent = frame(MacAddr::BROADCAST, host(2));
    assert_eq!(bench.send(0, &sent), [(1, sent)]);
    let other = frame(MacAddr::BROADCAST, host(3));
    bench.refuse(0, &other, DropReason::SourceMacNotAllowed);
    assert_eq!(
        bench.send(1, &other),
        [(0, other)],
        "it is another port's list"
    );
}

#[test]
fn floods_of_a_port_are_limited_and_what_is_known_is_not() {
    let port = PortPolicy {
        storm: Some(Arc::new(StormBucket::new(100))),
        ..PortPolicy::default()
    };
    let mut bench = Bench::new(policy(vec![port, PortPolicy::default()]));
    bench.send(1, &frame(MacAddr::BROADCAST, host(2)));
    let kinds = [MacAddr::BROADCAST, MacAddr([3, 0, 0, 0, 0, 9]), host(9)];
    let passed = (0..600).filter(|n| {
        let sent = frame(kinds[n % 3], host(1));
        !bench.send(0, &sent).is_empty()
    });
    assert_eq!(passed.count(), 100);
    assert_eq!(bench.drops(DropReason::StormLimited), 500);
    let known = frame(host(2), host(1));
    for _ in 0..500 {
        assert_eq!(bench.send(0, &known), [(1, known.clone())]);
    }
}

#[test]
fn frames_to_nobody_known_may_be_dropped() {
    let mut bench = Bench::new(SwitchPolicy {
        drop_unknown: true,
        ..SwitchPolicy::open(2)
    });
    bench.refuse(0, &frame(host(9), host(1)), DropReason::UnknownUnicast);
    let broadcast = frame(MacAddr::BROADCAST, host(1));
    assert_eq!(bench.send(0, &broadcast), [(1, broadcast)]);
}

#[test]
fn what_is_wrapped_to_pass_inspection_is_dropped_unless_it_is_wanted() {
    let snap = |inner: &[u8]| {
        let llc = [&[0xaa, 0xaa, 3, 0, 0, 0][..], inner, &[0; 40]].concat();
        ethernet(MacAddr::BROADCAST, host(1), llc.len() as u16, &llc)
    };
    let wrapped = [
        snap(&[0x08, 0x06]),
        snap(&[0x86, 0xdd]),
        snap(&[0x08, 0x00]),
        snap(&[0x81, 0x00, 0, 5, 0x08, 0x06]),
    ];
    let mut bench = Bench::new(SwitchPolicy::open(2));
    for sent in &wrapped {
        bench.refuse(0, sent, DropReason::LlcWrapped);
    }
    // Spanning tree's and others' LLC is none of that.
    let llc = [&[0x42, 0x42, 3][..], &[0; 43]].concat();
    let sent = ethernet(MacAddr([1, 0, 0x0c, 0xcc, 0xcc, 0xcd]), host(1), 46, &llc);
    assert_eq!(bench.send(0, &sent), [(1, sent)]);
    let mut carrying = Bench::new(SwitchPolicy {
        carry_wrapped: true,
        ..SwitchPolicy::open(2)
    });
    for sent in wrapped {
        assert_eq!(carrying.send(0, &sent), [(1, sent)]);
    }
}

/// An IPv4 packet of `len` octets that may not be cut, after an Ethernet header.
fn packet(to: MacAddr, len: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0, 1, 0x40, 0, 64, 17, 0, 0, 10, 7, 0, 1, 10, 7, 0, 2]);
    let sum = !omni_wire::checksum::fold(omni_wire::checksum::add(0, &packet));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.resize(len.into(), 0);
    ethernet(to, host(1), 0x0800, &packet)
}

#[test]
fn a_host_is_told_that_its_packet_does_not_fit_the_way() {
    let mut bench = Bench::new(SwitchPolicy::open(1));
    bench.reach_peer();
    bench.insert(0, host(2), omni_control::message::Owner::Peer(PEER));
    let fits = packet(host(2), (MAX_FRAME - 14) as u16);
    assert_eq!(bench.send(0, &fits), []);
    assert_eq!(bench.datapath.staged(), 1);
    let sent = packet(host(2), (MAX_FRAME - 13) as u16);
    let [(0, answer)] = &bench.send(0, &sent)[..] else {
        panic!("one answer");
    };
    assert_eq!(answer[..12], [host(1).0, host(2).0].concat());
    assert_eq!(answer[34..36], [3, 4], "destination unreachable, too big");
    let told = u16::from_be_bytes([answer[40], answer[41]]);
    assert_eq!(usize::from(told), MAX_FRAME - 14);
    assert_eq!(bench.drops(DropReason::InnerTooBig), 1);
    let other = ethernet(host(2), host(1), OTHER, &[0; MAX_FRAME]);
    bench.refuse(0, &other, DropReason::InnerTooBig);
    assert_eq!(bench.datapath.counted().too_big_answered, 1);
}

#[test]
fn a_group_goes_to_who_asked_for_it() {
    let mut bench = Bench::new(SwitchPolicy {
        snoop: true,
        ..SwitchPolicy::open(3)
    });
    let group = std::net::Ipv4Addr::new(239, 1, 2, 3);
    // IGMPv2 report (RFC 2236 s.2).
    let mut message = vec![0x16, 0, 0, 0, 239, 1, 2, 3];
    let sum = !omni_wire::checksum::fold(omni_wire::checksum::add(0, &message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut report = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0, 0, 10, 7, 0, 5];
    report.extend(group.octets());
    let sum = !omni_wire::checksum::fold(omni_wire::checksum::add(0, &report));
    report[10..12].copy_from_slice(&sum.to_be_bytes());
    report.extend(message);
    let to = MacAddr([1, 0, 0x5e, 1, 2, 3]);
    // Other hosts do not hear it: they would not report for themselves then.
    let report = ethernet(to, host(5), 0x0800, &report);
    assert_eq!(bench.send(1, &report), []);
    let told = Upcall::Group {
        vlan: 0,
        port: omni_control::message::PortId(1),
        group: group.into(),
        join: true,
    };
    assert!(bench.upcalls().contains(&told));
    bench.order(Command::SetGroup {
        vlan: 0,
        group: group.into(),
        members: Arc::from([local(1)]),
    });
    let mut sent = packet(to, 100);
    sent[30..34].copy_from_slice(&group.octets());
    assert_eq!(bench.send(0, &sent), [(1, sent.clone())]);
    bench.order(Command::SetWantsAll {
        owner: local(2),
        vlan: None,
        wants: true,
    });
    assert_eq!(bench.send(0, &sent), [(1, sent.clone()), (2, sent)]);
    assert_eq!(bench.send(1, &report), [(2, report.clone())]);
}
