//! Network namespaces with unique names, deleted with everything in them.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::root::require_root;

/// Namespaces made by this process so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Counters of packets that a kernel received and refused for what they were.
const REFUSALS: [&str; 9] = [
    "InHdrErrors",
    "InErrs",
    "InCsumErrors",
    "Ip6InHdrErrors",
    "Ip6InTruncatedPkts",
    "Udp6InErrors",
    "Udp6InCsumErrors",
    "Icmp6InCsumErrors",
    "InErrors",
];

/// A network namespace.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new(label: &str) -> Self {
        require_root();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("omni-offload-{}-{number}{label}", std::process::id());
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        for key in ["accept_dad", "router_solicitations"] {
            namespace.sysctl(&format!("ipv6/conf/default/{key}"), "0");
        }
        namespace
    }

    /// Runs `ip` in it with the words of `arguments`, which must succeed.
    pub(crate) fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name));
    }

    /// Sets a value below `/proc/sys/net`.
    pub(crate) fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/net/{key}");
        let written = self.enter(|| fs::write(&path, value));
        written.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Runs `body` on a thread of this namespace. What it opens stays in here.
    pub(crate) fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let run = || {
            let path = format!("/var/run/netns/{}", self.name);
            let file = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|error| panic!("setns to {path}: {error}"));
            body()
        };
        let joined = thread::scope(|scope| scope.spawn(run).join());
        joined.unwrap_or_else(|failure| std::panic::resume_unwind(failure))
    }

    /// The counters of refused packets that are not 0, with their values.
    pub(crate) fn refused(&self) -> Vec<String> {
        let read = |file: &str| {
            let path = format!("/proc/thread-self/net/{file}");
            let text = self.enter(|| fs::read_to_string(&path));
            text.unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        let mut counters = Vec::new();
        // A line of names, and one of values below it.
        let ipv4 = read("snmp");
        let lines: Vec<&str> = ipv4.lines().collect();
        for pair in lines.chunks(2) {
            let [names, values] = pair else {
                panic!("a line of names without values: {ipv4}");
            };
            counters.extend(names.split_whitespace().zip(values.split_whitespace()));
        }
        let ipv6 = read("snmp6");
        counters.extend(ipv6.lines().filter_map(|line| {
            let (name, value) = line.split_once(char::is_whitespace)?;
            Some((name, value.trim()))
        }));
        let watched = |name: &str| REFUSALS.contains(&name);
        assert!(
            counters.iter().filter(|(name, _)| watched(name)).count() >= REFUSALS.len(),
            "counters are missing in {counters:?}"
        );
        let raised = counters
            .iter()
            .filter(|(name, value)| watched(name) && *value != "0");
        raised
            .map(|(name, value)| format!("{name} {value}"))
            .collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let deleted = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
        if !deleted.is_ok_and(|output| output.status.success()) {
            eprintln!("namespace {} could not be deleted", self.name);
        }
    }
}

/// Runs `ip` with the words of `arguments`, which must succeed.
fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output();
    let output = output.expect("the tests need `ip` (Debian, Ubuntu: apt install iproute2)");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {stderr}");
}
