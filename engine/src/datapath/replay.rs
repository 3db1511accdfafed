//! The replay window: which nonces of one lane were accepted, shared by all workers.
//!
//! A message and its replay may arrive on two receive queues at the same moment, so the decision
//! "accepted now, and never before" must be a single atomic step. It is: the nonce space is cut
//! into blocks of [`BLOCK`] nonces, a block lives in slot `block % SLOTS`, and a slot is one
//! 64-bit word that holds both whose bits it holds and the bits:
//!
//! ```text
//!  63                         12 11          0
//! +-----------------------------+-------------+
//! | generation = block / SLOTS  | 12 bits     |
//! +-----------------------------+-------------+
//! ```
//!
//! A nonce is taken by one compare-and-swap: a slot of an older generation is replaced, one of a
//! newer generation refuses. As the generation is exact over all 2^64 nonces, no jump of the
//! counter, however far, makes an old message look new. The idea of a window that moves by
//! overwriting whole blocks is RFC 6479's.

use core::sync::atomic::{AtomicU64, Ordering};

use omni_wire::DropReason;
use omni_wire::limits::REPLAY_WINDOW;

/// Nonces a slot stands for: what 64 bits leave beside a generation that can count all blocks.
const BLOCK: u64 = 12;
/// Slots: enough that a whole window fits beside the block that the newest nonce is in.
const SLOTS: usize = 688;
const BITS_MASK: u64 = (1 << BLOCK) - 1;

const _: () = assert!(BLOCK * (SLOTS as u64 - 1) >= REPLAY_WINDOW);
const _: () = assert!(u64::MAX / BLOCK / (SLOTS as u64) < 1 << (64 - BLOCK));

/// One lane's window. `check` before decryption, `commit` after the tag verified.
#[derive(Debug)]
pub struct ReplayWindow {
    /// The newest accepted nonce + 1; 0 while none was.
    next: AtomicU64,
    slots: [AtomicU64; SLOTS],
}

struct Place {
    slot: usize,
    generation: u64,
    bit: u64,
}

fn place(nonce: u64) -> Place {
    let block = nonce / BLOCK;
    Place {
        slot: (block % SLOTS as u64) as usize,
        generation: block / SLOTS as u64,
        bit: 1 << (nonce % BLOCK),
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            slots: [const { AtomicU64::new(0) }; SLOTS],
        }
    }
}

impl ReplayWindow {
    /// Whether a message with this nonce is worth decrypting. Changes nothing.
    ///
    /// # Errors
    /// `NonceTooOld` or `NonceReplayed`.
    #[inline]
    pub fn check(&self, nonce: u64) -> Result<(), DropReason> {
        if nonce.saturating_add(REPLAY_WINDOW) < self.next.load(Ordering::Relaxed) {
            return Err(DropReason::NonceTooOld);
        }
        let place = place(nonce);
        judge(self.slots[place.slot].load(Ordering::Relaxed), &place).map(|_| ())
    }

    /// Accepts the nonce of a message whose tag verified: succeeds once per nonce, whichever
    /// worker asks. Says whether it is newer than all before.
    ///
    /// # Errors
    /// `NonceTooOld` or `NonceReplayed`.
    #[inline]
    pub fn commit(&self, nonce: u64) -> Result<bool, DropReason> {
        let place = place(nonce);
        let slot = &self.slots[place.slot];
        let mut word = slot.load(Ordering::Relaxed);
        loop {
            let taken = judge(word, &place)?;
            // Relaxed: the word alone carries the decision, and no other data hangs on it.
            match slot.compare_exchange_weak(word, taken, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(seen) => word = seen,
            }
        }
        let next = nonce.saturating_add(1);
        Ok(self.next.fetch_max(next, Ordering::Relaxed) < next)
    }
}

