//! A node with several access ports: two that the engine makes, and one that existed before.
//!
//! ```text
//!  namespace c        namespace a                                   namespace b
//!  h2 10.7.2.1 ------ acc   -+
//!                     omni0 -+ engine - ua ------------ ub - engine - omni0 10.7.{0,1,2}.2
//!                     omni1 -+
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use omni_engine::show::QueueView;
use omni_engine::stages::NodeStages;
use serde_json::Value;

use crate::support::lab::{Lab, Plan, Side};
use crate::support::ledger::assert_memory_idle;
use crate::support::netns::Namespace;
use crate::support::node::{Node, NodeSpec};
use crate::support::tools::{iperf, ping_all, reaches, resumes, tcp_rate, unfragmented};
use crate::support::{seconds, wait_until};

/// How many ports node a has.
const PORTS: u8 = 3;
/// What they are called, in order.
const NAMES: [&str; PORTS as usize] = ["omni0", "omni1", "acc"];

/// The IPv4 address of a side's host on the network of node a's port `port`.
fn inner_v4(side: Side, port: u8) -> IpAddr {
    let [.., host] = side.inner_v4().octets();
    Ipv4Addr::new(10, 7, port, host).into()
}

/// The same of IPv6.
fn inner_v6(side: Side, port: u8) -> IpAddr {
    let [.., host] = side.inner_v6().segments();
    Ipv6Addr::new(0xfd07, 0, 0, port.into(), 0, 0, 0, host).into()
}

/// Both nodes' configurations, and the host behind the port that existed before.
struct Ports {
    lab: Lab,
    a: NodeSpec,
    b: NodeSpec,
    host: Namespace,
}

impl Ports {
    /// Lays the underlay and makes the pair `acc` to `h2`, of as many queues as the underlay has.
    fn new(plan: Plan) -> Self {
        let lab = Lab::new(plan);
        let host = Namespace::new("c");
        let like = format!("numrxqueues {0} numtxqueues {0} mtu 1426", plan.queues);
        lab.a.ip(&format!(
            "link add acc {like} type veth peer name h2 netns {} {like}",
            host.name()
        ));
        let (v4, v6) = (inner_v4(Side::A, 2), inner_v6(Side::A, 2));
        host.ip(&format!("addr add {v4}/24 dev h2"));
        host.ip(&format!("addr add {v6}/64 dev h2"));
        host.ip("link set h2 up");
        lab.a.ip("link set acc up");
        wait_until("the pair has a carrier", seconds(2), || {
            let link = lab.a.link("acc").expect("an interface");
            link["operstate"] == "UP"
        });
        let mut b = lab.spec(Side::B);
        b.addresses = (0..PORTS)
            .flat_map(|port| addresses(Side::B, port))
            .collect();
        let a = lab.spec(Side::A);
        Self { lab, a, b, host }
    }

    /// Node a's file with its three ports.
    fn yaml(&self, mtu_of_second: &str) -> String {
        let second: Vec<String> = addresses(Side::A, 1).map(|a| format!("{a:?}")).collect();
        let more = format!(
            "  - {{ interface: omni1, driver: {}, mtu: {mtu_of_second}, addresses: [{}] }}\n\
             \u{20}\u{20}- interface: acc\n",
            self.a.drivers.0,
            second.join(", ")
        );
        let mut first = self.a.clone();
        first.addresses = addresses(Side::A, 0).collect();
        first.yaml().replace("workers:", &format!("{more}workers:"))
    }

    fn start(&self) -> (Node, Node) {
        let a = self.a.start_with(&self.yaml("auto"));
        (a, self.b.start())
    }

    /// Where the host behind node a's port `port` is.
    fn host_of(&self, port: u8) -> &Namespace {
        if port == 2 { &self.host } else { &self.lab.a }
    }
}

fn addresses(side: Side, port: u8) -> impl Iterator<Item = String> {
    let (v4, v6) = (inner_v4(side, port), inner_v6(side, port));
    [format!("{v4}/24"), format!("{v6}/64")].into_iter()
}

/// What a node's queues of a port carried, all together: received and sent.
fn carried(queues: &[QueueView], port: &str) -> (u64, u64) {
    let of_port = queues.iter().filter(|queue| queue.port == port);
    of_port.fold((0, 0), |(rx, tx), queue| {
        (rx + queue.rx_frames, tx + queue.tx_frames)
    })
}

