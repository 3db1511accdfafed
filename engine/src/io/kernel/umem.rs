//! The UMEM: one area of memory that all sockets of the engine share.
//!
//! It is cut into chunks of 4 KiB, and the chunks are dealt out to the workers once. A chunk stays
//! with its worker: what a worker's sockets receive is sent by the same worker's sockets, so the
//! kernel returns it there.
//!
//! ```text
//! chunk | 256 headroom: metadata ends where the frame begins | frame, at most 3840 |
//! ```

use std::num::NonZeroU32;

use omni_xdp_redirect::META_LEN;
use tracing::info;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::{FrameDesc, Umem};

use super::KernelIoError;

/// Octets of a chunk.
pub(super) const CHUNK: usize = 4096;
/// The kernel leaves this much before a received frame (`XDP_PACKET_HEADROOM`).
pub(super) const HEADROOM: usize = 256;
/// The longest frame that fits one chunk wherever it begins.
pub const CHUNK_FRAME_MAX: usize = CHUNK - HEADROOM;

/// Octets that a cache fetches at once.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// Entries of fill and completion rings: more than are ever used, so that neither can be full.
const RING: u32 = 2048;

/// The mapped area. Frames point into it without a lifetime: whoever made them keeps it mapped for
/// as long as there are any.
#[derive(Clone, Debug)]
pub(super) struct Area {
    umem: Umem,
    base: usize,
    len: usize,
}

impl Area {
    /// Maps `chunks` chunks and hands out their descriptors.
    pub(super) fn new(chunks: u32) -> Result<(Self, Vec<FrameDesc>), KernelIoError> {
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(CHUNK as u32).map_err(KernelIoError::setup)?)
            .fill_queue_size(QueueSize::new(RING).map_err(KernelIoError::setup)?)
            .comp_queue_size(QueueSize::new(RING).map_err(KernelIoError::setup)?)
            .build()
            .map_err(KernelIoError::setup)?;
        let count = NonZeroU32::new(chunks).ok_or_else(|| KernelIoError::setup("no chunks"))?;
        // Huge pages spare misses of the TLB. They are there if somebody reserved enough of them.
        let (made, huge_pages) = match Umem::new(config, count, true) {
            Ok(made) => (made, true),
            Err(_) => {
                let made = Umem::new(config, count, false).map_err(KernelIoError::umem)?;
                (made, false)
            }
        };
        let (umem, descs) = made;
        info!(chunks, octets = CHUNK, huge_pages, "packet memory");
        // SAFETY: the default descriptor is address 0 with no length: an empty slice at the
        // area's start. Nothing is read through it; only where the area begins is wanted.
        let start = unsafe { umem.data(&FrameDesc::default()) };
        let base = start.contents().as_ptr().expose_provenance();
        let len = chunks as usize * CHUNK;
        Ok((Self { umem, base, len }, descs))
    }

    /// Keeps the area mapped for good, as frames are left that point into it.
    pub(super) fn keep(&self) {
        std::mem::forget(self.umem.clone());
    }

    /// How many chunks there are.
    pub(super) fn chunks(&self) -> usize {
        self.len / CHUNK
    }

    pub(super) fn umem(&self) -> &Umem {
        &self.umem
    }

    /// A pointer to the descriptor's first octet, and how many octets follow in its chunk.
    pub(super) fn locate(&self, desc: &FrameDesc) -> (*mut u8, usize) {
        let addr = desc.addr();
        assert!(
            addr < self.len,
            "the kernel returned an address outside of the UMEM"
        );
        (
            std::ptr::with_exposed_provenance_mut(self.base + addr),
            CHUNK - addr % CHUNK,
        )
    }

    /// The metadata that the XDP program wrote before a frame.
    pub(super) fn metadata(&self, desc: &FrameDesc) -> [u8; META_LEN] {
        let (data, _) = self.locate(desc);
        if desc.addr() % CHUNK < META_LEN {
            return [0; META_LEN];
        }
        // SAFETY: at least META_LEN octets of the same chunk lie before `data`, and the caller
        // holds the descriptor, so neither kernel nor anyone else writes to the chunk.
        let meta = unsafe { data.sub(META_LEN) };
        // SAFETY: as above; the octets are initialised, the area is mapped zeroed.
        unsafe { meta.cast::<[u8; META_LEN]>().read() }
    }

    /// Has the cache fetch what is looked at first of a received frame: its metadata, and headers
    /// to the message's.
    #[inline]
    pub(super) fn prefetch(&self, desc: &FrameDesc) {
        #[cfg(target_arch = "x86_64")]
        {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let (data, _) = self.locate(desc);
            for line in [data.wrapping_sub(META_LEN), data.wrapping_add(CACHE_LINE)] {
                // SAFETY: a prefetch reads nothing that the program can see, and takes any address.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = desc;
    }

    /// Sets how many octets the descriptor describes.
    pub(super) fn set_len(&self, desc: &mut FrameDesc, len: usize) {
        // SAFETY: the descriptor is the caller's, of this UMEM, and no reference to its chunk
        // is alive: only its length is set.
        let mut data = unsafe { self.umem.data_mut(desc) };
        data.cursor().set_pos(len);
    }
}
