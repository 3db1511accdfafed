//! What a node does when an interface, a queue or a worker does not go on.
//!
//! ```text
//! interface made again, more queues ----+
//! queue stands still: urged, still so --+--> sockets closed, memory and sockets made anew
//! program taken off -------------------------> attached again
//! worker stuck, or its thread over ----------> the node ends, and is started again
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use omni_wire::Instant;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::watchdog::{Finding, Scheduled, Sight, Watchdog};
use super::{EngineError, Node, staged_max};
use crate::clock;
use crate::cores;
use crate::io::kernel::{self, Reopened};
use crate::io::{LetGo, Port};
use crate::mailbox::Order;
use crate::show::RecoveryView;

/// How long a worker is given to let go of its sockets.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long opening sockets again may fail before the node ends: who starts it again may do better.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);
/// From one time that sockets are made anew for a queue that stands still to the next.
const PAUSE: Duration = Duration::from_secs(10);
/// It doubles up to this.
const PAUSE_MAX: Duration = Duration::from_secs(320);

/// What was noticed and done so far.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    pub(super) watchdog: Watchdog,
    pub(super) counted: RecoveryView,
    /// Times that a queue stood still, by the port's place and the queue.
    stalls: BTreeMap<(usize, u32), u64>,
    /// What the scheduler said of workers when they were noticed to be late.
    late: BTreeMap<usize, Scheduled>,
    /// Sockets are to be opened again: since when, and why.
    wanted: Option<(Instant, String)>,
    /// The trouble that was logged last.
    trouble: String,
    /// Not before this for a queue that stands still, and the pause after it.
    next: Option<(Instant, Duration)>,
    /// Times that workers found their frames unsound.
    unsound: u64,
}

impl Recovery {
    /// How often a queue stood still.
    pub(super) fn stalls_of(&self, port: Port, queue: u32) -> u64 {
        let stalls = self.stalls.get(&(port.place(), queue));
        stalls.copied().unwrap_or(0)
    }
}

impl Node {
    /// Looks at the workers and their queues.
    ///
    /// # Errors
    /// When a worker does not go on: the node must not live on half dead.
    pub(super) async fn watch(&mut self) -> Result<(), EngineError> {
        if let Some(worker) = self.workers.iter().position(|thread| thread.is_finished()) {
            return Err(EngineError::WorkerEnded { worker });
        }
        let signs: Vec<u64> = self.pulses.iter().map(|pulse| pulse.signs()).collect();
        let seen: Vec<_> = self.pulses.iter().map(|pulse| pulse.seen()).collect();
        self.count_unsound(seen.iter().map(|seen| seen.unsound).sum());
        let queues = seen.into_iter().enumerate();
        let queues = queues.flat_map(|(worker, seen)| {
            let queues = seen.queues.into_iter();
            queues.map(move |queue| (worker, queue))
        });
        let (queues, steered): (Vec<_>, _) = (queues.collect(), self.ports.steered());
        let mut up: Vec<Port> = steered.iter().map(|(port, _)| *port).collect();
        up.retain(|port| self.ports.is_up(*port));
        let sight = Sight {
            signs: &signs,
            queues: &queues,
            steered: &steered,
            up: &up,
        };
        for finding in self.recovery.watchdog.look(clock::instant(), sight) {
            self.take_finding(finding)?;
        }
        // What went wrong is tried again with the next housekeeping.
        if self.recovery.wanted.is_some() && self.recovery.trouble.is_empty() {
            self.reopen().await?;
        }
        Ok(())
    }

    fn count_unsound(&mut self, unsound: u64) {
        if unsound > self.recovery.unsound {
            error!("frames of the packet memory do not add up: this is a defect, report it");
        }
        self.recovery.unsound = unsound;
        self.recovery.counted.unsound = unsound;
    }

    fn take_finding(&mut self, finding: Finding) -> Result<(), EngineError> {
        let now = clock::instant();
        match finding {
            Finding::Late(worker) => {
                warn!(worker, "a worker does not come round");
                self.recovery.counted.worker_stalls += 1;
                if let Some(scheduled) = self.scheduled(worker) {
                    self.recovery.late.insert(worker, scheduled);
                }
                self.urge(worker);
            }
            Finding::Back(worker) => {
                info!(worker, "a worker goes on");
                self.recovery.late.remove(&worker);
            }
            Finding::Stuck(worker) if self.is_excused(worker) => {
                warn!(
                    worker,
                    "a worker gets no time, or is held: it is waited for"
                );
            }
            Finding::Stuck(worker) => return Err(EngineError::WorkerStuck { worker }),
            Finding::NothingArrives(port, times) => self.take_stall(port, None, times, now),
            Finding::NothingLeaves(port, queue, times) => {
                self.take_stall(port, Some(queue), times, now);
            }
        }
        Ok(())
    }

    fn scheduled(&self, worker: usize) -> Option<Scheduled> {
        let thread = self.pulses.get(worker)?.thread();
        Scheduled::of(thread)
    }

