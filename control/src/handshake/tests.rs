use omni_wire::Instant;
use serde::Deserialize;

use super::*;
use crate::cookie::ReceiverKeys;
use crate::message::{Command, InstallSession, PeerId};
use crate::noise::tests::{unhex, unhex_key};
use crate::{GanglionConfig, PeerConfig};
use omni_membership::PrivateKey;

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

/// Two identities, and the initiation of the first with this payload.
fn exchange(payload: [u8; 28]) -> ([Identity; 2], Initiator, [u8; INITIATION_LEN]) {
    let identities = [1, 2].map(|octet| Identity::new("lab", PrivateKey([octet; 32])));
    let [a, b] = &identities;
    let (psk, ephemeral) = (SymmetricKey([0; 32]), SymmetricKey([3; 32]));
    let (noise, message) =
        Initiator::start(a, b.public(), &psk, &ephemeral, &payload).expect("sound keys");
    (identities, noise, handshake::initiation(7, &message))
}

#[test]
fn lanes_of_0_or_over_256_are_refused_on_both_sides() {
    let ephemeral = SymmetricKey([4; 32]);
    for (lanes, is_sound) in [(0_u16, false), (1, true), (256, true), (257, false)] {
        let mut payload = [0; 28];
        payload[12..14].copy_from_slice(&lanes.to_be_bytes());
        let ([_, b], noise, message) = exchange(payload);
        let initiation = Initiation::parse(&message).expect("an initiation");
        let consumed = ConsumedInitiation::consume(&b, &ephemeral, &initiation);
        match consumed {
            Ok(consumed) => assert_eq!((is_sound, consumed.payload.lanes), (true, lanes)),
            Err(reason) => assert_eq!((is_sound, reason), (false, DropReason::HandshakeBadPayload)),
        }

        let mut payload = [0; 20];
        payload[..2].copy_from_slice(&lanes.to_be_bytes());
        let (responder, _, _) =
            Responder::read(&b, &ephemeral, initiation.noise()).expect("it verifies");
        let (answer, _) = responder
            .respond(&SymmetricKey([0; 32]), &payload)
            .expect("sound keys");
        let answer = handshake::response(8, 7, &answer);
        let response = Response::parse(&answer).expect("a response");
        let mut created = CreatedInitiation {
            session_id: 7,
            noise,
        };
        match created.consume_response(&response) {
            Ok(consumed) => {
                assert_eq!((is_sound, consumed.agreement.peer_lanes), (true, lanes));
            }
            Err(reason) => assert_eq!((is_sound, reason), (false, DropReason::HandshakeBadPayload)),
        }
    }
}

/// Fails when `printed` holds a run of the secret's octets, in hex or as a list of numbers.
fn assert_hides(printed: &str, secret: &[u8; 32]) {
    let printed = printed.to_lowercase();
    for run in secret.chunks(4) {
        let hex: String = run.iter().map(|octet| format!("{octet:02x}")).collect();
        let list = run.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let hexes = run
            .iter()
            .map(|octet| format!("{octet:x}"))
            .collect::<Vec<_>>();
        for text in [hex, list, hexes.join(", ")] {
            assert!(!printed.contains(&text), "{text} in {printed}");
        }
    }
}

#[test]
fn no_type_with_a_secret_prints_it() {
    let secret = |seed: u8| core::array::from_fn(|at| seed ^ (at as u8).wrapping_mul(37));
    let [private, psk, ephemeral]: [[u8; 32]; 3] = [0xa7, 0x5b, 0xc3].map(secret);
    let a = Identity::new("lab", PrivateKey(private));
    let b = Identity::new("lab", PrivateKey([2; 32]));
    let [psk, ephemeral] = [psk, ephemeral].map(SymmetricKey);
    let mut payload = [0; 28];
    payload[13] = 1;
    let payload = InitiationPayload::parse(&payload).expect("one lane");
    let (mut created, message) =
        CreatedInitiation::create(&a, (b.public(), &psk), &ephemeral, 7, &payload)
            .expect("sound keys");
    let initiation = Initiation::parse(&message).expect("an initiation");
    let consumed = ConsumedInitiation::consume(&b, &ephemeral, &initiation).expect("it verifies");
    let mut printed = vec![format!("{created:?} {consumed:?}")];
    let announced = ResponsePayload {
        lanes: 1,
        max_frame: 1440,
        capabilities: 0,
    };
    let answer = consumed
        .create_response(&psk, 8, &announced)
        .expect("sound keys");
    printed.push(format!("{answer:?}"));
    let response = Response::parse(&answer.message).expect("a response");
    let done = created.consume_response(&response).expect("it verifies");
    printed.push(format!(
        "{done:?} {:?}",
        TransportKeys {
            initiator_to_responder: done.agreement.send_key.clone(),
            responder_to_initiator: done.agreement.receive_key.clone(),
        }
    ));
    let install = InstallSession {
        peer: PeerId(0),
        session_id: 7,
        remote_session_id: 8,
        role: Role::Initiator,
        receive_key: done.agreement.receive_key.clone(),
        send_key: done.agreement.send_key.clone(),
        peer_lanes: 1,
        peer_max_frame: 1440,
        established_at: Instant(0),
    };
    printed.push(format!(
        "{install:?} {:?}",
        Command::InstallSession(Box::new(install.clone()))
    ));
    let peer = PeerConfig {
        public_key: *b.public(),
        preshared_key: Some(psk.clone()),
        endpoint: None,
    };
    let config = GanglionConfig {
        fabric: "lab".to_owned(),
        private_key: PrivateKey(private),
        lanes: 1,
        max_frame: 1440,
        capabilities: 0,
        workers: 1,
        path_mtu: false,
        remembered: None,
    };
    printed.push(format!(
        "{peer:?} {config:?} {psk:?} {:?}",
        PrivateKey(private)
    ));

    let printed = printed.concat();
    let keys = [&done.agreement.receive_key, &done.agreement.send_key];
    for secret in [&private, &psk.0, &ephemeral.0]
        .into_iter()
        .chain(keys.map(|key| &key.0))
    {
        assert_hides(&printed, secret);
    }
}

#[test]
fn the_search_for_secrets_finds_them_in_every_form() {
    let secret: [u8; 32] = core::array::from_fn(|at| at as u8 * 7);
    for printed in [
        format!("{secret:?}"),
        format!("{secret:x?}"),
        format!("{secret:02x?}"),
    ] {
        let found = std::panic::catch_unwind(|| assert_hides(&printed, &secret));
        assert!(found.is_err(), "{printed}");
    }
}

#[test]
fn secrets_of_our_own_types_are_wiped_when_dropped() {
    const fn assert_wiped<T: zeroize::ZeroizeOnDrop>() {}
    assert_wiped::<PrivateKey>();
    assert_wiped::<SymmetricKey>();
    assert_wiped::<crate::cookie::ReceivedCookie>();
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
