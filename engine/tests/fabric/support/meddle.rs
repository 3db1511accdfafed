//! Harm that takes system calls which the tests themselves do not make: by Python.

use std::process::Command;

use super::netns::Namespace;

/// What takes an XDP program off, as `bpftool link detach` does.
const DETACH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/omni_lab/detach.py");

/// Holds one thread for so many seconds, as a debugger does.
const HOLD: &str = "
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
thread, seconds = int(sys.argv[1]), float(sys.argv[2])
ATTACH, GO_ON, WAIT_ALL = 16, 17, 0x40000000
assert libc.ptrace(ATTACH, thread, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.waitpid(thread, WAIT_ALL)
time.sleep(seconds)
libc.ptrace(GO_ON, thread, 0, 0)
";

/// Has one thread run in a circle for good: a jump to itself is written where it is to go on. It
/// sleeps in a system call, of which nobody else makes the same from the same place.
#[cfg(target_arch = "x86_64")]
const CIRCLE: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
libc.ptrace.restype = ctypes.c_long
thread = int(sys.argv[1])
PEEK, POKE, REGISTERS, ATTACH, GO_ON, WAIT_ALL = 1, 4, 12, 16, 17, 0x40000000
assert libc.ptrace(ATTACH, thread, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.waitpid(thread, WAIT_ALL)
registers = (ctypes.c_ulonglong * 27)()
assert libc.ptrace(REGISTERS, thread, 0, ctypes.addressof(registers)) == 0
place = registers[16]
word = libc.ptrace(PEEK, thread, place, 0)
assert libc.ptrace(POKE, thread, place, (word & ~0xffff) | 0xfeeb) == 0
libc.ptrace(GO_ON, thread, 0, 0)
";

fn python(program: &[&str], arguments: &[String]) {
    let run = Command::new("python3")
        .args(program)
        .args(arguments)
        .output();
    let output = run.expect("the tests need `python3`");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
}

/// The number of the XDP program on an interface.
pub(crate) fn program_on(namespace: &Namespace, interface: &str) -> Option<u64> {
    let link = namespace.link(interface).expect("the interface");
    link["xdp"]["prog"]["id"].as_u64()
}

/// Takes the XDP program off an interface, whoever holds it there.
pub(crate) fn take_program_off(namespace: &Namespace, interface: &str) {
    let program = program_on(namespace, interface).expect("a program");
    // Fails when there was nothing to take off.
    python(&[DETACH], &[program.to_string()]);
}

/// Holds a thread of another process.
pub(crate) fn hold_thread(thread: u32, seconds: u32) {
    python(&["-c", HOLD], &[thread.to_string(), seconds.to_string()]);
}

/// Has a thread of another process that sleeps in `poll` run in a circle from then on.
#[cfg(target_arch = "x86_64")]
pub(crate) fn send_thread_in_a_circle(thread: u32) {
    python(&["-c", CIRCLE], &[thread.to_string()]);
}
