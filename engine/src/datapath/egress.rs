//! Egress: frames from the access port, to the peers behind whom their destinations are.

use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use omni_control::message::{FdbKey, Owner, PeerId, PortId, Upcall, WorkerTraffic};
use omni_wire::ethernet::{self, Ethernet};
use omni_wire::header::{DataHeader, DataKind};
use omni_wire::limits::{AAD_LEN, HEADER_LEN};
use omni_wire::{DropReason, Instant, offload};

use super::fdb::Admission;
use super::session::SessionSlot;
use super::{Datapath, Output, fdb_key, raise};
use crate::aead::{BATCH_MAX, SealJob, seal_batch};
use crate::io::{Frame, FramePool};

/// Octets before the inner frame with the longest outer headers: Ethernet with a VLAN tag, IPv6,
/// UDP, and ours.
pub const OVERHEAD_MAX: usize = 14 + 4 + 40 + 8 + HEADER_LEN;

/// A frame that waits for a session.
#[derive(Debug)]
pub(super) struct Waiting<F> {
    pub(super) frame: F,
    /// Where the inner frame begins in it.
    start: usize,
}

/// A frame on its way to be sealed.
#[derive(Debug)]
struct Item<F> {
    frame: F,
    /// Where the inner frame begins in it; it runs to the end.
    start: usize,
    peer: PeerId,
    session: SessionSlot,
    header: [u8; AAD_LEN],
    /// Octets of outer headers.
    outer_len: usize,
}

/// Arrays that live from burst to burst, so that none is allocated.
#[derive(Debug)]
pub(super) struct Scratch<F> {
    items: Vec<Item<F>>,
    targets: Vec<PeerId>,
}

impl<F> Default for Scratch<F> {
    fn default() -> Self {
        Self {
            items: Vec::with_capacity(BATCH_MAX),
            targets: Vec::new(),
        }
    }
}

/// Where a frame goes.
enum Destination {
    Peer(PeerId),
    Flood,
}

impl<F: Frame> Datapath<F> {
    /// A burst from an access port. Empties it.
    pub fn egress(
        &mut self,
        now: Instant,
        port: PortId,
        burst: &mut Vec<F>,
        pool: &mut impl FramePool<Frame = F>,
        out: &mut Output<F>,
    ) {
        for mut frame in burst.drain(..) {
            match self.route(now, port, &mut frame) {
                Ok(Destination::Peer(peer)) => {
                    let start = frame.room();
                    self.dispatch(now, frame, start, peer, out);
                }
                Ok(Destination::Flood) => self.flood(now, frame, pool, out),
                Err(reason) => {
                    self.drops.count(reason);
                    out.free.push(frame);
                }
            }
        }
        self.seal_items(now, out);
    }

    /// Checks a frame from the host, learns its source and looks up its destination.
    fn route(
        &mut self,
        now: Instant,
        port: PortId,
        frame: &mut F,
    ) -> Result<Destination, DropReason> {
        let room = frame.room();
        let inner = frame
            .bytes_mut()
            .get_mut(room..)
            .ok_or(DropReason::InnerTooShort)?;
        let parsed = Ethernet::parse(inner)?;
        if !ethernet::source_is_valid(parsed.source) {
            return Err(DropReason::SourceMacInvalid);
        }
        if inner.len() > self.config.max_frame {
            return Err(DropReason::InnerTooBig);
        }
        if self.config.complete_checksums {
            offload::complete_partial_checksum(inner, &parsed);
        }
        let key = fdb_key(parsed.vlan, parsed.source);
        self.learn_local(now, key, Owner::Local(port))?;
        if parsed.destination.is_multicast() {
            return Ok(Destination::Flood);
        }
        match self.fdb.lookup(fdb_key(parsed.vlan, parsed.destination)) {
            Some(Owner::Peer(peer)) => Ok(Destination::Peer(peer)),
            Some(Owner::Local(_)) => Err(DropReason::Reflected),
            None => Ok(Destination::Flood),
        }
    }

