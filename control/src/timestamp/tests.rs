use proptest::prelude::*;

use super::*;
use crate::memory::Memory;
use omni_membership::PublicKey;

const DAY: u64 = TIMESTAMP_MAX_AHEAD.as_secs();
const TEN_YEARS: u64 = 3650 * DAY;

const fn wall(seconds: u64) -> WallTime {
    WallTime(1_750_000_000_000_000_000 + seconds * 1_000_000_000)
}

fn stamp(seconds: u64) -> Tai64n {
    Tai64n::from_wall(wall(seconds))
}

/// A memory of what the peer last accepted.
fn accepted(seconds: u64) -> Stamps {
    Stamps {
        ours: Some(stamp(seconds)),
        ..Stamps::default()
    }
}

/// `after` seconds after the start, by a wall clock that shows `shown`.
fn at(after: u64, shown: u64) -> Now {
    Now {
        instant: Instant(1_000_000_000) + Duration::from_secs(after),
        wall: wall(shown),
    }
}

#[test]
fn timestamps_are_refused_when_not_newer_or_a_day_ahead() {
    let now = at(0, 0);
    let clock = Clock::new(now, None);
    let first = Tai64n([0; 12]);
    assert!(clock.accepts(stamp(0), None, now));
    assert!(clock.accepts(stamp(0), Some(first), now));
    assert!(!clock.accepts(stamp(0), Some(stamp(0)), now));
    assert!(!clock.accepts(stamp(0), Some(stamp(1)), now));
    assert!(clock.accepts(stamp(DAY), Some(stamp(1)), now));
    assert!(!clock.accepts(stamp(DAY + 1), None, now));
    assert!(!clock.accepts(Tai64n([0xff; 12]), None, now));
    assert!(clock.accepts(stamp(DAY + 1), None, at(1, 1)));
}

#[test]
fn a_greatest_one_beyond_a_day_ahead_was_a_wrong_clocks() {
    let clock = Clock::new(at(0, 0), None);
    assert!(!clock.accepts(stamp(5), Some(stamp(DAY)), at(0, 0)));
    assert!(clock.accepts(stamp(5), Some(stamp(DAY + 1)), at(0, 0)));
    assert!(
        !clock.accepts(stamp(5), Some(stamp(DAY + 1)), at(1, 1)),
        "and is not forgotten"
    );
}

#[test]
fn our_clock_is_set_forwards_but_never_back() {
    let clock = Clock::new(at(0, 1000), None);
    assert_eq!(clock.latest(at(10, 0)), wall(1010));
    assert_eq!(clock.latest(at(10, 5000)), wall(5000));
    assert_eq!(clock.latest(at(20, 500)), wall(1020));
}

#[test]
fn our_clock_does_not_begin_before_what_has_passed() {
    assert_eq!(
        Clock::new(at(0, 0), Some(stamp(70))).latest(at(1, 1)),
        wall(71)
    );
    assert_eq!(
        Clock::new(at(0, 90), Some(stamp(70))).latest(at(1, 91)),
        wall(91)
    );
    let end = Clock::new(at(0, 0), Some(Tai64n([0xff; 12])));
    assert_eq!(
        end.latest(at(1, 0)),
        WallTime(u64::MAX),
        "it cannot overflow"
    );
}

#[test]
fn timestamps_tell_the_time_to_17_ms_only() {
    let now = Now {
        wall: WallTime(wall(0).0 + 123_456),
        ..at(0, 0)
    };
    let given = Clock::new(now, None)
        .line(Stamps::default(), now.instant)
        .next(true, now);
    assert_eq!(given.0 % GRAIN, 0);
    assert!(now.wall.0 - given.0 < GRAIN);
}

/// What a line gives in a handshake whose initiations leave every 5 s without an answer, as
/// seconds of the wall clock.
fn attempt(line: &mut Line, shown: u64) -> [u64; 4] {
    [0, 5, 10, 15].map(|after| {
        let given = line.next(after == 0, at(after, shown + after));
        (given.0.saturating_sub(wall(0).0) + GRAIN) / 1_000_000_000
    })
}

#[test]
fn line_and_wall_clock_alternate_only_while_they_are_apart() {
    let start = at(0, 100).instant;
    let clock = Clock::new(at(0, 100), None);
    assert_eq!(
        attempt(&mut clock.line(Stamps::default(), start), 100),
        [100, 105, 110, 115]
    );
    assert_eq!(
        attempt(&mut clock.line(Stamps::default(), start), 150),
        [100, 105, 110, 115]
    );
    assert_eq!(
        attempt(&mut clock.line(Stamps::default(), start), 1000),
        [100, 1005, 110, 1015]
    );
    assert_eq!(
        attempt(&mut clock.line(Stamps::default(), start), 0),
        [100, 5, 110, 15]
    );
}

#[test]
fn a_line_goes_on_from_what_was_accepted_whatever_the_clock_shows() {
    for shown in [0, 5000, TEN_YEARS] {
        let clock = Clock::new(at(0, shown), None);
        let mut line = clock.line(accepted(7000), at(0, 0).instant);
        let seconds = attempt(&mut line, shown);
        assert!(
            seconds.contains(&7000) || seconds.contains(&7005),
            "{seconds:?}"
        );
    }
}

