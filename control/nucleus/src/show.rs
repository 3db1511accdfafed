//! What a Nucleus answers on its control socket: lines of JSON.

use serde::{Deserialize, Serialize};

/// What can be asked, as one line of JSON such as `{"command":"status"}`. The answer is a line,
/// an object with the member `error` when it is refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// [`Status`].
    Status,
    /// [`Members`].
    Members,
    /// [`Bindings`].
    Bindings,
    /// A [`Change`] for each thing that is known, and then for each that changes, one a line.
    Watch,
    /// Takes back certificates, [`Done`].
    Revoke {
        /// A signed revocation, in base64.
        revocation: String,
    },
    /// Copies the store, [`Done`].
    Backup {
        /// Where to, on the server's machine: an absolute path.
        path: String,
    },
}

/// It is done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Done {
    /// What.
    pub done: String,
}

/// How a Nucleus is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The fabric that it serves.
    pub fabric: String,
    /// Its public key, in base64.
    pub public_key: String,
    /// Since it started.
    pub uptime_seconds: u64,
    /// Whether the store was read.
    pub loaded: bool,
    /// Which life of the store this is, in hexadecimal.
    pub incarnation: String,
    /// Everything up to here is known.
    pub revision: u64,
    /// Nodes that are connected here.
    pub connections: u64,
    /// Of those, which did not show yet that they are members.
    pub strangers: u64,
    /// Registrations that are stored.
    pub members: u64,
    /// Addresses that somebody holds.
    pub bindings: u64,
    /// Keys with certificates that were taken back.
    pub revocations: u64,
    /// Requests that wait for the store.
    pub pending: u64,
    /// What happened since the start, by name.
    pub counters: std::collections::BTreeMap<String, u64>,
}

/// All that registered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Members {
    /// In the order of their keys.
    pub members: Vec<Member>,
}

/// A node that registered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// What it is called.
    pub name: String,
    /// In base64.
    pub public_key: String,
    /// `here`: connected to this server. `elsewhere`: to another one. `away`: to none.
    pub presence: String,
    /// Where it connected from.
    pub source: Option<String>,
    /// Where it says that it can be reached.
    pub endpoints: Vec<String>,
    /// Addresses that it holds.
    pub bindings: u64,
    /// Whether its certificate was taken back.
    pub revoked: bool,
    /// The last second that its registration is to be believed in, since 1970.
    pub expires: u64,
    /// Of its last change.
    pub revision: u64,
}

/// All addresses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bindings {
    /// By VLAN and address.
    pub bindings: Vec<Binding>,
}

/// An address, and who holds it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Binding {
    /// Its VLAN, 0 being what is untagged.
    pub vlan: u16,
    /// The IP address; null for a MAC address alone.
    pub ip: Option<String>,
    /// The MAC address.
    pub mac: String,
    /// The holder's public key, in base64.
    pub owner: String,
    /// What the holder is called, where it registered.
    pub name: Option<String>,
    /// Whether the holder let go of it.
    pub withdrawn: bool,
    /// Of two claims the greater one holds.
    pub sequence: u64,
    /// The last second that this is to be believed in, since 1970.
    pub expires: u64,
    /// Of its last change.
    pub revision: u64,
}

/// Something that is known, or changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// A node registered.
    Member(Member),
    /// An address has a holder, or another one, or none.
    Binding(Binding),
    /// Certificates were taken back.
    Revocation(Revocation),
}

/// Certificates that were taken back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// Whose, in base64.
    pub public_key: String,
    /// All up to this serial.
    pub serial: u64,
    /// Why.
    pub reason: String,
    /// Of the change.
    pub revision: u64,
}
