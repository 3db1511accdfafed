//! The OmniNervous wire formats: octets to values and back.
//!
//! ```text
//! outer Ethernet [802.1Q] | IPv4 or IPv6 | UDP | OmniNervous header (32) | sealed inner frame
//!        outer.rs            ip.rs                header.rs                 ethernet.rs
//!                                              or a handshake message
//!                                                 handshake.rs  reflection.rs
//!
//! inner frames that a switch has to understand
//!   inspect.rs       arp.rs  nd.rs  membership.rs      what they are
//!   answer.rs        ask.rs  toobig.rs                 what it says to hosts itself
//!   ecn.rs           mss.rs                            what it changes on the way
//! ```
//!
//! Parsing is total: any octets give a value or a [`DropReason`], never a panic. Not in here:
//! clocks, allocation, cryptography, tables.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod answer;
pub mod arp;
pub mod ask;
pub mod checksum;
mod drop;
pub mod ecn;
pub mod ethernet;
mod extension;
pub mod handshake;
pub mod header;
pub mod icmpv6;
pub mod inspect;
pub mod ip;
pub mod limits;
mod mac;
pub mod membership;
pub mod mss;
#[cfg(test)]
mod mutations;
pub mod nd;
pub mod offload;
pub mod outer;
pub mod record;
pub mod reflection;
#[cfg(test)]
mod sample;
pub mod tell;
mod time;
pub mod toobig;
mod write;

pub use drop::{DropCounters, DropReason};
pub use mac::{MacAddr, ParseMacError};
pub use time::{Instant, Now, WallTime};
