//! How long to wait before the next attempt.

use std::time::Duration;

/// The wait after a first failure.
const SHORTEST: Duration = Duration::from_millis(100);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);

/// Doubles with every failure. Each wait is cut by up to half, at random, so that servers that
/// failed together do not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { next: SHORTEST }
    }

    /// The wait before the next attempt.
    pub(super) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        whole - whole.mul_f64(0.5 * f64::from(random()) / f64::from(u32::MAX))
    }
}

/// A random number. Without randomness all servers choose alike, which is slower and nothing worse.
pub(super) fn random() -> u32 {
    getrandom::u32().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_are_never_short() {
        let mut backoff = Backoff::new();
        for doublings in 0..12 {
            let whole = (SHORTEST * (1 << doublings)).min(LONGEST);
            let wait = backoff.wait();
            assert!(whole / 2 <= wait && wait <= whole, "{wait:?} of {whole:?}");
        }
    }
}
