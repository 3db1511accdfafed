//! The check of sessions: whose data reaches a socket when it is on. Needs root.

use std::net::IpAddr;

use omni_xdp_redirect::{Action, Counters, Kind, MAX_SESSIONS, RedirectError};

use crate::support::bench::{Bench, PORT, address, v4, v6};
use crate::support::frame::{CUSTOMER_TAG, Frame, SERVICE_TAG};

/// A session's number whose octets differ, so that their order shows.
const SESSION: u32 = 0xc3a1_0207;

/// What becomes of a frame, and where it is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Steered,
    Passed,
    NoSession,
    NoLane,
}

use Fate::{NoLane, NoSession, Passed, Steered};

impl Fate {
    fn action(self) -> Action {
        match self {
            Steered => Action::Redirect,
            Passed => Action::Pass,
            NoSession | NoLane => Action::Drop,
        }
    }

    fn count(self, counters: &mut Counters) {
        match self {
            Steered => counters.steered += 1,
            Passed => {}
            NoSession => counters.no_session += 1,
            NoLane => counters.no_lane += 1,
        }
    }
}

/// An underlay program with the check on.
fn checking() -> Bench {
    let mut bench = Bench::new(Kind::Underlay);
    bench.program.set_session_check(true).unwrap();
    bench
}

/// A data message of a session on a lane.
fn message(session: u32, lane: u16) -> Vec<u8> {
    let mut payload = [&session.to_be_bytes()[..], &[4, 0], &lane.to_be_bytes()].concat();
    payload.resize(96, 0x5a);
    payload
}

fn data(session: u32, lane: u16) -> Frame {
    Frame {
        payload: message(session, lane),
        ..v4()
    }
}

/// Checks verdict and counters of one frame, and that it was not changed.
fn expect(bench: &Bench, about: &str, octets: &[u8], fate: Fate) {
    let mut expected = bench.program.counters().unwrap();
    let after = bench.program.dry_run(octets).unwrap();
    assert_eq!(after.action, fate.action(), "{about}");
    assert_eq!(after.frame, octets, "{about}: the frame was changed");
    fate.count(&mut expected);
    assert_eq!(bench.program.counters().unwrap(), expected, "{about}");
}

/// One data message behind every kind of header that is read.
fn behind_all_headers(session: u32, lane: u16) -> Vec<(String, Vec<u8>)> {
    let mut frames = Vec::new();
    for tags in [vec![], vec![CUSTOMER_TAG], vec![SERVICE_TAG]] {
        let mut add = |about: &str, frame: Frame| {
            let frame = Frame {
                tags: tags.clone(),
                payload: message(session, lane),
                ..frame
            };
            frames.push((format!("{about}, tags {tags:x?}"), frame.octets()));
        };
        add("IPv4", v4());
        add("IPv6", v6());
        for words in [1, 5, 10] {
            let options = vec![1; 4 * words];
            add(
                &format!("IPv4 with {words} words of options"),
                Frame { options, ..v4() },
            );
        }
    }
    frames
}

#[test]
fn only_data_of_sessions_that_were_added_is_steered() {
    let mut bench = checking();
    let frames = behind_all_headers(SESSION, 0);
    let all = |bench: &Bench, when: &str, fate| {
        for (about, frame) in &frames {
            expect(bench, &format!("{about}, {when}"), frame, fate);
        }
    };
    all(&bench, "nothing added", NoSession);
    bench
        .program
        .add_session(SESSION.swap_bytes(), 1, None)
        .unwrap();
    bench.program.add_session(SESSION + 1, 1, None).unwrap();
    all(&bench, "others added", NoSession);
    bench.program.add_session(SESSION, 1, None).unwrap();
    all(&bench, "added", Steered);
    bench.program.remove_session(SESSION).unwrap();
    all(&bench, "removed", NoSession);
    bench.program.remove_session(SESSION).unwrap();
    bench.program.add_session(SESSION, 1, None).unwrap();
    bench.program.add_session(SESSION, 1, None).unwrap();
    all(&bench, "added again, twice", Steered);
    bench.program.remove_session(SESSION).unwrap();
    all(&bench, "added twice, removed once", NoSession);
}

