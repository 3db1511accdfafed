//! The model checker loom on programs of two threads:
//! `cargo test -p omni-replay --features loom --release --test loom`.
//!
//! `tests/threads.rs` explores more; this confirms it by somebody else's idea of how memory works.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Told, Toy, Way, accepted, hold_guarantees, run};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;
use omni_replay::Word;

/// A word whose accesses are all tried in every order.
///
/// Loom looks for other orders only between an access and the last one before it. Where a thread
/// loads and then exchanges, as a commit does, its own load hides the loads of others from its
/// exchange, and orders are left out (tokio-rs/loom issues 166 and 392). Here a read-modify-write
/// on `turn` precedes each access. Any two of those are dependent, so nothing is hidden; being
/// relaxed and on an atomic of its own, it orders nothing that the product does not order.
#[derive(Debug)]
struct Checked {
    turn: AtomicU64,
    value: AtomicU64,
}

impl Checked {
    fn take_turn(&self) {
        self.turn.fetch_add(1, Relaxed);
    }
}

impl Word for Checked {
    fn new(value: u64) -> Self {
        Self {
            turn: AtomicU64::new(0),
            value: AtomicU64::new(value),
        }
    }

    fn load(&self) -> u64 {
        self.take_turn();
        self.value.load(Relaxed)
    }

    fn exchange(&self, current: u64, next: u64) -> Result<(), u64> {
        self.take_turn();
        let done = self
            .value
            .compare_exchange_weak(current, next, Relaxed, Relaxed);
        done.map(|_| ())
    }

    fn raise(&self, least: u64) -> u64 {
        self.take_turn();
        self.value.fetch_max(least, Relaxed)
    }
}

/// Runs two programs at once, on a window that accepted `before` one after the other. Says how
/// many orders there were.
fn explore(
    way: Way,
    before: &'static [u64],
    [theirs, ours]: [&'static [u64]; 2],
    also: fn(&[Vec<Told>]),
) -> usize {
    let orders = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&orders);
    loom::model(move || {
        count.fetch_add(1, Ordering::Relaxed);
        let window = Arc::new(Toy::<Checked>::default());
        let run = move |program, window: Arc<Toy<Checked>>| run(&*window, way, program);
        let earlier = run(before, Arc::clone(&window));
        let other = {
            let window = Arc::clone(&window);
            thread::spawn(move || run(theirs, window))
        };
        let here = run(ours, Arc::clone(&window));
        let told = [other.join().expect("no panic"), here];
        also(&told);
        let [other, here] = told;
        let earlier = earlier.into_iter().map(|told| vec![told]);
        let all: Vec<_> = earlier.chain([other, here]).collect();
        hold_guarantees(&*window, &all);
    });
    orders.load(Ordering::Relaxed)
}

fn only_one(told: &[Vec<Told>]) {
    assert_eq!(accepted(told), [1]);
}

#[test]
fn of_two_copies_exactly_one_is_accepted() {
    let orders = explore(Way::CheckAndCommit, &[], [&[1], &[1]], only_one);
    assert!(orders > 500, "{orders} orders are not all");
    explore(Way::CommitOnly, &[], [&[1], &[1]], only_one);
}

#[test]
fn an_old_generation_does_not_come_back() {
    explore(Way::CommitOnly, &[1], [&[7], &[1]], |told| {
        assert_eq!(accepted(told), [7]);
    });
    explore(Way::CommitOnly, &[], [&[7], &[1]], |told| {
        assert!(accepted(told).contains(&7));
    });
}

#[test]
fn a_window_that_moves_under_a_straggler_keeps_what_is_promised() {
    for ahead in [&[7][..], &[8], &[100]] {
        explore(Way::CommitOnly, &[0, 1, 3], [ahead, &[2]], |_| {});
    }
}

#[test]
fn neighbours_in_one_word_are_both_accepted() {
    explore(Way::CommitOnly, &[], [&[2], &[3]], |told| {
        assert_eq!(accepted(told), [2, 3]);
    });
}
