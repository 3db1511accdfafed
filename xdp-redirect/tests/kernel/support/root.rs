//! What tests that need root begin with, here and in other crates.

use std::io::Write as _;
use std::sync::Mutex;

/// Held by the one test that ends the program.
static ENDING: Mutex<()> = Mutex::new(());

/// Ends this program of tests as skipped, with a line that says so, unless this is root.
///
/// A test that runs cannot be skipped otherwise: it passes or fails. All tests beside it need root
/// as well. Root skips none, whatever else is missing: then they fail.
pub(crate) fn require_root() {
    if is_root() {
        return;
    }
    let _guard = ENDING.lock();
    let line = format!(
        "SKIPPED: {}, tests of `{}`: they make network namespaces or load XDP programs, and need \
         root. Run them as root: cargo test -p {0} --test {1}\n",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_CRATE_NAME"),
    );
    // Not by eprint, of which the harness would keep what it says to itself.
    let _ = std::io::stderr().write_all(line.as_bytes());
    std::process::exit(0);
}

/// Whether this process's effective user is root.
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}
