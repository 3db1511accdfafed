//! Streams at full speed: nothing is lost without a name, and no buffer stays away.

use std::collections::BTreeMap;

use crate::support::lab::{Lab, Plan, Side};
use crate::support::ledger::{Ledger, assert_memory_idle};
use crate::support::node::{Node, NodeSpec};
use crate::support::tools::{iperf, ping_all, tcp_rate, udp_rate};

/// Megabits per second that any machine manages: a floor for sanity, not a measurement.
const FLOOR: f64 = 100.0;
/// How often flows are dealt out anew when all of them hashed to one queue.
const ATTEMPTS: u32 = 4;

/// The hosts' first frames, sent while access ports come up and the first handshake runs, are
/// staged and delivered.
#[test]
fn nothing_is_lost_while_nodes_start() {
    let lab = Lab::alone(Plan::default());
    // The engines send nothing of their own, such as queries for groups: it would not have entered.
    let [a, b] = [Side::A, Side::B].map(|side| {
        let spec = lab.spec(side);
        spec.start_with(&(spec.yaml() + "switch: { multicast: flood }\n"))
    });
    ping_all(&lab.a, Side::B.inner_v4().into(), "");
    Ledger::from_start(&lab, &a, &b).assert_balanced();
    for node in [&a, &b] {
        assert_eq!(node.show().drops, BTreeMap::new());
    }
}

/// Access ports of either kind, and messages either way.
fn every_kind() -> impl Iterator<Item = Plan> {
    let kinds = [("xdp", "afxdp"), ("tap", "afxdp"), ("tap", "udp")];
    kinds.into_iter().map(|(access, underlay)| Plan {
        access,
        underlay,
        ..Plan::default()
    })
}

#[test]
fn tcp_both_ways_and_every_loss_has_a_name() {
    every_kind().for_each(assert_tcp_balances);
}

fn assert_tcp_balances(plan: Plan) {
    let lab = Lab::alone(plan);
    let (a, b) = lab.start();
    let ledger = Ledger::from_now(&lab, &a, &b);
    for target in [Side::B.inner_v4().into(), Side::B.inner_v6().into()] {
        for direction in ["", "-R"] {
            let report = iperf(&lab.a, (&lab.b, target), &format!("-t 1 {direction}"));
            let rate = tcp_rate(&report);
            assert!(rate > FLOOR, "{rate} Mb/s to {target} {direction}");
        }
    }
    ledger.assert_balanced();
    assert_memory_idle(&a, &b);
}

#[test]
fn udp_in_full_frames_and_every_loss_has_a_name() {
    every_kind().for_each(assert_udp_balances);
}

fn assert_udp_balances(plan: Plan) {
    let lab = Lab::alone(plan);
    let (a, b) = lab.start();
    let ledger = Ledger::from_now(&lab, &a, &b);
    let target = Side::B.inner_v4().into();
    // 1426 octets less 20 of IP and 8 of UDP.
    let report = iperf(&lab.a, (&lab.b, target), "-u -b 200M -l 1398 -t 1");
    let rate = udp_rate(&report);
    assert!(rate > FLOOR, "{rate} Mb/s");
    ledger.assert_balanced();
    assert_memory_idle(&a, &b);
}

#[test]
fn an_overload_of_small_datagrams_is_dropped_by_name() {
    every_kind().for_each(assert_overload_balances);
}

fn assert_overload_balances(plan: Plan) {
    let lab = Lab::alone(plan);
    let (a, b) = lab.start();
    let ledger = Ledger::from_now(&lab, &a, &b);
    // As fast as the sender can: more than anything behind it takes.
    let target = Side::B.inner_v4().into();
    iperf(&lab.a, (&lab.b, target), "-u -b 0 -l 16 -t 1");
    ledger.assert_balanced();
    assert_memory_idle(&a, &b);
}

#[test]
fn several_flows_use_all_workers() {
    let lab = Lab::alone(Plan {
        queues: 2,
        ..Plan::default()
    });
    let start = |side| {
        NodeSpec {
            cores: "[0, 1]".to_owned(),
            ..lab.spec(side)
        }
        .start()
    };
    let (a, b) = (start(Side::A), start(Side::B));
    let ledger = Ledger::from_now(&lab, &a, &b);
    let target = Side::B.inner_v4().into();
    let mut attempt = 0;
    loop {
        let rate = tcp_rate(&iperf(&lab.a, (&lab.b, target), "-P 4 -t 2"));
        assert!(rate > FLOOR, "{rate} Mb/s");
        let used = [&a, &b].map(received_by_worker);
        for workers in &used {
            assert_eq!(
                workers.keys().copied().collect::<Vec<_>>(),
                [0, 1],
                "{used:?}"
            );
        }
        // Flows are dealt out by a random hash: five of them may all meet at one queue.
        if used
            .iter()
            .all(|workers| workers.values().all(|&count| count > 100))
        {
            break;
        }
        attempt += 1;
        assert!(attempt < ATTEMPTS, "a worker has nothing to do: {used:?}");
    }
    for node in [&a, &b] {
        let show = node.show();
        assert_eq!(show.queues.len(), 4, "two queues of each port");
        let cores: Vec<_> = show
            .queues
            .iter()
            .map(|queue| (queue.worker, queue.core))
            .collect();
        assert!(
            cores.iter().all(|&(worker, core)| core == Some(worker)),
            "{cores:?}"
        );
    }
    ledger.assert_balanced();
    assert_memory_idle(&a, &b);
}

/// Frames that each worker received from either port.
fn received_by_worker(node: &Node) -> BTreeMap<usize, u64> {
    let mut received = BTreeMap::new();
    for queue in node.show().queues {
        *received.entry(queue.worker).or_default() += queue.rx_frames;
    }
    received
}

/// More queues than workers, and flows over all of them: none of them is reordered on its way.
#[test]
fn flows_over_four_queues_keep_their_order() {
    for (access, underlay) in [("xdp", "afxdp"), ("tap", "afxdp"), ("tap", "udp")] {
        let lab = Lab::alone(Plan {
            queues: 4,
            access,
            underlay,
            ..Plan::default()
        });
        let start = |side| {
            NodeSpec {
                cores: "[0, 1]".to_owned(),
                spread_ports: true,
                ..lab.spec(side)
            }
            .start()
        };
        let (a, b) = (start(Side::A), start(Side::B));
        let ledger = Ledger::from_now(&lab, &a, &b);
        let target = Side::B.inner_v4().into();
        let report = iperf(&lab.a, (&lab.b, target), "-u -b 10M -l 1000 -P 8 -t 2");
        let streams = report["end"]["streams"].as_array().expect("streams");
        assert_eq!(streams.len(), 8);
        for stream in streams {
            assert!(stream["udp"]["packets"].as_u64() > Some(1000), "{stream}");
            assert_eq!(stream["udp"]["out_of_order"], 0, "{stream}");
        }
        let used = received_by_worker(&b);
        assert_eq!(used.keys().copied().collect::<Vec<_>>(), [0, 1]);
        let queues = a.show().queues;
        let of_underlay = queues.iter().filter(|queue| queue.port == "ua");
        assert_eq!(of_underlay.count(), if underlay == "udp" { 2 } else { 4 });
        ledger.assert_balanced();
        assert_memory_idle(&a, &b);
    }
}
