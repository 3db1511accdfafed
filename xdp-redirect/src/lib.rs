//! Steers fabric traffic into `AF_XDP` sockets, or hands it over to another device: XDP programs
//! and their loaders.
//!
//! ```text
//!  underlay device                                access port
//!      | frame                                        | frame
//!  omni_underlay -- not ours --> kernel           omni_access
//!      | UDP, our address and port,                   | everything
//!      | session not zero, and known if checked       |
//!      v                                              v
//!  socket of the receive queue                    socket of the receive queue
//!  | meta 16 | frame                              | meta 16 | room | frame
//! ```
//!
//! What a program steers by can change while it runs: the port, the addresses, the live sessions,
//! the room before frames, the sockets. With [`Redirect::set_session_check`] data of unknown
//! sessions ends in the driver and costs no copy, no ring and no wake-up. That is no more than a
//! sieve: whoever saw a message knows the number of a live session.
//!
//! Where the engine is behind another device, a SmartNIC's, two programs more hand the traffic over
//! to that and take back what comes from it: [`Handover`].
//!
//! An attachment is a `bpf_link`: it ends with the [`Redirect`] or [`Handover`] that made it, and
//! with the process, however that ends.
//!
//! XDP sees a frame without the VLAN tag that a driver keeps beside it, and what is steered has
//! lost it. Whoever owns an interface switches that off: inserting tags on the sending side of a
//! veth (`ethtool --offload DEV txvlan off tx-vlan-stag-hw-insert off`), stripping them on a
//! network card (`rxvlan off`).
//!
//! Not here: sockets, rings and memory (the engine's), and any look at what a frame carries
//! beyond the octets that decide where it goes.

#![forbid(unsafe_code)]

mod attach;
mod dry_run;
mod error;
mod handover;
mod layout;
mod loader;

pub use attach::{BUSY_RETRY, Mode};
pub use dry_run::{Action, DryRun, Timed};
pub use error::RedirectError;
pub use handover::{Device, Handed, Handover, Owner};
pub use layout::{
    MAX_ENDPOINTS, MAX_LOCAL_ADDRS, MAX_QUEUES, MAX_ROOM, MAX_SESSIONS, META_LEN, Meta,
};
pub use loader::{Counters, Kind, Redirect};
