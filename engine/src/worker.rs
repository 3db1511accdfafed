//! A worker: one thread, pinned to one core, that runs every burst to completion.
//!
//! ```text
//! rx underlay -> orders -> ingress -> rx access -> egress -> transmit -> flush -> upcalls
//!    ^                                                                              |
//!    +-------- something was done: again; nothing: spin, or sleep until it is -------+
//! ```
//!
//! The access ports share a burst, whatever their number: the port that fills it is the last one
//! to be looked at in the next turn.
//!
//! The loop knows queues and time; what happens to frames is the data path's.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use omni_config::Poll;
use omni_control::message::PortId;
use omni_wire::{DropReason, Instant};

use crate::clock;
use crate::datapath::{BURST_MAX, Datapath, DatapathConfig, Output};
use crate::io::kernel::Reopened;
use crate::io::{Frame, FrameIo, LetGo, Pending, Port};
use crate::mailbox::{Order, WorkerMailbox};
use crate::pulse::{self, Pulse};
use crate::stats::{Latency, QueueReport, WorkerReport};

/// How long an adaptive worker looks again before it sleeps: what the other side takes to wake up
/// and answer. What waits for less is woken up itself by almost every answer.
const SPIN: Duration = Duration::from_micros(60);
/// One part in so many of all time may be spent on that.
const SPIN_SHARE: u64 = 8;
/// The most that is saved up, in nanoseconds: some pauses between requests and their answers.
const SPIN_SAVED_MAX: u64 = 1_000_000;
/// Sleep with nothing under way: only orders and frames end it, this is a safety net.
const SLEEP_IDLE: Duration = Duration::from_secs(1);
/// Sleep while sent frames have yet to come back.
const SLEEP_COMPLETIONS: Duration = Duration::from_millis(20);
/// Sleep while frames wait for the device to take more, or upcalls for room.
const SLEEP_STALLED: Duration = Duration::from_millis(1);
/// How often a worker looks whether all of its frames are somewhere.
const AUDIT: Duration = Duration::from_secs(1);
/// Orders taken between two bursts.
const ORDERS_MAX: usize = 64;

/// A worker before it runs.
#[derive(Debug)]
pub struct Worker<I: FrameIo> {
    io: I,
    /// How many access ports there are.
    ports: u8,
    /// The one whose burst comes first.
    turn: u8,
    datapath: Datapath<I::Frame>,
    mailbox: WorkerMailbox,
    poll: Poll,
    core: Option<usize>,
    index: usize,
    burst: Vec<I::Frame>,
    out: Output<I::Frame>,
    /// Queue and arrival of the frames of this turn.
    stamps: Vec<(usize, Option<Instant>)>,
    /// By queue, of those with stamps.
    waits: Vec<Option<Latency>>,
    /// By queue.
    through: Vec<Latency>,
    /// Which queues those are, and what was measured on queues that are closed.
    places: Vec<(Port, u32)>,
    closed: Vec<((Port, u32), Option<Latency>, Latency)>,
    work: Latency,
    send: Latency,
    /// Orders that are followed at the end of this turn, when it holds no frames.
    deferred: Vec<Order>,
    pulse: Arc<Pulse>,
    /// When the next sign of life is due, and the next look at the frames.
    beat_at: Instant,
    audit_at: Instant,
    stopped: bool,
}

impl<I: FrameIo> Worker<I> {
    /// A worker on `io`'s queues.
    #[must_use]
    pub fn new(
        io: I,
        config: DatapathConfig,
        mailbox: WorkerMailbox,
        poll: Poll,
        core: Option<usize>,
    ) -> Self {
        let (queues, index) = (io.queues(), usize::from(config.worker));
        let ports = queues.iter().map(|queue| match queue.port {
            Port::Underlay => 0,
            Port::Access(PortId(n)) => n + 1,
        });
        let ports = ports.max().unwrap_or(0);
        Self {
            io,
            ports,
            turn: 0,
            datapath: Datapath::new(config),
            mailbox,
            poll,
            core,
            index,
            burst: Vec::with_capacity(BURST_MAX),
            out: Output::new(usize::from(ports)),
            stamps: Vec::with_capacity(2 * BURST_MAX),
            waits: queues
                .iter()
                .map(|queue| queue.stamped.then(Latency::default))
                .collect(),
            through: queues.iter().map(|_| Latency::default()).collect(),
            places: queues.iter().map(|q| (q.port, q.queue)).collect(),
            closed: Vec::new(),
            work: Latency::default(),
            send: Latency::default(),
            deferred: Vec::new(),
            pulse: Arc::default(),
            beat_at: Instant(0),
            audit_at: Instant(0),
            stopped: false,
        }
    }

