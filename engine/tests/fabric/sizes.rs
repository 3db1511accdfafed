//! Packets that do not fit: hosts are told by ICMP, and a way that carries less than its interfaces
//! say is found out by itself.

use std::net::IpAddr;
use std::time::Duration;

use crate::support::hosts::{ETH, Segment, borrowing};
use crate::support::lab::{Lab, Plan, Side, Wire};
use crate::support::ledger::assert_memory_idle;
use crate::support::tools::{Background, iperf, ping, ping_all, tcp_rate, unfragmented};
use crate::support::{seconds, wait_until};

/// MTU of the access ports that the engine makes here.
const MTU: u32 = 1426;
/// MTU of a host that does not know that.
const HOST_MTU: u32 = 1500;
/// What the router between the nodes carries, and what that leaves for hosts.
const NARROW: u32 = 1400;
const NARROW_INNER: u32 = NARROW - 74;
/// How exact the search for it is, in octets.
const PRECISION: u32 = 8;

fn inner_b() -> [IpAddr; 2] {
    [Side::B.inner_v4().into(), Side::B.inner_v6().into()]
}

/// The MTU that `ping` was told of, by whatever words.
fn told(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("mtu")?;
    let digits = rest.trim_start_matches([' ', '=', ':']);
    let end = digits.find(|c: char| !c.is_ascii_digit());
    digits[..end.unwrap_or(digits.len())].parse().ok()
}

#[test]
fn hosts_with_a_larger_mtu_are_told_what_fits() {
    let lab = Lab::new(Plan::default());
    let segment = Segment::new(&lab.a, HOST_MTU);
    let host = segment.host("c", 11);
    let (a, b) = (borrowing(&lab, Side::A).start(), lab.spec(Side::B).start());
    for target in inner_b() {
        ping_all(&host.namespace, target, "");
        let before = a.show().drops;
        let (received, text) = ping(&host.namespace, target, &unfragmented(target, HOST_MTU));
        assert_eq!((received, told(&text)), (0, Some(MTU)), "{text}");
        let words = if target.is_ipv4() {
            "Frag needed and DF set"
        } else {
            "Packet too big"
        };
        assert!(text.contains(words), "{text}");
        let route = host.namespace.ip(&format!("route get {target}"));
        assert!(route.contains(&format!("mtu {MTU}")), "{route}");
        let dropped = |drops: &std::collections::BTreeMap<String, u64>| {
            drops.get("inner_too_big").copied().unwrap_or(0)
        };
        assert!(dropped(&a.show().drops) > dropped(&before));
        ping_all(&host.namespace, target, &unfragmented(target, MTU));
        // Now that it knows, it fragments what may be.
        ping_all(&host.namespace, target, "-M dont -s 3000");
        let rate = tcp_rate(&iperf(&host.namespace, (&lab.b, target), "-t 1"));
        assert!(rate > 100.0, "{rate} Mb/s to {target}");
    }
    assert_memory_idle(&a, &b);
}

/// Without being told before: TCP runs into it.
#[test]
fn tcp_of_a_host_with_a_larger_mtu_finds_what_fits() {
    let lab = Lab::new(Plan::default());
    let segment = Segment::new(&lab.a, HOST_MTU);
    let host = segment.host("c", 11);
    let (_a, _b) = (borrowing(&lab, Side::A).start(), lab.spec(Side::B).start());
    // The other side's segments are as long as its own MTU allows; this one's are not.
    lab.b.ip("route add 10.7.0.11/32 dev omni0 advmss 1460");
    ping_all(&host.namespace, inner_b()[0], "");
    let rate = tcp_rate(&iperf(&host.namespace, (&lab.b, inner_b()[0]), "-t 2"));
    assert!(rate > 50.0, "{rate} Mb/s");
    host.namespace.ip(&format!("route show dev {ETH}"));
}

fn narrowed() -> Lab {
    Lab::new(Plan {
        wire: Wire::Routed,
        ..Plan::default()
    })
}

/// Lets less pass between the nodes, both ways.
fn narrow(lab: &Lab) {
    let router = lab.middle.as_ref().expect("a router");
    router.ip(&format!("link set rb mtu {NARROW}"));
}

/// Waits until a host is told that its longest packets do not fit, and less how much fits.
fn await_told(lab: &Lab, target: IpAddr, within: Duration) {
    let mut found = None;
    let took = wait_until("what fits is known", within, || {
        let (_, text) = ping(&lab.a, target, &unfragmented(target, MTU));
        found = told(&text);
        found.is_some()
    });
    let found = found.unwrap_or(0);
    println!("{target}: {found} octets are known to fit after {took:.1?}");
    let expected = NARROW_INNER - PRECISION..=NARROW_INNER;
    assert!(expected.contains(&found), "{found}");
    ping_all(&lab.a, target, &unfragmented(target, found));
}

#[test]
fn a_way_that_carries_less_than_its_interfaces_is_found_out() {
    let lab = narrowed();
    narrow(&lab);
    let (a, b) = lab.start();
    let [v4, v6] = inner_b();
    ping_all(&lab.a, v4, "");
    await_told(&lab, v4, seconds(20));
    for target in [v4, v6] {
        for direction in ["", "-R"] {
            let report = iperf(&lab.a, (&lab.b, target), &format!("-t 2 {direction}"));
            let rate = tcp_rate(&report);
            assert!(rate > 50.0, "{rate} Mb/s to {target} {direction}");
        }
    }
    assert_memory_idle(&a, &b);
}

#[test]
fn a_way_that_narrows_under_traffic_is_found_out() {
    let lab = narrowed();
    let (_a, _b) = lab.start();
    let [target, _] = inner_b();
    ping_all(&lab.a, target, &unfragmented(target, MTU));
    let _traffic = Background::ping(&lab.a, target);
    std::thread::sleep(seconds(5));
    ping_all(&lab.a, target, &unfragmented(target, MTU));
    narrow(&lab);
    await_told(&lab, target, seconds(60));
    for direction in ["", "-R"] {
        let report = iperf(&lab.a, (&lab.b, target), &format!("-t 2 {direction}"));
        let rate = tcp_rate(&report);
        assert!(rate > 50.0, "{rate} Mb/s {direction}");
    }
}
