//! Hosts to measure between, and the CPU time of their threads.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Outcome;

/// Keeps the namespaces until its input ends: with the [`Host`], or with this process, however
/// that comes about. The file system of devices shows those of the namespace that mounted it.
const KEEPER: &str = "mount -t sysfs none /sys && echo ready && exec cat";

/// A network namespace that goes with its owner.
pub(super) struct Host(Child);

impl Host {
    pub(super) fn new() -> Outcome<Self> {
        let keeper = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", KEEPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut keeper = keeper.map_err(|error| format!("cannot run `unshare`: {error}"))?;
        let mut answer = String::new();
        if let Some(output) = keeper.stdout.take() {
            BufReader::new(output).read_line(&mut answer)?;
        }
        let host = Self(keeper);
        if answer.trim() == "ready" {
            return Ok(host);
        }
        Err("cannot make a network namespace: run this as root".into())
    }

    /// The process that stands for it.
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Does `work` on a thread inside: what it opens and starts is inside too.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
        let inside = || {
            let namespace = File::open(format!("/proc/{}/ns/net", self.pid()))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        match thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs `ip` inside with the words of `arguments`.
    pub(super) fn ip(&self, arguments: &str) -> Outcome<()> {
        self.run(|| {
            let words = arguments.split_whitespace();
            let run = Command::new("ip").args(words).output();
            let output = run.map_err(|error| format!("cannot run `ip`: {error}"))?;
            if output.status.success() {
                return Ok(());
            }
            let stderr = String::from_utf8_lossy(&output.stderr);
            Err(format!("ip {arguments}: {}", stderr.trim()).into())
        })
    }

    /// Gives the polling of a device, which must have a program attached in native mode, to a
    /// kernel thread, and says which.
    pub(super) fn poll_by_thread(&self, device: &str) -> Outcome<u32> {
        let switch = format!("/proc/{}/root/sys/class/net/{device}/threaded", self.pid());
        fs::write(&switch, "1").map_err(|error| format!("threaded NAPI of {device}: {error}"))?;
        let prefix = format!("napi/{device}-");
        for process in fs::read_dir("/proc")?.flatten() {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let id = process.file_name().to_string_lossy().parse();
            if let (true, Ok(id)) = (name.starts_with(&prefix), id) {
                return Ok(id);
            }
        }
        Err(format!("no kernel thread polls {device}: Linux 5.12 or newer is needed").into())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends by itself now; there is nothing to do about a failure.
        let _ = self.0.wait();
    }
}

/// The CPU time of a thread, of this process or the kernel.
pub(super) fn cpu_time(thread: u32) -> Outcome<Duration> {
    let text = fs::read_to_string(format!("/proc/{thread}/schedstat"))?;
    let first = text.split_whitespace().next().unwrap_or_default();
    Ok(Duration::from_nanos(first.parse()?))
}
