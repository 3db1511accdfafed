//! Each forbidden call is made by a process of its own: this program, started again.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Output};
use std::thread;

use super::*;
use crate::io::kernel::raw_call;

/// Tells the process that was started what to do.
const TASK: &str = "OMNI_TEST_TASK";
/// Ends a process that did what it was to do.
const DONE: i32 = 42;

/// Runs a task in a process of its own.
fn child(task: &str) -> Output {
    let program = std::env::current_exe().expect("this program");
    Command::new(program)
        .args(["--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .arg("privileges::tests::task")
        .env(TASK, task)
        .output()
        .expect("it starts")
}

fn ends(task: &str) -> ExitStatus {
    child(task).status
}

/// A worker's or the control thread's filter, and then a call.
#[test]
#[ignore = "the tests below start it in a process of its own"]
fn task() {
    let task = std::env::var(TASK).expect("a task");
    let (whose, call) = task.split_once(' ').expect("two words");
    let (whose, call) = (whose.to_owned(), call.to_owned());
    if whose == "panic" {
        return panic_in_a_thread(&call);
    }
    let made = thread::spawn(move || {
        match &*whose {
            "worker" => work(Seccomp::On).expect("a filter"),
            "control" => serve(Seccomp::On).expect("a filter"),
            "logged" => work(Seccomp::Log).expect("a filter"),
            "free" => work(Seccomp::Off).expect("no filter"),
            other => panic!("{other}"),
        }
        make(&call);
    });
    made.join().expect("no panic");
    std::process::exit(DONE);
}

fn panic_in_a_thread(how: &str) {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    omni_control::service::process::abort_on_panic();
    let how = how.to_owned();
    let ended = thread::Builder::new()
        .name("omni-worker-7".to_owned())
        .spawn(move || {
            if how == "filtered" {
                work(Seccomp::On).expect("a filter");
            }
            let none: Option<u8> = std::hint::black_box(None);
            none.expect("injected");
        })
        .expect("a thread")
        .join();
    // Half-dead: what must not be.
    std::process::exit(if ended.is_err() { DONE } else { 0 });
}

/// Makes a system call with arguments that do no harm. Whether it succeeds does not matter.
fn make(call: &str) {
    let read_and_run = i64::from(libc::PROT_READ | libc::PROT_EXEC);
    let anonymous = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let (number, arguments) = match call {
        "execve" => (libc::SYS_execve, [0; 6]),
        "execveat" => (libc::SYS_execveat, [0; 6]),
        // Of no kind that there is: one that succeeds would leave a thread that nobody waits for.
        "ptrace" => (libc::SYS_ptrace, [-1, 0, 0, 0, 0, 0]),
        "bpf" => (libc::SYS_bpf, [0; 6]),
        "socket" => (libc::SYS_socket, [1, 1, 0, 0, 0, 0]),
        "connect" => (libc::SYS_connect, [-1, 0, 0, 0, 0, 0]),
        "unlinkat" => (libc::SYS_unlinkat, [-1, 0, 0, 0, 0, 0]),
        "ioctl" => (libc::SYS_ioctl, [-1, 0, 0, 0, 0, 0]),
        "prctl" => (libc::SYS_prctl, [3, 0, 0, 0, 0, 0]),
        "mount" => (libc::SYS_mount, [0; 6]),
        "unshare" => (libc::SYS_unshare, [0; 6]),
        "io_uring_setup" => (libc::SYS_io_uring_setup, [0; 6]),
        "process_vm_readv" => (libc::SYS_process_vm_readv, [0; 6]),
        "setuid" => (libc::SYS_setuid, [0; 6]),
        "program memory" => (libc::SYS_mmap, [0, 4096, read_and_run, anonymous, -1, 0]),
        "make memory a program" => (libc::SYS_mprotect, [0, 0, read_and_run, 0, 0, 0]),
        "name memory" => (libc::SYS_prctl, [0x5356_4d41, 0, 0, 0, 0, 0]),
        "open" => {
            let error = fs::File::open("/proc/self/status").err();
            let refusal = error.and_then(|error| error.raw_os_error());
            std::process::exit(refusal.map_or(DONE, |errno| DONE + errno));
        }
        "live" => return live(),
        other => panic!("{other}"),
    };
    raw_call(number, arguments);
}

/// What a worker does beside moving frames.
fn live() {
    let mut kept = Vec::new();
    for round in 1..64_usize {
        kept.push(vec![1_u8; round * 10_000]);
        kept.retain(|it| !(it.len() / 10_000).is_multiple_of(3));
    }
    // The allocator gives it all back, which it looks into /proc for.
    drop(kept);
    thread::yield_now();
    thread::sleep(std::time::Duration::from_millis(1));
    eprintln!("{:?}", std::collections::HashMap::from([(1, 2)]));
}

/// Calls that are in neither list of what is allowed.
const FORBIDDEN: [&str; 16] = [
    "execve",
    "execveat",
    "ptrace",
    "bpf",
    "socket",
    "connect",
    "unlinkat",
    "ioctl",
    "prctl",
    "mount",
    "unshare",
    "io_uring_setup",
    "process_vm_readv",
    "setuid",
    "program memory",
    "make memory a program",
];

#[test]
fn a_worker_that_calls_what_it_never_does_ends_the_process() {
    for call in FORBIDDEN {
        let ended = ends(&format!("worker {call}"));
        assert_eq!(ended.signal(), Some(libc::SIGSYS), "{call}: {ended}");
        // Without a filter it is a call like others.
        for whose in ["free", "logged"] {
            let ended = ends(&format!("{whose} {call}"));
            assert_eq!(ended.code(), Some(DONE), "{whose}: {call}: {ended}");
        }
    }
}

#[test]
fn a_worker_opens_nothing_and_lives_on() {
    assert_eq!(ends("worker open").code(), Some(DONE + libc::EPERM));
    assert_eq!(ends("free open").code(), Some(DONE));
}

#[test]
fn a_worker_allocates_logs_and_waits() {
    for call in ["live", "name memory"] {
        let output = child(&format!("worker {call}"));
        assert_eq!(output.status.code(), Some(DONE), "{call}: {output:?}");
    }
}

#[test]
fn the_control_thread_becomes_no_other_program_and_nobody_else() {
    let denied = [
        "execve",
        "execveat",
        "ptrace",
        "mount",
        "unshare",
        "io_uring_setup",
        "process_vm_readv",
        "setuid",
    ];
    for call in FORBIDDEN {
        let ended = ends(&format!("control {call}"));
        if denied.contains(&call) {
            assert_eq!(ended.signal(), Some(libc::SIGSYS), "{call}: {ended}");
        } else {
            assert_eq!(ended.code(), Some(DONE), "{call}: {ended}");
        }
    }
}

#[test]
fn a_panic_is_told_and_ends_the_process() {
    for how in ["free", "filtered"] {
        let output = child(&format!("panic {how}"));
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
        let log = String::from_utf8_lossy(&output.stderr);
        let line = log.lines().find(|line| line.contains("injected"));
        let line = line.unwrap_or_else(|| panic!("{how}: {log}"));
        for word in ["ERROR", "omni-worker-7", "privileges/tests.rs:"] {
            assert!(line.contains(word), "{line}");
        }
    }
}
