//! Files on disk: the configuration itself, key files with their modes and owners, examples.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use omni_config::{
    AccessDriver, Config, Cores, Driver, Dscp, Guard, LlcSnap, Mtu, Multicast, Poll, PortMacs,
    PortVlans, Queues, SourcePorts, StaticEntry, StaticOwner, Switch, UnknownUnicast, VlanSet,
    XdpMode, ZeroCopy, load,
};
use tempfile::TempDir;

/// 32 octets, the numbers 0 to 31.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

const TEXT: &str = "fabric: lab
node:
  name: alpha
  private_key_file: alpha.key
underlay: {interface: eth0}
access: [{interface: omni0}]
";

/// A folder with a configuration and its key.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("fabric.yaml");
    fs::write(&file, TEXT).expect("the configuration is written");
    write_key(&folder.path().join("alpha.key"), 0o600);
    (folder, file)
}

fn write_key(path: &Path, mode: u32) {
    fs::write(path, format!("{KEY}\n")).expect("the key is written");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("the mode is set");
}

/// The error without the folder's name.
fn error_of(file: &Path) -> String {
    let folder = format!("{}/", file.parent().expect("a folder").display());
    load(file).map_or_else(|e| e.to_string().replace(&folder, ""), |_| "ok".to_owned())
}

fn key_error(what: &str) -> String {
    let allowed = "allowed is a file of mode 0600 or 0400 that holds 32 octets in base64";
    format!("fabric.yaml:4: node.private_key_file: alpha.key {what}, {allowed}")
}

#[test]
fn a_configuration_is_loaded_with_its_key_from_its_own_folder() {
    let (folder, file) = folder();
    let config = load(&file).expect("everything is right");
    let octets: Vec<u8> = (0..32).collect();
    assert_eq!(config.node.private_key.expose()[..], octets[..]);
    assert_eq!(
        config.node.private_key_file,
        folder.path().join("alpha.key")
    );
    assert_eq!(config.control.socket, Path::new("/run/omni/alpha.sock"));
    let shown = format!("{config:?}");
    assert!(
        shown.contains("SecretBytes32(..)") && !shown.contains("[0, 1, 2, 3"),
        "{shown}"
    );
}

#[test]
fn files_that_cannot_be_read_are_named_alone() {
    let (folder, file) = folder();
    let missing = folder.path().join("none.yaml");
    assert_eq!(
        error_of(&missing),
        "none.yaml: cannot be read: No such file or directory"
    );
    let directory = folder.path().join("directory.yaml");
    fs::create_dir(&directory).expect("a directory");
    let what = "is a directory, allowed is a regular file";
    assert_eq!(error_of(&directory), format!("directory.yaml: {what}"));
    let what = "is not a regular file, allowed is a regular file";
    assert_eq!(
        load(Path::new("/dev/zero")).unwrap_err().to_string(),
        format!("/dev/zero: {what}")
    );
    fs::write(&file, " ".repeat((1 << 20) + 1)).expect("a big file");
    assert_eq!(
        error_of(&file),
        "fabric.yaml: is too big, allowed are 1048576 octets"
    );
    fs::write(
        &file,
        format!("{TEXT}#{}", " ".repeat((1 << 20) - 1 - TEXT.len())),
    )
    .expect("a file");
    assert_eq!(error_of(&file), "ok");
}

#[test]
fn key_files_that_others_may_use_are_refused_with_the_remedy() {
    let (folder, file) = folder();
    let key = folder.path().join("alpha.key");
    for mode in [0o600, 0o400, 0o700, 0o200] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).expect("the mode is set");
        // Mode 0200 is unreadable to its owner, but not to root.
        let unreadable = key_error("cannot be read: Permission denied");
        let error = error_of(&file);
        assert!(
            error == "ok" || (mode == 0o200 && error == unreadable),
            "{mode:o}: {error}"
        );
    }
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).expect("the mode is set");
        let what = format!("is open to group or others (mode 0{mode:o}): chmod 600 alpha.key");
        assert_eq!(error_of(&file), key_error(&what));
    }
}

#[test]
fn key_files_of_another_user_are_refused() {
    let (folder, file) = folder();
    let key = folder.path().join("alpha.key");
    // Only root can give a file away; elsewhere there is nothing to test.
    if chown(&key, Some(12345), None).is_err() {
        return;
    }
    let what = "belongs to user 12345, not to user 0 or root: chown alpha.key";
    assert_eq!(error_of(&file), key_error(what));
}

