//! What changes while a node runs: endpoints, preshared keys, who it is. And that nobody else's
//! session is the worse for it.

use core::net::SocketAddr;
use core::time::Duration;

use omni_control::message::{PeerId, Upcall};
use omni_control::{
    Ganglion, GanglionConfig, PeerConfig, PeerState, PrivateKey, PublicKey, SetIdentityError,
    SymmetricKey,
};
use omni_wire::DropReason;

use crate::harness::{PEER, Pair, Seeded, Setup, address, private_key};

const INITIATION: u8 = 1;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn elsewhere() -> SocketAddr {
    "[2001:db8::7]:4000".parse().expect("an address and a port")
}

fn state(pair: &Pair, node: usize, peer: PeerId) -> PeerState {
    let mut peers = pair.nodes[node].ganglion.peers();
    peers.find(|p| p.id == peer).expect("it was added").state
}

/// A further peer of the first node, which has made a session with it.
fn bystander(pair: &mut Pair) -> (PeerId, u32) {
    let private_key = PrivateKey([0x44; 32]);
    let public_key = PublicKey::from_private(&private_key);
    let config = GanglionConfig {
        fabric: "lab".to_owned(),
        private_key,
        lanes: 1,
        max_frame: 1440,
        capabilities: 0,
        workers: 1,
        path_mtu: false,
        remembered: None,
    };
    let now = pair.now;
    let mut third = Ganglion::new(config, Box::new(Seeded(0x333)), now);
    let peer = |public_key, endpoint| PeerConfig {
        public_key,
        preshared_key: None,
        endpoint,
    };
    let first = pair.nodes[0].public_key;
    assert!(third.add_peer(now, peer(first, Some(address(0)))).is_ok());
    let initiation = third.poll_transmit().expect("an initiation").payload;
    let added = pair.operate(0, |ganglion, now| {
        ganglion.add_peer(now, peer(public_key, None))
    });
    let id = added.expect("it is no peer yet");
    pair.inject(0, address(7), &initiation);
    let response = pair.last_handshake(2, 0);
    let session_id = u32::from_be_bytes(response[8..12].try_into().expect("4 octets"));
    pair.upcall(0, &Upcall::Confirmed { session_id });
    assert_eq!(state(pair, 0, id), PeerState::Established);
    (id, session_id)
}

/// The bystander's session is as it was.
fn assert_untouched(pair: &Pair, (id, session_id): (PeerId, u32)) {
    assert_eq!(state(pair, 0, id), PeerState::Established);
    let erased = format!("EraseSession {{ session_id: {session_id} ");
    assert_eq!(pair.nodes[0].count(&erased), 0);
}

#[test]
fn a_new_endpoint_is_resolved_and_spoken_to_at_once() {
    let mut pair = Pair::established(1);
    let bystander = bystander(&mut pair);
    pair.nodes[1].address = elsewhere();
    let before = pair.handshakes(INITIATION).len();
    let set = pair.operate(0, |g, now| g.set_endpoint(now, PEER, Some(elsewhere())));
    assert!(set);
    assert_eq!(pair.handshakes(INITIATION).len(), before + 1);
    pair.run(seconds(1));
    pair.send(0, 1);
    pair.run(seconds(1));
    assert_eq!(pair.nodes[1].worker.delivered, [1]);
    assert_eq!(pair.nodes[0].status().endpoint, Some(elsewhere()));
    assert_eq!(
        pair.nodes[0].count("SetReachable { peer: PeerId(0)"),
        1,
        "all the time"
    );
    assert_untouched(&pair, bystander);
}

#[test]
fn a_handshake_under_way_turns_to_the_new_endpoint() {
    let deaf = Setup {
        knows_endpoint: false,
        ..Setup::default()
    };
    let mut pair = Pair::with([Setup::default(), deaf], 2);
    pair.nodes[1].address = elsewhere();
    pair.run(seconds(2));
    assert_eq!(pair.nodes[0].status().state, PeerState::Handshaking);
    pair.operate(0, |g, now| g.set_endpoint(now, PEER, Some(elsewhere())));
    pair.run(Duration::from_millis(100));
    pair.assert_established();
}

