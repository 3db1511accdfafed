//! What honest nodes feel of hostile ones.
//!
//! ```text
//!   honest nodes, a newcomer each second   this thread            --+
//!   attackers                              a thread, at nice 19   --+--> Nucleus
//! ```
//!
//! Attackers would have machines of their own: their thread gets what time the others leave.

mod attack;
mod forge;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use omni_engine::clock;
use omni_membership::{Grants, IpPrefix, PublicKey};
use omni_nucleus::protocol::Refused;
use omni_wire::{Instant, MacAddr};
use serde::Serialize;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant as Clock, sleep, sleep_until, timeout};

use self::attack::{Attack, Attacker, Tally};
use super::acknowledged::About;
use super::fabric::{Fabric, Member, ip, milliseconds, source};
use super::node::{Listener, Node, Swarm, Told};
use super::nucleus::Nucleus;
use super::speaker::{Speaker, read_all};
use super::spread::{Spread, milliseconds as shown};
use super::{Common, judged, parse_seconds, until};
use crate::Failure;

/// For all to join.
const JOIN_WITHIN: Duration = Duration::from_secs(60);
/// After a phase: for what is late, and for the Nucleus to be done with it.
const REST: Duration = Duration::from_secs(3);
/// Between two newcomers. Any shorter, and the Nucleus refuses to register the same one so often.
const NEWCOMERS: Duration = Duration::from_secs(1);
/// A newcomer that did not join within this time never did.
const NEWCOMER_WITHIN: Duration = Duration::from_secs(5);
/// Addresses that a member may hold, by default.
const HELD_MAX: usize = 1024;
/// Members above this number are no honest nodes.
const ATTACKERS: u32 = 10_000;
/// Above this one they are not of the fabric.
const STRANGERS: u32 = 20_000;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Honest nodes.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    nodes: u32,
    /// Attackers at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    attackers: u32,
    /// Addresses that honest nodes bind or withdraw, together, in a second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Seconds of each attack, and of the time without one.
    #[arg(long, default_value = "10", value_parser = parse_seconds)]
    seconds: Duration,
    /// Which attacks, separated by commas. All by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    attacks: Vec<Attack>,
    /// The target: within so many milliseconds 99 of 100 changes of honest nodes are acknowledged
    /// under attack, or within `--ratio` times what it takes without one. Within 1 s an address has
    /// to be known to all nodes after a move.
    #[arg(long, default_value_t = 250.0)]
    good_ms: f64,
    /// See `--good-ms`.
    #[arg(long, default_value_t = 2.0)]
    ratio: f64,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    nodes: u32,
    attackers: u32,
    rate: u32,
    seconds: f64,
    phases: Vec<Phase>,
    /// Addresses of honest nodes that are somebody else's at the end, and members that hold too
    /// many.
    stolen: Vec<String>,
    missed: Vec<String>,
}

/// One attack.
#[derive(Debug, Serialize)]
struct Phase {
    /// `None`: without one.
    attack: Option<Attack>,
    /// From a change of an honest node until it was acknowledged.
    honest: Spread,
    /// From the call of a node until it was registered.
    newcomers: Spread,
    attackers: Tally,
    /// Refusals of honest nodes.
    honest_refused: BTreeMap<String, u64>,
    /// The Nucleus's resident memory at its end, in octets.
    resident: Option<u64>,
}

/// What the honest nodes say.
#[derive(Default)]
struct Watched {
    waiting: BTreeMap<IpAddr, Instant>,
    times: Vec<Duration>,
    refused: BTreeMap<String, u64>,
}

impl Watched {
    fn told(&mut self, told: &Told<'_>) {
        let Told::Answered { binding, refused } = told else {
            return;
        };
        let waiting = binding.ip.and_then(|ip| self.waiting.remove(&ip));
        match (refused, waiting) {
            (Refused::No, Some(since)) => self.times.push(clock::instant().since(since)),
            (Refused::No, None) => {}
            (refused, _) => *self.refused.entry(format!("{refused:?}")).or_default() += 1,
        }
    }
}

