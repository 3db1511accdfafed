//! A hostile host behind one of a node's ports: it claims other hosts' addresses, poses as a
//! router and as a DHCP server, and sends what is far too long.
//!
//! ```text
//!  evil ---- br-acc0 ---- acc   -+
//!                                 engine a ---- engine b - omni0  10.7.0.2, the gateway
//!  10.7.0.1, its victim - omni0 -+
//! ```

use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use omni_engine::show::Show;
use omni_wire::MacAddr;

use crate::support::forged::{
    advertisement, arp_reply, dhcp_offer, experiment, gratuitous_arp, router_advertisement,
};
use crate::support::hosts::{ETH, Host, Segment, neighbour};
use crate::support::lab::{Lab, Plan, Side, public_key};
use crate::support::ledger::assert_memory_idle;
use crate::support::netns::Namespace;
use crate::support::node::Node;
use crate::support::packet::PacketSocket;
use crate::support::tools::{iperf, ping, ping_all};
use crate::support::{seconds, wait_until};

/// The hostile host's MTU: more than the fabric's.
const JUMBO: u32 = 9000;
/// How long it goes on.
const ATTACK: Duration = seconds(8);
/// Between two rounds of forged frames.
const PAUSE: Duration = Duration::from_millis(5);
/// No frame comes for this long: all are here.
const QUIET: Duration = Duration::from_millis(300);
/// Pings through it: what they lose.
const PINGS: u32 = 500;
const PINGING: &str = "-c 500 -i 0.01";

struct Scene<'a> {
    lab: &'a Lab,
    a: Node,
    b: Node,
    evil: Host,
}

impl<'a> Scene<'a> {
    fn new(lab: &'a Lab) -> Self {
        let evil = Segment::new(&lab.a, JUMBO).host("e", 66);
        let spec = lab.spec(Side::A);
        let guarded = "  - { interface: acc, guard: [ra, dhcp] }\nworkers:";
        let a = spec.start_with(&spec.yaml().replace("workers:", guarded));
        let b = lab.spec(Side::B).start();
        for target in [Side::B.inner_v4().into(), Side::B.inner_v6().into()] {
            ping_all(&lab.a, target, "");
            ping_all(&evil.namespace, target, "");
        }
        for target in [Side::A.inner_v4().into(), Side::A.inner_v6().into()] {
            ping_all(&evil.namespace, target, "");
        }
        Self { lab, a, b, evil }
    }

    /// The MAC address of a side's host.
    fn mac(&self, side: Side) -> MacAddr {
        parse(&self.lab.namespace(side).mac("omni0"))
    }

    /// A round of everything.
    fn forged(&self) -> Vec<Vec<u8>> {
        let evil = parse(&self.evil.mac());
        let mut frames = Vec::new();
        for (victim, other) in [(Side::A, Side::B), (Side::B, Side::A)] {
            let (mac, other_mac) = (self.mac(victim), self.mac(other));
            let told = (other_mac, other.inner_v4());
            // With its own address and with the victim's, in the frame and in the message.
            for (source, claimed) in [(evil, evil), (mac, mac), (mac, evil), (evil, mac)] {
                let (ip, ip6) = (victim.inner_v4(), victim.inner_v6());
                frames.push(arp_reply(source, (claimed, ip), told));
                frames.push(gratuitous_arp(source, claimed, ip));
                frames.push(advertisement(source, claimed, ip6));
            }
        }
        for source in [evil, self.mac(Side::A), self.mac(Side::B)] {
            frames.push(router_advertisement(source, ROUTER));
            frames.push(dhcp_offer(source, Side::B.inner_v4()));
        }
        let mut endless = experiment(evil);
        endless.resize(JUMBO as usize + 14, 0x5a);
        frames.push(endless);
        frames
    }

    /// All that the attack is, until `stop`.
    fn attack(&self, stop: &AtomicBool) -> u64 {
        let socket = PacketSocket::open(&self.evil.namespace, ETH);
        let bulk = self.evil.namespace.enter(bulk_socket);
        let round = self.forged();
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            for frame in &round {
                sent += u64::from(socket.send(frame).is_ok());
            }
            // 60 kB at once, in fragments of 9 kB.
            let _ = bulk.send_to(&[0x5a; 60_000], (Side::B.inner_v4(), 9));
            std::thread::sleep(PAUSE);
        }
        sent
    }

    /// Both tables and both kernels know what is true, and nothing else.
    fn assert_nothing_is_poisoned(&self) {
        let truth = [Side::A, Side::B].map(|side| (side, self.mac(side).to_string()));
        for (node, at) in [(&self.a, Side::A), (&self.b, Side::B)] {
            let show = node.show();
            for (side, mac) in &truth {
                let owner = if *side == at {
                    "local:omni0".to_owned()
                } else {
                    public_key(*side).to_string()
                };
                assert_owned(&show, *side, mac, &owner);
            }
            let evil = show.neighbors.iter().filter(|n| n.mac == self.evil.mac());
            let claimed: Vec<&str> = evil.map(|n| n.ip.as_str()).collect();
            let own = [self.evil.v4(), self.evil.v6()].map(|ip| ip.to_string());
            let is_its = |ip: &&str| own.iter().any(|own| own == ip) || ip.starts_with("fe80:");
            assert!(claimed.iter().all(is_its), "{claimed:?} are not its own");
        }
        for (here, (other, mac)) in [(&self.lab.a, &truth[1]), (&self.lab.b, &truth[0])] {
            for address in [other.inner_v4().into(), other.inner_v6().into()] {
                let known = neighbour(here, "omni0", address);
                assert_eq!(known.map(|(mac, _)| mac).as_ref(), Some(mac), "{address}");
            }
            let routes = here.ip("-6 route show default");
            assert_eq!(routes, "", "a router was believed");
        }
    }
}