#[test]
fn lanes_from_the_number_announced_on_are_dropped() {
    let mut bench = checking();
    for lanes in [1, 2, 255, 256, u16::MAX] {
        // Adding a session again changes its lanes.
        bench.program.add_session(SESSION, lanes, None).unwrap();
        for (lane, fate) in [
            (0, Steered),
            (lanes - 1, Steered),
            (lanes, NoLane),
            (lanes.saturating_add(1), NoLane),
            (u16::MAX, NoLane),
        ] {
            for (about, frame) in behind_all_headers(SESSION, lane) {
                expect(&bench, &format!("{about}: {lane} of {lanes}"), &frame, fate);
            }
        }
    }
    bench.program.add_session(SESSION, 0, None).unwrap();
    expect(&bench, "no lanes", &data(SESSION, 0).octets(), NoLane);
    let unknown = data(SESSION + 1, u16::MAX).octets();
    expect(&bench, "what is counted once", &unknown, NoSession);
}

#[test]
fn each_session_has_lanes_of_its_own() {
    let mut bench = checking();
    for session in 1..=8 {
        bench
            .program
            .add_session(session, session as u16, None)
            .unwrap();
    }
    for session in 1..=8 {
        for lane in 0..9 {
            let fate = if u32::from(lane) < session {
                Steered
            } else {
                NoLane
            };
            let about = format!("lane {lane} of session {session}");
            expect(&bench, &about, &data(session, lane).octets(), fate);
        }
    }
}

/// The session's number decides alone where a message ends before its lane. What it is then, the
/// engine says.
#[test]
fn messages_too_short_for_a_lane_are_checked_by_session_alone() {
    let mut bench = checking();
    bench.program.add_session(SESSION, 1, None).unwrap();
    for len in 0..=16 {
        for base in [v4(), v6()] {
            let mut payload = message(SESSION, u16::MAX);
            payload.truncate(len);
            let short = Frame { payload, ..base };
            // Looks like a lane, and is none: it is behind the message's end.
            let padding = vec![0xff; 60];
            let padded = Frame {
                padding,
                ..short.clone()
            };
            let fate = match len {
                0..4 => Passed,
                4..8 => Steered,
                _ => NoLane,
            };
            expect(&bench, &format!("{len} octets"), &short.octets(), fate);
            expect(&bench, &format!("{len} padded"), &padded.octets(), fate);
        }
    }
    for len in 4..8 {
        let mut payload = message(SESSION + 1, 0);
        payload.truncate(len);
        let unknown = Frame { payload, ..v4() };
        expect(&bench, "short, unknown", &unknown.octets(), NoSession);
    }
}

#[test]
fn a_frame_cut_off_before_its_lane_is_checked_by_session_alone() {
    let mut bench = checking();
    bench.program.add_session(SESSION, 1, None).unwrap();
    for base in [v4(), v6()] {
        let payload = message(SESSION, u16::MAX);
        let whole = Frame { payload, ..base };
        let (frame, decisive) = (whole.octets(), whole.decisive_len());
        for len in 14..frame.len() {
            let fate = match len {
                _ if len < decisive => Passed,
                _ if len < decisive + 4 => Steered,
                _ => NoLane,
            };
            expect(&bench, &format!("{len} octets"), &frame[..len], fate);
        }
    }
}

#[test]
fn long_frames_are_checked_like_short_ones() {
    let mut bench = checking();
    bench.program.add_session(SESSION, 2, None).unwrap();
    for len in [3400, 4096, 9000] {
        for (session, lane, fate) in [
            (SESSION, 1, Steered),
            (SESSION, 2, NoLane),
            (SESSION + 1, 1, NoSession),
        ] {
            let mut payload = message(session, lane);
            payload.resize(len, 0xa5);
            for base in [v4(), v6()] {
                let payload = payload.clone();
                let frame = Frame { payload, ..base };
                expect(&bench, &format!("{len} octets"), &frame.octets(), fate);
            }
        }
    }
}

