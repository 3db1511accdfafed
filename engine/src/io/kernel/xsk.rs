//! One AF_XDP socket: a queue of an interface, with its four rings.

use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant as Clock};

use omni_config::ZeroCopy;
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue};

use super::frame::Parts;
use super::umem::Area;
use super::{KernelIoError, sys};
use crate::io::Carried;

/// Entries of the transmit ring: what may wait there before frames are dropped.
const TX_RING: u32 = 1024;
/// Entries of the receive ring.
const RX_RING: u32 = 2048;
/// Chunks that wait to be filled. Fewer than the ring holds: they stay in the cache.
pub(super) const FILL_TARGET: usize = 2048;
/// Chunks one socket can have under way.
pub(super) const CHUNKS_PER_SOCKET: usize = FILL_TARGET + TX_RING as usize;
/// Frames that one kick sends at most; the kernel's default is 32.
const TX_BUDGET: u32 = 256;
/// Kicks in a row while the ring does not empty; then the loop goes on and kicks again later.
const KICKS_MAX: usize = 4;
/// How long to try again while the queue is still bound by a process that just died.
pub(super) const BIND_PATIENCE: Duration = Duration::from_secs(2);

/// What of an interface a socket binds.
#[derive(Clone, Debug)]
pub(super) struct Binding<'a> {
    pub(super) interface: &'a str,
    pub(super) queue: u32,
    pub(super) zero_copy: ZeroCopy,
    /// How long to try again while somebody else has the queue.
    pub(super) patience: Duration,
}

/// A bound socket and the count of its chunks.
#[derive(Debug)]
pub(super) struct XskSocket {
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    zero_copy: bool,
    /// Chunks given to the kernel to fill, and not received yet.
    pub(super) receiving: usize,
    /// Chunks given to the kernel to send, and not returned yet.
    pub(super) sending: usize,
    /// Frames were queued since the last kick, or the last kick left some.
    pub(super) kick: bool,
    /// Chunks of the transmit ring that the kernel had not taken after the last kick.
    pub(super) waiting: u32,
    /// Frames received, not chunks.
    pub(super) received: Carried,
    /// Frames sent, not chunks.
    pub(super) sent: Carried,
}

