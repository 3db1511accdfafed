//! What the tests are made of: namespaces, nodes, traffic and the books that are kept on it.

pub(crate) mod dice;
pub(crate) mod forged;
pub(crate) mod hosts;
pub(crate) mod lab;
pub(crate) mod ledger;
pub(crate) mod liar;
pub(crate) mod meddle;
pub(crate) mod netns;
pub(crate) mod node;
pub(crate) mod nucleus;
pub(crate) mod packet;
pub(crate) mod paths;
pub(crate) mod questions;
#[path = "../../../../xdp-redirect/tests/kernel/support/root.rs"]
pub(crate) mod root;
pub(crate) mod streams;
pub(crate) mod tools;

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `reached` holds, for up to `within`; what it took.
pub(crate) fn wait_until(
    what: &str,
    within: Duration,
    mut reached: impl FnMut() -> bool,
) -> Duration {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        thread::sleep(POLL);
    }
    start.elapsed()
}

/// So many seconds.
pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
