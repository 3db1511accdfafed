//! A flood: many datagrams at a steady rate, by one thread that costs as little as it can, since
//! in a laboratory it shares the machine with what it attacks.

pub(crate) mod messages;
pub(crate) mod pace;
mod packet;

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use omni_control::PublicKey;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use self::messages::{Dice, Kind, Recipe, Ring};
use self::pace::Pace;
use self::packet::{HEADERS_LEN, RawSocket, Sources};
use crate::{Failure, keys};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What is sent.
    #[arg(long, value_enum)]
    kind: Kind,
    /// Where to.
    #[arg(long, value_name = "IPv4:PORT")]
    target: SocketAddrV4,
    /// Datagrams a second: 1 to 10000000.
    #[arg(long, default_value_t = 100_000, value_parser = parse_rate)]
    rate: u32,
    /// For how long.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Where they claim to come from: a network, or always the same endpoint.
    #[arg(
        long,
        value_name = "IPv4/LENGTH | IPv4:PORT",
        default_value = "198.18.0.0/15"
    )]
    sources: Sources,
    /// The target's public key, for valid-mac.
    #[arg(long, value_name = "KEY", value_parser = keys::parse_public)]
    target_key: Option<PublicKey>,
    /// The target's index of a session, for forged-data.
    #[arg(long, value_name = "NUMBER")]
    session_id: Option<u32>,
    /// The lane of data messages.
    #[arg(long, default_value_t = 0)]
    lane: u16,
    /// Octets of a data message, its header of 32 included: 32 to 1472.
    #[arg(long, default_value_t = 96, value_parser = parse_length)]
    length: usize,
    /// Messages for recorded, one a line in hex.
    #[arg(long, value_name = "FILE")]
    messages: Option<PathBuf>,
}

pub(crate) fn parse_rate(text: &str) -> Result<u32, String> {
    let rate = text.parse().ok().filter(|r| (1..=10_000_000).contains(r));
    rate.ok_or_else(|| "allowed is 1..=10000000".to_owned())
}

fn parse_length(text: &str) -> Result<usize, String> {
    let length = text.parse().ok().filter(|l| (32..=1472).contains(l));
    length.ok_or_else(|| "allowed is 32..=1472".to_owned())
}

/// What was done, printed as JSON.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Datagrams that left in each whole second.
    per_second: Vec<u64>,
    /// All that left.
    sent: u64,
    /// All that the kernel refused.
    refused: u64,
    /// Processor time in seconds. On a veth pair most of it is the receiving host's work: the
    /// kernel delivers to the other side before the sender's system call returns.
    cpu_seconds: f64,
}

/// Sends, and prints the [`Report`].
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let recorded = match &arguments.messages {
        Some(file) => messages::from_lines(&std::fs::read_to_string(file)?)?,
        None => Vec::new(),
    };
    let recipe = Recipe {
        target_key: arguments.target_key,
        session_id: arguments.session_id,
        lane: arguments.lane,
        length: arguments.length,
        recorded,
    };
    let (messages, next_nonce) = Ring::new(arguments.kind, recipe)?.into_parts();
    let packets = messages
        .iter()
        .map(|message| packet::wrap(arguments.target, message))
        .collect();
    let flood = Flood {
        socket: RawSocket::open(arguments.target)
            .map_err(|error| format!("cannot open a raw socket: {error}"))?,
        sources: arguments.sources,
        dice: Dice::new(),
        packets,
        next: 0,
        next_nonce,
    };
    let report = flood.send(arguments.rate, arguments.seconds);
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// The sender.
struct Flood {
    socket: RawSocket,
    sources: Sources,
    dice: Dice,
    packets: Vec<Vec<u8>>,
    /// The packet to be sent next.
    next: usize,
    next_nonce: Option<u64>,
}

impl Flood {
    fn send(mut self, rate: u32, seconds: u32) -> Report {
        let mut report = Report::default();
        let mut pace = Pace::new(rate);
        let (start, cpu) = (Instant::now(), cpu_time());
        let end = Duration::from_secs(seconds.into());
        let mut this_second = 0;
        loop {
            let now = start.elapsed();
            if report.per_second.len() as u64 != now.as_secs() {
                report.per_second.push(this_second);
                this_second = 0;
            }
            if now >= end {
                break;
            }
            match pace.take(now) {
                0 => thread::sleep(pace.rest()),
                due => {
                    let sent = self.burst(due) as u64;
                    this_second += sent;
                    report.sent += sent;
                    report.refused += due as u64 - sent;
                }
            }
        }
        report.cpu_seconds = (cpu_time() - cpu).as_secs_f64();
        report
    }

    /// Sends `count` packets, fewer at the end of the ring. Says how many left.
    fn burst(&mut self, count: usize) -> usize {
        let mut left = 0;
        let mut wanted = count;
        while wanted > 0 {
            let end = (self.next + wanted).min(self.packets.len());
            let packets = &mut self.packets[self.next..end];
            for packet in packets.iter_mut() {
                packet::set_source(packet, &self.sources, &mut self.dice);
                Ring::refresh(&mut self.next_nonce, &mut packet[HEADERS_LEN..]);
            }
            wanted -= packets.len();
            // What is refused, for want of room somewhere, is counted by whoever called.
            left += self.socket.send(packets).unwrap_or(0);
            self.next = end % self.packets.len();
        }
        left
    }
}

/// The processor time that this process had so far.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}
