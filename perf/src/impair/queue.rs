//! Which frames leave, and when: everything but the sockets and the clock.
//!
//! A frame first waits its turn at the rate, in a queue of so many octets, and then for its delay.
//! Times are nanoseconds since the start.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::settings::Impairment;
use crate::workload::Dice;

/// What became of frames. Each is counted as `frames`; copies of them as `duplicated` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Frames that came.
    pub(super) frames: u64,
    /// Their octets.
    pub(super) octets: u64,
    /// Lost by dice.
    pub(super) lost: u64,
    /// Dropped as the queue for the rate was full, copies included.
    pub(super) tail_dropped: u64,
    /// Copies that were made.
    pub(super) duplicated: u64,
    /// Sent without delay.
    pub(super) reordered: u64,
}

/// A frame on its way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due_ns: u64,
    /// Tells frames of the same time apart: first come, first sent.
    order: u64,
    frame: Vec<u8>,
}

/// Frames of one way.
#[derive(Debug)]
pub(super) struct Queue {
    impairment: Impairment,
    /// One for each purpose: whether frames are duplicated does not change which are lost.
    loss: Dice,
    duplicate: Dice,
    reorder: Dice,
    jitter: Dice,
    waiting: BinaryHeap<Reverse<Waiting>>,
    order: u64,
    /// When the rate lets the next frame go.
    free_ns: u64,
    /// When the last frame that was not to overtake leaves.
    last_ns: u64,
    pub(super) counts: Counts,
}

impl Queue {
    /// An empty one. Ways of the same seed have streams of their own.
    pub(super) fn new(impairment: Impairment, seed: u64, stream: u64) -> Self {
        let dice = |purpose| Dice::new(seed, stream * 4 + purpose);
        Self {
            impairment,
            loss: dice(0),
            duplicate: dice(1),
            reorder: dice(2),
            jitter: dice(3),
            waiting: BinaryHeap::new(),
            order: 0,
            free_ns: 0,
            last_ns: 0,
            counts: Counts::default(),
        }
    }

    /// Takes in a frame that came at `now_ns`.
    pub(super) fn push(&mut self, now_ns: u64, frame: &[u8]) {
        self.counts.frames += 1;
        self.counts.octets += frame.len() as u64;
        let is_lost = self.loss.share() < self.impairment.loss;
        let is_twice = self.duplicate.share() < self.impairment.duplicate;
        if is_lost {
            self.counts.lost += 1;
            return;
        }
        self.delay(now_ns, frame);
        if is_twice {
            self.counts.duplicated += 1;
            self.delay(now_ns, frame);
        }
    }

    /// Puts a frame where its time is.
    fn delay(&mut self, now_ns: u64, frame: &[u8]) {
        let Some(left_ns) = self.leave(now_ns, frame.len() as u64) else {
            self.counts.tail_dropped += 1;
            return;
        };
        let overtakes = self.reorder.share() < self.impairment.reorder;
        let jitter_ns = self.jitter.up_to(self.impairment.jitter_us * 1000);
        let due_ns = if overtakes {
            self.counts.reordered += 1;
            left_ns
        } else {
            let due_ns = left_ns + self.impairment.delay_us * 1000 + jitter_ns;
            self.last_ns = self.last_ns.max(due_ns);
            self.last_ns
        };
        self.waiting.push(Reverse(Waiting {
            due_ns,
            order: self.order,
            frame: frame.to_vec(),
        }));
        self.order += 1;
    }

    /// When the rate lets a frame of `octets` go; `None` when too much waits already.
    fn leave(&mut self, now_ns: u64, octets: u64) -> Option<u64> {
        let rate = self.impairment.rate_bps;
        if rate == 0 {
            return Some(now_ns);
        }
        let behind_ns = self.free_ns.saturating_sub(now_ns);
        let waits = u128::from(behind_ns) * u128::from(rate) / 8_000_000_000;
        if waits + u128::from(octets) > u128::from(self.impairment.queue_octets) {
            return None;
        }
        let takes_ns = (u128::from(octets) * 8_000_000_000).div_ceil(u128::from(rate));
        self.free_ns = self.free_ns.max(now_ns) + takes_ns as u64;
        Some(self.free_ns)
    }

