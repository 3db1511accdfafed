//! What a capture is shown of frames. Nothing in here runs while there is none.

use std::sync::Arc;

use omni_control::message::{Owner, PeerId, PortId};
use omni_wire::outer::Outer;
use omni_wire::{DropReason, Instant};

use super::policy::PortVlans;
use super::sealing::Leaving;
use super::{Datapath, Output};
use crate::capture::{Direction, Place, Ring, Seen};
use crate::io::Frame;

/// A capture that this worker copies for.
#[derive(Debug)]
pub(super) struct Tap {
    ring: Arc<Ring>,
    /// When this burst came.
    now: Instant,
}

impl Tap {
    pub(super) fn new(ring: Arc<Ring>, now: Instant) -> Self {
        Self { ring, now }
    }

    /// The next burst has come.
    pub(super) fn begin(&mut self, now: Instant) {
        self.now = now;
    }

    pub(super) fn show(
        &self,
        (place, direction): (Place, Direction),
        peer: Option<PeerId>,
        drop: Option<DropReason>,
        octets: &[u8],
    ) {
        self.ring.offer(&Seen {
            at: self.now,
            place,
            direction,
            peer,
            drop,
            untagged: 0,
            octets,
            len: octets.len(),
        });
    }

    /// A message that did not verify: its headers, as the rest may be anything by now.
    pub(super) fn show_forged(
        &self,
        peer: Option<PeerId>,
        reason: DropReason,
        message: &[u8],
        headers: usize,
    ) {
        self.ring.offer(&Seen {
            at: self.now,
            place: Place::Underlay,
            direction: Direction::In,
            peer,
            drop: Some(reason),
            untagged: 0,
            octets: &message[..headers.min(message.len())],
            len: message.len(),
        });
    }

    /// A frame as hosts have it.
    fn show_at_port(&self, port: PortId, direction: Direction, untagged: u16, octets: &[u8]) {
        self.ring.offer(&Seen {
            at: self.now,
            place: Place::Port(port),
            direction,
            peer: None,
            drop: None,
            untagged,
            octets,
            len: octets.len(),
        });
    }
}

impl<F: Frame> Datapath<F> {
    /// Whether a capture is to be shown what leaves.
    #[must_use]
    pub fn is_tapped(&self) -> bool {
        self.tap.is_some()
    }

    /// Shows a burst as hosts sent it.
    #[cold]
    pub(super) fn tap_entering(&mut self, now: Instant, port: PortId, burst: &[F]) {
        let untagged = self.untagged(port);
        let Some(tap) = &mut self.tap else { return };
        tap.begin(now);
        for frame in burst {
            let octets = frame.bytes().get(frame.room()..).unwrap_or_default();
            tap.show_at_port(port, Direction::In, untagged, octets);
        }
    }

    /// Shows all that is about to leave: sealed, and as hosts get it.
    #[cold]
    pub fn tap_leaving(&self, out: &Output<F>) {
        let Some(tap) = &self.tap else { return };
        for (port, frames) in (0..).map(PortId).zip(&out.access) {
            let untagged = self.untagged(port);
            for frame in frames {
                tap.show_at_port(port, Direction::Out, untagged, frame.bytes());
            }
        }
        for frame in &out.underlay {
            let peer = self.peer_at(frame.bytes());
            tap.show((Place::Underlay, Direction::Out), peer, None, frame.bytes());
        }
    }

    /// Shows a frame that is dropped on its way from a port or a peer.
    #[cold]
    pub(super) fn tap_dropped_from(&self, from: Owner, reason: DropReason, octets: &[u8]) {
        let (place, peer) = match from {
            Owner::Local(port) => (Place::Port(port), None),
            Owner::Peer(peer) => (Place::Peer(peer), Some(peer)),
        };
        if let Some(tap) = &self.tap {
            tap.show((place, Direction::In), peer, Some(reason), octets);
        }
    }

    /// Shows a frame that is dropped on its way out of a port.
    #[cold]
    pub(super) fn tap_undelivered(&self, port: PortId, reason: DropReason, octets: &[u8]) {
        if let Some(tap) = &self.tap {
            tap.show(
                (Place::Port(port), Direction::Out),
                None,
                Some(reason),
                octets,
            );
        }
    }

    /// Shows a frame that is dropped on its way to a peer.
    #[cold]
    pub(super) fn tap_unsent(&self, peer: PeerId, reason: DropReason, leaving: &Leaving<F>) {
        if let Some(tap) = &self.tap {
            let octets = leaving.frame.bytes().get(leaving.start..);
            let to = (Place::Peer(peer), Direction::Out);
            tap.show(to, Some(peer), Some(reason), octets.unwrap_or_default());
        }
    }

    /// The VLAN of frames without a tag on a port.
    fn untagged(&self, port: PortId) -> u16 {
        match self.port(port).map(|policy| &policy.vlans) {
            Some(PortVlans::Access(vlan)) => *vlan,
            _ => 0,
        }
    }

    /// Whom a message is for: the peer at the endpoint that it goes to.
    fn peer_at(&self, message: &[u8]) -> Option<PeerId> {
        let to = Outer::parse(message).ok()?.destination;
        self.peers.ids().find(|&id| {
            let template = self.peers.get(id).and_then(|peer| peer.template.as_ref());
            template.is_some_and(|template| template.endpoint() == to)
        })
    }
}
