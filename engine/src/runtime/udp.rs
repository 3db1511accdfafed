//! The kernel's UDP sockets on the fabric's port: handshakes come and go here, data does not.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::sockopt::set_ipv6_v6only;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::net::UdpSocket;
use tracing::debug;

use super::EngineError;

/// Datagrams taken before the loop looks at the rest again.
const RECEIVE_MAX: usize = 64;
/// Longer than any message without a session: what does not fit is refused by its length.
const DATAGRAM_MAX: usize = 2048;

/// One socket for each address family the host has.
#[derive(Debug)]
pub(super) struct UdpSockets {
    ipv4: UdpSocket,
    ipv6: Option<UdpSocket>,
}

impl UdpSockets {
    /// Binds the port on all addresses.
    pub(super) fn bind(port: u16) -> Result<Self, EngineError> {
        let ipv4 = open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        let ipv4 = ipv4.map_err(|source| EngineError::UdpPort { port, source })?;
        let ipv6 = match open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            Ok(socket) => Some(socket),
            Err(source) if is_no_ipv6(&source) => None,
            Err(source) => return Err(EngineError::UdpPort { port, source }),
        };
        Ok(Self { ipv4, ipv6 })
    }

    /// Waits until a datagram can be received.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match &self.ipv6 {
            Some(ipv6) => tokio::select! {
                ready = self.ipv4.readable() => ready,
                ready = ipv6.readable() => ready,
            },
            None => self.ipv4.readable().await,
        }
    }

    /// Hands over what has arrived, up to a limit.
    pub(super) fn receive(&self, mut take: impl FnMut(SocketAddr, &[u8])) {
        let mut buffer = [0; DATAGRAM_MAX];
        for socket in [Some(&self.ipv4), self.ipv6.as_ref()].into_iter().flatten() {
            for _ in 0..RECEIVE_MAX {
                match socket.try_recv_from(&mut buffer) {
                    Ok((len, source)) => take(source, &buffer[..len]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An ICMP error about something sent earlier: not about what is received.
                    Err(_) => {}
                }
            }
        }
    }

    /// Sends a datagram. One that cannot leave now is repeated by the handshake's timer.
    pub(super) fn send(&self, destination: SocketAddr, payload: &[u8]) {
        let socket = match (destination, &self.ipv6) {
            (SocketAddr::V4(_), _) => &self.ipv4,
            (SocketAddr::V6(_), Some(ipv6)) => ipv6,
            (SocketAddr::V6(_), None) => {
                return debug!(%destination, "this host has no IPv6");
            }
        };
        // An error left by an earlier datagram's ICMP answer hides this one: send it again.
        let sent = socket
            .try_send_to(payload, destination)
            .or_else(|_| socket.try_send_to(payload, destination));
        if let Err(error) = sent {
            debug!(%destination, %error, "cannot send a handshake message");
        }
    }
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
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
    bind(&socket, &address)?;
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
}

fn is_no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}
