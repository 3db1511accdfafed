//! Every key of `fabric.yaml`: the one list that reading, errors and documentation share.
//!
//! Reading refuses what is not listed here, errors quote `allowed`, and a test holds `KEYS.md`
//! against all of it.

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// What holds when the key is absent; [`REQUIRED`] when it must not be.
    pub(crate) default: &'static str,
    /// The allowed values, as the end of a sentence.
    pub(crate) allowed: &'static str,
}

/// One mapping.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its dotted path with `[]` for the elements of a list; empty at the top level.
    pub(crate) path: &'static str,
    pub(crate) keys: &'static [Key],
}

/// The `default` of a key that must be there.
pub(crate) const REQUIRED: &str = "required";

/// Every mapping, the top level first.
pub(crate) const ALL: &[&Section] = &[
    &TOP, &NODE, &UNDERLAY, &ACCESS, &WORKERS, &PEERS, &NUCLEUS, &AUTHORITY, &CONTROL,
];

/// Names of nodes and peers.
const NAME: &str = "1..=64 of A-Z a-z 0-9 . _ -";
/// Names of interfaces, as Linux takes them.
const INTERFACE: &str =
    "1..=15 octets without white space, control characters, / : %, and not . or ..";
/// Outer addresses.
const ENDPOINT: &str = "IPv4:port or [IPv6]:port, a single host's address and a port 1..=65535";
/// Public keys.
const PUBLIC_KEY: &str = "32 octets in base64 (44 characters), not all zero";
/// Key files.
const KEY_FILE: &str = "a file of mode 0600 or 0400 that holds 32 octets in base64";

pub(crate) const TOP: Section = Section {
    path: "",
    keys: &[
        Key {
            name: "fabric",
            default: REQUIRED,
            allowed: "1..=64 octets of UTF-8",
        },
        Key {
            name: "node",
            default: REQUIRED,
            allowed: "a mapping of name, private_key_file",
        },
        Key {
            name: "underlay",
            default: REQUIRED,
            allowed: "a mapping of interface, port, ...",
        },
        Key {
            name: "access",
            default: REQUIRED,
            allowed: "a list of exactly one mapping",
        },
        Key {
            name: "workers",
            default: "all its defaults",
            allowed: "a mapping",
        },
        Key {
            name: "peers",
            default: "none",
            allowed: "a list of mappings",
        },
        Key {
            name: "nucleus",
            default: "none",
            allowed: "an empty list",
        },
        Key {
            name: "authority",
            default: "none",
            allowed: "to leave the key out",
        },
        Key {
            name: "control",
            default: "all its defaults",
            allowed: "a mapping",
        },
    ],
};

pub(crate) const NODE: Section = Section {
    path: "node",
    keys: &[
        Key {
            name: "name",
            default: REQUIRED,
            allowed: NAME,
        },
        Key {
            name: "private_key_file",
            default: REQUIRED,
            allowed: KEY_FILE,
        },
        Key {
            name: "state_file",
            default: "/var/lib/omni/<node.name>.state",
            allowed: "the name of a file",
        },
    ],
};

pub(crate) const UNDERLAY: Section = Section {
    path: "underlay",
    keys: &[
        Key {
            name: "interface",
            default: REQUIRED,
            allowed: INTERFACE,
        },
        Key {
            name: "port",
            default: "51820",
            allowed: "1..=65535",
        },
        Key {
            name: "queues",
            default: "auto",
            allowed: "auto, or a list of 1..=64 distinct numbers, each 0..=1023",
        },
        Key {
            name: "driver",
            default: "auto",
            allowed: "auto or afxdp",
        },
        Key {
            name: "xdp",
            default: "auto",
            allowed: "auto, native or generic",
        },
        Key {
            name: "zero_copy",
            default: "auto",
            allowed: "auto, on or off",
        },
        Key {
            name: "filter",
            default: "on",
            allowed: "on or off",
        },
        Key {
            name: "source_ports",
            default: "one",
            allowed: "one or per_lane",
        },
    ],
};

