//! AF_XDP: the kernel's fast way to hand frames to a process and take them back.
//!
//! All unsafe code of the engine is in here. Its one rule: a chunk of the UMEM has one owner, which
//! is a ring (fill, receive, transmit, completion), the pool, or an [`XskFrame`]; descriptors
//! move between these and are never copied.
#![allow(unsafe_code)]

mod error;
mod ethtool;
mod frame;
mod socket;
mod sys;
mod umem;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use omni_config::ZeroCopy;
use omni_control::message::PortId;
use omni_wire::{DropReason, Instant};
use omni_xdp_redirect::Meta;
use xsk_rs::FrameDesc;

pub use error::XskError;
pub use ethtool::{
    SwitchedOff, disable_receive_vlan_offload, disable_transmit_offloads, receive_queues,
};
pub use frame::{JOINED_MAX, XskFrame};
pub use sys::Promiscuous;
pub use umem::CHUNK_FRAME_MAX;

use super::{Census, FrameIo, FramePool, Pending, Port, QueueCounters};
use crate::datapath::BURST_MAX;
use frame::{Joined, PARTS_MAX, Parts, Store};
use socket::{Binding, CHUNKS_PER_SOCKET, XskSocket, scatter};
use sys::PollSet;
use umem::Area;

/// Chunks a worker has beyond those its sockets can have under way, and its staged frames.
const SPARE_CHUNKS: usize = 256;
/// Joining buffers a worker may hold.
const JOINED_FRAMES_MAX: usize = 256;

/// An interface whose queues are to be bound.
#[derive(Clone, Debug)]
pub struct XskPort {
    /// Its name.
    pub interface: String,
    /// Its queues that are served.
    pub queues: Vec<u32>,
    /// How to bind them.
    pub zero_copy: ZeroCopy,
}

/// A socket's place, for the XDP program's map and for `omni show`.
#[derive(Clone, Copy, Debug)]
pub struct BoundQueue {
    /// Which side.
    pub port: Port,
    /// Queue of the port's interface.
    pub queue: u32,
    /// The worker that serves it.
    pub worker: usize,
    /// Whether the driver writes into the UMEM itself.
    pub zero_copy: bool,
    fd: RawFd,
}

impl AsRawFd for BoundQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

/// One worker's sockets and chunks.
#[derive(Debug)]
pub struct XskIo {
    area: Area,
    /// Port by port, as in `ports`: a frame's queue is a place in here.
    lanes: Vec<XskLane>,
    /// The underlay, then the access ports in order.
    ports: Vec<PortLanes>,
    poll: PollSet,
    pool: Vec<FrameDesc>,
    total: usize,
    held: usize,
    #[expect(
        clippy::vec_box,
        reason = "frames hold the box: it moves without being made anew"
    )]
    joined: Vec<Box<Joined>>,
    joined_made: usize,
    unjoined: u64,
}

/// Which lanes are a port's.
#[derive(Clone, Copy, Debug, Default)]
struct PortLanes {
    first: usize,
    count: usize,
    /// Which of them is the first to be received from: none may keep the others waiting.
    turn: usize,
}

/// Where a port is in [`XskIo::ports`].
fn place(port: Port) -> usize {
    match port {
        Port::Underlay => 0,
        Port::Access(PortId(n)) => 1 + usize::from(n),
    }
}

/// A socket, and the beginning of a frame whose end is not there yet.
#[derive(Debug)]
struct XskLane {
    port: Port,
    queue: u32,
    socket: XskSocket,
    partial: Parts,
    /// The frame under way is longer than can be joined: its chunks are skipped.
    skipping: bool,
}

