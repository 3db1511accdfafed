//! What is written is read again, as Prometheus reads it.

use proptest::prelude::*;

use super::super::{Desc, Form};
use super::*;

const FRAMES: Desc = Desc {
    name: "omni_frames_total",
    kind: Kind::Counter,
    labels: &["peer", "direction"],
    help: "Frames, \"inner\" ones.",
};
const BUILD: Desc = Desc {
    name: "omni_build_info",
    kind: Kind::Info,
    labels: &["v"],
    help: "It.",
};
const AGE: Desc = Desc {
    name: "omni_age_seconds",
    kind: Kind::Gauge,
    labels: &[],
    help: "An age.",
};
const TIMES: Desc = Desc {
    name: "omni_times_seconds",
    kind: Kind::Histogram,
    labels: &[],
    help: "Times.",
};

/// All families of an answer, which they fill.
fn read(mut octets: &[u8]) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    while !octets.is_empty() {
        let family = MetricFamily::decode_length_delimited(&mut octets);
        families.push(family.expect("a family"));
    }
    families
}

/// The histogram of these times in nanoseconds, each so often, after it was written and read.
fn histogram(measured: &[(u64, u64)]) -> Histogram {
    let times = Spread::of(measured.iter().copied());
    let families = read(&write(&[Family::one(&TIMES, times)]));
    let [family] = families.as_slice() else {
        panic!("{families:?}");
    };
    assert_eq!((family.kind, family.metrics.len()), (4, 1));
    family.metrics[0].histogram.clone().expect("a histogram")
}

/// The native buckets that are told, and how many each holds.
fn native(histogram: &Histogram) -> Vec<(i32, u64)> {
    let (mut buckets, mut next, mut count) = (Vec::new(), 0, 0u64);
    let mut deltas = histogram.deltas.iter();
    for (place, span) in histogram.spans.iter().enumerate() {
        // Prometheus takes no others.
        assert!(place == 0 || span.offset > 0, "{:?}", histogram.spans);
        next += span.offset;
        for _ in 0..span.length {
            let delta = deltas.next().expect("one for each bucket of a span");
            count = count.wrapping_add_signed(*delta);
            buckets.push((next, count));
            next += 1;
        }
    }
    assert_eq!(deltas.next(), None, "of no span");
    buckets
}

/// Where a native bucket ends, in seconds.
fn end_of(bucket: i32) -> f64 {
    (f64::from(bucket) / f64::from(1 << SCHEMA)).exp2()
}

#[test]
fn octets_are_those_of_the_published_messages() {
    let mut build = Family::new(&BUILD);
    build.add(["w"], true);
    let want = [
        // 45 octets: name, help, type, and 19 octets of a metric.
        b"\x2d\x0a\x0fomni_build_info\x12\x03It.\x18\x01\x22\x13".as_slice(),
        b"\x0a\x06\x0a\x01v\x12\x01w\x12\x09\x09\0\0\0\0\0\0\xf0\x3f",
    ];
    assert_eq!(write(&[build]), want.concat());

    let one = Histogram::of(&Spread::of([(1_000_000_000, 3)])).encode_to_vec();
    let begin = b"\x08\x03\x11\0\0\0\0\0\0\x08\x40\x1a\x09\x11".as_slice();
    assert!(one.starts_with(begin), "{one:02x?}");
    // Schema 5, 2^-30, a span of bucket 0, and 3 more there than none.
    let end = b"\x28\x0a\x31\0\0\0\0\0\0\x10\x3e\x62\x02\x10\x01\x6a\x01\x06".as_slice();
    assert!(one.ends_with(end), "{one:02x?}");
}

