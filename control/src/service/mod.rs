//! What a program that runs as a service needs of the system: clocks, randomness, a control socket,
//! a log, metrics, and a word to the service manager. And what it does not: most privileges and
//! system calls.

pub mod capabilities;
pub mod clock;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod process;
pub mod random;
pub mod seccomp;
pub mod socket;
