//! Ingress: messages from the underlay, to the access ports.
//!
//! The order of the checks is WireGuard's: everything that is cheap and needs no key first; then
//! the tag; and only after the tag verified is anything believed, counted or changed.

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use omni_control::message::{Owner, PeerId, PortId, Upcall};
use omni_wire::ethernet::{self, Ethernet};
use omni_wire::header::{DataHeader, DataKind};
use omni_wire::limits::HEADER_LEN;
use omni_wire::outer::{Located, Outer, Template};
use omni_wire::{DropReason, Instant, ecn};

use super::judge::is_to_be_inspected;
use super::sealing::bump;
use super::session::SessionSlot;
use super::storm::Bucket;
use super::{Datapath, Output, fdb_key, raise};
use crate::aead::{BATCH_MAX, OpenJob, open_batch};
use crate::capture::{Direction, Place};
use crate::io::{Frame, FramePool};

/// What is known of a message before its tag was checked.
#[derive(Debug)]
struct Claim {
    session: SessionSlot,
    header: DataHeader,
    /// Where the header begins in the frame.
    header_offset: usize,
    /// ECN of the outer packet.
    ecn: u8,
    verified: bool,
    /// Whence and whereto, unless it is where we send to and from.
    elsewhere: Option<(SocketAddr, IpAddr)>,
}

/// The two bits of a DS field that are ECN (RFC 3168 s.5).
const ECN_MASK: u8 = 3;

/// Arrays that live from burst to burst, so that none is allocated.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Of the frames of a burst, in their order.
    claims: Vec<Claim>,
    /// Reports of frames for addresses that are not here.
    strays: Bucket,
}

/// Such reports a second, and at once.
const STRAY_RATE: (u64, u64) = (100, 32);

impl Default for Scratch {
    fn default() -> Self {
        Self {
            claims: Vec::with_capacity(BATCH_MAX),
            strays: Bucket::new(STRAY_RATE.0, STRAY_RATE.1),
        }
    }
}

/// What becomes of a verified message.
enum Delivery {
    /// To a port, with so many tags.
    Port(PortId, u8),
    /// To all ports that carry its VLAN, or where its group is wanted.
    Many(PeerId, Ethernet),
    /// It was for us: a keepalive or a control message.
    Consumed,
}

/// Whether a verified message is refused for something of which a sound peer sends little: its own
/// switch would have refused it, or held it back.
const fn is_offence(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::InnerTooShort
            | DropReason::SourceMacInvalid
            | DropReason::SourceMacNotOwned
            | DropReason::SourceMacNotAllowed
            | DropReason::AddressNotGranted
            | DropReason::VlanInvalid
            | DropReason::ControlLimited
            | DropReason::ReservedDestination
            | DropReason::LearnRate
            | DropReason::StormLimited
            | DropReason::NeighborMalformed
            | DropReason::NeighborSpoofed
            | DropReason::BindingNotOwned
            | DropReason::LlcWrapped
    )
}

impl<F: Frame> Datapath<F> {
    /// A burst from the underlay, of at most [`super::BURST_MAX`] frames. Empties it.
    pub fn ingress(
        &mut self,
        now: Instant,
        burst: &mut Vec<F>,
        pool: &mut impl FramePool<Frame = F>,
        out: &mut Output<F>,
    ) {
        let mut claims = std::mem::take(&mut self.ingress.claims);
        if self.tap.is_some() {
            self.tap_arriving(now, burst);
        }
        // Frames stay where they are until they are delivered; only what is refused leaves.
        let mut found = None;
        let refused = burst.extract_if(.., |frame| {
            let classified = self.classify(now, frame, &mut found, &mut claims);
            if let Err(reason) = classified {
                self.drops.count(reason);
                self.tap_unclassified(reason, frame);
            }
            classified.is_err()
        });
        out.free.extend(refused);
        let batches = burst.chunks_mut(BATCH_MAX);
        for (frames, claims) in batches.zip(claims.chunks_mut(BATCH_MAX)) {
            self.open(frames, claims);
        }
        if self.tap.is_some() {
            self.tap_opened(burst, &claims);
        }
        for (mut frame, claim) in burst.drain(..).zip(&claims) {
            match self.accept(now, &mut frame, claim, out) {
                Ok(Delivery::Port(port, tags)) => self.deliver(frame, 0, tags, port, out),
                Ok(Delivery::Many(peer, ethernet)) => {
                    self.replicate(now, Owner::Peer(peer), frame, 0, &ethernet, pool, out);
                }
                Ok(Delivery::Consumed) => out.free.push(frame),
                Err(reason) => {
                    self.drops.count(reason);
                    self.count_refused(claim, reason);
                    self.tap_refused(claim, reason, &frame);
                    out.free.push(frame);
                }
            }
        }
        claims.clear();
        self.ingress.claims = claims;
    }

