//! Addresses that move from node to node: how long until all others know.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use omni_engine::clock;
use omni_membership::PublicKey;
use omni_nucleus::agent::AgentEvent;
use omni_nucleus::protocol::Refused;
use omni_wire::Instant;
use serde::Serialize;
use tokio::time::{Instant as Clock, sleep, sleep_until};

use super::fabric::{Fabric, ip};
use super::node::{Listener, Node, Swarm, Told};
use super::nucleus::Nucleus;
use super::spread::Spread;
use super::{Common, below, judged, parse_seconds, until};
use crate::Failure;

/// For all to join.
const JOIN_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Nodes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(3..=65_535))]
    nodes: u32,
    /// Moves, of which each is waited for at all nodes but the new owner.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    moves: u32,
    /// Moves a second, however long they take.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Addresses that move. One that is on its way does not move again.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    addresses: u32,
    /// The old owner does not know that the address has gone: it claims it for another 300 ms.
    #[arg(long)]
    silent: bool,
    /// Seconds after which a move that is not known is given up.
    #[arg(long, default_value = "15", value_parser = parse_seconds)]
    patience: Duration,
    /// The target: seconds within which 99 of 100 pairs of a move and a node know.
    #[arg(long, default_value = "1", value_parser = parse_seconds)]
    target: Duration,
}

/// How long a silent owner keeps its claim.
const SILENT_FOR: Duration = Duration::from_millis(300);

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    nodes: u32,
    moves: u32,
    rate: u32,
    silent: bool,
    /// From the move until the Nucleus acknowledged it to the new owner.
    acknowledged: Spread,
    /// From the move until another node knew, for each of them.
    known: Spread,
    /// Answers to the new owners' claims, by why they were refused.
    refused: BTreeMap<String, u64>,
    target_s: f64,
    is_met: bool,
}

/// A move that is on its way.
struct Move {
    at: Instant,
    owner: PublicKey,
    /// Nodes that do not know yet.
    unaware: usize,
    is_acknowledged: bool,
}

/// What the nodes say.
#[derive(Default)]
struct Watched {
    under_way: BTreeMap<IpAddr, Move>,
    known: Vec<Duration>,
    acknowledged: Vec<Duration>,
    refused: BTreeMap<String, u64>,
}

impl Watched {
    fn told(&mut self, keys: &[PublicKey], number: usize, told: &Told<'_>) {
        let now = clock::instant();
        match told {
            Told::Event(AgentEvent::Bound(bound)) => {
                if let Some(ip) = bound.ip
                    && let Some(it) = self.under_way.get_mut(&ip)
                    && it.owner == bound.owner
                {
                    it.unaware -= 1;
                    self.known.push(now.since(it.at));
                    self.tidy(ip);
                }
            }
            Told::Answered { binding, refused } => {
                let Some((ip, it)) = binding
                    .ip
                    .and_then(|ip| Some((ip, self.under_way.get_mut(&ip)?)))
                else {
                    return;
                };
                if binding.withdrawn || keys.get(number) != Some(&it.owner) {
                    return;
                }
                match refused {
                    Refused::No if !it.is_acknowledged => {
                        it.is_acknowledged = true;
                        self.acknowledged.push(now.since(it.at));
                        self.tidy(ip);
                    }
                    Refused::No => {}
                    refused => {
                        *self.refused.entry(format!("{refused:?}")).or_default() += 1;
                    }
                }
            }
            Told::Event(_) => {}
        }
    }

    fn tidy(&mut self, ip: IpAddr) {
        let is_done = |it: &Move| it.unaware == 0 && it.is_acknowledged;
        if self.under_way.get(&ip).is_some_and(is_done) {
            self.under_way.remove(&ip);
        }
    }
}

