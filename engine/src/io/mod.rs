//! Where frames come from and go to.
//!
//! The data path knows frames and ports, not drivers. A driver hands out [`Frame`]s it received,
//! takes back those to send, and owns every frame in between: a frame is in exactly one place
//! (pool, fill ring, received, to be sent, completing), and [`Census`] counts them all.

pub mod kernel;
pub mod mem;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use omni_control::message::PortId;
use omni_wire::{DropReason, Instant};

/// One side of the engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Port {
    /// Towards other nodes: sealed messages.
    Underlay,
    /// Towards this node's hosts: plain frames.
    Access(PortId),
}

impl Port {
    /// Its place where the underlay comes first, and the access ports follow in order.
    pub(crate) fn place(self) -> usize {
        match self {
            Self::Underlay => 0,
            Self::Access(PortId(n)) => 1 + usize::from(n),
        }
    }
}

/// A frame that the engine owns: not copyable, so that it is always in one place only.
///
/// Its first octet cannot be moved, its end can. Received on an access port it begins with
/// [`Frame::room`] unused octets that make place for the outer headers.
pub trait Frame {
    /// The octets, room included.
    fn bytes(&self) -> &[u8];

    /// The octets, room included, to change.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// How long it can become.
    fn capacity(&self) -> usize;

    /// Moves its end. What is gained has undefined contents.
    ///
    /// # Panics
    /// When `len` is beyond the capacity.
    fn set_len(&mut self, len: usize);

    /// Unused octets at the start.
    fn room(&self) -> usize;

    /// When the driver received it; `None` for frames made here.
    fn arrived(&self) -> Option<Instant>;

    /// Forgets when it was received: it has waited for something that is no work of the engine's,
    /// and would pass for a slow frame.
    fn forget_arrival(&mut self);

    /// On which of the worker's queues it was received: a place in [`FrameIo::queues`].
    fn queue(&self) -> usize;
}

/// A frame that is filled by copying into it.
pub trait Received: Frame {
    /// Notes how its octets came: behind so many unused ones, when, and on which queue.
    fn note_arrival(&mut self, room: usize, arrived: Instant, queue: usize);
}

/// Where empty frames come from, for copies and for messages made here.
pub trait FramePool {
    /// What it hands out.
    type Frame: Frame;

    /// The longest frame it ever has, in octets.
    const LONGEST: usize;

    /// A frame of `len` octets with undefined contents and no room, or `None` when none is free.
    fn alloc(&mut self, len: usize) -> Option<Self::Frame>;
}

/// A driver: the queues of one worker.
pub trait FrameIo: FramePool {
    /// Adds up to `max` received frames to `burst` and says how many.
    fn receive(&mut self, port: Port, burst: &mut Vec<Self::Frame>, max: usize) -> usize;

    /// Queues frames for sending, in order, and empties `frames`. Says how many did not fit;
    /// those are free again.
    fn transmit(&mut self, port: Port, frames: &mut Vec<Self::Frame>) -> usize;

    /// Takes back frames that nobody wants.
    fn free(&mut self, frames: &mut Vec<Self::Frame>);

    /// Starts what was queued for sending and gives empty frames to the receivers: once a burst.
    fn flush(&mut self);

    /// Whether something waits that only another [`FrameIo::flush`] moves on, and how soon.
    fn pending(&self) -> Pending;

    /// Sleeps until a frame arrives, something can be read from `wake`, or the time is over.
    ///
    /// # Errors
    /// When waiting itself is impossible.
    fn wait(&mut self, wake: BorrowedFd<'_>, timeout: Duration) -> io::Result<()>;

    /// What each queue carried: those of the underlay first, then those of each access port in
    /// order. [`Frame::queue`] is a place in here.
    fn queues(&self) -> Vec<QueueCounters>;

    /// What was dropped below, by the kernel or the driver, since the start.
    fn kernel_drops(&self) -> Vec<(DropReason, u64)>;

    /// Where the frames are.
    fn census(&self) -> Census;

    /// Whether the empty frames are what they should be: each of this worker's, and there once.
    /// Costs microseconds: for now and then.
    fn is_sound(&self) -> bool {
        true
    }

    /// Does all that can move a queue on that does not move, whether it seems to need it or not.
    fn urge(&mut self) {}

    /// Closes the AF_XDP sockets and gives the packet memory back. No frame may be handed out.
    fn let_go(&mut self) -> LetGo {
        LetGo::default()
    }

    /// Takes sockets and packet memory over, in place of those that it let go of.
    fn take_over(&mut self, _reopened: kernel::Reopened) {}
}

/// What became of a driver that let go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LetGo {
    /// Queues that it has still: taps and UDP sockets.
    pub readers: usize,
    /// Frames that the kernel was to send and perhaps has not.
    pub lost: u64,
}

/// What keeps a driver from being left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pending {
    /// Nothing.
    Nothing,
    /// Sent frames will come back; nobody waits for them.
    Completions,
    /// Frames wait for the next kick, or receiving waits for frames to come back.
    Stalled,
}

/// What went one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Carried {
    /// Frames.
    pub frames: u64,
    /// Their octets.
    pub bytes: u64,
}

impl Carried {
    /// Counts so many frames more, of so many octets together.
    #[inline]
    pub const fn count(&mut self, frames: u64, octets: usize) {
        self.frames += frames;
        self.bytes += octets as u64;
    }
}

/// How long frames are together, in octets.
pub(crate) fn octets<F: Frame>(frames: &[F]) -> usize {
    frames.iter().map(|frame| frame.bytes().len()).sum()
}

/// A queue and what it carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueCounters {
    /// Which side.
    pub port: Port,
    /// The queue's number on its interface.
    pub queue: u32,
    /// Whether the driver writes frames where the engine reads them.
    pub zero_copy: bool,
    /// Whether the driver stamps frames when they arrive. Others are stamped when they are read.
    pub stamped: bool,
    /// Frames received.
    pub rx_frames: u64,
    /// Their octets.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Their octets, and those of frames that a tap or a UDP socket refused.
    pub tx_bytes: u64,
    /// Buffers that wait for the kernel to take and send them; 0 where nothing ever waits.
    pub tx_waiting: u64,
}

/// Where all frames of one worker are: the other four always add up to `total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// All there are.
    pub total: u64,
    /// In the pool.
    pub free: u64,
    /// With the kernel, waiting to be filled, or filled and not yet received.
    pub receiving: u64,
    /// With the kernel, to be sent or sent and not yet returned.
    pub sending: u64,
    /// Handed out.
    pub held: u64,
}

impl Census {
    /// Adds another worker's.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            free: self.free + other.free,
            receiving: self.receiving + other.receiving,
            sending: self.sending + other.sending,
            held: self.held + other.held,
        }
    }

    /// Whether every frame is somewhere.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.free + self.receiving + self.sending + self.held == self.total
    }
}
