//! A bounded queue of events from a store to one watcher.
//!
//! A store never waits for a watcher. One that falls too far behind loses what waits, and is told.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::types::{Event, LostReason};

/// The most events that wait for a watcher: a fabric's 10,000 members and 40,000 bindings at once.
const MAX_EVENTS: usize = 1 << 16;

/// The most octets of keys and values that wait for a watcher.
const MAX_OCTETS: usize = 32 << 20;

/// The changes of a store, as they happen. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
}

/// The store's end of a [`Watch`].
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    octets: usize,
    /// Set once: nothing follows.
    lost: Option<LostReason>,
    /// The watcher is gone.
    abandoned: bool,
}

/// Both ends of a new watch.
pub(crate) fn channel() -> (Feed, Watch) {
    let shared = Arc::new(Shared::default());
    let feed = Feed {
        shared: Arc::clone(&shared),
    };
    (feed, Watch { shared })
}

impl Watch {
    /// The next event, waiting up to `timeout` for it. After [`Event::Lost`] there is no other.
    pub fn next(&mut self, timeout: Duration) -> Option<Event> {
        let deadline = Instant::now().checked_add(timeout);
        let mut queue = self.shared.lock();
        loop {
            if let Some(event) = queue.take() {
                return Some(event);
            }
            let left = deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return None;
            }
            let waited = self.shared.filled.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.abandoned = true;
        queue.events = VecDeque::new();
    }
}

impl Feed {
    /// Adds an event. `false`: the watch is over, whoever ended it.
    pub(crate) fn push(&self, event: Event) -> bool {
        let mut queue = self.shared.lock();
        if queue.abandoned || queue.lost.is_some() {
            return false;
        }
        queue.add(event);
        self.shared.filled.notify_one();
        queue.lost.is_none()
    }

    /// Ends the watch after what already waits.
    pub(crate) fn end(&self, reason: LostReason) {
        let mut queue = self.shared.lock();
        queue.lost.get_or_insert(reason);
        self.shared.filled.notify_one();
    }

    /// Whether somebody still waits for events.
    pub(crate) fn is_open(&self) -> bool {
        let queue = self.shared.lock();
        !queue.abandoned && queue.lost.is_none()
    }
}

impl Shared {
    /// Nothing panics while it holds the lock, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn add(&mut self, event: Event) {
        if let (Some(Event::Progress(last)), Event::Progress(now)) =
            (self.events.back_mut(), &event)
        {
            *last = *now;
            return;
        }
        self.octets += octets(&event);
        self.events.push_back(event);
        if self.events.len() > MAX_EVENTS || self.octets > MAX_OCTETS {
            self.events = VecDeque::new();
            self.octets = 0;
            self.lost = Some(LostReason::TooSlow);
        }
    }

    fn take(&mut self) -> Option<Event> {
        let Some(event) = self.events.pop_front() else {
            return self.lost.map(Event::Lost);
        };
        self.octets -= octets(&event);
        Some(event)
    }
}

/// What an event weighs.
pub(crate) fn octets(event: &Event) -> usize {
    match event {
        Event::Put(item) => item.key.len() + item.value.len(),
        Event::Deleted { key, .. } => key.len(),
        Event::Progress(_) | Event::Lost(_) | Event::LeaseLost => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Item, Revision};

    fn put(number: u64, len: usize) -> Event {
        Event::Put(Item {
            key: number.to_be_bytes().to_vec(),
            value: vec![0; len],
            modified: Revision(number),
            ephemeral: false,
        })
    }

    #[test]
    fn events_come_in_order_and_then_the_end_for_good() {
        let (feed, mut watch) = channel();
        assert!(feed.push(put(1, 3)) && feed.push(put(2, 3)));
        feed.end(LostReason::Closed);
        assert!(!feed.push(put(3, 3)), "nothing follows the end");
        assert_eq!(watch.next(Duration::ZERO), Some(put(1, 3)));
        assert_eq!(watch.next(Duration::ZERO), Some(put(2, 3)));
        for _ in 0..2 {
            let last = watch.next(Duration::ZERO);
            assert_eq!(last, Some(Event::Lost(LostReason::Closed)));
        }
    }

    #[test]
    fn progress_alone_does_not_pile_up() {
        let (feed, mut watch) = channel();
        for revision in 0..2 * MAX_EVENTS as u64 {
            assert!(feed.push(Event::Progress(Revision(revision))));
        }
        let newest = Revision(2 * MAX_EVENTS as u64 - 1);
        assert_eq!(watch.next(Duration::ZERO), Some(Event::Progress(newest)));
        assert_eq!(watch.next(Duration::ZERO), None);
    }

    #[test]
    fn a_watcher_that_is_too_slow_loses_its_place_and_the_memory_is_given_back() {
        for len in [0, 64 << 10] {
            let (feed, mut watch) = channel();
            let mut pushed = 0;
            while feed.push(put(pushed, len)) {
                pushed += 1;
            }
            assert!(pushed as usize <= MAX_EVENTS, "{pushed}");
            assert!(pushed as usize * len <= MAX_OCTETS, "{pushed}");
            assert_eq!(feed.shared.lock().events.capacity(), 0);
            let last = watch.next(Duration::ZERO);
            assert_eq!(last, Some(Event::Lost(LostReason::TooSlow)));
        }
    }

    #[test]
    fn a_watcher_waits_as_long_as_it_said_and_not_longer() {
        let (feed, mut watch) = channel();
        let start = Instant::now();
        assert_eq!(watch.next(Duration::from_millis(20)), None);
        assert!(start.elapsed() >= Duration::from_millis(20));
        let waiting = std::thread::spawn(move || watch.next(Duration::MAX));
        assert!(feed.push(put(7, 1)));
        assert_eq!(waiting.join().expect("no panic"), Some(put(7, 1)));
        assert!(!feed.is_open(), "the watch was dropped with its thread");
    }
}
