//! A Nucleus that is killed and started at once: how long until all nodes are back.

use std::rc::Rc;
use std::time::Duration;

use omni_engine::clock;
use omni_wire::Instant;
use serde::Serialize;
use tokio::time::sleep;

use super::fabric::{Fabric, ip};
use super::node::{Node, Swarm};
use super::nucleus::Nucleus;
use super::spread::Spread;
use super::{Common, judged, parse_seconds, until};
use crate::Failure;

/// The longest that nodes are waited for after the start, beside the target: those that take longer
/// are to be seen, not only counted.
const LATE: Duration = Duration::from_secs(30);
/// What is known to all is looked at so often: it takes a while.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Nodes, each with an address of its own in 127.0.0.0/8.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    nodes: u32,
    /// Addresses of each node.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=100))]
    bindings: u32,
    /// How many of the nodes take in, and verify, what they are told of all others. One core would
    /// need minutes to do that for a thousand.
    #[arg(long, default_value_t = 20)]
    aware: u32,
    /// Nodes register, and no more: no addresses, and nobody takes in what it is told.
    #[arg(long, conflicts_with_all = ["bindings", "aware"])]
    light: bool,
    /// Seconds for all to join and learn of each other, from cold.
    #[arg(long, default_value = "600", value_parser = parse_seconds)]
    join_within: Duration,
    /// Seconds between that and the kill. Below 30, nodes still wait as after a failure when they
    /// call again.
    #[arg(long, default_value = "31", value_parser = parse_seconds)]
    settle: Duration,
    /// The target: seconds from the start of the process until every node has everything
    /// acknowledged again.
    #[arg(long, default_value = "10", value_parser = parse_seconds)]
    target: Duration,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    nodes: u32,
    bindings: u32,
    aware: u32,
    /// From cold: until each node had its registration and addresses acknowledged.
    join: Spread,
    /// From cold: until every aware node knew all others and their addresses, in seconds.
    all_known_s: Option<f64>,
    /// From the start of the process: until it served, in milliseconds.
    ready_ms: f64,
    /// From the start of the process: until each node had everything acknowledged again.
    restart: Spread,
    /// The Nucleus's resident memory before it was killed, in octets.
    resident: Option<u64>,
    target_s: f64,
    is_met: bool,
}

/// Runs it and prints the report.
///
/// # Errors
/// When the target is missed, or nothing can be measured.
pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (bindings, aware) = match arguments.light {
        true => (0, 0),
        false => (arguments.bindings, arguments.aware.min(arguments.nodes)),
    };
    let fabric = Fabric::random()?;
    let mut nucleus = Nucleus::new(&arguments.common, &fabric, &[])?;
    nucleus.start()?;
    nucleus.ready().await?;
    let nodes: Result<Vec<_>, Failure> = (0..arguments.nodes)
        .map(|number| {
            let own = (0..bindings).map(move |address| ip(number * bindings + address));
            let member = fabric.member(number)?;
            Node::new(
                number as usize,
                member,
                number < aware,
                own,
                Rc::new(|_, _| ()),
            )
        })
        .collect();
    let begun = clock::instant();
    let swarm = Swarm::start(&nucleus, nodes?);
    let is_joined = || swarm.is_settled();
    if let Err(late) = until("all nodes have joined", arguments.join_within, is_joined).await {
        return Err(format!("{late}: {}", swarm.complaint()).into());
    }
    let join = spread(&swarm, begun);
    let all_known_s = match aware {
        0 => None,
        aware => {
            let others = (arguments.nodes as usize - 1) * (1 + bindings as usize);
            let end = begun + arguments.join_within;
            all_know(&swarm.nodes[..aware as usize], others, end).await?;
            Some(clock::instant().since(begun).as_secs_f64())
        }
    };
    sleep(arguments.settle).await;
    let resident = nucleus.resident();
    nucleus.kill()?;
    until("all nodes have noticed", LATE, || {
        swarm.settled().all(|at| at.is_none())
    })
    .await?;
    let started = clock::instant();
    nucleus.start()?;
    nucleus.ready().await?;
    let ready_ms = clock::instant().since(started).as_secs_f64() * 1e3;
    let left = (arguments.target + LATE).saturating_sub(clock::instant().since(started));
    // Those that are late are in the figures.
    let _ = until("all nodes are back", left, || swarm.is_settled()).await;
    let restart = spread(&swarm, started);
    let report = Report {
        nodes: arguments.nodes,
        bindings,
        aware,
        join,
        all_known_s,
        ready_ms,
        resident,
        target_s: arguments.target.as_secs_f64(),
        is_met: restart.all_within(arguments.target),
        restart,
    };
    print(&report, arguments.common.json)?;
    if report.is_met {
        return Ok(());
    }
    judged(&[format!(
        "not all nodes were back within {:?}: {}",
        arguments.target,
        swarm.complaint()
    )])
}

async fn all_know(nodes: &[Rc<Node>], others: usize, end: Instant) -> Result<(), Failure> {
    for node in nodes {
        loop {
            let (members, bindings) = node.knows();
            if members + bindings == others {
                break;
            }
            if clock::instant() >= end {
                return Err(format!(
                    "{} knows {members} members and {bindings} addresses, of {others}",
                    node.member.name
                )
                .into());
            }
            sleep(LOOK).await;
        }
    }
    Ok(())
}

fn spread(swarm: &Swarm, begun: Instant) -> Spread {
    let all: Vec<Option<Instant>> = swarm.settled().collect();
    let missing = all.iter().filter(|at| at.is_none()).count();
    Spread::of(all.iter().flatten().map(|at| at.since(begun)), missing)
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    let Report {
        nodes,
        bindings,
        aware,
        ..
    } = report;
    println!("{nodes} nodes with {bindings} addresses each, {aware} of them take in all others");
    println!("  join from cold     {}", report.join);
    if let Some(seconds) = report.all_known_s {
        println!("  all others known   after {seconds:.1} s");
    }
    println!(
        "  Nucleus ready      {:.0} ms after its start",
        report.ready_ms
    );
    println!("  back after restart {}", report.restart);
    let verdict = if report.is_met { "met" } else { "missed" };
    println!(
        "  target             all within {} s: {verdict}",
        report.target_s
    );
    Ok(())
}
