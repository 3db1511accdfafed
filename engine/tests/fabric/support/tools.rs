//! Traffic by the usual tools.

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::netns::Namespace;
use super::{POLL, seconds, wait_until};

/// Options of `ping` for a packet of `mtu` octets that must not be fragmented.
pub(crate) fn unfragmented(target: IpAddr, mtu: u32) -> String {
    let headers = if target.is_ipv4() { 20 + 8 } else { 40 + 8 };
    format!("-M do -s {}", mtu - headers)
}

/// Sends five echo requests, 50 ms apart; how many were answered, and what `ping` printed.
///
/// `ping` itself waits for the last answers for twice the longest round trip only, which two loaded
/// cores exceed now and then. So answers that it did not wait for are looked for in the kernel's
/// count of them, for a second.
pub(crate) fn ping(namespace: &Namespace, target: IpAddr, options: &str) -> (u32, String) {
    let before = echo_replies(namespace, target);
    let arguments = format!("-n -c {PINGS} -i 0.05 -W 1 {options} {target}");
    let output = namespace.run("ping", &arguments);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let received = text.lines().find_map(|line| {
        let (before, _) = line.split_once(" received")?;
        before.rsplit(' ').next()?.parse().ok()
    });
    let received = received.unwrap_or(0);
    // With a number of its own it takes time enough.
    if !(1..PINGS).contains(&received) || options.contains("-c") {
        return (received, text);
    }
    let began = Instant::now();
    let mut counted = 0;
    while counted < PINGS && began.elapsed() < Duration::from_secs(1) {
        thread::sleep(Duration::from_millis(20));
        counted = (echo_replies(namespace, target) - before) as u32;
    }
    let late = format!("{text}and {counted} after {:?} more\n", began.elapsed());
    println!("late: {late}");
    (counted.clamp(received, PINGS), late)
}

/// Answers to echo requests that arrived in a namespace so far, by the target's family.
fn echo_replies(namespace: &Namespace, target: IpAddr) -> u64 {
    let file = if target.is_ipv4() { "snmp" } else { "snmp6" };
    let output = namespace.run("cat", &format!("/proc/net/{file}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if target.is_ipv6() {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Icmp6InEchoReplies"));
        return line
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0);
    }
    let mut rows = text.lines().filter(|line| line.starts_with("Icmp: "));
    let (names, counts) = (rows.next().unwrap_or(""), rows.next().unwrap_or(""));
    let mut columns = names.split(' ').zip(counts.split(' '));
    let count = columns.find(|(name, _)| *name == "InEchoReps");
    count.and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
}

/// Echo requests of one [`ping`].
const PINGS: u32 = 5;

/// As [`ping`]; every request must be answered, the first one too.
pub(crate) fn ping_all(namespace: &Namespace, target: IpAddr, options: &str) {
    let (received, text) = ping(namespace, target, options);
    assert_eq!(received, PINGS, "ping {options} {target}:\n{text}");
}

/// Whether one echo request is answered soon.
pub(crate) fn reaches(namespace: &Namespace, target: IpAddr) -> bool {
    namespace
        .run("ping", &format!("-n -c 1 -W 0.3 {target}"))
        .status
        .success()
}

/// Waits until echo requests are answered again; what that took.
pub(crate) fn resumes(namespace: &Namespace, target: IpAddr, within: Duration) -> Duration {
    let took = wait_until(&format!("{target} answers"), within, || {
        reaches(namespace, target)
    });
    assert!(
        took < within,
        "{target} answered after {took:?}, allowed were {within:?}"
    );
    took
}

/// A process that ends with the test.
#[derive(Debug)]
pub(crate) struct Background(Child);

impl Background {
    /// Starts it and reads nothing of it.
    pub(crate) fn start(mut command: Command) -> Self {
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(quiet.spawn().expect("a program that the tests need"))
    }

    /// Echo requests all the time, 10 ms apart.
    pub(crate) fn ping(namespace: &Namespace, target: IpAddr) -> Self {
        let mut command = namespace.command("ping");
        command
            .args(["-n", "-q", "-i", "0.01"])
            .arg(target.to_string());
        Self::start(command)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A measurement by `iperf3` from `client` to `server`, which has `address`; its JSON report.
pub(crate) fn iperf(
    client: &Namespace,
    (server, address): (&Namespace, IpAddr),
    options: &str,
) -> Value {
    let mut command = server.command("iperf3");
    command.args(["-s", "-1"]);
    let serving = Background::start(command);
    let start = Instant::now();
    loop {
        let output = client.run("iperf3", &format!("-J -c {address} {options}"));
        let text = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("iperf3 (Debian, Ubuntu: apt install iperf3): {error}: {output:?}")
        });
        // With -J its exit status says nothing.
        let Some(error) = report["error"].as_str() else {
            drop(serving);
            return report;
        };
        // The server may not listen yet.
        let early = error.contains("Connection refused") && start.elapsed() < seconds(3);
        assert!(early, "iperf3: {error}");
        thread::sleep(POLL);
    }
}

/// Received megabits per second of a TCP measurement.
pub(crate) fn tcp_rate(report: &Value) -> f64 {
    rate(&report["end"]["sum_received"], report)
}

/// Megabits per second of a UDP measurement that arrived.
pub(crate) fn udp_rate(report: &Value) -> f64 {
    let sum = &report["end"]["sum"];
    let lost = sum["lost_percent"].as_f64().unwrap_or(100.0);
    rate(sum, report) * (1.0 - lost / 100.0)
}

fn rate(sum: &Value, report: &Value) -> f64 {
    let bits = sum["bits_per_second"].as_f64();
    bits.unwrap_or_else(|| panic!("iperf3 measured nothing: {report}")) / 1e6
}
