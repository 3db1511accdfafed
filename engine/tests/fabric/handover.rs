//! An engine behind another device of the host that has the wire: `omni handover` between them.
//!
//! ```text
//!  namespace a                  namespace m                     namespace b
//!  omni0 - engine - ua ------ ra  omni handover  rb ------------ ub - engine - omni0
//!                                 host
//! ```

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::lab::{Lab, PORT, Plan, Side, Wire};
use crate::support::netns::Namespace;
use crate::support::tools::{iperf, ping, ping_all, resumes, tcp_rate, unfragmented};
use crate::support::{seconds, wait_until};

const OMNI: &str = env!("CARGO_BIN_EXE_omni");

/// The host's own address, where the engine has another.
const HOST: &str = "192.0.2.3";

fn inner(side: Side) -> IpAddr {
    side.inner_v4().into()
}

/// The wire's namespace.
fn host(lab: &Lab) -> &Namespace {
    lab.middle.as_ref().expect("a host in between")
}

/// A lab with a host in between, whose address on the wire is `address`. The engine's interface
/// has its MAC address.
fn lab_with(address: &str) -> Lab {
    let lab = Lab::new(Plan {
        wire: Wire::Host,
        ..Plan::default()
    });
    host(&lab).ip(&format!("address add {address}/24 dev rb"));
    lab.a
        .ip(&format!("link set ua address {}", host(&lab).mac("rb")));
    // On a real wire checksums are complete. A veth leaves that to whoever receives, and a frame
    // that XDP redirects does not say any more that it is to be done. And a veth takes redirected
    // frames only while the other end has GRO or a program, as it has with an engine.
    for (namespace, interface) in [(&lab.a, "ua"), (&lab.b, "ub")] {
        let output = namespace.run("ethtool", &format!("-K {interface} tx off gro on"));
        assert!(output.status.success(), "ethtool: {output:?}");
    }
    lab
}

/// How the host's interfaces are set. Whether they have a carrier the kernel says late at times.
fn settings(lab: &Lab) -> Vec<Value> {
    let mut links = host(lab).inventory();
    for link in &mut links {
        let fields = link.as_object_mut().expect("an interface");
        fields.remove("flags");
        fields.remove("operstate");
    }
    links
}

/// A running `omni handover` and what it says.
struct Handover {
    child: Child,
    log: PathBuf,
}

impl Handover {
    /// Starts it between `rb` and `ra`, and waits until it hands over.
    fn start(lab: &Lab, options: &str) -> Self {
        let log = lab.folder().join("handover.log");
        let file = File::create(&log).expect("a log");
        let mut command = host(lab).command(OMNI);
        command
            .args(["handover", "--interface", "rb", "--to", "ra"])
            .args(options.split_whitespace())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the log's file"))
            .stderr(file);
        let child = command.spawn().expect("the tests need `ip`");
        let handover = Self { child, log };
        handover.says("rb (native XDP) hands over to ra (native XDP): ");
        handover
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("its log")
    }

    /// Waits until it has said that.
    fn says(&self, words: &str) {
        wait_until(words, seconds(5), || self.log().contains(words));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// What it counted so far, by name.
    fn count(&self, name: &str) -> u64 {
        let lines = self.log().lines().count();
        self.signal(Signal::USR1);
        wait_until("counts", seconds(5), || self.log().lines().count() > lines);
        let log = self.log();
        let line = log.lines().last().expect("a line");
        let number = line.split([',', ';', ':']).find_map(|part| {
            let (found, number) = part.trim().rsplit_once(' ')?;
            (found == name).then(|| number.parse().expect("a number"))
        });
        number.unwrap_or_else(|| panic!("no {name}: {line}"))
    }

    /// Its exit status, once it has ended by itself or by a signal.
    fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the end of the hand-over", seconds(5), || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        // Either may fail because it has ended: all the better.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- omni handover ---\n{}", self.log());
        }
    }
}

/// Traffic of the fabric, of all kinds and both ways. Packets of `mtu` octets pass.
fn assert_fabric_works(lab: &Lab, mtu: u32) {
    for (from, to) in [(Side::A, Side::B), (Side::B, Side::A)] {
        let (namespace, target) = (lab.namespace(from), inner(to));
        ping_all(namespace, target, "");
        ping_all(namespace, target, &unfragmented(target, mtu));
        let report = iperf(namespace, (lab.namespace(to), target), "-t 1");
        let rate = tcp_rate(&report);
        println!("{} to {}: {rate:.0} Mb/s", from.name(), to.name());
        assert!(rate > 50.0, "{rate} Mb/s through the fabric");
    }
}

/// What else the host does on the wire: it answers, and serves.
fn assert_host_works(lab: &Lab, address: &str) {
    let address: IpAddr = address.parse().expect("an address");
    ping_all(&lab.b, address, "");
    ping_all(host(lab), lab.outer(Side::B).0.into(), "");
    let rate = tcp_rate(&iperf(&lab.b, (host(lab), address), "-t 1"));
    assert!(rate > 50.0, "{rate} Mb/s to the host");
}

