//! What a worker counts. It alone writes; readers get copies, made between two bursts.

use hdrhistogram::Histogram;
use omni_wire::{DropCounters, Instant};
use serde::{Deserialize, Serialize};

use crate::datapath::Counted;
use crate::io::{Census, QueueCounters};

/// The longest latency told apart, in nanoseconds; longer ones count as this.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
/// Decimal digits that are exact.
const LATENCY_DIGITS: u8 = 2;
/// Leading bits of a latency that are told apart: within 1 %, and a histogram stays in the cache.
const LATENCY_BITS: u32 = 8;
/// Latencies between a power of two and the next that are told apart.
const STEPS: usize = 1 << (LATENCY_BITS - 1);
/// How many are told apart in all.
const BUCKETS: usize = bucket_of(LATENCY_MAX_NS) + 1;

/// Latencies in nanoseconds: a histogram with buckets of one width between two powers of two, as
/// [`Histogram`] of two digits has, whose bounds are known when this is compiled.
#[derive(Clone, Debug)]
pub struct Latency {
    counts: Box<[u64; BUCKETS]>,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
        }
    }
}

/// Where a number of nanoseconds is counted.
#[inline]
const fn bucket_of(nanoseconds: u64) -> usize {
    let cut = (nanoseconds | STEPS as u64).ilog2() - STEPS.ilog2();
    cut as usize * STEPS + (nanoseconds >> cut) as usize
}

/// The most nanoseconds that are counted in a bucket.
const fn longest_in(bucket: usize) -> u64 {
    let cut = (bucket / STEPS).saturating_sub(1);
    (((bucket - cut * STEPS) as u64 + 1) << cut) - 1
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
        self.record_many(from, to, 1);
    }

    /// Counts the time from `from` to `to` for so many frames that shared it.
    #[inline]
    pub fn record_many(&mut self, from: Instant, to: Instant, frames: u64) {
        let nanoseconds = to.0.saturating_sub(from.0).clamp(1, LATENCY_MAX_NS);
        self.counts[bucket_of(nanoseconds)] += frames;
    }

    /// The longest time of each bucket that is not empty, in nanoseconds, and how many it holds:
    /// ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.counts.iter().enumerate();
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, &count)| (longest_in(bucket).clamp(1, LATENCY_MAX_NS), count))
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        for (count, other) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count += other;
        }
    }

    /// The percentiles so far.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let histogram = self.histogram();
        let at = |quantile| histogram.value_at_quantile(quantile);
        Percentiles {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max(),
        }
    }

    /// The same in the form that other tools know.
    fn histogram(&self) -> Histogram<u64> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_NS, LATENCY_DIGITS);
        let mut histogram = histogram.expect("constant bounds are in order");
        for (longest, count) in self.buckets() {
            histogram.saturating_record_n(longest, count);
        }
        histogram
    }
}

/// A queue of a worker, what it carried and how long that took.
#[derive(Clone, Debug)]
pub struct QueueReport {
    /// Which, and what it carried.
    pub counters: QueueCounters,
    /// From the driver's stamp on this queue to the turn that took the frame. Empty where drivers
    /// do not stamp.
    pub wait: Latency,
    /// From that stamp, or from when the frame was read where there is none, until it was sent.
    pub through: Latency,
}

/// How a worker spent its turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Turns {
    /// Turns of the loop in which there was something to do.
    pub busy: u64,
    /// Turns in which there was nothing.
    pub idle: u64,
    /// Times that it slept.
    pub sleeps: u64,
    /// Bursts from the underlay.
    pub underlay_bursts: u64,
    /// Bursts from the access ports, all together.
    pub access_bursts: u64,
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
    /// From the beginning of a turn until its frames were ready to be sent: look-ups and
    /// cryptography, of the whole burst.
    pub work: Latency,
    /// From there until they were in the transmit rings and the system calls had returned that
    /// send them.
    pub send: Latency,
    /// How it spent its turns.
    pub turns: Turns,
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
    fn buckets_follow_each_other_and_are_one_percent_wide() {
        let mut least = 0;
        for bucket in 0..BUCKETS {
            let most = longest_in(bucket);
            assert_eq!((bucket_of(least), bucket_of(most)), (bucket, bucket));
            assert!((most - least) * 100 <= least, "{least} to {most}");
            least = most + 1;
        }
        assert!(least > LATENCY_MAX_NS);
    }

    #[test]
    fn ranks_are_counted_from_one() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentiles(), Percentiles::default());
        for nanoseconds in 1..=100 {
            latency.record(Instant(0), Instant(nanoseconds));
        }
        let expected = Percentiles {
            count: 100,
            p50: 50,
            p90: 90,
            p99: 99,
            p999: 100,
            p9999: 100,
            max: 100,
        };
        assert_eq!(latency.percentiles(), expected);
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
