//! Wrong clocks, clocks that jump, restarts and replays: nothing old is accepted, and nobody is
//! locked out.

use core::time::Duration;

use omni_control::{PeerConfig, PeerState, PublicKey};
use omni_wire::DropReason;

use crate::harness::{Pair, Setup, address, private_key};

const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;

const HOUR: i64 = 3600;
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;
const SKEWS: [i64; 4] = [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS];

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A setup that waits for the other side to speak.
fn deaf() -> Setup {
    Setup {
        knows_endpoint: false,
        ..Setup::default()
    }
}

/// How the two nodes of a pair are made when only `from` can begin.
fn begun_by(from: usize) -> [Setup; 2] {
    [0, 1].map(|node| {
        if node == from {
            Setup::default()
        } else {
            deaf()
        }
    })
}

fn established(from: usize, seed: u64) -> Pair {
    let mut pair = Pair::with(begun_by(from), seed);
    pair.run(seconds(1));
    pair.assert_established();
    pair
}

/// Lets all sessions end, and all attempts.
fn rest(pair: &mut Pair) {
    pair.run(seconds(600));
    for node in &pair.nodes {
        assert_eq!(node.status().state, PeerState::Idle);
    }
}

/// Sends one frame from `from`, which has no session, and asserts that it arrives after at most
/// one retry. Returns how many initiations that took.
fn assert_resumes(pair: &mut Pair, from: usize, why: &str) -> usize {
    let frame = pair.now.instant.0;
    let before = pair.handshakes(INITIATION).len();
    pair.send(from, frame);
    pair.run(seconds(6));
    let delivered = &pair.nodes[1 - from].worker.delivered;
    assert_eq!(delivered.last(), Some(&frame), "{why}");
    pair.handshakes(INITIATION).len() - before
}

#[test]
fn a_clock_that_jumps_at_run_time_costs_nothing_not_even_when_it_is_set_right() {
    for skew in SKEWS {
        for (jumps, from) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut pair = established(from, 1);
            rest(&mut pair);
            for skew in [skew, 0, skew, 0] {
                pair.nodes[jumps].skew = skew;
                let why = format!("node {jumps} jumps to {skew} s, node {from} begins");
                assert_eq!(assert_resumes(&mut pair, from, &why), 1, "{why}");
                rest(&mut pair);
            }
        }
    }
}

#[test]
fn sessions_are_renewed_in_time_while_clocks_jump() {
    let mut pair = Pair::established(2);
    let mut frame = 0;
    for (round, skew) in SKEWS.into_iter().chain([0]).enumerate() {
        pair.nodes[round % 2].skew = skew;
        frame = pair.chat(&[0, 1], Duration::from_millis(500), seconds(130), frame);
    }
    pair.run(seconds(1));
    let arrived: usize = pair.nodes.iter().map(|n| n.worker.delivered.len()).sum();
    assert_eq!(arrived as u64, frame, "nothing was lost");
}

#[test]
fn a_restart_with_a_wrong_clock_is_made_up_for_by_what_is_remembered() {
    for skew in SKEWS {
        for (restarted, from) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let setups = begun_by(from);
            let mut pair = established(from, 3);
            rest(&mut pair);
            pair.nodes[restarted].skew = skew;
            pair.restart_with_memory(restarted, &setups[restarted]);
            let why = format!("node {restarted} starts at {skew} s, node {from} begins");
            if restarted == from {
                // It begins by itself, as it knows where the other one is.
                pair.run(seconds(6));
                assert_eq!(
                    pair.nodes[from].status().state,
                    PeerState::Established,
                    "{why}"
                );
                rest(&mut pair);
            }
            assert_resumes(&mut pair, from, &why);
            rest(&mut pair);
            pair.nodes[restarted].skew = 0;
            assert_resumes(
                &mut pair,
                from,
                &format!("{why}, and its clock was set right"),
            );
            rest(&mut pair);
            pair.restart_with_memory(restarted, &setups[restarted]);
            pair.run(seconds(6));
            rest(&mut pair);
            assert_resumes(&mut pair, from, &format!("{why}, and it started again"));
        }
    }
}