/// Runs it and prints the report.
///
/// # Errors
/// When a target is missed, or nothing can be measured.
pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let fabric = Fabric::random()?;
    let mut nucleus = Nucleus::new(&arguments.common, &fabric, &[])?;
    nucleus.start()?;
    nucleus.ready().await?;
    let watched = Rc::new(RefCell::new(Watched::default()));
    let listener: Listener = {
        let watched = Rc::clone(&watched);
        Rc::new(move |_, told| watched.borrow_mut().told(&told))
    };
    let nodes: Result<Vec<_>, Failure> = (0..arguments.nodes)
        .map(|number| {
            let member = fabric.member(number)?;
            Node::new(
                number as usize,
                member,
                false,
                own(number),
                Rc::clone(&listener),
            )
        })
        .collect();
    let swarm = Swarm::start(&nucleus, nodes?);
    let joined = until("all nodes have joined", JOIN_WITHIN, || swarm.is_settled()).await;
    joined.map_err(|late| format!("{late}: {}", swarm.complaint()))?;
    let mut attacks = vec![None];
    match arguments.attacks.as_slice() {
        [] => {
            let all = <Attack as clap::ValueEnum>::value_variants();
            attacks.extend(all.iter().copied().map(Some));
        }
        some => attacks.extend(some.iter().copied().map(Some)),
    }
    let mut phases = Vec::new();
    for attack in attacks {
        let stage = Stage {
            arguments,
            fabric: &fabric,
            nucleus: &nucleus,
            swarm: &swarm,
            watched: &watched,
        };
        phases.push(stage.phase(attack).await?);
    }
    let stolen = stolen(&fabric, &nucleus, arguments.nodes).await?;
    let missed = missed(arguments, &phases, &stolen);
    let report = Report {
        nodes: arguments.nodes,
        attackers: arguments.attackers,
        rate: arguments.rate,
        seconds: arguments.seconds.as_secs_f64(),
        phases,
        stolen,
        missed,
    };
    print(&report, arguments.common.json)?;
    judged(&report.missed)
}

/// The addresses that an honest node keeps all the time.
fn own(number: u32) -> [IpAddr; 2] {
    [ip(number * 4 + 1), ip(number * 4 + 2)]
}

/// The address that it binds and withdraws.
fn varying(number: u32) -> IpAddr {
    ip(number * 4 + 3)
}

/// What a phase needs.
struct Stage<'a> {
    arguments: &'a Arguments,
    fabric: &'a Fabric,
    nucleus: &'a Nucleus,
    swarm: &'a Swarm,
    watched: &'a RefCell<Watched>,
}

impl Stage<'_> {
    /// Measures honest nodes under one attack.
    async fn phase(&self, attack: Option<Attack>) -> Result<Phase, Failure> {
        self.watched.take();
        let tally = Arc::new(Mutex::new(Tally::default()));
        let force = match attack {
            None => None,
            Some(attack) => Some(Force::gather(attack, self, &tally)?),
        };
        let newcomers = tokio::task::spawn_local({
            let member = self.fabric.member(ATTACKERS - 1)?;
            let call = self.nucleus.call(&member);
            let count = (self.arguments.seconds.as_secs_f64() / NEWCOMERS.as_secs_f64()) as u32;
            async move {
                let begun = Clock::now();
                let mut times = Vec::new();
                for number in 0..count.max(1) {
                    sleep_until(begun + NEWCOMERS * number).await;
                    let joining = async {
                        let mut speaker = Speaker::connect(&call).await?;
                        speaker.join(&member, milliseconds()).await
                    };
                    let since = Clock::now();
                    let joined = timeout(NEWCOMER_WITHIN, joining).await;
                    times.push(matches!(joined, Ok(Ok(()))).then(|| since.elapsed()));
                }
                times
            }
        });
        self.vary().await;
        if let Some(force) = force {
            force.stop().await?;
        }
        let newcomers = newcomers.await?;
        sleep(REST).await;
        let resident = self.nucleus.resident();
        let watched = self.watched.take();
        let tally = tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Phase {
            attack,
            honest: Spread::of(watched.times, watched.waiting.len()),
            newcomers: Spread::of(
                newcomers.iter().flatten().copied(),
                newcomers.iter().filter(|time| time.is_none()).count(),
            ),
            attackers: tally,
            honest_refused: watched.refused,
            resident,
        })
    }

    /// Honest nodes bind and withdraw, one after the other.
    async fn vary(&self) {
        let begun = Clock::now();
        let between = Duration::from_secs(1) / self.arguments.rate;
        let mut nodes = (0..self.arguments.nodes).zip(&self.swarm.nodes).cycle();
        for turn in 0.. {
            let at = between * turn;
            let Some((number, node)) = nodes.next() else {
                return;
            };
            if at >= self.arguments.seconds {
                return;
            }
            sleep_until(begun + at).await;
            let address = varying(number);
            // One that waits for its answer is late enough.
            if self.watched.borrow().waiting.contains_key(&address) {
                continue;
            }
            let mut wanted = node.wanted();
            if !wanted.remove(&address) {
                wanted.insert(address);
            }
            let now = clock::instant();
            self.watched.borrow_mut().waiting.insert(address, now);
            node.set_bindings(wanted);
        }
    }
}

