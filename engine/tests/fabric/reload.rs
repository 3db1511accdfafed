//! A configuration that changes under a running node.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omni_control::{PrivateKey, PublicKey};
use rustix::process::Signal;

use crate::support::lab::{Lab, Plan, Side, public_key};
use crate::support::node::{Node, NodeSpec};
use crate::support::tools::{Background, ping, ping_all, reaches, resumes};
use crate::support::{seconds, wait_until};

/// A key that nobody in the lab has.
const STRANGER: [u8; 32] = [99; 32];

fn inner_a() -> IpAddr {
    Side::A.inner_v4().into()
}

fn inner_b() -> IpAddr {
    Side::B.inner_v4().into()
}

/// Runs `omni reload`.
fn reload(spec: &NodeSpec) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omni"));
    command.args(["reload", "--socket"]).arg(spec.socket());
    command.output().expect("omni runs")
}

/// What it printed, which must be all it did.
pub(crate) fn reloaded(spec: &NodeSpec) -> String {
    let output = reload(spec);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// Why it was refused.
pub(crate) fn refused(spec: &NodeSpec) -> String {
    let output = reload(spec);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("text")
}

/// Writes a node's configuration with something of it replaced.
fn rewrite(spec: &NodeSpec, from: &str, to: &str) {
    let yaml = spec.yaml();
    assert!(yaml.contains(from), "{from}: {yaml}");
    write(spec, &yaml.replace(from, to));
}

fn write(spec: &NodeSpec, yaml: &str) {
    let path = spec.folder.join(format!("{}.yaml", spec.name));
    fs::write(path, yaml).expect("a configuration");
}

fn secret_file(spec: &NodeSpec, name: &str, octets: [u8; 32]) {
    let path = spec.folder.join(name);
    fs::write(&path, STANDARD.encode(octets)).expect("a key file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a private file");
}

/// A second peer, whom nobody ever hears of.
fn with_stranger(spec: &NodeSpec) -> String {
    let key = PublicKey::from_private(&PrivateKey(STRANGER));
    let yaml = spec.yaml();
    let others = yaml.split("peers:\n").nth(1).expect("peers");
    let endpoint = "192.0.2.77:51820";
    let stranger = format!("name: stranger, public_key: \"{key}\", endpoint: \"{endpoint}\"");
    format!("peers:\n  - {{ {stranger} }}\n{others}")
}

fn sessions_go_on(node: &Node, before: u64) {
    let peers = node.show().peers;
    let peer = peers.iter().find(|peer| peer.state == "established");
    let age = peer.and_then(|peer| peer.last_handshake_seconds);
    assert!(
        age >= Some(before),
        "the session is the one before: {peers:?}"
    );
}

#[test]
fn a_peer_is_added_and_removed_while_others_do_not_notice() {
    let lab = Lab::new(Plan::default());
    let (a, _b) = lab.start();
    let spec = lab.spec(Side::A);
    ping_all(&lab.a, inner_b(), "");
    std::thread::sleep(seconds(1));
    let age = a.peer().last_handshake_seconds.expect("a session");
    let yaml = spec.yaml();
    let head = yaml.split("peers:\n").next().expect("the rest");
    let control = format!("{head}{}", with_stranger(&spec));

    let quick = std::thread::scope(|scope| {
        let pings = scope.spawn(|| {
            let options = "-n -q -c 400 -i 0.002 -W 1 10.7.0.2";
            lab.a.run("ping", options)
        });
        for _ in 0..3 {
            write(&spec, &control);
            assert_eq!(reloaded(&spec), "peer stranger added\n");
            assert_eq!(a.show().peers.len(), 2);
            write(&spec, &yaml);
            assert_eq!(reloaded(&spec), "peer stranger removed\n");
        }
        pings.join().expect("pings")
    });
    let text = String::from_utf8_lossy(&quick.stdout).into_owned();
    assert!(text.contains("400 received"), "{text}");
    sessions_go_on(&a, age);
    assert_eq!(reloaded(&spec), "nothing changed\n");
}

#[test]
fn a_peer_that_is_removed_is_cut_off_at_once_and_comes_back_when_added() {
    let lab = Lab::new(Plan::default());
    let (a, _b) = lab.start();
    let spec = lab.spec(Side::A);
    ping_all(&lab.b, inner_a(), "");
    let yaml = spec.yaml();
    let head = yaml.split("peers:\n").next().expect("the rest");
    write(&spec, &format!("{head}control: {{ socket: a.sock }}\n"));
    assert_eq!(reloaded(&spec), "peer b removed\n");
    assert!(!reaches(&lab.b, inner_a()) && !reaches(&lab.a, inner_b()));
    let show = a.show();
    assert!(show.peers.is_empty());
    assert!(
        show.fdb
            .iter()
            .all(|entry| entry.owner.starts_with("local:")),
        "{:?}",
        show.fdb
    );
    write(&spec, &yaml);
    assert_eq!(reloaded(&spec), "peer b added\n");
    resumes(&lab.a, inner_b(), seconds(3));
    ping_all(&lab.b, inner_a(), "");
}

#[test]
fn an_endpoint_is_corrected() {
    let lab = Lab::new(Plan::default());
    let spec = lab.spec(Side::A);
    let _b = {
        // It does not know where a is: a must speak first.
        let b = lab.spec(Side::B);
        b.write();
        let endpoint = format!(", endpoint: \"{}\"", b.endpoint);
        b.start_with(&b.yaml().replace(&endpoint, ""))
    };
    let wrong = spec.yaml().replace("192.0.2.2:", "192.0.2.3:");
    let a = spec.start_with(&wrong);
    assert!(!reaches(&lab.a, inner_b()), "nobody is there");
    write(&spec, &spec.yaml());
    assert_eq!(reloaded(&spec), "peer b: endpoint 192.0.2.2:51820\n");
    resumes(&lab.a, inner_b(), seconds(7));
    assert_eq!(a.peer().endpoint.as_deref(), Some("192.0.2.2:51820"));
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_says_why() {
    let lab = Lab::new(Plan::default());
    let (a, _b) = lab.start();
    let spec = lab.spec(Side::A);
    ping_all(&lab.a, inner_b(), "");
    let before = a.peer();

    rewrite(
        &spec,
        "endpoint: \"192.0.2.2:51820\"",
        "endpoint: \"nowhere\"",
    );
    let why = refused(&spec);
    assert!(why.contains("a.yaml:15: peers[0].endpoint:"), "{why}");
    rewrite(&spec, "interface: ua", "interface: ub");
    let why = refused(&spec);
    assert!(
        why.contains("underlay.interface") && why.contains("restart"),
        "{why}"
    );
    let own = public_key(Side::A).to_string();
    rewrite(&spec, &public_key(Side::B).to_string(), &own);
    let why = refused(&spec);
    assert!(why.contains("own public key"), "{why}");
    rewrite(&spec, "mtu: auto", "mtu: 9000");
    let why = refused(&spec);
    assert!(why.contains("9000 does not fit"), "{why}");

    // A signal has no answer but the log.
    fs::remove_file(spec.folder.join("a.yaml")).expect("the file was there");
    a.signal(Signal::HUP);
    wait_until("the refusal is in the log", seconds(2), || {
        a.log().contains("a.yaml: cannot be read")
    });
    let refusals = a.log().matches("reload refused, nothing changed").count();
    assert_eq!(refusals, 5);
    ping_all(&lab.a, inner_b(), "");
    let after = a.peer();
    assert_eq!(
        (after.public_key, after.endpoint, after.name),
        (before.public_key, before.endpoint, before.name)
    );
    assert!(after.last_handshake_seconds >= before.last_handshake_seconds);
}

#[test]
fn a_signal_reloads_too() {
    let lab = Lab::new(Plan::default());
    let (a, _b) = lab.start();
    let spec = lab.spec(Side::A);
    rewrite(&spec, "{ name: b,", "{ name: beta,");
    a.signal(Signal::HUP);
    wait_until("the peer is renamed", seconds(2), || {
        a.peer().name == "beta"
    });
    assert!(
        a.log().contains("reload: peer b is called beta"),
        "{}",
        a.log()
    );
}

#[test]
fn preshared_keys_are_changed_one_side_after_the_other_without_a_loss() {
    let lab = Lab::new(Plan::default());
    let (a, b) = lab.start();
    ping_all(&lab.a, inner_b(), "");
    let traffic = Background::ping(&lab.b, inner_a());
    for (side, node) in [(Side::A, &a), (Side::B, &b)] {
        let spec = lab.spec(side);
        secret_file(&spec, "ab.psk", [42; 32]);
        let peer = format!("name: {},", spec.peer.0);
        rewrite(&spec, &peer, &format!("{peer} preshared_key_file: ab.psk,"));
        let text = reloaded(&spec);
        assert!(text.contains("another preshared key"), "{text}");
        ping_all(&lab.a, inner_b(), "");
        assert_eq!(node.peer().state, "established");
    }
    // A handshake under the common secret succeeds: within a retry and its jitter.
    wait_until("a session under the new secret", seconds(8), || {
        a.peer().last_handshake_seconds < Some(2)
    });
    ping_all(&lab.a, inner_b(), "");
    drop(traffic);
}

#[test]
fn a_node_takes_another_key() {
    let lab = Lab::new(Plan::default());
    let (a, b) = lab.start();
    let (spec_a, spec_b) = (lab.spec(Side::A), lab.spec(Side::B));
    ping_all(&lab.a, inner_b(), "");
    let new = PublicKey::from_private(&PrivateKey(STRANGER)).to_string();
    secret_file(&spec_a, "a.key", STRANGER);
    let text = reloaded(&spec_a);
    assert_eq!(text, format!("node.private_key_file: now {new}\n"));
    assert_eq!(a.show().node.public_key, new);
    assert!(!reaches(&lab.a, inner_b()), "b does not know this key");
    rewrite(&spec_b, &public_key(Side::A).to_string(), &new);
    let text = reloaded(&spec_b);
    assert_eq!(text, "peer a removed\npeer a added\n");
    resumes(&lab.b, inner_a(), seconds(7));
    ping_all(&lab.a, inner_b(), "");
    assert_eq!(b.peer().public_key, new);
}

#[test]
fn limits_are_changed() {
    let lab = Lab::new(Plan::default());
    let (_a, _b) = lab.start();
    let spec = lab.spec(Side::A);
    rewrite(&spec, "mtu: auto", "mtu: 1300");
    assert_eq!(reloaded(&spec), "access[0].mtu: 1300\n");
    assert_eq!(lab.a.mtu("omni0"), 1300);
    let options = "-M do -s 1272";
    assert_eq!(ping(&lab.a, inner_b(), options).0, 5);
    write(&spec, &spec.yaml());
    assert_eq!(reloaded(&spec), "access[0].mtu: 1426\n");
    assert_eq!(lab.a.mtu("omni0"), 1426);
    rewrite(&spec, "filter: on", "filter: off");
    assert_eq!(reloaded(&spec), "underlay.filter: off\n");
    ping_all(&lab.a, inner_b(), "");
    write(&spec, &spec.yaml());
    assert_eq!(reloaded(&spec), "underlay.filter: on\n");
    ping_all(&lab.a, inner_b(), "");
}
