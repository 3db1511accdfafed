//! The underlay changes under running nodes: gateways, links, MTU, and interfaces that vanish.

use std::net::IpAddr;
use std::time::Duration;

use crate::support::lab::{Lab, Plan, Side, Wire};
use crate::support::node::Node;
use crate::support::tools::{Background, ping, ping_all, reaches, resumes, unfragmented};
use crate::support::{seconds, wait_until};

/// How soon traffic flows again once it can.
const RESUMED: Duration = seconds(5);

fn inner_a() -> IpAddr {
    Side::A.inner_v4().into()
}

fn inner_b() -> IpAddr {
    Side::B.inner_v4().into()
}

/// The gateway gets another MAC address, as when another router takes over.
fn assert_gateway_is_followed(lab: &Lab, (a, _b): (&Node, &Node), gateway: &str) {
    let router = lab.middle.as_ref().expect("a router");
    ping_all(&lab.a, inner_b(), "");
    let path = format!("next_hop={gateway} mac={}", router.mac("ra"));
    assert!(a.log().contains(&path), "{path}");
    // A router that takes over says so (RFC 9568 s.8.1.2, s.8.2.2), or nobody would know for long.
    router.sysctl("ipv4/conf/ra/arp_notify", "1");
    router.sysctl("ipv6/conf/ra/ndisc_notify", "1");
    router.ip("link set ra address 02:00:00:00:00:fe");
    resumes(&lab.a, inner_b(), RESUMED);
    resumes(&lab.b, inner_a(), RESUMED);
    let path = format!("next_hop={gateway} mac=02:00:00:00:00:fe");
    assert!(a.log().contains(&path), "{path}");
}

/// A gateway that says nothing is heard when it asks for us, which it does once the peer speaks.
#[test]
fn a_gateway_that_changes_its_address_silently() {
    let lab = Lab::new(Plan {
        wire: Wire::Routed,
        ..Plan::default()
    });
    let (a, _b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    let router = lab.middle.as_ref().expect("a router");
    router.ip("link set ra address 02:00:00:00:00:fe");
    wait_until(
        "traffic flows by the gateway's new address",
        RESUMED,
        || {
            let from_b = reaches(&lab.b, inner_a());
            reaches(&lab.a, inner_b()) && from_b
        },
    );
    assert!(a.log().contains("mac=02:00:00:00:00:fe"), "{}", a.log());
}

#[test]
fn a_peer_behind_a_gateway_that_changes_its_address_over_ipv4() {
    let lab = Lab::new(Plan {
        wire: Wire::Routed,
        ..Plan::default()
    });
    let (a, b) = lab.start();
    assert_gateway_is_followed(&lab, (&a, &b), "192.0.2.254");
}

#[test]
fn a_peer_behind_a_gateway_that_changes_its_address_over_ipv6() {
    let lab = Lab::new(Plan {
        wire: Wire::Routed,
        ..Plan::default()
    });
    let (a, b) = lab.start_v6();
    assert_gateway_is_followed(&lab, (&a, &b), "2001:db8:0:a::fe");
}

#[test]
fn a_link_that_went_down_carries_again_once_it_is_up() {
    let lab = Lab::new(Plan::default());
    let (mut a, mut b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    let traffic = [
        Background::ping(&lab.a, inner_b()),
        Background::ping(&lab.b, inner_a()),
    ];
    lab.a.ip("link set ua down");
    wait_until("node a notices", seconds(2), || a.log().contains("is down"));
    // At one side the interface is down, at the other it has no carrier.
    let before = [a.cpu_time(), b.cpu_time()];
    std::thread::sleep(seconds(1));
    let spent = [a.cpu_time() - before[0], b.cpu_time() - before[1]];
    for spent in spent {
        assert!(
            spent < Duration::from_millis(200),
            "spinning while down: {spent:?}"
        );
    }
    assert!(!reaches(&lab.a, inner_b()), "the link is down");
    lab.a.ip("link set ua up");
    resumes(&lab.a, inner_b(), RESUMED);
    resumes(&lab.b, inner_a(), RESUMED);
    drop(traffic);
    assert!(a.is_running() && b.is_running());
    assert!(a.terminate().success() && b.terminate().success());
}

#[test]
fn a_deleted_access_port_ends_the_node_and_is_named() {
    let lab = Lab::new(Plan::default());
    let (mut a, b) = lab.start();
    b.established();
    lab.a.ip("link del omni0");
    assert_eq!(a.wait_exit(seconds(3)).code(), Some(1));
    let log = a.log();
    assert!(
        log.contains("interface omni0") && log.contains("was deleted"),
        "{log}"
    );
    let underlay = lab.a.link("ua").expect("the underlay");
    assert!(
        underlay["xdp"].is_null(),
        "a program stays behind: {underlay}"
    );
}

/// Sets the underlay's MTU and waits until the access ports have what it leaves.
fn set_mtu(lab: &Lab, underlay: u32, inner: u32) {
    lab.a.ip(&format!("link set ua mtu {underlay}"));
    lab.b.ip(&format!("link set ub mtu {underlay}"));
    for namespace in [&lab.a, &lab.b] {
        wait_until(&format!("omni0's MTU is {inner}"), seconds(3), || {
            namespace.mtu("omni0") == u64::from(inner)
        });
    }
}

/// Sets the underlay's MTU and asserts that full packets of what it leaves pass both ways.
fn assert_follows_mtu(lab: &Lab, underlay: u32, inner: u32) {
    set_mtu(lab, underlay, inner);
    ping_all(&lab.a, inner_b(), &unfragmented(inner_b(), inner));
    ping_all(&lab.b, inner_a(), &unfragmented(inner_a(), inner));
}

#[test]
fn the_access_port_follows_the_underlays_mtu_down_and_up() {
    let lab = Lab::new(Plan::default());
    let (_a, _b) = lab.start();
    ping_all(&lab.a, inner_b(), &unfragmented(inner_b(), 1426));
    assert_follows_mtu(&lab, 1400, 1326);
    assert_follows_mtu(&lab, 1500, 1426);
}

/// The first handshake announced less than what may be carried now: another one has to tell, and
/// handshakes keep a distance of 5 s and some jitter.
#[test]
fn the_access_port_follows_the_underlays_mtu_beyond_where_it_started() {
    let lab = Lab::new(Plan {
        mtu: 1400,
        ..Plan::default()
    });
    let (a, b) = lab.start();
    ping_all(&lab.a, inner_b(), &unfragmented(inner_b(), 1326));
    set_mtu(&lab, 1500, 1426);
    wait_until("full packets pass", seconds(7), || {
        let full = unfragmented(inner_b(), 1426);
        ping(&lab.a, inner_b(), &full).0 > 0
    });
    ping_all(&lab.b, inner_a(), &unfragmented(inner_a(), 1426));
    assert!(a.peer().state == "established" && b.peer().state == "established");
}