/// Who poses as a router.
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x66);

fn parse(mac: &str) -> MacAddr {
    let octets = mac.split(':').map(|octet| u8::from_str_radix(octet, 16));
    let octets: Vec<u8> = octets.map(|octet| octet.expect("hexadecimal")).collect();
    MacAddr(octets.try_into().expect("six octets"))
}

fn bulk_socket() -> UdpSocket {
    UdpSocket::bind("0.0.0.0:0").expect("a socket")
}

fn assert_owned(show: &Show, side: Side, mac: &str, owner: &str) {
    let mut fdb = show.fdb.iter().filter(|entry| entry.mac == mac);
    let mut at = fdb.next();
    assert_eq!(at.take().map(|e| e.owner.as_str()), Some(owner), "{show:?}");
    for ip in [IpAddr::from(side.inner_v4()), side.inner_v6().into()] {
        let bound: Vec<_> = show
            .neighbors
            .iter()
            .filter(|n| n.ip == ip.to_string())
            .collect();
        assert_eq!(bound.len(), 1, "{ip}: {bound:?}");
        assert_eq!((&*bound[0].mac, &*bound[0].owner), (mac, owner), "{ip}");
    }
}

/// Frames that came in at a host, of those that a hostile one forged.
fn forged_at(socket: &PacketSocket) -> Vec<Vec<u8>> {
    let mut frames = socket.drain(QUIET);
    frames.retain(|frame| {
        let is_ra = frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(54) == Some(&134);
        let is_dhcp = frame.get(12..14) == Some(&[8, 0]) && frame.get(34..36) == Some(&[0, 67]);
        is_ra || is_dhcp
    });
    frames
}

#[test]
fn a_hostile_host_poisons_nobody_and_disturbs_nobody() {
    let lab = Lab::alone(Plan::default());
    let scene = Scene::new(&lab);
    let sockets = [&lab.a, &lab.b].map(|side| PacketSocket::open(side, "omni0"));
    let stop = AtomicBool::new(false);
    let (sent, answered) = std::thread::scope(|scope| {
        let attack = scope.spawn(|| scene.attack(&stop));
        let begun = Instant::now();
        // Neighbours are asked for anew while it lasts.
        for namespace in [&lab.a, &lab.b] {
            namespace.ip("neigh flush dev omni0");
        }
        let pinged = |from: &Namespace, to: IpAddr| ping(from, to, PINGING).0;
        let answered = [
            pinged(&lab.a, Side::B.inner_v4().into()),
            pinged(&lab.b, Side::A.inner_v6().into()),
        ];
        wait_until("it goes on", ATTACK, || {
            begun.elapsed() > ATTACK - Duration::from_millis(500)
        });
        scene.assert_nothing_is_poisoned();
        stop.store(true, Ordering::Relaxed);
        (attack.join().expect("an attack"), answered)
    });
    println!("{sent} forged frames sent; of {PINGS} pings {answered:?} were answered");
    println!("drops of a: {:?}", scene.a.show().drops);
    assert!(sent > 1000, "{sent} frames");
    for count in answered {
        assert!(count >= PINGS - 2, "{count} of {PINGS} answered");
    }
    scene.assert_nothing_is_poisoned();
    for socket in &sockets {
        let frames = forged_at(socket);
        assert_eq!(frames.len(), 0, "{:x?}", frames.first());
    }
    let drops = scene.a.show().drops;
    for reason in [
        "source_mac_not_owned",
        "neighbor_spoofed",
        "binding_not_owned",
        "guarded_router",
        "guarded_dhcp",
        "inner_too_big",
    ] {
        assert!(drops.contains_key(reason), "{reason}: {drops:?}");
    }
    // Not from the hostile host: the bridge beside it believes what it said.
    for target in [Side::B.inner_v4().into(), Side::B.inner_v6().into()] {
        ping_all(&lab.a, target, "");
    }
    assert_memory_idle(&scene.a, &scene.b);
}

/// Frames of 64 kB, as a host's TCP hands them to an interface that takes them whole.
#[test]
fn frames_of_64_kb_from_a_host_harm_nobody() {
    let lab = Lab::alone(Plan::default());
    let scene = Scene::new(&lab);
    let offloads = scene.evil.namespace.run("ethtool", &format!("-k {ETH}"));
    let offloads = String::from_utf8_lossy(&offloads.stdout).into_owned();
    assert!(
        offloads.contains("tcp-segmentation-offload: on"),
        "{offloads}"
    );
    let target = Side::B.inner_v4().into();
    let report = iperf(&scene.evil.namespace, (&lab.b, target), "-t 2");
    let received = report["end"]["sum_received"]["bytes"].as_u64();
    println!("{received:?} octets of TCP arrived");
    assert!(received > Some(1_000_000), "{report}");
    scene.assert_nothing_is_poisoned();
    ping_all(&lab.a, target, "");
    assert_memory_idle(&scene.a, &scene.b);
}
