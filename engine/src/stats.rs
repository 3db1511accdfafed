//! What a worker counts. It alone writes; readers get copies, made between two bursts.

use hdrhistogram::Histogram;
use omni_wire::{DropCounters, Instant};
use serde::{Deserialize, Serialize};

use crate::datapath::Counted;
use crate::io::{Census, QueueCounters};

/// The longest latency told apart, in nanoseconds; longer ones count as this.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
/// Decimal digits that are exact: 1 % suffices, and keeps a histogram in the cache.
const LATENCY_DIGITS: u8 = 2;

/// Latencies in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_NS, LATENCY_DIGITS);
        Self(histogram.expect("constant bounds are in order"))
    }
}

/// Percentiles of a latency, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 90 % are at most this.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// 99.99 %.
    pub p9999: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    /// Counts the time from `from` to `to`.
    #[inline]
    pub fn record(&mut self, from: Instant, to: Instant) {
        self.0
            .saturating_record(to.0.saturating_sub(from.0).clamp(1, LATENCY_MAX_NS));
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        // Fails only for different bounds, and all have the same.
        let _ = self.0.add(&other.0);
    }

    /// The percentiles so far.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile);
        Percentiles {
            count: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: self.0.max(),
        }
    }
}

/// A queue of a worker, what it carried and how long that took.
#[derive(Clone, Debug)]
pub struct QueueReport {
    /// Which, and what it carried.
    pub counters: QueueCounters,
    /// From the driver's stamp on this queue to the other side's transmit ring.
    pub latency: Latency,
}

/// Everything a worker counted since it started.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    /// Its index.
    pub worker: usize,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// Its queues.
    pub queues: Vec<QueueReport>,
    /// What it dropped, or the kernel before it.
    pub drops: DropCounters,
    /// What it found in frames, beside drops.
    pub counted: Counted,
    /// Where its frames are.
    pub census: Census,
    /// Frames that wait for a session: part of [`Census::held`].
    pub staged: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_within_one_percent_and_merged_not_averaged() {
        let (mut fast, mut slow) = (Latency::default(), Latency::default());
        for n in 1..=9_900u64 {
            fast.record(Instant(0), Instant(1_000 + n));
        }
        for _ in 0..100 {
            slow.record(Instant(5), Instant(1_000_005));
        }
        fast.merge(&slow);
        let seen = fast.percentiles();
        assert_eq!(seen.count, 10_000);
        assert!(seen.p50.abs_diff(6_000) <= 60, "{seen:?}");
        assert!(seen.p999.abs_diff(1_000_000) <= 10_000, "{seen:?}");
        assert!(seen.max >= 1_000_000);
    }

    #[test]
    fn clocks_that_disagree_and_endless_waits_count_at_the_ends() {
        let mut latency = Latency::default();
        latency.record(Instant(10), Instant(5));
        latency.record(Instant(0), Instant(u64::MAX));
        assert_eq!(latency.percentiles().count, 2);
        assert!(latency.percentiles().max >= LATENCY_MAX_NS * 99 / 100);
    }
}
