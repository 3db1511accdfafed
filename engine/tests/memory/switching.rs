//! What a fabric delivers, and to whom.

use std::time::Duration;

use omni_control::message::{Command, FdbKey, Owner, PortId};
use omni_engine::switch::AGEING;
use omni_wire::{DropReason, MacAddr};

use crate::world::{MAX_FRAME, Shape, World, frame, mac, tagged};

const LOCAL: Owner = Owner::Local(PortId(0));

#[test]
fn a_frame_arrives_as_it_was_sent() {
    for ipv6 in [false, true] {
        let mut world = World::established(Shape {
            ipv6,
            ..Shape::default()
        });
        for len in [0, 1, 46, 100, 1000, MAX_FRAME - 14] {
            let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let sent = frame(mac(1, 1), mac(0, 1), &payload);
            world.push(0, &sent);
            world.settle();
            assert_eq!(world.take(1), [sent], "{len} octets, IPv6 {ipv6}");
        }
        assert_eq!(world.all_drops(0) + world.all_drops(1), 0);
        world.check_frames();
    }
}

#[test]
fn jumbo_frames_and_their_limit() {
    let max_frame = 9000 - 60;
    let mut world = World::established(Shape {
        max_frame,
        ..Shape::default()
    });
    let sent = frame(mac(1, 1), mac(0, 1), &vec![7; max_frame - 14]);
    world.push(0, &sent);
    world.push(0, &frame(mac(1, 1), mac(0, 1), &vec![7; max_frame - 13]));
    world.settle();
    assert_eq!(world.take(1), [sent]);
    assert_eq!(world.drops(0, DropReason::InnerTooBig), 1);
    world.check_frames();
}

#[test]
fn tags_are_carried_and_tell_networks_apart() {
    let mut world = World::established(Shape::default());
    let frames = [
        tagged(mac(1, 1), mac(0, 1), &[(0x8100, 0x2064)], b"one tag"),
        tagged(
            mac(1, 1),
            mac(0, 2),
            &[(0x88a8, 200), (0x8100, 0xe064)],
            b"two tags",
        ),
        tagged(mac(1, 1), mac(0, 3), &[(0x8100, 0xa000)], b"priority only"),
    ];
    for sent in &frames {
        world.push(0, sent);
    }
    world.settle();
    assert_eq!(world.take(1), frames);
    let sender = world.hosts[1]
        .plane
        .ganglion
        .peers()
        .next()
        .expect("one peer")
        .id;
    for (vlan, host) in [(100, 1), (200, 2), (0, 3)] {
        assert_eq!(
            world.hosts[1].owner(vlan, mac(0, host)),
            Some(Owner::Peer(sender))
        );
        assert_eq!(world.hosts[0].owner(vlan, mac(0, host)), Some(LOCAL));
    }
    assert_eq!(world.hosts[1].owner(0, mac(0, 1)), None, "another network");
}

#[test]
fn frames_that_are_no_frames_are_dropped_with_a_name() {
    let mut world = World::established(Shape::default());
    let cases: [(Vec<u8>, DropReason); 7] = [
        (vec![0; 13], DropReason::InnerTooShort),
        (
            tagged(mac(1, 1), mac(0, 1), &[(0x8100, 1)], b"")[..15].to_vec(),
            DropReason::InnerTooShort,
        ),
        (
            frame(mac(1, 1), MacAddr::BROADCAST, b""),
            DropReason::SourceMacInvalid,
        ),
        (
            frame(mac(1, 1), MacAddr::ZERO, b""),
            DropReason::SourceMacInvalid,
        ),
        (
            tagged(mac(1, 1), mac(0, 1), &[(0x8100, 4095)], b"x"),
            DropReason::VlanInvalid,
        ),
        (
            tagged(mac(1, 1), mac(0, 1), &[(0x88a8, 5), (0x8100, 0)], b"x"),
            DropReason::VlanInvalid,
        ),
        (
            tagged(mac(1, 1), mac(0, 1), &[(0x8100, 5); 3], b"x"),
            DropReason::VlanInvalid,
        ),
    ];
    for (bad, reason) in cases {
        let before = world.drops(0, reason);
        world.push(0, &bad);
        world.settle();
        assert_eq!(world.drops(0, reason), before + 1, "{reason:?}");
    }
    assert!(world.take(1).is_empty());
    world.check_frames();
}

