//! Times of many, in a few figures.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::connect::percentile;

/// How times are spread. What never came counts as slower than all that did.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Spread {
    /// How many were waited for.
    pub(super) count: usize,
    /// How many of those never came.
    pub(super) missing: usize,
    /// Half took no longer, in milliseconds. `None` when half never came.
    pub(super) p50_ms: Option<f64>,
    /// 99 of 100 took no longer.
    pub(super) p99_ms: Option<f64>,
    /// None took longer; `None` when some never came.
    pub(super) max_ms: Option<f64>,
}

impl Spread {
    /// Of the times of those that came, and how many did not.
    pub(super) fn of(times: impl IntoIterator<Item = Duration>, missing: usize) -> Self {
        let times = times.into_iter().map(|time| time.as_secs_f64() * 1e3);
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        let count = times.len() + missing;
        Self {
            count,
            missing,
            p50_ms: percentile(&times, count, 50),
            p99_ms: percentile(&times, count, 99),
            max_ms: percentile(&times, count, 100),
        }
    }

    /// Whether 99 of 100 took no longer than `target`.
    pub(super) fn p99_within(&self, target: Duration) -> bool {
        is_within(self.p99_ms, target)
    }

    /// Whether all came, and none took longer than `target`.
    pub(super) fn all_within(&self, target: Duration) -> bool {
        is_within(self.max_ms, target)
    }
}

fn is_within(milliseconds: Option<f64>, target: Duration) -> bool {
    milliseconds.is_some_and(|value| value <= target.as_secs_f64() * 1e3)
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = [
            ("p50", self.p50_ms),
            ("p99", self.p99_ms),
            ("max", self.max_ms),
        ];
        let shown = shown.map(|(name, value)| format!("{name} {}", milliseconds(value)));
        write!(f, "{}  ({} times", shown.join("  "), self.count)?;
        if self.missing > 0 {
            write!(f, ", {} never came", self.missing)?;
        }
        f.write_str(")")
    }
}

/// A time in a table: in seconds from one second on.
pub(super) fn milliseconds(value: Option<f64>) -> String {
    match value {
        None => "never".to_owned(),
        Some(value) if value >= 1000.0 => format!("{:.2} s", value / 1e3),
        Some(value) => format!("{value:.1} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: u64, missing: usize) -> Spread {
        Spread::of((1..=count).rev().map(Duration::from_millis), missing)
    }

    #[test]
    fn percentiles_are_of_all_that_was_waited_for() {
        let spread = of(200, 0);
        let values = (spread.p50_ms, spread.p99_ms, spread.max_ms);
        assert_eq!(values, (Some(100.0), Some(198.0), Some(200.0)));
        let spread = of(100, 100);
        let values = (spread.p50_ms, spread.p99_ms, spread.max_ms);
        assert_eq!(values, (Some(100.0), None, None));
    }

    #[test]
    fn a_target_is_missed_by_one_that_never_came() {
        let target = Duration::from_millis(100);
        assert!(of(100, 0).all_within(target) && !of(101, 0).all_within(target));
        assert!(!of(50, 1).all_within(target));
        assert!(of(99, 1).p99_within(target) && !of(98, 2).p99_within(target));
        assert!(!of(0, 0).p99_within(target), "nothing was measured");
    }

    #[test]
    fn it_is_read_by_people() {
        let text = of(1500, 1).to_string();
        assert_eq!(
            text,
            "p50 751.0 ms  p99 1.49 s  max never  (1501 times, 1 never came)"
        );
    }
}
