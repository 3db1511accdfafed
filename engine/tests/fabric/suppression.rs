//! Questions for addresses: answered where they are asked once the answer is known, asked of the
//! host itself where that is what matters, and never answered for somebody who is gone.
//!
//! Both sides are the kernel's: it asks, and it judges the answers.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use omni_engine::show::Show;

use crate::support::hosts::{ETH, Segment, borrowing, neighbour};
use crate::support::lab::{Lab, Plan, Side, public_key};
use crate::support::node::Node;
use crate::support::packet::PacketSocket;
use crate::support::questions::{Resolution, arping, ndisc6};
use crate::support::tools::{ping_all, reaches};
use crate::support::{seconds, wait_until};

/// An address that nobody has.
const NOBODY: [&str; 2] = ["10.7.0.99", "fd07::99"];

fn inner_b() -> [IpAddr; 2] {
    [Side::B.inner_v4().into(), Side::B.inner_v6().into()]
}

/// Frames that a node sealed for its only peer.
fn sealed(node: &Node) -> u64 {
    node.peer().tx_frames
}

/// Whether a node knows that `ip` is at `mac` behind an owner.
fn knows(show: &Show, ip: IpAddr, mac: &str, owner: &str) -> bool {
    let mut known = show.neighbors.iter().filter(|n| n.ip == ip.to_string());
    known.any(|n| n.mac == mac && n.owner == owner)
}

/// Starts both nodes and lets each host's addresses become known to both. The kernels do not poll
/// whom they know meanwhile.
fn warmed(lab: &Lab) -> (Node, Node) {
    let (a, b) = lab.start();
    for namespace in [&lab.a, &lab.b] {
        for family in ["ipv4", "ipv6"] {
            let pause = format!("{family}/neigh/omni0/delay_first_probe_time");
            namespace.sysctl(&pause, "60");
        }
    }
    for target in inner_b() {
        ping_all(&lab.a, target, "");
    }
    let owner = public_key(Side::B).to_string();
    let mac = lab.b.mac("omni0");
    wait_until("a knows b's host", seconds(3), || {
        let show = a.show();
        inner_b().iter().all(|&ip| knows(&show, ip, &mac, &owner))
    });
    settle(&[&a, &b]);
    (a, b)
}

/// Waits until nobody has sent a frame for a while.
fn settle(nodes: &[&Node]) {
    let count = || nodes.iter().map(|node| sealed(node)).collect::<Vec<_>>();
    let mut before = count();
    wait_until("hosts come to rest", seconds(10), || {
        thread::sleep(Duration::from_millis(300));
        let now = count();
        std::mem::replace(&mut before, now.clone()) == now
    });
}

#[test]
fn arp_requests_for_a_remote_host_are_answered_without_the_fabric() {
    let lab = Lab::new(Plan::default());
    let (a, b) = warmed(&lab);
    // Hosts tell their IPv6 groups whenever they are asked, and are to say nothing else here.
    for namespace in [&lab.a, &lab.b] {
        namespace.sysctl("ipv6/conf/omni0/disable_ipv6", "1");
    }
    settle(&[&a, &b]);
    let target = Side::B.inner_v4().into();
    let at_b = PacketSocket::open(&lab.b, "omni0");
    let before = [&a, &b].map(sealed);
    let asked = arping(&lab.a, "omni0", target, "-b -c 3");
    assert_eq!(asked.answers, 3, "{asked:?}");
    let mac = lab.b.mac("omni0").to_uppercase();
    assert_eq!(asked.text.matches(&mac).count(), 3, "{mac}: {asked:?}");
    assert_eq!(Resolution::heard(&at_b).count(), 0);
    assert_eq!([&a, &b].map(sealed), before, "frames crossed the fabric");

    // The same by the kernel: only the echo request and its reply cross.
    lab.a.ip("neigh flush dev omni0");
    assert!(reaches(&lab.a, target));
    assert_eq!(Resolution::heard(&at_b).count(), 0);
    let (known, _) = neighbour(&lab.a, "omni0", target).expect("a neighbour");
    assert_eq!(known, lab.b.mac("omni0"));
    assert_eq!([&a, &b].map(sealed), before.map(|frames| frames + 1));
}