#[test]
fn after_long_absence_the_wall_clock_is_tried_first() {
    let shown = 7000 + 2 * DAY;
    let clock = Clock::new(at(0, shown), None);
    let mut line = clock.line(accepted(7000), at(0, 0).instant);
    assert_eq!(attempt(&mut line, shown), [shown, 7005, shown + 10, 7015]);
    line.accepted(wall(shown + 10), at(10, 0).instant);
    assert_eq!(line.next(true, at(20, 0)), coarse(wall(shown + 20)));
}

#[test]
fn a_memory_that_is_a_little_old_is_made_up_for_by_the_clock() {
    let clock = Clock::new(at(0, 7000 + DAY), None);
    let mut line = clock.line(accepted(7000), at(0, 0).instant);
    assert_eq!(attempt(&mut line, 7000 + DAY)[0], 7000 + DAY);
}

#[test]
fn a_wall_clock_that_was_set_is_tried_next() {
    let clock = Clock::new(at(0, 100), None);
    let mut line = clock.line(Stamps::default(), at(0, 100).instant);
    line.next(true, at(0, 5000));
    assert_eq!(line.next(false, at(5, 5005)), coarse(wall(5005)));
    assert_eq!(line.next(false, at(10, 9000)), coarse(wall(9000)));
    assert_eq!(line.next(false, at(15, 9005)), coarse(wall(115)));
}

#[test]
fn one_that_was_held_back_until_our_clock_was_right_again_locks_nobody_out() {
    let clock = Clock::new(at(0, 0), None);
    let mut line = clock.line(Stamps::default(), at(0, 0).instant);
    line.next(true, at(0, DAY - 100));
    let held_back = line.next(false, at(5, DAY - 95));
    assert_eq!(held_back, coarse(wall(DAY - 95)));
    let accepted = line.next(true, at(10, 10));
    line.accepted(accepted, at(10, 10).instant);
    // The peer accepts what was held back. The clock is right, and so is the line.
    assert!(line.next(true, at(20, 20)) < held_back);
    let beyond = line.next(false, at(25, 25));
    assert!(beyond > held_back);
    let peer = Clock::new(at(0, 0), None);
    assert!(peer.accepts(
        Tai64n::from_wall(beyond),
        Some(Tai64n::from_wall(held_back)),
        at(25, 25)
    ));
}

#[test]
fn one_that_no_right_clock_tolerates_is_not_gone_beyond() {
    let clock = Clock::new(at(0, 0), None);
    let mut line = clock.line(Stamps::default(), at(0, 0).instant);
    line.next(true, at(0, TEN_YEARS));
    line.next(false, at(5, TEN_YEARS));
    let seconds = attempt(&mut line, 0);
    assert!(seconds.iter().all(|&seconds| seconds < 60), "{seconds:?}");
}

#[test]
fn two_initiations_at_once_differ() {
    let now = at(0, 0);
    let mut line = Clock::new(now, None).line(Stamps::default(), now.instant);
    let given: Vec<_> = (0..10).map(|_| line.next(true, now)).collect();
    assert!(given.is_sorted_by(|a, b| a < b), "{given:?}");
}

proptest! {
    /// Whatever the wall clock does, the first initiation of every handshake is newer than what
    /// the peer accepted, and no arithmetic overflows.
    #[test]
    fn a_line_only_grows(
        start: u64,
        ours in proptest::option::of(any::<[u8; 12]>()),
        beyond in proptest::option::of(any::<[u8; 12]>()),
        steps in proptest::collection::vec((any::<u64>(), 0u64..1 << 40, any::<bool>()), 1..50),
    ) {
        let mut now = Now { instant: Instant(5), wall: WallTime(start) };
        let clock = Clock::new(now, None);
        let stamps = Stamps {
            theirs: None,
            ours: ours.map(Tai64n),
            beyond: beyond.map(Tai64n),
        };
        let mut line = clock.line(stamps, now.instant);
        let mut last = None;
        line.began_behind = false;
        for (wall, span, accepted) in steps {
            now.wall = WallTime(wall);
            now.instant = now.instant + Duration::from_nanos(span);
            let given = line.next(true, now);
            let end = WallTime(u64::MAX - 2 * GRAIN);
            prop_assert!(last < Some(given) || Some(end) < last, "{last:?} {given:?}");
            last = Some(given);
            if accepted {
                line.accepted(given, now.instant);
            }
            line.next(false, now);
        }
    }
}

/// One of us and a peer with a right clock, on a network that hands on what it likes, when it
/// likes.
struct Story {
    memory: Memory,
    clock: Clock,
    line: Line,
    now: Now,
    /// How far our wall clock is ahead, in seconds.
    skew: i64,
    peer: Clock,
    /// What the peer accepted.
    greatest: Option<Tai64n>,
    /// Everything that we gave, and when.
    given: Vec<(WallTime, Instant)>,
}

