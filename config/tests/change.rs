//! What a running node is asked to do when its configuration changes.

use std::path::Path;

use omni_config::{Change, Config, Mtu, PeerChange, PeerPolicy, VlanSet, load_octets};

const KEYS: [&str; 3] = [
    "sX1z7M9W+19umpu3qvAr2Dzv8dzs0J6LdNlu1QWA1qA=",
    "p0iSNj8QjJO3g19nSPmtLB4+kkBALoKu6Q+p0OPRemg=",
    "0ER+NbrxgDVZiD/vYdf+W23KINDML6R9wqYIxHNbKbs=",
];

const BASE: &str = "\
fabric: lab
node: { name: alpha, private_key_file: alpha.key, state_file: alpha.state }
underlay: { interface: eth0, queues: [0, 1] }
access: [{ interface: omni0, addresses: [10.7.0.1/24] }]
workers: { cores: [1] }
peers:
  - name: beta
    public_key: \"sX1z7M9W+19umpu3qvAr2Dzv8dzs0J6LdNlu1QWA1qA=\"
    endpoint: \"192.0.2.2:51820\"
  - { name: gamma, public_key: \"p0iSNj8QjJO3g19nSPmtLB4+kkBALoKu6Q+p0OPRemg=\" }
control: { socket: alpha.sock }
";

/// Key files: each holds the key that its name says, and `other.key` another one.
fn load(text: &str) -> Config {
    let key = |path: &Path| {
        let which = usize::from(path.ends_with("other.key"));
        Ok(KEYS[which].as_bytes().to_vec())
    };
    load_octets(Path::new("fabric.yaml"), text.as_bytes(), &key).expect("a good configuration")
}

fn change(from: &str, to: &str) -> Change {
    let (old, new) = (load(BASE), load(&BASE.replace(from, to)));
    assert_ne!(BASE, BASE.replace(from, to), "{from} is in the file");
    old.change_to(&new).expect("a running node can follow")
}

fn public_key(which: usize) -> [u8; 32] {
    load(BASE).peers[which].public_key
}

#[test]
fn the_same_file_asks_for_nothing() {
    let config = load(BASE);
    assert!(config.change_to(&config).expect("no change").is_empty());
    let reordered = load(BASE).change_to(&load(&BASE.replace("lab\n", "lab  # remark\n")));
    assert!(reordered.expect("no change").is_empty());
}

#[test]
fn peers_are_told_apart_by_their_keys() {
    let gone =
        "  - { name: gamma, public_key: \"p0iSNj8QjJO3g19nSPmtLB4+kkBALoKu6Q+p0OPRemg=\" }\n";
    let removed = change(gone, "");
    assert_eq!(removed.removed, [public_key(1)]);
    assert!(removed.added.is_empty() && removed.changed.is_empty());

    let added = change(
        "peers:\n",
        &format!(
            "peers:\n  - {{ name: delta, public_key: \"{}\" }}\n",
            KEYS[2]
        ),
    );
    assert_eq!(added.added.len(), 1);
    assert_eq!(added.added[0].name, "delta");
    assert!(added.removed.is_empty() && added.changed.is_empty());

    let other_key = change(KEYS[1], KEYS[2]);
    assert_eq!(
        other_key.removed,
        [public_key(1)],
        "another key is another peer"
    );
    assert_eq!(other_key.added[0].name, "gamma");
}

#[test]
fn only_what_differs_of_a_peer_is_named() {
    let unchanged = |which| PeerChange {
        public_key: public_key(which),
        name: None,
        endpoint: None,
        preshared_key: None,
        policy: None,
    };
    let moved = change("192.0.2.2:51820", "192.0.2.3:51820");
    let endpoint = Some("192.0.2.3:51820".parse().ok());
    assert_eq!(
        moved.changed,
        [PeerChange {
            endpoint,
            ..unchanged(0)
        }]
    );

    let silent = change("    endpoint: \"192.0.2.2:51820\"\n", "");
    let endpoint = Some(None);
    assert_eq!(
        silent.changed,
        [PeerChange {
            endpoint,
            ..unchanged(0)
        }]
    );

    let renamed = change("gamma", "delta");
    let name = Some("delta".to_owned());
    assert_eq!(
        renamed.changed,
        [PeerChange {
            name,
            ..unchanged(1)
        }]
    );

    let with_secret = change("name: gamma", "name: gamma, preshared_key_file: g.psk");
    let [only] = &with_secret.changed[..] else {
        panic!("one peer changed: {with_secret:?}");
    };
    assert!(matches!(only.preshared_key, Some(Some(_))));
    assert_eq!((&only.name, only.endpoint), (&None, None));
}

#[test]
fn what_a_peer_may_do_is_followed_as_a_whole() {
    let mut vlans = VlanSet::none();
    vlans.insert(7);
    let policy = PeerPolicy {
        vlans: VlanSet::all(),
        macs_max: 1024,
        addresses_max: 1024,
        bum_pps: Some(1000),
    };
    let cases = [
        (
            "vlans: [7]",
            PeerPolicy {
                vlans,
                ..policy.clone()
            },
        ),
        (
            "macs_max: 5",
            PeerPolicy {
                macs_max: 5,
                ..policy.clone()
            },
        ),
        (
            "addresses_max: 6",
            PeerPolicy {
                addresses_max: 6,
                ..policy.clone()
            },
        ),
        (
            "bum_pps: off",
            PeerPolicy {
                bum_pps: None,
                ..policy.clone()
            },
        ),
    ];
    for (key, policy) in cases {
        let changed = change("name: gamma", &format!("name: gamma, {key}"));
        let expected = PeerChange {
            public_key: public_key(1),
            name: None,
            endpoint: None,
            preshared_key: None,
            policy: Some(policy),
        };
        assert_eq!(changed.changed, [expected], "{key}");
        assert!(changed.added.is_empty() && changed.removed.is_empty());
    }
    // The defaults written out are no change.
    let same = "name: gamma, vlans: [0-4094], macs_max: 1024, bum_pps: 1000";
    assert!(change("name: gamma", same).is_empty());
}

#[test]
fn mtus_are_followed_port_by_port() {
    let ports = |mtus: [&str; 3]| {
        let port = |(n, mtu)| format!("{{ interface: omni{n}, mtu: {mtu} }}");
        let ports: Vec<String> = mtus.into_iter().enumerate().map(port).collect();
        let access = format!("access: [{}]", ports.join(", "));
        load(&BASE.replace(
            "access: [{ interface: omni0, addresses: [10.7.0.1/24] }]",
            &access,
        ))
    };
    let old = ports(["auto", "1300", "1400"]);
    let change = old.change_to(&ports(["1200", "1300", "auto"]));
    let mtus = change.expect("a running node can follow").mtus;
    assert_eq!(mtus, [(0, Mtu::Octets(1200)), (2, Mtu::Auto)]);
    let same = old.change_to(&ports(["auto", "1300", "1400"]));
    assert!(same.expect("no change").is_empty());
}

#[test]
fn static_entries_stay_with_the_peer_whatever_it_is_called() {
    let entry = |peer: &str| {
        format!("switch: {{ static: [{{ mac: \"02:00:00:00:00:01\", peer: {peer} }}] }}\n")
    };
    let old = load(&format!("{BASE}{}", entry("beta")));
    let renamed = BASE.replace("name: beta", "name: delta");
    let change = old.change_to(&load(&format!("{renamed}{}", entry("delta"))));
    let change = change.expect("a running node can follow");
    assert_eq!(change.changed[0].name.as_deref(), Some("delta"));

    let swapped = BASE.replace(KEYS[0], "?").replace(KEYS[1], KEYS[0]);
    let swapped = swapped.replace('?', KEYS[1]);
    let other_key = BASE.replace(KEYS[0], KEYS[2]);
    for text in [swapped.as_str(), other_key.as_str()] {
        let refused = old.change_to(&load(&format!("{text}{}", entry("beta"))));
        assert_eq!(refused.expect_err("another peer").0, ["switch.static"]);
    }
    let moved = old.change_to(&load(&format!("{BASE}{}", entry("gamma"))));
    assert_eq!(moved.expect_err("another peer").0, ["switch.static"]);
    let gone = old.change_to(&load(BASE));
    assert_eq!(gone.expect_err("no entry").0, ["switch.static"]);
}

#[test]
fn names_keys_and_limits_are_followed() {
    assert!(change("fabric: lab", "fabric: office").identity);
    let key = change("alpha.key", "other.key");
    assert!(key.identity && key.changed.is_empty() && !key.name);
    let name = change("name: alpha", "name: omega");
    assert!(name.name && !name.identity);
    let mtu = change("omni0,", "omni0, mtu: 1300,");
    assert_eq!(mtu.mtus, [(0, Mtu::Octets(1300))]);
    let key = KEYS[0];
    let nucleus =
        format!("\nnucleus: [{{ endpoint: \"192.0.2.9:51821\", public_key: \"{key}\" }}]\ncontrol");
    let nucleus = change("\ncontrol", &nucleus);
    assert!(nucleus.nucleus && !nucleus.authority && nucleus.added.is_empty());
    let authority =
        format!("\nauthority: {{ public_key: \"{key}\", certificate_file: alpha.cert }}\ncontrol");
    assert!(change("\ncontrol", &authority).authority);
    assert!(change("eth0,", "eth0, endpoints: [\"192.0.2.7:51820\"],").endpoints);
    let filter = change("eth0,", "eth0, filter: off,");
    assert_eq!(filter.filter, Some(false));
}

#[test]
fn what_takes_a_restart_is_refused_by_name() {
    let cases = [
        ("interface: eth0", "interface: eth1", "underlay.interface"),
        ("eth0,", "eth0, port: 4000,", "underlay.port"),
        ("[0, 1]", "[0]", "underlay.queues"),
        ("eth0,", "eth0, xdp: generic,", "underlay.xdp"),
        ("eth0,", "eth0, zero_copy: off,", "underlay.zero_copy"),
        (
            "eth0,",
            "eth0, source_ports: per_lane,",
            "underlay.source_ports",
        ),
        ("omni0", "omni1", "access[].interface"),
        ("10.7.0.1/24", "10.7.0.9/24", "access[].addresses"),
        ("omni0,", "omni0, vlans: [7],", "access[].vlans"),
        ("omni0,", "omni0, vlan: 7,", "access[].vlan"),
        (
            "omni0,",
            "omni0, macs: [\"02:00:00:00:00:01\"],",
            "access[].macs",
        ),
        ("omni0,", "omni0, guard: [ra],", "access[].guard"),
        ("omni0,", "omni0, bum_pps: off,", "access[].bum_pps"),
        ("24] }]", "24] }, { interface: omni9 }]", "access"),
        (
            "alpha.sock }",
            "alpha.sock }\nswitch: { suppression: off }",
            "switch.suppression",
        ),
        (
            "alpha.sock }",
            "alpha.sock }\nswitch: { unknown_unicast: drop }",
            "switch.unknown_unicast",
        ),
        (
            "alpha.sock }",
            "alpha.sock }\nswitch: { multicast: flood }",
            "switch.multicast",
        ),
        (
            "alpha.sock }",
            "alpha.sock }\nswitch: { ageing: 60 }",
            "switch.ageing",
        ),
        (
            "alpha.sock }",
            "alpha.sock }\nswitch: { llc_snap: carry }",
            "switch.llc_snap",
        ),
        (
            "alpha.sock }",
            "alpha.sock }\nswitch: { dscp: 0 }",
            "switch.dscp",
        ),
        (
            "alpha.sock }",
            "alpha.sock }\nswitch: { mss_clamp: on }",
            "switch.mss_clamp",
        ),
        (
            "alpha.sock }",
            "alpha.sock }\nswitch: { path_mtu: off }",
            "switch.path_mtu",
        ),
        (
            "alpha.sock }",
            "alpha.sock }\nswitch: { static: [{ mac: \"02:00:00:00:00:01\", peer: beta }] }",
            "switch.static",
        ),
        ("cores: [1]", "cores: [0]", "workers.cores"),
        ("cores: [1]", "cores: [1], poll: spin", "workers.poll"),
        (
            "cores: [1]",
            "cores: [1], priority: normal",
            "workers.priority",
        ),
        ("alpha.sock", "beta.sock", "control.socket"),
        ("alpha.state", "beta.state", "node.state_file"),
    ];
    for (from, to, key) in cases {
        let refused = load(BASE).change_to(&load(&BASE.replace(from, to)));
        let refused = refused.expect_err(key);
        assert_eq!(refused.0, [key]);
        let text = refused.to_string();
        assert!(text.starts_with(key) && text.contains("restart"), "{text}");
    }
    let two = |vlan: u16| {
        let second = format!("}}, {{ interface: omni1, vlan: {vlan} }}]");
        let first = format!("omni0, vlan: {vlan},");
        load(&BASE.replace("omni0,", &first).replace("}]", &second))
    };
    let refused = two(7).change_to(&two(8)).expect_err("one key, two ports");
    assert_eq!(refused.0, ["access[].vlan"]);
    let both = BASE
        .replace("eth0", "eth1")
        .replace("alpha.sock", "beta.sock");
    let refused = load(BASE).change_to(&load(&both)).expect_err("two keys");
    assert_eq!(refused.0, ["underlay.interface", "control.socket"]);
}
