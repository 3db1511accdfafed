//! Messages that only someone with primitives of their own can make: keys of low order where they
//! decide a secret, and identities whose private key is not known. Each forgery is shown to work
//! against whoever leaves the check out.

use super::*;

/// A key pair of somebody who does not keep to the rules.
#[derive(Clone)]
enum Key {
    /// An honest one, but a secret of zeros is taken.
    Real(PrivateKey),
    /// A point of low order: all secrets are zeros.
    LowOrder(PublicKey),
    /// Claims a key of someone else, and knows the private key of another one instead.
    Impostor {
        claimed: PublicKey,
        stolen: PrivateKey,
    },
}

impl Key {
    fn public(&self) -> PublicKey {
        match self {
            Self::Real(private) => PublicKey::from_private(private),
            Self::LowOrder(point) => *point,
            Self::Impostor { claimed, .. } => *claimed,
        }
    }

    fn agree(&self, other: &PublicKey) -> [u8; KEY_LEN] {
        let zeros = SymmetricKey([0; KEY_LEN]);
        let secret = match self {
            Self::LowOrder(_) => zeros,
            Self::Real(private) => private.agree(other).unwrap_or(zeros),
            // Whose key was stolen agrees with the claimed key on what the true owner of that
            // key would agree on with it. With any other key this gives something useless.
            Self::Impostor { claimed, stolen } => {
                let victim = PublicKey::from_private(stolen);
                let with = if *other == victim { claimed } else { other };
                stolen.agree(with).unwrap_or(zeros)
            }
        };
        secret.0
    }
}

/// A key pair that becomes static or ephemeral by how it is made.
struct ForgedDh {
    statik: Key,
    ephemeral: Key,
    chosen: Key,
    public: PublicKey,
}

impl ForgedDh {
    fn choose(&mut self, key: Key) {
        self.public = key.public();
        self.chosen = key;
    }
}

impl Dh for ForgedDh {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, _: &[u8]) {
        self.choose(self.statik.clone());
    }

    fn generate(&mut self, _: &mut dyn Random) -> Result<(), snow::Error> {
        self.choose(self.ephemeral.clone());
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public.0
    }

    fn privkey(&self) -> &[u8] {
        &[0; KEY_LEN]
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public = PublicKey(*public.first_chunk().ok_or(snow::Error::Dh)?);
        out[..KEY_LEN].copy_from_slice(&self.chosen.agree(&public));
        Ok(())
    }
}

/// Gives forged key pairs, and everything else as the true one does.
struct Forger {
    statik: Key,
    ephemeral: Key,
}

impl CryptoResolver for Forger {
    fn resolve_rng(&self) -> Option<Box<dyn snow::types::Random>> {
        Some(Box::new(OneKey(None)))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(ForgedDh {
            statik: self.statik.clone(),
            ephemeral: self.ephemeral.clone(),
            chosen: self.statik.clone(),
            public: self.statik.public(),
        }))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

fn builder(statik: Key, ephemeral: Key) -> Builder<'static> {
    let forger = Box::new(Forger { statik, ephemeral });
    Builder::with_resolver(PROTOCOL.parse().expect("a known protocol"), forger)
        .local_private_key(&[0; KEY_LEN])
        .and_then(|builder| builder.prologue(b"OmniNervous v1 lab"))
        .and_then(|builder| builder.psk(PSK_POSITION, &[0; KEY_LEN]))
        .expect("each is set once")
}

fn initiator(statik: Key, ephemeral: Key, remote: PublicKey) -> (HandshakeState, Message1) {
    let mut state = builder(statik, ephemeral)
        .remote_public_key(&remote.0)
        .and_then(Builder::build_initiator)
        .expect("all keys are there");
    let mut message = [0; INITIATION_NOISE_LEN];
    state
        .write_message(&PAYLOAD_1, &mut message)
        .expect("nothing is checked");
    (state, message)
}

fn responder(statik: Key, ephemeral: Key) -> HandshakeState {
    builder(statik, ephemeral)
        .build_responder()
        .expect("all keys are there")
}

fn read(state: &mut HandshakeState, message: &[u8]) -> Result<usize, snow::Error> {
    state.read_message(message, &mut [0; INITIATION_NOISE_LEN])
}

fn real(octet: u8) -> Key {
    Key::Real(PrivateKey([octet; KEY_LEN]))
}

const EPHEMERAL: SymmetricKey = SymmetricKey([4; KEY_LEN]);

