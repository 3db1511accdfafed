//! What the control thread and the workers share, beside the replay windows.
//!
//! ```text
//! control thread --- orders (one queue a worker) ---> worker     woken by its signal
//! control thread <-- upcalls (one queue for all) ---- worker     woken by a signal
//! worker 0 ---> StormBucket <--- worker 1
//! ```
//!
//! Everything here is generic in what it is made of: queues, signals and words. The engine brings
//! lock-free queues and file descriptors, and model checkers bring their own, so that what they
//! explore is what runs.
//!
//! # What is guaranteed
//!
//! Whatever the threads do and in whichever order their steps take effect:
//!
//! 1. *Order.* A worker takes the orders that are for it in the order in which they were given, and
//!    each once, also beyond what its queue has room for.
//! 2. *No lost wake-up.* Who looks at its queue, finds nothing and sleeps is woken by whatever was
//!    put in meanwhile: see [`WorkerMailbox::sleep`] and [`ControlMailbox::take_upcalls`].
//! 3. *Rate.* All workers together get no more permits of a [`StormBucket`] than one alone would.
//!
//! `tests/loom.rs` has the model checker loom confirm them: small programs of two threads to the
//! end, larger ones and those of three with up to three switches of threads that nothing forces.
//! `tests/schedules.rs` has more threads and messages, by random schedules.
//!
//! Not in here: what orders and upcalls say.
#![forbid(unsafe_code)]

mod mailbox;
mod parts;
mod storm;

pub use mailbox::{ControlMailbox, WorkerMailbox, mailboxes};
pub use parts::{Latch, Queue, Signal};
pub use storm::StormBucket;
