//! Octets from nobody: whatever arrives, nothing is delivered, leaked or answered.

use omni_wire::DropReason;

use crate::world::{InFlight, Seeded, Shape, World, frame, mac};

/// Genuine messages of a session, captured on their way.
fn capture(world: &mut World, count: u32) -> Vec<Vec<u8>> {
    world.recorded = Some(Vec::new());
    for n in 0..count {
        let payload = vec![n as u8; (n as usize * 37) % 1400];
        world.push(0, &frame(mac(1, 1), mac(0, 1), &payload));
    }
    world.settle();
    world.take(1);
    let recorded = world.recorded.take().unwrap_or_default();
    recorded
        .into_iter()
        .filter(|m| m.from == 0)
        .map(|InFlight { frame, .. }| frame)
        .collect()
}

/// Changes a message so that it is another one.
fn mutate(random: &mut Seeded, message: &[u8]) -> Vec<u8> {
    let mut forged = message.to_vec();
    match random.below(8) {
        // Anything in the message, its header, or its outer headers.
        0..3 => flip(random, &mut forged, 42),
        3 => {
            let end = forged.len().min(74);
            flip_within(random, &mut forged, 42, end);
        }
        4 => flip_within(random, &mut forged, 0, 42),
        5 => forged.truncate(random.below(message.len())),
        6 => {
            let extra = 1 + random.below(300);
            forged.extend((0..extra).map(|_| random.next() as u8));
            // With lengths that say so.
            let udp = (forged.len() - 34) as u16;
            forged[16..18].copy_from_slice(&(udp + 20).to_be_bytes());
            forged[38..40].copy_from_slice(&udp.to_be_bytes());
        }
        _ => {
            for octet in &mut forged[42..] {
                *octet = random.next() as u8;
            }
        }
    }
    forged
}

fn flip(random: &mut Seeded, octets: &mut [u8], from: usize) {
    let end = octets.len();
    flip_within(random, octets, from, end);
}

fn flip_within(random: &mut Seeded, octets: &mut [u8], from: usize, to: usize) {
    for _ in 0..=random.below(4) {
        let at = from + random.below(to - from);
        octets[at] ^= 1 << random.below(8);
    }
}

/// The octets that are authenticated, header and ciphertext, so that a change that left them as
/// they were (in an outer header, or undone) can be told from a forgery.
fn authenticated(message: &[u8]) -> Option<&[u8]> {
    let outer = omni_wire::outer::Outer::parse(message).ok()?;
    message.get(outer.payload..outer.end)
}

#[test]
fn a_million_mutated_messages() {
    let mut world = World::established(Shape::default());
    let genuine = capture(&mut world, 400);
    let originals: std::collections::HashSet<&[u8]> = genuine
        .iter()
        .filter_map(|message| authenticated(message))
        .collect();
    let mut random = Seeded(20_26);
    let mut forged = 0u64;
    let before = world.all_drops(1);
    while forged < 1_000_000 {
        for _ in 0..64 {
            let message = &genuine[random.below(genuine.len())];
            let mutated = mutate(&mut random, message);
            // The genuine octets were accepted once already, so even they are refused; but
            // count only what is a forgery.
            forged += u64::from(!authenticated(&mutated).is_some_and(|m| originals.contains(m)));
            world.inject(1, &mutated);
        }
        world.settle();
        assert!(
            world.hosts[1].delivered.is_empty(),
            "a forgery was delivered"
        );
        assert!(
            world.wire.is_empty() && world.control_wire.is_empty(),
            "an answer"
        );
    }
    world.check_frames();
    assert!(
        world.all_drops(1) - before >= forged,
        "every one was counted"
    );
    for reason in [
        DropReason::OuterMalformed,
        DropReason::HeaderTooShort,
        DropReason::HeaderBadType,
        DropReason::HeaderBadFlags,
        DropReason::UnknownSession,
        DropReason::LaneUnknown,
        DropReason::NonceReplayed,
        DropReason::BadTag,
    ] {
        assert!(world.drops(1, reason) > 0, "{reason:?} was never reached");
    }
    // The session is none the worse for it.
    let sent = frame(mac(1, 1), mac(0, 1), b"still here");
    world.push(0, &sent);
    world.settle();
    assert_eq!(world.take(1), [sent]);
}

#[test]
fn arbitrary_octets_from_both_sides() {
    let mut world = World::established(Shape::default());
    let mut random = Seeded(5);
    for _ in 0..100_000 {
        let len = random.below(200);
        let octets: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        world.inject(1, &octets);
        world.hosts[0].ganglion.handle_datagram(
            world.now,
            "203.0.113.9:999".parse().expect("an address"),
            None,
            &octets,
        );
        world.settle();
    }
    assert!(world.take(1).is_empty() && world.take(0).is_empty());
    world.check_frames();
    // From the access port anything that is a frame is carried, whatever is in it.
    for _ in 0..20_000 {
        let len = random.below(120);
        let octets: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        world.push(0, &octets);
        world.settle();
        for delivered in world.take(1) {
            assert_eq!(delivered, octets);
        }
    }
    world.check_frames();
}

#[test]
fn limits_of_a_verified_message() {
    // A peer with a key of its own may still send nonsense inside.
    let mut world = World::established(Shape::default());
    let config = |max_frame| omni_engine::datapath::TableCommand::SetMaxFrame(max_frame);
    let now = world.now.instant;
    let mut out = omni_engine::datapath::Output::new(1);
    let half = &mut world.hosts[1].workers[0];
    half.datapath
        .apply(now, config(100), &mut half.io, &mut out);
    world.push(0, &frame(mac(1, 1), mac(0, 1), &[0; 200]));
    world.settle();
    assert!(world.take(1).is_empty());
    assert_eq!(world.drops(1, DropReason::InnerTooBig), 1);
    world.check_frames();
}
