//! Hosts that move: to another node's bridge while they speak, and to another port.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::support::hosts::{ETH, Host, Segment, neighbour};
use crate::support::lab::{Lab, Plan, Side, public_key};
use crate::support::ledger::assert_memory_idle;
use crate::support::node::{Node, NodeSpec};
use crate::support::packet::PacketSocket;
use crate::support::questions::arping;
use crate::support::streams::{Beat, Transfer};
use crate::support::tools::{Background, ping_all, reaches, resumes};
use crate::support::{seconds, wait_until};

/// How soon a host is reached after its first frame at its new place.
const MOVED: Duration = seconds(1);
/// The same, when the host has to ask twice before it sends.
const ASKED_AGAIN: Duration = seconds(2);
/// Of a question that is asked until it is answered.
const SOON: Duration = seconds(5);

/// A node with a host of its own at `omni0`, and a second port with a bridge.
fn start(spec: &NodeSpec) -> Node {
    let second = "  - interface: acc\nworkers:";
    spec.start_with(&spec.yaml().replace("workers:", second))
}

struct Scene<'a> {
    segments: [Segment<'a>; 2],
    a: Node,
    b: Node,
    /// Behind node a's bridge at first.
    host: Host,
}

impl<'a> Scene<'a> {
    fn new(lab: &'a Lab) -> Self {
        let segments = [&lab.a, &lab.b].map(|node| Segment::new(node, 1426));
        let host = segments[0].host("c", 11);
        let (a, b) = (start(&lab.spec(Side::A)), start(&lab.spec(Side::B)));
        let scene = Self {
            segments,
            a,
            b,
            host,
        };
        for node in [&lab.a, &lab.b] {
            ping_all(node, scene.host.v4(), "");
            ping_all(node, scene.host.v6(), "");
        }
        scene.assert_owned_by(Side::A);
        scene
    }

    /// Pulls the host's cable at one node and plugs it in at the other, where it is heard.
    fn move_host(&self, from: usize) -> PacketSocket {
        self.segments[from].hand_over(&self.host, &self.segments[1 - from])
    }

    /// Both nodes know where the host is, and that its IP addresses are there too.
    fn assert_owned_by(&self, side: Side) {
        let mac = self.host.mac();
        for (node, at) in [(&self.a, Side::A), (&self.b, Side::B)] {
            let owner = if at == side {
                "local:acc".to_owned()
            } else {
                public_key(side).to_string()
            };
            let addresses = [self.host.v4(), self.host.v6()].map(|ip| ip.to_string());
            wait_until("both know where it is", SOON, || {
                let show = node.show();
                let mut fdb = show.fdb.iter().filter(|entry| entry.mac == mac);
                let mut bound = show.neighbors.iter().filter(|n| n.mac == mac);
                fdb.all(|entry| entry.owner == owner)
                    && bound
                        .all(|n| n.owner == owner && addresses.contains(&n.ip) || is_local(&n.ip))
            });
        }
    }
}

/// Link-local addresses come and go as the kernel likes.
fn is_local(ip: &str) -> bool {
    ip.starts_with("fe80:")
}

/// How long after `moment` datagrams of all beats arrived.
fn first_after(beats: &[Beat], moment: Instant) -> Duration {
    let mut found = Vec::new();
    wait_until("datagrams arrive again", SOON, || {
        found = beats.iter().filter_map(|b| b.first_after(moment)).collect();
        found.len() == beats.len()
    });
    found.into_iter().max().unwrap_or(SOON)
}

