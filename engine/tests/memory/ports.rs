//! Source ports on the underlay: one for each lane where they are spread, else one for all.

use std::collections::BTreeMap;

use omni_wire::checksum;
use omni_wire::header::DataHeader;
use omni_wire::outer::{Outer, SPREAD_PORT_MIN};

use crate::world::{Shape, World, frame, mac};

const FABRIC_PORT: u16 = 51820;
const WORKERS: usize = 4;

/// Both nodes send from all workers. What they sent, as the source ports of each lane.
fn ports_of_lanes(shape: Shape) -> [BTreeMap<u16, Vec<u16>>; 2] {
    let ipv6 = shape.ipv6;
    let mut world = World::established(shape);
    world.recorded = Some(Vec::new());
    world.steer = |outer, workers| usize::from(outer.source.port()) % workers;
    for n in 0..400u32 {
        let worker = n as usize % WORKERS;
        world.push_to(0, worker, &frame(mac(1, 1), mac(0, 1), &n.to_be_bytes()));
        world.push_to(1, worker, &frame(mac(0, 1), mac(1, 1), &n.to_be_bytes()));
        world.settle();
    }
    assert_eq!([world.take(0).len(), world.take(1).len()], [400, 400]);
    assert_eq!(world.all_drops(0) + world.all_drops(1), 0);
    for host in &world.hosts {
        let peer = host.plane.ganglion.peers().next().expect("one peer");
        let endpoint = peer.endpoint.expect("configured");
        assert_eq!(endpoint.port(), FABRIC_PORT, "lanes are not followed");
    }
    world.check_frames();
    let mut ports = [BTreeMap::new(), BTreeMap::new()];
    for message in world.recorded.take().expect("recording") {
        let outer = Outer::parse(&message.frame).expect("a message");
        let header = DataHeader::parse(&message.frame[outer.payload..]).expect("a header");
        if ipv6 {
            assert!(udp_checksum_holds(&message.frame, &outer));
        }
        let of_lane: &mut Vec<u16> = ports[message.from].entry(header.lane).or_default();
        of_lane.push(outer.source.port());
    }
    for of_lane in ports.iter_mut().flat_map(BTreeMap::values_mut) {
        assert!(of_lane.len() >= 100, "every worker sent");
        of_lane.dedup();
    }
    ports
}

/// RFC 8200 s.8.1: over both addresses, the length, the protocol and the whole datagram.
fn udp_checksum_holds(frame: &[u8], outer: &Outer) -> bool {
    const ADDRESSES: core::ops::Range<usize> = 14 + 8..14 + 40;
    let udp = &frame[outer.payload - 8..outer.end];
    let pseudo = checksum::add(udp.len() as u64 + 17, &frame[ADDRESSES]);
    udp[6..8] != [0, 0] && checksum::fold(checksum::add(pseudo, udp)) == 0xffff
}

#[test]
fn lanes_are_spread_over_source_ports_and_peers_stay_where_they_are() {
    for ipv6 in [false, true] {
        let shape = Shape {
            workers: WORKERS,
            ipv6,
            spread_ports: true,
            ..Shape::default()
        };
        let first = ports_of_lanes(shape);
        for ports in &first {
            assert_eq!(ports[&0], [FABRIC_PORT]);
            let mut others: Vec<u16> = ports.values().skip(1).flatten().copied().collect();
            assert_eq!(others.len(), WORKERS - 1, "one port a lane: {ports:?}");
            assert!(others.iter().all(|&port| port >= SPREAD_PORT_MIN));
            others.push(FABRIC_PORT);
            others.sort_unstable();
            others.dedup();
            assert_eq!(others.len(), WORKERS, "each another one: {ports:?}");
        }
        assert_eq!(ports_of_lanes(shape), first, "the same after a restart");
    }
}

#[test]
fn all_lanes_send_from_the_fabric_port_where_they_are_not_spread() {
    let ports = ports_of_lanes(Shape {
        workers: WORKERS,
        ..Shape::default()
    });
    for ports in ports {
        assert_eq!(ports.len(), WORKERS);
        assert!(
            ports.values().all(|ports| ports == &[FABRIC_PORT]),
            "{ports:?}"
        );
    }
}
