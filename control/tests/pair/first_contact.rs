//! The first handshake: who sends what when, retries, giving up, and beginning again.

use core::time::Duration;

use omni_control::message::{Command, Role};
use omni_control::{
    AddPeerError, Ganglion, GanglionConfig, PeerConfig, PeerState, PublicKey, Timers,
};
use omni_wire::DropReason;

use crate::harness::{Pair, Seeded, Setup, address, private_key};

const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_peer_with_an_endpoint_gets_an_initiation_at_once_and_frames_flow() {
    let mut pair = Pair::established(1);
    assert_eq!(pair.handshakes(INITIATION).len(), 1);
    assert_eq!(pair.handshakes(RESPONSE).len(), 1);
    pair.send(0, 100);
    pair.send(1, 200);
    pair.run(seconds(1));
    assert_eq!(pair.nodes[1].worker.delivered, [100]);
    assert_eq!(pair.nodes[0].worker.delivered, [200]);
    assert_eq!(pair.nodes[0].status().traffic.tx_frames, 1);
    assert_eq!(pair.nodes[0].status().traffic.rx_frames, 1);
}

#[test]
fn both_sides_agree_on_capabilities_lanes_and_frame_size() {
    let pair = Pair::established(2);
    for node in &pair.nodes {
        assert_eq!(node.status().capabilities, 0b11);
        let install = node
            .commands
            .iter()
            .find(|text| text.starts_with("InstallSession"));
        let install = install.expect("a session");
        assert!(
            install.contains("peer_lanes: 2, peer_max_frame: 1440"),
            "{install}"
        );
    }
}

#[test]
fn frames_sent_before_the_session_are_staged_and_arrive_in_order() {
    let mut pair = Pair::new(3);
    for frame in 0..64 {
        pair.send(0, frame);
    }
    pair.run(seconds(1));
    assert_eq!(pair.nodes[1].worker.delivered, (0..64).collect::<Vec<_>>());
}

#[test]
fn a_responder_is_not_told_to_send_before_its_session_is_confirmed() {
    let mut pair = Pair::established(4);
    let responder = &pair.nodes[1];
    assert_eq!(responder.count("ConfirmSession"), 1);
    let at = |text: &str| responder.commands.iter().position(|c| c.starts_with(text));
    assert!(at("InstallSession") < at("ConfirmSession"));

    // Without the initiator's keepalive there is nothing that could confirm.
    let deaf = Setup {
        knows_endpoint: false,
        ..Setup::default()
    };
    pair = Pair::with([Setup::default(), deaf], 4);
    pair.net.block = |from, datagram| from == 0 && !datagram.is_handshake(INITIATION);
    pair.run(seconds(4));
    let responder = &pair.nodes[1];
    assert_eq!(responder.count("InstallSession"), 1);
    assert_eq!(
        responder.count("ConfirmSession") + responder.count("SendKeepalive"),
        0
    );
    assert_eq!(responder.status().state, PeerState::Idle);
    assert!(responder.status().last_handshake.is_none());
}

#[test]
fn the_initiator_sends_a_keepalive_right_after_installing() {
    let pair = Pair::established(5);
    let commands = &pair.nodes[0].commands;
    let at = commands
        .iter()
        .position(|text| text.starts_with("InstallSession"));
    assert!(commands[at.expect("a session") + 1].starts_with("SendKeepalive"));
}

#[test]
fn lost_initiations_are_repeated_every_5_seconds_and_a_little() {
    let mut pair = Pair::new(6);
    pair.net.block = |_, _| true;
    pair.run(seconds(60));
    for node in 0..2 {
        let sent = pair.handshakes(INITIATION);
        let times: Vec<_> = sent.iter().filter(|(_, from)| *from == node).collect();
        assert!(
            (11..=12).contains(&times.len()),
            "{} initiations",
            times.len()
        );
        let mut gaps: Vec<_> = times.windows(2).map(|w| w[1].0.since(w[0].0)).collect();
        assert!(
            gaps.iter()
                .all(|gap| (5000..=5333).contains(&gap.as_millis())),
            "{gaps:?}"
        );
        gaps.dedup();
        assert!(gaps.len() > 1, "jitter differs");
    }
    pair.net.block = |_, _| false;
    pair.run(seconds(6));
    pair.assert_established();
}

