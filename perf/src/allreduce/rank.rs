//! One rank: connects, and does all iterations of all sizes.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use super::exchange::Exchange;
use super::links::Place;
use super::plan::{Action, Plan, Receive, Send, Step};
use super::results::{RANK_KIND, RankResult, RankSize, Setup};
use super::values::{ELEMENT_LEN, Values};
use crate::Failure;
use crate::workload::{Dice, Times, now_text, wake_precisely};

/// All that a rank has to know.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) rank: usize,
    pub(super) setup: Setup,
    /// Octets of vectors, in turn.
    pub(super) sizes: Vec<u64>,
    /// The longest that it waits for others while nothing moves.
    pub(super) timeout: Duration,
    /// The longest that everything may take.
    pub(super) limit: Duration,
}

/// What is called after each collective, before its result is looked at: with the iteration, those
/// to warm up included, and the buffer.
pub(super) type Hook<'a> = &'a mut dyn FnMut(usize, &mut [u8]);

/// A rank at work.
struct Rank<'a> {
    job: &'a Job,
    exchange: Exchange,
    /// Iterations so far, of all sizes.
    iteration: usize,
    wrong: u64,
}

impl Job {
    /// Does it. What is wrong in results is counted, and told on standard error once.
    ///
    /// # Errors
    /// When another rank does not do its part; the text names who, and where this rank was.
    pub(super) fn run(
        &self,
        listener: &TcpListener,
        addresses: &[SocketAddr],
        hook: Hook<'_>,
    ) -> Result<RankResult, Failure> {
        let began = now_text();
        let end = Instant::now() + self.limit;
        let told = |reason: Failure| Failure::from(format!("rank {}: {reason}", self.rank));
        wake_precisely();
        let plans: Vec<Plan> = (self.sizes.iter())
            .map(|&octets| self.plan(octets))
            .collect::<Result<_, _>>()?;
        let place = Place {
            rank: self.rank,
            addresses,
            setup: self.agreed(),
            timeout: self.timeout.min(self.limit),
        };
        let mut peers: std::collections::BTreeSet<usize> =
            plans.iter().flat_map(Plan::peers).collect();
        peers.extend(match self.rank {
            // All meet at rank 0 before each iteration.
            0 => 1..self.setup.ranks,
            _ => 0..1,
        });
        let links = place.connect(listener, &peers).map_err(told)?;
        let mut rank = Rank {
            job: self,
            exchange: Exchange::new(links, self.timeout, end),
            iteration: 0,
            wrong: 0,
        };
        let sizes = self.sizes.iter().zip(&plans);
        let sizes = sizes.map(|(&octets, plan)| rank.measure(octets, plan, hook).map_err(told));
        Ok(RankResult {
            kind: RANK_KIND.to_owned(),
            began,
            rank: self.rank,
            setup: self.setup.clone(),
            sizes: sizes.collect::<Result<_, _>>()?,
            wrong: rank.wrong,
        })
    }

    fn plan(&self, octets: u64) -> Result<Plan, Failure> {
        let setup = &self.setup;
        let count = octets as usize / ELEMENT_LEN;
        let (collective, algorithm) = (setup.collective, setup.algorithm);
        Ok(Plan::new(
            collective,
            algorithm,
            self.rank,
            setup.ranks,
            count,
        )?)
    }

