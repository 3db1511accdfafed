//! Frames in memory: the data path without a kernel, for tests and simulation.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use omni_control::message::PortId;
use omni_wire::{DropReason, Instant};

use super::{Census, Frame, FrameIo, FramePool, Pending, Port, QueueCounters};

/// The longest frame in memory: room, jumbo frame and headers.
const CAPACITY: usize = 10 * 1024;

/// A frame in memory.
#[derive(Clone, Debug)]
pub struct MemFrame {
    buffer: Box<[u8]>,
    len: usize,
    room: usize,
    arrived: Option<Instant>,
}

impl MemFrame {
    /// A frame of `octets` behind `room` unused ones.
    ///
    /// # Panics
    /// When that is longer than 10 KiB.
    #[must_use]
    pub fn new(room: usize, octets: &[u8], arrived: Option<Instant>) -> Self {
        let mut buffer = vec![0; CAPACITY].into_boxed_slice();
        let len = room + octets.len();
        buffer[room..len].copy_from_slice(octets);
        Self {
            buffer,
            len,
            room,
            arrived,
        }
    }

    fn without_room(self) -> Self {
        Self { room: 0, ..self }
    }
}

impl Frame for MemFrame {
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.len]
    }

    fn capacity(&self) -> usize {
        self.buffer.len()
    }

    fn set_len(&mut self, len: usize) {
        assert!(len <= self.buffer.len(), "beyond the capacity");
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
        0
    }
}

/// Two ports in memory. Tests push into the receive side and take from the sent side.
#[derive(Debug, Default)]
pub struct MemIo {
    room: usize,
    total: u64,
    held: u64,
    received: [VecDeque<MemFrame>; 2],
    sent: [VecDeque<Vec<u8>>; 2],
    /// Frames received and sent, by port.
    carried: [(u64, u64); 2],
}

fn index(port: Port) -> usize {
    match port {
        Port::Underlay => 0,
        Port::Access(_) => 1,
    }
}

impl MemIo {
    /// `total` frames; those pushed into the access port get `room` octets before them.
    #[must_use]
    pub fn new(total: u64, room: usize) -> Self {
        Self {
            room,
            total,
            held: 0,
            ..Self::default()
        }
    }

    /// A frame arrives. `false` when no frame is free for it.
    pub fn push(&mut self, port: Port, octets: &[u8], arrived: Instant) -> bool {
        let waiting = self.received.iter().map(VecDeque::len).sum::<usize>() as u64;
        if waiting + self.held >= self.total {
            return false;
        }
        let room = if port == Port::Underlay { 0 } else { self.room };
        self.received[index(port)].push_back(MemFrame::new(room, octets, Some(arrived)));
        true
    }

    /// The oldest frame sent on `port` and not taken yet.
    pub fn pop(&mut self, port: Port) -> Option<Vec<u8>> {
        self.sent[index(port)].pop_front()
    }
}

impl FramePool for MemIo {
    type Frame = MemFrame;

    fn alloc(&mut self, len: usize) -> Option<MemFrame> {
        let waiting = self.received.iter().map(VecDeque::len).sum::<usize>() as u64;
        (waiting + self.held < self.total && len <= CAPACITY).then(|| {
            self.held += 1;
            MemFrame::new(len, &[], None).without_room()
        })
    }
}

impl FrameIo for MemIo {
    fn receive(&mut self, port: Port, burst: &mut Vec<MemFrame>, max: usize) -> usize {
        let queue = &mut self.received[index(port)];
        let count = queue.len().min(max);
        burst.extend(queue.drain(..count));
        self.held += count as u64;
        self.carried[index(port)].0 += count as u64;
        count
    }

    fn transmit(&mut self, port: Port, frames: &mut Vec<MemFrame>) -> usize {
        self.held -= frames.len() as u64;
        self.carried[index(port)].1 += frames.len() as u64;
        self.sent[index(port)].extend(frames.drain(..).map(|frame| frame.bytes().to_vec()));
        0
    }

    fn free(&mut self, frames: &mut Vec<MemFrame>) {
        self.held -= frames.len() as u64;
        frames.clear();
    }

    fn flush(&mut self) {}

    fn pending(&self) -> Pending {
        Pending::Nothing
    }

    fn wait(&mut self, _wake: BorrowedFd<'_>, _timeout: Duration) -> io::Result<()> {
        Ok(())
    }

    fn queues(&self) -> Vec<QueueCounters> {
        let ports = [Port::Underlay, Port::Access(PortId(0))];
        let counted = ports.into_iter().zip(self.carried);
        counted
            .map(|(port, (rx_frames, tx_frames))| QueueCounters {
                port,
                queue: 0,
                zero_copy: false,
                rx_frames,
                tx_frames,
            })
            .collect()
    }

    fn kernel_drops(&self) -> Vec<(DropReason, u64)> {
        Vec::new()
    }

    fn census(&self) -> Census {
        let receiving = self.received.iter().map(VecDeque::len).sum::<usize>() as u64;
        Census {
            total: self.total,
            free: self.total - self.held - receiving,
            receiving,
            sending: 0,
            held: self.held,
        }
    }
}