#[test]
fn families_are_those_of_the_text() {
    let (mut frames, mut build) = (Family::new(&FRAMES), Family::new(&BUILD));
    frames.add(["a \"b\"\\\n", "rx"], 7u64);
    frames.add(["b", "tx"], u64::MAX);
    build.add(["0.1.0"], true);
    let empty = Family::new(&TIMES);
    let families = [frames, empty, build, Family::one(&AGE, Value::Real(2.5))];
    let read = read(&write(&families));
    let heads: Vec<_> = read.iter().map(|it| (it.name.as_str(), it.kind)).collect();
    let want = [
        ("omni_frames_total", 0),
        ("omni_build_info", 1),
        ("omni_age_seconds", 1),
    ];
    assert_eq!(heads, want);
    let [received, sent] = read[0].metrics.as_slice() else {
        panic!("{read:?}");
    };
    let pair = |name: &str, value: &str| LabelPair {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let labels = [pair("peer", "a \"b\"\\\n"), pair("direction", "rx")];
    assert_eq!(received.labels, labels);
    assert_eq!(received.counter, Some(Number { value: 7.0 }));
    assert_eq!((&received.gauge, &received.histogram), (&None, &None));
    let most = u64::MAX as f64;
    assert_eq!(sent.counter, Some(Number { value: most }));
    assert_eq!(read[2].metrics[0].gauge, Some(Number { value: 2.5 }));
    assert_eq!(read[2].metrics[0].counter, None);
    assert_eq!(read[0].help, "Frames, \"inner\" ones.");
    assert!(write(&[]).is_empty());
}

#[test]
fn an_empty_histogram_is_a_native_one() {
    let empty = histogram(&[]);
    assert_eq!((empty.count, empty.sum, empty.zero_count), (0, 0.0, 0));
    assert_eq!(empty.buckets.len(), LATENCY_BOUNDS.len());
    assert!(native(&empty).is_empty());
    // By this Prometheus knows it.
    assert!(empty.zero_threshold > 0.0 && empty.zero_threshold < 1e-9);
}

#[test]
fn buckets_end_where_prometheus_lets_them_end() {
    assert_eq!(bucket_of(1_000_000_000), 0);
    assert_eq!(bucket_of(1_000_000_001), 1);
    assert_eq!(bucket_of(500_000_000), -(1 << SCHEMA));
    assert_eq!(bucket_of(500_000_001), 1 - (1 << SCHEMA));
    assert!(end_of(bucket_of(1) - 1) >= ZERO_THRESHOLD);
    // Who is far from the one before begins a span.
    let far = histogram(&[(1, 1), (1_000, 2), (1_100, 1 << 40), (u64::MAX, 4)]);
    assert_eq!(far.spans.len(), 4, "{:?}", far.spans);
    let near = histogram(&[(1_000_000_000, 5), (1_060_000_000, 7)]);
    let want = [(0, 5), (1, 0), (2, 0), (3, 7)];
    assert_eq!(native(&near), want);
    assert_eq!(near.spans.len(), 1);
    assert_eq!(histogram(&[(0, 9), (1, 1)]).zero_count, 9);
}

proptest! {
    #[test]
    fn every_time_is_in_a_bucket_that_ends_soon_after_it(nanoseconds in 1..=60_000_000_000u64) {
        let end = end_of(bucket_of(nanoseconds)) / (nanoseconds as f64 / 1e9);
        prop_assert!((1.0 - 1e-12..1.0219).contains(&end), "{}", end);
    }

    #[test]
    fn counts_come_back_and_agree_with_the_text(
        measured in proptest::collection::vec((0..=60_000_000_000u64, 0..1_000_000_000u64), 0..200)
    ) {
        let times = Spread::of(measured.iter().copied());
        let text = Form::Plain.write(&[Family::one(&TIMES, times.clone())]);
        let told = histogram(&measured);
        for (name, value) in [("count", told.count as f64), ("sum", told.sum)] {
            let line = format!("\nomni_times_seconds_{name} {value}\n");
            prop_assert!(text.contains(&line), "{} in {}", line, text);
        }
        for (Bucket { count, bound }, (_, words)) in told.buckets.iter().zip(LATENCY_BOUNDS) {
            prop_assert_eq!(words.parse::<f64>(), Ok(*bound));
            let line = format!("_bucket{{le=\"{words}\"}} {count}\n");
            prop_assert!(text.contains(&line), "{} in {}", line, text);
        }
        let filled = native(&told).into_iter().filter(|(_, count)| *count > 0);
        let filled: Vec<_> = filled.collect();
        let counted = times.native.into_iter().filter(|(_, count)| *count > 0);
        prop_assert_eq!(&filled, &counted.collect::<Vec<_>>());
        let all: u64 = filled.iter().map(|(_, count)| count).sum();
        prop_assert_eq!(all + told.zero_count, told.count);
    }
}
