//! A worker's chunks without a kernel at the other end of the rings, for fuzzing: what is sent
//! arrives at the same place, chunk by chunk, as between two interfaces of one machine.

use std::collections::VecDeque;

use xsk_rs::FrameDesc;

use super::chunks::Chunks;
use super::frame::{KernelFrame, Parts, Store};
use super::umem::{Area, CHUNK_FRAME_MAX};
use crate::io::{Census, FramePool};

thread_local! {
    /// An area costs a socket and locked memory: one for all stands of a thread, which are there
    /// one after the other.
    static AREA: std::cell::RefCell<Option<(Area, Vec<FrameDesc>)>> = const {
        std::cell::RefCell::new(None)
    };
}

/// A worker's memory, the frames that it holds, and those that are under way.
#[derive(Debug)]
pub struct Stand {
    chunks: Chunks,
    is_ordinary: bool,
    frames: Vec<KernelFrame>,
    under_way: VecDeque<Parts>,
}

impl Stand {
    /// So many chunks of a UMEM, or as many ordinary buffers, also where there is no UMEM to be
    /// had. All stands of a thread have to have as many.
    ///
    /// # Panics
    /// When they have not.
    #[must_use]
    pub fn new(count: usize, ordinary: bool) -> Self {
        let area = AREA.with_borrow_mut(|known| {
            if known.is_none() && !ordinary {
                *known = Area::new(count as u32).ok();
            }
            known.clone()
        });
        let chunks = match area.filter(|_| !ordinary) {
            Some((area, descs)) => {
                assert_eq!(descs.len(), count);
                (Chunks::new(area, descs), false)
            }
            None => (Chunks::ordinary(count), true),
        };
        Self {
            chunks: chunks.0,
            is_ordinary: chunks.1,
            frames: Vec::new(),
            under_way: VecDeque::new(),
        }
    }

    /// The frames that are held.
    pub fn frames(&mut self) -> &mut [KernelFrame] {
        &mut self.frames
    }

    /// How many chunks a frame of so many octets takes.
    #[must_use]
    pub fn chunks_for(&self, len: usize) -> u64 {
        match self.is_ordinary {
            true => 1,
            false => len.div_ceil(CHUNK_FRAME_MAX).max(1) as u64,
        }
    }

    /// Makes a frame, the last of [`Stand::frames`]. False when there is no room.
    pub fn alloc(&mut self, len: usize) -> bool {
        let made = self.chunks.alloc(len);
        let is_made = made.is_some();
        self.frames.extend(made);
        is_made
    }

    /// Frees a frame; the last one takes its place.
    pub fn free(&mut self, at: usize) {
        let frame = self.frames.swap_remove(at);
        self.chunks.put_back(frame);
    }

    /// Sends a frame; the last one takes its place. False when nothing is under way then.
    pub fn send(&mut self, at: usize) -> bool {
        let mut frame = self.frames.swap_remove(at);
        self.chunks.settle(&mut frame);
        let parts = match &frame.store {
            Store::Chunk { desc, .. } => Parts::from_iter([*desc]),
            Store::Joined(joined) => joined.parts.clone(),
            Store::Buffer(_) => Parts::new(),
        };
        self.chunks.give_away(frame);
        let is_sent = !parts.is_empty();
        if is_sent {
            self.under_way.push_back(parts);
        }
        is_sent
    }

    /// The oldest frame under way arrives, the last of [`Stand::frames`]. False when there is none,
    /// or it could not be joined.
    pub fn arrive(&mut self) -> bool {
        let Some(parts) = self.under_way.pop_front() else {
            return false;
        };
        let made = match parts[..] {
            [desc] => self.chunks.adopt(desc, 0),
            _ => self.chunks.join(parts, 0),
        };
        let is_made = made.is_some();
        self.frames.extend(made);
        is_made
    }

    /// The oldest frame under way was sent, and its chunks come back.
    pub fn complete(&mut self) {
        let parts = self.under_way.pop_front();
        self.chunks.pool.extend(parts.into_iter().flatten());
    }

    /// Where the chunks are.
    #[must_use]
    pub fn census(&self) -> Census {
        let sending: usize = self.under_way.iter().map(|parts| parts.len()).sum();
        Census {
            total: self.chunks.total as u64,
            free: self.chunks.free() as u64,
            receiving: 0,
            sending: sending as u64,
            held: self.chunks.held as u64,
        }
    }
}
