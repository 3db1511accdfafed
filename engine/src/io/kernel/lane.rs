//! A queue of an interface as frames: chunks that belong together are joined, and taken apart.

use std::slice;

use xsk_rs::FrameDesc;

use super::chunks::Chunks;
use super::frame::{KernelFrame, Parts, Store};
use super::xsk::XskSocket;
use crate::datapath::BURST_MAX;

/// A socket, and the beginning of a frame whose end is not there yet.
#[derive(Debug)]
pub(super) struct XskLane {
    pub(super) socket: XskSocket,
    partial: Parts,
    /// The frame under way is longer than can be joined: its chunks are skipped.
    skipping: bool,
    /// Frames that were skipped, or for which there was no joining buffer.
    pub(super) unjoined: u64,
}

impl XskLane {
    pub(super) fn new(socket: XskSocket) -> Self {
        Self {
            socket,
            partial: Parts::new(),
            skipping: false,
            unjoined: 0,
        }
    }

    /// Chunks with the kernel to be filled, or filled and not handed out yet.
    pub(super) fn receiving(&self) -> usize {
        self.socket.receiving + self.partial.len()
    }

    /// Adds received frames to `burst`, of at most `max` chunks. Says how many chunks there were.
    pub(super) fn receive(
        &mut self,
        chunks: &mut Chunks,
        queue: usize,
        burst: &mut Vec<KernelFrame>,
        max: usize,
    ) -> usize {
        let mut descs = [FrameDesc::default(); BURST_MAX];
        let received = self.socket.receive(&mut descs[..max.min(BURST_MAX)]);
        // All at once: the misses overlap, where frame by frame they would add up.
        chunks.prefetch(&descs[..received]);
        for &desc in &descs[..received] {
            self.take(chunks, queue, burst, desc);
        }
        received
    }

    fn take(
        &mut self,
        chunks: &mut Chunks,
        queue: usize,
        burst: &mut Vec<KernelFrame>,
        desc: FrameDesc,
    ) {
        let last = !desc.has_more_frames();
        let octets = desc.lengths().data();
        self.socket.received.count(u64::from(last), octets);
        if self.partial.is_empty() && !self.skipping && last {
            burst.extend(chunks.adopt(desc, queue));
            return;
        }
        if self.skipping || self.partial.is_full() {
            self.skipping = !last;
            chunks.pool.extend(std::mem::take(&mut self.partial));
            chunks.pool.push(desc);
            self.unjoined += u64::from(last);
            return;
        }
        self.partial.push(desc);
        if last {
            match chunks.join(std::mem::take(&mut self.partial), queue) {
                Some(frame) => burst.push(frame),
                None => self.unjoined += 1,
            }
        }
    }

    /// Queues one frame, or frees it. Says whether it was queued.
    pub(super) fn send(&mut self, chunks: &mut Chunks, mut frame: KernelFrame) -> bool {
        chunks.settle(&mut frame);
        let parts = match &frame.store {
            Store::Chunk { desc, .. } => slice::from_ref(desc),
            Store::Joined(joined) => &joined.parts,
            Store::Buffer(_) => &[],
        };
        let sent = self.socket.send(parts);
        if sent {
            chunks.give_away(frame);
        } else {
            chunks.put_back(frame);
        }
        sent
    }
}
