//! Access ports that exist already, and frames with VLAN tags.

use std::time::Duration;

use omni_wire::MacAddr;

use crate::support::lab::{Lab, Plan, Side, public_key};
use crate::support::ledger::assert_memory_idle;
use crate::support::node::{Node, NodeSpec};
use crate::support::packet::PacketSocket;
use crate::support::tools::{iperf, ping_all, tcp_rate, udp_rate, unfragmented};
use crate::support::{seconds, wait_until};

/// EtherType of experiments (IEEE 802, clause 9.2.3).
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
/// Who sends the tagged frames.
const SENDER: [u8; 6] = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];
/// No frame comes for this long: all are here.
const QUIET: Duration = Duration::from_millis(300);

/// Makes a veth pair in node a's namespace: `acc` for the engine, `h0` with the node's addresses
/// for the host. Starts both nodes.
fn start_with_existing_port(lab: &Lab) -> (Node, Node) {
    let access = "acc".to_owned();
    let a = NodeSpec {
        access,
        addresses: Vec::new(),
        ..lab.spec(Side::A)
    };
    (a.start(), lab.spec(Side::B).start())
}

fn make_pair(lab: &Lab) {
    lab.a
        .ip("link add acc mtu 1426 type veth peer name h0 mtu 1426");
    lab.a
        .ip(&format!("addr add {}/24 dev h0", Side::A.inner_v4()));
    lab.a
        .ip(&format!("addr add {}/64 dev h0", Side::A.inner_v6()));
    for end in ["acc", "h0"] {
        lab.a.ip(&format!("link set {end} up"));
    }
}

/// Offloads of an interface, a line each.
fn features(lab: &Lab, interface: &str) -> Vec<String> {
    let output = lab.a.run("ethtool", &format!("-k {interface}")).stdout;
    String::from_utf8_lossy(&output)
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

/// The host's stack leaves checksums to a device that is none: the engine completes them.
#[test]
fn an_existing_veth_with_checksum_offload_carries_tcp_and_udp() {
    let lab = Lab::new(Plan::default());
    make_pair(&lab);
    let (a, b) = start_with_existing_port(&lab);
    let host = features(&lab, "h0");
    let left_undone = host.iter().any(|line| line == "tx-checksumming: on");
    assert!(left_undone, "h0 does its checksums itself: {host:?}");
    for target in [Side::B.inner_v4().into(), Side::B.inner_v6().into()] {
        ping_all(&lab.a, target, "");
        ping_all(&lab.a, target, &unfragmented(target, 1426));
        for direction in ["", "-R"] {
            let rate = tcp_rate(&iperf(
                &lab.a,
                (&lab.b, target),
                &format!("-t 1 {direction}"),
            ));
            assert!(rate > 100.0, "TCP: {rate} Mb/s to {target} {direction}");
            let options = format!("-u -b 50M -l 1300 -t 1 {direction}");
            let rate = udp_rate(&iperf(&lab.a, (&lab.b, target), &options));
            assert!(rate > 25.0, "UDP: {rate} Mb/s to {target} {direction}");
        }
    }
    assert_memory_idle(&a, &b);
}

/// A clean stop leaves nothing behind: what the engine did not make has its settings again.
#[test]
fn an_existing_access_port_is_given_back_as_it_was() {
    let lab = Lab::new(Plan::default());
    make_pair(&lab);
    let (links, offloads) = (lab.a.inventory(), features(&lab, "acc"));
    let (a, _b) = start_with_existing_port(&lab);
    ping_all(&lab.a, Side::B.inner_v4().into(), "");
    assert!(a.terminate().success());
    for (after, before) in lab.a.inventory().iter().zip(&links) {
        let fields = before.as_object().expect("an interface");
        let changed: Vec<_> = fields
            .iter()
            .filter(|(key, value)| after[key] != **value)
            .collect();
        assert!(
            changed.is_empty(),
            "of {}: {changed:?} became {after}",
            before["ifname"]
        );
    }
    assert_eq!(lab.a.inventory().len(), links.len());
    let mut changed = features(&lab, "acc");
    changed.retain(|line| !offloads.contains(line));
    assert!(changed.is_empty(), "offloads of acc became {changed:?}");
}

/// A frame from [`SENDER`] to everyone with these tags.
fn tagged(tags: &[[u8; 4]], text: &str) -> Vec<u8> {
    let mut frame = [[0xff; 6], SENDER].concat();
    frame.extend(tags.concat());
    frame.extend(EXPERIMENT);
    frame.extend(text.as_bytes());
    frame.resize(frame.len().max(64), 0);
    frame
}

#[test]
fn tagged_frames_arrive_with_their_tags_and_are_learned_in_their_vlan() {
    let lab = Lab::new(Plan::default());
    let (a, b) = lab.start();
    let frames = [
        // 802.1Q, VID 100 with priority 3; 802.1ad 200 around 802.1Q 100; 802.1ad alone.
        tagged(&[[0x81, 0x00, 0x60, 100]], "one tag"),
        tagged(&[[0x88, 0xa8, 0, 200], [0x81, 0x00, 0, 100]], "two tags"),
        tagged(&[[0x88, 0xa8, 0, 210]], "a service tag"),
    ];
    ping_all(&lab.a, Side::B.inner_v4().into(), "");
    let receiver = PacketSocket::open(&lab.b, "omni0");
    let sender = PacketSocket::open(&lab.a, "omni0");
    for frame in &frames {
        sender.send(frame).expect("a frame sent");
    }
    let mut received = receiver.drain(QUIET);
    received.retain(|frame| frame.get(6..12) == Some(&SENDER));
    assert_eq!(received, frames);

    let mac = MacAddr(SENDER).to_string();
    let owner = public_key(Side::A).to_string();
    for (node, owner) in [(&a, "local:omni0"), (&b, owner.as_str())] {
        wait_until("the addresses are learned", seconds(2), || {
            let mut fdb = node.show().fdb;
            fdb.retain(|entry| entry.mac == mac && entry.owner == owner);
            fdb.iter().map(|entry| entry.vlan).collect::<Vec<_>>() == [100, 200, 210]
        });
    }
    assert_memory_idle(&a, &b);
}

/// The tag's four octets come out of the packet: the underlay carries 1440 octets of frame.
#[test]
fn a_tagged_frame_is_carried_up_to_the_underlays_limit_and_dropped_by_name_beyond() {
    let lab = Lab::new(Plan::default());
    let (a, b) = lab.start();
    ping_all(&lab.a, Side::B.inner_v4().into(), "");
    let receiver = PacketSocket::open(&lab.b, "omni0");
    let sender = PacketSocket::open(&lab.a, "omni0");
    let mut fits = tagged(&[[0x81, 0x00, 0, 100]], "fits");
    fits.resize(1426 + 14, 0x5a);
    let mut too_long = fits.clone();
    // The host may send this: its MTU does not count the tag.
    too_long.extend([0x5a; 4]);
    for frame in [&too_long, &fits] {
        sender.send(frame).expect("a frame sent");
    }
    let mut received = receiver.drain(QUIET);
    received.retain(|frame| frame.get(6..12) == Some(&SENDER));
    assert_eq!(
        received.iter().map(Vec::len).collect::<Vec<_>>(),
        [fits.len()]
    );
    assert_eq!(received, [fits]);
    let dropped = a.show().drops;
    assert_eq!(dropped.get("inner_too_big"), Some(&1), "{dropped:?}");
    assert_memory_idle(&a, &b);
}
