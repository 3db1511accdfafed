//! Random schedules of more threads and messages than can be tried to the end, by shuttle:
//! `make schedules`, which has a million of each program.
//!
//! Shuttle takes all accesses for sequentially consistent: what weak memory may do is loom's part.

#[path = "common/parts.rs"]
mod parts;
#[path = "common/programs.rs"]
mod programs;
#[path = "common/words.rs"]
mod words;

use parts::WeakQueue as SharedQueue;

/// What is watched.
mod checker {
    pub(crate) use shuttle::sync::{Arc, Condvar, Mutex, atomic};
    pub(crate) use shuttle::thread;
}

use omni_replay::Window;
use words::Watched;

/// How many schedules of each program, unless SCHEDULES says otherwise.
const SCHEDULES: usize = 20_000;
/// How often a schedule of the second half switches threads where it need not.
const SWITCHES: usize = 4;

/// Runs a program by schedules that are random, and by such that have few switches at random places
/// (PCT), which find what needs few but at the right places.
fn try_many(program: fn()) {
    let wanted = std::env::var("SCHEDULES").map(|text| text.parse().expect("a number"));
    let each = wanted.unwrap_or(SCHEDULES) / 2;
    shuttle::check_random(program, each);
    shuttle::check_pct(program, each, SWITCHES);
}

#[test]
fn orders_beyond_the_queue() {
    try_many(|| programs::orders_wake_a_worker(8, 2));
}

#[test]
fn upcalls_of_three_workers() {
    try_many(|| programs::upcalls_wake_the_control_thread(3, 3, 2, 2));
}

#[test]
fn questions_to_three_workers() {
    try_many(|| programs::questions_are_answered(3, 3));
}

#[test]
fn a_session_is_there_before_its_first_message() {
    try_many(programs::a_session_is_there_before_its_first_message);
}

#[test]
fn four_workers_share_a_rate() {
    try_many(|| words::workers_share_a_rate(4, 2));
}

/// Four workers with the same messages, on a window of three slots of two: each is accepted once,
/// and the newest ones always.
#[test]
fn four_workers_share_a_replay_window() {
    try_many(|| {
        use checker::{Arc, thread};
        let window = Arc::new(Window::<3, 2, 3, Watched>::default());
        let nonces = [0, 5, 1, 6, 2, 7, 13];
        let workers: Vec<_> = (0..4)
            .map(|first| {
                let window = Arc::clone(&window);
                thread::spawn(move || {
                    let mut own = nonces;
                    own.rotate_left(first);
                    own.into_iter()
                        .filter(|&nonce| {
                            window.check(nonce).is_ok() && window.commit(nonce).is_ok()
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let mut accepted = Vec::new();
        for worker in workers {
            accepted.extend(worker.join().expect("no panic"));
        }
        assert!(accepted.contains(&13), "the newest one: {accepted:?}");
        accepted.sort_unstable();
        assert!(accepted.is_sorted_by(|a, b| a < b), "twice: {accepted:?}");
    });
}
