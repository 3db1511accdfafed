//! Frames in memory: the data path without a kernel, for tests and simulation.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use omni_control::message::PortId;
use omni_wire::{DropReason, Instant};

use super::{
    Carried, Census, Frame, FrameIo, FramePool, Pending, Port, QueueCounters, Received, octets,
};

/// The longest frame in memory: room, jumbo frame and headers.
const CAPACITY: usize = 10 * 1024;

/// A frame in memory.
#[derive(Clone, Debug)]
pub struct MemFrame {
    buffer: Box<[u8]>,
    len: usize,
    room: usize,
    arrived: Option<Instant>,
    queue: usize,
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
            queue: 0,
        }
    }

    fn on_queue(self, queue: usize) -> Self {
        Self { queue, ..self }
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
        self.queue
    }
}

impl Received for MemFrame {
    fn note_arrival(&mut self, room: usize, arrived: Instant, queue: usize) {
        (self.room, self.arrived, self.queue) = (room, Some(arrived), queue);
    }
}

/// An underlay and access ports in memory, of one queue each. Tests push into the receive side and
/// take from the sent side.
#[derive(Debug)]
pub struct MemIo {
    room: usize,
    total: u64,
    held: u64,
    /// The underlay, then the access ports in order.
    ports: Vec<MemPort>,
}

/// A port, which is one queue.
#[derive(Debug, Default)]
struct MemPort {
    received: VecDeque<MemFrame>,
    sent: VecDeque<Vec<u8>>,
    received_frames: Carried,
    sent_frames: Carried,
}

impl MemIo {
    /// `total` frames for an underlay and one access port; those pushed into the access port get
    /// `room` octets before them.
    #[must_use]
    pub fn new(total: u64, room: usize) -> Self {
        Self::with_ports(1, total, room)
    }

    /// The same with `access` access ports.
    #[must_use]
    pub fn with_ports(access: usize, total: u64, room: usize) -> Self {
        Self {
            room,
            total,
            held: 0,
            ports: (0..=access).map(|_| MemPort::default()).collect(),
        }
    }

    /// Frames that wait to be received.
    fn waiting(&self) -> u64 {
        let waiting = self.ports.iter().map(|port| port.received.len());
        waiting.sum::<usize>() as u64
    }

    /// A frame arrives. `false` when no frame is free for it.
    pub fn push(&mut self, port: Port, octets: &[u8], arrived: Instant) -> bool {
        if self.waiting() + self.held >= self.total {
            return false;
        }
        let room = if port == Port::Underlay { 0 } else { self.room };
        let frame = MemFrame::new(room, octets, Some(arrived)).on_queue(port.place());
        self.ports[port.place()].received.push_back(frame);
        true
    }

    /// The oldest frame sent on `port` and not taken yet.
    pub fn pop(&mut self, port: Port) -> Option<Vec<u8>> {
        self.ports[port.place()].sent.pop_front()
    }
}

impl FramePool for MemIo {
    type Frame = MemFrame;

    const LONGEST: usize = CAPACITY;

    fn alloc(&mut self, len: usize) -> Option<MemFrame> {
        (self.waiting() + self.held < self.total && len <= CAPACITY).then(|| {
            self.held += 1;
            MemFrame::new(len, &[], None).without_room()
        })
    }
}

impl FrameIo for MemIo {
    fn receive(&mut self, port: Port, burst: &mut Vec<MemFrame>, max: usize) -> usize {
        let port = &mut self.ports[port.place()];
        let count = port.received.len().min(max);
        let before = burst.len();
        burst.extend(port.received.drain(..count));
        port.received_frames
            .count(count as u64, octets(&burst[before..]));
        self.held += count as u64;
        count
    }

    fn transmit(&mut self, port: Port, frames: &mut Vec<MemFrame>) -> usize {
        let port = &mut self.ports[port.place()];
        self.held -= frames.len() as u64;
        port.sent_frames.count(frames.len() as u64, octets(frames));
        let octets = frames.drain(..).map(|frame| frame.bytes().to_vec());
        port.sent.extend(octets);
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
        let access = (0..).map(|n| Port::Access(PortId(n)));
        let names = [Port::Underlay].into_iter().chain(access);
        let counted = names.zip(&self.ports);
        counted
            .map(|(port, carried)| QueueCounters {
                port,
                queue: 0,
                zero_copy: false,
                stamped: true,
                rx_frames: carried.received_frames.frames,
                rx_bytes: carried.received_frames.bytes,
                tx_frames: carried.sent_frames.frames,
                tx_bytes: carried.sent_frames.bytes,
                tx_waiting: 0,
            })
            .collect()
    }

    fn kernel_drops(&self) -> Vec<(DropReason, u64)> {
        Vec::new()
    }

    fn census(&self) -> Census {
        let receiving = self.waiting();
        Census {
            total: self.total,
            free: self.total - self.held - receiving,
            receiving,
            sending: 0,
            held: self.held,
        }
    }
}