    /// Everything that can be judged without a key; what may be true is added to `claims`. Cuts
    /// off what follows the message. `found` is the session of the message before.
    #[inline]
    fn classify(
        &self,
        now: Instant,
        frame: &mut F,
        found: &mut Option<(u32, SessionSlot)>,
        claims: &mut Vec<Claim>,
    ) -> Result<(), DropReason> {
        let octets = frame.bytes();
        let outer = Located::parse(octets)?;
        let header = DataHeader::parse(&octets[outer.payload..outer.end])?;
        let slot = match *found {
            Some((id, slot)) if id == header.session_id => slot,
            _ => {
                let slot = self.sessions.find(header.session_id);
                let slot = slot.ok_or(DropReason::UnknownSession)?;
                *found = Some((header.session_id, slot));
                slot
            }
        };
        let session = self.sessions.get(slot).ok_or(DropReason::UnknownSession)?;
        session.shared.check(now, header.lane, header.nonce)?;
        let peer = self.peers.get(session.shared.peer);
        let template = peer.and_then(|peer| peer.template.as_ref());
        let is_usual = template.is_some_and(|t| t.is_answered_by(octets, outer.payload));
        claims.push(Claim {
            session: slot,
            header,
            header_offset: outer.payload,
            ecn: outer.ds_field & ECN_MASK,
            verified: false,
            elsewhere: None,
        });
        if !is_usual && let Some(claim) = claims.last_mut() {
            claim.elsewhere = elsewhere(octets, template);
        }
        frame.set_len(outer.end);
        Ok(())
    }

    /// The crypto phase.
    fn open(&self, frames: &mut [F], claims: &mut [Claim]) {
        let mut jobs: ArrayVec<OpenJob<'_>, BATCH_MAX> = ArrayVec::new();
        for (frame, claim) in frames.iter_mut().zip(&*claims) {
            // Sessions are removed between bursts only, so each is where it was found.
            let Some(session) = self.sessions.get(claim.session) else {
                return;
            };
            jobs.push(OpenJob {
                key: session.shared.receive_key(),
                frame: frame.bytes_mut(),
                header_offset: claim.header_offset,
                verified: false,
            });
        }
        open_batch(&mut jobs);
        for (claim, job) in claims.iter_mut().zip(&jobs) {
            claim.verified = job.verified;
        }
    }

    /// Believes a message whose tag verified, and switches the frame in it.
    fn accept(
        &mut self,
        now: Instant,
        frame: &mut F,
        claim: &Claim,
        out: &mut Output<F>,
    ) -> Result<Delivery, DropReason> {
        if !claim.verified {
            return Err(DropReason::BadTag);
        }
        let session = self
            .sessions
            .get(claim.session)
            .ok_or(DropReason::UnknownSession)?;
        let newest = session
            .shared
            .commit(claim.header.lane, claim.header.nonce)?;
        let (peer, confirmed) = (session.shared.peer, session.confirmed);
        if !confirmed {
            let session_id = claim.header.session_id;
            // Not heard is not confirmed: the next message tries again.
            if raise(&mut self.upcalls, Upcall::Confirmed { session_id }).is_ok() {
                self.confirm(now, session_id, out);
            }
        }
        if newest
            && claim.header.lane == 0
            && let Some(there) = claim.elsewhere
        {
            self.follow(peer, claim, there);
        }
        let inner_len = frame.bytes().len() - claim.header_offset - HEADER_LEN;
        frame.set_len(inner_len);
        self.count_received(now, peer, claim.header.kind, inner_len);
        if claim.header.kind == DataKind::Control {
            return self.take_record(now, peer, frame.bytes());
        }
        if inner_len == 0 {
            return Ok(Delivery::Consumed);
        }
        self.switch(now, frame, claim.ecn, peer)
    }

    /// Hands a control record to the control thread, at a rate.
    fn take_record(
        &mut self,
        now: Instant,
        id: PeerId,
        record: &[u8],
    ) -> Result<Delivery, DropReason> {
        let peer = self.peers.get_mut(id).ok_or(DropReason::UnknownSession)?;
        if !peer.records.take(now) {
            return Err(DropReason::ControlLimited);
        }
        let (peer, record) = (id, Box::from(record));
        // One that is lost here is lost as on the underlay: whatever matters is said again.
        raise(&mut self.upcalls, Upcall::Record { peer, record })
            .map_err(|_| DropReason::ControlLimited)?;
        Ok(Delivery::Consumed)
    }

