//! A Nucleus that is killed again and again while it works: what it acknowledged, it must know.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use omni_engine::clock;
use omni_nucleus::protocol::{Refused, from_nucleus};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::acknowledged::{About, Ledger, Said, of_binding, of_registration};
use super::fabric::{Fabric, Member, ip, milliseconds};
use super::line::Call;
use super::nucleus::Nucleus;
use super::speaker::{Speaker, own_address, read_all};
use super::spread::Spread;
use super::{Common, below, judged, until};
use crate::Failure;

/// From the first acknowledgement after a start to the kill, in milliseconds.
const KILLED_AFTER: (usize, usize) = (50, 500);
/// Requests of one node that wait for their answers.
const IN_FLIGHT: usize = 4;
/// Addresses of a node's own, and addresses that all nodes vie for.
const ADDRESSES: (u32, u32) = (16, 32);
/// For the Nucleus to be busy, or for nodes to notice that it is gone.
const WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Kills, each by SIGKILL and 50 to 500 ms after nodes began to be served.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Nodes that bind and withdraw all the time.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    nodes: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    kills: u32,
    nodes: u32,
    /// Requests that were acknowledged, or refused: by why.
    answers: BTreeMap<String, u64>,
    /// Members and addresses of which something was acknowledged.
    known: usize,
    /// From the start of the process until it served.
    ready: Spread,
    /// What was acknowledged and is not there, in words; the first 20.
    losses: Vec<String>,
    /// How much.
    lost: usize,
}

/// What the writers and the one who kills share.
#[derive(Default)]
struct Shared {
    ledger: RefCell<Ledger>,
    answers: RefCell<BTreeMap<String, u64>>,
    /// Acknowledgements since the last start.
    busy: Cell<u64>,
    /// Writers that are connected, or about to be.
    running: Cell<usize>,
    sequence: Cell<u64>,
    go: Notify,
}

impl Shared {
    /// A sequence that is greater than all before.
    fn next_sequence(&self) -> u64 {
        let next = milliseconds().max(self.sequence.get() + 1);
        self.sequence.set(next);
        next
    }
}

/// Runs it and prints the report.
///
/// # Errors
/// When something was lost, or nothing can be measured.
pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let fabric = Fabric::random()?;
    let mut nucleus = Nucleus::new(&arguments.common, &fabric, &[])?;
    let shared = Rc::new(Shared::default());
    let observer = fabric.member(arguments.nodes)?;
    for number in 0..arguments.nodes {
        let member = fabric.member(number)?;
        let call = nucleus.call(&member);
        let writer = Writer {
            number,
            member,
            call,
            shared: Rc::clone(&shared),
        };
        tokio::task::spawn_local(writer.run());
    }
    let (mut ready, mut losses) = (Vec::new(), Vec::new());
    for kill in 0..=arguments.kills {
        let started = clock::instant();
        nucleus.start()?;
        nucleus.ready().await?;
        ready.push(clock::instant().since(started));
        // Nobody writes yet: what is found was there when it was killed.
        let sequence = shared.next_sequence();
        let registration = observer.registration(sequence)?;
        if let Some((about, said)) = of_registration(&registration) {
            shared.ledger.borrow_mut().ask(about, said);
        }
        let found = read_all(&nucleus.call(&observer), &observer, sequence).await?;
        let lost = shared.ledger.borrow().losses(&found);
        losses.extend(lost.iter().map(|loss| format!("kill {kill}: {loss}")));
        shared.ledger.borrow_mut().settle(&found);
        if kill == arguments.kills {
            break;
        }
        shared.busy.set(0);
        shared.running.set(arguments.nodes as usize);
        // Those that wait now; a writer waits before its turn has ended.
        shared.go.notify_waiters();
        until("the Nucleus acknowledges", WITHIN, || shared.busy.get() > 0).await?;
        let (least, most) = KILLED_AFTER;
        let after = least + below(most - least + 1);
        sleep(Duration::from_millis(after as u64)).await;
        nucleus.kill()?;
        // Acknowledgements that it sent before count, so all are read.
        until("all nodes have noticed", WITHIN, || {
            shared.running.get() == 0
        })
        .await?;
    }
    let report = Report {
        kills: arguments.kills,
        nodes: arguments.nodes,
        answers: shared.answers.borrow().clone(),
        known: shared.ledger.borrow().len(),
        ready: Spread::of(ready, 0),
        lost: losses.len(),
        losses: losses.into_iter().take(20).collect(),
    };
    print(&report, arguments.common.json)?;
    let mut missed = Vec::new();
    if report.lost > 0 {
        missed.push(format!("{} acknowledged records were lost", report.lost));
    }
    let strange = ["Invalid", "NotMember", "NotGranted", "Unavailable"];
    for why in strange {
        if let Some(count) = report.answers.get(why) {
            missed.push(format!("{count} sound requests were refused as {why}"));
        }
    }
    judged(&missed)
}