#[test]
fn a_restart_with_a_right_clock_costs_no_retry() {
    let mut pair = established(0, 4);
    for away in [0, 60, 3600, 23 * 3600, 48 * 3600, 9000 * 3600] {
        rest(&mut pair);
        pair.now = pair.now.advanced(seconds(away));
        let before = pair.handshakes(INITIATION).len();
        pair.restart_with_memory(0, &Setup::default());
        pair.run(seconds(1));
        pair.assert_established();
        assert_eq!(
            pair.handshakes(INITIATION).len(),
            before + 1,
            "{away} s away"
        );
    }
}

#[test]
fn a_first_start_with_a_wrong_clock_ends_when_the_clock_is_set_right() {
    for skew in SKEWS {
        for from in [0, 1] {
            // The other side knows the right time, and remembers us from before.
            let mut pair = established(from, 5);
            rest(&mut pair);
            pair.nodes[from].skew = skew;
            pair.restart(from, &Setup::default());
            pair.run(seconds(30));
            pair.nodes[from].skew = 0;
            pair.run(seconds(6));
            assert_eq!(
                pair.nodes[from].status().state,
                PeerState::Established,
                "{skew} s"
            );
            rest(&mut pair);
            assert_resumes(&mut pair, from, &format!("{skew} s"));
        }
    }
}

#[test]
fn two_clocks_that_were_wrong_together_lock_nobody_out_when_they_are_set_right() {
    for first_right in [0, 1] {
        for from in [0, 1] {
            let setups = begun_by(from);
            let mut pair = established(from, 6);
            rest(&mut pair);
            // Both are ten years ahead, and agree on it; the initiator remembers nothing.
            pair.nodes[from].skew = TEN_YEARS;
            pair.nodes[1 - from].skew = TEN_YEARS;
            pair.restart(from, &setups[from]);
            pair.run(seconds(1));
            pair.assert_established();
            for node in [first_right, 1 - first_right] {
                rest(&mut pair);
                pair.nodes[node].skew = 0;
                if pair.nodes[from].skew == 0 {
                    let why = format!("node {node} is right again, node {from} begins");
                    assert_resumes(&mut pair, from, &why);
                }
            }
            rest(&mut pair);
            pair.restart_with_memory(1 - from, &setups[1 - from]);
            assert_resumes(&mut pair, from, "the receiver started again");
        }
    }
}

#[test]
fn a_greatest_timestamp_of_a_wrong_clock_does_not_lock_out_who_forgot_it() {
    let mut pair = established(0, 7);
    rest(&mut pair);
    for node in &mut pair.nodes {
        node.skew = TEN_YEARS;
    }
    pair.restart(0, &Setup::default());
    pair.run(seconds(1));
    rest(&mut pair);
    // Both clocks are right again, and the initiator starts with nothing.
    for node in &mut pair.nodes {
        node.skew = 0;
    }
    pair.restart(0, &Setup::default());
    pair.run(seconds(6));
    pair.assert_established();
}

#[test]
fn a_memory_that_is_older_than_the_peers_costs_no_retry() {
    let mut pair = established(0, 8);
    let old = pair.nodes[0].disk.clone();
    rest(&mut pair);
    assert_resumes(&mut pair, 0, "nothing is wrong yet");
    rest(&mut pair);
    pair.nodes[0].disk = old;
    let before = pair.handshakes(INITIATION).len();
    pair.restart_with_memory(0, &Setup::default());
    pair.run(seconds(1));
    pair.assert_established();
    assert_eq!(pair.handshakes(INITIATION).len(), before + 1);
}

#[test]
fn a_recorded_initiation_is_refused_after_a_restart_whatever_the_clock() {
    for skew in SKEWS.into_iter().chain([0]) {
        let mut pair = established(0, 9);
        let recorded = pair.last_handshake(INITIATION, 0);
        rest(&mut pair);
        let answers = pair.handshakes(RESPONSE).len();
        pair.nodes[1].skew = skew;
        pair.restart_with_memory(1, &deaf());
        for later in [0, 1, 10, 1000] {
            pair.run(seconds(later));
            pair.inject(1, address(0), &recorded);
        }
        assert_eq!(pair.handshakes(RESPONSE).len(), answers, "{skew} s");
        assert_eq!(pair.nodes[1].drops(DropReason::HandshakeReplayed), 4);
        assert_eq!(pair.nodes[1].count("InstallSession"), 0);
        pair.nodes[1].skew = 0;
        pair.inject(1, address(0), &recorded);
        assert_eq!(
            pair.handshakes(RESPONSE).len(),
            answers,
            "{skew} s, set right"
        );
    }
}

