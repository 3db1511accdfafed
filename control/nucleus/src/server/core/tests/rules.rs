//! Who is a member, and who has which address.

use super::super::{Closed, Limits};
use super::memory::Fault;
use super::world::{World, ip, public, signed};
use crate::protocol::{Bind, Refused, from_node};

#[test]
fn a_listed_node_registers_and_is_answered_once_it_is_stored() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    let registration = world.registration(0, 5);
    world.register(0, conn, &registration, 0);
    world.listen(0);
    assert_eq!(world.answers(0, conn), [], "nothing is stored yet");
    world.settle();
    assert_eq!(world.answers(0, conn), [(5, Refused::No, String::new())]);
    let stored = world
        .memory
        .items
        .keys()
        .filter(|key| key.starts_with(b"member/"));
    assert_eq!(stored.count(), 1);
}

#[test]
fn the_same_registration_again_is_a_success_and_no_write() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    let registration = world.registration(0, 5);
    assert_eq!(world.registered(0, conn, &registration, 0), Refused::No);
    let revision = world.memory.revision;
    assert_eq!(world.registered(0, conn, &registration, 0), Refused::No);
    assert_eq!(world.memory.revision, revision);
}

#[test]
fn an_older_registration_is_refused() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    let [old, new] = [4, 5].map(|sequence| world.registration(0, sequence));
    assert_eq!(world.registered(0, conn, &new, 0), Refused::No);
    assert_eq!(world.registered(0, conn, &old, 0), Refused::Older);
}

#[test]
fn who_is_not_on_the_list_needs_a_certificate_of_its_own() {
    let mut world = World::one();
    let conn = world.connect(0, 5);
    let mut registration = world.registration(5, 1);
    assert_eq!(
        world.registered(0, conn, &registration, 5),
        Refused::NotMember
    );
    registration.certificate = Some(world.certificate(6, 1));
    assert_eq!(
        world.registered(0, conn, &registration, 5),
        Refused::NotMember
    );
    registration.certificate = Some(world.certificate(5, 1));
    assert_eq!(world.registered(0, conn, &registration, 5), Refused::No);
}

#[test]
fn nobody_registers_or_binds_for_another_node() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    let registration = world.registration(1, 1);
    assert_eq!(
        world.registered(0, conn, &registration, 1),
        Refused::Invalid
    );
    let binding = world.binding(1, 1, 2);
    assert_eq!(world.bound(0, conn, &binding, 1), Refused::Invalid);
}

#[test]
fn nothing_is_good_for_more_than_31_days() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    let most = world.seconds() + 31 * 24 * 3600;
    for (beyond, expected) in [(1, Refused::Invalid), (0, Refused::No)] {
        let mut registration = world.registration(0, 5);
        registration.expires = most + beyond;
        assert_eq!(world.registered(0, conn, &registration, 0), expected);
    }
    for (beyond, expected) in [(1, Refused::Invalid), (0, Refused::No)] {
        let mut binding = world.binding(0, 1, 6);
        binding.expires = most + beyond;
        assert_eq!(world.bound(0, conn, &binding, 0), expected);
    }
}

#[test]
fn much_less_than_before_is_read_again_before_it_is_believed() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    let registration = world.registration(0, 1);
    assert_eq!(world.registered(0, conn, &registration, 0), Refused::No);
    for last in 1..=4 {
        let binding = world.binding(0, last, 1 + u64::from(last));
        assert_eq!(world.bound(0, conn, &binding, 0), Refused::No);
    }
    let known = |world: &World| world.servers[0].core.bindings().bindings.len();
    assert_eq!(known(&world), 4);
    // It is all there again when it is read the second time.
    let all = world.memory.items.clone();
    world.memory.items.clear();
    world.lose(0);
    world.settle();
    assert_eq!(known(&world), 4, "in doubt");
    world.memory.items = all;
    world.advance(2);
    assert_eq!(known(&world), 4);
    let counters = world.servers[0].core.counters();
    assert_eq!((counters.doubted, counters.loads), (1, 3));
    // It is not.
    world.memory.items.clear();
    world.lose(0);
    world.settle();
    assert_eq!(known(&world), 4, "in doubt");
    world.advance(2);
    assert_eq!(known(&world), 0);
    assert_eq!(world.servers[0].core.counters().doubted, 2);
}

#[test]
fn a_store_that_others_share_is_read_again_every_five_minutes() {
    for (servers, expected) in [(1, 1), (2, 3)] {
        let mut world = World::new(servers, Limits::default());
        world.advance(601);
        assert_eq!(world.servers[0].core.counters().loads, expected);
    }
}

