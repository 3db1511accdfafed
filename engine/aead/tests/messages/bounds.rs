//! Nothing is read or written outside a job's slice: there are pages without access on both sides.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::null_mut;

use crate::support::{HEADER, Noise, kernels};
use omni_aead::{Key, OpenJob, SealJob, open_batch_with, seal_batch_with};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// Octets of a page, at most.
const PAGE: usize = 1 << 16;

/// Memory between two pages without access.
struct Guarded {
    start: *mut c_void,
}

impl Guarded {
    fn new() -> Self {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: the kernel chooses the place; nobody has a pointer to it yet.
        let start = unsafe { mmap_anonymous(null_mut(), 3 * PAGE, access, flags) };
        let start = start.expect("three pages");
        for page in [0, 2] {
            // SAFETY: the page is part of the mapping.
            let guard = unsafe { start.byte_add(page * PAGE) };
            // SAFETY: the page is ours, and nobody has a reference into it.
            let done = unsafe { mprotect(guard, PAGE, MprotectFlags::empty()) };
            done.expect("a page of ours");
        }
        Self { start }
    }

    /// `len` octets right behind the first guard or right before the second.
    fn slice(&mut self, len: usize, at_end: bool) -> &mut [u8] {
        assert!(len <= PAGE);
        let offset = if at_end { 2 * PAGE - len } else { PAGE };
        // SAFETY: the place is within the mapping.
        let place = unsafe { self.start.byte_add(offset) }.cast();
        // SAFETY: the octets are in the page with access, initialised by the kernel, and borrowed
        // from `self` for as long as they are used.
        unsafe { std::slice::from_raw_parts_mut(place, len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and slices of it have ended with the borrow.
        let done = unsafe { munmap(self.start, 3 * PAGE) };
        done.expect("a mapping of ours");
    }
}

/// Payloads around every border of a block and of a pass, and the longest.
fn lens() -> impl Iterator<Item = usize> {
    (0..300)
        .chain((500..2200).step_by(31))
        .chain([1023, 1024, 1025, 9000, 9100])
}

#[test]
fn sealing_and_opening_stay_within_their_slices() {
    let key = Key::new(&[3; 32]);
    for (name, backend) in kernels() {
        let mut noise = Noise(8);
        let mut memory: Vec<Guarded> = (0..9).map(|_| Guarded::new()).collect();
        for (i, len) in lens().enumerate() {
            for at_end in [false, true] {
                // One message, or as many as share a pass.
                let count = if i % 2 == 0 { 1 } else { memory.len() };
                let shift = i % 3 * 20;
                let payload = noise.octets(len);
                let mut jobs: Vec<SealJob<'_>> = Vec::new();
                for memory in &mut memory[..count] {
                    let message = memory.slice(HEADER + shift + len, at_end);
                    message[..HEADER].fill(i as u8);
                    message[HEADER + shift..].copy_from_slice(&payload);
                    jobs.push(SealJob {
                        key: &key,
                        message,
                        plaintext_offset: HEADER + shift,
                    });
                }
                seal_batch_with(backend, &mut jobs);
                let sealed = jobs[0].message[..HEADER + len].to_vec();
                let mut jobs: Vec<OpenJob<'_>> = Vec::new();
                for memory in &mut memory[..count] {
                    let frame = memory.slice(shift + HEADER + len, at_end);
                    frame[shift..].copy_from_slice(&sealed);
                    jobs.push(OpenJob {
                        key: &key,
                        frame,
                        header_offset: shift,
                        verified: false,
                    });
                }
                open_batch_with(backend, &mut jobs);
                for job in jobs {
                    assert!(job.verified && job.frame[..len] == payload, "{name}: {len}");
                }
            }
        }
    }
}
