//! What can go wrong when a program is loaded, attached or changed, and what helps.

use std::error::Error;
use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use thiserror::Error;

use crate::attach::Mode;
use crate::layout::{MAX_ENDPOINTS, MAX_LOCAL_ADDRS, MAX_QUEUES, MAX_ROOM, MAX_SESSIONS};

pub(crate) const EPERM: i32 = 1;
pub(crate) const ENOENT: i32 = 2;
pub(crate) const E2BIG: i32 = 7;
pub(crate) const EACCES: i32 = 13;
pub(crate) const EBUSY: i32 = 16;
pub(crate) const EEXIST: i32 = 17;
pub(crate) const ENODEV: i32 = 19;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const ERANGE: i32 = 34;
pub(crate) const ENOSYS: i32 = 38;
pub(crate) const EOPNOTSUPP: i32 = 95;

/// Lines of the verifier's log that an error repeats: the last ones say what it refused.
const VERIFIER_LINES: usize = 8;

/// Why a program could not be loaded, attached or changed.
#[derive(Debug, Error)]
pub enum RedirectError {
    /// The process lacks the privilege.
    #[error("{action}: permission denied; run as root or with CAP_BPF and CAP_NET_ADMIN")]
    Permission {
        /// What was tried.
        action: String,
    },

    /// The kernel refused the program or one of its maps.
    #[error("cannot load XDP program {program}: {reason}")]
    Load {
        /// The program.
        program: &'static str,
        /// What the kernel said.
        reason: String,
    },

    /// There is no `bpf(2)`.
    #[error(
        "this kernel has no bpf(2), which XDP programs take (CONFIG_BPF_SYSCALL); without them \
         there are only UDP sockets and taps"
    )]
    NoBpf,

    /// The kernel has no links for XDP, so an attachment would outlive the process.
    #[error("cannot attach XDP programs: the kernel must be Linux 5.9 or newer")]
    KernelTooOld,

    /// There is no such network interface in this network namespace.
    #[error("interface {interface} does not exist")]
    UnknownInterface {
        /// The interface.
        interface: String,
    },

    /// The driver runs no XDP programs.
    #[error(
        "{interface}: its driver cannot run this program in native mode; \
         use `xdp: generic` (slower, any driver)"
    )]
    NativeUnsupported {
        /// The interface.
        interface: String,
    },

    /// Another XDP program has the interface and kept it.
    #[error(
        "{interface}: another XDP program is attached; see it with \
         `ip -details link show dev {interface}` or `bpftool net`, and stop what attached it"
    )]
    Occupied {
        /// The interface.
        interface: String,
    },

    /// The interface has fewer receive queues than programs need.
    #[error(
        "{interface}: too few receive queues for XDP; a veth needs as many as its peer has \
         transmit queues (`ethtool --set-channels {interface} rx N`)"
    )]
    TooFewQueues {
        /// The interface.
        interface: String,
    },

    /// Frames can be longer than the driver takes with a program attached.
    #[error("{interface}: the MTU (of a veth: its peer's) is too large for XDP; lower it")]
    MtuTooLarge {
        /// The interface.
        interface: String,
    },

    /// The kernel refused the attachment for another reason.
    #[error("{interface}: cannot attach in {mode} mode: {reason}")]
    Attach {
        /// The interface.
        interface: String,
        /// How it was to be attached.
        mode: Mode,
        /// What the kernel said.
        reason: String,
    },

    /// A program serves the receive queues below [`MAX_QUEUES`].
    #[error("receive queue {queue} is out of range 0..={}", MAX_QUEUES - 1)]
    QueueOutOfRange {
        /// The queue.
        queue: u32,
    },

    /// The kernel did not take the socket.
    #[error(
        "receive queue {queue}: not a usable socket: {reason}; \
         it must be an AF_XDP socket with a receive ring and a fill ring"
    )]
    Socket {
        /// The queue it was for.
        queue: u32,
        /// What the kernel said.
        reason: String,
    },

    /// More room was asked for than the kernel leaves before a frame.
    #[error("room of {room} octets is out of range 0..={MAX_ROOM}")]
    RoomOutOfRange {
        /// What was asked for.
        room: u16,
    },

    /// The table of addresses is full.
    #[error("more than {MAX_LOCAL_ADDRS} addresses on the underlay interface")]
    TooManyAddresses,

    /// The table of sessions is full.
    #[error("more than {MAX_SESSIONS} live sessions for the XDP program")]
    TooManySessions,

    /// The table of endpoints is full.
    #[error("more than {MAX_ENDPOINTS} endpoints of peers for the XDP program")]
    TooManyEndpoints,

    /// A map of the program could not be read or written.
    #[error("cannot access {what} of the XDP program: {reason}")]
    Map {
        /// What the map holds.
        what: &'static str,
        /// What the kernel said.
        reason: String,
    },

    /// The kernel did not run the program on a frame of ours.
    #[error("cannot run the XDP program on a frame of {len} octets: {reason}")]
    DryRun {
        /// Octets of the frame.
        len: usize,
        /// What the kernel said.
        reason: String,
    },

    /// The object that was compiled into this program lacks a part: a fault of the build.
    #[error("the embedded XDP object has no {0}; build again from clean sources")]
    Incomplete(&'static str),
}

