//! The other end: sends datagrams back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::sender::{enlarge_queue, is_passing};
use crate::Failure;
use crate::workload::{Ending, parse_seconds};

/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to receive.
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// The end, should no signal come before.
    #[arg(long, default_value_t = 3600.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Keep a core busy instead of sleeping until something comes: for cores of one's own.
    #[arg(long)]
    spin: bool,
}

/// Echoes as the arguments say.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let ending = Ending::take()?;
    let listen = arguments.listen;
    let socket = UdpSocket::bind(listen).map_err(|error| format!("{listen}: {error}"))?;
    let echo = Echo::start(socket, arguments.spin)?;
    let failed = || echo.thread.as_ref().is_none_or(JoinHandle::is_finished);
    ending.wait(Duration::from_secs_f64(arguments.seconds), failed)?;
    println!(r#"{{"echoed":{}}}"#, echo.end()?);
    Ok(())
}

/// A thread that echoes.
struct Echo {
    is_over: Arc<AtomicBool>,
    echoed: Arc<AtomicU64>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Echo {
    fn start(socket: UdpSocket, spin: bool) -> io::Result<Self> {
        enlarge_queue(&socket)?;
        if spin {
            socket.set_nonblocking(true)?;
        } else {
            socket.set_read_timeout(Some(LOOK))?;
        }
        let (is_over, echoed) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (over, count) = (Arc::clone(&is_over), Arc::clone(&echoed));
        let thread = thread::spawn(move || echo(&socket, &over, &count));
        Ok(Self {
            is_over,
            echoed,
            thread: Some(thread),
        })
    }

    /// Ends it, and says how many datagrams it sent back.
    fn end(mut self) -> Result<u64, Failure> {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| "the echo panicked")??;
        }
        Ok(self.echoed.load(Ordering::Relaxed))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn echo(socket: &UdpSocket, is_over: &AtomicBool, echoed: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    while !is_over.load(Ordering::Relaxed) {
        let received = socket.recv_from(&mut buffer);
        match received.and_then(|(length, from)| socket.send_to(&buffer[..length], from)) {
            Ok(_) => {
                echoed.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An echo on loopback, which ends with its owner.
pub(super) struct Loopback {
    address: SocketAddr,
    /// Ends when it is dropped.
    _echo: Echo,
}

impl Loopback {
    /// Starts it.
    pub(super) fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(Self {
            address: socket.local_addr()?,
            _echo: Echo::start(socket, false)?,
        })
    }

    /// Where it is.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}
