//! Four nodes with stations that move, talk, and join groups, over a network that loses, doubles
//! and reorders records: what must hold at every moment, and what must come of it in the end.
//!
//! The workers of a node are naive: one table that follows the orders, learns, and reports as the
//! data path does. Stations answer when they are asked.

use std::collections::{BTreeMap, BTreeSet};

use omni_control::PublicKey;

use super::super::{FREEZE, GroupReport};
use super::*;

const NODES: u16 = 4;
const PORTS: u8 = 2;
const STATIONS: u32 = 10;
const GROUPS: u32 = 4;
/// As the data path reports.
const REPORT: Duration = Duration::from_secs(30);

/// A small generator (splitmix64): the same seed gives the same run.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Where a station is. Its number gives its addresses.
#[derive(Clone, Debug)]
struct Station {
    node: usize,
    port: PortId,
    groups: BTreeSet<u32>,
}

/// A worker's copy of a table.
#[derive(Debug, Default)]
struct Copy {
    owners: BTreeMap<FdbKey, (Owner, Instant)>,
    bindings: BTreeMap<IpAddr, (MacAddr, Owner)>,
    groups: BTreeMap<IpAddr, Vec<Owner>>,
    /// Bindings and contests reported a moment ago.
    reported: BTreeMap<(IpAddr, MacAddr, Owner), Instant>,
    contested: BTreeMap<FdbKey, Instant>,
}

struct Node {
    switch: Switch,
    copy: Copy,
    /// Frozen addresses, where they are and until when.
    frozen: BTreeMap<FdbKey, (Owner, Instant)>,
}

/// What is on its way.
#[derive(Clone, Debug)]
enum Carried {
    Record(Vec<u8>),
    /// A frame of a station, and whether it is ARP.
    Frame(u32, bool),
}

struct World {
    now: Instant,
    rng: Rng,
    nodes: Vec<Node>,
    stations: Vec<Station>,
    /// In order of arrival; the number makes them distinct.
    network: BTreeMap<(Instant, u64), (usize, usize, Carried)>,
    posted: u64,
    /// Whether the network is bad and things happen.
    wild: bool,
}

fn node_key(node: usize) -> PublicKey {
    PublicKey([node as u8 + 1; 32])
}

fn group_ip(n: u32) -> IpAddr {
    IpAddr::from((0xef00_0100 + n).to_be_bytes())
}

fn new_switch(now: Instant, node: usize) -> Switch {
    let config = SwitchConfig::new(usize::from(PORTS), node_key(node));
    let mut switch = Switch::new(config);
    for other in (0..usize::from(NODES)).filter(|&other| other != node) {
        let peer = PeerId(other as u16);
        switch.add_peer(now, peer, node_key(other), PeerLimits::default());
        switch.peer_up(now, peer);
    }
    switch
}

/// Every entry and binding of a node, to see what a step changed.
type View = (
    BTreeMap<FdbKey, Owner>,
    BTreeMap<(u16, IpAddr), (MacAddr, Owner)>,
);

