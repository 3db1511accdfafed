//! `nucleus.yaml`: a rendezvous server.

mod check;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::checked::MetricsAt;
use crate::error::ConfigError;
use crate::secret::SecretBytes32;
use crate::{file, raw};

/// A whole `nucleus.yaml`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NucleusConfig {
    /// The fabric's name: 1..=64 octets of UTF-8.
    pub fabric: String,
    /// The server's X25519 private key.
    pub private_key: SecretBytes32,
    /// For TCP and UDP. The port is not 0.
    pub listen: SocketAddr,
    /// Where records are kept.
    pub store: NucleusStore,
    /// The fabric's authority, an Ed25519 public key. With `None` there are members.
    pub authority: Option<[u8; 32]>,
    /// Who is a member without a certificate, in order.
    pub members: Vec<[u8; 32]>,
    /// How much nodes may ask.
    pub limits: NucleusLimits,
    /// The control socket: 1..=107 octets.
    pub socket: PathBuf,
    /// Where Prometheus may ask.
    pub metrics: Option<MetricsAt>,
}

/// Where records are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NucleusStore {
    /// A file of the server's own.
    Redb(PathBuf),
    /// A cluster that servers share.
    Etcd(EtcdStore),
}

/// How to reach an etcd cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdStore {
    /// URLs: 1..=16, all with http or all with https.
    pub endpoints: Vec<String>,
    /// A name and a password.
    pub credentials: Option<(String, Zeroizing<String>)>,
    /// PEM of whom members of the cluster are certified by. Always there with https.
    pub authority: Option<String>,
    /// PEM of our certificate, and of its private key.
    pub certificate: Option<(String, Zeroizing<String>)>,
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore")
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

/// How much nodes may ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NucleusLimits {
    /// Addresses that a node may hold: 1..=65536.
    pub bindings_per_node: u32,
    /// Addresses that a node may ask for in a second: 1..=10000.
    pub bindings_per_second: u32,
    /// Messages of a node in a second: 10..=10000.
    pub messages_per_second: u32,
    /// Connections of all nodes: 1..=65536.
    pub connections: u32,
}

/// Reads and checks the `nucleus.yaml` at `path`, and the files that it names.
///
/// `is_authority` says what is wrong with a public key of Ed25519, as the end of a sentence. That
/// takes the arithmetic of keys, which is not here.
///
/// # Errors
/// As [`crate::load`].
pub fn load_nucleus(
    path: &Path,
    is_authority: &dyn Fn(&[u8; 32]) -> Result<(), String>,
) -> Result<NucleusConfig, ConfigError> {
    let text = file::read_config(path).map_err(|what| ConfigError::about_file(path, &what))?;
    load_nucleus_octets(path, &text, is_authority)
}

/// Checks a configuration that is in memory already. `path` is its name in errors and the file that
/// others are relative to; those are read from disk.
///
/// # Errors
/// As [`load_nucleus`].
pub fn load_nucleus_octets(
    path: &Path,
    text: &[u8],
    is_authority: &dyn Fn(&[u8; 32]) -> Result<(), String>,
) -> Result<NucleusConfig, ConfigError> {
    if text.len() as u64 > file::MAX_FILE_OCTETS {
        return Err(ConfigError::about_file(path, &file::too_big()));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    raw::read(text)
        .and_then(|root| check::config(&root, folder, is_authority))
        .map_err(|problem| ConfigError::in_file(path, problem))
}
