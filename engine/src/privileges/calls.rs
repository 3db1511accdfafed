//! The system calls of a worker.
//!
//! What the data path makes, what allocating, logging and ending a thread take, and what aborting
//! takes. Found by tracing workers of every driver from start to stop; what the GNU C library does
//! now and then, or only in other versions, by reading its sources.

use omni_control::service::seccomp::Call;

/// `prctl`: a name for memory, which allocators give since version 2.39 of the GNU C library.
const PR_SET_VMA: u64 = 0x5356_4d41;
/// `prctl`: what the kernel told the program at its start, such as where its clocks are.
const PR_GET_AUXV: u64 = 0x4155_5856;

/// Calls that a worker may make.
pub(super) fn allowed() -> Vec<Call> {
    let exec = libc::PROT_EXEC as u64;
    let mut calls: Vec<Call> = ANY.iter().map(|&number| Call::any(number)).collect();
    calls.extend([
        // Memory that is a program cannot be had.
        Call::without(libc::SYS_mmap, 2, exec),
        Call::without(libc::SYS_mprotect, 2, exec),
        // Before it closes a descriptor, a library that was built with assertions looks whether it
        // is open.
        Call::with(libc::SYS_fcntl, 1, libc::F_GETFD as u64),
        Call::with(libc::SYS_prctl, 0, PR_SET_VMA),
        Call::with(libc::SYS_prctl, 0, PR_GET_AUXV),
    ]);
    calls
}

/// Calls that fail: the allocator looks into /proc before it gives memory back, and does without
/// when it cannot. So does who prints where a panic came from.
pub(super) fn failing() -> Vec<Call> {
    let mut calls = vec![Call::any(libc::SYS_openat)];
    #[cfg(target_arch = "x86_64")]
    calls.push(Call::any(libc::SYS_open));
    calls
}

const ANY: &[i64] = &[
    // Frames: taps, AF_XDP sockets, UDP sockets. Without sockets of other kinds, and without ways
    // to make one, sending is to where the control thread connected them or to peers.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    // Counters of sockets, and where rings are when they are unmapped.
    libc::SYS_getsockopt,
    // Waiting.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    // Clocks, where the kernel's page for them cannot be used.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    // Memory. `mmap` and `mprotect` have conditions.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // How many processors allocators and hash tables reckon with, and what they hash by.
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    // Signals, and aborting.
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    // The end of a thread and of the process.
    libc::SYS_close,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
