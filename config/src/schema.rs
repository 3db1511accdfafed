//! Every key of `fabric.yaml`: the one list that reading, errors and documentation share.
//!
//! Reading refuses what is not listed here, errors quote `allowed`, and a test holds `KEYS.md`
//! against all of it. The keys of `nucleus.yaml` are in the module of that name.

pub(crate) mod nucleus;

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
    &TOP, &NODE, &UNDERLAY, &ACCESS, &WORKERS, &PEERS, &SWITCH, &STATIC, &NUCLEUS, &AUTHORITY,
    &CONTROL,
];

/// Every mapping of the file that a mapping is in.
pub(crate) fn of_file_with(section: &Section) -> &'static [&'static Section] {
    let is_it = |other: &&Section| (other.path, other.names()) == (section.path, section.names());
    match nucleus::ALL.iter().copied().any(|other| is_it(&other)) {
        true => nucleus::ALL,
        false => ALL,
    }
}

/// Names of nodes and peers.
pub(crate) const NAME: &str = "1..=64 of A-Z a-z 0-9 . _ -";
/// Names of interfaces, as Linux takes them.
const INTERFACE: &str =
    "1..=15 octets without white space, control characters, / : %, and not . or ..";
/// Outer addresses.
const ENDPOINT: &str = "IPv4:port or [IPv6]:port, a single host's address and a port 1..=65535";
/// Places of the node itself.
const ENDPOINTS: &str = "a list of at most 8 distinct endpoints, each IPv4:port or [IPv6]:port, a \
                         single host's address and a port 1..=65535";
/// Public keys.
pub(crate) const PUBLIC_KEY: &str = "32 octets in base64 (44 characters), not all zero";
/// Key files.
pub(crate) const KEY_FILE: &str = "a file of mode 0600 or 0400 that holds 32 octets in base64";
/// Sets of VLANs.
const VLANS: &str = "all, or a list of distinct numbers 0..=4094 and ranges such as 100-200";
/// MAC addresses.
pub(crate) const MAC: &str = "a unicast MAC address such as 02:00:5e:10:00:01, not all zero";
/// Where metrics are served.
pub(crate) const METRICS: &str =
    "a port 1..=65535, an address and port, or a path of 1..=107 octets with a / in it";
/// Rates of broadcast, unknown unicast and multicast.
const BUM_PPS: &str = "off or 1..=10000000";
/// Limits of what may be behind a peer.
const BEHIND: &str = "1..=65536";

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
            allowed: "a list of 1..=16 mappings",
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
            name: "switch",
            default: "all its defaults",
            allowed: "a mapping",
        },
        Key {
            name: "nucleus",
            default: "none",
            allowed: "a list of at most 8 mappings",
        },
        Key {
            name: "authority",
            default: "none",
            allowed: "a mapping of public_key, certificate_file",
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
            default: "afxdp",
            allowed: "auto, afxdp or udp",
        },
        Key {
            name: "send",
            default: "as driver",
            allowed: "auto, afxdp or udp",
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
        Key {
            name: "endpoints",
            default: "none",
            allowed: ENDPOINTS,
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
            allowed: "auto, xdp or tap",
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
        Key {
            name: "vlans",
            default: "all",
            allowed: VLANS,
        },
        Key {
            name: "vlan",
            default: "none",
            allowed: "1..=4094, in place of vlans",
        },
        Key {
            name: "macs",
            default: "learn",
            allowed: "learn, or a list of 1..=4096 distinct unicast MAC addresses, none all zero",
        },
        Key {
            name: "guard",
            default: "none",
            allowed: "a list of ra, dhcp or both",
        },
        Key {
            name: "bum_pps",
            default: "1000",
            allowed: BUM_PPS,
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
        Key {
            name: "vlans",
            default: "all",
            allowed: VLANS,
        },
        Key {
            name: "macs_max",
            default: "1024",
            allowed: BEHIND,
        },
        Key {
            name: "addresses_max",
            default: "1024",
            allowed: BEHIND,
        },
        Key {
            name: "bum_pps",
            default: "1000",
            allowed: BUM_PPS,
        },
    ],
};

pub(crate) const SWITCH: Section = Section {
    path: "switch",
    keys: &[
        Key {
            name: "suppression",
            default: "on",
            allowed: "on or off",
        },
        Key {
            name: "unknown_unicast",
            default: "flood",
            allowed: "flood, query or drop",
        },
        Key {
            name: "multicast",
            default: "snoop",
            allowed: "snoop or flood",
        },
        Key {
            name: "ageing",
            default: "300",
            allowed: "60..=86400",
        },
        Key {
            name: "llc_snap",
            default: "drop",
            allowed: "drop or carry",
        },
        Key {
            name: "dscp",
            default: "copy",
            allowed: "copy or 0..=63",
        },
        Key {
            name: "mss_clamp",
            default: "off",
            allowed: "on or off",
        },
        Key {
            name: "path_mtu",
            default: "on",
            allowed: "on or off",
        },
        Key {
            name: "static",
            default: "none",
            allowed: "a list of at most 4096 mappings",
        },
    ],
};

pub(crate) const STATIC: Section = Section {
    path: "switch.static[]",
    keys: &[
        Key {
            name: "mac",
            default: REQUIRED,
            allowed: MAC,
        },
        Key {
            name: "vlan",
            default: "0",
            allowed: "0..=4094, one that the port or peer carries",
        },
        Key {
            name: "interface",
            default: "none",
            allowed: "an access port's interface, in place of peer",
        },
        Key {
            name: "peer",
            default: "none",
            allowed: "a peer's name, in place of interface",
        },
        Key {
            name: "addresses",
            default: "none",
            allowed: "a list of IPv4 and IPv6 addresses, each a single host's and in one entry \
                      only",
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
            allowed: METRICS,
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
mod tests;
