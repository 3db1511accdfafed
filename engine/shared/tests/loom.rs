//! The model checker loom on mailboxes and rates of two and three threads:
//! `cargo test -p omni-shared --features loom --release --test loom`.

#[path = "common/parts.rs"]
mod parts;
#[path = "common/programs.rs"]
mod programs;
#[path = "common/words.rs"]
mod words;

use parts::WeakQueue as SharedQueue;

/// What is watched.
mod checker {
    pub(crate) use loom::sync::{Arc, Condvar, Mutex, atomic};
    pub(crate) use loom::thread;
}

use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs a program in every order. Says how many there were.
fn explore(program: impl Fn() + Send + Sync + 'static) -> usize {
    let orders = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&orders);
    loom::model(move || {
        count.fetch_add(1, Ordering::Relaxed);
        program();
    });
    orders.load(Ordering::Relaxed)
}

/// The same, but with so many switches of threads that nothing made necessary.
fn explore_within(switches: usize, program: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(switches);
    model.check(program);
}

#[test]
fn an_order_wakes_a_worker_that_goes_to_sleep() {
    let orders = explore(|| programs::orders_wake_a_worker(1, 2));
    assert!(orders > 100, "{orders} orders are not all");
}

#[test]
fn orders_keep_their_order_beyond_the_queue() {
    explore_within(3, || programs::orders_wake_a_worker(3, 2));
}

#[test]
fn upcalls_of_two_workers_wake_the_control_thread() {
    explore_within(3, || programs::upcalls_wake_the_control_thread(2, 1, 2, 1));
    explore_within(2, || programs::upcalls_wake_the_control_thread(2, 2, 4, 1));
}

#[test]
fn nobody_sleeps_over_a_question_or_its_answer() {
    explore_within(3, || programs::questions_are_answered(1, 2));
}

#[test]
fn a_session_is_there_before_its_first_message() {
    explore(programs::a_session_is_there_before_its_first_message);
}

#[test]
fn two_workers_share_a_rate() {
    explore(|| words::workers_share_a_rate(2, 2));
    explore(|| words::workers_share_a_rate(2, 1));
}
