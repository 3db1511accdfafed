//! Taps: interfaces whose far end is the engine.
//!
//! Structures and numbers are those of the kernel's `include/uapi/linux/if_tun.h`. A tap that was
//! made here is gone when its last queue is closed, however the engine ends.

use std::ffi::{c_int, c_ulong};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use omni_offload::VNET_LEN_MERGEABLE;

/// Segmentation and checksums that the engine does for the kernel.
const OFFLOADS: u32 = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
/// The same of UDP, which kernels before 6.2 do not know.
const UDP_OFFLOADS: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// `struct ifreq` as `TUNSETIFF` reads it: a name and flags, in 40 octets.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    rest: [u8; 22],
}

/// A tap and its queues.
#[derive(Debug)]
pub struct TapDevice {
    pub(super) queues: Vec<OwnedFd>,
    pub(super) cuts_udp: bool,
}

impl TapDevice {
    /// Makes the tap `name` with so many queues. It is off.
    ///
    /// # Errors
    /// What the kernel refuses: without `CAP_NET_ADMIN` or `/dev/net/tun`, or `EBUSY` when there is
    /// an interface of that name.
    pub fn make(name: &str, queues: usize) -> io::Result<Self> {
        let several = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
        let queue = |n| {
            let first = if n == 0 { libc::IFF_TUN_EXCL } else { 0 };
            open_queue(name, several | first)
        };
        Self::with((0..queues).map(queue).collect::<io::Result<_>>()?)
    }

    /// Opens the tap `name`, which is there and waits for who opens it: one made by
    /// `ip tuntap add mode tap`, with `multi_queue` for more than one queue.
    ///
    /// # Errors
    /// What the kernel refuses: `EINVAL` when it is no tap or was made otherwise, `EBUSY` when
    /// somebody has it open, `EPERM` when it is another user's.
    pub fn borrow(name: &str, queues: usize) -> io::Result<Self> {
        let several = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
        let queues = (0..queues).map(|_| open_queue(name, several));
        Self::with(queues.collect::<io::Result<_>>()?)
    }

    /// Whether the kernel leaves UDP datagrams of one length to be cut, and takes such.
    #[must_use]
    pub fn cuts_udp(&self) -> bool {
        self.cuts_udp
    }

    fn with(queues: Vec<OwnedFd>) -> io::Result<Self> {
        let mut cuts_udp = true;
        for queue in &queues {
            if offer(queue, OFFLOADS | UDP_OFFLOADS).is_err() {
                cuts_udp = false;
                offer(queue, OFFLOADS)?;
            }
        }
        Ok(Self { queues, cuts_udp })
    }
}

fn open_queue(name: &str, flags: c_int) -> io::Result<OwnedFd> {
    let octets = name.as_bytes();
    if octets.len() >= libc::IFNAMSIZ {
        let why = "interface name is too long";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    let queue = OwnedFd::from(file);
    let mut request = InterfaceRequest {
        name: [0; libc::IFNAMSIZ],
        flags: (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | flags) as i16,
        rest: [0; 22],
    };
    request.name[..octets.len()].copy_from_slice(octets);
    // SAFETY: `request` has the layout and size of `struct ifreq` and outlives the call.
    check(unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    let len = VNET_LEN_MERGEABLE as c_int;
    // SAFETY: the kernel reads one int, which outlives the call.
    check(unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) })?;
    Ok(queue)
}

/// Tells the kernel what it may leave to the engine.
fn offer(queue: &OwnedFd, offloads: u32) -> io::Result<()> {
    let offloads = c_ulong::from(offloads);
    // SAFETY: the argument is a number, and no pointer.
    check(unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) })
}

fn check(done: c_int) -> io::Result<()> {
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
