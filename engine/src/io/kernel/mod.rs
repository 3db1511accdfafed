//! The kernel's ways for frames to a process and back: AF_XDP sockets, taps, UDP sockets.
//!
//! ```text
//!  underlay      xsk: rings over the UMEM                       udp: UDP_SEGMENT, UDP_GRO
//!  access port   xsk: likewise, one to the other without copy   tap: super-frames
//! ```
//!
//! All unsafe code of the engine is in here. Its one rule: a chunk of the UMEM has one owner, which
//! is a ring (fill, receive, transmit, completion), the pool, or a [`KernelFrame`]; descriptors
//! move between these and are never copied. Of these a frame alone is handed out, and it cannot be
//! copied. A descriptor could be, by its type: that none was is looked at each second, by the sum
//! of all chunks and by the pool, where none may be twice.
#![allow(unsafe_code)]

mod chunks;
mod datagrams;
mod device;
#[cfg(feature = "fuzzing")]
pub mod driven;
mod error;
mod ethtool;
mod frame;
mod lane;
mod reopen;
mod sys;
mod tap;
mod udp;
mod umem;
#[cfg(test)]
mod wrap;
mod xsk;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::time::Duration;

use omni_config::ZeroCopy;
use omni_wire::DropReason;
use xsk_rs::FrameDesc;

pub use device::TapDevice;
pub use error::KernelIoError;
pub use ethtool::{
    SwitchedOff, disable_receive_vlan_offload, disable_transmit_offloads, driver_of, has_feature,
    receive_queues,
};
pub use frame::{JOINED_MAX, KernelFrame};
pub use reopen::{Reopened, reopen};
#[cfg(test)]
pub(crate) use sys::raw_call;
pub use sys::{Promiscuous, afxdp_is_there};
pub use udp::{UdpPair, unbound_socket};
pub use umem::CHUNK_FRAME_MAX;

use super::{Carried, Census, FrameIo, FramePool, LetGo, Pending, Port, QueueCounters};
use crate::datapath::BURST_MAX;
use chunks::Chunks;
use lane::XskLane;
use reopen::Past;
use sys::PollSet;
use tap::TapQueue;
use udp::{UdpReceiver, UdpSender};
use umem::Area;
use xsk::{BIND_PATIENCE, Binding, CHUNKS_PER_SOCKET, XskSocket};

/// Chunks a worker has beyond those its sockets can have under way, and its staged frames.
const SPARE_CHUNKS: usize = 256;
/// Chunks for what a tap's queue or a UDP socket has read and the other side has not sent yet.
const CHUNKS_PER_READER: usize = 512;
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

/// How a port's frames come and go.
#[derive(Debug)]
pub enum PortDriver {
    /// AF_XDP sockets.
    Xsk(XskPort),
    /// A tap, with a queue for each worker.
    Tap(TapDevice),
    /// UDP sockets on this port, a pair for each worker. Of the underlay only.
    Udp(Vec<UdpPair>, u16),
}

/// A queue of a port and the worker that serves it, for the XDP program's map.
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

impl BoundQueue {
    fn new(port: Port, queue: u32, worker: usize, socket: &XskSocket) -> Self {
        Self {
            port,
            queue,
            worker,
            zero_copy: socket.is_zero_copy(),
            fd: socket.fd(),
        }
    }
}

impl AsRawFd for BoundQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

/// One worker's queues and chunks.
#[derive(Debug)]
pub struct KernelIo {
    chunks: Chunks,
    /// Port by port, as in `ports`: a frame's queue is a place in here.
    lanes: Vec<Lane>,
    /// The underlay, then the access ports in order.
    ports: Vec<PortLanes>,
    /// Sends to the underlay in place of its lane.
    sender: Option<UdpSender>,
    poll: PollSet,
    /// What sockets counted that are closed.
    past: Past,
}

/// Which lanes are a port's.
#[derive(Clone, Copy, Debug, Default)]
struct PortLanes {
    first: usize,
    count: usize,
    /// Which of them is the first to be received from: none may keep the others waiting.
    turn: usize,
}

/// A queue of a port.
#[derive(Debug)]
struct Lane {
    port: Port,
    /// Its number on the port's interface.
    queue: u32,
    driver: Driver,
}

#[derive(Debug)]
enum Driver {
    Xsk(Box<XskLane>),
    Tap(TapQueue),
    Udp(Box<UdpReceiver>),
}

/// What becomes a lane.
enum Source<'a> {
    Binding(Binding<'a>),
    Tap(OwnedFd, bool),
    Udp(UdpPair, u16),
}

impl XskPort {
    /// Its queues, each to be bound within so long.
    fn bindings(&self, patience: Duration) -> impl Iterator<Item = Binding<'_>> {
        self.queues.iter().map(move |&queue| Binding {
            patience,
            interface: &self.interface,
            queue,
            zero_copy: self.zero_copy,
        })
    }
}