#[test]
fn what_does_not_verify_or_has_expired_is_invalid() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    let mut octets = signed(&world.binding(0, 1, 1), 0);
    *octets.last_mut().expect("octets") ^= 1;
    let (number, binding) = (1, octets);
    world.say(0, conn, from_node::What::Bind(Bind { number, binding }));
    world.settle();
    assert_eq!(world.answers(0, conn)[0].1, Refused::Invalid);
    let mut binding = world.binding(0, 1, 2);
    binding.expires = world.seconds() - 1;
    assert_eq!(world.bound(0, conn, &binding, 0), Refused::Invalid);
    let mut registration = world.registration(0, 3);
    registration.expires = world.seconds() - 1;
    assert_eq!(
        world.registered(0, conn, &registration, 0),
        Refused::Invalid
    );
}

#[test]
fn a_sequence_that_nobody_could_go_beyond_is_refused() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    let soon = (world.seconds() + 600) * 1000;
    let binding = world.binding(0, 1, soon + 1);
    assert_eq!(world.bound(0, conn, &binding, 0), Refused::Invalid);
    let binding = world.binding(0, 1, soon);
    assert_eq!(world.bound(0, conn, &binding, 0), Refused::No);
    let registration = world.registration(0, soon + 1);
    assert_eq!(
        world.registered(0, conn, &registration, 0),
        Refused::Invalid
    );
    let registration = world.registration(0, soon);
    assert_eq!(world.registered(0, conn, &registration, 0), Refused::No);
}

#[test]
fn only_what_a_certificate_grants_is_bound() {
    let mut world = World::one();
    let conn = world.connect(0, 5);
    let mut registration = world.registration(5, 1);
    let binding = world.binding(5, 1, 2);
    assert_eq!(world.bound(0, conn, &binding, 5), Refused::NotMember);
    registration.certificate = Some(world.certificate(5, 1));
    // Both at once: whoever is admitted need not wait for the disk.
    world.register(0, conn, &registration, 5);
    world.bind(0, conn, &binding, 5);
    world.settle();
    let answers = world.answers(0, conn);
    assert_eq!(
        answers.iter().map(|it| it.1).collect::<Vec<_>>(),
        [Refused::No; 2]
    );
    let mut elsewhere = world.binding(5, 1, 3);
    elsewhere.vlan = 8;
    assert_eq!(world.bound(0, conn, &elsewhere, 5), Refused::NotGranted);
    let mut elsewhere = world.binding(5, 1, 3);
    elsewhere.ip = Some([10, 1, 0, 1].into());
    assert_eq!(world.bound(0, conn, &elsewhere, 5), Refused::NotGranted);
}

#[test]
fn an_address_has_one_owner_and_the_other_is_told_who() {
    let mut world = World::one();
    let [a, b] = [0, 1].map(|node| world.connect(0, node));
    assert_eq!(world.bound(0, a, &world.binding(0, 1, 1), 0), Refused::No);
    let wanted = world.binding(1, 1, 2);
    world.bind(0, b, &wanted, 1);
    world.settle();
    let [(_, refused, why)] = &world.answers(0, b)[..] else {
        panic!("one answer")
    };
    assert_eq!(*refused, Refused::Held);
    assert_eq!(*why, format!("ip/7/10.0.0.1 is held by {}", public(0)));
    assert_eq!(
        world.memory.value("ip/7/10.0.0.1"),
        Some(&signed(&world.binding(0, 1, 1), 0)[..])
    );
}

#[test]
fn an_owner_replaces_its_binding_by_a_greater_sequence_only() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    assert_eq!(
        world.bound(0, conn, &world.binding(0, 1, 5), 0),
        Refused::No
    );
    let mut changed = world.binding(0, 1, 5);
    changed.expires += 1;
    assert_eq!(world.bound(0, conn, &changed, 0), Refused::Older);
    changed.sequence = 6;
    assert_eq!(world.bound(0, conn, &changed, 0), Refused::No);
}

#[test]
fn a_withdrawn_or_released_address_goes_to_who_wants_it_with_a_greater_sequence() {
    let mut world = World::one();
    let [a, b] = [0, 1].map(|node| world.connect(0, node));
    let mut binding = world.binding(0, 1, 5);
    binding.release_to = Some(public(1));
    assert_eq!(world.bound(0, a, &binding, 0), Refused::No);
    assert_eq!(
        world.bound(0, b, &world.binding(1, 1, 5), 1),
        Refused::Older
    );
    assert_eq!(world.bound(0, b, &world.binding(1, 1, 6), 1), Refused::No);
    assert_eq!(world.bound(0, a, &world.binding(0, 1, 7), 0), Refused::Held);
    let mut withdrawn = world.binding(1, 1, 8);
    withdrawn.withdrawn = true;
    assert_eq!(world.bound(0, b, &withdrawn, 1), Refused::No);
    assert!(
        world.memory.value("ip/7/10.0.0.1").is_some(),
        "everyone is to hear of it"
    );
    assert_eq!(world.bound(0, a, &world.binding(0, 1, 9), 0), Refused::No);
    assert_eq!(world.servers[0].core.counters().moved, 1);
}

