//! System calls that no crate wraps safely: two socket options, `poll`, and ethtool's ioctls.
//!
//! Structures and numbers are those of the kernel's `include/uapi/linux/if_xdp.h` and
//! `include/uapi/linux/ethtool.h`.

use std::io;
use std::mem::{size_of, size_of_val};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};

/// Socket option of `SOL_XDP`: frames that one `sendto` sends at most.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// Bit in the value of the socket option `XDP_OPTIONS`: the socket was bound for zero copy.
const XDP_OPTIONS_ZEROCOPY: u32 = 1;

const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_SGSO: u32 = 0x24;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// Raises how many frames one kick sends from its default of 32, where the kernel can.
pub(super) fn set_tx_budget(fd: RawFd, frames: u32) {
    let (value, len) = (&raw const frames, size_of::<u32>() as libc::socklen_t);
    // SAFETY: `value` points to a live u32 whose size is passed along. Failure is harmless: a
    // kernel without the option sends fewer frames a kick.
    unsafe { libc::setsockopt(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, value.cast(), len) };
}

/// Whether the socket was bound for zero copy.
pub(super) fn is_zero_copy(fd: RawFd) -> bool {
    let mut flags = 0u32;
    let mut len = size_of_val(&flags) as libc::socklen_t;
    let value = &raw mut flags;
    // SAFETY: `value` and `len` point to live values, and `len` holds the size of the first.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_OPTIONS, value.cast(), &mut len) };
    result == 0 && flags & XDP_OPTIONS_ZEROCOPY != 0
}

/// The most descriptors that one `poll` waits for.
pub(super) const POLL_MAX: usize = 64;

/// Sleeps until something can be read from one of `fds` or the time is over.
pub(super) fn poll(fds: &[RawFd], timeout_ms: i32) -> io::Result<()> {
    let mut entries: arrayvec::ArrayVec<libc::pollfd, POLL_MAX> = fds
        .iter()
        .take(POLL_MAX)
        .map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
        .collect();
    let (first, count) = (entries.as_mut_ptr(), entries.len() as libc::nfds_t);
    // SAFETY: `first` points to `count` live entries.
    let ready = unsafe { libc::poll(first, count, timeout_ms) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(())
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct EthtoolChannels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx_count: u32,
    tx_count: u32,
    other_count: u32,
    combined_count: u32,
}

/// Runs an ethtool command on an interface.
fn ethtool<T>(interface: &str, command: &mut T) -> io::Result<()> {
    let name = interface.as_bytes();
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "interface name is too long"));
    }
    let socket = UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind(("::1", 0)));
    let socket = match socket {
        Ok(socket) => socket,
        // A namespace whose loopback is down still lets one bind to the wildcard.
        Err(_) => UdpSocket::bind(("0.0.0.0", 0))?,
    };
    // SAFETY: all-zero octets are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, &from) in request.ifr_name.iter_mut().zip(name) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut *command).cast();
    // SAFETY: `request` is live, its name ends in a zero, and its data points to `command`, a
    // structure of the size that its first field, the command's number, makes the kernel expect.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a local stack hand over frames with whole checksums and no longer than the MTU.
///
/// # Errors
/// When the driver refuses to switch checksum offload off.
pub fn disable_tx_offloads(interface: &str) -> io::Result<()> {
    for cmd in [ETHTOOL_STSO, ETHTOOL_SGSO] {
        // Switching checksums off takes segmentation with it; this is for drivers that do not.
        let _ = ethtool(interface, &mut EthtoolValue { cmd, data: 0 });
    }
    ethtool(interface, &mut EthtoolValue { cmd: ETHTOOL_STXCSUM, data: 0 })
}

/// How many receive queues an interface uses; 1 where the driver cannot say.
#[must_use]
pub fn receive_queues(interface: &str) -> u32 {
    let mut channels = EthtoolChannels { cmd: ETHTOOL_GCHANNELS, ..Default::default() };
    match ethtool(interface, &mut channels) {
        Ok(()) => (channels.combined_count + channels.rx_count).max(1),
        Err(_) => 1,
    }
}
