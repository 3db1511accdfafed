//! A node's life: it idles without cost, stops without a trace, and comes back after a kill.

use std::net::IpAddr;
use std::time::Duration;

use crate::support::lab::{Lab, Plan, Side};
use crate::support::netns::Namespace;
use crate::support::node::NodeSpec;
use crate::support::tools::{ping_all, resumes};
use crate::support::{seconds, wait_until};

/// Octets of a chunk of packet memory.
const CHUNK: u64 = 4096;
/// Octets of a mebibyte.
const MIB: u64 = 1 << 20;

fn inner_a() -> IpAddr {
    Side::A.inner_v4().into()
}

fn inner_b() -> IpAddr {
    Side::B.inner_v4().into()
}

fn has_program(namespace: &Namespace, interface: &str) -> bool {
    let link = namespace.link(interface).expect("the interface");
    !link["xdp"].is_null()
}

#[test]
fn a_killed_node_leaves_no_program_and_takes_its_access_port_over() {
    let lab = Lab::new(Plan::xdp());
    let (a, b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    assert!(has_program(&lab.a, "ua"), "steering is by a program");
    let mac = lab.a.mac("omni0");
    a.kill();
    wait_until("no program is left", seconds(1), || {
        !has_program(&lab.a, "ua")
    });

    let mut a = lab.spec(Side::A).spawn();
    let took = a.ready();
    assert!(took < seconds(2), "ready after {took:?}");
    assert_eq!(lab.a.mac("omni0"), mac, "what others remember stays true");
    assert!(a.log().contains("taken_over=true"), "{}", a.log());
    resumes(&lab.a, inner_b(), seconds(2));
    resumes(&lab.b, inner_a(), seconds(2));
    assert!(a.terminate().success() && b.terminate().success());
    assert!(
        lab.a.link("omni0").is_none(),
        "taken over is as good as made"
    );
}

/// Data that the killed node cannot read tells nobody; its own first words do, or the timers.
#[test]
fn a_killed_node_is_reached_again_by_its_peer() {
    let lab = Lab::new(Plan::default());
    let (a, _b) = lab.start();
    ping_all(&lab.b, inner_a(), "");
    a.kill();
    let _a = lab.spec(Side::A).start();
    resumes(&lab.b, inner_a(), seconds(20));
}

#[test]
fn a_stopped_node_leaves_everything_as_it_was() {
    let lab = Lab::new(Plan::xdp());
    let before = lab.a.inventory();
    let (a, b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    let socket = lab.spec(Side::A).socket();
    assert!(socket.exists() && lab.a.link("omni0-xdp").is_some());
    assert_eq!(a.terminate().code(), Some(0));
    assert_eq!(lab.a.inventory(), before);
    assert!(!socket.exists(), "the control socket is still there");
    // The other node stops as well while its peer is gone.
    assert_eq!(b.terminate().code(), Some(0));
}

#[test]
fn an_idle_node_costs_next_to_nothing() {
    let lab = Lab::new(Plan::default());
    let (a, b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    std::thread::sleep(Duration::from_millis(500));
    let before = [a.cpu_time(), b.cpu_time()];
    std::thread::sleep(seconds(3));
    for (node, before) in [&a, &b].into_iter().zip(before) {
        let spent = node.cpu_time() - before;
        assert!(
            spent < Duration::from_millis(30),
            "{spent:?} of 3 s, a hundredth is allowed"
        );
        let packets = node.show().umem.frames_total * CHUNK;
        let rest = node.resident().saturating_sub(packets);
        assert!(
            rest < 20 * MIB,
            "{rest} octets beside {packets} of packet memory"
        );
    }
}

#[test]
fn every_way_of_polling_carries_traffic() {
    let lab = Lab::new(Plan::default());
    for poll in ["sleep", "spin"] {
        let start = |side| {
            NodeSpec {
                poll: poll.to_owned(),
                ..lab.spec(side)
            }
            .start()
        };
        let (a, b) = (start(Side::A), start(Side::B));
        ping_all(&lab.a, inner_b(), "");
        ping_all(&lab.b, inner_a(), "");
        let spent = a.cpu_time_over(Duration::from_millis(500));
        // Far less than a core, for others may want it too.
        let spins = spent > Duration::from_millis(40);
        assert_eq!(spins, poll == "spin", "{poll}: {spent:?} in 500 ms");
        assert!(a.terminate().success() && b.terminate().success());
    }
}
