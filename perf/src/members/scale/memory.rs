//! Memory of a process, as the kernel counts it.

use std::fs;

use crate::Failure;

/// A size of `/proc/.../status`, such as `VmRSS:`, in octets.
///
/// # Errors
/// When there is no such process or line.
pub(in super::super) fn of(file: &str, name: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(file)?;
    parse(&status, name).ok_or_else(|| format!("{file} has no {name}").into())
}

/// The resident memory of this process, in octets.
///
/// # Errors
/// As [`of`].
pub(super) fn resident() -> Result<u64, Failure> {
    of("/proc/self/status", "VmRSS:")
}

/// The most that was resident since this process began, in octets.
///
/// # Errors
/// As [`of`].
pub(super) fn peak() -> Result<u64, Failure> {
    of("/proc/self/status", "VmHWM:")
}

fn parse(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib = line.trim().strip_suffix("kB")?;
    Some(kib.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_octets() {
        let status = "Name:\tomni-perf\nVmHWM:\t   9000 kB\nVmRSS:\t    7160 kB\nThreads:\t1\n";
        assert_eq!(parse(status, "VmRSS:"), Some(7160 * 1024));
        assert_eq!(parse(status, "VmHWM:"), Some(9000 * 1024));
        assert_eq!(parse(status, "VmSwap:"), None);
        assert_eq!(parse(status, "Threads:"), None, "not a size");
    }

    #[test]
    fn this_process_is_somewhere() {
        assert!(resident().is_ok_and(|octets| octets > 100_000));
    }
}