/// Moves the host there and back under traffic, and says how long after its first frame at each
/// new place datagrams arrived: from it, and at it.
fn gaps_of_moves(lab: &Lab, scene: &Scene<'_>) -> Vec<(Duration, Duration)> {
    let (host, address) = (&scene.host.namespace, scene.host.v4());
    let (inner_a, inner_b) = (Side::A.inner_v4().into(), Side::B.inner_v4().into());
    let transfers = [
        Transfer::start(&lab.a, (host, address)),
        Transfer::start(host, (&lab.b, inner_b)),
        Transfer::start(host, (&lab.a, Side::A.inner_v6().into())),
    ];
    let [from_it, at_it] = [
        [
            Beat::start(host, (&lab.a, inner_a)),
            Beat::start(host, (&lab.b, inner_b)),
        ],
        [&lab.a, &lab.b].map(|other| Beat::start(other, (host, address))),
    ];
    std::thread::sleep(seconds(1));
    let mut gaps = Vec::new();
    for (from, to) in [(0, Side::B), (1, Side::A)] {
        let [here, there] = [from, 1 - from].map(|side| &scene.segments[side]);
        let spoke = here.hand_over_speaking(&scene.host, there);
        let gap = (first_after(&from_it, spoke), first_after(&at_it, spoke));
        println!(
            "moved to {to:?}: from the host {:.0?}, to the host {:.0?}",
            gap.0, gap.1
        );
        gaps.push(gap);
        scene.assert_owned_by(to);
        // As who moves a machine does for it: without it nobody knows its IP addresses any more.
        arping(host, ETH, address, "-U -c 1 -w 1");
        std::thread::sleep(seconds(1));
    }
    for transfer in transfers {
        let octets = transfer.finish();
        println!("{octets} octets arrived as they were sent");
        assert!(octets > 100_000, "{octets} octets");
    }
    gaps
}

/// A machine that migrates notices nothing, and goes on with what it knows of its neighbours.
#[test]
fn a_host_that_moves_during_transfers_keeps_its_connections() {
    let lab = Lab::new(Plan::default());
    let scene = Scene::new(&lab);
    for (side, node) in [(Side::A, &lab.a), (Side::B, &lab.b)] {
        let mac = node.mac("omni0");
        for address in [IpAddr::from(side.inner_v4()), side.inner_v6().into()] {
            let known = format!("{address} lladdr {mac} dev {ETH} nud permanent");
            scene.host.namespace.ip(&format!("neigh replace {known}"));
        }
    }
    for (from_it, at_it) in gaps_of_moves(&lab, &scene) {
        assert!(from_it < MOVED && at_it < MOVED, "{from_it:?} {at_it:?}");
    }
    assert_memory_idle(&scene.a, &scene.b);
}

/// A host that notices forgets its neighbours and asks for them at its new place. Its first
/// question falls into the time of the claim, and Linux asks again after a second.
#[test]
fn a_host_whose_cable_is_moved_keeps_its_connections() {
    let lab = Lab::new(Plan::default());
    let scene = Scene::new(&lab);
    for (from_it, at_it) in gaps_of_moves(&lab, &scene) {
        assert!(
            from_it < ASKED_AGAIN && at_it < MOVED,
            "{from_it:?} {at_it:?}"
        );
    }
    assert_memory_idle(&scene.a, &scene.b);
}

#[test]
fn a_silent_host_that_moved_is_reached_after_one_gratuitous_arp() {
    let lab = Lab::new(Plan::default());
    let scene = Scene::new(&lab);
    let host = &scene.host;
    let heard = scene.move_host(0);
    let mut command = host.namespace.command("arping");
    command.args(["-U", "-c", "1", "-I", ETH, &host.v4().to_string()]);
    let _announcing = Background::start(command);
    heard.next_at(SOON).expect("an announcement");
    let took = resumes(&lab.a, host.v4(), SOON);
    println!("one gratuitous ARP: reached from a's after {took:.0?}");
    assert!(took < MOVED, "{took:?}");
    ping_all(&lab.b, host.v4(), "");
    scene.assert_owned_by(Side::B);
    for node in [&lab.a, &lab.b] {
        let (known, _) = neighbour(node, "omni0", host.v4()).expect("a neighbour");
        assert_eq!(known, host.mac());
    }
}

