//! Access ports that are taps: super-frames both ways, and interfaces that others made.

use crate::support::lab::{Lab, Plan, Side};
use crate::support::ledger::{Ledger, assert_memory_idle};
use crate::support::node::{Node, NodeSpec};
use crate::support::tools::{iperf, ping_all, resumes, tcp_rate};
use crate::support::{seconds, wait_until};

/// Node a's configuration, with a tap.
fn spec(lab: &Lab) -> NodeSpec {
    NodeSpec {
        drivers: ("tap", "afxdp"),
        ..lab.spec(Side::A)
    }
}

/// Frames that a node's access port received and sent.
fn carried(node: &Node) -> (u64, u64) {
    let show = node.show();
    let queues = show.queues.iter().filter(|queue| queue.port == "omni0");
    queues.fold((0, 0), |(received, sent), queue| {
        (received + queue.rx_frames, sent + queue.tx_frames)
    })
}

#[test]
fn a_stream_crosses_the_hosts_stack_in_super_frames() {
    let lab = Lab::new(Plan::default());
    let (a, b) = lab.start();
    for target in [Side::B.inner_v4().into(), Side::B.inner_v6().into()] {
        ping_all(&lab.a, target, "");
        let ledger = Ledger::from_now(&lab, &a, &b);
        let packets = |lab: &Lab| {
            [
                lab.a.count("omni0", "tx", "packets"),
                lab.b.count("omni0", "rx", "packets"),
            ]
        };
        let (before, frames) = (packets(&lab), [carried(&a).0, carried(&b).1]);
        let rate = tcp_rate(&iperf(&lab.a, (&lab.b, target), "-t 1"));
        assert!(rate > 100.0, "{rate} Mb/s");
        let (after, frames_after) = (packets(&lab), [carried(&a).0, carried(&b).1]);
        // What the host hands over is as long as it can be; what it gets is what a burst holds, and
        // on shared cores bursts are short.
        for (n, least) in [(0, 4), (1, 2)] {
            let (packets, frames) = (after[n] - before[n], frames_after[n] - frames[n]);
            assert!(
                packets * least < frames,
                "{frames} frames in {packets} packets"
            );
        }
        ledger.assert_balanced();
    }
    assert_memory_idle(&a, &b);
}

#[test]
fn a_killed_nodes_tap_is_gone_and_is_made_again() {
    let lab = Lab::new(Plan::default());
    let (a, _b) = lab.start();
    let target = Side::B.inner_v4().into();
    ping_all(&lab.a, target, "");
    let mac = lab.a.mac("omni0");
    a.kill();
    wait_until("the tap is gone", seconds(1), || {
        lab.a.link("omni0").is_none()
    });
    let a = spec(&lab).start();
    assert_eq!(lab.a.mac("omni0"), mac, "what others remember stays true");
    resumes(&lab.a, target, seconds(2));
    assert!(a.terminate().success());
    assert!(lab.a.link("omni0").is_none());
}

/// What an engine that was killed left as a veth pair gives way.
#[test]
fn a_tap_takes_the_place_of_a_pair_that_was_left_behind() {
    let lab = Lab::new(Plan::xdp());
    let (a, _b) = lab.start();
    let target = Side::B.inner_v4().into();
    ping_all(&lab.a, target, "");
    a.kill();
    assert!(lab.a.link("omni0-xdp").is_some());
    let a = spec(&lab).start();
    assert!(lab.a.link("omni0-xdp").is_none());
    resumes(&lab.a, target, seconds(2));
    assert!(a.show().queues.iter().any(|queue| queue.mode == "tap"));
}

#[test]
fn a_tap_that_somebody_made_is_used_and_stays_as_it_was() {
    let lab = Lab::new(Plan::default());
    lab.a.ip("tuntap add omni0 mode tap");
    lab.a.ip("addr add 10.7.0.1/24 dev omni0");
    lab.a.ip("link set omni0 mtu 1300 up");
    let before = (lab.a.mac("omni0"), lab.a.mtu("omni0"));
    let a = spec(&lab).start();
    let _b = lab.spec(Side::B).start();
    ping_all(&lab.a, Side::B.inner_v4().into(), "-s 1272 -M do");
    assert!(a.terminate().success());
    assert_eq!((lab.a.mac("omni0"), lab.a.mtu("omni0")), before);
    // Again, as a persistent tap is for.
    let _a = spec(&lab).start();
    resumes(&lab.a, Side::B.inner_v4().into(), seconds(5));
}

#[test]
fn an_interface_that_is_no_such_tap_is_refused_with_what_would_be() {
    for made in [
        "tuntap add omni0 mode tun",
        "link add omni0 type veth peer name far",
    ] {
        let lab = Lab::new(Plan::default());
        lab.a.ip(made);
        let mut node = spec(&lab).spawn();
        assert_eq!(node.wait_exit(seconds(5)).code(), Some(1));
        let log = node.log();
        assert!(log.contains("cannot open the tap omni0"), "{log}");
        assert!(log.contains("tuntap add omni0 mode tap"), "{log}");
    }
}
