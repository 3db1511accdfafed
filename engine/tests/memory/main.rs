//! Whole nodes in one process: data path, Ganglion and switch of production, frames in memory,
//! time as a number. Nothing here depends on a kernel, and a run repeats exactly.

mod bench;
mod grants;
mod hostile;
mod local;
mod neighbors;
mod ports;
mod sessions;
mod switching;
mod tap;
mod vectors;
mod world;
