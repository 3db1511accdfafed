//! System calls that no crate wraps safely: socket options and `poll`.
//!
//! Structures and numbers are those of the kernel's `include/uapi/linux/if_xdp.h`.

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Socket option of `SOL_XDP`: frames that one `sendto` sends at most.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// Bit in the value of the socket option `XDP_OPTIONS`: the socket was bound for zero copy.
const XDP_OPTIONS_ZEROCOPY: u32 = 1;

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

/// Whether the kernel has AF_XDP and gives this process such sockets.
pub fn afxdp_is_there() -> bool {
    socket_with(
        AddressFamily::XDP,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )
    .is_ok()
}

/// `poll` takes no notice of it.
const NO_FD: RawFd = -1;

/// The descriptors that a worker sleeps on.
#[derive(Debug)]
pub(super) struct PollSet {
    /// What wakes the worker, then those that were added.
    entries: Vec<libc::pollfd>,
}

impl PollSet {
    pub(super) fn new() -> Self {
        Self {
            entries: vec![entry(NO_FD)],
        }
    }

    /// Adds one for good.
    pub(super) fn add(&mut self, fd: RawFd) {
        self.entries.push(entry(fd));
    }

    /// Sleeps until something can be read from one of them or from `wake`, or the time is over.
    pub(super) fn wait(&mut self, wake: RawFd, timeout_ms: i32) -> io::Result<()> {
        self.entries[0] = entry(wake);
        poll_entries(&mut self.entries, timeout_ms)
    }
}

fn entry(fd: RawFd) -> libc::pollfd {
    libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}

/// Looks whether something can be read from `fd`, which wakes its driver.
pub(super) fn poll_now(fd: RawFd) -> io::Result<()> {
    poll_entries(&mut [entry(fd)], 0)
}

fn poll_entries(entries: &mut [libc::pollfd], timeout_ms: i32) -> io::Result<()> {
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

/// Makes an interface receive frames for every address, for as long as this lives.
///
/// The kernel counts those who want it, and forgets a process that ends in whatever way.
#[derive(Debug)]
pub struct Promiscuous {
    _socket: OwnedFd,
}

impl Promiscuous {
    /// Asks for it.
    ///
    /// # Errors
    /// What the kernel refuses: without `CAP_NET_RAW`, or when the interface is gone.
    pub fn new(ifindex: u32) -> io::Result<Self> {
        // Protocol 0: the socket itself receives nothing.
        let socket = socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let mr_ifindex = i32::try_from(ifindex)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no such interface"))?;
        let membership = libc::packet_mreq {
            mr_ifindex,
            mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        let (value, len) = (
            &raw const membership,
            size_of_val(&membership) as libc::socklen_t,
        );
        // SAFETY: `value` points to a live `packet_mreq` whose size is passed along.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                value.cast(),
                len,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { _socket: socket })
    }
}

/// Makes a system call, for tests of what may be called.
#[cfg(test)]
pub(crate) fn raw_call(number: libc::c_long, arguments: [libc::c_long; 6]) {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: whoever asks passes no address but null, which the kernel refuses, so that it writes
    // nowhere; memory that is mapped anew is nobody's.
    unsafe { libc::syscall(number, a, b, c, d, e, f) };
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn any_of_many_descriptors_ends_a_sleep() {
        let made = (0..200).map(|_| eventfd(0, EventfdFlags::NONBLOCK).expect("a descriptor"));
        let made: Vec<OwnedFd> = made.collect();
        let (wake, queues) = made.split_first().expect("some");
        let mut set = PollSet::new();
        for queue in queues {
            set.add(queue.as_raw_fd());
        }
        let mut sleep = |millis| {
            let start = Instant::now();
            set.wait(wake.as_raw_fd(), millis).expect("a sleep");
            start.elapsed()
        };
        assert!(sleep(20) >= Duration::from_millis(19), "nothing happened");
        for ready in [wake, &queues[0], &queues[198]] {
            rustix::io::write(ready, &1u64.to_ne_bytes()).expect("a write");
            assert!(sleep(10_000) < Duration::from_secs(5));
            rustix::io::read(ready, &mut [0u8; 8]).expect("a read");
        }
    }
}