/// Runs it and prints the report.
///
/// # Errors
/// When the target is missed, or nothing can be measured.
pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let fabric = Fabric::random()?;
    let mut nucleus = Nucleus::new(&arguments.common, &fabric, &[])?;
    nucleus.start()?;
    nucleus.ready().await?;
    let members: Result<Vec<_>, _> = (0..arguments.nodes).map(|n| fabric.member(n)).collect();
    let members = members?;
    let keys: Vec<PublicKey> = members.iter().map(|member| member.public).collect();
    let watched = Rc::new(RefCell::new(Watched::default()));
    let listener: Listener = {
        let watched = Rc::clone(&watched);
        Rc::new(move |number, told| watched.borrow_mut().told(&keys, number, &told))
    };
    let mut owners: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for address in 0..arguments.addresses {
        owners.insert(ip(address), (address % arguments.nodes) as usize);
    }
    let nodes: Result<Vec<_>, Failure> = members
        .into_iter()
        .enumerate()
        .map(|(number, member)| {
            let own = owners.iter().filter(|(_, owner)| **owner == number);
            let own: Vec<IpAddr> = own.map(|(&ip, _)| ip).collect();
            Node::new(number, member, true, own, Rc::clone(&listener))
        })
        .collect();
    let swarm = Swarm::start(&nucleus, nodes?);
    join(&swarm, arguments).await?;
    move_all(arguments, &swarm, &mut owners, &watched).await?;
    let is_over = || watched.borrow().under_way.is_empty();
    // What has not arrived by then is in the figures.
    let _ = until("all moves are known", arguments.patience, is_over).await;
    let report = report(arguments, &watched.borrow());
    print(&report, arguments.common.json)?;
    match report.is_met {
        true => Ok(()),
        false => judged(&[format!("moves are not known within {:?}", arguments.target)]),
    }
}

async fn join(swarm: &Swarm, arguments: &Arguments) -> Result<(), Failure> {
    let joined = until("all nodes have joined", JOIN_WITHIN, || swarm.is_settled()).await;
    joined.map_err(|late| format!("{late}: {}", swarm.complaint()))?;
    let all = arguments.nodes as usize - 1 + arguments.addresses as usize;
    for node in &swarm.nodes {
        let own = node.wanted().len();
        until("all nodes know all others", JOIN_WITHIN, || {
            let (members, addresses) = node.knows();
            members + addresses + own == all
        })
        .await?;
    }
    Ok(())
}

async fn move_all(
    arguments: &Arguments,
    swarm: &Swarm,
    owners: &mut BTreeMap<IpAddr, usize>,
    watched: &RefCell<Watched>,
) -> Result<(), Failure> {
    let begun = Clock::now();
    let between = Duration::from_secs(1) / arguments.rate;
    for number in 0..arguments.moves {
        sleep_until(begun + between * number).await;
        let still: Vec<IpAddr> = {
            let watched = watched.borrow();
            let still = owners
                .keys()
                .filter(|ip| !watched.under_way.contains_key(ip));
            still.copied().collect()
        };
        if still.is_empty() {
            return Err("all addresses are on their way: moves take too long for this rate".into());
        }
        let ip = still[below(still.len())];
        let old = owners.get(&ip).copied().unwrap_or(0);
        let new = (old + 1 + below(swarm.nodes.len() - 1)) % swarm.nodes.len();
        owners.insert(ip, new);
        watched.borrow_mut().under_way.insert(
            ip,
            Move {
                at: clock::instant(),
                owner: swarm.nodes[new].member.public,
                unaware: swarm.nodes.len() - 1,
                is_acknowledged: false,
            },
        );
        let loser = Rc::clone(&swarm.nodes[old]);
        if arguments.silent {
            tokio::task::spawn_local(async move {
                sleep(SILENT_FOR).await;
                loses(&loser, ip);
            });
        } else {
            loses(&loser, ip);
        }
        let winner = &swarm.nodes[new];
        winner.set_bindings(winner.wanted().into_iter().chain([ip]));
    }
    Ok(())
}

fn loses(node: &Node, ip: IpAddr) {
    let mut left = node.wanted();
    left.remove(&ip);
    node.set_bindings(left);
}

fn report(arguments: &Arguments, watched: &Watched) -> Report {
    let moves = arguments.moves as usize;
    let pairs = moves * (arguments.nodes as usize - 1);
    let of = |times: &Vec<Duration>, all: usize| {
        Spread::of(times.iter().copied(), all.saturating_sub(times.len()))
    };
    let known = of(&watched.known, pairs);
    Report {
        nodes: arguments.nodes,
        moves: arguments.moves,
        rate: arguments.rate,
        silent: arguments.silent,
        acknowledged: of(&watched.acknowledged, moves),
        refused: watched.refused.clone(),
        target_s: arguments.target.as_secs_f64(),
        is_met: known.p99_within(arguments.target),
        known,
    }
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    let Report {
        nodes, moves, rate, ..
    } = report;
    println!("{moves} moves between {nodes} nodes, {rate} a second");
    if report.silent {
        println!("  the old owner claims the address for 300 ms after the move");
    }
    println!("  acknowledged to the new owner  {}", report.acknowledged);
    println!("  known to each other node       {}", report.known);
    println!("  claims refused on the way      {:?}", report.refused);
    let verdict = if report.is_met { "met" } else { "missed" };
    println!(
        "  target                         p99 within {} s: {verdict}",
        report.target_s
    );
    Ok(())
}
