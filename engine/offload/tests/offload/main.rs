//! Segmentation and coalescing against a naive reference that was written apart from them, byte by
//! byte; and against what no kernel and no peer should send.
#![forbid(unsafe_code)]

mod coalescing;
mod dice;
mod frames;
mod hostile;
mod reference;
mod segmenting;
