//! Network namespaces of the tests' own.
//!
//! ```text
//!   the test's namespace                                   the peer's namespace
//!   underlay 192.0.2.1/24, 2001:db8::1/64 ====veth==== wire 192.0.2.2/24, 2001:db8::2/64
//! ```
//!
//! A test runs itself again under `unshare --net`; the peer's namespace is that of a process
//! which ends with the test. Both namespaces are nameless and go with their processes, so nothing
//! can stay behind.

use std::future::Future;
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use omni_control::netlink::{KernelEvent, Netlink};

use crate::root::require_root;

/// The name of the test that runs inside of its namespace.
const INNER: &str = "OMNI_NETLINK_TEST";

/// No test needs more than a few seconds.
const TEST_LIMIT: Duration = Duration::from_secs(30);

/// How long one event may take.
const EVENT_LIMIT: Duration = Duration::from_secs(10);

/// Runs `body` in a network namespace of its own. Needs root.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    isolated(&["--net"], test, body);
}

/// Runs `body` in a network namespace of its own, without any capability in it.
pub(crate) fn without_privileges<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    isolated(&["--net", "--user"], test, body);
}

fn isolated<F: Future<Output = ()>>(from: &[&str], test: &str, body: impl FnOnce() -> F) {
    if std::env::var(INNER).is_ok_and(|inner| inner == test) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        let run = async { tokio::time::timeout(TEST_LIMIT, body()).await };
        runtime.block_on(run).expect("the test ends in time");
        return;
    }
    require_root();
    let myself = std::env::current_exe().expect("the test's own file");
    let output = Command::new("unshare")
        .args(from)
        .arg("--")
        .arg(myself)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INNER, test)
        .output()
        .expect("`unshare` of util-linux is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    // A name that is not a test's would run nothing, and succeed.
    assert!(
        output.status.success() && said.contains(" 1 passed"),
        "{test} failed in its namespace:\n{said}{complained}",
    );
    eprint!("{complained}");
}

/// Runs `ip` with the arguments in `line`, in this namespace.
pub(crate) fn ip(line: &str) {
    succeed(Command::new("ip").args(line.split_whitespace()));
}

/// Runs `ip`, and says whether it succeeded.
pub(crate) fn try_ip(line: &str) -> bool {
    Command::new("ip")
        .args(line.split_whitespace())
        .output()
        .is_ok_and(|it| it.status.success())
}

/// What `ip` prints.
pub(crate) fn ip_says(line: &str) -> String {
    let output = succeed(Command::new("ip").args(line.split_whitespace()));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes a setting of this namespace under /proc/sys/net.
pub(crate) fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).expect(name);
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("the program is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

/// Another host.
pub(crate) struct Peer(Child);

impl Peer {
    /// A namespace with nothing in it.
    pub(crate) fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`unshare` of util-linux is installed");
        let mut line = [0];
        let out = child.stdout.as_mut().expect("a pipe");
        out.read_exact(&mut line).expect("a namespace");
        Self(child)
    }

    /// A host at the other end of the interface `underlay`, with the addresses of the drawing.
    pub(crate) fn on_the_underlay() -> Self {
        let peer = Self::new();
        peer.connect("underlay", "wire");
        ip("addr add 192.0.2.1/24 dev underlay");
        ip("addr add 2001:db8::1/64 dev underlay nodad");
        peer.ip("addr add 192.0.2.2/24 dev wire");
        peer.ip("addr add 2001:db8::2/64 dev wire nodad");
        peer
    }

    /// Makes a veth pair from `here` to `there` in the peer's namespace, both on.
    pub(crate) fn connect(&self, here: &str, there: &str) {
        let pid = self.0.id();
        ip(&format!(
            "link add {here} type veth peer name {there} netns {pid}"
        ));
        ip(&format!("link set {here} up"));
        self.ip(&format!("link set {there} up"));
    }

    /// Runs `ip` in the peer's namespace.
    pub(crate) fn ip(&self, line: &str) {
        succeed(self.enter("ip").args(line.split_whitespace()));
    }

    /// Runs a line of bash in the peer's namespace.
    pub(crate) fn bash(&self, line: &str) {
        succeed(self.enter("bash").args(["-c", line]));
    }

    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.0.id().to_string(), "--", program]);
        command
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next event for which `wanted` gives something; others are passed over.
pub(crate) async fn event<T>(netlink: &Netlink, wanted: impl Fn(&KernelEvent) -> Option<T>) -> T {
    let mut passed = Vec::new();
    let search = async {
        loop {
            let event = netlink.next_event().await;
            if let Some(found) = wanted(&event) {
                return found;
            }
            passed.push(event);
        }
    };
    let found = tokio::time::timeout(EVENT_LIMIT, search).await;
    found.unwrap_or_else(|_| panic!("the event did not come; others were {passed:#?}"))
}

/// Passes over what has been told so far.
pub(crate) async fn drain(netlink: &Netlink) {
    let quiet = Duration::from_millis(50);
    while tokio::time::timeout(quiet, netlink.next_event())
        .await
        .is_ok()
    {}
}
