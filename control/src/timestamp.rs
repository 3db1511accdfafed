//! The timestamps of initiations (section 3): which ones we give, and which ones we accept.
//!
//! A receiver accepts a timestamp that is greater than all before from the same key, and at most
//! 24 h ahead of its own clock. Clocks may be wrong, jump, and be set right again, on either side
//! and over restarts; three rules keep everybody reachable:
//!
//! - Our own clock, a [`Clock`], is not stepped by jumps of the wall clock, and does not begin
//!   before a time that is known to have passed.
//! - To each peer there is a [`Line`] of timestamps that goes on from the last one which that peer
//!   accepted, at the pace of monotonic time. As long as the peer remembers it, the line satisfies
//!   it whatever our wall clock shows.
//! - A peer may have accepted more than its line: what the wall clock showed was tried as well, and
//!   may have been held back on its way until something lower was accepted. The greatest that may
//!   still be accepted is known, over restarts too.
//!
//! So the initiations of one handshake try in turn what differs: the line; what is beyond all that
//! was given; and the wall clock, for a peer that has set its clock right and takes the line to be
//! too far ahead. The order is that in which they are likely to do, so that one retry is enough
//! unless clocks were wrong in several ways. What is accepted becomes the line.

use core::time::Duration;

use omni_wire::handshake::Tai64n;
use omni_wire::limits::TIMESTAMP_MAX_AHEAD;
use omni_wire::{Instant, Now, WallTime};

use crate::memory::Stamps;

/// How exact timestamps are, in nanoseconds, as a power of two (17 ms). Finer ones would show
/// every receiver how our clock runs.
const GRAIN: u64 = 1 << 24;

/// How far two timestamps may be apart before both are tried, in nanoseconds: one minute. Less
/// comes of clocks being adjusted, and hinders no peer.
const APART: u128 = 60 * 1_000_000_000;

/// The time as far as this node can tell.
pub(crate) struct Clock {
    started: Now,
}

impl Clock {
    /// A clock that starts now, and not before a time that is known to have passed.
    pub(crate) fn new(now: Now, passed: Option<Tai64n>) -> Self {
        let wall = passed.map_or(now.wall, |passed| passed.to_wall().max(now.wall));
        Self {
            started: Now { wall, ..now },
        }
    }

    /// The time, whatever the wall clock did since the start.
    fn steady(&self, now: Instant) -> WallTime {
        self.started.advanced(now.since(self.started.instant)).wall
    }

    /// The time by which others are judged. A clock that was wrong at the start counts once it is
    /// set right forwards; set back, it does not count, as whoever sets it back wants something
    /// old accepted.
    pub(crate) fn latest(&self, now: Now) -> WallTime {
        self.steady(now.instant).max(now.wall)
    }

    /// Whether an initiation with `stamp` may be answered, where `greatest` is the greatest one
    /// accepted from its sender so far.
    ///
    /// A greatest one that would be too far ahead today was accepted while our clock was wrong,
    /// and would lock its sender out for as long as it was wrong by; it does not count. What was
    /// recorded before may then be answered once. That installs nothing to send in, and ends with
    /// the sender's own next initiation.
    pub(crate) fn accepts(&self, stamp: Tai64n, greatest: Option<Tai64n>, now: Now) -> bool {
        let latest = Tai64n::from_wall(tolerated(self.latest(now)));
        let greatest = greatest.filter(|&greatest| greatest <= latest);
        stamp <= latest && Some(stamp) > greatest
    }

    /// The line to a peer between which and us these went to and fro, as far as is known.
    ///
    /// It begins at the clock where that is newer by less than what the peer tolerates anyhow:
    /// the peer may have accepted more, and the response or our memory of it was lost. A clock
    /// beyond that may be wrong, and what the peer accepted is not.
    pub(crate) fn line(&self, stamps: Stamps, now: Instant) -> Line {
        let clock = self.steady(now);
        let last = stamps.ours.map(Tai64n::to_wall);
        let behind = last.filter(|&last| clock > tolerated(last));
        let start = behind.unwrap_or(before(clock).max(last.unwrap_or_default()));
        let beyond = stamps.beyond.map(Tai64n::to_wall);
        Line {
            last: start,
            at: now,
            began_behind: behind.is_some(),
            greatest: start.max(beyond.unwrap_or_default()),
            turn: 0,
            ahead: 0,
        }
    }
}

