//! What is due when, what may be done how often, and what is said twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use omni_wire::Instant;

/// One point in time for each key.
#[derive(Debug)]
pub(super) struct Deadlines<K> {
    at: BTreeMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self {
            at: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    /// Sets or moves a key's time.
    pub(super) fn set(&mut self, key: K, at: Instant) {
        self.remove(&key);
        self.at.insert(key, at);
        self.order.insert((at, key));
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, key: &K) -> Option<Instant> {
        let at = self.at.remove(key)?;
        self.order.remove(&(at, *key));
        Some(at)
    }

    pub(super) fn get(&self, key: &K) -> Option<Instant> {
        self.at.get(key).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|&(at, _)| at)
    }

    /// Takes the earliest key out, if its time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.order.first()?;
        if at > now {
            return None;
        }
        self.remove(&key);
        Some(key)
    }

    /// Every key and its time, in the keys' order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &Instant)> {
        self.at.iter()
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Between two tokens.
    interval: Duration,
    burst: u32,
    tokens: u32,
    /// When the last token was added.
    filled_at: Instant,
}

impl Bucket {
    /// A full bucket that holds `burst` tokens and gets `rate` a second.
    pub(super) const fn new(rate: u32, burst: u32) -> Self {
        Self {
            interval: Duration::from_nanos(1_000_000_000 / rate as u64),
            burst,
            tokens: burst,
            filled_at: Instant(0),
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let gained = now.since(self.filled_at).as_nanos() / self.interval.as_nanos();
        if gained >= u128::from(self.burst - self.tokens) {
            self.tokens = self.burst;
            self.filled_at = now;
        } else {
            // Below the burst, which fits.
            let gained = gained as u32;
            self.tokens += gained;
            self.filled_at = self.filled_at + self.interval * gained;
        }
        let has = self.tokens > 0;
        self.tokens -= u32::from(has);
        has
    }
}

/// Keys whose state peers are to be told: at once, and once more a moment later, as the first
/// time may be lost. What is told is the state at that time, so it does not matter how often it
/// changed.
#[derive(Debug)]
pub(super) struct News<K> {
    fresh: BTreeSet<K>,
    again: VecDeque<(Instant, K)>,
    waiting: BTreeSet<K>,
}

/// How long until a change is told again.
const AGAIN: Duration = Duration::from_secs(1);

impl<K> Default for News<K> {
    fn default() -> Self {
        Self {
            fresh: BTreeSet::new(),
            again: VecDeque::new(),
            waiting: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy> News<K> {
    /// A key's state changed.
    pub(super) fn changed(&mut self, now: Instant, key: K) {
        self.fresh.insert(key);
        if self.waiting.insert(key) {
            self.again.push_back((now + AGAIN, key));
        }
    }

    /// Makes fresh again what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.again.front()
            && at <= now
        {
            self.again.pop_front();
            self.waiting.remove(&key);
            self.fresh.insert(key);
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.again.front().map(|&(at, _)| at)
    }

    /// The next key to tell of.
    pub(super) fn first(&self) -> Option<K> {
        self.fresh.first().copied()
    }

    /// It was told of.
    pub(super) fn told(&mut self, key: &K) {
        self.fresh.remove(key);
    }
}

/// Whether sequence number `a` is newer than `b`: less than half the circle ahead (RFC 1982
/// s.3.2). So no number is the last, whatever a peer says.
pub(super) const fn is_newer(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

/// The sequence number after `last`. It follows the clock, at about one a millisecond, so that a
/// node that was restarted goes on above what it said before.
pub(super) fn successor(now: Instant, last: Option<u32>) -> u32 {
    let clock = (now.0 >> 20) as u32;
    match last {
        Some(last) if !is_newer(clock, last) => last.wrapping_add(1),
        _ => clock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_due_in_order_and_a_moved_one_once() {
        let mut deadlines = Deadlines::default();
        deadlines.set(1, Instant(10));
        deadlines.set(2, Instant(5));
        deadlines.set(1, Instant(20));
        assert_eq!(deadlines.next(), Some(Instant(5)));
        assert_eq!(deadlines.pop_due(Instant(4)), None);
        assert_eq!(deadlines.pop_due(Instant(30)), Some(2));
        assert_eq!(deadlines.pop_due(Instant(19)), None);
        assert_eq!(deadlines.pop_due(Instant(20)), Some(1));
        assert_eq!((deadlines.len(), deadlines.next()), (0, None));
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(10, 3);
        let start = Instant(5_000_000_000);
        let takes = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(at)).count();
        assert_eq!(takes(&mut bucket, start), 3);
        assert_eq!(takes(&mut bucket, start + Duration::from_millis(99)), 0);
        assert_eq!(takes(&mut bucket, start + Duration::from_millis(100)), 1);
        let mut at = start + Duration::from_millis(100);
        let mut given = 0;
        for _ in 0..1000 {
            at = at + Duration::from_millis(7);
            given += takes(&mut bucket, at);
        }
        assert_eq!(given, 70, "no part of a token is lost");
        assert_eq!(takes(&mut bucket, at + Duration::from_secs(3600)), 3);
    }

    #[test]
    fn news_is_told_twice() {
        let mut news = News::default();
        let start = Instant(1);
        news.changed(start, 7);
        news.changed(start + AGAIN / 2, 7);
        assert_eq!(news.first(), Some(7));
        news.told(&7);
        assert_eq!((news.first(), news.next()), (None, Some(start + AGAIN)));
        news.handle_timeout(start + AGAIN);
        assert_eq!(news.first(), Some(7));
        news.told(&7);
        assert_eq!((news.first(), news.next()), (None, None));
    }

    #[test]
    fn sequence_numbers_have_no_end() {
        assert!(is_newer(1, 0) && !is_newer(0, 1) && !is_newer(5, 5));
        assert!(is_newer(0, u32::MAX));
        assert_eq!(successor(Instant(0), Some(u32::MAX)), 0);
        assert_eq!(successor(Instant(9 << 20), None), 9);
        assert_eq!(successor(Instant(9 << 20), Some(3)), 9);
        assert_eq!(successor(Instant(9 << 20), Some(9)), 10);
    }
}
