//! The check of messages without a session: what the kernel gets of them when it is on. Needs root.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use omni_xdp_redirect::{Action, Counters, Kind, MAX_ENDPOINTS, RedirectError};

use crate::support::bench::{Bench, address, v4, v6};
use crate::support::frame::{CUSTOMER_TAG, Frame};

/// Types with the lengths that belong to them.
const HANDSHAKES: [(u8, usize); 3] = [(1, 168), (2, 116), (3, 68)];
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
            // Each from somewhere else, so that none are too many.
            let [high, low] = (len as u16).to_be_bytes();
            let somewhere = [
                IpAddr::from([kind, high, low, 1]),
                IpAddr::from([0x2000 | u16::from(kind), len as u16, 0, 0, 0, 0, 0, 1]),
            ];
            for (frame, source) in [v4(), v6()].into_iter().zip(somewhere) {
                let source = Some(source);
                let frame = Frame { source, ..frame };
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
fn one_stranger_gets_the_shares_of_where_it_is() {
    for frame in [v4(), v6()] {
        let bench = checking();
        let initiation = handshake(frame, 1, 168);
        // A share may fill up a little while it is emptied.
        let at_once = passed(&bench, &initiation, 1000);
        // 15 of each of two hashes, which may agree, and which change every few seconds.
        assert!((15..70).contains(&at_once), "{at_once} of 1000 at once");
        thread::sleep(Duration::from_millis(1100));
        let later = passed(&bench, &initiation, 1000);
        assert!((7..70).contains(&later), "{later} more after 1.1 s");
    }
}

/// Of `TRIALS` strangers, each at a program of its own and with a secret of its own, how many are
/// let in after a flood.
fn let_in(frame: &Frame, sources: impl Fn(u32) -> IpAddr, stranger: &str) -> usize {
    let from = |source, source_port| {
        let frame = Frame {
            source: Some(source),
            source_port,
            ..frame.clone()
        };
        handshake(frame, 1, 168)
    };
    let is_let_in = |_: &u32| {
        let bench = checking();
        let flood = (0..FLOOD).map(|nth| from(sources(nth.wrapping_mul(0x9e37_79b1)), 4000));
        let passed = flood.filter(|octets| run(&bench, octets) == Action::Pass);
        let passed = passed.count();
        assert!(passed <= AT_ONCE_MAX, "{passed} of {FLOOD} passed");
        run(&bench, &from(address(stranger), 20_000)) == Action::Pass
    };
    (0..TRIALS).filter(is_let_in).count()
}

const TRIALS: u32 = 24;
const FLOOD: u32 = 6000;
/// What all shares let through at once, and what comes back to them meanwhile.
const AT_ONCE_MAX: usize = 512 + 128;

#[test]
fn a_flood_takes_the_shares_of_the_networks_it_claims_to_come_from_and_no_others() {
    let within = |network: u128, bits: u32| {
        move |random: u32| {
            let host = u128::from(random).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let address = network | host.checked_shr(bits).unwrap_or(0);
            match u32::try_from(address) {
                Ok(v4) => IpAddr::V4(v4.into()),
                Err(_) => IpAddr::V6(address.into()),
            }
        }
    };
    let v4_within = |network: u32, bits: u32| within(network.into(), 96 + bits);
    let endpoint = 0xc000_0242;
    // By chance a stranger shares with the flood. That is rare, and does not last.
    for stranger in ["192.0.2.67", "192.0.9.1", "198.51.100.7"] {
        let count = let_in(&v4(), v4_within(endpoint, 32), stranger);
        assert!(
            count >= 22,
            "one endpoint floods: {count} of 24 as {stranger}"
        );
    }
    for (stranger, least) in [("198.51.100.7", 20), ("192.0.2.9", 22)] {
        let count = let_in(&v4(), v4_within(0xc612_0000, 15), stranger);
        assert!(
            count >= least,
            "198.18.0.0/15 floods: {count} of 24 as {stranger}"
        );
    }
    let network = 0x2001_0db8_0001 << 80;
    for (stranger, least) in [("2001:db8:2::1", 22), ("2a00::1", 22)] {
        let count = let_in(&v6(), within(network, 48), stranger);
        assert!(count >= least, "a /48 floods: {count} of 24 as {stranger}");
    }
    let everywhere = let_in(&v4(), v4_within(0, 0), "198.51.100.7");
    assert!(
        everywhere < 22,
        "a flood from everywhere keeps strangers out"
    );
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
        // Others of the same host use up what the endpoint has as a stranger's. It gets its own.
        for port in 1..2000 {
            run(&bench, &at(port, &[]));
        }
        assert_eq!(passed(&bench, &at(51_000, &[CUSTOMER_TAG]), 1), 1, "{from}");
        let rest = passed(&bench, &at(51_000, &[]), 3000);
        assert!(
            (ENDPOINT_BURST - 1..ENDPOINT_BURST + 8).contains(&rest),
            "{rest}: its share, and what came back of others meanwhile"
        );
        bench.program.remove_endpoint(endpoint).unwrap();
        bench.program.remove_endpoint(endpoint).unwrap();
        assert!(passed(&bench, &at(51_000, &[]), 16) < 8, "{from} is gone");
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
