//! The memory of one worker: where empty chunks are, and how frames are made of them.
//!
//! Chunks are of the UMEM where there is any AF_XDP socket. Where there is none, as in a container
//! that may not have them, they are ordinary buffers.

use omni_wire::Instant;
use omni_xdp_redirect::Meta;
use xsk_rs::FrameDesc;

use super::frame::{JOINED_MAX, Joined, KernelFrame, Parts, Store};
use super::umem::{Area, CHUNK, CHUNK_FRAME_MAX};
use super::xsk::scatter;
use crate::io::FramePool;

/// Joining buffers a worker may hold.
const JOINED_FRAMES_MAX: usize = 256;

/// What is free, and how much is handed out.
#[derive(Debug)]
pub(super) struct Chunks {
    /// The UMEM; `None` = ordinary buffers.
    area: Option<Area>,
    /// Last in, first out: what was used last is in the cache.
    pub(super) pool: Vec<FrameDesc>,
    /// Ordinary buffers that are free.
    buffers: Vec<Box<[u8]>>,
    /// All there are.
    pub(super) total: usize,
    /// Those of frames that are handed out.
    pub(super) held: usize,
    #[expect(
        clippy::vec_box,
        reason = "frames hold the box: it moves without being made anew"
    )]
    joined: Vec<Box<Joined>>,
    joined_made: usize,
}

impl Chunks {
    /// Chunks of the UMEM.
    pub(super) fn new(area: Area, pool: Vec<FrameDesc>) -> Self {
        let mut chunks = Self::ordinary(pool.len());
        chunks.area = Some(area);
        chunks.pool = pool;
        chunks
    }

    /// So many ordinary buffers, which are made when they are first needed.
    pub(super) fn ordinary(total: usize) -> Self {
        Self {
            area: None,
            pool: Vec::new(),
            buffers: Vec::new(),
            total,
            held: 0,
            joined: Vec::new(),
            joined_made: 0,
        }
    }

    /// Whether they are of the UMEM.
    pub(super) fn are_shared(&self) -> bool {
        self.area.is_some()
    }

    /// Whether each chunk of the pool is there once.
    pub(super) fn is_sound(&self) -> bool {
        let Some(area) = &self.area else {
            return true;
        };
        let mut seen = vec![0u64; area.chunks().div_ceil(64)];
        self.pool.iter().all(|desc| {
            let chunk = desc.addr() / CHUNK;
            let Some(word) = seen.get_mut(chunk / 64) else {
                return false;
            };
            let bit = 1 << (chunk % 64);
            let first = *word & bit == 0;
            *word |= bit;
            first
        })
    }

    /// Those that are free.
    pub(super) fn free(&self) -> usize {
        match self.area {
            Some(_) => self.pool.len(),
            None => self.total - self.held,
        }
    }

    fn take_joined(&mut self) -> Option<Box<Joined>> {
        self.joined.pop().or_else(|| {
            (self.joined_made < JOINED_FRAMES_MAX).then(|| {
                self.joined_made += 1;
                Joined::new()
            })
        })
    }

    /// A frame's chunks go back to the pool.
    pub(super) fn put_back(&mut self, frame: KernelFrame) {
        match frame.store {
            Store::Chunk { desc, .. } => {
                self.pool.push(desc);
                self.held -= 1;
            }
            Store::Joined(mut joined) => {
                self.held -= joined.parts.len();
                self.pool.extend(joined.parts.drain(..));
                self.joined.push(joined);
            }
            Store::Buffer(buffer) => {
                self.held -= 1;
                self.buffers.push(buffer);
            }
        }
    }

    /// Has the cache fetch the beginnings of frames that were received.
    #[inline]
    pub(super) fn prefetch(&self, descs: &[FrameDesc]) {
        if let Some(area) = &self.area {
            for desc in descs {
                area.prefetch(desc);
            }
        }
    }

    /// Makes a frame of a descriptor that was received. `None` when there is no UMEM, where nobody
    /// receives any.
    pub(super) fn adopt(&mut self, desc: FrameDesc, queue: usize) -> Option<KernelFrame> {
        let meta = Meta::parse(&self.area.as_ref()?.metadata(&desc));
        let frame = self.whole(desc, desc.lengths().data())?;
        Some(KernelFrame {
            room: usize::from(meta.room),
            arrived: arrival(meta),
            queue,
            ..frame
        })
    }

