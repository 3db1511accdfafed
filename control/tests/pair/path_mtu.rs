//! Path MTU discovery between two nodes: networks that drop what is too long and say nothing.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeSet;

use omni_control::PeerState;
use omni_wire::{DropReason, Instant};

use crate::harness::{PEER, Pair, Setup, address};

const PROBE: u8 = 16;
const ANSWER: u8 = 17;

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A node that asks.
fn curious() -> Setup {
    Setup {
        max_frame: 8926,
        path_mtu: true,
        ..Setup::default()
    }
}

/// Two of them, with sessions, over a network that carries inner frames of so many octets.
fn pair(carries: [usize; 2], seed: u64) -> Pair {
    let mut pair = Pair::with([curious(), curious()], seed);
    pair.net.carries = carries;
    pair.run(seconds(1));
    pair.assert_established();
    pair
}

/// When, by whom and how long records of this kind were sent.
fn records(pair: &Pair, kind: u8) -> Vec<(Instant, usize, usize)> {
    let records = pair.sent.iter().filter_map(|(at, from, datagram)| {
        let record = datagram.body.record()?;
        (record[0] == kind).then_some((*at, *from, record.len()))
    });
    records.collect()
}

fn limits(pair: &Pair) -> [Option<u16>; 2] {
    [0, 1].map(|node| pair.nodes[node].status().frame_limit)
}

/// The limits that a node told its workers, in order.
fn told(pair: &Pair, node: usize) -> Vec<u16> {
    let limits = pair.nodes[node].commands.iter().filter_map(|text| {
        let octets = text.strip_prefix("SetFrameLimit { peer: PeerId(0), octets: ")?;
        octets.trim_end_matches([' ', '}']).parse().ok()
    });
    limits.collect()
}

#[test]
fn a_network_that_carries_all_costs_one_probe_a_side_and_is_silent_then() {
    let mut pair = pair([usize::MAX; 2], 1);
    assert_eq!(limits(&pair), [Some(8926); 2]);
    pair.run(seconds(900));
    let by = records(&pair, PROBE).into_iter().map(|(_, from, _)| from);
    assert_eq!(by.collect::<BTreeSet<_>>(), BTreeSet::from([0, 1]));
    assert_eq!(records(&pair, PROBE).len(), 2);
    assert_eq!(records(&pair, ANSWER).len(), 2);
    for node in 0..2 {
        assert_eq!(told(&pair, node), [8926]);
        assert_eq!(pair.nodes[node].drops(DropReason::ProbeRefused), 0);
    }
}

#[test]
fn each_direction_has_its_own_limit() {
    let mut pair = pair([1440, 1233], 2);
    assert_eq!(limits(&pair), [None, None], "taken to work at first");
    pair.run(millis(2500));
    assert_eq!(told(&pair, 0)[0], 1140);
    pair.run(seconds(60));
    let [Some(a), Some(b)] = limits(&pair) else {
        panic!("both were found");
    };
    assert_eq!(a, 1440);
    assert!((1226..=1233).contains(&b), "{b}");
    for node in 0..2 {
        let told = told(&pair, node);
        assert!(told.is_sorted() && told.len() < 16, "{told:?}");
    }
}

#[test]
fn who_does_not_ask_answers_all_the_same() {
    let mute = Setup {
        path_mtu: false,
        ..curious()
    };
    let mut pair = Pair::with([curious(), mute], 3);
    pair.net.carries = [1440; 2];
    pair.chat(&[0, 1], millis(500), seconds(60), 0);
    assert_eq!(limits(&pair), [Some(1440), None]);
    assert!(records(&pair, PROBE).iter().all(|&(_, from, _)| from == 0));
    assert_eq!(pair.nodes[1].count("SetFrameLimit"), 0);
}

#[test]
fn the_upper_bound_is_what_both_accept() {
    let small = Setup {
        max_frame: 2000,
        ..curious()
    };
    let mut pair = Pair::with([curious(), small], 4);
    pair.run(seconds(1));
    assert_eq!(limits(&pair), [Some(2000); 2]);
    pair.operate(0, |ganglion, now| ganglion.set_max_frame(now, 1500));
    assert_eq!(limits(&pair), [Some(1500), Some(2000)]);
    pair.operate(0, |ganglion, now| ganglion.set_max_frame(now, 8926));
    pair.operate(1, |ganglion, now| ganglion.set_max_frame(now, 8926));
    pair.run(seconds(10));
    assert_eq!(limits(&pair), [Some(8926); 2]);
}