    /// Reports a peer that speaks from another address than the one we send to, or to another one
    /// than we send from.
    #[cold]
    fn follow(&mut self, id: PeerId, claim: &Claim, there: (SocketAddr, IpAddr)) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        if peer.moved_to == Some(there) {
            return;
        }
        let current = peer.current.and_then(|slot| self.sessions.get(slot));
        let spoke = self.sessions.get(claim.session);
        if !current
            .zip(spoke)
            .is_some_and(|(c, s)| s.shared.tells_endpoint(&c.shared))
        {
            return;
        }
        let session_id = claim.header.session_id;
        let moved = Upcall::Moved {
            peer: id,
            session_id,
            source: there.0,
            local: there.1,
        };
        if raise(&mut self.upcalls, moved).is_ok() {
            peer.moved_to = Some(there);
        }
    }

    fn count_received(&self, now: Instant, id: PeerId, kind: DataKind, inner_len: usize) {
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        let traffic = peer.traffic.worker(self.config.worker.into());
        traffic.last_rx.store(now.0, Ordering::Relaxed);
        if inner_len > 0 && kind == DataKind::Data {
            traffic.last_rx_data.store(now.0, Ordering::Relaxed);
            bump(&traffic.rx_frames, 1);
            bump(&traffic.rx_bytes, inner_len as u64);
        }
    }

    #[cold]
    fn count_refused(&self, claim: &Claim, reason: DropReason) {
        let session = self.sessions.get(claim.session);
        let peer = session.and_then(|session| self.peers.get(session.shared.peer));
        if let Some(peer) = peer.filter(|_| claim.verified && is_offence(reason)) {
            bump(&peer.traffic.worker(self.config.worker.into()).refused, 1);
        }
    }

    /// Shows a capture a burst as it came.
    #[cold]
    fn tap_arriving(&mut self, now: Instant, burst: &[F]) {
        let Some(tap) = &mut self.tap else { return };
        tap.begin(now);
        let Some(tap) = &self.tap else { return };
        for frame in burst {
            let message = frame.bytes();
            let peer = self.peer_of_message(message);
            tap.show((Place::Underlay, Direction::In), peer, None, message);
        }
    }

    /// Whose a message says that it is.
    fn peer_of_message(&self, message: &[u8]) -> Option<PeerId> {
        let outer = Located::parse(message).ok()?;
        let header = DataHeader::parse(&message[outer.payload..outer.end]).ok()?;
        let slot = self.sessions.find(header.session_id)?;
        Some(self.sessions.get(slot)?.shared.peer)
    }

    /// Shows a capture what is dropped before it is opened.
    #[cold]
    fn tap_unclassified(&self, reason: DropReason, frame: &F) {
        if let Some(tap) = &self.tap {
            let peer = self.peer_of_message(frame.bytes());
            let from = (Place::Underlay, Direction::In);
            tap.show(from, peer, Some(reason), frame.bytes());
        }
    }

    /// Shows a capture the frames in messages that verified.
    #[cold]
    fn tap_opened(&self, burst: &[F], claims: &[Claim]) {
        let Some(tap) = &self.tap else { return };
        for (frame, claim) in burst.iter().zip(claims) {
            let Some(session) = self.sessions.get(claim.session) else {
                continue;
            };
            let (peer, octets) = (session.shared.peer, frame.bytes());
            let len = octets
                .len()
                .saturating_sub(claim.header_offset + HEADER_LEN);
            if claim.verified && claim.header.kind == DataKind::Data && len > 0 {
                tap.show(
                    (Place::Peer(peer), Direction::In),
                    Some(peer),
                    None,
                    &octets[..len],
                );
            }
        }
    }

    /// Shows a capture what is dropped after it was opened, or as it cannot be.
    #[cold]
    fn tap_refused(&self, claim: &Claim, reason: DropReason, frame: &F) {
        let Some(tap) = &self.tap else { return };
        let session = self.sessions.get(claim.session);
        let peer = session.map(|session| session.shared.peer);
        let (octets, headers) = (frame.bytes(), claim.header_offset + HEADER_LEN);
        if !claim.verified {
            return tap.show_forged(peer, reason, octets, headers);
        }
        if claim.header.kind == DataKind::Control {
            return;
        }
        // What was accepted once before is not cut to the frame yet.
        let is_cut = !matches!(reason, DropReason::NonceReplayed | DropReason::NonceTooOld);
        let len = if is_cut {
            octets.len()
        } else {
            octets.len().saturating_sub(headers)
        };
        if let Some(peer) = peer {
            let from = (Place::Peer(peer), Direction::In);
            tap.show(from, Some(peer), Some(reason), &octets[..len]);
        }
    }

    /// Where a peer's frame goes: the peer must own the source address or become its owner, and
    /// the destination must not be another peer's.
    fn switch(
        &mut self,
        now: Instant,
        frame: &mut F,
        outer_ecn: u8,
        peer: PeerId,
    ) -> Result<Delivery, DropReason> {
        let inner = frame.bytes();
        if inner.len() > self.config.max_frame {
            return Err(DropReason::InnerTooBig);
        }
        let ethernet = Ethernet::parse(inner)?;
        if !ethernet::source_is_valid(ethernet.source) {
            return Err(DropReason::SourceMacInvalid);
        }
        if ethernet::is_reserved(ethernet.destination) {
            return Err(DropReason::ReservedDestination);
        }
        let Some(policy) = self.peers.get(peer).map(|peer| &peer.policy) else {
            return Err(DropReason::VlanNotAllowed);
        };
        if !policy.vlans.contains(ethernet.vlan) {
            return Err(DropReason::VlanNotAllowed);
        }
        if let Some(grants) = &policy.grants
            && !grants.allows_mac(ethernet.vlan, ethernet.source)
        {
            return Err(DropReason::SourceMacNotAllowed);
        }
        let source = fdb_key(ethernet.vlan, ethernet.source);
        self.admit(now, source, Owner::Peer(peer))?;
        if is_to_be_inspected(inner, &ethernet, false) {
            self.judge_peer(now, peer, inner, &ethernet)?;
        }
        if outer_ecn != 0 {
            take_over_ecn(frame.bytes_mut(), &ethernet, outer_ecn)?;
        }
        self.look_up_local(now, peer, &ethernet)
    }

    fn look_up_local(
        &mut self,
        now: Instant,
        peer: PeerId,
        ethernet: &Ethernet,
    ) -> Result<Delivery, DropReason> {
        let destination = fdb_key(ethernet.vlan, ethernet.destination);
        let is_group = ethernet.destination.is_multicast();
        match self.fdb.find(destination) {
            Some(Owner::Local(port)) if !is_group => {
                let policy = self.port(port);
                if policy.is_some_and(|policy| policy.vlans.carry(ethernet.vlan)) {
                    return Ok(Delivery::Port(port, ethernet.tags));
                }
                return Err(DropReason::VlanNotAllowed);
            }
            Some(Owner::Peer(_)) if !is_group => {
                self.report_stray(now, peer, ethernet);
                return Err(DropReason::SplitHorizon);
            }
            _ => {}
        }
        if !is_group {
            self.report_stray(now, peer, ethernet);
            if self.config.policy.drop_unknown {
                return Err(DropReason::UnknownUnicast);
            }
        }
        let storm = self
            .peers
            .get(peer)
            .and_then(|peer| peer.policy.storm.as_ref());
        if storm.is_some_and(|storm| !storm.take(now)) {
            return Err(DropReason::StormLimited);
        }
        Ok(Delivery::Many(peer, *ethernet))
    }

    /// The peer believes an address to be here that is not: it may have missed that it moved.
    fn report_stray(&mut self, now: Instant, peer: PeerId, ethernet: &Ethernet) {
        if self.ingress.strays.take(now) {
            let key = fdb_key(ethernet.vlan, ethernet.destination);
            let _ = raise(&mut self.upcalls, Upcall::Strayed { key, peer });
        }
    }
}

/// Whence and whereto a frame was sent, unless it is where we send to and from.
#[cold]
fn elsewhere(frame: &[u8], template: Option<&Template>) -> Option<(SocketAddr, IpAddr)> {
    let outer = Outer::parse(frame).ok()?;
    let here = template.map(|template| (template.endpoint(), template.source()));
    let there = Some((outer.source, outer.destination.ip()));
    there.filter(|_| here != there)
}

/// Marks the inner packet as routers on the way marked the outer one (RFC 6040 s.4.2).
fn take_over_ecn(frame: &mut [u8], ethernet: &Ethernet, outer: u8) -> Result<(), DropReason> {
    let Some(ds_field) = ecn::ds_field(frame, ethernet) else {
        // What is no IP has no place for it.
        return Ok(());
    };
    let inner = ds_field & ECN_MASK;
    let marked = ecn::decapsulate(inner, outer).ok_or(DropReason::EcnDropped)?;
    if marked != inner {
        ecn::set(frame, ethernet, marked);
    }
    Ok(())
}
