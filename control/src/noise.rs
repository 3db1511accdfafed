//! `Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s` (Noise revision 34), and what `snow` needs for it.
//!
//! What `snow` leaves to its user is added by the primitives that it is given here:
//!
//! - The ephemeral key of a handshake is handed in. No randomness is drawn from anywhere else.
//! - A Diffie-Hellman result of all zeros ends the handshake (RFC 7748 s.6.1).
//! - Private keys, cipher keys and hash states are wiped when a handshake is dropped. The chaining
//!   key and the preshared key lie in `snow`'s own memory, which is freed but not wiped.

use core::fmt;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use omni_wire::handshake::{
    INITIATION_NOISE_LEN, INITIATION_PAYLOAD_LEN, RESPONSE_NOISE_LEN, RESPONSE_PAYLOAD_LEN,
};
use omni_wire::limits::TAG_LEN;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::{Zeroize, Zeroizing};

use omni_membership::{PrivateKey, PublicKey, SymmetricKey};

/// The pattern and the primitives. They do not vary.
const PROTOCOL: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";

/// What the prologue begins with. The fabric's name follows.
const PROLOGUE: &str = "OmniNervous v1 ";

/// Which of the pattern's preshared keys is used: the one after message 2's tokens.
const PSK_POSITION: u8 = 2;

/// Length of a public key on the wire.
const KEY_LEN: usize = 32;

/// Message 1 as it stands in an initiation.
pub(crate) type Message1 = [u8; INITIATION_NOISE_LEN];

/// Message 2 as it stands in a response.
pub(crate) type Message2 = [u8; RESPONSE_NOISE_LEN];

/// The payload of message 1.
pub(crate) type Payload1 = [u8; INITIATION_PAYLOAD_LEN];

/// The payload of message 2.
pub(crate) type Payload2 = [u8; RESPONSE_PAYLOAD_LEN];

/// A Noise message did not verify, or a key was refused. Why is of use to attackers only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoiseError;

impl From<snow::Error> for NoiseError {
    fn from(_: snow::Error) -> Self {
        Self
    }
}

/// Who we are in which fabric: what every handshake starts from.
pub(crate) struct Identity {
    prologue: Vec<u8>,
    private: PrivateKey,
    public: PublicKey,
}

impl Identity {
    /// The identity of `private` in `fabric`.
    pub(crate) fn new(fabric: &str, private: PrivateKey) -> Self {
        let prologue = [PROLOGUE.as_bytes(), fabric.as_bytes()].concat();
        let public = PublicKey::from_private(&private);
        Self {
            prologue,
            private,
            public,
        }
    }

    /// Our public key.
    pub(crate) const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Whether this is who `other` is, in the same fabric.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.prologue, &self.public) == (&other.prologue, &other.public)
    }

    /// Whether a handshake with `peer` can succeed at all: false for points of low order.
    pub(crate) fn can_agree_with(&self, peer: &PublicKey) -> bool {
        self.private.agree(peer).is_some()
    }
}

/// What a finished handshake is for: Noise's Split().
#[derive(Debug)]
pub(crate) struct TransportKeys {
    /// Seals what the initiator sends.
    pub(crate) initiator_to_responder: SymmetricKey,
    /// Seals what the responder sends.
    pub(crate) responder_to_initiator: SymmetricKey,
}

/// A handshake of which we sent message 1.
pub(crate) struct Initiator(Box<HandshakeState>);

impl Initiator {
    /// Begins a handshake with `remote` and writes message 1.
    ///
    /// # Errors
    /// When `remote` is a point of low order.
    pub(crate) fn start(
        identity: &Identity,
        remote: &PublicKey,
        preshared_key: &SymmetricKey,
        ephemeral: &SymmetricKey,
        payload: &Payload1,
    ) -> Result<(Self, Message1), NoiseError> {
        let mut state = Resolver::builder(ephemeral)?
            .local_private_key(&identity.private.0)?
            .remote_public_key(&remote.0)?
            .prologue(&identity.prologue)?
            .psk(PSK_POSITION, &preshared_key.0)?
            .build_initiator()?;
        let mut message = [0; INITIATION_NOISE_LEN];
        state.write_message(payload, &mut message)?;
        Ok((Self(Box::new(state)), message))
    }

    /// Reads message 2.
    ///
    /// # Errors
    /// When it does not verify. The handshake then is as it was before and can be finished by
    /// another message: `snow` restores hash, chaining key and position, and message 2 of this
    /// pattern begins with a token that sets all the rest anew.
    pub(crate) fn finish(
        &mut self,
        message: &Message2,
    ) -> Result<(Payload2, TransportKeys), NoiseError> {
        let mut payload = [0; RESPONSE_PAYLOAD_LEN];
        self.0.read_message(message, &mut payload)?;
        Ok((payload, split(&mut self.0)))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator(..)")
    }
}

/// A handshake of which we received message 1.
pub(crate) struct Responder(Box<HandshakeState>);

impl Responder {
    /// Reads message 1, and tells whose it is and what it says.
    ///
    /// # Errors
    /// When it does not verify, or holds a point of low order.
    pub(crate) fn read(
        identity: &Identity,
        ephemeral: &SymmetricKey,
        message: &Message1,
    ) -> Result<(Self, PublicKey, Payload1), NoiseError> {
        let mut state = Resolver::builder(ephemeral)?
            .local_private_key(&identity.private.0)?
            .prologue(&identity.prologue)?
            .build_responder()?;
        let mut payload = [0; INITIATION_PAYLOAD_LEN];
        state.read_message(message, &mut payload)?;
        let remote = state
            .get_remote_static()
            .and_then(<[u8]>::first_chunk)
            .ok_or(NoiseError)?;
        let remote = PublicKey(*remote);
        Ok((Self(Box::new(state)), remote, payload))
    }