/// Binds every queue of all ports and deals them to `workers` workers in turn. Each gets `staged`
/// frames more than its queues can have under way.
///
/// A worker sends to every port of which it has a queue: a port needs as many as there are workers.
///
/// # Errors
/// When memory or a queue cannot be had.
pub fn open(
    underlay: &XskPort,
    access: &[XskPort],
    workers: usize,
    staged: usize,
) -> Result<(Vec<XskIo>, Vec<BoundQueue>), XskError> {
    let ports = access.iter().enumerate();
    let ports = ports.map(|(n, port)| (Port::Access(PortId(n as u8)), port));
    let ports = [(Port::Underlay, underlay)].into_iter().chain(ports);
    let queues: Vec<(Port, Binding<'_>)> = ports
        .flat_map(|(port, spec)| spec.bindings().map(move |binding| (port, binding)))
        .collect();
    let sockets = |worker: usize| (worker..queues.len()).step_by(workers).count();
    let chunks = |worker| sockets(worker) * CHUNKS_PER_SOCKET + SPARE_CHUNKS + staged;
    let all: usize = (0..workers).map(chunks).sum();
    let (area, mut descs) = Area::new(u32::try_from(all).map_err(XskError::setup)?)?;
    let mut ios: Vec<XskIo> = (0..workers)
        .map(|worker| XskIo::new(area.clone(), descs.split_off(descs.len() - chunks(worker))))
        .collect();
    let mut bound = Vec::new();
    for (n, (port, binding)) in queues.iter().enumerate() {
        let socket = XskSocket::bind(&area, binding)?;
        let worker = n % workers;
        bound.push(BoundQueue {
            port: *port,
            queue: binding.queue,
            worker,
            zero_copy: socket.is_zero_copy(),
            fd: socket.fd(),
        });
        ios[worker].add(*port, binding.queue, socket);
    }
    for io in &mut ios {
        io.refill();
    }
    Ok((ios, bound))
}

impl XskPort {
    fn bindings(&self) -> impl Iterator<Item = Binding<'_>> {
        let (interface, zero_copy) = (self.interface.as_str(), self.zero_copy);
        self.queues.iter().map(move |&queue| Binding {
            interface,
            queue,
            zero_copy,
        })
    }
}

impl XskIo {
    fn new(area: Area, pool: Vec<FrameDesc>) -> Self {
        Self {
            area,
            lanes: Vec::new(),
            ports: Vec::new(),
            poll: PollSet::new(),
            total: pool.len(),
            pool,
            held: 0,
            joined: Vec::new(),
            joined_made: 0,
            unjoined: 0,
        }
    }

    /// Takes a socket over. Those of one port come together, and ports in order.
    fn add(&mut self, port: Port, queue: u32, socket: XskSocket) {
        let (place, first) = (place(port), self.lanes.len());
        while self.ports.len() <= place {
            self.ports.push(PortLanes {
                first,
                ..PortLanes::default()
            });
        }
        self.ports[place].count += 1;
        self.poll.add(socket.fd());
        self.lanes.push(XskLane {
            port,
            queue,
            socket,
            partial: Parts::new(),
            skipping: false,
        });
    }

    /// A port's lanes: none when this worker has no queue of it.
    fn lanes_of(&self, port: Port) -> PortLanes {
        self.ports.get(place(port)).copied().unwrap_or_default()
    }

    fn reclaim(&mut self) {
        for lane in &mut self.lanes {
            lane.socket.reclaim(&mut self.pool);
        }
    }

