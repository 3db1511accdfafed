//! Packet sockets: whole frames from and to an interface, each behind a `virtio_net_hdr`
//! (packet(7), `linux/if_packet.h`).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use arrayvec::ArrayVec;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, GetSockOpt as _, LinkAddr, MsgFlags, MultiHeaders, SetSockOpt as _, SockFlag,
    SockProtocol, SockType, bind, recv, recvmmsg, socket,
};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use omni_offload::VNET_LEN;
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use crate::Failure;

/// The most frames of one system call.
pub(super) const BURST_MAX: usize = 32;
/// The longest message: a super-frame of 64 KiB with its headers.
const MESSAGE_MAX: usize = VNET_LEN + 18 + (64 << 10);
/// Octets of each queue, as the kernel counts them.
const QUEUE: usize = 32 << 20;

sockopt_impl!(
    VnetHdr,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_VNET_HDR,
    bool
);
sockopt_impl!(
    IgnoreOutgoing,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_IGNORE_OUTGOING,
    bool
);
sockopt_impl!(
    AddMembership,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_ADD_MEMBERSHIP,
    libc::packet_mreq
);
sockopt_impl!(
    Statistics,
    GetOnly,
    libc::SOL_PACKET,
    libc::PACKET_STATISTICS,
    libc::tpacket_stats
);

/// An interface, whose every frame comes here.
#[derive(Debug)]
pub(super) struct Port {
    name: String,
    socket: OwnedFd,
}

impl Port {
    /// Opens an interface of this namespace, in promiscuous mode for as long as this lives.
    pub(super) fn open(name: &str) -> Result<Self, Failure> {
        let named = |error: Errno| Failure::from(format!("interface {name}: {}", error.desc()));
        let address = address(name)?;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::EthAll;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, protocol);
        let socket = socket.map_err(named)?;
        // What this sends, and what the kernel itself sends here, is not to come back.
        IgnoreOutgoing.set(&socket, &true).map_err(named)?;
        VnetHdr.set(&socket, &true).map_err(named)?;
        bind(socket.as_raw_fd(), &address).map_err(named)?;
        let membership = libc::packet_mreq {
            mr_ifindex: address.ifindex() as libc::c_int,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        AddMembership.set(&socket, &membership).map_err(named)?;
        set_socket_recv_buffer_size_force(&socket, QUEUE)?;
        set_socket_send_buffer_size_force(&socket, QUEUE)?;
        // Until it was bound, frames of all interfaces came.
        while recv(socket.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_TRUNC).is_ok() {}
        let _ = Statistics.get(&socket);
        Ok(Self {
            name: name.to_owned(),
            socket,
        })
    }

    /// Reads what is there, up to a burst, and calls `each` with each message.
    ///
    /// # Errors
    /// When the interface is gone or down.
    pub(super) fn receive(
        &self,
        buffers: &mut Buffers,
        mut each: impl FnMut(&mut [u8]),
    ) -> io::Result<usize> {
        let mut headers: MultiHeaders<()> = MultiHeaders::preallocate(BURST_MAX, None);
        let mut lens: ArrayVec<usize, BURST_MAX> = ArrayVec::new();
        {
            let parts = buffers.0.each_mut();
            let mut parts = parts.map(|buffer| [IoSliceMut::new(buffer)]);
            let flags = MsgFlags::MSG_DONTWAIT;
            let fd = self.socket.as_raw_fd();
            match recvmmsg(fd, &mut headers, parts.iter_mut(), flags, None) {
                Ok(messages) => lens.extend(messages.map(|message| message.bytes)),
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(0),
                Err(error) => return Err(self.named(&error)),
            }
        }
        for (buffer, &length) in buffers.0.iter_mut().zip(&lens) {
            each(&mut buffer[..length]);
        }
        Ok(lens.len())
    }

    /// Sends frames in turn, and says how many the kernel took, and of how many octets; the others
    /// it refused.
    ///
    /// # Errors
    /// When the interface is gone.
    pub(super) fn send(&self, frames: &[Vec<u8>]) -> io::Result<(u64, u64)> {
        let (mut rest, mut sent, mut octets) = (frames, 0, 0);
        while !rest.is_empty() {
            let burst = &rest[..rest.len().min(BURST_MAX)];
            match self.send_burst(burst) {
                Ok(count) => {
                    sent += count as u64;
                    octets += rest[..count]
                        .iter()
                        .map(|frame| frame.len() as u64)
                        .sum::<u64>();
                    rest = &rest[count..];
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error @ (rustix::io::Errno::NODEV | rustix::io::Errno::NXIO)) => {
                    return Err(self.named(&error));
                }
                // It is the first one that was refused: too long, no room, or the other end of
                // the link is down.
                Err(_) => rest = &rest[1..],
            }
        }
        Ok((sent, octets))
    }

    fn send_burst(&self, frames: &[Vec<u8>]) -> rustix::io::Result<usize> {
        const NOTHING: [u8; VNET_LEN] = [0; VNET_LEN];
        let slices: ArrayVec<[IoSlice<'_>; 2], BURST_MAX> = frames
            .iter()
            .map(|frame| [IoSlice::new(&NOTHING), IoSlice::new(frame)])
            .collect();
        let mut controls: ArrayVec<SendAncillaryBuffer<'_, '_, '_>, BURST_MAX> = frames
            .iter()
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let mut headers: ArrayVec<MMsgHdr<'_>, BURST_MAX> = slices
            .iter()
            .zip(controls.iter_mut())
            .map(|(slices, control)| MMsgHdr::new(slices, control))
            .collect();
        sendmmsg(&self.socket, &mut headers, SendFlags::DONTWAIT)
    }

    /// Frames that the kernel dropped since this was asked last, as nobody read them in time.
    pub(super) fn overruns(&self) -> io::Result<u64> {
        let statistics = Statistics.get(&self.socket);
        let statistics = statistics.map_err(|error| self.named(&error))?;
        Ok(u64::from(statistics.tp_drops))
    }

    fn named(&self, error: &dyn std::fmt::Display) -> io::Error {
        io::Error::other(format!("interface {}: {error}", self.name))
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Memory for a burst of messages.
#[derive(Debug)]
pub(super) struct Buffers([Vec<u8>; BURST_MAX]);

impl Buffers {
    /// Of the longest messages that there are.
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| vec![0; MESSAGE_MAX]))
    }
}

/// An interface's address for packet sockets.
fn address(name: &str) -> Result<LinkAddr, Failure> {
    let mut all = getifaddrs()?.filter(|one| one.interface_name == name);
    let found = all.find_map(|one| one.address?.as_link_addr().copied());
    found.ok_or_else(|| format!("there is no interface {name}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_found_by_name() {
        assert!(address("lo").expect("every host has it").ifindex() > 0);
        let said = Port::open("nowhere")
            .expect_err("there is none")
            .to_string();
        assert_eq!(said, "there is no interface nowhere");
    }
}
