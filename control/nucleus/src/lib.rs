//! The rendezvous of a fabric: what nodes and the Nucleus say to each other.
#![forbid(unsafe_code)]

pub mod agent;
pub mod protocol;
