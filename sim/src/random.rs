//! Seeded randomness: splitmix64, which is small, and good enough for everything but secrets.

use std::time::Duration;

use omni_control::Random;

/// What [`Rng::chance`] counts in.
const MILLION: u64 = 1_000_000;

/// A generator. The same seed and stream give the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator of its own for each `stream` of a seed, so that one more number drawn for one
    /// purpose does not change what is drawn for another.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
        rng.next();
        rng
    }

    /// The next 64 bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, so it is no iterator"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % (limit as u64).max(1)) as usize
    }

    /// True in `per_million` of a million cases.
    pub fn chance(&mut self, per_million: u32) -> bool {
        self.next() % MILLION < u64::from(per_million)
    }

    /// A span from `least` to `most`, in whole nanoseconds.
    pub fn span(&mut self, least: Duration, most: Duration) -> Duration {
        let room = most.saturating_sub(least).as_nanos() as u64;
        least + Duration::from_nanos(self.next() % (room + 1))
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Brings `items` into another order, each order being as likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

impl Random for Rng {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let octets = self.next().to_le_bytes();
            chunk.copy_from_slice(&octets[..chunk.len()]);
        }
    }
}
