//! Why sockets cannot be had.

use std::io;

use super::xsk::Binding;

/// Why the engine could not set up its sockets.
#[derive(Debug, thiserror::Error)]
pub enum KernelIoError {
    /// The UMEM could not be made.
    #[error("cannot map packet memory for AF_XDP: {}; {}", .0, umem_hint(.0))]
    Umem(io::Error),
    /// A queue could not be bound.
    #[error("cannot bind queue {queue} of {interface}: {source} ({hint})")]
    Bind {
        /// Of which interface.
        interface: String,
        /// Which.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// Ports that cannot be served together.
    #[error(
        "zero_copy: on is for all AF_XDP ports or none: a veth pair that is made has to copy; \
         make access ports taps (`driver: tap`), or use `zero_copy: auto`"
    )]
    Mixed,
    /// Something that only a defect explains.
    #[error("AF_XDP set-up: {0}")]
    Setup(String),
}

impl KernelIoError {
    pub(super) fn setup(why: impl ToString) -> Self {
        Self::Setup(why.to_string())
    }

    pub(super) fn umem(error: impl std::error::Error) -> Self {
        Self::Umem(io_error_of(&error))
    }

    pub(super) fn bind(binding: &Binding<'_>, error: &impl std::error::Error) -> Self {
        let source = io_error_of(error);
        let hint = match source.raw_os_error() {
            Some(libc::EBUSY) => "another process has this queue: is another engine running?",
            Some(libc::EPERM) => "needs CAP_NET_RAW, and CAP_IPC_LOCK or a higher memlock limit",
            Some(libc::EOPNOTSUPP) => "the driver cannot do this: try `zero_copy: off`",
            Some(libc::ENODEV) => "the interface is gone",
            Some(libc::EINVAL) => "does the interface have this queue?",
            _ => "see `dmesg`",
        };
        let interface = binding.interface.to_owned();
        Self::Bind {
            interface,
            queue: binding.queue,
            source,
            hint,
        }
    }

    pub(super) fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Umem(source) | Self::Bind { source, .. } => source.raw_os_error(),
            Self::Setup(_) | Self::Mixed => None,
        }
    }

    /// Whether a driver cannot do what it was asked for.
    pub(super) fn is_unsupported(&self) -> bool {
        self.raw_os_error() == Some(libc::EOPNOTSUPP)
    }
}

/// What to do about packet memory that cannot be had: its first step is an AF_XDP socket.
fn umem_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "run as root or with CAP_NET_RAW, or use `underlay.driver: udp` and taps"
        }
        Some(libc::EAFNOSUPPORT) => {
            "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS): use `underlay.driver: udp` and taps"
        }
        Some(libc::ENOBUFS) => "without CAP_IPC_LOCK raise the memlock limit (ulimit -l)",
        Some(libc::ENOMEM) => {
            "the host, or a limit of this process (cgroup, `ulimit -v`), has too little memory"
        }
        _ => "see `dmesg`",
    }
}

/// The operating system's error behind a crate's.
fn io_error_of(error: &dyn std::error::Error) -> io::Error {
    let inner = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    match inner.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_packet_memory_has_its_own_remedy() {
        let cases = [
            (libc::EPERM, "CAP_NET_RAW"),
            (libc::EAFNOSUPPORT, "CONFIG_XDP_SOCKETS"),
            (libc::ENOBUFS, "ulimit -l"),
            (libc::ENOMEM, "ulimit -v"),
        ];
        for (errno, remedy) in cases {
            let text = KernelIoError::Umem(io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(remedy), "{text}");
        }
    }
}
