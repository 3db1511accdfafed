//! Small datagrams through whatever carries them: how many arrive, and how long they take.
//!
//! ```text
//!  sequence   token   sent at          octets
//!  [0..8]     [8..16] [16..24, ns]     little endian; zeros up to the wanted length
//! ```
//!
//! iperf3 takes one system call for each datagram, at both ends, and so measures itself. Here one
//! call takes up to 64, and loss is exact: the receiver notes every sequence number. A token tells
//! the datagrams of one run from late ones of another.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use serde::Serialize;

use crate::Failure;
use crate::flood::pace::{BURST_MAX, Pace};

/// Octets of a datagram that the sender fills in.
const HEADER_LEN: usize = 24;
/// The longest datagram: what a packet of 9000 octets carries.
const OCTETS_MAX: usize = 8972;
/// The receiver's queue, in octets as the kernel counts them: a pause of the receiver's own is not
/// to look like a loss on the way.
const QUEUE: usize = 32 << 20;
/// How often a receiver looks whether it was told to end.
const LOOK: Duration = Duration::from_millis(50);
/// What is still on its way at the end arrives within this.
const DRAIN: Duration = Duration::from_millis(250);
/// Sequence numbers that a receiver notes: more than any run sends. 64 MiB of memory at most.
const SEQUENCES_MAX: u64 = 1 << 29;
/// No run is longer, in seconds.
const SECONDS_MAX: f64 = 3600.0;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Sends datagrams at a steady rate, or as fast as it can.
    Send(Send),
    /// Counts the datagrams of one run until standard input ends, and what is missing.
    Receive(Receive),
    /// Sends everything back to where it came from, until standard input ends.
    Echo(Bound),
    /// Round trips to an echo, at a steady rate that does not wait for answers.
    Ping(Ping),
}

#[derive(Debug, clap::Args)]
struct Send {
    /// Where to.
    #[arg(long, value_name = "IPv4:PORT")]
    to: SocketAddrV4,
    /// Datagrams a second, up to 10000000; 0 is as many as leave.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    rate: u32,
    /// For how long.
    #[arg(long, default_value_t = 2.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Octets of each: 24 to 8972.
    #[arg(long, default_value_t = 64, value_parser = parse_octets)]
    octets: usize,
    /// Tells this run from others.
    #[arg(long, default_value_t = 0)]
    token: u64,
}

#[derive(Debug, clap::Args)]
struct Receive {
    #[command(flatten)]
    bound: Bound,
    /// The run whose datagrams count.
    #[arg(long, default_value_t = 0)]
    token: u64,
}

#[derive(Debug, clap::Args)]
struct Bound {
    /// Where to receive.
    #[arg(long, value_name = "IPv4:PORT")]
    bind: SocketAddrV4,
    /// The end, should standard input not end before.
    #[arg(long, default_value_t = 60.0, value_parser = parse_seconds)]
    seconds: f64,
}

#[derive(Debug, clap::Args)]
struct Ping {
    /// The echo.
    #[arg(long, value_name = "IPv4:PORT")]
    to: SocketAddrV4,
    /// Datagrams a second: 1 to 100000.
    #[arg(long, default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// For how long.
    #[arg(long, default_value_t = 2.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Octets of each: 24 to 8972.
    #[arg(long, default_value_t = 64, value_parser = parse_octets)]
    octets: usize,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|s| (0.01..=SECONDS_MAX).contains(s));
    seconds.ok_or_else(|| format!("allowed is 0.01..={SECONDS_MAX}"))
}

fn parse_octets(text: &str) -> Result<usize, String> {
    let octets = text
        .parse()
        .ok()
        .filter(|o| (HEADER_LEN..=OCTETS_MAX).contains(o));
    octets.ok_or_else(|| format!("allowed is {HEADER_LEN}..={OCTETS_MAX}"))
}

/// Does what the arguments say, and prints what came of it as one line of JSON.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let report = match &arguments.what {
        What::Send(arguments) => serde_json::to_string(&send(arguments)?)?,
        What::Receive(arguments) => serde_json::to_string(&receive(arguments)?)?,
        What::Echo(bound) => serde_json::to_string(&echo(bound)?)?,
        What::Ping(arguments) => serde_json::to_string(&ping(arguments)?)?,
    };
    println!("{report}");
    Ok(())
}