#[test]
fn frames_arrive_again_after_a_black_hole_appeared() {
    let mut pair = pair([usize::MAX; 2], 5);
    let next = pair.chat(&[0, 1], millis(250), seconds(100), 0);
    for node in &mut pair.nodes {
        node.worker.frame_octets = 1300;
    }
    pair.net.carries = [1340; 2];
    let next = pair.chat(&[0, 1], millis(250), seconds(100), next);
    assert_eq!(limits(&pair), [Some(1340); 2]);
    let last = pair.chat(&[0, 1], millis(250), seconds(10), next);
    pair.run(seconds(1));
    let arrived = |frame| {
        let mut nodes = pair.nodes.iter();
        nodes.any(|node| node.worker.delivered.contains(&frame))
    };
    assert!((next..last).all(arrived));
    // What would be too long is known to be before it leaves.
    pair.nodes[0].worker.frame_octets = 1341;
    pair.send(0, last);
    assert!(pair.nodes[0].worker.too_long > 0);
    assert_eq!(pair.nodes[0].status().state, PeerState::Established);
}

#[test]
fn a_black_hole_that_healed_is_left() {
    for octets in [64, 4000] {
        let mut pair = pair([1340; 2], 12);
        pair.run(seconds(10));
        assert_eq!(limits(&pair), [Some(1340); 2]);
        pair.net.carries = [usize::MAX; 2];
        // The first one's hosts may send nothing but what is too long.
        pair.nodes[0].worker.frame_octets = octets;
        pair.chat(&[0, 1], millis(500), seconds(800), 0);
        assert_eq!(limits(&pair), [Some(8926); 2], "frames of {octets}");
        assert_eq!(pair.nodes[0].worker.too_long > 0, octets == 4000);
    }
}

#[test]
fn hours_of_traffic_cost_a_probe_in_30_seconds() {
    let mut pair = pair([1440; 2], 6);
    pair.chat(&[0], millis(500), seconds(60), 0);
    let before = records(&pair, PROBE).len();
    pair.chat(&[0], millis(500), seconds(3600), 1_000_000);
    let probes = records(&pair, PROBE).split_off(before);
    let by_first = probes.iter().filter(|&&(_, from, _)| from == 0).count();
    // One in 30 s, and 15 when more is tried, in ten minutes each.
    assert!((100..=120 + 6 * 16).contains(&by_first), "{by_first}");
    assert!(limits(&pair)[0] == Some(1440));
    assert!(!told(&pair, 0).ends_with(&[1140]));
    let sessions = pair.nodes[0].count("InstallSession");
    assert!(sessions > 25, "sessions are renewed and ask nothing");
}

#[test]
fn a_lossy_network_is_not_taken_for_a_short_one() {
    for seed in 0..8 {
        let mut pair = Pair::with([curious(), curious()], seed);
        pair.net.carries = [1440; 2];
        pair.net.loss_percent = 30;
        pair.net.repeat_percent = 10;
        pair.net.jitter = millis(300);
        let next = pair.chat(&[0, 1], millis(500), seconds(600), 0);
        pair.net.loss_percent = 5;
        pair.chat(&[0, 1], millis(500), seconds(900), next);
        for node in 0..2 {
            let told = told(&pair, node);
            assert!(told.iter().all(|&limit| limit <= 1440), "{told:?}");
            let limit = told.last().copied();
            assert!(limit >= Some(1433), "seed {seed}: {told:?}");
        }
    }
}

#[test]
fn a_peer_that_goes_elsewhere_is_measured_anew() {
    let mut pair = pair([1440; 2], 7);
    let next = pair.chat(&[0, 1], millis(500), seconds(30), 0);
    assert_eq!(limits(&pair), [Some(1440); 2]);
    pair.net.carries = [usize::MAX; 2];
    let elsewhere: SocketAddr = "203.0.113.7:51820".parse().expect("an address and a port");
    pair.nodes[1].address = elsewhere;
    pair.chat(&[0, 1], millis(500), seconds(5), next);
    assert_eq!(pair.nodes[0].status().endpoint, Some(elsewhere));
    assert_eq!(limits(&pair)[0], Some(8926));
    let lowered = told(&pair, 0).windows(2).any(|pair| pair[0] > pair[1]);
    assert!(!lowered, "what fitted goes on to fit");
}

