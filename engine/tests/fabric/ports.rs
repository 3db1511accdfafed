//! Lanes with source ports of their own, between two nodes of two workers each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use omni_wire::header::DataHeader;
use omni_wire::outer::{Outer, SPREAD_PORT_MIN};

use crate::support::lab::{Lab, PORT, Plan, Side, Wire};
use crate::support::ledger::{Ledger, assert_memory_idle};
use crate::support::node::NodeSpec;
use crate::support::packet::PacketSocket;
use crate::support::tools::{iperf, ping_all};

/// No frame comes for this long: all are here.
const QUIET: Duration = Duration::from_millis(200);
/// How often flows are dealt out anew when all of them hashed to one queue.
const ATTEMPTS: u32 = 4;

/// The source ports of each lane in data messages of a capture.
fn ports_of_lanes(frames: &[Vec<u8>]) -> BTreeMap<u16, Vec<u16>> {
    let mut ports: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
    for frame in frames {
        let Some(outer) = Outer::parse(frame).ok() else {
            continue;
        };
        if outer.destination.port() != PORT {
            continue;
        }
        // What is none is a handshake.
        if let Ok(header) = DataHeader::parse(&frame[outer.payload..outer.end]) {
            ports
                .entry(header.lane)
                .or_default()
                .push(outer.source.port());
        }
    }
    for of_lane in ports.values_mut() {
        of_lane.sort_unstable();
        of_lane.dedup();
    }
    ports
}

fn assert_lanes_are_spread(lab: &Lab, specs: [NodeSpec; 2]) {
    let [a, b] = specs.map(|spec| {
        NodeSpec {
            cores: "[0, 1]".to_owned(),
            spread_ports: true,
            ..spec
        }
        .start()
    });
    let from_a = PacketSocket::open(lab.middle.as_ref().expect("a bridge"), "ra");
    let ledger = Ledger::from_now(lab, &a, &b);
    let endpoints = [&a, &b].map(|node| node.peer().endpoint);
    let target: IpAddr = Side::B.inner_v4().into();
    let mut attempt = 0;
    let ports = loop {
        iperf(&lab.a, (&lab.b, target), "-u -b 1M -l 500 -P 8 -t 1");
        let ports = ports_of_lanes(&from_a.drain(QUIET));
        // Flows are dealt out to workers by a random hash.
        if ports.len() == 2 {
            break ports;
        }
        attempt += 1;
        assert!(attempt < ATTEMPTS, "a worker has nothing to do: {ports:?}");
    };
    assert_eq!(ports[&0], [PORT]);
    let &[other] = &ports[&1][..] else {
        panic!("a lane has one port: {ports:?}");
    };
    assert!(other >= SPREAD_PORT_MIN && other != PORT, "{other}");

    ping_all(&lab.a, target, "");
    ping_all(&lab.b, Side::A.inner_v4().into(), "");
    let after = [&a, &b].map(|node| node.peer().endpoint);
    assert_eq!(after, endpoints, "a lane's port is no new home");
    ledger.assert_balanced();
    assert_memory_idle(&a, &b);
}

#[test]
fn lanes_are_spread_over_source_ports_and_are_not_followed() {
    let lab = Lab::new(Plan {
        wire: Wire::Bridged,
        queues: 2,
        ..Plan::default()
    });
    assert_lanes_are_spread(&lab, [lab.spec(Side::A), lab.spec(Side::B)]);
    assert_lanes_are_spread(&lab, [lab.spec_v6(Side::A), lab.spec_v6(Side::B)]);
}
