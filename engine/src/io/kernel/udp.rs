//! The underlay by UDP sockets, for where AF_XDP cannot be had or does not pay.
//!
//! ```text
//!  sendmmsg   messages of one length to one peer: one sending, cut by the kernel or the card
//!  recvmmsg   messages of one length from one peer: one buffer, put together by the same
//! ```
//!
//! The data path knows outer frames. Of those that it sends, the outer headers say where to, and
//! stay behind; those that it is handed begin with headers that say where from.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use arrayvec::ArrayVec;
use omni_wire::Instant;
use omni_wire::outer::{Outer, StandIn};
use rustix::net::sockopt::{
    set_ipv6_v6only, set_socket_recv_buffer_size, set_socket_recv_buffer_size_force,
    set_socket_reuseport, set_socket_send_buffer_size, set_socket_send_buffer_size_force,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use super::datagrams::{self, Arrived, MESSAGES_MAX, PAYLOAD_MAX, SEGMENTS_MAX, Sending};
use crate::clock;
use crate::io::{Carried, Frame, FramePool, Received, octets};

/// Octets that wait in a socket, as the kernel counts them: for what arrives while the worker does
/// something else, or leaves faster than the device sends.
const QUEUE: usize = 8 << 20;
/// Buffers of one receiving call, each for datagrams that were put together.
const BUFFERS: usize = 8;
/// Octets of a buffer: the longest IP packet.
const BUFFER_LEN: usize = 1 << 16;

/// Sockets of both address families on the fabric's port.
#[derive(Debug)]
pub struct UdpPair {
    ipv4: UdpSocket,
    /// `None` where the host has no IPv6.
    ipv6: Option<UdpSocket>,
}

impl UdpPair {
    /// Opens pairs for `workers` workers that send from `port`, beside sockets that were bound to
    /// it with `SO_REUSEPORT` before. Those keep what belongs to no session, or, unless these pairs
    /// are to receive it, all that comes by the kernel.
    ///
    /// Sockets of their own, not the control thread's: that one would be woken each time that one
    /// of its sockets has sent what it was given.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn open(port: u16, ipv6: bool, workers: usize, receives: bool) -> io::Result<Vec<Self>> {
        let pair = || {
            let ipv4 = open_socket((Ipv4Addr::UNSPECIFIED, port).into())?;
            let ipv6 = ipv6.then(|| open_socket((Ipv6Addr::UNSPECIFIED, port).into()));
            io::Result::Ok(Self {
                ipv4,
                ipv6: ipv6.transpose()?,
            })
        };
        let pairs: Vec<Self> = (0..workers).map(|_| pair()).collect::<io::Result<_>>()?;
        if let Some(first) = pairs.first() {
            let receivers = if receives { workers as u32 } else { 0 };
            for socket in first.sockets() {
                let is_ipv6 = socket.local_addr()?.is_ipv6();
                datagrams::deal_by_source(socket.as_fd(), is_ipv6, receivers)?;
            }
        }
        Ok(pairs)
    }

    /// The same sockets once more.
    ///
    /// # Errors
    /// Too many open files.
    pub fn try_clone(&self) -> io::Result<Self> {
        let ipv6 = self.ipv6.as_ref().map(UdpSocket::try_clone);
        Ok(Self {
            ipv4: self.ipv4.try_clone()?,
            ipv6: ipv6.transpose()?,
        })
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        [&self.ipv4].into_iter().chain(&self.ipv6)
    }

    fn towards(&self, address: SocketAddr) -> Option<BorrowedFd<'_>> {
        let socket = match address {
            SocketAddr::V4(_) => Some(&self.ipv4),
            SocketAddr::V6(_) => self.ipv6.as_ref(),
        };
        socket.map(AsFd::as_fd)
    }
}

/// A UDP socket of an address's family that is not bound yet. It may share its port
/// (`SO_REUSEPORT`) if it is to, and one of IPv6 leaves IPv4 alone.
///
/// # Errors
/// What the kernel refuses: `EAFNOSUPPORT` where the host has no such family.
pub fn unbound_socket(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    set_socket_reuseport(&socket, shared)?;
    Ok(socket)
}

fn open_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = unbound_socket(address, true)?;
    datagrams::prepare_receiver(socket.as_fd(), address.is_ipv6())?;
    datagrams::prepare_sender(socket.as_fd(), address.is_ipv6())?;
    // What an unprivileged process gets is as much as the system allows.
    let _ = set_socket_recv_buffer_size_force(&socket, QUEUE)
        .or_else(|_| set_socket_recv_buffer_size(&socket, QUEUE));
    let _ = set_socket_send_buffer_size_force(&socket, QUEUE)
        .or_else(|_| set_socket_send_buffer_size(&socket, QUEUE));
    bind(&socket, &address)?;
    Ok(UdpSocket::from(socket))
}

