//! Egress: frames from an access port, to the peers and ports behind which their destinations are.

use core::time::Duration;

use omni_control::message::{FdbKey, Owner, PeerId, PortId, Upcall};
use omni_wire::ethernet::{self, Ethernet};
use omni_wire::{DropReason, Instant, ecn, mss, offload, toobig};

use super::judge::{Judged, is_to_be_inspected};
use super::owned::Admission;
use super::policy::PortVlans;
use super::sealing::{Leaving, Waiting};
use super::storm::Bucket;
use super::tags::{push_tag, set_vid};
use super::{Datapath, Output, fdb_key, raise};
use crate::io::{Frame, FramePool};

/// Answers that a packet is too big, a second, and at once (RFC 1812 s.4.3.2.8).
const TOO_BIG_RATE: (u64, u64) = (1000, 100);
/// How long hosts are told nothing after more fits than before: a host remembers what it is told
/// for minutes, and with each peer a handshake has to pass first.
pub(super) const TOO_BIG_PAUSE: Duration = Duration::from_secs(10);
/// The longest of them: what ICMPv6 allows (RFC 4443 s.3.2), Ethernet header and tags.
const TOO_BIG_MAX: usize = 1280 + 22;

/// Arrays that live from burst to burst, so that none is allocated; and a rate.
#[derive(Debug)]
pub(super) struct Scratch<F> {
    pub(super) waiting: Waiting<F>,
    pub(super) targets: Vec<Owner>,
    too_big: Bucket,
    /// No such answers before: peers are just being told that more fits.
    pub(super) too_big_from: Instant,
}

impl<F> Default for Scratch<F> {
    fn default() -> Self {
        Self {
            waiting: Waiting::default(),
            targets: Vec::new(),
            too_big: Bucket::new(TOO_BIG_RATE.0, TOO_BIG_RATE.1),
            too_big_from: Instant(0),
        }
    }
}

/// A frame from a host, and where its inner frame begins.
pub(super) struct Entered {
    pub(super) start: usize,
    /// As it is on the fabric.
    pub(super) ethernet: Ethernet,
}

