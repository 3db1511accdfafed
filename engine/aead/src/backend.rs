//! Which back-end works on which jobs.

#[cfg(target_arch = "x86_64")]
use arrayvec::ArrayVec;

#[cfg(target_arch = "x86_64")]
use crate::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use crate::avx512::Avx512;
#[cfg(target_arch = "x86_64")]
use crate::drive::{self, Kernel};
#[cfg(target_arch = "x86_64")]
use crate::packet::Packet;
use crate::{BATCH_MAX, OpenJob, SealJob, portable};

/// A way to work on jobs that this CPU is able to.
#[derive(Clone, Copy, Debug)]
pub struct Backend(Inner);

#[derive(Clone, Copy, Debug)]
enum Inner {
    Ring,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Backend {
    /// Names of all that there are, for what tells of those that a CPU is not able to.
    pub const NAMES: [&str; 3] = ["ring", "avx2", "avx512"];

    /// `ring`, which is there on every CPU.
    pub const RING: Self = Self(Inner::Ring);

    /// The back-end of that name, if there is one and this CPU is able to.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "ring" => Some(Self::RING),
            #[cfg(target_arch = "x86_64")]
            "avx2" => Avx2::detect().map(Inner::Avx2).map(Self),
            #[cfg(target_arch = "x86_64")]
            "avx512" => Avx512::detect().map(Inner::Avx512).map(Self),
            _ => None,
        }
    }
}

/// Seals every job.
///
/// The caller vouches that no (key, lane, nonce) is ever sealed twice.
///
/// # Panics
/// When a job's message is shorter than its `plaintext_offset`, or that is below 32.
pub fn seal_batch(jobs: &mut [SealJob<'_>]) {
    let best = Backend::by_name("avx512").unwrap_or(Backend::RING);
    seal_batch_with(best, jobs);
}

/// Opens every job and says in each whether its tag verified.
///
/// # Panics
/// When a job's frame holds no whole header at its offset.
pub fn open_batch(jobs: &mut [OpenJob<'_>]) {
    let best = Backend::by_name("avx512").unwrap_or(Backend::RING);
    open_batch_with(best, jobs);
}

/// [`seal_batch`] by one back-end, whether it pays or not: for tests and measurements.
///
/// # Panics
/// As [`seal_batch`].
#[doc(hidden)]
pub fn seal_batch_with(backend: Backend, jobs: &mut [SealJob<'_>]) {
    for jobs in jobs.chunks_mut(BATCH_MAX) {
        match backend.0 {
            Inner::Ring => jobs.iter_mut().for_each(portable::seal),
            #[cfg(target_arch = "x86_64")]
            Inner::Avx2(kernel) => seal(kernel, jobs),
            #[cfg(target_arch = "x86_64")]
            Inner::Avx512(kernel) => seal(kernel, jobs),
        }
    }
}

/// [`open_batch`] by one back-end, whether it pays or not: for tests and measurements.
///
/// # Panics
/// As [`open_batch`].
#[doc(hidden)]
pub fn open_batch_with(backend: Backend, jobs: &mut [OpenJob<'_>]) {
    for jobs in jobs.chunks_mut(BATCH_MAX) {
        match backend.0 {
            Inner::Ring => jobs.iter_mut().for_each(portable::open),
            #[cfg(target_arch = "x86_64")]
            Inner::Avx2(kernel) => open(kernel, jobs),
            #[cfg(target_arch = "x86_64")]
            Inner::Avx512(kernel) => open(kernel, jobs),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn seal(kernel: impl Kernel, jobs: &mut [SealJob<'_>]) {
    let mut packets: ArrayVec<_, BATCH_MAX> = ArrayVec::new();
    packets.extend(jobs.iter_mut().map(Packet::to_seal));
    drive::seal(kernel, &mut packets);
}

#[cfg(target_arch = "x86_64")]
fn open(kernel: impl Kernel, jobs: &mut [OpenJob<'_>]) {
    let mut packets: ArrayVec<_, BATCH_MAX> = ArrayVec::new();
    packets.extend(jobs.iter_mut().map(Packet::to_open));
    let verified = drive::open(kernel, &mut packets);
    drop(packets);
    for (i, job) in jobs.iter_mut().enumerate() {
        job.verified = verified >> i & 1 == 1;
    }
}
