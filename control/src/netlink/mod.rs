//! The kernel's network: interfaces, addresses, routes, neighbours.
//!
//! ```text
//!             requests (a socket each)                       notifications (one socket)
//!  engine --> link, addresses, make_access_port, resolve     next_event --> engine
//!                         |                                       |
//!                         +--------------- rtnetlink -------------+
//! ```
//!
//! Frames that the engine sends by AF_XDP pass the kernel by. What the kernel knows about the way
//! to a peer (which interface, which gateway, whose MAC) is therefore asked for here, put into a
//! [`Path`](omni_wire::outer::Path), and watched. Not in here: sockets for traffic, XDP programs,
//! and any decision about what to do with an event.
//!
//! Everything is meant for a network namespace that stays the same: requests use the namespace of
//! the thread they run on, notifications that of the thread which called [`Netlink::connect`].

mod decode;
mod error;
mod link;
mod port;
mod resolve;
mod socket;
mod watch;

use std::sync::Mutex;

use rtnetlink::sys::TokioSocket;

pub use error::NetlinkError;
pub use link::{Link, LinkStats};
pub use port::{ALIAS, AccessPort, AccessPortSpec, engine_side_name};
pub use resolve::Resolution;
pub use watch::KernelEvent;

/// The connection to the kernel's network configuration.
///
/// Requests may be made at any time, also while [`Netlink::next_event`] waits, and given up at
/// any time by dropping them.
pub struct Netlink {
    notifications: TokioSocket,
    pending: Mutex<watch::Pending>,
    tells_neighbors: bool,
}

impl Netlink {
    /// Connects, and listens from now on: what changes after this call is told by
    /// [`Netlink::next_event`], so that state read later misses nothing.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`] when the system gives no netlink socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime with input/output and time enabled.
    pub fn connect() -> Result<Self, NetlinkError> {
        Ok(Self {
            notifications: socket::subscribe()?,
            pending: Mutex::default(),
            tells_neighbors: true,
        })
    }

    /// Sets whether changes of neighbours are told from now on, as they are at first. The kernel
    /// looks at each of many now and then, and tells of it: who does not want to know should not be
    /// woken. When they are wanted again, what changed meanwhile was missed.
    pub fn tell_neighbors(&mut self, tell: bool) {
        if tell == self.tells_neighbors {
            return;
        }
        match socket::tell_neighbors(&mut self.notifications, tell) {
            Ok(()) => self.tells_neighbors = tell,
            Err(error) => tracing::debug!(%error, tell, "the netlink socket keeps its groups"),
        }
    }
}

impl core::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Netlink").finish_non_exhaustive()
    }
}
