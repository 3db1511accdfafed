//! The Nucleus: a rendezvous that is trusted with nothing but that it is there.

pub mod core;
pub mod runtime;
