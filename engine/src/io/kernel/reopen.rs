//! New sockets and new packet memory for workers that run.
//!
//! ```text
//! control thread -- let go --> worker: closes its sockets, gives the memory back
//! control thread: maps memory, binds every queue anew
//! control thread -- take over --> worker
//! ```
//!
//! A socket whose interface was deleted cannot be bound again, and the kernel binds others to the
//! same memory only by a socket that is. So all sockets of AF_XDP go together, with their memory.
//! Taps and UDP sockets stay.

use std::time::Duration;

use xsk_rs::FrameDesc;

use super::chunks::Chunks;
use super::lane::XskLane;
use super::sys::PollSet;
use super::xsk::{Binding, CHUNKS_PER_SOCKET};
use super::{
    Bound, BoundQueue, CHUNKS_PER_READER, Driver, KernelIo, KernelIoError, Lane, SPARE_CHUNKS,
    XskPort,
};
use crate::io::{Carried, LetGo, Port};

/// How long to wait for a queue whose socket was just closed. Who asks cannot wait for longer, and
/// asks again.
const PATIENCE: Duration = Duration::from_millis(300);

/// What sockets counted that are closed.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// As [`super::xsk::XskSocket::kernel_drops`].
    pub(super) drops: [u64; 4],
    pub(super) unjoined: u64,
    /// What was received and sent, by queue.
    carried: Vec<((Port, u32), [Carried; 2])>,
}

/// Sockets and packet memory of one worker.
#[derive(Debug)]
pub struct Reopened {
    chunks: Chunks,
    lanes: Vec<Lane>,
}

/// Opens every queue of these ports and deals them to workers in turn, as [`super::open`] does.
/// There is a number for each worker: the queues that it has besides. Each gets `staged` frames
/// more than its queues can have under way.
///
/// # Errors
/// When memory or a queue cannot be had.
pub fn reopen(
    ports: &[(Port, XskPort)],
    staged: usize,
    readers: &[usize],
) -> Result<(Vec<Reopened>, Vec<BoundQueue>), KernelIoError> {
    let bindings = ports.iter().flat_map(|(port, xsk)| {
        let port = *port;
        xsk.bindings(PATIENCE).map(move |binding| (port, binding))
    });
    let (places, bindings): (Vec<Port>, Vec<Binding<'_>>) = bindings.unzip();
    let others = readers.iter().map(|count| count * CHUNKS_PER_READER);
    let mut counts: Vec<usize> = others.map(|count| SPARE_CHUNKS + staged + count).collect();
    let workers = counts.len();
    for n in 0..bindings.len() {
        counts[n % workers] += CHUNKS_PER_SOCKET;
    }
    let all = u32::try_from(counts.iter().sum::<usize>()).map_err(KernelIoError::setup)?;
    let Bound { area, sockets } = Bound::new(&bindings, all)?;
    let (area, mut descs) = area.ok_or_else(|| KernelIoError::setup("no queue to open"))?;
    let shares = counts.into_iter().map(|count| {
        let share: Vec<FrameDesc> = descs.split_off(descs.len() - count);
        Reopened {
            chunks: Chunks::new(area.clone(), share),
            lanes: Vec::new(),
        }
    });
    let mut shares: Vec<Reopened> = shares.collect();
    let mut bound = Vec::new();
    let queues = places.into_iter().zip(&bindings).zip(sockets);
    for (n, ((port, binding), mut socket)) in queues.enumerate() {
        let (queue, worker) = (binding.queue, n % workers);
        let share = &mut shares[worker];
        // Some drivers need buffers from the beginning.
        socket.refill(&mut share.chunks.pool);
        bound.push(BoundQueue::new(port, queue, worker, &socket));
        let driver = Driver::Xsk(Box::new(XskLane::new(socket)));
        share.lanes.push(Lane {
            port,
            queue,
            driver,
        });
    }
    Ok((shares, bound))
}

impl KernelIo {
    /// Closes the AF_XDP sockets, and is left without packet memory.
    pub(super) fn close_sockets(&mut self) -> LetGo {
        let mut lost = 0;
        let mut readers = Vec::new();
        for lane in std::mem::take(&mut self.lanes) {
            let Driver::Xsk(xsk) = &lane.driver else {
                readers.push(lane);
                continue;
            };
            let socket = &xsk.socket;
            lost += socket.sending as u64;
            for (sum, count) in self.past.drops.iter_mut().zip(socket.kernel_drops()) {
                *sum += count;
            }
            self.past.unjoined += xsk.unjoined;
            let place = (lane.port, lane.queue);
            self.past.carried.retain(|(other, _)| *other != place);
            let carried = [socket.received, socket.sent];
            self.past.carried.push((place, carried));
        }
        let closed = LetGo {
            readers: readers.len(),
            lost,
        };
        // One that never had a socket has buffers of its own.
        if self.chunks.are_shared() {
            self.chunks = Chunks::ordinary(0);
        }
        self.arrange(readers);
        closed
    }

    /// Takes sockets and packet memory over. Queues that it had before go on counting.
    pub(super) fn take_sockets(&mut self, reopened: Reopened) {
        let Reopened { chunks, mut lanes } = reopened;
        for lane in &mut lanes {
            let place = (lane.port, lane.queue);
            let before = self.past.carried.iter().find(|(other, _)| *other == place);
            if let (Driver::Xsk(xsk), Some((_, [rx, tx]))) = (&mut lane.driver, before) {
                (xsk.socket.received, xsk.socket.sent) = (*rx, *tx);
            }
        }
        self.chunks = chunks;
        lanes.append(&mut self.lanes);
        self.arrange(lanes);
    }

    /// Has these lanes and no others.
    fn arrange(&mut self, mut lanes: Vec<Lane>) {
        lanes.sort_by_key(|lane| (lane.port.place(), lane.queue));
        self.ports.clear();
        self.poll = PollSet::new();
        for lane in lanes {
            self.add(lane.port, lane.queue, lane.driver);
        }
    }
}