/// Sends a worker's messages.
#[derive(Debug)]
pub(super) struct UdpSender {
    pair: UdpPair,
    /// Whether the kernel has cut what it was to cut, so far.
    cuts: bool,
    pub(super) sent: Carried,
}

/// Frames one after another that make one sending.
#[derive(Clone, Copy, Debug)]
struct Run {
    outer: Outer,
    first: usize,
    count: usize,
    size: usize,
    len: usize,
}

impl UdpSender {
    pub(super) fn new(pair: UdpPair) -> Self {
        Self {
            pair,
            cuts: true,
            sent: Carried::default(),
        }
    }

    /// Sends outer frames, in order, and says how many the kernel refused. They are the caller's
    /// again.
    pub(super) fn transmit<F: Frame>(&mut self, frames: &[F]) -> usize {
        let bursts = frames.chunks(MESSAGES_MAX);
        let refused: usize = bursts.map(|frames| self.send(frames)).sum();
        self.sent
            .count((frames.len() - refused) as u64, octets(frames));
        refused
    }

    /// At most [`MESSAGES_MAX`] frames.
    fn send<F: Frame>(&mut self, frames: &[F]) -> usize {
        let mut refused = 0;
        let mut pieces: ArrayVec<IoSlice<'_>, MESSAGES_MAX> = ArrayVec::new();
        let mut runs: ArrayVec<Run, MESSAGES_MAX> = ArrayVec::new();
        for frame in frames {
            let Ok(outer) = Outer::parse(frame.bytes()) else {
                refused += 1;
                continue;
            };
            let message = &frame.bytes()[outer.payload..outer.end];
            let first = pieces.len();
            pieces.push(IoSlice::new(message));
            match runs.last_mut() {
                Some(run) if self.cuts && run.takes(&outer, message.len()) => {
                    run.count += 1;
                    run.len += message.len();
                }
                _ => runs.push(Run {
                    outer,
                    first,
                    count: 1,
                    size: message.len(),
                    len: message.len(),
                }),
            }
        }
        let sendings = runs.iter().map(|run| Sending {
            destination: run.outer.destination,
            source: run.outer.source.ip(),
            ds_field: run.outer.ds_field,
            size: run.size,
            pieces: &pieces[run.first..run.first + run.count],
        });
        let sendings: ArrayVec<Sending<'_>, MESSAGES_MAX> = sendings.collect();
        let mut rest = &sendings[..];
        while let Some(next) = rest.first() {
            let same =
                |other: &&Sending<'_>| other.destination.is_ipv4() == next.destination.is_ipv4();
            let count = rest.iter().take_while(same).count();
            let (now, later) = rest.split_at(count);
            refused += match self.pair.towards(next.destination) {
                Some(socket) => send_all(socket, now, &mut self.cuts),
                None => now.iter().map(|sending| sending.pieces.len()).sum(),
            };
            rest = later;
        }
        refused
    }
}

impl Run {
    /// Whether a message may follow in the same sending.
    fn takes(&self, outer: &Outer, len: usize) -> bool {
        // One that is shorter is the last.
        self.len == self.count * self.size
            && len <= self.size
            && self.count < SEGMENTS_MAX
            && self.len + len <= PAYLOAD_MAX
            && (
                self.outer.destination,
                self.outer.source,
                self.outer.ds_field,
            ) == (outer.destination, outer.source, outer.ds_field)
    }
}

/// Sends sendings of one address family. Says how many messages the kernel refused.
fn send_all(socket: BorrowedFd<'_>, sendings: &[Sending<'_>], cuts: &mut bool) -> usize {
    let (mut rest, mut refused, mut again) = (sendings, 0, true);
    while let Some(next) = rest.first() {
        let (sent, error) = datagrams::send(socket, rest);
        rest = &rest[sent..];
        let Some(error) = error else {
            again = true;
            continue;
        };
        match error.raw_os_error() {
            // No room in the socket or the device: none for the others either.
            Some(libc::EAGAIN | libc::ENOBUFS) => {
                return refused
                    + rest
                        .iter()
                        .map(|sending| sending.pieces.len())
                        .sum::<usize>();
            }
            // A device that cannot cut: this sending goes one by one, and so do all that follow.
            Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP) if next.pieces.len() > 1 => {
                let alone = one_by_one(socket, next);
                // Else it was not the cutting that was refused.
                *cuts &= alone > 0;
                refused += alone;
            }
            // What an earlier message met on its way is told now; it says nothing of this one.
            Some(libc::ECONNREFUSED | libc::EINTR) if again => {
                again = false;
                continue;
            }
            _ => refused += next.pieces.len(),
        }
        (rest, again) = (&rest[1..], true);
    }
    refused
}

