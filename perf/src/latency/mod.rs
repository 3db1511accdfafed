//! Open-loop round trips: datagrams leave on a fixed schedule, whatever became of those before, and
//! each is measured from when it was to leave. A sender that waits for answers, or measures from
//! when it found the time to send, leaves out just the trips that were bad (G. Tene, "How NOT to
//! Measure Latency": coordinated omission).
//!
//! ```text
//!  sequence   token    flow       octets
//!  [0..8]     [8..16]  [16..24]   little endian; zeros up to the wanted length
//! ```
//!
//! `datagrams ping` leaves missed turns out instead, which is right for what a shared machine can
//! tell of a path, and wrong for what an application would see.

mod answers;
mod echo;
mod sender;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::Failure;
use crate::workload::{Times, now_text, parse_seconds, parse_share, write_json};
use answers::HEADER_LEN;
use sender::{Flow, Schedule};

/// The longest datagram: what a packet of 9000 octets carries over IPv4.
const OCTETS_MAX: usize = 8972;
/// Datagrams a second of all flows.
const RATE_MAX: u64 = 200_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Sends everything back to where it came from, until SIGTERM or the time is over; then tells
    /// how many as one line of JSON.
    Echo(echo::Arguments),
    /// Measures round trips to one or more echoes. Fails when one does not answer at all, or a
    /// limit given here is passed.
    Send(SendArguments),
}

#[derive(Debug, clap::Args)]
struct SendArguments {
    /// The echoes, one flow for each.
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', required = true)]
    to: Vec<SocketAddr>,
    /// Datagrams a second of each flow: 1 to 100000. More than one rate are measured in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [1000],
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Vec<u32>,
    /// For how long at each rate.
    #[arg(long, default_value_t = 5.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Octets of each datagram: 24 to 8972.
    #[arg(long, default_value_t = 64, value_parser = parse_datagram)]
    octets: usize,
    /// What is not answered so long after the last datagram is lost.
    #[arg(long, default_value_t = 0.5, value_parser = parse_seconds)]
    drain_s: f64,
    /// A datagram that leaves so many microseconds after its time counts as late.
    #[arg(long, default_value_t = 100)]
    late_us: u64,
    /// Keep a core busy instead of sleeping until something is due: for cores of one's own.
    #[arg(long)]
    spin: bool,
    /// First measure the same over loopback, to an echo in this process: the floor, below which
    /// nothing can be told.
    #[arg(long)]
    calibrate: bool,
    /// Fail when the 99th percentile of a flow is longer than so many microseconds.
    #[arg(long, value_name = "US")]
    p99_us_max: Option<u64>,
    /// Fail when a larger share of a flow is lost: 0.001 is one in a thousand.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    lost_max: Option<f64>,
    /// Write the result, histograms and all, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What is measured, for the result: "omni tap+udp", for example.
    #[arg(long)]
    contestant: Option<String>,
}

fn parse_datagram(text: &str) -> Result<usize, String> {
    let allowed = HEADER_LEN..=OCTETS_MAX;
    let octets = text.parse().ok().filter(|octets| allowed.contains(octets));
    octets.ok_or_else(|| format!("allowed is {allowed:?}"))
}

/// The result.
#[derive(Debug, Serialize)]
struct Report<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    contestant: Option<&'a str>,
    began: String,
    seconds: f64,
    octets: usize,
    spin: bool,
    late_us: u64,
    flows: Vec<Flow>,
    /// The same over loopback, where it was wanted.
    floor: Vec<Flow>,
}

/// Does what the arguments say.
///
/// # Errors
/// When the socket refuses, no answer comes, or a limit is passed.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.what {
        What::Echo(arguments) => echo::run(arguments),
        What::Send(arguments) => send(arguments),
    }
}

fn send(arguments: &SendArguments) -> Result<(), Failure> {
    let began = now_text();
    let floor = if arguments.calibrate {
        let echo = echo::Loopback::start()?;
        let to = vec![echo.address(); arguments.to.len()];
        print_head("floor, over loopback", arguments);
        measure(arguments, &to)?
    } else {
        Vec::new()
    };
    print_head("round trips", arguments);
    let flows = measure(arguments, &arguments.to)?;
    let report = Report {
        kind: "latency",
        contestant: arguments.contestant.as_deref(),
        began,
        seconds: arguments.seconds,
        octets: arguments.octets,
        spin: arguments.spin,
        late_us: arguments.late_us,
        flows,
        floor,
    };
    if let Some(path) = &arguments.json {
        write_json(path, &report)?;
    }
    let missed: Vec<String> = (report.flows.iter())
        .flat_map(|flow| missed(flow, arguments))
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    Err(missed.join("; ").into())
}

