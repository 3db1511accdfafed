//! A node as a switch: several hosts behind one port, ports of one node, and VLANs.

use std::net::IpAddr;
use std::time::Duration;

use omni_engine::show::QueueView;

use crate::support::hosts::{ETH, Host, Segment, borrowing, neighbour};
use crate::support::lab::{Lab, Plan, Side, public_key};
use crate::support::ledger::assert_memory_idle;
use crate::support::node::{Node, NodeSpec};
use crate::support::packet::PacketSocket;
use crate::support::questions::arping;
use crate::support::tools::{Background, iperf, ping, ping_all, reaches, tcp_rate};
use crate::support::{seconds, wait_until};

/// The VLAN of the access port.
const VLAN: u16 = 10;
/// Who answers for node b's side of it.
const ANSWERER: [u8; 6] = [0x02, 0x10, 0x10, 0x10, 0x10, 0x10];
/// No frame comes for this long: all are here.
const QUIET: Duration = Duration::from_millis(300);
/// Options of `ping` for a hundred requests in a row.
const MANY: &str = "-c 100 -i 0.002";
/// EtherType of experiments (IEEE 802, clause 9.2.3).
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];

fn inner_b() -> IpAddr {
    Side::B.inner_v4().into()
}

/// Frames that a node sealed for its only peer.
fn sealed(node: &Node) -> u64 {
    node.peer().tx_frames
}

fn sent_to(queues: &[QueueView], port: &str) -> u64 {
    let of_port = queues.iter().filter(|queue| queue.port == port);
    of_port.map(|queue| queue.tx_frames).sum()
}

#[test]
fn hosts_on_a_bridge_behind_one_port_reach_each_other_and_the_peers_host() {
    let lab = Lab::new(Plan::default());
    let segment = Segment::new(&lab.a, 1426);
    let (c, d) = (segment.host("c", 11), segment.host("d", 12));
    let (a, b) = (borrowing(&lab, Side::A).start(), lab.spec(Side::B).start());
    for host in [&c, &d] {
        for target in [inner_b(), Side::B.inner_v6().into()] {
            ping_all(&host.namespace, target, "");
        }
        ping_all(&lab.b, host.v4(), "");
        ping_all(&lab.b, host.v6(), "");
    }
    for target in [d.v4(), d.v6()] {
        ping_all(&c.namespace, target, "");
    }
    let owner = public_key(Side::A).to_string();
    for host in [&c, &d] {
        let fdb = b.show().fdb;
        let entry = fdb.iter().find(|entry| entry.mac == host.mac());
        assert_eq!(entry.map(|e| &e.owner), Some(&owner), "{fdb:?}");
        let known = neighbour(&lab.b, "omni0", host.v4()).expect("a neighbour");
        assert_eq!(known.0, host.mac());
    }
    // What the bridge has learned it does not send here; what it floods is not sent back.
    let before = sealed(&a);
    assert_eq!(ping(&c.namespace, d.v4(), MANY).0, 100);
    let crossed = sealed(&a) - before;
    assert!(crossed < 10, "{crossed} frames between c and d crossed");
    assert_eq!(a.show().drops.get("source_mac_not_owned"), None);
    let rate = tcp_rate(&iperf(&c.namespace, (&lab.b, inner_b()), "-t 1"));
    assert!(rate > 100.0, "{rate} Mb/s");
    assert_memory_idle(&a, &b);
}

/// Starts node a with `omni0` and `omni1`, both made, and a host on a bridge at each.
fn with_two_ports(lab: &Lab) -> Node {
    let spec = NodeSpec {
        addresses: Vec::new(),
        ..lab.spec(Side::A)
    };
    let second = "  - { interface: omni1, mtu: auto }\nworkers:";
    spec.start_with(&spec.yaml().replace("workers:", second))
}

