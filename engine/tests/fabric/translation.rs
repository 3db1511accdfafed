//! Nodes behind address translation.

use std::net::{Ipv4Addr, SocketAddr};

use omni_membership::Grants;

use crate::support::lab::{Lab, PORT, Plan, Side, Wire};
use crate::support::netns::Namespace;
use crate::support::nucleus::{
    MEET, NUCLEUS_PORT, Nucleus, certify, nucleus_of, wait_until_some, yaml,
};
use crate::support::tools::{ping_all, resumes};

/// Where everybody finds the router between the translators, and the Nucleus on it.
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// Where a translator is seen from outside.
fn outside(side: Side) -> Ipv4Addr {
    match side {
        Side::A => Ipv4Addr::new(203, 0, 113, 1),
        Side::B => Ipv4Addr::new(203, 0, 113, 5),
    }
}

/// Puts a translator between a node and the router, which then knows no way to the node. What
/// comes from outside passes only as an answer (RFC 4787: address and port-dependent filtering).
fn translate(lab: &Lab, side: Side) -> Namespace {
    let router = lab.middle.as_ref().expect("a router");
    let name = side.name();
    let translator = Namespace::new(&format!("n{name}"));
    let gateway = match side {
        Side::A => "192.0.2.254",
        Side::B => "198.51.100.254",
    };
    let here = outside(side);
    let there = Ipv4Addr::from(u32::from(here) + 1);
    let own = translator.name();
    router.ip(&format!("link set r{name} netns {own}"));
    translator.ip(&format!("addr add {gateway}/24 dev r{name}"));
    translator.ip(&format!("link set r{name} up"));
    router.ip(&format!(
        "link add i{name} type veth peer name o{name} netns {own}"
    ));
    router.ip(&format!("addr add {there}/30 dev i{name}"));
    router.ip(&format!("link set i{name} up"));
    translator.ip(&format!("addr add {here}/30 dev o{name}"));
    translator.ip(&format!("link set o{name} up"));
    translator.ip(&format!("route add default via {there}"));
    translator.sysctl("ipv4/ip_forward", "1");
    let rules = format!(
        "table ip t {{ \
           chain out {{ type nat hook postrouting priority srcnat; oifname o{name} masquerade; }}; \
           chain in {{ type filter hook input priority filter; iifname o{name} drop; }}; }}"
    );
    let done = translator.command("nft").arg(&rules).output().expect("nft");
    assert!(done.status.success(), "{done:?}");
    translator
}

#[test]
fn nodes_that_are_both_behind_address_translation_meet() {
    let lab = Lab::new(Plan {
        wire: Wire::Routed,
        ..Plan::default()
    });
    let _translators = [Side::A, Side::B].map(|side| translate(&lab, side));
    let router = lab.middle.as_ref().expect("a router");
    for side in [Side::A, Side::B] {
        certify(&lab, side, Grants::default());
    }
    let at: SocketAddr = (ROUTER, NUCLEUS_PORT).into();
    let _nucleus = Nucleus::start_at(&lab, router, at);
    let start = |side| lab.spec(side).start_with(&yaml(&lab, side, at));
    let (a, b) = (start(Side::A), start(Side::B));
    for (node, side) in [(&a, Side::A), (&b, Side::B)] {
        let seen = wait_until_some(|| nucleus_of(node).seen_at);
        assert_eq!(seen, SocketAddr::from((outside(side), PORT)).to_string());
    }
    let took = resumes(&lab.a, Side::B.inner_v4().into(), MEET);
    println!("met after {took:.0?}");
    for (node, side) in [(&a, Side::B), (&b, Side::A)] {
        let at = node.peer().endpoint;
        let expected = SocketAddr::from((outside(side), PORT)).to_string();
        assert_eq!(at, Some(expected), "it is spoken to through its translator");
    }
    ping_all(&lab.b, Side::A.inner_v4().into(), "-i 0.05");
}
