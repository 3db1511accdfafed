//! `fabric.yaml` and `nucleus.yaml`: read, checked, typed.
//!
//! ```text
//! octets --raw--> tree with lines --check--> Config        (checked.rs: plain data)
//!                                    ^
//!                  schema.rs: every key, its default, what is allowed
//! ```
//!
//! The promise: [`load`] gives either a [`Config`] in which every value is in range and every
//! key file was read, or a [`ConfigError`] that fits one line and names file, line and key. No
//! input makes it panic, and none costs more than a bounded time and memory: files over 1 MiB,
//! aliases, deep nesting and huge mappings are refused before anything is built from them.
//!
//! What is not here: whether interfaces, cores and queues exist, and whether a peer is this very
//! node. That takes the running system or public-key arithmetic, and belongs to the engine.
//!
//! Every key with its default, unit and range is documented in `KEYS.md` beside this crate, and
//! those of `nucleus.yaml` in `NUCLEUS-KEYS.md`.

#![forbid(unsafe_code)]

mod change;
mod check;
mod checked;
mod error;
mod fields;
mod file;
mod nucleus;
mod raw;
mod schema;
mod secret;
mod syntax;
pub mod text;
mod values;
mod vlan_set;

use std::path::Path;

pub use crate::change::{Change, PeerChange, PeerPolicy, RestartNeeded};
pub use crate::checked::{
    Access, AccessDriver, Authority, Config, Control, Cores, Driver, Dscp, Guard, IpNet, LlcSnap,
    MetricsAt, Mtu, Multicast, Node, Nucleus, Peer, Poll, PortMacs, PortVlans, Priority, Queues,
    SourcePorts, StaticEntry, StaticOwner, Switch, Underlay, UnknownUnicast, Workers, XdpMode,
    ZeroCopy,
};
pub use crate::error::ConfigError;
pub use crate::file::MAX_FILE_OCTETS;
pub use crate::nucleus::{
    EtcdStore, NucleusConfig, NucleusLimits, NucleusStore, load_nucleus, load_nucleus_octets,
};
pub use crate::secret::SecretBytes32;
pub use crate::vlan_set::VlanSet;

/// The content of a key file, or what is wrong with the file and how to remedy it.
pub type KeyFileText = Result<Vec<u8>, String>;

/// Reads and checks the configuration file at `path`, and the key files that it names.
///
/// # Errors
/// The first thing that is wrong: with the file itself, with its YAML, with a value in it, or
/// with a key file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = file::read_config(path).map_err(|what| ConfigError::about_file(path, &what))?;
    load_octets(path, &text, &file::read_key)
}

/// Checks a configuration that is in memory already. `file` is its name in errors and the file
/// that key files are relative to.
///
/// `read_key` reads a key file; what it gives is wiped after use. [`load`] reads from disk and
/// insists on the file's mode and owner.
///
/// # Errors
/// As [`load`].
pub fn load_octets(
    file: &Path,
    text: &[u8],
    read_key: &dyn Fn(&Path) -> KeyFileText,
) -> Result<Config, ConfigError> {
    if text.len() as u64 > MAX_FILE_OCTETS {
        return Err(ConfigError::about_file(file, &file::too_big()));
    }
    let folder = file.parent().unwrap_or(Path::new(""));
    raw::read(text)
        .and_then(|root| {
            check::config(
                &root,
                &check::KeyFiles {
                    folder,
                    read: read_key,
                },
            )
        })
        .map_err(|problem| ConfigError::in_file(file, problem))
}
