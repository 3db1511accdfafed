//! `omni-sim`: lives through as many seeds as one likes, and says which rule broke.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use omni_sim::{Summary, runner};

/// Deterministic simulation of whole fabrics.
#[derive(Debug, Parser)]
#[command(name = "omni-sim", version)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Hosts in each fabric.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..=128))]
    nodes: u16,
    /// Virtual minutes until all faults end.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Arguments {
        seeds,
        first,
        nodes,
        minutes,
    } = arguments;
    let (started, done) = (Instant::now(), AtomicU64::new(0));
    let progress = |summary: &Summary| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        println!(
            "{done}/{seeds}  seed {}  digest {:016x}  {} frames sent, {} delivered, {} sessions, \
             whole again in {:.2?}, settled {:.0?} later  ({:.0?})",
            summary.seed,
            summary.digest,
            summary.frames,
            summary.delivered,
            summary.sessions / 2,
            summary.healed_in,
            summary.settled_in,
            started.elapsed(),
        );
    };
    let range = first..first.saturating_add(seeds);
    let one = |seed| runner::chaos(seed, usize::from(nodes), minutes);
    match runner::all(range, one, progress) {
        Ok(summaries) => {
            conclude(&summaries, nodes, minutes);
            println!("every rule held; it took {:.0?}", started.elapsed());
            ExitCode::SUCCESS
        }
        Err(report) => {
            eprintln!("a rule was broken: {report}");
            ExitCode::FAILURE
        }
    }
}

fn conclude(summaries: &[Summary], nodes: u16, minutes: u64) {
    let sum = |of: fn(&Summary) -> u64| summaries.iter().map(of).sum::<u64>();
    let slowest = summaries.iter().map(|summary| summary.healed_in).max();
    println!(
        "{} seeds, {nodes} hosts, {minutes} minutes each: {} frames sent, {} messages sealed, {} \
         of them records, {} delivered, {} sessions, {} questions answered, {} moves",
        summaries.len(),
        sum(|s| s.frames),
        sum(|s| s.sealed),
        sum(|s| s.records),
        sum(|s| s.delivered),
        sum(|s| s.sessions) / 2,
        sum(|s| s.answered),
        sum(|s| s.moves),
    );
    println!(
        "whole again at most {:.2?} after the last fault; {} pairs of hosts had lost each other by \
         moving",
        slowest.unwrap_or_default(),
        sum(|s| s.lost_contact),
    );
}
