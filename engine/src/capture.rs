//! Captures: copies of frames on their way through the workers, with the reason where one is
//! dropped.
//!
//! ```text
//!  worker 0 --+ copies      +-------+  pcapng   +----------+
//!  worker 1 --+-----------> | Ring  | --------> | a thread | ---> control socket: omni capture
//!  worker 2 --+  while one  +-------+           +----------+
//!                is open      what has no room is counted
//! ```
//!
//! A worker that is not tapped looks once a burst whether it is. One that is copies into the ring
//! and waits for nobody.

pub mod pcapng;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use omni_control::message::{PeerId, PortId};
use omni_wire::ethernet::Ethernet;
use omni_wire::{DropReason, Instant};
use serde::{Deserialize, Serialize};

/// Frames that wait for the thread that writes them: at 100 Gbit/s of full frames half a
/// millisecond, at 1 Gbit/s fifty.
const ROOM: usize = 4096;

/// The most octets of a frame that are kept unless fewer are asked for: all of it.
pub const SNAPLEN: u32 = 262_144;

/// What `omni capture` asks an engine for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureRequest {
    /// Inner frames, in the clear: at access ports and in sessions.
    pub inner: bool,
    /// Sealed messages with their outer headers: at the underlay.
    pub outer: bool,
    /// Only what is dropped.
    pub drops: bool,
    /// Only what is for or from this peer: its name, or the beginning of its public key.
    pub peer: Option<String>,
    /// Only inner frames of this VLAN.
    pub vlan: Option<u16>,
    /// Ends after so many frames.
    pub count: Option<u64>,
    /// Ends after so many seconds.
    pub seconds: Option<u64>,
    /// Octets kept of each frame.
    pub snaplen: u32,
}

/// The line that a capture begins with: pcapng follows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CaptureBegun {
    /// The node's name.
    pub capturing: String,
}

/// Where a frame was seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// Sealed, at the underlay.
    Underlay,
    /// As hosts have it, at an access port.
    Port(PortId),
    /// As the fabric carries it, in the session with a peer.
    Peer(PeerId),
}

/// Where to a frame was going, from the node's point of view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Into the engine.
    In,
    /// Out of it.
    Out,
}

/// A frame that a worker has before it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// When.
    pub at: Instant,
    /// Where.
    pub place: Place,
    /// Where to.
    pub direction: Direction,
    /// Whose or for whom it is, where that is known.
    pub peer: Option<PeerId>,
    /// Why it is dropped, if it is.
    pub drop: Option<DropReason>,
    /// The VLAN that it is in without a tag.
    pub untagged: u16,
    /// From the destination MAC on.
    pub octets: &'a [u8],
    /// How long the frame was, if the octets are only its beginning.
    pub len: usize,
}

/// The copy of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// When it was seen.
    pub at: Instant,
    /// Where.
    pub place: Place,
    /// Where to.
    pub direction: Direction,
    /// Whose or for whom it is, where that is known.
    pub peer: Option<PeerId>,
    /// Why it was dropped, if it was.
    pub drop: Option<DropReason>,
    /// How long it was, in octets.
    pub len: u32,
    /// As many of them as are kept.
    pub octets: Box<[u8]>,
}

/// What is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Inner frames.
    pub inner: bool,
    /// Sealed messages.
    pub outer: bool,
    /// Only what is dropped.
    pub drops: bool,
    /// Only of this peer.
    pub peer: Option<PeerId>,
    /// Only inner frames of this VLAN.
    pub vlan: Option<u16>,
    /// Octets kept of each.
    pub snaplen: usize,
}

impl Wanted {
    fn includes(&self, seen: &Seen<'_>) -> bool {
        let is_outer = seen.place == Place::Underlay;
        let side = if is_outer { self.outer } else { self.inner };
        // What is dropped before it is opened is wanted by who asks for what is dropped.
        let side = side || self.drops && seen.drop.is_some();
        side && (!self.drops || seen.drop.is_some())
            && (self.peer.is_none() || self.peer == seen.peer)
            && self
                .vlan
                .is_none_or(|vlan| !is_outer && vlan_of(seen) == vlan)
    }
}

fn vlan_of(seen: &Seen<'_>) -> u16 {
    match Ethernet::parse(seen.octets) {
        Ok(ethernet) if ethernet.tags > 0 && ethernet.vlan != 0 => ethernet.vlan,
        _ => seen.untagged,
    }
}

/// What workers copy into, and one thread takes from.
#[derive(Debug)]
pub struct Ring {
    wanted: Wanted,
    frames: ArrayQueue<Captured>,
    ports: usize,
    /// By place: the underlay, ports, peers, and those who became peers later, together.
    lost: Box<[AtomicU64]>,
    closed: AtomicBool,
}

impl Ring {
    /// An empty one, for so many access ports, and peers below this index.
    #[must_use]
    pub fn new(wanted: Wanted, ports: usize, peers: usize) -> Self {
        Self {
            wanted,
            frames: ArrayQueue::new(ROOM),
            ports,
            lost: (0..ports + peers + 2).map(|_| AtomicU64::new(0)).collect(),
            closed: AtomicBool::new(false),
        }
    }