/// What a writer waits for after a refusal.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

/// A node that binds and withdraws.
struct Writer {
    number: u32,
    member: Member,
    call: Call,
    shared: Rc<Shared>,
}

impl Writer {
    async fn run(self) {
        loop {
            self.shared.go.notified().await;
            // It is killed at some time; that is how each of these ends.
            let _ = self.write().await;
            self.shared.running.set(self.shared.running.get() - 1);
        }
    }

    async fn write(&self) -> Result<(), Failure> {
        let mut speaker = Speaker::connect(&self.call).await?;
        let mut waiting: BTreeMap<u64, (About, u64)> = BTreeMap::new();
        let sequence = self.shared.next_sequence();
        let registration = self.member.registration(sequence)?;
        self.ask(of_registration(&registration));
        let number = speaker.register(registration)?;
        waiting.insert(number, (About::Member(self.member.public), sequence));
        let mut is_registered = false;
        let mut under_way: BTreeSet<IpAddr> = BTreeSet::new();
        loop {
            while is_registered && waiting.len() < IN_FLIGHT {
                let ip = self.some_address();
                if !under_way.insert(ip) {
                    break;
                }
                // Only what is known to be ours is withdrawn.
                let withdrawn = self.shared.ledger.borrow().owner(ip) == Some(self.member.public);
                let sequence = self.shared.next_sequence();
                let binding = self.member.binding(ip, sequence, withdrawn)?;
                self.ask(of_binding(&binding));
                let number = speaker.bind(binding)?;
                waiting.insert(number, (About::Address(ip), sequence));
            }
            let from_nucleus::What::Result(result) = speaker.hear().await? else {
                continue;
            };
            let Some((about, sequence)) = waiting.remove(&result.number) else {
                continue;
            };
            let refused = result.refused();
            let name = format!("{refused:?}");
            *self.shared.answers.borrow_mut().entry(name).or_default() += 1;
            if refused == Refused::No {
                self.shared.ledger.borrow_mut().acknowledge(about, sequence);
                self.shared.busy.set(self.shared.busy.get() + 1);
            } else {
                // A refusal takes no write: all would be spent on asking for what others hold.
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            match about {
                About::Address(ip) => _ = under_way.remove(&ip),
                About::Member(_) => is_registered = refused == Refused::No,
            }
            if !is_registered {
                return Err("it is not admitted".into());
            }
        }
    }

    fn some_address(&self) -> IpAddr {
        let (own, common) = ADDRESSES;
        if below(2) == 0 {
            own_address(self.number, below(own as usize) as u32)
        } else {
            ip(below(common as usize) as u32)
        }
    }

    fn ask(&self, asked: Option<(About, Said)>) {
        if let Some((about, said)) = asked {
            self.shared.ledger.borrow_mut().ask(about, said);
        }
    }
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    let Report {
        kills,
        nodes,
        known,
        lost,
        ..
    } = report;
    println!("{kills} kills while {nodes} nodes bind and withdraw");
    println!("  answers        {:?} (No: acknowledged)", report.answers);
    println!("  in the end     {known} members and addresses are known");
    println!("  ready          {} after each start", report.ready);
    println!("  lost           {lost}");
    for loss in &report.losses {
        println!("    {loss}");
    }
    Ok(())
}