#[test]
fn nobody_withdraws_what_another_has_and_nothing_is_withdrawn_twice() {
    let mut world = World::one();
    let [a, b] = [0, 1].map(|node| world.connect(0, node));
    let mut withdrawn = world.binding(1, 1, 9);
    withdrawn.withdrawn = true;
    assert_eq!(world.bound(0, b, &withdrawn, 1), Refused::No);
    assert_eq!(
        world.memory.value("ip/7/10.0.0.1"),
        None,
        "there was nothing to withdraw"
    );
    assert_eq!(world.bound(0, a, &world.binding(0, 1, 1), 0), Refused::No);
    assert_eq!(world.bound(0, b, &withdrawn, 1), Refused::Held);
}

#[test]
fn an_owner_that_is_away_for_30_s_may_lose_its_address() {
    let mut world = World::one();
    let [a, b] = [0, 1].map(|node| world.connect(0, node));
    assert_eq!(world.bound(0, a, &world.binding(0, 1, 1), 0), Refused::No);
    world.advance(60);
    assert_eq!(world.bound(0, b, &world.binding(1, 1, 2), 1), Refused::Held);
    world.ping(0, a);
    world.advance(20);
    world.servers[0].core.disconnect(world.now, a);
    world.advance(9);
    assert_eq!(world.bound(0, b, &world.binding(1, 1, 3), 1), Refused::Held);
    world.advance(2);
    assert_eq!(world.bound(0, b, &world.binding(1, 1, 4), 1), Refused::No);
}

#[test]
fn after_a_start_owners_have_30_s_to_come_back() {
    let mut world = World::one();
    let a = world.connect(0, 0);
    assert_eq!(world.bound(0, a, &world.binding(0, 1, 1), 0), Refused::No);
    let memory = world.memory;
    let mut world = World::new(1, super::super::Limits::default());
    world.memory = memory;
    // A store of its own keeps nothing of who was connected.
    world
        .memory
        .items
        .retain(|key, _| !key.starts_with(b"live/"));
    world.lose(0);
    world.settle();
    let b = world.connect(0, 1);
    assert_eq!(world.bound(0, b, &world.binding(1, 1, 2), 1), Refused::Held);
    world.advance(31);
    assert_eq!(world.bound(0, b, &world.binding(1, 1, 3), 1), Refused::No);
}

#[test]
fn an_owner_that_is_connected_to_another_server_keeps_its_address() {
    let mut world = World::new(2, super::super::Limits::default());
    let a = world.connect(0, 0);
    let b = world.connect(1, 1);
    assert_eq!(world.bound(0, a, &world.binding(0, 1, 1), 0), Refused::No);
    world.advance(60);
    assert_eq!(world.bound(1, b, &world.binding(1, 1, 2), 1), Refused::Held);
    world.ping(0, a);
    world.servers[0].core.disconnect(world.now, a);
    world.advance(31);
    assert_eq!(world.bound(1, b, &world.binding(1, 1, 3), 1), Refused::No);
}

#[test]
fn two_servers_that_decide_at_once_make_one_owner() {
    let mut world = World::new(2, super::super::Limits::default());
    let a = world.connect(0, 0);
    let b = world.connect(1, 1);
    world.settle();
    world.bind(0, a, &world.binding(0, 1, 1), 0);
    world.bind(1, b, &world.binding(1, 1, 2), 1);
    // Both decide on the same list before either commits.
    assert!(world.step(0) && world.step(1));
    world.settle();
    let answers = [world.answers(0, a), world.answers(1, b)];
    assert_eq!(answers[0][0].1, Refused::No);
    assert_eq!(answers[1][0].1, Refused::Held);
}

#[test]
fn a_conflict_of_one_request_does_not_stop_the_others() {
    let mut world = World::new(2, super::super::Limits::default());
    let a = world.connect(0, 0);
    let b = world.connect(1, 1);
    world.settle();
    for last in 1..20 {
        world.bind(0, a, &world.binding(0, last, last.into()), 0);
    }
    world.bind(1, b, &world.binding(1, 7, 100), 1);
    while world.servers[0].asked.is_none() {
        world.step(0);
    }
    // The other server is first.
    while world.memory.value("ip/7/10.0.0.7").is_none() {
        world.step(1);
    }
    world.settle();
    let answers = world.answers(0, a);
    let held: Vec<_> = answers.iter().filter(|it| it.1 != Refused::No).collect();
    assert_eq!(answers.len(), 19);
    assert!(matches!(held[..], [(7, Refused::Held, _)]), "{held:?}");
}

