//! Bounded queues between the control thread and the workers.
//!
//! A worker never waits: what it cannot say now it keeps and says after a later burst. The control
//! thread keeps what a worker's queue has no room for, in order.

use core::fmt;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::parts::{Latch, Queue, Signal};

/// A worker's end. `O` has the orders for this worker, `U` the upcalls of all.
#[derive(Debug)]
pub struct WorkerMailbox<O, U, W, N> {
    worker: usize,
    orders: Arc<O>,
    wake_me: Arc<W>,
    upcalls: Arc<U>,
    wake_control: Arc<N>,
}

/// The control thread's end.
pub struct ControlMailbox<O: Queue, U, W, N> {
    workers: Vec<WorkerQueue<O, W>>,
    upcalls: Arc<U>,
    told: Arc<N>,
}

struct WorkerQueue<O: Queue, W> {
    orders: Arc<O>,
    waker: Arc<W>,
    /// What the queue had no room for.
    overflow: VecDeque<O::Item>,
    touched: bool,
}

impl<O: Queue, U, W, N> fmt::Debug for ControlMailbox<O, U, W, N> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept: Vec<_> = self.workers.iter().map(|one| one.overflow.len()).collect();
        out.debug_struct("ControlMailbox")
            .field("kept", &kept)
            .finish_non_exhaustive()
    }
}

/// Both ends, with a signal for each worker and one for the control thread. `room` is for how many
/// orders of one worker and for how many upcalls of all there is room.
#[must_use]
#[expect(clippy::type_complexity, reason = "the two ends of one thing")]
pub fn mailboxes<O: Queue, U, W, N>(
    wakers: Vec<W>,
    told: N,
    room: (usize, usize),
) -> (ControlMailbox<O, U, W, N>, Vec<WorkerMailbox<O, U, W, N>>)
where
    U: Queue,
{
    let (upcalls, told) = (Arc::new(U::with_room(room.1)), Arc::new(told));
    let mut ends = Vec::new();
    let mut workers = Vec::new();
    for (worker, waker) in wakers.into_iter().enumerate() {
        let (orders, waker) = (Arc::new(O::with_room(room.0)), Arc::new(waker));
        workers.push(WorkerQueue {
            orders: Arc::clone(&orders),
            waker: Arc::clone(&waker),
            overflow: VecDeque::new(),
            touched: false,
        });
        ends.push(WorkerMailbox {
            worker,
            orders,
            wake_me: waker,
            upcalls: Arc::clone(&upcalls),
            wake_control: Arc::clone(&told),
        });
    }
    let control = ControlMailbox {
        workers,
        upcalls,
        told,
    };
    (control, ends)
}

impl<O, U, T, W, N> WorkerMailbox<O, U, W, N>
where
    O: Queue,
    U: Queue<Item = (usize, T)>,
    W: Latch,
    N: Signal,
{
    /// The oldest order that waits.
    #[inline]
    pub fn next_order(&self) -> Option<O::Item> {
        self.orders.pop()
    }

    /// Tells the control thread; hands the upcall back when there is no room.
    ///
    /// # Errors
    /// The upcall itself.
    pub fn tell(&self, upcall: T) -> Result<(), T> {
        self.upcalls
            .push((self.worker, upcall))
            .map_err(|(_, upcall)| upcall)
    }

    /// Wakes the control thread: once after all that was told.
    pub fn wake_control(&self) {
        self.wake_control.raise();
    }

    /// Sleeps by `wait`, which ends when the signal is raised or for reasons of its own, and
    /// forgets the signal then.
    ///
    /// Only after that are orders looked at again: whoever raises the signal later has its order
    /// found or its signal kept. Were it cleared after the look, an order that came in between
    /// would be slept over.
    pub fn sleep<R>(&self, wait: impl FnOnce(&W) -> R) -> R {
        let waited = wait(&self.wake_me);
        self.wake_me.clear();
        waited
    }
}

impl<O, U, T, W, N> ControlMailbox<O, U, W, N>
where
    O: Queue,
    U: Queue<Item = (usize, T)>,
    W: Signal,
    N: Signal,
{
    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Orders one worker; it sees it after the next [`ControlMailbox::flush`].
    pub fn order(&mut self, worker: usize, order: O::Item) {
        let queue = &mut self.workers[worker];
        queue.overflow.push_back(order);
        queue.touched = true;
    }

    /// Orders the same from every worker but `except`.
    pub fn broadcast(&mut self, except: Option<usize>, order: impl Fn() -> O::Item) {
        for worker in (0..self.workers.len()).filter(|&worker| Some(worker) != except) {
            self.order(worker, order());
        }
    }

    /// Hands over what was ordered and wakes whom it concerns. Says whether something had no room
    /// and waits for the next flush.
    pub fn flush(&mut self) -> bool {
        let mut left = false;
        for queue in &mut self.workers {
            while let Some(order) = queue.overflow.pop_front() {
                if let Err(order) = queue.orders.push(order) {
                    queue.overflow.push_front(order);
                    break;
                }
            }
            if std::mem::take(&mut queue.touched) {
                queue.waker.raise();
            }
            queue.touched = !queue.overflow.is_empty();
            left |= queue.touched;
        }
        left
    }

    /// A worker for which more than `most` orders are kept.
    #[must_use]
    pub fn stuck_worker(&self, most: usize) -> Option<usize> {
        self.workers
            .iter()
            .position(|queue| queue.overflow.len() > most)
    }

    /// The oldest upcall that waits, and who said it.
    pub fn next_upcall(&self) -> Option<(usize, T)> {
        self.upcalls.pop()
    }

    /// Takes up to `most` upcalls. When there may be more, the signal is raised again, so that the
    /// thread comes back at once.
    ///
    /// Called after the signal was seen or cleared, as orders are by a worker.
    pub fn take_upcalls(&self, most: usize, mut take: impl FnMut(usize, T)) {
        for _ in 0..most {
            let Some((worker, upcall)) = self.next_upcall() else {
                return;
            };
            take(worker, upcall);
        }
        self.told.raise();
    }

    /// Raised when upcalls wait.
    #[must_use]
    pub fn told(&self) -> Arc<N> {
        Arc::clone(&self.told)
    }
}
