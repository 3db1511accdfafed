//! How much a node may ask.

use super::super::{Closed, Limits};
use super::world::{World, public, signed};
use crate::protocol::{Bind, Call, Hello, Refused, from_node, from_nucleus};

#[test]
fn a_node_holds_as_many_addresses_as_it_may() {
    let limits = Limits {
        bindings: 3,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let conn = world.connect(0, 0);
    for last in 1..=4 {
        world.bind(0, conn, &world.binding(0, last, last.into()), 0);
        world.now = world.now.advanced(core::time::Duration::from_millis(20));
    }
    world.settle();
    let refused: Vec<_> = world.answers(0, conn).iter().map(|it| it.1).collect();
    use Refused::{Limit, No};
    assert_eq!(
        refused.iter().filter(|it| **it == Limit).count(),
        1,
        "{refused:?}"
    );
    assert_eq!(refused.iter().filter(|it| **it == No).count(), 3);
    world.advance(1);
    let mut withdrawn = world.binding(0, 1, 10);
    withdrawn.withdrawn = true;
    assert_eq!(world.bound(0, conn, &withdrawn, 0), No);
    assert_eq!(world.bound(0, conn, &world.binding(0, 4, 11), 0), No);
    assert_eq!(world.bound(0, conn, &world.binding(0, 5, 12), 0), Limit);
}

#[test]
fn eleven_registrations_at_once_are_one_too_many_and_a_second_later_one_is_taken() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    for sequence in 1..=11 {
        let refused = match sequence {
            11 => Refused::Limit,
            _ => Refused::No,
        };
        let registration = world.registration(0, sequence);
        assert_eq!(world.registered(0, conn, &registration, 0), refused);
    }
    world.advance(1);
    let registration = world.registration(0, 12);
    assert_eq!(world.registered(0, conn, &registration, 0), Refused::No);
}

#[test]
fn a_new_connection_brings_no_new_burst() {
    let mut world = World::one();
    for sequence in 1..=11 {
        let conn = world.connect(0, 0);
        let registration = world.registration(0, sequence);
        let refused = world.registered(0, conn, &registration, 0);
        assert_eq!(refused == Refused::Limit, sequence == 11);
    }
}

#[test]
fn sixty_four_requests_of_a_node_wait_and_it_is_not_read_from() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    world.settle();
    for last in 1..=64 {
        assert!(world.servers[0].core.may_read(conn));
        world.bind(0, conn, &world.binding(0, last, last.into()), 0);
    }
    assert!(!world.servers[0].core.may_read(conn));
    world.bind(0, conn, &world.binding(0, 65, 65), 0);
    world.listen(0);
    let answers = world.answers(0, conn);
    assert_eq!((answers[0].0, answers[0].1), (65, Refused::Limit));
    world.settle();
    assert!(world.servers[0].core.may_read(conn));
    assert_eq!(world.answers(0, conn).len(), 64);
}

#[test]
fn too_many_messages_are_passed_over_and_going_on_ends_the_connection() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    let burst = Limits::default().message_burst();
    for _ in 0..burst + 500 {
        world.ping(0, conn);
        world.listen(0);
    }
    let limited = world.servers[0].core.counters().limited;
    assert!((490..=510).contains(&limited), "{limited}");
    assert_eq!(world.servers[0].closed.get(&conn), None);
    for _ in 0..600 {
        world.ping(0, conn);
    }
    world.listen(0);
    assert_eq!(world.servers[0].closed.get(&conn), Some(&Closed::TooMuch));
}

#[test]
fn who_reads_nothing_is_closed_before_much_waits() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    for _ in 0..1100 {
        world.ping(0, conn);
    }
    world.listen(0);
    assert_eq!(world.servers[0].closed.get(&conn), Some(&Closed::TooSlow));
}

#[test]
fn a_newer_connection_of_a_node_replaces_the_older_one() {
    let mut world = World::one();
    let old = world.connect(0, 0);
    let new = world.connect(0, 0);
    world.settle();
    assert_eq!(world.servers[0].closed.get(&old), Some(&Closed::Replaced));
    assert_eq!(world.servers[0].closed.get(&new), None);
    world.advance(60);
    let binding = world.binding(0, 1, 1);
    assert_eq!(world.bound(0, new, &binding, 0), Refused::No);
}

