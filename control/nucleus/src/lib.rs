//! The rendezvous of a fabric: what nodes and the Nucleus say to each other, and the Nucleus.
//!
//! ```text
//!   node  == channel ==  server/runtime  --  server/core  --  omni-store: a file, or etcd
//!             protocol.rs     sockets          decisions
//! ```
//!
//! Without the feature `server` only what nodes and the operator's tool need is here:
//! [`protocol`] and [`show`].
#![forbid(unsafe_code)]

pub mod agent;
pub mod protocol;
#[cfg(feature = "server")]
pub mod server;
pub mod show;
