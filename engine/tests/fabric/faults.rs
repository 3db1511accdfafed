//! What AF_XDP, the kernel and an administrator can do to running engines: interfaces that vanish
//! and come again, programs that are taken off, links that flap, queues that become more, processes
//! that are stopped, and threads that do not go on.
//!
//! Each time an engine is asked, its packet memory has to add up ([`Node::show`]).

use std::net::{IpAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use omni_engine::show::RecoveryView;
use omni_xdp_redirect::{Kind, Mode, Redirect};
use rustix::process::Signal;

use crate::support::lab::{Lab, Plan, Side};
use crate::support::ledger::assert_memory_idle;
use crate::support::meddle::{hold_thread, program_on, take_program_off};
use crate::support::netns::Namespace;
use crate::support::node::{Node, NodeSpec};
use crate::support::streams::Beat;
use crate::support::tools::{iperf, ping_all, reaches, resumes};
use crate::support::{seconds, wait_until};

/// How soon traffic flows again after a link came up.
const AFTER_FLAP: Duration = seconds(1);
/// How soon it does after an interface was made again.
const AFTER_MAKING: Duration = seconds(5);

fn inner_a() -> IpAddr {
    Side::A.inner_v4().into()
}

fn inner_b() -> IpAddr {
    Side::B.inner_v4().into()
}

fn recovery(node: &Node) -> RecoveryView {
    node.show().recovery
}

/// With access ports of the same packet memory, and with none.
#[test]
fn an_underlay_that_is_made_again_carries_again() {
    for plan in [Plan::xdp(), Plan::default()] {
        let lab = Lab::new(plan);
        let (mut a, mut b) = lab.start();
        ping_all(&lab.a, inner_b(), "");
        // Not before all is in use that the first time takes.
        let mut before = None;
        for time in 1..=3 {
            // Both ends of a veth pair go together.
            lab.a.ip("link del ua");
            for (node, name) in [(&a, "ua"), (&b, "ub")] {
                let gone = format!("it is waited for interface=\"{name}\"");
                wait_until(&gone, seconds(1), || node.log().contains(&gone));
            }
            assert!(!reaches(&lab.a, inner_b()), "there is no underlay");
            lab.lay_again();
            resumes(&lab.a, inner_b(), AFTER_MAKING);
            resumes(&lab.b, inner_a(), AFTER_MAKING);
            for node in [&a, &b] {
                wait_until("it is counted", seconds(1), || {
                    recovery(node).reopened == time
                });
                assert_eq!(recovery(node).reattached, time);
            }
            assert_memory_idle(&a, &b);
            let now = [&a, &b].map(|node| (node.descriptors(), node.resident() >> 20));
            let [(a_fds, a_mib), (b_fds, b_mib)] = *before.get_or_insert(now);
            let few = || a.descriptors() <= a_fds && b.descriptors() <= b_fds;
            wait_until("as few descriptors are open as before", seconds(2), few);
            let more = [
                now[0].1.saturating_sub(a_mib),
                now[1].1.saturating_sub(b_mib),
            ];
            assert!(more.iter().all(|&mib| mib <= 2), "MiB more: {more:?}");
        }
        assert!(a.is_running() && b.is_running());
        assert!(a.terminate().success() && b.terminate().success());
    }
}

/// A veth pair between an access port `acc` in node a's namespace and a host.
fn lay_access(lab: &Lab, host: &Namespace) {
    let like = "numrxqueues 1 numtxqueues 1 mtu 1400";
    lab.a.ip(&format!(
        "link add acc {like} type veth peer name h1 netns {} {like}",
        host.name()
    ));
    // The same machine comes back: its peers remember it.
    host.ip("link set h1 address 02:00:00:00:00:77");
    host.ip(&format!("addr add {}/24 dev h1", Side::A.inner_v4()));
    host.ip("link set h1 up");
    lab.a.ip("link set acc up");
}

#[test]
fn an_access_interface_that_is_made_again_carries_again() {
    let lab = Lab::new(Plan::default());
    let host = Namespace::new("c");
    lay_access(&lab, &host);
    let spec = NodeSpec {
        access: "acc".to_owned(),
        addresses: Vec::new(),
        ..lab.spec(Side::A)
    };
    let (mut a, b) = (spec.start(), lab.spec(Side::B).start());
    resumes(&host, inner_b(), seconds(5));
    lab.a.ip("link del acc");
    wait_until("node a notices", seconds(1), || {
        a.log().contains("it is waited for interface=\"acc\"")
    });
    assert!(a.is_running(), "peers are served on");
    a.established();
    lay_access(&lab, &host);
    resumes(&host, inner_b(), AFTER_MAKING);
    assert!(program_on(&lab.a, "acc").is_some());
    assert_memory_idle(&a, &b);
}

/// Frames come every 2 ms; what is measured is from when the link is set up again.
#[test]
fn a_link_that_flaps_carries_within_a_second_each_time() {
    let lab = Lab::new(Plan::xdp());
    let (mut a, mut b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    let beats = [
        Beat::start(&lab.a, (&lab.b, inner_b())),
        Beat::start(&lab.b, (&lab.a, inner_a())),
    ];
    for flap in 0..12 {
        let down = Duration::from_millis([0, 20, 300][flap % 3]);
        let (namespace, interface) = [(&lab.a, "ua"), (&lab.b, "ub")][flap % 2];
        namespace.ip(&format!("link set {interface} down"));
        std::thread::sleep(down);
        namespace.ip(&format!("link set {interface} up"));
        let up = Instant::now();
        for beat in &beats {
            let what = format!("flap {flap}: frames arrive");
            wait_until(&what, AFTER_FLAP, || beat.first_after(up).is_some());
        }
    }
    drop(beats);
    for node in [&a, &b] {
        assert_eq!(
            recovery(node),
            RecoveryView::default(),
            "nothing had to be mended"
        );
    }
    assert_memory_idle(&a, &b);
    assert!(a.is_running() && b.is_running());
}

#[test]
fn a_program_that_was_taken_off_is_attached_again() {
    let lab = Lab::new(Plan::xdp());
    let (a, b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    for (interface, times) in [("ua", 1), ("omni0-xdp", 2)] {
        take_program_off(&lab.a, interface);
        wait_until("the program is on it", seconds(2), || {
            program_on(&lab.a, interface).is_some()
        });
        ping_all(&lab.a, inner_b(), "");
        ping_all(&lab.b, inner_a(), "");
        wait_until("it is counted", seconds(1), || {
            recovery(&a).reattached == times
        });
    }
    assert_eq!(recovery(&a).reopened, 0, "sockets stay");
    assert_memory_idle(&a, &b);
}

/// While the engine is stopped, so that it cannot be before the other.
#[test]
fn another_program_is_told_of_and_when_it_goes_the_own_one_is_attached_again() {
    let lab = Lab::new(Plan::xdp());
    let (a, _b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    a.signal(Signal::STOP);
    take_program_off(&lab.a, "ua");
    let other = lab.a.enter(|| {
        let mut other = Redirect::load(Kind::Access).expect("a program");
        other.attach("ua", Mode::Native).expect("nobody holds it");
        other
    });
    a.signal(Signal::CONT);
    wait_until("it is told of", seconds(3), || {
        let log = a.log();
        log.contains("another XDP program, number") && log.contains("interface=\"ua\"")
    });
    assert!(!reaches(&lab.a, inner_b()), "the other program drops all");
    drop(other);
    resumes(&lab.a, inner_b(), seconds(3));
    assert_eq!(recovery(&a).reattached, 1);
}

/// Sends some 20,000 datagrams a second to an address for a while.
fn flood(from: &Namespace, target: IpAddr, span: Duration) {
    let socket = from.enter(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
    let end = Instant::now() + span;
    while Instant::now() < end {
        for _ in 0..20 {
            // Refused by who has no such port, and sent for that.
            let _ = socket.send_to(&[0; 1300], (target, 9));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Its rings are full and its fill rings empty all the while.
#[test]
fn a_stopped_engine_under_load_goes_on_where_it_was() {
    let lab = Lab::alone(Plan::xdp());
    let (mut a, mut b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    let before = b.show();
    b.signal(Signal::STOP);
    flood(&lab.a, inner_b(), seconds(5));
    b.signal(Signal::CONT);
    let went_on = Instant::now();
    resumes(&lab.a, inner_b(), seconds(1));
    assert!(went_on.elapsed() < seconds(2));
    let after = b.show();
    let dry = |show: &omni_engine::show::Show| {
        let reasons = ["fill_ring_empty", "rx_ring_full"];
        let counts = reasons.iter().filter_map(|reason| show.drops.get(*reason));
        counts.sum::<u64>()
    };
    assert!(
        dry(&after) > dry(&before),
        "no ring ran dry: {:?}",
        after.drops
    );
    assert_eq!(after.recovery, RecoveryView::default(), "nobody is accused");
    assert!(!b.log().contains("does not come round"), "{}", b.log());
    assert!(a.is_running() && b.is_running());
    assert_memory_idle(&a, &b);
}

#[test]
fn receive_queues_that_are_added_are_served() {
    let lab = Lab::new(Plan {
        queues: 2,
        ..Plan::default()
    });
    let channels = |count: u32| {
        // With a program on it, a veth has to have as many to receive as its peer to send.
        let order = if count > 1 {
            ["rx", "tx"]
        } else {
            ["tx", "rx"]
        };
        for (kind, side) in order
            .into_iter()
            .flat_map(|kind| [(kind, Side::A), (kind, Side::B)])
        {
            let what = format!("-L u{} {kind} {count}", side.name());
            let set = lab.namespace(side).run("ethtool", &what);
            assert!(set.status.success(), "{what}: {set:?}");
        }
    };
    channels(1);
    let (a, b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    let served = |node: &Node, name: &str| {
        let queues = node.show().queues;
        queues.iter().filter(|queue| queue.port == name).count()
    };
    assert_eq!([served(&a, "ua"), served(&b, "ub")], [1, 1]);
    let received = a.show().queues[0].rx_frames;
    channels(2);
    for (node, name) in [(&a, "ua"), (&b, "ub")] {
        wait_until("both queues are served", seconds(3), || {
            served(node, name) == 2
        });
    }
    ping_all(&lab.a, inner_b(), "");
    ping_all(&lab.b, inner_a(), "");
    let report = iperf(&lab.a, (&lab.b, inner_b()), "-t 1 -P 4");
    assert!(crate::support::tools::tcp_rate(&report) > 10.0, "{report}");
    assert!(a.show().queues[0].rx_frames > received, "counts go on");
    assert_memory_idle(&a, &b);
}

/// A debugger holds a worker: that is told within two seconds, and nothing more comes of it.
#[test]
fn a_worker_that_is_held_is_noticed_and_not_given_up() {
    let lab = Lab::new(Plan::default());
    let (mut a, _b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    let thread = a.worker_thread();
    let began = Instant::now();
    let mut noticed = None;
    std::thread::scope(|scope| {
        let holding = scope.spawn(|| hold_thread(thread, 12));
        wait_until("it is noticed", seconds(4), || {
            a.log().contains("does not come round")
        });
        noticed = Some(began.elapsed());
        holding.join().expect("it was held");
    });
    let noticed = noticed.expect("it was");
    // It may have slept for a second before.
    assert!(noticed < Duration::from_millis(3_300), "after {noticed:?}");
    wait_until("it goes on", seconds(2), || {
        a.log().contains("a worker goes on")
    });
    assert!(
        a.log().contains("or is held: it is waited for"),
        "{}",
        a.log()
    );
    assert!(a.is_running());
    assert_eq!(recovery(&a).worker_stalls, 1);
    resumes(&lab.a, inner_b(), seconds(2));
}

/// It takes processor time and does nothing: the node ends, and leaves nothing behind.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_worker_that_runs_in_a_circle_ends_the_node() {
    let lab = Lab::new(Plan::xdp());
    let before = lab.a.inventory();
    // Before all others, it would keep them from the core for as long.
    let yaml = lab.spec(Side::A).yaml();
    let yaml = yaml.replace("poll: adaptive", "poll: adaptive, priority: normal");
    let (mut a, b) = (
        lab.spec(Side::A).start_with(&yaml),
        lab.spec(Side::B).start(),
    );
    ping_all(&lab.a, inner_b(), "");
    crate::support::meddle::send_thread_in_a_circle(a.worker_thread());
    wait_until("it is noticed", seconds(4), || {
        a.log().contains("does not come round")
    });
    let took = Instant::now();
    let status = a.wait_exit(seconds(15));
    assert_eq!(status.code(), Some(1), "as a supervisor starts it again");
    assert!(took.elapsed() < seconds(13), "{:?}", took.elapsed());
    assert!(
        a.log().contains("worker 0 does nothing any more"),
        "{}",
        a.log()
    );
    assert_eq!(lab.a.inventory(), before);
    let _a = lab.spec(Side::A).start();
    resumes(&lab.a, inner_b(), seconds(10));
    drop(b);
}

#[test]
fn a_service_manager_hears_every_second_that_all_is_well_and_nothing_of_a_node_that_is_held() {
    let lab = Lab::new(Plan::default());
    let path = lab.folder().join("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    let mut a = lab.spec(Side::A).spawn_notifying(&path);
    a.ready();
    let hear = |patience: Duration| {
        manager.set_read_timeout(Some(patience)).expect("a socket");
        let mut word = [0; 32];
        let len = manager.recv(&mut word).ok()?;
        Some(String::from_utf8_lossy(&word[..len]).into_owned())
    };
    assert_eq!(hear(seconds(1)).as_deref(), Some("READY=1"));
    for _ in 0..3 {
        assert_eq!(hear(seconds(2)).as_deref(), Some("WATCHDOG=1"));
    }
    a.signal(Signal::STOP);
    while hear(Duration::from_millis(100)).is_some() {}
    assert_eq!(hear(seconds(2)), None);
    a.signal(Signal::CONT);
    assert_eq!(hear(seconds(2)).as_deref(), Some("WATCHDOG=1"));
    assert!(a.terminate().success());
}

/// Of what cannot be had the first line says what it is and what helps.
#[test]
fn a_queue_that_another_has_and_memory_that_may_not_be_locked_are_named() {
    let lab = Lab::new(Plan::default());
    let a = lab.spec(Side::A).start();
    let second = lab.spec(Side::A);
    let yaml = second.yaml();
    let yaml = yaml
        .replace("a.sock", "second.sock")
        .replace("omni0", "omni1");
    let yaml = yaml.replace("interface: ua\n", "interface: ua\n  port: 51821\n");
    let mut node = second.spawn_with(&yaml);
    assert_eq!(node.wait_exit(seconds(8)).code(), Some(1));
    assert!(
        node.log().contains("cannot bind queue 0 of ua"),
        "{}",
        node.log()
    );
    assert!(
        node.log().contains("another process has this queue"),
        "{}",
        node.log()
    );
    drop(a);
    let mut node = second.spawn_with_limit("memlock=65536", "ipc_lock");
    assert_eq!(node.wait_exit(seconds(8)).code(), Some(1));
    assert!(
        node.log().contains("raise the memlock limit"),
        "{}",
        node.log()
    );
}
