//! Floods: when cookies are asked for, and that those who answer them get through.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;

use omni_control::{
    Ganglion, GanglionConfig, PeerConfig, PeerState, PrivateKey, PublicKey, SymmetricKey, Timers,
    Transmit,
};
use omni_wire::{DropReason, Now};

use crate::harness::{PEER, Pair, Seeded, Setup, address};

const COOKIE_REPLY: u8 = 3;

/// The second node's public key, as a stranger may know it.
fn victim(pair: &Pair) -> PublicKey {
    pair.nodes[1].public_key
}

/// Someone who knows the victim's public key, and nothing else, and who has no patience.
fn stranger(pair: &Pair, now: Now) -> Ganglion {
    let config = GanglionConfig {
        fabric: "lab".to_owned(),
        private_key: PrivateKey([0x77; 32]),
        lanes: 1,
        max_frame: 1440,
        capabilities: 0,
        workers: 1,
        path_mtu: false,
        remembered: None,
    };
    let timers = Timers {
        handshake_retry: Duration::from_millis(1),
        handshake_jitter: Duration::ZERO,
        handshake_give_up: Duration::from_secs(1000),
        ..Timers::default()
    };
    let mut ganglion = Ganglion::with_timers(config, timers, Box::new(Seeded(0xbad)), now);
    let peer = PeerConfig {
        public_key: victim(pair),
        preshared_key: None,
        endpoint: Some(address(1)),
    };
    assert!(ganglion.add_peer(now, peer).is_ok());
    ganglion
}

/// Gives `count` initiations of the stranger to the victim, one every millisecond of the
/// stranger's own time. With `answers`, cookies find their way back to it.
fn flood(pair: &mut Pair, stranger: &mut Ganglion, time: &mut Now, count: usize, answers: bool) {
    flood_from(pair, stranger, time, count, answers, || address(9));
}

/// The same, each from an address of its own.
fn flood_from(
    pair: &mut Pair,
    stranger: &mut Ganglion,
    time: &mut Now,
    count: usize,
    answers: bool,
    mut from: impl FnMut() -> SocketAddr,
) {
    let now = pair.now;
    for _ in 0..count {
        while let Some(Transmit { payload, .. }) = stranger.poll_transmit() {
            let source = from();
            let node = &mut pair.nodes[1];
            node.ganglion.handle_datagram(now, source, None, &payload);
            while let Some(reply) = node.ganglion.poll_transmit() {
                assert_eq!(
                    (reply.destination, reply.payload[4]),
                    (source, COOKIE_REPLY)
                );
                assert!(reply.payload.len() <= payload.len(), "no amplification");
                if answers {
                    stranger.handle_datagram(*time, address(1), None, &reply.payload);
                }
            }
        }
        *time = time.advanced(Duration::from_millis(1));
        stranger.handle_timeout(*time);
    }
}

/// An endless supply of addresses.
fn anywhere() -> impl FnMut() -> SocketAddr {
    let mut rng = Seeded(0x5eed);
    move || {
        let number = rng.next();
        let ip = Ipv4Addr::from_bits(number as u32 | 0x0100_0000);
        SocketAddr::new(ip.into(), (number >> 32) as u16 | 1)
    }
}

/// A pair of which both know where the other one is, but only `from` has begun. It floods the
/// second node before the first message between them arrives.
fn flooded(from: usize, seed: u64, source: impl FnMut() -> SocketAddr) -> (Pair, Ganglion, Now) {
    let mut pair = Pair::new(seed);
    pair.net.block = if from == 0 {
        |from, datagram| from == 1 && datagram.is_handshake(1)
    } else {
        |from, datagram| from == 0 && datagram.is_handshake(1)
    };
    pair.run(Duration::ZERO);
    let mut time = pair.now;
    let mut attacker = stranger(&pair, time);
    flood_from(&mut pair, &mut attacker, &mut time, 1000, false, source);
    (pair, attacker, time)
}

#[test]
fn a_known_peer_gets_through_a_flood_at_once_whoever_begins() {
    for from in [0, 1] {
        let (mut pair, mut attacker, mut time) = flooded(from, 5, anywhere());
        let asked = pair.nodes[1].drops(DropReason::HandshakeNoCookie);
        assert!((450..510).contains(&asked), "{asked} cookies asked for");
        pair.run(Duration::from_millis(30));
        flood_from(&mut pair, &mut attacker, &mut time, 1000, false, anywhere());
        pair.run(Duration::from_millis(100));
        pair.assert_established();
        assert_eq!(pair.handshakes(COOKIE_REPLY).len(), 0);
        let begun = pair.handshakes(1);
        assert_eq!(begun.iter().filter(|(_, by)| *by == from).count(), 1);
    }
}

#[test]
fn a_known_peer_whose_address_is_forged_gets_through_with_a_cookie() {
    let (mut pair, mut attacker, mut time) = flooded(0, 6, || address(0));
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.nodes[0].status().state, PeerState::Handshaking);
    assert_eq!(pair.handshakes(COOKIE_REPLY).len(), 1);
    let mut source = anywhere();
    for _ in 0..12 {
        // Whoever forges it goes on doing so, and takes each permit as it comes.
        flood_from(&mut pair, &mut attacker, &mut time, 100, false, || {
            address(0)
        });
        flood_from(&mut pair, &mut attacker, &mut time, 130, false, &mut source);
        pair.run(Duration::from_millis(460));
    }
    pair.assert_established();
    let begun = pair.handshakes(1);
    assert_eq!(begun.iter().filter(|(_, by)| *by == 0).count(), 2);
    assert_ne!(
        pair.last_handshake(1, 0)[152..],
        [0; 16],
        "it showed the cookie"
    );
}