#[test]
fn key_files_that_are_not_regular_or_hold_no_key_are_refused() {
    let (folder, file) = folder();
    let key = folder.path().join("alpha.key");
    let with = |content: &[u8]| {
        fs::write(&key, content).expect("the key is written");
        error_of(&file)
    };
    let no_key = key_error("holds no key (make one with omni keygen)");
    for content in [
        "",
        "\n",
        "hunter2",
        &KEY[..43],
        &format!("{KEY} {KEY}"),
        &format!("\"{KEY}\""),
    ] {
        assert_eq!(with(content.as_bytes()), no_key, "{content}");
    }
    assert_eq!(with(&[0xff; 32]), no_key);
    assert_eq!(
        with(&[b' '; 1025]),
        key_error("holds more than 1024 octets")
    );
    assert_eq!(with(format!(" \r\n{KEY}\r\n\n").as_bytes()), "ok");

    fs::remove_file(&key).expect("the key is removed");
    assert_eq!(
        error_of(&file),
        key_error("cannot be read: No such file or directory")
    );
    fs::create_dir(&key).expect("a directory");
    assert_eq!(
        error_of(&file),
        key_error("is a directory, allowed is a regular file")
    );
    fs::remove_dir(&key).expect("the directory is removed");
    symlink("/dev/zero", &key).expect("a link");
    assert_eq!(
        error_of(&file),
        key_error("is not a regular file, allowed is a regular file")
    );
}

#[test]
fn a_named_pipe_does_not_hold_the_program_up() {
    let (folder, file) = folder();
    let key = folder.path().join("alpha.key");
    fs::remove_file(&key).expect("the key is removed");
    let made = std::process::Command::new("mkfifo")
        .arg("-m")
        .arg("600")
        .arg(&key)
        .status();
    assert!(made.expect("mkfifo runs").success());
    assert_eq!(
        error_of(&file),
        key_error("is not a regular file, allowed is a regular file")
    );
}