impl XskSocket {
    pub(super) fn bind(area: &Area, binding: &Binding<'_>) -> Result<Self, KernelIoError> {
        let copies: &[BindFlags] = match binding.zero_copy {
            ZeroCopy::Auto => &[BindFlags::XDP_ZEROCOPY, BindFlags::XDP_COPY],
            ZeroCopy::On => &[BindFlags::XDP_ZEROCOPY],
            ZeroCopy::Off => &[BindFlags::XDP_COPY],
        };
        // Frames of several buffers are asked for first: kernels before 6.6 know none, and some
        // drivers cannot have them without copies. Then frames beyond a chunk are dropped.
        let buffers = [BindFlags::XDP_USE_SG, BindFlags::empty()];
        let modes = || {
            copies
                .iter()
                .flat_map(|&copy| buffers.map(|buffers| copy | buffers))
        };
        let deadline = Clock::now() + binding.patience;
        loop {
            let mut last = None;
            for mode in modes() {
                match Self::try_bind(area, binding, mode) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => last = Some(error),
                }
            }
            let Some(error) = last else {
                return Err(KernelIoError::setup("no mode to bind in"));
            };
            // A killed process's queue is given free a moment after it is gone.
            if error.raw_os_error() != Some(libc::EBUSY) || Clock::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn try_bind(
        area: &Area,
        binding: &Binding<'_>,
        mode: BindFlags,
    ) -> Result<Self, KernelIoError> {
        let config = SocketConfig::builder()
            .rx_queue_size(QueueSize::new(RX_RING).map_err(KernelIoError::setup)?)
            .tx_queue_size(QueueSize::new(TX_RING).map_err(KernelIoError::setup)?)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let interface: Interface = binding.interface.parse().map_err(KernelIoError::setup)?;
        // SAFETY: the UMEM is the engine's own, and each (interface, queue) is bound once, so
        // each socket gets rings of its own and no other socket touches them.
        let made = unsafe { Socket::new(config, area.umem(), &interface, binding.queue) };
        let (tx, rx, rings) = made.map_err(|error| KernelIoError::bind(binding, &error))?;
        let Some((fill, completion)) = rings else {
            return Err(KernelIoError::setup("the queue is bound twice"));
        };
        let fd = tx.fd().as_raw_fd();
        sys::set_tx_budget(fd, TX_BUDGET);
        let zero_copy = sys::is_zero_copy(fd);
        Ok(Self {
            rx,
            tx,
            fill,
            completion,
            zero_copy,
            receiving: 0,
            sending: 0,
            kick: false,
            waiting: 0,
            received: Carried::default(),
            sent: Carried::default(),
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.tx.fd().as_raw_fd()
    }

    pub(super) fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Takes received descriptors; the frames they describe are the caller's.
    pub(super) fn receive(&mut self, descs: &mut [FrameDesc]) -> usize {
        // SAFETY: the caller puts each descriptor into one frame, or back into the pool, before
        // it is given to any ring again.
        let count = unsafe { self.rx.consume(descs) };
        self.receiving -= count;
        count
    }

    /// Queues the chunks of one frame, all or none.
    pub(super) fn send(&mut self, parts: &[FrameDesc]) -> bool {
        // SAFETY: the descriptors come out of a frame that ends here: nobody else has them until
        // the completion ring returns them.
        let count = unsafe { self.tx.produce(parts) };
        self.sending += count;
        self.kick |= count > 0;
        if count > 0 {
            let octets = parts.iter().map(|part| part.lengths().data());
            self.sent.count(1, octets.sum());
        }
        count == parts.len()
    }

    /// Takes back chunks that were sent.
    pub(super) fn reclaim(&mut self, pool: &mut Vec<FrameDesc>) {
        let mut descs = [FrameDesc::default(); 64];
        while self.sending > 0 {
            // SAFETY: descriptors from the completion ring belong to nobody but the pool, into
            // which they go.
            let count = unsafe { self.completion.consume(&mut descs) };
            pool.extend_from_slice(&descs[..count]);
            self.sending -= count;
            if count < descs.len() {
                break;
            }
        }
    }

    /// Gives the kernel empty chunks, up to the target.
    pub(super) fn refill(&mut self, pool: &mut Vec<FrameDesc>) {
        let wanted = FILL_TARGET.saturating_sub(self.receiving);
        // A few at a time are not worth the ring's cache line, unless it runs dry.
        if wanted >= FILL_TARGET / 8 {
            self.fill_up(pool, wanted);
        }
    }

    fn fill_up(&mut self, pool: &mut Vec<FrameDesc>, wanted: usize) {
        let rest = pool.len() - wanted.min(pool.len());
        // SAFETY: the descriptors come out of the pool and leave it here.
        let count = unsafe { self.fill.produce(&pool[rest..]) };
        if count > 0 {
            pool.truncate(rest);
            self.receiving += count;
        }
        if self.zero_copy && self.fill.needs_wakeup() {
            // Drivers that stopped for lack of buffers are woken by a poll.
            let _ = sys::poll_now(self.fd());
        }
    }

    /// Makes the kernel send what is queued. Says whether something is left.
    pub(super) fn kick(&mut self) -> bool {
        if !self.kick {
            return false;
        }
        for _ in 0..KICKS_MAX {
            // What the crate hides (link down, queue full, out of memory) is retried by the next
            // kick; a device that is gone is told by netlink.
            let refused = self.tx.needs_wakeup() && self.tx.wakeup().is_err();
            self.waiting = TX_RING - self.tx.nb_free_exact();
            if self.waiting == 0 {
                self.kick = false;
                return false;
            }
            if refused {
                break;
            }
        }
        true
    }

    /// Fills and kicks without asking whether the kernel wants it.
    pub(super) fn urge(&mut self, pool: &mut Vec<FrameDesc>) {
        self.fill_up(pool, FILL_TARGET.saturating_sub(self.receiving));
        // As in `kick`, what goes wrong here is seen by what does not move.
        let _ = self.tx.wakeup();
        let _ = sys::poll_now(self.fd());
        self.kick = true;
    }

    /// What the kernel counted: ring full, fill ring empty, other receive drops, bad descriptors.
    pub(super) fn kernel_drops(&self) -> [u64; 4] {
        self.tx.fd().xdp_statistics().map_or([0; 4], |seen| {
            // The kernel's `rx_dropped` includes the frames for which no chunk was posted.
            let no_chunk = seen.rx_fill_ring_empty_descs().min(seen.rx_dropped());
            [
                seen.rx_ring_full(),
                no_chunk,
                seen.rx_dropped() - no_chunk,
                seen.rx_invalid_descs() + seen.tx_invalid_descs(),
            ]
        })
    }
}

/// Spreads a joined frame over its chunks. Gives back those that were not needed.
pub(super) fn scatter(area: &Area, octets: &[u8], parts: &mut Parts, spare: &mut Vec<FrameDesc>) {
    let mut rest = octets;
    let mut used = 0;
    for desc in parts.iter_mut() {
        if rest.is_empty() {
            break;
        }
        let (data, capacity) = area.locate(desc);
        let (now, later) = rest.split_at(rest.len().min(capacity));
        // SAFETY: `data` points to `capacity` octets of a chunk whose descriptor is in `parts`,
        // so it is ours alone, and `octets` is the joining buffer, outside of the UMEM.
        unsafe { core::ptr::copy_nonoverlapping(now.as_ptr(), data, now.len()) };
        area.set_len(desc, now.len());
        desc.set_options(u32::from(!later.is_empty()));
        rest = later;
        used += 1;
    }
    spare.extend(parts.drain(used..));
}