#[test]
fn hosts_of_every_port_reach_the_peers_host_and_are_reached() {
    let ports = Ports::new(Plan::default());
    let (a, b) = ports.start();
    for port in 0..PORTS {
        let before = a.show().queues;
        for inner in [inner_v4, inner_v6] {
            let (here, there) = (inner(Side::A, port), inner(Side::B, port));
            ping_all(ports.host_of(port), there, "");
            ping_all(&ports.lab.b, here, "");
            ping_all(ports.host_of(port), there, &unfragmented(there, 1426));
        }
        let after = a.show().queues;
        let name = NAMES[usize::from(port)];
        let ((rx, tx), (rx_before, tx_before)) = (carried(&after, name), carried(&before, name));
        assert!(
            rx >= rx_before + 30 && tx >= tx_before + 30,
            "{name} carried it: {before:?} {after:?}"
        );
    }
    let fdb = a.show().fdb;
    for name in NAMES {
        let owner = format!("local:{name}");
        assert!(fdb.iter().any(|entry| entry.owner == owner), "{fdb:?}");
    }
    let made = ports.lab.a.mac("omni1");
    let entry = fdb.iter().find(|entry| entry.mac == made);
    assert_eq!(entry.map(|e| e.owner.as_str()), Some("local:omni1"));
    assert_memory_idle(&a, &b);
}

/// Two workers: each has a queue of every port, and latency is booked on that of the frame.
#[test]
fn every_worker_serves_every_port() {
    let ports = Ports::new(Plan {
        queues: 2,
        ..Plan::default()
    });
    let cores = "[0, 1]".to_owned();
    let two = |spec: &NodeSpec| NodeSpec {
        cores: cores.clone(),
        ..spec.clone()
    };
    let ports = Ports {
        a: two(&ports.a),
        b: two(&ports.b),
        ..ports
    };
    let (a, b) = ports.start();
    for port in 0..PORTS {
        let target = inner_v4(Side::B, port);
        ping_all(ports.host_of(port), target, "");
        for direction in ["", "-R"] {
            let options = format!("-t 1 -P 4 {direction}");
            let client = ports.host_of(port);
            let rate = tcp_rate(&iperf(client, (&ports.lab.b, target), &options));
            assert!(rate > 100.0, "TCP: {rate} Mb/s by port {port} {direction}");
        }
    }
    let queues = a.show().queues;
    for name in NAMES.into_iter().chain(["ua"]) {
        let of_port = queues.iter().filter(|queue| queue.port == name);
        let workers: Vec<usize> = of_port.map(|queue| queue.worker).collect();
        assert!(
            [0, 1].iter().all(|worker| workers.contains(worker)),
            "{workers:?} serve {name}"
        );
        let (rx, _) = carried(&queues, name);
        let of_port = queues.iter().filter(|queue| queue.port == name);
        let timed: u64 = of_port.map(|queue| queue.latency_ns.count).sum();
        // What waits for a session, is dropped, or is flooded to nobody has no latency.
        assert!(
            timed > rx / 2 && timed <= rx,
            "{timed} of {rx} timed on {name}"
        );
    }
    assert_stages(&ports.a, &ports.b, &queues);
    assert_memory_idle(&a, &b);
}

/// What `omni report` makes of both engines, beside what one of them showed before.
fn assert_stages(a: &NodeSpec, b: &NodeSpec, queues: &[QueueView]) {
    let report = Command::new(env!("CARGO_BIN_EXE_omni"))
        .args(["report", "--json"])
        .args([a.socket(), b.socket()])
        .output()
        .expect("omni");
    assert!(report.status.success(), "{report:?}");
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let nodes = report["nodes"].as_array().expect("nodes");
    let first = serde_json::from_value::<NodeStages>(nodes[0].clone()).expect("a node");
    let workers = first.workers.iter();
    let stages: Vec<_> = workers.flat_map(|worker| &worker.queues).collect();
    for (queue, stages) in queues.iter().zip(&stages) {
        assert_eq!((&queue.port, queue.queue), (&stages.port, stages.queue));
        assert!(stages.through.count >= queue.latency_ns.count);
        // The driver stamps all that it hands to AF_XDP sockets, and taps have no driver.
        let waited = if stages.mode == "tap" {
            0
        } else {
            stages.through.count
        };
        assert_eq!(stages.wait.count, waited, "{stages:?}");
        assert!(stages.wait.at(0.5) <= stages.through.at(0.5));
    }
    let merged = report["merged"].as_array().expect("stages");
    let count = |stage: &str| -> u64 {
        let parts = merged.iter().filter(|part| part["stage"] == stage);
        parts
            .map(|part| part["histogram"]["count"].as_u64().expect("a count"))
            .sum()
    };
    let of_a: u64 = stages.iter().map(|stages| stages.through.count).sum();
    assert_eq!(nodes.len(), 2);
    assert!(count("through") > of_a, "both nodes are in it");
    assert_eq!(count("work"), count("send"));
    assert!(
        count("work") >= count("through"),
        "{} {}",
        count("work"),
        count("through")
    );
}

