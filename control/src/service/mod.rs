//! What a program that runs as a service needs of the system: clocks, randomness, a control socket,
//! and a word to the service manager.

pub mod clock;
pub mod notify;
pub mod random;
pub mod socket;