#[test]
fn every_initiation_has_its_own_index_ephemeral_key_and_newer_timestamp() {
    let mut pair = Pair::new(7);
    pair.net.block = |_, _| true;
    let mut indices = Vec::new();
    let mut ephemerals = Vec::new();
    for _ in 0..10 {
        pair.run(Duration::from_millis(5400));
        let message = pair.last_handshake(INITIATION, 0);
        indices.push(message[8..12].to_vec());
        ephemerals.push(message[12..44].to_vec());
    }
    for values in [&mut indices, &mut ephemerals] {
        values.sort();
        values.dedup();
        assert_eq!(values.len(), 10);
    }
}

#[test]
fn after_90_seconds_a_handshake_is_given_up_until_there_is_traffic() {
    let mut pair = Pair::new(8);
    pair.net.block = |_, _| true;
    pair.send(0, 1);
    pair.run(seconds(200));
    let sent = pair.handshakes(INITIATION);
    let (first, last) = (sent[0].0, sent[sent.len() - 1].0);
    assert!(last.since(first) < seconds(90));
    assert!(last.since(first) > seconds(80));
    assert_eq!(pair.nodes[0].count("DropStaged"), 1);
    assert_eq!(pair.nodes[0].worker.dropped, 1);
    assert_eq!(pair.nodes[0].status().state, PeerState::Idle);
    assert_eq!(
        pair.nodes[0].ganglion.poll_timeout(),
        None,
        "nothing is waited for"
    );

    pair.net.block = |_, _| false;
    pair.run(seconds(200));
    assert_eq!(pair.handshakes(INITIATION).len(), sent.len());
    pair.send(0, 2);
    pair.run(seconds(1));
    assert_eq!(pair.nodes[1].worker.delivered, [2]);
    pair.assert_established();
}

#[test]
fn traffic_during_a_handshake_does_not_start_another() {
    let mut pair = Pair::new(9);
    pair.net.block = |_, _| true;
    pair.chat(&[0], Duration::from_millis(10), seconds(4), 0);
    let sent = pair.handshakes(INITIATION);
    assert_eq!(sent.iter().filter(|(_, from)| *from == 0).count(), 1);
}

#[test]
fn simultaneous_initiations_converge_and_lose_nothing() {
    for seed in 0..20 {
        let mut pair = Pair::new(seed);
        pair.net.jitter = Duration::from_millis(seed * 3);
        let frames = pair.chat(&[0, 1], Duration::from_millis(5), seconds(3), 0);
        pair.run(seconds(1));
        let initiators: Vec<_> = pair
            .handshakes(INITIATION)
            .iter()
            .map(|(_, f)| *f)
            .collect();
        assert_eq!(initiators, [0, 1], "each initiated once");
        pair.assert_established();
        let arrived: usize = pair
            .nodes
            .iter()
            .map(|node| node.worker.delivered.len())
            .sum();
        assert_eq!(arrived as u64, frames);
    }
}

#[test]
fn a_session_that_the_peer_made_ends_our_own_handshake() {
    let mut pair = Pair::new(15);
    pair.net.block = |from, datagram| from == 0 && datagram.is_handshake(INITIATION);
    pair.run(seconds(30));
    pair.assert_established();
    assert_eq!(pair.handshakes(INITIATION).len(), 2, "one each");
}

