//! Rates: how many frames of a sort a port or peer may send, by all workers together.

use core::sync::atomic::AtomicU64;
use core::time::Duration;

use omni_replay::Word;
use omni_wire::Instant;

/// A rate that all workers share: a second's worth may be saved up.
///
/// Only broadcasts and their like look at it, so that its cache line does not go back and forth
/// for ordinary frames. The word alone carries each decision, and no other data hangs on it.
#[derive(Debug)]
pub struct StormBucket<W = AtomicU64> {
    cost: u64,
    most: u64,
    /// Until when the permits given so far last, in nanoseconds (the generic cell rate algorithm,
    /// ITU-T I.371 annex A).
    spent_until: W,
}

impl StormBucket {
    /// So many permits a second; 0 gives none.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self::made_of(per_second)
    }
}

impl<W: Word> StormBucket<W> {
    /// The same with a word of another kind.
    #[must_use]
    pub fn made_of(per_second: u32) -> Self {
        let second = Duration::from_secs(1).as_nanos() as u64;
        Self {
            cost: second.checked_div(per_second.into()).unwrap_or(u64::MAX),
            most: second,
            spent_until: W::new(0),
        }
    }

    /// Whether one more frame may pass.
    #[must_use]
    pub fn take(&self, now: Instant) -> bool {
        let mut spent = self.spent_until.load();
        loop {
            let Some(after) = spent.max(now.0).checked_add(self.cost) else {
                return false;
            };
            if after > now.0.saturating_add(self.most) {
                return false;
            }
            match self.spent_until.exchange(spent, after) {
                Ok(()) => return true,
                Err(seen) => spent = seen,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant(1_000_000_000_000);

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
