//! Many members of one fabric, on one machine, against a Nucleus.
//!
//! ```text
//!   Node 0 .. n: Agent on a line     --+   TCP on loopback, Noise, an address for each node
//!   Speaker: what a scenario likes    -+--------------------------> omni-nucleus, a process
//!   (a thread of its own)                                            |  started, killed, started
//!                                                                    redb in a folder, or etcd
//! ```
//!
//! Nodes are what the engine has, without the engine: the same [`omni_nucleus::agent::Agent`], the
//! same channel, the same pauses between attempts. All nodes share one thread, so times include
//! what the nodes themselves cost; in a fabric each has a machine.
//!
//! `scale` is about memory and disk, and does without sockets.

mod acknowledged;
mod crash;
mod fabric;
mod hostile;
mod line;
mod moves;
mod node;
mod nucleus;
mod restart;
mod scale;
mod speaker;
mod spread;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Kills the Nucleus and starts it at once: how long until every node is registered again, with
    /// all its addresses.
    Restart(restart::Arguments),
    /// Moves addresses between nodes: how long until every other node knows.
    Moves(moves::Arguments),
    /// Kills the Nucleus again and again while nodes bind and withdraw: nothing that it
    /// acknowledged may be lost.
    Crash(crash::Arguments),
    /// Floods the Nucleus with what hostile members and strangers can say: what honest nodes feel.
    /// In laboratories only.
    Hostile(hostile::Arguments),
    /// Memory, disk and time of a Nucleus and of a node, by the number of members.
    Scale(scale::Arguments),
    /// One measurement of `scale`, in a process of its own.
    #[command(hide = true)]
    Measure(scale::child::Arguments),
}

/// What the scenarios with a Nucleus share.
#[derive(Debug, clap::Args)]
struct Common {
    /// The folder of `omni-nucleus`. By default the one that this program is in.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// A cluster of etcd that keeps the records, in place of a file: URLs of its members, separated
    /// by commas. What is written there is removed at the end.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    etcd: Vec<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one scenario. It fails when a target is missed.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.what {
        What::Restart(arguments) => in_time(restart::run(&arguments)),
        What::Moves(arguments) => in_time(moves::run(&arguments)),
        What::Crash(arguments) => in_time(crash::run(&arguments)),
        What::Hostile(arguments) => in_time(hostile::run(&arguments)),
        What::Scale(arguments) => scale::run(&arguments),
        What::Measure(arguments) => scale::child::run(&arguments),
    }
}

/// Runs a scenario in this thread. A signal ends it early, and what it made is removed.
fn in_time(scenario: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            done = scenario => done,
            _ = terminate.recv() => Err("ended by a signal".into()),
            _ = interrupt.recv() => Err("ended by a signal".into()),
        }
    }))
}

/// A connection takes a file, and a shell lets a program have 1024.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // With the limit as it is, connections beyond it fail and are told of.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}

/// Waits until `is_so`, looking often.
///
/// # Errors
/// `what` has not come true in time.
async fn until(
    what: &str,
    patience: Duration,
    mut is_so: impl FnMut() -> bool,
) -> Result<(), Failure> {
    const LOOK: Duration = Duration::from_millis(5);
    let end = tokio::time::Instant::now() + patience;
    while !is_so() {
        if tokio::time::Instant::now() >= end {
            return Err(format!("not within {patience:?}: {what}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The words for missed targets, as an error; nothing when there are none.
fn judged(missed: &[String]) -> Result<(), Failure> {
    match missed {
        [] => Ok(()),
        missed => Err(format!("missed: {}", missed.join("; ")).into()),
    }
}

/// A duration from a number of seconds on the command line.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let most = 86_400.0;
    if (0.0..=most).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("allowed are 0 to {most} seconds"))
    }
}

/// A random number below `limit`, which is not 0.
fn below(limit: usize) -> usize {
    use omni_control::Random as _;
    let mut octets = [0; 8];
    omni_engine::random::SystemRandom.fill(&mut octets);
    (u64::from_ne_bytes(octets) % limit.max(1) as u64) as usize
}
