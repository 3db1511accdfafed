//! Days and seconds of the Gregorian calendar, in UTC.
//!
//! The arithmetic counts days from 1 March of year 0, so that a leap day ends its year: H. Hinnant,
//! "chrono-Compatible Low-Level Date Algorithms".

/// Seconds of a day, leap seconds not counted.
pub(crate) const DAY: u64 = 86_400;

/// Days from 0000-03-01 to 1970-01-01.
const BEFORE_1970: u64 = 719_468;

/// Days of 400 years.
const ERA: u64 = 146_097;

/// When a day such as `2027-01-01` begins, in seconds since 1970. Years 1970 to 9999.
pub(crate) fn parse_day(text: &str) -> Option<u64> {
    let is_shaped = text.len() == 10
        && text.bytes().enumerate().all(|(at, c)| match at {
            4 | 7 => c == b'-',
            _ => c.is_ascii_digit(),
        });
    if !is_shaped {
        return None;
    }
    let mut numbers = text.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    if year < 1970 || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let seconds = days_of(year, month, day) * DAY;
    // A day that the month does not have comes out as another one.
    shown(seconds).starts_with(text).then_some(seconds)
}

fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let of_era = year % 400;
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    year / 400 * ERA + days - BEFORE_1970
}

/// A time given in seconds since 1970, such as `2027-01-01 00:00:00 UTC`.
pub(crate) fn shown(seconds: u64) -> String {
    let days = seconds / DAY + BEFORE_1970;
    let of_era = days % ERA;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (days / ERA * 400 + year, month + 3),
        _ => (days / ERA * 400 + year + 1, month - 9),
    };
    let (hours, minutes) = (seconds % DAY / 3600, seconds % 3600 / 60);
    let seconds = seconds % 60;
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // `date -u -d @N`.
        let times = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_798_761_600, "2027-01-01 00:00:00 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
        ];
        for (seconds, text) in times {
            assert_eq!(shown(seconds), text);
        }
        assert!(shown(u64::MAX).ends_with("UTC"), "no time is too late");
    }

    #[test]
    fn every_day_reads_back() {
        for day in 0..2_932_897 {
            let text = shown(day * DAY);
            assert_eq!(parse_day(&text[..10]), Some(day * DAY), "{text}");
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "",
            "2027",
            "2027-1-1",
            "2027-13-01",
            "2027-00-01",
            "2027-02-29",
            "2027-04-31",
            "2027-01-00",
            "1969-12-31",
            "10000-01-01",
            "+027-01-01",
            "2027-01-1é",
            "2027/01/01",
        ] {
            assert_eq!(parse_day(text), None, "{text}");
        }
    }
}
