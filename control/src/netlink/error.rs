//! What can go wrong between the engine and the kernel, in words a person can act on.

use std::io;

use super::port::ALIAS;

/// Errno values that have a meaning of their own here (asm-generic/errno.h).
pub(super) mod errno {
    pub(in super::super) const EPERM: i32 = 1;
    pub(in super::super) const ENOENT: i32 = 2;
    pub(in super::super) const EACCES: i32 = 13;
    pub(in super::super) const EBUSY: i32 = 16;
    pub(in super::super) const EEXIST: i32 = 17;
    pub(in super::super) const ENODEV: i32 = 19;
    pub(in super::super) const EINVAL: i32 = 22;
    pub(in super::super) const EOPNOTSUPP: i32 = 95;
    pub(in super::super) const EAFNOSUPPORT: i32 = 97;
    pub(in super::super) const EADDRNOTAVAIL: i32 = 99;
    pub(in super::super) const ENETUNREACH: i32 = 101;
    pub(in super::super) const ENOBUFS: i32 = 105;
    pub(in super::super) const EHOSTUNREACH: i32 = 113;
}

/// A request to the kernel that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The netlink socket itself failed.
    #[error("cannot {action}: the netlink socket failed: {source}")]
    Socket {
        /// What was to be done.
        action: String,
        /// What the system call said.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {action}: {}", refusal(*errno, detail.as_deref()))]
    Refused {
        /// What was to be done.
        action: String,
        /// Its reason as a positive errno value.
        errno: i32,
        /// Its reason in words, where it gave one (extended acknowledgement).
        detail: Option<String>,
    },
    /// The kernel did not answer in time.
    #[error("cannot {action}: no answer from the kernel within {seconds} s")]
    Timeout {
        /// What was to be done.
        action: String,
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// The answer lacks what it must contain.
    #[error("cannot {action}: the kernel's answer is not understood")]
    Malformed {
        /// What was to be done.
        action: String,
    },
    /// No interface can have this name.
    #[error(
        "{name:?} cannot be an interface's name: 1 to 15 octets are allowed, \
         without blanks, '/', ':' and '%'"
    )]
    InvalidName {
        /// The name.
        name: String,
    },
    /// The name is taken by an interface that the engine did not make.
    #[error(
        "the interface {name} exists and was not made by the engine (its alias is not \
         \"{ALIAS}\"): choose another name, or delete it with `ip link delete {name}`"
    )]
    NotOurs {
        /// The name.
        name: String,
    },
}

impl NetlinkError {
    /// The kernel's reason as a positive errno value, when it was the kernel that refused.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    pub(super) fn malformed(action: &str) -> Self {
        Self::Malformed {
            action: action.to_owned(),
        }
    }
}

fn refusal(errno: i32, detail: Option<&str>) -> String {
    let mut text = io::Error::from_raw_os_error(errno).to_string();
    if let Some(detail) = detail {
        text.push_str(": ");
        text.push_str(detail);
    }
    if let Some(remedy) = remedy(errno) {
        text.push_str("; ");
        text.push_str(remedy);
    }
    text
}

fn remedy(number: i32) -> Option<&'static str> {
    Some(match number {
        errno::EPERM => "CAP_NET_ADMIN is needed: run as root or grant the capability",
        errno::EACCES => "the interface may have IPv6 switched off (disable_ipv6)",
        errno::EBUSY => "something else uses it: stop that, or try again",
        errno::EEXIST => "the name is taken: choose another, or delete what has it",
        errno::ENODEV => "there is no such interface (any more)",
        errno::EOPNOTSUPP => "the kernel lacks it: load the module (veth, 8021q), or build it in",
        errno::EADDRNOTAVAIL => "a MAC address must be a unicast one and not zero",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32, detail: Option<&str>) -> String {
        let action = "make the interface omni0".to_owned();
        NetlinkError::Refused {
            action,
            errno,
            detail: detail.map(str::to_owned),
        }
        .to_string()
    }

    #[test]
    fn a_refusal_names_the_action_the_reason_and_the_remedy() {
        let text = refused(errno::EPERM, None);
        assert!(text.starts_with("cannot make the interface omni0: Operation not permitted"));
        assert!(text.ends_with("CAP_NET_ADMIN is needed: run as root or grant the capability"));
    }

    #[test]
    fn the_kernels_own_words_are_kept() {
        let text = refused(errno::EINVAL, Some("mtu greater than device maximum"));
        assert!(text.contains("mtu greater than device maximum"), "{text}");
    }

    #[test]
    fn a_foreign_interface_is_named_with_what_to_do() {
        let text = NetlinkError::NotOurs {
            name: "eth7".to_owned(),
        }
        .to_string();
        assert!(text.contains("`ip link delete eth7`"), "{text}");
    }
}