    /// Shows its signs of life there.
    #[must_use]
    pub fn watched(mut self, pulse: Arc<Pulse>) -> Self {
        self.pulse = pulse;
        self
    }

    /// Runs until it is ordered to stop.
    pub fn run(mut self) {
        let mut now = clock::instant();
        let mut spin = Spin::new(now);
        let thread = rustix::thread::gettid();
        self.pulse.begin(thread.as_raw_nonzero().get());
        while !self.stopped {
            if now >= self.beat_at {
                self.beat(now);
            }
            let busy = self.poll_once(now);
            now = clock::instant();
            let pays = spin.pays(now, busy);
            let sleep = match self.poll {
                Poll::Spin => false,
                Poll::Adaptive => !busy && !pays,
                Poll::Sleep => !busy,
            };
            if sleep {
                self.sleep();
                now = clock::instant();
                spin.woke(now);
            } else if !busy && self.poll != Poll::Sleep {
                // On a core of its own that costs a system call. On one that others want as well,
                // they need not wait until the scheduler takes it away: who is to answer may be one
                // of them.
                std::thread::yield_now();
                now = clock::instant();
            }
        }
    }

    /// One turn of the loop: a burst each way, orders, everything sent. Says whether there was
    /// anything to do.
    pub fn poll_once(&mut self, now: Instant) -> bool {
        let received = self.io.receive(Port::Underlay, &mut self.burst, BURST_MAX) > 0;
        // After the frames are here: a peer may answer as soon as the order that installs a session
        // is given. Taken before, that order could come just too late for the answer.
        let mut busy = self.take_orders(now);
        if received {
            busy = true;
            self.datapath
                .ingress(now, &mut self.burst, &mut self.io, &mut self.out);
        }
        busy |= self.take_from_hosts(now);
        if busy {
            let ready = clock::instant();
            self.transmit();
            self.io.flush();
            self.note_times(now, ready);
        } else {
            self.io.flush();
        }
        if self.datapath.has_upcalls() {
            self.datapath
                .drain_upcalls(|upcall| self.mailbox.tell(upcall));
            self.mailbox.wake_control();
        }
        if !self.deferred.is_empty() {
            self.follow_deferred();
        }
        busy
    }

    /// Follows the orders that are not for when it holds frames.
    #[cold]
    fn follow_deferred(&mut self) {
        for order in std::mem::take(&mut self.deferred) {
            match order {
                // Who asked may have gone: then nobody wants the answer.
                Order::Report(reply) => drop(reply.send(self.report())),
                Order::Urge => self.io.urge(),
                Order::LetGo(reply) => drop(reply.send(self.let_go())),
                Order::TakeOver(reopened) => self.take_over(*reopened),
                Order::Table(_) | Order::Stop => {}
            }
        }
    }

    /// Shows that it is alive.
    fn beat(&mut self, now: Instant) {
        self.beat_at = now + pulse::PAUSE;
        let mut unsound = false;
        if now >= self.audit_at {
            self.audit_at = now + AUDIT;
            unsound = !self.io.census().is_complete() || !self.io.is_sound();
        }
        let io = &self.io;
        self.pulse.beat(|seen| {
            seen.queues = io.queues();
            seen.unsound += u64::from(unsound);
        });
    }

    /// A burst from the access ports, all together. Says whether there was anything.
    fn take_from_hosts(&mut self, now: Instant) -> bool {
        let mut left = BURST_MAX;
        for n in self.turn..self.turn + self.ports {
            let port = PortId(n % self.ports);
            let count = self.io.receive(Port::Access(port), &mut self.burst, left);
            if count == 0 {
                continue;
            }
            self.datapath
                .egress(now, port, &mut self.burst, &mut self.io, &mut self.out);
            left -= count;
            if left == 0 {
                self.turn = (n + 1) % self.ports;
                break;
            }
        }
        left < BURST_MAX
    }