/// Where a frame goes.
enum Destination {
    /// A peer, with the octet of DSCP and ECN of the outer packet.
    Peer(PeerId, u8),
    /// Another port of this node.
    Port(PortId),
    /// All who carry its VLAN, or the members of its group.
    Many,
    /// Back to who sent it: it was made the answer, so many octets long.
    Answered(usize),
    /// It was for the engine, or for those who have it already.
    Consumed,
    /// It is too long for its destination, which takes so many octets.
    TooBig(usize),
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
        if self.tap.is_some() {
            self.tap_entering(now, port, burst);
        }
        for mut frame in burst.drain(..) {
            let entered = match self.enter(port, &mut frame) {
                Ok(entered) => entered,
                Err(reason) => {
                    self.drops.count(reason);
                    let start = frame.room();
                    self.refuse(port, reason, &frame, start);
                    out.free.push(frame);
                    continue;
                }
            };
            match self.route(now, port, &mut frame, &entered) {
                Ok(destination) => self.send(now, port, frame, &entered, destination, pool, out),
                Err(reason) => {
                    self.drops.count(reason);
                    self.refuse(port, reason, &frame, entered.start);
                    out.free.push(frame);
                }
            }
        }
        self.seal_waiting(now, out);
    }

    /// Shows a capture a host's frame that is dropped.
    #[cold]
    fn refuse(&self, port: PortId, reason: DropReason, frame: &F, start: usize) {
        if self.tap.is_some() {
            let octets = frame.bytes().get(start..).unwrap_or_default();
            self.tap_dropped_from(Owner::Local(port), reason, octets);
        }
    }

    /// Makes a host's frame one of the fabric: in its VLAN, and tagged with it.
    fn enter(&self, port: PortId, frame: &mut F) -> Result<Entered, DropReason> {
        let start = frame.room();
        let octets = frame.bytes_mut();
        let inner = octets.get_mut(start..).ok_or(DropReason::InnerTooShort)?;
        let ethernet = Ethernet::parse(inner)?;
        let policy = self.port(port).ok_or(DropReason::NoDestination)?;
        match &policy.vlans {
            PortVlans::Trunk(vlans) if vlans.contains(ethernet.vlan) => {
                Ok(Entered { start, ethernet })
            }
            PortVlans::Access(vlan) if ethernet.tags == 0 => {
                let start = push_tag(octets, start, *vlan).ok_or(DropReason::NoHeadroom)?;
                let ethernet = Ethernet::parse(&octets[start..])?;
                Ok(Entered { start, ethernet })
            }
            // A tag that carries a priority only.
            PortVlans::Access(vlan) if (ethernet.tags, ethernet.vlan) == (1, 0) => {
                set_vid(inner, *vlan);
                let ethernet = Ethernet::parse(inner)?;
                Ok(Entered { start, ethernet })
            }
            _ => Err(DropReason::VlanNotAllowed),
        }
    }

    /// Checks a host's frame, learns from it and looks up its destination.
    fn route(
        &mut self,
        now: Instant,
        port: PortId,
        frame: &mut F,
        entered: &Entered,
    ) -> Result<Destination, DropReason> {
        let Entered { start, ethernet } = entered;
        let inner = &mut frame.bytes_mut()[*start..];
        if !ethernet::source_is_valid(ethernet.source) {
            return Err(DropReason::SourceMacInvalid);
        }
        if ethernet::is_reserved(ethernet.destination) {
            return Err(DropReason::ReservedDestination);
        }
        if self.config.complete_checksums {
            offload::complete_partial_checksum(inner, ethernet);
        }
        self.admit_local(now, port, ethernet)?;
        let guards_dhcp = self.port(port).is_some_and(|policy| policy.guard_dhcp);
        if is_to_be_inspected(inner, ethernet, guards_dhcp) {
            let capacity = frame.capacity();
            match self.judge_local(now, port, frame, entered, capacity)? {
                Judged::GoesOn => {}
                Judged::Answered(len) => return Ok(Destination::Answered(len)),
                Judged::Done => return Ok(Destination::Consumed),
            }
        }
        self.look_up(now, port, &mut frame.bytes_mut()[*start..], ethernet)
    }

    fn look_up(
        &mut self,
        now: Instant,
        port: PortId,
        inner: &mut [u8],
        ethernet: &Ethernet,
    ) -> Result<Destination, DropReason> {
        if ethernet.destination == self.config.policy.engine_mac {
            return Ok(Destination::Consumed);
        }
        if inner.len() > self.config.max_frame {
            return Ok(Destination::TooBig(self.config.max_frame));
        }
        let is_group = ethernet.destination.is_multicast();
        let key = fdb_key(ethernet.vlan, ethernet.destination);
        let known = self.fdb.find(key);
        // Empty unless it is to be asked, and a group is never in it.
        let known = known.or_else(|| self.directory.get(&key).copied().map(Owner::Peer));
        match known {
            Some(Owner::Peer(peer)) if !is_group => {
                let limit = self.limit_towards(peer);
                if inner.len() > limit {
                    return Ok(Destination::TooBig(limit));
                }
                if self.config.policy.mss_clamp {
                    let mtu = limit.min(self.config.max_frame) - ethernet.payload_offset;
                    mss::clamp(inner, ethernet, mtu);
                }
                Ok(Destination::Peer(
                    peer,
                    self.outer_ds_field(inner, ethernet),
                ))
            }
            Some(Owner::Local(behind)) if !is_group && behind == port => Err(DropReason::Reflected),
            Some(Owner::Local(behind)) if !is_group => {
                let carried = self
                    .port(behind)
                    .is_some_and(|p| p.vlans.carry(ethernet.vlan));
                carried
                    .then_some(Destination::Port(behind))
                    .ok_or(DropReason::VlanNotAllowed)
            }
            _ => {
                if !is_group && self.config.policy.drop_unknown {
                    return Err(DropReason::UnknownUnicast);
                }
                let storm = self.port(port).and_then(|policy| policy.storm.as_ref());
                if storm.is_some_and(|storm| !storm.take(now)) {
                    return Err(DropReason::StormLimited);
                }
                Ok(Destination::Many)
            }
        }
    }

    /// Whether the port's host may send from this address; learns it.
    fn admit_local(
        &mut self,
        now: Instant,
        port: PortId,
        ethernet: &Ethernet,
    ) -> Result<(), DropReason> {
        let only = self.port(port).and_then(|policy| policy.only.as_ref());
        if only.is_some_and(|only| !only.contains(&ethernet.source)) {
            return Err(DropReason::SourceMacNotAllowed);
        }
        let key = fdb_key(ethernet.vlan, ethernet.source);
        self.admit(now, key, Owner::Local(port))
    }

    /// Whether `owner` may speak for the address; reports what the control thread is to know.
    #[inline]
    pub(super) fn admit(
        &mut self,
        now: Instant,
        key: FdbKey,
        owner: Owner,
    ) -> Result<(), DropReason> {
        if self.fdb.was_known(now, key, owner) {
            return Ok(());
        }
        self.admit_another(now, key, owner)
    }

    /// The same for a frame that is not from where the one before it came from.
    #[inline(never)]
    fn admit_another(&mut self, now: Instant, key: FdbKey, owner: Owner) -> Result<(), DropReason> {
        if key.mac == self.config.policy.engine_mac {
            // Ours, and never on a frame that comes in.
            return Err(DropReason::SourceMacNotOwned);
        }
        match self.fdb.admit(now, key, owner) {
            Ok(Admission::Known | Admission::Differs) => Ok(()),
            Ok(Admission::Report) => {
                if raise(&mut self.upcalls, Upcall::Learned { key, owner }).is_err() {
                    self.fdb.unreport(key);
                }
                Ok(())
            }
            Err(reason) => {
                if reason == DropReason::SourceMacNotOwned && self.fdb.contest(now, key) {
                    // The next frame says it again.
                    let claimant = owner;
                    let _ = raise(&mut self.upcalls, Upcall::Contested { key, claimant });
                }
                Err(reason)
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one place that takes a frame apart"
    )]
    fn send(
        &mut self,
        now: Instant,
        port: PortId,
        mut frame: F,
        entered: &Entered,
        destination: Destination,
        pool: &mut impl FramePool<Frame = F>,
        out: &mut Output<F>,
    ) {
        let Entered { start, ethernet } = entered;
        match destination {
            Destination::Peer(peer, ds_field) => {
                let leaving = Leaving {
                    frame,
                    start: *start,
                    ds_field,
                };
                self.dispatch(now, leaving, peer, out);
            }
            Destination::Port(to) => self.deliver(frame, *start, ethernet.tags, to, out),
            Destination::Many => {
                self.replicate(now, Owner::Local(port), frame, *start, ethernet, pool, out);
            }
            Destination::Answered(len) => {
                frame.set_len(start + len);
                self.deliver(frame, *start, ethernet.tags, port, out);
            }
            Destination::Consumed => out.free.push(frame),
            Destination::TooBig(limit) => {
                self.drops.count(DropReason::InnerTooBig);
                self.refuse(port, DropReason::InnerTooBig, &frame, *start);
                let inner = &frame.bytes()[*start..];
                self.answer_too_big(now, port, inner, ethernet, limit, pool, out);
                out.free.push(frame);
            }
        }
    }

    /// Tells a host that its packet does not fit, as the packet's destination would.
    #[expect(
        clippy::too_many_arguments,
        reason = "what is known of the packet, and two ways out"
    )]
    fn answer_too_big(
        &mut self,
        now: Instant,
        port: PortId,
        inner: &[u8],
        ethernet: &Ethernet,
        limit: usize,
        pool: &mut impl FramePool<Frame = F>,
        out: &mut Output<F>,
    ) {
        let mtu = limit.saturating_sub(ethernet.payload_offset);
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        if now < self.egress.too_big_from || !self.egress.too_big.take(now) {
            return;
        }
        let Some(mut answer) = pool.alloc(TOO_BIG_MAX) else {
            return;
        };
        match toobig::reply(inner, ethernet, mtu, answer.bytes_mut()) {
            Some(len) => {
                answer.set_len(len);
                self.counted.too_big_answered += 1;
                self.deliver(answer, 0, ethernet.tags, port, out);
            }
            None => out.free.push(answer),
        }
    }

    /// DSCP and ECN of the outer packet (RFC 2983 s.4, RFC 6040 s.4.1).
    pub(super) fn outer_ds_field(&self, inner: &[u8], ethernet: &Ethernet) -> u8 {
        let inside = ecn::ds_field(inner, ethernet).unwrap_or(0);
        match self.config.policy.dscp {
            None => inside,
            Some(dscp) => dscp << 2 | inside & 3,
        }
    }
}
