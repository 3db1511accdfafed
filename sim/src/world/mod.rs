//! A whole fabric in virtual time.
//!
//! Everything that happens is an event in one queue. Handling one puts others in; nothing happens
//! between two. After each step of a host the model has its say, and the first broken rule ends
//! the run.

mod capture;
mod settle;
mod stations;
mod steps;

use std::time::Duration;

use omni_control::Timers;
use omni_wire::{DropReason, Instant, MacAddr, Now, WallTime};

use crate::control::Identity;
use crate::frame::{self, Magic};
use crate::host::{Host, Link, MAX_FRAME, PORT, State, address, engine_mac, peer_of};
use crate::model::{Checked, HOSTS_MAX, Hosts, Model};
use crate::network::{Envelope, Network, Weather};
use crate::queue::{Event, Queue};
use crate::random::Rng;
use crate::report::{Report, Summary, Violation};
use crate::scenario::Scenario;
use crate::trace::{Step, Trace};
pub use capture::Capture;
pub(crate) use stations::Saying;
use stations::{Rumours, Station};

/// Monotonic time at the start.
const START: Instant = Instant(1_000_000_000_000_000);
/// The wall clock at the start: in the year 2027.
const START_WALL: WallTime = WallTime(1_800_000_000_000_000_000);
/// How long the fabric may take, once nothing is in its way, until everybody reaches everybody.
pub(crate) const HEALED_WITHIN: Duration = Duration::from_secs(10);
/// In one of so many seeds, what restarted hosts have forgotten is waited for as well: for minutes.
const AGED_EVERY: u64 = 10;
/// Numbers of addresses that hosts are not configured with begin here.
const ROAMING: usize = 1000;

/// What the streams of a seed are for.
enum Stream {
    Plan,
    Network,
    Turns,
    Scenario,
    /// One for each life of each host.
    Ganglion,
}

/// What a fabric is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Decides everything that is not said here.
    pub seed: u64,
    /// How many hosts, 2..=128.
    pub nodes: usize,
    /// Workers of each host; `None` = from 1 to 3, another number for each.
    pub workers: Option<u16>,
    /// Outer headers; `None` = either.
    pub link: Option<Link>,
    /// The Ganglion's timers.
    pub timers: Timers,
    /// What the network does at first.
    pub weather: Weather,
    /// The command that runs it again.
    pub again: String,
}

impl Setup {
    /// A fabric of production's timers in clear weather.
    #[must_use]
    pub fn new(seed: u64, nodes: usize, again: impl Into<String>) -> Self {
        Self {
            seed,
            nodes,
            workers: None,
            link: None,
            timers: Timers::default(),
            weather: Weather::clear(),
            again: again.into(),
        }
    }
}

/// What happened so far, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Frames that stations sent.
    pub frames: u64,
    /// Frames that came out behind hosts.
    pub delivered: u64,
    /// Sessions, counted on each side.
    pub sessions: u64,
    /// Messages sealed, keepalives and control records included.
    pub sealed: u64,
    /// Messages sealed that carry control records.
    pub records: u64,
    /// Questions of stations that engines answered.
    pub answered: u64,
    /// Frames in messages that the network lost.
    pub lost: u64,
}

/// A fabric.
pub struct World {
    pub(crate) setup: Setup,
    pub(crate) link: Link,
    pub(crate) truth: Now,
    pub(crate) queue: Queue,
    pub(crate) hosts: Vec<Host>,
    pub(crate) stations: Vec<Station>,
    pub(crate) network: Network,
    pub(crate) model: Model,
    pub(crate) trace: Trace,
    pub(crate) scenario: Scenario,
    rumours: Rumours,
    /// Whether nothing was ever done to the fabric, so that everybody has heard everything.
    pub(crate) faultless: bool,
    /// Messages that were recorded.
    tape: Vec<Envelope>,
    magic: Magic,
    /// Decides when threads get their turns, and which worker a message reaches.
    turns: Rng,
    next_address: usize,
    healed_in: Duration,
    settled_in: Duration,
    lost_contact: u64,
}