#[test]
fn what_may_have_happened_is_looked_for_and_not_done_twice() {
    for fault in [Fault::UncertainDone, Fault::UncertainNot] {
        let mut world = World::one();
        let conn = world.connect(0, 0);
        world.settle();
        world.memory.fault = Some(fault);
        world.bind(0, conn, &world.binding(0, 1, 1), 0);
        world.settle();
        world.advance(2);
        assert_eq!(
            world.answers(0, conn),
            [(1, Refused::No, String::new())],
            "{fault:?}"
        );
        let puts = world.memory.log.iter().filter(
            |event| matches!(event, omni_store::Event::Put(item) if item.key.starts_with(b"ip/")),
        );
        assert_eq!(puts.count(), 1);
    }
}

#[test]
fn what_cannot_be_stored_is_refused_for_now() {
    let mut world = World::one();
    let conn = world.connect(0, 0);
    world.settle();
    world.memory.fault = Some(Fault::Unavailable);
    assert_eq!(
        world.bound(0, conn, &world.binding(0, 1, 1), 0),
        Refused::Unavailable
    );
    assert_eq!(
        world.bound(0, conn, &world.binding(0, 1, 1), 0),
        Refused::No
    );
}

#[test]
fn a_revoked_node_is_closed_and_refused_and_the_others_are_told() {
    let mut world = World::one();
    let conn = world.connect(0, 5);
    let other = world.connect(0, 0);
    let mut registration = world.registration(5, 1);
    registration.certificate = Some(world.certificate(5, 3));
    assert_eq!(world.registered(0, conn, &registration, 5), Refused::No);
    world.heard(0, other);
    let revocation = world.revocation(5, 3);
    let core = &mut world.servers[0].core;
    core.revoke(world.now, 1, &revocation)
        .expect("a revocation");
    world.settle();
    let answered = world.servers[0].core.poll_answered().expect("an answer");
    assert_eq!((answered.number, answered.outcome), (1, Ok(())));
    assert_eq!(world.servers[0].closed.get(&conn), Some(&Closed::NotMember));
    let told = world.changes(0, other);
    assert_eq!(told[0].revocations, [revocation]);
    let again = world.connect(0, 5);
    registration.sequence = 2;
    assert_eq!(
        world.registered(0, again, &registration, 5),
        Refused::NotMember
    );
    registration.certificate = Some(world.certificate(5, 4));
    assert_eq!(
        world.registered(0, again, &registration, 5),
        Refused::No,
        "enrolled anew"
    );
}

#[test]
fn a_revocation_of_somebody_else_is_none() {
    let mut world = World::one();
    let other = omni_membership::AuthorityKey::from_seed(&[8; 32]);
    world.authority = other;
    let revocation = world.revocation(5, 3);
    let core = &mut world.servers[0].core;
    assert!(core.revoke(world.now, 1, &revocation).is_err());
}

#[test]
fn a_certificate_that_expires_ends_the_connection() {
    let mut world = World::one();
    let conn = world.connect(0, 5);
    let mut registration = world.registration(5, 1);
    registration.certificate = Some(world.certificate(5, 3));
    assert_eq!(world.registered(0, conn, &registration, 5), Refused::No);
    world.now = world.now.advanced(core::time::Duration::from_secs(99_999));
    world.settle();
    assert_eq!(world.servers[0].closed.get(&conn), None);
    world.advance(2);
    assert_eq!(world.servers[0].closed.get(&conn), Some(&Closed::NotMember));
}

#[test]
fn what_expired_is_free_and_is_removed_after_a_while() {
    let mut world = World::one();
    let [a, b] = [0, 1].map(|node| world.connect(0, node));
    let mut short = world.binding(0, 1, 9);
    short.expires = world.seconds() + 10;
    assert_eq!(world.bound(0, a, &short, 0), Refused::No);
    short.ip = Some(ip(2));
    assert_eq!(world.bound(0, a, &short, 0), Refused::No);
    world.advance(11);
    let late = world.binding(1, 1, 1);
    assert_eq!(
        world.bound(0, b, &late, 1),
        Refused::No,
        "even with a smaller sequence"
    );
    world.advance(880);
    assert!(world.memory.value("ip/7/10.0.0.2").is_some());
    world.advance(30);
    assert_eq!(world.memory.value("ip/7/10.0.0.2"), None);
    assert!(world.memory.value("ip/7/10.0.0.1").is_some());
}

#[test]
fn a_store_of_another_fabric_is_left_alone() {
    let mut world = World::one();
    let name = world
        .memory
        .items
        .get_mut(&b"fabric"[..])
        .expect("it says whose it is");
    assert_eq!(name.value, b"lab");
    name.value = b"other".to_vec();
    let core = &mut world.servers[0].core;
    let error = core.load(world.now, world.memory.snapshot());
    let text = error.expect_err("another's").to_string();
    assert!(
        text.contains("the fabric \"other\", and this is a server of \"lab\""),
        "{text}"
    );
}