fn view(switch: &Switch) -> View {
    let owners = switch.iter().map(|(&key, entry)| (key, entry.owner));
    let bindings = switch
        .neighbors()
        .map(|n| ((n.bound.vlan, n.bound.ip), (n.bound.mac, n.bound.owner)));
    (owners.collect(), bindings.collect())
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let stations = (0..STATIONS)
            .map(|_| Station {
                node: rng.below(NODES.into()) as usize,
                port: PortId(rng.below(PORTS.into()) as u8),
                groups: BTreeSet::new(),
            })
            .collect();
        let nodes = (0..usize::from(NODES))
            .map(|node| Node {
                switch: new_switch(START, node),
                copy: Copy::default(),
                frozen: BTreeMap::new(),
            })
            .collect();
        Self {
            now: START,
            rng,
            nodes,
            stations,
            network: BTreeMap::new(),
            posted: 0,
            wild: true,
        }
    }

    fn post(&mut self, from: usize, to: usize, carried: Carried) {
        let copies = match self.rng.below(100) {
            0..20 if self.wild => 0,
            20..30 if self.wild => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay = Duration::from_micros(500 + self.rng.below(50_000));
            self.posted += 1;
            let at = (self.now + delay, self.posted);
            self.network.insert(at, (from, to, carried.clone()));
        }
    }

    /// Carries out what a node decided.
    fn carry_out(&mut self, node: usize) {
        loop {
            while let Some((_, command)) = self.nodes[node].switch.poll_order() {
                self.nodes[node].copy.apply(self.now, command);
            }
            let Some(send) = self.nodes[node].switch.poll_send() else {
                break;
            };
            self.send(node, send);
        }
        self.check(node);
    }

    fn send(&mut self, node: usize, send: Send) {
        match send {
            Send::Record { peer, record } => {
                assert!(record.len() <= 1200);
                self.post(node, usize::from(peer.0), Carried::Record(record.into()));
            }
            Send::Ask {
                port,
                mac: asked,
                ip: about,
                ..
            } => {
                let there = |(n, station): &(usize, &Station)| {
                    let n = *n as u32;
                    (station.node, station.port) == (node, port)
                        && (mac(n), ip(n)) == (asked, about)
                };
                let station = self.stations.iter().enumerate().find(there);
                if let Some(n) = station.map(|(n, _)| n as u32) {
                    self.enter(node, port, n, true);
                }
            }
            Send::Query {
                port, ipv6: false, ..
            } => {
                let here = self.stations.iter();
                let here = here.filter(|station| (station.node, station.port) == (node, port));
                let groups: BTreeSet<u32> = here.flat_map(|s| s.groups.clone()).collect();
                for n in groups {
                    self.report(node, port, n, true);
                }
            }
            Send::Query { .. } | Send::Tell { .. } => {}
        }
    }

    fn report(&mut self, node: usize, port: PortId, n: u32, join: bool) {
        let report = GroupReport {
            vlan: VLAN,
            port,
            group: group_ip(n),
            join,
        };
        self.nodes[node].switch.group(self.now, report);
    }

    /// A frame of a station comes in at a port.
    fn enter(&mut self, node: usize, port: PortId, n: u32, arp: bool) -> bool {
        self.admit(node, Owner::Local(port), n, arp)
    }

    /// What a worker does with a frame's source. Says whether the frame passes.
    fn admit(&mut self, node: usize, owner: Owner, n: u32, arp: bool) -> bool {
        let now = self.now;
        let Node { switch, copy, .. } = &mut self.nodes[node];
        match copy.owners.get_mut(&key(n)) {
            Some((held, _)) if *held != owner => {
                let last = copy.contested.get(&key(n));
                if last.is_none_or(|&last| now.since(last) >= 100 * MS) {
                    copy.contested.insert(key(n), now);
                    switch.contested(now, key(n), owner);
                }
                return false;
            }
            Some((_, report_at)) if now < *report_at => {}
            Some((_, report_at)) => {
                *report_at = now + REPORT;
                switch.learned(now, 0, key(n), owner);
            }
            None => {
                copy.owners.insert(key(n), (owner, now + REPORT));
                switch.learned(now, 0, key(n), owner);
            }
        }
        if arp {
            let about = (ip(n), mac(n), owner);
            let last = copy.reported.get(&about);
            if last.is_none_or(|&last| now.since(last) >= REPORT) {
                copy.reported.insert(about, now);
                switch.bound(now, bound(n, n, owner));
            }
        }
        true
    }

    /// A station broadcasts.
    fn speak(&mut self, n: u32, arp: bool) {
        let Station { node, port, .. } = self.stations[n as usize];
        let passed = self.enter(node, port, n, arp);
        self.carry_out(node);
        if passed {
            for other in (0..self.nodes.len()).filter(|&other| other != node) {
                self.post(node, other, Carried::Frame(n, arp));
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, carried: Carried) {
        let peer = Owner::Peer(PeerId(from as u16));
        match carried {
            Carried::Frame(n, arp) => {
                let before = view(&self.nodes[to].switch);
                self.admit(to, peer, n, arp);
                let after = view(&self.nodes[to].switch);
                for (key, owner) in before.0 {
                    assert_eq!(after.0.get(&key), Some(&owner), "a frame displaced {key:?}");
                }
            }
            Carried::Record(record) => {
                let before = view(&self.nodes[to].switch);
                let sender = PeerId(from as u16);
                self.nodes[to].switch.record(self.now, sender, &record);
                let after = view(&self.nodes[to].switch);
                check_record(&before, &after, peer);
            }
        }
        self.carry_out(to);
    }

    /// What holds at every moment.
    fn check(&mut self, node: usize) {
        let Node {
            switch,
            copy,
            frozen,
        } = &mut self.nodes[node];
        let (owners, bindings) = view(switch);
        for ((vlan, ip), (mac, owner)) in &bindings {
            let held = owners.get(&FdbKey {
                vlan: *vlan,
                mac: *mac,
            });
            assert!(
                held.is_none_or(|held| held == owner),
                "{ip} is not {owner:?}'s"
            );
        }
        let told: BTreeMap<_, _> = copy.owners.iter().map(|(&k, &(o, _))| (k, o)).collect();
        assert_eq!(told, owners, "workers know what the switch knows");
        let told = copy.bindings.iter().map(|(&ip, &what)| ((VLAN, ip), what));
        assert_eq!(told.collect::<BTreeMap<_, _>>(), bindings);
        frozen.retain(|key, (_, until)| self.now < *until && owners.contains_key(key));
        for (key, (owner, _)) in &*frozen {
            assert_eq!(owners.get(key), Some(owner), "frozen");
        }
        for alarm in switch.alarms() {
            assert!(alarm.until <= self.now + FREEZE);
            frozen.insert(alarm.key, (alarm.owner, alarm.until));
        }
        assert!(owners.len() <= STATIONS as usize && bindings.len() <= STATIONS as usize);
        assert!(switch.contests.len() <= STATIONS as usize);
    }

    /// Lets time go on, with everything that happens meanwhile.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let timeouts = self.nodes.iter().map(|node| node.switch.poll_timeout());
            let (timeout, node) = timeouts
                .zip(0..)
                .filter_map(|(at, node)| Some((at?, node)))
                .min()
                .expect("queries are always due");
            let arrival = self.network.first_key_value().map(|(&(at, _), _)| at);
            if arrival.is_some_and(|at| at <= timeout && at <= end) {
                let ((at, _), (from, to, carried)) = self.network.pop_first().expect("just seen");
                self.now = self.now.max(at);
                self.deliver(from, to, carried);
            } else if timeout <= end {
                self.now = self.now.max(timeout);
                self.nodes[node].switch.handle_timeout(self.now);
                self.carry_out(node);
            } else {
                self.now = end;
                return;
            }
        }
    }

    /// Something happens.
    fn step(&mut self) {
        let n = self.rng.below(STATIONS.into()) as u32;
        match self.rng.below(100) {
            0..60 => {
                let arp = self.rng.chance(50);
                self.speak(n, arp);
            }
            60..75 => self.relocate(n),
            75..90 => self.regroup(n),
            90..92 => self.restart(),
            // Nobody says anything for a while, and things age out.
            92 => self.run(Duration::from_secs(200)),
            _ => self.run(5 * SECOND),
        }
    }

    fn relocate(&mut self, n: u32) {
        self.stations[n as usize].node = self.rng.below(NODES.into()) as usize;
        self.stations[n as usize].port = PortId(self.rng.below(PORTS.into()) as u8);
        self.speak(n, true);
    }

    fn regroup(&mut self, n: u32) {
        let group = self.rng.below(GROUPS.into()) as u32;
        let station = &mut self.stations[n as usize];
        let join = station.groups.insert(group);
        if !join {
            station.groups.remove(&group);
        }
        let Station { node, port, .. } = *station;
        self.report(node, port, group, join);
        self.carry_out(node);
    }

    /// A node forgets everything, and all sessions with it are new.
    fn restart(&mut self) {
        let node = self.rng.below(NODES.into()) as usize;
        self.nodes[node] = Node {
            switch: new_switch(self.now, node),
            copy: Copy::default(),
            frozen: BTreeMap::new(),
        };
        for other in (0..self.nodes.len()).filter(|&other| other != node) {
            let peer = PeerId(node as u16);
            self.nodes[other].switch.peer_up(self.now, peer);
            self.carry_out(other);
        }
        self.carry_out(node);
    }

    /// Everything is still but for stations that speak now and then, for longer than addresses
    /// stay frozen.
    fn calm(&mut self) {
        self.wild = false;
        let end = self.now + FREEZE + Duration::from_secs(400);
        while self.now < end {
            for n in 0..STATIONS {
                self.speak(n, true);
            }
            self.run(8 * SECOND);
        }
    }

    fn agree(&self) {
        for (at, node) in self.nodes.iter().enumerate() {
            let (owners, bindings) = view(&node.switch);
            for (n, station) in (0..).zip(&self.stations) {
                let owner = if station.node == at {
                    Owner::Local(station.port)
                } else {
                    Owner::Peer(PeerId(station.node as u16))
                };
                assert_eq!(
                    owners.get(&key(n)),
                    Some(&owner),
                    "station {n} at node {at}"
                );
                let expected = Some(&(mac(n), owner));
                assert_eq!(
                    bindings.get(&(VLAN, ip(n))),
                    expected,
                    "station {n} at {at}"
                );
            }
            for n in 0..GROUPS {
                let expected = self.members(at, n);
                let members = node.copy.groups.get(&group_ip(n)).cloned();
                assert_eq!(members.unwrap_or_default(), expected, "group {n} at {at}");
            }
            assert_eq!(node.switch.alarms().count(), 0);
            assert_eq!(node.switch.contests.len(), 0);
        }
    }

    fn members(&self, at: usize, group: u32) -> Vec<Owner> {
        let wanting = self.stations.iter().filter(|s| s.groups.contains(&group));
        let owners: BTreeSet<Owner> = wanting
            .map(|station| {
                if station.node == at {
                    Owner::Local(station.port)
                } else {
                    Owner::Peer(PeerId(station.node as u16))
                }
            })
            .collect();
        owners.into_iter().collect()
    }
}