    fn learn_local(&mut self, now: Instant, key: FdbKey, owner: Owner) -> Result<(), DropReason> {
        match self.fdb.admit(now, key, owner) {
            Ok(Admission::Known) => {}
            Ok(Admission::Report) => {
                if raise(&mut self.upcalls, Upcall::Learned { key, owner }).is_err() {
                    self.fdb.unreport(key);
                }
            }
            // A host may have more addresses than the table: they are flooded to, not cut off.
            Err(DropReason::FdbFull) => {}
            Err(reason) => return Err(reason),
        }
        Ok(())
    }

    /// One frame to every peer that can be reached: the last takes the frame itself, those before
    /// it get copies.
    fn flood(
        &mut self,
        now: Instant,
        frame: F,
        pool: &mut impl FramePool<Frame = F>,
        out: &mut Output<F>,
    ) {
        let mut targets = std::mem::take(&mut self.egress.targets);
        targets.extend(self.peers.ids().filter(|&id| {
            self.peers
                .get(id)
                .is_some_and(|peer| peer.current.is_some() || peer.reachable)
        }));
        let start = frame.room();
        if let Some((&last, others)) = targets.split_last() {
            for &peer in others {
                match copy_of(&frame, pool) {
                    Some(copy) => self.dispatch(now, copy, OVERHEAD_MAX, peer, out),
                    None => self.drops.count(DropReason::NoFreeFrame),
                }
            }
            self.dispatch(now, frame, start, last, out);
        } else {
            self.drops.count(DropReason::NoDestination);
            out.free.push(frame);
        }
        targets.clear();
        self.egress.targets = targets;
    }

    /// Gives a frame a place in the peer's session, or stages it until there is one.
    fn dispatch(&mut self, now: Instant, frame: F, start: usize, id: PeerId, out: &mut Output<F>) {
        match self.prepare(now, frame, start, id, DataKind::Data) {
            Ok(item) => {
                self.egress.items.push(item);
                if self.egress.items.len() == BATCH_MAX {
                    self.seal_items(now, out);
                }
            }
            Err((frame, Some(reason))) => {
                self.drops.count(reason);
                out.free.push(frame);
            }
            Err((frame, None)) => self.stage(id, Waiting { frame, start }, out),
        }
    }

