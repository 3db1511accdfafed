//! How often the control thread looks around, while datagrams pour in and while nothing happens.
//!
//! Each turn of its loop costs more than a datagram: waking up, asking the kernel what is ready,
//! and looking at the timers of all peers. In a flood of forged handshakes those costs would be
//! the attacker's lever on the cores that the workers need. And with many peers something is due
//! with one of them all the time, each time for itself: what can wait a little is done together.

use std::time::Duration;

use omni_wire::Instant;

/// Timers are looked at no more often than this, unless one is known to be due.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Datagrams are counted over this long.
const WINDOW: Duration = Duration::from_millis(10);
/// With more of them in it, the thread rests between its turns: far more than the peers of a
/// fabric send, but when all of them start at once, which a rest does not harm.
const MANY: usize = 32;
/// How long it rests. Datagrams gather in the sockets meanwhile.
const REST: Duration = Duration::from_millis(1);

/// Timers wait so long for others, whose time comes meanwhile. They count seconds: nothing they do
/// is needed earlier, and a session that ends is ended by the workers' own clocks. What was done
/// together is set anew together, so that it stays so.
const SLACK: Duration = Duration::from_millis(250);

/// When the loop did what, and what it has to do next.
#[derive(Debug)]
pub(super) struct Pace {
    looked_at: Instant,
    due: Option<Instant>,
    window_began: Instant,
    in_window: usize,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            looked_at: now,
            due: Some(now),
            window_began: now,
            in_window: 0,
        }
    }

    /// Counts datagrams that arrived; how long to rest before the next turn.
    pub(super) fn rest_after(&mut self, now: Instant, datagrams: usize) -> Option<Duration> {
        if now.since(self.window_began) >= WINDOW {
            self.window_began = now;
            self.in_window = 0;
        }
        self.in_window += datagrams;
        (datagrams > 0 && self.in_window > MANY).then_some(REST)
    }

    /// Whether the timers are to be looked at.
    pub(super) fn should_look(&self, now: Instant) -> bool {
        now.since(self.looked_at) >= LOOK_EVERY || self.due.is_some_and(|due| due <= now)
    }

    /// The timers were looked at. The next one is `due` then; `urgent` does not wait for others.
    pub(super) fn looked(&mut self, now: Instant, due: Option<Instant>, urgent: Option<Instant>) {
        self.looked_at = now;
        let due = due.map(|due| Self::together(now, due));
        self.due = due.into_iter().chain(urgent).min();
    }

    /// When what is due at `due` is done, if nothing else wakes the loop from then on.
    pub(super) fn together(now: Instant, due: Instant) -> Instant {
        if due <= now { due } else { due + SLACK }
    }

    /// How long the loop may wait. What happened after the last look may have set a timer.
    pub(super) fn patience(&self, now: Instant, is_fresh: bool) -> Option<Duration> {
        let look = (!is_fresh).then_some(self.looked_at + LOOK_EVERY);
        let first = self.due.into_iter().chain(look).min()?;
        Some(first.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Instant {
        Instant(milliseconds * 1_000_000)
    }

    #[test]
    fn a_flood_is_rested_from_and_ordinary_traffic_is_not() {
        let mut pace = Pace::new(ms(0));
        for turn in 0..100 {
            assert_eq!(pace.rest_after(ms(turn), 2), None, "turn {turn}");
        }
        assert_eq!(pace.rest_after(ms(100), MANY), None);
        assert_eq!(pace.rest_after(ms(101), 1), Some(REST));
        assert_eq!(
            pace.rest_after(ms(102), 0),
            None,
            "nothing came in this turn"
        );
        assert_eq!(pace.rest_after(ms(111), 1), None, "the window is over");
    }

    #[test]
    fn timers_are_looked_at_when_due_and_else_once_a_millisecond() {
        let mut pace = Pace::new(ms(0));
        assert!(pace.should_look(ms(0)), "at the start");
        pace.looked(ms(5), None, Some(ms(9)));
        assert!(!pace.should_look(Instant(ms(5).0 + 1)));
        assert!(pace.should_look(ms(6)));
        pace.looked(ms(8), None, Some(ms(9)));
        assert!(pace.should_look(ms(9)));
        pace.looked(ms(20), None, None);
        assert!(!pace.should_look(ms(20)));
    }

    #[test]
    fn timers_wait_for_each_other_and_what_is_urgent_does_not() {
        let mut pace = Pace::new(ms(0));
        pace.looked(ms(100), Some(ms(101)), None);
        assert_eq!(pace.patience(ms(100), true), Some(ms(351).since(ms(100))));
        assert!(!pace.should_look(Instant(ms(100).0 + 1)));
        pace.looked(ms(100), Some(ms(101)), Some(ms(110)));
        assert_eq!(pace.patience(ms(100), true), Some(ms(110).since(ms(100))));
        pace.looked(ms(100), Some(ms(100)), Some(ms(110)));
        assert_eq!(pace.patience(ms(100), true), Some(Duration::ZERO), "it is");
    }

    /// Timers of two periods, and looks that nobody delays: all fall into step with the looks.
    #[test]
    fn timers_of_many_phases_come_to_be_met_together() {
        let periods = [500, 1000, 1000].map(Duration::from_millis);
        let mut due = [ms(120), ms(310), ms(770)];
        let mut pace = Pace::new(ms(0));
        let (mut now, mut tick) = (ms(0), ms(0));
        let mut woken = Vec::new();
        while now < ms(20_000) {
            for (due, period) in due.iter_mut().zip(periods) {
                if *due <= now {
                    *due = now + period;
                }
            }
            pace.looked(now, due.into_iter().min(), None);
            if now >= tick {
                tick = now + Duration::from_millis(500);
            }
            let patience = pace.patience(now, true).expect("a timer");
            now = tick.min(now + patience);
            woken.push(now);
        }
        let late = woken.iter().filter(|&&at| at >= ms(10_000)).count();
        assert_eq!(late, 21, "twice a second");
    }

    #[test]
    fn the_loop_sleeps_until_the_next_timer_but_not_over_what_it_has_not_looked_at() {
        let mut pace = Pace::new(ms(0));
        pace.looked(ms(5), Some(ms(500)), None);
        let wait = Duration::from_millis(495) + SLACK;
        assert_eq!(pace.patience(ms(5), true), Some(wait));
        assert_eq!(pace.patience(ms(5), false), Some(LOOK_EVERY));
        assert_eq!(pace.patience(ms(7), false), Some(Duration::ZERO));
        pace.looked(ms(9), None, None);
        assert_eq!(pace.patience(ms(9), true), None);
    }
}