#[test]
fn initiations_keep_their_distance_even_after_giving_up() {
    for seed in 0..5 {
        let mut pair = Pair::new(seed);
        pair.net.block = |_, _| true;
        pair.chat(&[0, 1], Duration::from_millis(100), seconds(300), 0);
        for node in 0..2 {
            let sent = pair.handshakes(INITIATION);
            let times: Vec<_> = sent.iter().filter(|(_, from)| *from == node).collect();
            assert!(times.len() > 50, "traffic starts the next");
            assert!(times.windows(2).all(|w| w[1].0.since(w[0].0) >= seconds(5)));
        }
    }
}

#[test]
fn a_peer_that_cannot_be_is_refused() {
    let pair = Pair::new(10);
    let config = GanglionConfig {
        fabric: "lab".to_owned(),
        private_key: private_key(0),
        lanes: 0,
        max_frame: 1440,
        capabilities: 0,
        workers: 1,
        path_mtu: false,
        remembered: None,
    };
    let mut ganglion = Ganglion::new(config, Box::new(Seeded(1)), pair.now);
    let mut add = |key| {
        let endpoint = Some(address(1));
        let config = PeerConfig {
            public_key: key,
            preshared_key: None,
            endpoint,
        };
        ganglion.add_peer(pair.now, config)
    };
    let other = PublicKey::from_private(&private_key(1));
    assert!(add(other).is_ok());
    assert_eq!(add(other), Err(AddPeerError::Duplicate));
    assert_eq!(
        add(PublicKey::from_private(&private_key(0))),
        Err(AddPeerError::OwnKey)
    );
    assert_eq!(add(PublicKey([0; 32])), Err(AddPeerError::WeakKey));
}

#[test]
fn a_removed_peer_is_forgotten_and_its_index_is_not_reused() {
    let mut pair = Pair::established(11);
    let node = &mut pair.nodes[0];
    let peer = node.status().id;
    assert!(node.ganglion.remove_peer(peer));
    assert!(!node.ganglion.remove_peer(peer));
    assert!(matches!(
        node.ganglion.poll_command(),
        Some(Command::RemovePeer { .. })
    ));
    assert_eq!(node.ganglion.poll_timeout(), None);
    assert_eq!(node.ganglion.peers().count(), 0);
    let config = PeerConfig {
        public_key: PublicKey::from_private(&private_key(1)),
        preshared_key: None,
        endpoint: Some(address(1)),
    };
    let again = node
        .ganglion
        .add_peer(pair.now, config)
        .expect("it was removed");
    assert_ne!(again, peer);
}

#[test]
fn the_response_to_a_removed_peers_initiation_is_unexpected() {
    let mut pair = Pair::new(12);
    pair.net.latency = seconds(1);
    pair.run(Duration::from_millis(1500));
    let peer = pair.nodes[0].status().id;
    pair.nodes[0].ganglion.remove_peer(peer);
    pair.run(seconds(1));
    assert_eq!(pair.nodes[0].drops(DropReason::HandshakeUnexpected), 1);
    assert_eq!(
        pair.nodes[0].count("InstallSession"),
        1,
        "as responder, before the removal"
    );
}

#[test]
fn scaled_timers_are_used() {
    let timers = Timers {
        handshake_retry: Duration::from_millis(50),
        handshake_jitter: Duration::ZERO,
        handshake_give_up: Duration::from_millis(500),
        ..Timers::default()
    };
    let setup = Setup {
        timers,
        ..Setup::default()
    };
    let mut pair = Pair::with([setup.clone(), setup], 13);
    pair.net.block = |_, _| true;
    pair.run(seconds(5));
    assert_eq!(pair.handshakes(INITIATION).len(), 20);
}

#[test]
fn the_initiator_installs_as_initiator_and_the_responder_as_responder() {
    let pair = Pair::established(14);
    for (node, role) in pair.nodes.iter().zip([Role::Initiator, Role::Responder]) {
        let expected = format!("role: {role:?}");
        let install = node
            .commands
            .iter()
            .find(|text| text.starts_with("InstallSession"));
        assert!(install.is_some_and(|text| text.contains(&expected)));
    }
}
