//! Randomness of the operating system.

use crate::Random;

/// The operating system's randomness.
#[derive(Debug)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) {
        // Without randomness there are no keys; nothing good can come of going on.
        getrandom::fill(out).expect("the kernel gives randomness");
    }
}
