//! What a capture is shown: each frame where it passes, and with the reason where it is dropped.

use std::sync::Arc;
use std::time::Duration;

use omni_control::message::{PeerId, PortId, VlanBits};
use omni_engine::capture::{Captured, Direction, Place, Ring, Wanted};
use omni_engine::datapath::TableCommand;
use omni_engine::datapath::policy::PeerPolicy;
use omni_wire::{DropReason, MacAddr};

use crate::world::{Shape, World, frame, mac};

const PORT: Place = Place::Port(PortId(0));
const OTHER: Place = Place::Peer(PeerId(0));

/// What of a copy is compared: where it was seen, and why it was dropped.
type Sight = (Place, Direction, Option<DropReason>);

/// Copies what passes at a node, in the clear and sealed.
fn tap(world: &mut World, node: usize) -> Arc<Ring> {
    let wanted = Wanted {
        inner: true,
        outer: true,
        drops: false,
        peer: None,
        vlan: None,
        snaplen: 4096,
    };
    let ring = Arc::new(Ring::new(wanted, 1, 1));
    world.tell_workers(node, &TableCommand::SetTap(Some(Arc::clone(&ring))));
    ring
}

/// The copies of the frame `octets`, and of what it was sealed into. Keepalives and records of the
/// nodes' own are sealed as well, and shorter or longer.
fn sights(ring: &Ring, octets: &[u8]) -> Vec<Sight> {
    let sealed = octets.len() + 14 + 20 + 8 + 32;
    let is_it = |copy: &Captured| match copy.place {
        Place::Underlay => copy.len as usize == sealed,
        _ => *copy.octets == *octets,
    };
    let copies = std::iter::from_fn(|| ring.take()).filter(is_it);
    copies
        .map(|copy| (copy.place, copy.direction, copy.drop))
        .collect()
}

#[test]
fn a_frame_is_seen_at_its_port_in_its_session_and_sealed() {
    let mut world = World::established(Shape::default());
    let (here, there) = (tap(&mut world, 0), tap(&mut world, 1));
    let hello = frame(MacAddr::BROADCAST, mac(0, 1), b"a frame that is looked at");
    world.push(0, &hello);
    world.settle();
    let want = [
        (PORT, Direction::In, None),
        (OTHER, Direction::Out, None),
        (Place::Underlay, Direction::Out, None),
    ];
    assert_eq!(sights(&here, &hello), want);
    let want = [
        (Place::Underlay, Direction::In, None),
        (OTHER, Direction::In, None),
        (PORT, Direction::Out, None),
    ];
    assert_eq!(sights(&there, &hello), want);
    world.tell_workers(0, &TableCommand::SetTap(None));
    world.push(0, &hello);
    world.settle();
    assert_eq!(sights(&here, &hello), []);
    world.check_frames();
}

#[test]
fn what_is_dropped_is_seen_with_the_reason_where_that_was_decided() {
    let mut world = World::established(Shape::default());
    let (here, there) = (tap(&mut world, 0), tap(&mut world, 1));
    // By this node, as it comes from its host.
    let reserved = frame(MacAddr([1, 0x80, 0xc2, 0, 0, 3]), mac(0, 1), b"for bridges");
    world.push(0, &reserved);
    world.settle();
    let reason = Some(DropReason::ReservedDestination);
    let want = [(PORT, Direction::In, None), (PORT, Direction::In, reason)];
    assert_eq!(sights(&here, &reserved), want);
    // By the other one, as it may not be in that VLAN.
    let policy = PeerPolicy {
        vlans: VlanBits::NONE,
        ..PeerPolicy::default()
    };
    world.tell_workers(1, &TableCommand::SetPeerPolicy(PeerId(0), Arc::new(policy)));
    let hello = frame(
        MacAddr::BROADCAST,
        mac(0, 1),
        b"a frame that is not allowed",
    );
    world.push(0, &hello);
    world.settle();
    let reason = Some(DropReason::VlanNotAllowed);
    let want = [
        (Place::Underlay, Direction::In, None),
        (OTHER, Direction::In, None),
        (OTHER, Direction::In, reason),
    ];
    assert_eq!(sights(&there, &hello), want);
    world.check_frames();
}

#[test]
fn a_forged_message_shows_its_headers_and_whose_it_says_to_be() {
    let mut world = World::established(Shape::default());
    let here = tap(&mut world, 0);
    let hello = frame(
        MacAddr::BROADCAST,
        mac(0, 1),
        b"a frame that is sealed once",
    );
    world.push(0, &hello);
    world.settle();
    world.advance(Duration::from_millis(1), Duration::from_millis(1));
    let is_sealed = |copy: &Captured| copy.len as usize == hello.len() + 74;
    let mut copies = std::iter::from_fn(|| here.take());
    let sealed = copies.find(is_sealed).expect("a sealed message");
    let there = tap(&mut world, 1);
    let mut forged = sealed.octets.to_vec();
    *forged.last_mut().expect("a message") ^= 1;
    // Another nonce, or it would be taken for the same again.
    forged[14 + 20 + 8 + 15] ^= 0x40;
    world.inject(1, &forged);
    world.settle();
    let copies = std::iter::from_fn(|| there.take());
    let dropped: Vec<Captured> = copies.filter(|copy| copy.drop.is_some()).collect();
    let [bad] = &dropped[..] else {
        panic!("{dropped:?}");
    };
    let seen = (bad.place, bad.peer, bad.drop);
    let want = (Place::Underlay, Some(PeerId(0)), Some(DropReason::BadTag));
    assert_eq!(seen, want);
    assert_eq!(
        (bad.octets.len(), bad.len as usize),
        (14 + 20 + 8 + 32, forged.len())
    );
}
