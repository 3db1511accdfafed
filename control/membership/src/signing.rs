//! Signatures: the authority's by Ed25519 (RFC 8032), a node's by XEdDSA with the key that it has.
//!
//! What is signed is never the body of a record alone:
//!
//! ```text
//! "OmniNervous " | kind | " v1" 0 | octets of the fabric's name (1) | fabric's name | body
//! ```
//!
//! No kind holds a zero octet, so this takes apart in one way only. A record is good as its own
//! kind and in its own fabric, and nowhere else.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::name::FabricName;

mod node;

/// Length of a signature, in octets.
pub(crate) const SIGNATURE_LEN: usize = 64;

/// R and s (RFC 8032 s.5.1.6).
pub(crate) type Signature = [u8; SIGNATURE_LEN];

/// The octets that a signature of a record of this kind in this fabric is over.
pub(crate) fn covered(kind: &str, fabric: &FabricName, body: &[u8]) -> Vec<u8> {
    let name = fabric.as_str().as_bytes();
    // A fabric's name has at most 64 octets.
    let name_len = [name.len() as u8];
    [
        b"OmniNervous ",
        kind.as_bytes(),
        b" v1\0",
        &name_len,
        name,
        body,
    ]
    .concat()
}

/// The authority's private key. It is wiped when dropped, and `Debug` does not show it.
#[derive(Clone)]
pub struct AuthorityKey(SigningKey);

impl AuthorityKey {
    /// The key of a seed: 32 random octets (RFC 8032 s.5.1.5), which are what its file holds.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The key that what this one signs verifies with.
    #[must_use]
    pub fn public_key(&self) -> AuthorityPublicKey {
        AuthorityPublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorityKey(..)")
    }
}

/// The authority's public key: an Ed25519 key that is not weak, in its one encoding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuthorityPublicKey(VerifyingKey);

/// Octets that are no key which signatures can be trusted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthorityKeyError {
    /// They encode no point, or in a form that is not the canonical one (RFC 8032 s.5.1.3).
    #[error("not an Ed25519 public key, as `omni authority init` prints one")]
    NoKey,
    /// A point of small order: one signature would verify for many messages.
    #[error("a weak Ed25519 public key, which anyone could sign for")]
    Weak,
}

impl AuthorityPublicKey {
    /// Reads a public key.
    ///
    /// # Errors
    /// See [`AuthorityKeyError`].
    pub fn from_octets(octets: &[u8; 32]) -> Result<Self, AuthorityKeyError> {
        let point = CompressedEdwardsY(*octets)
            .decompress()
            .filter(|point| point.compress().0 == *octets)
            .ok_or(AuthorityKeyError::NoKey)?;
        if point.is_small_order() {
            return Err(AuthorityKeyError::Weak);
        }
        let key = VerifyingKey::from_bytes(octets).map_err(|_| AuthorityKeyError::NoKey)?;
        Ok(Self(key))
    }

    /// The 32 octets that it is written as.
    #[must_use]
    pub fn octets(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Whether this key's owner signed `message`.
    pub(crate) fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        verify(&self.0, message, signature)
    }
}

impl fmt::Debug for AuthorityPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.octets();
        write!(f, "AuthorityPublicKey({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

impl fmt::Display for AuthorityPublicKey {
    /// Base64 with padding, as keys are written in configuration (RFC 4648 s.4).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.octets()))
    }
}

/// Ed25519 without the freedoms of RFC 8032 s.5.1.7: s below the group's order, R and the key of
/// large order, R in its canonical encoding, no cofactor.
fn verify(key: &VerifyingKey, message: &[u8], signature: &Signature) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    key.verify_strict(message, &signature).is_ok()
}

#[cfg(test)]
mod tests;