#[test]
fn the_same_endpoint_again_changes_nothing_while_there_is_a_session() {
    let mut pair = Pair::established(3);
    let (sent, commands) = (pair.sent.len(), pair.nodes[0].commands.len());
    pair.operate(0, |g, now| g.set_endpoint(now, PEER, Some(address(1))));
    assert_eq!(
        (pair.sent.len(), pair.nodes[0].commands.len()),
        (sent, commands)
    );
    pair.run(seconds(600));
    pair.operate(0, |g, now| g.set_endpoint(now, PEER, Some(address(1))));
    pair.run(seconds(1));
    pair.assert_established();
}

#[test]
fn without_an_endpoint_the_peer_has_to_speak_first() {
    let mut pair = Pair::established(4);
    pair.operate(0, |g, now| g.set_endpoint(now, PEER, None));
    assert_eq!(
        pair.nodes[0].status().endpoint,
        Some(address(1)),
        "it has spoken"
    );
    pair.send(0, 1);
    pair.run(seconds(600));
    assert_eq!(pair.nodes[1].worker.delivered, [1]);

    let sent = pair.sent.len();
    pair.operate(0, |g, now| g.set_endpoint(now, PEER, None));
    let node = &pair.nodes[0];
    assert_eq!(node.status().endpoint, None);
    assert_eq!(
        node.commands[node.commands.len() - 2..],
        [
            "SetPath { peer: PeerId(0), path: None }",
            "SetReachable { peer: PeerId(0), reachable: false }",
        ]
    );
    pair.send(0, 2);
    pair.run(seconds(30));
    assert_eq!(pair.sent.len(), sent, "there is nowhere to send to");
    pair.restart(1, &Setup::default());
    pair.run(seconds(1));
    pair.send(0, 3);
    pair.run(seconds(1));
    assert_eq!(pair.nodes[1].worker.delivered, [3]);
}

#[test]
fn an_attempt_ends_when_the_endpoint_is_taken_away() {
    let mut pair = Pair::new(5);
    pair.net.block = |_, _| true;
    pair.run(seconds(2));
    pair.operate(0, |g, now| g.set_endpoint(now, PEER, None));
    assert_eq!(pair.nodes[0].status().state, PeerState::Idle);
    assert_eq!(pair.nodes[0].ganglion.poll_timeout(), None);
}

#[test]
fn a_preshared_key_is_changed_on_one_side_after_the_other_without_a_lost_frame() {
    for first in [0, 1] {
        let mut pair = Pair::established(6);
        let bystander = bystander(&mut pair);
        let set = |pair: &mut Pair, node, key| {
            let key = Some(SymmetricKey(key));
            assert!(pair.operate(node, |g, now| g.set_preshared_key(now, PEER, key)));
        };
        let step = Duration::from_millis(100);
        let mut frame = pair.chat(&[0, 1], step, seconds(3), 0);
        set(&mut pair, first, [7; 32]);
        frame = pair.chat(&[0, 1], step, seconds(30), frame);
        let installed = pair
            .nodes
            .each_ref()
            .map(|node| node.count("ConfirmSession"));
        set(&mut pair, 1 - first, [7; 32]);
        frame = pair.chat(&[0, 1], step, seconds(6), frame);
        pair.run(seconds(1));
        let confirmed = pair
            .nodes
            .each_ref()
            .map(|node| node.count("ConfirmSession"));
        let new: usize = confirmed.iter().sum::<usize>() - installed.iter().sum::<usize>();
        assert_eq!(new, 1, "a session with the new key, and at once");
        let arrived: usize = pair.nodes.iter().map(|n| n.worker.delivered.len()).sum();
        assert_eq!(arrived as u64, frame);
        assert_untouched(&pair, bystander);
    }
}

#[test]
fn a_preshared_key_that_is_set_on_one_side_alone_ends_in_silence() {
    let mut pair = Pair::established(7);
    let key = Some(SymmetricKey([7; 32]));
    pair.operate(0, |g, now| g.set_preshared_key(now, PEER, key.clone()));
    pair.chat(&[0, 1], seconds(1), seconds(179), 0);
    let arrived = pair.nodes.each_ref().map(|n| n.worker.delivered.len());
    assert!(
        arrived.iter().all(|&n| n >= 170),
        "the live session goes on: {arrived:?}"
    );
    pair.chat(&[0, 1], seconds(1), seconds(60), 1 << 32);
    let after = pair.nodes.each_ref().map(|n| n.worker.delivered.len());
    assert!(
        after
            .iter()
            .zip(arrived)
            .all(|(after, before)| after - before <= 3)
    );
    pair.operate(0, |g, now| g.set_preshared_key(now, PEER, key.clone()));
    assert!(!pair.operate(0, |g, now| g.set_preshared_key(now, PeerId(9), key)));
}

