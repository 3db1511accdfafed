//! What a program that runs as a service needs of the system: clocks, randomness, a control socket,
//! and a word to the service manager. And what it does not: most privileges and system calls.

pub mod capabilities;
pub mod clock;
pub mod notify;
pub mod process;
pub mod random;
pub mod seccomp;
pub mod socket;
