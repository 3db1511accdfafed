//! Keys: identities, their secrets, and session keys. Secrets are wiped when dropped, and none of
//! them can be printed.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use curve25519_dalek::montgomery::MontgomeryPoint;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A node's identity: its X25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The public key that belongs to `private` (RFC 7748 s.6.1).
    #[must_use]
    pub fn from_private(private: &PrivateKey) -> Self {
        Self(MontgomeryPoint::mul_base_clamped(private.0).to_bytes())
    }
}

impl fmt::Debug for PublicKey {
    /// The first four octets in hex: enough to tell peers apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "PublicKey({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

impl fmt::Display for PublicKey {
    /// Base64 with padding, as keys are written in configuration (RFC 4648 s.4).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.0))
    }
}

/// A node's X25519 private key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey(pub [u8; 32]);

impl PrivateKey {
    /// What this key and a peer's public key agree on (RFC 7748 s.6.1).
    ///
    /// `None` when that is all zeros: the public key is a point of low order, and the result
    /// would be known to everyone. The check is over a value that is then thrown away.
    #[must_use]
    pub fn agree(&self, public: &PublicKey) -> Option<SymmetricKey> {
        let mut point = MontgomeryPoint(public.0).mul_clamped(self.0);
        let shared = Zeroizing::new(point.to_bytes());
        point.zeroize();
        let bits = shared.iter().fold(0, |bits, octet| bits | octet);
        (bits != 0).then(|| SymmetricKey(*shared))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A preshared key or a session key.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SymmetricKey(pub [u8; 32]);

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_padded_base64() {
        let text = PublicKey([0xff; 32]).to_string();
        assert_eq!(text, "//////////////////////////////////////////8=");
    }

    #[test]
    fn both_sides_agree_on_the_same_secret() {
        let (a, b) = (PrivateKey([1; 32]), PrivateKey([2; 32]));
        let ab = a.agree(&PublicKey::from_private(&b));
        let ba = b.agree(&PublicKey::from_private(&a));
        assert!(ab.is_some());
        assert_eq!(ab, ba);
    }

    #[test]
    fn secrets_are_not_printed() {
        let printed = format!(
            "{:?} {:?}",
            PrivateKey([0xab; 32]),
            SymmetricKey([0xab; 32])
        );
        assert_eq!(printed, "PrivateKey(..) SymmetricKey(..)");
    }
}
