//! The way out to a peer: place in its session, or wait for one; seal; outer headers.

use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use omni_control::message::{PeerId, Upcall, WorkerTraffic};
use omni_wire::header::{DataHeader, DataKind};
use omni_wire::limits::{AAD_LEN, HEADER_LEN, VLAN_TAG_LEN};
use omni_wire::{DropReason, Instant};

use super::session::SessionSlot;
use super::{Datapath, Output, raise};
use crate::aead::{BATCH_MAX, SealJob, seal_batch};
use crate::capture::{Direction, Place};
use crate::io::{Frame, FramePool};

/// Octets before the inner frame with the longest outer headers: Ethernet with a VLAN tag, IPv6,
/// UDP, and ours.
pub const OVERHEAD_MAX: usize = 14 + VLAN_TAG_LEN + 40 + 8 + HEADER_LEN;

/// A frame on its way to a peer.
#[derive(Debug)]
pub(super) struct Leaving<F> {
    pub(super) frame: F,
    /// Where the inner frame begins in it; it runs to the end.
    pub(super) start: usize,
    /// DSCP and ECN of the outer packet.
    pub(super) ds_field: u8,
}

/// Frames on their way to be sealed, and what is known of each.
#[derive(Debug)]
pub(super) struct Waiting<F> {
    frames: Vec<F>,
    items: Vec<Item>,
}

impl<F> Default for Waiting<F> {
    fn default() -> Self {
        Self {
            frames: Vec::with_capacity(BATCH_MAX),
            items: Vec::with_capacity(BATCH_MAX),
        }
    }
}

/// What is known of a frame on its way to be sealed.
#[derive(Debug)]
struct Item {
    /// Where the inner frame begins; it runs to the end.
    start: usize,
    /// Octets of outer headers.
    outer_len: usize,
    header: [u8; AAD_LEN],
    session: SessionSlot,
    peer: PeerId,
    kind: DataKind,
    ds_field: u8,
}