/// One busy port leaves the others their turns.
#[test]
fn a_flood_on_one_port_leaves_others_their_share() {
    let ports = Ports::new(Plan::default());
    let (a, b) = ports.start();
    for port in 0..PORTS {
        ping_all(ports.host_of(port), inner_v4(Side::B, port), "");
    }
    let flood = || {
        let target = inner_v4(Side::B, 0);
        iperf(&ports.lab.a, (&ports.lab.b, target), "-u -b 0 -l 64 -t 3")
    };
    std::thread::scope(|scope| {
        let flooding = scope.spawn(flood);
        std::thread::sleep(seconds(1));
        let answered = (0..20).filter(|_| reaches(&ports.host, inner_v4(Side::B, 2)));
        // The flood is more than the peer's underlay takes: some of it is dropped there.
        assert!(answered.count() >= 10, "{:?} {:?}", a.show(), b.show());
        flooding.join().expect("a flood");
    });
    assert_memory_idle(&a, &b);
}

#[test]
fn a_stop_removes_what_was_made_and_gives_back_the_rest() {
    let ports = Ports::new(Plan::xdp());
    let before = ports.lab.a.inventory();
    let (a, _b) = ports.start();
    for name in ["ua", "omni0-xdp", "omni1-xdp", "acc"] {
        let link = ports.lab.a.link(name).expect("an interface");
        assert!(!link["xdp"].is_null(), "{name} is steered by a program");
    }
    ping_all(&ports.host, inner_v4(Side::B, 2), "");
    assert!(a.terminate().success());
    assert_eq!(ports.lab.a.inventory(), before);
}

#[test]
fn a_killed_nodes_ports_are_taken_over() {
    let ports = Ports::new(Plan::xdp());
    let (a, _b) = ports.start();
    ping_all(&ports.lab.a, inner_v4(Side::B, 1), "");
    let macs = ["omni0", "omni1"].map(|name| ports.lab.a.mac(name));
    a.kill();
    let a = ports.a.start_with(&ports.yaml("auto"));
    assert_eq!(["omni0", "omni1"].map(|name| ports.lab.a.mac(name)), macs);
    let log = a.log();
    assert_eq!(log.matches("taken_over=true").count(), 2, "{log}");
    for port in 0..PORTS {
        resumes(ports.host_of(port), inner_v4(Side::B, port), seconds(5));
    }
}

#[test]
fn a_port_that_cannot_be_had_takes_those_made_before_with_it() {
    let ports = Ports::new(Plan::xdp());
    let refused = |yaml: &str, words: &[&str]| {
        let mut node = ports.a.spawn_with(yaml);
        assert_eq!(node.wait_exit(seconds(5)).code(), Some(1));
        let log = node.log();
        assert!(words.iter().all(|word| log.contains(word)), "{log}");
        for name in ["omni0", "omni1"] {
            assert!(ports.lab.a.link(name).is_none(), "{name} stays: {log}");
        }
    };
    refused(&ports.yaml("1427"), &["access[1].mtu: 1427", "1426"]);
    // The other side of the first port would have the second one's name.
    let yaml = ports
        .yaml("auto")
        .replace("interface: omni1", "interface: omni0-xdp");
    refused(&yaml, &["access: omni0-xdp is"]);
    // Somebody else's interface where the second port's other side is to be.
    ports.lab.a.ip("link add omni1-xdp type bridge");
    refused(&ports.yaml("auto"), &["omni1-xdp"]);
    assert!(ports.lab.a.link("omni1-xdp").is_some(), "it is not ours");
}

#[test]
fn a_deleted_port_ends_the_node_and_is_named() {
    let ports = Ports::new(Plan::default());
    let (mut a, b) = ports.start();
    b.established();
    ports.lab.a.ip("link del omni1");
    assert_eq!(a.wait_exit(seconds(3)).code(), Some(1));
    let log = a.log();
    assert!(log.contains("interface omni1 was deleted"), "{log}");
    assert!(ports.lab.a.link("omni0").is_none(), "omni0 stays behind");
    for name in ["ua", "acc"] {
        let link = ports.lab.a.link(name).expect("an interface");
        assert!(link["xdp"].is_null(), "a program stays behind: {link}");
    }
}

