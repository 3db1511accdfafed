//! Signed records: what the authority and the nodes say, checked and verified.
//!
//! ```text
//! octets -> Signed { body, signature } -> fields in range -> signature verifies -> Signed<T>
//! ```
//!
//! Bodies are protobuf, so a later version may add fields. A body is kept as it came: fields that
//! this version does not know survive when a record is passed on, and the signature still verifies.

use core::fmt;
use core::ops::Deref;

use prost::Message as _;

use crate::name::FabricName;
use crate::signing::{SIGNATURE_LEN, Signature, covered};

mod binding;
mod certificate;
mod field;
mod grants;
mod message;
mod registration;
mod revocation;

pub use binding::{Binding, MAX_BINDING_LEN};
pub use certificate::{Certificate, MAX_CERTIFICATE_LEN};
pub use grants::{
    Grants, IpPrefix, MAX_GRANTED_ADDRESSES, MAX_GRANTED_MACS, MAX_VLAN_RANGES, VlanRanges,
};
pub use registration::{Endpoint, EndpointKind, MAX_ENDPOINTS, Registration};
pub use revocation::{MAX_REASON, MAX_REVOCATION_LEN, Revocation};

/// The longest record, signature included, in octets. Longer ones are refused before anything is
/// decoded.
pub const MAX_RECORD_LEN: usize = 32 * 1024;

/// What a record is. Its name is signed along.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// The authority says that a node belongs to the fabric: [`Certificate`].
    Certificate,
    /// The authority takes certificates back: [`Revocation`].
    Revocation,
    /// A node says where it is: [`Registration`].
    Registration,
    /// A node says that an address is behind it: [`Binding`].
    Binding,
}

impl Kind {
    /// The name that is signed: a word of small letters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Revocation => "revocation",
            Self::Registration => "registration",
            Self::Binding => "binding",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why octets are no record, or values make none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// Longer than its kind may be.
    #[error("a {kind} of {len} octets, allowed are {max}")]
    TooLong {
        /// What it was taken for.
        kind: Kind,
        /// Octets that it has.
        len: usize,
        /// Octets that it may have.
        max: usize,
    },
    /// Not protobuf, or not with these fields.
    #[error("not a {0}: its octets do not decode")]
    Malformed(Kind),
    /// The signature has another length.
    #[error("a {kind} with a signature of {len} octets, allowed are 64")]
    SignatureLen {
        /// What it was taken for.
        kind: Kind,
        /// Octets of its signature.
        len: usize,
    },
    /// A field is missing, or out of its range.
    #[error("a {kind} whose {field} {what}")]
    Field {
        /// What it was taken for.
        kind: Kind,
        /// The field, as in `nucleus-records.proto`.
        field: &'static str,
        /// What is wrong with it, what is allowed.
        what: &'static str,
    },
    /// Somebody else signed it, or it is of another fabric, or it was changed.
    #[error("the {0}'s signature does not verify: another signer, another fabric, or changed")]
    BadSignature(Kind),
}

/// A record whose signature verified, or that was signed here.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed<T> {
    value: T,
    octets: Vec<u8>,
}

impl<T> Signed<T> {
    /// The record as it is passed on. Its body is the one that was signed, octet by octet.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// What it says.
    #[must_use]
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> Deref for Signed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signed").field(&self.value).finish()
    }
}

/// What is in a record of one kind.
trait Body: Sized {
    const KIND: Kind;
    /// The longest record of this kind, in octets.
    const MAX_LEN: usize = MAX_RECORD_LEN;
    /// The body as protobuf has it.
    type Message: prost::Message + Default;

    /// Takes fields that are all in range.
    fn check(message: Self::Message) -> Result<Self, RecordError>;

    /// The fields for encoding.
    fn message(&self) -> Self::Message;
}

/// Signs a value. What would not be taken by [`open`] is refused.
fn seal<T: Body>(
    value: &T,
    fabric: &FabricName,
    sign: impl FnOnce(&[u8]) -> Signature,
) -> Result<Signed<T>, RecordError> {
    let message = value.message();
    let body = message.encode_to_vec();
    let value = T::check(message)?;
    let signature = sign(&covered(T::KIND.as_str(), fabric, &body));
    let octets = encode(body, &signature);
    check_len::<T>(octets.len())?;
    Ok(Signed { value, octets })
}

/// Reads a record and verifies it with `verifies`: what it says, what is signed, the signature.
fn open<T: Body>(
    octets: &[u8],
    fabric: &FabricName,
    verifies: impl FnOnce(&T, &[u8], &Signature) -> bool,
) -> Result<Signed<T>, RecordError> {
    let (body, signature) = split::<T>(octets)?;
    let value = check::<T>(&body)?;
    let message = covered(T::KIND.as_str(), fabric, &body);
    if !verifies(&value, &message, &signature) {
        return Err(RecordError::BadSignature(T::KIND));
    }
    let octets = encode(body, &signature);
    Ok(Signed { value, octets })
}

/// Reads a record whose signature nobody looks at.
fn read<T: Body>(octets: &[u8]) -> Result<T, RecordError> {
    let (body, _) = split::<T>(octets)?;
    check(&body)
}

fn encode(body: Vec<u8>, signature: &Signature) -> Vec<u8> {
    let signature = signature.to_vec();
    message::Signed { body, signature }.encode_to_vec()
}

fn split<T: Body>(octets: &[u8]) -> Result<(Vec<u8>, Signature), RecordError> {
    check_len::<T>(octets.len())?;
    let signed = message::Signed::decode(octets).map_err(|_| RecordError::Malformed(T::KIND))?;
    let signature = <[u8; SIGNATURE_LEN]>::try_from(&signed.signature[..]).map_err(|_| {
        RecordError::SignatureLen {
            kind: T::KIND,
            len: signed.signature.len(),
        }
    })?;
    Ok((signed.body, signature))
}

fn check_len<T: Body>(len: usize) -> Result<(), RecordError> {
    let (kind, max) = (T::KIND, T::MAX_LEN);
    match len <= max {
        true => Ok(()),
        false => Err(RecordError::TooLong { kind, len, max }),
    }
}

fn check<T: Body>(body: &[u8]) -> Result<T, RecordError> {
    let message = T::Message::decode(body).map_err(|_| RecordError::Malformed(T::KIND))?;
    T::check(message)
}

#[cfg(test)]
mod tests;
