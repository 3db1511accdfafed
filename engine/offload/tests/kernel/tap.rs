//! Taps with `IFF_VNET_HDR`, and the few system calls that have no safe form.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use omni_offload::VnetHeader;

use crate::namespace::Namespace;

/// Everything that this crate can do for a kernel.
pub(crate) const ALL_OFFLOADS: u32 = libc::TUN_F_CSUM
    | libc::TUN_F_TSO4
    | libc::TUN_F_TSO6
    | libc::TUN_F_TSO_ECN
    | libc::TUN_F_USO4
    | libc::TUN_F_USO6;

/// Octets of an Ethernet header with two tags, and of the longest packet.
const FRAME_MAX: usize = 22 + 65_535;

/// `struct ifreq` as `TUNSETIFF` reads it: a name and flags, in 40 octets.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// A tap of a namespace, which is gone when this is dropped.
pub(crate) struct Tap {
    file: File,
    header_len: usize,
    buffer: Vec<u8>,
}

impl Tap {
    /// Makes one. `offloads` is what the kernel may leave to its reader.
    pub(crate) fn open(
        namespace: &Namespace,
        name: &str,
        header_len: usize,
        offloads: u32,
    ) -> Self {
        let opened = namespace.enter(|| Self::try_open(name, header_len, offloads));
        opened.unwrap_or_else(|error| panic!("tap {name}: {error}"))
    }

    fn try_open(name: &str, header_len: usize, offloads: u32) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")?;
        let mut request = InterfaceRequest {
            name: [0; 16],
            flags: (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16,
            rest: [0; 22],
        };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        let fd = file.as_raw_fd();
        // SAFETY: `request` has the layout and size of `struct ifreq` and outlives the call.
        check(unsafe { libc::ioctl(fd, libc::TUNSETIFF, &raw mut request) })?;
        let len = header_len as c_int;
        // SAFETY: the kernel reads one int, which outlives the call.
        check(unsafe { libc::ioctl(fd, libc::TUNSETVNETHDRSZ, &raw const len) })?;
        // SAFETY: the argument is a number, and no pointer.
        check(unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) })?;
        Ok(Self {
            file,
            header_len,
            buffer: vec![0; header_len + FRAME_MAX],
        })
    }

    /// The next frame with the header before it, if there is one.
    pub(crate) fn read(&mut self) -> Option<(&[u8], &[u8])> {
        match self.file.read(&mut self.buffer) {
            Ok(len) => Some(self.buffer[..len].split_at(self.header_len)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("reading a tap: {error}"),
        }
    }

    /// Writes a frame in pieces.
    pub(crate) fn write(&mut self, vnet: &VnetHeader, pieces: &[&[u8]]) {
        let header = vnet.emit();
        let mut slices = vec![IoSlice::new(&header[..self.header_len])];
        slices.extend(pieces.iter().map(|piece| IoSlice::new(piece)));
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let written = self.file.write_vectored(&slices);
        assert_eq!(written.expect("the kernel takes it"), len);
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Lets the kernel cut what is written to a socket into datagrams of so many octets.
pub(crate) fn set_segment_size(socket: &UdpSocket, octets: u16) {
    let size = c_int::from(octets);
    let len = size_of_val(&size) as libc::socklen_t;
    let value = (&raw const size).cast();
    let fd = socket.as_raw_fd();
    // SAFETY: `value` points to an int of `len` octets that outlives the call.
    let done = unsafe { libc::setsockopt(fd, libc::SOL_UDP, libc::UDP_SEGMENT, value, len) };
    check(done).expect("UDP segmentation, since Linux 4.18");
}

fn check(done: c_int) -> io::Result<()> {
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
