//! The rules, each by its name, in virtual time and with a store in memory.

mod limits;
mod memory;
mod random;
mod rules;
mod telling;
mod world;
