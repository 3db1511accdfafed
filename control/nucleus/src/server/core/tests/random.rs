//! Anything in any order, against rules that are simple enough to be right.

use std::collections::BTreeMap;

use omni_membership::{Binding, PublicKey};
use omni_store::Event;

use super::super::{Conn, Limits};
use super::memory::Fault;
use super::world::{Seeded, World, public};
use crate::protocol::{Refused, from_nucleus};

const NODES: u8 = 6;
const SERVERS: u64 = 2;
const ADDRESSES: u64 = 24;
const STEPS: u64 = 100_000;

/// What nodes believe, and what really was.
#[derive(Default)]
struct Model {
    /// Where each node is connected.
    conns: BTreeMap<u8, (usize, Conn)>,
    /// Since when it is, in nanoseconds.
    since: BTreeMap<u8, u64>,
    /// When each node was last connected and had been for 5 s: what was decided before a node came
    /// may be committed after it came.
    seen: BTreeMap<u8, u64>,
    sequence: u64,
    /// What was asked and is not answered.
    asked: BTreeMap<(Conn, u64), Vec<u8>>,
    /// What was answered with success: key and record.
    kept: Vec<(String, Vec<u8>)>,
    /// What each connection was told: the newest record of each address.
    views: BTreeMap<Conn, BTreeMap<String, Vec<u8>>>,
    /// How much of the store's log was judged.
    judged: usize,
    owners: BTreeMap<Vec<u8>, Binding>,
    moves: u64,
}

impl Model {
    /// Looks at every commit as it happens: an address goes on only by the rules.
    fn judge(&mut self, world: &World) {
        for event in &world.memory.log[self.judged..] {
            match event {
                Event::Put(item) if item.key.starts_with(b"ip/") => {
                    let new = Binding::unverified(&item.value).expect("a binding");
                    if let Some(old) = self.owners.insert(item.key.clone(), new.clone()) {
                        self.judge_put(world, &old, &new);
                    }
                }
                Event::Deleted { key, .. } if key.starts_with(b"ip/") => {
                    let old = self.owners.remove(key).expect("it was there");
                    assert!(old.expires < world.seconds(), "removed before it expired");
                }
                _ => {}
            }
        }
        self.judged = world.memory.log.len();
    }

    fn judge_put(&mut self, world: &World, old: &Binding, new: &Binding) {
        let has_expired = old.expires < world.seconds();
        assert!(new.sequence > old.sequence || has_expired);
        if old.public_key == new.public_key {
            return;
        }
        self.moves += 1;
        let owner = (0..NODES).find(|node| public(*node) == old.public_key);
        let owner = owner.expect("a node");
        let seen = self.seen.get(&owner).copied().unwrap_or(0);
        let is_gone = world.now.instant.0 - seen >= 29_000_000_000;
        let is_given = old.release_to == Some(new.public_key);
        assert!(
            old.withdrawn || has_expired || is_given || is_gone,
            "{old:?} lost to {new:?}"
        );
    }

    /// Reads what nodes were told.
    fn hear(&mut self, world: &mut World) {
        for server in 0..SERVERS as usize {
            let told = core::mem::take(&mut world.servers[server].told);
            for (conn, what) in told
                .into_iter()
                .flat_map(|(c, all)| all.into_iter().map(move |w| (c, w)))
            {
                match what {
                    from_nucleus::What::Result(answer) => {
                        let octets = self.asked.remove(&(conn, answer.number));
                        let octets = octets.expect("an answer to each request, and one only");
                        if answer.refused() == Refused::No {
                            self.keep(octets);
                        }
                    }
                    from_nucleus::What::Changes(changes) => {
                        let view = self.views.entry(conn).or_default();
                        for octets in changes.bindings {
                            let binding = Binding::unverified(&octets).expect("a binding");
                            view.insert(name(&binding), octets);
                        }
                    }
                    _ => {}
                }
            }
            let closed = core::mem::take(&mut world.servers[server].closed);
            assert!(closed.is_empty(), "{closed:?}");
        }
    }

    fn keep(&mut self, octets: Vec<u8>) {
        let binding = Binding::unverified(&octets).expect("a binding");
        // There was nothing to withdraw, or it was.
        if !binding.withdrawn {
            self.kept.push((name(&binding), octets));
        }
    }

    /// What was answered with success was once stored.
    fn nothing_is_lost(&self, world: &World) {
        let mut stored = std::collections::BTreeSet::new();
        for event in &world.memory.log {
            if let Event::Put(item) = event {
                stored.insert((item.key.clone(), item.value.clone()));
            }
        }
        for (key, octets) in &self.kept {
            let was = stored.contains(&(key.clone().into_bytes(), octets.clone()));
            assert!(was, "{key} was acknowledged and never stored");
        }
    }