impl RedirectError {
    /// For a program that the kernel did not take.
    pub(crate) fn load(program: &'static str, error: &(dyn Error + 'static)) -> Self {
        match errno(error) {
            Some(EPERM | EACCES) if !mentions_verifier(error) => Self::Permission {
                action: format!("cannot load XDP program {program}"),
            },
            Some(ENOSYS) => Self::NoBpf,
            _ => Self::Load {
                program,
                reason: explain(error),
            },
        }
    }

    /// For an attachment that the kernel did not make.
    pub(crate) fn attach(interface: &str, mode: Mode, error: &ProgramError) -> Self {
        let interface = interface.to_owned();
        if matches!(error, ProgramError::UnknownInterface { .. }) {
            return Self::UnknownInterface { interface };
        }
        match errno(error) {
            Some(EPERM | EACCES) => Self::Permission {
                action: format!("cannot attach an XDP program to {interface}"),
            },
            Some(ENODEV) => Self::UnknownInterface { interface },
            Some(EBUSY | EEXIST) => Self::Occupied { interface },
            Some(EOPNOTSUPP) if mode == Mode::Native => Self::NativeUnsupported { interface },
            Some(ENOSPC) => Self::TooFewQueues { interface },
            Some(ERANGE) => Self::MtuTooLarge { interface },
            _ => Self::Attach {
                interface,
                mode,
                reason: explain(error),
            },
        }
    }

    /// For a map that could not be used.
    pub(crate) fn map(what: &'static str, error: &MapError) -> Self {
        match errno(error) {
            Some(EPERM | EACCES) => Self::Permission {
                action: format!("cannot access {what} of the XDP program"),
            },
            _ => Self::Map {
                what,
                reason: explain(error),
            },
        }
    }
}

/// The kernel's error number, from wherever in the chain of causes it stands.
pub(crate) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    causes(error).find_map(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
            .or_else(|| match cause.downcast_ref::<ProgramError>()? {
                ProgramError::XdpError(aya::programs::XdpError::NetlinkError(netlink)) => {
                    netlink.raw_os_error()
                }
                _ => None,
            })
    })
}

/// The chain of causes as one line, and of a verifier's log the end.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text: Vec<String> = Vec::new();
    for cause in causes(error).map(verdict_of) {
        if !text.last().is_some_and(|outer| outer.contains(&cause)) {
            text.push(cause);
        }
    }
    text.join(": ")
}

/// One cause's own words, with a long log cut to its end.
fn verdict_of(cause: &(dyn Error + 'static)) -> String {
    let text = cause.to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    match lines.as_slice() {
        [first, .., _] if lines.len() > VERIFIER_LINES => {
            format!(
                "{first} ... {}",
                lines[lines.len() - VERIFIER_LINES..].join(" | ")
            )
        }
        _ => lines.join(" | "),
    }
}

/// Whether the verifier gave a reason: then EACCES is its verdict, not a lack of privilege.
fn mentions_verifier(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        let program = match cause.downcast_ref::<EbpfError>() {
            Some(EbpfError::ProgramError(program)) => Some(program),
            _ => cause.downcast_ref::<ProgramError>(),
        };
        match program {
            Some(ProgramError::LoadError { verifier_log, .. }) => {
                !verifier_log.to_string().trim().is_empty()
            }
            _ => false,
        }
    })
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use aya::sys::SyscallError;

    use super::*;

    fn refused(errno: i32) -> ProgramError {
        let io_error = io::Error::from_raw_os_error(errno);
        ProgramError::SyscallError(SyscallError {
            call: "bpf_link_create",
            io_error,
        })
    }

    fn attach_error(errno: i32, mode: Mode) -> String {
        RedirectError::attach("eth9", mode, &refused(errno)).to_string()
    }

    #[test]
    fn an_attach_error_names_the_interface_and_the_remedy() {
        for (errno, remedy) in [
            (EPERM, "CAP_BPF and CAP_NET_ADMIN"),
            (EBUSY, "another XDP program is attached"),
            (EEXIST, "another XDP program is attached"),
            (EOPNOTSUPP, "`xdp: generic`"),
            (ENOSPC, "receive queues"),
            (ERANGE, "MTU"),
            (ENODEV, "does not exist"),
            (EINVAL, "native mode"),
        ] {
            let text = attach_error(errno, Mode::Native);
            assert!(
                text.contains("eth9") && text.contains(remedy),
                "{errno}: {text}"
            );
        }
    }

    #[test]
    fn a_kernel_without_bpf_is_named() {
        let text = RedirectError::load("omni_underlay", &refused(ENOSYS)).to_string();
        assert!(text.contains("CONFIG_BPF_SYSCALL"), "{text}");
    }

    #[test]
    fn generic_mode_is_not_the_remedy_for_itself() {
        let text = attach_error(EOPNOTSUPP, Mode::Generic);
        assert!(
            text.contains("generic mode") && !text.contains("use `xdp"),
            "{text}"
        );
    }

    #[test]
    fn an_explanation_keeps_the_kernels_words_and_repeats_none() {
        let text = explain(&refused(EINVAL));
        assert_eq!(text.matches("bpf_link_create").count(), 1, "{text}");
        assert!(text.contains("Invalid argument"), "{text}");
    }
}