#[test]
fn what_a_rendezvous_places_reaches_that_node_alone_until_somebody_is_heard() {
    let mut world = World::established(Shape {
        hosts: 4,
        ..Shape::default()
    });
    let peers: Vec<_> = world.hosts[0]
        .plane
        .ganglion
        .peers()
        .map(|p| p.id)
        .collect();
    let key = FdbKey {
        vlan: 0,
        mac: mac(2, 1),
    };
    let place = |peer| Command::SetDirectory { key, peer };
    let arrived = |world: &mut World| {
        let sent = frame(mac(2, 1), mac(0, 1), b"to one");
        world.push(0, &sent);
        world.settle();
        (1..4)
            .map(|node| world.take(node).len())
            .collect::<Vec<_>>()
    };
    world.order(0, place(Some(peers[1])));
    assert_eq!(arrived(&mut world), [0, 1, 0]);
    // The host speaks behind another node: that counts.
    world.push(3, &frame(mac(0, 1), mac(2, 1), b"here"));
    world.settle();
    (0..3).for_each(|node| _ = world.take(node));
    assert_eq!(arrived(&mut world), [0, 0, 1]);
    (0..3).for_each(|node| world.forget(node, mac(2, 1)));
    assert_eq!(arrived(&mut world), [0, 1, 0]);
    world.order(0, place(None));
    assert_eq!(arrived(&mut world), [1, 1, 1]);
    world.order(0, place(Some(peers[1])));
    world.order(0, Command::RemovePeer { peer: peers[1] });
    assert_eq!(
        arrived(&mut world),
        [1, 0, 1],
        "that node is no peer any more"
    );
    world.check_frames();
}

#[test]
fn unknown_and_broadcast_reach_everybody_once_and_nobody_forwards() {
    let mut world = World::established(Shape {
        hosts: 4,
        ..Shape::default()
    });
    for to in [
        mac(9, 9),
        MacAddr::BROADCAST,
        MacAddr([1, 0, 0x5e, 0, 0, 1]),
    ] {
        let sent = frame(to, mac(0, 1), b"to all");
        world.push(0, &sent);
        world.settle();
        for node in 1..4 {
            assert_eq!(world.take(node), std::slice::from_ref(&sent), "node {node}");
        }
        assert!(world.take(0).is_empty());
    }
    world.check_frames();
}

#[test]
fn what_was_learned_goes_to_one_peer_only() {
    let mut world = World::established(Shape {
        hosts: 3,
        ..Shape::default()
    });
    world.push(2, &frame(MacAddr::BROADCAST, mac(2, 1), b"here I am"));
    world.settle();
    world.take(0);
    world.take(1);
    let sent = frame(mac(2, 1), mac(0, 1), b"for one");
    world.push(0, &sent);
    world.settle();
    assert!(world.take(1).is_empty());
    assert_eq!(world.take(2), [sent]);
}

#[test]
fn nobody_speaks_for_anothers_address() {
    let mut world = World::established(Shape {
        hosts: 3,
        ..Shape::default()
    });
    let honest = frame(MacAddr::BROADCAST, mac(1, 1), b"mine");
    world.push(1, &honest);
    world.settle();
    assert_eq!(world.take(0), std::slice::from_ref(&honest));
    // The thief's own node has seen the broadcast and stops it there already.
    world.push(2, &frame(MacAddr::BROADCAST, mac(1, 1), b"stolen"));
    world.settle();
    assert!(world.take(0).is_empty());
    assert_eq!(world.drops(2, DropReason::SourceMacNotOwned), 1);
    // A node that is a thief itself is stopped by the others.
    world.take(2);
    world.advance(AGEING * 2, Duration::from_secs(50));
    world.push(1, &honest);
    world.settle();
    world.forget(2, mac(1, 1));
    world.take(0);
    world.push(2, &frame(MacAddr::BROADCAST, mac(1, 1), b"stolen"));
    world.settle();
    assert!(world.take(0).is_empty());
    assert_eq!(world.drops(0, DropReason::SourceMacNotOwned), 1);
}

