//! Peers that connect to a node: how long it takes them, whatever else is going on.
//!
//! Each is a Ganglion with a UDP socket. They start one after the other, spread over a time, and
//! do not wait for each other: a handshake that takes seconds is measured beside the next ones.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use omni_control::PrivateKey;
use omni_engine::clock;
use serde::Serialize;

use crate::Failure;
use crate::stranger::Acquaintance;

/// The longest that a peer waits before it looks at its timers again.
const LOOK: Duration = Duration::from_millis(100);
/// Longer than any handshake message.
const DATAGRAM_MAX: usize = 2048;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    with: Acquaintance,
    /// The address that the peers speak from.
    #[arg(long, value_name = "ADDRESS")]
    from: IpAddr,
    /// The first peer's UDP port; the next one has the next.
    #[arg(long, value_name = "PORT")]
    first_port: u16,
    /// The time in seconds over which their starts are spread.
    #[arg(long, default_value_t = 10.0)]
    spread: f64,
    /// The time in seconds after which one that is not connected is given up.
    #[arg(long, default_value_t = 11.0)]
    patience: f64,
}

/// What came of it, printed as JSON.
#[derive(Debug, Serialize)]
struct Report {
    /// From the first initiation to the session, in milliseconds, in rising order.
    connected_ms: Vec<f64>,
    /// Peers that had no session when their time was over.
    failed: usize,
    /// Percentiles of all peers, those that failed counted as slower than all others.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// Connects every peer once and prints the [`Report`].
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let keys = arguments.with.keys()?;
    let spread = Duration::try_from_secs_f64(arguments.spread)?;
    let between = spread / u32::try_from(keys.len())?;
    let started = Instant::now();
    let outcomes: Result<Vec<_>, Failure> = thread::scope(|scope| {
        let peers: Vec<_> = keys
            .iter()
            .zip(0u16..)
            .map(|(key, index)| {
                let start = started + between * u32::from(index);
                scope.spawn(move || {
                    thread::sleep(start.saturating_duration_since(Instant::now()));
                    connect(arguments, key, index)
                })
            })
            .collect();
        peers
            .into_iter()
            .map(|peer| peer.join().map_err(|_| "a peer's thread panicked")?)
            .collect()
    });
    println!("{}", serde_json::to_string(&report(&outcomes?))?);
    Ok(())
}

/// One peer's way to a session; `None` when it found none in time.
fn connect(
    arguments: &Arguments,
    key: &PrivateKey,
    index: u16,
) -> Result<Option<Duration>, Failure> {
    let port = arguments.first_port.checked_add(index);
    let port = port.ok_or("more keys than ports from the first one on")?;
    let socket = UdpSocket::bind((arguments.from, port))?;
    let patience = Duration::try_from_secs_f64(arguments.patience)?;
    let mut stranger = arguments.with.stranger(key)?;
    let mut buffer = [0; DATAGRAM_MAX];
    let begun = Instant::now();
    while begun.elapsed() < patience {
        while let Some(datagram) = stranger.poll_transmit() {
            // What cannot be sent is sent again by the handshake's timer.
            let _ = socket.send_to(&datagram, arguments.with.target);
        }
        if stranger.is_established() {
            return Ok(Some(begun.elapsed()));
        }
        let due = stranger.poll_timeout();
        let wait = due.map_or(LOOK, |at| at.since(clock::instant()).min(LOOK));
        // Zero would mean to wait without end.
        socket.set_read_timeout(Some(wait.max(Duration::from_micros(100))))?;
        match socket.recv_from(&mut buffer) {
            Ok((len, source)) => stranger.handle_datagram(source, &buffer[..len]),
            Err(error) if is_idle(error.kind()) => {}
            Err(error) => return Err(error.into()),
        }
        stranger.handle_timeout();
    }
    Ok(None)
}

/// Whether receiving ended without a datagram for a reason to go on after: nothing came, a signal,
/// or an ICMP answer to something sent before.
pub(crate) fn is_idle(kind: ErrorKind) -> bool {
    use ErrorKind::{ConnectionRefused, HostUnreachable, Interrupted, TimedOut, WouldBlock};
    matches!(
        kind,
        WouldBlock | TimedOut | Interrupted | ConnectionRefused | HostUnreachable
    )
}

fn report(outcomes: &[Option<Duration>]) -> Report {
    let connected = outcomes.iter().flatten();
    let mut connected_ms: Vec<f64> = connected.map(|time| time.as_secs_f64() * 1e3).collect();
    connected_ms.sort_by(f64::total_cmp);
    Report {
        failed: outcomes.len() - connected_ms.len(),
        p50_ms: percentile(&connected_ms, outcomes.len(), 50),
        p99_ms: percentile(&connected_ms, outcomes.len(), 99),
        connected_ms,
    }
}

/// The value that `percent` of `count` do not exceed, when `sorted` are the least of them;
/// `None` when it is not among those.
pub(crate) fn percentile(sorted: &[f64], count: usize, percent: usize) -> Option<f64> {
    let rank = (count * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_count_those_that_failed_as_the_slowest() {
        let times: Vec<f64> = (1..=98).map(f64::from).collect();
        assert_eq!(percentile(&times, 98, 50), Some(49.0));
        assert_eq!(percentile(&times, 98, 99), Some(98.0));
        assert_eq!(percentile(&times, 100, 98), Some(98.0));
        assert_eq!(percentile(&times, 100, 99), None);
        assert_eq!(percentile(&[], 0, 50), None);
    }

    #[test]
    fn a_report_sorts_and_counts() {
        let ms = Duration::from_millis;
        let told = report(&[Some(ms(5)), None, Some(ms(3))]);
        assert_eq!(told.connected_ms, [3.0, 5.0]);
        assert_eq!(
            (told.failed, told.p50_ms, told.p99_ms),
            (1, Some(5.0), None)
        );
    }
}
