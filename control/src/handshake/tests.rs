use core::time::Duration;

use omni_wire::Instant;
use serde::Deserialize;

use super::*;
use crate::cookie::ReceiverKeys;
use crate::key::PrivateKey;
use crate::noise::tests::{unhex, unhex_key};

#[derive(Deserialize)]
struct Vectors {
    handshakes: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    fabric_utf8: String,
    psk: String,
    initiator_static_private: String,
    initiator_static_public: String,
    responder_static_private: String,
    responder_static_public: String,
    initiator_ephemeral_private: String,
    responder_ephemeral_private: String,
    initiation_payload: String,
    initiation: String,
    response: String,
    key_initiator_to_responder: String,
    key_responder_to_initiator: String,
}

fn vectors() -> Vec<Vector> {
    let file = include_str!("../../tests/data/vectors.json");
    let Vectors { handshakes } = serde_json::from_str(file).expect("a file of vectors");
    assert!(!handshakes.is_empty());
    handshakes
}

fn key(text: &str) -> SymmetricKey {
    SymmetricKey(unhex_key(text))
}

fn create_initiation(vector: &Vector) -> (CreatedInitiation, [u8; INITIATION_LEN]) {
    let identity = Identity::new(
        &vector.fabric_utf8,
        PrivateKey(unhex_key(&vector.initiator_static_private)),
    );
    assert_eq!(
        identity.public().0,
        unhex_key(&vector.initiator_static_public)
    );
    let remote = PublicKey(unhex_key(&vector.responder_static_public));
    let expected = unhex(&vector.initiation);
    let session_id = Initiation::parse(&expected)
        .expect("an initiation")
        .sender_session();
    let payload = unhex(&vector.initiation_payload)
        .try_into()
        .expect("28 octets");
    let payload = InitiationPayload::parse(&payload).expect("a sound payload");
    let (created, mut message) = CreatedInitiation::create(
        &identity,
        (&remote, &key(&vector.psk)),
        &key(&vector.initiator_ephemeral_private),
        session_id,
        &payload,
    )
    .expect("a sound key");
    let mac1 = ReceiverKeys::new(&remote).mac1(handshake::before_mac1(&message));
    handshake::set_mac1(&mut message, &mac1);
    (created, message)
}

fn consume_initiation(vector: &Vector, message: &[u8]) -> ConsumedInitiation {
    let identity = Identity::new(
        &vector.fabric_utf8,
        PrivateKey(unhex_key(&vector.responder_static_private)),
    );
    let initiation = Initiation::parse(message).expect("an initiation");
    assert!(
        ReceiverKeys::new(identity.public())
            .verify_mac1(initiation.before_mac1(), initiation.mac1())
    );
    let ephemeral = key(&vector.responder_ephemeral_private);
    let consumed =
        ConsumedInitiation::consume(&identity, &ephemeral, &initiation).expect("it verifies");
    assert_eq!(
        consumed.remote.0,
        unhex_key(&vector.initiator_static_public)
    );
    assert_eq!(
        consumed.payload.emit()[..],
        unhex(&vector.initiation_payload)
    );
    consumed
}

#[test]
fn the_protocols_handshakes_come_out_octet_by_octet() {
    for vector in vectors() {
        let (mut created, message) = create_initiation(&vector);
        assert_eq!(message[..], unhex(&vector.initiation));

        let expected = unhex(&vector.response);
        let response = Response::parse(&expected).expect("a response");
        assert_eq!(response.receiver_session(), created.session_id());
        let consumed_response = created.consume_response(&response).expect("it verifies");
        let initiators = consumed_response.agreement;
        let payload = ResponsePayload {
            lanes: initiators.peer_lanes,
            max_frame: initiators.peer_max_frame,
            capabilities: initiators.peer_capabilities,
        };

        let consumed = consume_initiation(&vector, &message);
        let mut answer = consumed
            .create_response(&key(&vector.psk), response.sender_session(), &payload)
            .expect("a sound key");
        let remote = PublicKey(unhex_key(&vector.initiator_static_public));
        let mac1 = ReceiverKeys::new(&remote).mac1(handshake::before_mac1(&answer.message));
        handshake::set_mac1(&mut answer.message, &mac1);
        assert_eq!(answer.message[..], expected);

        let to_responder = key(&vector.key_initiator_to_responder);
        let to_initiator = key(&vector.key_responder_to_initiator);
        assert_eq!(
            (initiators.role, answer.agreement.role),
            (Role::Initiator, Role::Responder)
        );
        assert_eq!(initiators.send_key, to_responder);
        assert_eq!(initiators.receive_key, to_initiator);
        assert_eq!(answer.agreement.receive_key, to_responder);
        assert_eq!(answer.agreement.send_key, to_initiator);
        assert_eq!(initiators.remote_session_id, answer.agreement.session_id);
        assert_eq!(answer.agreement.remote_session_id, initiators.session_id);
    }
}