fn stream(setup: &Setup, stream: Stream, more: u64) -> Rng {
    Rng::new(setup.seed, (stream as u64) << 32 | more)
}

impl World {
    /// Hosts that all know each other, and have just been started. Behind each is one station
    /// that stays, and one that may move.
    ///
    /// # Panics
    /// When there are fewer than 2 hosts or more than 128.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        assert!((2..=HOSTS_MAX).contains(&setup.nodes), "2 to 128 hosts");
        let mut plan = stream(&setup, Stream::Plan, 0);
        let link = setup.link.unwrap_or(plan.pick(&[Link::V4, Link::V6]));
        let truth = Now {
            instant: START,
            wall: START_WALL,
        };
        let hosts: Vec<Host> = (0..setup.nodes)
            .map(|index| {
                let lanes = setup.workers.unwrap_or(plan.pick(&[1, 2, 3]));
                let mut private_key = [0; 32];
                omni_control::Random::fill(&mut plan, &mut private_key);
                let identity = Identity {
                    private_key,
                    lanes,
                    max_frame: MAX_FRAME as u16,
                    timers: setup.timers,
                    engine_mac: engine_mac(index),
                };
                let rng = stream(&setup, Stream::Ganglion, (index as u64) << 16);
                Host::new(index, identity, link, rng, truth)
            })
            .collect();
        let lanes: Vec<u16> = hosts.iter().map(|host| host.identity.lanes).collect();
        let station = |number| Station::new(number, number % setup.nodes, START);
        let magic = plan.next().to_be_bytes();
        let mut world = Self {
            link,
            truth,
            queue: Queue::default(),
            stations: (0..2 * setup.nodes).map(station).collect(),
            network: Network::new(setup.weather, stream(&setup, Stream::Network, 0)),
            model: Model::new(magic, &lanes),
            trace: Trace::new(setup.seed),
            scenario: Scenario::new(stream(&setup, Stream::Scenario, 0)),
            rumours: Rumours::default(),
            faultless: setup.weather == Weather::clear(),
            tape: Vec::new(),
            magic,
            turns: stream(&setup, Stream::Turns, 0),
            next_address: ROAMING,
            healed_in: Duration::ZERO,
            settled_in: Duration::ZERO,
            lost_contact: 0,
            hosts,
            setup,
        };
        for host in 0..world.hosts.len() {
            world.after(Duration::ZERO, Event::Begin { host });
        }
        for Station { mac, host, .. } in &world.stations {
            world.model.may_be(*mac, *host);
        }
        world
    }

    /// How long the world has existed.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.truth.instant.since(START)
    }

    /// Digest of every step and every octet on the wire so far.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.trace.digest()
    }

    /// What happened so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let counts = self.model.books.counts;
        Totals {
            frames: self.model.books.len(),
            delivered: counts.delivered,
            sessions: counts.sessions,
            sealed: counts.sealed,
            records: counts.records,
            answered: counts.answered,
            lost: counts.lost,
        }
    }

    /// Frames dropped under a name, on all hosts since each was last started.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.hosts.iter().map(|host| host.drops(reason)).sum()
    }

    /// To how many hosts the frames from number `first` on were to go, all together.
    #[must_use]
    pub fn wanted_since(&self, first: u64) -> u64 {
        self.model.books.wanted_since(first)
    }

    /// Changes what the network does.
    pub fn set_weather(&mut self, weather: Weather) {
        self.trace.note(self.truth.instant, Step::Changed(weather));
        self.network.weather = weather;
        self.faultless &= weather == Weather::clear();
    }

    /// Lets time pass, with everything that happens in it.
    ///
    /// # Errors
    /// When a rule is broken.
    pub fn advance(&mut self, span: Duration) -> Checked {
        let end = self.truth.instant + span;
        while let Some((at, event)) = self.queue.pop_until(end) {
            self.truth = self.truth.advanced(at.since(self.truth.instant));
            self.handle(event)?;
        }
        self.truth = self.truth.advanced(end.since(self.truth.instant));
        Ok(())
    }

    /// A station sends a frame, to another one or to all. Says its number, or `None` when its
    /// host had no room for it, or does not run.
    pub fn send(
        &mut self,
        station: usize,
        to: Option<usize>,
        vlan: Option<u16>,
        filler: usize,
    ) -> Option<u64> {
        let host = self.stations[station].host;
        let worker = self.turns.below(self.hosts[host].workers.len());
        let number = self.enter_at(worker, station, to, vlan, filler)?;
        self.wake_worker(host, worker);
        Some(number)
    }

    /// Puts a frame of some station behind a host into a worker's ring, and wakes the worker.
    fn put_frame(
        &mut self,
        host: usize,
        worker: usize,
        octets: Vec<u8>,
        home: Option<usize>,
        vlan: Option<u16>,
    ) -> Option<u64> {
        let number = self.enter_octets(worker, host, octets, home, vlan)?;
        self.wake_worker(host, worker);
        Some(number)
    }

    /// The same, into a worker that will have its turn from somebody else.
    fn enter_at(
        &mut self,
        worker: usize,
        station: usize,
        to: Option<usize>,
        vlan: Option<u16>,
        filler: usize,
    ) -> Option<u64> {
        let from = &self.stations[station];
        let from_host = from.host;
        let destination = to.map_or(MacAddr::BROADCAST, |to| self.stations[to].mac);
        let number = self.model.books.len();
        let octets = frame::build(&self.magic, number, destination, from.mac, vlan, filler);
        let home = to.map(|to| self.stations[to].host);
        self.enter_octets(worker, from_host, octets, home, vlan)
    }

    /// Puts the next frame into a worker's ring. `home` is the host behind which its destination
    /// is.
    fn enter_octets(
        &mut self,
        worker: usize,
        host: usize,
        octets: Vec<u8>,
        home: Option<usize>,
        vlan: Option<u16>,
    ) -> Option<u64> {
        let number = self.model.books.len();
        let now = self.truth.instant;
        if !self.is_up(host) || !self.hosts[host].enter(worker, &octets, now) {
            return None;
        }
        self.model.books.enter(octets, host, home);
        let step = Step::Frame {
            number,
            host,
            worker,
            to: home,
            vlan,
        };
        self.note(step);
        Some(number)
    }

    /// Gives a host an address that nobody has had, and lets it notice after a while.
    pub fn move_host(&mut self, host: usize, notices_after: Duration) {
        let to = self.new_address(PORT);
        self.roam(host, to, notices_after);
    }

    /// Behind which hosts a frame came out.
    #[must_use]
    pub fn receivers(&self, number: u64) -> Vec<usize> {
        let delivered = self.model.books.delivered(number);
        let hosts = 0..self.hosts.len();
        hosts.filter(|host| delivered >> host & 1 != 0).collect()
    }

    /// Makes two hosts renew their session at the same moment, each as initiator.
    ///
    /// # Errors
    /// When a rule is broken.
    pub fn renew_both(&mut self, one: usize, other: usize) -> Checked {
        for (host, peer) in [(one, other), (other, one)] {
            let now = self.hosts[host].now(self.truth);
            self.hosts[host].control.renew(now, peer_of(host, peer));
            self.carry_out(host)?;
        }
        Ok(())
    }

    /// Lets the station that stays behind each host call out to all, by every worker of its host,
    /// until everybody was heard by everybody. Says how long it took.
    ///
    /// By every worker, as only what is sent on lane 0 tells the others where a host is now.
    ///
    /// # Errors
    /// When a rule is broken, or that takes longer than `within`.
    pub fn meet(&mut self, within: Duration) -> Checked<Duration> {
        let nodes = self.hosts.len();
        let all = Hosts::MAX >> (HOSTS_MAX - nodes);
        let start = self.truth.instant;
        let mut calls: Vec<Vec<u64>> = vec![Vec::new(); nodes];
        let mut heard: Vec<Hosts> = (0..nodes).map(|host| 1 << host).collect();
        loop {
            for (host, calls) in calls.iter_mut().enumerate() {
                for worker in 0..self.hosts[host].workers.len() {
                    calls.extend(self.enter_at(worker, host, None, None, 0));
                    self.wake_worker(host, worker);
                }
            }
            for _ in 0..4 {
                self.advance(Duration::from_millis(250))?;
                for (heard, calls) in heard.iter_mut().zip(&calls) {
                    let books = &self.model.books;
                    *heard |= calls.iter().fold(0, |by, &call| by | books.delivered(call));
                }
                if heard.iter().all(|heard| *heard == all) {
                    return Ok(self.truth.instant.since(start));
                }
            }
            if self.truth.instant.since(start) >= within {
                return Violation::because(self.silence(&heard, within));
            }
        }
    }

    /// Everybody sends a frame to everybody, and every one must arrive.
    ///
    /// # Errors
    /// When a rule is broken.
    pub fn everybody_talks(&mut self) -> Checked {
        let first = self.model.books.len();
        let nodes = self.hosts.len();
        for from in 0..nodes {
            for to in (0..nodes).filter(|&to| to != from) {
                if self.send(from, Some(to), None, 20).is_none() {
                    return Violation::because(format!("host {from} takes no frame"));
                }
            }
            self.advance(Duration::from_millis(10))?;
        }
        self.advance(Duration::from_secs(1))?;
        self.all_arrived(first)
    }

    /// Whether every frame from number `first` on arrived everywhere it was to arrive.
    ///
    /// # Errors
    /// When one did not.
    pub fn all_arrived(&self, first: u64) -> Checked {
        self.model.books.all_arrived(first)
    }

    /// Whether the workers of every host agree with each other, and with its switch.
    ///
    /// # Errors
    /// When they do not.
    pub fn all_agree(&self) -> Checked {
        let mut hosts = self.hosts.iter();
        hosts.try_for_each(|host| self.model.agrees(host.index, &host.workers, &host.control))
    }

    /// The same, once orders and reports that are on their way have arrived.
    ///
    /// # Errors
    /// When they do not, or another rule is broken.
    pub fn come_to_agree(&mut self) -> Checked {
        if self.all_agree().is_ok() {
            return Ok(());
        }
        self.advance(Duration::from_millis(100))?;
        self.all_agree()
    }

    /// The scenario: so long, things are done to the fabric. Then all of that ends, everybody has
    /// to reach everybody soon, and nothing may be lost any more.
    ///
    /// # Errors
    /// When a rule is broken.
    pub fn live_through(&mut self, span: Duration) -> Checked {
        self.queue.push(self.truth.instant, Event::Act);
        self.scenario.until = self.truth.instant + span;
        self.advance(span)?;
        self.end_faults()?;
        self.healed_in = self.meet(HEALED_WITHIN)?;
        // What was learned from the calls spreads to all workers.
        self.advance(Duration::from_secs(1))?;
        self.settled_in = self.settle(self.setup.seed.is_multiple_of(AGED_EVERY))?;
        self.advance(Duration::from_secs(1))?;
        self.everybody_talks()?;
        self.everybody_asks()?;
        self.come_to_agree()
    }

    /// What there is to say of a run that kept every rule.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let totals = self.totals();
        Summary {
            seed: self.setup.seed,
            digest: self.digest(),
            steps: self.trace.steps(),
            frames: totals.frames,
            sealed: totals.sealed,
            sessions: totals.sessions,
            delivered: totals.delivered,
            records: totals.records,
            answered: totals.answered,
            moves: self
                .hosts
                .iter()
                .map(|host| host.control.counters().moves)
                .sum(),
            healed_in: self.healed_in,
            settled_in: self.settled_in,
            lost_contact: self.lost_contact,
        }
    }

    /// What there is to say of a run that broke a rule.
    #[must_use]
    pub fn report(&self, violation: Violation) -> Report {
        Report {
            seed: self.setup.seed,
            violation,
            step: self.trace.steps(),
            elapsed: self.elapsed(),
            tail: self.trace.tail(),
            again: self.setup.again.clone(),
        }
    }

    /// An address that nobody has had.
    pub(crate) fn new_address(&mut self, port: u16) -> std::net::SocketAddr {
        self.next_address += 1;
        address(self.link, self.next_address, port)
    }

    /// Ends everything that was done to the fabric: what is left is for the fabric to mend.
    fn end_faults(&mut self) -> Checked {
        self.trace.note(self.truth.instant, Step::FaultsEnd);
        self.network.heal_all();
        self.set_weather(Weather::clear());
        for host in 0..self.hosts.len() {
            self.hosts[host].clock_error = 0;
            // First, so that whoever begins does not do so elsewhere, and is answered there.
            let home = self.hosts[host].home;
            if self.hosts[host].address != home {
                self.roam(host, home, Duration::ZERO);
            }
            match self.hosts[host].state {
                State::Running => {}
                State::Stopped(since) => self.resume(host, since)?,
                State::Down => self.boot(host)?,
            }
        }
        // What is under way was sent in other times.
        self.advance(Duration::from_secs(1))?;
        self.find_the_lost()
    }

    /// Two hosts that both moved before either heard of it know each other no more, and nothing
    /// in the protocol of this version finds them again: the operator restarts one.
    fn find_the_lost(&mut self) -> Checked {
        let mut fresh: Hosts = 0;
        while let Some((one, other)) = self.lost_pair() {
            self.lost_contact += 1;
            let is_fresh = |host: usize| fresh >> host & 1 != 0;
            let remedy = if is_fresh(one) { other } else { one };
            fresh |= 1 << remedy;
            self.restart(remedy, Duration::ZERO);
            self.boot(remedy)?;
        }
        Ok(())
    }

    /// Two hosts of which neither can call the other.
    fn lost_pair(&self) -> Option<(usize, usize)> {
        let can_call = |host: usize, other: usize| {
            let endpoint = self.hosts[host].control.endpoint(peer_of(host, other));
            endpoint == Some(self.hosts[other].address)
        };
        let nodes = self.hosts.len();
        let mut pairs = (0..nodes).flat_map(|one| (0..one).map(move |other| (one, other)));
        pairs.find(|&(one, other)| !can_call(one, other) && !can_call(other, one))
    }

    /// Who was not heard by whom, and what the first two of them know of each other.
    fn silence(&self, heard: &[Hosts], within: Duration) -> String {
        let nodes = self.hosts.len();
        let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        let missing: Vec<_> = pairs
            .filter(|&(from, to)| heard[from] >> to & 1 == 0)
            .collect();
        let Some(&(from, to)) = missing.first() else {
            return String::new();
        };
        format!(
            "{within:?} after the last fault, these still do not reach those: {missing:?}; {}; {}",
            self.describe(from, to),
            self.describe(to, from),
        )
    }

    /// What one host knows of another.
    fn describe(&self, host: usize, other: usize) -> String {
        let at = &self.hosts[host];
        let peer = peer_of(host, other);
        let dropped = at.workers.iter().map(|worker| {
            let dropped = worker.datapath.drops().iter();
            dropped.filter(|(_, count)| *count > 0).collect::<Vec<_>>()
        });
        format!(
            "host {host} (life {}) is at {}, believes to be at {}, host {other} at {:?}, and its \
             station at {:?}: {}; workers dropped {:?}",
            at.life,
            at.address,
            at.known_address,
            at.control.endpoint(peer),
            self.believed_place(host, other, 0),
            at.control.describe(peer),
            dropped.collect::<Vec<_>>(),
        )
    }
}
