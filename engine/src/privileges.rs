//! What the engine may do, and gives up on its way.
//!
//! ```text
//!  root, or a user with capabilities
//!    | enter: of another user if so wanted; what starting takes, and no more
//!  NET_RAW NET_ADMIN BPF SYS_NICE IPC_LOCK NET_BIND_SERVICE SETPCAP
//!    | interfaces, sockets, memory, programs
//!    +--> each worker:     no capability, a list of allowed system calls
//!    +--> control thread:  NET_RAW NET_ADMIN BPF IPC_LOCK, a list of denied system calls
//! ```
//!
//! The kernel keeps both thread by thread. Threads share their memory, so a worker that somebody
//! took over could still make the control thread act for it: what the process as a whole cannot do
//! is the wall, what a thread cannot do is in the way.

mod calls;

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{User, getegid, geteuid, initgroups, setegid, seteuid, setresgid, setresuid};
use omni_control::service::capabilities::{CapabilitySet, keep_only};
use omni_control::service::process::forbid_dumps;
use omni_control::service::seccomp::{Seccomp, SeccompError};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::thread::set_keep_capabilities;
use tracing::warn;

/// What starting takes. Of these, priority, locked memory and ports below 1024 are not always
/// wanted, or can be had by limits. Giving up more later, also of the bounding set, takes the last.
const TO_START: CapabilitySet = CapabilitySet::NET_RAW
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETPCAP);

/// What the control thread does later: MTU and other settings of interfaces, interfaces that it
/// made removed, maps of the programs changed; programs, promiscuous mode, sockets and packet
/// memory set up anew.
const TO_SERVE: CapabilitySet = CapabilitySet::NET_RAW
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::IPC_LOCK);

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

/// Who the engine is to be, other than who started it.
#[derive(Clone, Debug)]
pub struct Other(User);

impl Other {
    /// Finds a user by name.
    ///
    /// # Errors
    /// `NoUser`.
    pub fn find(name: &str) -> Result<Self, PrivilegeError> {
        let user = User::from_name(name).ok().flatten();
        let user = user.filter(|user| !user.uid.is_root());
        user.map(Self).ok_or_else(|| PrivilegeError::NoUser {
            name: name.to_owned(),
        })
    }

    /// Does something that this user has to be able to do, and is who it was again. To be called
    /// before there are other threads.
    ///
    /// # Errors
    /// `Become`.
    pub fn can<T>(&self, what: impl FnOnce() -> T) -> Result<T, PrivilegeError> {
        let Self(user) = self;
        let refused = |errno| self.refused(errno);
        self.join_groups()?;
        let (uid, gid) = (geteuid(), getegid());
        setegid(user.gid).map_err(refused)?;
        seteuid(user.uid).map_err(refused)?;
        let done = what();
        seteuid(uid).map_err(refused)?;
        setegid(gid).map_err(refused)?;
        Ok(done)
    }

    fn join_groups(&self) -> Result<(), PrivilegeError> {
        let Self(user) = self;
        let name = CString::new(user.name.as_str()).unwrap_or_default();
        initgroups(&name, user.gid).map_err(|errno| self.refused(errno))
    }

    fn refused(&self, errno: nix::Error) -> PrivilegeError {
        PrivilegeError::Become {
            name: self.0.name.clone(),
            source: errno.into(),
        }
    }

    /// Becomes this user for good, and keeps the capabilities.
    fn enter(&self) -> Result<(), PrivilegeError> {
        let Self(user) = self;
        let refused = |errno| self.refused(errno);
        self.join_groups()?;
        setresgid(user.gid, user.gid, user.gid).map_err(refused)?;
        set_keep_capabilities(true).map_err(io::Error::from)?;
        setresuid(user.uid, user.uid, user.uid).map_err(refused)?;
        set_keep_capabilities(false).map_err(io::Error::from)?;
        // Who changes is open to others of that user again.
        Ok(forbid_dumps()?)
    }

    /// Makes a folder with all above it, for this user.
    fn make(&self, folder: &Folder<'_>) -> io::Result<()> {
        let Self(user) = self;
        if folder.path.exists() {
            return Ok(());
        }
        if let Some(parent) = folder.path.parent() {
            fs::create_dir_all(parent)?;
        }
        DirBuilder::new().mode(folder.mode).create(folder.path)?;
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        chown(folder.path, Some(uid), Some(gid))
    }
}

/// Gives up what starting does not take. To be called before there are other threads.
///
/// With a `user`, the process becomes that user's and keeps what starting takes. `folders` that are
/// not there are made for it before. Those that are there are left alone: whose they are is for
/// their owner to say.
///
/// # Errors
/// See [`PrivilegeError`].
pub fn enter(user: Option<&Other>, folders: &[Folder<'_>]) -> Result<(), PrivilegeError> {
    if let Some(user) = user {
        for folder in folders {
            user.make(folder).map_err(|source| PrivilegeError::Folder {
                path: folder.path.to_owned(),
                source,
            })?;
        }
        user.enter()?;
    }
    keep_only(TO_START)?;
    for Folder { path, .. } in folders {
        // Root without capabilities is an owner like any other.
        let access = Access::WRITE_OK | Access::EXEC_OK;
        if path.exists() && accessat(CWD, *path, access, AtFlags::EACCESS).is_err() {
            let path = path.display();
            warn!(%path, "cannot write there: it should belong to the engine's user");
        }
    }
    Ok(())
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
