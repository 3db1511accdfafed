//! Notices workers that do not come round, and queues that stand still.
//!
//! Time is counted in looks, which come at a fixed pace: whoever stops the whole process, or takes
//! the processors away from it, stops the looks as well. So a process that goes on after a stop, or
//! a machine after its sleep, is not accused.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use omni_wire::Instant;

use crate::io::{Port, QueueCounters};

/// How often to look. Each look wakes the control thread of an idle node.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// So many looks without a sign of life, or a move, are a stall: 1.5 s, noticed within 2. An idle
/// worker shows one a second.
const LATE: u32 = 3;
/// So many looks without a sign of life, and a worker is given up: 10 s.
const STUCK: u32 = 20;
/// In so many of the looks, at least, frames were steered to sockets that hand none over.
const STEERED: u32 = 2;

/// Something that does not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finding {
    /// A worker does not come round.
    Late(usize),
    /// It does again.
    Back(usize),
    /// It does not for long: to be given up, unless it is excused.
    Stuck(usize),
    /// Frames are steered to the port's sockets, and none arrive. How often in a row this was said.
    NothingArrives(Port, u32),
    /// The kernel takes nothing from a queue's transmit ring. How often in a row this was said.
    NothingLeaves(Port, u32, u32),
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight<'a> {
    /// Each worker's number of signs of life.
    pub(super) signs: &'a [u64],
    /// Queues, and whose they are.
    pub(super) queues: &'a [(usize, QueueCounters)],
    /// Frames handed to each port's sockets.
    pub(super) steered: &'a [(Port, u64)],
    /// Ports whose interfaces are up.
    pub(super) up: &'a [Port],
}

#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    signs: u64,
    still: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sending {
    /// The most frames that the kernel was known to have taken.
    taken: i64,
    still: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Receiving {
    received: u64,
    steered: u64,
    /// Looks since something was steered and nothing arrived.
    still: u32,
    /// Looks of these at which more was steered.
    grown: u32,
    said: u32,
}

/// What was seen before.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    looked: Option<Instant>,
    workers: Vec<Worker>,
    /// By the port's place and the queue.
    sending: BTreeMap<(usize, u32), Sending>,
    /// By the port's place.
    receiving: BTreeMap<usize, Receiving>,
}

impl Watchdog {
    /// Looks; to be called every [`LOOK`]. A look that comes late, or the first, accuses nobody.
    pub(super) fn look(&mut self, now: Instant, sight: Sight<'_>) -> Vec<Finding> {
        let before = self.looked.replace(now);
        if before.is_none_or(|before| now.since(before) > 3 * LOOK) {
            self.begin_anew();
        }
        let mut findings = Vec::new();
        self.look_at_workers(sight, &mut findings);
        self.look_at_sending(sight, &mut findings);
        self.look_at_receiving(sight, &mut findings);
        findings
    }

    /// Whether every worker shows signs of life.
    pub(super) fn is_content(&self) -> bool {
        self.workers.iter().all(|worker| worker.still < LATE)
    }

    fn begin_anew(&mut self) {
        for worker in &mut self.workers {
            // One that was late has to be told of when it is back.
            worker.still = if worker.still < LATE { 0 } else { LATE };
        }
        self.sending.clear();
        self.receiving.clear();
    }

    fn look_at_workers(&mut self, sight: Sight<'_>, findings: &mut Vec<Finding>) {
        self.workers.resize(sight.signs.len(), Worker::default());
        for (n, (worker, &signs)) in self.workers.iter_mut().zip(sight.signs).enumerate() {
            if worker.signs != signs {
                worker.signs = signs;
                if worker.still >= LATE {
                    findings.push(Finding::Back(n));
                }
                worker.still = 0;
                continue;
            }
            worker.still += 1;
            if worker.still == LATE {
                findings.push(Finding::Late(n));
            } else if worker.still >= STUCK && (worker.still - STUCK).is_multiple_of(LATE) {
                findings.push(Finding::Stuck(n));
            }
        }
    }

