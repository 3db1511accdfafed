//! What workers do with a rate.

use omni_replay::Word;
use omni_shared::StormBucket;
use omni_wire::Instant;

use crate::checker::atomic::AtomicU64;
use crate::checker::atomic::Ordering::Relaxed;
use crate::checker::{Arc, thread};

/// A word that is watched, with the orderings of the engine's own.
#[derive(Debug)]
pub(crate) struct Watched(AtomicU64);

impl Word for Watched {
    fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    fn load(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn exchange(&self, current: u64, next: u64) -> Result<(), u64> {
        let done = self.0.compare_exchange(current, next, Relaxed, Relaxed);
        done.map(|_| ())
    }

    fn raise(&self, least: u64) -> u64 {
        self.0.fetch_max(least, Relaxed)
    }
}

/// Workers that each want `each` permits at one moment get exactly as many as there are, and a
/// second one later no more than that time brings.
pub(crate) fn workers_share_a_rate(workers: usize, each: usize) {
    const RATE: usize = 2;
    const START: Instant = Instant(1_000_000_000_000);
    let bucket = Arc::new(StormBucket::<Watched>::made_of(RATE as u32));
    let take =
        move |bucket: &StormBucket<Watched>, now| (0..each).filter(|_| bucket.take(now)).count();
    let others: Vec<_> = (1..workers)
        .map(|_| {
            let bucket = Arc::clone(&bucket);
            thread::spawn(move || take(&bucket, START))
        })
        .collect();
    let mut passed = take(&bucket, START);
    for other in others {
        passed += other.join().expect("no panic");
    }
    assert_eq!(passed, (workers * each).min(RATE));
    let later = (0..2 * RATE).filter(|_| bucket.take(Instant(START.0 + 500_000_000)));
    assert_eq!(later.count(), RATE - passed + RATE / 2);
}
