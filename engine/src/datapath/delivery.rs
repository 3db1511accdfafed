//! The way out of a port, and the ways of frames that go to many.

use omni_control::message::{Owner, PeerId, PortId};
use omni_wire::ethernet::Ethernet;
use omni_wire::{DropReason, Instant};

use super::policy::PortVlans;
use super::sealing::{Leaving, OVERHEAD_MAX};
use super::tags::move_to_start;
use super::{Datapath, Output};
use crate::io::{Frame, FramePool};

impl<F: Frame> Datapath<F> {
    /// A frame, as it is on the fabric with so many tags, out of a port that carries its VLAN.
    pub(super) fn deliver(
        &mut self,
        mut frame: F,
        start: usize,
        tags: u8,
        to: PortId,
        out: &mut Output<F>,
    ) {
        let policy = self.config.policy.ports.get(usize::from(to.0));
        let vlans = policy.map(|policy| &policy.vlans);
        let untag = matches!(vlans, Some(PortVlans::Access(_)));
        let queue = out.access.get_mut(usize::from(to.0));
        match queue {
            // What is tagged twice would come out tagged: not of this port's VLAN.
            Some(queue) if !untag || tags == 1 => {
                move_to_start(&mut frame, start, untag);
                queue.push(frame);
            }
            _ => {
                let reason = DropReason::VlanNotAllowed;
                self.drops.count(reason);
                if self.tap.is_some() {
                    let octets = frame.bytes().get(start..).unwrap_or_default();
                    self.tap_undelivered(to, reason, octets);
                }
                out.free.push(frame);
            }
        }
    }

    /// One frame to all ports and peers that it is for: the last takes the frame itself, those
    /// before it get copies. What came from a peer goes to ports only.
    #[expect(
        clippy::too_many_arguments,
        reason = "one place that takes a frame apart"
    )]
    pub(super) fn replicate(
        &mut self,
        now: Instant,
        from: Owner,
        frame: F,
        start: usize,
        ethernet: &Ethernet,
        pool: &mut impl FramePool<Frame = F>,
        out: &mut Output<F>,
    ) {
        let mut targets = std::mem::take(&mut self.egress.targets);
        self.find_targets(from, &frame.bytes()[start..], ethernet, &mut targets);
        let ds_field = self.outer_ds_field(&frame.bytes()[start..], ethernet);
        if let Some((&last, others)) = targets.split_last() {
            for &target in others {
                let room = room_towards(target);
                match copy_of(&frame, start, room, pool) {
                    Some(copy) => self.forward(now, copy, room, ds_field, ethernet, target, out),
                    None => self.drops.count(DropReason::NoFreeFrame),
                }
            }
            self.forward(now, frame, start, ds_field, ethernet, last, out);
        } else {
            let reason = DropReason::NoDestination;
            self.drops.count(reason);
            if self.tap.is_some() {
                let octets = frame.bytes().get(start..).unwrap_or_default();
                self.tap_dropped_from(from, reason, octets);
            }
            out.free.push(frame);
        }
        targets.clear();
        self.egress.targets = targets;
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a frame, what is known of it, and its way"
    )]
    fn forward(
        &mut self,
        now: Instant,
        frame: F,
        start: usize,
        ds_field: u8,
        ethernet: &Ethernet,
        to: Owner,
        out: &mut Output<F>,
    ) {
        match to {
            Owner::Local(port) => self.deliver(frame, start, ethernet.tags, port, out),
            Owner::Peer(peer) => {
                let leaving = Leaving {
                    frame,
                    start,
                    ds_field,
                };
                self.dispatch(now, leaving, peer, out);
            }
        }
    }

    /// Who carries the frame's VLAN and, where it is for a group, wants that.
    fn find_targets(
        &self,
        from: Owner,
        inner: &[u8],
        ethernet: &Ethernet,
        targets: &mut Vec<Owner>,
    ) {
        let everyone = !self.config.policy.snoop;
        let recipients = self.groups.recipients(ethernet.vlan, inner, ethernet);
        let includes = |owner: Owner| owner != from && (everyone || recipients.include(owner));
        let ports = self.config.policy.ports.iter().enumerate();
        let ports = ports.filter(|(_, policy)| policy.vlans.carry(ethernet.vlan));
        let ports = ports.map(|(index, _)| Owner::Local(PortId(index as u8)));
        targets.extend(ports.filter(|&owner| includes(owner)));
        if matches!(from, Owner::Local(_)) {
            let peers = self
                .peers
                .ids()
                .filter(|&id| self.carries(id, ethernet.vlan));
            targets.extend(peers.map(Owner::Peer).filter(|&owner| includes(owner)));
        }
    }

    /// Whether frames of a VLAN reach hosts behind a peer.
    fn carries(&self, id: PeerId, vlan: u16) -> bool {
        self.peers.get(id).is_some_and(|peer| {
            let can_be_reached = peer.current.is_some() || peer.reachable;
            can_be_reached && peer.carried.contains(vlan) && peer.policy.vlans.contains(vlan)
        })
    }
}

/// The room that a copy needs before it on its way.
const fn room_towards(owner: Owner) -> usize {
    match owner {
        Owner::Local(_) => 0,
        Owner::Peer(_) => OVERHEAD_MAX,
    }
}

/// A copy of the inner frame that begins at `start`, with so much room before it.
fn copy_of<F: Frame>(
    frame: &F,
    start: usize,
    room: usize,
    pool: &mut impl FramePool<Frame = F>,
) -> Option<F> {
    let inner = frame.bytes().get(start..)?;
    let mut copy = pool.alloc(room + inner.len())?;
    copy.bytes_mut()[room..].copy_from_slice(inner);
    Some(copy)
}
