//! A loaded program with everything set that it steers by, and frames for it.

use std::net::IpAddr;

use omni_xdp_redirect::{DryRun, Kind, Redirect};

use super::frame::Frame;
use super::root::require_root;
use super::xsk::Xsk;

pub(crate) const PORT: u16 = 51820;
pub(crate) const V4: &str = "192.0.2.1";
pub(crate) const V6: &str = "2001:db8::1";

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn v4() -> Frame {
    Frame::to(address(V4), PORT)
}

pub(crate) fn v6() -> Frame {
    Frame::to(address(V6), PORT)
}

/// The program with a socket on queue 0; the underlay one with port and addresses.
pub(crate) struct Bench {
    pub(crate) program: Redirect,
    pub(crate) socket: Xsk,
}

impl Bench {
    pub(crate) fn new(kind: Kind) -> Self {
        require_root();
        let mut program = Redirect::load(kind).unwrap();
        let socket = Xsk::new();
        program.set_socket(0, &socket).unwrap();
        if kind == Kind::Underlay {
            program.set_port(PORT).unwrap();
            program.add_local(address(V4)).unwrap();
            program.add_local(address(V6)).unwrap();
        }
        Self { program, socket }
    }

    pub(crate) fn run(&self, frame: &Frame) -> DryRun {
        self.program.dry_run(&frame.octets()).unwrap()
    }
}

/// The clock that frames are stamped by.
pub(crate) fn boottime_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec, which `now` is.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    assert_eq!(read, 0);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