#[test]
fn an_initiator_with_a_static_key_of_low_order_is_refused() {
    let (_, b) = identities("lab");
    for point in low_order_points() {
        let forged = Key::LowOrder(PublicKey(point));
        let (_, message) = initiator(forged, real(3), *b.public());
        assert!(read(&mut responder(real(2), real(4)), &message).is_ok());
        assert!(Responder::read(&b, &EPHEMERAL, &message).is_err());
    }
}

#[test]
fn an_initiator_with_an_ephemeral_key_of_low_order_is_refused() {
    let (_, b) = identities("lab");
    for point in low_order_points() {
        let forged = Key::LowOrder(PublicKey(point));
        let (_, message) = initiator(real(9), forged, *b.public());
        assert!(read(&mut responder(real(2), real(4)), &message).is_ok());
        assert!(Responder::read(&b, &EPHEMERAL, &message).is_err());
    }
}

#[test]
fn a_responder_with_an_ephemeral_key_of_low_order_is_refused() {
    let (a, b) = identities("lab");
    for point in low_order_points() {
        let answer = |message: &[u8]| {
            let mut forger = responder(real(2), Key::LowOrder(PublicKey(point)));
            read(&mut forger, message).expect("it has the private key");
            let mut answer = [0; RESPONSE_NOISE_LEN];
            forger
                .write_message(&PAYLOAD_2, &mut answer)
                .expect("nothing is checked");
            answer
        };
        let (mut lenient, message) = initiator(real(1), real(3), *b.public());
        assert!(read(&mut lenient, &answer(&message)).is_ok());
        let (mut strict, message) = started(&a, &b);
        assert!(strict.finish(&answer(&message)).is_err());
    }
}

#[test]
fn who_stole_a_responders_key_gets_an_answer_as_anyone_but_no_keys() {
    let (a, b) = identities("lab");
    let impostor = Key::Impostor {
        claimed: *a.public(),
        stolen: PrivateKey([2; KEY_LEN]),
    };
    let (mut thief, message) = initiator(impostor, real(3), *b.public());
    let (responder, remote, _) = Responder::read(&b, &EPHEMERAL, &message).expect("as from a");
    assert_eq!(
        remote,
        *a.public(),
        "so nothing may be sent before it was confirmed"
    );
    let (answer, _) = responder
        .respond(&ZERO_PSK, &PAYLOAD_2)
        .expect("sound keys");
    assert!(read(&mut thief, &answer).is_err());
}

#[test]
fn who_stole_an_initiators_key_cannot_answer_it_as_anyone_else() {
    let (a, b) = identities("lab");
    let impostor = Key::Impostor {
        claimed: *b.public(),
        stolen: PrivateKey([1; KEY_LEN]),
    };
    let (_, message) = started(&a, &b);
    assert!(read(&mut responder(impostor, real(4)), &message).is_err());
}

#[test]
fn nobody_shares_a_key_with_someone_else_than_they_think() {
    let (a, b) = identities("lab");
    let m = Identity::new("lab", PrivateKey([9; KEY_LEN]));
    // What a sends to m cannot be passed on to b.
    let (_, to_m) = started(&a, &m);
    assert!(Responder::read(&b, &EPHEMERAL, &to_m).is_err());
    // What b answers to m cannot be passed on to a, though both wait for b and m even repeats
    // the ephemeral key of a.
    let (mut from_a, _) = started(&a, &b);
    let (mut from_m, message) = started(&m, &b);
    let (answer, keys) = responded(&b, &message);
    assert!(from_a.finish(&answer).is_err());
    let (_, agreed) = from_m.finish(&answer).expect("it is for m");
    assert_eq!(agreed.initiator_to_responder, keys.initiator_to_responder);
    // Two with the same ephemeral keys on both sides have other keys all the same.
    let (_, message) = started(&a, &b);
    let (_, with_a) = responded(&b, &message);
    assert_ne!(with_a.initiator_to_responder, keys.initiator_to_responder);
    assert_ne!(with_a.responder_to_initiator, keys.responder_to_initiator);
}

#[test]
fn roles_cannot_be_swapped() {
    let (a, b) = identities("lab");
    let (mut from_a, to_b) = started(&a, &b);
    let (mut from_b, to_a) = started(&b, &a);
    let (answer_of_b, _) = responded(&b, &to_b);
    let (answer_of_a, _) = responded(&a, &to_a);
    // Each gets back what it sent itself as a responder.
    assert!(from_a.finish(&answer_of_a).is_err());
    assert!(from_b.finish(&answer_of_b).is_err());
    assert!(from_a.finish(&answer_of_b).is_ok());
    assert!(from_b.finish(&answer_of_a).is_ok());
}