    /// Makes a frame of one chunk.
    fn whole(&mut self, desc: FrameDesc, len: usize) -> Option<KernelFrame> {
        let (data, capacity) = self.area.as_ref()?.locate(&desc);
        self.held += 1;
        let store = Store::Chunk {
            desc,
            data,
            capacity,
        };
        Some(KernelFrame::new(store, len.min(capacity)))
    }

    /// Makes a frame of an ordinary buffer.
    fn ordinary_frame(&mut self, len: usize) -> Option<KernelFrame> {
        if self.held == self.total || len > JOINED_MAX {
            return None;
        }
        let buffer = self.buffers.pop();
        let buffer = buffer.unwrap_or_else(|| vec![0; JOINED_MAX].into_boxed_slice());
        self.held += 1;
        Some(KernelFrame::new(Store::Buffer(buffer), len))
    }

    /// Joins the chunks of a frame that did not fit one.
    pub(super) fn join(&mut self, parts: Parts, queue: usize) -> Option<KernelFrame> {
        let len: usize = parts.iter().map(|desc| desc.lengths().data()).sum();
        let buffer = if len <= JOINED_MAX {
            self.take_joined()
        } else {
            None
        };
        let (Some(mut joined), Some(area)) = (buffer, &self.area) else {
            self.pool.extend(parts);
            return None;
        };
        let meta = Meta::parse(&area.metadata(&parts[0]));
        let mut at = 0;
        joined.capacity = 0;
        for desc in &parts {
            let len = desc.lengths().data();
            let (data, capacity) = area.locate(desc);
            // SAFETY: `data` points to `capacity` octets of a chunk that was just received, so
            // its only owner is this function.
            let octets = unsafe { core::slice::from_raw_parts(data, len.min(capacity)) };
            joined.buffer[at..at + octets.len()].copy_from_slice(octets);
            at += octets.len();
            joined.capacity += capacity;
        }
        self.held += parts.len();
        joined.parts = parts;
        Some(KernelFrame {
            room: usize::from(meta.room),
            arrived: arrival(meta),
            queue,
            ..KernelFrame::new(Store::Joined(joined), at)
        })
    }

    /// Makes a frame ready to be sent: its chunks have its octets, and say how many. Those that it
    /// does not need are free.
    pub(super) fn settle(&mut self, frame: &mut KernelFrame) {
        let Some(area) = &self.area else {
            return;
        };
        match &mut frame.store {
            Store::Chunk { desc, .. } => {
                area.set_len(desc, frame.len);
                desc.set_options(0);
            }
            Store::Joined(joined) => {
                let before = joined.parts.len();
                let octets = &joined.buffer[..frame.len];
                scatter(area, octets, &mut joined.parts, &mut self.pool);
                self.held -= before - joined.parts.len();
            }
            Store::Buffer(_) => {}
        }
    }

    /// Lets go of a frame whose chunks were given to a ring.
    pub(super) fn give_away(&mut self, frame: KernelFrame) {
        match frame.store {
            Store::Chunk { .. } => self.held -= 1,
            Store::Joined(mut joined) => {
                self.held -= joined.parts.len();
                joined.parts.clear();
                self.joined.push(joined);
            }
            Store::Buffer(_) => self.put_back(frame),
        }
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        // Frames are out: what they point to stays.
        if let (Some(area), true) = (&self.area, self.held > 0) {
            area.keep();
        }
    }
}

/// When the XDP program saw a frame.
fn arrival(meta: Meta) -> Option<Instant> {
    (meta.stamp_ns != 0).then_some(Instant(meta.stamp_ns))
}

impl FramePool for Chunks {
    type Frame = KernelFrame;

    const LONGEST: usize = JOINED_MAX;

    fn alloc(&mut self, len: usize) -> Option<KernelFrame> {
        let Some(area) = &self.area else {
            return self.ordinary_frame(len);
        };
        if len <= CHUNK_FRAME_MAX {
            let desc = self.pool.pop()?;
            return self.whole(desc, len);
        }
        let count = len.div_ceil(CHUNK_FRAME_MAX);
        // The chunks may hold more than the buffer in which they are joined.
        if len > JOINED_MAX || self.pool.len() < count {
            return None;
        }
        let area = area.clone();
        let mut joined = self.take_joined()?;
        let taken = self.pool.drain(self.pool.len() - count..);
        joined.parts.extend(taken);
        let parts = joined.parts.iter();
        joined.capacity = parts.map(|desc| area.locate(desc).1).sum();
        self.held += count;
        Some(KernelFrame::new(Store::Joined(joined), len))
    }
}
