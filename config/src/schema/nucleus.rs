//! Every key of `nucleus.yaml`.

use super::{KEY_FILE, Key, METRICS, REQUIRED, Section};

/// Every mapping, the top level first.
pub(crate) const ALL: &[&Section] = &[&TOP, &STORE, &ETCD, &LIMITS, &CONTROL];

/// Where to listen.
const LISTEN: &str = "IPv4:port or [IPv6]:port, with a port 1..=65535";

pub(crate) const TOP: Section = Section {
    path: "",
    keys: &[
        Key {
            name: "fabric",
            default: REQUIRED,
            allowed: "1..=64 octets of UTF-8",
        },
        Key {
            name: "private_key_file",
            default: REQUIRED,
            allowed: KEY_FILE,
        },
        Key {
            name: "listen",
            default: "0.0.0.0:51821",
            allowed: LISTEN,
        },
        Key {
            name: "store",
            default: "all its defaults",
            allowed: "a mapping of redb or of etcd",
        },
        Key {
            name: "authority",
            default: "none",
            allowed: "an Ed25519 public key in base64, as omni authority init prints it; it may \
                      be left out where members are listed",
        },
        Key {
            name: "members",
            default: "none",
            allowed: "a list of distinct public keys, each 32 octets in base64 (44 characters), \
                      not all zero",
        },
        Key {
            name: "limits",
            default: "all its defaults",
            allowed: "a mapping",
        },
        Key {
            name: "control",
            default: "all its defaults",
            allowed: "a mapping",
        },
        Key {
            name: "metrics",
            default: "none",
            allowed: METRICS,
        },
    ],
};

pub(crate) const STORE: Section = Section {
    path: "store",
    keys: &[
        Key {
            name: "redb",
            default: "/var/lib/omni/nucleus.redb",
            allowed: "the name of a file, in place of etcd",
        },
        Key {
            name: "etcd",
            default: "none",
            allowed: "a mapping of endpoints, ..., in place of redb",
        },
    ],
};

pub(crate) const ETCD: Section = Section {
    path: "store.etcd",
    keys: &[
        Key {
            name: "endpoints",
            default: REQUIRED,
            allowed: "a list of 1..=16 distinct URLs such as https://192.0.2.20:2379, all http or \
                      all https",
        },
        Key {
            name: "user",
            default: "none",
            allowed: "a name, together with password_file",
        },
        Key {
            name: "password_file",
            default: "none",
            allowed: "a file of mode 0600 or 0400 that holds a line of text, together with user",
        },
        Key {
            name: "ca_file",
            default: "none",
            allowed: "a file of certificates in PEM, needed with https endpoints and only there",
        },
        Key {
            name: "certificate_file",
            default: "none",
            allowed: "a file of certificates in PEM, together with key_file and with https \
                      endpoints",
        },
        Key {
            name: "key_file",
            default: "none",
            allowed: "a file of mode 0600 or 0400 that holds a private key in PEM, together with \
                      certificate_file",
        },
    ],
};

pub(crate) const LIMITS: Section = Section {
    path: "limits",
    keys: &[
        Key {
            name: "bindings_per_node",
            default: "1024",
            allowed: "1..=65536",
        },
        Key {
            name: "bindings_per_second",
            default: "100",
            allowed: "1..=10000",
        },
        Key {
            name: "messages_per_second",
            default: "200",
            allowed: "10..=10000",
        },
        Key {
            name: "connections",
            default: "16384",
            allowed: "1..=65536",
        },
    ],
};

pub(crate) const CONTROL: Section = Section {
    path: "control",
    keys: &[Key {
        name: "socket",
        default: "/run/omni/nucleus.sock",
        allowed: "a path of 1..=107 octets",
    }],
};

#[cfg(test)]
mod tests;
