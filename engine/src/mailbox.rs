//! Bounded queues between the control thread and the workers.
//!
//! ```text
//! control thread --- orders (one queue a worker) ---> worker     woken by the worker's eventfd
//! control thread <-- upcalls (one queue for all) ---- worker     woken by a notification
//! ```
//!
//! A worker never waits: what it cannot say now it keeps and says after a later burst. The control
//! thread keeps what a worker's queue has no room for, in order, up to a number that only a worker
//! that does nothing any more can reach.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use omni_control::message::Upcall;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::{Notify, oneshot};

use crate::datapath::TableCommand;
use crate::io::LetGo;
use crate::io::kernel::Reopened;
use crate::pulse::Pulse;
use crate::stats::WorkerReport;

/// Orders that wait for one worker.
const ORDERS: usize = 1024;
/// Orders kept for a worker beyond those, before it counts as stuck: more than a full forwarding
/// table, which is the most that is ever ordered at once.
const KEPT_MAX: usize = 256 * 1024;
/// Upcalls that wait for the control thread.
const UPCALLS: usize = 4096;

/// From the control thread to a worker.
#[derive(Debug)]
pub enum Order {
    /// Change the tables.
    Table(TableCommand),
    /// Say what was counted.
    Report(oneshot::Sender<WorkerReport>),
    /// Do all that can move a queue on that does not move.
    Urge,
    /// Close the AF_XDP sockets, give the packet memory back, and say what became of them.
    LetGo(oneshot::Sender<LetGo>),
    /// Take these sockets and their packet memory.
    TakeOver(Box<Reopened>),
    /// End, after giving everything back.
    Stop,
}

