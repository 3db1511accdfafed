use proptest::prelude::*;

use super::*;

const DAY: u64 = TIMESTAMP_MAX_AHEAD.as_secs();
const TEN_YEARS: u64 = 3650 * DAY;

const fn wall(seconds: u64) -> WallTime {
    WallTime(1_750_000_000_000_000_000 + seconds * 1_000_000_000)
}

fn stamp(seconds: u64) -> Tai64n {
    Tai64n::from_wall(wall(seconds))
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
        .line(None, now.instant)
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
        attempt(&mut clock.line(None, start), 100),
        [100, 105, 110, 115]
    );
    assert_eq!(
        attempt(&mut clock.line(None, start), 150),
        [100, 105, 110, 115]
    );
    assert_eq!(
        attempt(&mut clock.line(None, start), 1000),
        [100, 1005, 110, 1015]
    );
    assert_eq!(attempt(&mut clock.line(None, start), 0), [100, 5, 110, 15]);
}

#[test]
fn a_line_goes_on_from_what_was_accepted_whatever_the_clock_shows() {
    for shown in [0, 5000, TEN_YEARS] {
        let clock = Clock::new(at(0, shown), None);
        let mut line = clock.line(Some(stamp(7000)), at(0, 0).instant);
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
    let mut line = clock.line(Some(stamp(7000)), at(0, 0).instant);
    assert_eq!(attempt(&mut line, shown), [shown, 7005, shown + 10, 7015]);
    line.accepted(wall(shown + 10), at(10, 0).instant);
    assert_eq!(line.next(true, at(20, 0)), coarse(wall(shown + 20)));
}

#[test]
fn a_memory_that_is_a_little_old_is_made_up_for_by_the_clock() {
    let clock = Clock::new(at(0, 7000 + DAY), None);
    let mut line = clock.line(Some(stamp(7000)), at(0, 0).instant);
    assert_eq!(attempt(&mut line, 7000 + DAY)[0], 7000 + DAY);
}

#[test]
fn a_wall_clock_that_was_set_is_tried_next() {
    let clock = Clock::new(at(0, 100), None);
    let mut line = clock.line(None, at(0, 100).instant);
    line.next(true, at(0, 5000));
    assert_eq!(line.next(false, at(5, 5005)), coarse(wall(5005)));
    assert_eq!(line.next(false, at(10, 9000)), coarse(wall(9000)));
    assert_eq!(line.next(false, at(15, 9005)), coarse(wall(115)));
}

#[test]
fn one_that_was_held_back_until_our_clock_was_right_again_locks_nobody_out() {
    let clock = Clock::new(at(0, 0), None);
    let mut line = clock.line(None, at(0, 0).instant);
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
    let mut line = clock.line(None, at(0, 0).instant);
    line.next(true, at(0, TEN_YEARS));
    line.next(false, at(5, TEN_YEARS));
    let seconds = attempt(&mut line, 0);
    assert!(seconds.iter().all(|&seconds| seconds < 60), "{seconds:?}");
}

#[test]
fn two_initiations_at_once_differ() {
    let now = at(0, 0);
    let mut line = Clock::new(now, None).line(None, now.instant);
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
        steps in proptest::collection::vec((any::<u64>(), 0u64..1 << 40, any::<bool>()), 1..50),
    ) {
        let mut now = Now { instant: Instant(5), wall: WallTime(start) };
        let clock = Clock::new(now, None);
        let mut line = clock.line(ours.map(Tai64n), now.instant);
        let mut last = None;
        line.is_behind = false;
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
