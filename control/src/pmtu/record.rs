//! The control records of path MTU discovery.

use std::sync::Arc;

use crate::message::{Command, PeerId};

/// Recognises the answer to a probe.
pub(crate) type Token = [u8; 8];

/// Length of kind, zero and length of body, before every body (`PROTOCOL` section 5).
const RECORD_PREFIX: usize = 4;
const KIND_PROBE: u8 = 16;
const KIND_ANSWER: u8 = 17;

/// A record of path MTU discovery.
///
/// # Layout
///
/// | offset | size | probe | answer |
/// |---|---|---|---|
/// | 0 | 4 | kind 16, zero, length of the rest | kind 17, zero, 10 |
/// | 4 | 8 | token | token of the probe |
/// | 12 | | zeros up to the size probed | length of the probe's record (2) |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Record {
    /// To be answered with its token and its length.
    Probe {
        token: Token,
        /// Of the whole record.
        octets: u16,
    },
    /// A probe arrived.
    Answer {
        token: Token,
        /// Of the whole record that arrived.
        octets: u16,
    },
}

impl Record {
    /// Whether a record of this kind is one of path MTU discovery, well-formed or not.
    pub(crate) fn is_of_kind(record: &[u8]) -> bool {
        matches!(record.first(), Some(&(KIND_PROBE | KIND_ANSWER)))
    }

    /// `None` for other kinds, and when lengths do not agree.
    pub(crate) fn parse(record: &[u8]) -> Option<Self> {
        let (prefix, body) = record.split_first_chunk::<RECORD_PREFIX>()?;
        let &[kind, _, high, low] = prefix;
        if usize::from(u16::from_be_bytes([high, low])) != body.len() {
            return None;
        }
        let (&token, rest) = body.split_first_chunk()?;
        match kind {
            KIND_PROBE => Some(Self::Probe {
                token,
                octets: u16::try_from(record.len()).ok()?,
            }),
            KIND_ANSWER => Some(Self::Answer {
                token,
                octets: u16::from_be_bytes(*rest.first_chunk()?),
            }),
            _ => None,
        }
    }

    /// The order to send it. Probes are never shorter than their token ends.
    pub(crate) fn to(self, peer: PeerId) -> Command {
        let (kind, token, tail) = match self {
            Self::Probe { token, octets } => {
                let padding = usize::from(octets).saturating_sub(RECORD_PREFIX + token.len());
                (KIND_PROBE, token, vec![0; padding])
            }
            Self::Answer { token, octets } => (KIND_ANSWER, token, octets.to_be_bytes().to_vec()),
        };
        let length = (token.len() + tail.len()) as u16;
        let [high, low] = length.to_be_bytes();
        let record = [&[kind, 0, high, low], &token[..], &tail].concat();
        Command::SendRecord {
            peer,
            record: Arc::from(record),
        }
    }
}
