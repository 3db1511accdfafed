//! A steady rate: how many packets are due, never more than a burst at once.

use std::time::Duration;

/// The most packets of one system call.
pub(crate) const BURST_MAX: usize = 64;
/// What is made up for after the sender had no core. Beyond, the rate is missed, and shows.
const BACKLOG_MAX: Duration = Duration::from_millis(50);

/// Counts packets against time.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: f64,
    /// Packets that may be sent, with fractions.
    saved: f64,
    /// Time since the start up to which packets were saved.
    at: Duration,
}

impl Pace {
    /// `per_second` packets a second, from the first one on.
    pub(crate) const fn new(per_second: u32) -> Self {
        Self {
            per_second: per_second as f64,
            saved: 0.0,
            at: Duration::ZERO,
        }
    }

    /// How many packets are to be sent at `now`, a time since the start: up to [`BURST_MAX`].
    pub(crate) fn take(&mut self, now: Duration) -> usize {
        let elapsed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let most = (self.per_second * BACKLOG_MAX.as_secs_f64()).max(1.0);
        self.saved = (self.saved + elapsed * self.per_second).min(most);
        let due = (self.saved as usize).min(BURST_MAX);
        self.saved -= due as f64;
        due
    }

    /// How long to rest after nothing was due: until half a burst is, at most a millisecond.
    pub(crate) fn rest(&self) -> Duration {
        let half = BURST_MAX as f64 / 2.0 / self.per_second.max(1.0);
        Duration::from_secs_f64(half).min(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_whatever_the_steps() {
        let mut pace = Pace::new(100_000);
        let steps = (0..=100_000).map(|step| Duration::from_micros(step * 10));
        let sent: usize = steps.map(|now| pace.take(now)).sum();
        assert!((99_998..=100_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_pause_is_made_up_for_in_bursts_and_only_so_far() {
        let mut pace = Pace::new(100_000);
        let late = Duration::from_secs(10);
        let bursts: Vec<usize> = (0..200).map(|_| pace.take(late)).collect();
        assert!(bursts.iter().all(|&burst| burst <= BURST_MAX));
        assert_eq!(bursts.iter().sum::<usize>(), 5000);
    }

    #[test]
    fn a_clock_that_stands_still_gives_nothing() {
        let mut pace = Pace::new(1000);
        assert_eq!(pace.take(Duration::ZERO), 0);
        assert_eq!(pace.take(Duration::from_millis(10)), 10);
        assert_eq!(pace.take(Duration::from_millis(5)), 0);
    }
}