#[test]
fn there_are_as_many_connections_as_there_may_be() {
    let limits = Limits {
        connections: 3,
        strangers: 1,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let conns = [7, 8, 0, 1, 0].map(|node| world.connect(0, node));
    world.listen(0);
    let closed = conns.map(|conn| world.servers[0].closed.get(&conn).copied());
    let (full, replaced) = (Some(Closed::Full), Some(Closed::Replaced));
    assert_eq!(closed, [None, full, replaced, None, None]);
}

#[test]
fn who_shows_no_membership_is_told_nothing_and_is_closed_after_30_s() {
    let mut world = World::one();
    let member = world.connect(0, 0);
    let registration = world.registration(0, 1);
    assert_eq!(world.registered(0, member, &registration, 0), Refused::No);
    let conn = world.connect(0, 9);
    world.advance(29);
    assert!(world.changes(0, conn).is_empty());
    assert_eq!(world.servers[0].closed.get(&conn), None);
    world.advance(1);
    assert_eq!(world.servers[0].closed.get(&conn), Some(&Closed::NotMember));
}

#[test]
fn the_first_message_is_a_hello_and_no_other_is() {
    let mut world = World::one();
    let silent = world.connect_silent(0, 0);
    world.ping(0, silent);
    let twice = world.connect(0, 1);
    let hello = Hello {
        version: 1,
        incarnation: Vec::new(),
        revision: 0,
    };
    world.say(0, twice, from_node::What::Hello(hello));
    world.listen(0);
    for conn in [silent, twice] {
        assert_eq!(
            world.servers[0].closed.get(&conn),
            Some(&Closed::Misbehaved)
        );
    }
}

#[test]
fn a_call_reaches_a_member_and_no_stranger_makes_one() {
    let mut world = World::one();
    let [a, b, stranger] = [0, 1, 9].map(|node| world.connect(0, node));
    world.settle();
    world.heard(0, b);
    let call = || {
        let public_key = public(1).0.to_vec();
        from_node::What::Call(Call { public_key })
    };
    world.say(0, stranger, call());
    world.say(0, a, call());
    world.say(0, a, call());
    world.listen(0);
    let called = from_nucleus::What::Called(crate::protocol::Called {
        public_key: public(0).0.to_vec(),
    });
    assert_eq!(world.heard(0, b), [called], "once, as both wait");
    for _ in 0..300 {
        world.say(0, a, call());
    }
    world.listen(0);
    assert!(world.servers[0].core.counters().limited >= 45);
}

#[test]
fn a_token_is_good_for_as_long_as_its_connection() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    world.settle();
    let heard = world.heard(0, conn);
    let from_nucleus::What::Welcome(welcome) = &heard[0] else {
        panic!("a welcome first: {heard:?}")
    };
    let token = welcome.token.clone().try_into().expect("16 octets");
    assert!(world.servers[0].core.knows_token(&token));
    assert!(!world.servers[0].core.knows_token(&[0; 16]));
    world.servers[0].core.disconnect(world.now, conn);
    assert!(!world.servers[0].core.knows_token(&token));
}

#[test]
fn octets_are_limited_as_messages_are() {
    let limits = Limits {
        messages: 10,
        bindings: 10,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let conn = world.connect(0, 0);
    let core = &mut world.servers[0].core;
    // 20 messages of 512 octets at once, and 64 KiB more.
    core.handle_unknown(world.now, conn, 70_000);
    assert_eq!(core.counters().closed, 0);
    // Beyond that it is borne for a while: 1000 times 4 KiB.
    for _ in 0..58 {
        core.handle_unknown(world.now, conn, 65_535);
    }
    assert_eq!(core.counters().closed, 0);
    for _ in 0..10 {
        core.handle_unknown(world.now, conn, 65_535);
    }
    world.settle();
    assert_eq!(world.servers[0].closed.get(&conn), Some(&Closed::TooMuch));
}

#[test]
fn what_another_has_is_refused_without_a_look_at_the_signature() {
    let mut world = World::one();
    let [a, b] = [0, 1].map(|node| world.connect(0, node));
    assert_eq!(world.bound(0, a, &world.binding(0, 1, 1), 0), Refused::No);
    let mut octets = signed(&world.binding(1, 1, 2), 1);
    *octets.last_mut().expect("a signature") ^= 1;
    let bind = |number, binding| from_node::What::Bind(Bind { number, binding });
    world.say(0, b, bind(7, octets.clone()));
    world.settle();
    assert_eq!(world.answers(0, b)[0].1, Refused::Held);
    // What is free, and what is being given up, is verified first.
    let mut gone = world.binding(0, 1, 3);
    gone.withdrawn = true;
    world.bind(0, a, &gone, 0);
    world.say(0, b, bind(8, octets));
    world.settle();
    assert_eq!(world.answers(0, b)[0].1, Refused::Invalid);
}
