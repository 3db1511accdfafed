//! What a program does about itself: its secrets stay in memory, and a panic ends it.

use std::any::Any;
use std::io;
use std::panic;
use std::process;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tracing::error;
use zeroize::Zeroize;

/// So many octets of a stack are wiped: more than starting and reloading take, and a small part of
/// what a thread has.
const STACK_LEFT: usize = 256 << 10;

/// Makes a panic in whatever thread end the process: a line in the log, then `SIGABRT`, which a
/// service manager takes for a failure. Nothing is unwound and nothing goes on half-dead.
pub fn abort_on_panic() {
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("?");
        let place = panic.location().map(ToString::to_string);
        let place = place.unwrap_or_default();
        error!(thread, place, "panic: {}", words(panic.payload()));
        process::abort();
    }));
}

/// What a panic says, if it says anything.
fn words(payload: &(dyn Any + Send)) -> &str {
    let fixed = payload.downcast_ref::<&str>().copied();
    fixed
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no words")
}

/// Keeps the process's memory from core dumps, and from others of the same user, who could attach
/// to it. A change of user takes that back, so it has to be said again after one.
///
/// # Errors
/// What the kernel refuses.
pub fn forbid_dumps() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let nothing = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, nothing)?)
}

/// Keeps all memory, present and future, from being swapped out. A page is locked when it is first
/// used, so that this makes the process no larger.
///
/// It takes that any amount may be locked (`ulimit -l unlimited`), or root's privileges to say so:
/// with a limit, memory that is wanted later would be refused.
///
/// # Errors
/// What the kernel refuses.
pub fn lock_memory() -> io::Result<()> {
    let any = Rlimit {
        current: None,
        maximum: None,
    };
    setrlimit(Resource::Memlock, any)?;
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    Ok(mlockall(all)?)
}

/// Wipes what functions that have returned left of keys on the calling thread's stack.
#[inline(never)]
pub fn wipe_stack() {
    let mut left = [0_u8; STACK_LEFT];
    left.zeroize();
}

/// What to add to the words that end a program, where they are that it may not open as many files
/// as it takes (`EMFILE`), whatever for. Empty for all other words.
#[must_use]
pub fn files_remedy(words: &str) -> &'static str {
    if words.contains("(os error 24)") {
        "; raise the limit of open files: ulimit -n 1024, or LimitNOFILE= of the unit"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_open_files_have_a_remedy_and_other_words_none() {
        let few = io::Error::from(rustix::io::Errno::MFILE).to_string();
        assert!(files_remedy(&few).contains("ulimit -n"), "{few}");
        let other = io::Error::from(rustix::io::Errno::ACCESS).to_string();
        assert_eq!(files_remedy(&other), "");
    }
}
