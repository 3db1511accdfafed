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

/// A frame on its way to be sealed.
#[derive(Debug)]
pub(super) struct Item<F> {
    leaving: Leaving<F>,
    peer: PeerId,
    session: SessionSlot,
    kind: DataKind,
    header: [u8; AAD_LEN],
    /// Octets of outer headers.
    outer_len: usize,
}

impl<F: Frame> Datapath<F> {
    /// Gives a frame a place in the peer's session, or stages it until there is one.
    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        leaving: Leaving<F>,
        id: PeerId,
        out: &mut Output<F>,
    ) {
        match self.prepare(now, leaving, id, DataKind::Data) {
            Ok(item) => {
                self.egress.items.push(item);
                if self.egress.items.len() == BATCH_MAX {
                    self.seal_items(now, out);
                }
            }
            Err((leaving, Some(reason))) => {
                self.drops.count(reason);
                out.free.push(leaving.frame);
            }
            Err((leaving, None)) => self.stage(id, leaving, out),
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
    fn prepare(
        &mut self,
        now: Instant,
        leaving: Leaving<F>,
        id: PeerId,
        kind: DataKind,
    ) -> Result<Item<F>, (Leaving<F>, Option<DropReason>)> {
        let Some(peer) = self.peers.get_mut(id) else {
            return Err((leaving, Some(DropReason::NoDestination)));
        };
        let Some(slot) = peer.current else {
            return Err((leaving, None));
        };
        let Some(session) = self.sessions.get_mut(slot) else {
            return Err((leaving, None));
        };
        let Some(template) = &peer.template else {
            return Err((leaving, None));
        };
        let (start, inner_len) = (leaving.start, leaving.frame.bytes().len() - leaving.start);
        // What finds out how long frames may be is longer than is known to pass.
        let limit = match kind {
            DataKind::Data => peer.frame_limit,
            DataKind::Control => usize::MAX,
        };
        if inner_len > session.shared.peer_max_frame.min(limit) {
            return Err((leaving, Some(DropReason::InnerTooBig)));
        }
        let overhead = template.len() + HEADER_LEN;
        if start < overhead && overhead + inner_len > leaving.frame.capacity() {
            return Err((leaving, Some(DropReason::NoHeadroom)));
        }
        let taken = match session.take_nonce(now) {
            Ok(taken) => taken,
            Err(DropReason::SessionExpired) => {
                peer.current = None;
                return Err((leaving, None));
            }
            Err(reason) => return Err((leaving, Some(reason))),
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
            leaving,
            peer: id,
            session: slot,
            kind,
            header,
            outer_len: template.len(),
        })
    }

    fn stage(&mut self, id: PeerId, mut leaving: Leaving<F>, out: &mut Output<F>) {
        let Some(peer) = self.peers.get_mut(id) else {
            self.drops.count(DropReason::NoDestination);
            return out.free.push(leaving.frame);
        };
        let needs_session = peer.current.is_none();
        if needs_session && !peer.reachable {
            self.drops.count(DropReason::NoEndpoint);
            return out.free.push(leaving.frame);
        }
        if needs_session && !peer.asked {
            peer.asked = raise(&mut self.upcalls, Upcall::NeedSession { peer: id }).is_ok();
        }
        leaving.frame.forget_arrival();
        if let Some(displaced) = self.peers.stage(id, leaving) {
            self.drops.count(DropReason::StagedOverflow);
            out.free.push(displaced.frame);
        }
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
        self.seal_items(now, out);
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
        match self.prepare(now, leaving, id, kind) {
            Ok(item) => {
                self.egress.items.push(item);
                self.seal_items(now, out);
            }
            Err((leaving, reason)) => {
                self.drops.count(reason.unwrap_or(DropReason::NoPath));
                out.free.push(leaving.frame);
            }
        }
    }

    /// The crypto and emit phases over all items that are waiting.
    pub(super) fn seal_items(&mut self, now: Instant, out: &mut Output<F>) {
        let mut items = std::mem::take(&mut self.egress.items);
        {
            let mut jobs: ArrayVec<SealJob<'_>, BATCH_MAX> = ArrayVec::new();
            for item in &mut items {
                let Some(session) = self.sessions.get(item.session) else {
                    continue;
                };
                make_room(item);
                let Item {
                    leaving, outer_len, ..
                } = item;
                let message = &mut leaving.frame.bytes_mut()[*outer_len..];
                message[..AAD_LEN].copy_from_slice(&item.header);
                let plaintext_offset = leaving.start - *outer_len;
                jobs.push(SealJob {
                    key: session.shared.send_key(),
                    message,
                    plaintext_offset,
                });
            }
            seal_batch(&mut jobs);
        }
        for Item {
            mut leaving,
            peer: id,
            kind,
            outer_len,
            ..
        } in items.drain(..)
        {
            let inner_len = leaving.frame.bytes().len() - leaving.start;
            leaving.frame.set_len(outer_len + HEADER_LEN + inner_len);
            let Some(peer) = self.peers.get(id) else {
                continue;
            };
            let template = peer.template.as_ref();
            let (octets, ds_field) = (leaving.frame.bytes_mut(), leaving.ds_field);
            if template.is_some_and(|t| t.emit(octets, peer.source_port, ds_field)) {
                let traffic = peer.traffic.worker(self.config.worker.into());
                count_sent(traffic, now, kind, inner_len);
                out.underlay.push(leaving.frame);
            } else {
                // Longer than IP can carry: a peer may announce any limit.
                self.drops.count(DropReason::InnerTooBig);
                out.free.push(leaving.frame);
            }
        }
        self.egress.items = items;
    }
}

/// Moves the inner frame towards the end where the room before it is too small: only for frames
/// that arrived while the longest headers in use changed.
fn make_room<F: Frame>(item: &mut Item<F>) {
    let overhead = item.outer_len + HEADER_LEN;
    let Leaving { frame, start, .. } = &mut item.leaving;
    if *start < overhead {
        let len = frame.bytes().len();
        frame.set_len(len + overhead - *start);
        frame.bytes_mut().copy_within(*start..len, overhead);
        *start = overhead;
    }
}

/// Adds to a counter that this worker alone writes.
#[inline]
pub(super) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

fn count_sent(traffic: &WorkerTraffic, now: Instant, kind: DataKind, inner_len: usize) {
    traffic.last_tx.store(now.0, Ordering::Relaxed);
    if inner_len > 0 && kind == DataKind::Data {
        traffic.last_tx_data.store(now.0, Ordering::Relaxed);
        bump(&traffic.tx_frames, 1);
        bump(&traffic.tx_bytes, inner_len as u64);
    }
}