    fn look_at_sending(&mut self, sight: Sight<'_>, findings: &mut Vec<Finding>) {
        for (worker, queue) in sight.queues {
            let key = (queue.port.place(), queue.queue);
            let seen = self.sending.entry(key).or_default();
            let is_fresh = self.workers.get(*worker).is_some_and(|w| w.still == 0);
            if !sight.up.contains(&queue.port) {
                seen.still = 0;
                continue;
            }
            // What a worker said that has not come round since tells nothing new.
            if !is_fresh {
                continue;
            }
            // A frame of several buffers makes this less, which is no move.
            let taken = queue.tx_frames as i64 - queue.tx_waiting as i64;
            if queue.tx_waiting == 0 || taken > seen.taken {
                *seen = Sending { taken, still: 0 };
                continue;
            }
            seen.still += 1;
            if seen.still.is_multiple_of(LATE) {
                let times = seen.still / LATE;
                findings.push(Finding::NothingLeaves(queue.port, queue.queue, times));
            }
        }
    }

    fn look_at_receiving(&mut self, sight: Sight<'_>, findings: &mut Vec<Finding>) {
        // A worker that does not come round is a matter of its own.
        if !self.is_content() {
            return self.receiving.clear();
        }
        for &(port, steered) in sight.steered {
            let of_port = sight.queues.iter().filter(|(_, queue)| queue.port == port);
            let received = of_port.map(|(_, queue)| queue.rx_frames).sum();
            let first = Receiving {
                received,
                steered,
                ..Receiving::default()
            };
            let seen = self.receiving.entry(port.place()).or_insert(first);
            if seen.received != received || steered < seen.steered {
                *seen = first;
                continue;
            }
            let grown = steered > seen.steered;
            seen.steered = steered;
            seen.grown += u32::from(grown);
            seen.still += u32::from(seen.grown > 0);
            if seen.still >= LATE && seen.grown >= STEERED {
                seen.said += 1;
                findings.push(Finding::NothingArrives(port, seen.said));
                (seen.still, seen.grown) = (0, 0);
            }
        }
    }
}

/// Who had this much of a processor and did not come round does not lack time.
const ENOUGH: Duration = Duration::from_millis(500);

/// What the scheduler knows of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Scheduled {
    /// As `/proc` has it: `R` runs or wants to, `T` and `t` are held by a signal or a debugger.
    state: char,
    /// Nanoseconds that it had of a processor since it began.
    ran: u64,
}

impl Scheduled {
    /// Of a thread of this process; `None` when there is no such.
    pub(super) fn of(thread: i32) -> Option<Self> {
        let read = |file| fs::read_to_string(format!("/proc/self/task/{thread}/{file}"));
        Self::parse(&read("stat").ok()?, &read("schedstat").ok()?)
    }

    fn parse(stat: &str, schedstat: &str) -> Option<Self> {
        // The name may have spaces and brackets in it.
        let (_, rest) = stat.rsplit_once(") ")?;
        Some(Self {
            state: rest.chars().next()?,
            ran: schedstat.split_whitespace().next()?.parse().ok()?,
        })
    }

