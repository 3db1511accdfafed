//! Numbers for people, with SI prefixes and never powers of two: `12.3 MB` means one thing only.

/// A number of octets, such as `12.3 MB`.
pub(crate) fn octets(value: u64) -> String {
    scaled(value, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A count, such as `812` or `1.2 M`.
pub(crate) fn count(value: u64) -> String {
    scaled(value, &["", "k", "M", "G", "T", "P", "E"])
}

/// So many a second, such as `812`, `1.2 M` or `0.3`: rates below ten have a decimal, so that what
/// seldom happens is not nothing.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 0.05 {
        return "<0.1".to_owned();
    }
    match (per_second * 10.0).round() / 10.0 {
        low if low > 0.0 && low < 10.0 => format!("{low:.1}"),
        _ => count(whole(per_second)),
    }
}

/// So many bits a second, such as `1.2 Gbit`.
pub(crate) fn bits(per_second: f64) -> String {
    let units = ["bit", "kbit", "Mbit", "Gbit", "Tbit", "Pbit", "Ebit"];
    scaled(whole(per_second), &units)
}

/// The nearest whole number; a float beyond the range becomes its end.
fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// A latency given in nanoseconds, such as `12.4 us`.
pub(crate) fn latency(nanoseconds: u64) -> String {
    scaled(nanoseconds, &["ns", "us", "ms", "s"])
}

/// A span given in seconds that lies before now, such as `3 min ago`.
pub(crate) fn ago(seconds: u64) -> String {
    match seconds {
        0 => "now".to_owned(),
        1..MINUTE => format!("{seconds} s ago"),
        MINUTE..HOUR => format!("{} min ago", seconds / MINUTE),
        HOUR..DAY => format!("{} h ago", seconds / HOUR),
        DAY.. => format!("{} d ago", seconds / DAY),
    }
}

/// A span given in seconds, in its two largest units, such as `3h 12m`.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m {}s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{}h {}m", seconds / HOUR, seconds % HOUR / MINUTE),
        DAY.. => format!("{}d {}h", seconds / DAY, seconds % DAY / HOUR),
    }
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Rounds to one decimal below 100 of a unit and to none from there on. What would round up to
/// 1000 of a unit is 1.0 of the next. Each unit is 1000 of the one before it.
fn scaled(value: u64, units: &[&str]) -> String {
    let exact = u128::from(value);
    let mut size = 1;
    for (n, unit) in units.iter().enumerate() {
        let tenths = (exact * 10 + size / 2) / size;
        let whole = (exact + size / 2) / size;
        if size > 1 && tenths < 1000 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        if whole < 1000 || n + 1 == units.len() {
            return format!("{whole} {unit}").trim_end().to_owned();
        }
        size *= 1000;
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_at_most_three_digits_and_a_unit() {
        let cases = [
            (0, "0 B", "0"),
            (999, "999 B", "999"),
            (1_000, "1.0 kB", "1.0 k"),
            (12_349, "12.3 kB", "12.3 k"),
            (99_949, "99.9 kB", "99.9 k"),
            (99_950, "100 kB", "100 k"),
            (999_499, "999 kB", "999 k"),
            (999_500, "1.0 MB", "1.0 M"),
            (12_345_678, "12.3 MB", "12.3 M"),
            (u64::MAX, "18.4 EB", "18.4 E"),
        ];
        for (value, as_octets, as_count) in cases {
            assert_eq!(octets(value), as_octets);
            assert_eq!(count(value), as_count);
        }
    }

    #[test]
    fn rates_have_a_decimal_where_they_are_low() {
        let seen = [0.0, 0.01, 0.06, 0.3, 1.0, 9.94, 9.96, 812.4, 12_349.0].map(rate);
        let want = "0|<0.1|0.1|0.3|1.0|9.9|10|812|12.3 k";
        assert_eq!(seen.join("|"), want);
        let seen = [0.0, 12.0, 999_600.0, 9_412_000_000.0, f64::INFINITY].map(bits);
        assert_eq!(seen.join("|"), "0 bit|12 bit|1.0 Mbit|9.4 Gbit|18.4 Ebit");
    }

    #[test]
    fn latencies_end_at_seconds() {
        let seen = [0, 812, 12_350, 1_800_000, 60_000_000_000, 5_000_000_000_000].map(latency);
        assert_eq!(
            seen,
            ["0 ns", "812 ns", "12.4 us", "1.8 ms", "60.0 s", "5000 s"]
        );
    }

    #[test]
    fn ages_round_down() {
        let seen = [0, 1, 59, 60, 3_599, 3_600, 86_399, 86_400, 200_000].map(ago);
        let want = "now|1 s ago|59 s ago|1 min ago|59 min ago|1 h ago|23 h ago|1 d ago|2 d ago";
        assert_eq!(seen.join("|"), want);
    }

    #[test]
    fn spans_have_two_units() {
        let seen = [0, 59, 60, 3_599, 11_533, 86_400, 356_400].map(span);
        assert_eq!(
            seen,
            ["0s", "59s", "1m 0s", "59m 59s", "3h 12m", "1d 0h", "4d 3h"]
        );
    }
}
