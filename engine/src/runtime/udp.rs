//! The kernel's UDP sockets on the fabric's port: handshakes come and go here, data does not.
//!
//! ```text
//!  recvmmsg: up to 64 datagrams a call, each with the address of ours that it was sent to
//!  sendmsg:  one datagram, from a given address of ours or from the kernel's choice
//! ```
//!
//! A flood of forged handshakes arrives here before anything can tell it from real ones. What a
//! datagram costs is therefore its share of one system call, and no allocation.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

use libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, SockaddrIn6,
    SockaddrLike, recvmmsg, sendmsg, setsockopt,
};
use rustix::net::bind;
use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_reuseport,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::debug;

use super::EngineError;
use crate::io::kernel::unbound_socket;

/// Datagrams taken from a socket before the loop looks at the rest again: one system call's.
const RECEIVE_MAX: usize = 64;
/// Longer than any message without a session: what does not fit is refused by its length.
const DATAGRAM_MAX: usize = 2048;
/// The kernel's queue of each socket, in octets as it counts them (about 800 for a handshake
/// message): for what arrives while the control thread does something else.
const QUEUE: usize = 1 << 20;

/// Where one call's datagrams go.
type Buffers = [[u8; DATAGRAM_MAX]; RECEIVE_MAX];

/// One socket for each address family the host has.
#[derive(Debug)]
pub(super) struct UdpSockets {
    ipv4: Socket<SockaddrIn>,
    ipv6: Option<Socket<SockaddrIn6>>,
    buffers: Box<Buffers>,
}

impl UdpSockets {
    /// Binds the port on all addresses, `shared` with the workers' sockets where they receive by
    /// such.
    pub(super) fn bind(port: u16, shared: bool) -> Result<Self, EngineError> {
        let failed = |source| EngineError::UdpPort { port, source };
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let ipv4 = Socket::open(any, shared).map_err(failed)?;
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let ipv6 = match Socket::open(any, shared) {
            Ok(socket) => Some(socket),
            Err(source) if is_no_ipv6(&source) => None,
            Err(source) => return Err(failed(source)),
        };
        Ok(Self {
            ipv4,
            ipv6,
            buffers: Box::new([[0; DATAGRAM_MAX]; RECEIVE_MAX]),
        })
    }

    /// Whether the host has IPv6.
    pub(super) fn has_ipv6(&self) -> bool {
        self.ipv6.is_some()
    }

    /// Waits until a datagram can be received.
    pub(super) async fn readable(&self) -> io::Result<()> {
        let ipv4 = self.ipv4.socket.readable();
        match &self.ipv6 {
            Some(ipv6) => tokio::select! {
                ready = ipv4 => ready,
                ready = ipv6.socket.readable() => ready,
            },
            None => ipv4.await,
        }
    }

    /// Hands over what has arrived, up to a limit: who sent a datagram, to which address of ours
    /// (`None` when to many hosts at once), and what is in it.
    pub(super) fn receive(&mut self, mut take: impl FnMut(SocketAddr, Option<IpAddr>, &[u8])) {
        self.ipv4.receive(&mut self.buffers, &mut take);
        if let Some(ipv6) = &mut self.ipv6 {
            ipv6.receive(&mut self.buffers, &mut take);
        }
    }

    /// Sends a datagram from the address `source` of ours, or from the kernel's choice when there
    /// is none, or the kernel refuses it because it is not ours any longer. One that cannot leave
    /// now is repeated by the handshake's timer.
    pub(super) fn send(&self, destination: SocketAddr, source: Option<IpAddr>, payload: &[u8]) {
        // Without a source this is the second attempt for a datagram that an error was in the way
        // of which an earlier one had left on the socket.
        let sent = self
            .try_send(destination, source, payload)
            .or_else(|_| self.try_send(destination, None, payload));
        if let Err(error) = sent {
            debug!(%destination, %error, "cannot send a handshake message");
        }
    }