    /// Everyone who is connected knows what is stored.
    fn all_agree(&self, world: &World) {
        for (_, conn) in self.conns.values() {
            let view = self.views.get(conn).cloned().unwrap_or_default();
            for (key, item) in &world.memory.items {
                let key = String::from_utf8(key.clone()).expect("text");
                if key.starts_with("ip/") {
                    assert_eq!(
                        view.get(&key),
                        Some(&item.value),
                        "{key} as {conn:?} knows it"
                    );
                }
            }
        }
    }
}

fn name(binding: &Binding) -> String {
    let ip = binding.ip.expect("an IP address");
    format!("ip/{}/{ip}", binding.vlan)
}

fn ask(world: &mut World, model: &mut Model, rng: &mut Seeded) {
    let node = rng.below(NODES.into()) as u8;
    let Some((server, conn)) = model.conns.get(&node).copied() else {
        return;
    };
    model.sequence += 1;
    // Now and then an old number.
    let sequence = model.sequence - rng.below(20).min(model.sequence - 1) / 15 * 3;
    let mut binding = world.binding(node, 1 + rng.below(ADDRESSES) as u8, sequence);
    if model.asked.contains_key(&(conn, sequence)) {
        return;
    }
    match rng.below(6) {
        0 => binding.withdrawn = true,
        1 | 2 => binding.release_to = Some(other(rng)),
        3 => binding.expires = world.seconds() + rng.below(40),
        _ => {}
    }
    let octets = super::world::signed(&binding, node);
    if !world.servers[server].core.may_read(conn) {
        return;
    }
    model.asked.insert((conn, sequence), octets);
    world.bind(server, conn, &binding, node);
}

fn other(rng: &mut Seeded) -> PublicKey {
    public(rng.below(NODES.into()) as u8)
}

fn move_node(world: &mut World, model: &mut Model, rng: &mut Seeded) {
    let node = rng.below(NODES.into()) as u8;
    match model.conns.remove(&node) {
        Some((server, conn)) => {
            world.servers[server].core.disconnect(world.now, conn);
            model.asked.retain(|(asking, _), _| *asking != conn);
        }
        None => {
            let server = rng.below(SERVERS) as usize;
            world.memory.fault = None;
            let conn = world.connect(server, node);
            model.conns.insert(node, (server, conn));
            model.since.insert(node, world.now.instant.0);
            // Everyone hears that the node is here before much time passes.
            world.settle();
        }
    }
}

fn step(world: &mut World, model: &mut Model, rng: &mut Seeded) {
    let server = rng.below(SERVERS) as usize;
    match rng.below(100) {
        0..30 => ask(world, model, rng),
        30..60 => _ = world.step(server),
        60..80 => _ = world.tell(server, 1 + rng.below(5) as usize),
        80..90 => world.listen(server),
        90..93 => move_node(world, model, rng),
        93..95 => {
            world.memory.fault = Some(match rng.below(3) {
                0 => Fault::Unavailable,
                1 => Fault::UncertainDone,
                _ => Fault::UncertainNot,
            });
        }
        95 if rng.below(10) == 0 => world.lose(server),
        95..98 => {
            let millis = rng.below(900);
            world.now = world
                .now
                .advanced(core::time::Duration::from_millis(millis));
        }
        98 if rng.below(20) == 0 => {
            world.memory.fault = None;
            world.settle();
            world.advance(rng.below(40));
        }
        _ => world.settle(),
    }
    let now = world.now.instant.0;
    for (node, (server, conn)) in &model.conns {
        // As nodes do that have nothing else to say, if not as often.
        world.ping(*server, *conn);
        if now - model.since[node] >= 5_000_000_000 {
            model.seen.insert(*node, now);
        }
    }
}

#[test]
fn addresses_have_one_owner_after_another_nothing_acknowledged_is_lost_and_all_agree() {
    let limits = Limits {
        messages: 1_000_000,
        binding_rate: 1_000_000,
        ..Limits::default()
    };
    let mut world = World::new(SERVERS as u8, limits);
    for server in &mut world.servers {
        server.core.config.trust.members = (0..NODES).map(public).collect();
    }
    let mut model = Model::default();
    let mut rng = Seeded(2027);
    for number in 0..STEPS {
        step(&mut world, &mut model, &mut rng);
        model.judge(&world);
        if number % 500 == 0 {
            world.memory.fault = None;
            world.settle();
            world.advance(12);
            model.judge(&world);
            model.hear(&mut world);
            model.all_agree(&world);
            assert!(model.asked.is_empty(), "{:?}", model.asked.keys());
        }
        // An answer to who is gone reaches nobody.
        model.hear_gone(&mut world);
    }
    model.nothing_is_lost(&world);
    assert!(
        model.moves > 500 && model.kept.len() > 500,
        "{} {}",
        model.moves,
        model.kept.len()
    );
}

impl Model {
    /// Forgets what was said to connections that are gone.
    fn hear_gone(&mut self, world: &mut World) {
        for server in &mut world.servers {
            let conns = &self.conns;
            server
                .told
                .retain(|conn, _| conns.values().any(|(_, its)| its == conn));
        }
    }
}
