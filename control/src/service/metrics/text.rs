//! Metrics as text: OpenMetrics 1.0, and the older form of Prometheus, 0.0.4.
//!
//! They differ in what a family is called and how the text ends; names of series and labels are the
//! same, so that it does not matter to a query which of them was scraped.

use std::fmt::{self, Write as _};

use super::{Family, Kind, LATENCY_BOUNDS, Sample, Spread, Value};

/// A form of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Version 0.0.4 of the form that Prometheus began with.
    Plain,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Form {
    /// As HTTP names it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Everything.
    #[must_use]
    pub fn write(self, families: &[Family]) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = self.write_all(&mut text, families);
        text
    }

    fn write_all(self, text: &mut String, families: &[Family]) -> fmt::Result {
        for family in families.iter().filter(|family| !family.samples.is_empty()) {
            self.head(text, family)?;
            for sample in &family.samples {
                series(text, family, sample)?;
            }
        }
        match self {
            Self::Plain => Ok(()),
            Self::OpenMetrics => text.write_str("# EOF\n"),
        }
    }

    fn head(self, text: &mut String, family: &Family) -> fmt::Result {
        let desc = family.desc;
        let (name, kind) = match (self, desc.kind) {
            (Self::Plain, Kind::Info) => (desc.name, Kind::Gauge),
            (Self::Plain, kind) => (desc.name, kind),
            (Self::OpenMetrics, kind) => {
                let ending = match kind {
                    Kind::Counter => "_total",
                    Kind::Info => "_info",
                    Kind::Gauge | Kind::Histogram => "",
                };
                (desc.name.strip_suffix(ending).unwrap_or(desc.name), kind)
            }
        };
        writeln!(text, "# TYPE {name} {}", kind.as_str())?;
        let unit = ["seconds", "bytes"].into_iter().find(|unit| {
            let rest = name.strip_suffix(unit);
            rest.is_some_and(|rest| rest.ends_with('_'))
        });
        if let (Self::OpenMetrics, Some(unit)) = (self, unit) {
            writeln!(text, "# UNIT {name} {unit}")?;
        }
        write!(text, "# HELP {name} ")?;
        // The older form keeps quotation marks as they are.
        escape(text, desc.help, self == Self::OpenMetrics)?;
        text.write_char('\n')
    }
}

fn series(text: &mut String, family: &Family, sample: &Sample) -> fmt::Result {
    match &sample.value {
        Value::Whole(value) => line(text, family, sample, ("", None), value),
        Value::Real(value) => line(text, family, sample, ("", None), value),
        Value::Spread(spread) => histogram(text, family, sample, spread),
    }
}

fn histogram(text: &mut String, family: &Family, sample: &Sample, spread: &Spread) -> fmt::Result {
    for ((_, bound), below) in LATENCY_BOUNDS.iter().zip(spread.below) {
        line(text, family, sample, ("_bucket", Some(bound)), &below)?;
    }
    let count = &spread.count;
    line(text, family, sample, ("_bucket", Some("+Inf")), count)?;
    line(text, family, sample, ("_count", None), count)?;
    line(text, family, sample, ("_sum", None), &spread.sum)
}

/// One line: the family's name with its ending, the labels and perhaps a bound, the value.
fn line(
    text: &mut String,
    family: &Family,
    sample: &Sample,
    (ending, bound): (&str, Option<&str>),
    value: &dyn fmt::Display,
) -> fmt::Result {
    write!(text, "{}{ending}", family.desc.name)?;
    let labels = family.desc.labels.iter().copied();
    let labels = labels.zip(sample.labels.iter().map(String::as_str));
    let mut before = '{';
    for (name, label) in labels.chain(bound.map(|bound| ("le", bound))) {
        write!(text, "{before}{name}=\"")?;
        escape(text, label, true)?;
        text.write_char('"')?;
        before = ',';
    }
    if before == ',' {
        text.write_char('}')?;
    }
    writeln!(text, " {value}")
}

fn escape(text: &mut String, words: &str, quotes: bool) -> fmt::Result {
    for letter in words.chars() {
        match letter {
            '\\' => text.write_str("\\\\")?,
            '\n' => text.write_str("\\n")?,
            '"' if quotes => text.write_str("\\\"")?,
            other => text.write_char(other)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Desc;
    use super::*;

    const BUILD: Desc = Desc {
        name: "omni_build_info",
        kind: Kind::Info,
        labels: &["version"],
        help: "What it is.",
    };
    const OCTETS: Desc = Desc {
        name: "omni_octets_bytes_total",
        kind: Kind::Counter,
        labels: &["peer", "direction"],
        help: "Octets, \"inner\" ones.",
    };
    const NONE: Desc = Desc {
        name: "omni_none",
        kind: Kind::Gauge,
        labels: &[],
        help: "Nothing.",
    };
    const TIMES: Desc = Desc {
        name: "omni_times_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "Times.",
    };

    fn families() -> Vec<Family> {
        let (mut build, mut octets) = (Family::new(&BUILD), Family::new(&OCTETS));
        build.add(["0.1.0"], true);
        octets.add(["a \"b\"\\\n", "rx"], 7u64);
        octets.add(["b", "tx"], u64::MAX);
        let times = Spread::of([(1_500, 2), (3_000_000_000, 1)]);
        vec![
            build,
            octets,
            Family::new(&NONE),
            Family::one(&TIMES, times),
        ]
    }

    #[test]
    fn openmetrics_has_families_units_and_an_end() {
        let text = Form::OpenMetrics.write(&families());
        let begin = "# TYPE omni_build info\n# HELP omni_build What it is.\n\
            omni_build_info{version=\"0.1.0\"} 1\n\
            # TYPE omni_octets_bytes counter\n# UNIT omni_octets_bytes bytes\n\
            # HELP omni_octets_bytes Octets, \\\"inner\\\" ones.\n\
            omni_octets_bytes_total{peer=\"a \\\"b\\\"\\\\\\n\",direction=\"rx\"} 7\n\
            omni_octets_bytes_total{peer=\"b\",direction=\"tx\"} 18446744073709551615\n\
            # TYPE omni_times_seconds histogram\n# UNIT omni_times_seconds seconds\n\
            # HELP omni_times_seconds Times.\n\
            omni_times_seconds_bucket{le=\"1e-06\"} 0\n\
            omni_times_seconds_bucket{le=\"2e-06\"} 2\n";
        assert!(text.starts_with(begin), "{text}");
        let end = "omni_times_seconds_bucket{le=\"1.0\"} 2\n\
            omni_times_seconds_bucket{le=\"+Inf\"} 3\n\
            omni_times_seconds_count 3\nomni_times_seconds_sum 3.000003\n# EOF\n";
        assert!(text.ends_with(end), "{text}");
        assert!(!text.contains("omni_none"), "{text}");
    }

    #[test]
    fn the_older_form_has_the_same_series() {
        let (plain, open) = (
            Form::Plain.write(&families()),
            Form::OpenMetrics.write(&families()),
        );
        let series = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(series(&plain), series(&open));
        for head in [
            "# TYPE omni_build_info gauge\n",
            "# TYPE omni_octets_bytes_total counter\n",
            "# HELP omni_octets_bytes_total Octets, \"inner\" ones.\n",
        ] {
            assert!(plain.contains(head), "{plain}");
        }
        assert!(!plain.contains("# EOF") && !plain.contains("# UNIT"));
    }
}
