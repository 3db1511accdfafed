//! What must not work, and must not be answered.

use core::time::Duration;

use omni_control::PeerState;
use omni_wire::DropReason;

use crate::harness::{Pair, Seeded, Setup, address, private_key};
use crate::worker::Body;

const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A pair of which the second never initiates.
fn one_sided(first: Setup, second: Setup, seed: u64) -> Pair {
    Pair::with(
        [
            first,
            Setup {
                knows_endpoint: false,
                ..second
            },
        ],
        seed,
    )
}

fn assert_silent(pair: &Pair, node: usize) {
    assert!(
        pair.sent.iter().all(|(_, from, _)| *from != node),
        "node {node} answered"
    );
}

#[test]
fn another_fabric_is_not_answered() {
    let other = Setup {
        fabric: "lab2",
        ..Setup::default()
    };
    let mut pair = one_sided(Setup::default(), other, 1);
    pair.run(seconds(30));
    assert_silent(&pair, 1);
    assert!(pair.nodes[1].drops(DropReason::HandshakeInvalid) >= 5);
    assert_eq!(pair.nodes[0].status().state, PeerState::Handshaking);
}

#[test]
fn another_preshared_key_gives_no_session() {
    let other = Setup {
        psk: Some([1; 32]),
        ..Setup::default()
    };
    let mut pair = one_sided(Setup::default(), other, 2);
    pair.run(seconds(30));
    assert!(pair.nodes[0].drops(DropReason::HandshakeInvalid) >= 5);
    for node in &pair.nodes {
        assert_ne!(node.status().state, PeerState::Established);
        assert_eq!(
            node.count("ConfirmSession") + node.count("SendKeepalive"),
            0
        );
    }
    assert_eq!(pair.nodes[0].count("InstallSession"), 0);
}

#[test]
fn the_same_preshared_key_gives_one() {
    let setup = Setup {
        psk: Some([1; 32]),
        ..Setup::default()
    };
    let mut pair = one_sided(setup.clone(), setup, 3);
    pair.run(seconds(1));
    pair.assert_established();
}

#[test]
fn an_unknown_key_is_not_answered() {
    let mut pair = one_sided(Setup::default(), Setup::default(), 4);
    let known = pair.nodes[1].status().id;
    pair.nodes[1].ganglion.remove_peer(known);
    pair.run(seconds(30));
    assert_silent(&pair, 1);
    assert!(pair.nodes[1].drops(DropReason::HandshakeUnknownPeer) >= 5);
}

#[test]
fn a_replayed_initiation_is_refused_from_anywhere_at_any_time() {
    let mut pair = Pair::established(5);
    let initiation = pair.last_handshake(INITIATION, 0);
    let answers = pair.handshakes(RESPONSE).len();
    for later in [0, 1, 10, 100, 1000] {
        pair.run(seconds(later));
        pair.inject(1, address(0), &initiation);
        pair.inject(1, address(5), &initiation);
    }
    assert_eq!(pair.nodes[1].drops(DropReason::HandshakeReplayed), 10);
    assert_eq!(pair.handshakes(RESPONSE).len(), answers);
    assert_eq!(pair.nodes[1].count("InstallSession"), 1);
}

#[test]
fn initiations_that_arrive_in_the_wrong_order_are_refused_by_their_timestamps() {
    let mut pair = one_sided(Setup::default(), Setup::default(), 6);
    pair.net.block = |_, _| true;
    pair.run(seconds(1));
    let older = pair.last_handshake(INITIATION, 0);
    pair.run(seconds(5));
    let newer = pair.last_handshake(INITIATION, 0);
    pair.inject(1, address(0), &newer);
    pair.run(seconds(1));
    pair.inject(1, address(0), &older);
    assert_eq!(pair.nodes[1].drops(DropReason::HandshakeReplayed), 1);
    assert_eq!(pair.nodes[1].count("InstallSession"), 1);
}

#[test]
fn two_initiations_within_20_milliseconds_are_one_too_many() {
    let mut pair = one_sided(Setup::default(), Setup::default(), 7);
    pair.net.block = |_, _| true;
    pair.run(seconds(1));
    let first = pair.last_handshake(INITIATION, 0);
    pair.run(seconds(5));
    let second = pair.last_handshake(INITIATION, 0);
    pair.inject(1, address(0), &first);
    pair.inject(1, address(0), &second);
    assert_eq!(pair.nodes[1].drops(DropReason::HandshakeRateLimited), 1);
    assert_eq!(pair.nodes[1].count("InstallSession"), 1);
}