pub(crate) const ACCESS: Section = Section {
    path: "access[]",
    keys: &[
        Key {
            name: "interface",
            default: REQUIRED,
            allowed: INTERFACE,
        },
        Key {
            name: "driver",
            default: "auto",
            allowed: "auto or xdp",
        },
        Key {
            name: "addresses",
            default: "none",
            allowed: "a list of distinct IPv4/1..=32 or IPv6/1..=128, each an interface's own",
        },
        Key {
            name: "mtu",
            default: "auto",
            allowed: "auto or 576..=9578",
        },
    ],
};

pub(crate) const WORKERS: Section = Section {
    path: "workers",
    keys: &[
        Key {
            name: "cores",
            default: "auto",
            allowed: "auto, or a list of 1..=64 distinct numbers, each 0..=1023",
        },
        Key {
            name: "poll",
            default: "adaptive",
            allowed: "spin, adaptive or sleep",
        },
        Key {
            name: "priority",
            default: "auto",
            allowed: "auto, normal or realtime",
        },
    ],
};

pub(crate) const PEERS: Section = Section {
    path: "peers[]",
    keys: &[
        Key {
            name: "name",
            default: REQUIRED,
            allowed: NAME,
        },
        Key {
            name: "public_key",
            default: REQUIRED,
            allowed: PUBLIC_KEY,
        },
        Key {
            name: "endpoint",
            default: "none",
            allowed: ENDPOINT,
        },
        Key {
            name: "preshared_key_file",
            default: "none",
            allowed: KEY_FILE,
        },
    ],
};

pub(crate) const NUCLEUS: Section = Section {
    path: "nucleus[]",
    keys: &[
        Key {
            name: "endpoint",
            default: REQUIRED,
            allowed: ENDPOINT,
        },
        Key {
            name: "public_key",
            default: REQUIRED,
            allowed: PUBLIC_KEY,
        },
    ],
};

pub(crate) const AUTHORITY: Section = Section {
    path: "authority",
    keys: &[
        Key {
            name: "public_key",
            default: REQUIRED,
            allowed: PUBLIC_KEY,
        },
        Key {
            name: "certificate_file",
            default: REQUIRED,
            allowed: "the name of a file",
        },
    ],
};

pub(crate) const CONTROL: Section = Section {
    path: "control",
    keys: &[
        Key {
            name: "socket",
            default: "/run/omni/<node.name>.sock",
            allowed: "a path of 1..=107 octets",
        },
        Key {
            name: "metrics",
            default: "none",
            allowed: "to leave the key out",
        },
    ],
};

impl Section {
    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The names of all keys, as an error lists them.
    pub(crate) fn names(&self) -> String {
        self.keys
            .iter()
            .map(|key| key.name)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::{Config, ConfigError, load_octets};

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
            ("control", mapping(&CONTROL, &[])),
        ];
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
        let text = include_str!("../KEYS.md");
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
        let only_in =
            |a: &BTreeSet<_>, b: &BTreeSet<_>| a.difference(b).cloned().collect::<Vec<_>>();
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
        for (path, key) in paths() {
            let default = match key.default {
                REQUIRED => continue,
                "none" | "all its defaults" if path == "authority" => continue,
                "none" if path.starts_with("peers[]") || path == "control.metrics" => continue,
                "none" => "[]".to_owned(),
                "all its defaults" => "{}".to_owned(),
                default => default.replace("<node.name>", "alpha"),
            };
            let config = load(&file_with(&path, &default)).expect(&path);
            assert_eq!(config, plain, "{path}");
        }
        assert!(plain.authority.is_none() && plain.control.metrics.is_none());
        let peer = &load(&file_with("peers[].name", "beta"))
            .expect("a peer")
            .peers[0];
        assert!(peer.endpoint.is_none() && peer.preshared_key.is_none());
    }
}