/// A record changes what its sender had, or what nobody had; what becomes free may go to whoever
/// wanted it.
fn check_record(before: &View, after: &View, sender: Owner) {
    for (key, owner) in &before.0 {
        let now = after.0.get(key);
        assert!(
            now == Some(owner) || *owner == sender,
            "{key:?}: {owner:?}, now {now:?}"
        );
    }
    for (key, owner) in &after.0 {
        let then = before.0.get(key);
        assert!(then.is_some(), "{key:?} {owner:?} out of a record");
    }
    for (key, held) in &before.1 {
        let now = after.1.get(key);
        assert!(
            now == Some(held) || held.1 == sender,
            "{key:?}: {held:?}, now {now:?}"
        );
    }
    for (key, held) in &after.1 {
        let then = before.1.get(key);
        assert!(
            then.is_some() || held.1 == sender,
            "{key:?} {held:?} out of a record"
        );
    }
}

impl Copy {
    fn apply(&mut self, now: Instant, command: Command) {
        match command {
            Command::FdbInsert { key, owner } => {
                self.owners.insert(key, (owner, now + REPORT));
            }
            Command::FdbRemove { key } => {
                self.owners.remove(&key);
            }
            Command::FdbWatch { key } => {
                if let Some((_, report_at)) = self.owners.get_mut(&key) {
                    *report_at = now;
                }
            }
            Command::Bind { ip, mac, owner, .. } => {
                self.bindings.insert(ip, (mac, owner));
            }
            Command::Unbind { ip, .. } => {
                self.bindings.remove(&ip);
            }
            Command::SetGroup { group, members, .. } if members.is_empty() => {
                self.groups.remove(&group);
            }
            Command::SetGroup { group, members, .. } => {
                self.groups.insert(group, members.to_vec());
            }
            _ => {}
        }
    }
}

