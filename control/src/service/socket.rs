//! The socket that an operator's tool asks at, for its owner only.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use tokio::net::UnixListener;

/// Why nobody listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another program answers there.
    #[error("another program answers there")]
    InUse,
    /// The system refuses.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Listens at `path`, making its folder and taking over what a killed program left there.
///
/// # Errors
/// See [`ListenError`].
pub fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(ListenError::InUse),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
        Err(_) => {}
    }
    Ok(bind_private(path)?)
}

/// Binds so that nobody but the owner can connect, not even for a moment: under another name in
/// the same folder first, which then becomes the real one.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let hidden = path.with_file_name(name);
    let _ = fs::remove_file(&hidden);
    let listener = std::os::unix::net::UnixListener::bind(&hidden)?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
    fs::rename(&hidden, path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}
