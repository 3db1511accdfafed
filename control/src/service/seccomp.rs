//! Which system calls a thread may make (`seccomp(2)`).
//!
//! A filter holds for the thread that installs it and those that it starts, cannot be taken off,
//! and ends the process where it is broken: who makes such a call is not the program any more.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// What becomes of a call that is not allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Seccomp {
    /// It ends the process (`SIGSYS`).
    #[default]
    On,
    /// It is made, and the kernel logs it (`type=1326` in its log and in that of `auditd`): to find
    /// what a C library needs that nobody has tried.
    Log,
    /// There are no filters.
    Off,
}

/// Why a thread has no filter.
#[derive(Debug, thiserror::Error)]
#[error("cannot restrict system calls: {0} (--seccomp off does without)")]
pub struct SeccompError(String);

/// What is not one of the words for [`Seccomp`].
#[derive(Debug, thiserror::Error)]
#[error("allowed is on, log or off")]
pub struct UnknownWord;

/// A system call, by its number on this machine, and its argument that counts.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    number: i64,
    argument: Option<Argument>,
}

/// An argument of a call, from 0 on.
#[derive(Clone, Copy, Debug)]
enum Argument {
    /// It has this value.
    Is(u8, u64),
    /// It has none of these bits.
    Without(u8, u64),
}

impl Call {
    /// The call, whatever its arguments.
    #[must_use]
    pub const fn any(number: i64) -> Self {
        Self {
            number,
            argument: None,
        }
    }

    /// The call with this value as its argument.
    #[must_use]
    pub const fn with(number: i64, argument: u8, value: u64) -> Self {
        let argument = Some(Argument::Is(argument, value));
        Self { number, argument }
    }

    /// The call with none of these bits in its argument.
    #[must_use]
    pub const fn without(number: i64, argument: u8, bits: u64) -> Self {
        let argument = Some(Argument::Without(argument, bits));
        Self { number, argument }
    }

    fn rules(self) -> Result<Vec<SeccompRule>, SeccompError> {
        let (index, op, value) = match self.argument {
            None => return Ok(Vec::new()),
            Some(Argument::Is(index, value)) => (index, SeccompCmpOp::Eq, value),
            Some(Argument::Without(index, bits)) => (index, SeccompCmpOp::MaskedEq(bits), 0),
        };
        let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value);
        let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
        Ok(vec![rule.map_err(SeccompError::new)?])
    }
}

impl Seccomp {
    /// Lets the calling thread make these calls and no others. Those in `failing` fail with
    /// `EPERM`.
    ///
    /// # Errors
    /// When the kernel takes no filter.
    pub fn allow_only(self, calls: &[Call], failing: &[Call]) -> Result<(), SeccompError> {
        let Some(otherwise) = self.action() else {
            return Ok(());
        };
        let refusal = match self {
            Self::Log => SeccompAction::Log,
            Self::On | Self::Off => SeccompAction::Errno(libc::EPERM as u32),
        };
        // The strictest of all filters holds, and the second one may forbid to install another.
        install(failing, refusal, SeccompAction::Allow)?;
        let known = [calls, failing].concat();
        install(&known, SeccompAction::Allow, otherwise)
    }

    /// Keeps the calling thread from what no service does, whatever it is there for.
    ///
    /// # Errors
    /// When the kernel takes no filter.
    pub fn deny_what_no_service_does(self) -> Result<(), SeccompError> {
        let Some(denied) = self.action() else {
            return Ok(());
        };
        let calls: Vec<Call> = NOT_OF_A_SERVICE.iter().map(|&it| Call::any(it)).collect();
        install(&calls, denied, SeccompAction::Allow)
    }

    fn action(self) -> Option<SeccompAction> {
        match self {
            Self::On => Some(SeccompAction::KillProcess),
            Self::Log => Some(SeccompAction::Log),
            Self::Off => None,
        }
    }
}

impl SeccompError {
    fn new(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl FromStr for Seccomp {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "on" => Ok(Self::On),
            "log" => Ok(Self::Log),
            "off" => Ok(Self::Off),
            _ => Err(UnknownWord),
        }
    }
}

/// Does `matched` with these calls and `otherwise` with all others.
fn install(
    calls: &[Call],
    matched: SeccompAction,
    otherwise: SeccompAction,
) -> Result<(), SeccompError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls {
        // Any of the rules of a call will do. None is no condition.
        rules.entry(call.number).or_default().extend(call.rules()?);
    }
    let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(SeccompError::new)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, machine);
    let program: Result<BpfProgram, _> = filter.map_err(SeccompError::new)?.try_into();
    apply_filter(&program.map_err(SeccompError::new)?).map_err(SeccompError::new)
}

/// Other programs, other processes, the machine, and who one is: nothing that a service touches
/// once it serves. A list of what is denied, since what a C library and a kernel interface use
/// besides changes from one release to the next, and a node is not to die of an update.
const NOT_OF_A_SERVICE: &[i64] = &[
    // Programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Ways into the kernel with a history.
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    // The kernel itself and the machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // File systems and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_mknodat,
    libc::SYS_fchownat,
    libc::SYS_fchown,
    // Who one is.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
];
