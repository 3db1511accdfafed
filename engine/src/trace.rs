//! What `omni trace` asks an engine for, and what it is answered: which way a frame would take from
//! here, step by step.

use serde::{Deserialize, Serialize};

/// A frame that might be sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// A MAC or IP address, the name of a peer, or the beginning of its public key.
    pub target: String,
    /// Outermost VLAN id; without it that of the port, or the only one in which the address is
    /// known, or 0.
    pub vlan: Option<u16>,
    /// The access port that the frame would come from; without it the only one there is.
    pub from: Option<String>,
}

/// What becomes of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It leaves by an access port of this node.
    Delivered,
    /// It is sealed and sent to one peer.
    Sent,
    /// It waits for a session, or for the way.
    Staged,
    /// It goes to everyone who is named.
    Flooded,
    /// The engine takes it itself.
    Consumed,
    /// It goes nowhere.
    Dropped,
}

/// How a step weighs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// As it should be.
    Fine,
    /// Frames may be lost by it.
    Warning,
    /// The frame is dropped here.
    Drop,
}

/// One thing that decides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What is looked at: `port`, `binding`, `address`, `owner`, `session`, `way`, `lanes`, `mtu`,
    /// `policy`, `flood`.
    pub step: String,
    /// What is found, in a sentence.
    pub text: String,
    /// What follows from it.
    pub weight: Weight,
}

/// A peer that the frame goes to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TracePeer {
    /// Its name.
    pub name: String,
    /// In base64.
    pub public_key: String,
    /// `idle`, `handshaking` or `established`.
    pub state: String,
    /// Age of the session that is sent in.
    pub session_seconds: Option<u64>,
    /// Where messages go.
    pub endpoint: Option<String>,
    /// The address of ours that they leave from.
    pub source: Option<String>,
    /// The longest inner frame that is sent, in octets from the destination MAC on.
    pub frame_limit: Option<u16>,
}

/// The way of a frame.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trace {
    /// As it was asked for.
    pub target: String,
    /// Outermost VLAN id that was gone by.
    pub vlan: u16,
    /// The access port it comes from, if one was gone by.
    pub from: Option<String>,
    /// The destination of the frame, if that is known.
    pub mac: Option<String>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why it is dropped: a reason as `omni show drops` has them.
    pub drop: Option<String>,
    /// Interfaces that it leaves by.
    pub ports: Vec<String>,
    /// Peers that it is sent to.
    pub peers: Vec<TracePeer>,
    /// What decides, in order.
    pub steps: Vec<Step>,
}