const THEM: PublicKey = PublicKey([2; 32]);

impl Story {
    fn new() -> Self {
        let now = at(0, 0);
        let clock = || Clock::new(now, None);
        Self {
            memory: Memory::new(PublicKey([1; 32]), None),
            clock: clock(),
            line: clock().line(Stamps::default(), now.instant),
            now,
            skew: 0,
            peer: clock(),
            greatest: None,
            given: Vec::new(),
        }
    }

    fn ours(&self) -> Now {
        let skew = self.skew * 1_000_000_000;
        Now {
            wall: WallTime(self.now.wall.0.saturating_add_signed(skew)),
            ..self.now
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.advanced(Duration::from_secs(seconds));
    }

    fn restart(&mut self) {
        let now = self.ours();
        self.clock = Clock::new(now, self.memory.clock());
        self.line = self.clock.line(self.memory.stamps(&THEM), now.instant);
    }

    fn give(&mut self, is_first: bool) {
        let now = self.ours();
        let given = self.line.next(is_first, now);
        self.given.push((given, now.instant));
        let stamp = Tai64n::from_wall;
        let beyond = self.line.beyond().map(stamp);
        self.memory.gave(THEM, stamp(self.line.last()), beyond);
    }

    /// Lets one that was given arrive. If the peer accepts the last one, we may hear of it.
    fn arrive(&mut self, index: usize, is_heard: bool) -> bool {
        let (given, at) = self.given[index];
        let stamp = Tai64n::from_wall(given);
        if !self.peer.accepts(stamp, self.greatest, self.now) {
            return false;
        }
        self.greatest = Some(stamp);
        if is_heard && index + 1 == self.given.len() {
            self.line.accepted(given, at);
            let beyond = self.line.beyond().map(Tai64n::from_wall);
            let clock = self.clock.latest(self.ours());
            self.memory.accepted_ours(THEM, stamp, beyond, clock);
        }
        true
    }

    fn give_and_arrive(&mut self, is_first: bool) -> bool {
        self.give(is_first);
        self.arrive(self.given.len() - 1, true)
    }
}

#[test]
fn one_that_was_held_back_over_our_restart_locks_nobody_out() {
    let mut story = Story::new();
    assert!(story.give_and_arrive(true));
    story.skew = 3600;
    story.give(true);
    story.pass(5);
    story.give(false);
    let held_back = story.given.len() - 1;
    story.pass(5);
    assert!(story.give_and_arrive(false), "the line");
    assert!(story.arrive(held_back, true), "its time has come");
    story.skew = 0;
    story.restart();
    assert!(!story.give_and_arrive(true), "the line");
    story.pass(5);
    assert!(story.give_and_arrive(false), "beyond what was held back");
}

#[test]
fn a_wall_clock_ten_years_ahead_makes_nothing_forgotten_that_was_held_back() {
    let mut story = Story::new();
    assert!(story.give_and_arrive(true));
    // The wall clock is tried second, and third where something was held back.
    for (skew, tries) in [(3600, 2), (TEN_YEARS.cast_signed(), 3)] {
        story.skew = skew;
        for n in 0..tries {
            story.pass(5);
            story.give(n == 0);
        }
    }
    let (hour_ahead, ten_years_ahead) = (2, 5);
    story.skew = -3600;
    assert!(story.arrive(hour_ahead, true), "an hour ahead");
    assert!(!story.arrive(ten_years_ahead, true), "ten years ahead");
    story.pass(5);
    assert!(!story.give_and_arrive(true), "the line");
    story.pass(5);
    assert!(story.give_and_arrive(false), "beyond what was held back");
}

proptest! {
    /// However our wall clock was set, whatever was lost or held back, and however often we were
    /// restarted: with clocks that are right, the peer accepts one of two initiations.
    #[test]
    fn one_retry_is_enough_once_clocks_are_right(
        steps in proptest::collection::vec(
            (
                proptest::option::of(proptest::sample::select(vec![
                    0,
                    7,
                    -7,
                    3600,
                    -3600,
                    TEN_YEARS.cast_signed(),
                    -TEN_YEARS.cast_signed(),
                ])),
                prop_oneof![Just(5_u64), 0..100_u64],
                any::<bool>(),
                proptest::bool::weighted(0.1),
                proptest::option::of(any::<proptest::sample::Index>()),
                any::<bool>(),
            ),
            0..40,
        ),
    ) {
        let mut story = Story::new();
        story.give_and_arrive(true);
        for (skew, seconds, is_first, restarts, arriving, is_heard) in steps {
            story.pass(seconds);
            story.skew = skew.unwrap_or(story.skew);
            if restarts {
                story.restart();
            }
            story.give(is_first || restarts);
            if let Some(index) = arriving {
                story.arrive(index.index(story.given.len()), is_heard);
            }
        }
        story.skew = 0;
        story.pass(5);
        let first = story.give_and_arrive(true);
        story.pass(5);
        prop_assert!(first || story.give_and_arrive(false), "{:?}", story.line);
    }
}