#[test]
fn frames_between_ports_of_one_node_do_not_cross_the_fabric() {
    let lab = Lab::new(Plan::default());
    let a = with_two_ports(&lab);
    let b = lab.spec(Side::B).start();
    let segments = ["omni0", "omni1"].map(|port| Segment::on(&lab.a, port, 1426));
    let (c, d) = (segments[0].host("c", 11), segments[1].host("d", 12));
    for (host, other) in [(&c, &d), (&d, &c)] {
        ping_all(&host.namespace, other.v4(), "");
        ping_all(&host.namespace, other.v6(), "");
        ping_all(&host.namespace, inner_b(), "");
    }
    let fdb = a.show().fdb;
    for (host, owner) in [(&c, "local:omni0"), (&d, "local:omni1")] {
        let entry = fdb.iter().find(|entry| entry.mac == host.mac());
        assert_eq!(entry.map(|e| e.owner.as_str()), Some(owner), "{fdb:?}");
    }
    let at_b = PacketSocket::open(&lab.b, "omni0");
    let before = sealed(&a);
    let queues = a.show().queues;
    assert_eq!(ping(&c.namespace, d.v4(), MANY).0, 100);
    let rate = tcp_rate(&iperf(&c.namespace, (&d.namespace, d.v4()), "-t 2"));
    assert!(rate > 100.0, "{rate} Mb/s between ports");
    let after = a.show().queues;
    for port in ["omni0", "omni1"] {
        let frames = sent_to(&after, port) - sent_to(&queues, port);
        assert!(frames > 200, "{frames} frames out of {port}");
    }
    // The question, too, is answered between the ports.
    c.namespace.ip(&format!("neigh flush dev {ETH}"));
    assert!(reaches(&c.namespace, d.v4()));
    // Hosts report their groups and poll their neighbours, which b's is.
    let crossed = sealed(&a) - before;
    assert!(crossed < 20, "{crossed} frames crossed the fabric");
    let macs = [&c, &d].map(Host::mac);
    let between = |frame: &Vec<u8>| {
        let text = |octets: &[u8]| {
            let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            octets.join(":")
        };
        macs.contains(&text(&frame[..6])) && macs.contains(&text(&frame[6..12]))
    };
    let strays = at_b.drain(QUIET);
    assert_eq!(
        strays.iter().filter(|f| between(f)).count(),
        0,
        "{strays:x?}"
    );
    assert_memory_idle(&a, &b);
}

/// A frame with one tag.
fn tagged(destination: [u8; 6], vlan: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = vlan.to_be_bytes();
    let mut frame = [destination, ANSWERER].concat();
    frame.extend([0x81, 0, high, low]);
    frame.extend(payload);
    frame.resize(frame.len().max(64), 0);
    frame
}

/// Whether a frame is tagged with just this VLAN; what follows the tag.
fn inside(frame: &[u8], vlan: u16) -> Option<&[u8]> {
    let [high, low] = vlan.to_be_bytes();
    let is_tagged = frame.get(12..14)? == [0x81, 0] && frame[14] & 0xf == high && frame[15] == low;
    is_tagged.then(|| &frame[16..])
}

/// The reply to a tagged ARP request or echo request for `address`.
fn reply(frame: &[u8], address: [u8; 4]) -> Option<Vec<u8>> {
    let asker: [u8; 6] = frame.get(6..12)?.try_into().ok()?;
    let mut payload = inside(frame, VLAN)?.to_vec();
    if payload.starts_with(&[0x08, 0x06]) && payload.get(26..30)? == address {
        payload.copy_within(10..20, 20);
        payload[9] = 2;
        payload[10..16].copy_from_slice(&ANSWERER);
        payload[16..20].copy_from_slice(&address);
        return Some(tagged(asker, VLAN, &payload));
    }
    // IPv4 without options, and an echo request in it.
    if payload.starts_with(&[0x08, 0x00, 0x45]) && payload.get(18..22)? == address {
        let source: [u8; 4] = payload[14..18].try_into().ok()?;
        payload[14..18].copy_from_slice(&address);
        payload[18..22].copy_from_slice(&source);
        (payload[11] == 1 && payload[22] == 8).then_some(())?;
        payload[22] = 0;
        // The sum of what is added and taken away stays: a type of 8 less (RFC 1624).
        let sum = u32::from(u16::from_be_bytes([payload[24], payload[25]])) + 0x0800;
        let sum = (sum & 0xffff) + (sum >> 16);
        payload[24..26].copy_from_slice(&(sum as u16).to_be_bytes());
        return Some(tagged(asker, VLAN, &payload));
    }
    None
}

/// Node a's port is untagged in VLAN 10; node b's is a trunk, where tags are seen as they are.
fn access_and_trunk(lab: &Lab) -> (Node, Node) {
    let a = lab.spec(Side::A);
    let access = format!("mtu: auto\n    vlan: {VLAN}\n");
    let a = a.start_with(&a.yaml().replace("mtu: auto\n", &access));
    let b = lab.spec(Side::B);
    let trunk = format!("mtu: auto\n    vlans: [{VLAN}, 11]\n");
    let b = b.start_with(&b.yaml().replace("mtu: auto\n", &trunk));
    (a, b)
}