#[test]
fn neighbour_solicitations_for_a_remote_host_are_answered_without_the_fabric() {
    let lab = Lab::new(Plan::default());
    let (a, _b) = warmed(&lab);
    let target = Side::B.inner_v6().into();
    let at_b = PacketSocket::open(&lab.b, "omni0");
    let before = a.show().switch.nd_answered;
    for _ in 0..3 {
        let asked = ndisc6(&lab.a, "omni0", target);
        assert_eq!((asked.succeeded, asked.answers), (true, 1), "{asked:?}");
        let mac = asked.text.trim().to_lowercase();
        assert_eq!(mac, lab.b.mac("omni0"));
    }
    assert_eq!(Resolution::heard(&at_b).count(), 0);
    assert!(a.show().switch.nd_answered >= before + 3);

    // The kernel takes the answer, and what it has is what it reaches.
    lab.a.ip("-6 neigh flush dev omni0");
    assert!(reaches(&lab.a, target));
    assert_eq!(Resolution::heard(&at_b).count(), 0);
    let (known, state) = neighbour(&lab.a, "omni0", target).expect("a neighbour");
    assert_eq!(known, lab.b.mac("omni0"));
    assert_eq!(state, "REACHABLE", "the answer counts as solicited");
    ping_all(&lab.a, target, "");
}

/// What is said of a router must not unmake it: hosts drop a default router that says of itself
/// that it is none (RFC 4861 s.7.2.5). They know it by its link-local address.
#[test]
fn a_remote_router_is_a_router_in_every_answer() {
    const ROUTER: u8 = 0x80;
    let lab = Lab::new(Plan::default());
    lab.b.sysctl("ipv6/conf/all/forwarding", "1");
    let (_a, _b) = warmed(&lab);
    let shown = lab.b.ip("-6 -o addr show dev omni0 scope link");
    let words = shown.split(char::is_whitespace);
    let address = words.filter_map(|word| word.strip_suffix("/64")).next();
    let address: IpAddr = address.expect("link-local").parse().expect("an address");
    let at_a = PacketSocket::open(&lab.a, "omni0");
    for _ in 0..3 {
        assert_eq!(ndisc6(&lab.a, "omni0", address).answers, 1);
    }
    let flags = Resolution::heard(&at_a).advertised_flags();
    assert!(flags.len() >= 3, "{flags:x?}");
    assert!(flags.iter().all(|flags| flags & ROUTER != 0), "{flags:x?}");
}

#[test]
fn unicast_polls_reach_the_host_itself() {
    let lab = Lab::new(Plan::default());
    let (_a, _b) = warmed(&lab);
    let [v4, v6] = inner_b();
    let at_b = PacketSocket::open(&lab.b, "omni0");
    // The first is a broadcast; what follows goes to who answered.
    let asked = arping(&lab.a, "omni0", v4, "-c 3");
    assert_eq!(asked.answers, 3, "{asked:?}");
    assert_eq!(Resolution::heard(&at_b).unicast_requests(), 2);

    // The kernel polls whom it was not sure of for a while.
    for target in [v4, v6] {
        assert!(reaches(&lab.a, target));
        let entry = format!("neigh change {target} dev omni0 nud probe");
        at_b.drain(Duration::from_millis(100));
        let mac = lab.b.mac("omni0");
        lab.a
            .ip(&entry.replace("dev", &format!("lladdr {mac} dev")));
        wait_until("the poll is answered", seconds(3), || {
            neighbour(&lab.a, "omni0", target).is_some_and(|(_, state)| state == "REACHABLE")
        });
        let heard = Resolution::heard(&at_b);
        let polls = heard.unicast_requests() + heard.unicast_solicitations();
        assert!(polls >= 1, "{target}: {heard:?}");
    }
}

