//! TAI64N: the timestamp that proves an initiation newer than the ones before.

use core::fmt;

use crate::WallTime;

/// Seconds of the label of the Unix epoch: labels count from 2^62 (TAI64, "TAI64 labels").
const EPOCH_LABEL: u64 = 1 << 62;

/// How far TAI was ahead of UTC at the Unix epoch, in seconds. Leap seconds since are left out,
/// as in other protocols with these timestamps: both sides only compare.
const TAI_OFFSET_SECONDS: u64 = 10;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A TAI64N label: 8 octets of seconds, 4 of nanoseconds, both big-endian.
///
/// Labels are ordered as their octets are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tai64n(pub [u8; 12]);

impl Tai64n {
    /// The label of a reading of the wall clock, exact to the nanosecond.
    #[must_use]
    pub fn from_wall(wall: WallTime) -> Self {
        let seconds = EPOCH_LABEL + TAI_OFFSET_SECONDS + wall.0 / NANOS_PER_SECOND;
        let [s0, s1, s2, s3, s4, s5, s6, s7] = seconds.to_be_bytes();
        // Below 10^9, so nothing is cut off.
        let [n0, n1, n2, n3] = ((wall.0 % NANOS_PER_SECOND) as u32).to_be_bytes();
        Self([s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3])
    }

    /// The time that a label stands for. Labels before 1970 give the Unix epoch, those that
    /// [`WallTime`] cannot hold (from 2554 on) its end.
    #[must_use]
    pub fn to_wall(self) -> WallTime {
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3] = self.0;
        let label = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let nanos = u64::from(u32::from_be_bytes([n0, n1, n2, n3]));
        let Some(seconds) = label.checked_sub(EPOCH_LABEL + TAI_OFFSET_SECONDS) else {
            return WallTime(0);
        };
        WallTime(
            seconds
                .saturating_mul(NANOS_PER_SECOND)
                .saturating_add(nanos),
        )
    }
}

impl fmt::Debug for Tai64n {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("@")?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_known_time_has_its_known_label() {
        let label = Tai64n::from_wall(WallTime(1_750_000_000_123_456_789));
        assert_eq!(format!("{label:?}"), "@40000000684ee18a075bcd15");
    }

    #[test]
    fn labels_outside_the_clock_saturate() {
        assert_eq!(Tai64n([0; 12]).to_wall(), WallTime(0));
        assert_eq!(Tai64n([0xff; 12]).to_wall(), WallTime(u64::MAX));
        let mut before = Tai64n::from_wall(WallTime(0)).0;
        before[7] -= 1;
        assert_eq!(Tai64n(before).to_wall(), WallTime(0));
    }

    proptest! {
        #[test]
        fn every_reading_of_the_clock_reads_back(nanos: u64) {
            prop_assert_eq!(Tai64n::from_wall(WallTime(nanos)).to_wall(), WallTime(nanos));
        }

        #[test]
        fn labels_are_ordered_as_times_are(a: u64, distance in 0u64..3_000_000_000) {
            let b = a.saturating_add(distance);
            let labels = [a, b].map(|nanos| Tai64n::from_wall(WallTime(nanos)));
            prop_assert_eq!(labels[0].cmp(&labels[1]), a.cmp(&b));
        }

        #[test]
        fn any_label_gives_a_time(octets: [u8; 12]) {
            let _ = Tai64n(octets).to_wall();
        }
    }
}
