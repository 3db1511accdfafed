//! Running this very program under valgrind's callgrind.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant as Clock};

use crate::Failure;

/// How long a run may take; a few seconds are usual.
const LIMIT: Duration = Duration::from_secs(120);

/// Instructions within a function, and all that it calls, when this program is run with these
/// arguments. Valgrind's file is kept at `keep`, if that is a place.
///
/// # Errors
/// When valgrind is not installed or fails, the program does, or the function is never called.
pub(super) fn count(
    function: &str,
    arguments: &[&str],
    keep: Option<PathBuf>,
) -> Result<u64, Failure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("callgrind.out");
    let program = env::current_exe()?;
    let mut child = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{function}*"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("valgrind: {error} (Debian has it in the package valgrind)"))?;
    let start = Clock::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            return Err(format!("valgrind took longer than {LIMIT:?}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if !status.success() {
        return Err(format!("valgrind {}: {status}", arguments.join(" ")).into());
    }
    let instructions = read_total(&file)?;
    if let Some(place) = keep {
        fs::copy(&file, &place).map_err(|error| format!("{}: {error}", place.display()))?;
    }
    Ok(instructions)
}

fn read_total(file: &Path) -> Result<u64, Failure> {
    let text = fs::read_to_string(file)?;
    match total(&text) {
        Some(total) if total > 0 => Ok(total),
        _ => Err("valgrind counted nothing: is the program stripped of its symbols?".into()),
    }
}

/// The sum over all functions, of the only event that is counted: instructions.
fn total(text: &str) -> Option<u64> {
    let mut totals = text.lines().filter_map(|line| line.strip_prefix("totals:"));
    totals.next_back()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_and_nothing_counted_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("out");
        for (text, expected) in [
            ("events: Ir\nfn=(1) a\n1 5\ntotals: 1234\n", Some(1234)),
            ("events: Ir\ntotals: 0\n", None),
            ("events: Ir\n", None),
        ] {
            fs::write(&file, text).expect("written");
            assert_eq!(read_total(&file).ok(), expected, "{text}");
        }
        assert!(read_total(Path::new("/nowhere")).is_err());
    }
}
