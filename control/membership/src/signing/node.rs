//! XEdDSA: a node signs with its X25519 key, so that its public key alone verifies what it says.
//!
//! Signal, "The XEdDSA and VXEdDSA Signature Schemes", revision 1, with curve25519 (XEd25519). The
//! signer's nonce is as in RFC 8032 s.5.1.6, of a secret and the message, in place of fresh
//! randomness: whoever verifies cannot tell, and nothing goes wrong where randomness is bad.

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use sha2::{Digest as _, Sha512};
use subtle::{Choice, ConditionallyNegatable as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Signature, verify};
use crate::key::{PrivateKey, PublicKey};

/// Keeps the secret that nonces are made of apart from every other use of the key.
const NONCE_LABEL: &[u8] = b"OmniNervous XEdDSA nonce v1\0";

/// The prime of the field, 2^255 - 19, in little-endian octets.
const PRIME: [u8; 32] = {
    let mut prime = [0xff; 32];
    (prime[0], prime[31]) = (0xed, 0x7f);
    prime
};

impl PrivateKey {
    /// Signs `message` by XEdDSA. The same key and message give the same signature.
    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        let (key, point) = signing_key(self);
        let public = VerifyingKey::from(point);
        raw_sign::<Sha512>(&key, message, &public).to_bytes()
    }
}

impl PublicKey {
    /// Whether this key's owner signed `message`. Never for keys that nobody can sign with: of
    /// small order, not on the curve, or not in their canonical encoding (RFC 7748 s.5).
    pub(crate) fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        verifying_key(self).is_some_and(|key| verify(&key, message, signature))
    }

    /// Whether someone may be able to sign with this key: it is what a private key gives.
    #[must_use]
    pub fn can_sign(&self) -> bool {
        verifying_key(self).is_some()
    }
}

/// The scalar whose point has sign bit 0, the secret for nonces, and the point
/// (`calculate_key_pair` of XEdDSA).
fn signing_key(private: &PrivateKey) -> (ExpandedSecretKey, EdwardsPoint) {
    let mut clamped = clamp_integer(private.0);
    let mut scalar = Zeroizing::new(Scalar::from_bytes_mod_order(clamped));
    clamped.zeroize();
    let mut point = EdwardsPoint::mul_base(&scalar);
    let sign = Choice::from(point.compress().0[31] >> 7);
    scalar.conditional_negate(sign);
    point.conditional_negate(sign);
    let mut digest = Zeroizing::new([0; 64]);
    Sha512::new()
        .chain_update(NONCE_LABEL)
        .chain_update(scalar.as_bytes())
        .finalize_into((&mut *digest).into());
    let mut key = ExpandedSecretKey {
        scalar: *scalar,
        hash_prefix: [0; 32],
    };
    key.hash_prefix.copy_from_slice(&digest[32..]);
    (key, point)
}

/// The Edwards point of a public key, y = (u - 1) / (u + 1), with sign bit 0 (RFC 7748 s.4.1).
fn verifying_key(public: &PublicKey) -> Option<VerifyingKey> {
    if public.0.iter().rev().ge(PRIME.iter().rev()) {
        return None;
    }
    let point = MontgomeryPoint(public.0).to_edwards(0)?;
    (!point.is_small_order()).then(|| VerifyingKey::from(point))
}
