//! What the tests share.

use omni_sim::{Report, Setup};

/// Fails with the whole report of a run that broke a rule.
pub(crate) fn or_panic<T>(result: Result<T, Box<Report>>) -> T {
    result.unwrap_or_else(|report| panic!("{report}"))
}

/// A fabric that the test `name` lives through.
pub(crate) fn setup(seed: u64, nodes: usize, name: &str) -> Setup {
    Setup::new(seed, nodes, format!("cargo test -p omni-sim {name}"))
}
