//! The log: its forms, and that nothing secret is ever in it.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::Value;

use crate::metrics::{scrape, with_metrics};
use crate::support::lab::{Lab, Plan, Side};
use crate::support::tools::ping_all;
use crate::support::{seconds, wait_until};

/// How a program might write octets by accident: as base64, in hexadecimal, as a list. Of each a
/// part is enough.
fn forms(secret: &[u8]) -> Vec<String> {
    let half = &secret[..secret.len() / 2];
    let hex: Vec<String> = half.iter().map(|octet| format!("{octet:02x}")).collect();
    let hex = hex.concat();
    let list: Vec<String> = half.iter().map(u8::to_string).collect();
    let base64 = STANDARD.encode(secret);
    vec![
        base64[..base64.len() / 2].to_owned(),
        hex.to_uppercase(),
        hex,
        list.join(", "),
        list.join(","),
    ]
}

fn octets(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
    let octets = pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal"));
    octets.collect()
}

#[test]
fn no_key_is_in_the_log_whatever_is_logged() {
    let lab = Lab::new(Plan::default());
    let preshared = [[0x5a_u8, 0xc3].repeat(16), [0x91_u8, 0x2e].repeat(16)];
    let key_log = lab.folder().join("sessions");
    let write_secret = |secret: &[u8]| {
        let path = lab.folder().join("pair.psk");
        fs::write(&path, STANDARD.encode(secret)).expect("a key file");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
    };
    write_secret(&preshared[0]);
    let nodes = [Side::A, Side::B].map(|side| {
        let spec = lab.spec(side);
        let config = spec.write();
        let more = ", preshared_key_file: pair.psk, endpoint:";
        let yaml = spec.yaml().replace(", endpoint:", more);
        fs::write(&config, yaml).expect("a configuration");
        let variable = format!("OMNI_KEYLOG={}", key_log.display());
        let mut node = spec.run_with_variable(&variable, &["--log-level", "trace"], &config);
        node.ready();
        node
    });
    ping_all(&lab.a, Side::B.inner_v4().into(), "");
    let known = || {
        let text = fs::read_to_string(&key_log).unwrap_or_default();
        text.lines().count()
    };
    let before = known();
    write_secret(&preshared[1]);
    for node in &nodes {
        node.answer("show");
        node.answer("stages");
        node.answer("reload");
        node.answer("no such command");
        node.signal(Signal::HUP);
    }
    wait_until("another preshared key is in use", seconds(5), || {
        known() > before
    });
    // Who goes before the answer comes is worth a line of the lowest levels.
    for node in &nodes {
        wait_until("a line of debug", seconds(5), || {
            let socket = lab.folder().join(format!("{}.sock", node.name()));
            let mut asking = UnixStream::connect(socket).expect("it listens");
            asking.write_all(b"{\"command\":\"show\"}\n").expect("sent");
            drop(asking);
            node.log().contains("DEBUG")
        });
    }
    let sessions = fs::read_to_string(&key_log).expect("the keys of sessions");
    let sessions = sessions
        .lines()
        .filter_map(|line| line.split(' ').nth(3))
        .map(octets);
    let private = [Side::A, Side::B].map(|side| lab.spec(side).private_key.0.to_vec());
    let secrets: Vec<Vec<u8>> = sessions.chain(private).chain(preshared).collect();
    let [a, b] = nodes;
    let logs = [a.log(), b.log()];
    assert!(a.terminate().success() && b.terminate().success());
    for log in &logs {
        for form in secrets.iter().flat_map(|secret| forms(secret)) {
            assert!(!log.contains(&form), "{form} is in the log:\n{log}");
        }
    }
}

#[test]
fn what_is_said_over_and_over_is_left_out_and_counted() {
    let lab = Lab::new(Plan::default());
    let spec = lab.spec(Side::A);
    let a = spec.start_with(&with_metrics(&spec, "./a.metrics"));
    fs::write(lab.folder().join("a.yaml"), "fabric: [").expect("a configuration");
    for _ in 0..15 {
        assert!(
            a.answer("reload").contains("error"),
            "it is no configuration"
        );
    }
    let refusals = a.log().matches("reload refused").count();
    assert_eq!(refusals, 10, "{}", a.log());
    let told = scrape(&lab.folder().join("a.metrics"), "*/*");
    assert!(told.contains("\nomni_log_left_out_total 5\n"), "{told}");
    assert!(a.terminate().success());
}

#[test]
fn a_log_of_json_has_an_object_a_line() {
    let lab = Lab::new(Plan::default());
    let spec = lab.spec(Side::A);
    let config = spec.write();
    let mut node = spec.run_with(&["--log-format", "json", "--log-level", "debug"], &config);
    wait_until("it is ready", seconds(10), || {
        assert!(node.is_running(), "{}", node.log());
        node.log().contains("\"message\":\"ready\"")
    });
    node.signal(Signal::TERM);
    assert!(node.wait_exit(seconds(5)).success());
    let log = node.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
    }
    let ready = lines.iter().find(|line| line["message"] == "ready");
    assert_eq!(ready.expect("it was ready")["node"], "a");
}
