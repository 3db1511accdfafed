//! Network namespaces with unique names, deleted with everything in them.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use super::root::require_root;

/// Namespaces made by this process so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one whose interfaces take their addresses at once and say no more than they must.
    pub(crate) fn new(label: &str) -> Self {
        require_root();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("omni-{}-{number}{label}", std::process::id());
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0");
            namespace.sysctl(&format!("ipv6/conf/{scope}/router_solicitations"), "0");
        }
        namespace
    }

    /// Its name, for `ip netns`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in it with the words of `arguments`, which must succeed; its output.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.name))
    }

    /// A command that will run in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `program` in it with the words of `arguments`, to its end.
    pub(crate) fn run(&self, program: &str, arguments: &str) -> Output {
        let run = self
            .command(program)
            .args(arguments.split_whitespace())
            .output();
        run.unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// Runs `body` on a thread of this namespace. Sockets that it opens stay in here.
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

    /// Sets a value below `/proc/sys/net`.
    pub(crate) fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/net/{key}");
        let written = self.enter(|| fs::write(&path, value));
        written.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// UDP datagrams of both families that its kernel received and refused: no room in the
    /// socket, or no socket.
    pub(crate) fn udp_refused(&self) -> u64 {
        let read = |file: &str| {
            let path = format!("/proc/thread-self/net/{file}");
            let text = self.enter(|| fs::read_to_string(&path));
            text.unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        // A line of names, and one of values below it.
        let ipv4 = read("snmp");
        let mut lines = ipv4.lines().filter(|line| line.starts_with("Udp: "));
        let (names, values) = (lines.next(), lines.next());
        let columns = names.into_iter().flat_map(str::split_whitespace);
        let columns = columns.zip(values.into_iter().flat_map(str::split_whitespace));
        let ipv6 = read("snmp6");
        let rows = ipv6
            .lines()
            .filter_map(|line| line.strip_prefix("Udp6")?.split_once(char::is_whitespace));
        let refused = columns
            .chain(rows)
            .filter(|(name, _)| matches!(*name, "InErrors" | "NoPorts"));
        refused
            .map(|(_, value)| value.trim().parse::<u64>().expect("a number"))
            .sum()
    }

    /// All interfaces with their details, as `ip` prints them.
    pub(crate) fn links(&self) -> Vec<Value> {
        let text = self.ip("-s -j -d link show");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("ip link: {error}: {text}"))
    }

    /// All interfaces as they are set, without what they count.
    pub(crate) fn inventory(&self) -> Vec<Value> {
        let mut links = self.links();
        for link in &mut links {
            let fields = link.as_object_mut().expect("an interface");
            fields.remove("stats64");
            // The veth driver sets its own once a program was there.
            fields.remove("max_mtu");
        }
        links
    }

    /// One interface, if it is there.
    pub(crate) fn link(&self, interface: &str) -> Option<Value> {
        self.links()
            .into_iter()
            .find(|link| link["ifname"] == interface)
    }

    /// An interface's MTU, 0 when it is not there.
    pub(crate) fn mtu(&self, interface: &str) -> u64 {
        self.link(interface)
            .and_then(|link| link["mtu"].as_u64())
            .unwrap_or(0)
    }

    /// An interface's MAC address as text.
    pub(crate) fn mac(&self, interface: &str) -> String {
        let link = self.link(interface);
        link.and_then(|link| link["address"].as_str().map(str::to_owned))
            .unwrap_or_else(|| panic!("{interface} has no MAC address"))
    }

    /// A counter of an interface: `count("ua", "tx", "dropped")`.
    pub(crate) fn count(&self, interface: &str, direction: &str, counter: &str) -> u64 {
        let link = self
            .link(interface)
            .unwrap_or_else(|| panic!("{interface} is not there"));
        let value = link["stats64"][direction][counter].as_u64();
        value.unwrap_or_else(|| panic!("{interface} has no {direction} {counter}: {link}"))
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

/// Runs `ip` with the words of `arguments`, which must succeed; its output.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output();
    let output = output.expect("the tests need `ip` (Debian, Ubuntu: apt install iproute2)");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
