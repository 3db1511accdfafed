//! `omni-perf`: what the data path costs beside its primitive.
//!
//! On a shared machine absolute times say little. Every figure here is a ratio between things that
//! ran in turn, in one go: the bare AEAD of `ring`, and the whole way of a frame through the data
//! path in memory. The median over many short rounds is printed, and the spread beside it.
#![forbid(unsafe_code)]

mod datapath;
mod rounds;

use clap::{Parser, Subcommand};

/// Measurements of the OmniNervous data path.
#[derive(Debug, Parser)]
#[command(name = "omni-perf", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Nanoseconds a frame: bare AEAD, egress, ingress, and their ratios.
    Datapath {
        /// Rounds of each contender, which take turns: 10 to 100000.
        #[arg(long, default_value_t = 200, value_parser = parse_rounds)]
        rounds: u32,
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

fn main() {
    match Arguments::parse().what {
        What::Datapath { rounds } => datapath::run(rounds),
    }
}
