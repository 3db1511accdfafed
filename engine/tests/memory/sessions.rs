//! Sessions as frames see them: first contact, renewal, replay, loss of a peer.

use std::time::Duration;

use omni_control::PeerState;
use omni_wire::limits::STAGED_MIN;
use omni_wire::outer::Outer;
use omni_wire::{DropReason, MacAddr};

use crate::world::{Seeded, Shape, World, frame, mac};

fn numbered(n: u32) -> Vec<u8> {
    frame(mac(1, 1), mac(0, 1), &n.to_be_bytes())
}

#[test]
fn frames_wait_for_the_first_handshake_and_leave_in_order() {
    let mut world = World::new(Shape::default());
    let frames: Vec<_> = (0..STAGED_MIN as u32).map(numbered).collect();
    for sent in &frames {
        world.push(0, sent);
    }
    world.settle();
    assert_eq!(world.take(1), frames);
    assert_eq!(world.all_drops(0), 0);
    world.check_frames();
}

#[test]
fn too_many_waiting_frames_drop_the_oldest_and_are_counted() {
    let mut world = World::new(Shape {
        routes: false,
        ..Shape::default()
    });
    let extra = 10;
    for n in 0..STAGED_MIN as u32 + extra {
        world.push(0, &numbered(n));
    }
    world.settle();
    assert!(world.take(1).is_empty());
    assert_eq!(world.drops(0, DropReason::StagedOverflow), u64::from(extra));
    // The way is found: what waited leaves.
    let now = world.now;
    let host = &mut world.hosts[0];
    host.routes = true;
    let peer = host.plane.ganglion.peers().next().expect("one peer");
    host.resolve(now, peer.id, peer.endpoint.expect("configured"));
    world.settle();
    let waiting: Vec<_> = (extra..STAGED_MIN as u32 + extra).map(numbered).collect();
    assert_eq!(world.take(1), waiting);
    world.check_frames();
}

#[test]
fn renewal_loses_nothing_over_an_hour() {
    let mut world = World::established(Shape {
        workers: 2,
        ..Shape::default()
    });
    world.steer = |outer, workers| usize::from(outer.source.port()) % workers;
    let (mut there, mut back) = (0u32, 0u32);
    for step in 0..36_000u32 {
        let worker = (step % 2) as usize;
        world.push_to(0, worker, &numbered(step));
        world.push_to(1, worker, &frame(mac(0, 1), mac(1, 1), &step.to_be_bytes()));
        world.now = world.now.advanced(Duration::from_millis(100));
        world.settle();
        there += world.take(1).len() as u32;
        back += world.take(0).len() as u32;
    }
    assert_eq!((there, back), (36_000, 36_000));
    assert_eq!(world.all_drops(0) + world.all_drops(1), 0);
    let peer = world.hosts[0]
        .plane
        .ganglion
        .peers()
        .next()
        .expect("one peer");
    let age = world.now.instant.since(peer.last_handshake.expect("many"));
    assert!(
        age < Duration::from_secs(131),
        "sessions were renewed: {age:?}"
    );
    world.check_frames();
}

#[test]
fn an_idle_session_ends_and_traffic_starts_another() {
    let mut world = World::established(Shape::default());
    world.advance(Duration::from_secs(600), Duration::from_secs(1));
    assert_eq!(
        world.hosts[0]
            .plane
            .ganglion
            .peers()
            .next()
            .expect("one")
            .state,
        PeerState::Idle
    );
    world.push(0, &numbered(1));
    world.settle();
    assert_eq!(world.take(1), [numbered(1)]);
    assert_eq!(world.all_drops(0) + world.all_drops(1), 0);
}

#[test]
fn a_replayed_capture_delivers_nothing_in_any_order_on_any_queue() {
    let mut world = World::established(Shape {
        workers: 2,
        ..Shape::default()
    });
    world.recorded = Some(Vec::new());
    for n in 0..3000u32 {
        world.push_to(0, (n % 2) as usize, &numbered(n));
        if n % 32 == 0 {
            world.settle();
        }
    }
    world.settle();
    assert_eq!(world.take(1).len(), 3000);
    let mut capture = world.recorded.take().expect("recording");
    let mut random = Seeded(7);
    for round in 0..4 {
        match round {
            0 => {}
            1 => capture.reverse(),
            _ => {
                for at in (1..capture.len()).rev() {
                    capture.swap(at, random.below(at + 1));
                }
            }
        }
        world.steer = if round % 2 == 0 { |_, _| 0 } else { |_, _| 1 };
        for message in capture.iter().filter(|message| message.from == 0) {
            world.inject(1, &message.frame);
            world.settle();
        }
        assert!(world.take(1).is_empty(), "round {round}");
    }
    assert!(world.drops(1, DropReason::NonceReplayed) >= 4 * 3000);
    // Also after the session was renewed, and after it is gone.
    for span in [130, 700] {
        for _ in 0..span {
            world.push(0, &numbered(0));
            world.now = world.now.advanced(Duration::from_secs(1));
            world.settle();
        }
        world.take(1);
        for message in capture.iter().filter(|message| message.from == 0) {
            world.inject(1, &message.frame);
        }
        world.settle();
        assert!(world.take(1).is_empty(), "after {span} s");
    }
    world.check_frames();
}

