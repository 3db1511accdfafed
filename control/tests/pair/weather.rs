//! Bad networks: whatever happens on the way, nodes find together again, and every run can be
//! repeated from its seed.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::harness::{Pair, Setup};

const INITIATION: u8 = 1;

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A pair in bad weather: a third is lost, some is repeated, and much overtakes.
fn storm(seed: u64) -> Pair {
    let mut pair = Pair::new(seed);
    pair.net.loss_percent = 30;
    pair.net.repeat_percent = 10;
    pair.net.jitter = millis(400);
    pair
}

/// What went over the network, octet by octet.
fn transcript(seed: u64) -> Vec<String> {
    let mut pair = storm(seed);
    pair.chat(&[0, 1], millis(700), Duration::from_secs(400), 0);
    let mut lines: Vec<_> = pair.sent.iter().map(|entry| format!("{entry:?}")).collect();
    lines.extend(pair.nodes.iter().flat_map(|node| node.commands.clone()));
    lines
}

#[test]
fn the_same_seed_gives_the_same_transcript() {
    let first = transcript(7);
    assert!(first.len() > 500);
    assert_eq!(first, transcript(7));
    assert_ne!(first, transcript(8));
}

#[test]
fn after_every_storm_all_frames_arrive_again() {
    for seed in 0..12 {
        let mut pair = storm(seed);
        let next = pair.chat(&[0, 1], millis(250), Duration::from_secs(600), 0);
        pair.net.loss_percent = 0;
        // What was still being negotiated gets one retry's time.
        let next = pair.chat(&[0, 1], millis(250), Duration::from_secs(6), next);
        let last = pair.chat(&[0, 1], millis(250), Duration::from_secs(60), next);
        pair.run(Duration::from_secs(1));
        let mut all = BTreeSet::new();
        for node in &pair.nodes {
            for &frame in &node.worker.delivered {
                assert!(
                    all.insert(frame),
                    "seed {seed}: frame {frame} arrived twice"
                );
            }
        }
        let missing: Vec<_> = (next..last).filter(|frame| !all.contains(frame)).collect();
        assert!(missing.is_empty(), "seed {seed}: {missing:?}");
        pair.assert_established();
    }
}

#[test]
fn no_storm_of_handshakes_breaks_out() {
    for seed in 0..6 {
        let mut pair = storm(seed);
        pair.net.loss_percent = 60;
        pair.chat(&[0, 1], millis(500), Duration::from_secs(600), 0);
        for node in 0..2 {
            let sent = pair
                .handshakes(INITIATION)
                .into_iter()
                .filter(|(_, from)| *from == node);
            let times: Vec<_> = sent.map(|(at, _)| at).collect();
            let gaps = times.windows(2).map(|w| w[1].since(w[0]));
            assert!(gaps.min().is_none_or(|gap| gap >= Duration::from_secs(5)));
        }
    }
}

#[test]
fn a_session_survives_a_blackout_of_60_seconds() {
    let mut pair = Pair::established(3);
    let next = pair.chat(&[0, 1], millis(250), Duration::from_secs(20), 0);
    pair.net.block = |_, _| true;
    let next = pair.chat(&[0, 1], millis(250), Duration::from_secs(60), next);
    let during = pair.handshakes(INITIATION).len();
    assert!(
        during <= 1 + 2 * 10,
        "no storm: 45 s of silence noticed, one in 5 s each: {during}"
    );
    pair.net.block = |_, _| false;
    let next = pair.chat(&[0, 1], millis(250), Duration::from_secs(6), next);
    let last = pair.chat(&[0, 1], millis(250), Duration::from_secs(20), next);
    pair.run(Duration::from_secs(1));
    let arrived = |frame| {
        pair.nodes
            .iter()
            .any(|node| node.worker.delivered.contains(&frame))
    };
    assert!((next..last).all(arrived));
    let after = pair.handshakes(INITIATION).len() - during;
    assert!(after <= 2, "nor afterwards: {after}");
}

#[test]
fn restarts_in_a_storm_end_in_a_session_too() {
    for seed in 0..8 {
        let mut pair = storm(seed);
        let mut frame = 0;
        for round in 0..6 {
            frame = pair.chat(&[0, 1], millis(500), Duration::from_secs(37), frame);
            pair.restart(round % 2, &Setup::default());
        }
        pair.net.loss_percent = 0;
        frame = pair.chat(&[0, 1], millis(500), Duration::from_secs(25), frame);
        let seen = [0, 1].map(|node| pair.nodes[node].worker.delivered.len());
        pair.chat(&[0, 1], millis(500), Duration::from_secs(10), frame);
        pair.run(Duration::from_secs(1));
        for (node, seen) in seen.into_iter().enumerate() {
            assert!(
                pair.nodes[node].worker.delivered.len() >= seen + 19,
                "seed {seed}"
            );
        }
    }
}
