//! A peer that has keys and no manners: it sends frames in a session of its own that no engine
//! would send.

mod frames;

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use omni_control::PrivateKey;
use omni_control::message::InstallSession;
use omni_engine::aead::{Key, SealJob, seal_batch};
use omni_engine::clock;
use omni_wire::MacAddr;
use omni_wire::header::{DataHeader, DataKind};
use omni_wire::limits::{AAD_LEN, HEADER_LEN};
use serde::Serialize;

use self::frames::{Forger, Kind};
use crate::Failure;
use crate::connect::is_idle;
use crate::flood::pace::Pace;
use crate::stranger::{Acquaintance, Stranger};

/// How long the handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest datagram that is received.
const DATAGRAM_MAX: usize = 2048;
/// Messages sealed together.
const BATCH: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    with: Acquaintance,
    /// Where the peer speaks from.
    #[arg(long, value_name = "ADDRESS:PORT")]
    from: SocketAddr,
    /// What it sends.
    #[arg(long, value_enum)]
    kind: Kind,
    /// Frames a second: 1 to 10000000.
    #[arg(long, default_value_t = 100_000, value_parser = crate::flood::parse_rate)]
    rate: u32,
    /// For how long.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// The address of somebody else that it claims.
    #[arg(long, value_name = "MAC", default_value = "02:00:00:00:00:01")]
    victim: MacAddr,
    /// The IP address of somebody else that it claims.
    #[arg(long, value_name = "IPv4", default_value = "10.7.0.1")]
    victim_ip: std::net::Ipv4Addr,
}

/// What was done, printed as JSON.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// All that left.
    sent: u64,
    /// All that the kernel refused.
    refused: u64,
}

/// Connects, sends, and prints the [`Report`].
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let keys = arguments.with.keys()?;
    let key = keys.first().ok_or("no key in the file")?;
    let socket = UdpSocket::bind(arguments.from)?;
    let session = establish(arguments, key, &socket)?;
    println!("ready");
    socket.set_nonblocking(true)?;
    let mut sender = Sender {
        key: Key::new(&session.send_key.0),
        session_id: session.remote_session_id,
        nonce: 1,
        forger: Forger::new(arguments.kind, arguments.victim, arguments.victim_ip),
        messages: vec![Vec::new(); BATCH],
    };
    let mut report = Report::default();
    let mut pace = Pace::new(arguments.rate);
    let (start, end) = (
        Instant::now(),
        Duration::from_secs(arguments.seconds.into()),
    );
    loop {
        let now = start.elapsed();
        if now >= end {
            break;
        }
        match pace.take(now) {
            0 => thread::sleep(pace.rest()),
            due => {
                let messages = sender.seal(due.min(BATCH));
                for message in messages {
                    match socket.send_to(message, arguments.with.target) {
                        Ok(_) => report.sent += 1,
                        Err(_) => report.refused += 1,
                    }
                }
            }
        }
    }
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn establish(
    arguments: &Arguments,
    key: &PrivateKey,
    socket: &UdpSocket,
) -> Result<InstallSession, Failure> {
    let mut stranger: Stranger = arguments.with.stranger(key)?;
    let mut buffer = [0; DATAGRAM_MAX];
    let begun = Instant::now();
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    while begun.elapsed() < PATIENCE {
        while let Some(datagram) = stranger.poll_transmit() {
            // What cannot be sent is sent again by the handshake's timer.
            let _ = socket.send_to(&datagram, arguments.with.target);
        }
        if let Some(session) = stranger.take_session() {
            return Ok(session);
        }
        match socket.recv_from(&mut buffer) {
            Ok((len, source)) => stranger.handle_datagram(source, &buffer[..len]),
            Err(error) if is_idle(error.kind()) => {}
            Err(error) => return Err(error.into()),
        }
        if stranger
            .poll_timeout()
            .is_some_and(|at| at <= clock::instant())
        {
            stranger.handle_timeout();
        }
    }
    Err("no session: is the node there, and does it know this peer?".into())
}

/// Seals frames as they are forged.
struct Sender {
    key: Key,
    session_id: u32,
    nonce: u64,
    forger: Forger,
    messages: Vec<Vec<u8>>,
}

impl Sender {
    fn seal(&mut self, count: usize) -> &[Vec<u8>] {
        for message in &mut self.messages[..count] {
            message.clear();
            message.resize(HEADER_LEN, 0);
            let kind = self.forger.next_into(message);
            let header = DataHeader {
                session_id: self.session_id,
                kind: if kind {
                    DataKind::Control
                } else {
                    DataKind::Data
                },
                lane: 0,
                nonce: self.nonce,
            };
            let mut octets = [0; AAD_LEN];
            header.emit(&mut octets);
            message[..AAD_LEN].copy_from_slice(&octets);
            self.nonce += 1;
        }
        let mut jobs: Vec<SealJob<'_>> = Vec::with_capacity(count);
        for message in &mut self.messages[..count] {
            jobs.push(SealJob {
                key: &self.key,
                message,
                plaintext_offset: HEADER_LEN,
            });
        }
        seal_batch(&mut jobs);
        drop(jobs);
        &self.messages[..count]
    }
}
