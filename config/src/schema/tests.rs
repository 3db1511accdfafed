//! `KEYS.md` says what is read, and nothing that is read is ignored.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::{Config, ConfigError, PortVlans, VlanSet, load_octets};

const KEY_A: &str = "sX1z7M9W+19umpu3qvAr2Dzv8dzs0J6LdNlu1QWA1qA=";

/// Every key with the path of its mapping in front.
fn paths() -> Vec<(String, &'static Key)> {
    let path = |section: &Section, key: &Key| match section.path {
        "" => key.name.to_owned(),
        path => format!("{path}.{}", key.name),
    };
    let keys = |section: &&'static Section| {
        let section = *section;
        section
            .keys
            .iter()
            .map(move |key| (path(section, key), key))
    };
    ALL.iter().flat_map(keys).collect()
}

/// A file with a value for what is required, and `value` for the key at `path`.
fn file_with(path: &str, value: &str) -> String {
    let mapping = |section: &Section, required: &[(&str, &str)]| {
        let key = path
            .strip_prefix(section.path)
            .and_then(|rest| rest.strip_prefix('.'));
        let mut fields: Vec<_> = required
            .iter()
            .filter(|(name, _)| Some(*name) != key)
            .copied()
            .collect();
        fields.extend(key.map(|key| (key, value)));
        let fields: Vec<_> = fields.iter().map(|(k, v)| format!("{k}: {v}")).collect();
        format!("{{{}}}", fields.join(", "))
    };
    let quoted = format!("\"{KEY_A}\"");
    let endpoint = "\"192.0.2.1:1\"";
    let mut top = vec![
        ("fabric", "lab".to_owned()),
        (
            "node",
            mapping(
                &NODE,
                &[("name", "alpha"), ("private_key_file", "alpha.key")],
            ),
        ),
        ("underlay", mapping(&UNDERLAY, &[("interface", "eth0")])),
        (
            "access",
            format!("[{}]", mapping(&ACCESS, &[("interface", "omni0")])),
        ),
        ("workers", mapping(&WORKERS, &[])),
        ("switch", mapping(&SWITCH, &[])),
        ("control", mapping(&CONTROL, &[])),
    ];
    if path.starts_with("switch.static[].") {
        let required = [("mac", "\"02:00:00:00:00:01\""), ("interface", "omni0")];
        let entry = mapping(&STATIC, &required);
        top.retain(|(name, _)| *name != "switch");
        top.push(("switch", format!("{{static: [{entry}]}}")));
    }
    for (section, required) in [
        (&PEERS, [("name", "beta"), ("public_key", quoted.as_str())]),
        (
            &NUCLEUS,
            [("endpoint", endpoint), ("public_key", quoted.as_str())],
        ),
        (
            &AUTHORITY,
            [
                ("certificate_file", "a.cert"),
                ("public_key", quoted.as_str()),
            ],
        ),
    ] {
        let name = section.path.trim_end_matches("[]");
        let mapping = mapping(section, &required);
        match path.starts_with(&format!("{}.", section.path)) {
            true if name == section.path => top.push((name, mapping)),
            true => top.push((name, format!("[{mapping}]"))),
            false => {}
        }
    }
    top.retain(|(name, _)| *name != path);
    if !path.contains('.') {
        top.push((path, value.to_owned()));
    }
    top.iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect()
}

fn load(text: &str) -> Result<Config, ConfigError> {
    let key = |_: &Path| Ok(KEY_A.as_bytes().to_vec());
    load_octets(Path::new("fabric.yaml"), text.as_bytes(), &key)
}

#[test]
fn keys_md_documents_exactly_the_keys_that_are_read() {
    let text = include_str!("../../KEYS.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<_> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 7, "{row}");
            assert!(
                cells.iter().skip(1).take(5).all(|cell| !cell.is_empty()),
                "{row}"
            );
            (cells[1].trim_matches('`').to_owned(), cells[2], cells[4])
        })
        .collect();
    let read: BTreeSet<_> = paths()
        .into_iter()
        .map(|(path, key)| (path, key.default, key.allowed))
        .collect();
    let only_in = |a: &BTreeSet<_>, b: &BTreeSet<_>| a.difference(b).cloned().collect::<Vec<_>>();
    assert_eq!(
        only_in(&documented, &read),
        [],
        "documented, but not so in the schema"
    );
    assert_eq!(
        only_in(&read, &documented),
        [],
        "in the schema, but not so documented"
    );
}

#[test]
fn no_key_is_accepted_and_then_ignored() {
    for (path, key) in paths() {
        // No key takes a list of a list.
        let error = load(&file_with(&path, "[[]]")).expect_err(&path);
        let at = error.key().unwrap_or_default().replace("[0]", "[]");
        let at = at
            .strip_suffix("[]")
            .filter(|at| *at == path)
            .unwrap_or(&at);
        assert_eq!(at, path, "{error}");
        if key.default == REQUIRED {
            let text = file_with(&path, "~").replace(&format!("{}: ~", key.name), "");
            let error = load(&text.replace(", }", "}")).expect_err(&path);
            assert!(
                error.what().starts_with("is required and missing"),
                "{path}: {error}"
            );
        }
    }
}

#[test]
fn defaults_are_what_they_are_said_to_be() {
    let plain = load(&file_with("peers", "[]")).expect("the least file is right");
    let with_peer = load(&file_with("peers[].name", "beta")).expect("a peer");
    let with_static = load(&file_with("switch.static[].interface", "omni0")).expect("an entry");
    for (path, key) in paths() {
        let takes_list = ["peers", "nucleus"].contains(&path.as_str())
            || ["addresses", "guard", "static"].contains(&key.name);
        let default = match key.default {
            REQUIRED => continue,
            "none" if takes_list => "[]".to_owned(),
            // There is no way to write it but to leave the key out.
            "none" | "as driver" => continue,
            "all its defaults" => "{}".to_owned(),
            default => default.replace("<node.name>", "alpha"),
        };
        let config = load(&file_with(&path, &default)).expect(&path);
        let expected = match &path {
            path if path.starts_with("peers[].") => &with_peer,
            path if path.starts_with("switch.static[].") => &with_static,
            _ => &plain,
        };
        assert_eq!(config, *expected, "{path}");
    }
    assert!(plain.authority.is_none() && plain.control.metrics.is_none());
    let peer = &with_peer.peers[0];
    assert!(peer.endpoint.is_none() && peer.preshared_key.is_none());
    assert_eq!(plain.access[0].vlans, PortVlans::Trunk(VlanSet::all()));
}
