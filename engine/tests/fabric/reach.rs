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

#[test]
fn both_families_by_udp_sockets() {
    let plan = Plan {
        underlay: "udp",
        ..Plan::default()
    };
    let lab = Lab::new(plan);
    {
        let (a, b) = lab.start();
        assert_hosts_reach_each_other(&lab, (&a, &b), 1426);
    }
    let (a, b) = lab.start_v6();
    assert_hosts_reach_each_other(&lab, (&a, &b), 1406);
    let queues = a.show().queues;
    let modes = queues.iter().map(|queue| queue.mode.as_str());
    assert_eq!(modes.collect::<Vec<_>>(), ["udp", "tap"]);
}

/// A tap and UDP sockets take no AF_XDP socket, no BPF program and no locked memory.
#[test]
fn a_node_without_capabilities_for_af_xdp_finds_another_way() {
    let plan = Plan {
        underlay: "auto",
        ..Plan::default()
    };
    let lab = Lab::new(plan);
    let spec = lab.spec(Side::A);
    let mut a = spec.spawn_without("net_raw,bpf,sys_admin,perfmon,ipc_lock,sys_resource,sys_nice");
    a.ready();
    let b = lab.spec(Side::B).start();
    assert_hosts_reach_each_other(&lab, (&a, &b), 1426);
    let log = a.log();
    assert!(log.contains("gets no AF_XDP sockets"), "{log}");
    assert_eq!(a.show().queues[0].mode, "udp");
}

#[test]
fn doctor_says_which_driver_suits_and_why() {
    let lab = Lab::new(Plan::default());
    let config = lab.spec(Side::A).write();
    let doctor = |how: &str| {
        let output = lab.a.run(
            env!("CARGO_BIN_EXE_omni"),
            &format!("doctor --config {} {how}", config.display()),
        );
        // Whatever this host is like otherwise.
        assert!(matches!(output.status.code(), Some(0..=2)), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let text = doctor("");
    assert!(
        text.starts_with("underlay ua: driver veth, 1 receive"),
        "{text}"
    );
    assert!(text.contains("Set underlay.driver: udp or auto"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&doctor("--json")).expect("JSON");
    assert_eq!(json["configured"]["receive"]["way"], "afxdp");
    assert_eq!(json["best"]["receive"]["way"], "udp");
    lab.a
        .run("ethtool", "-K ua gro off tx-udp-segmentation off");
    assert!(
        doctor("").contains("receiving  afxdp: past"),
        "{}",
        doctor("")
    );
}
