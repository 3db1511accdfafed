//! The replay window: what taking a nonce costs, and what the atomics are of it.

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use omni_replay::{ReplayWindow, Window, Word};
use omni_wire::limits::REPLAY_WINDOW;

use crate::rounds::take_turns;

/// Messages of one round.
const MESSAGES: u64 = 4096;

/// A word of one thread alone.
#[derive(Debug)]
struct Plain(Cell<u64>);

impl Word for Plain {
    fn new(value: u64) -> Self {
        Self(Cell::new(value))
    }

    #[inline]
    fn load(&self) -> u64 {
        self.0.get()
    }

    #[inline]
    fn exchange(&self, current: u64, next: u64) -> Result<(), u64> {
        let seen = self.0.get();
        if seen == current {
            self.0.set(next);
            Ok(())
        } else {
            Err(seen)
        }
    }

    #[inline]
    fn raise(&self, least: u64) -> u64 {
        self.0.replace(self.0.get().max(least))
    }
}

/// The product's window without atomics: a bitmap for one thread.
type PlainWindow = Window<688, 12, REPLAY_WINDOW, Plain>;

/// Measures both windows on both kinds of traffic and prints a table.
pub(crate) fn run(rounds: u32) {
    println!(
        "{rounds} rounds of {MESSAGES} messages, contenders in turn; ns a check and commit: \
         median [quartiles]"
    );
    println!(
        "{:>20}  {:>18}  {:>18}  {:>6}",
        "", "atomic", "plain", "ratio"
    );
    let orders = [
        ("in order", (0..MESSAGES).collect()),
        ("random in window", shuffled()),
    ];
    for (name, order) in &orders {
        let mut atomic = contender(ReplayWindow::default(), order);
        let mut plain = contender(PlainWindow::default(), order);
        let measured = take_turns(rounds, &mut [&mut atomic, &mut plain]);
        println!(
            "{name:>20}  {:>18}  {:>18}  {:>6.2}",
            measured[0].shown(1),
            measured[1].shown(1),
            measured[0].median / measured[1].median
        );
    }
}

/// Takes a round's messages in the given order, each round's nonces behind those of the last.
fn contender<W: Word>(
    window: Window<688, 12, REPLAY_WINDOW, W>,
    order: &[u64],
) -> impl FnMut() -> (u32, Duration) {
    let mut base = 0;
    move || {
        let start = Clock::now();
        let mut accepted = 0;
        for distance in order {
            let nonce = black_box(base + distance);
            if window.check(nonce).is_ok() && window.commit(nonce).is_ok() {
                accepted += 1;
            }
        }
        let elapsed = start.elapsed();
        assert_eq!(accepted, MESSAGES, "every message was accepted");
        base += MESSAGES;
        (MESSAGES as u32, elapsed)
    }
}

/// A round's messages in an order that looks random and is the same each time. All of them are
/// within one window, so none comes too late.
fn shuffled() -> Vec<u64> {
    const { assert!(MESSAGES <= REPLAY_WINDOW) };
    let mut order: Vec<u64> = (0..MESSAGES).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(at, (state % (at as u64 + 1)) as usize);
    }
    order
}
