//! Whole messages through every back-end that this CPU is able to.
#![deny(unsafe_code)]

mod batches;
#[cfg(target_os = "linux")]
mod bounds;
mod forged;
mod support;
mod wiping;
