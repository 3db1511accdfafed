//! What the engine may do, and gives up on its way.
//!
//! ```text
//!  root, or a user with capabilities
//!    | enter: of another user if so wanted; what starting takes, and no more
//!  NET_RAW NET_ADMIN BPF SYS_NICE IPC_LOCK NET_BIND_SERVICE
//!    | interfaces, sockets, memory, programs
//!    +--> each worker:     no capability, a list of allowed system calls
//!    +--> control thread:  NET_RAW NET_ADMIN BPF, a list of denied system calls
//! ```
//!
//! The kernel keeps both thread by thread. Threads share their memory, so a worker that somebody
//! took over could still make the control thread act for it: what the process as a whole cannot do
//! is the wall, what a thread cannot do is in the way.

mod calls;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{User, initgroups, setresgid, setresuid};
use omni_control::service::capabilities::{CapabilitySet, keep_only};
use omni_control::service::process::forbid_dumps;
use omni_control::service::seccomp::{Seccomp, SeccompError};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::thread::set_keep_capabilities;
use tracing::warn;

/// What starting takes. Of these, priority, locked memory and ports below 1024 are not always
/// wanted, or can be had by limits.
const TO_START: CapabilitySet = CapabilitySet::NET_RAW
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// What the control thread does later: MTU and other settings of interfaces, interfaces that it
/// made removed, maps of the programs changed, programs and promiscuous mode set up anew.
const TO_SERVE: CapabilitySet = CapabilitySet::NET_RAW
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::BPF);

/// Why privileges cannot be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// There is no such user, or it is root.
    #[error("--user: {name} is no user that there is beside root")]
    NoUser {
        /// As given.
        name: String,
    },
    /// Only root becomes somebody else.
    #[error("--user: cannot become {name}: {source} (it takes root)")]
    Become {
        /// Who.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A folder cannot be made for the user.
    #[error("cannot make {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refuses to take capabilities away.
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[from] io::Error),
    /// It takes no filter.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
}

/// A folder that the engine writes to.
#[derive(Clone, Copy, Debug)]
pub struct Folder<'a> {
    /// Where.
    pub path: &'a Path,
    /// Its mode if it has to be made.
    pub mode: u32,
}

/// Gives up what starting does not take. To be called before there are other threads.
///
/// With a `user`, the process becomes that user's and keeps what starting takes. `folders` that are
/// not there are made for it before. Those that are there are left alone: whose they are is for
/// their owner to say.
///
/// # Errors
/// See [`PrivilegeError`].
pub fn enter(user: Option<&str>, folders: &[Folder<'_>]) -> Result<(), PrivilegeError> {
    if let Some(name) = user {
        become_user(name, folders)?;
    }
    keep_only(TO_START)?;
    for Folder { path, .. } in folders {
        // Root without capabilities is an owner like any other.
        let access = Access::WRITE_OK | Access::EXEC_OK;
        if path.exists() && accessat(CWD, *path, access, AtFlags::EACCESS).is_err() {
            let path = path.display();
            warn!(%path, "cannot write there: it should belong to the user that the engine runs as");
        }
    }
    Ok(())
}

fn become_user(name: &str, folders: &[Folder<'_>]) -> Result<(), PrivilegeError> {
    let refused = |source: io::Error| PrivilegeError::Become {
        name: name.to_owned(),
        source,
    };
    let system = |errno: nix::Error| refused(errno.into());
    let no_user = || PrivilegeError::NoUser {
        name: name.to_owned(),
    };
    let user = User::from_name(name).map_err(system)?;
    let user = user.filter(|user| !user.uid.is_root());
    let user = user.ok_or_else(no_user)?;
    for folder in folders {
        make(folder, &user).map_err(|source| PrivilegeError::Folder {
            path: folder.path.to_owned(),
            source,
        })?;
    }
    let groups_of = std::ffi::CString::new(name).map_err(|error| refused(error.into()))?;
    initgroups(&groups_of, user.gid).map_err(system)?;
    setresgid(user.gid, user.gid, user.gid).map_err(system)?;
    set_keep_capabilities(true).map_err(|errno| refused(errno.into()))?;
    setresuid(user.uid, user.uid, user.uid).map_err(system)?;
    set_keep_capabilities(false).map_err(|errno| refused(errno.into()))?;
    // Who changes is open to others of that user again.
    forbid_dumps().map_err(refused)
}

/// Makes a folder with all above it, for the user.
fn make(folder: &Folder<'_>, user: &User) -> io::Result<()> {
    if folder.path.exists() {
        return Ok(());
    }
    if let Some(parent) = folder.path.parent() {
        fs::create_dir_all(parent)?;
    }
    DirBuilder::new().mode(folder.mode).create(folder.path)?;
    chown(
        folder.path,
        Some(user.uid.as_raw()),
        Some(user.gid.as_raw()),
    )
}

/// Gives up what the control thread does not need once everything is set up.
///
/// # Errors
/// See [`PrivilegeError`].
pub fn serve(seccomp: Seccomp) -> Result<(), PrivilegeError> {
    keep_only(TO_SERVE)?;
    Ok(seccomp.deny_what_no_service_does()?)
}

/// Gives up all that the calling thread, a worker's, does not need to move frames.
///
/// # Errors
/// See [`PrivilegeError`].
pub fn work(seccomp: Seccomp) -> Result<(), PrivilegeError> {
    keep_only(CapabilitySet::empty())?;
    Ok(seccomp.allow_only(&calls::allowed(), &calls::failing())?)
}

#[cfg(test)]
mod tests;