    /// Copies a frame, if it is wanted. What has no room is lost, and counted.
    pub fn offer(&self, seen: &Seen<'_>) {
        if self.closed.load(Ordering::Relaxed) || !self.wanted.includes(seen) {
            return;
        }
        let kept = seen.octets.len().min(self.wanted.snaplen);
        let is_kept = !self.frames.is_full()
            && self
                .frames
                .push(Captured {
                    at: seen.at,
                    place: seen.place,
                    direction: seen.direction,
                    peer: seen.peer,
                    drop: seen.drop,
                    len: u32::try_from(seen.len).unwrap_or(u32::MAX),
                    octets: Box::from(&seen.octets[..kept]),
                })
                .is_ok();
        if !is_kept {
            self.lost_at(seen.place).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest frame.
    #[must_use]
    pub fn take(&self) -> Option<Captured> {
        self.frames.pop()
    }

    /// How many frames of a place had no room. Those who became peers later share a count.
    #[must_use]
    pub fn lost(&self, place: Place) -> u64 {
        self.lost_at(place).load(Ordering::Relaxed)
    }

    /// How many had no room in all.
    #[must_use]
    pub fn all_lost(&self) -> u64 {
        let counts = self.lost.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Nothing is copied any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn lost_at(&self, place: Place) -> &AtomicU64 {
        let last = self.lost.len() - 1;
        let at = match place {
            Place::Underlay => 0,
            Place::Port(PortId(port)) => 1 + usize::from(port),
            Place::Peer(PeerId(peer)) => 1 + self.ports + usize::from(peer),
        };
        &self.lost[at.min(last)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 18] = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 20, 0x08, 0x00,
    ];
    const BETA: PeerId = PeerId(3);

    fn wanted() -> Wanted {
        Wanted {
            inner: true,
            outer: false,
            drops: false,
            peer: None,
            vlan: None,
            snaplen: 262_144,
        }
    }

    fn seen(place: Place, drop: Option<DropReason>) -> Seen<'static> {
        Seen {
            at: Instant(7),
            place,
            direction: Direction::In,
            peer: matches!(place, Place::Peer(_)).then_some(BETA),
            drop,
            untagged: 0,
            octets: &FRAME,
            len: FRAME.len(),
        }
    }

    /// How many of these are kept: sealed, at a port, of a peer, and the last two dropped.
    fn kept(wanted: Wanted) -> usize {
        let ring = Ring::new(wanted, 1, 4);
        let reason = Some(DropReason::VlanNotAllowed);
        for (place, drop) in [
            (Place::Underlay, None),
            (Place::Port(PortId(0)), None),
            (Place::Peer(BETA), None),
            (Place::Peer(BETA), reason),
            (Place::Underlay, reason),
        ] {
            ring.offer(&seen(place, drop));
        }
        std::iter::from_fn(|| ring.take()).count()
    }

    #[test]
    fn only_what_is_wanted_is_copied() {
        assert_eq!(kept(wanted()), 3);
        let outer = Wanted {
            inner: false,
            outer: true,
            ..wanted()
        };
        assert_eq!(kept(outer), 2);
        let drops = Wanted {
            drops: true,
            ..wanted()
        };
        assert_eq!(kept(drops), 2);
        let of_peer = |peer| Wanted {
            peer: Some(peer),
            ..wanted()
        };
        assert_eq!((kept(of_peer(BETA)), kept(of_peer(PeerId(4)))), (2, 0));
        let in_vlan = |vlan| Wanted {
            vlan: Some(vlan),
            ..wanted()
        };
        assert_eq!((kept(in_vlan(20)), kept(in_vlan(21))), (3, 0));
    }

    #[test]
    fn frames_are_cut_and_their_length_is_told() {
        let short = Wanted {
            snaplen: 14,
            ..wanted()
        };
        let ring = Ring::new(short, 1, 4);
        ring.offer(&seen(Place::Port(PortId(0)), None));
        let copy = ring.take().expect("a copy");
        assert_eq!((copy.octets.len(), copy.len), (14, 18));
    }

    #[test]
    fn what_has_no_room_is_counted_where_it_was_seen() {
        let ring = Ring::new(wanted(), 1, 4);
        for _ in 0..ROOM + 5 {
            ring.offer(&seen(Place::Peer(BETA), None));
        }
        ring.offer(&seen(Place::Port(PortId(0)), None));
        // It became a peer later.
        ring.offer(&seen(Place::Peer(PeerId(900)), None));
        let lost = [
            Place::Peer(BETA),
            Place::Port(PortId(0)),
            Place::Peer(PeerId(901)),
            Place::Underlay,
        ];
        assert_eq!(lost.map(|place| ring.lost(place)), [5, 1, 1, 0]);
        assert_eq!(ring.all_lost(), 7);
        ring.close();
        ring.offer(&seen(Place::Peer(BETA), None));
        assert_eq!(ring.all_lost(), 7);
    }
}
