//! Small windows and small programs of up to three threads, explored to the end.

mod common;
#[path = "common/explore.rs"]
mod explore;

use std::collections::BTreeSet;

use common::{Taker, Told, Toy, Way, accepted, hold_guarantees, run};
use explore::{Traced, directly, explore};
use omni_replay::Word;
use omni_wire::DropReason;

/// Words of a [`Toy`], and one more for a lane.
const WORDS: usize = 1 + 3 + 1;
const BOTH_WAYS: [Way; 2] = [Way::CheckAndCommit, Way::CommitOnly];

/// Runs `programs` at once, on a window that accepted `before` one after the other.
fn check(way: Way, before: &[u64], programs: &[&[u64]], also: impl Fn(&[Vec<Told>])) -> usize {
    let prepare = |values| {
        directly(values, || {
            let told = run(&Toy::<Traced>::default(), Way::CommitOnly, before);
            assert!(told.iter().all(|(_, verdict)| verdict.is_ok()), "{told:?}");
        })
    };
    let values = prepare(vec![0; WORDS]);
    let threads: Vec<_> = programs
        .iter()
        .map(|program| move || run(&Toy::<Traced>::default(), way, program))
        .collect();
    let threads: Vec<&dyn Fn() -> Vec<Told>> = threads.iter().map(|t| t as _).collect();
    explore(&values, &threads, |told| {
        let mut all = told.to_vec();
        // What was there before is not this thread's doing, but counts as accepted.
        all.extend(before.iter().map(|&nonce| vec![(nonce, Ok(true))]));
        hold_guarantees(&Toy::<Traced>::default(), &all);
        also(told);
    })
}

fn nothing_else(_: &[Vec<Told>]) {}

#[test]
fn of_several_copies_exactly_one_is_accepted() {
    for way in BOTH_WAYS {
        let only_one = |told: &[Vec<Told>]| assert_eq!(accepted(told), [1]);
        check(way, &[], &[&[1], &[1]], only_one);
        let states = check(way, &[], &[&[1], &[1], &[1]], only_one);
        assert!(states > 300, "{states} states are not all");
        check(way, &[], &[&[1, 1], &[1, 1], &[1]], only_one);
    }
}

#[test]
fn an_old_generation_does_not_come_back() {
    // 1 and 7 have the same slot and bit. Once 7 is in, 1 is refused for good.
    for way in BOTH_WAYS {
        check(way, &[1], &[&[7], &[1]], |told| {
            assert_eq!(accepted(told), [7])
        });
        let seven = |told: &[Vec<Told>]| assert!(accepted(told).contains(&7));
        check(way, &[], &[&[7], &[1], &[1]], seven);
        check(way, &[], &[&[7, 1], &[1, 7], &[1]], seven);
        // A generation that was never there lies between.
        check(way, &[1], &[&[13, 7], &[1, 7], &[7]], |told| {
            assert!(accepted(told).contains(&13));
        });
    }
}

#[test]
fn a_window_that_moves_under_a_straggler_keeps_what_is_promised() {
    // 2 was checked while it was young; by its commit the window may be anywhere ahead.
    for way in BOTH_WAYS {
        for ahead in [&[5u64, 8][..], &[6, 7], &[8, 14], &[100, 2]] {
            check(way, &[0, 1, 3], &[ahead, &[2]], nothing_else);
            check(way, &[0, 1, 3], &[ahead, &[2], &[2]], nothing_else);
        }
    }
}

#[test]
fn nothing_within_the_window_is_refused_in_any_order() {
    let all = |told: &[Vec<Told>]| {
        let mut verdicts = told.iter().flatten();
        assert!(verdicts.all(|(_, verdict)| verdict.is_ok()), "{told:?}");
    };
    for way in BOTH_WAYS {
        // Neighbours in one word, and the whole width of the window.
        check(way, &[], &[&[2], &[3], &[4]], all);
        check(way, &[], &[&[2, 5], &[4, 3]], all);
        check(way, &[7], &[&[10], &[8], &[9]], all);
    }
}

/// A bit, its neighbour, the same place one and two generations on, and one between.
const NONCES: [u64; 5] = [1, 2, 6, 7, 13];

