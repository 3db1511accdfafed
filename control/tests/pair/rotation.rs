//! Sessions over time: renewal, keepalives, silence, expiry and erasure.

use core::time::Duration;

use omni_control::message::Upcall;
use omni_control::{PeerState, Timers};
use omni_wire::Instant;

use crate::harness::{PEER, Pair, Setup};

const INITIATION: u8 = 1;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// When initiations were sent, in seconds since `start`, and by whom.
fn initiations(pair: &Pair, start: Instant) -> Vec<(f64, usize)> {
    let sent = pair.handshakes(INITIATION).into_iter();
    sent.map(|(at, from)| (at.since(start).as_secs_f64(), from))
        .collect()
}

fn arrived(pair: &Pair) -> u64 {
    pair.nodes
        .iter()
        .map(|node| node.worker.delivered.len() as u64)
        .sum()
}

#[test]
fn the_initiator_renews_after_120_seconds_and_nothing_is_lost() {
    let mut pair = Pair::established(1);
    let start = pair.now.instant;
    pair.net.jitter = millis(15);
    let frames = pair.chat(&[0, 1], millis(10), seconds(400), 0);
    pair.run(seconds(1));
    assert_eq!(arrived(&pair), frames);
    let renewals = initiations(&pair, start);
    assert_eq!(renewals.len(), 4, "{renewals:?}");
    for pair in renewals.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!((119.0..121.5).contains(&gap), "{renewals:?}");
    }
    assert!(
        renewals.iter().all(|(_, from)| *from == 0),
        "only the initiator: {renewals:?}"
    );
    for node in &pair.nodes {
        assert_eq!(node.worker.unknown_session, 0);
    }
}

#[test]
fn a_session_that_only_carries_keepalives_of_its_initiator_is_renewed_too() {
    let mut pair = Pair::established(2);
    let start = pair.now.instant;
    let frames = pair.chat(&[1], seconds(1), seconds(300), 0);
    pair.run(seconds(1));
    assert_eq!(arrived(&pair), frames);
    let renewals = initiations(&pair, start);
    assert_eq!(renewals.len(), 3, "{renewals:?}");
    assert!((119.0..131.5).contains(&renewals[1].0), "{renewals:?}");
    assert!(renewals.iter().all(|(_, from)| *from == 0), "{renewals:?}");
}

#[test]
fn an_initiator_that_only_receives_renews_at_165_seconds() {
    let timers = Timers {
        keepalive: seconds(10_000),
        ..Timers::default()
    };
    let quiet = Setup {
        timers,
        ..Setup::default()
    };
    let patient = Timers {
        silence: seconds(10_000),
        ..Timers::default()
    };
    let deaf = Setup {
        knows_endpoint: false,
        timers: patient,
        ..Setup::default()
    };
    let mut pair = Pair::with([quiet, deaf], 3);
    pair.run(seconds(1));
    let start = pair.now.instant - seconds(1);
    let frames = pair.chat(&[1], seconds(1), seconds(178), 0);
    pair.run(seconds(1));
    assert_eq!(arrived(&pair), frames);
    let renewals = initiations(&pair, start);
    assert_eq!(renewals.len(), 2, "{renewals:?}");
    assert!((165.0..166.7).contains(&renewals[1].0), "{renewals:?}");
}

#[test]
fn an_idle_session_is_not_renewed_and_ends_at_180_seconds() {
    let mut pair = Pair::established(4);
    pair.run(seconds(178));
    pair.assert_established();
    pair.run(seconds(2));
    assert_eq!(pair.handshakes(INITIATION).len(), 1);
    for node in &pair.nodes {
        assert_eq!(node.status().state, PeerState::Idle);
        assert_eq!(node.count("EraseSession"), 1);
    }
    pair.run(seconds(600));
    for node in &pair.nodes {
        assert_eq!(node.count("EraseSession"), 1);
        assert_eq!(node.ganglion.poll_timeout(), None);
    }
    pair.send(1, 7);
    pair.run(seconds(1));
    assert_eq!(
        pair.nodes[0].worker.delivered,
        [7],
        "traffic from either side begins again"
    );
}