    fn try_send(
        &self,
        destination: SocketAddr,
        source: Option<IpAddr>,
        payload: &[u8],
    ) -> Result<(), Errno> {
        match (destination, &self.ipv6) {
            (SocketAddr::V4(to), _) => {
                let from = source.and_then(|source| match source {
                    IpAddr::V4(source) => Some(source),
                    IpAddr::V6(_) => None,
                });
                send_v4(self.ipv4.socket.as_raw_fd(), to, from, payload)
            }
            (SocketAddr::V6(to), Some(ipv6)) => {
                let from = source.and_then(|source| match source {
                    IpAddr::V6(source) => Some(source),
                    IpAddr::V4(_) => None,
                });
                send_v6(ipv6.socket.as_raw_fd(), to, from, payload)
            }
            (SocketAddr::V6(_), None) => Err(Errno::EAFNOSUPPORT),
        }
    }
}

/// A socket of one address family, and where the kernel writes whose each datagram is.
#[derive(Debug)]
struct Socket<S> {
    socket: UdpSocket,
    headers: MultiHeaders<S>,
}

impl<S: SockaddrLike + Copy + Into<SocketAddr>> Socket<S> {
    fn open(address: SocketAddr, shared: bool) -> io::Result<Self> {
        Ok(Self {
            socket: open(address, shared)?,
            // Room for the larger of both families' packet information.
            headers: MultiHeaders::preallocate(RECEIVE_MAX, Some(cmsg_space!(in6_pktinfo))),
        })
    }

    fn receive(
        &mut self,
        buffers: &mut Buffers,
        take: &mut impl FnMut(SocketAddr, Option<IpAddr>, &[u8]),
    ) {
        let descriptor = self.socket.as_raw_fd();
        let headers = &mut self.headers;
        let received = self.socket.try_io(Interest::READABLE, || {
            let mut parts = buffers
                .each_mut()
                .map(|buffer| [IoSliceMut::new(buffer.as_mut_slice())]);
            let flags = MsgFlags::MSG_DONTWAIT;
            for message in recvmmsg(descriptor, headers, parts.iter_mut(), flags, None)? {
                // An empty datagram has no part.
                let octets = message.iovs().next().unwrap_or_default();
                if let Some(source) = message.address {
                    take(source.into(), local_of(&message), octets);
                }
            }
            Ok(())
        });
        if let Err(error) = received
            && error.kind() != io::ErrorKind::WouldBlock
        {
            // About something sent earlier, not about what is received: the next turn goes on.
            debug!(%error, "error on a UDP socket");
        }
    }
}

/// The address of ours that a datagram was sent to. What was sent to many hosts at once tells
/// none over IPv6, and over IPv4 the one that an answer leaves from.
fn local_of<S>(message: &RecvMsg<'_, '_, S>) -> Option<IpAddr> {
    let local = message.cmsgs().ok()?.find_map(|information| {
        Some(match information {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => IpAddr::from(info.ipi6_addr.s6_addr),
            _ => return None,
        })
    })?;
    Some(local).filter(|local| !local.is_multicast() && !local.is_unspecified())
}

fn send_v4(
    descriptor: RawFd,
    destination: SocketAddrV4,
    source: Option<Ipv4Addr>,
    payload: &[u8],
) -> Result<(), Errno> {
    let information = source.map(|source| in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: in_addr {
            s_addr: u32::from_ne_bytes(source.octets()),
        },
        ipi_addr: in_addr { s_addr: 0 },
    });
    let control = information.as_ref().map(ControlMessage::Ipv4PacketInfo);
    let destination = SockaddrIn::from(destination);
    send_message(descriptor, &destination, control.as_slice(), payload)
}

fn send_v6(
    descriptor: RawFd,
    destination: SocketAddrV6,
    source: Option<Ipv6Addr>,
    payload: &[u8],
) -> Result<(), Errno> {
    let information = source.map(|source| in6_pktinfo {
        ipi6_addr: in6_addr {
            s6_addr: source.octets(),
        },
        ipi6_ifindex: 0,
    });
    let control = information.as_ref().map(ControlMessage::Ipv6PacketInfo);
    let destination = SockaddrIn6::from(destination);
    send_message(descriptor, &destination, control.as_slice(), payload)
}

