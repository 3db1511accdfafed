//! Sends on schedule and takes answers in, in one thread.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use serde::Serialize;

use super::OCTETS_MAX;
use super::answers::{Answers, Header};
use crate::Failure;
use crate::workload::{Dice, Times, wake_precisely};

/// Datagrams that are sent, or taken in, before the other has its turn.
const BURST_MAX: usize = 16;
/// The queue of a socket, in octets as the kernel counts them: a pause of the program's own is not
/// to look like a loss on the way.
const QUEUE: usize = 32 << 20;

/// When datagrams are to leave: evenly, flow after flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// Datagrams a second of each flow.
    pub(super) rate: u32,
    pub(super) flows: u64,
    pub(super) seconds: f64,
}

impl Schedule {
    /// Datagrams a second of all flows.
    pub(super) fn total_rate(self) -> u64 {
        u64::from(self.rate) * self.flows
    }

    /// Datagrams of each flow.
    pub(super) fn each(self) -> u64 {
        ((f64::from(self.rate) * self.seconds).round() as u64).max(1)
    }

    /// When datagram `index` of all is to leave, in nanoseconds since the start.
    fn due_ns(self, index: u64) -> u64 {
        (u128::from(index) * 1_000_000_000 / u128::from(self.total_rate())) as u64
    }
}

/// What came of a flow.
#[derive(Debug, Serialize)]
pub(super) struct Flow {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) rate_per_s: u32,
    /// Datagrams that the kernel took.
    pub(super) sent: u64,
    /// Those that it refused.
    pub(super) refused: u64,
    /// Datagrams that were answered.
    pub(super) received: u64,
    /// Datagrams that were not, in time.
    pub(super) lost: u64,
    /// Further answers.
    pub(super) duplicates: u64,
    /// Answers that came after that to a later datagram.
    pub(super) reordered: u64,
    /// Datagrams that left later than allowed.
    pub(super) late_sends: u64,
    /// How late each datagram left; what it waited is part of its round trip.
    pub(super) lateness: Times,
    /// Round trips, from when a datagram was to leave until its answer was read.
    pub(super) histogram: Times,
}

/// What is to be done at one rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub(super) schedule: Schedule,
    pub(super) octets: usize,
    /// How long to wait for answers after the last datagram.
    pub(super) drain: Duration,
    /// What leaves so long after its time is late.
    pub(super) late: Duration,
    /// Never sleep.
    pub(super) spin: bool,
}

/// A sender at work.
struct Run<'a> {
    sender: &'a Sender,
    socket: UdpSocket,
    token: u64,
    flows: Vec<(Flow, Answers)>,
    start: Instant,
    buffer: Vec<u8>,
}

