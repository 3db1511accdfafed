//! Signs of life of a worker, for who watches over it.
//!
//! A worker shows them every tenth of a second at most, and every second at least while it is well:
//! between two bursts, and it never waits for the reader.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use crate::io::QueueCounters;
use crate::stats::WorkerReport;

/// The least time between two signs.
pub const PAUSE: Duration = Duration::from_millis(100);

/// A worker's signs of life.
#[derive(Debug, Default)]
pub struct Pulse {
    signs: AtomicU64,
    thread: AtomicI32,
    seen: Mutex<Seen>,
}

/// What a worker showed last.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its queues.
    pub queues: Vec<QueueCounters>,
    /// Times that its frames did not add up, or an empty one was there twice.
    pub unsound: u64,
    /// All that it counted, up to a second or two ago, where it was told to show that.
    pub report: Option<Arc<WorkerReport>>,
}

impl Pulse {
    /// Notes which thread it is that shows signs: the kernel's number of it.
    pub fn begin(&self, thread: i32) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    /// Shows a sign, and lets `show` tell more, unless somebody is just reading.
    pub fn beat(&self, show: impl FnOnce(&mut Seen)) {
        self.signs.fetch_add(1, Ordering::Relaxed);
        match self.seen.try_lock() {
            Ok(mut seen) => show(&mut seen),
            Err(TryLockError::Poisoned(seen)) => show(&mut seen.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// How many signs there were so far.
    #[must_use]
    pub fn signs(&self) -> u64 {
        self.signs.load(Ordering::Relaxed)
    }

    /// The kernel's number of the thread; 0 until it runs.
    #[must_use]
    pub fn thread(&self) -> i32 {
        self.thread.load(Ordering::Relaxed)
    }

    /// What was shown last.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