/// Attackers at work, in a thread.
struct Force {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), Failure>>>,
}

impl Force {
    fn gather(
        attack: Attack,
        stage: &Stage<'_>,
        tally: &Arc<Mutex<Tally>>,
    ) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let victims: Vec<IpAddr> = (0..stage.arguments.nodes).flat_map(own).collect();
        let victims = Arc::new(victims);
        let attackers: Result<Vec<_>, Failure> = (0..stage.arguments.attackers)
            .map(|number| {
                let member = member(attack, stage.fabric, number)?;
                Ok(Attacker {
                    attack,
                    number,
                    call: stage.nucleus.call(&member),
                    member,
                    victims: Arc::clone(&victims),
                    tally: Arc::clone(tally),
                    stop: Arc::clone(&stop),
                    has_joined: Cell::new(false),
                })
            })
            .collect();
        let attackers = attackers?;
        let thread = std::thread::Builder::new().name("attackers".into());
        let thread = thread.spawn(move || at_work(attackers))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    async fn stop(mut self) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let ended = tokio::task::spawn_blocking(move || thread.join()).await?;
        ended.map_err(|_| "the attackers' thread panicked")?
    }
}

impl Drop for Force {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn at_work(attackers: Vec<Attacker>) -> Result<(), Failure> {
    // The kernel takes a thread for the process here. Without it attackers take more than a share.
    let _ = rustix::process::setpriority_process(None, 19);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async {
        let mut working = JoinSet::new();
        for attacker in attackers {
            working.spawn_local(async move { attacker.run().await });
        }
        while let Some(ended) = working.join_next().await {
            ended??;
        }
        Ok(())
    }))
}

/// Who attacks.
fn member(attack: Attack, fabric: &Fabric, number: u32) -> Result<Member, Failure> {
    Ok(match attack {
        Attack::Strangers | Attack::Stalled => {
            let mut stranger = Fabric::random()?.member(STRANGERS + number)?;
            stranger.source = source(STRANGERS + number);
            stranger
        }
        Attack::Large => fabric.member_with(ATTACKERS + 1000 + number, largest())?,
        _ => fabric.member(ATTACKERS + number)?,
    })
}

/// Grants that fill a certificate.
fn largest() -> Grants {
    let macs = (0..1000_u16).map(|number| {
        let [high, low] = number.to_be_bytes();
        MacAddr([2, 1, 1, 1, high, low])
    });
    let prefixes = (0..1000).filter_map(|number| IpPrefix::new(ip(number), 32));
    Grants {
        vlans: None,
        macs: Some(macs.collect()),
        addresses: Some(prefixes.take(700).collect()),
    }
}

