//! Ways as the kernel would choose them: several addresses on the underlay, addresses that go,
//! routes that are replaced, interfaces that are renamed, and nodes that move.

use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use omni_wire::header::MessageType;

use crate::support::lab::{Lab, Plan, Side, Wire};
use crate::support::node::{Node, NodeSpec};
use crate::support::paths::{Family, Message, Wiretap, endpoint, second_router};
use crate::support::tools::{Background, ping_all, resumes};
use crate::support::{seconds, wait_until};

/// How soon traffic flows again once it can.
const RESUMED: Duration = seconds(5);
/// Echo requests of [`loss_while`], and the pause between two in seconds.
const REQUESTS: u32 = 300;
const PAUSE: &str = "0.01";
/// How many of them may be lost while the way changes: half a second's.
const LOST_MAX: u32 = 50;

fn inner_a() -> IpAddr {
    Side::A.inner_v4().into()
}

fn inner_b() -> IpAddr {
    Side::B.inner_v4().into()
}

fn bridged() -> Lab {
    Lab::new(Plan {
        wire: Wire::Bridged,
        ..Plan::default()
    })
}

fn routed() -> Lab {
    Lab::new(Plan {
        wire: Wire::Routed,
        ..Plan::default()
    })
}

fn spec(lab: &Lab, side: Side, family: Family) -> NodeSpec {
    match family {
        Family::V4 => lab.spec(side),
        Family::V6 => lab.spec_v6(side),
    }
}

fn start(lab: &Lab, family: Family) -> (Node, Node) {
    (
        spec(lab, Side::A, family).start(),
        spec(lab, Side::B, family).start(),
    )
}

/// Gives node b's interface another address. The first one's end shall not be its end.
fn add_address(lab: &Lab, family: Family, address: IpAddr) {
    lab.b.sysctl("ipv4/conf/ub/promote_secondaries", "1");
    let address = family.with_prefix(address);
    lab.b.ip(&format!("addr add {address} dev ub"));
}

fn remove_address(lab: &Lab, family: Family, address: IpAddr) {
    let address = family.with_prefix(address);
    lab.b.ip(&format!("addr del {address} dev ub"));
}

/// Where node a sees its peer.
fn seen_at(a: &Node) -> Option<String> {
    a.peer().endpoint
}

fn await_peer_at(a: &Node, address: IpAddr) {
    let wanted = endpoint(address).to_string();
    wait_until(&format!("the peer is seen at {wanted}"), RESUMED, || {
        seen_at(a).as_ref() == Some(&wanted)
    });
}