fn send_message<S: SockaddrLike>(
    descriptor: RawFd,
    destination: &S,
    control: &[ControlMessage<'_>],
    payload: &[u8],
) -> Result<(), Errno> {
    let parts = [IoSlice::new(payload)];
    let flags = MsgFlags::MSG_DONTWAIT;
    sendmsg(descriptor, &parts, control, flags, Some(destination)).map(drop)
}

fn open(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = unbound_socket(address, false)?;
    // Before the first datagram can arrive: every one has its information.
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&socket, Ipv4PacketInfo, &true)?;
    }
    let sized = set_socket_recv_buffer_size_force(&socket, QUEUE)
        .or_else(|_| set_socket_recv_buffer_size(&socket, QUEUE));
    if let Err(error) = sized {
        debug!(%error, "a UDP socket's queue keeps its size");
    }
    bind(&socket, &address)?;
    // Only now, for the workers' sockets: before, the port could be shared with another engine's,
    // and each would get a part of what is sent to both.
    set_socket_reuseport(&socket, shared)?;
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
}

fn is_no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// What was received: from whom, to which address of ours, and what.
    type Received = (SocketAddr, Option<IpAddr>, Vec<u8>);

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A socket of somebody else's.
    fn other(ip: &str) -> std::net::UdpSocket {
        let socket = std::net::UdpSocket::bind((address(ip), 0)).expect("a loopback address");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        socket
    }

    fn port_v4(ours: &UdpSockets) -> u16 {
        ours.ipv4.socket.local_addr().expect("bound").port()
    }

    /// `None` where the machine has no IPv6.
    fn port_v6(ours: &UdpSockets) -> Option<u16> {
        let socket = &ours.ipv6.as_ref()?.socket;
        Some(socket.local_addr().expect("bound").port())
    }

    /// Waits for datagrams and takes one turn's.
    async fn one_turn(ours: &mut UdpSockets) -> Vec<Received> {
        let ready = tokio::time::timeout(PATIENCE, ours.readable()).await;
        ready.expect("in time").expect("a socket");
        let mut received = Vec::new();
        ours.receive(|source, local, octets| received.push((source, local, octets.to_vec())));
        received
    }

    /// Turns until something arrived: the runtime may wake for nothing.
    async fn next(ours: &mut UdpSockets) -> Received {
        loop {
            if let Some(first) = one_turn(ours).await.pop() {
                return first;
            }
        }
    }

    #[tokio::test]
    async fn the_address_that_a_datagram_was_sent_to_is_told() {
        let mut ours = UdpSockets::bind(0, false).expect("sockets");
        let other = other("127.0.0.1");
        let from = other.local_addr().expect("bound");
        for target in ["127.0.0.1", "127.0.0.2"] {
            let (target, payload) = (address(target), target.as_bytes());
            other
                .send_to(payload, (target, port_v4(&ours)))
                .expect("sent");
            let wanted = (from, Some(target), payload.to_vec());
            assert_eq!(next(&mut ours).await, wanted);
        }
    }

    #[tokio::test]
    async fn the_address_is_told_over_ipv6_too_where_the_machine_has_it() {
        let mut ours = UdpSockets::bind(0, false).expect("sockets");
        let Some(port) = port_v6(&ours) else { return };
        let other = other("::1");
        let from = other.local_addr().expect("bound");
        other.send_to(b"six", (address("::1"), port)).expect("sent");
        let wanted = (from, Some(address("::1")), b"six".to_vec());
        assert_eq!(next(&mut ours).await, wanted);
    }

    #[tokio::test]
    async fn a_datagram_leaves_from_the_address_asked_for() {
        let ours = UdpSockets::bind(0, false).expect("sockets");
        let other = other("127.0.0.1");
        let (destination, mut buffer) = (other.local_addr().expect("bound"), [0; 16]);
        for source in ["127.0.0.2", "127.0.0.3"] {
            ours.send(destination, Some(address(source)), b"from");
            let (len, from) = other.recv_from(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..len], b"from");
            assert_eq!(from, SocketAddr::new(address(source), port_v4(&ours)));
        }
    }

    #[tokio::test]
    async fn a_source_that_is_not_ours_or_of_the_other_family_gives_way_to_the_kernels_choice() {
        let ours = UdpSockets::bind(0, false).expect("sockets");
        let mut cases = vec![("127.0.0.1", port_v4(&ours))];
        cases.extend(port_v6(&ours).map(|port| ("::1", port)));
        for (ip, port) in cases {
            let other = other(ip);
            let (destination, mut buffer) = (other.local_addr().expect("bound"), [0; 16]);
            for source in [
                None,
                Some(address("192.0.2.77")),
                Some(address("2001:db8::77")),
            ] {
                ours.send(destination, source, b"anyway");
                let (_, from) = other.recv_from(&mut buffer).expect("a datagram");
                assert_eq!(from, SocketAddr::new(address(ip), port), "{source:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_flood_is_taken_in_turns_and_in_order() {
        const FLOOD: usize = 300;
        let mut ours = UdpSockets::bind(0, false).expect("sockets");
        let other = other("127.0.0.1");
        let target = (address("127.0.0.1"), port_v4(&ours));
        for number in 0..FLOOD {
            // Of all lengths, so that an earlier datagram's octets would show.
            let payload = vec![number as u8; FLOOD - number];
            other.send_to(&payload, target).expect("sent");
        }
        let mut taken = Vec::new();
        while taken.len() < FLOOD {
            let turn = one_turn(&mut ours).await;
            assert!(turn.len() <= RECEIVE_MAX, "{} in one turn", turn.len());
            taken.extend(turn);
        }
        for (number, (_, local, octets)) in taken.iter().enumerate() {
            assert_eq!(octets, &vec![number as u8; FLOOD - number]);
            assert_eq!(*local, Some(address("127.0.0.1")));
        }
    }

    #[tokio::test]
    async fn datagrams_without_octets_and_too_long_ones_do_no_harm() {
        let mut ours = UdpSockets::bind(0, false).expect("sockets");
        let other = other("127.0.0.1");
        let target = (address("127.0.0.1"), port_v4(&ours));
        for len in [0, 1, DATAGRAM_MAX, DATAGRAM_MAX + 1, 9000, 3] {
            other.send_to(&vec![7; len], target).expect("sent");
            let (_, _, octets) = next(&mut ours).await;
            assert_eq!(octets, vec![7; len.min(DATAGRAM_MAX)]);
        }
    }

    #[tokio::test]
    async fn a_port_is_shared_with_the_workers_and_with_no_other_engine() {
        let ours = UdpSockets::bind(0, true).expect("sockets");
        let port = port_v4(&ours);
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let workers = unbound_socket(any, true).expect("a socket");
        bind(&workers, &any).expect("a worker's socket joins");
        let refused = UdpSockets::bind(port, true).expect_err("another engine's");
        let text = refused.to_string();
        assert!(text.contains("in use"), "{text}");
    }

    #[tokio::test]
    async fn sending_where_nobody_listens_keeps_nothing_from_arriving() {
        let mut ours = UdpSockets::bind(0, false).expect("sockets");
        let nobody = other("127.0.0.1").local_addr().expect("bound");
        for _ in 0..3 {
            ours.send(nobody, None, b"hello?");
        }
        let other = other("127.0.0.1");
        let target = (address("127.0.0.1"), port_v4(&ours));
        other.send_to(b"here", target).expect("sent");
        assert_eq!(next(&mut ours).await.2, b"here");
        ours.send(other.local_addr().expect("bound"), None, b"there");
        let mut buffer = [0; 16];
        assert_eq!(other.recv_from(&mut buffer).expect("a datagram").0, 5);
    }
}