/// Loads an example with keys made for every key file that it names.
fn example(name: &str) -> Config {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    let text = fs::read_to_string(source).expect("the example is there");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let names = text.lines().filter_map(|line| {
        let (_, value) = line.split_once("key_file:")?;
        value.split_whitespace().next()
    });
    for key_file in names {
        write_key(&folder.path().join(key_file), 0o600);
    }
    let file = folder.path().join(name);
    fs::write(&file, text).expect("the example is copied");
    load(&file).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_example_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(folder).expect("the examples are there");
    let names: Vec<_> = files
        .map(|file| {
            file.expect("a file")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        example(&name);
    }
}

#[test]
fn the_least_example_has_the_documented_defaults() {
    let config = example("minimal.yaml");
    let underlay = &config.underlay;
    assert_eq!((underlay.port, &underlay.queues), (51820, &Queues::Auto));
    assert_eq!(
        (underlay.xdp, underlay.zero_copy),
        (XdpMode::Auto, ZeroCopy::Auto)
    );
    assert_eq!(
        (underlay.driver, underlay.send, config.access[0].driver),
        (Driver::Afxdp, Driver::Afxdp, AccessDriver::Auto)
    );
    assert_eq!(
        (config.access[0].mtu, config.access[0].addresses.len()),
        (Mtu::Auto, 0)
    );
    assert_eq!(
        (&config.workers.cores, config.workers.poll),
        (&Cores::Auto, Poll::Adaptive)
    );
    assert!(underlay.filter);
    assert_eq!(underlay.source_ports, SourcePorts::One);
    let state = Path::new("/var/lib/omni/alpha.state");
    assert_eq!(config.node.state_file, state);
    assert!(config.peers.is_empty() && config.nucleus.is_empty() && config.authority.is_none());
}

#[test]
fn the_full_example_is_read_as_it_is_written() {
    let config = example("full.yaml");
    assert_eq!(
        (config.fabric.as_str(), config.node.name.as_str()),
        ("production", "rack7-host12")
    );
    let underlay = &config.underlay;
    assert_eq!(
        (underlay.interface.as_str(), underlay.port),
        ("enp65s0f0", 4790)
    );
    assert_eq!(underlay.queues, Queues::List(vec![0, 1, 2, 3]));
    assert_eq!(
        (underlay.xdp, underlay.zero_copy),
        (XdpMode::Native, ZeroCopy::On)
    );
    assert_eq!(underlay.source_ports, SourcePorts::PerLane);
    let [access, _] = &config.access[..] else {
        panic!("two access ports")
    };
    let addresses: Vec<_> = access.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.7.0.12/16", "fd00:7::12/64"]);
    assert_eq!(access.mtu, Mtu::Octets(8906));
    assert_eq!(config.workers.cores, Cores::List(vec![2, 3, 4, 5]));
    assert_eq!(config.workers.poll, Poll::Spin);
    let endpoints: Vec<_> = config
        .peers
        .iter()
        .map(|peer| peer.endpoint.map(|e| e.to_string()))
        .collect();
    let expected = [Some("192.0.2.13:4790"), Some("[2001:db8::8:1]:4790"), None];
    assert_eq!(endpoints, expected.map(|e| e.map(str::to_owned)));
    assert_eq!(config.peers[0].public_key[..2], [0xb1, 0x7d]);
    let keys: Vec<_> = config
        .peers
        .iter()
        .map(|peer| peer.preshared_key.is_some())
        .collect();
    assert_eq!(keys, [true, false, false]);
    assert_eq!(
        config.control.socket,
        Path::new("/run/omni/production.sock")
    );
}

#[test]
fn without_a_word_of_it_the_switch_carries_all_and_learns() {
    let config = example("two-hosts-alpha.yaml");
    let (access, peer) = (&config.access[0], &config.peers[0]);
    assert_eq!(access.vlans, PortVlans::Trunk(VlanSet::all()));
    assert_eq!(
        (&access.macs, access.guard),
        (&PortMacs::Learn, Guard::default())
    );
    assert_eq!(peer.vlans, VlanSet::all());
    assert_eq!((peer.macs_max, peer.addresses_max), (1024, 1024));
    assert_eq!((access.bum_pps, peer.bum_pps), (Some(1000), Some(1000)));
    let switch = Switch {
        suppression: true,
        unknown_unicast: UnknownUnicast::Flood,
        multicast: Multicast::Snoop,
        ageing: Duration::from_secs(300),
        llc_snap: LlcSnap::Drop,
        dscp: Dscp::Copy,
        mss_clamp: false,
        path_mtu: true,
        static_entries: Vec::new(),
    };
    assert_eq!(config.switch, switch);
}

#[test]
fn the_ports_and_peers_of_the_full_example_are_read_as_they_are_written() {
    let config = example("full.yaml");
    let [trunk, access] = &config.access[..] else {
        panic!("two access ports")
    };
    let PortVlans::Trunk(vlans) = &trunk.vlans else {
        panic!("a trunk: {:?}", trunk.vlans)
    };
    assert_eq!(vlans.to_string(), "0, 10, 100-200");
    assert_eq!((&trunk.macs, trunk.bum_pps), (&PortMacs::Learn, Some(5000)));
    assert_eq!(
        trunk.guard,
        Guard {
            ra: true,
            dhcp: false
        }
    );
    assert_eq!(
        (access.interface.as_str(), access.mtu),
        ("omni1", Mtu::Auto)
    );
    assert_eq!(access.vlans, PortVlans::Access(10));
    let macs = [1, 2].map(|last| [0x02, 0x00, 0x5e, 0x10, 0x00, last]);
    assert_eq!(access.macs, PortMacs::Only(macs.to_vec()));
    let (ra, dhcp) = (true, true);
    assert_eq!(access.guard, Guard { ra, dhcp });
    let peer = &config.peers[0];
    assert_eq!(
        (peer.vlans.to_string().as_str(), peer.bum_pps),
        ("0-99", None)
    );
    assert_eq!((peer.macs_max, peer.addresses_max), (4096, 8192));
}

#[test]
fn the_switch_of_the_full_example_is_read_as_it_is_written() {
    let entry = |last, vlan, owner, addresses: &[&str]| StaticEntry {
        mac: [0x02, 0x00, 0x5e, 0x10, 0x00, last],
        vlan,
        owner,
        addresses: addresses.iter().filter_map(|a| a.parse().ok()).collect(),
    };
    let at_port = StaticOwner::Interface("omni1".to_owned());
    let at_peer = StaticOwner::Peer("rack8-host1".to_owned());
    let switch = Switch {
        suppression: false,
        unknown_unicast: UnknownUnicast::Drop,
        multicast: Multicast::Flood,
        ageing: Duration::from_secs(600),
        llc_snap: LlcSnap::Carry,
        dscp: Dscp::Fixed(46),
        mss_clamp: true,
        path_mtu: false,
        static_entries: vec![
            entry(1, 10, at_port, &["10.8.0.1", "fd00:8::1"]),
            entry(9, 0, at_peer, &[]),
        ],
    };
    assert_eq!(example("full.yaml").switch, switch);
}

#[test]
fn both_sides_of_the_two_hosts_agree() {
    let [alpha, beta] = ["two-hosts-alpha.yaml", "two-hosts-beta.yaml"].map(example);
    assert_eq!(alpha.fabric, beta.fabric);
    assert_eq!(alpha.peers[0].name, beta.node.name);
    assert_eq!(beta.peers[0].name, alpha.node.name);
    assert_eq!(
        alpha.peers[0].endpoint.expect("alpha begins").port(),
        beta.underlay.port
    );
    assert_ne!(alpha.access[0].addresses, beta.access[0].addresses);
}

#[test]
fn the_full_example_shows_every_key() {
    let full = include_str!("../examples/full.yaml");
    let keys = include_str!("../KEYS.md")
        .lines()
        .filter(|line| line.starts_with("| `"));
    for row in keys {
        let path = row.split('`').nth(1).expect("a key in quotes");
        let name = path.rsplit('.').next().unwrap_or(path);
        let shows = |line: &str| line.trim_start_matches(['#', ' ', '-']).starts_with(name);
        assert!(full.lines().any(shows), "{path} is not in full.yaml");
    }
}