impl PortDriver {
    /// Its queues, with their numbers.
    fn sources(&mut self) -> Vec<(u32, Source<'_>)> {
        match self {
            Self::Xsk(port) => {
                let bindings = port.bindings(BIND_PATIENCE);
                let sources = bindings.map(|binding| (binding.queue, Source::Binding(binding)));
                sources.collect()
            }
            Self::Tap(device) => {
                let udp = device.cuts_udp;
                let queues = device.queues.drain(..);
                (0..).zip(queues.map(|fd| Source::Tap(fd, udp))).collect()
            }
            Self::Udp(pairs, port) => {
                let port = *port;
                let pairs = pairs.drain(..).map(|pair| Source::Udp(pair, port));
                (0..).zip(pairs).collect()
            }
        }
    }
}

/// Opens every queue of all ports and deals them to `workers` workers in turn. Each gets `staged`
/// frames more than its queues can have under way. `room` is what frames of taps get before them,
/// in octets, and may change. Where there are `senders`, one for each worker, messages leave by
/// them.
///
/// A worker sends to every port of which it has a queue: a port needs as many as there are workers.
///
/// # Errors
/// When memory or a queue cannot be had.
pub fn open(
    mut ports: Vec<(Port, PortDriver)>,
    workers: usize,
    staged: usize,
    room: &Arc<AtomicU16>,
    senders: Vec<UdpPair>,
) -> Result<(Vec<KernelIo>, Vec<BoundQueue>), KernelIoError> {
    let sources = ports.iter_mut().flat_map(|(port, driver)| {
        let port = *port;
        driver
            .sources()
            .into_iter()
            .map(move |(queue, source)| (port, queue, source))
    });
    let sources: Vec<(Port, u32, Source<'_>)> = sources.collect();
    let mut chunks = vec![SPARE_CHUNKS + staged; workers];
    for (n, (_, _, source)) in sources.iter().enumerate() {
        chunks[n % workers] += match source {
            Source::Binding(_) => CHUNKS_PER_SOCKET,
            Source::Tap(..) | Source::Udp(..) => CHUNKS_PER_READER,
        };
    }
    let bindings = sources.iter().filter_map(|(.., source)| match source {
        Source::Binding(binding) => Some(binding.clone()),
        Source::Tap(..) | Source::Udp(..) => None,
    });
    let bindings: Vec<Binding<'_>> = bindings.collect();
    let all = u32::try_from(chunks.iter().sum::<usize>()).map_err(KernelIoError::setup)?;
    let Bound { area, sockets } = Bound::new(&bindings, all)?;
    let mut sockets = sockets.into_iter();
    let (area, mut descs) = area.map_or((None, Vec::new()), |(area, descs)| (Some(area), descs));
    let chunks = chunks.into_iter().map(|count| match &area {
        Some(area) => Chunks::new(area.clone(), descs.split_off(descs.len() - count)),
        None => Chunks::ordinary(count),
    });
    let mut ios: Vec<KernelIo> = chunks.map(KernelIo::new).collect();
    let mut bound = Vec::new();
    for (n, (port, queue, source)) in sources.into_iter().enumerate() {
        let worker = n % workers;
        let io = &mut ios[worker];
        match source {
            Source::Binding(_) => {
                let socket = sockets.next();
                let socket = socket.ok_or_else(|| KernelIoError::setup("a queue has no socket"))?;
                bound.push(BoundQueue::new(port, queue, worker, &socket));
                let driver = Driver::Xsk(Box::new(XskLane::new(socket)));
                io.add(port, queue, driver);
            }
            Source::Tap(fd, udp) => {
                let tap = TapQueue::new(fd, udp, Arc::clone(room));
                io.add(port, queue, Driver::Tap(tap));
            }
            Source::Udp(pair, udp_port) => {
                let receiver = Box::new(UdpReceiver::new(pair, udp_port));
                io.add(port, queue, Driver::Udp(receiver));
            }
        }
    }
    for (io, pair) in ios.iter_mut().zip(senders) {
        io.sender = Some(UdpSender::new(pair));
    }
    for io in &mut ios {
        io.refill();
    }
    Ok((ios, bound))
}

/// The UMEM with all its chunks, and a socket for each queue.
struct Bound {
    /// `None` when there is no queue to bind.
    area: Option<(Area, Vec<FrameDesc>)>,
    sockets: Vec<XskSocket>,
}

impl Bound {
    /// Binds queues, all with copies or all without: sockets of one UMEM are of one kind, that of
    /// the first. Where some of them cannot do without, and none must, none does.
    fn new(bindings: &[Binding<'_>], chunks: u32) -> Result<Self, KernelIoError> {
        if bindings.is_empty() {
            let (area, sockets) = (None, Vec::new());
            return Ok(Self { area, sockets });
        }
        let wants = |wanted| bindings.iter().any(|binding| binding.zero_copy == wanted);
        let mixed = wants(ZeroCopy::Off);
        if mixed && wants(ZeroCopy::On) {
            return Err(KernelIoError::Mixed);
        }
        if !mixed {
            match Self::all(bindings, chunks, None) {
                // A port whose driver has to copy, beside one whose driver has not.
                Err(error) if !wants(ZeroCopy::On) && error.is_unsupported() => {}
                outcome => return outcome,
            }
        }
        Self::all(bindings, chunks, Some(ZeroCopy::Off))
    }

    fn all(
        bindings: &[Binding<'_>],
        chunks: u32,
        zero_copy: Option<ZeroCopy>,
    ) -> Result<Self, KernelIoError> {
        let (area, descs) = Area::new(chunks)?;
        let bind = |binding: &Binding<'_>| {
            let zero_copy = zero_copy.unwrap_or(binding.zero_copy);
            let binding = Binding {
                zero_copy,
                ..binding.clone()
            };
            XskSocket::bind(&area, &binding)
        };
        let sockets = bindings.iter().map(bind).collect::<Result<_, _>>()?;
        let area = Some((area, descs));
        Ok(Self { area, sockets })
    }
}

impl KernelIo {
    fn new(chunks: Chunks) -> Self {
        Self {
            chunks,
            lanes: Vec::new(),
            ports: Vec::new(),
            sender: None,
            poll: PollSet::new(),
            past: Past::default(),
        }
    }

    /// Takes a queue over. Those of one port come together, and ports in order.
    fn add(&mut self, port: Port, queue: u32, driver: Driver) {
        let (place, first) = (port.place(), self.lanes.len());
        while self.ports.len() <= place {
            self.ports.push(PortLanes {
                first,
                ..PortLanes::default()
            });
        }
        self.ports[place].count += 1;
        match &driver {
            Driver::Xsk(lane) => self.poll.add(lane.socket.fd()),
            Driver::Tap(tap) => self.poll.add(tap.fd()),
            Driver::Udp(receiver) => {
                for socket in receiver.sockets() {
                    self.poll.add(socket.as_raw_fd());
                }
            }
        }
        self.lanes.push(Lane {
            port,
            queue,
            driver,
        });
    }

    /// A port's lanes: none when this worker has no queue of it.
    fn lanes_of(&self, port: Port) -> PortLanes {
        self.ports.get(port.place()).copied().unwrap_or_default()
    }

    /// The AF_XDP sockets.
    fn sockets(&self) -> impl Iterator<Item = &XskLane> {
        self.lanes.iter().filter_map(|lane| match &lane.driver {
            Driver::Xsk(lane) => Some(&**lane),
            Driver::Tap(_) | Driver::Udp(_) => None,
        })
    }

    fn refill(&mut self) {
        for socket in sockets_mut(&mut self.lanes) {
            socket.refill(&mut self.chunks.pool);
        }
    }
}

/// The AF_XDP sockets among lanes, to work with.
fn sockets_mut(lanes: &mut [Lane]) -> impl Iterator<Item = &mut XskSocket> {
    lanes.iter_mut().filter_map(|lane| match &mut lane.driver {
        Driver::Xsk(lane) => Some(&mut lane.socket),
        Driver::Tap(_) | Driver::Udp(_) => None,
    })
}

impl FramePool for KernelIo {
    type Frame = KernelFrame;

    const LONGEST: usize = Chunks::LONGEST;

    fn alloc(&mut self, len: usize) -> Option<KernelFrame> {
        self.chunks.alloc(len)
    }
}

impl FrameIo for KernelIo {
    fn receive(&mut self, port: Port, burst: &mut Vec<KernelFrame>, max: usize) -> usize {
        let before = burst.len();
        let PortLanes { first, count, turn } = self.lanes_of(port);
        for n in turn..turn + count {
            let lane = first + n % count;
            let room = max.saturating_sub(burst.len() - before).min(BURST_MAX);
            let received = match &mut self.lanes[lane].driver {
                Driver::Xsk(xsk) => xsk.receive(&mut self.chunks, lane, burst, room),
                Driver::Tap(tap) => tap.receive(&mut self.chunks, lane, burst, room),
                Driver::Udp(udp) => udp.receive(&mut self.chunks, lane, burst, room),
            };
            if received == room {
                // There may be more, and the next lane's turn comes before that.
                self.ports[port.place()].turn = (n + 1) % count;
                break;
            }
        }
        burst.len() - before
    }

    fn transmit(&mut self, port: Port, frames: &mut Vec<KernelFrame>) -> usize {
        let PortLanes { first, count, .. } = self.lanes_of(port);
        let lane = self.lanes[first..first + count].first_mut();
        let mut refused = 0;
        if port == Port::Underlay
            && let Some(sender) = &mut self.sender
        {
            refused = sender.transmit(frames);
            self.free(frames);
            return refused;
        }
        match lane.map(|lane| &mut lane.driver) {
            Some(Driver::Xsk(lane)) => {
                for frame in frames.drain(..) {
                    refused += usize::from(!lane.send(&mut self.chunks, frame));
                }
            }
            Some(Driver::Tap(tap)) => {
                refused = tap.transmit(frames);
                self.free(frames);
            }
            Some(Driver::Udp(_)) | None => {
                refused = frames.len();
                self.free(frames);
            }
        }
        refused
    }

    fn free(&mut self, frames: &mut Vec<KernelFrame>) {
        for frame in frames.drain(..) {
            self.chunks.put_back(frame);
        }
    }

    fn flush(&mut self) {
        for socket in sockets_mut(&mut self.lanes) {
            socket.kick();
        }
        for socket in sockets_mut(&mut self.lanes) {
            socket.reclaim(&mut self.chunks.pool);
        }
        self.refill();
    }

    fn pending(&self) -> Pending {
        let kick = self.sockets().any(|lane| lane.socket.kick);
        let sending = self.sockets().any(|lane| lane.socket.sending > 0);
        let dry = self.chunks.free() == 0 && sending;
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
        // What a sender sends is counted on the worker's first queue of the underlay.
        let first = self.lanes.first().map_or(0, |lane| lane.queue);
        let counters = |lane: &Lane| {
            let (received, sent) = match &lane.driver {
                Driver::Xsk(lane) => (lane.socket.received, lane.socket.sent),
                Driver::Tap(tap) => (tap.received, tap.sent),
                Driver::Udp(udp) => (udp.received, Carried::default()),
            };
            let (zero_copy, tx_waiting) = match &lane.driver {
                Driver::Xsk(lane) => (lane.socket.is_zero_copy(), lane.socket.waiting),
                Driver::Tap(_) | Driver::Udp(_) => (false, 0),
            };
            let sender = self.sender.as_ref();
            let sender = sender.filter(|_| lane.port == Port::Underlay && lane.queue == first);
            let sent = sender.map_or(sent, |sender| sender.sent);
            QueueCounters {
                port: lane.port,
                queue: lane.queue,
                zero_copy,
                stamped: matches!(lane.driver, Driver::Xsk(_)),
                rx_frames: received.frames,
                rx_bytes: received.bytes,
                tx_frames: sent.frames,
                tx_bytes: sent.bytes,
                tx_waiting: tx_waiting.into(),
            }
        };
        self.lanes.iter().map(counters).collect()
    }

    fn kernel_drops(&self) -> Vec<(DropReason, u64)> {
        let mut sums = self.past.drops;
        for lane in self.sockets() {
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
        let unjoined = self.sockets().map(|lane| lane.unjoined).sum::<u64>() + self.past.unjoined;
        let refused = self.lanes.iter().map(|lane| match &lane.driver {
            Driver::Xsk(_) => 0,
            Driver::Tap(tap) => tap.refused,
            Driver::Udp(udp) => udp.refused,
        });
        let dropped = self.lanes.iter().map(|lane| match &lane.driver {
            Driver::Udp(udp) => udp.dropped(),
            Driver::Xsk(_) | Driver::Tap(_) => 0,
        });
        let others = [
            (DropReason::RxRingFull, dropped.sum()),
            (DropReason::TooManyBuffers, unjoined),
            (DropReason::OffloadInvalid, refused.sum()),
        ];
        reasons.into_iter().zip(sums).chain(others).collect()
    }

    fn census(&self) -> Census {
        Census {
            total: self.chunks.total as u64,
            free: self.chunks.free() as u64,
            receiving: self.sockets().map(XskLane::receiving).sum::<usize>() as u64,
            sending: self
                .sockets()
                .map(|lane| lane.socket.sending)
                .sum::<usize>() as u64,
            held: self.chunks.held as u64,
        }
    }

    fn is_sound(&self) -> bool {
        self.chunks.is_sound()
    }

    fn urge(&mut self) {
        for socket in sockets_mut(&mut self.lanes) {
            socket.urge(&mut self.chunks.pool);
        }
    }

    fn let_go(&mut self) -> LetGo {
        self.close_sockets()
    }

    fn take_over(&mut self, reopened: Reopened) {
        self.take_sockets(reopened);
    }
}

// A worker's queues and chunks are its own: they may move to its thread, and nothing of them
// stays behind. Frames hold pointers and stay with the worker; the set-up holds none.
const _: () = {
    const fn sendable<T: Send>() {}
    sendable::<KernelIo>();
};