    fn transmit(&mut self) {
        if self.datapath.is_tapped() {
            self.datapath.tap_leaving(&self.out);
        }
        let mut refused = 0;
        let access = (0..).map(|n| Port::Access(PortId(n)));
        let access = access.zip(&mut self.out.access);
        for (port, frames) in access.chain([(Port::Underlay, &mut self.out.underlay)]) {
            if !frames.is_empty() {
                note_arrivals(frames, &mut self.stamps);
                refused += self.io.transmit(port, frames);
            }
        }
        self.datapath
            .count_drops(DropReason::TxRingFull, refused as u64);
        self.io.free(&mut self.out.free);
    }

    /// Counts how long the frames of this turn took, stage by stage.
    fn note_times(&mut self, began: Instant, ready: Instant) {
        let frames = self.stamps.len() as u64;
        if frames == 0 {
            return;
        }
        let sent = clock::instant();
        self.work.record_many(began, ready, frames);
        self.send.record_many(ready, sent, frames);
        for (queue, arrived) in self.stamps.drain(..) {
            // What was made here came from no queue.
            let Some(arrived) = arrived else { continue };
            if let Some(Some(wait)) = self.waits.get_mut(queue) {
                wait.record(arrived, began);
            }
            if let Some(through) = self.through.get_mut(queue) {
                through.record(arrived, sent);
            }
        }
    }

    fn take_orders(&mut self, now: Instant) -> bool {
        let mut taken = 0;
        while taken < ORDERS_MAX
            && let Some(order) = self.mailbox.next_order()
        {
            taken += 1;
            match order {
                Order::Table(command) => {
                    self.datapath
                        .apply(now, command, &mut self.io, &mut self.out);
                }
                order @ (Order::Report(_) | Order::Urge | Order::LetGo(_) | Order::TakeOver(_)) => {
                    self.deferred.push(order);
                }
                Order::Stop => self.stopped = true,
            }
        }
        taken > 0
    }

    /// Closes the AF_XDP sockets. What waits for a session is given up with the memory it is in.
    fn let_go(&mut self) -> LetGo {
        self.datapath
            .discard_staged(DropReason::Reopened, &mut self.out);
        self.transmit();
        self.stamps.clear();
        self.io.flush();
        let gone = self.io.let_go();
        self.datapath.count_drops(DropReason::Reopened, gone.lost);
        self.follow_queues();
        gone
    }

    fn take_over(&mut self, reopened: Reopened) {
        self.io.take_over(reopened);
        self.follow_queues();
    }

    /// Goes on measuring by the queues that there are now.
    fn follow_queues(&mut self) {
        let measured = self.waits.drain(..).zip(self.through.drain(..));
        let before = self.places.drain(..).zip(measured);
        let before = before.map(|(place, (wait, through))| (place, wait, through));
        self.closed.extend(before);
        for queue in self.io.queues() {
            let place = (queue.port, queue.queue);
            let known = self.closed.iter().position(|(other, ..)| *other == place);
            let (wait, through) = match known {
                Some(at) => {
                    let (_, wait, through) = self.closed.swap_remove(at);
                    (wait, through)
                }
                None => (queue.stamped.then(Latency::default), Latency::default()),
            };
            self.waits.push(wait);
            self.through.push(through);
            self.places.push(place);
        }
    }

    /// How long to sleep when nothing ends it.
    fn patience(&self) -> Duration {
        // Nobody says when there is room for upcalls again.
        let untold = self.datapath.has_upcalls();
        match self.io.pending() {
            Pending::Stalled => SLEEP_STALLED,
            _ if untold => SLEEP_STALLED,
            Pending::Completions => SLEEP_COMPLETIONS,
            Pending::Nothing => SLEEP_IDLE,
        }
    }

    fn sleep(&mut self) {
        let timeout = self.patience();
        let io = &mut self.io;
        self.mailbox.sleep(|waker| {
            if io.wait(waker.as_fd(), timeout).is_err() {
                // Nothing that happens to a device makes waiting fail; should it, do not spin.
                std::thread::sleep(SLEEP_STALLED);
            }
        });
    }

