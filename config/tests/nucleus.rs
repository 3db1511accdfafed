//! `nucleus.yaml`: what is read, and what is said of what is wrong.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use omni_config::{MetricsAt, NucleusConfig, NucleusStore, load_nucleus};
use tempfile::TempDir;

/// 32 octets, the numbers 0 to 31.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

const LEAST: &str = "fabric: lab
private_key_file: nucleus.key
authority: \"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"
";

fn folder(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("nucleus.yaml");
    fs::write(&file, text).expect("the configuration is written");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode");
    };
    write("nucleus.key", KEY);
    write("etcd.password", "hunter2\n");
    write("etcd-ca.pem", "CA");
    write("nucleus.pem", "CERTIFICATE");
    write("nucleus-key.pem", "PRIVATE");
    (folder, file)
}

fn load(file: &Path) -> Result<NucleusConfig, String> {
    let is_authority = |key: &[u8; 32]| match key[0] {
        0 => Err("a weak one".to_owned()),
        _ => Ok(()),
    };
    load_nucleus(file, &is_authority).map_err(|error| error.to_string())
}

/// The error of the least file with more lines, without the folder's name.
fn error(more: &str) -> String {
    let (folder, file) = folder(&format!("{LEAST}{more}"));
    let path = format!("{}/", folder.path().display());
    load(&file).expect_err(more).replace(&path, "")
}

#[test]
fn the_least_file_has_the_documented_defaults() {
    let (_folder, file) = folder(LEAST);
    let config = load(&file).expect("it is right");
    assert_eq!(config.fabric, "lab");
    assert_eq!(config.listen.to_string(), "0.0.0.0:51821");
    assert_eq!(
        config.store,
        NucleusStore::Redb("/var/lib/omni/nucleus.redb".into())
    );
    assert_eq!(config.socket, Path::new("/run/omni/nucleus.sock"));
    assert!(config.metrics.is_none() && config.members.is_empty());
    let limits = config.limits;
    assert_eq!(
        (limits.bindings_per_node, limits.bindings_per_second),
        (1024, 100)
    );
    assert_eq!(
        (limits.messages_per_second, limits.connections),
        (200, 16384)
    );
    let text = LEAST.to_owned()
        + "listen: 0.0.0.0:51821\nstore: {redb: /var/lib/omni/nucleus.redb}\nmembers: []\n\
           control: {socket: /run/omni/nucleus.sock}\nlimits: {bindings_per_node: 1024, \
           bindings_per_second: 100, messages_per_second: 200, connections: 16384}\n";
    let (_folder, file) = folder(&text);
    assert_eq!(load(&file), Ok(config), "written down they are the same");
}

#[test]
fn the_example_loads() {
    let (_folder, file) = folder(include_str!("../nucleus.yaml"));
    let config = load(&file).expect("it is right");
    assert_eq!(config.members.len(), 1);
    let at = "127.0.0.1:9411".parse().expect("an address");
    assert_eq!(config.metrics, Some(MetricsAt::Tcp(at)));
}

#[test]
fn a_cluster_is_read_with_all_its_files() {
    let text = LEAST.to_owned()
        + "store: {etcd: {endpoints: [\"https://[2001:db8::1]:2379\"], user: nucleus, \
           password_file: etcd.password, ca_file: etcd-ca.pem, certificate_file: nucleus.pem, \
           key_file: nucleus-key.pem}}\n";
    let (_folder, file) = folder(&text);
    let config = load(&file).expect("it is right");
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("PRIVATE"),
        "{shown}"
    );
    let NucleusStore::Etcd(etcd) = config.store else {
        panic!("a cluster")
    };
    assert_eq!(etcd.endpoints, ["https://[2001:db8::1]:2379"]);
    let (user, password) = etcd.credentials.expect("credentials");
    assert_eq!((user.as_str(), password.as_str()), ("nucleus", "hunter2"));
    assert_eq!(etcd.authority.as_deref(), Some("CA"));
    let (chain, key) = etcd.certificate.expect("a certificate");
    assert_eq!((chain.as_str(), key.as_str()), ("CERTIFICATE", "PRIVATE"));
}