impl<F: Frame> Datapath<F> {
    /// Gives a frame a place in the peer's session, or stages it until there is one.
    #[inline]
    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        leaving: Leaving<F>,
        id: PeerId,
        out: &mut Output<F>,
    ) {
        match self.prepare(now, &leaving, id, DataKind::Data) {
            Ok(item) => {
                let waiting = &mut self.egress.waiting;
                waiting.items.push(item);
                waiting.frames.push(leaving.frame);
                if waiting.items.len() == BATCH_MAX {
                    self.seal_waiting(now, out);
                }
            }
            Err(Some(reason)) => self.give_up(id, reason, leaving, out),
            Err(None) => self.stage(id, leaving, out),
        }
    }

    /// The longest inner frame that is sent to the peer now. Without a session there is no limit:
    /// the frame causes one, and it is known then what fits.
    pub(super) fn limit_towards(&self, id: PeerId) -> usize {
        let peer = self.peers.get(id);
        let session = peer.and_then(|peer| self.sessions.get(peer.current?));
        let limits = peer.zip(session);
        limits.map_or(usize::MAX, |(peer, session)| {
            session.shared.peer_max_frame.min(peer.frame_limit)
        })
    }

    /// Everything a frame needs for sealing; `Err` with a reason to drop it, or without one when
    /// it can wait for a session or a path.
    #[inline]
    fn prepare(
        &mut self,
        now: Instant,
        leaving: &Leaving<F>,
        id: PeerId,
        kind: DataKind,
    ) -> Result<Item, Option<DropReason>> {
        let Some(peer) = self.peers.get_mut(id) else {
            return Err(Some(DropReason::NoDestination));
        };
        let Some(slot) = peer.current else {
            return Err(None);
        };
        let Some(session) = self.sessions.get_mut(slot) else {
            return Err(None);
        };
        let Some(template) = &peer.template else {
            return Err(None);
        };
        let (start, inner_len) = (leaving.start, leaving.frame.bytes().len() - leaving.start);
        // What finds out how long frames may be is longer than is known to pass.
        let limit = match kind {
            DataKind::Data => peer.frame_limit,
            DataKind::Control => usize::MAX,
        };
        if inner_len > session.shared.peer_max_frame.min(limit) {
            return Err(Some(DropReason::InnerTooBig));
        }
        let overhead = template.len() + HEADER_LEN;
        if start < overhead && overhead + inner_len > leaving.frame.capacity() {
            return Err(Some(DropReason::NoHeadroom));
        }
        let taken = match session.take_nonce(now) {
            Ok(taken) => taken,
            Err(DropReason::SessionExpired) => {
                peer.current = None;
                return Err(None);
            }
            Err(reason) => return Err(Some(reason)),
        };
        if taken.rekey_soon {
            // Lost or not, the time limit follows long before the counter ends.
            let _ = raise(&mut self.upcalls, Upcall::RekeySoon { peer: id });
        }
        let mut header = [0; AAD_LEN];
        let session_id = session.shared.remote_session_id;
        DataHeader {
            session_id,
            kind,
            lane: self.config.worker,
            nonce: taken.nonce,
        }
        .emit(&mut header);
        Ok(Item {
            start,
            outer_len: template.len(),
            header,
            session: slot,
            peer: id,
            kind,
            ds_field: leaving.ds_field,
        })
    }

    fn stage(&mut self, id: PeerId, mut leaving: Leaving<F>, out: &mut Output<F>) {
        let Some(peer) = self.peers.get_mut(id) else {
            return self.give_up(id, DropReason::NoDestination, leaving, out);
        };
        let needs_session = peer.current.is_none();
        if needs_session && !peer.reachable {
            return self.give_up(id, DropReason::NoEndpoint, leaving, out);
        }
        if needs_session && !peer.asked {
            peer.asked = raise(&mut self.upcalls, Upcall::NeedSession { peer: id }).is_ok();
        }
        leaving.frame.forget_arrival();
        if let Some(displaced) = self.peers.stage(id, leaving) {
            self.give_up(id, DropReason::StagedOverflow, displaced, out);
        }
    }

    /// Drops a frame on its way to a peer.
    #[cold]
    fn give_up(
        &mut self,
        id: PeerId,
        reason: DropReason,
        leaving: Leaving<F>,
        out: &mut Output<F>,
    ) {
        self.drops.count(reason);
        self.tap_unsent(id, reason, &leaving);
        out.free.push(leaving.frame);
    }

    /// Sends what waited for a session or a path, if both are there now. Says how many frames.
    pub(super) fn send_staged(&mut self, now: Instant, id: PeerId, out: &mut Output<F>) -> usize {
        let ready = self
            .peers
            .get(id)
            .is_some_and(|p| p.current.is_some() && p.template.is_some());
        if !ready || !self.peers.has_staged(id) {
            return 0;
        }
        let staged = self.peers.take_staged(id);
        let count = staged.len();
        for leaving in staged {
            self.dispatch(now, leaving, id, out);
        }
        self.seal_waiting(now, out);
        count
    }

    /// An empty message in the peer's current session, if there is one.
    pub(super) fn send_keepalive(
        &mut self,
        now: Instant,
        id: PeerId,
        pool: &mut impl FramePool<Frame = F>,
        out: &mut Output<F>,
    ) {
        self.send_own(now, id, DataKind::Data, &[], pool, out);
    }

    /// A message of the engine's own in the peer's current session, if there is one.
    pub(super) fn send_own(
        &mut self,
        now: Instant,
        id: PeerId,
        kind: DataKind,
        payload: &[u8],
        pool: &mut impl FramePool<Frame = F>,
        out: &mut Output<F>,
    ) {
        let Some(mut frame) = pool.alloc(OVERHEAD_MAX + payload.len()) else {
            return self.drops.count(DropReason::NoFreeFrame);
        };
        frame.bytes_mut()[OVERHEAD_MAX..].copy_from_slice(payload);
        let leaving = Leaving {
            frame,
            start: OVERHEAD_MAX,
            ds_field: 0,
        };
        match self.prepare(now, &leaving, id, kind) {
            Ok(item) => {
                self.egress.waiting.items.push(item);
                self.egress.waiting.frames.push(leaving.frame);
                self.seal_waiting(now, out);
            }
            Err(reason) => {
                self.drops.count(reason.unwrap_or(DropReason::NoPath));
                out.free.push(leaving.frame);
            }
        }
    }

    /// The crypto and emit phases over all frames that are waiting. They stay where they are until
    /// all leave together.
    pub(super) fn seal_waiting(&mut self, now: Instant, out: &mut Output<F>) {
        if self.tap.is_some() {
            self.tap_sealing();
        }
        let Self {
            config,
            sessions,
            peers,
            egress,
            drops,
            ..
        } = self;
        let Waiting { frames, items } = &mut egress.waiting;
        let mut jobs: ArrayVec<SealJob<'_>, BATCH_MAX> = ArrayVec::new();
        for (frame, item) in frames.iter_mut().zip(&mut *items) {
            // Sessions are removed between bursts only, so each is where it was found.
            let Some(session) = sessions.get(item.session) else {
                continue;
            };
            make_room(frame, item);
            let message = &mut frame.bytes_mut()[item.outer_len..];
            message[..AAD_LEN].copy_from_slice(&item.header);
            jobs.push(SealJob {
                key: session.shared.send_key(),
                message,
                plaintext_offset: item.start - item.outer_len,
            });
        }
        seal_batch(&mut jobs);
        drop(jobs);
        let mut items = items.drain(..);
        let refused = frames.extract_if(.., |frame| {
            let sent = items.next().and_then(|item| {
                // What was not sealed stays here, whatever the reason.
                sessions.get(item.session)?;
                let peer = peers.get(item.peer)?;
                let template = peer.template.as_ref()?;
                let inner_len = frame.bytes().len() - item.start;
                frame.set_len(item.outer_len + HEADER_LEN + inner_len);
                let octets = frame.bytes_mut();
                let is_written = template.emit(octets, peer.source_port, item.ds_field);
                is_written.then(|| {
                    let traffic = peer.traffic.worker(config.worker.into());
                    count_sent(traffic, now, item.kind, inner_len);
                })
            });
            sent.is_none()
        });
        for frame in refused {
            // Longer than IP can carry: a peer may announce any limit.
            drops.count(DropReason::InnerTooBig);
            out.free.push(frame);
        }
        out.underlay.append(frames);
    }
}