const fn wall(seconds: u64) -> WallTime {
    WallTime(1_750_000_000_000_000_000 + seconds * 1_000_000_000)
}

#[test]
fn timestamps_grow_even_when_the_clock_does_not() {
    let mut clock = TimestampClock::default();
    let times = [
        wall(10),
        wall(10),
        wall(5),
        wall(0),
        wall(11),
        WallTime(u64::MAX),
    ];
    let stamps = times.map(|wall| clock.next(wall));
    assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
}

#[test]
fn a_clock_that_was_years_ahead_for_a_while_locks_nobody_out() {
    let mut clock = TimestampClock::default();
    let before = clock.next(wall(0));
    let ten_years = 10 * 365 * 24 * 3600;
    let ahead = clock.next(wall(ten_years));
    let now = Now {
        instant: Instant(1),
        wall: wall(100),
    };
    assert!(!timestamp_is_acceptable(ahead, Some(before), now));
    assert!(timestamp_is_acceptable(
        clock.next(wall(100)),
        Some(before),
        now
    ));
}

#[test]
fn timestamps_tell_the_time_to_17_ms_only() {
    let mut clock = TimestampClock::default();
    let stamp = clock.next(WallTime(wall(0).0 + 123_456)).to_wall();
    assert_eq!(stamp.0 % TIMESTAMP_GRAIN, 0);
    assert!(wall(0).0 - stamp.0 < TIMESTAMP_GRAIN);
}

#[test]
fn timestamps_are_refused_when_not_newer_or_a_day_ahead() {
    let now = Now {
        instant: Instant(1),
        wall: wall(0),
    };
    let at = |seconds| Tai64n::from_wall(wall(seconds));
    let day = TIMESTAMP_MAX_AHEAD.as_secs();
    assert!(timestamp_is_acceptable(at(0), None, now));
    assert!(timestamp_is_acceptable(at(0), Some(Tai64n([0; 12])), now));
    assert!(!timestamp_is_acceptable(at(0), Some(at(0)), now));
    assert!(!timestamp_is_acceptable(at(0), Some(at(1)), now));
    assert!(timestamp_is_acceptable(at(day), Some(at(1)), now));
    assert!(!timestamp_is_acceptable(at(day + 1), None, now));
    assert!(!timestamp_is_acceptable(Tai64n([0xff; 12]), None, now));
    let later = now.advanced(Duration::from_secs(1));
    assert!(timestamp_is_acceptable(at(day + 1), None, later));
}

#[test]
fn the_replay_gate_is_bounded_and_forgets_the_oldest() {
    let mac = |n: usize| {
        let mut mac = [0; 16];
        mac[..8].copy_from_slice(&n.to_be_bytes());
        mac
    };
    let mut gate = ReplayGate::default();
    for n in 0..=REPLAYS_KNOWN {
        gate.remember(&mac(n));
        gate.remember(&mac(n));
    }
    assert!(!gate.knows(&mac(0)));
    assert!((1..=REPLAYS_KNOWN).all(|n| gate.knows(&mac(n))));
    assert_eq!(
        (gate.known.len(), gate.order.len()),
        (REPLAYS_KNOWN, REPLAYS_KNOWN)
    );
}