/// The slot's word with the nonce taken, or why it cannot be.
#[inline]
fn judge(word: u64, place: &Place) -> Result<u64, DropReason> {
    let generation = word >> BLOCK;
    if generation < place.generation {
        Ok(place.generation << BLOCK | place.bit)
    } else if generation > place.generation {
        Err(DropReason::NonceTooOld)
    } else if word & BITS_MASK & place.bit != 0 {
        Err(DropReason::NonceReplayed)
    } else {
        Ok(word | place.bit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;

    /// The window as its definition reads: a set of all accepted nonces, and the newest.
    #[derive(Default)]
    struct Naive {
        accepted: BTreeSet<u64>,
    }

    impl Naive {
        fn accept(&mut self, nonce: u64) -> bool {
            let newest = self.accepted.last().copied();
            let old = newest.is_some_and(|newest| nonce.saturating_add(REPLAY_WINDOW) <= newest);
            !old && self.accepted.insert(nonce)
        }
    }

    fn accept(window: &ReplayWindow, nonce: u64) -> bool {
        let checked = window.check(nonce);
        checked.is_ok() && window.commit(nonce).is_ok()
    }

    #[test]
    fn edges_of_the_window() {
        const W: u64 = REPLAY_WINDOW;
        let cases: &[(u64, bool)] = &[
            (0, true),
            (0, false),
            (1, true),
            (1, false),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
            (W, true),
            (W - 1, true),
            (W - 1, false),
            (W - 2, true),
            (2, true),
            (2, false),
            (W + 16, true),
            (3, false),
            (16, false),
            (17, true),
            (W + 16, false),
            (W * 4, true),
            (W * 4 - (W - 1), true),
            (W * 4 - W, false),
            (10, false),
            (W * 4 - (W - 1), false),
            (W * 4 + 1, true),
            (1 << 40, true),
            (W * 4 + 2, false),
            ((1 << 40) - W, false),
            ((1 << 40) - W + 1, true),
            (u64::MAX - 1, true),
            (u64::MAX - 1, false),
            (u64::MAX - W, true),
            (1 << 40, false),
            (0, false),
        ];
        let window = ReplayWindow::default();
        for (step, &(nonce, accepted)) in cases.iter().enumerate() {
            assert_eq!(
                accept(&window, nonce),
                accepted,
                "step {step}: nonce {nonce}"
            );
        }
    }

    #[test]
    fn runs_forwards_and_backwards_are_accepted_once() {
        let window = ReplayWindow::default();
        for nonce in 0..REPLAY_WINDOW * 3 {
            assert!(accept(&window, nonce));
            assert!(!accept(&window, nonce));
        }
        let window = ReplayWindow::default();
        for nonce in (0..REPLAY_WINDOW).rev() {
            assert!(accept(&window, nonce), "{nonce}");
        }
        for nonce in 0..REPLAY_WINDOW {
            assert!(!accept(&window, nonce));
        }
    }

    #[test]
    fn agrees_with_the_naive_set() {
        // A small xorshift: the walk mixes steps, jumps, stragglers and replays.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..20 {
            let (window, mut naive) = (ReplayWindow::default(), Naive::default());
            let mut head = random() >> (random() % 64);
            for step in 0..50_000 {
                let nonce = match random() % 16 {
                    0..8 => {
                        head = head.saturating_add(random() % 4);
                        head
                    }
                    8..12 => head.saturating_sub(random() % (REPLAY_WINDOW + 50)),
                    12 => head.saturating_sub(random() % (1 << 40)),
                    13 if random() % 64 == 0 => {
                        head = head.saturating_add(random() >> (24 + random() % 40));
                        head
                    }
                    _ => head.saturating_sub(random() % 64),
                };
                assert_eq!(
                    accept(&window, nonce),
                    naive.accept(nonce),
                    "step {step}, {nonce}"
                );
            }
        }
    }

    #[test]
    fn two_workers_never_both_accept() {
        let window = Arc::new(ReplayWindow::default());
        let accepted: Vec<usize> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    let window = Arc::clone(&window);
                    scope.spawn(move || (0..200_000).filter(|&n| accept(&window, n)).count())
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().expect("no panic"))
                .collect()
        });
        // Whoever reaches a nonce first takes it; nobody else does.
        assert_eq!(accepted.iter().sum::<usize>(), 200_000);
    }
}
