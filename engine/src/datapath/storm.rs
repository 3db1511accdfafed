//! Rates: how many frames of a sort a port or peer may send.

use omni_wire::Instant;

pub use omni_shared::StormBucket;

/// A rate of one worker's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    cost: u64,
    most: u64,
    spent_until: u64,
}

impl Bucket {
    /// So many permits a second, at least one, and `burst` at once.
    pub(super) const fn new(per_second: u64, burst: u64) -> Self {
        let cost = 1_000_000_000 / per_second;
        Self {
            cost,
            most: cost * burst,
            spent_until: 0,
        }
    }

    /// Whether there is one more permit.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let after = self.spent_until.max(now.0) + self.cost;
        let is_within = after <= now.0 + self.most;
        if is_within {
            self.spent_until = after;
        }
        is_within
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const START: Instant = Instant(1_000_000_000_000);

    #[test]
    fn a_second_s_worth_at_once_and_then_the_rate() {
        let shared = StormBucket::new(1000);
        let mut own = Bucket::new(1000, 1000);
        let mut both = |now: Instant, tries: usize| {
            let shared = (0..tries).filter(|_| shared.take(now)).count();
            let own = (0..tries).filter(|_| own.take(now)).count();
            assert_eq!(shared, own);
            shared
        };
        assert_eq!(both(START, 5000), 1000);
        assert_eq!(both(START + Duration::from_millis(100), 5000), 100);
        assert_eq!(both(START + Duration::from_secs(60), 5000), 1000);
    }
}
