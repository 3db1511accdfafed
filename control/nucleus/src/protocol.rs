//! The messages between a node and a Nucleus, as protobuf in the plaintext of the channel's
//! messages. Unknown fields and unknown messages are passed over, so that a later version may add
//! some. The text of the format is `docs/nucleus.proto`.
//!
//! ```text
//!   node                                             Nucleus
//!   Hello { what it knows }           ------------>
//!                                     <------------  Welcome { token for reflection, limits }
//!   Register, Bind                    ------------>
//!                                     <------------  Result { of each, by its number }
//!                                     <------------  Changes { after what it knows } ...
//!   Call { of another node }          ------------>
//!                                     <------------  Called { by another node }
//!   Ping                              ------------>
//!                                     <------------  Pong
//! ```
//!
//! There are no snapshots: what is known is a list of items, each with the revision of its last
//! change. A node says up to which revision it knows the list, and is told what changed since, in
//! the order of revisions, for as long as it is connected.

use omni_control::channel::PLAINTEXT_MAX;
use prost::{Enumeration, Message, Oneof};

/// The version that is spoken here.
pub const VERSION: u32 = 1;

/// The UDP and TCP port of a Nucleus that names none.
pub const DEFAULT_PORT: u16 = 51_821;

/// Octets of a token for reflection.
pub const TOKEN_LEN: usize = 16;

/// The most records of one message.
pub const RECORDS_MAX: usize = 1024;

/// A node asks something.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FromNode {
    /// What.
    #[prost(oneof = "from_node::What", tags = "1, 2, 3, 4, 5")]
    pub what: Option<from_node::What>,
}

/// What a node can ask.
pub mod from_node {
    use super::{Bind, Call, Hello, Oneof, Ping, Register};

    /// One of these.
    #[derive(Clone, PartialEq, Eq, Oneof)]
    pub enum What {
        /// The first message of a node.
        #[prost(message, tag = "1")]
        Hello(Hello),
        /// Where it is.
        #[prost(message, tag = "2")]
        Register(Register),
        /// What is behind it.
        #[prost(message, tag = "3")]
        Bind(Bind),
        /// It wants to speak to another node, which may have to speak first.
        #[prost(message, tag = "4")]
        Call(Call),
        /// It wants to know whether anybody is there.
        #[prost(message, tag = "5")]
        Ping(Ping),
    }
}

/// The first message of a node.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hello {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Which life of the list it knows: 16 octets, or none.
    #[prost(bytes = "vec", tag = "2")]
    pub incarnation: Vec<u8>,
    /// Up to which revision it knows that list; 0: nothing.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
}

/// A node registers.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Register {
    /// Names the request in its [`Result`].
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// A signed registration.
    #[prost(bytes = "vec", tag = "2")]
    pub registration: Vec<u8>,
}

/// A node binds addresses, or withdraws them.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Bind {
    /// Names the request in its [`Result`].
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// A signed binding.
    #[prost(bytes = "vec", tag = "2")]
    pub binding: Vec<u8>,
}

/// A node asks that another one begins a handshake with it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Call {
    /// The other one's public key, 32 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub public_key: Vec<u8>,
}

/// A node asks whether anybody is there.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Ping {}

/// The Nucleus says something.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FromNucleus {
    /// What.
    #[prost(oneof = "from_nucleus::What", tags = "1, 2, 3, 4, 5")]
    pub what: Option<from_nucleus::What>,
}

/// What a Nucleus can say.
pub mod from_nucleus {
    use super::{Called, Changes, Oneof, Pong, Result, Welcome};

    /// One of these.
    #[derive(Clone, PartialEq, Eq, Oneof)]
    pub enum What {
        /// The answer to a hello.
        #[prost(message, tag = "1")]
        Welcome(Welcome),
        /// The answer to a request.
        #[prost(message, tag = "2")]
        Result(Result),
        /// What changed.
        #[prost(message, tag = "3")]
        Changes(Changes),
        /// Another node wants to be spoken to.
        #[prost(message, tag = "4")]
        Called(Called),
        /// Somebody is there.
        #[prost(message, tag = "5")]
        Pong(Pong),
    }
}