impl<F: Frame> Datapath<F> {
    /// Shows a capture what is about to be sealed.
    #[cold]
    fn tap_sealing(&self) {
        let Some(tap) = &self.tap else { return };
        let Waiting { frames, items } = &self.egress.waiting;
        for (frame, item) in frames.iter().zip(items) {
            let octets = frame.bytes().get(item.start..).unwrap_or_default();
            if item.kind == DataKind::Data && !octets.is_empty() {
                let to = (Place::Peer(item.peer), Direction::Out);
                tap.show(to, Some(item.peer), None, octets);
            }
        }
    }
}

/// Moves the inner frame towards the end where the room before it is too small: only for frames
/// that arrived while the longest headers in use changed.
#[inline]
fn make_room<F: Frame>(frame: &mut F, item: &mut Item) {
    let overhead = item.outer_len + HEADER_LEN;
    if item.start < overhead {
        let len = frame.bytes().len();
        frame.set_len(len + overhead - item.start);
        frame.bytes_mut().copy_within(item.start..len, overhead);
        item.start = overhead;
    }
}

/// Adds to a counter that this worker alone writes.
#[inline]
pub(super) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

#[inline]
fn count_sent(traffic: &WorkerTraffic, now: Instant, kind: DataKind, inner_len: usize) {
    traffic.last_tx.store(now.0, Ordering::Relaxed);
    if inner_len > 0 && kind == DataKind::Data {
        traffic.last_tx_data.store(now.0, Ordering::Relaxed);
        bump(&traffic.tx_frames, 1);
        bump(&traffic.tx_bytes, inner_len as u64);
    }
}
