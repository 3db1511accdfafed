//! How long frames take, stage by stage: what `omni report` reads and merges.
//!
//! ```text
//! driver ---wait---> worker's turn ---work---> ready ---send---> sent
//!        \______________________ through ______________________/
//! ```
//!
//! Each stage is a histogram of its own. Histograms are merged by adding their counts, and
//! percentiles are taken from what is merged: percentiles have no average.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::{Latency, Percentiles};

/// The unit of all values.
pub const UNIT: &str = "ns";

/// A histogram as it is written: buckets that are not empty.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Histogram {
    /// [`UNIT`].
    pub unit: String,
    /// How many were measured.
    pub count: u64,
    /// The least, to within its bucket; 0 when there are none.
    pub min: u64,
    /// The greatest, to within its bucket; 0 when there are none.
    pub max: u64,
    /// The greatest value of each bucket and how many it holds, ascending.
    pub counts: Vec<(u64, u64)>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::of(BTreeMap::new())
    }
}

impl From<&Latency> for Histogram {
    fn from(latency: &Latency) -> Self {
        Self::of(latency.buckets().collect())
    }
}

impl Histogram {
    fn of(mut counts: BTreeMap<u64, u64>) -> Self {
        counts.retain(|_, count| *count > 0);
        Self {
            unit: UNIT.to_owned(),
            count: counts
                .values()
                .fold(0, |sum, &count| sum.saturating_add(count)),
            min: counts.keys().next().copied().unwrap_or(0),
            max: counts.keys().next_back().copied().unwrap_or(0),
            counts: counts.into_iter().collect(),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut counts: BTreeMap<_, _> = self.counts.iter().copied().collect();
        for &(value, count) in &other.counts {
            let sum = counts.entry(value).or_default();
            *sum = sum.saturating_add(count);
        }
        Self::of(counts)
    }

    /// What was counted since `earlier`; `None` where that counted more of anything.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut counts: BTreeMap<_, _> = self.counts.iter().copied().collect();
        for &(value, count) in &earlier.counts {
            let now = counts.entry(value).or_default();
            *now = now.checked_sub(count)?;
        }
        Some(Self::of(counts))
    }

    /// The least value that at least this part of all values does not exceed; 0 when there are
    /// none. `quantile` is 0 to 1.
    #[must_use]
    pub fn at(&self, quantile: f64) -> u64 {
        let rank = (quantile.clamp(0.0, 1.0) * self.count as f64)
            .ceil()
            .max(1.0);
        let mut below = 0;
        for &(value, count) in &self.counts {
            below += count;
            if below as f64 >= rank {
                return value;
            }
        }
        self.max
    }

    /// The usual ones.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            count: self.count,
            p50: self.at(0.5),
            p90: self.at(0.9),
            p99: self.at(0.99),
            p999: self.at(0.999),
            p9999: self.at(0.9999),
            max: self.max,
        }
    }
}

/// Where frames come from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The fabric's messages, from other nodes.
    Underlay,
    /// Frames of hosts.
    Access,
}

/// What a queue received, and how long that took.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueStages {
    /// The interface.
    pub port: String,
    /// Which side of the node that is.
    pub side: Side,
    /// Number of the queue on the interface.
    pub queue: u32,
    /// As in [`QueueView::mode`](crate::show::QueueView::mode).
    pub mode: String,
    /// From the driver's stamp to the worker's turn. Empty for taps and UDP sockets.
    pub wait: Histogram,
    /// From that stamp, or from when the frame was read where there is none, until it was sent.
    pub through: Histogram,
}

/// What a worker spent on the frames of all its queues.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkerStages {
    /// Its index.
    pub worker: usize,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// Its queues.
    pub queues: Vec<QueueStages>,
    /// From the beginning of a turn until its frames were ready to be sent: look-ups and
    /// cryptography, of the whole burst.
    pub work: Histogram,
    /// From there until they were in the transmit rings and the system calls had returned that
    /// send them.
    pub send: Histogram,
}

/// What a node counted since its engine started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStages {
    /// Its name.
    pub node: String,
    /// Its public key.
    pub public_key: String,
    /// How long the engine has been running, in seconds.
    pub uptime_seconds: u64,
    /// Its workers.
    pub workers: Vec<WorkerStages>,
}

#[cfg(test)]
mod tests {
    use omni_wire::Instant;

    use super::*;

    fn histogram(values: &[u64]) -> Histogram {
        let mut latency = Latency::default();
        for &value in values {
            latency.record(Instant(0), Instant(value));
        }
        Histogram::from(&latency)
    }

    #[test]
    fn what_is_merged_is_what_would_have_been_counted_together() {
        let (fast, slow) = (histogram(&[10, 10, 90]), histogram(&[90, 70_000]));
        let both = fast.plus(&slow);
        assert_eq!(both, histogram(&[10, 90, 70_000, 90, 10]));
        assert_eq!(both.count, 5);
        assert_eq!(both.since(&fast), Some(slow.clone()));
        assert_eq!(both.since(&both), Some(Histogram::default()));
        // An engine that was started again has counted less.
        assert_eq!(fast.since(&slow), None);
        assert_eq!(Histogram::default().plus(&slow), slow);
    }

    #[test]
    fn quantiles_are_those_of_the_counter() {
        let mut latency = Latency::default();
        let mut value = 17u64;
        for _ in 0..5_000 {
            value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
            latency.record(Instant(0), Instant(value % 3_000_000));
        }
        let (ours, theirs) = (
            Histogram::from(&latency).percentiles(),
            latency.percentiles(),
        );
        assert_eq!(ours, theirs);
        let few = histogram(&[1, 2, 3, 4]);
        assert_eq!(
            [0.0, 0.25, 0.26, 0.75, 1.0].map(|at| few.at(at)),
            [1, 1, 2, 3, 4]
        );
        assert_eq!(Histogram::default().at(0.5), 0);
    }

    #[test]
    fn it_is_written_as_buckets() {
        let text = serde_json::to_string(&histogram(&[5, 5, 7])).expect("it is written");
        let expected = r#"{"unit":"ns","count":3,"min":5,"max":7,"counts":[[5,2],[7,1]]}"#;
        assert_eq!(text, expected);
        assert_eq!(
            serde_json::from_str::<Histogram>(&text).expect("it is read"),
            histogram(&[5, 5, 7])
        );
    }
}