#[test]
fn two_programs_of_any_two_nonces_hold_the_guarantees() {
    let pairs = NONCES.map(|first| NONCES.map(|second| [first, second]));
    let pairs = pairs.as_flattened();
    for (at, first) in pairs.iter().enumerate() {
        for second in &pairs[at..] {
            for way in BOTH_WAYS {
                check(way, &[0], &[first, second], nothing_else);
            }
        }
    }
}

#[test]
fn three_programs_of_any_nonce_hold_the_guarantees() {
    for a in NONCES {
        for b in NONCES.into_iter().filter(|&b| b >= a) {
            for c in NONCES.into_iter().filter(|&c| c >= b) {
                for way in BOTH_WAYS {
                    check(way, &[0], &[&[a], &[b], &[c]], nothing_else);
                }
            }
        }
    }
}

/// A lane as its code reads, with what `OnceLock` promises in place of it: whether the window is
/// there is one more word. Who makes it raises that word, and a check may see it late.
#[derive(Debug)]
struct MadeLate {
    window: Toy<Traced>,
    made: Traced,
}

impl Default for MadeLate {
    fn default() -> Self {
        Self {
            window: Toy::default(),
            made: Traced::new(0),
        }
    }
}

impl Taker for MadeLate {
    fn check(&self, nonce: u64) -> Result<(), DropReason> {
        if self.made.load() == 0 {
            return Ok(());
        }
        self.window.check(nonce)
    }

    fn commit(&self, nonce: u64) -> Result<bool, DropReason> {
        self.made.raise(1);
        self.window.commit(nonce)
    }
}

#[test]
fn a_lane_whose_window_is_not_made_yet_holds_the_guarantees() {
    for programs in [[&[1][..], &[1], &[1]], [&[1, 7], &[7], &[1]]] {
        let threads =
            programs.map(|program| move || run(&MadeLate::default(), Way::CheckAndCommit, program));
        let threads: Vec<&dyn Fn() -> Vec<Told>> = threads.iter().map(|t| t as _).collect();
        explore(&[0; WORDS], &threads, |told| {
            hold_guarantees(&Toy::<Traced>::default(), told);
        });
    }
}

/// The checker finds what is wrong with a window whose commit is a load and a raise.
#[test]
fn a_commit_in_two_steps_is_found_out() {
    #[derive(Debug)]
    struct TwoSteps(Traced);
    impl Default for TwoSteps {
        fn default() -> Self {
            Self(Traced::new(0))
        }
    }
    impl Taker for TwoSteps {
        fn check(&self, nonce: u64) -> Result<(), DropReason> {
            let taken = self.0.load() > nonce;
            if taken {
                Err(DropReason::NonceReplayed)
            } else {
                Ok(())
            }
        }

        fn commit(&self, nonce: u64) -> Result<bool, DropReason> {
            self.check(nonce)?;
            self.0.raise(nonce + 1);
            Ok(true)
        }
    }
    let mut outcomes = BTreeSet::new();
    let thread = || run(&TwoSteps::default(), Way::CommitOnly, &[1]);
    explore(&[0], &[&thread, &thread], |told| {
        outcomes.insert(accepted(told).len());
    });
    assert_eq!(outcomes, BTreeSet::from([1, 2]), "both orders are tried");
}

/// Another thread's second write may be seen without its first, and never the other way round on
/// one word.
#[test]
fn a_load_sees_every_value_that_it_may_and_no_other() {
    let writer = || {
        let (a, b) = (Traced::new(0), Traced::new(0));
        a.raise(1);
        a.raise(2);
        b.raise(1);
        (0, 0, 0)
    };
    let reader = || {
        let (a, b) = (Traced::new(0), Traced::new(0));
        let second = b.load();
        (second, a.load(), a.load())
    };
    let mut seen = BTreeSet::new();
    explore(&[0, 0], &[&writer, &reader], |told| {
        seen.insert(told[1]);
    });
    let in_order = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)];
    let all = [0, 1].map(|b| in_order.map(|(first, then)| (b, first, then)));
    assert_eq!(seen, all.into_iter().flatten().collect());
}