impl Sender {
    /// Sends to all of `to`, of which there are as many as the schedule has flows.
    ///
    /// # Errors
    /// When they are of both IP versions, or the socket refuses for good.
    pub(super) fn run(&self, to: &[SocketAddr]) -> Result<Vec<Flow>, Failure> {
        wake_precisely();
        let any: SocketAddr = match to.first() {
            Some(SocketAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            _ => (Ipv4Addr::UNSPECIFIED, 0).into(),
        };
        if to.iter().any(|to| to.is_ipv4() != any.is_ipv4()) {
            return Err("echoes of one version of IP at a time".into());
        }
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        enlarge_queue(&socket)?;
        let port = socket.local_addr()?.port();
        let each = self.schedule.each();
        let flow = |&to: &SocketAddr| Ok((self.flow(source(to, port)?, to), Answers::new(each)));
        let mut run = Run {
            sender: self,
            socket,
            token: Dice::new(u64::from(std::process::id()), u64::from(port)).roll(),
            flows: to.iter().map(flow).collect::<io::Result<_>>()?,
            start: Instant::now(),
            buffer: vec![0; OCTETS_MAX],
        };
        run.go()?;
        let done = run.flows.into_iter().map(|(mut flow, answers)| {
            flow.received = answers.received;
            flow.duplicates = answers.duplicates;
            flow.reordered = answers.reordered;
            flow.lost = flow.sent.saturating_sub(flow.received);
            flow
        });
        Ok(done.collect())
    }

    fn flow(&self, from: SocketAddr, to: SocketAddr) -> Flow {
        Flow {
            from,
            to,
            rate_per_s: self.schedule.rate,
            sent: 0,
            refused: 0,
            received: 0,
            lost: 0,
            duplicates: 0,
            reordered: 0,
            late_sends: 0,
            lateness: Times::default(),
            histogram: Times::default(),
        }
    }
}

impl Run<'_> {
    fn go(&mut self) -> Result<(), Failure> {
        let schedule = self.sender.schedule;
        let total = schedule.each() * schedule.flows;
        let last_ns = schedule.due_ns(total - 1);
        let end_ns = last_ns + self.sender.drain.as_nanos() as u64;
        let mut packet = vec![0; self.sender.octets];
        let (mut next, mut answered) = (0, 0);
        self.start = Instant::now();
        loop {
            let mut busy = false;
            for _ in 0..BURST_MAX {
                if next == total || schedule.due_ns(next) > self.now_ns() {
                    break;
                }
                self.send(next, &mut packet)?;
                next += 1;
                busy = true;
            }
            let (read, fresh) = self.take_answers()?;
            answered += fresh;
            // Once all were answered there is nothing to wait for but copies of answers.
            let now_ns = self.now_ns();
            if next == total && (now_ns >= end_ns || answered == total && now_ns > last_ns) {
                return Ok(());
            }
            if !busy && !read && !self.sender.spin {
                let until_ns = if next < total {
                    schedule.due_ns(next)
                } else {
                    end_ns
                };
                self.rest(Duration::from_nanos(until_ns.saturating_sub(now_ns)))?;
            }
        }
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Sends datagram `index` of all.
    fn send(&mut self, index: u64, packet: &mut [u8]) -> io::Result<()> {
        let schedule = self.sender.schedule;
        let number = index % schedule.flows;
        let header = Header {
            sequence: index / schedule.flows,
            token: self.token,
            flow: number,
        };
        header.emit(packet);
        let late_ns = self.now_ns().saturating_sub(schedule.due_ns(index));
        let (flow, _) = &mut self.flows[number as usize];
        flow.lateness.record(late_ns);
        flow.late_sends += u64::from(u128::from(late_ns) > self.sender.late.as_nanos());
        match self.socket.send_to(packet, flow.to) {
            Ok(_) => flow.sent += 1,
            Err(error) if is_passing(&error) => flow.refused += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes in what is there, and says whether it was anything, and how many were first answers.
    fn take_answers(&mut self) -> io::Result<(bool, u64)> {
        let (mut read, mut fresh) = (false, 0);
        for _ in 0..BURST_MAX {
            match self.socket.recv_from(&mut self.buffer) {
                Ok((length, from)) => {
                    let now_ns = self.now_ns();
                    read = true;
                    fresh += u64::from(self.note(length, from, now_ns).is_some());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((read, fresh))
    }

    /// Notes a datagram; `None` when it is no first answer to one of this run's.
    fn note(&mut self, length: usize, from: SocketAddr, now_ns: u64) -> Option<()> {
        let header = Header::parse(&self.buffer[..length])?;
        let (flow, answers) = self.flows.get_mut(usize::try_from(header.flow).ok()?)?;
        let is_ours = header.token == self.token && from == flow.to;
        if !is_ours || !answers.note(header.sequence) {
            return None;
        }
        let schedule = self.sender.schedule;
        let due_ns = schedule.due_ns(header.sequence * schedule.flows + header.flow);
        flow.histogram.record(now_ns.saturating_sub(due_ns));
        Some(())
    }

    fn rest(&self, at_most: Duration) -> Result<(), Failure> {
        let timeout = Timespec::try_from(at_most)?;
        let mut descriptors = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The address that datagrams to `to` leave from.
fn source(to: SocketAddr, port: u16) -> io::Result<SocketAddr> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(SocketAddr::new(socket.local_addr()?.ip(), port))
}

/// Gives a socket room for what comes while its program has no core.
pub(super) fn enlarge_queue(socket: &UdpSocket) -> io::Result<()> {
    if set_socket_recv_buffer_size_force(socket, QUEUE).is_err() {
        // Without root the system's own limit holds.
        set_socket_recv_buffer_size(socket, QUEUE)?;
    }
    Ok(())
}

/// Whether an error of a datagram socket says nothing about the next datagram.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted, OutOfMemory, TimedOut, WouldBlock};
    let no_room = error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error());
    let passing = [
        ConnectionRefused,
        Interrupted,
        OutOfMemory,
        TimedOut,
        WouldBlock,
    ];
    no_room || passing.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_even_and_does_not_drift() {
        let schedule = Schedule {
            rate: 3,
            flows: 2,
            seconds: 3600.0,
        };
        assert_eq!((schedule.each(), schedule.total_rate()), (10_800, 6));
        assert_eq!(
            [0, 1, 6].map(|index| schedule.due_ns(index)),
            [0, 166_666_666, 1_000_000_000]
        );
        assert_eq!(schedule.due_ns(6 * 3600), 3_600_000_000_000);
    }

    #[test]
    fn a_stall_of_the_echo_shows_in_all_datagrams_that_were_due_meanwhile() {
        let echo = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let to = echo.local_addr().expect("its address");
        let stall = Duration::from_millis(100);
        let answering = std::thread::spawn(move || {
            echo.set_read_timeout(Some(Duration::from_millis(300)))
                .expect("a time");
            let mut buffer = [0; 64];
            let mut count = 0;
            while let Ok((length, from)) = echo.recv_from(&mut buffer) {
                count += 1;
                if count == 50 {
                    std::thread::sleep(stall);
                }
                echo.send_to(&buffer[..length], from).expect("it can send");
                if count == 60 {
                    // A copy.
                    echo.send_to(&buffer[..length], from).expect("it can send");
                }
            }
        });
        let sender = Sender {
            schedule: Schedule {
                rate: 1000,
                flows: 1,
                seconds: 0.3,
            },
            octets: 64,
            drain: Duration::from_millis(200),
            late: Duration::from_micros(100),
            spin: false,
        };
        let flow = sender.run(&[to]).expect("an echo").remove(0);
        answering.join().expect("it ended");
        assert_eq!((flow.sent, flow.received, flow.lost), (300, 300, 0));
        assert_eq!((flow.duplicates, flow.reordered), (1, 0));
        // A third of all waited, on average half of the stall; whoever waits for answers sees one.
        assert!(flow.histogram.percentile(75.0) > 10_000_000, "{flow:?}");
        assert!(flow.histogram.max() >= 99_000_000, "{flow:?}");
        assert_eq!(flow.lateness.count(), 300);
    }
}