#[test]
fn all_that_is_no_data_for_us_passes_the_check() {
    let bench = checking();
    let unknown = || data(SESSION, 0);
    let cases = [
        ("initiation", data(0, 1)),
        (
            "initiation over IPv6",
            Frame {
                payload: message(0, 1),
                ..v6()
            },
        ),
        (
            "tagged initiation",
            Frame {
                tags: vec![CUSTOMER_TAG],
                ..data(0, 1)
            },
        ),
        (
            "another port",
            Frame {
                port: PORT + 1,
                ..unknown()
            },
        ),
        (
            "another address",
            Frame {
                destination: address("192.0.2.2"),
                ..unknown()
            },
        ),
        (
            "a fragment",
            Frame {
                fragment: 0x2000,
                ..unknown()
            },
        ),
        (
            "TCP",
            Frame {
                protocol: 6,
                ..unknown()
            },
        ),
        (
            "ARP",
            Frame {
                ethertype: Some(0x0806),
                ..unknown()
            },
        ),
    ];
    for (about, frame) in cases {
        expect(&bench, about, &frame.octets(), Passed);
    }
}

#[test]
fn the_check_is_off_until_it_is_turned_on_and_changes_nothing_else() {
    let mut bench = Bench::new(Kind::Underlay);
    let (known, unknown) = (data(SESSION, 0).octets(), data(SESSION + 1, 9).octets());
    expect(&bench, "off, empty", &unknown, Steered);
    bench.program.add_session(SESSION, 1, None).unwrap();
    expect(&bench, "off", &unknown, Steered);
    for _ in 0..2 {
        bench.program.set_session_check(true).unwrap();
        expect(&bench, "on, unknown", &unknown, NoSession);
        expect(&bench, "on, known", &known, Steered);
        let elsewhere = Frame {
            port: 4789,
            ..data(SESSION + 1, 0)
        };
        expect(&bench, "on, another port", &elsewhere.octets(), Passed);
        bench.program.set_port(4789).unwrap();
        expect(&bench, "on, port set", &elsewhere.octets(), NoSession);
        bench.program.set_port(PORT).unwrap();
        bench.program.set_session_check(false).unwrap();
        expect(&bench, "off again", &unknown, Steered);
    }
}

/// A flood must not reach the host's socket by way of a queue that has none of ours.
#[test]
fn without_a_socket_known_sessions_pass_and_unknown_ones_do_not() {
    let mut bench = checking();
    bench.program.add_session(SESSION, 1, None).unwrap();
    bench.program.clear_socket(0).unwrap();
    expect(&bench, "known", &data(SESSION, 0).octets(), Passed);
    expect(&bench, "lane", &data(SESSION, 1).octets(), NoLane);
    expect(&bench, "unknown", &data(SESSION + 1, 0).octets(), NoSession);
}

/// Numbers of sessions, spread over their whole range as random ones are.
fn nth_session(nth: u32) -> u32 {
    nth.wrapping_mul(0x9e37_79b1) | 1 << 31
}

#[test]
fn many_sessions_come_and_go_and_leave_nothing_behind() {
    const SESSIONS: u32 = MAX_SESSIONS;
    let mut bench = checking();
    let samples = || (0..SESSIONS).step_by(997);
    for round in 0..2 {
        for nth in 0..SESSIONS {
            bench
                .program
                .add_session(nth_session(nth), 4, None)
                .unwrap();
        }
        for nth in samples() {
            let frame = data(nth_session(nth), 3).octets();
            expect(&bench, &format!("{nth} added, {round}"), &frame, Steered);
        }
        // Every second one: those that stay must not suffer.
        for nth in (0..SESSIONS).step_by(2) {
            bench.program.remove_session(nth_session(nth)).unwrap();
        }
        for nth in samples() {
            let fate = if nth % 2 == 0 { NoSession } else { Steered };
            let frame = data(nth_session(nth), 3).octets();
            expect(&bench, &format!("{nth} of half, {round}"), &frame, fate);
        }
        for nth in 0..SESSIONS {
            bench.program.remove_session(nth_session(nth)).unwrap();
        }
        for nth in samples() {
            let frame = data(nth_session(nth), 3).octets();
            expect(&bench, &format!("{nth} gone, {round}"), &frame, NoSession);
        }
    }
}

