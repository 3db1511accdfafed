//! Who called before it was known here: it is called back as soon as it is.
//!
//! Two nodes learn of each other at different moments, and the one that knows first begins a
//! handshake that the other one cannot answer yet. It would try again after five seconds.

use core::time::Duration;
use std::collections::VecDeque;

use omni_membership::PublicKey;
use omni_wire::Instant;

/// The most that are remembered; the oldest goes first.
const KNOCKS_MAX: usize = 64;
/// For how long: whoever called earlier has tried again since.
const REMEMBERED: Duration = Duration::from_secs(10);

/// All of them. Only who has the private key of a public key gets in here.
#[derive(Debug, Default)]
pub(super) struct Knocks(VecDeque<(Instant, PublicKey)>);

impl Knocks {
    /// Somebody called who is not known.
    pub(super) fn remember(&mut self, now: Instant, caller: PublicKey) {
        self.0.retain(|(_, other)| *other != caller);
        if self.0.len() >= KNOCKS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, caller));
    }

    /// Whether somebody called of late. It counts once.
    pub(super) fn take(&mut self, now: Instant, caller: &PublicKey) -> bool {
        let at = self.0.iter().position(|(_, other)| other == caller);
        let knock = at.and_then(|at| self.0.remove(at));
        knock.is_some_and(|(at, _)| now.since(at) < REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knock_counts_once_and_not_for_long_and_the_oldest_make_room() {
        let mut knocks = Knocks::default();
        let caller = |n: u8| PublicKey([n; 32]);
        let start = Instant(1_000_000_000_000);
        knocks.remember(start, caller(1));
        assert!(knocks.take(start + Duration::from_secs(9), &caller(1)));
        assert!(!knocks.take(start, &caller(1)));
        knocks.remember(start, caller(1));
        assert!(!knocks.take(start + REMEMBERED, &caller(1)));
        for n in 0..=64 {
            knocks.remember(start, caller(n));
            knocks.remember(start, caller(n));
        }
        assert_eq!(knocks.0.len(), KNOCKS_MAX);
        assert!(!knocks.take(start, &caller(0)) && knocks.take(start, &caller(1)));
    }
}
