//! A token bucket.

use omni_wire::Instant;

const SECOND_NS: u64 = 1_000_000_000;

/// So many a second, and so many at once. Empty time is not kept beyond the burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: u32,
    burst: u32,
    /// When it would be full, had nothing been taken since: later than now by what is taken.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket. `rate` is at least 1.
    pub(crate) const fn new(rate: u32, burst: u32) -> Self {
        Self {
            rate,
            burst,
            full_at: Instant(0),
        }
    }

    /// Takes one. `false`: there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.take_many(now, 1)
    }

    /// Takes so many. `false`: there are not as many, and none is taken.
    pub(crate) fn take_many(&mut self, now: Instant, count: u32) -> bool {
        let one = SECOND_NS / u64::from(self.rate.max(1));
        let taken = one.saturating_mul(u64::from(count));
        let full_at = self.full_at.max(now).0.saturating_add(taken);
        let owed = full_at.saturating_sub(now.0);
        let fits = owed <= one.saturating_mul(u64::from(self.burst));
        if fits {
            self.full_at = Instant(full_at);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Instant = Instant(SECOND_NS);

    #[test]
    fn a_burst_and_then_a_rate() {
        let mut bucket = Bucket::new(2, 3);
        let taken = |bucket: &mut Bucket, now| (0..10).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(&mut bucket, SECOND), 3);
        assert_eq!(taken(&mut bucket, Instant(2 * SECOND_NS)), 2);
        assert_eq!(taken(&mut bucket, Instant(2 * SECOND_NS + 1)), 0);
        assert_eq!(taken(&mut bucket, Instant(100 * SECOND_NS)), 3);
        assert!(
            !bucket.take_many(Instant(200 * SECOND_NS), 4),
            "never as many"
        );
        assert!(bucket.take_many(Instant(200 * SECOND_NS), 3));
        assert!(!bucket.take(Instant(200 * SECOND_NS)));
    }
}