#[test]
fn an_engine_with_an_address_of_its_own_behind_a_host() {
    let lab = lab_with(HOST);
    let before = settings(&lab);
    let (own, _) = lab.outer(Side::A);
    let mut handover = Handover::start(&lab, &format!("--address {own}"));
    handover.says(&format!("all for {own}"));
    let (a, b) = lab.start();
    assert_fabric_works(&lab, 1426);
    assert_host_works(&lab, HOST);
    assert!(handover.count("handshakes") >= 1);
    assert!(handover.count("rest") >= 1, "ARP");
    assert_eq!(handover.count("left to the host without a device"), 0);
    // What the peer counts is what was handed over, both ways. Both go on speaking meanwhile.
    let (sent, received) = (b.peer().tx_frames, b.peer().rx_frames);
    let (data, back) = (handover.count("data"), handover.count("taken back"));
    assert!(data >= sent, "{data} handed over, {sent} sent");
    assert!(back >= received, "{back} taken back, {received} received");
    assert!(a.terminate().success() && b.terminate().success());
    handover.signal(Signal::TERM);
    assert_eq!(handover.ended(), Some(0));
    assert_eq!(settings(&lab), before, "left behind");
}

/// A link-local address of the engine's own is among the addresses: neighbours are asked from it.
#[test]
fn the_same_over_ipv6() {
    let lab = lab_with(HOST);
    let (_, own) = lab.outer(Side::A);
    lab.a.ip("address flush dev ua scope link");
    lab.a.ip("address add fe80::a/64 dev ua");
    let handover = Handover::start(&lab, &format!("--address {own} --address fe80::a"));
    let (a, b) = lab.start_v6();
    assert_fabric_works(&lab, 1406);
    assert_host_works(&lab, HOST);
    assert!(handover.count("rest") >= 1, "neighbour discovery");
    assert!(a.terminate().success() && b.terminate().success());
}

/// The host has the same address: it keeps all of it but the fabric's datagrams. ARP is the
/// host's, so the engine must be told where its neighbours are.
#[test]
fn an_engine_behind_a_host_that_share_an_address() {
    let shared = "192.0.2.1";
    let lab = lab_with(shared);
    assert_eq!(lab.outer(Side::A).0.to_string(), shared);
    let neighbour = lab.outer(Side::B).0;
    let mac = lab.b.mac("ub");
    lab.a.ip(&format!(
        "neigh replace {neighbour} lladdr {mac} dev ua nud permanent"
    ));
    let mut handover = Handover::start(&lab, &format!("--port {PORT}"));
    handover.says(&format!("the fabric's datagrams to {shared}"));
    let (a, b) = lab.start();
    assert_fabric_works(&lab, 1426);
    assert_host_works(&lab, shared);
    assert_eq!(handover.count("rest"), 0, "the host's");
    assert!(a.terminate().success() && b.terminate().success());
    handover.signal(Signal::INT);
    assert_eq!(handover.ended(), Some(0));
}

#[test]
fn a_hand_over_that_is_killed_leaves_nothing_and_starts_again() {
    let lab = lab_with(HOST);
    let option = format!("--address {}", lab.outer(Side::A).0);
    let mut handover = Handover::start(&lab, &option);
    let (_a, _b) = lab.start();
    ping_all(&lab.a, inner(Side::B), "");
    handover.signal(Signal::KILL);
    assert_eq!(handover.ended(), None, "by a signal");
    let is_free = |interface| {
        let link = host(&lab).link(interface).expect("the interface");
        link["xdp"].is_null()
    };
    wait_until("no program is left", seconds(2), || {
        is_free("rb") && is_free("ra")
    });
    assert_eq!(ping(&lab.a, inner(Side::B), "").0, 0, "nobody hands over");
    let _handover = Handover::start(&lab, &option);
    resumes(&lab.a, inner(Side::B), seconds(5));
}

#[test]
fn a_hand_over_ends_when_its_device_is_deleted() {
    let lab = lab_with(HOST);
    let mut handover = Handover::start(&lab, &format!("--address {}", lab.outer(Side::A).0));
    host(&lab).ip("link del ra");
    assert_eq!(handover.ended(), Some(1));
    assert!(handover.log().contains("omni: interface ra was deleted"));
    assert_host_works(&lab, HOST);
    let rb = host(&lab).link("rb").expect("the wire");
    assert!(rb["xdp"].is_null(), "a program stays behind: {rb}");
}

#[test]
fn a_hand_over_that_cannot_be_is_refused_with_the_reason() {
    let lab = lab_with(HOST);
    for (options, reason) in [
        ("--interface rb --to rb", "the messages come in on: rb"),
        (
            "--interface nowhere --to ra",
            "interface nowhere does not exist",
        ),
        (
            "--interface rb --to nowhere",
            "interface nowhere does not exist",
        ),
    ] {
        let output = host(&lab).run(OMNI, &format!("handover {options}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{options}: {said}");
        assert!(said.contains(reason), "{options}: {said}");
    }
    for options in ["--port 0", "--address 192.0.2", ""] {
        let output = host(&lab).run(OMNI, &format!("handover --to ra {options}"));
        assert_eq!(output.status.code(), Some(2), "{options}");
    }
}
