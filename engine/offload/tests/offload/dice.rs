//! Chance that repeats itself.

/// Numbers that look random and are the same each time (xorshift64, Marsaglia 2003).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Any number.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from 0 on, below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        ((self.roll() >> 16) % limit as u64) as usize
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// So many octets.
    pub(crate) fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.roll() >> 24) as u8).collect()
    }
}