#[test]
fn a_recorded_initiation_of_a_peer_that_is_added_again_is_refused() {
    let mut pair = established(0, 10);
    let recorded = pair.last_handshake(INITIATION, 0);
    let (peer, now) = (pair.nodes[1].status().id, pair.now);
    let ganglion = &mut pair.nodes[1].ganglion;
    assert!(ganglion.remove_peer(peer));
    let again = PeerConfig {
        public_key: PublicKey::from_private(&private_key(0)),
        preshared_key: None,
        endpoint: None,
    };
    assert!(ganglion.add_peer(now, again).is_ok());
    let before = ganglion.drops().get(DropReason::HandshakeReplayed);
    // Others come and go in between, so that the copy is not known by its mac any more.
    ganglion.handle_datagram(now, address(0), None, &recorded);
    let after = ganglion.drops().get(DropReason::HandshakeReplayed);
    assert_eq!(after, before + 1);
    assert!(ganglion.poll_transmit().is_none());
}

#[test]
fn what_is_to_be_remembered_is_told_before_the_response_and_once() {
    let mut pair = Pair::with(begun_by(0), 11);
    pair.net.block = |_, _| true;
    pair.run(seconds(1));
    let initiation = pair.last_handshake(INITIATION, 0);
    let now = pair.now;
    let ganglion = &mut pair.nodes[1].ganglion;
    assert_eq!(ganglion.take_remembered(), None, "nothing happened yet");
    ganglion.handle_datagram(now, address(0), None, &initiation);
    let remembered = ganglion.take_remembered().expect("a timestamp");
    assert_eq!(remembered.peers.len(), 1);
    assert!(
        ganglion.poll_transmit().is_some(),
        "the response still waits"
    );
    assert_eq!(ganglion.take_remembered(), None);
    // A copy changes nothing.
    ganglion.handle_datagram(now, address(0), None, &initiation);
    assert_eq!(ganglion.take_remembered(), None);
}

/// The peer accepted more than we ever heard of, under a clock that has been set back since.
#[test]
fn a_response_that_was_lost_before_a_restart_locks_nobody_out() {
    let mut pair = Pair::with(begun_by(0), 12);
    pair.nodes[0].skew = HOUR;
    pair.restart(0, &Setup::default());
    pair.net.block = |_, datagram| datagram.is_handshake(RESPONSE);
    pair.run(seconds(8));
    let unheard = pair.handshakes(RESPONSE).len();
    assert!(unheard > 0, "responses were sent");
    pair.nodes[0].skew = 0;
    pair.restart_with_memory(0, &Setup::default());
    pair.net.block = |_, _| false;
    pair.run(seconds(6));
    pair.assert_established();
}

/// An initiation that shows what our clock showed while it was wrong arrives after a later one, and
/// we are restarted with a clock that is right again.
#[test]
fn an_initiation_that_was_held_back_locks_nobody_out_after_a_restart() {
    let mut pair = established(0, 13);
    rest(&mut pair);
    pair.nodes[0].skew = HOUR;
    pair.net.block = |_, datagram| datagram.is_handshake(INITIATION);
    pair.send(0, 1);
    pair.run(seconds(6));
    let held_back = pair.last_handshake(INITIATION, 0);
    pair.net.block = |_, _| false;
    pair.run(seconds(6));
    pair.assert_established();
    let answers = pair.handshakes(RESPONSE).len();
    pair.inject(1, address(0), &held_back);
    assert_eq!(pair.handshakes(RESPONSE).len(), answers + 1);
    pair.nodes[0].skew = 0;
    pair.restart_with_memory(0, &Setup::default());
    pair.run(seconds(6));
    pair.assert_established();
    // Nothing of all that was ever sent is acceptable now.
    let answers = pair.handshakes(RESPONSE).len();
    pair.restart_with_memory(1, &deaf());
    for message in pair.recorded(INITIATION, 0) {
        pair.inject(1, address(0), &message);
    }
    assert_eq!(pair.handshakes(RESPONSE).len(), answers);
}
