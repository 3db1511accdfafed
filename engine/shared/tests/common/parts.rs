//! Queues and signals made of what a model checker watches.

use std::sync::Mutex as Plain;

use omni_shared::{Latch, Queue, Signal};

use crate::checker::atomic::AtomicUsize;
use crate::checker::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::checker::{Condvar, Mutex};

/// A bounded queue that promises no more than [`Queue`] asks for: it may say that it is empty or
/// full when another thread has just changed that. The engine's own promises more.
#[derive(Debug)]
pub(crate) struct WeakQueue<T> {
    slots: Vec<Slot<T>>,
    head: AtomicUsize,
    tail: AtomicUsize,
}

#[derive(Debug)]
struct Slot<T> {
    /// The turn in which it may be written, or that and one when it may be read.
    turn: AtomicUsize,
    /// Who has the turn alone locks it.
    item: Plain<Option<T>>,
}

impl<T> WeakQueue<T> {
    fn slot(&self, at: usize) -> &Slot<T> {
        &self.slots[at % self.slots.len()]
    }
}

impl<T> Queue for WeakQueue<T> {
    type Item = T;

    fn with_room(items: usize) -> Self {
        let slot = |turn| Slot {
            turn: AtomicUsize::new(turn),
            item: Plain::new(None),
        };
        // Two slots at least: with one, written and to be written again are the same turn.
        assert!(items >= 2, "turns are told apart by two slots or more");
        Self {
            slots: (0..items).map(slot).collect(),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
        }
    }

    fn push(&self, item: T) -> Result<(), T> {
        loop {
            // The newest value, not an old one that a load might see for ever.
            let at = self.tail.fetch_add(0, Relaxed);
            let slot = self.slot(at);
            let turn = slot.turn.load(Acquire);
            if turn < at {
                return Err(item);
            }
            let is_ours = turn == at
                && self
                    .tail
                    .compare_exchange(at, at + 1, Relaxed, Relaxed)
                    .is_ok();
            if is_ours {
                *slot.item.try_lock().expect("nobody else has the turn") = Some(item);
                slot.turn.store(at + 1, Release);
                return Ok(());
            }
        }
    }

    /// For one thread.
    fn pop(&self) -> Option<T> {
        let at = self.head.load(Relaxed);
        let slot = self.slot(at);
        if slot.turn.load(Acquire) != at + 1 {
            return None;
        }
        let item = slot.item.try_lock().expect("nobody else has the turn");
        let item = { item }.take();
        assert!(item.is_some(), "the turn was passed on before the item");
        slot.turn.store(at + self.slots.len(), Release);
        self.head.store(at + 1, Relaxed);
        item
    }
}

/// An eventfd, or a notification with its permit.
#[derive(Debug)]
pub(crate) struct Bell {
    raised: Mutex<bool>,
    rung: Condvar,
}

impl Default for Bell {
    fn default() -> Self {
        Self {
            raised: Mutex::new(false),
            rung: Condvar::new(),
        }
    }
}

impl Bell {
    /// As `poll` on an eventfd: until it is raised, and it stays so.
    pub(crate) fn wait(&self) {
        let mut raised = self.raised.lock().expect("no panic");
        while !*raised {
            raised = self.rung.wait(raised).expect("no panic");
        }
    }

    /// As a notification: until it is raised, and that is used up.
    pub(crate) fn notified(&self) {
        let mut raised = self.raised.lock().expect("no panic");
        while !*raised {
            raised = self.rung.wait(raised).expect("no panic");
        }
        *raised = false;
    }
}

impl Signal for Bell {
    fn raise(&self) {
        *self.raised.lock().expect("no panic") = true;
        self.rung.notify_one();
    }
}

impl Latch for Bell {
    fn clear(&self) {
        *self.raised.lock().expect("no panic") = false;
    }
}
