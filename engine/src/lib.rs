//! The OmniNervous packet engine.
//!
//! ```text
//!  kernel rings        io        worker            datapath           aead
//!  AF_XDP sockets -> FrameIo -> poll_once -> ingress / egress -> seal_batch / open_batch
//!                                  ^ orders, upcalls v
//!                              mailbox <-> runtime (Ganglion, netlink, control socket)
//! ```
//!
//! [`datapath`] is pure; [`io`] is where frames come from and go to; [`worker`] is the loop
//! between them; [`runtime`] is the control thread. Unsafe code is allowed in `io::kernel` alone.
#![deny(unsafe_code)]

pub use omni_aead as aead;
pub mod capture;
pub mod control_plane;
pub mod cores;
pub mod datapath;
pub mod echo;
pub mod io;
pub mod mailbox;
pub mod privileges;
pub mod pulse;
pub mod runtime;
pub mod show;
pub mod stages;
pub mod stats;
pub mod switch;
pub mod trace;
pub mod ways;
pub mod worker;

pub use omni_control::service::{clock, random};
