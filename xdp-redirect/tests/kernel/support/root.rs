//! What tests that need root begin with, here and in other crates.

use std::io::Write as _;
use std::sync::Mutex;

/// Held by the one test that ends the program.
static ENDING: Mutex<()> = Mutex::new(());

/// Ends this program of tests as skipped, with a line that says so, unless this is root.
///
/// A test that runs cannot be skipped otherwise: it passes or fails. For programs of which all
/// tests need root. Root skips none, whatever else is missing: then they fail.
pub(crate) fn require_root() {
    let _guard = ENDING.lock();
    if lacks_root("all tests") {
        std::process::exit(0);
    }
}

/// Whether this is not root; a line says then that `what` is skipped.
pub(crate) fn lacks_root(what: &str) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    // The second is the effective one.
    if ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0") {
        return false;
    }
    let line = format!(
        "SKIPPED: {what} of `{}` in {}: network namespaces and XDP programs need root\n",
        env!("CARGO_CRATE_NAME"),
        env!("CARGO_PKG_NAME"),
    );
    // Not by eprint, of which the harness would keep what it says to itself.
    let _ = std::io::stderr().write_all(line.as_bytes());
    true
}