#[test]
fn all_keys_are_erased_540_seconds_after_the_last_session() {
    let timers = Timers {
        rekey_after: seconds(5000),
        rekey_after_receiving: seconds(5000),
        reject_after: seconds(5000),
        ..Timers::default()
    };
    let setup = Setup {
        timers,
        ..Setup::default()
    };
    let mut pair = Pair::with(
        [
            setup.clone(),
            Setup {
                knows_endpoint: false,
                ..setup
            },
        ],
        5,
    );
    pair.run(seconds(539));
    assert_eq!(
        pair.nodes[0].count("EraseSession") + pair.nodes[1].count("EraseSession"),
        0
    );
    pair.run(seconds(2));
    for node in &pair.nodes {
        assert_eq!(node.count("EraseSession"), 1);
        assert_eq!(node.status().state, PeerState::Idle);
    }
}

#[test]
fn data_without_an_answer_is_answered_by_a_keepalive_after_10_seconds() {
    let mut pair = Pair::established(6);
    pair.send(0, 1);
    let before = pair.nodes[1].count("SendKeepalive");
    pair.run(millis(9_900));
    assert_eq!(pair.nodes[1].count("SendKeepalive"), before);
    pair.run(millis(700));
    assert_eq!(pair.nodes[1].count("SendKeepalive"), before + 1);
    pair.run(seconds(60));
    assert_eq!(
        pair.nodes[1].count("SendKeepalive"),
        before + 1,
        "once for this data"
    );
    assert_eq!(
        pair.nodes[0].count("SendKeepalive"),
        1,
        "keepalives are not answered"
    );
    assert_eq!(
        pair.handshakes(INITIATION).len(),
        1,
        "and there is no silence"
    );
}

#[test]
fn data_that_is_answered_by_data_causes_no_keepalive() {
    let mut pair = Pair::established(7);
    let before: usize = pair
        .nodes
        .iter()
        .map(|node| node.count("SendKeepalive"))
        .sum();
    pair.chat(&[0, 1], seconds(3), seconds(100), 0);
    let after: usize = pair
        .nodes
        .iter()
        .map(|node| node.count("SendKeepalive"))
        .sum();
    assert_eq!(before, after);
}

#[test]
fn silence_of_15_seconds_after_data_starts_a_handshake() {
    let mut pair = Pair::established(8);
    pair.net.block = |from, _| from == 1;
    let start = pair.now.instant;
    pair.chat(&[0], millis(100), seconds(14), 0);
    assert_eq!(pair.handshakes(INITIATION).len(), 1);
    pair.chat(&[0], millis(100), seconds(3), 1000);
    let sent = initiations(&pair, start);
    assert_eq!(sent.len(), 2);
    assert!((15.0..16.1).contains(&sent[1].0), "{sent:?}");
}

#[test]
fn silence_alone_is_no_reason_for_a_handshake() {
    let mut pair = Pair::established(9);
    pair.net.block = |_, _| true;
    pair.run(seconds(170));
    assert_eq!(pair.handshakes(INITIATION).len(), 1);
}

#[test]
fn a_restarted_peer_without_endpoints_is_found_again_by_the_other() {
    let deaf = Setup {
        knows_endpoint: false,
        ..Setup::default()
    };
    for seed in 0..10 {
        let mut pair = Pair::established(seed);
        let mut frame = pair.chat(&[0, 1], millis(200), seconds(20), 0);
        pair.restart(1, &deaf);
        let restarted = pair.now.instant;
        while pair.nodes[1].worker.delivered.is_empty() {
            frame = pair.chat(&[0], millis(200), millis(200), frame);
            assert!(pair.now.instant.since(restarted) < seconds(21));
        }
        pair.assert_established();
        pair.send(1, 1 << 40);
        pair.run(seconds(1));
        assert_eq!(pair.nodes[0].worker.delivered.last(), Some(&(1 << 40)));
    }
}

#[test]
fn a_restarted_peer_that_knows_the_other_is_back_at_once() {
    let mut pair = Pair::established(10);
    pair.chat(&[0, 1], millis(200), seconds(20), 0);
    pair.restart(0, &Setup::default());
    pair.run(millis(200));
    pair.assert_established();
    pair.send(1, 1 << 40);
    pair.run(seconds(1));
    assert_eq!(pair.nodes[0].worker.delivered, [1 << 40]);
}

#[test]
fn after_simultaneous_initiations_the_session_is_still_renewed_in_time() {
    for seed in 0..10 {
        let mut pair = Pair::new(seed);
        pair.net.jitter = millis(seed);
        let frames = pair.chat(&[0, 1], millis(50), seconds(1), 0);
        let staged = [0, 1].map(|node| pair.nodes[node].worker.staged);
        let frames = pair.chat(&[0, 1], millis(50), seconds(400), frames);
        pair.run(seconds(1));
        assert_eq!(arrived(&pair), frames, "seed {seed}");
        for (node, staged) in pair.nodes.iter().zip(staged) {
            assert_eq!(node.worker.unknown_session, 0);
            assert_eq!(node.worker.staged, staged, "no frame had to wait again");
        }
        let count = pair.handshakes(INITIATION).len();
        assert!(count <= 8, "no storm: {count}");
    }
}

