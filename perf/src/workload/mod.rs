//! What the workloads have in common: histograms as JSON, dates, seeded numbers, and arguments.

mod dice;
mod histogram;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::Failure;

pub(crate) use dice::Dice;
pub(crate) use histogram::Times;

/// No run is longer, in seconds.
const SECONDS_MAX: f64 = 86_400.0;

/// The time of day as RFC 3339 has it, in UTC, to the second.
pub(crate) fn now_text() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    date_text(since.unwrap_or_default().as_secs())
}

/// A date from seconds since 1970, by Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>).
fn date_text(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months count from March here, so that the leap day is a year's last.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A time in seconds from the command line: 0.01 to a day.
pub(crate) fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|s| (0.01..=SECONDS_MAX).contains(s));
    seconds.ok_or_else(|| format!("allowed is 0.01..={SECONDS_MAX}"))
}

/// A share or probability from the command line: 0 to 1.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok();
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "allowed is 0 to 1".to_owned())
}

/// Octets from the command line, such as `8`, `64K`, `16M` or `1G`, in powers of 1024.
pub(crate) fn parse_octets(text: &str) -> Result<u64, String> {
    let shift = match text.as_bytes().last() {
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        _ => 0,
    };
    let digits = if shift == 0 {
        text
    } else {
        &text[..text.len() - 1]
    };
    let number: Option<u64> = digits.parse().ok();
    let octets = number.and_then(|number| number.checked_mul(1 << shift));
    octets.ok_or_else(|| format!("`{text}` is no number of octets such as 8, 64K or 16M"))
}

/// Writes a result as JSON, with a newline at the end.
///
/// # Errors
/// When the file cannot be written; it is named.
pub(crate) fn write_json(path: &Path, result: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(result)? + "\n";
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// SIGTERM and SIGINT as something to wait for. Made before any other thread starts, which all
/// leave these signals to it then.
pub(crate) struct Ending(SignalFd);

impl Ending {
    /// Takes both signals over.
    pub(crate) fn take() -> Result<Self, Failure> {
        let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?))
    }

    /// Waits until a signal comes, `is_over` says so, or `at_most` has passed.
    pub(crate) fn wait(
        &self,
        at_most: Duration,
        is_over: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        /// How often `is_over` is asked.
        const LOOK: Duration = Duration::from_millis(50);
        let end = std::time::Instant::now() + at_most;
        while !is_over() {
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                break;
            }
            let timeout = Timespec::try_from(left.min(LOOK))?;
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Makes the kernel wake this thread when it asked to be, and not up to 50 us later.
pub(crate) fn wake_precisely() {
    // Where that is refused the times show it.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// Joins a thread; its panic goes on here.
pub(crate) fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_the_calendar_has_them() {
        assert_eq!(date_text(0), "1970-01-01T00:00:00Z");
        assert_eq!(date_text(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(date_text(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date_text(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(date_text(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(date_text(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn octets_with_and_without_a_unit() {
        assert_eq!(parse_octets("8"), Ok(8));
        assert_eq!(parse_octets("64K"), Ok(65_536));
        assert_eq!(parse_octets("16m"), Ok(16 << 20));
        for wrong in ["", "K", "-1", "1.5M", "99999999999999G", "8é"] {
            assert!(parse_octets(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seconds_and_shares_are_bounded() {
        assert_eq!(parse_share("0.001"), Ok(0.001));
        assert!(parse_share("1.01").is_err() && parse_share("nan").is_err());
        assert_eq!(parse_seconds("1.5"), Ok(1.5));
        for wrong in ["0", "-1", "nan", "inf", "x", "90000"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }
}
