//! A histogram that is kept whole: as JSON its counts stand, so that whoever merges several takes
//! percentiles of all and never a mean of percentiles.

use hdrhistogram::Histogram;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Significant digits.
const DIGITS: u8 = 3;
/// What is longer, in nanoseconds, counts as this: a day.
const LONGEST: u64 = 86_400_000_000_000;

/// Times in nanoseconds, in buckets of 3 significant digits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("allowed bounds"))
    }
}

impl Times {
    /// Counts one time.
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds what another counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    /// How many were counted.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that `percent` of all do not exceed, in nanoseconds; 0 where none was counted.
    pub(crate) fn percentile(&self, percent: f64) -> u64 {
        self.0.value_at_percentile(percent)
    }

    /// The longest, in nanoseconds.
    pub(crate) fn max(&self) -> u64 {
        self.0.max()
    }
}

/// How it stands in JSON.
#[derive(Deserialize, Serialize)]
struct Document {
    unit: String,
    count: u64,
    min: u64,
    max: u64,
    counts: Vec<(u64, u64)>,
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = self.0.iter_recorded();
        let document = Document {
            unit: "ns".to_owned(),
            count: self.0.len(),
            min: self.0.min(),
            max: self.0.max(),
            counts: counts
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        };
        document.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Document::deserialize(deserializer)?;
        let mut times = Self::default();
        for (value, count) in document.counts {
            let recorded = times.0.record_n(value, count);
            recorded.map_err(|error| D::Error::custom(format!("{value}: {error}")))?;
        }
        if times.0.len() == document.count && document.unit == "ns" {
            return Ok(times);
        }
        Err(D::Error::custom("a histogram whose counts do not add up"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_json_and_merges_by_counts() {
        let (mut fast, mut slow) = (Times::default(), Times::default());
        (1..=900).for_each(|_| fast.record(1000));
        (1..=100).for_each(|_| slow.record(5_000_000_000));
        let text = serde_json::to_string(&slow).expect("plain values");
        let read: Times = serde_json::from_str(&text).expect("what was written");
        assert_eq!(read.count(), 100);
        fast.merge(&read);
        assert_eq!((fast.count(), fast.percentile(90.0)), (1000, 1000));
        // 3 digits.
        let error = fast.max().abs_diff(5_000_000_000);
        assert!(error < 5_000_000, "{}", fast.max());
        assert!(fast.percentile(90.1) > 4_990_000_000);
    }

    #[test]
    fn as_the_lab_reads_it() {
        let mut times = Times::default();
        [7, 7, 9].into_iter().for_each(|ns| times.record(ns));
        let json = serde_json::to_value(&times).expect("plain values");
        let expected = serde_json::json!({
            "unit": "ns", "count": 3, "min": 7, "max": 9, "counts": [[7, 2], [9, 1]],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let wrong = r#"{"unit":"ns","count":3,"min":7,"max":9,"counts":[[7,2]]}"#;
        assert!(serde_json::from_str::<Times>(wrong).is_err());
        let wrong = r#"{"unit":"s","count":2,"min":7,"max":9,"counts":[[7,2]]}"#;
        assert!(serde_json::from_str::<Times>(wrong).is_err());
    }
}