/// The answer to a hello.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Welcome {
    /// [`VERSION`], or the newest that the Nucleus speaks.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// What the node sends to be told where it was seen: [`TOKEN_LEN`] octets. Good for as long
    /// as the connection.
    #[prost(bytes = "vec", tag = "2")]
    pub token: Vec<u8>,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Result {
    /// That of the request.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// [`Refused::No`]: it is kept, on disk.
    #[prost(enumeration = "Refused", tag = "2")]
    pub refused: i32,
    /// Why, in words, to be shown to an operator.
    #[prost(string, tag = "3")]
    pub why: String,
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Enumeration)]
#[repr(i32)]
pub enum Refused {
    /// It is not.
    No = 0,
    /// The record is none, does not verify, or is not about the node that sent it.
    Invalid = 1,
    /// The node is no member, or no more.
    NotMember = 2,
    /// Its certificate does not grant it.
    NotGranted = 3,
    /// Another node has the address.
    Held = 4,
    /// The Nucleus knows a newer one.
    Older = 5,
    /// Too many, or too many at once.
    Limit = 6,
    /// It cannot be stored now: to be tried again.
    Unavailable = 7,
}

/// What changed, in the order of revisions.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Changes {
    /// Which life of the list this is: 16 octets. Another one than before: all that was known of
    /// revisions is void.
    #[prost(bytes = "vec", tag = "1")]
    pub incarnation: Vec<u8>,
    /// All changes up to this revision have been told.
    #[prost(uint64, tag = "2")]
    pub revision: u64,
    /// What is known now where something changed: signed registrations.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub registrations: Vec<Vec<u8>>,
    /// Signed bindings.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub bindings: Vec<Vec<u8>>,
    /// Signed revocations.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub revocations: Vec<Vec<u8>>,
    /// Whether this is all for now: until the next change the node knows what the Nucleus does.
    #[prost(bool, tag = "6")]
    pub all: bool,
}

/// Another node wants to be spoken to.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Called {
    /// Its public key, 32 octets.
    #[prost(bytes = "vec", tag = "1")]
    pub public_key: Vec<u8>,
}

/// Somebody is there.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Pong {}

/// A message is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a message of the rendezvous that does not decode")]
pub struct Malformed;

impl FromNode {
    /// Reads a message. `None` for one of a kind that is not known here.
    ///
    /// # Errors
    /// When it does not decode, or holds more than it may.
    pub fn read(octets: &[u8]) -> core::result::Result<Option<from_node::What>, Malformed> {
        let message = Self::decode(octets).map_err(|_| Malformed)?;
        Ok(message.what)
    }
}

impl FromNucleus {
    /// Reads a message. `None` for one of a kind that is not known here.
    ///
    /// # Errors
    /// When it does not decode, or holds more than it may.
    pub fn read(octets: &[u8]) -> core::result::Result<Option<from_nucleus::What>, Malformed> {
        let message = Self::decode(octets).map_err(|_| Malformed)?;
        if let Some(from_nucleus::What::Changes(changes)) = &message.what {
            let records = [
                &changes.registrations,
                &changes.bindings,
                &changes.revocations,
            ];
            let count: usize = records.iter().map(|records| records.len()).sum();
            if count > RECORDS_MAX {
                return Err(Malformed);
            }
        }
        Ok(message.what)
    }
}

impl From<from_node::What> for FromNode {
    fn from(what: from_node::What) -> Self {
        Self { what: Some(what) }
    }
}

impl From<from_nucleus::What> for FromNucleus {
    fn from(what: from_nucleus::What) -> Self {
        Self { what: Some(what) }
    }
}

impl Changes {
    /// Whether a record of so many octets still fits, beside `used` octets of records before it.
    #[must_use]
    pub const fn fits(used: usize, len: usize) -> bool {
        // Tag and length of each record, and all that is not a record, with room to spare.
        used + len + 8 <= PLAINTEXT_MAX - 64
    }
}
