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

/// Jobs from which on AVX-512 is faster than `ring` whatever their lengths: measured, 1.01 to 5
/// times as fast. With fewer most lanes are idle, while a pass takes as long.
#[cfg(target_arch = "x86_64")]
const AVX512_JOBS: usize = 3;

/// Octets in all, headers included, from which on AVX-512 is faster with one job or two as well,
/// since their blocks fill the lanes: up to 1.8 times as fast as `ring`. One message for an MTU of
/// 1500 is sealed as fast by either, and opened faster by `ring`.
#[cfg(target_arch = "x86_64")]
const AVX512_OCTETS: usize = 1900;

/// The most octets of a job, headers included, with which AVX2 is faster than `ring`: measured,
/// equal at about 900. Longer ones have passes of their own in either, and `ring` hides the tag's
/// work behind them.
#[cfg(target_arch = "x86_64")]
const AVX2_OCTETS: usize = 800;

/// Jobs of at most that length from which on AVX2 is faster than `ring`.
#[cfg(target_arch = "x86_64")]
const AVX2_JOBS: usize = 8;

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

    /// What this CPU works on many jobs with.
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(kernel) = Avx512::detect() {
            return Self(Inner::Avx512(kernel));
        } else if let Some(kernel) = Avx2::detect() {
            return Self(Inner::Avx2(kernel));
        }
        Self::RING
    }
}

/// Seals every job.
///
/// The caller vouches that no (key, lane, nonce) is ever sealed twice.
///
/// # Panics
/// When a job's message is shorter than its `plaintext_offset`, or that is below 32.
pub fn seal_batch(jobs: &mut [SealJob<'_>]) {
    for jobs in jobs.chunks_mut(BATCH_MAX) {
        work(Backend::best(), jobs, true);
    }
}

/// Opens every job and says in each whether its tag verified.
///
/// # Panics
/// When a job's frame holds no whole header at its offset.
pub fn open_batch(jobs: &mut [OpenJob<'_>]) {
    for jobs in jobs.chunks_mut(BATCH_MAX) {
        work(Backend::best(), jobs, true);
    }
}

/// [`seal_batch`] by one back-end, whether it pays or not: for tests and measurements.
///
/// # Panics
/// As [`seal_batch`].
#[doc(hidden)]
pub fn seal_batch_with(backend: Backend, jobs: &mut [SealJob<'_>]) {
    for jobs in jobs.chunks_mut(BATCH_MAX) {
        work(backend, jobs, false);
    }
}

/// [`open_batch`] by one back-end, whether it pays or not: for tests and measurements.
///
/// # Panics
/// As [`open_batch`].
#[doc(hidden)]
pub fn open_batch_with(backend: Backend, jobs: &mut [OpenJob<'_>]) {
    for jobs in jobs.chunks_mut(BATCH_MAX) {
        work(backend, jobs, false);
    }
}

/// What there is to do with a job of either kind.
trait Job: Sized {
    /// All that it is, headers included.
    fn octets(&self) -> usize;

    fn by_ring(&mut self);

    /// Has `kernel` work on the jobs that `picks` says, at most [`BATCH_MAX`].
    #[cfg(target_arch = "x86_64")]
    fn by_kernel(kernel: impl Kernel, jobs: &mut [Self], picks: impl Fn(&Self) -> bool);
}

/// Has a back-end work on up to [`BATCH_MAX`] jobs, or `ring` on those where it does not pay.
fn work<J: Job>(backend: Backend, jobs: &mut [J], must_pay: bool) {
    match backend.0 {
        Inner::Ring => jobs.iter_mut().for_each(J::by_ring),
        #[cfg(target_arch = "x86_64")]
        Inner::Avx512(kernel) => {
            let pays = jobs.len() >= AVX512_JOBS
                || jobs.iter().map(J::octets).sum::<usize>() >= AVX512_OCTETS;
            if pays || !must_pay {
                J::by_kernel(kernel, jobs, |_| true);
            } else {
                jobs.iter_mut().for_each(J::by_ring);
            }
        }
        #[cfg(target_arch = "x86_64")]
        Inner::Avx2(kernel) if must_pay => {
            let is_short = |job: &J| job.octets() <= AVX2_OCTETS;
            let pays = jobs.iter().filter(|job| is_short(job)).count() >= AVX2_JOBS;
            for job in &mut *jobs {
                if !pays || !is_short(job) {
                    job.by_ring();
                }
            }
            if pays {
                J::by_kernel(kernel, jobs, is_short);
            }
        }
        #[cfg(target_arch = "x86_64")]
        Inner::Avx2(kernel) => J::by_kernel(kernel, jobs, |_| true),
    }
}

impl Job for SealJob<'_> {
    fn octets(&self) -> usize {
        self.message.len()
    }

    fn by_ring(&mut self) {
        portable::seal(self);
    }

    #[cfg(target_arch = "x86_64")]
    fn by_kernel(kernel: impl Kernel, jobs: &mut [Self], picks: impl Fn(&Self) -> bool) {
        let mut packets: ArrayVec<_, BATCH_MAX> = ArrayVec::new();
        let picked = jobs.iter_mut().filter(|job| picks(job));
        packets.extend(picked.map(Packet::to_seal));
        drive::seal(kernel, &mut packets);
    }
}

impl Job for OpenJob<'_> {
    fn octets(&self) -> usize {
        self.frame.len()
    }

    fn by_ring(&mut self) {
        portable::open(self);
    }

    #[cfg(target_arch = "x86_64")]
    fn by_kernel(kernel: impl Kernel, jobs: &mut [Self], picks: impl Fn(&Self) -> bool) {
        let mut packets: ArrayVec<_, BATCH_MAX> = ArrayVec::new();
        let picked = jobs.iter_mut().filter(|job| picks(job));
        packets.extend(picked.map(Packet::to_open));
        let verified = drive::open(kernel, &mut packets);
        drop(packets);
        for (i, job) in jobs.iter_mut().filter(|job| picks(job)).enumerate() {
            job.verified = verified >> i & 1 == 1;
        }
    }
}
