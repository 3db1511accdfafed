//! Frames in the UMEM.

use arrayvec::ArrayVec;
use omni_wire::Instant;
use omni_wire::limits::VLAN_TAG_LEN;
use xsk_rs::FrameDesc;

use super::umem::{CHUNK_FRAME_MAX, HEADROOM};
use crate::datapath::OVERHEAD_MAX;
use crate::io::{Frame, Received};

/// The most octets that are made free before a frame: for the headers that will carry it, and for a
/// VLAN tag that it may get on the way.
const ROOM_MAX: usize = OVERHEAD_MAX + VLAN_TAG_LEN;
/// The longest frame that is joined from several chunks.
pub const JOINED_MAX: usize = 9728 + ROOM_MAX;
/// Chunks that the longest frame takes.
pub(super) const PARTS_MAX: usize = JOINED_MAX.div_ceil(CHUNK_FRAME_MAX);

const _: () = assert!(
    ROOM_MAX + 16 <= HEADROOM,
    "headers and metadata fit the headroom"
);

/// The chunks of one frame, in order.
pub(super) type Parts = ArrayVec<FrameDesc, PARTS_MAX>;

/// A frame longer than a chunk, joined: the AEAD works on contiguous octets.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) buffer: Box<[u8]>,
    pub(super) parts: Parts,
    /// How much the parts hold together: what is longer could not be sent.
    pub(super) capacity: usize,
}

impl Joined {
    pub(super) fn new() -> Box<Self> {
        let buffer = vec![0; JOINED_MAX].into_boxed_slice();
        Box::new(Self {
            buffer,
            parts: Parts::new(),
            capacity: 0,
        })
    }
}

#[derive(Debug)]
pub(super) enum Store {
    /// One chunk: where the frame begins, and how many octets its chunk holds from there on.
    Chunk {
        desc: FrameDesc,
        data: *mut u8,
        capacity: usize,
    },
    Joined(Box<Joined>),
    /// Memory of no UMEM.
    Buffer(Box<[u8]>),
}

/// A frame that the worker holds. Whoever has it owns its chunks: their descriptors are in no
/// ring and in no pool.
#[derive(Debug)]
pub struct KernelFrame {
    pub(super) store: Store,
    pub(super) len: usize,
    pub(super) room: usize,
    pub(super) arrived: Option<Instant>,
    pub(super) queue: usize,
}

impl KernelFrame {
    /// A frame of `len` octets, no room, that came from nowhere.
    pub(super) fn new(store: Store, len: usize) -> Self {
        Self {
            store,
            len,
            room: 0,
            arrived: None,
            queue: 0,
        }
    }
}

impl Frame for KernelFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match &self.store {
            // SAFETY: `data` points to `capacity >= len` octets of a chunk that this frame owns
            // alone (its descriptor was taken from a ring or the pool and is in neither), in an
            // area that is never unmapped; the borrow of the frame is the borrow of the chunk.
            Store::Chunk { data, .. } => unsafe { core::slice::from_raw_parts(*data, self.len) },
            Store::Joined(joined) => &joined.buffer[..self.len],
            Store::Buffer(buffer) => &buffer[..self.len],
        }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.store {
            // SAFETY: as in `bytes`, and the frame is borrowed mutably.
            Store::Chunk { data, .. } => unsafe {
                core::slice::from_raw_parts_mut(*data, self.len)
            },
            Store::Joined(joined) => &mut joined.buffer[..self.len],
            Store::Buffer(buffer) => &mut buffer[..self.len],
        }
    }

    fn capacity(&self) -> usize {
        match &self.store {
            Store::Chunk { capacity, .. } => *capacity,
            Store::Joined(joined) => joined.capacity.min(joined.buffer.len()),
            Store::Buffer(buffer) => buffer.len(),
        }
    }

    #[inline]
    fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "beyond the capacity");
        self.len = len;
    }

    fn room(&self) -> usize {
        self.room
    }

    fn arrived(&self) -> Option<Instant> {
        self.arrived
    }

    fn forget_arrival(&mut self) {
        self.arrived = None;
    }

    fn queue(&self) -> usize {
        self.queue
    }
}

impl Received for KernelFrame {
    fn note_arrival(&mut self, room: usize, arrived: Instant, queue: usize) {
        (self.room, self.arrived, self.queue) = (room, Some(arrived), queue);
    }
}