#[test]
fn the_same_preshared_key_again_begins_nothing() {
    let mut pair = Pair::established(8);
    let sent = pair.sent.len();
    pair.operate(0, |g, now| g.set_preshared_key(now, PEER, None));
    pair.operate(0, |g, now| {
        let zeros = Some(SymmetricKey([0; 32]));
        g.set_preshared_key(now, PEER, zeros)
    });
    assert_eq!(pair.sent.len(), sent);
}

#[test]
fn a_new_identity_erases_all_and_meets_whoever_knows_it() {
    let mut pair = Pair::established(9);
    let (other, _) = bystander(&mut pair);
    let key = || PrivateKey([0x66; 32]);
    let set = pair.operate(0, |g, now| g.set_identity(now, "lab", key()));
    assert_eq!(set, Ok(()));
    assert_eq!(
        pair.nodes[0].ganglion.public_key(),
        PublicKey::from_private(&key())
    );
    assert_eq!(pair.nodes[0].count("EraseSession"), 2);
    assert_eq!(state(&pair, 0, PEER), PeerState::Handshaking);
    assert_eq!(state(&pair, 0, other), PeerState::Handshaking);
    pair.run(seconds(1));
    assert_eq!(pair.nodes[1].drops(DropReason::HandshakeUnknownPeer), 1);

    let renamed = PeerConfig {
        public_key: PublicKey::from_private(&key()),
        preshared_key: None,
        endpoint: None,
    };
    pair.nodes[1].ganglion.remove_peer(PEER);
    let added = pair.operate(1, |g, now| g.add_peer(now, renamed));
    pair.run(seconds(6));
    let added = added.expect("its old name was removed");
    assert_eq!(state(&pair, 1, added), PeerState::Established);
    assert_eq!(state(&pair, 0, PEER), PeerState::Established);
}

#[test]
fn a_new_fabric_is_a_new_identity_too() {
    let mut pair = Pair::established(10);
    for node in [0, 1] {
        let set = pair.operate(node, |g, now| {
            g.set_identity(now, "lab2", private_key(node))
        });
        assert_eq!(set, Ok(()));
        assert_eq!(pair.nodes[node].status().state, PeerState::Handshaking);
    }
    pair.run(seconds(6));
    pair.assert_established();
    pair.send(0, 1);
    pair.run(seconds(1));
    assert_eq!(pair.nodes[1].worker.delivered, [1]);
}

#[test]
fn an_identity_that_a_peer_has_is_refused_and_nothing_changes() {
    let mut pair = Pair::established(11);
    let (sent, commands) = (pair.sent.len(), pair.nodes[0].commands.len());
    let set = pair.operate(0, |g, now| g.set_identity(now, "lab2", private_key(1)));
    assert_eq!(set, Err(SetIdentityError::PeerHasKey { peer: PEER }));
    let set = pair.operate(0, |g, now| g.set_identity(now, "lab", private_key(0)));
    assert_eq!(set, Ok(()), "it is who it is");
    assert_eq!(
        (pair.sent.len(), pair.nodes[0].commands.len()),
        (sent, commands)
    );
    pair.assert_established();
}

#[test]
fn what_was_recorded_for_the_old_identity_is_worth_nothing() {
    let mut pair = Pair::established(12);
    let recorded = pair.last_handshake(INITIATION, 0);
    pair.operate(1, |g, now| {
        g.set_identity(now, "lab", PrivateKey([0x66; 32]))
    })
    .expect("nobody has that key");
    let sent = pair.sent.len();
    pair.inject(1, address(0), &recorded);
    assert_eq!(pair.nodes[1].drops(DropReason::HandshakeBadMac), 1);
    assert_eq!(pair.sent.len(), sent);
}

#[test]
fn a_removed_peer_takes_nobody_with_it() {
    let mut pair = Pair::established(13);
    let bystander = bystander(&mut pair);
    assert!(pair.operate(0, |g, _| g.remove_peer(PEER)));
    assert_untouched(&pair, bystander);
    assert!(!pair.operate(0, |g, now| g.set_endpoint(now, PEER, Some(address(1)))));
}
