//! The receiving side of a bound AF_XDP socket, as simple as it can be.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use omni_xdp_redirect::{META_LEN, Meta};

use super::xsk::{CHUNK_LEN, CHUNKS, Mapping, Xsk};

/// What arrived, with what the program wrote before it.
pub(crate) struct Received {
    pub(crate) meta: Meta,
    pub(crate) frame: Vec<u8>,
}

/// A socket bound to a receive queue in copy mode, with all its buffers posted once.
pub(crate) struct Receiver {
    socket: Xsk,
    rx: Mapping,
    rx_at: libc::xdp_ring_offset,
    taken: u32,
}

impl Receiver {
    pub(crate) fn bind(interface: &str, queue: u32) -> Self {
        let socket = Xsk::new();
        let offsets = socket.ring_offsets();
        let fill_len = offsets.fr.desc as usize + CHUNKS as usize * size_of::<u64>();
        let fill = socket.map_ring(fill_len, libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t);
        for nth in 0..CHUNKS {
            let place = offsets.fr.desc as usize + nth as usize * size_of::<u64>();
            fill.write(place, u64::from(nth) * CHUNK_LEN as u64);
        }
        fill.index(offsets.fr.producer as usize)
            .store(CHUNKS, Ordering::Release);

        let rx_len = offsets.rx.desc as usize + CHUNKS as usize * size_of::<libc::xdp_desc>();
        let rx = socket.map_ring(rx_len, libc::XDP_PGOFF_RX_RING);
        bind(&socket, interface, queue);
        Self {
            socket,
            rx,
            rx_at: offsets.rx,
            taken: 0,
        }
    }

    pub(crate) fn socket(&self) -> &Xsk {
        &self.socket
    }

    /// The next frame, waited for up to two seconds.
    pub(crate) fn receive(&mut self) -> Option<Received> {
        if !self.has_more() {
            self.wait(2_000);
        }
        if !self.has_more() {
            return None;
        }
        let slot = (self.taken % CHUNKS) as usize;
        let place = self.rx_at.desc as usize + slot * size_of::<libc::xdp_desc>();
        let descriptor: libc::xdp_desc = self.rx.read(place);
        self.taken += 1;
        let start = descriptor.addr as usize;
        let meta: [u8; META_LEN] = self.socket.memory().read(start - META_LEN);
        let octets = start..start + descriptor.len as usize;
        let frame = octets
            .map(|place| self.socket.memory().read::<u8>(place))
            .collect();
        Some(Received {
            meta: Meta::parse(&meta),
            frame,
        })
    }

    fn has_more(&self) -> bool {
        self.rx
            .index(self.rx_at.producer as usize)
            .load(Ordering::Acquire)
            != self.taken
    }

    fn wait(&self, timeout_ms: libc::c_int) {
        let mut ready = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the kernel reads and writes the one record that `ready` is.
        unsafe { libc::poll(&raw mut ready, 1, timeout_ms) };
    }
}

/// The kernel's number of an interface.
pub(crate) fn interface_index(interface: &str) -> u32 {
    let name = CString::new(interface).unwrap();
    // SAFETY: `name` ends with NUL and lives until the call returns.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "{interface}: {}", io::Error::last_os_error());
    index
}

fn bind(socket: &Xsk, interface: &str, queue: u32) {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_COPY,
        sxdp_ifindex: interface_index(interface),
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let len = size_of_val(&address) as libc::socklen_t;
    let address = (&raw const address).cast();
    // SAFETY: the kernel reads `len` octets of the address, which lives until the call returns.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), address, len) };
    assert_eq!(
        bound,
        0,
        "bind to {interface}, queue {queue}: {}",
        io::Error::last_os_error()
    );
}

impl Xsk {
    fn ring_offsets(&self) -> libc::xdp_mmap_offsets {
        // SAFETY: all fields are numbers, for which zero is a value.
        let mut offsets: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&offsets) as libc::socklen_t;
        let value = (&raw mut offsets).cast();
        let (fd, option) = (self.as_raw_fd(), libc::XDP_MMAP_OFFSETS);
        // SAFETY: the kernel writes at most `len` octets, the size of `offsets`.
        let read = unsafe { libc::getsockopt(fd, libc::SOL_XDP, option, value, &raw mut len) };
        assert_eq!(read, 0, "XDP_MMAP_OFFSETS: {}", io::Error::last_os_error());
        offsets
    }

    fn map_ring(&self, len: usize, offset: libc::off_t) -> Mapping {
        Mapping::new(len, Some((self.as_raw_fd(), offset)))
    }
}

impl Mapping {
    /// An index that kernel and test share.
    fn index(&self, place: usize) -> &AtomicU32 {
        let at = self.at::<u32>(place).cast::<AtomicU32>();
        // SAFETY: `at` is within the mapping, aligned, and lives as long as `self`; both sides
        // use the index atomically only.
        unsafe { &*at }
    }

    fn read<T: Copy>(&self, place: usize) -> T {
        // SAFETY: `at` checks the bounds; the kernel wrote this part before it moved the index
        // that the caller read, and does not write it again, as no buffer is posted twice.
        unsafe { self.at::<T>(place).read_unaligned() }
    }

    fn write<T: Copy>(&self, place: usize, value: T) {
        // SAFETY: `at` checks the bounds; the kernel reads this part only after the index moves.
        unsafe { self.at::<T>(place).write_unaligned(value) }
    }
}