/// What a sender did.
#[derive(Debug, Serialize)]
struct Sent {
    /// Datagrams that the kernel took.
    sent: u64,
    /// Those that it refused, which have no sequence number.
    refused: u64,
    /// From the first to after the last.
    seconds: f64,
}

fn send(arguments: &Send) -> Result<Sent, Failure> {
    let socket = connected(arguments.to)?;
    let mut packets = vec![vec![0; arguments.octets]; BURST_MAX];
    let mut pace = (arguments.rate > 0).then(|| Pace::new(arguments.rate));
    let (mut sent, mut refused) = (0, 0);
    let (start, end) = (Instant::now(), Duration::from_secs_f64(arguments.seconds));
    loop {
        let now = start.elapsed();
        if now >= end {
            break;
        }
        let due = pace.as_mut().map_or(BURST_MAX, |pace| pace.take(now));
        if due == 0 {
            thread::sleep(pace.as_ref().map_or(LOOK, Pace::rest));
            continue;
        }
        for (sequence, packet) in (sent..).zip(&mut packets[..due]) {
            Header {
                sequence,
                token: arguments.token,
                sent_at: 0,
            }
            .emit(packet);
        }
        let left = send_burst(&socket, &packets[..due])? as u64;
        sent += left;
        refused += due as u64 - left;
    }
    Ok(Sent {
        sent,
        refused,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Sends by one system call, and says how many left.
fn send_burst(socket: &UdpSocket, packets: &[Vec<u8>]) -> io::Result<usize> {
    let slices: ArrayVec<[IoSlice<'_>; 1], BURST_MAX> = packets
        .iter()
        .map(|packet| [IoSlice::new(packet)])
        .collect();
    let mut controls: ArrayVec<SendAncillaryBuffer<'_, '_, '_>, BURST_MAX> = packets
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let mut headers: ArrayVec<MMsgHdr<'_>, BURST_MAX> = slices
        .iter()
        .zip(controls.iter_mut())
        .map(|(s, c)| MMsgHdr::new(s, c))
        .collect();
    match sendmmsg(socket, &mut headers, SendFlags::empty()) {
        Ok(left) => Ok(left),
        // No room somewhere, or word from the other side about an earlier one: not the end.
        Err(error) if is_passing(&error.into()) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Whether an error of a datagram socket says nothing about the next datagram.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted, OutOfMemory, TimedOut, WouldBlock};
    let no_room = error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error());
    no_room
        || matches!(
            error.kind(),
            ConnectionRefused | Interrupted | OutOfMemory | TimedOut | WouldBlock
        )
}

/// What a receiver saw of one run.
#[derive(Debug, Default, Serialize)]
struct Received {
    /// Datagrams, each once.
    received: u64,
    /// Copies of those.
    duplicates: u64,
    /// Those that came after a later one.
    reordered: u64,
    /// Datagrams of other runs, or of nobody's.
    foreign: u64,
    /// From the first to the last.
    seconds: f64,
}

/// Notes sequence numbers.
#[derive(Debug, Default)]
struct Notes {
    /// A bit for each sequence number, up to the highest seen.
    seen: Vec<u64>,
    /// One above the highest.
    next: u64,
    counts: Received,
}

impl Notes {
    fn note(&mut self, sequence: u64) {
        if sequence >= SEQUENCES_MAX {
            self.counts.foreign += 1;
            return;
        }
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if self.seen.len() <= word {
            self.seen.resize((word + 1).next_power_of_two(), 0);
        }
        if self.seen[word] & bit != 0 {
            self.counts.duplicates += 1;
            return;
        }
        self.seen[word] |= bit;
        self.counts.received += 1;
        self.counts.reordered += u64::from(sequence < self.next);
        self.next = self.next.max(sequence + 1);
    }
}

fn receive(arguments: &Receive) -> Result<Received, Failure> {
    let (socket, mut end) = bound(&arguments.bound)?;
    let mut buffers = [[0; HEADER_LEN]; BURST_MAX];
    let mut headers: MultiHeaders<SockaddrIn> = MultiHeaders::preallocate(BURST_MAX, None);
    let mut notes = Notes::default();
    let mut first_and_last = None;
    while !end.is_reached() {
        let mut parts = buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        // The rest of a longer datagram is thrown away; what counts is at its start.
        let flags = MsgFlags::MSG_WAITFORONE;
        match recvmmsg(
            socket.as_raw_fd(),
            &mut headers,
            parts.iter_mut(),
            flags,
            None,
        ) {
            Ok(messages) => {
                for message in messages {
                    let octets = message.iovs().next().unwrap_or_default();
                    match Header::parse(octets).filter(|header| header.token == arguments.token) {
                        Some(header) => notes.note(header.sequence),
                        None => notes.counts.foreign += 1,
                    }
                }
                let now = Instant::now();
                first_and_last.get_or_insert((now, now)).1 = now;
                end.heard();
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut counts = notes.counts;
    counts.seconds = first_and_last.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    Ok(counts)
}

/// What an echo did.
#[derive(Debug, Serialize)]
struct Echoed {
    /// Datagrams that were sent back.
    echoed: u64,
}

fn echo(bind: &Bound) -> Result<Echoed, Failure> {
    let (socket, mut end) = bound(bind)?;
    let mut buffer = [0; OCTETS_MAX];
    let mut echoed = 0;
    while !end.is_reached() {
        let done = socket.recv_from(&mut buffer).and_then(|(length, from)| {
            end.heard();
            socket.send_to(&buffer[..length], from)
        });
        match done {
            Ok(_) => echoed += 1,
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Echoed { echoed })
}

/// Round trips, in nanoseconds. Without an answer all times are 0.
#[derive(Debug, Default, Serialize)]
struct Trips {
    sent: u64,
    received: u64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p99_9_ns: u64,
    max_ns: u64,
}

impl Trips {
    fn of(sent: u64, mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        // The least time that this share of all trips did not exceed.
        let at = |share: f64| {
            let rank = (share * times.len() as f64).ceil() as usize;
            times
                .get(rank.saturating_sub(1))
                .copied()
                .unwrap_or_default()
        };
        Self {
            sent,
            received: times.len() as u64,
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p99_9_ns: at(0.999),
            max_ns: at(1.0),
        }
    }
}

fn ping(arguments: &Ping) -> Result<Trips, Failure> {
    let socket = connected(arguments.to)?;
    socket.set_nonblocking(true)?;
    let interval = Duration::from_secs(1) / arguments.rate;
    let end = Duration::from_secs_f64(arguments.seconds);
    let start = Instant::now();
    let mut packet = vec![0; arguments.octets];
    let (mut sent, mut times, mut due) = (0, Vec::new(), Duration::ZERO);
    while start.elapsed() < end + DRAIN {
        let now = start.elapsed();
        if now >= due && now < end {
            let sent_at = now.as_nanos() as u64;
            Header {
                sequence: sent,
                token: 0,
                sent_at,
            }
            .emit(&mut packet);
            match socket.send(&packet) {
                Ok(_) => sent += 1,
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error.into()),
            }
            // Missed turns are left out: a burst of them would measure itself.
            due = (due + interval).max(now);
        }
        take_answers(&socket, start, &mut times)?;
        let until = if due < end { due } else { end + DRAIN };
        wait_readable(&socket, until.saturating_sub(start.elapsed()))?;
    }
    Ok(Trips::of(sent, times))
}

fn take_answers(socket: &UdpSocket, start: Instant, times: &mut Vec<u64>) -> io::Result<()> {
    let mut buffer = [0; OCTETS_MAX];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let now = start.elapsed().as_nanos() as u64;
                let answer = Header::parse(&buffer[..length]);
                times.extend(answer.map(|answer| now.saturating_sub(answer.sent_at)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn wait_readable(socket: &UdpSocket, at_most: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(at_most).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The octets at a datagram's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    sequence: u64,
    token: u64,
    sent_at: u64,
}

impl Header {
    /// Writes it at the start of `packet`, which is long enough.
    fn emit(self, packet: &mut [u8]) {
        let fields = [self.sequence, self.token, self.sent_at];
        for (field, place) in fields.iter().zip(packet.chunks_exact_mut(8)) {
            place.copy_from_slice(&field.to_le_bytes());
        }
    }

    /// Reads it, if the datagram is long enough.
    fn parse(octets: &[u8]) -> Option<Self> {
        let mut fields = octets
            .as_chunks::<8>()
            .0
            .iter()
            .map(|field| u64::from_le_bytes(*field));
        Some(Self {
            sequence: fields.next()?,
            token: fields.next()?,
            sent_at: fields.next()?,
        })
    }
}

fn connected(to: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    Ok(socket)
}

/// A socket that waits for what arrives, but not past the end, and says `ready`.
fn bound(bound: &Bound) -> io::Result<(UdpSocket, End)> {
    let socket = UdpSocket::bind(bound.bind)?;
    if set_socket_recv_buffer_size_force(&socket, QUEUE).is_err() {
        set_socket_recv_buffer_size(&socket, QUEUE)?;
    }
    socket.set_read_timeout(Some(LOOK))?;
    let end = End::new(Duration::from_secs_f64(bound.seconds));
    println!("ready");
    io::stdout().flush()?;
    Ok((socket, end))
}

/// When a receiver ends: it is told to and hears nothing more, or its time is over.
#[derive(Debug)]
struct End {
    told: Arc<AtomicBool>,
    last_heard: Instant,
    at_last: Instant,
}

impl End {
    fn new(at_most: Duration) -> Self {
        let told = Arc::new(AtomicBool::new(false));
        let told_by_input = Arc::clone(&told);
        // Ends with the process, whatever it still waits for.
        thread::spawn(move || {
            // Whatever ends standard input, it has ended.
            let _ = io::stdin().read_to_end(&mut Vec::new());
            told_by_input.store(true, Ordering::Relaxed);
        });
        let now = Instant::now();
        Self {
            told,
            last_heard: now,
            at_last: now + at_most,
        }
    }

    fn heard(&mut self) {
        self.last_heard = Instant::now();
    }

    fn is_reached(&self) -> bool {
        let silent = self.told.load(Ordering::Relaxed) && self.last_heard.elapsed() > DRAIN;
        silent || Instant::now() >= self.at_last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_never_from_less() {
        let header = Header {
            sequence: 7,
            token: u64::MAX,
            sent_at: 1 << 40,
        };
        let mut packet = [0; 64];
        header.emit(&mut packet);
        assert_eq!(Header::parse(&packet), Some(header));
        assert_eq!(Header::parse(&packet[..HEADER_LEN]), Some(header));
        assert_eq!(Header::parse(&packet[..HEADER_LEN - 1]), None);
    }

    #[test]
    fn each_sequence_number_counts_once() {
        let mut notes = Notes::default();
        for sequence in [0, 1, 5, 3, 5, 64, 1, 1000, 4] {
            notes.note(sequence);
        }
        notes.note(SEQUENCES_MAX);
        let Received {
            received,
            duplicates,
            reordered,
            foreign,
            ..
        } = notes.counts;
        assert_eq!((received, duplicates, reordered, foreign), (7, 2, 2, 1));
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let trips = Trips::of(1001, (1..=1000).rev().collect());
        assert_eq!((trips.sent, trips.received), (1001, 1000));
        let shown = [
            trips.p50_ns,
            trips.p90_ns,
            trips.p99_ns,
            trips.p99_9_ns,
            trips.max_ns,
        ];
        assert_eq!(shown, [500, 900, 990, 999, 1000]);
        assert_eq!(Trips::of(3, vec![]).max_ns, 0);
        assert_eq!(Trips::of(1, vec![9]).p50_ns, 9);
    }

    #[test]
    fn what_is_sent_arrives_once_and_echoes_come_back() -> Result<(), Failure> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let port = socket.local_addr()?.port();
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let echoing = thread::spawn(move || -> io::Result<u64> {
            let mut buffer = [0; 128];
            let mut count = 0;
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if length == HEADER_LEN {
                    break;
                }
                socket.send_to(&buffer[..length], from)?;
                count += 1;
            }
            Ok(count)
        });
        let trips = ping(&Ping {
            to,
            rate: 1000,
            seconds: 0.1,
            octets: 64,
        })?;
        let last = Send {
            to,
            rate: 100,
            seconds: 0.05,
            octets: HEADER_LEN,
            token: 1,
        };
        assert!(send(&last)?.sent >= 1);
        let echoed = echoing.join().map_err(|_| "the echo panicked")??;
        assert_eq!((trips.received, trips.sent), (echoed, echoed));
        assert!(echoed > 0 && trips.p50_ns > 0 && trips.p50_ns <= trips.max_ns);
        Ok(())
    }
}