#[test]
fn a_used_up_counter_starts_a_handshake_but_not_twice_in_5_seconds() {
    let mut pair = Pair::established(11);
    pair.run(seconds(10));
    pair.upcall(1, &Upcall::RekeySoon { peer: PEER });
    pair.run(millis(100));
    assert_eq!(pair.handshakes(INITIATION).len(), 2);
    assert_eq!(pair.nodes[1].count("InstallSession"), 2);
    pair.upcall(1, &Upcall::RekeySoon { peer: PEER });
    pair.upcall(0, &Upcall::RekeySoon { peer: PEER });
    pair.run(seconds(4));
    assert_eq!(
        pair.handshakes(INITIATION).len(),
        2,
        "the new session is fresh"
    );
}

#[test]
fn initiations_keep_their_distance_when_sessions_end_early() {
    let mut pair = Pair::established(12);
    pair.run(seconds(3));
    // The other side answered, so that the first handshake is over; then it is gone.
    pair.net.block = |_, _| true;
    pair.run(millis(2100));
    pair.upcall(0, &Upcall::RekeySoon { peer: PEER });
    pair.upcall(0, &Upcall::RekeySoon { peer: PEER });
    pair.run(seconds(30));
    let sent = pair.handshakes(INITIATION);
    assert!(
        sent.windows(2).all(|w| w[1].0.since(w[0].0) >= seconds(5)),
        "{sent:?}"
    );
}

#[test]
fn a_newer_unconfirmed_session_replaces_an_older_one() {
    let deaf = Setup {
        knows_endpoint: false,
        ..Setup::default()
    };
    let mut pair = Pair::with([Setup::default(), deaf], 13);
    // Responses are lost: the responder makes a session for each initiation.
    pair.net.block = |from, _| from == 1;
    pair.run(seconds(22));
    let responder = &pair.nodes[1];
    assert_eq!(responder.count("InstallSession"), 5);
    assert_eq!(
        responder.count("EraseSession"),
        4,
        "one waits for confirmation"
    );
    assert_eq!(responder.count("ConfirmSession"), 0);
}

#[test]
fn sessions_in_use_are_bounded_over_many_renewals() {
    let timers = Timers {
        rekey_after: seconds(10),
        rekey_after_receiving: seconds(14),
        reject_after: seconds(40),
        ..Timers::default()
    };
    let setup = Setup {
        timers,
        ..Setup::default()
    };
    let mut pair = Pair::with([setup.clone(), setup], 14);
    pair.net.jitter = millis(30);
    let frames = pair.chat(&[0, 1], millis(50), seconds(1000), 0);
    pair.run(seconds(1));
    assert_eq!(arrived(&pair), frames);
    for node in &pair.nodes {
        let alive = node.count("InstallSession") - node.count("EraseSession");
        assert!(node.count("InstallSession") >= 80);
        assert!(alive <= 4, "{alive} sessions");
        assert_eq!(node.worker.unknown_session, 0);
    }
}

#[test]
fn a_wall_clock_that_jumps_back_does_not_stop_renewals() {
    let mut pair = Pair::established(15);
    let mut frame = 0;
    for _ in 0..4 {
        pair.now.wall.0 -= 3_600_000_000_000;
        frame = pair.chat(&[0, 1], millis(500), seconds(130), frame);
    }
    pair.run(seconds(1));
    assert_eq!(arrived(&pair), frame);
    assert!(pair.handshakes(INITIATION).len() >= 4);
}

#[test]
fn a_long_freeze_ends_sessions_and_they_come_back() {
    let mut pair = Pair::established(16);
    pair.chat(&[0, 1], millis(500), seconds(10), 0);
    // Nothing ran for a while, on either side.
    pair.now = pair.now.advanced(seconds(1000));
    pair.run(seconds(1));
    assert_eq!(pair.nodes[0].status().state, PeerState::Idle);
    pair.send(0, 1 << 40);
    pair.run(seconds(1));
    assert_eq!(pair.nodes[1].worker.delivered.last(), Some(&(1 << 40)));
}
