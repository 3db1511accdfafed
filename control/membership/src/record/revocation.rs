//! Revocations: the authority takes certificates back.

use super::field::{Wrong, named, public_key};
use super::{Body, Kind, RecordError, Signed, message, open, read, seal};
use crate::key::PublicKey;
use crate::name::FabricName;
use crate::signing::{AuthorityKey, AuthorityPublicKey};

/// The longest revocation, signature included, in octets.
pub const MAX_REVOCATION_LEN: usize = 2048;

/// The longest reason, in characters.
pub const MAX_REASON: usize = 200;

/// What the authority says of a node's certificates. It holds for ever.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revocation {
    /// Whose certificates.
    pub public_key: PublicKey,
    /// All of them up to this serial, and this one, are void.
    pub serial: u64,
    /// When it was signed, in seconds since 1970.
    pub issued_at: u64,
    /// Why, for people: at most [`MAX_REASON`] characters, none of them a control character or
    /// one that reorders a line.
    pub reason: String,
}

impl Revocation {
    /// Signs it for a fabric.
    ///
    /// # Errors
    /// A field that is out of its range.
    pub fn sign(
        &self,
        fabric: &FabricName,
        authority: &AuthorityKey,
    ) -> Result<Signed<Self>, RecordError> {
        seal(self, fabric, |message| authority.sign(message))
    }

    /// Reads a revocation that the authority of a fabric signed.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn verify(
        octets: &[u8],
        fabric: &FabricName,
        authority: &AuthorityPublicKey,
    ) -> Result<Signed<Self>, RecordError> {
        open(octets, fabric, |_, message, signature| {
            authority.verify(message, signature)
        })
    }

    /// Reads what a revocation says, whoever signed it: to be shown, and not to be trusted.
    ///
    /// # Errors
    /// As [`Revocation::verify`], but for the signature.
    pub fn unverified(octets: &[u8]) -> Result<Self, RecordError> {
        read(octets)
    }
}

impl Body for Revocation {
    const KIND: Kind = Kind::Revocation;
    const MAX_LEN: usize = MAX_REVOCATION_LEN;
    type Message = message::Revocation;

    fn check(message: message::Revocation) -> Result<Self, RecordError> {
        Ok(Self {
            public_key: named(Self::KIND, "public_key", public_key(&message.public_key))?,
            serial: message.serial,
            issued_at: message.issued_at,
            reason: named(Self::KIND, "reason", reason(message.reason))?,
        })
    }

    fn message(&self) -> message::Revocation {
        message::Revocation {
            public_key: self.public_key.0.to_vec(),
            serial: self.serial,
            issued_at: self.issued_at,
            reason: self.reason.clone(),
        }
    }
}

fn reason(text: String) -> Result<String, Wrong> {
    if text.chars().any(is_unprintable) {
        return Err("holds control characters, allowed are printable ones");
    }
    match text.chars().nth(MAX_REASON) {
        Some(_) => Err("is longer than 200 characters"),
        None => Ok(text),
    }
}

/// Control characters, line and paragraph separators, and marks of writing direction.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}')
}