fn one_by_one(socket: BorrowedFd<'_>, sending: &Sending<'_>) -> usize {
    let single = |pieces| Sending { pieces, ..*sending };
    let singles: ArrayVec<Sending<'_>, MESSAGES_MAX> =
        sending.pieces.chunks(1).map(single).collect();
    send_all(socket, &singles, &mut true)
}

/// Receives a worker's messages.
#[derive(Debug)]
pub(super) struct UdpReceiver {
    pair: UdpPair,
    buffers: Box<[Box<[u8]>; BUFFERS]>,
    /// What is in the buffers, from `next` on not handed out yet.
    arrived: ArrayVec<Option<Arrived>, BUFFERS>,
    next: usize,
    /// Octets of the next one that were handed out.
    taken: usize,
    read_at: Instant,
    port: u16,
    /// Whether IPv6 is to be looked at first: the families take turns.
    ipv6_first: bool,
    /// By socket, as the kernel counts.
    dropped: [u32; 2],
    pub(super) received: Carried,
    /// What the kernel handed over without its addresses.
    pub(super) refused: u64,
}

impl UdpReceiver {
    pub(super) fn new(pair: UdpPair, port: u16) -> Self {
        let buffer = || vec![0; BUFFER_LEN].into_boxed_slice();
        Self {
            pair,
            buffers: Box::new(std::array::from_fn(|_| buffer())),
            arrived: ArrayVec::new(),
            next: 0,
            taken: 0,
            read_at: Instant(0),
            port,
            ipv6_first: false,
            dropped: [0; 2],
            received: Carried::default(),
            refused: 0,
        }
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.pair.sockets()
    }

    /// Datagrams for which the sockets had no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.iter().map(|&count| u64::from(count)).sum()
    }

    /// Adds up to `max` frames to `burst`, and says how many.
    pub(super) fn receive<P: FramePool<Frame: Received>>(
        &mut self,
        pool: &mut P,
        queue: usize,
        burst: &mut Vec<P::Frame>,
        max: usize,
    ) -> usize {
        let before = burst.len();
        while burst.len() - before < max && (self.next < self.arrived.len() || self.read()) {
            let left = max - (burst.len() - before);
            if !self.take(pool, queue, burst, left) {
                break;
            }
        }
        let count = burst.len() - before;
        self.received.count(count as u64, octets(&burst[before..]));
        count
    }

    /// Fills the buffers. False when there is nothing.
    fn read(&mut self) -> bool {
        (self.next, self.taken) = (0, 0);
        self.arrived.clear();
        let first = usize::from(self.ipv6_first);
        for family in [first, 1 - first] {
            let socket = match family {
                0 => Some(&self.pair.ipv4),
                _ => self.pair.ipv6.as_ref(),
            };
            // An error is about something that was sent: there is nothing to receive.
            let received =
                socket.map(|socket| datagrams::receive(socket.as_fd(), &mut self.buffers));
            if let Some(Ok(received)) = received {
                self.arrived = received.arrived;
                self.dropped[family] = received.dropped.unwrap_or(self.dropped[family]);
                self.ipv6_first = family == 0;
                self.read_at = clock::instant();
                return true;
            }
        }
        false
    }

    /// Hands out up to `max` messages of the next buffer. False when the pool is empty.
    fn take<P: FramePool<Frame: Received>>(
        &mut self,
        pool: &mut P,
        queue: usize,
        burst: &mut Vec<P::Frame>,
        max: usize,
    ) -> bool {
        let arrived = self.arrived[self.next];
        let headers = arrived.and_then(|arrived| {
            let local = SocketAddr::new(arrived.local, self.port);
            StandIn::new(arrived.source, local, arrived.ds_field)
        });
        let (Some(arrived), Some(headers)) = (arrived, headers) else {
            self.refused += 1;
            (self.next, self.taken) = (self.next + 1, 0);
            return true;
        };
        let octets = &self.buffers[self.next][..arrived.len];
        for _ in 0..max {
            let end = (self.taken + arrived.size).min(arrived.len);
            let message = &octets[self.taken..end];
            let len = headers.len() + message.len();
            if len > P::LONGEST {
                self.refused += 1;
            } else {
                let Some(mut frame) = pool.alloc(len) else {
                    return false;
                };
                headers.emit(message, frame.bytes_mut());
                frame.note_arrival(0, self.read_at, queue);
                burst.push(frame);
            }
            self.taken = end;
            if end == arrived.len {
                (self.next, self.taken) = (self.next + 1, 0);
                break;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
