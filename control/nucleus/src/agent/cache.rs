//! What is kept on disk, so that a node finds the others when no Nucleus answers.

use prost::Message;

use super::roster::Roster;
use crate::protocol::Changes;

/// The first octets of a cache.
const MAGIC: &[u8; 8] = b"OMNIMAP1";

/// The longest cache that is read, in octets.
pub const CACHE_MAX: usize = 256 << 20;

/// A cache is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a list of members that this version has written")]
pub struct CacheError;

#[derive(Clone, PartialEq, Eq, Message)]
struct Cache {
    /// The last sequence that the node signed with.
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(message, optional, tag = "2")]
    changes: Option<Changes>,
}

/// What was in a cache. None of it is verified.
pub(super) struct Records {
    pub(super) sequence: u64,
    pub(super) changes: Changes,
}

pub(super) fn write(roster: &Roster, sequence: u64) -> Vec<u8> {
    let [registrations, bindings, revocations] = roster.records();
    let changes = Changes {
        registrations,
        bindings,
        revocations,
        ..Changes::default()
    };
    let cache = Cache {
        sequence,
        changes: Some(changes),
    };
    let mut octets = MAGIC.to_vec();
    octets.extend(cache.encode_to_vec());
    octets
}

pub(super) fn read(octets: &[u8]) -> Result<Records, CacheError> {
    let cache = octets.strip_prefix(MAGIC).ok_or(CacheError)?;
    let cache = Cache::decode(cache).map_err(|_| CacheError)?;
    Ok(Records {
        sequence: cache.sequence,
        changes: cache.changes.unwrap_or_default(),
    })
}