/// Wakes a thread that sleeps in `poll`.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(
            0,
            EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC,
        )?)))
    }

    /// Wakes the sleeper; if it is awake, its next sleep ends at once.
    pub fn wake(&self) {
        // Fails only when the counter is full, and then the sleeper is woken already.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    /// Forgets the wake-ups so far: called before the queue is looked at, never after.
    pub fn clear(&self) {
        let _ = rustix::io::read(&*self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A worker's end.
#[derive(Debug)]
pub struct WorkerMailbox {
    worker: usize,
    orders: Arc<ArrayQueue<Order>>,
    wake_me: Waker,
    upcalls: Arc<ArrayQueue<(usize, Upcall)>>,
    wake_control: Arc<Notify>,
    pulse: Arc<Pulse>,
}

impl WorkerMailbox {
    /// The oldest order that waits.
    pub fn next_order(&self) -> Option<Order> {
        self.orders.pop()
    }

    /// Tells the control thread; hands the upcall back when there is no room.
    ///
    /// # Errors
    /// The upcall itself.
    pub fn tell(&self, upcall: Upcall) -> Result<(), Upcall> {
        self.upcalls
            .push((self.worker, upcall))
            .map_err(|(_, upcall)| upcall)
    }

    /// Wakes the control thread: once after all that was told.
    pub fn wake_control(&self) {
        self.wake_control.notify_one();
    }

    /// Where the worker shows that it is alive.
    #[must_use]
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// What ends the worker's sleep.
    #[must_use]
    pub fn waker(&self) -> &Waker {
        &self.wake_me
    }
}

/// The control thread's end.
#[derive(Debug)]
pub struct ControlMailbox {
    workers: Vec<WorkerQueue>,
    upcalls: Arc<ArrayQueue<(usize, Upcall)>>,
    told: Arc<Notify>,
}

#[derive(Debug)]
struct WorkerQueue {
    orders: Arc<ArrayQueue<Order>>,
    waker: Waker,
    /// What the queue had no room for.
    overflow: VecDeque<Order>,
    touched: bool,
    pulse: Arc<Pulse>,
}

/// Both ends for `workers` workers.
///
/// # Errors
/// When the system is out of file descriptors.
pub fn mailboxes(workers: usize) -> io::Result<(ControlMailbox, Vec<WorkerMailbox>)> {
    let upcalls = Arc::new(ArrayQueue::new(UPCALLS));
    let told = Arc::new(Notify::new());
    let mut ends = Vec::new();
    let mut queues = Vec::new();
    for worker in 0..workers {
        let (orders, wake_me) = (Arc::new(ArrayQueue::new(ORDERS)), Waker::new()?);
        let pulse = Arc::new(Pulse::default());
        queues.push(WorkerQueue {
            orders: Arc::clone(&orders),
            waker: wake_me.clone(),
            overflow: VecDeque::new(),
            touched: false,
            pulse: Arc::clone(&pulse),
        });
        let (upcalls, wake_control) = (Arc::clone(&upcalls), Arc::clone(&told));
        ends.push(WorkerMailbox {
            worker,
            orders,
            wake_me,
            upcalls,
            wake_control,
            pulse,
        });
    }
    Ok((
        ControlMailbox {
            workers: queues,
            upcalls,
            told,
        },
        ends,
    ))
}

impl ControlMailbox {
    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Orders one worker; it sees it after the next [`ControlMailbox::flush`].
    pub fn order(&mut self, worker: usize, order: Order) {
        let queue = &mut self.workers[worker];
        queue.overflow.push_back(order);
        queue.touched = true;
    }

    /// Orders a change of the tables from every worker but `except`.
    pub fn broadcast(&mut self, command: &TableCommand, except: Option<usize>) {
        for worker in (0..self.workers.len()).filter(|&worker| Some(worker) != except) {
            self.order(worker, Order::Table(command.clone()));
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
                queue.waker.wake();
            }
            queue.touched = !queue.overflow.is_empty();
            left |= queue.touched;
        }
        left
    }

    /// The signs of life of every worker.
    pub fn pulses(&self) -> impl Iterator<Item = &Pulse> {
        self.workers.iter().map(|queue| &*queue.pulse)
    }

    /// A worker that does not take its orders any more.
    #[must_use]
    pub fn stuck_worker(&self) -> Option<usize> {
        self.workers
            .iter()
            .position(|queue| queue.overflow.len() > KEPT_MAX)
    }

    /// The oldest upcall that waits, and who said it.
    pub fn next_upcall(&self) -> Option<(usize, Upcall)> {
        self.upcalls.pop()
    }

    /// Notified when upcalls wait.
    #[must_use]
    pub fn told(&self) -> Arc<Notify> {
        Arc::clone(&self.told)
    }
}

#[cfg(test)]
mod tests {
    use omni_control::message::PeerId;

    use super::*;

    #[test]
    fn orders_keep_their_order_beyond_the_queue() {
        let (mut control, workers) = mailboxes(2).expect("descriptors");
        for octets in 0..ORDERS + 10 {
            control.broadcast(&TableCommand::SetMaxFrame(octets), Some(1));
        }
        assert!(control.flush(), "ten wait");
        let mut seen = 0;
        let mut take = || {
            while let Some(Order::Table(TableCommand::SetMaxFrame(octets))) =
                workers[0].next_order()
            {
                assert_eq!(octets, seen);
                seen += 1;
            }
            seen
        };
        assert_eq!(take(), ORDERS);
        assert!(!control.flush());
        assert_eq!(take(), ORDERS + 10);
        assert!(workers[1].next_order().is_none());
    }

    #[test]
    fn a_worker_that_takes_no_orders_is_noticed() {
        let (mut control, _workers) = mailboxes(2).expect("descriptors");
        for octets in 0..ORDERS + KEPT_MAX {
            control.broadcast(&TableCommand::SetMaxFrame(octets), Some(0));
            control.flush();
        }
        assert_eq!(control.stuck_worker(), None);
        control.broadcast(&TableCommand::SetMaxFrame(0), Some(0));
        assert_eq!(control.stuck_worker(), Some(1));
    }

    #[test]
    fn upcalls_are_bounded_and_come_back_when_refused() {
        let (control, workers) = mailboxes(1).expect("descriptors");
        let upcall = Upcall::NeedSession { peer: PeerId(3) };
        for _ in 0..UPCALLS {
            assert_eq!(workers[0].tell(upcall.clone()), Ok(()));
        }
        assert_eq!(workers[0].tell(upcall.clone()), Err(upcall.clone()));
        assert_eq!(control.next_upcall(), Some((0, upcall)));
    }
}
