//! Numbers that look random and are the same each time (splitmix64).

/// A generator. The same seed and stream give the same numbers on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// A generator of its own for each `stream` of a seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
        dice.roll();
        dice
    }

    /// The next 64 bits.
    pub(crate) const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to but not 1.
    pub(crate) fn share(&mut self) -> f64 {
        // The 53 bits that a double holds.
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to `most`, both included.
    pub(crate) const fn up_to(&mut self, most: u64) -> u64 {
        match most.checked_add(1) {
            Some(count) => self.roll() % count,
            None => self.roll(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_and_another_stream_others() {
        let of = |seed, stream| {
            let mut dice = Dice::new(seed, stream);
            [dice.roll(), dice.roll()]
        };
        assert_eq!(of(7, 1), of(7, 1));
        assert_ne!(of(7, 1), of(7, 2));
        assert_ne!(of(7, 1), of(8, 1));
    }

    #[test]
    fn shares_are_even_and_bounds_kept() {
        let mut dice = Dice::new(1, 0);
        let shares: Vec<f64> = (0..10_000).map(|_| dice.share()).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        let mean = shares.iter().sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
        let seen: std::collections::BTreeSet<u64> = (0..1000).map(|_| dice.up_to(3)).collect();
        assert_eq!(seen, (0..=3).collect());
        assert_eq!(dice.up_to(0), 0);
    }
}
