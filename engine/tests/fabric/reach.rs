//! Hosts reach each other: both families over both families, with packets of every allowed size.

use std::net::IpAddr;

use crate::support::lab::{Lab, Plan, Side};
use crate::support::ledger::{Ledger, assert_memory_idle};
use crate::support::node::Node;
use crate::support::tools::{iperf, ping, ping_all, tcp_rate, unfragmented};

/// Node b's addresses in the fabric.
fn inner_b() -> [IpAddr; 2] {
    [Side::B.inner_v4().into(), Side::B.inner_v6().into()]
}

/// From the first packet on, and up to the longest that the access port takes.
fn assert_hosts_reach_each_other(lab: &Lab, (a, b): (&Node, &Node), mtu: u32) {
    assert_eq!(
        (lab.a.mtu("omni0"), lab.b.mtu("omni0")),
        (mtu.into(), mtu.into())
    );
    for target in inner_b() {
        ping_all(&lab.a, target, "");
    }
    let drops = a.show().drops;
    for source in [Side::A.inner_v4().into(), Side::A.inner_v6().into()] {
        ping_all(&lab.b, source, "");
    }
    for target in inner_b() {
        ping_all(&lab.a, target, &unfragmented(target, mtu));
        let (received, text) = ping(&lab.a, target, &unfragmented(target, mtu + 1));
        assert_eq!(received, 0, "{text}");
        assert!(text.to_lowercase().contains("message too long"), "{text}");
    }
    assert_memory_idle(a, b);
    assert_eq!(
        a.show().drops,
        drops,
        "nothing is dropped when nothing goes wrong"
    );
}

#[test]
fn both_families_over_ipv4() {
    let lab = Lab::new(Plan::default());
    let (a, b) = lab.start();
    assert_hosts_reach_each_other(&lab, (&a, &b), 1426);
}

#[test]
fn both_families_over_ipv6() {
    let lab = Lab::new(Plan::default());
    let (a, b) = lab.start_v6();
    assert_eq!(
        a.peer().endpoint.as_deref(),
        Some("[2001:db8:0:a::2]:51820")
    );
    assert_hosts_reach_each_other(&lab, (&a, &b), 1406);
}

#[test]
fn jumbo_frames() {
    let lab = Lab::new(Plan {
        mtu: 9000,
        ..Plan::default()
    });
    let (a, b) = lab.start();
    assert_hosts_reach_each_other(&lab, (&a, &b), 8926);
    let target = Side::B.inner_v4().into();
    let ledger = Ledger::from_now(&lab, &a, &b);
    let rate = tcp_rate(&iperf(&lab.a, (&lab.b, target), "-t 2"));
    assert!(rate > 100.0, "{rate} Mb/s");
    ledger.assert_balanced();
    assert_memory_idle(&a, &b);
}
