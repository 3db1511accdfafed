//! Why a server does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use omni_store::StoreError;

use crate::server::core::OtherFabric;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The store is damaged, of a later version, in use, or not to be used that way.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The store is another fabric's.
    #[error(transparent)]
    OtherFabric(#[from] OtherFabric),
    /// An address is in use, or none of this machine's.
    #[error("cannot listen at {address} ({what}): {source}")]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Nobody can ask for metrics.
    #[error("cannot serve metrics at {at}: {source}")]
    Metrics {
        /// Where.
        at: String,
        /// Why not.
        source: io::Error,
    },
    /// The control socket cannot be made.
    #[error("cannot make the control socket {}: {source}", path.display())]
    ControlSocket {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another server answers there.
    #[error("a server runs already: it answers at {}", path.display())]
    AlreadyRunning {
        /// Where.
        path: PathBuf,
    },
    /// The system refuses something else.
    #[error("the system refuses: {0}")]
    System(io::Error),
}
