//! `omni ping`: how long a peer takes to answer through the session, and how much is lost.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use omni_engine::echo::{Echo, EchoRequest, OCTETS_MIN};
use omni_engine::runtime::request::Command;
use serde::Serialize;
use thiserror::Error;

use crate::client::{self, ClientError, Program};
use crate::interrupt::Interrupt;
use crate::units::latency;

/// The shortest pause between two, in seconds. A node answers 20 a second of a peer, and its path
/// MTU discovery asks as well.
const PAUSE_MIN: f64 = 0.1;
/// The longest.
const PAUSE_MAX: f64 = 3600.0;
/// Octets before an inner frame's packet: the Ethernet header.
const ETHERNET_LEN: u16 = 14;

pub(crate) const EXAMPLES: &str = "\
An echo is a PROBE record in the session, padded to a size: it takes the same way as an inner frame
of as many octets, and shows whether one arrives. It says nothing of hosts behind the peer. The time
is that from the control thread of this node to that of the peer and back, so it is longer than a
frame's. Lane 0 is used. Without a session a handshake begins.

Examples:
  omni ping beta
  omni ping -c 100 -i 0.1 beta              20 a second are answered at most
  omni ping -s 1440 -c 3 beta               does a full frame get through?
  omni ping --json -c 5 hSDwCY | jq .rtt_ns.p99

Exit status: 0 at least one answer, 1 none, 2 cannot ask.";

/// Whom to ask, and how.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Name of the peer, or the beginning of its public key
    peer: String,

    /// Stop after so many echoes [default: at Ctrl-C]
    #[arg(short = 'c', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,

    /// Seconds between two, at least 0.1
    #[arg(short = 'i', value_name = "SECONDS", default_value = "1", value_parser = pause)]
    interval: Duration,

    /// Octets of the record, which takes the way of a frame as long
    #[arg(short = 's', value_name = "OCTETS", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(i64::from(OCTETS_MIN)..))]
    size: u16,

    /// Seconds that each answer is waited for
    #[arg(short = 'W', value_name = "SECONDS", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=4))]
    wait: u32,

    /// Print JSON, at the end
    #[arg(long)]
    json: bool,
}

fn pause(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (PAUSE_MIN..=PAUSE_MAX).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("from {PAUSE_MIN} to {PAUSE_MAX} seconds"))
    }
}

/// What ends `omni ping` with another status than 0.
#[derive(Debug, Error)]
pub(crate) enum PingError {
    /// Nothing came back.
    #[error("no answer")]
    Unanswered,
    /// The engine cannot be asked, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A question or the summary cannot be written as JSON.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Ctrl-C cannot be listened to.
    #[error("cannot listen to Ctrl-C: {0}")]
    Interrupt(io::Error),
    /// Standard output is gone.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl PingError {
    /// The exit status, as `ping`'s.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::Unanswered => 1,
            _ => 2,
        }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    peer: &'a str,
    public_key: &'a str,
    endpoint: Option<&'a str>,
    source: Option<&'a str>,
    octets: u16,
    sent: usize,
    answered: usize,
    lost_percent: f64,
    rtt_ns: Option<Times>,
    frame_limit: Option<u16>,
    path_mtu: Option<u16>,
    echoes: &'a [Echo],
}

/// Round trips, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
struct Times {
    min: u64,
    avg: u64,
    p50: u64,
    p99: u64,
    max: u64,
}

impl Times {
    /// Exact percentiles, by nearest rank; `None` of nothing.
    fn of(echoes: &[Echo]) -> Option<Self> {
        let mut times: Vec<u64> = echoes.iter().filter_map(|echo| echo.rtt_ns).collect();
        times.sort_unstable();
        let (&min, &max) = (times.first()?, times.last()?);
        let rank = |percent: usize| {
            let at = (times.len() * percent).div_ceil(100).max(1);
            times.get(at - 1).copied().unwrap_or(max)
        };
        let sum: u128 = times.iter().copied().map(u128::from).sum();
        Some(Self {
            min,
            avg: u64::try_from(sum / times.len() as u128).unwrap_or(u64::MAX),
            p50: rank(50),
            p99: rank(99),
            max,
        })
    }
}

/// Asks, again and again.
pub(crate) fn run(arguments: &Arguments, socket: &Path) -> Result<(), PingError> {
    let interrupt = Interrupt::listen().map_err(PingError::Interrupt)?;
    let request = Command::Ping(EchoRequest {
        peer: arguments.peer.clone(),
        octets: arguments.size,
        wait_ms: arguments.wait * 1000,
    });
    let mut request = serde_json::to_vec(&request)?;
    request.push(b'\n');
    let mut echoes: Vec<Echo> = Vec::new();
    let mut due = Instant::now();
    loop {
        let echo: Echo = client::ask(Program::Engine, socket, &request)?;
        if !arguments.json {
            print(&line(echoes.len() + 1, &echo))?;
        }
        echoes.push(echo);
        let asked = u32::try_from(echoes.len()).unwrap_or(u32::MAX);
        if arguments.count.is_some_and(|count| asked >= count) {
            break;
        }
        due += arguments.interval;
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            due = Instant::now();
        }
        if interrupt.within(left) {
            break;
        }
    }
    let text = if arguments.json {
        serde_json::to_string_pretty(&summary(&echoes))? + "\n"
    } else {
        told(&echoes)
    };
    print(&text)?;
    match Times::of(&echoes) {
        Some(_) => Ok(()),
        None => Err(PingError::Unanswered),
    }
}

