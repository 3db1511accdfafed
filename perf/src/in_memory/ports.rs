//! Ports in memory that neither allocate nor copy: frames are put in before a measurement, and
//! taken out after it. What a worker does with them is all that is left to measure.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use omni_control::message::PortId;
use omni_engine::io::{Census, Frame, FrameIo, FramePool, Pending, Port, QueueCounters};
use omni_wire::{DropReason, Instant};

/// The one access port.
pub(crate) const ACCESS: Port = Port::Access(PortId(0));

/// A frame that is used again and again.
#[derive(Debug)]
pub(crate) struct Slot {
    buffer: Box<[u8]>,
    len: usize,
    room: usize,
    arrived: Instant,
    queue: usize,
}

impl Slot {
    /// A frame that may become `capacity` octets long.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            buffer: vec![0; capacity].into_boxed_slice(),
            len: 0,
            room: 0,
            arrived: Instant(0),
            queue: 0,
        }
    }

    /// Makes it a frame just received: so many unused octets, then these.
    ///
    /// # Panics
    /// When that is longer than its capacity.
    pub(crate) fn fill(&mut self, room: usize, octets: &[u8], arrived: Instant) {
        self.set_len(room + octets.len());
        self.room = room;
        self.arrived = arrived;
        self.buffer[room..self.len].copy_from_slice(octets);
    }
}

impl Frame for Slot {
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
        Some(self.arrived)
    }

    fn forget_arrival(&mut self) {
        self.arrived = Instant(0);
    }

    fn queue(&self) -> usize {
        self.queue
    }
}

/// The underlay and one access port of a worker: one end is the worker's driver, the other is
/// whoever measures.
#[derive(Clone, Debug)]
pub(crate) struct Ports(Rc<RefCell<Queues>>);

#[derive(Debug)]
struct Queues {
    /// Frames that a port hands over at once.
    batch: usize,
    underlay: Queue,
    access: Queue,
    /// Frames that nobody wanted: dropped ones.
    freed: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Slot>,
    sent: Vec<Slot>,
    rx_frames: u64,
    tx_frames: u64,
}

impl Queues {
    fn port(&mut self, port: Port) -> &mut Queue {
        match port {
            Port::Underlay => &mut self.underlay,
            Port::Access(_) => &mut self.access,
        }
    }
}

impl Ports {
    /// Ports that hand over at most `batch` frames at once and have room for `frames` in all.
    pub(crate) fn new(batch: usize, frames: usize) -> Self {
        let queue = || Queue {
            waiting: VecDeque::with_capacity(frames),
            sent: Vec::with_capacity(frames),
            ..Queue::default()
        };
        Self(Rc::new(RefCell::new(Queues {
            batch,
            underlay: queue(),
            access: queue(),
            freed: Vec::new(),
        })))
    }

    /// Frames arrive, in order. Empties `slots`.
    pub(crate) fn arrive(&self, port: Port, slots: &mut Vec<Slot>) {
        let mut queues = self.0.borrow_mut();
        let queue = queues.port(port);
        for slot in &mut *slots {
            slot.queue = usize::from(port == ACCESS);
        }
        queue.waiting.extend(slots.drain(..));
    }

    /// Adds what was sent by a port to `slots`, in order.
    pub(crate) fn take_sent(&self, port: Port, slots: &mut Vec<Slot>) {
        slots.append(&mut self.0.borrow_mut().port(port).sent);
    }

    /// How many frames were dropped.
    pub(crate) fn dropped(&self) -> usize {
        self.0.borrow().freed.len()
    }
}

impl FramePool for Ports {
    type Frame = Slot;

    const LONGEST: usize = 0;

    /// Nothing that is measured here copies a frame or makes one.
    fn alloc(&mut self, _len: usize) -> Option<Slot> {
        None
    }
}

impl FrameIo for Ports {
    fn receive(&mut self, port: Port, burst: &mut Vec<Slot>, max: usize) -> usize {
        let mut queues = self.0.borrow_mut();
        let max = max.min(queues.batch);
        let queue = queues.port(port);
        let count = queue.waiting.len().min(max);
        burst.extend(queue.waiting.drain(..count));
        queue.rx_frames += count as u64;
        count
    }

    fn transmit(&mut self, port: Port, frames: &mut Vec<Slot>) -> usize {
        let mut queues = self.0.borrow_mut();
        let queue = queues.port(port);
        queue.tx_frames += frames.len() as u64;
        queue.sent.append(frames);
        0
    }

    fn free(&mut self, frames: &mut Vec<Slot>) {
        if !frames.is_empty() {
            self.0.borrow_mut().freed.append(frames);
        }
    }

    fn flush(&mut self) {}

    fn pending(&self) -> Pending {
        Pending::Nothing
    }

    fn wait(&mut self, _wake: BorrowedFd<'_>, _timeout: Duration) -> io::Result<()> {
        Ok(())
    }

    fn queues(&self) -> Vec<QueueCounters> {
        let queues = self.0.borrow();
        let carried = |port, queue: &Queue| QueueCounters {
            port,
            queue: 0,
            zero_copy: true,
            stamped: true,
            rx_frames: queue.rx_frames,
            // Nobody asks for octets here.
            rx_bytes: 0,
            tx_frames: queue.tx_frames,
            tx_bytes: 0,
            tx_waiting: 0,
        };
        vec![
            carried(Port::Underlay, &queues.underlay),
            carried(ACCESS, &queues.access),
        ]
    }

    fn kernel_drops(&self) -> Vec<(DropReason, u64)> {
        Vec::new()
    }

    fn census(&self) -> Census {
        let queues = self.0.borrow();
        let receiving = (queues.underlay.waiting.len() + queues.access.waiting.len()) as u64;
        let sending = (queues.underlay.sent.len() + queues.access.sent.len()) as u64;
        let free = queues.freed.len() as u64;
        Census {
            total: receiving + sending + free,
            free,
            receiving,
            sending,
            held: 0,
        }
    }
}