#[test]
fn a_peer_that_says_nothing_about_probes_keeps_its_frames() {
    let mut pair = Pair::with([curious(), curious()], 8);
    pair.net.block = |_, datagram| {
        let record = datagram.body.record();
        record.is_some_and(|record| record[0] == ANSWER)
    };
    pair.chat(&[0, 1], millis(500), seconds(1800), 0);
    assert_eq!(limits(&pair), [None, None]);
    for node in 0..2 {
        assert!(told(&pair, node).is_empty());
        assert_eq!(pair.nodes[node].worker.too_long, 0);
    }
    // Two a second for nine seconds, at a new session or less often.
    let probes = records(&pair, PROBE).len();
    assert!(probes < 2 * 17 * (1800 / 60), "{probes}");
}

#[test]
fn probes_are_answered_up_to_twenty_a_second() {
    let mut pair = pair([usize::MAX; 2], 9);
    pair.run(seconds(10));
    let before = records(&pair, ANSWER).len();
    let probe = [&[PROBE, 0, 0, 28], &[7; 8][..], &[0; 20]].concat();
    for _ in 0..100 {
        pair.operate(1, |ganglion, now| {
            assert!(ganglion.handle_record(now, PEER, &probe));
        });
    }
    let answers = records(&pair, ANSWER).split_off(before);
    assert_eq!(answers.len(), 20);
    assert_eq!(pair.nodes[1].drops(DropReason::ProbeRefused), 80);
    let last = pair.sent.iter().rev().find_map(|(_, from, datagram)| {
        let record = datagram.body.record()?;
        (*from == 1 && record[0] == ANSWER).then(|| record.to_vec())
    });
    let answer = [&[ANSWER, 0, 0, 10], &[7; 8][..], &[0, 32]].concat();
    assert_eq!(last, Some(answer));
    pair.run(seconds(1));
    assert_eq!(
        pair.nodes[0].drops(DropReason::ProbeRefused),
        20,
        "asked by nobody"
    );
}

#[test]
fn forged_answers_and_broken_records_change_nothing() {
    let mut pair = pair([1440; 2], 10);
    let before = (limits(&pair), told(&pair, 0));
    let refused = pair.nodes[0].drops(DropReason::ProbeRefused);
    let forged = [&[ANSWER, 0, 0, 10], &[1; 8][..], &8926_u16.to_be_bytes()].concat();
    let broken = [&[PROBE, 0, 0, 99], &[1; 8][..]].concat();
    let short = [ANSWER, 0, 0, 2, 0, 0];
    for record in [&forged[..], &broken, &short, &[PROBE]] {
        pair.operate(0, |ganglion, now| {
            assert!(ganglion.handle_record(now, PEER, record));
        });
    }
    assert_eq!(pair.nodes[0].drops(DropReason::ProbeRefused) - refused, 4);
    assert_eq!((limits(&pair), told(&pair, 0)), before);
    for other in [&[][..], &[1, 0, 0, 0], &[6, 0, 0, 0], &[18, 0, 0, 0]] {
        pair.operate(0, |ganglion, now| {
            assert!(!ganglion.handle_record(now, PEER, other));
        });
    }
    pair.run(seconds(10));
    assert_eq!(limits(&pair), [Some(1440); 2]);
}

#[test]
fn a_peer_that_is_removed_while_it_is_asked_is_asked_no_more() {
    let mut pair = pair([1440; 2], 11);
    let before = pair.nodes[0].count("SendRecord");
    assert!(pair.operate(0, |ganglion, _| ganglion.remove_peer(PEER)));
    pair.run(seconds(60));
    assert_eq!(pair.nodes[0].count("SendRecord"), before);
    let restarted = curious();
    pair.restart(0, &restarted);
    pair.chat(&[0], millis(500), seconds(60), 0);
    assert_eq!(limits(&pair)[0], Some(1440));
    assert_eq!(pair.nodes[0].status().endpoint, Some(address(1)));
}
