//! The programs of the model checkers by threads of the machine, on the engine's own queues. Here
//! the thread sanitizer watches them: `make sanitize`.

#[path = "common/programs.rs"]
mod programs;
#[path = "common/words.rs"]
mod words;

use crossbeam_queue::ArrayQueue as SharedQueue;

/// What the checkers watch.
mod checker {
    pub(crate) use std::sync::{Arc, atomic};
    pub(crate) use std::thread;
}

/// What wakes a thread here. The sanitizer sees nothing of what a lock of the standard library
/// does, so it is an atomic, and who waits looks again and again.
mod parts {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::{Acquire, Release};

    use omni_shared::{Latch, Signal};

    /// An eventfd, or a notification with its permit.
    #[derive(Debug, Default)]
    pub(crate) struct Bell(AtomicBool);

    impl Bell {
        /// Until it is raised, and it stays so.
        pub(crate) fn wait(&self) {
            while !self.0.load(Acquire) {
                std::thread::yield_now();
            }
        }

        /// Until it is raised, and that is used up.
        pub(crate) fn notified(&self) {
            while !self.0.swap(false, Acquire) {
                std::thread::yield_now();
            }
        }
    }

    impl Signal for Bell {
        fn raise(&self) {
            self.0.store(true, Release);
        }
    }

    impl Latch for Bell {
        fn clear(&self) {
            // What was done before it was raised is seen by who clears it, as with an eventfd.
            self.0.swap(false, Acquire);
        }
    }
}

/// How often each program runs.
const ROUNDS: usize = 200;

#[test]
fn orders_beyond_the_queue() {
    for _ in 0..ROUNDS {
        programs::orders_wake_a_worker(40, 4);
    }
}

#[test]
fn upcalls_of_three_workers() {
    for _ in 0..ROUNDS {
        programs::upcalls_wake_the_control_thread(3, 20, 4, 3);
    }
}

#[test]
fn questions_to_three_workers() {
    for _ in 0..ROUNDS {
        programs::questions_are_answered(3, 10);
    }
}

#[test]
fn a_session_is_there_before_its_first_message() {
    for _ in 0..ROUNDS {
        programs::a_session_is_there_before_its_first_message();
    }
}

#[test]
fn four_workers_share_a_rate() {
    for _ in 0..ROUNDS {
        words::workers_share_a_rate(4, 2);
    }
}
