//! Deterministic simulation of whole fabrics.
//!
//! Every host runs the code of production: one [`Datapath`] per worker over frames in memory, and
//! a [`ControlPlane`], joined by the real mailboxes as the runtime joins them. Around them all is
//! simulated: the clocks, when a thread gets its turn, the network between the hosts, and the
//! stations behind them, which move, ask for each other, and pretend to be each other. One seed
//! decides everything, so a run repeats to the octet.
//!
//! ```text
//!  scenario: what happens next                     model: what must come of it
//!     |                                               ^ sees each order, frame and message
//!     v                                               |
//!  world: queue of events ---> hosts (control thread, workers) ---> network: delay, loss, copies,
//!     ^                                                                |     damage, replay
//!     +----------------------------- arrivals -------------------------+
//! ```
//!
//! | file | subject |
//! |---|---|
//! | `world` | time, the queue of events, what is sent and what has arrived; stations |
//! | `host` | a host: threads, sockets, mailboxes, address, clock |
//! | `control` | the control plane: every call to it is in this file |
//! | `network` | what becomes of a message on its way |
//! | `model` | a naive fabric, and the rules that every step is held against |
//! | `scenario` | transitions, and how often each is chosen |
//! | `queue`, `random`, `frame` | events in order of time, seeded numbers, frames with markers |
//! | `runner` | seeds, one after the other or side by side |
//! | `report`, `trace` | what is kept of a run, and what is said when a rule is broken |
//!
//! [`Datapath`]: omni_engine::datapath::Datapath
//! [`ControlPlane`]: omni_engine::control_plane::ControlPlane
#![forbid(unsafe_code)]

mod control;
mod frame;
mod host;
mod model;
mod network;
mod queue;
mod random;
mod report;
pub mod runner;
mod scenario;
mod trace;
mod world;

pub use host::Link;
pub use network::Weather;
pub use random::Rng;
pub use report::{Report, Summary, Violation};
pub use scenario::Weights;
pub use world::{Capture, Setup, Totals, World};