    /// Everything a frame needs for sealing; `Err` with a reason to drop it, or without one when
    /// it can wait for a session or a path.
    fn prepare(
        &mut self,
        now: Instant,
        frame: F,
        start: usize,
        id: PeerId,
        kind: DataKind,
    ) -> Result<Item<F>, (F, Option<DropReason>)> {
        let Some(peer) = self.peers.get_mut(id) else {
            return Err((frame, Some(DropReason::NoDestination)));
        };
        let Some(slot) = peer.current else {
            return Err((frame, None));
        };
        let Some(session) = self.sessions.get_mut(slot) else {
            return Err((frame, None));
        };
        let Some(template) = &peer.template else {
            return Err((frame, None));
        };
        let inner_len = frame.bytes().len() - start;
        if inner_len > session.shared.peer_max_frame {
            return Err((frame, Some(DropReason::InnerTooBig)));
        }
        let overhead = template.len() + HEADER_LEN;
        if start < overhead && overhead + inner_len > frame.capacity() {
            return Err((frame, Some(DropReason::NoHeadroom)));
        }
        let taken = match session.take_nonce(now) {
            Ok(taken) => taken,
            Err(DropReason::SessionExpired) => {
                peer.current = None;
                return Err((frame, None));
            }
            Err(reason) => return Err((frame, Some(reason))),
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
            frame,
            start,
            peer: id,
            session: slot,
            header,
            outer_len: template.len(),
        })
    }

    fn stage(&mut self, id: PeerId, mut waiting: Waiting<F>, out: &mut Output<F>) {
        let Some(peer) = self.peers.get_mut(id) else {
            self.drops.count(DropReason::NoDestination);
            return out.free.push(waiting.frame);
        };
        let needs_session = peer.current.is_none();
        if needs_session && !peer.reachable {
            self.drops.count(DropReason::NoEndpoint);
            return out.free.push(waiting.frame);
        }
        if needs_session && !peer.asked {
            peer.asked = raise(&mut self.upcalls, Upcall::NeedSession { peer: id }).is_ok();
        }
        waiting.frame.forget_arrival();
        if let Some(displaced) = self.peers.stage(id, waiting) {
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
        for Waiting { frame, start } in staged {
            self.dispatch(now, frame, start, id, out);
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
        let Some(frame) = pool.alloc(OVERHEAD_MAX) else {
            return self.drops.count(DropReason::NoFreeFrame);
        };
        match self.prepare(now, frame, OVERHEAD_MAX, id, DataKind::Data) {
            Ok(item) => {
                self.egress.items.push(item);
                self.seal_items(now, out);
            }
            Err((frame, reason)) => {
                self.drops.count(reason.unwrap_or(DropReason::NoPath));
                out.free.push(frame);
            }
        }
    }

    /// The crypto and emit phases over all items that are waiting.
    fn seal_items(&mut self, now: Instant, out: &mut Output<F>) {
        let mut items = std::mem::take(&mut self.egress.items);
        {
            let mut jobs: ArrayVec<SealJob<'_>, BATCH_MAX> = ArrayVec::new();
            for item in &mut items {
                let Some(session) = self.sessions.get(item.session) else {
                    continue;
                };
                make_room(item);
                let message = &mut item.frame.bytes_mut()[item.outer_len..];
                message[..AAD_LEN].copy_from_slice(&item.header);
                let plaintext_offset = item.start - item.outer_len;
                jobs.push(SealJob {
                    key: session.shared.send_key(),
                    message,
                    plaintext_offset,
                });
            }
            seal_batch(&mut jobs);
        }
        for mut item in items.drain(..) {
            let inner_len = item.frame.bytes().len() - item.start;
            item.frame.set_len(item.outer_len + HEADER_LEN + inner_len);
            let Some(peer) = self.peers.get(item.peer) else {
                continue;
            };
            let template = peer.template.as_ref();
            if template.is_some_and(|t| t.emit(item.frame.bytes_mut(), peer.source_port, 0)) {
                count_sent(
                    peer.traffic.worker(self.config.worker.into()),
                    now,
                    inner_len,
                );
                out.underlay.push(item.frame);
            } else {
                // Longer than IP can carry: a peer may announce any limit.
                self.drops.count(DropReason::InnerTooBig);
                out.free.push(item.frame);
            }
        }
        self.egress.items = items;
    }
}

/// A copy of an inner frame with room for any outer headers.
fn copy_of<F: Frame>(frame: &F, pool: &mut impl FramePool<Frame = F>) -> Option<F> {
    let inner = frame.bytes().get(frame.room()..)?;
    let mut copy = pool.alloc(OVERHEAD_MAX + inner.len())?;
    copy.bytes_mut()[OVERHEAD_MAX..].copy_from_slice(inner);
    Some(copy)
}

/// Moves the inner frame towards the end where the room before it is too small: only for frames
/// that arrived while the longest headers in use changed.
fn make_room<F: Frame>(item: &mut Item<F>) {
    let overhead = item.outer_len + HEADER_LEN;
    if item.start < overhead {
        let len = item.frame.bytes().len();
        item.frame.set_len(len + overhead - item.start);
        item.frame
            .bytes_mut()
            .copy_within(item.start..len, overhead);
        item.start = overhead;
    }
}

/// Adds to a counter that this worker alone writes.
#[inline]
pub(super) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

fn count_sent(traffic: &WorkerTraffic, now: Instant, inner_len: usize) {
    traffic.last_tx.store(now.0, Ordering::Relaxed);
    if inner_len > 0 {
        traffic.last_tx_data.store(now.0, Ordering::Relaxed);
        bump(&traffic.tx_frames, 1);
        bump(&traffic.tx_bytes, inner_len as u64);
    }
}
