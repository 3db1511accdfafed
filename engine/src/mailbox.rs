//! The mailboxes between the control thread and the workers: what the engine puts into those of
//! [`omni_shared`], and what it makes them of.
//!
//! A worker sleeps in `poll` and is woken by an eventfd, the control thread by a notification of
//! its runtime.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crossbeam_queue::ArrayQueue;
use omni_control::message::Upcall;
use omni_shared::{Latch, Signal};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use crate::datapath::TableCommand;
use crate::io::LetGo;
use crate::io::kernel::Reopened;
use crate::stats::WorkerReport;

/// Orders that wait for one worker.
const ORDERS: usize = 1024;
/// Orders kept for a worker beyond those, before it counts as stuck: more than a full forwarding
/// table, which is the most that is ever ordered at once.
pub const KEPT_MAX: usize = 256 * 1024;
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

/// The control thread's end.
pub type ControlMailbox = omni_shared::ControlMailbox<Orders, Upcalls, Waker, Told>;
/// A worker's end.
pub type WorkerMailbox = omni_shared::WorkerMailbox<Orders, Upcalls, Waker, Told>;
type Orders = ArrayQueue<Order>;
type Upcalls = ArrayQueue<(usize, Upcall)>;

/// Wakes a thread that sleeps in `poll`.
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    fn new() -> io::Result<Self> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Self(eventfd(0, flags)?))
    }
}

impl Signal for Waker {
    fn raise(&self) {
        // Fails only when the counter is full, and then the sleeper is woken already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Latch for Waker {
    fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Wakes the control thread.
#[derive(Debug, Default)]
pub struct Told(Notify);

impl Told {
    /// Ends when upcalls wait.
    pub fn notified(&self) -> Notified<'_> {
        self.0.notified()
    }
}

impl Signal for Told {
    fn raise(&self) {
        self.0.notify_one();
    }
}

/// Both ends for `workers` workers.
///
/// # Errors
/// When the system is out of file descriptors.
pub fn mailboxes(workers: usize) -> io::Result<(ControlMailbox, Vec<WorkerMailbox>)> {
    let wakers = (0..workers).map(|_| Waker::new());
    let wakers = wakers.collect::<io::Result<_>>()?;
    let room = (ORDERS, UPCALLS);
    Ok(omni_shared::mailboxes(wakers, Told::default(), room))
}

#[cfg(test)]
mod tests {
    use omni_control::message::PeerId;

    use super::*;

    fn max_frame(octets: usize) -> Order {
        Order::Table(TableCommand::SetMaxFrame(octets))
    }

    #[test]
    fn orders_keep_their_order_beyond_the_queue() {
        let (mut control, workers) = mailboxes(2).expect("descriptors");
        for octets in 0..ORDERS + 10 {
            control.order(0, max_frame(octets));
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
            control.order(1, max_frame(octets));
            control.flush();
        }
        assert_eq!(control.stuck_worker(KEPT_MAX), None);
        control.broadcast(Some(0), || max_frame(0));
        assert_eq!(control.stuck_worker(KEPT_MAX), Some(1));
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