fn print(text: &str) -> Result<(), PingError> {
    let mut output = io::stdout().lock();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(PingError::Output)
}

/// One echo, as it is printed when it is over.
fn line(number: usize, echo: &Echo) -> String {
    let place = echo.endpoint.as_deref().unwrap_or("nowhere");
    let from = format!("{} ({place}): seq={number}", echo.peer);
    match (echo.rtt_ns, echo.arrived, &echo.refusal) {
        (Some(rtt), Some(arrived), _) => {
            format!("{arrived} octets to {from} time={}\n", latency(rtt))
        }
        (_, _, Some(why)) => format!("nothing sent to {from} {why}\n"),
        _ => format!("{} octets to {from} no answer\n", echo.octets),
    }
}

fn summary(echoes: &[Echo]) -> Summary<'_> {
    let answered = echoes.iter().filter(|echo| echo.rtt_ns.is_some()).count();
    let sent = echoes.len();
    let latest = echoes.last();
    let frame_limit = latest.and_then(|echo| echo.frame_limit);
    Summary {
        peer: latest.map_or("", |echo| &echo.peer),
        public_key: latest.map_or("", |echo| &echo.public_key),
        endpoint: latest.and_then(|echo| echo.endpoint.as_deref()),
        source: latest.and_then(|echo| echo.source.as_deref()),
        octets: latest.map_or(0, |echo| echo.octets),
        sent,
        answered,
        lost_percent: (sent - answered) as f64 * 100.0 / sent.max(1) as f64,
        rtt_ns: Times::of(echoes),
        frame_limit,
        path_mtu: frame_limit.map(|octets| octets.saturating_sub(ETHERNET_LEN)),
        echoes,
    }
}

/// The summary for people.
fn told(echoes: &[Echo]) -> String {
    let all = summary(echoes);
    let mut text = format!("--- {} {}\n", all.peer, all.public_key);
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{} asked, {} answered, {:.1} % lost",
        all.sent, all.answered, all.lost_percent
    );
    if let Some(times) = all.rtt_ns {
        let _ = writeln!(
            text,
            "round trip: min {}, avg {}, p50 {}, p99 {}, max {}",
            latency(times.min),
            latency(times.avg),
            latency(times.p50),
            latency(times.p99),
            latency(times.max)
        );
    }
    if let (Some(mtu), Some(limit)) = (all.path_mtu, all.frame_limit) {
        let _ = writeln!(text, "path MTU: {mtu}, frames of {limit} octets");
    }
    if let Some(endpoint) = all.endpoint {
        let source = all.source.unwrap_or("any address");
        let _ = writeln!(text, "way: {source} to {endpoint}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(rtt_ns: Option<u64>) -> Echo {
        Echo {
            peer: "beta".to_owned(),
            public_key: "Abcd=".to_owned(),
            state: "established".to_owned(),
            endpoint: Some("192.0.2.2:51820".to_owned()),
            source: Some("192.0.2.1".to_owned()),
            frame_limit: Some(1440),
            octets: 64,
            arrived: rtt_ns.map(|_| 64),
            rtt_ns,
            refusal: None,
        }
    }

    #[test]
    fn percentiles_are_of_what_was_answered_and_exact() {
        let mut echoes: Vec<Echo> = (1..=200).map(|n| echo(Some(n * 1000))).collect();
        echoes.push(echo(None));
        let want = Times {
            min: 1000,
            avg: 100_500,
            p50: 100_000,
            p99: 198_000,
            max: 200_000,
        };
        assert_eq!(Times::of(&echoes), Some(want));
        assert_eq!(Times::of(&[echo(None)]), None);
        let one = Times::of(&[echo(Some(7))]).expect("one is answered");
        assert_eq!((one.min, one.p50, one.p99, one.max), (7, 7, 7, 7));
    }

    #[test]
    fn the_summary_says_what_was_lost_and_how_long_frames_may_be() {
        let echoes = [echo(Some(250_000)), echo(None), echo(Some(750_000))];
        let want = "--- beta Abcd=\n3 asked, 2 answered, 33.3 % lost\n\
                    round trip: min 250 us, avg 500 us, p50 250 us, p99 750 us, max 750 us\n\
                    path MTU: 1426, frames of 1440 octets\n\
                    way: 192.0.2.1 to 192.0.2.2:51820\n";
        assert_eq!(told(&echoes), want);
        assert_eq!(
            line(2, &echoes[1]),
            "64 octets to beta (192.0.2.2:51820): seq=2 no answer\n"
        );
    }

    #[test]
    fn pauses_are_not_shorter_than_a_peer_answers() {
        assert_eq!(pause("0.1"), Ok(Duration::from_millis(100)));
        for refused in ["0.05", "-1", "NaN", "inf", "x"] {
            assert!(pause(refused).is_err(), "{refused}");
        }
    }
}