#[test]
fn another_port_of_a_peers_address_is_no_known_endpoint() {
    let elsewhere = SocketAddr::new(address(0).ip(), 1);
    let (pair, ..) = flooded(0, 7, || elsewhere);
    let asked = pair.nodes[1].drops(DropReason::HandshakeNoCookie);
    let known = flooded(0, 7, || address(0)).0.nodes[1].drops(DropReason::HandshakeNoCookie);
    assert_eq!(asked, known + 3, "the three permits of the known one");
}

#[test]
fn cookie_replies_are_bounded_apart_and_hold_up_no_handshake() {
    let mut pair = Pair::new(8);
    pair.run(Duration::ZERO);
    let mut time = pair.now;
    let mut attacker = stranger(&pair, time);
    let now = pair.now;
    let ganglion = &mut pair.nodes[1].ganglion;
    for _ in 0..800 {
        while let Some(Transmit { payload, .. }) = attacker.poll_transmit() {
            ganglion.handle_datagram(now, address(9), None, &payload);
        }
        time = time.advanced(Duration::from_millis(1));
        attacker.handle_timeout(time);
    }
    let secret = Some(SymmetricKey([1; 32]));
    assert!(ganglion.set_preshared_key(now, PEER, secret));
    let first = ganglion.poll_transmit().expect("an initiation");
    assert_eq!((first.destination, first.payload[4]), (address(0), 1));
    let replies: Vec<_> = std::iter::from_fn(|| ganglion.poll_transmit()).collect();
    assert_eq!(replies.len(), 256);
    assert!(replies.iter().all(|reply| reply.payload[4] == COOKIE_REPLY));
    let asked = ganglion.drops().get(DropReason::HandshakeNoCookie);
    assert_eq!(ganglion.drops().get(DropReason::MailboxFull), asked - 256);
}

#[test]
fn a_flood_is_answered_by_cookies_and_a_peer_gets_through_with_one() {
    let deaf = Setup {
        knows_endpoint: false,
        ..Setup::default()
    };
    let mut pair = Pair::with([Setup::default(), deaf], 1);
    let mut time = pair.now;
    let mut attacker = stranger(&pair, time);
    flood(&mut pair, &mut attacker, &mut time, 600, false);
    let asked = pair.nodes[1].drops(DropReason::HandshakeNoCookie);
    assert!(
        (80..=100).contains(&asked),
        "{asked} cookies asked for after the burst"
    );

    // The peer's first initiation arrives now: it is sent a cookie, and nothing else.
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.handshakes(COOKIE_REPLY).len(), 1);
    assert_eq!(pair.nodes[0].status().state, PeerState::Handshaking);
    let first = pair.last_handshake(1, 0);
    assert_eq!(first[152..], [0; 16], "no cookie yet");
    pair.run(Duration::from_secs(4));
    assert_eq!(
        pair.handshakes(1).len(),
        1,
        "the cookie is used at the next attempt, not at once"
    );

    // The flood goes on, and the next attempt shows the cookie.
    flood(&mut pair, &mut attacker, &mut time, 2000, false);
    pair.run(Duration::from_millis(900));
    flood(&mut pair, &mut attacker, &mut time, 2000, false);
    pair.run(Duration::from_millis(500));
    let second = pair.last_handshake(1, 0);
    assert_ne!(second, first);
    assert_ne!(second[152..], [0; 16]);
    pair.assert_established();
    assert_eq!(pair.nodes[1].drops(DropReason::HandshakeRateLimited), 0);
}

#[test]
fn a_source_that_answers_cookies_is_still_limited() {
    let deaf = Setup {
        knows_endpoint: false,
        ..Setup::default()
    };
    let mut pair = Pair::with([deaf.clone(), deaf], 2);
    let mut time = pair.now;
    let mut attacker = stranger(&pair, time);
    flood(&mut pair, &mut attacker, &mut time, 1000, true);
    let limited = pair.nodes[1].drops(DropReason::HandshakeRateLimited);
    let worked_on = pair.nodes[1].drops(DropReason::HandshakeUnknownPeer);
    assert!(limited > 450, "{limited} limited");
    assert!(worked_on <= 512 + 5, "{worked_on} worked on in one instant");
}

#[test]
fn load_ends_with_the_flood() {
    let deaf = Setup {
        knows_endpoint: false,
        ..Setup::default()
    };
    let mut pair = Pair::with([deaf.clone(), deaf], 3);
    let mut time = pair.now;
    let mut attacker = stranger(&pair, time);
    flood(&mut pair, &mut attacker, &mut time, 600, false);
    let asked = pair.nodes[1].drops(DropReason::HandshakeNoCookie);
    pair.run(Duration::from_secs(3));
    flood(&mut pair, &mut attacker, &mut time, 5, false);
    assert_eq!(pair.nodes[1].drops(DropReason::HandshakeNoCookie), asked);
}

#[test]
fn a_cookie_reply_that_nobody_asked_for_is_refused() {
    let mut pair = Pair::established(4);
    let mut reply = vec![0, 0, 0, 0, COOKIE_REPLY, 0, 0, 1];
    reply.resize(68, 0);
    pair.inject(0, address(1), &reply);
    assert_eq!(pair.nodes[0].drops(DropReason::HandshakeUnexpected), 1);
    // For an index that is in use, it has to verify.
    let session = pair.last_handshake(1, 0)[8..12].to_vec();
    reply[8..12].copy_from_slice(&session);
    pair.inject(0, address(1), &reply);
    assert_eq!(pair.nodes[0].drops(DropReason::HandshakeInvalid), 1);
}
