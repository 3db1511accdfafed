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
//! - Where line and wall clock are apart, the initiations of one handshake alternate between the
//!   two. So one retry reaches a peer that accepted a greater timestamp than we know of, and a
//!   peer that has set its clock right and takes the line to be too far ahead. What is accepted
//!   becomes the line.

use core::time::Duration;

use omni_wire::handshake::Tai64n;
use omni_wire::limits::TIMESTAMP_MAX_AHEAD;
use omni_wire::{Instant, Now, WallTime};

/// How exact timestamps are, in nanoseconds, as a power of two (17 ms). Finer ones would show
/// every receiver how our clock runs.
const GRAIN: u64 = 1 << 24;

/// How far a line and the wall clock may be apart before both are tried, in nanoseconds: one
/// minute. Less comes of clocks being adjusted, and hinders no peer.
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
        let latest = Tai64n::from_wall(advanced(self.latest(now), TIMESTAMP_MAX_AHEAD));
        let greatest = greatest.filter(|&greatest| greatest <= latest);
        stamp <= latest && Some(stamp) > greatest
    }

    /// The line to a peer that last accepted `ours`, as far as is known.
    ///
    /// It begins at the clock where that is newer by less than what the peer tolerates anyhow:
    /// the peer may have accepted more, and the response or our memory of it was lost. A clock
    /// beyond that may be wrong, and what the peer accepted is not.
    pub(crate) fn line(&self, ours: Option<Tai64n>, now: Instant) -> Line {
        let clock = self.steady(now);
        let last = ours.map(Tai64n::to_wall);
        let behind = last.filter(|&last| clock > advanced(last, TIMESTAMP_MAX_AHEAD));
        let start = behind.unwrap_or(before(clock).max(last.unwrap_or_default()));
        Line {
            is_behind: behind.is_some(),
            ..Line::from(start, now)
        }
    }
}

/// Timestamps for one peer, each greater than all before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// The last one, before it was made coarse.
    last: WallTime,
    /// When it was given.
    at: Instant,
    /// Our clock was far ahead of it at the start. That we were away for long is likelier than
    /// that the clock is wrong: the wall clock is tried first.
    is_behind: bool,
    /// The greatest one ever given.
    greatest: WallTime,
    /// Whether the last one was of the line.
    by_line: bool,
    /// How far the wall clock was ahead of the line then, in nanoseconds.
    ahead: i128,
}

impl Line {
    const fn from(last: WallTime, at: Instant) -> Self {
        Self {
            last,
            at,
            is_behind: false,
            greatest: last,
            by_line: true,
            ahead: 0,
        }
    }

    /// The timestamp of the next initiation, `is_first` of a handshake or not.
    pub(crate) fn next(&mut self, is_first: bool, now: Now) -> WallTime {
        let passed = now.instant.since(self.at).max(Duration::from_nanos(GRAIN));
        self.last = advanced(self.last, passed);
        self.at = now.instant;
        let ahead = i128::from(now.wall.0) - i128::from(self.last.0);
        let is_others_turn = if is_first {
            self.is_behind
        } else {
            // A wall clock that was set meanwhile was not tried yet.
            let was_set = ahead.abs_diff(self.ahead) > APART;
            was_set || self.by_line
        };
        self.ahead = ahead;
        let other = self.other(now.wall).filter(|_| is_others_turn);
        self.by_line = other.is_none();
        let given = other.unwrap_or(self.last);
        self.greatest = self.greatest.max(given);
        coarse(given)
    }

    /// What to try where the line may not do: the wall clock. If that is no other, then what is
    /// newer than all that was given: somebody may have held back one from when our wall clock
    /// was up to a day ahead, and have let the peer accept it only when that was set right.
    fn other(&self, wall: WallTime) -> Option<WallTime> {
        let is_apart = |other: &WallTime| u128::from(self.last.0.abs_diff(other.0)) > APART;
        let beyond = advanced(self.greatest, Duration::from_nanos(GRAIN));
        let tolerated = advanced(self.last, TIMESTAMP_MAX_AHEAD);
        let beyond = Some(beyond).filter(|&beyond| beyond <= tolerated);
        Some(wall)
            .filter(is_apart)
            .or_else(|| beyond.filter(is_apart))
    }

    /// The greatest timestamp that the peer may have accepted while its response was lost. One
    /// that is too far ahead of the line was given by a wall clock that is likelier wrong.
    pub(crate) fn promised(&self) -> WallTime {
        let tolerated = advanced(self.last, TIMESTAMP_MAX_AHEAD);
        let likely = Some(self.greatest).filter(|&greatest| greatest <= tolerated);
        coarse(likely.unwrap_or(self.last))
    }

    /// The peer accepted a timestamp that was given at `at`: the line goes on from there.
    pub(crate) const fn accepted(&mut self, stamp: WallTime, at: Instant) {
        self.last = stamp;
        self.at = at;
        self.is_behind = false;
        self.by_line = true;
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

/// What the next timestamp after is not before `wall`.
const fn before(wall: WallTime) -> WallTime {
    WallTime(wall.0.saturating_sub(GRAIN))
}

const fn coarse(wall: WallTime) -> WallTime {
    WallTime(wall.0 - wall.0 % GRAIN)
}

#[cfg(test)]
mod tests;