#[test]
fn what_is_wrong_is_said_in_one_line_with_its_place() {
    let cases = [
        (
            "listen: 10.0.0.1\n",
            "4: listen: \"10.0.0.1\" is not an address and port (its port is \
          missing), allowed is IPv4:port or [IPv6]:port, with a port 1..=65535",
        ),
        (
            "listen: 10.0.0.1:0\n",
            "4: listen: \"10.0.0.1:0\" has port 0, ",
        ),
        (
            "store: {redb: a, etcd: {endpoints: [\"http://a\"]}}\n",
            "4: store.etcd: both redb and \
          etcd are given, allowed is a mapping of endpoints, ..., in place of redb",
        ),
        (
            "store: {etcd: {}}\n",
            "4: store.etcd.endpoints: is required and missing",
        ),
        (
            "store: {etcd: {endpoints: []}}\n",
            "4: store.etcd.endpoints: the list is empty",
        ),
        (
            "store: {etcd: {endpoints: [\"a:1\"]}}\n",
            "4: store.etcd.endpoints[0]: \"a:1\" is no \
          URL of http or https",
        ),
        (
            "store: {etcd: {endpoints: [\"http://u@a\"]}}\n",
            "4: store.etcd.endpoints[0]: \
          \"http://u@a\" has more than a host and a port",
        ),
        (
            "store: {etcd: {endpoints: [\"https://a\"]}}\n",
            "4: store.etcd.ca_file: is missing",
        ),
        (
            "store: {etcd: {endpoints: [\"http://a\", \"https://b\"]}}\n",
            "4: \
          store.etcd.endpoints[1]: \"https://b\" is of the other kind",
        ),
        (
            "store: {etcd: {endpoints: [\"http://a\"], user: x}}\n",
            "4: store.etcd.user: it is \
          alone",
        ),
        (
            "store: {etcd: {endpoints: [\"http://a\"], key_file: nucleus-key.pem}}\n",
            "4: \
          store.etcd.key_file: it is alone",
        ),
        (
            "members: [x]\n",
            "4: members[0]: a text of 1 octets is not a key",
        ),
        (
            "limits: {bindings_per_node: 0}\n",
            "4: limits.bindings_per_node: 0 is out of range, \
          allowed is 1..=65536",
        ),
        (
            "limits: {connections: 70000}\n",
            "4: limits.connections: 70000 is out of range",
        ),
        (
            "endpoints: []\n",
            "4: endpoints: is not a key of this mapping (it belongs to \
          store.etcd)",
        ),
        ("control: {socket: \"\"}\n", "4: control.socket: is empty"),
        (
            "metrics: yes\n",
            "4: metrics: \"yes\" is not an address and port",
        ),
    ];
    for (more, expected) in cases {
        let error = error(more);
        assert!(
            error.starts_with(&format!("nucleus.yaml:{expected}")),
            "{error}"
        );
        assert!(
            !error.contains('\n') && error.contains("allowed"),
            "{error}"
        );
    }
}

#[test]
fn somebody_can_be_a_member_and_the_authority_is_a_key() {
    let without = "fabric: lab\nprivate_key_file: nucleus.key\n";
    let (_folder, file) = folder(without);
    let error = load(&file).expect_err("nobody");
    assert!(
        error.contains("authority: is missing, and members are listed nowhere"),
        "{error}"
    );
    let (_folder, file) = folder(&format!("{without}authority: \"{KEY}\"\n"));
    let error = load(&file).expect_err("weak");
    assert!(
        error.contains(":3: authority: the key is a weak one, allowed is an Ed25519"),
        "{error}"
    );
    let (_folder, file) = folder(&format!("{without}members: [\"{KEY}\", \"{KEY}\"]\n"));
    let error = load(&file).expect_err("twice");
    assert!(
        error.contains("members[1]: the public key of line 3 again"),
        "{error}"
    );
}

#[test]
fn files_that_others_may_read_hold_no_secrets() {
    let more =
        "store: {etcd: {endpoints: [\"http://a\"], user: x, password_file: etcd.password}}\n";
    let (folder, file) = folder(&format!("{LEAST}{more}"));
    let password = folder.path().join("etcd.password");
    fs::set_permissions(&password, Permissions::from_mode(0o644)).expect("a mode");
    let error = load(&file).expect_err("open");
    assert!(
        error.contains("is open to group or others (mode 0644)"),
        "{error}"
    );
}