    fn refill(&mut self) {
        for lane in &mut self.lanes {
            lane.socket.refill(&mut self.pool);
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
    fn put_back(&mut self, frame: XskFrame) {
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
        }
    }

    /// Makes a frame of a descriptor that was received or taken from the pool.
    fn adopt(area: &Area, desc: FrameDesc, len: usize, meta: Meta, queue: usize) -> XskFrame {
        let (data, capacity) = area.locate(&desc);
        let arrived = (meta.stamp_ns != 0).then_some(Instant(meta.stamp_ns));
        let store = Store::Chunk {
            desc,
            data,
            capacity,
        };
        XskFrame {
            store,
            len: len.min(capacity),
            room: usize::from(meta.room),
            arrived,
            queue,
        }
    }

    /// Joins the chunks of a frame that did not fit one.
    fn join(&mut self, parts: Parts, queue: usize) -> Option<XskFrame> {
        let len: usize = parts.iter().map(|desc| desc.lengths().data()).sum();
        let buffer = if len <= JOINED_MAX {
            self.take_joined()
        } else {
            None
        };
        let Some(mut joined) = buffer else {
            self.pool.extend(parts);
            return None;
        };
        let meta = Meta::parse(&self.area.metadata(&parts[0]));
        let mut at = 0;
        joined.capacity = 0;
        for desc in &parts {
            let len = desc.lengths().data();
            let (data, capacity) = self.area.locate(desc);
            // SAFETY: `data` points to `capacity` octets of a chunk that was just received, so
            // its only owner is this function.
            let octets = unsafe { core::slice::from_raw_parts(data, len.min(capacity)) };
            joined.buffer[at..at + octets.len()].copy_from_slice(octets);
            at += octets.len();
            joined.capacity += capacity;
        }
        self.held += parts.len();
        joined.parts = parts;
        let arrived = (meta.stamp_ns != 0).then_some(Instant(meta.stamp_ns));
        let room = usize::from(meta.room);
        Some(XskFrame {
            store: Store::Joined(joined),
            len: at,
            room,
            arrived,
            queue,
        })
    }

    /// Turns what the lane `n` received into frames.
    fn collect(&mut self, n: usize, descs: &[FrameDesc], burst: &mut Vec<XskFrame>) {
        for &desc in descs {
            let lane = &mut self.lanes[n];
            if lane.partial.is_empty() && !lane.skipping && !desc.has_more_frames() {
                lane.socket.rx_frames += 1;
                let meta = Meta::parse(&self.area.metadata(&desc));
                burst.push(Self::adopt(
                    &self.area,
                    desc,
                    desc.lengths().data(),
                    meta,
                    n,
                ));
                self.held += 1;
                continue;
            }
            let last = !desc.has_more_frames();
            lane.socket.rx_frames += u64::from(last);
            if lane.skipping || lane.partial.is_full() {
                lane.skipping = !last;
                let parts = std::mem::take(&mut lane.partial);
                self.pool.extend(parts);
                self.pool.push(desc);
                self.unjoined += u64::from(last);
                continue;
            }
            lane.partial.push(desc);
            if last {
                let parts = std::mem::take(&mut lane.partial);
                match self.join(parts, n) {
                    Some(frame) => burst.push(frame),
                    None => self.unjoined += 1,
                }
            }
        }
    }

    /// Queues one frame on a socket, or frees it. Says whether it was queued.
    fn send(&mut self, port: Port, mut frame: XskFrame) -> bool {
        let mut single = [FrameDesc::default()];
        let sent = match &mut frame.store {
            Store::Chunk { desc, .. } => {
                self.area.set_len(desc, frame.len);
                desc.set_options(0);
                single[0] = *desc;
                1
            }
            Store::Joined(joined) => {
                let before = joined.parts.len();
                scatter(
                    &self.area,
                    &joined.buffer[..frame.len],
                    &mut joined.parts,
                    &mut self.pool,
                );
                self.held -= before - joined.parts.len();
                joined.parts.len()
            }
        };
        let parts: &[FrameDesc] = match &frame.store {
            Store::Chunk { .. } => &single,
            Store::Joined(joined) => &joined.parts,
        };
        let PortLanes { first, count, .. } = self.lanes_of(port);
        let lane = self.lanes[first..first + count].first_mut();
        if !lane.is_some_and(|lane| lane.socket.send(parts)) {
            self.put_back(frame);
            return false;
        }
        self.held -= sent;
        if let Store::Joined(mut joined) = frame.store {
            joined.parts.clear();
            self.joined.push(joined);
        }
        true
    }
}

impl FramePool for XskIo {
    type Frame = XskFrame;

