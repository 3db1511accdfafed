//! Streams between hosts that something happens to: octets by TCP that must arrive as they were
//! sent, and datagrams at a steady beat that show for how long nothing came.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::dice::Dice;
use super::netns::Namespace;
use super::seconds;

/// What a stream's octets come from.
const SEED: u64 = 0x5eed_0bad_cafe_f00d;
/// Octets written at once, and the pause after them: enough to notice any gap.
const BLOCK: usize = 4096;
const PAUSE: Duration = Duration::from_millis(2);
/// A connection on which nothing comes for this long is lost.
const PATIENCE: Duration = seconds(30);
/// Between two datagrams.
const BEAT: Duration = Duration::from_millis(2);

/// An address and a port that the kernel has chosen on it.
fn any(address: IpAddr) -> SocketAddr {
    (address, 0).into()
}

/// A TCP connection on which one side sends until it is told to end.
pub(crate) struct Transfer {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<u64>,
}

impl Transfer {
    /// From a host to another one, which has an address.
    pub(crate) fn start(from: &Namespace, (to, address): (&Namespace, IpAddr)) -> Self {
        let listener = to.enter(|| TcpListener::bind(any(address)).expect("a listener"));
        let target = listener.local_addr().expect("bound");
        let stream = from.enter(|| TcpStream::connect_timeout(&target, seconds(5)));
        let stream = stream.unwrap_or_else(|error| panic!("connect to {target}: {error}"));
        let (accepted, _) = listener.accept().expect("a connection");
        accepted.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        Self {
            stop,
            sender: thread::spawn(move || send(stream, &stopped)),
            receiver: thread::spawn(move || receive(accepted)),
        }
    }

    /// Ends it; how many octets arrived, all of them as they were sent.
    pub(crate) fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("a sender");
        let received = self.receiver.join().expect("a receiver");
        assert_eq!(sent, received, "octets that arrived");
        received
    }
}

fn send(mut stream: TcpStream, stop: &AtomicBool) -> u64 {
    let (mut dice, mut sent) = (Dice(SEED), 0);
    while !stop.load(Ordering::Relaxed) {
        stream
            .write_all(&dice.octets(BLOCK))
            .expect("it carries on");
        sent += BLOCK as u64;
        thread::sleep(PAUSE);
    }
    sent
}

fn receive(mut stream: TcpStream) -> u64 {
    let (mut dice, mut received) = (Dice(SEED), 0);
    let mut octets = [0; BLOCK];
    loop {
        let len = stream.read(&mut octets).expect("it carries on");
        if len == 0 {
            return received;
        }
        assert_eq!(octets[..len], dice.octets(len), "after {received} octets");
        received += len as u64;
    }
}

/// Datagrams from one host to another, each a moment after the last.
pub(crate) struct Beat {
    stop: Arc<AtomicBool>,
    arrivals: Arc<Mutex<Vec<Instant>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Beat {
    /// Begins.
    pub(crate) fn start(from: &Namespace, (to, address): (&Namespace, IpAddr)) -> Self {
        let receiver = to.enter(|| UdpSocket::bind(any(address)).expect("a socket"));
        let target = receiver.local_addr().expect("bound");
        let unspecified = if target.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let sender = from.enter(|| UdpSocket::bind(unspecified).expect("a socket"));
        receiver
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a socket");
        let stop = Arc::new(AtomicBool::new(false));
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let [sending, receiving] = [stop.clone(), stop.clone()];
        let noted = arrivals.clone();
        let send = move || {
            while !sending.load(Ordering::Relaxed) {
                // Without a cable nothing can be sent.
                let _ = sender.send_to(b"beat", target);
                thread::sleep(BEAT);
            }
        };
        let receive = move || {
            while !receiving.load(Ordering::Relaxed) {
                match receiver.recv(&mut [0; 16]) {
                    Ok(_) => lock(&noted).push(Instant::now()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => panic!("receive: {error}"),
                }
            }
        };
        Self {
            stop,
            arrivals,
            threads: vec![thread::spawn(send), thread::spawn(receive)],
        }
    }

    /// How long after `moment` the first one arrived, if one did by now.
    pub(crate) fn first_after(&self, moment: Instant) -> Option<Duration> {
        let arrivals = lock(&self.arrivals);
        let first = arrivals.iter().find(|&&at| at > moment)?;
        Some(first.duration_since(moment))
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Its own words were printed already.
            let _ = thread.join();
        }
    }
}

fn lock(arrivals: &Mutex<Vec<Instant>>) -> std::sync::MutexGuard<'_, Vec<Instant>> {
    arrivals.lock().unwrap_or_else(PoisonError::into_inner)
}
