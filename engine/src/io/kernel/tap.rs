//! A queue of a tap: super-frames in, cut to what a message carries; bursts out, coalesced again.
//!
//! ```text
//!  read    | header | super-frame, up to 64 KB |  ->  segments, each copied into a frame
//!  writev  header, headers of the first, payloads where they lie  <-  frames of one burst
//! ```
//!
//! A super-frame that is not cut up yet stays here until there are frames for the rest: nothing is
//! read that cannot be kept, so the kernel's queue fills and its senders wait.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use arrayvec::ArrayVec;
use omni_offload::{
    Coalesced, Coalescer, PIECES_MAX, Piece, SuperFrame, VNET_LEN_MERGEABLE, VnetHeader,
    complete_checksum,
};
use omni_wire::Instant;

use crate::clock;
use crate::io::{Carried, Frame, FramePool, Received, octets};

/// Octets of the longest super-frame: an IP packet, Ethernet header and two tags.
const SUPER_FRAME_MAX: usize = 65_535 + 22;
/// Pieces of a write: the header before it, the headers, and the payloads.
const SLICES_MAX: usize = 2 + PIECES_MAX;

/// What was read and is not handed out yet, in [`TapQueue::buffer`].
#[derive(Debug)]
enum Waiting {
    /// A frame of so many octets.
    Frame(usize),
    /// A super-frame of so many octets, of which segments from this one on are left.
    Super(Box<SuperFrame>, usize, usize),
}

/// A queue.
#[derive(Debug)]
pub(super) struct TapQueue {
    fd: OwnedFd,
    buffer: Box<[u8]>,
    waiting: Option<Waiting>,
    /// When that was read.
    read_at: Instant,
    coalescer: Box<Coalescer>,
    /// Octets that are left free before each frame.
    room: Arc<AtomicU16>,
    /// Frames received: segments, not super-frames.
    pub(super) received: Carried,
    /// Frames sent, before they were coalesced.
    pub(super) sent: Carried,
    /// What the kernel handed over and nobody can make sense of.
    pub(super) refused: u64,
}

impl TapQueue {
    pub(super) fn new(fd: OwnedFd, udp: bool, room: Arc<AtomicU16>) -> Self {
        Self {
            fd,
            buffer: vec![0; VNET_LEN_MERGEABLE + SUPER_FRAME_MAX].into_boxed_slice(),
            waiting: None,
            read_at: Instant(0),
            coalescer: Box::new(Coalescer::new(udp)),
            room,
            received: Carried::default(),
            sent: Carried::default(),
            refused: 0,
        }
    }

    /// What to wait on.
    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Adds up to `max` frames to `burst`, and says how many.
    pub(super) fn receive<P: FramePool<Frame: Received>>(
        &mut self,
        pool: &mut P,
        queue: usize,
        burst: &mut Vec<P::Frame>,
        max: usize,
    ) -> usize {
        let before = burst.len();
        let room = usize::from(self.room.load(Ordering::Relaxed));
        while burst.len() - before < max && (self.waiting.is_some() || self.read(P::LONGEST - room))
        {
            let Some(mut frame) = self.take(pool, room) else {
                break;
            };
            frame.note_arrival(room, self.read_at, queue);
            burst.push(frame);
        }
        let count = burst.len() - before;
        self.received.count(count as u64, octets(&burst[before..]));
        count
    }

    /// Reads the next frame that makes sense, or whose segments have `longest` octets at most.
    /// False when there is none.
    fn read(&mut self, longest: usize) -> bool {
        // An interface that is off or gone has nothing to read; netlink tells of it.
        while let Ok(len) = rustix::io::read(&self.fd, &mut *self.buffer) {
            let (vnet, frame) = self.buffer[..len].split_at_mut(VNET_LEN_MERGEABLE.min(len));
            self.waiting = look(vnet, frame, longest);
            if self.waiting.is_some() {
                self.read_at = clock::instant();
                return true;
            }
            self.refused += 1;
        }
        false
    }

    /// The next frame of what was read. `None`, and nothing lost, when the pool has none.
    fn take<P: FramePool>(&mut self, pool: &mut P, room: usize) -> Option<P::Frame> {
        let octets = &self.buffer[VNET_LEN_MERGEABLE..];
        match self.waiting.as_mut()? {
            Waiting::Frame(len) => {
                let mut frame = pool.alloc(room + *len)?;
                frame.bytes_mut()[room..].copy_from_slice(&octets[..*len]);
                self.waiting = None;
                Some(frame)
            }
            Waiting::Super(whole, len, next) => {
                let mut frame =
                    pool.alloc(room + whole.header_len() + whole.payload(*next).len())?;
                // Cannot fail: the frame is as long as the segment is.
                whole.copy(*next, &octets[..*len], &mut frame.bytes_mut()[room..])?;
                *next += 1;
                if *next == whole.count() {
                    self.waiting = None;
                }
                Some(frame)
            }
        }
    }

    /// Sends frames, in the order of each flow, and says how many the kernel refused. They are the
    /// caller's again.
    pub(super) fn transmit<F: Frame>(&mut self, frames: &[F]) -> usize {
        let (fd, mut refused) = (&self.fd, 0);
        let mut out = |coalesced: Coalesced<'_>| refused += write(fd, frames, &coalesced);
        for (number, frame) in (0..).zip(frames) {
            self.coalescer.push(number, frame.bytes(), &mut out);
        }
        self.coalescer.flush(&mut out);
        self.sent
            .count((frames.len() - refused) as u64, octets(frames));
        refused
    }
}

/// Looks at what was read, and completes the checksum of a frame that is not cut. `None` when the
/// two parts contradict each other, or a frame would be longer than `longest`.
fn look(vnet: &[u8], frame: &mut [u8], longest: usize) -> Option<Waiting> {
    let vnet = VnetHeader::parse(vnet, frame.len()).ok()?;
    if vnet.gso.is_some() {
        let whole = SuperFrame::parse(&vnet, frame, frame.len()).ok()?;
        let fits = whole.longest() <= longest;
        return fits.then(|| Waiting::Super(Box::new(whole), frame.len(), 0));
    }
    if let Some(partial) = vnet.checksum {
        complete_checksum(partial, frame).ok()?;
    }
    (frame.len() <= longest).then_some(Waiting::Frame(frame.len()))
}

/// Writes what came out of the coalescer. Says how many frames were refused.
fn write<F: Frame>(fd: &OwnedFd, frames: &[F], coalesced: &Coalesced<'_>) -> usize {
    let header = match coalesced {
        Coalesced::Frame(_) => VnetHeader::default().emit(),
        Coalesced::Group(group) => group.vnet().emit(),
    };
    let mut slices: ArrayVec<IoSlice<'_>, SLICES_MAX> = ArrayVec::new();
    slices.push(IoSlice::new(&header));
    let count = match coalesced {
        Coalesced::Frame(number) => {
            slices.push(IoSlice::new(frames[*number as usize].bytes()));
            1
        }
        Coalesced::Group(group) => {
            slices.push(IoSlice::new(group.header()));
            let payload =
                |piece: &Piece| IoSlice::new(&frames[piece.number as usize].bytes()[piece.range()]);
            slices.extend(group.pieces().iter().map(payload));
            group.pieces().len()
        }
    };
    match rustix::io::writev(fd, &slices) {
        Ok(_) => 0,
        Err(_) => count,
    }
}