    fn alloc(&mut self, len: usize) -> Option<XskFrame> {
        if len <= CHUNK_FRAME_MAX {
            let desc = self.pool.pop()?;
            self.held += 1;
            return Some(Self::adopt(&self.area, desc, len, Meta::default(), 0));
        }
        let count = len.div_ceil(CHUNK_FRAME_MAX);
        if count > PARTS_MAX || self.pool.len() < count {
            return None;
        }
        let mut joined = self.take_joined()?;
        joined
            .parts
            .extend(self.pool.drain(self.pool.len() - count..));
        joined.capacity = joined
            .parts
            .iter()
            .map(|desc| self.area.locate(desc).1)
            .sum();
        self.held += count;
        Some(XskFrame {
            store: Store::Joined(joined),
            len,
            room: 0,
            arrived: None,
            queue: 0,
        })
    }
}

impl FrameIo for XskIo {
    fn receive(&mut self, port: Port, burst: &mut Vec<XskFrame>, max: usize) -> usize {
        let before = burst.len();
        let mut descs = [FrameDesc::default(); BURST_MAX];
        let PortLanes { first, count, turn } = self.lanes_of(port);
        for n in turn..turn + count {
            let lane = first + n % count;
            let room = max.saturating_sub(burst.len() - before).min(BURST_MAX);
            let received = self.lanes[lane].socket.receive(&mut descs[..room]);
            self.collect(lane, &descs[..received], burst);
            if received == room {
                // There may be more, and the next lane's turn comes before that.
                self.ports[place(port)].turn = (n + 1) % count;
                break;
            }
        }
        burst.len() - before
    }

    fn transmit(&mut self, port: Port, frames: &mut Vec<XskFrame>) -> usize {
        let mut refused = 0;
        for frame in frames.drain(..) {
            refused += usize::from(!self.send(port, frame));
        }
        refused
    }

    fn free(&mut self, frames: &mut Vec<XskFrame>) {
        for frame in frames.drain(..) {
            self.put_back(frame);
        }
    }

    fn flush(&mut self) {
        for lane in &mut self.lanes {
            lane.socket.kick();
        }
        self.reclaim();
        self.refill();
    }

    fn pending(&self) -> Pending {
        let kick = self.lanes.iter().any(|lane| lane.socket.kick);
        let sending = self.lanes.iter().any(|lane| lane.socket.sending > 0);
        let dry = self.pool.is_empty() && sending;
        match (kick || dry, sending) {
            (true, _) => Pending::Stalled,
            (false, true) => Pending::Completions,
            (false, false) => Pending::Nothing,
        }
    }

    fn wait(&mut self, wake: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        self.poll.wait(wake.as_raw_fd(), timeout)
    }

    fn queues(&self) -> Vec<QueueCounters> {
        self.lanes
            .iter()
            .map(|lane| QueueCounters {
                port: lane.port,
                queue: lane.queue,
                zero_copy: lane.socket.is_zero_copy(),
                rx_frames: lane.socket.rx_frames,
                tx_frames: lane.socket.tx_frames,
            })
            .collect()
    }

    fn kernel_drops(&self) -> Vec<(DropReason, u64)> {
        let mut sums = [0; 4];
        for lane in &self.lanes {
            for (sum, count) in sums.iter_mut().zip(lane.socket.kernel_drops()) {
                *sum += count;
            }
        }
        let reasons = [
            DropReason::RxRingFull,
            DropReason::FillRingEmpty,
            DropReason::RxKernel,
            DropReason::TxInvalid,
        ];
        let joined = (DropReason::TooManyBuffers, self.unjoined);
        reasons.into_iter().zip(sums).chain([joined]).collect()
    }

    fn census(&self) -> Census {
        let partial: usize = self.lanes.iter().map(|lane| lane.partial.len()).sum();
        let receiving = self
            .lanes
            .iter()
            .map(|lane| lane.socket.receiving)
            .sum::<usize>()
            + partial;
        Census {
            total: self.total as u64,
            free: self.pool.len() as u64,
            receiving: receiving as u64,
            sending: self
                .lanes
                .iter()
                .map(|lane| lane.socket.sending)
                .sum::<usize>() as u64,
            held: self.held as u64,
        }
    }
}

// A worker's queues and chunks are its own: they may move to its thread, and nothing of them
// stays behind. Frames hold pointers and stay with the worker; the set-up holds none.
const _: () = {
    const fn sendable<T: Send>() {}
    sendable::<XskIo>();
};
