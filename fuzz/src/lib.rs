//! Fuzz targets: what arrives from outside, and sequences of operations, against everything that
//! has to bear them.
//!
//! ```text
//!  src/bin/NAME.rs   libFuzzer: as long as one likes, led by coverage     make fuzz
//!         |
//!  NAME::run(octets)  the target: any octets; it panics when something is wrong
//!         |
//!  tests/smoke.rs    seeds, and a few thousand changes of them            make test
//! ```
//!
//! The promise of each target: its octets decide everything, so that they are all that is needed to
//! see a failure again. `docs/fuzzing.md` tells what each checks.
#![forbid(unsafe_code)]

pub mod aead;
pub mod agent;
pub mod arp;
pub mod certificate;
pub mod chunks;
pub mod config;
pub mod fdb;
pub mod handshake;
pub mod inner;
pub mod membership;
pub mod memory;
pub mod nd;
pub mod nucleus;
pub mod nucleus_config;
pub mod offload;
pub mod outer;
mod pair;
pub mod record;
pub mod replay;
pub mod request;
pub mod sessions;
pub mod switch;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of its module, its program and its folder of seeds.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident),+ $(,)?) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $name::run }),+];
    };
}

targets!(
    aead,
    agent,
    arp,
    certificate,
    chunks,
    config,
    fdb,
    handshake,
    inner,
    membership,
    memory,
    nd,
    nucleus,
    nucleus_config,
    offload,
    outer,
    record,
    replay,
    request,
    sessions,
    switch
);
