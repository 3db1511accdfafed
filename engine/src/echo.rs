//! What `omni ping` asks an engine for, and what it is answered: one echo of a peer.

use serde::{Deserialize, Serialize};

/// The shortest record that can be echoed, in octets: its prefix and a token.
pub const OCTETS_MIN: u16 = 12;
/// The longest wait for an echo, in milliseconds: less than a connection may take.
pub const WAIT_MS_MAX: u32 = 4000;

/// A question for one echo.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EchoRequest {
    /// Name of the peer, or the beginning of its public key.
    pub peer: String,
    /// Length of the record that is sent, in octets: it takes the same way as a frame as long.
    pub octets: u16,
    /// How long the answer is waited for, in milliseconds.
    pub wait_ms: u32,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Echo {
    /// The peer's name.
    pub peer: String,
    /// In base64.
    pub public_key: String,
    /// `idle`, `handshaking` or `established`.
    pub state: String,
    /// Where it was sent to.
    pub endpoint: Option<String>,
    /// The address of ours that it was sent from, if that is known.
    pub source: Option<String>,
    /// The longest inner frame that can be sent to the peer now, in octets from the destination
    /// MAC on; null without a session.
    pub frame_limit: Option<u16>,
    /// Octets sent.
    pub octets: u16,
    /// Octets that arrived, as the peer says; null without an answer.
    pub arrived: Option<u16>,
    /// From the order to send until the answer was read, in nanoseconds; null without an answer.
    pub rtt_ns: Option<u64>,
    /// Why nothing was sent.
    pub refusal: Option<String>,
}