    /// Writes message 2, which ends the handshake.
    ///
    /// # Errors
    /// When the initiator's ephemeral key is a point of low order.
    pub(crate) fn respond(
        mut self,
        preshared_key: &SymmetricKey,
        payload: &Payload2,
    ) -> Result<(Message2, TransportKeys), NoiseError> {
        self.0
            .set_psk(usize::from(PSK_POSITION), &preshared_key.0)?;
        let mut message = [0; RESPONSE_NOISE_LEN];
        self.0.write_message(payload, &mut message)?;
        Ok((message, split(&mut self.0)))
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder(..)")
    }
}

fn split(state: &mut HandshakeState) -> TransportKeys {
    let (mut first, mut second) = state.dangerously_get_raw_split();
    let keys = TransportKeys {
        initiator_to_responder: SymmetricKey(first),
        responder_to_initiator: SymmetricKey(second),
    };
    first.zeroize();
    second.zeroize();
    keys
}

/// Gives `snow` the primitives below, and the one ephemeral key of the handshake it is made for.
pub(crate) struct Resolver {
    ephemeral: SymmetricKey,
}

impl Resolver {
    fn builder<'a>(ephemeral: &SymmetricKey) -> Result<Builder<'a>, NoiseError> {
        Self::builder_of(PROTOCOL, ephemeral)
    }

    pub(crate) fn builder_of<'a>(
        protocol: &str,
        ephemeral: &SymmetricKey,
    ) -> Result<Builder<'a>, NoiseError> {
        let resolver = Box::new(Self {
            ephemeral: ephemeral.clone(),
        });
        Ok(Builder::with_resolver(protocol.parse()?, resolver))
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneKey(Some(self.ephemeral.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(X25519::new()) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        let hash = DefaultResolver.resolve_hash(choice)?;
        Some(Box::new(WipedHash(hash)))
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::ChaChaPoly)
            .then(|| Box::new(ChaChaPoly(SymmetricKey([0; KEY_LEN]))) as Box<dyn Cipher>)
    }
}

/// A source of randomness that holds one key and gives it once.
struct OneKey(Option<SymmetricKey>);

impl Random for OneKey {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        let key = self
            .0
            .take()
            .filter(|key| key.0.len() == out.len())
            .ok_or(snow::Error::Rng)?;
        out.copy_from_slice(&key.0);
        Ok(())
    }
}

/// A key pair of X25519 (RFC 7748 s.5).
struct X25519 {
    private: PrivateKey,
    public: PublicKey,
}

impl X25519 {
    const fn new() -> Self {
        Self {
            private: PrivateKey([0; KEY_LEN]),
            public: PublicKey([0; KEY_LEN]),
        }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, private: &[u8]) {
        if let Some(private) = private.first_chunk() {
            self.private = PrivateKey(*private);
            self.public = PublicKey::from_private(&self.private);
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut private = Zeroizing::new([0; KEY_LEN]);
        rng.try_fill_bytes(&mut *private)?;
        self.set(&*private);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public.0
    }

    fn privkey(&self) -> &[u8] {
        &self.private.0
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        #[cfg(test)]
        tests::count_dh();
        // snow's buffers have room for longer keys of other curves.
        let public = PublicKey(*public.first_chunk().ok_or(snow::Error::Dh)?);
        let shared = self.private.agree(&public).ok_or(snow::Error::Dh)?;
        out.get_mut(..KEY_LEN)
            .ok_or(snow::Error::Dh)?
            .copy_from_slice(&shared.0);
        Ok(())
    }
}

/// A hash function whose state is overwritten when it is dropped.
struct WipedHash(Box<dyn Hash>);

impl Drop for WipedHash {
    fn drop(&mut self) {
        self.0.reset();
    }
}

impl Hash for WipedHash {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn block_len(&self) -> usize {
        self.0.block_len()
    }

    fn hash_len(&self) -> usize {
        self.0.hash_len()
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.input(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        self.0.result(out);
    }
}

/// ChaCha20-Poly1305 with Noise's nonce: four zero octets, then 64 bits little-endian
/// (Noise revision 34 s.12.3).
struct ChaChaPoly(SymmetricKey);

impl ChaChaPoly {
    fn nonce(counter: u64) -> Nonce {
        let mut nonce = Nonce::default();
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        nonce
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY_LEN]) {
        self.0 = SymmetricKey(*key);
    }

    /// `snow` has made sure that `out` holds the plaintext and a tag; lengths are ours.
    fn encrypt(&self, nonce: u64, aad: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        let cipher = ChaCha20Poly1305::new(Key::from_slice(&self.0.0));
        let tag = cipher
            .encrypt_in_place_detached(&Self::nonce(nonce), aad, text)
            .expect("a handshake message is far below the cipher's limit of 256 GiB");
        rest[..TAG_LEN].copy_from_slice(&tag);
        plaintext.len() + TAG_LEN
    }

    fn decrypt(
        &self,
        nonce: u64,
        aad: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let (sealed, tag) = ciphertext
            .split_last_chunk::<TAG_LEN>()
            .ok_or(snow::Error::Decrypt)?;
        let text = out.get_mut(..sealed.len()).ok_or(snow::Error::Decrypt)?;
        text.copy_from_slice(sealed);
        ChaCha20Poly1305::new(Key::from_slice(&self.0.0))
            .decrypt_in_place_detached(&Self::nonce(nonce), aad, text, Tag::from_slice(tag))
            .map_err(|_| snow::Error::Decrypt)?;
        Ok(sealed.len())
    }
}

#[cfg(test)]
pub(crate) mod tests;
