//! The control plane of a node.
//!
//! The [`Ganglion`] is a state machine without input or output of its own: datagrams, upcalls and
//! time are handed to it, and it hands back datagrams to send, commands for the workers and the
//! time at which it wants to be called again. [`netlink`] is the one part that talks to the kernel.
//!
//! ```text
//!            handle_datagram   handle_upcall   handle_timeout   handle_path
//!                   |               |                |               |
//!     +-------------v---------------v----------------v---------------v------------+
//!     | Ganglion   load -> cookie -> handshake (noise) -> peer (sessions, timers) |
//!     +-------------+---------------+----------------+---------------+------------+
//!                   |               |                |               |
//!             poll_transmit    poll_command     poll_timeout     poll_event
//! ```
#![forbid(unsafe_code)]

pub mod channel;
mod cookie;
mod ganglion;
mod handshake;
mod load;
mod memory;
pub mod message;
pub mod netlink;
mod noise;
mod peer;
mod pmtu;
mod random;
pub mod service;
mod timers;
mod timestamp;

pub use ganglion::{
    AddPeerError, Ganglion, GanglionConfig, GanglionEvent, Handshakes, PeerConfig, PeerState,
    PeerStatus, SetIdentityError, Transmit,
};
pub use memory::{Remembered, RememberedError, Stamps};
pub use omni_membership::{PrivateKey, PublicKey, SymmetricKey};
pub use random::Random;
pub use timers::Timers;