    /// Whether a thread is not to blame that has shown no sign of life since `before`: somebody
    /// holds it, or it wants to run and others have its processor.
    pub(super) fn excuses(self, before: Self) -> bool {
        let ran = Duration::from_nanos(self.ran.saturating_sub(before.ran));
        match self.state {
            'T' | 't' => true,
            'R' => ran < ENOUGH,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNDERLAY: &[Port] = &[Port::Underlay];

    fn queue(rx_frames: u64, tx_frames: u64, tx_waiting: u64) -> (usize, QueueCounters) {
        let queue = QueueCounters {
            port: Port::Underlay,
            queue: 0,
            zero_copy: false,
            stamped: true,
            rx_frames,
            rx_bytes: 60 * rx_frames,
            tx_frames,
            tx_bytes: 60 * tx_frames,
            tx_waiting,
        };
        (0, queue)
    }

    /// A watchdog that looks at one worker with one queue, at its pace.
    #[derive(Default)]
    struct Bench {
        dog: Watchdog,
        now: Instant,
    }

    impl Bench {
        fn look(
            &mut self,
            signs: u64,
            queue: (usize, QueueCounters),
            steered: u64,
        ) -> Vec<Finding> {
            self.now = self.now + LOOK;
            let sight = Sight {
                signs: &[signs],
                queues: &[queue],
                steered: &[(Port::Underlay, steered)],
                up: UNDERLAY,
            };
            self.dog.look(self.now, sight)
        }
    }

    #[test]
    fn a_worker_that_does_not_come_round_is_noticed_within_two_seconds_and_given_up_after_ten() {
        let mut bench = Bench::default();
        let mut seen = Vec::new();
        for look in 0..28 {
            let found = bench.look(7, queue(0, 0, 0), 0);
            seen.extend(found.into_iter().map(|finding| (look, finding)));
        }
        // The first look learns the number of signs.
        let expected = [
            (3, Finding::Late(0)),
            (20, Finding::Stuck(0)),
            (23, Finding::Stuck(0)),
            (26, Finding::Stuck(0)),
        ];
        assert_eq!(seen, expected);
        assert!(LOOK * LATE < Duration::from_secs(2) && LOOK * STUCK == Duration::from_secs(10));
        assert!(!bench.dog.is_content());
        assert_eq!(bench.look(8, queue(0, 0, 0), 0), [Finding::Back(0)]);
        assert!(bench.dog.is_content());
    }

    #[test]
    fn an_idle_worker_and_a_busy_one_are_left_alone() {
        let mut bench = Bench::default();
        for look in 0..400u64 {
            // A sign a second; then, frames with every look.
            let (signs, frames) = if look < 200 {
                (look / 2, 0)
            } else {
                (look, look)
            };
            let found = bench.look(signs, queue(frames, frames, 0), frames);
            assert_eq!(found, [], "look {look}");
        }
    }

    /// As after SIGSTOP and SIGCONT, or when the machine slept: the looks stop as well, and the
    /// worker may be the second to run.
    #[test]
    fn a_process_that_was_stopped_is_not_accused() {
        let mut bench = Bench::default();
        for stop in 0..50 {
            for _ in 0..2 {
                assert_eq!(bench.look(stop, queue(0, 1, 1), 10 * stop), []);
            }
            bench.now = bench.now + Duration::from_secs(60);
        }
    }

    #[test]
    fn a_ring_from_which_nothing_is_taken_is_noticed_and_one_that_empties_is_not() {
        let mut bench = Bench::default();
        let mut found = Vec::new();
        for look in 0..7 {
            // Frames are added to the ring, and the kernel takes none.
            found.extend(bench.look(look, queue(0, 100 + look, 100 + look), 0));
        }
        let stalled = |times| Finding::NothingLeaves(Port::Underlay, 0, times);
        assert_eq!(found, [stalled(1), stalled(2)]);
        for look in 7..40 {
            // Always full, and moving.
            assert_eq!(bench.look(look, queue(0, 1024 + look, 1024), 0), []);
        }
    }

    #[test]
    fn a_ring_of_an_interface_that_is_down_may_wait() {
        let mut bench = Bench::default();
        for look in 0..40 {
            bench.now = bench.now + LOOK;
            let sight = Sight {
                signs: &[look],
                queues: &[queue(0, 5, 5)],
                steered: &[],
                up: &[],
            };
            assert_eq!(bench.dog.look(bench.now, sight), []);
        }
    }

    #[test]
    fn frames_that_are_steered_and_never_arrive_are_noticed_within_two_seconds() {
        let mut bench = Bench::default();
        bench.look(0, queue(50, 0, 0), 50);
        let mut found = Vec::new();
        for look in 1..=7 {
            let arrived = bench.look(look, queue(50, 0, 0), 50 + look);
            found.extend(arrived.into_iter().map(|finding| (look, finding)));
        }
        let dry = |times| Finding::NothingArrives(Port::Underlay, times);
        assert_eq!(found, [(3, dry(1)), (6, dry(2))]);
        assert_eq!(bench.look(8, queue(51, 0, 0), 58), []);
    }

    /// One frame that was steered and dropped, as the ring was full, is no stall.
    #[test]
    fn a_single_frame_that_does_not_arrive_is_not_told() {
        let mut bench = Bench::default();
        bench.look(0, queue(50, 0, 0), 50);
        for look in 1..100 {
            assert_eq!(bench.look(look, queue(50, 0, 0), 51), []);
        }
    }

    #[test]
    fn a_thread_that_is_held_or_starved_is_excused() {
        let parse = |state: &str, ran: u64| {
            let stat = format!("42 (omni) w(0) {state} 1 42 42 0 -1 4194304");
            Scheduled::parse(&stat, &format!("{ran} 77 12\n")).expect("a thread")
        };
        let before = parse("R", 1_000);
        assert!(parse("T", 9_000_000_000).excuses(before), "stopped");
        assert!(parse("t", 1_000).excuses(before), "debugged");
        assert!(parse("R", 400_000_000).excuses(before), "starved");
        assert!(!parse("R", 600_000_000).excuses(before), "it runs");
        assert!(!parse("D", 1_000).excuses(before), "it hangs");
        assert_eq!(Scheduled::parse("", ""), None);
        assert!(Scheduled::of(rustix::thread::gettid().as_raw_nonzero().get()).is_some());
    }
}