#[test]
fn frames_for_the_own_side_stay_there() {
    let mut world = World::established(Shape::default());
    world.push(0, &frame(MacAddr::BROADCAST, mac(0, 1), b"hello"));
    world.settle();
    world.take(1);
    world.push(0, &frame(mac(0, 1), mac(0, 2), b"neighbour"));
    world.settle();
    assert!(world.take(1).is_empty());
    assert_eq!(world.drops(0, DropReason::Reflected), 1);
}

#[test]
fn what_is_behind_another_peer_is_not_delivered_here() {
    let mut world = World::established(Shape {
        hosts: 3,
        ..Shape::default()
    });
    // Node 1 knows that the address is behind node 2; node 0 does not, and floods.
    world.push(2, &frame(MacAddr::BROADCAST, mac(2, 1), b"here"));
    world.settle();
    world.forget(0, mac(2, 1));
    world.take(0);
    world.take(1);
    let sent = frame(mac(2, 1), mac(0, 1), b"flooded");
    world.push(0, &sent);
    world.settle();
    assert_eq!(world.take(2), [sent]);
    assert!(world.take(1).is_empty());
    assert_eq!(world.drops(1, DropReason::SplitHorizon), 1);
}

#[test]
fn addresses_age_out_and_those_in_use_stay() {
    let mut world = World::established(Shape {
        workers: 2,
        ..Shape::default()
    });
    world.push(0, &frame(mac(1, 1), mac(0, 1), b"once"));
    for _ in 0..8 {
        world.push(0, &frame(mac(1, 1), mac(0, 2), b"again"));
        world.advance(AGEING / 6, Duration::from_secs(10));
    }
    assert_eq!(world.hosts[0].owner(0, mac(0, 1)), None);
    assert_eq!(world.hosts[0].owner(0, mac(0, 2)), Some(LOCAL));
    for half in &world.hosts[1].workers {
        assert_eq!(half.datapath.fdb().len(), 1, "every worker's copy follows");
    }
}

#[test]
fn every_worker_knows_what_one_learned() {
    let mut world = World::established(Shape {
        workers: 3,
        ..Shape::default()
    });
    world.steer = |_, workers| workers - 1;
    world.push_to(
        0,
        1,
        &frame(MacAddr::BROADCAST, mac(0, 1), b"from worker 1"),
    );
    world.settle();
    assert_eq!(world.take(1).len(), 1);
    for half in &world.hosts[1].workers {
        assert_eq!(half.datapath.fdb().len(), 1);
    }
    // The answer goes out of another worker, and finds its way without flooding.
    let answer = frame(mac(0, 1), mac(1, 1), b"answer");
    world.push_to(1, 0, &answer);
    world.settle();
    assert_eq!(world.take(0), [answer]);
}

#[test]
fn a_host_is_told_what_the_way_to_a_peer_carries() {
    let mut world = World::established(Shape::default());
    world.push(1, &frame(MacAddr::BROADCAST, mac(1, 1), b"here"));
    world.settle();
    world.take(0);
    let peer = world.hosts[0]
        .plane
        .ganglion
        .peers()
        .next()
        .expect("one")
        .id;
    let octets = 1200;
    world.order(0, Command::SetFrameLimit { peer, octets });
    // IPv4 that may not be cut, of 1186 and 1187 octets: the first fits behind 14 of Ethernet.
    for (len, arrives) in [(1186_u16, true), (1187, false)] {
        let mut packet = vec![0x45, 0];
        packet.extend(len.to_be_bytes());
        packet.extend([0, 1, 0x40, 0, 64, 17, 0, 0, 10, 7, 0, 1, 10, 7, 0, 2]);
        let sum = !omni_wire::checksum::fold(omni_wire::checksum::add(0, &packet));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.resize(len.into(), 0);
        let sent = [&mac(1, 1).0[..], &mac(0, 1).0, &[8, 0], &packet].concat();
        world.push(0, &sent);
        world.settle();
        assert_eq!(world.take(1).len(), usize::from(arrives), "{len} octets");
        let answers = world.take(0);
        assert_eq!(answers.len(), usize::from(!arrives), "{len} octets");
        if let [answer] = &answers[..] {
            assert_eq!(answer[34..36], [3, 4], "destination unreachable, too big");
            assert_eq!(answer[40..42], 1186_u16.to_be_bytes());
        }
    }
    assert_eq!(world.drops(0, DropReason::InnerTooBig), 1);
    world.check_frames();
}