/// Timestamps for one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// The last one, before it was made coarse.
    last: WallTime,
    /// When it was given.
    at: Instant,
    /// Whether our clock was far ahead of it at the start.
    began_behind: bool,
    /// The greatest one ever given, without those that were too far ahead of the line: a wall
    /// clock that shows such a time is likelier wrong, and no peer with a right one accepts it.
    greatest: WallTime,
    /// Which of its choices the handshake under way has come to.
    turn: usize,
    /// How far the wall clock was ahead of the line then, in nanoseconds.
    ahead: i128,
}

impl Line {
    /// The timestamp of the next initiation, `is_first` of a handshake or not.
    pub(crate) fn next(&mut self, is_first: bool, now: Now) -> WallTime {
        let passed = now.instant.since(self.at).max(Duration::from_nanos(GRAIN));
        self.last = advanced(self.last, passed);
        self.at = now.instant;
        // What is beyond by less than a handshake's time has to be passed by the line itself.
        let near = self.beyond().filter(|&beyond| !is_apart(beyond, self.last));
        if let (true, Some(near)) = (is_first, near) {
            self.last = after(near);
        }
        let ahead = i128::from(now.wall.0) - i128::from(self.last.0);
        // A wall clock that was set meanwhile was not tried yet.
        let was_set = ahead.abs_diff(self.ahead) > APART;
        self.ahead = ahead;
        self.turn = match (is_first, was_set) {
            (true, _) => 0,
            (false, true) => usize::from(!self.is_behind(now.wall)),
            (false, false) => self.turn + 1,
        };
        let choices = self.choices(now.wall).into_iter().flatten();
        let given = coarse(choices.cycle().nth(self.turn).unwrap_or(self.last));
        self.remember(given);
        given
    }

    /// What to try in one handshake, in this order: most likely first, and nothing that another one
    /// does for.
    fn choices(&self, wall: WallTime) -> [Option<WallTime>; 3] {
        let shown = Some(wall).filter(|&wall| is_apart(wall, self.last));
        let does_for_both = |wall| self.greatest < wall && wall <= tolerated(self.last);
        let beyond = self.beyond().filter(|_| !shown.is_some_and(does_for_both));
        let (line, beyond) = (Some(self.last), beyond.map(after));
        if self.is_behind(wall) {
            [shown, line, beyond]
        } else if self.last > tolerated(wall) {
            // A peer whose clock was set right takes it to be too far ahead.
            [line, shown, beyond]
        } else {
            [line, beyond, shown]
        }
    }

    /// Whether we were away for so long that by the wall clock, too, the line is far behind. That
    /// is likelier than that the clock is wrong: it is tried first.
    fn is_behind(&self, wall: WallTime) -> bool {
        self.began_behind && wall > tolerated(self.last)
    }

    /// Takes in what was given, if a peer that accepts the line may accept it as well.
    fn remember(&mut self, given: WallTime) {
        let most = tolerated(self.last);
        if given <= most {
            let known = Some(self.greatest).filter(|&greatest| greatest <= most);
            self.greatest = known.unwrap_or_default().max(given);
        }
    }

    /// What the peer accepted last, or may have while the response was lost.
    pub(crate) const fn last(&self) -> WallTime {
        coarse(self.last)
    }

    /// The greatest that the peer may have accepted beyond [`Line::last`], or may yet.
    pub(crate) fn beyond(&self) -> Option<WallTime> {
        let most = tolerated(self.last);
        Some(self.greatest).filter(|&greatest| greatest > self.last && greatest <= most)
    }

    /// The peer accepted a timestamp that was given at `at`: the line goes on from there.
    pub(crate) const fn accepted(&mut self, stamp: WallTime, at: Instant) {
        self.last = stamp;
        self.at = at;
        self.began_behind = false;
        self.ahead = 0;
    }
}

fn advanced(wall: WallTime, span: Duration) -> WallTime {
    let now = Now {
        wall,
        ..Now::default()
    };
    now.advanced(span).wall
}

/// The most that a receiver whose clock shows `wall` accepts.
fn tolerated(wall: WallTime) -> WallTime {
    advanced(wall, TIMESTAMP_MAX_AHEAD)
}

fn is_apart(one: WallTime, other: WallTime) -> bool {
    u128::from(one.0.abs_diff(other.0)) > APART
}

fn after(wall: WallTime) -> WallTime {
    advanced(wall, Duration::from_nanos(GRAIN))
}

/// What the next timestamp after is not before `wall`.
const fn before(wall: WallTime) -> WallTime {
    WallTime(wall.0.saturating_sub(GRAIN))
}

const fn coarse(wall: WallTime) -> WallTime {
    WallTime(wall.0 - wall.0 % GRAIN)
}

#[cfg(test)]
mod tests;