/// Addresses that honest nodes keep all the time and that are not theirs now, and members that hold
/// more than they may.
async fn stolen(fabric: &Fabric, nucleus: &Nucleus, nodes: u32) -> Result<Vec<String>, Failure> {
    let observer = fabric.member(ATTACKERS - 2)?;
    let found = read_all(&nucleus.call(&observer), &observer, milliseconds()).await?;
    let mut stolen = Vec::new();
    for number in 0..nodes {
        let owner = fabric.member(number)?.public;
        for ip in own(number) {
            let said = found.get(&About::Address(ip));
            if said.is_none_or(|said| said.owner != owner || said.withdrawn) {
                stolen.push(format!("{ip}: {said:?}"));
            }
        }
    }
    let mut held: BTreeMap<PublicKey, usize> = BTreeMap::new();
    for (about, said) in &found {
        if matches!(about, About::Address(_)) && !said.withdrawn {
            *held.entry(said.owner).or_default() += 1;
        }
    }
    let too_many = held.iter().filter(|(_, count)| **count > HELD_MAX);
    stolen.extend(too_many.map(|(owner, count)| format!("{owner} holds {count}")));
    Ok(stolen)
}

fn missed(arguments: &Arguments, phases: &[Phase], stolen: &[String]) -> Vec<String> {
    let alone = phases.first().and_then(|phase| phase.honest.p99_ms);
    let mut missed = Vec::new();
    if !stolen.is_empty() {
        missed.push(format!("taken: {}", stolen.join(", ")));
    }
    for phase in phases {
        let name = name(phase.attack);
        let good = alone.map(|alone| (alone * arguments.ratio).max(arguments.good_ms));
        let is_good = match (phase.honest.p99_ms, good) {
            (Some(p99), Some(good)) => p99 <= good,
            _ => false,
        };
        if !is_good {
            missed.push(format!("{name}: honest nodes wait too long"));
        }
        if !phase.honest_refused.is_empty() {
            missed.push(format!("{name}: honest nodes are refused"));
        }
        let Tally {
            answers,
            unanswered,
            ..
        } = &phase.attackers;
        if *unanswered > 0 {
            missed.push(format!("{name}: {unanswered} requests were not answered"));
        }
        let accepted = answers.get("No").copied().unwrap_or(0);
        if phase.attack.is_some_and(Attack::is_refused) && accepted > 0 {
            missed.push(format!("{name}: {accepted} requests were not refused"));
        }
    }
    missed
}

fn name(attack: Option<Attack>) -> String {
    attack.map_or_else(|| "none".to_owned(), |it| format!("{it:?}").to_lowercase())
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    let Report {
        nodes,
        attackers,
        rate,
        seconds,
        ..
    } = report;
    println!(
        "{nodes} honest nodes, {rate} changes of addresses a second; {attackers} attackers, each \
         attack for {seconds} s\n"
    );
    println!(
        "| attack | honest p50 | honest p99 | times alone | newcomer p50, max | sent | answers \
         | opened, closed | MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let alone = report.phases.first().and_then(|phase| phase.honest.p99_ms);
    for phase in &report.phases {
        let Phase {
            honest,
            newcomers,
            attackers,
            ..
        } = phase;
        let ratio = honest.p99_ms.zip(alone);
        let ratio = ratio.map_or_else(|| "-".to_owned(), |(p99, it)| format!("{:.1}", p99 / it));
        let answers = attackers.answers.iter();
        let answers: Vec<_> = answers
            .map(|(why, count)| format!("{why} {count}"))
            .collect();
        println!(
            "| {} | {} | {} | {ratio} | {}, {} | {} | {} | {}, {} | {:.1} |",
            name(phase.attack),
            shown(honest.p50_ms),
            shown(honest.p99_ms),
            shown(newcomers.p50_ms),
            shown(newcomers.max_ms),
            attackers.sent,
            answers.join(", "),
            attackers.opened,
            attackers.closed,
            phase.resident.unwrap_or(0) as f64 / f64::from(1 << 20),
        );
    }
    println!(
        "\naddresses that changed hands, or beyond the limit: {}",
        report.stolen.len()
    );
    Ok(())
}
