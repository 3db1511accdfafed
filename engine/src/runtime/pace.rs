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

/// Timers that are due sooner than this are met to the millisecond.
const SOON: Duration = Duration::from_millis(20);
/// Others are met together, up to so much late. They count seconds: nothing they do is needed
/// earlier, and a session that ends is ended by the workers' own clocks.
pub(super) const TOGETHER: Duration = Duration::from_millis(250);

/// When the loop did what, and what it has to do next.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the engine began: what is met together counts from there, so that the engines of a
    /// machine do not all wake at once.
    began: Instant,
    looked_at: Instant,
    due: Option<Instant>,
    window_began: Instant,
    in_window: usize,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
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

    /// The timers were looked at, and the next one is `due` then.
    pub(super) fn looked(&mut self, now: Instant, due: Option<Instant>) {
        self.looked_at = now;
        self.due = due.map(|due| self.together(now, due));
    }

    /// When what is met together is met next.
    pub(super) fn next_tick(&self, now: Instant) -> Instant {
        self.tick_from(Instant(now.0 + 1))
    }

    /// The first of these times that is not before `at`.
    fn tick_from(&self, at: Instant) -> Instant {
        let late = at.since(self.began).as_nanos() % TOGETHER.as_nanos();
        let late = Duration::from_nanos(u64::try_from(late).unwrap_or_default());
        if late.is_zero() {
            at
        } else {
            at + (TOGETHER - late)
        }
    }

    /// When what is due at `due` is done.
    pub(super) fn together(&self, now: Instant, due: Instant) -> Instant {
        if due.since(now) < SOON {
            return due;
        }
        let late = due.since(self.began).as_nanos() % TOGETHER.as_nanos();
        let late = Duration::from_nanos(u64::try_from(late).unwrap_or_default());
        if late.is_zero() {
            due
        } else {
            due + (TOGETHER - late)
        }
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
        pace.looked(ms(5), Some(ms(9)));
        assert!(!pace.should_look(Instant(ms(5).0 + 1)));
        assert!(pace.should_look(ms(6)));
        pace.looked(ms(8), Some(ms(9)));
        assert!(pace.should_look(ms(9)));
        pace.looked(ms(20), None);
        assert!(!pace.should_look(ms(20)));
    }

    #[test]
    fn what_is_not_due_soon_is_done_together() {
        let mut pace = Pace::new(ms(3));
        for (due, done) in [
            (ms(100), ms(100)),
            (ms(119), ms(119)),
            (ms(120), ms(253)),
            (ms(253), ms(253)),
            (ms(254), ms(503)),
            (ms(9_999_999), ms(10_000_003)),
        ] {
            assert_eq!(pace.together(ms(100), due), done, "{due:?}");
        }
        assert_eq!(pace.next_tick(ms(252)), ms(253));
        assert_eq!(pace.next_tick(ms(253)), ms(503));
        pace.looked(ms(100), Some(ms(400)));
        assert_eq!(pace.patience(ms(100), true), Some(ms(503).since(ms(100))));
        assert!(!pace.should_look(Instant(ms(100).0 + 1)));
    }

    #[test]
    fn the_loop_sleeps_until_the_next_timer_but_not_over_what_it_has_not_looked_at() {
        let mut pace = Pace::new(ms(0));
        pace.looked(ms(5), Some(ms(500)));
        assert_eq!(pace.patience(ms(5), true), Some(Duration::from_millis(495)));
        assert_eq!(pace.patience(ms(5), false), Some(LOOK_EVERY));
        assert_eq!(pace.patience(ms(7), false), Some(Duration::ZERO));
        pace.looked(ms(9), None);
        assert_eq!(pace.patience(ms(9), true), None);
    }
}