/// As a machine does that was moved or woken: `arp_notify` and `ndisc_notify`.
#[test]
fn a_host_whose_kernel_announces_it_is_reached_at_its_new_place() {
    let lab = Lab::new(Plan::default());
    let scene = Scene::new(&lab);
    let (host, namespace) = (&scene.host, &scene.host.namespace);
    for (key, value) in [
        ("ipv4/conf/eth0/arp_notify", "1"),
        ("ipv6/conf/eth0/ndisc_notify", "1"),
        ("ipv6/conf/eth0/keep_addr_on_down", "1"),
    ] {
        namespace.sysctl(key, value);
    }
    namespace.ip(&format!("link set {ETH} down"));
    let heard = scene.move_host(0);
    namespace.ip(&format!("link set {ETH} up"));
    heard.next_at(SOON).expect("an announcement");
    for address in [host.v4(), host.v6()] {
        let took = resumes(&lab.a, address, SOON);
        println!("{address} is reached after {took:.0?}");
        assert!(took < MOVED, "{address}: {took:?}");
        ping_all(&lab.b, address, "");
    }
    scene.assert_owned_by(Side::B);
}

#[test]
fn a_host_that_moves_to_another_port_of_its_node_keeps_its_connections() {
    let lab = Lab::new(Plan::default());
    let segments = ["acc", "bcc"].map(|access| Segment::behind(&lab.a, access, 1426));
    let host = segments[0].host("c", 11);
    let spec = lab.spec(Side::A);
    let more = "  - interface: acc\n  - interface: bcc\nworkers:";
    let a = spec.start_with(&spec.yaml().replace("workers:", more));
    let _b = lab.spec(Side::B).start();
    ping_all(&lab.b, host.v4(), "");
    let inner_b = Side::B.inner_v4().into();
    let transfer = Transfer::start(&host.namespace, (&lab.b, inner_b));
    let beat = Beat::start(&lab.b, (&host.namespace, host.v4()));
    std::thread::sleep(Duration::from_millis(500));
    let spoke = segments[0].hand_over_speaking(&host, &segments[1]);
    let gap = first_after(&[beat], spoke);
    println!("moved to another port: reached after {gap:.0?}");
    assert!(gap < MOVED, "{gap:?}");
    std::thread::sleep(seconds(1));
    assert!(transfer.finish() > 100_000);
    let fdb = a.show().fdb;
    let entry = fdb.iter().find(|entry| entry.mac == host.mac());
    assert_eq!(entry.map(|e| e.owner.as_str()), Some("local:bcc"));
}

/// Its second move, before it has told its IP addresses at the place between.
#[test]
fn a_host_that_moves_on_without_a_word_is_followed_as_fast() {
    let lab = Lab::new(Plan::default());
    let scene = Scene::new(&lab);
    for (side, node) in [(Side::A, &lab.a), (Side::B, &lab.b)] {
        let known = format!("{} lladdr {} dev {ETH}", side.inner_v4(), node.mac("omni0"));
        let namespace = &scene.host.namespace;
        namespace.ip(&format!("neigh replace {known} nud permanent"));
    }
    let inner_b = Side::B.inner_v4().into();
    let beat = [Beat::start(&scene.host.namespace, (&lab.b, inner_b))];
    std::thread::sleep(seconds(1));
    for (from, to) in [(0, 1), (1, 0)] {
        let spoke = scene.segments[from].hand_over_speaking(&scene.host, &scene.segments[to]);
        let gap = first_after(&beat, spoke);
        println!("move {from} to {to}: {gap:.0?}");
        assert!(gap < MOVED, "{gap:?}");
        std::thread::sleep(seconds(2));
    }
}

/// Another machine, with another MAC address, has a dead host's IP addresses: a service that was
/// started elsewhere.
#[test]
fn addresses_of_a_dead_host_are_taken_over_by_another_elsewhere() {
    let lab = Lab::new(Plan::default());
    let scene = Scene::new(&lab);
    let Host { namespace, .. } = &scene.host;
    namespace.ip(&format!("link set {ETH} down"));
    let heir = scene.segments[1].host("d", 11);
    for (node, address) in [
        (&lab.a, heir.v4()),
        (&lab.b, heir.v4()),
        (&lab.a, heir.v6()),
        (&lab.b, heir.v6()),
    ] {
        arping(&heir.namespace, ETH, heir.v4(), "-U -c 1 -w 1");
        reaches(&heir.namespace, Side::A.inner_v6().into());
        node.ip("neigh flush dev omni0");
        let took = resumes(node, address, SOON);
        println!("{address} is reached after {took:.0?}");
        let (known, _) = neighbour(node, "omni0", address).expect("a neighbour");
        assert_eq!(known, heir.mac());
    }
}