/// All rates in turn; prints a line for each flow.
fn measure(arguments: &SendArguments, to: &[SocketAddr]) -> Result<Vec<Flow>, Failure> {
    let mut flows = Vec::new();
    for &rate in &arguments.rate {
        let schedule = Schedule {
            rate,
            flows: to.len() as u64,
            seconds: arguments.seconds,
        };
        if schedule.total_rate() > RATE_MAX {
            return Err(format!("more than {RATE_MAX} datagrams a second altogether").into());
        }
        let sender = sender::Sender {
            schedule,
            octets: arguments.octets,
            drain: Duration::from_secs_f64(arguments.drain_s),
            late: Duration::from_micros(arguments.late_us),
            spin: arguments.spin,
        };
        let measured = sender.run(to)?;
        measured.iter().for_each(print);
        flows.extend(measured);
    }
    Ok(flows)
}

fn print_head(what: &str, arguments: &SendArguments) {
    println!(
        "{what}: {} octets, {} s at each rate, times in us",
        arguments.octets, arguments.seconds
    );
    println!(
        "{:>22} {:>7} {:>9} {:>7} {:>6} {:>6} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "to", "rate/s", "sent", "lost", "dup", "reord", "late", "p50", "p90", "p99", "p99.9", "max"
    );
}

fn print(flow: &Flow) {
    let us = |times: &Times, percent| times.percentile(percent) as f64 / 1e3;
    let times = &flow.histogram;
    println!(
        "{:>22} {:>7} {:>9} {:>7} {:>6} {:>6} {:>7} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
        flow.to.to_string(),
        flow.rate_per_s,
        flow.sent,
        flow.lost,
        flow.duplicates,
        flow.reordered,
        flow.late_sends,
        us(times, 50.0),
        us(times, 90.0),
        us(times, 99.0),
        us(times, 99.9),
        times.max() as f64 / 1e3,
    );
}

/// Which limits a flow passed, in words.
fn missed(flow: &Flow, limits: &SendArguments) -> Vec<String> {
    let mut said = Vec::new();
    let (to, rate) = (flow.to, flow.rate_per_s);
    if flow.received == 0 {
        said.push(format!("{to} answers nothing at {rate}/s"));
        return said;
    }
    let p99_us = flow.histogram.percentile(99.0).div_ceil(1000);
    if let Some(most) = limits.p99_us_max.filter(|&most| p99_us > most) {
        said.push(format!("{to} at {rate}/s: p99 {p99_us} us, allowed {most}"));
    }
    let lost = flow.lost as f64 / flow.sent.max(1) as f64;
    if let Some(most) = limits.lost_max.filter(|&most| lost > most) {
        said.push(format!("{to} at {rate}/s: {lost} lost, allowed {most}"));
    }
    said
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: SendArguments,
    }

    fn arguments(more: &[&str]) -> SendArguments {
        let line = ["send", "--seconds", "0.2", "--drain-s", "0.1"];
        let line = line.iter().chain(more);
        Line::try_parse_from(line).expect("allowed").arguments
    }

    #[test]
    fn round_trips_and_their_floor_are_measured_and_written() {
        let echo = echo::Loopback::start().expect("an echo");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("latency.json");
        let (to, file) = (echo.address().to_string(), path.to_string_lossy());
        let both = format!("{to},{to}");
        let more = [
            "--to",
            &both,
            "--rate",
            "500,1000",
            "--calibrate",
            "--json",
            &file,
        ];
        send(&arguments(&more)).expect("an echo answers");
        let text = std::fs::read_to_string(&path).expect("written");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["kind"], "latency");
        for part in ["flows", "floor"] {
            let flows = json[part].as_array().expect("flows");
            let rates: Vec<_> = flows.iter().map(|flow| &flow["rate_per_s"]).collect();
            assert_eq!(rates, [500, 500, 1000, 1000]);
            for flow in flows {
                assert_eq!(
                    flow["sent"],
                    if flow["rate_per_s"] == 500 { 100 } else { 200 }
                );
                assert_eq!(flow["histogram"]["count"], flow["received"]);
                assert!(
                    flow["histogram"]["min"]
                        .as_u64()
                        .is_some_and(|ns| ns > 1000)
                );
            }
        }
    }

    #[test]
    fn silence_and_passed_limits_fail() {
        let nobody = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let to = nobody.local_addr().expect("its address").to_string();
        let said = send(&arguments(&["--to", &to])).expect_err("it never answers");
        assert!(
            said.to_string().contains("answers nothing at 1000/s"),
            "{said}"
        );
        let echo = echo::Loopback::start().expect("an echo");
        let to = echo.address().to_string();
        let said = send(&arguments(&["--to", &to, "--p99-us-max", "0"]));
        let said = said.expect_err("nothing is that fast").to_string();
        assert!(said.contains("allowed 0"), "{said}");
        let limits = arguments(&["--to", &to, "--lost-max", "0.01"]);
        let mut flow = measure(&limits, &[echo.address()])
            .expect("an echo")
            .remove(0);
        flow.lost = 2;
        assert_eq!(missed(&flow, &limits), Vec::<String>::new());
        flow.lost = 3;
        let said = missed(&flow, &limits).join("");
        assert!(said.ends_with("0.015 lost, allowed 0.01"), "{said}");
    }
}
