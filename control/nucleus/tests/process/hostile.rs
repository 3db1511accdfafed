//! Those who do not keep to the rules.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use omni_membership::PublicKey;
use omni_nucleus::protocol::{Ping, from_node};

use super::server::{FABRIC, Node, Server, dial, opening, receive, send, server_public};

/// How long it takes until the server closes a stream. Nothing may come before.
fn closed_after(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    stream
        .set_read_timeout(Some(Duration::from_secs(45)))
        .expect("a time-out");
    let mut octets = [0; 1];
    let read = stream.read(&mut octets);
    assert!(
        matches!(read, Ok(0))
            || read.is_err_and(|error| { error.kind() == std::io::ErrorKind::ConnectionReset })
    );
    start.elapsed()
}

#[test]
fn who_does_not_verify_is_closed_at_once_without_an_answer() {
    let server = Server::start();
    let (_, other_fabric) = opening("other", 0, &server_public());
    let (_, other_server) = opening(
        FABRIC,
        0,
        &PublicKey::from_private(&super::server::private(9)),
    );
    let (_, mut changed) = opening(FABRIC, 0, &server_public());
    changed[95] ^= 1;
    for first in [&other_fabric, &other_server, &changed] {
        let mut stream = dial(&server);
        send(&stream, first).expect("it is sent");
        assert!(closed_after(&mut stream) < Duration::from_secs(3));
    }
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0, 0],
        &[0xff; 70_000],
        &[0, 96, 1],
    ] {
        let mut stream = dial(&server);
        // It may be closed before all is sent.
        let _ = stream.write_all(garbage);
        let at_once = garbage != [0, 96, 1];
        assert_eq!(closed_after(&mut stream) < Duration::from_secs(3), at_once);
    }
    assert!(Node::connect(&server, 0).is_answered());
}

#[test]
fn who_is_slow_is_closed_in_time_and_hinders_nobody() {
    let server = Server::start();
    let mut silent = dial(&server);
    let silent = thread::spawn(move || closed_after(&mut silent));
    let mut drip = dial(&server);
    let (_, first) = opening(FABRIC, 1, &server_public());
    let drip = thread::spawn(move || {
        let start = Instant::now();
        for octet in [&[0, 96][..], &first].concat() {
            if drip.write_all(&[octet]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(500));
        }
        start.elapsed()
    });
    // Whose message arrives octet by octet, after the handshake.
    let mut slow = Node::connect(&server, 2);
    assert!(slow.is_answered());
    let slow = thread::spawn(move || {
        let start = Instant::now();
        let mut stream = &slow.stream;
        for octet in [0_u8, 200].into_iter().chain([7; 198]) {
            if stream.write_all(&[octet]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(500));
        }
        start.elapsed()
    });
    // Who says nothing any more.
    let mut idle = Node::connect(&server, 3);
    assert!(idle.is_answered());
    let idle = thread::spawn(move || {
        let start = Instant::now();
        while idle.hear().is_some() {}
        start.elapsed()
    });
    let mut good = Node::connect(&server, 0);
    for _ in 0..33 {
        assert!(good.is_answered());
        thread::sleep(Duration::from_secs(1));
    }
    let took = |thread: thread::JoinHandle<Duration>| thread.join().expect("no panic").as_secs();
    assert!((4..8).contains(&took(silent)));
    assert!((4..8).contains(&took(drip)));
    assert!((9..14).contains(&took(slow)));
    // The helper gives up after 20 s by itself, so it asks twice.
    assert!((19..34).contains(&took(idle)));
    assert!(good.is_answered());
}

#[test]
fn a_copied_first_message_neither_connects_nor_displaces() {
    let server = Server::start();
    let stream = dial(&server);
    let (opening, first) = opening(FABRIC, 0, &server_public());
    send(&stream, &first).expect("it is sent");
    let second = receive(&stream).expect("an answer");
    drop((opening, second, stream));
    let mut node = Node::connect(&server, 0);
    assert!(node.is_answered());
    let mut copy = dial(&server);
    send(&copy, &first).expect("it is sent");
    receive(&copy).expect("the server cannot tell yet");
    // A sealed message of another channel.
    let sealed = node.channel.seal(b"").expect("it fits");
    send(&copy, &sealed).expect("it is sent");
    assert!(closed_after(&mut copy) < Duration::from_secs(3));
    drop(node);
    let mut node = Node::connect(&server, 0);
    assert!(node.is_answered());
    let mut copy = dial(&server);
    send(&copy, &first).expect("it is sent");
    receive(&copy).expect("the server cannot tell yet");
    assert!(node.is_answered(), "the node stays");
    assert!(closed_after(&mut copy) < Duration::from_secs(8));
    assert!(node.is_answered());
}

#[test]
fn a_newer_connection_of_a_node_displaces_the_older_one() {
    let server = Server::start();
    let mut old = Node::connect(&server, 0);
    assert!(old.is_answered());
    let mut silent = Node::open(&server, 0);
    assert!(old.is_answered(), "the handshake alone does not");
    silent.say(from_node::What::Ping(Ping {}));
    while old.hear().is_some() {}
    let mut new = Node::connect(&server, 0);
    assert!(new.is_answered());
}

#[test]
fn no_source_has_more_than_64_unfinished_handshakes() {
    let server = Server::start();
    let waiting: Vec<_> = (0..64).map(|_| dial(&server)).collect();
    thread::sleep(Duration::from_millis(300));
    let mut more = dial(&server);
    assert!(closed_after(&mut more) < Duration::from_secs(3));
    drop(waiting);
    thread::sleep(Duration::from_millis(300));
    assert!(Node::connect(&server, 0).is_answered());
}

#[test]
fn a_message_that_is_none_ends_the_connection_and_an_unknown_one_does_not() {
    let server = Server::start();
    let mut node = Node::connect(&server, 0);
    // A field of a later version.
    let sealed = node
        .channel
        .seal(&[0xfa, 0x01, 0x01, 0x00])
        .expect("it fits");
    send(&node.stream, &sealed).expect("it is sent");
    assert!(node.is_answered());
    let sealed = node.channel.seal(&[0x0a, 0xff]).expect("it fits");
    send(&node.stream, &sealed).expect("it is sent");
    while node.hear().is_some() {}
    let mut other = Node::connect(&server, 1);
    assert!(other.is_answered());
}
