//! `omni-perf`: what the data path costs beside its primitive, and what attacks are made of.
//!
//! On a shared machine absolute times say little. Every figure here is a ratio between things that
//! ran in turn, in one go: the whole way of a frame through the data path in memory, and the bare
//! AEAD; or `ring` and the AEAD's back-ends; or what a frame of nobody's costs where the driver
//! drops it, and where a worker does; or the replay window with and without atomics; or what is
//! done with super-frames, and a copy of them. The median over many short rounds is printed, and
//! the spread beside it.
//!
//! `flood`, `record`, `connect` and `drop` are the tools of `lab/attack.py`, which measures in the
//! same manner what a node under attack still carries.
#![forbid(unsafe_code)]

mod aead;
mod allreduce;
mod connect;
mod counters;
mod datagrams;
mod disclosure;
mod drop;
mod flood;
mod hostile;
mod impair;
mod in_memory;
mod instructions;
mod keys;
mod latency;
mod members;
mod offload;
mod pipeline;
mod record;
mod replay;
mod report;
mod rounds;
mod scale;
mod steering;
mod stranger;
mod tunnels;
mod workload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What keeps a subcommand from doing its work, in words for who called it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measurements of the OmniNervous data path, and the attacks to measure it under.
#[derive(Debug, Parser)]
#[command(name = "omni-perf", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A frame's whole way through a worker but the kernel, in memory: nanoseconds, cycles and
    /// instructions a frame each way, by size and batch, beside the bare AEAD and, where built
    /// with the feature `peers`, boringtun and gotatun. Fails when a target is missed.
    Pipeline(pipeline::Arguments),
    /// How many cores a line of 100 to 800 Gb/s takes, by frame size: the rate of one worker, of
    /// more at once, and what that rests on. Fails when workers slow each other down, or an
    /// assumption that can be checked does not hold.
    Scale(scale::Arguments),
    /// Instructions a frame each way, but for the AEAD's, counted by valgrind. Fails where they
    /// are more than 3 % beyond the recorded budget.
    Instructions(instructions::Arguments),
    /// Nanoseconds a message of each AEAD back-end that this CPU is able to, over sizes and
    /// batches, beside `ring`; fails when what the product chooses is slower, or AVX-512 misses
    /// its targets.
    Aead(aead::Arguments),
    /// A flood of data that belongs to no session: CPU time a frame where the XDP program drops it
    /// and where a worker does, between namespaces made for it, and nanoseconds a verdict. Needs
    /// root.
    Steering {
        /// Rounds of each contender, which take turns: 10 to 100000. One takes about half a second.
        #[arg(long, default_value_t = 30, value_parser = parse_rounds)]
        rounds: u32,
    },
    /// Small datagrams between two hosts: how many arrive, and their round trips. Both ends of what
    /// `perf/fabric.py` measures.
    Datagrams(datagrams::Arguments),
    /// Sends datagrams at a steady rate, as an attacker of a node does. In laboratories only.
    Flood(flood::Arguments),
    /// Delivers initiations of configured peers once, and records them to be replayed.
    Record(record::Arguments),
    /// Connects to a node as peers of it do, and measures how long that takes.
    Connect(connect::Arguments),
    /// Sends frames in a session as a peer that is hostile does. In laboratories only.
    Hostile(hostile::Arguments),
    /// Collective communication of many ranks over TCP, as nccl-tests has it: bandwidths, job
    /// completion times and stragglers, and every sum checked.
    Allreduce(allreduce::Arguments),
    /// Round trips of datagrams on a fixed schedule, measured from when each was to leave.
    Latency(latency::Arguments),
    /// Forwards between two interfaces with delay, loss, duplicates, reordering and a rate, for
    /// kernels without netem. Needs root.
    Impair(impair::Arguments),
    /// Drops every frame that an interface receives in its driver, until standard input ends.
    Drop(drop::Arguments),
    /// Many members of one fabric against a Nucleus: restarts, moves, crashes, attacks, sizes.
    Members(members::Arguments),
    /// Nanoseconds a check and commit of the replay window, with and without atomics.
    Replay {
        /// Rounds of each contender, which take turns: 10 to 100000.
        #[arg(long, default_value_t = 200, value_parser = parse_rounds)]
        rounds: u32,
    },
    /// Nanoseconds to cut a super-frame of 64 KB and to coalesce a burst of 44 frames, beside a
    /// copy of the same octets. Fails where either takes longer than so many copies.
    Offload {
        /// Rounds of each contender, which take turns: 10 to 100000.
        #[arg(long, default_value_t = 200, value_parser = parse_rounds)]
        rounds: u32,
        /// How many copies either may take, in the median.
        #[arg(long, default_value_t = 3.0)]
        most: f64,
    },
}

fn parse_rounds(text: &str) -> Result<u32, String> {
    let allowed = 10..=100_000;
    let rounds = text.parse().map_err(|_| "not a number".to_owned())?;
    if allowed.contains(&rounds) {
        Ok(rounds)
    } else {
        Err(format!("allowed is {allowed:?}"))
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Pipeline(arguments) => pipeline::run(&arguments),
        What::Scale(arguments) => scale::run(&arguments),
        What::Instructions(arguments) => instructions::run(&arguments),
        What::Replay { rounds } => {
            replay::run(rounds);
            Ok(())
        }
        What::Offload { rounds, most } => offload::run(rounds, most),
        What::Aead(arguments) => aead::run(&arguments),
        What::Steering { rounds } => steering::run(rounds),
        What::Datagrams(arguments) => datagrams::run(&arguments),
        What::Flood(arguments) => flood::run(&arguments),
        What::Record(arguments) => record::run(&arguments),
        What::Connect(arguments) => connect::run(&arguments),
        What::Hostile(arguments) => hostile::run(&arguments),
        What::Allreduce(arguments) => allreduce::run(&arguments),
        What::Latency(arguments) => latency::run(&arguments),
        What::Impair(arguments) => impair::run(&arguments),
        What::Drop(arguments) => drop::run(&arguments),
        What::Members(arguments) => members::run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("omni-perf: {failure}");
            ExitCode::FAILURE
        }
    }
}