    fn is_excused(&self, worker: usize) -> bool {
        let Some(scheduled) = self.scheduled(worker) else {
            return false;
        };
        // Since it was noticed: one that uses little time for nothing is given up in the end.
        let before = self.recovery.late.get(&worker);
        before.is_some_and(|before| scheduled.excuses(*before))
    }

    fn urge(&mut self, worker: usize) {
        self.mailbox.order(worker, Order::Urge);
        self.mailbox.flush();
    }

    /// A port's queue stands still, or all of its queues.
    fn take_stall(&mut self, port: Port, queue: Option<u32>, times: u32, now: Instant) {
        let interface = self.ports.name_of(port).to_owned();
        let what = if queue.is_some() { "send" } else { "receive" };
        self.recovery.counted.queue_stalls += 1;
        let key = (port.place(), queue.unwrap_or(0));
        *self.recovery.stalls.entry(key).or_default() += 1;
        if times == 1 {
            warn!(
                interface,
                ?queue,
                what,
                "a queue stands still; it is urged on"
            );
            for worker in 0..self.mailbox.workers() {
                self.urge(worker);
            }
            return;
        }
        let pause = match self.recovery.next {
            Some((at, _)) if now < at => return,
            Some((at, pause)) if now.since(at) < PAUSE_MAX => (pause * 2).min(PAUSE_MAX),
            _ => PAUSE,
        };
        self.recovery.next = Some((now + pause, pause));
        self.want_reopened(&format!("{interface} does not {what}"));
    }

    fn want_reopened(&mut self, why: &str) {
        let now = clock::instant();
        let wanted = &mut self.recovery.wanted;
        wanted.get_or_insert_with(|| (now, why.to_owned()));
    }

    /// Takes interfaces that are there again, queues that became more, and programs that were taken
    /// off.
    ///
    /// # Errors
    /// When sockets cannot be opened for long.
    pub(super) async fn look_after_ports(&mut self) -> Result<(), EngineError> {
        let found = self.ports.find_again(&self.netlink).await;
        if !found.is_empty() {
            self.want_reopened("an interface was made again");
        }
        if self.ports.follow_channels() {
            self.want_reopened("there are more receive queues");
        }
        if self.recovery.wanted.is_some() {
            self.reopen().await?;
        }
        let attached = self.ports.look_after_programs(&self.netlink).await;
        self.recovery.counted.reattached += attached;
        if found.contains(&Port::Underlay) {
            self.ports.follow_addresses(&self.netlink).await;
            for peer in self.paths.move_to(self.ports.underlay_index()) {
                self.resolve(peer).await;
            }
            self.fit_mtu().await;
        }
        Ok(())
    }

    /// Has the workers close their sockets, and gives them new ones, with new packet memory.
    async fn reopen(&mut self) -> Result<(), EngineError> {
        let Some((since, why)) = self.recovery.wanted.clone() else {
            return Ok(());
        };
        let began = clock::instant();
        match self.try_reopen().await {
            Ok(sockets) => {
                let took_ms = clock::instant().since(began).as_millis() as u64;
                info!(why, sockets, took_ms, "sockets and packet memory made anew");
                self.recovery.wanted = None;
                self.recovery.trouble.clear();
                self.recovery.counted.reopened += 1;
                Ok(())
            }
            Err(error) if began.since(since) > GIVEN_UP_AFTER => Err(error),
            Err(error) => {
                let trouble = error.to_string();
                if trouble != self.recovery.trouble {
                    warn!(%error, why, "cannot open sockets again; trying on");
                    self.recovery.trouble = trouble;
                }
                Ok(())
            }
        }
    }

    async fn try_reopen(&mut self) -> Result<usize, EngineError> {
        let readers = self.let_go().await?;
        let ports = self.ports.xsk_ports();
        if ports.is_empty() {
            return Ok(0);
        }
        let (staged, core) = (staged_max(&self.config), self.cores[0]);
        let (shares, bound) = cores::run_on(core, || kernel::reopen(&ports, staged, &readers))?;
        self.ports.give_sockets(&bound);
        for (worker, share) in shares.into_iter().enumerate() {
            let share: Box<Reopened> = Box::new(share);
            self.mailbox.order(worker, Order::TakeOver(share));
        }
        self.mailbox.flush();
        Ok(bound.len())
    }

    /// Has every worker close its sockets. How many queues each has besides.
    async fn let_go(&mut self) -> Result<Vec<usize>, EngineError> {
        let mut replies = Vec::new();
        for worker in 0..self.mailbox.workers() {
            let (reply, answer) = oneshot::channel();
            self.mailbox.order(worker, Order::LetGo(reply));
            replies.push(answer);
        }
        self.mailbox.flush();
        let mut readers = Vec::new();
        for (worker, answer) in replies.into_iter().enumerate() {
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(Ok(LetGo { readers: count, .. })) => readers.push(count),
                _ => return Err(EngineError::WorkerStuck { worker }),
            }
        }
        Ok(readers)
    }
}