    /// When the next frame is due.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse(next)| next.due_ns)
    }

    /// The next frame, and when it was due, if it is by `now_ns`.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<(u64, Vec<u8>)> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        let Reverse(next) = self.waiting.pop()?;
        Some((next.due_ns, next.frame))
    }

    /// Frames that wait.
    pub(super) fn len(&self) -> u64 {
        self.waiting.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Impairment = Impairment {
        delay_us: 0,
        jitter_us: 0,
        loss: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        rate_bps: 0,
        queue_octets: 1 << 20,
    };

    /// Frames that hold their number, and come a microsecond apart: what leaves, and when.
    fn pass(impairment: Impairment, frames: u32) -> (Vec<(u64, u32)>, Counts) {
        let mut queue = Queue::new(impairment, 1, 0);
        for number in 0..frames {
            queue.push(u64::from(number) * 1000, &frame(number));
        }
        let left = std::iter::from_fn(|| queue.pop(u64::MAX)).map(|(due_ns, frame)| {
            let number = frame.first_chunk().expect("a number");
            (due_ns, u32::from_be_bytes(*number))
        });
        let left: Vec<_> = left.collect();
        let counts = queue.counts;
        let gone = counts.lost + counts.tail_dropped;
        assert_eq!(counts.frames + counts.duplicated, gone + left.len() as u64);
        (left, counts)
    }

    fn frame(number: u32) -> Vec<u8> {
        let mut frame = vec![0; 1000];
        frame[..4].copy_from_slice(&number.to_be_bytes());
        frame
    }

    /// Five standard deviations of a count around its mean.
    fn about(count: u64, of: u32, share: f64) -> bool {
        let mean = f64::from(of) * share;
        (count as f64 - mean).abs() < 5.0 * (mean * (1.0 - share)).sqrt()
    }

    #[test]
    fn nothing_is_done_where_nothing_is_asked_for() {
        let (left, _) = pass(NONE, 100);
        let expected: Vec<_> = (0..100)
            .map(|number| (u64::from(number) * 1000, number))
            .collect();
        assert_eq!(left, expected);
    }

    #[test]
    fn frames_wait_until_they_are_due() {
        let delayed = Impairment {
            delay_us: 10,
            ..NONE
        };
        let mut queue = Queue::new(delayed, 1, 0);
        assert_eq!((queue.next_due_ns(), queue.len()), (None, 0));
        queue.push(5, &frame(1));
        assert_eq!((queue.next_due_ns(), queue.len()), (Some(10_005), 1));
        assert_eq!(queue.pop(10_004), None);
        assert_eq!(queue.pop(10_005), Some((10_005, frame(1))));
    }

    #[test]
    fn jitter_adds_to_the_delay_and_keeps_the_order() {
        let jitter = Impairment {
            delay_us: 100,
            jitter_us: 50,
            ..NONE
        };
        let (left, _) = pass(jitter, 1000);
        assert!(left.windows(2).all(|pair| pair[0].1 < pair[1].1));
        let extra = |&(due_ns, number): &(u64, u32)| due_ns - 100_000 - u64::from(number) * 1000;
        let most = left.iter().map(extra).max();
        assert!(left.iter().map(extra).all(|ns| ns <= 50_000) && most > Some(40_000));
    }

    #[test]
    fn frames_are_lost_and_doubled_as_often_as_asked_for() {
        let both = Impairment {
            loss: 0.1,
            duplicate: 0.05,
            ..NONE
        };
        let (left, counts) = pass(both, 20_000);
        assert!(about(counts.lost, 20_000, 0.1), "{counts:?}");
        assert!(about(counts.duplicated, 20_000, 0.9 * 0.05), "{counts:?}");
        let twice = left
            .windows(2)
            .filter(|pair| pair[0].1 == pair[1].1)
            .count();
        assert_eq!(twice as u64, counts.duplicated);
        assert_eq!(pass(both, 20_000), (left, counts));
        // Other dice do not change which are lost.
        let (_, alone) = pass(Impairment { loss: 0.1, ..NONE }, 20_000);
        assert_eq!(alone.lost, counts.lost);
    }

    #[test]
    fn reordered_frames_overtake_by_the_delay() {
        let reorder = Impairment {
            delay_us: 10,
            reorder: 0.2,
            ..NONE
        };
        let (left, counts) = pass(reorder, 5000);
        assert!(about(counts.reordered, 5000, 0.2), "{counts:?}");
        let at_once = |&&(due_ns, number): &&(u64, u32)| due_ns == u64::from(number) * 1000;
        assert_eq!(left.iter().filter(at_once).count() as u64, counts.reordered);
        assert!(left.windows(2).any(|pair| pair[0].1 > pair[1].1));
    }

    #[test]
    fn the_rate_is_kept_and_the_queue_bounded() {
        // 1000 octets each microsecond are 8 Gb/s, four times the rate; a frame takes 4 us.
        let rate = Impairment {
            rate_bps: 2_000_000_000,
            queue_octets: 10_000,
            ..NONE
        };
        let (left, counts) = pass(rate, 4000);
        assert!(left.windows(2).all(|pair| pair[1].0 - pair[0].0 == 4000));
        assert!((1000..1015).contains(&left.len()), "{}", left.len());
        assert_eq!(counts.tail_dropped, 4000 - left.len() as u64);
        let waited = |&(due_ns, number): &(u64, u32)| due_ns - u64::from(number) * 1000;
        assert!(left.iter().map(waited).all(|ns| ns <= 40_000));
    }
}