/// Runs a pair whose first node's wall clock is ahead by `hours`.
fn clock_ahead(hours: u64) -> Pair {
    let mut pair = one_sided(Setup::default(), Setup::default(), 8);
    pair.net.block = |_, _| true;
    pair.now.wall.0 += hours * 3_600_000_000_000;
    pair.run(seconds(6));
    let initiation = pair.last_handshake(INITIATION, 0);
    pair.now.wall.0 -= hours * 3_600_000_000_000;
    pair.inject(1, address(0), &initiation);
    pair
}

#[test]
fn a_timestamp_more_than_24_hours_ahead_is_refused() {
    let pair = clock_ahead(25);
    assert_eq!(pair.nodes[1].drops(DropReason::HandshakeReplayed), 1);
    assert_silent(&pair, 1);
    let pair = clock_ahead(23);
    assert_eq!(pair.nodes[1].drops(DropReason::HandshakeReplayed), 0);
    assert_eq!(pair.nodes[1].count("InstallSession"), 1);
}

#[test]
fn every_flipped_octet_of_an_initiation_is_refused_silently() {
    let mut pair = one_sided(Setup::default(), Setup::default(), 9);
    pair.net.block = |_, _| true;
    pair.run(seconds(1));
    let initiation = pair.last_handshake(INITIATION, 0);
    let covered = initiation.len() - 16;
    for at in 0..covered {
        let mut forged = initiation.clone();
        forged[at] ^= 0x40;
        pair.inject(1, address(0), &forged);
    }
    assert_silent(&pair, 1);
    assert_eq!(pair.nodes[1].ganglion.drops().total(), covered as u64);
    assert!(pair.nodes[1].drops(DropReason::HandshakeBadMac) >= covered as u64 - 8);
    pair.inject(1, address(0), &initiation);
    assert_eq!(
        pair.nodes[1].count("InstallSession"),
        1,
        "the true one still counts"
    );
}

#[test]
fn a_forged_response_leaves_the_handshake_pending() {
    let mut pair = one_sided(Setup::default(), Setup::default(), 10);
    pair.net.block = |from, _| from == 1;
    pair.run(seconds(1));
    let response = pair.last_handshake(RESPONSE, 1);
    for at in 0..response.len() - 16 {
        let mut forged = response.clone();
        forged[at] ^= 0x40;
        pair.inject(0, address(1), &forged);
    }
    assert_eq!(pair.nodes[0].status().state, PeerState::Handshaking);
    assert_eq!(pair.nodes[0].count("InstallSession"), 0);
    pair.inject(0, address(1), &response);
    assert_eq!(pair.nodes[0].status().state, PeerState::Established);
    pair.inject(0, address(1), &response);
    assert_eq!(
        pair.nodes[0].drops(DropReason::HandshakeUnexpected),
        1,
        "once"
    );
}

#[test]
fn a_message_reflected_to_its_sender_is_refused() {
    let mut pair = one_sided(Setup::default(), Setup::default(), 11);
    pair.net.block = |from, _| from == 1;
    pair.run(seconds(1));
    let initiation = pair.last_handshake(INITIATION, 0);
    let response = pair.last_handshake(RESPONSE, 1);
    pair.inject(0, address(1), &initiation);
    pair.inject(1, address(0), &response);
    for node in &pair.nodes {
        assert_eq!(node.drops(DropReason::HandshakeBadMac), 1);
    }
}

#[test]
fn messages_of_other_types_versions_flags_and_lengths_have_their_own_reasons() {
    let mut pair = Pair::established(12);
    let sent = pair.sent.len();
    let initiation = pair.last_handshake(INITIATION, 0);
    let response = pair.last_handshake(RESPONSE, 1);
    let mut inject = |message: &[u8], reason| {
        let before = pair.nodes[1].drops(reason);
        pair.inject(1, address(0), message);
        assert_eq!(pair.nodes[1].drops(reason), before + 1, "{reason:?}");
    };
    let with = |at: usize, value: u8| {
        let mut message = initiation.clone();
        message[at] = value;
        message
    };
    inject(&[], DropReason::MessageMalformed);
    inject(&initiation[..7], DropReason::MessageMalformed);
    inject(&initiation[..167], DropReason::MessageMalformed);
    inject(
        &[&initiation[..], &[0]].concat(),
        DropReason::MessageMalformed,
    );
    inject(&with(0, 1), DropReason::MessageUnsteered);
    for kind in [0, 2, 3, 4, 5, 6, 16, 17, 255] {
        inject(&with(4, kind), DropReason::MessageMalformed);
    }
    inject(&with(5, 1), DropReason::MessageVersion);
    inject(&with(7, 2), DropReason::MessageVersion);
    let no_index = [&initiation[..8], &[0; 4], &initiation[12..]].concat();
    inject(&no_index, DropReason::HandshakeBadPayload);
    let no_index = [&response[..8], &[0; 4], &response[12..]].concat();
    inject(&no_index, DropReason::HandshakeBadPayload);
    let swapped = [&response[..4], &[1], &response[5..]].concat();
    inject(&swapped, DropReason::MessageMalformed);
    inject(&with(13, initiation[13] ^ 1), DropReason::HandshakeBadMac);
    assert_eq!(pair.sent.len(), sent, "nothing was answered");
}