#[test]
fn a_full_table_refuses_more_and_keeps_what_it_has() {
    let mut bench = checking();
    for nth in 0..MAX_SESSIONS {
        bench.program.add_session(nth + 1, 1, None).unwrap();
    }
    let full = bench
        .program
        .add_session(MAX_SESSIONS + 1, 1, None)
        .unwrap_err();
    assert!(matches!(full, RedirectError::TooManySessions), "{full}");
    assert!(full.to_string().contains("65536"), "{full}");
    let beyond = data(MAX_SESSIONS + 1, 0).octets();
    expect(&bench, "beyond", &beyond, NoSession);
    for session in [1, MAX_SESSIONS / 2, MAX_SESSIONS] {
        expect(&bench, "kept", &data(session, 0).octets(), Steered);
    }
    // One that is there can change, and one that goes makes room.
    bench.program.add_session(5, 2, None).unwrap();
    expect(&bench, "changed", &data(5, 1).octets(), Steered);
    bench.program.remove_session(6).unwrap();
    bench
        .program
        .add_session(MAX_SESSIONS + 1, 1, None)
        .unwrap();
    expect(&bench, "in its place", &beyond, Steered);
}

#[test]
fn data_from_elsewhere_than_the_peer_is_has_a_share() {
    for (frame, home, elsewhere) in [
        (v4(), "192.0.2.200", "192.0.2.201"),
        (v6(), "2001:db8::c8", "2001:db8:1::c8"),
    ] {
        let mut bench = checking();
        let home = address(home);
        bench.program.add_session(SESSION, 1, Some(home)).unwrap();
        let from = |source: IpAddr, port| Frame {
            source: Some(source),
            source_port: port,
            payload: message(SESSION, 0),
            ..frame.clone()
        };
        let steered = |bench: &Bench, frame: &Frame, count: u64| {
            let before = bench.program.counters().unwrap();
            for _ in 0..count {
                bench.run(frame);
            }
            let after = bench.program.counters().unwrap();
            let (steered, dropped) = (
                after.steered - before.steered,
                after.elsewhere - before.elsewhere,
            );
            assert_eq!(steered + dropped, count);
            steered
        };
        let stray = from(address(elsewhere), 51_820);
        let at_once = steered(&bench, &stray, 5000);
        assert!(
            (2000..2500).contains(&at_once),
            "{at_once} from {elsewhere}"
        );
        for port in [51_820, 4000] {
            assert_eq!(steered(&bench, &from(home, port), 3000), 3000, "{home}");
        }
        // The engine has followed the peer.
        let there = Some(address(elsewhere));
        bench.program.add_session(SESSION, 1, there).unwrap();
        assert_eq!(steered(&bench, &stray, 3000), 3000);
        bench.program.add_session(SESSION, 1, None).unwrap();
        assert_eq!(steered(&bench, &from(home, 1), 3000), 3000, "not known");
    }
}

#[test]
fn a_throttled_session_has_a_share_until_it_is_set_anew() {
    let mut bench = checking();
    let frame = Frame {
        payload: message(SESSION, 0),
        ..v4()
    };
    let steered = |bench: &Bench| {
        let before = bench.program.counters().unwrap();
        for _ in 0..5000 {
            bench.run(&frame);
        }
        let after = bench.program.counters().unwrap();
        let steered = after.steered - before.steered;
        assert_eq!(steered + after.too_much - before.too_much, 5000);
        steered
    };
    bench.program.throttle_session(SESSION, 1).unwrap();
    let at_once = steered(&bench);
    assert!((2000..2500).contains(&at_once), "{at_once}");
    bench.program.add_session(SESSION, 1, None).unwrap();
    assert_eq!(steered(&bench), 5000);
}
