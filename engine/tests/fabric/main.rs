//! Whole engines on real interfaces: two nodes in network namespaces of their own, the kernel's
//! stack on both sides, and everything that may happen to their links and processes.
//!
//! ```text
//!  namespace a                      namespace m (some tests)            namespace b
//!  omni0 - engine - ua ------------ ra  bridge or router  rb ------------ ub - engine - omni0
//! ```
//!
//! The tests need root, `ip`, `ping`, `arping`, `ndisc6`, `ethtool`, `iperf3`, `nft` and
//! `python3`. They run one after the other, for they measure processors and throughput, and leave
//! nothing behind.
#![deny(unsafe_code)]

mod access;
mod configuration;
mod faults;
mod handover;
mod hostile;
mod hostile_host;
mod liar;
mod life;
mod load;
mod moves;
mod paths;
mod ports;
mod privileges;
mod reach;
mod reload;
mod rendezvous;
mod several_ports;
mod silence;
mod sizes;
mod support;
mod suppression;
mod switching;
mod taps;
mod tracing;
mod translation;
mod underlay;
