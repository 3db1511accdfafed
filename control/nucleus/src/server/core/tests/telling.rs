//! What nodes are told.

use super::super::{Limits, Watching};
use super::world::World;
use crate::protocol::{Refused, from_nucleus};
use crate::show::Change;

#[test]
fn a_member_is_told_everything_and_then_what_changes() {
    let mut world = World::one();
    let [a, b] = [0, 1].map(|node| world.connect(0, node));
    world.settle();
    let changes = world.changes(0, b);
    assert!(
        changes.len() == 1 && changes[0].all,
        "nothing, and that this is all: {changes:?}"
    );
    let registration = world.registration(0, 1);
    assert_eq!(world.registered(0, a, &registration, 0), Refused::No);
    let changes = world.changes(0, b);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].registrations.len(), changes[0].all), (1, true));
    world.advance(5);
    assert!(world.changes(0, b).is_empty(), "nothing is said twice");
}

#[test]
fn what_changes_twice_before_a_node_listens_is_told_once() {
    let mut world = World::one();
    let [a, b] = [0, 1].map(|node| world.connect(0, node));
    world.settle();
    world.changes(0, b);
    for sequence in 1..=5 {
        world.bind(0, a, &world.binding(0, 1, sequence), 0);
        while world.step(0) | world.tell(0, usize::MAX) {}
    }
    world.listen(0);
    let changes = world.changes(0, b);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].bindings.len(), 1);
}

#[test]
fn a_node_that_comes_back_is_told_what_it_missed() {
    let mut world = World::one();
    let [a, b] = [0, 1].map(|node| world.connect(0, node));
    assert_eq!(world.bound(0, a, &world.binding(0, 1, 1), 0), Refused::No);
    let changes = world.changes(0, b);
    let last = changes.last().expect("changes");
    let (incarnation, revision) = (last.incarnation.clone(), last.revision);
    world.servers[0].core.disconnect(world.now, b);
    assert_eq!(world.bound(0, a, &world.binding(0, 2, 1), 0), Refused::No);
    let incarnation = incarnation.try_into().expect("16 octets");
    let b = world.connect_knowing(0, 1, incarnation, revision);
    world.settle();
    let changes = world.changes(0, b);
    assert_eq!(changes.iter().map(|it| it.bindings.len()).sum::<usize>(), 1);
    let b = world.connect_knowing(0, 1, [1; 16], revision);
    world.settle();
    let changes = world.changes(0, b);
    assert_eq!(
        changes.iter().map(|it| it.bindings.len()).sum::<usize>(),
        2,
        "another life"
    );
}

#[test]
fn another_life_of_the_store_is_told_from_its_start() {
    let mut world = World::one();
    let a = world.connect(0, 0);
    assert_eq!(world.bound(0, a, &world.binding(0, 1, 1), 0), Refused::No);
    world.changes(0, a);
    world.memory.incarnation = [8; 16];
    world.lose(0);
    world.settle();
    let changes = world.changes(0, a);
    assert_eq!(changes[0].incarnation, [8; 16]);
    assert_eq!(changes.iter().map(|it| it.bindings.len()).sum::<usize>(), 1);
}

#[test]
fn more_than_a_message_holds_comes_in_several_and_only_the_last_says_that_it_is_all() {
    let limits = Limits {
        bindings: 4096,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let a = world.connect(0, 0);
    for number in 0..1500_u16 {
        let mut binding = world.binding(0, 1, u64::from(number) + 1);
        binding.vlan = number;
        world.bind(0, a, &binding, 0);
        if number % 64 == 63 {
            world.settle();
        }
    }
    world.advance(1);
    let b = world.connect(0, 1);
    world.settle();
    let changes = world.changes(0, b);
    let all: Vec<_> = changes.iter().map(|it| it.all).collect();
    assert!(
        all.len() > 1 && all.iter().filter(|all| **all).count() == 1,
        "{all:?}"
    );
    assert_eq!(all.last(), Some(&true));
    assert_eq!(
        changes.iter().map(|it| it.bindings.len()).sum::<usize>(),
        1500
    );
    let rising = changes
        .windows(2)
        .all(|pair| pair[0].revision <= pair[1].revision);
    assert!(rising);
    for changes in changes {
        let octets = crate::protocol::FromNucleus::from(from_nucleus::What::Changes(changes));
        let len = prost::Message::encoded_len(&octets);
        assert!(len <= omni_control::channel::PLAINTEXT_MAX, "{len}");
    }
}

#[test]
fn a_commit_is_told_as_a_whole_or_its_revision_is_not_said() {
    let mut world = World::one();
    let [a, b] = [0, 1].map(|node| world.connect(0, node));
    world.settle();
    world.changes(0, b);
    for last in 1..=10 {
        world.bind(0, a, &world.binding(0, last, 1), 0);
    }
    while world.memory.value("ip/7/10.0.0.10").is_none() {
        world.step(0);
    }
    // Half of a commit's events.
    world.tell(0, 5);
    world.listen(0);
    assert!(world.changes(0, b).is_empty());
    world.settle();
    let told: usize = world.changes(0, b).iter().map(|it| it.bindings.len()).sum();
    assert_eq!(told, 10);
}

#[test]
fn a_watch_sees_what_is_and_what_changes() {
    let mut world = World::one();
    let a = world.connect(0, 0);
    let mut watching = Watching::new();
    assert_eq!(world.bound(0, a, &world.binding(0, 1, 1), 0), Refused::No);
    let changes = world.servers[0].core.watch(&mut watching);
    assert!(matches!(&changes[..], [Change::Binding(it)] if it.ip.as_deref() == Some("10.0.0.1")));
    assert!(world.servers[0].core.watch(&mut watching).is_empty());
    let registration = world.registration(0, 1);
    assert_eq!(world.registered(0, a, &registration, 0), Refused::No);
    let changes = world.servers[0].core.watch(&mut watching);
    assert!(matches!(&changes[..], [Change::Member(it)] if it.presence == "here"));
}

#[test]
fn what_is_stored_and_is_no_record_is_counted_and_not_told() {
    let mut world = World::one();
    let put = |key: &str| omni_store::Change::Put {
        key: key.into(),
        value: b"no record".to_vec(),
        ephemeral: false,
    };
    let strange = ["ip/7/10.0.0.1", "member/00", "x", "revoked/1"].map(put);
    let transaction = omni_store::Transaction {
        compares: Vec::new(),
        changes: strange.into(),
    };
    world.memory.commit(&transaction).expect("a commit");
    let a = world.connect(0, 0);
    world.settle();
    assert_eq!(world.servers[0].core.counters().garbage, 4);
    let told = world.changes(0, a);
    assert!(
        told.iter()
            .all(|it| it.bindings.is_empty() && it.registrations.is_empty())
    );
    // It does not stand in the way either.
    assert_eq!(world.bound(0, a, &world.binding(0, 2, 1), 0), Refused::No);
}