#[test]
fn an_answer_that_never_comes_is_noticed_and_the_frames_are_given_up() {
    let mut world = World::new(Shape::default());
    world.cut = true;
    world.push(0, &numbered(1));
    world.advance(Duration::from_secs(120), Duration::from_secs(1));
    assert_eq!(world.drops(0, DropReason::StagedExpired), 1);
    world.check_frames();
}

#[test]
fn a_peer_that_moved_is_followed() {
    let mut world = World::established(Shape::default());
    let new = "192.0.2.200:4444".parse().expect("an address");
    world.hosts[1].address = new;
    // The path of the moved node has its new source address; its frames carry it.
    let now = world.now;
    let moved = &mut world.hosts[1];
    let peer = moved.plane.ganglion.peers().next().expect("one peer");
    moved.resolve(now, peer.id, peer.endpoint.expect("known"));
    world.settle();
    world.push(1, &frame(MacAddr::BROADCAST, mac(1, 1), b"from elsewhere"));
    world.settle();
    assert_eq!(world.take(0).len(), 1);
    let seen = world.hosts[0]
        .plane
        .ganglion
        .peers()
        .next()
        .expect("one")
        .endpoint
        .expect("known");
    assert_eq!(seen.ip(), new.ip());
    assert_eq!(world.all_drops(0), 0);
}

#[test]
fn a_peer_that_speaks_to_another_address_of_ours_is_answered_from_there() {
    let mut world = World::established(Shape::default());
    world.cut = true;
    world.recorded = Some(Vec::new());
    world.push(0, &frame(MacAddr::BROADCAST, mac(0, 1), b"to elsewhere"));
    world.settle();
    let sent = world.recorded.take().expect("recording").remove(0);
    world.cut = false;
    // Outer headers are not authenticated; the IPv4 header's checksum is the kernel's to check.
    let mut message = sent.frame;
    let destination = 14 + 16;
    message[destination..destination + 4].copy_from_slice(&[192, 0, 2, 77]);
    world.inject(1, &message);
    world.settle();
    assert_eq!(world.take(1).len(), 1);
    let local = |world: &World| {
        world.hosts[1]
            .plane
            .ganglion
            .peers()
            .next()
            .expect("one")
            .local
    };
    assert_eq!(local(&world), "192.0.2.77".parse().ok());

    world.recorded = Some(Vec::new());
    world.push(1, &frame(MacAddr::BROADCAST, mac(1, 1), b"from elsewhere"));
    world.settle();
    let sent = world.recorded.take().expect("recording").remove(0);
    let outer = Outer::parse(&sent.frame).expect("our own headers");
    assert_eq!(Some(outer.source.ip()), local(&world));
    assert_eq!(world.take(0).len(), 1);
    let seen = world.hosts[0].plane.ganglion.peers().next().expect("one");
    assert_eq!(seen.endpoint, Some(outer.source), "the peer follows");
}

#[test]
fn the_same_run_twice_is_the_same_to_the_octet() {
    let run = || {
        let mut world = World::new(Shape {
            hosts: 3,
            workers: 2,
            ..Shape::default()
        });
        world.recorded = Some(Vec::new());
        let mut random = Seeded(99);
        for n in 0..500u32 {
            let node = random.below(3);
            let to = if random.below(4) == 0 {
                MacAddr::BROADCAST
            } else {
                mac(random.below(3), 1)
            };
            world.push_to(
                node,
                random.below(2),
                &frame(to, mac(node, 1), &n.to_be_bytes()),
            );
            world.now = world
                .now
                .advanced(Duration::from_millis(random.below(900) as u64));
            world.settle();
        }
        let capture = world.recorded.take().expect("recording");
        capture
            .into_iter()
            .map(|message| message.frame)
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
