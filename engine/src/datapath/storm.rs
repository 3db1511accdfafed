//! Rates: how many frames of a sort a port or peer may send.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use omni_wire::Instant;

/// A rate that all workers share: a second's worth may be saved up.
///
/// Only broadcasts and their like look at it, so that its cache line does not go back and forth
/// for ordinary frames.
#[derive(Debug)]
pub struct StormBucket {
    cost: u64,
    most: u64,
    /// Until when the permits given so far last, in nanoseconds (the generic cell rate algorithm,
    /// ITU-T I.371 annex A).
    spent_until: AtomicU64,
}

impl StormBucket {
    /// So many permits a second; 0 gives none.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let second = Duration::from_secs(1).as_nanos() as u64;
        Self {
            cost: second.checked_div(per_second.into()).unwrap_or(u64::MAX),
            most: second,
            spent_until: AtomicU64::new(0),
        }
    }

    /// Whether one more frame may pass.
    #[must_use]
    pub fn take(&self, now: Instant) -> bool {
        let spend = |spent: u64| {
            let after = spent.max(now.0).checked_add(self.cost)?;
            (after <= now.0.saturating_add(self.most)).then_some(after)
        };
        let order = Ordering::Relaxed;
        self.spent_until.fetch_update(order, order, spend).is_ok()
    }
}

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

    #[test]
    fn workers_share_a_rate() {
        let bucket = StormBucket::new(1000);
        let passed = std::thread::scope(|scope| {
            let worker = || (0..5000).filter(|_| bucket.take(START)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            let passed = threads
                .into_iter()
                .map(|thread| thread.join().expect("counts"));
            passed.sum::<usize>()
        });
        assert_eq!(passed, 1000);
    }

    #[test]
    fn a_rate_of_nothing_lets_nothing_pass() {
        assert!(!StormBucket::new(0).take(START));
        assert!(StormBucket::new(1).take(START));
        assert!(StormBucket::new(u32::MAX).take(Instant(u64::MAX - 1)));
    }
}
