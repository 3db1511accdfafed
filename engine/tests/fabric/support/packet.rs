//! Raw frames on an interface (`packet(7)`), with the VLAN tag that the kernel takes out of them
//! put back in.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use super::netns::Namespace;

/// The longest frame taken.
const FRAME_MAX: usize = 10_000;
/// Somebody who waits for so long for silence waits for ever.
const ENDLESS: Duration = Duration::from_secs(10);
/// Octets before the VLAN tag: destination and source.
const ADDRESSES: usize = 12;
/// Octets of `struct cmsghdr` on 64-bit machines, after which its data begins.
const CONTROL_HEADER: usize = 16;

/// A socket that sends and receives whole frames on one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Opens it on an interface of a namespace; it receives what comes in there, not what leaves.
    pub(crate) fn open(namespace: &Namespace, interface: &str) -> Self {
        let opened = namespace.enter(|| Self::try_open(interface));
        opened.unwrap_or_else(|error| panic!("packet socket on {interface}: {error}"))
    }

    fn try_open(interface: &str) -> io::Result<Self> {
        let family = AddressFamily::PACKET;
        let flags = SocketFlags::CLOEXEC;
        // Without a protocol it receives nothing, of any interface, until it is bound to one.
        let socket = rustix::net::socket_with(family, SocketType::RAW, flags, None)?;
        for option in [libc::PACKET_AUXDATA, libc::PACKET_IGNORE_OUTGOING] {
            switch_on(&socket, option)?;
        }
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 16 << 20)?;
        let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
        bind(&socket, index as i32)?;
        Ok(Self { socket })
    }

    /// Sends a whole frame.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        Ok(rustix::net::send(&self.socket, frame, SendFlags::empty()).map(|_| ())?)
    }

    /// Waits for the next frame for so long, and says when it came.
    pub(crate) fn next_at(&self, within: Duration) -> Option<Instant> {
        set_socket_timeout(&self.socket, Timeout::Recv, Some(within)).expect("a socket");
        self.receive().map(|_| Instant::now())
    }

    /// Every frame that is here, or arrives before nothing came for `quiet`.
    pub(crate) fn drain(&self, quiet: Duration) -> Vec<Vec<u8>> {
        set_socket_timeout(&self.socket, Timeout::Recv, Some(quiet)).expect("a socket");
        let start = Instant::now();
        let next = || {
            assert!(start.elapsed() < ENDLESS, "frames do not stop coming");
            self.receive()
        };
        std::iter::from_fn(next).collect()
    }

    /// The next frame, tag and all.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; FRAME_MAX];
        let mut control = [0u64; 32];
        let mut part = libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        };
        // SAFETY: `msghdr` is plain data for which all zeros mean absent parts.
        let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the message points to `frame` and `control`, which outlive the call, with their
        // lengths.
        let len = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let len = usize::try_from(len).ok()?;
        frame.truncate(len);
        let used = message.msg_controllen.min(size_of_val(&control));
        let octets: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
        if let Some(tag) = tag_of(&octets[..used]) {
            frame.splice(ADDRESSES..ADDRESSES, tag);
        }
        Some(frame)
    }
}

/// The tag that the kernel took out, from the message's `tpacket_auxdata`.
fn tag_of(control: &[u8]) -> Option<[u8; 4]> {
    let word = |at: usize| {
        Some(u32::from_ne_bytes(
            control.get(at..at + 4)?.try_into().ok()?,
        ))
    };
    let half = |at: usize| {
        Some(u16::from_ne_bytes(
            control.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    let level_and_type = (word(8)? as i32, word(12)? as i32);
    if level_and_type != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    // Status, length, captured length: 4 octets each; offsets: 2 each; then the tag.
    let status = word(CONTROL_HEADER)?;
    if status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let (tci, tpid) = (half(CONTROL_HEADER + 16)?, half(CONTROL_HEADER + 18)?);
    let ([a, b], [c, d]) = (tpid.to_be_bytes(), tci.to_be_bytes());
    Some([a, b, c, d])
}

fn bind(socket: &OwnedFd, index: i32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `address` is a `sockaddr_ll` of `len` octets that outlives the call.
    let done = unsafe { libc::bind(fd, (&raw const address).cast(), len) };
    check(done)
}

fn switch_on(socket: &OwnedFd, option: i32) -> io::Result<()> {
    let on: i32 = 1;
    let len = size_of_val(&on) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    let value = (&raw const on).cast();
    // SAFETY: `value` points to an int of `len` octets that outlives the call.
    let done = unsafe { libc::setsockopt(fd, libc::SOL_PACKET, option, value, len) };
    check(done)
}

fn check(done: i32) -> io::Result<()> {
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
