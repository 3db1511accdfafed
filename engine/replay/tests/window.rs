//! The window of the product: its edges, its definition 100 million times, and threads at once.

use std::thread;

use omni_replay::{Lane, ReplayWindow};
use omni_wire::limits::REPLAY_WINDOW;

fn accept(window: &ReplayWindow, nonce: u64) -> bool {
    window.check(nonce).is_ok() && window.commit(nonce).is_ok()
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
fn a_commit_decides_without_a_check_too() {
    let window = ReplayWindow::default();
    let far = 1_000_000;
    assert_eq!(window.commit(far), Ok(true));
    for nonce in 0..far + REPLAY_WINDOW {
        let is_free = nonce != far && nonce + REPLAY_WINDOW > far;
        assert_eq!(window.check(nonce).is_ok(), is_free, "{nonce}");
    }
    for nonce in 0..far {
        let is_young = nonce + REPLAY_WINDOW > far;
        assert_eq!(window.commit(nonce).is_ok(), is_young, "{nonce}");
        assert!(window.commit(nonce).is_err(), "{nonce} twice");
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

/// Numbers that look random and are the same each time (xorshift64, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Nonces that a [`Naive`] can hold.
const RANGE: u64 = 1 << 20;

/// The window as its definition reads: what was ever accepted, a bit for each nonce from `base`
/// on, and the newest.
struct Naive {
    base: u64,
    accepted: Vec<u64>,
    newest: Option<u64>,
}

impl Naive {
    fn new(base: u64) -> Self {
        Self {
            base,
            accepted: vec![0; (RANGE / 64) as usize],
            newest: None,
        }
    }

    fn accept(&mut self, nonce: u64) -> bool {
        let at = nonce - self.base;
        let (word, bit) = (&mut self.accepted[(at / 64) as usize], 1 << (at % 64));
        let is_replay = *word & bit != 0;
        let is_old = self
            .newest
            .is_some_and(|newest| newest - newest.min(nonce) >= REPLAY_WINDOW);
        if is_replay || is_old {
            return false;
        }
        *word |= bit;
        self.newest = self.newest.max(Some(nonce));
        true
    }
}

/// One window and its definition, until the range is used up or `steps` are done: steps forwards,
/// jumps, stragglers, and replays of all ages. Says how many steps it took.
fn walk(dice: &mut Dice, base: u64, steps: u64) -> u64 {
    let (window, mut naive) = (ReplayWindow::default(), Naive::new(base));
    let mut head = 0;
    for step in 0..steps {
        let roll = dice.roll();
        let (kind, amount) = (roll % 64, roll >> 8);
        match kind {
            0..40 => head += amount % 4,
            40 if amount % 256 == 0 => head += amount >> 8 & 0xffff,
            _ => {}
        }
        let back = match kind {
            0..40 => 0,
            40..50 => amount % 64,
            50..62 => amount % (REPLAY_WINDOW + 50),
            _ => amount % RANGE,
        };
        if head >= RANGE {
            return step;
        }
        let nonce = base + head.saturating_sub(back);
        assert!(
            accept(&window, nonce) == naive.accept(nonce),
            "step {step} from {base}: nonce {nonce}"
        );
    }
    steps
}

/// As many again on a second thread, for the second core.
#[test]
fn agrees_with_the_naive_set_a_hundred_million_times() {
    const EACH: u64 = 50_000_000;
    thread::scope(|scope| {
        for seed in [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03] {
            scope.spawn(move || {
                let mut dice = Dice(seed);
                let mut left = EACH;
                let mut bases = [0, u64::MAX - RANGE].into_iter();
                while left > 0 {
                    let base = bases.next();
                    let base = base.unwrap_or_else(|| dice.roll() >> (dice.roll() % 64));
                    let base = base.min(u64::MAX - RANGE);
                    left -= walk(&mut dice, base, left);
                }
            });
        }
    });
}

#[test]
fn of_four_threads_one_accepts_each_nonce() {
    const NONCES: u64 = 200_000;
    let lane = Lane::default();
    let take = |&nonce: &u64| lane.check(nonce).is_ok() && lane.commit(nonce).is_ok();
    let accepted: usize = thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..NONCES).filter(take).count()))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"))
            .sum()
    });
    // Whoever reaches a nonce first takes it; nobody else does.
    assert_eq!(accepted, NONCES as usize);
}
