//! How long a node waits before it calls a Nucleus again.

use std::time::Duration;

use omni_control::Random;

/// The first pause and the longest. Each is up to half shorter, so that nodes that lost one Nucleus
/// together do not come back together.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// An attempt that lasted this long was good: the next one need not wait.
const GOOD: Duration = Duration::from_secs(30);

/// The pauses between the attempts of one line.
#[derive(Debug)]
pub struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: PAUSE.0 }
    }
}

impl Pauses {
    /// The pause after an attempt that ended so long after it began, channel and all.
    pub fn after(&mut self, lasted: Duration, rng: &mut dyn Random) -> Duration {
        let (first, most) = PAUSE;
        if lasted >= GOOD {
            self.next = first;
        }
        let pause = self.next;
        self.next = (pause * 2).min(most);
        let mut octets = [0; 4];
        rng.fill(&mut octets);
        let share = f64::from(u32::from_ne_bytes(octets)) / f64::from(u32::MAX);
        pause - (pause / 2).mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Randomness that is the same octet over and over.
    struct Same(u8);

    impl Random for Same {
        fn fill(&mut self, out: &mut [u8]) {
            out.fill(self.0);
        }
    }

    fn milliseconds(octet: u8, lasted: &[u64]) -> Vec<u128> {
        let mut pauses = Pauses::default();
        let lasted = lasted.iter().map(|&seconds| Duration::from_secs(seconds));
        lasted
            .map(|lasted| pauses.after(lasted, &mut Same(octet)).as_millis())
            .collect()
    }

    #[test]
    fn pauses_double_up_to_five_seconds() {
        let expected = [200, 400, 800, 1600, 3200, 5000, 5000];
        assert_eq!(milliseconds(0, &[0; 7]), expected);
    }

    #[test]
    fn chance_makes_them_up_to_half_shorter() {
        assert_eq!(milliseconds(0xff, &[0; 2]), [100, 200]);
        let [some] = milliseconds(0x80, &[0])[..] else {
            panic!("one pause");
        };
        assert!((100..200).contains(&some), "{some}");
    }

    #[test]
    fn a_channel_that_was_good_begins_anew() {
        assert_eq!(
            milliseconds(0, &[0, 0, 29, 30, 0]),
            [200, 400, 800, 200, 400]
        );
    }
}
