//! Start, work, end, and start again.

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use omni_membership::Binding;
use omni_nucleus::protocol::{Refused, from_nucleus};
use omni_wire::reflection::{Answer, LEN, Probe};

use super::server::{Node, Server};

/// All bindings that a new node is told of.
fn bindings(server: &Server, node: u8) -> BTreeSet<(u64, String)> {
    let told = Node::connect(server, node).everything();
    let octets = told.into_iter().flat_map(|changes| changes.bindings);
    octets
        .map(|octets| {
            let binding = Binding::unverified(&octets).expect("a binding");
            (
                binding.sequence,
                binding.ip.expect("an address").to_string(),
            )
        })
        .collect()
}

#[test]
fn what_one_node_registers_another_is_told_at_once() {
    let server = Server::start();
    let [mut a, mut b] = [0, 1].map(|node| Node::connect(&server, node));
    assert!(
        b.everything()
            .iter()
            .all(|changes| changes.registrations.is_empty())
    );
    a.register(1);
    assert_eq!(a.answer().0, Refused::No);
    let told = b.everything();
    assert_eq!(
        told.iter()
            .map(|changes| changes.registrations.len())
            .sum::<usize>(),
        1
    );
    a.bind(0, 1, 1);
    assert_eq!(a.answer().0, Refused::No);
    assert_eq!(b.everything()[0].bindings.len(), 1);
    b.bind(0, 1, 2);
    assert_eq!(b.answer().0, Refused::Held);
}

#[test]
fn all_its_threads_may_do_little_whoever_started_it() {
    /// CAP_NET_BIND_SERVICE.
    const BIND: u64 = 1 << 10;
    let server = Server::start();
    let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).expect("it runs");
    let tasks: Vec<_> = tasks.flatten().collect();
    assert!(tasks.len() > 1, "the store has a thread of its own");
    for task in tasks {
        let status = fs::read_to_string(task.path().join("status")).expect("a status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.expect("a field").trim()
        };
        for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
            let held = u64::from_str_radix(field(set), 16).expect("hexadecimal");
            assert_eq!(held & !BIND, 0, "{set} {held:x}");
        }
        assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1", "2"));
    }
}

#[test]
fn what_was_acknowledged_is_there_after_it_was_killed() {
    let mut server = Server::start();
    let mut acknowledged = BTreeSet::new();
    for round in 0..4_u8 {
        let mut node = Node::connect(&server, round);
        node.register(u64::from(round) + 1);
        assert_eq!(node.answer().0, Refused::No);
        for last in 1..40 {
            node.bind(round, last, u64::from(last));
        }
        // It is killed in the midst of them.
        for _ in 0..20 {
            let Some(what) = node.hear() else { break };
            if let from_nucleus::What::Result(result) = what {
                assert_eq!(result.refused(), Refused::No);
                let last = result.number - 1;
                acknowledged.insert((last, format!("10.0.{round}.{last}")));
            }
        }
        server.kill();
        server.start_again();
        let stored = bindings(&server, 39);
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
}

#[test]
fn a_signal_ends_it_in_order_and_what_was_asked_is_answered() {
    let mut server = Server::start();
    let mut node = Node::connect(&server, 0);
    node.everything();
    for last in 1..30 {
        node.bind(0, last, 1);
    }
    assert!(node.is_answered() || node.hear().is_none());
    let status = server.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(!server.socket().exists(), "what it made is gone");
    let mut results = 0;
    while let Some(what) = node.hear() {
        results += u32::from(matches!(what, from_nucleus::What::Result(_)));
    }
    server.start_again();
    assert_eq!(bindings(&server, 1).len(), 29);
    assert!(results <= 29);
}

#[test]
fn two_servers_do_not_share_a_file_or_an_address() {
    let server = Server::start();
    let second = Command::new(env!("CARGO_BIN_EXE_omni-nucleus"))
        .arg("--config")
        .arg(server.config())
        .output();
    let second = second.expect("it runs");
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(text.contains("is in use"), "{text}");
}

#[test]
fn a_store_of_another_fabric_is_refused() {
    let mut server = Server::start();
    let mut node = Node::connect(&server, 0);
    node.everything();
    node.bind(0, 1, 1);
    assert_eq!(node.answer().0, Refused::No);
    assert_eq!(server.terminate().code(), Some(0));
    let text = fs::read_to_string(server.config()).expect("the configuration");
    fs::write(
        server.config(),
        text.replace("fabric: lab", "fabric: other"),
    )
    .expect("a change");
    let ended = Command::new(env!("CARGO_BIN_EXE_omni-nucleus"))
        .arg("--config")
        .arg(server.config())
        .output();
    let ended = ended.expect("it runs");
    assert_eq!(ended.status.code(), Some(1));
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(text.contains("the store is of the fabric"), "{text}");
}

#[test]
fn a_wrong_configuration_is_one_line_and_status_2() {
    let server = Server::start();
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omni-nucleus"));
        command.arg("--config").arg(server.config()).args(more);
        command.output().expect("it runs")
    };
    let good = run(&["--check"]);
    assert_eq!(good.status.code(), Some(0));
    let text = fs::read_to_string(server.config()).expect("the configuration");
    fs::write(server.config(), text.replace("fabric: lab", "fabric: \"\"")).expect("a change");
    for more in [&["--check"][..], &[]] {
        let bad = run(more);
        assert_eq!(bad.status.code(), Some(2));
        let text = String::from_utf8_lossy(&bad.stderr);
        let file = server.config();
        assert_eq!(
            text,
            format!(
                "{}:1: fabric: is empty, allowed is 1..=64 octets of UTF-8\n",
                file.display()
            )
        );
    }
}

#[test]
fn a_node_is_told_where_it_is_seen_and_nobody_else_is_answered() {
    let server = Server::start();
    let mut node = Node::connect(&server, 0);
    let Some(from_nucleus::What::Welcome(welcome)) = node.hear() else {
        panic!("a welcome first")
    };
    let token = welcome.token.try_into().expect("16 octets");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a time-out");
    let ask = |octets: &[u8]| socket.send_to(octets, server.address).expect("it is sent");
    let mut unknown: [u8; 16] = token;
    unknown[0] ^= 1;
    ask(&Probe { token: unknown }.emit());
    ask(&Probe { token }.emit()[..LEN - 1]);
    ask(&[&Probe { token }.emit()[..], b"more"].concat());
    ask(&Probe { token }.emit());
    let mut octets = [0; 100];
    let (len, from) = socket.recv_from(&mut octets).expect("an answer");
    assert_eq!((len, from), (LEN, server.address));
    let source = socket.local_addr().expect("an address");
    assert_eq!(
        Answer::parse(&octets[..len]),
        Some(Answer { token, source })
    );
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a time-out");
    assert!(
        socket.recv_from(&mut octets).is_err(),
        "only the one that was right is answered"
    );
}