/// Each made port follows the underlay or keeps what is configured; the borrowed one is let alone.
#[test]
fn every_port_has_its_mtu() {
    let ports = Ports::new(Plan::default());
    let a = ports.a.start_with(&ports.yaml("1300"));
    let _b = ports.b.start();
    let mtus = || NAMES.map(|name| ports.lab.a.mtu(name));
    assert_eq!(mtus(), [1426, 1300, 1426]);
    for (underlay, wanted) in [(1400, [1326, 1300, 1426]), (1300, [1226, 1226, 1426])] {
        ports.lab.a.ip(&format!("link set ua mtu {underlay}"));
        ports.lab.b.ip(&format!("link set ub mtu {underlay}"));
        wait_until("the ports follow", seconds(3), || mtus() == wanted);
        let target = inner_v4(Side::B, 1);
        let full = unfragmented(target, wanted[1] as u32);
        wait_until("b follows", seconds(3), || {
            ports.lab.b.mtu("omni0") == underlay - 74
        });
        ping_all(&ports.lab.a, target, &full);
    }
    ports.lab.a.ip("link set ua mtu 1500");
    ports.lab.b.ip("link set ub mtu 1500");
    wait_until("the ports follow", seconds(3), || {
        mtus() == [1426, 1300, 1426]
    });
    drop(a);
}

#[test]
fn a_renamed_port_goes_on_by_its_new_name() {
    let ports = Ports::new(Plan::default());
    let (a, _b) = ports.start();
    ping_all(&ports.lab.a, inner_v4(Side::B, 1), "");
    ports.lab.a.ip("link set omni1 down");
    ports.lab.a.ip("link set omni1 name hosts1");
    ports.lab.a.ip("link set hosts1 up");
    ports.lab.a.ip("link set acc down");
    ports.lab.a.ip("link set acc name acc2");
    ports.lab.a.ip("link set acc2 up");
    wait_until("the new names are shown", seconds(3), || {
        let queues = a.show().queues;
        let shown = |name: &str| queues.iter().any(|queue| queue.port == name);
        shown("hosts1") && shown("acc2") && shown("omni0")
    });
    resumes(&ports.lab.a, inner_v4(Side::B, 1), seconds(5));
    resumes(&ports.host, inner_v4(Side::B, 2), seconds(5));
    let log = a.log();
    assert_eq!(log.matches("interface renamed").count(), 2, "{log}");
}

#[test]
fn an_existing_port_with_fewer_queues_sets_the_number_of_workers() {
    let ports = Ports::new(Plan {
        queues: 2,
        ..Plan::default()
    });
    // The underlay has two queues, this interface one: each worker needs a queue of every port.
    ports.lab.a.ip("link del acc");
    ports.lab.a.ip(&format!(
        "link add acc mtu 1426 type veth peer name h2 netns {} mtu 1426",
        ports.host.name()
    ));
    ports
        .host
        .ip(&format!("addr add {}/24 dev h2", inner_v4(Side::A, 2)));
    ports.host.ip("link set h2 up");
    ports.lab.a.ip("link set acc up");
    let (a, _b) = ports.start();
    let queues = a.show().queues;
    assert!(queues.iter().all(|queue| queue.worker == 0), "{queues:?}");
    assert_eq!(queues.iter().filter(|queue| queue.port == "ua").count(), 2);
    for port in 0..PORTS {
        ping_all(ports.host_of(port), inner_v4(Side::B, port), "");
    }
}

/// As many as there may be, on one worker: each costs the packet memory of a queue, no more.
#[test]
fn sixteen_ports_are_served() {
    const COUNT: u8 = 16;
    const CHUNKS_PER_QUEUE: u64 = 512;
    let lab = Lab::new(Plan::default());
    let spec = lab.spec(Side::A);
    let more: String = (1..COUNT)
        .map(|port| {
            let address = inner_v4(Side::A, port);
            format!("  - {{ interface: omni{port}, addresses: [\"{address}/24\"] }}\n")
        })
        .collect();
    let a = spec.start_with(&spec.yaml().replace("workers:", &format!("{more}workers:")));
    let b = NodeSpec {
        addresses: (0..COUNT)
            .map(|port| format!("{}/24", inner_v4(Side::B, port)))
            .collect(),
        ..lab.spec(Side::B)
    };
    let b = b.start();
    for port in 0..COUNT {
        ping_all(&lab.a, inner_v4(Side::B, port), "");
        ping_all(&lab.b, inner_v4(Side::A, port), "");
    }
    let [of_a, of_b] = [&a, &b].map(|node| node.show().umem.frames_total);
    assert_eq!(of_a - of_b, u64::from(COUNT - 1) * CHUNKS_PER_QUEUE);
    assert_memory_idle(&a, &b);
}