#[test]
fn a_second_host_with_the_same_addresses_is_told() {
    let lab = Lab::new(Plan::default());
    let (_a, _b) = warmed(&lab);
    let [v4, v6] = inner_b();
    let [free_v4, free_v6] = NOBODY.map(|address| address.parse::<IpAddr>().expect("an address"));
    let taken = arping(&lab.a, "omni0", v4, "-D -c 2 -w 2");
    assert!(!taken.succeeded && taken.answers > 0, "{taken:?}");
    let free = arping(&lab.a, "omni0", free_v4, "-D -c 2 -w 2");
    assert!(free.succeeded && free.answers == 0, "{free:?}");

    lab.a.sysctl("ipv6/conf/omni0/accept_dad", "1");
    for address in [v6, free_v6] {
        lab.a.ip(&format!("addr add {address}/64 dev omni0"));
    }
    let state = |address: IpAddr| lab.a.ip(&format!("-6 addr show dev omni0 to {address}"));
    wait_until("both are decided on", seconds(5), || {
        let decided = |text: &str| !text.contains("tentative") || text.contains("dadfailed");
        [v6, free_v6]
            .iter()
            .all(|&address| decided(&state(address)))
    });
    assert!(state(v6).contains("dadfailed"), "{}", state(v6));
    assert!(!state(free_v6).contains("dadfailed"), "{}", state(free_v6));
    ping_all(&lab.b, free_v6, "");
    // Who had it first was not disturbed.
    lab.a.ip(&format!("addr del {v6}/64 dev omni0"));
    for target in inner_b() {
        ping_all(&lab.a, target, "");
    }
}

/// Nobody has spoken yet, so the question has to reach the host.
#[test]
fn a_second_host_is_told_also_where_nothing_was_known() {
    let lab = Lab::new(Plan::default());
    let (a, _b) = lab.start();
    let taken = arping(&lab.a, "omni0", Side::B.inner_v4().into(), "-D -c 3 -w 3");
    assert!(!taken.succeeded && taken.answers > 0, "{taken:?}");
    a.established();
    lab.a.sysctl("ipv6/conf/omni0/accept_dad", "1");
    let address = Side::B.inner_v6();
    lab.a.ip(&format!("addr add {address}/64 dev omni0"));
    wait_until("the address is refused", seconds(5), || {
        let shown = lab.a.ip(&format!("-6 addr show dev omni0 to {address}"));
        shown.contains("dadfailed")
    });
}

/// A host whose interface was replaced and that asks only for its neighbour: nothing of that
/// leaves its segment, and its own node's word is all that others hear.
#[test]
fn hosts_elsewhere_hear_that_an_address_is_at_another_mac_address() {
    let lab = Lab::new(Plan::default());
    let segment = Segment::new(&lab.b, 1426);
    let (c, d) = (segment.host("c", 11), segment.host("d", 12));
    let (_a, _b) = (lab.spec(Side::A).start(), borrowing(&lab, Side::B).start());
    for target in [c.v4(), c.v6()] {
        ping_all(&lab.a, target, "");
    }
    c.namespace
        .ip(&format!("link set {ETH} address 02:00:00:00:00:77"));
    let mac = c.mac();
    assert_eq!(mac, "02:00:00:00:00:77");
    let at_a = |ip| neighbour(&lab.a, "omni0", ip).map(|(mac, _)| mac);
    for ip in [c.v4(), c.v6()] {
        assert_ne!(at_a(ip).as_ref(), Some(&mac), "nobody has said so");
    }
    for (from, to) in [(c.v4(), d.v4()), (c.v6(), d.v6())] {
        c.namespace.ip(&format!("neigh flush dev {ETH}"));
        assert!(reaches(&c.namespace, to), "{from} and {to} are neighbours");
        wait_until("a's kernel has the new place", seconds(5), || {
            at_a(from).as_ref() == Some(&mac)
        });
    }
}
