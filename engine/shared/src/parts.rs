//! What mailboxes are made of.

use crossbeam_queue::ArrayQueue;

/// A bounded queue that threads share.
pub trait Queue {
    /// What waits in it.
    type Item;

    /// A queue with room for so many.
    fn with_room(items: usize) -> Self;

    /// Adds one at the end.
    ///
    /// # Errors
    /// The item itself, when there is no room.
    fn push(&self, item: Self::Item) -> Result<(), Self::Item>;

    /// Takes the oldest one. May miss what another thread has pushed, until that thread's signal
    /// was seen.
    fn pop(&self) -> Option<Self::Item>;
}

impl<T> Queue for ArrayQueue<T> {
    type Item = T;

    fn with_room(items: usize) -> Self {
        Self::new(items)
    }

    #[inline]
    fn push(&self, item: T) -> Result<(), T> {
        self.push(item)
    }

    #[inline]
    fn pop(&self) -> Option<T> {
        self.pop()
    }
}

/// What ends a thread's sleep, or its next one if it does not sleep, however often it is raised.
/// Who wakes by it sees all that was done before it was raised.
pub trait Signal {
    /// Ends the sleep.
    fn raise(&self);
}

/// A signal that stays raised until it is cleared.
pub trait Latch: Signal {
    /// Forgets what was raised so far.
    fn clear(&self);
}
