//! Where peers are: provisional endpoints, roaming, paths.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use omni_control::GanglionEvent;
use omni_control::message::{Command, Upcall};

use crate::harness::{PEER, Pair, Setup, address, path_to};

const INITIATION: u8 = 1;

fn elsewhere() -> SocketAddr {
    "[2001:db8::7]:4000".parse().expect("an address and a port")
}

fn second() -> Duration {
    Duration::from_secs(1)
}

/// The session that a node installed last.
fn newest_session(pair: &Pair, node: usize) -> u32 {
    let installs = &pair.nodes[node].commands;
    let text = installs
        .iter()
        .rev()
        .find(|text| text.starts_with("InstallSession"));
    let text = text.expect("a session");
    let (_, rest) = text.split_once("session_id: ").expect("a field");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn a_peer_without_an_endpoint_is_unreachable_until_it_speaks() {
    let deaf = Setup {
        knows_endpoint: false,
        ..Setup::default()
    };
    let mut pair = Pair::with([deaf.clone(), deaf], 1);
    pair.send(0, 1);
    pair.run(second());
    assert!(pair.sent.is_empty());
    assert_eq!(pair.nodes[0].worker.dropped, 1);
    assert_eq!(
        pair.nodes[0].count("SetReachable { peer: PeerId(0), reachable: false }"),
        1
    );
    pair.upcall(0, &Upcall::NeedSession { peer: PEER });
    assert!(pair.sent.is_empty());

    pair.restart(1, &Setup::default());
    pair.run(second());
    let node = &pair.nodes[0];
    assert_eq!(node.status().endpoint, Some(address(1)));
    assert_eq!(
        node.count("SetReachable { peer: PeerId(0), reachable: true }"),
        1
    );
    assert_eq!(
        node.events,
        [GanglionEvent::ResolvePath {
            peer: PEER,
            endpoint: address(1),
            source: Some(address(0).ip()),
        }]
    );
    pair.send(0, 2);
    pair.run(second());
    assert_eq!(pair.nodes[1].worker.delivered, [2]);
}

#[test]
fn a_peer_with_an_endpoint_is_told_to_be_reachable_when_it_is_added() {
    let pair = Pair::established(2);
    let commands = &pair.nodes[0].commands;
    assert!(commands[0].starts_with("AddPeer"));
    assert!(commands[1].starts_with("SetReachable { peer: PeerId(0), reachable: true }"));
}

#[test]
fn a_handshake_from_elsewhere_is_answered_there_but_moves_nothing() {
    let mut pair = Pair::established(3);
    pair.run(Duration::from_secs(6));
    // The peer's host has a second address, and its initiation happens to leave from there.
    pair.net.block = |_, datagram| datagram.is_handshake(1);
    pair.upcall(0, &Upcall::RekeySoon { peer: PEER });
    let initiation = pair.last_handshake(1, 0);
    pair.inject(1, elsewhere(), &initiation);
    let answer = pair
        .sent
        .iter()
        .rev()
        .find(|(_, _, datagram)| datagram.is_handshake(2));
    assert_eq!(
        answer.map(|(_, _, datagram)| datagram.destination),
        Some(elsewhere())
    );
    assert_eq!(pair.nodes[1].status().endpoint, Some(address(0)));
    assert_eq!(pair.nodes[1].events.len(), 1);
}

#[test]
fn a_verified_message_from_elsewhere_moves_the_peer() {
    let mut pair = Pair::established(4);
    pair.nodes[0].address = elsewhere();
    pair.send(0, 1);
    pair.run(second());
    assert_eq!(pair.nodes[1].status().endpoint, Some(elsewhere()));
    let event = GanglionEvent::ResolvePath {
        peer: PEER,
        endpoint: elsewhere(),
        source: None,
    };
    assert_eq!(pair.nodes[1].events.last(), Some(&event));
    pair.send(1, 2);
    pair.run(second());
    assert_eq!(pair.nodes[0].worker.delivered, [2]);
    assert_eq!(
        pair.nodes[1].count("SetReachable"),
        2,
        "it was reachable all the time"
    );
}

#[test]
fn a_peer_that_went_back_to_where_it_is_configured_is_found_there() {
    let mut pair = Pair::established(7);
    pair.nodes[1].address = elsewhere();
    pair.send(1, 1);
    pair.run(second());
    assert_eq!(pair.nodes[0].status().endpoint, Some(elsewhere()));
    // It says nothing of its way back.
    pair.nodes[1].address = address(1);
    pair.send(0, 2);
    // 15 s without an answer, a first try at the old place, a second at both.
    pair.run(Duration::from_secs(22));
    assert_eq!(pair.nodes[0].status().endpoint, Some(address(1)));
    pair.send(0, 3);
    pair.send(1, 4);
    pair.run(second());
    assert_eq!(pair.nodes[1].worker.delivered.last(), Some(&3));
    assert_eq!(pair.nodes[0].worker.delivered, [1, 4]);
}

#[test]
fn an_answer_from_where_nobody_looked_moves_nothing() {
    let mut pair = Pair::established(8);
    pair.run(Duration::from_secs(6));
    pair.upcall(0, &Upcall::RekeySoon { peer: PEER });
    let sessions = pair.nodes[0].count("InstallSession");
    // The answer takes the peer's other way out.
    pair.nodes[1].address = elsewhere();
    let initiation = pair.last_handshake(1, 0);
    pair.inject(1, address(0), &initiation);
    pair.run(Duration::from_millis(500));
    assert_eq!(pair.nodes[0].count("InstallSession"), sessions + 1);
    assert_eq!(pair.nodes[0].status().endpoint, Some(address(1)));
}

#[test]
fn both_sides_of_crossed_sessions_can_move() {
    let mut pair = Pair::new(5);
    pair.chat(&[0, 1], Duration::from_millis(100), second(), 0);
    pair.nodes[0].address = elsewhere();
    pair.chat(&[0, 1], Duration::from_millis(100), second(), 1000);
    assert_eq!(pair.nodes[1].status().endpoint, Some(elsewhere()));
    let moved: SocketAddr = "192.0.2.99:1".parse().expect("an address and a port");
    pair.nodes[1].address = moved;
    pair.chat(&[0, 1], Duration::from_millis(100), second(), 2000);
    assert_eq!(pair.nodes[0].status().endpoint, Some(moved));
}

#[test]
fn a_message_in_an_older_session_moves_nothing() {
    let mut pair = Pair::established(6);
    let old = newest_session(&pair, 1);
    pair.run(Duration::from_secs(6));
    pair.upcall(0, &Upcall::RekeySoon { peer: PEER });
    pair.run(second());
    assert_ne!(newest_session(&pair, 1), old);
    pair.upcall(
        1,
        &Upcall::Moved {
            peer: PEER,
            session_id: old,
            source: elsewhere(),
            local: address(1).ip(),
        },
    );
    assert_eq!(pair.nodes[1].status().endpoint, Some(address(0)));
    let newest = newest_session(&pair, 1);
    pair.upcall(
        1,
        &Upcall::Moved {
            peer: PEER,
            session_id: newest,
            source: elsewhere(),
            local: address(1).ip(),
        },
    );
    assert_eq!(pair.nodes[1].status().endpoint, Some(elsewhere()));
}

#[test]
fn an_unknown_session_or_peer_moves_nothing() {
    let mut pair = Pair::established(7);
    let moved = |peer, session_id| Upcall::Moved {
        peer,
        session_id,
        source: elsewhere(),
        local: address(1).ip(),
    };
    pair.upcall(1, &moved(PEER, 12345));
    pair.upcall(1, &moved(omni_control::message::PeerId(9), 12345));
    assert_eq!(pair.nodes[1].status().endpoint, Some(address(0)));
}

#[test]
fn a_path_is_passed_on_when_it_changes_and_only_for_the_endpoint_of_today() {
    let mut pair = Pair::established(8);
    pair.nodes[1].resolves = false;
    let now = pair.now;
    let path_to = |endpoint| Some(pair.nodes[1].path_to(endpoint, None));
    let (there, gone) = (path_to(address(0)), path_to(elsewhere()));
    let ganglion = &mut pair.nodes[1].ganglion;
    ganglion.handle_path(now, PEER, address(0), there);
    assert!(ganglion.poll_command().is_none(), "known already");
    ganglion.handle_path(now, PEER, elsewhere(), gone);
    assert!(ganglion.poll_command().is_none(), "the peer is not there");
    ganglion.handle_path(now, PEER, address(0), None);
    assert!(matches!(
        ganglion.poll_command(),
        Some(Command::SetPath { path: None, .. })
    ));
    ganglion.handle_path(now, PEER, address(0), there);
    assert!(matches!(
        ganglion.poll_command(),
        Some(Command::SetPath { path: Some(_), .. })
    ));
}

#[test]
fn only_the_latest_endpoint_of_a_peer_waits_to_be_resolved() {
    let mut pair = Pair::established(9);
    let session_id = newest_session(&pair, 1);
    let now = pair.now;
    let ganglion = &mut pair.nodes[1].ganglion;
    for port in 1..=1000 {
        let source = SocketAddr::new(elsewhere().ip(), port);
        ganglion.handle_upcall(
            now,
            &Upcall::Moved {
                peer: PEER,
                session_id,
                source,
                local: address(1).ip(),
            },
        );
    }
    let endpoint = SocketAddr::new(elsewhere().ip(), 1000);
    let event = GanglionEvent::ResolvePath {
        peer: PEER,
        endpoint,
        source: None,
    };
    assert_eq!(ganglion.poll_event(), Some(event));
    assert_eq!(ganglion.poll_event(), None);
}

#[test]
fn a_path_that_is_found_after_the_handshake_confirms_the_session() {
    let deaf = Setup {
        knows_endpoint: false,
        ..Setup::default()
    };
    let mut pair = Pair::with([Setup::default(), deaf], 10);
    pair.nodes[0].resolves = false;
    pair.run(second());
    assert_eq!(
        pair.nodes[1].count("ConfirmSession"),
        0,
        "the keepalive could not leave"
    );
    let now = pair.now;
    let found = Some(path_to(address(1)));
    pair.nodes[0]
        .ganglion
        .handle_path(now, PEER, address(1), found);
    pair.run(second());
    pair.assert_established();
}

/// Another address of the second node's host.
fn second_address() -> IpAddr {
    "198.51.100.2".parse().expect("an address")
}

/// A pair whose first node speaks to the second one's second address.
fn spoken_to_at_the_second_address(seed: u64) -> Pair {
    let deaf = Setup {
        knows_endpoint: false,
        ..Setup::default()
    };
    let mut pair = Pair::with([deaf.clone(), deaf], seed);
    pair.nodes[1].further.push(second_address());
    let endpoint = SocketAddr::new(second_address(), address(1).port());
    pair.operate(0, |ganglion, now| {
        assert!(ganglion.set_endpoint(now, PEER, Some(endpoint)));
    });
    pair.run(second());
    pair.assert_established();
    pair
}

/// Where the messages of the second node came from, since `skip`.
fn sources(pair: &Pair, skip: usize) -> Vec<IpAddr> {
    let sent = pair.sent[skip..].iter().filter(|(_, from, _)| *from == 1);
    let mut sources: Vec<_> = sent.map(|(_, _, datagram)| datagram.source.ip()).collect();
    sources.dedup();
    sources
}

#[test]
fn handshakes_and_data_leave_from_the_address_that_the_peer_spoke_to() {
    let mut pair = spoken_to_at_the_second_address(20);
    assert_eq!(pair.nodes[1].status().local, Some(second_address()));
    pair.chat(
        &[0, 1],
        Duration::from_millis(200),
        Duration::from_secs(10),
        0,
    );
    pair.upcall(1, &Upcall::RekeySoon { peer: PEER });
    pair.run(second());
    assert!(pair.handshakes(1).iter().any(|(_, from)| *from == 1));
    assert_eq!(sources(&pair, 0), [second_address()]);
    let endpoint = pair.nodes[0].status().endpoint.expect("known");
    assert_eq!(endpoint.ip(), second_address());
}

#[test]
fn a_peer_that_turns_to_another_address_of_ours_is_answered_from_there() {
    let mut pair = spoken_to_at_the_second_address(21);
    pair.operate(0, |ganglion, now| {
        ganglion.set_endpoint(now, PEER, Some(address(1)))
    });
    pair.run(second());
    let skip = pair.sent.len();
    pair.chat(&[0, 1], Duration::from_millis(200), second(), 0);
    assert_eq!(sources(&pair, skip), [address(1).ip()]);
    let status = pair.nodes[1].status();
    assert_eq!(status.local, Some(address(1).ip()));
    assert_eq!(status.endpoint, Some(address(0)));
}

#[test]
fn an_address_that_is_gone_is_not_spoken_from_and_the_peer_follows() {
    let mut pair = spoken_to_at_the_second_address(22);
    pair.nodes[1].further.clear();
    pair.operate(1, |ganglion, now| {
        ganglion.handle_address_gone(now, second_address());
    });
    assert_eq!(pair.nodes[1].status().local, None);
    let skip = pair.sent.len();
    let next = pair.chat(&[1], Duration::from_millis(200), second(), 0);
    pair.chat(&[0, 1], Duration::from_millis(200), second(), next);
    pair.run(second());
    assert_eq!(sources(&pair, skip), [address(1).ip()]);
    assert_eq!(pair.nodes[0].status().endpoint, Some(address(1)));
    assert!(!pair.nodes[1].worker.delivered.is_empty());
}

#[test]
fn an_address_that_nobody_uses_may_go_unnoticed() {
    let mut pair = Pair::established(23);
    let events = pair.nodes[1].events.len();
    pair.operate(1, |ganglion, now| {
        ganglion.handle_address_gone(now, second_address());
    });
    assert_eq!(pair.nodes[1].events.len(), events);
}

#[test]
fn an_address_that_cannot_be_spoken_from_is_given_up_and_not_asked_for_again() {
    let mut pair = Pair::established(24);
    let moved = Upcall::Moved {
        peer: PEER,
        session_id: newest_session(&pair, 1),
        source: address(0),
        local: second_address(),
    };
    let commands = pair.nodes[1].count("SetPath");
    pair.upcall(1, &moved);
    let event = pair.nodes[1].events.last().expect("an event");
    let GanglionEvent::ResolvePath { source, .. } = event;
    assert_eq!(*source, Some(second_address()), "asked for once");
    assert_eq!(
        pair.nodes[1].status().local,
        None,
        "the kernel chose another"
    );
    assert_eq!(
        pair.nodes[1].count("SetPath"),
        commands,
        "the workers know it"
    );
}

#[test]
fn endpoint_and_own_address_change_by_one_command() {
    let mut pair = Pair::established(25);
    pair.nodes[1].further.push(second_address());
    let before = pair.nodes[1].count("SetPath");
    let source: SocketAddr = "203.0.113.7:7".parse().expect("an address and a port");
    let moved = Upcall::Moved {
        peer: PEER,
        session_id: newest_session(&pair, 1),
        source,
        local: second_address(),
    };
    pair.upcall(1, &moved);
    let node = &pair.nodes[1];
    assert_eq!(node.count("SetPath"), before + 1);
    let path = node.commands.iter().rfind(|it| it.contains("SetPath"));
    let path = path.expect("a command");
    assert!(path.contains("source: 198.51.100.2"), "{path}");
    assert!(path.contains("endpoint: 203.0.113.7:7"), "{path}");
    let last = node.commands.last().expect("a command");
    assert!(
        last.contains("SendKeepalive"),
        "the peer is told at once: {last}"
    );
}

#[test]
fn whether_a_peer_is_there_is_found_out_also_where_there_is_a_session() {
    let mut pair = Pair::established(26);
    let initiations = |pair: &Pair| pair.handshakes(INITIATION).len();
    let before = initiations(&pair);
    pair.operate(0, |ganglion, now| ganglion.check(now, PEER));
    pair.run(Duration::from_secs(4));
    assert_eq!(initiations(&pair), before, "it was heard a second ago");
    pair.run(Duration::from_secs(4));
    pair.operate(0, |ganglion, now| ganglion.check(now, PEER));
    assert!(pair.nodes[0].status().unanswered_since.is_some());
    pair.run(Duration::from_secs(1));
    assert_eq!(initiations(&pair), before + 1);
    assert_eq!(pair.nodes[0].status().unanswered_since, None, "it answered");
    pair.net.block = |from, _| from == 1;
    pair.run(Duration::from_secs(6));
    let at = pair.now.instant;
    pair.operate(0, |ganglion, now| ganglion.check(now, PEER));
    pair.run(Duration::from_secs(30));
    pair.assert_established();
    assert_eq!(pair.nodes[0].status().unanswered_since, Some(at));
    assert!(initiations(&pair) >= before + 6, "again and again");
}
