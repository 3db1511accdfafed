//! The replay window: which nonces of one lane were accepted, shared by all workers.
//!
//! ```text
//!  worker 0   check -> open -> commit --+
//!                                       +--> Window: one compare-and-swap takes a nonce
//!  worker 1   check -> open -> commit --+
//! ```
//!
//! A message and its replay may arrive on two receive queues at the same moment, so the decision
//! "accepted now, and never before" must be a single atomic step. [`Window`] makes it one without
//! a lock; [`LazyWindow`] is a window that takes no memory before the lane carries a message.
//!
//! # What is guaranteed
//!
//! Whatever the threads do and in whichever order their steps take effect, with `SPAN` the width
//! of the window in nonces:
//!
//! 1. *Once.* Of all commits of one nonce at most one succeeds, for as long as the window lives.
//! 2. *Room.* A nonce that was not accepted is refused only when a nonce that is `SPAN` or more
//!    newer was accepted: everything newer than (newest - `SPAN`) finds its place, in any order.
//! 3. *Newest.* A commit says that its nonce is newer than all before only when it is, and the
//!    greatest nonce of all is told so.
//! 4. *Width.* A commit that happens after the commit of a nonce that is `SPAN` or more newer is
//!    refused. While both run at the same time, either may come first.
//! 5. *Check.* A check may be behind by what other threads do at that moment, in one direction
//!    only: what it refuses, a commit after it refuses too.
//!
//! So with one thread the window is exactly the set of accepted nonces of its definition.
//!
//! The first holds because the word of a slot only moves forward: a bit is added, or the
//! generation rises, both in one step. A bit that was set goes away with its generation only, and
//! that generation is refused from then on. Nothing depends on the order between words, so all
//! accesses are relaxed. `tests/threads.rs` explores small programs of up to three threads to the
//! end: every interleaving, and every value that a relaxed load may see. `tests/loom.rs` has the
//! model checker loom confirm it for two.
//!
//! Not in here: who may ask at all (session, tag), which is the data path's to know.
#![forbid(unsafe_code)]

mod lazy;
mod window;
mod word;

pub use lazy::LazyWindow;
pub use window::Window;
pub use word::Word;

use omni_wire::limits::REPLAY_WINDOW;

/// Slots of a lane's window: enough that a whole window fits beside the block that the newest
/// nonce is in.
const SLOTS: usize = 688;
/// Nonces a slot stands for: what 64 bits leave beside a generation that can count all blocks.
const BLOCK: u32 = 12;

/// One lane's window, 8192 nonces wide (`PROTOCOL` section 2): 5.4 KiB.
pub type ReplayWindow = Window<SLOTS, BLOCK, REPLAY_WINDOW>;

/// One lane of a session: its window, made when it carries its first message.
pub type Lane = LazyWindow<SLOTS, BLOCK, REPLAY_WINDOW>;
