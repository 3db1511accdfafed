//! Hashing for the tables of the data path: one multiplication, seeded per process, so that no
//! peer can choose addresses that all fall into one bucket.

use core::hash::{BuildHasher, Hasher};
use std::collections::hash_map::RandomState;

/// Makes [`IdHasher`]s that share a seed.
#[derive(Clone, Debug)]
pub(super) struct BuildIdHasher {
    seed: u64,
}

impl Default for BuildIdHasher {
    fn default() -> Self {
        // The standard library's own random keys are the seed; no hash depends on it but ours.
        Self {
            seed: RandomState::new().hash_one(0u8) | 1,
        }
    }
}

impl BuildHasher for BuildIdHasher {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher {
            state: self.seed,
            seed: self.seed,
        }
    }
}

/// Folds each word with a 128-bit product.
#[derive(Debug)]
pub(super) struct IdHasher {
    state: u64,
    seed: u64,
}

impl Hasher for IdHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    #[inline]
    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.seed ^ 0x9e37_79b9_7f4a_7c15);
        self.state = (product as u64) ^ (product >> 64) as u64;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }
}
