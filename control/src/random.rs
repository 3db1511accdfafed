//! Randomness, handed in: a seeded generator makes a whole run repeatable.

use core::time::Duration;

use omni_membership::SymmetricKey;

/// A source of randomness that is fit for keys, or a seeded one in tests.
pub trait Random: Send {
    /// Fills all of `out`.
    fn fill(&mut self, out: &mut [u8]);
}

/// A fresh key.
pub(crate) fn key(rng: &mut dyn Random) -> SymmetricKey {
    let mut key = SymmetricKey([0; 32]);
    rng.fill(&mut key.0);
    key
}

/// A fresh number.
pub(crate) fn number(rng: &mut dyn Random) -> u32 {
    let mut octets = [0; 4];
    rng.fill(&mut octets);
    u32::from_be_bytes(octets)
}

/// Eight octets that nobody can guess.
pub(crate) fn token(rng: &mut dyn Random) -> [u8; 8] {
    let mut token = [0; 8];
    rng.fill(&mut token);
    token
}

/// A span from zero to `most`. Whole nanoseconds; the bias of the remainder does not matter here.
pub(crate) fn jitter(rng: &mut dyn Random, most: Duration) -> Duration {
    let mut octets = [0; 8];
    rng.fill(&mut octets);
    let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(u64::from_be_bytes(octets) % most.saturating_add(1).max(1))
}