#[test]
fn a_hundred_thousand_arbitrary_datagrams_are_not_answered() {
    let mut pair = Pair::established(13);
    let sent = pair.sent.len();
    let genuine = [
        pair.last_handshake(INITIATION, 0),
        pair.last_handshake(RESPONSE, 1),
    ];
    let lengths = [168, 116, 68, 24, 30, 8, 0];
    let mut rng = Seeded(99);
    for round in 0..100_000 {
        let number = rng.next();
        let mut datagram = match number % 4 {
            0 => genuine[(number >> 8) as usize % 2].clone(),
            1 => vec![0; (number >> 8) as usize % 200],
            _ => vec![0; lengths[(number >> 8) as usize % lengths.len()]],
        };
        if number.is_multiple_of(4) {
            let at = (number >> 16) as usize % (datagram.len() - 16);
            datagram[at] ^= 1 << ((number >> 40) % 8);
        } else {
            datagram
                .iter_mut()
                .for_each(|octet| *octet = rng.next() as u8);
        }
        if number % 4 >= 2 {
            let kinds = [1, 2, 3, 16, 17];
            let prefix = [0, 0, 0, 0, kinds[(number >> 16) as usize % 5], 0, 0, 1];
            let len = datagram.len().min(8);
            datagram[..len].copy_from_slice(&prefix[..len]);
        }
        let now = pair.now;
        pair.nodes[round % 2]
            .ganglion
            .handle_datagram(now, address(7), None, &datagram);
    }
    pair.run(seconds(1));
    let answers = pair.sent[sent..]
        .iter()
        .filter(|(_, _, d)| matches!(d.body, Body::Handshake(_)));
    assert_eq!(answers.count(), 0);
    let counted: u64 = pair
        .nodes
        .iter()
        .map(|node| node.ganglion.drops().total())
        .sum();
    assert_eq!(counted, 100_000, "each has its reason");
    pair.assert_established();
}

#[test]
fn what_is_not_taken_is_bounded() {
    let mut pair = Pair::established(14);
    let now = pair.now;
    let node = &mut pair.nodes[0];
    for round in 0..3000_u64 {
        node.ganglion.remove_peer(node.status().id);
        let mut key = private_key(1);
        key.0[8..16].copy_from_slice(&round.to_be_bytes());
        let added = node.ganglion.add_peer(
            now,
            omni_control::PeerConfig {
                public_key: omni_control::PublicKey::from_private(&key),
                preshared_key: None,
                endpoint: Some(address(1)),
            },
        );
        assert!(added.is_ok());
    }
    let waiting = std::iter::from_fn(|| node.ganglion.poll_transmit()).count();
    assert_eq!(waiting, 1024);
    assert_eq!(node.drops(DropReason::MailboxFull), 3000 - 1024);
    assert_eq!(std::iter::from_fn(|| node.ganglion.poll_event()).count(), 1);
}

#[test]
fn nothing_printed_holds_a_secret() {
    let setup = Setup {
        psk: Some([0x5a; 32]),
        ..Setup::default()
    };
    let mut pair = Pair::with([setup.clone(), setup], 15);
    pair.run(seconds(1));
    let mut printed = format!("{:?}", pair.nodes[0].ganglion);
    printed.push_str(&format!("{:?}", pair.nodes[0].status()));
    printed.push_str(&pair.nodes[0].commands.concat());
    assert!(printed.contains("receive_key: SymmetricKey(..), send_key: SymmetricKey(..)"));
    let data = pair
        .sent
        .iter()
        .find_map(|(_, _, datagram)| match &datagram.body {
            Body::Data { key, .. } => Some(key.clone()),
            Body::Handshake(_) => None,
        });
    let secrets = [
        private_key(0).0,
        [0x5a; 32],
        data.expect("a data message").0,
    ];
    for secret in secrets {
        let hex: String = secret.iter().map(|octet| format!("{octet:02x}")).collect();
        let list = format!("{:?}", &secret[..4]);
        assert!(!printed.to_lowercase().contains(&hex[..16]));
        assert!(!printed.contains(list.trim_matches(['[', ']'])));
    }
}
