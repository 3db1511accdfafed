//! Network namespaces that vanish with the thread that made them, and what is in them.

use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use super::root::require_root;

/// Runs `body` in a network namespace of its own. Processes that it starts are in it too; when
/// the last of them and the thread have ended, the kernel removes it with everything inside.
pub(crate) fn in_namespace(body: impl FnOnce() + Send + 'static) {
    require_root();
    let worker = thread::spawn(|| {
        // SAFETY: a thread may leave its network namespace at any time; no memory is involved.
        let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(left, 0, "unshare: {}", std::io::Error::last_os_error());
        body();
    });
    if let Err(failure) = worker.join() {
        std::panic::resume_unwind(failure);
    }
}

/// Makes a veth pair with so many queues each way, both ends up and without the host's own
/// traffic.
pub(crate) fn make_veth(near: &str, far: &str, queues: u32) {
    let both_ways = format!("numrxqueues {queues} numtxqueues {queues}");
    ip_ok(&format!(
        "link add {near} {both_ways} type veth peer name {far} {both_ways}"
    ));
    for end in [near, far] {
        ip_ok(&format!("link set dev {end} addrgenmode none"));
        ip_ok(&format!("link set dev {end} up"));
    }
}

/// Runs `ip` with the words of `arguments`.
pub(crate) fn ip(arguments: &str) -> Output {
    let run = Command::new("ip")
        .args(arguments.split_whitespace())
        .output();
    run.expect("the tests need `ip` (Debian, Ubuntu: apt install iproute2)")
}

/// As [`ip`], for what must succeed; its output.
pub(crate) fn ip_ok(arguments: &str) -> String {
    let output = ip(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits for what takes the kernel a moment, for up to ten seconds.
pub(crate) fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(10);
    while !reached() {
        assert!(Instant::now() < give_up, "not within 10 s: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
