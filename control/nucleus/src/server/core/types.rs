//! What goes into the core and what comes out.

use core::time::Duration;

use omni_membership::{PublicKey, Trust};
use omni_store::Transaction;

/// A node that is nowhere connected, and was not heard for so long, may lose its addresses to
/// others. A server that was started again gives all nodes that time to come back.
pub const GONE_AFTER: Duration = Duration::from_secs(30);

/// A record is removed from the store so long after it expired: a node whose clock is behind by
/// less still believes in it.
pub const GRACE: Duration = Duration::from_secs(900);

/// A sequence so far ahead of this server's clock, in milliseconds, is refused, as nodes refuse it:
/// nobody could say anything newer.
pub const SEQUENCE_AHEAD: u64 = 600_000;

/// A record may be good for so long, in seconds: 31 days. Nodes say theirs anew much earlier.
pub const EXPIRES_WITHIN: u64 = 31 * 24 * 3600;

/// A store that others write to as well is read as a whole so often, whatever its watch said:
/// there were releases of etcd that missed events.
pub const READ_AGAIN: Duration = Duration::from_secs(300);

/// Who connects has so long to show that it is a member.
pub const ADMISSION: Duration = Duration::from_secs(30);

/// How often [`super::Core::handle_timeout`] wants to be called.
pub const TICK: Duration = Duration::from_secs(1);

/// A connection. The runtime numbers them, and uses no number twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Conn(pub u64);

/// Who a server is, whom it trusts, and what it lets nodes do.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// The fabric, its authority, its list of members.
    pub trust: Trust,
    /// This server's public key. Servers that share a store have keys of their own.
    pub server: PublicKey,
    /// How much nodes may ask.
    pub limits: Limits,
    /// Whether others write to the store as well, so that it is read as a whole now and then.
    pub shares_store: bool,
}

/// Bounds. Each is for one node but where another is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Addresses that a node may hold.
    pub bindings: u32,
    /// Connections of all nodes.
    pub connections: usize,
    /// Connections of those who did not show yet that they are members.
    pub strangers: usize,
    /// Requests that wait for the store.
    pub pending: usize,
    /// Requests of all nodes that wait for the store.
    pub pending_total: usize,
    /// Octets of all those requests.
    pub pending_octets: usize,
    /// Messages a second; a burst may have [`Limits::message_burst`].
    pub messages: u32,
    /// Registrations a second, after a burst of 10.
    pub registrations: u32,
    /// Requests for addresses a second, after a burst of [`Limits::bindings`].
    pub binding_rate: u32,
    /// Calls that a node may make a second, after a burst of 256.
    pub calls: u32,
    /// Calls that reach a node a second, after a burst of 256.
    pub called: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bindings: 1024,
            connections: 16_384,
            strangers: 1024,
            pending: 64,
            pending_total: 16_384,
            pending_octets: 64 << 20,
            messages: 200,
            registrations: 1,
            binding_rate: 100,
            calls: 10,
            called: 100,
        }
    }
}

impl Limits {
    /// What a node that starts has to say at once: all its addresses, and some more.
    #[must_use]
    pub const fn message_burst(&self) -> u32 {
        self.bindings.saturating_add(self.messages)
    }
}

/// What is asked of the store, one thing at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ToStore {
    /// A snapshot, and a watch after it: [`super::Core::load`] or
    /// [`super::Core::handle_load_error`].
    Load,
    /// A commit: [`super::Core::handle_committed`].
    Commit(Transaction),
}

/// The store is another fabric's. Nothing in it is looked at, and nothing is written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the store is of the fabric {found:?}, and this is a server of {own:?}: name another store"
)]
pub struct OtherFabric {
    /// Whose it is.
    pub found: String,
    /// Ours.
    pub own: String,
}

/// Why a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Closed {
    /// The node has a newer one.
    Replaced,
    /// There are as many as there may be.
    Full,
    /// It is no member, or is none any more.
    NotMember,
    /// Its first message is no hello, or another one is, or it speaks no version that is known.
    Misbehaved,
    /// It goes on to say more than it may.
    TooMuch,
    /// It does not take what it is told.
    TooSlow,
}

impl Closed {
    /// A few words, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Full => "full",
            Self::NotMember => "not_member",
            Self::Misbehaved => "misbehaved",
            Self::TooMuch => "too_much",
            Self::TooSlow => "too_slow",
        }
    }
}

/// What happened since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Nodes that connected.
    pub connected: u64,
    /// Connections that the core closed.
    pub closed: u64,
    /// Messages of nodes.
    pub messages: u64,
    /// Requests that were carried out.
    pub accepted: u64,
    /// Requests that were refused, [`Counters::limited`] among them.
    pub refused: u64,
    /// Requests and calls beyond a limit.
    pub limited: u64,
    /// Addresses that went from one node to another.
    pub moved: u64,
    /// Calls that were passed on.
    pub called: u64,
    /// Transactions that the store carried out.
    pub commits: u64,
    /// Transactions in which a compare did not hold.
    pub conflicts: u64,
    /// Transactions that failed.
    pub store_errors: u64,
    /// Items in the store that are no records.
    pub garbage: u64,
    /// Times that the list was read as a whole.
    pub loads: u64,
    /// Times that less than half of it was there, and it was read again before that was believed.
    pub doubted: u64,
    /// Records removed as they had expired.
    pub expired: u64,
}

impl Counters {
    /// All of them by name, as metrics and [`crate::show::Status`] have them.
    #[must_use]
    pub fn named(&self) -> std::collections::BTreeMap<String, u64> {
        let named = [
            ("connected", self.connected),
            ("closed", self.closed),
            ("messages", self.messages),
            ("accepted", self.accepted),
            ("refused", self.refused),
            ("limited", self.limited),
            ("moved", self.moved),
            ("called", self.called),
            ("commits", self.commits),
            ("conflicts", self.conflicts),
            ("store_errors", self.store_errors),
            ("garbage", self.garbage),
            ("loads", self.loads),
            ("doubted", self.doubted),
            ("expired", self.expired),
        ];
        named.map(|(name, value)| (name.to_owned(), value)).into()
    }
}