    /// What was counted so far.
    #[must_use]
    pub fn report(&self) -> WorkerReport {
        let mut drops = self.datapath.drops().clone();
        for (reason, count) in self.io.kernel_drops() {
            drops.add(reason, count);
        }
        let times = self.waits.iter().zip(&self.through);
        let queues = self.io.queues().into_iter().zip(times);
        WorkerReport {
            worker: self.index,
            core: self.core,
            queues: queues
                .map(|(counters, (wait, through))| QueueReport {
                    counters,
                    wait: wait.clone().unwrap_or_default(),
                    through: through.clone(),
                })
                .collect(),
            work: self.work.clone(),
            send: self.send.clone(),
            drops,
            counted: self.datapath.counted(),
            census: self.io.census(),
            staged: self.datapath.staged() as u64,
        }
    }
}

/// Remembers when frames arrived, before they are given away.
fn note_arrivals<F: Frame>(frames: &[F], stamps: &mut Vec<(usize, Option<Instant>)>) {
    stamps.extend(frames.iter().map(|frame| (frame.queue(), frame.arrived())));
}

/// Looking again at once after work is done spares the time of a wake-up, and costs a core.
///
/// Where frames come in ones and twos without end, as in a flood of short ones, there is always a
/// moment to wait for the next: spinning through all of them would cost more than the frames, and
/// take the core from those who want to use what arrives. So it has a budget.
#[derive(Debug)]
struct Spin {
    /// When the worker last looked.
    looked_at: Instant,
    /// Until when another frame is worth waiting for.
    until: Instant,
    /// Nanoseconds that may still be spent.
    saved: u64,
}

impl Spin {
    fn new(now: Instant) -> Self {
        Self {
            looked_at: now,
            until: now + SPIN,
            saved: SPIN_SAVED_MAX,
        }
    }

    /// Takes in a turn of the loop. Whether to look again rather than to sleep.
    fn pays(&mut self, now: Instant, busy: bool) -> bool {
        let turn = now.0.saturating_sub(self.looked_at.0);
        self.looked_at = now;
        self.earn(turn);
        if busy {
            self.until = now + SPIN;
            return true;
        }
        self.saved = self.saved.saturating_sub(turn);
        now < self.until && self.saved > 0
    }

    /// Takes in a sleep.
    fn woke(&mut self, now: Instant) {
        self.earn(now.0.saturating_sub(self.looked_at.0));
        self.looked_at = now;
        self.until = now + SPIN;
    }

