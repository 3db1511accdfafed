//! What a window is made of.

use core::sync::atomic::{AtomicU64, Ordering};

/// A word that threads share.
///
/// No access orders any other: the word alone carries each decision, and no other data hangs on
/// it. Model checkers bring words of their own.
pub trait Word {
    /// A word with this value.
    fn new(value: u64) -> Self;

    /// The value, or an earlier one that this thread has not seen a later one of.
    fn load(&self) -> u64;

    /// Replaces `current` by `next` in one step.
    ///
    /// # Errors
    /// The value that was there instead. It may fail for no reason too, with `current`.
    fn exchange(&self, current: u64, next: u64) -> Result<(), u64>;

    /// Raises the value to `least` if it is lower, in one step. Gives the value before.
    fn raise(&self, least: u64) -> u64;
}

impl Word for AtomicU64 {
    fn new(value: u64) -> Self {
        Self::new(value)
    }

    #[inline]
    fn load(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    #[inline]
    fn exchange(&self, current: u64, next: u64) -> Result<(), u64> {
        self.compare_exchange_weak(current, next, Ordering::Relaxed, Ordering::Relaxed)
            .map(|_| ())
    }

    #[inline]
    fn raise(&self, least: u64) -> u64 {
        self.fetch_max(least, Ordering::Relaxed)
    }
}