fn sources(messages: &[Message]) -> Vec<IpAddr> {
    let mut sources: Vec<IpAddr> = messages.iter().map(|message| message.source).collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

/// Of node b's addresses, node a knows one that b's kernel would not choose; b does not know where
/// a is.
fn assert_address_asked_answers(family: Family) {
    let lab = bridged();
    let (first, second) = (
        family.outer(&lab, Side::B),
        family.beside(&lab, Side::B, 12),
    );
    add_address(&lab, family, second);
    let chosen = lab
        .b
        .ip(&format!("route get {}", family.outer(&lab, Side::A)));
    let asked = if chosen.contains(&format!("src {first} ")) {
        second
    } else {
        first
    };
    let nowhere = match family {
        Family::V4 => "203.0.113.1:51820",
        Family::V6 => "[2001:db8:ffff::1]:51820",
    };
    let _b = NodeSpec {
        endpoint: nowhere.parse().expect("an endpoint"),
        ..spec(&lab, Side::B, family)
    }
    .start();
    let from_b = Wiretap::on(lab.middle.as_ref().expect("a bridge"), "rb");
    let a = NodeSpec {
        endpoint: endpoint(asked),
        ..spec(&lab, Side::A, family)
    }
    .start();
    resumes(&lab.a, inner_b(), RESUMED);
    ping_all(&lab.b, inner_a(), "");
    let heard = from_b.heard();
    for kind in [MessageType::Response, MessageType::Data] {
        assert!(heard.iter().any(|message| message.kind == kind), "{kind:?}");
    }
    assert_eq!(sources(&heard), [asked], "{heard:?}");
    assert_eq!(seen_at(&a), Some(endpoint(asked).to_string()));
}

#[test]
fn who_asks_one_of_several_ipv4_addresses_is_answered_from_it() {
    assert_address_asked_answers(Family::V4);
}

#[test]
fn who_asks_one_of_several_ipv6_addresses_is_answered_from_it() {
    assert_address_asked_answers(Family::V6);
}

/// As a connected socket's: whatever the kernel would choose now.
#[test]
fn an_address_that_comes_later_moves_nobody() {
    let lab = bridged();
    let (first, second) = (
        Family::V4.outer(&lab, Side::B),
        Family::V4.beside(&lab, Side::B, 12),
    );
    let (a, _b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    let from_b = Wiretap::on(lab.middle.as_ref().expect("a bridge"), "rb");
    add_address(&lab, Family::V4, second);
    let route = "route replace 192.0.2.0/24 dev ub proto kernel scope link";
    lab.b.ip(&format!("{route} src {second}"));
    let chosen = lab.b.ip("route get 192.0.2.1");
    assert!(
        chosen.contains(&format!("src {second}")),
        "the kernel chooses the other: {chosen}"
    );
    ping_all(&lab.a, inner_b(), "");
    ping_all(&lab.b, inner_a(), "");
    let heard = from_b.heard();
    assert!(!heard.is_empty(), "the wire is tapped");
    assert_eq!(sources(&heard), [first], "{heard:?}");
    assert_eq!(seen_at(&a), Some(endpoint(first).to_string()));
}

fn assert_lost_address_is_replaced(family: Family) {
    let lab = bridged();
    let second = family.beside(&lab, Side::B, 12);
    let (a, _b) = start(&lab, family);
    add_address(&lab, family, second);
    ping_all(&lab.a, inner_b(), "");
    let _traffic = [
        Background::ping(&lab.a, inner_b()),
        Background::ping(&lab.b, inner_a()),
    ];
    remove_address(&lab, family, family.outer(&lab, Side::B));
    resumes(&lab.a, inner_b(), RESUMED);
    resumes(&lab.b, inner_a(), RESUMED);
    await_peer_at(&a, second);
}

#[test]
fn an_ipv4_address_taken_away_under_traffic_is_replaced_by_another() {
    assert_lost_address_is_replaced(Family::V4);
}

#[test]
fn an_ipv6_address_taken_away_under_traffic_is_replaced_by_another() {
    assert_lost_address_is_replaced(Family::V6);
}

/// Sends echo requests from node a to node b, does `change` under way, and says how many were
/// not answered.
fn loss_while(lab: &Lab, change: impl FnOnce()) -> u32 {
    let target = inner_b().to_string();
    let mut command = lab.a.command("ping");
    let count = REQUESTS.to_string();
    command.args(["-n", "-q", "-W", "1", "-c", &count, "-i", PAUSE, &target]);
    let running = command.stdout(Stdio::piped()).spawn().expect("ping");
    let before = lab.a.count("omni0", "tx", "packets");
    wait_until("requests are under way", seconds(3), || {
        lab.a.count("omni0", "tx", "packets") > before + u64::from(REQUESTS / 10)
    });
    change();
    let output = running.wait_with_output().expect("ping ends by itself");
    let text = String::from_utf8_lossy(&output.stdout);
    let received = text.lines().find_map(|line| {
        let (before, _) = line.split_once(" received")?;
        before.rsplit(' ').next()?.parse::<u32>().ok()
    });
    let received = received.unwrap_or_else(|| panic!("ping: {text}"));
    REQUESTS.saturating_sub(received)
}

fn assert_replaced_route_is_followed(family: Family) {
    let lab = routed();
    let other_router = second_router(&lab);
    let (a, _b) = start(&lab, family);
    let (ip, first) = (family.option(), family.beside(&lab, Side::A, 254));
    let second = family.beside(&lab, Side::A, 253);
    resumes(&lab.a, inner_b(), RESUMED);
    let by_second = Wiretap::on(&other_router, "ga");

    let lost = loss_while(&lab, || {
        lab.a
            .ip(&format!("{ip} route replace default via {second}"));
    });
    assert!(lost <= LOST_MAX, "{lost} of {REQUESTS} lost");
    assert!(a.log().contains(&format!("next_hop={second}")));
    let data = |message: &Message| message.kind == MessageType::Data;
    assert!(by_second.heard().iter().any(data), "nothing came by it");

    // The route goes, and one that was worse is the best now.
    lab.a.ip(&format!(
        "{ip} route add default via {first} metric 1000000"
    ));
    let lost = loss_while(&lab, || {
        lab.a.ip(&format!("{ip} route del default via {second}"));
    });
    assert!(lost <= LOST_MAX, "{lost} of {REQUESTS} lost");
    by_second.heard();
    ping_all(&lab.a, inner_b(), "");
    let late = by_second.heard();
    assert!(!late.iter().any(data), "still by the other: {late:?}");
}

#[test]
fn an_ipv4_route_replaced_under_traffic_is_followed() {
    assert_replaced_route_is_followed(Family::V4);
}

#[test]
fn an_ipv6_route_replaced_under_traffic_is_followed() {
    assert_replaced_route_is_followed(Family::V6);
}

#[test]
fn interfaces_renamed_under_traffic_carry_on_under_their_names() {
    let lab = Lab::new(Plan::default());
    let (mut a, _b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    let traffic = [
        Background::ping(&lab.a, inner_b()),
        Background::ping(&lab.b, inner_a()),
    ];
    for (from, to) in [("ua", "wan0"), ("omni0", "lan0")] {
        lab.a.ip(&format!("link set {from} down"));
        lab.a.ip(&format!("link set {from} name {to}"));
        lab.a.ip(&format!("link set {to} up"));
        resumes(&lab.a, inner_b(), RESUMED);
        resumes(&lab.b, inner_a(), RESUMED);
        let renamed = format!("interface renamed from=\"{from}\" to=\"{to}\"");
        assert!(a.log().contains(&renamed), "{renamed}");
    }
    drop(traffic);
    assert!(a.is_running());
    let show = a.show();
    let mut names: Vec<&str> = show
        .queues
        .iter()
        .map(|queue| queue.port.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["lan0", "wan0"]);
    let owners = || show.fdb.iter().map(|entry| entry.owner.as_str());
    assert!(
        owners().any(|owner| owner == "local:lan0"),
        "{:?}",
        show.fdb
    );
    assert!(a.terminate().success());
    assert!(
        lab.a.link("lan0").is_none(),
        "made by the node, and removed"
    );
    let underlay = lab.a.link("wan0").expect("the underlay");
    assert!(underlay["xdp"].is_null(), "a program stays: {underlay}");
}

/// Node b moves to another network: another address, and another router's address.
fn assert_move_is_followed(family: Family) {
    let lab = routed();
    let (a, _b) = start(&lab, family);
    ping_all(&lab.a, inner_b(), "");
    let router = lab.middle.as_ref().expect("a router");
    let (moved, gateway): (IpAddr, IpAddr) = match family {
        Family::V4 => ([203, 0, 113, 2].into(), [203, 0, 113, 254].into()),
        Family::V6 => (
            [0x2001, 0xdb8, 0, 0xc, 0, 0, 0, 2].into(),
            [0x2001, 0xdb8, 0, 0xc, 0, 0, 0, 0xfe].into(),
        ),
    };
    let (ip, at_router) = (family.option(), family.with_prefix(gateway));
    router.ip(&format!("addr add {at_router} dev rb"));
    add_address(&lab, family, moved);
    lab.b
        .ip(&format!("{ip} route replace default via {gateway}"));
    remove_address(&lab, family, family.outer(&lab, Side::B));
    resumes(&lab.b, inner_a(), RESUMED);
    await_peer_at(&a, moved);
    resumes(&lab.a, inner_b(), RESUMED);
}

#[test]
fn a_node_that_moves_to_another_ipv4_network_is_followed() {
    assert_move_is_followed(Family::V4);
}

#[test]
fn a_node_that_moves_to_another_ipv6_network_is_followed() {
    assert_move_is_followed(Family::V6);
}

#[test]
fn a_node_that_comes_back_by_the_other_family_is_followed() {
    let lab = Lab::new(Plan::default());
    let (a, b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    assert!(b.terminate().success());
    remove_address(&lab, Family::V4, Family::V4.outer(&lab, Side::B));
    let _b = lab.spec_v6(Side::B).start();
    resumes(&lab.b, inner_a(), RESUMED);
    await_peer_at(&a, Family::V6.outer(&lab, Side::B));
    resumes(&lab.a, inner_b(), RESUMED);
    wait_until("room for the longer headers", RESUMED, || {
        lab.a.mtu("omni0") == 1406
    });
}
