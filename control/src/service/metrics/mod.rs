//! Metrics for Prometheus: what there is, what it is now, and who is told.
//!
//! ```text
//! Desc --- Family --- Sample       text        both forms of text
//! a name   of one     a value,     protobuf    the form with native histograms
//!          scrape     its labels   http        GET /metrics, for a few at a time
//! ```
//!
//! A service describes all of its metrics in tables of [`Desc`], from which its documents are
//! checked, and puts a [`Family`] together for each whenever it is asked. Nothing is counted here.

mod http;
mod protobuf;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::http::{Listener, Scrape, serve};
pub use self::text::Form;

/// The greatest times told apart by classic histograms of frames: nanoseconds, and the same in
/// seconds as both forms of text have it.
pub const LATENCY_BOUNDS: [(u64, &str); 19] = [
    (1_000, "1e-06"),
    (2_000, "2e-06"),
    (5_000, "5e-06"),
    (10_000, "1e-05"),
    (20_000, "2e-05"),
    (50_000, "5e-05"),
    (100_000, "0.0001"),
    (200_000, "0.0002"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_000_000, "0.002"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (20_000_000, "0.02"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (200_000_000, "0.2"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1.0"),
];

/// What sort of a metric it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, from 0 at the start. Its name ends with `_total`.
    Counter,
    /// What is so now.
    Gauge,
    /// Words, as labels of the value 1. Its name ends with `_info`.
    Info,
    /// How often which times were measured, in seconds.
    Histogram,
}

impl Kind {
    /// As documents name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Info => "info",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Debug)]
pub struct Desc {
    /// As it is asked for, without the endings that a histogram's parts have.
    pub name: &'static str,
    /// What sort it is.
    pub kind: Kind,
    /// The labels that each of its samples has, in this order.
    pub labels: &'static [&'static str],
    /// A sentence.
    pub help: &'static str,
}

/// A value of a metric.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A number of things.
    Whole(u64),
    /// A number that need not be whole.
    Real(f64),
    /// Many values.
    Spread(Spread),
}

/// How many of many times were how long.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Spread {
    /// How many were at most each of [`LATENCY_BOUNDS`].
    pub below: [u64; LATENCY_BOUNDS.len()],
    /// How many were in each bucket of a native histogram that is not empty.
    native: BTreeMap<i32, u64>,
    /// How many took no time at all.
    zero: u64,
    /// How many there were.
    pub count: u64,
    /// All together, in seconds.
    pub sum: f64,
}

impl Spread {
    /// Of how many were measured of each length, in nanoseconds.
    pub fn of(measured: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut spread = Self::default();
        for (nanoseconds, count) in measured {
            spread.count = spread.count.saturating_add(count);
            spread.sum += nanoseconds as f64 * count as f64 / 1e9;
            let native = match nanoseconds {
                0 => &mut spread.zero,
                _ => spread
                    .native
                    .entry(protobuf::bucket_of(nanoseconds))
                    .or_default(),
            };
            *native = native.saturating_add(count);
            let first = LATENCY_BOUNDS.partition_point(|(bound, _)| *bound < nanoseconds);
            for below in &mut spread.below[first..] {
                *below = below.saturating_add(count);
            }
        }
        spread
    }
}

/// A value, and what of.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Of the labels of its [`Desc`].
    pub labels: Vec<String>,
    /// The value.
    pub value: Value,
}

/// A metric with what it is now.
#[derive(Clone, Debug)]
pub struct Family {
    /// Which.
    pub desc: &'static Desc,
    /// Each with other values of its labels.
    pub samples: Vec<Sample>,
}

/// All that a service tells at once.
pub type Families = Arc<Vec<Family>>;

impl Family {
    /// One without samples yet.
    #[must_use]
    pub const fn new(desc: &'static Desc) -> Self {
        Self {
            desc,
            samples: Vec::new(),
        }
    }

    /// With one value, without labels.
    #[must_use]
    pub fn one(desc: &'static Desc, value: impl Into<Value>) -> Self {
        let mut family = Self::new(desc);
        family.add([], value);
        family
    }

    /// Adds a value, with one label for each that the metric has.
    pub fn add<const N: usize>(&mut self, labels: [&str; N], value: impl Into<Value>) {
        debug_assert_eq!(N, self.desc.labels.len(), "{}", self.desc.name);
        self.samples.push(Sample {
            labels: labels.map(str::to_owned).into(),
            value: value.into(),
        });
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<Spread> for Value {
    fn from(value: Spread) -> Self {
        Self::Spread(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_in_order_and_are_what_they_say() {
        assert!(LATENCY_BOUNDS.is_sorted_by_key(|(bound, _)| *bound));
        for (nanoseconds, seconds) in LATENCY_BOUNDS {
            let read: f64 = seconds.parse().expect("a number");
            assert!((read * 1e9 - nanoseconds as f64).abs() < 1e-3, "{seconds}");
        }
    }

    #[test]
    fn a_spread_counts_what_is_at_most_each_bound() {
        let spread = Spread::of([(1, 2), (1_000, 3), (1_001, 4), (2_000_000_000, 5)]);
        assert_eq!((spread.count, &spread.below[..3]), (14, &[5, 9, 9][..]));
        assert_eq!(spread.below[LATENCY_BOUNDS.len() - 1], 9);
        assert!((spread.sum - 10.000_007_006).abs() < 1e-9, "{}", spread.sum);
        assert_eq!(Spread::of([]), Spread::default());
    }
}