    fn earn(&mut self, nanoseconds: u64) {
        self.saved = (self.saved + nanoseconds / SPIN_SHARE).min(SPIN_SAVED_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use omni_control::message::{PeerId, Upcall};

    use super::*;
    use crate::datapath::policy::SwitchPolicy;
    use crate::io::FramePool;
    use crate::io::mem::MemIo;
    use crate::mailbox::mailboxes;

    const NOW: Instant = Instant(1_000_000_000);

    fn worker(ports: usize) -> Worker<MemIo> {
        let config = DatapathConfig {
            worker: 0,
            max_frame: 1500,
            complete_checksums: false,
            staged_max: 64,
            spread_ports: false,
            policy: Arc::new(SwitchPolicy::open(ports)),
        };
        let (_, mut ends) = mailboxes(1).expect("mailboxes");
        let io = MemIo::with_ports(ports, 4096, 102);
        let end = ends.pop().expect("one worker");
        Worker::new(io, config, end, Poll::Sleep, None)
    }

    fn access(port: u8) -> Port {
        Port::Access(PortId(port))
    }

    /// Frames received so far, by port.
    fn received(worker: &Worker<MemIo>) -> Vec<u64> {
        let queues = worker.report().queues;
        queues
            .iter()
            .map(|queue| queue.counters.rx_frames)
            .collect()
    }

    #[test]
    fn access_ports_share_a_burst_and_have_their_turns() {
        let mut worker = worker(3);
        let frame = [
            [2, 0, 0, 0, 0, 1],
            [2, 0, 0, 0, 0, 2],
            [0x88, 0xb5, 0, 0, 0, 0],
        ]
        .concat();
        for (port, count) in [(0, 640), (1, 128), (2, 3)] {
            for _ in 0..count {
                assert!(worker.io.push(access(port), &frame, NOW));
            }
        }
        let turns = [
            [0, 64, 0, 0],
            [0, 64, 64, 0],
            // What the third port leaves of the burst is the first one's.
            [0, 125, 64, 3],
            [0, 125, 128, 3],
            [0, 189, 128, 3],
        ];
        for expected in turns {
            assert!(worker.poll_once(NOW));
            assert_eq!(received(&worker), expected);
        }
        while worker.poll_once(NOW) {}
        assert_eq!(received(&worker), [0, 640, 128, 3]);
        let census = worker.report().census;
        assert!(census.is_complete() && census.held == 0, "{census:?}");
    }

    #[test]
    fn upcalls_that_had_no_room_are_told_soon_though_nothing_else_happens() {
        let (control, mut ends) = mailboxes(1).expect("mailboxes");
        let mut worker = worker(1);
        worker.mailbox = ends.pop().expect("one worker");
        let upcall = || Upcall::NeedSession { peer: PeerId(3) };
        while worker.mailbox.tell(upcall()).is_ok() {}
        let host = [
            [2, 0, 0, 0, 0, 1],
            [2, 0, 0, 0, 0, 2],
            [0x88, 0xb5, 0, 0, 0, 0],
        ]
        .concat();
        worker.io.push(access(0), &host, NOW);
        while worker.poll_once(NOW) {}
        assert_eq!(worker.patience(), SLEEP_STALLED);
        while control.next_upcall() == Some((0, upcall())) {}
        worker.poll_once(NOW);
        let (_, learned) = control.next_upcall().expect("what the host's frame told");
        assert!(matches!(learned, Upcall::Learned { .. }), "{learned:?}");
        assert_eq!(worker.patience(), SLEEP_IDLE);
    }

    #[test]
    fn times_are_booked_on_the_queue_that_a_frame_came_in_on_wherever_it_goes() {
        let mut worker = worker(3);
        let mut burst = Vec::new();
        for (from, to) in [(Port::Underlay, 2), (access(0), 1), (access(2), 1)] {
            worker.io.push(from, &[0; 60], NOW);
            worker.io.receive(from, &mut burst, BURST_MAX);
            worker.out.access[to].append(&mut burst);
        }
        worker.io.push(access(1), &[0; 60], NOW);
        worker.io.receive(access(1), &mut burst, BURST_MAX);
        // Made here: it has not arrived anywhere.
        burst.extend(worker.io.alloc(60));
        worker.out.underlay.append(&mut burst);
        let ready = clock::instant();
        worker.transmit();
        worker.note_times(NOW, ready);
        let WorkerReport {
            queues, work, send, ..
        } = worker.report();
        let counts = |times: fn(&QueueReport) -> &Latency| {
            let counts = queues.iter().map(|q| times(q).percentiles().count);
            counts.collect::<Vec<_>>()
        };
        assert_eq!(counts(|queue| &queue.wait), [1, 1, 1, 1]);
        assert_eq!(counts(|queue| &queue.through), [1, 1, 1, 1]);
        let of_all = [work, send].map(|stage| stage.percentiles().count);
        assert_eq!(of_all, [5, 5]);
        let sent = queues.iter().map(|q| q.counters.tx_frames);
        assert_eq!(sent.collect::<Vec<_>>(), [2, 0, 2, 1]);
    }

    /// How much of a second a worker spins when a frame comes every `gap` nanoseconds and takes
    /// `work`.
    fn spun(gap: u64, work: u64) -> f64 {
        const LOOK: u64 = 200;
        let mut now = Instant(1_000_000_000);
        let mut spin = Spin::new(now);
        let (end, mut next, mut spent) = (now.0 + 1_000_000_000, now.0, 0);
        while now.0 < end {
            let busy = now.0 >= next;
            let turn = if busy { work } else { LOOK };
            now = Instant(now.0 + turn);
            next += if busy { gap } else { 0 };
            if spin.pays(now, busy) {
                spent += if busy { 0 } else { turn };
            } else {
                now = Instant(next.max(now.0));
                spin.woke(now);
            }
        }
        spent as f64 / 1e9
    }

    #[test]
    fn spinning_takes_an_eighth_of_a_core_at_most() {
        for gap in [1_000, 5_000, 20_000, 100_000, 1_000_000] {
            let share = spun(gap, 400);
            assert!(
                share < 0.13,
                "{share} of a core with a frame every {gap} ns"
            );
        }
    }

    #[test]
    fn requests_and_answers_are_waited_for() {
        // A pause after each of 1000 frames a second: all of them are spun through.
        let share = spun(1_000_000, 2_000);
        assert!((0.055..0.065).contains(&share), "{share}");
    }
}
