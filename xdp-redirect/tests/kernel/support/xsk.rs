//! An AF_XDP socket with memory and rings: what the kernel wants to see in a socket map.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Octets of one buffer.
pub(crate) const CHUNK_LEN: usize = 4096;

/// Buffers, and places in each ring.
pub(crate) const CHUNKS: u32 = 16;

/// A socket that is set up and not bound.
pub(crate) struct Xsk {
    fd: OwnedFd,
    memory: Mapping,
}

impl Xsk {
    pub(crate) fn new() -> Self {
        // SAFETY: makes a new descriptor, or fails; no memory is involved.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        assert!(fd >= 0, "AF_XDP socket: {}", io::Error::last_os_error());
        // SAFETY: the descriptor was made above, and nothing else closes it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let memory = Mapping::new(CHUNK_LEN * CHUNKS as usize, None);
        let socket = Self { fd, memory };
        let registration = libc::xdp_umem_reg {
            addr: socket.memory.start as u64,
            len: socket.memory.len as u64,
            chunk_size: CHUNK_LEN as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        socket.set_option(libc::XDP_UMEM_REG, &registration);
        for ring in [
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_RX_RING,
        ] {
            socket.set_option(ring, &CHUNKS);
        }
        socket
    }

    /// The buffers, one after the other.
    pub(crate) fn memory(&self) -> &Mapping {
        &self.memory
    }

    fn set_option<T: Copy>(&self, option: libc::c_int, value: &T) {
        let len = size_of::<T>() as libc::socklen_t;
        let value = ptr::from_ref(value).cast();
        // SAFETY: the kernel reads `len` octets from `value`, which lives until the call returns.
        let set = unsafe { libc::setsockopt(self.as_raw_fd(), libc::SOL_XDP, option, value, len) };
        assert_eq!(
            set,
            0,
            "AF_XDP option {option}: {}",
            io::Error::last_os_error()
        );
    }
}

impl AsRawFd for Xsk {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Pages of memory, given back when dropped.
pub(crate) struct Mapping {
    start: *mut libc::c_void,
    len: usize,
}

impl Mapping {
    /// Anonymous memory, or the ring of a socket that stands at an offset.
    pub(crate) fn new(len: usize, ring: Option<(RawFd, libc::off_t)>) -> Self {
        let anonymous = if ring.is_none() {
            libc::MAP_ANONYMOUS
        } else {
            0
        };
        let (fd, offset) = ring.unwrap_or((-1, 0));
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | anonymous;
        // SAFETY: asks for a new mapping at an address that the kernel chooses.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, fd, offset) };
        assert_ne!(
            start,
            libc::MAP_FAILED,
            "mmap: {}",
            io::Error::last_os_error()
        );
        Self { start, len }
    }

    /// Where a value stands, which must lie within.
    pub(crate) fn at<T>(&self, place: usize) -> *mut T {
        assert!(
            place + size_of::<T>() <= self.len,
            "octet {place} of {}",
            self.len
        );
        self.start.wrapping_byte_add(place).cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and no reference into it is
        // left: all reads copy out.
        unsafe { libc::munmap(self.start, self.len) };
    }
}
