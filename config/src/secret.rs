//! A secret of 32 octets that cannot be printed and does not outlive its use in memory.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A private key or a preshared key. It is wiped when dropped, and `Debug` does not show it. Its
/// place in memory stays the same: moving a configuration leaves no copies behind.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes32(Box<[u8; 32]>);

impl SecretBytes32 {
    /// Takes the octets over.
    #[must_use]
    pub fn new(octets: [u8; 32]) -> Self {
        Self(Box::new(octets))
    }

    /// The octets themselves, to be handed to cryptography and to nothing else.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for SecretBytes32 {
    /// Compares all octets whatever the first ones say, so the time tells nothing.
    fn eq(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(other.0.iter())
            .fold(0, |differ, (a, b)| differ | (a ^ b))
            == 0
    }
}

impl Eq for SecretBytes32 {}

impl fmt::Debug for SecretBytes32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes32(..)")
    }
}

/// Reads 32 octets written in base64 (RFC 4648 s.4, padded: 44 characters).
pub(crate) fn decode32(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    // 44 characters stand for 31 to 33 octets; the room is what the decoder may ask for.
    let mut room = Zeroizing::new([0_u8; 36]);
    if text.len() != 44 || STANDARD.decode_slice(text, &mut room[..]) != Ok(32) {
        return None;
    }
    let mut octets = Zeroizing::new([0_u8; 32]);
    octets.copy_from_slice(&room[..32]);
    Some(octets)
}

/// The secret that a key file's text holds, or what is wrong with the text. `maker` is the command
/// that makes such files.
pub(crate) fn secret_of(text: &[u8], maker: &str) -> Result<SecretBytes32, String> {
    match decode32(text.trim_ascii()) {
        Some(octets) if *octets == [0; 32] => {
            Err("holds 32 zero octets, which is no key".to_owned())
        }
        Some(octets) => Ok(SecretBytes32::new(*octets)),
        None => Err(format!("holds no key (make one with {maker})")),
    }
}

/// Whether a text may be a key that was put in the wrong place. Such a text is never shown.
///
/// It also holds for keys that are a few characters short or long, for the URL alphabet of
/// base64 and for hexadecimal.
pub(crate) fn may_be_key(text: &str) -> bool {
    let is_key_char = |c: u8| c.is_ascii_alphanumeric() || b"+/-_=".contains(&c);
    let text = text.trim();
    (40..=70).contains(&text.len()) && text.bytes().all(is_key_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_secret() {
        let secret = SecretBytes32::new([0xab; 32]);
        assert_eq!(format!("{secret:?}"), "SecretBytes32(..)");
    }

    #[test]
    fn equality_looks_at_every_octet() {
        let mut octets = [7; 32];
        let secret = SecretBytes32::new(octets);
        assert_eq!(secret, SecretBytes32::new(octets));
        octets[31] ^= 1;
        assert_ne!(secret, SecretBytes32::new(octets));
    }

    #[test]
    fn only_canonical_base64_of_32_octets_is_a_key() {
        let octets: [u8; 32] = std::array::from_fn(|i| i as u8);
        let text = STANDARD.encode(octets);
        assert_eq!(decode32(text.as_bytes()).as_deref(), Some(&octets));
        let lengths = [0, 31, 33].map(|n| STANDARD.encode(vec![9; n]));
        let not_padded = text.trim_end_matches('=').to_owned();
        // The last character before the padding carries two bits that must be zero.
        let not_canonical = text.replace("8=", "9=");
        assert_ne!(not_canonical, text);
        for bad in lengths.iter().chain([&not_padded, &not_canonical]) {
            assert!(decode32(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