    /// A number for what ranks have to agree on (FNV-1a).
    fn agreed(&self) -> u64 {
        let text = format!("{:?} {:?}", self.setup, self.sizes);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// How long to compute before an iteration.
    fn compute_time(&self, iteration: usize) -> Duration {
        let (setup, ranks) = (&self.setup, self.setup.ranks as u64);
        let jitter_ns = setup.compute_jitter_us * 1000;
        let stream = iteration as u64 * ranks + self.rank as u64;
        let ahead_ns = Dice::new(setup.seed, stream).up_to(2 * jitter_ns);
        let ns = (setup.compute_us * 1000 + ahead_ns).saturating_sub(jitter_ns);
        Duration::from_nanos(ns)
    }

    /// Computes, so to speak.
    fn compute(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        if !self.setup.compute_spins {
            thread::sleep(time);
            return;
        }
        let start = Instant::now();
        while start.elapsed() < time {
            std::hint::spin_loop();
        }
    }
}

impl Rank<'_> {
    fn measure(&mut self, octets: u64, plan: &Plan, hook: Hook<'_>) -> Result<RankSize, Failure> {
        let setup = &self.job.setup;
        let count = octets as usize / ELEMENT_LEN;
        let values = Values::new(setup.collective, plan, self.job.rank, setup.ranks, count);
        let mut buffer = vec![0; plan.buffer * ELEMENT_LEN];
        let mut size = RankSize {
            octets,
            iterations_ns: Vec::new(),
            compute_ns: Vec::new(),
            steps: Times::default(),
        };
        let mut warming = Times::default();
        for turn in 0..setup.warmup + setup.iterations {
            let is_warm = turn >= setup.warmup;
            let steps = if is_warm {
                &mut size.steps
            } else {
                &mut warming
            };
            let iteration = self.iteration;
            let named = |reason: Failure| {
                let turn = turn as i64 - setup.warmup as i64;
                Failure::from(format!("{octets} octets, iteration {turn}: {reason}"))
            };
            values.fill(iteration, &mut buffer);
            self.meet()
                .map_err(|reason| named(format!("{reason}, to begin").into()))?;
            let times = self.iterate(plan, &mut buffer, steps).map_err(named)?;
            hook(iteration, &mut buffer);
            let (wrong, first) = values.check(iteration, &buffer);
            if let (0, Some(first)) = (self.wrong, first) {
                eprintln!(
                    "omni-perf: rank {}, {octets} octets, iteration {}: element {} is {}, not {}",
                    self.job.rank,
                    turn as i64 - setup.warmup as i64,
                    first.index,
                    first.found,
                    first.expected,
                );
            }
            self.wrong += wrong;
            self.iteration += 1;
            if is_warm {
                size.compute_ns.push(nanoseconds(times.0));
                size.iterations_ns.push(nanoseconds(times.1));
            }
        }
        Ok(size)
    }

    /// Computes, and does the collective once; says how long each took.
    fn iterate(
        &mut self,
        plan: &Plan,
        buffer: &mut [u8],
        steps: &mut Times,
    ) -> Result<(Duration, Duration), Failure> {
        let start = Instant::now();
        self.job.compute(self.job.compute_time(self.iteration));
        let computed = Instant::now();
        if let Some((from, to)) = plan.copy.clone() {
            let octets = from.start * ELEMENT_LEN..from.end * ELEMENT_LEN;
            buffer.copy_within(octets, to * ELEMENT_LEN);
        }
        let mut before = computed;
        for (number, step) in plan.steps.iter().enumerate() {
            let done = self.exchange.carry_out(step, buffer);
            done.map_err(|reason| format!("{reason}, in step {number}"))?;
            let now = Instant::now();
            steps.record(nanoseconds(now - before));
            before = now;
        }
        Ok((computed - start, before - computed))
    }

    /// Waits until all ranks do: an element goes to rank 0, and one comes back from there.
    fn meet(&mut self) -> Result<(), Failure> {
        let ranks = self.job.setup.ranks;
        let mut buffer = vec![0; ranks * ELEMENT_LEN];
        let (mut to_root, mut from_root) = (Step::default(), Step::default());
        let receive = |from: usize| Receive {
            from,
            elements: from..from + 1,
            action: Action::Store,
        };
        let send = |to| Send { to, elements: 0..1 };
        if self.job.rank == 0 {
            to_root.receives = (1..ranks).map(receive).collect();
            from_root.sends = (1..ranks).map(send).collect();
        } else {
            to_root.sends = vec![send(0)];
            from_root.receives = vec![receive(0)];
        }
        self.exchange.carry_out(&to_root, &mut buffer)?;
        self.exchange.carry_out(&from_root, &mut buffer)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos() as u64
}
