//! Who belongs to a fabric, and what is whose: octets to verified values, and back.
//!
//! Nodes meet through a rendezvous that nobody trusts. It can withhold, but not forge: all that it
//! passes on is signed, by the fabric's authority or by the node that it is about.
//!
//! ```text
//!   authority (offline, Ed25519)                 node (X25519 key, signs by XEdDSA)
//!      |  Certificate   Revocation                  |  Registration   Binding
//!      |                                            |
//!   +--v--------------------------------------------v----+
//!   | Signed<T>: body's octets as they came + signature  |  a kind and a fabric are signed along
//!   +--------------------------+-------------------------+
//!                              |
//!               Trust::admit: registration + certificate or list -> Member | Refusal
//! ```
//!
//! The promise: a [`Signed`] value verified, and each of its fields is in range. No input makes
//! anything here panic or grow without a bound: a record has at most [`MAX_RECORD_LEN`] octets.
//!
//! What is not here: I/O, clocks and randomness. Times are handed in, in seconds since
//! 1970-01-01T00:00:00Z. The format is `docs/nucleus-records.proto`.
#![forbid(unsafe_code)]

pub mod armour;
mod key;
mod name;
mod record;
mod signing;
mod trust;

pub use key::{PrivateKey, PublicKey, SymmetricKey};
pub use name::{FabricName, FabricNameError};
pub use record::{
    Binding, Certificate, Endpoint, EndpointKind, Grants, IpPrefix, Kind, MAX_BINDING_LEN,
    MAX_CERTIFICATE_LEN, MAX_ENDPOINTS, MAX_GRANTED_ADDRESSES, MAX_GRANTED_MACS, MAX_REASON,
    MAX_RECORD_LEN, MAX_REVOCATION_LEN, MAX_VLAN_RANGES, RecordError, Registration, Revocation,
    Signed, VlanRanges,
};
pub use signing::{AuthorityKey, AuthorityKeyError, AuthorityPublicKey};
pub use trust::{MAX_REVOCATIONS, Member, Refusal, Revocations, RevocationsFull, Trust};