fn play(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..600 {
        world.step();
        let pause = Duration::from_millis(world.rng.below(1500));
        world.run(pause);
    }
    world.calm();
    world
}

#[test]
fn nodes_agree_in_the_end_whatever_was_lost_on_the_way() {
    let mut moves = 0;
    let mut frozen = 0;
    for seed in 0..25 {
        println!("seed {seed}");
        let world = play(seed);
        world.agree();
        for node in &world.nodes {
            moves += node.switch.counters().moves;
            frozen += node.switch.counters().frozen;
        }
    }
    assert!(moves > 1000, "{moves} moves");
    assert!(frozen > 10, "{frozen} frozen");
}

#[test]
fn a_station_that_moves_is_found_within_a_second() {
    let mut world = World::new(5);
    world.wild = false;
    for n in 0..STATIONS {
        world.stations[n as usize].node = 0;
        world.speak(n, true);
    }
    world.run(90 * SECOND);
    for n in 0..STATIONS {
        let station = &mut world.stations[n as usize];
        station.node = 1 + n as usize % 3;
        let home = station.node;
        world.speak(n, true);
        world.run(SECOND);
        let port = world.stations[n as usize].port;
        for (at, node) in world.nodes.iter().enumerate() {
            let expected = if at == home {
                Owner::Local(port)
            } else {
                Owner::Peer(PeerId(home as u16))
            };
            assert_eq!(node.switch.owner(key(n)), Some(expected), "{n} at {at}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let state = |world: World| {
        let node = |node: Node| {
            let counters = node.switch.counters();
            format!("{:?} {counters:?}", view(&node.switch))
        };
        let nodes: Vec<String> = world.nodes.into_iter().map(node).collect();
        (world.now, world.posted, nodes)
    };
    assert_eq!(state(play(77)), state(play(77)));
}
