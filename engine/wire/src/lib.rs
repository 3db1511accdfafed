//! The OmniNervous wire formats: octets to values and back.
//!
//! ```text
//! outer Ethernet [802.1Q] | IPv4 or IPv6 | UDP | OmniNervous header (32) | sealed inner frame
//!        outer.rs            ip.rs                header.rs                 ethernet.rs
//!                                              or a handshake message    or a control record
//!                                                 handshake.rs              record.rs
//! ```
//!
//! Parsing is total: any octets give a value or a [`DropReason`], never a panic. Not in here:
//! clocks, allocation, cryptography, tables.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod checksum;
mod drop;
pub mod ethernet;
pub mod handshake;
pub mod header;
pub mod ip;
pub mod limits;
mod mac;
pub mod offload;
pub mod outer;
pub mod record;
mod time;

pub use drop::{DropCounters, DropReason};
pub use mac::{MacAddr, ParseMacError};
pub use time::{Instant, Now, WallTime};