#[test]
fn an_access_port_and_a_trunk_speak_of_the_same_vlan() {
    let lab = Lab::new(Plan::default());
    let (a, b) = access_and_trunk(&lab);
    let trunk = PacketSocket::open(&lab.b, "omni0");
    let target = [10, 7, 0, 77];
    let pinging = Background::ping(&lab.a, target.into());
    let mut echoes = 0;
    wait_until("echo requests come tagged", seconds(10), || {
        // Shorter than what is between two of them.
        for frame in trunk.drain(Duration::from_millis(1)) {
            let Some(reply) = reply(&frame, target) else {
                continue;
            };
            echoes += u32::from(inside(&frame, VLAN).is_some_and(|p| p.starts_with(&[8, 0])));
            trunk.send(&reply).expect("a frame sent");
        }
        echoes >= 20
    });
    drop(pinging);
    let received = neighbour(&lab.a, "omni0", target.into()).expect("a neighbour");
    assert_eq!(received.0, "02:10:10:10:10:10");
    let host = lab.a.mac("omni0");
    for (node, owner) in [
        (&a, "local:omni0".to_owned()),
        (&b, public_key(Side::A).to_string()),
    ] {
        let fdb = node.show().fdb;
        let entry = fdb.iter().find(|entry| entry.mac == host);
        let found = entry.map(|entry| (entry.vlan, entry.owner.clone()));
        assert_eq!(found, Some((VLAN, owner)), "{fdb:?}");
    }
    // The engine answers in the VLAN as well, and its answer comes untagged.
    trunk.drain(QUIET);
    let asked = arping(&lab.a, "omni0", target.into(), "-b -c 3");
    assert_eq!(asked.answers, 3, "{asked:?}");
    let questions = trunk.drain(QUIET);
    let questions = questions.iter().filter_map(|frame| inside(frame, VLAN));
    let questions = questions.filter(|payload| payload.starts_with(&[8, 6]));
    assert_eq!(questions.count(), 0, "asked on the trunk");
}

#[test]
fn what_is_not_of_the_vlan_does_not_reach_the_access_port() {
    let lab = Lab::new(Plan::default());
    let (a, b) = access_and_trunk(&lab);
    // Something has to be said before there is a session.
    arping(&lab.a, "omni0", [10, 7, 0, 99].into(), "-c 1 -w 1");
    a.established();
    let trunk = PacketSocket::open(&lab.b, "omni0");
    let access = PacketSocket::open(&lab.a, "omni0");
    access.drain(QUIET);
    let experiment = |text: &str| [&EXPERIMENT, text.as_bytes()].concat();
    let untagged = {
        let mut frame = [[0xff; 6], ANSWERER].concat();
        frame.extend(experiment("untagged"));
        frame.resize(64, 0);
        frame
    };
    let twice = [&[0x81, 0, 0, 5][..], &experiment("inner")].concat();
    for frame in [
        untagged,
        tagged([0xff; 6], 11, &experiment("another")),
        tagged([0xff; 6], 12, &experiment("not carried")),
        tagged([0xff; 6], VLAN, &twice),
        tagged([0xff; 6], VLAN, &experiment("fits")),
    ] {
        trunk.send(&frame).expect("a frame sent");
    }
    let mut arrived = access.drain(QUIET);
    arrived.retain(|frame| frame[6..12] == ANSWERER);
    assert_eq!(arrived.len(), 1, "{arrived:x?}");
    assert_eq!(arrived[0][12..18], *b"\x88\xb5fits");
    // Untagged frames and those of VLAN 12 stop at b's port; a's does not carry VLAN 11.
    let dropped = |node: &Node| node.show().drops.get("vlan_not_allowed").copied();
    assert!(dropped(&b) >= Some(2), "{:?}", b.show().drops);

    // A tag does not get in by the access port.
    let before = dropped(&a).unwrap_or(0);
    let sender = PacketSocket::open(&lab.a, "omni0");
    trunk.drain(QUIET);
    for vlan in [VLAN, 11] {
        let frame = tagged([0xff; 6], vlan, &experiment("tagged"));
        sender.send(&frame).expect("a frame sent");
    }
    let mut arrived = trunk.drain(QUIET);
    arrived.retain(|frame| frame[6..12] == ANSWERER);
    assert_eq!(arrived.len(), 0, "{arrived:x?}");
    assert_eq!(dropped(&a).unwrap_or(0), before + 2);
}
