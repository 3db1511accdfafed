//! What the operator asks.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omni_membership::Revocation;
use omni_nucleus::protocol::{Refused, from_nucleus};
use omni_nucleus::show::{Bindings, Change, Command, Members, Status};
use serde_json::Value;

use super::server::{Node, PATIENCE, Server, authority, fabric, public};

fn ask(server: &Server, command: &Command) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(server.socket()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let line = serde_json::to_string(command).expect("JSON") + "\n";
    stream.write_all(line.as_bytes()).expect("it is sent");
    BufReader::new(stream)
}

fn line(reader: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    line
}

fn answer<T: serde::de::DeserializeOwned>(server: &Server, command: &Command) -> T {
    let line = line(&mut ask(server, command));
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn members_bindings_and_status_are_shown_to_the_owner_only() {
    let server = Server::start();
    let mode = fs::metadata(server.socket())
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut node = Node::connect(&server, 0);
    node.register(1);
    assert_eq!(node.answer().0, Refused::No);
    node.bind(0, 1, 1);
    assert_eq!(node.answer().0, Refused::No);
    let members: Members = answer(&server, &Command::Members);
    let [member] = &members.members[..] else {
        panic!("one member: {members:?}")
    };
    assert_eq!(
        (member.name.as_str(), member.presence.as_str()),
        ("node-0", "here")
    );
    assert_eq!(
        (member.public_key.as_str(), member.bindings),
        (&*public(0).to_string(), 1)
    );
    let bindings: Bindings = answer(&server, &Command::Bindings);
    assert_eq!(bindings.bindings[0].ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(bindings.bindings[0].name.as_deref(), Some("node-0"));
    let status: Status = answer(&server, &Command::Status);
    assert!(status.loaded);
    assert_eq!(
        (status.connections, status.members, status.bindings),
        (1, 1, 1)
    );
    assert_eq!(status.counters["accepted"], 2);
    let mut stream = UnixStream::connect(server.socket()).expect("a connection");
    stream
        .write_all(b"{\"command\":\"dance\"}\n")
        .expect("it is sent");
    let refused: Value = serde_json::from_str(&line(&mut BufReader::new(stream))).expect("JSON");
    assert!(
        refused["error"]
            .as_str()
            .is_some_and(|error| error.contains("dance"))
    );
}

#[test]
fn a_watch_goes_on_with_what_changes() {
    let server = Server::start();
    let mut node = Node::connect(&server, 0);
    node.register(1);
    assert_eq!(node.answer().0, Refused::No);
    let mut watch = ask(&server, &Command::Watch);
    let change = |watch: &mut _| serde_json::from_str(&line(watch)).expect("a change");
    assert!(matches!(change(&mut watch), Change::Member(it) if it.name == "node-0"));
    node.bind(0, 1, 1);
    assert_eq!(node.answer().0, Refused::No);
    assert!(matches!(change(&mut watch), Change::Binding(it) if !it.withdrawn));
}

#[test]
fn a_revocation_is_stored_and_told() {
    let server = Server::start();
    let mut node = Node::connect(&server, 0);
    node.everything();
    let revocation = Revocation {
        public_key: public(50),
        serial: 3,
        issued_at: 1,
        reason: "stolen".to_owned(),
    };
    let signed = revocation
        .sign(&fabric(), &authority())
        .expect("a revocation");
    let revoke = |octets: &[u8]| Command::Revoke {
        revocation: STANDARD.encode(octets),
    };
    let done: Value = answer(&server, &revoke(signed.octets()));
    assert!(done["done"].is_string(), "{done}");
    let told = loop {
        if let Some(from_nucleus::What::Changes(changes)) = node.hear() {
            break changes;
        }
    };
    assert_eq!(told.revocations, [signed.octets()]);
    let refused: Value = answer(&server, &revoke(b"nothing"));
    assert!(refused["error"].is_string(), "{refused}");
}

#[test]
fn a_backup_restores_what_was_and_nodes_are_told_that_it_is_another_life() {
    let mut server = Server::start();
    let mut node = Node::connect(&server, 0);
    let before = node.everything();
    node.bind(0, 1, 1);
    assert_eq!(node.answer().0, Refused::No);
    let copy = server.folder.path().join("copy.redb");
    let backup = |path: &std::path::Path| Command::Backup {
        path: path.display().to_string(),
    };
    let done: Value = answer(&server, &backup(&copy));
    assert!(done["done"].is_string(), "{done}");
    let refused: Value = answer(&server, &backup("copy.redb".as_ref()));
    assert!(refused["error"].is_string(), "{refused}");
    node.bind(0, 2, 1);
    assert_eq!(node.answer().0, Refused::No);
    assert_eq!(server.terminate().code(), Some(0));
    fs::rename(&copy, server.folder.path().join("nucleus.redb")).expect("it is restored");
    server.start_again();
    let told = Node::connect(&server, 1).everything();
    assert_eq!(
        told.iter()
            .map(|changes| changes.bindings.len())
            .sum::<usize>(),
        1
    );
    assert_ne!(told[0].incarnation, before[0].incarnation);
}

#[test]
fn metrics_are_served_over_http() {
    let server = Server::start();
    let _node = Node::connect(&server, 0);
    let get = |path: &str| {
        let mut stream = TcpStream::connect(server.metrics).expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it is sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    };
    let text = get("/metrics");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("\nomni_nucleus_loaded 1\n"), "{text}");
    assert!(
        text.contains("# TYPE omni_nucleus_accepted_total counter\n"),
        "{text}"
    );
    assert!(get("/").starts_with("HTTP/1.1 404 "));
}
