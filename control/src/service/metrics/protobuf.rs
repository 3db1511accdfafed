//! Metrics as protobuf: messages of `io.prometheus.client`, each after its length.
//!
//! The one form with native histograms, whose buckets are fine, and told only where something is in
//! them. Names of series and labels are as in the older form of text.

use prost::Message as _;

use super::{Family, Kind, LATENCY_BOUNDS, Sample, Spread, Value};

/// The message that a family is.
pub(super) const MESSAGE: &str = "io.prometheus.client.MetricFamily";
/// As HTTP names it.
pub(super) const CONTENT_TYPE: &str = "application/vnd.google.protobuf; \
    proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// 2 to this power of native buckets lie between a power of two and the next, so that each ends
/// 2.2 % after the one before. Engines tell 128 times apart there, each 0.4 to 0.8 % from the next:
/// two of them or more are in each native bucket, so that none is empty by chance. Less loses more.
const SCHEMA: i32 = 5;
/// What is at most so many seconds counts as none: less than a nanosecond, and a bound of buckets.
const ZERO_THRESHOLD: f64 = 1.0 / (1u64 << 30) as f64;
/// So many empty buckets are shorter than the beginning of another span.
const GAP: i32 = 2;

/// The native bucket of a time in nanoseconds, which is not 0: bucket n ends, inclusively, at
/// 2^(n / 2^[`SCHEMA`]) seconds.
pub(super) fn bucket_of(nanoseconds: u64) -> i32 {
    let octaves = (nanoseconds as f64 / 1e9).log2();
    (octaves * f64::from(1 << SCHEMA)).ceil() as i32
}

/// A family. The numbers of fields are those of `io/prometheus/client/metrics.proto`.
#[derive(Clone, PartialEq, prost::Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    /// An enumeration: 0 a counter, 1 a gauge, 4 a histogram.
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// `Gauge` and `Counter`: the same but for their name.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    /// Classic ones, but for that without a bound, which `count` is.
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    /// Which native buckets are told.
    #[prost(message, repeated, tag = "12")]
    spans: Vec<Span>,
    /// How many more each of these holds than the one before.
    #[prost(sint64, repeated, tag = "13")]
    deltas: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Bucket {
    /// Of this bucket and all before.
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    bound: f64,
}

/// `BucketSpan`: native buckets without a gap.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Span {
    /// Of the first span its first bucket, of others the gap before them.
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

/// Everything.
pub(super) fn write(families: &[Family]) -> Vec<u8> {
    let told = families.iter().filter(|family| !family.samples.is_empty());
    told.flat_map(|family| MetricFamily::of(family).encode_length_delimited_to_vec())
        .collect()
}

impl MetricFamily {
    fn of(family: &Family) -> Self {
        let desc = family.desc;
        Self {
            name: desc.name.to_owned(),
            help: desc.help.to_owned(),
            kind: match desc.kind {
                Kind::Counter => 0,
                Kind::Gauge | Kind::Info => 1,
                Kind::Histogram => 4,
            },
            metrics: {
                let samples = family.samples.iter();
                samples.map(|sample| Metric::of(family, sample)).collect()
            },
        }
    }
}

impl Metric {
    fn of(family: &Family, sample: &Sample) -> Self {
        let labels = family.desc.labels.iter().zip(&sample.labels);
        let mut metric = Self {
            labels: labels
                .map(|(name, value)| LabelPair {
                    name: (*name).to_owned(),
                    value: value.clone(),
                })
                .collect(),
            ..Self::default()
        };
        let number = |value| match family.desc.kind {
            Kind::Counter => (None, Some(Number { value })),
            Kind::Gauge | Kind::Info | Kind::Histogram => (Some(Number { value }), None),
        };
        match &sample.value {
            Value::Whole(value) => (metric.gauge, metric.counter) = number(*value as f64),
            Value::Real(value) => (metric.gauge, metric.counter) = number(*value),
            Value::Spread(spread) => metric.histogram = Some(Histogram::of(spread)),
        }
        metric
    }
}

impl Histogram {
    fn of(spread: &Spread) -> Self {
        let classic = LATENCY_BOUNDS.iter().zip(spread.below);
        let mut histogram = Self {
            count: spread.count,
            sum: spread.sum,
            buckets: classic
                .map(|(&(bound, _), count)| Bucket {
                    count,
                    bound: bound as f64 / 1e9,
                })
                .collect(),
            schema: SCHEMA,
            // Not 0, so that one in which nothing was counted yet is a native one as well.
            zero_threshold: ZERO_THRESHOLD,
            zero_count: spread.zero,
            ..Self::default()
        };
        let (mut next, mut before) = (0, 0);
        for (&bucket, &count) in &spread.native {
            let gap = bucket - next;
            match histogram.spans.last_mut() {
                Some(span) if gap <= GAP => {
                    for _ in 0..gap {
                        histogram.deltas.push(delta(before, 0));
                        before = 0;
                    }
                    span.length += gap as u32 + 1;
                }
                _ => histogram.spans.push(Span {
                    offset: gap,
                    length: 1,
                }),
            }
            histogram.deltas.push(delta(before, count));
            (next, before) = (bucket + 1, count);
        }
        histogram
    }
}

/// What is to be added to the one for the other, modulo 2^64.
const fn delta(from: u64, to: u64) -> i64 {
    to.wrapping_sub(from) as i64
}

#[cfg(test)]
mod tests;
