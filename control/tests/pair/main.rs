//! Two Ganglions (sometimes more) in one process, in virtual time, over a network that loses,
//! delays, repeats and reorders by a seed. Workers are played by a small model that has the rules
//! of sessions but no cryptography.

mod clocks;
mod endpoints;
mod first_contact;
mod harness;
mod hostile;
mod load;
mod path_mtu;
mod reload;
mod rotation;
mod weather;
mod worker;
