//! The check of messages without a session: what the kernel gets of them when it is on. Needs root.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use omni_xdp_redirect::{Action, Counters, Kind, MAX_ENDPOINTS, RedirectError};

use crate::support::bench::{Bench, address, v4, v6};
use crate::support::frame::{CUSTOMER_TAG, Frame};

/// Types with the lengths that belong to them.
const HANDSHAKES: [(u8, usize); 3] = [(1, 168), (2, 116), (3, 68)];
/// What a core lets through at once, beside the shares of endpoints.
const SHARED_BURST: u64 = 500;
/// What an endpoint's share lets through at once.
const ENDPOINT_BURST: u64 = 16;

/// An underlay program with the check on.
fn checking() -> Bench {
    let mut bench = Bench::new(Kind::Underlay);
    bench.program.set_handshake_check(true).unwrap();
    bench
}

/// A message without a session.
fn message(kind: u8, len: usize) -> Vec<u8> {
    let mut payload = vec![0, 0, 0, 0, kind, 0, 0, 1];
    payload.resize(len.max(8), 0x5a);
    payload.truncate(len);
    payload
}

fn handshake(frame: Frame, kind: u8, len: usize) -> Vec<u8> {
    let payload = message(kind, len);
    Frame { payload, ..frame }.octets()
}

fn run(bench: &Bench, octets: &[u8]) -> Action {
    bench.program.dry_run(octets).unwrap().action
}

/// How many of `count` copies of a frame pass, and what the rest are counted as.
fn passed(bench: &Bench, octets: &[u8], count: u64) -> u64 {
    let before = bench.program.counters().unwrap();
    let passed = (0..count).filter(|_| run(bench, octets) == Action::Pass);
    let passed = passed.count() as u64;
    let expected = Counters {
        too_many: before.too_many + count - passed,
        ..before
    };
    assert_eq!(bench.program.counters().unwrap(), expected);
    passed
}

#[test]
fn messages_that_are_no_handshakes_end_in_the_driver() {
    let bench = checking();
    let mut dropped = 0;
    for kind in 0..=255 {
        for len in [4, 5, 7, 8, 67, 68, 69, 115, 116, 117, 167, 168, 169, 1400] {
            // A message that ends before its type has none.
            let passes = HANDSHAKES.contains(&(kind, len)) || [16, 17].contains(&kind) && len >= 8;
            for frame in [v4(), v6()] {
                let action = run(&bench, &handshake(frame, kind, len));
                assert_eq!(action == Action::Pass, passes, "type {kind}, {len} octets");
                dropped += u64::from(!passes);
            }
        }
    }
    assert_eq!(bench.program.counters().unwrap().not_handshake, dropped);
}

#[test]
fn without_the_check_and_for_others_everything_passes() {
    let bench = Bench::new(Kind::Underlay);
    assert_eq!(run(&bench, &handshake(v4(), 77, 500)), Action::Pass);
    let checked = checking();
    let elsewhere = Frame::to(address("192.0.2.9"), 51820);
    assert_eq!(run(&checked, &handshake(elsewhere, 77, 500)), Action::Pass);
    let other_port = Frame::to(address("192.0.2.1"), 53);
    assert_eq!(run(&checked, &handshake(other_port, 77, 500)), Action::Pass);
    assert_eq!(checked.program.counters().unwrap(), Counters::default());
}

#[test]
fn strangers_share_what_a_core_lets_through() {
    let bench = checking();
    let initiation = handshake(v4(), 1, 168);
    // A share may fill up a little while it is emptied.
    let at_once = passed(&bench, &initiation, 3 * SHARED_BURST);
    assert!(
        (SHARED_BURST..2 * SHARED_BURST).contains(&at_once),
        "{at_once} of {} at once",
        3 * SHARED_BURST
    );
    thread::sleep(Duration::from_millis(100));
    let later = passed(&bench, &initiation, 3 * SHARED_BURST);
    assert!(later >= 40, "{later} after 100 ms, in which 50 are saved");
}

#[test]
fn a_known_endpoint_has_a_share_of_its_own() {
    let mut bench = checking();
    for (frame, from) in [(v4(), "192.0.2.200"), (v6(), "2001:db8::c8")] {
        let endpoint = SocketAddr::new(address(from), 51_000);
        bench.program.add_endpoint(endpoint).unwrap();
        let at = |source_port, tags: &[u16]| {
            let payload = message(1, 168);
            Frame {
                source_port,
                tags: tags.to_vec(),
                payload,
                ..frame.clone()
            }
            .octets()
        };
        // Strangers, also at another port of the same host, use up what is shared.
        while run(&bench, &at(51_001, &[])) == Action::Pass {}
        let known = passed(&bench, &at(51_000, &[CUSTOMER_TAG]), 1);
        assert_eq!(known, 1, "{from}");
        let rest = passed(&bench, &at(51_000, &[]), 3000);
        assert!(
            (ENDPOINT_BURST - 1..500).contains(&rest),
            "{rest}: its share, and what came back of the shared one meanwhile"
        );
        bench.program.remove_endpoint(endpoint).unwrap();
        bench.program.remove_endpoint(endpoint).unwrap();
        while run(&bench, &at(51_001, &[])) == Action::Pass {}
        assert!(passed(&bench, &at(51_000, &[]), 16) < 16, "{from} is gone");
    }
}

#[test]
fn a_full_table_of_endpoints_refuses_more() {
    let mut bench = checking();
    let endpoint = |nth: u32| SocketAddr::new(address("192.0.2.7"), nth as u16);
    for nth in 0..MAX_ENDPOINTS {
        bench.program.add_endpoint(endpoint(nth)).unwrap();
    }
    let full = bench.program.add_endpoint(endpoint(MAX_ENDPOINTS));
    assert!(matches!(full, Err(RedirectError::TooManyEndpoints)));
    bench.program.add_endpoint(endpoint(1)).unwrap();
}
