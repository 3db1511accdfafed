//! A node that cannot start says why, with the right status, and touches nothing.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::lab::{Lab, PORT, Plan, Side};
use crate::support::netns::Namespace;
use crate::support::node::{NodeSpec, PROGRAM};
use crate::support::seconds;

fn run(namespace: &Namespace, config: &Path, option: &[&str]) -> Output {
    let mut command = namespace.command(PROGRAM);
    let output = command.arg("--config").arg(config).args(option).output();
    output.expect("the engine runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that a node does not start, says all of `words`, and leaves nothing.
fn assert_refused(lab: &Lab, spec: &NodeSpec, words: &[&str]) {
    let mut node = spec.spawn();
    let status = node.wait_exit(seconds(5));
    let log = node.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let line = log
        .lines()
        .find(|line| line.contains("ERROR"))
        .unwrap_or_default();
    assert!(
        words.iter().all(|word| line.contains(word)),
        "{words:?} are not in: {log}"
    );
    assert!(
        lab.a.link("omni0").is_none(),
        "an access port stays behind: {log}"
    );
    let programs = lab
        .a
        .links()
        .iter()
        .filter(|link| !link["xdp"].is_null())
        .count();
    assert_eq!(programs, 0, "a program stays behind: {log}");
    assert!(
        !spec.socket().exists(),
        "a control socket stays behind: {log}"
    );
}

#[test]
fn an_error_in_the_file_is_one_line_with_its_place_and_status_2() {
    let lab = Lab::new(Plan::default());
    let spec = lab.spec(Side::A);
    let config = spec.write();
    let yaml = spec.yaml().replace("poll: adaptive", "poll: hard");
    let line = 1 + yaml
        .lines()
        .position(|line| line.contains("hard"))
        .expect("the line");
    fs::write(&config, yaml).expect("a file");
    for option in [&[][..], &["--check"]] {
        let output = run(&lab.a, &config, option);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let start = format!("{}:{line}: workers.poll: ", config.display());
        assert!(
            said.starts_with(&start) && said.lines().count() == 1,
            "{said}"
        );
        assert!(said.contains("hard") && said.contains("adaptive"), "{said}");
    }
    fs::remove_file(&config).expect("a file");
    let output = run(&lab.a, &config, &[]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.starts_with(&format!("{}: ", config.display())),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(lab.a.link("omni0").is_none());
}

#[test]
fn checking_touches_nothing() {
    let lab = Lab::new(Plan::default());
    let spec = lab.spec(Side::A);
    let config = spec.write();
    let names = || lab.a.ip("-j link show");
    let before = names();
    let files = || fs::read_dir(lab.folder()).expect("the folder").count();
    let files_before = files();
    let output = run(&lab.a, &config, &["--check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!((names(), files()), (before, files_before));
}

#[test]
fn a_missing_underlay_is_named_by_its_key() {
    let lab = Lab::new(Plan::default());
    let spec = NodeSpec {
        underlay: "eth77".to_owned(),
        ..lab.spec(Side::A)
    };
    assert_refused(&lab, &spec, &["underlay.interface", "eth77"]);
}

#[test]
fn a_core_that_is_not_there_is_named_by_its_key() {
    let lab = Lab::new(Plan::default());
    let spec = NodeSpec {
        cores: "[1000]".to_owned(),
        ..lab.spec(Side::A)
    };
    assert_refused(&lab, &spec, &["workers.cores", "1000"]);
}

#[test]
fn an_mtu_that_does_not_fit_is_refused_with_what_would() {
    let lab = Lab::new(Plan::default());
    let spec = NodeSpec {
        mtu: "1427".to_owned(),
        ..lab.spec(Side::A)
    };
    assert_refused(&lab, &spec, &["access[0].mtu", "1427", "1426"]);
}

#[test]
fn a_port_in_use_is_named_by_its_key() {
    let lab = Lab::new(Plan::default());
    for address in ["0.0.0.0", "::"] {
        let socket = lab.a.enter(|| std::net::UdpSocket::bind((address, PORT)));
        let _socket = socket.expect("the port");
        let words = ["underlay.port", "51820", "in use"];
        assert_refused(&lab, &lab.spec(Side::A), &words);
    }
}

#[test]
fn a_second_node_on_the_same_control_socket_is_refused() {
    let lab = Lab::new(Plan::default());
    let first = lab.spec(Side::A).start();
    let mut second = lab.spec(Side::B);
    // The same name is the same socket, in another namespace.
    second.name = "a".to_owned();
    let mut second = second.spawn();
    assert_eq!(second.wait_exit(seconds(5)).code(), Some(1));
    let log = second.log();
    assert!(
        log.contains("control.socket") && log.contains("another engine"),
        "{log}"
    );
    assert!(lab.b.link("omni0").is_none(), "{log}");
    assert_eq!(first.show().node.name, "a", "the first is not disturbed");
}

#[test]
fn a_second_node_on_the_same_underlay_queue_is_refused_and_leaves_the_first_alone() {
    let lab = Lab::new(Plan::default());
    let (a, _b) = lab.start();
    let mut second = lab.spec(Side::A);
    // Its files are apart, and so would be its access port.
    second.folder = lab.folder().join("second");
    fs::create_dir(&second.folder).expect("a folder");
    second.access = "omni1".to_owned();
    second.addresses = Vec::new();
    let mut second = second.spawn();
    assert_eq!(second.wait_exit(seconds(5)).code(), Some(1));
    assert!(lab.a.link("omni1").is_none(), "{}", second.log());
    a.established();
    crate::support::tools::ping_all(&lab.a, Side::B.inner_v4().into(), "");
}
