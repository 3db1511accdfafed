//! Collective communication as machine learning has it, over TCP, between the nodes of a fabric.
//!
//! One process for each rank. All meet at rank 0 before each iteration, so that they begin together
//! whatever it took to check the last result; then each computes, which is simulated, and does its
//! part of the collective. Every element of every result is checked. What is reported is what
//! nccl-tests reports (<https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md>), but
//! for one thing: the time of an iteration is that of its slowest rank, as that is what the next
//! one waits for. docs/workloads.md says how to read it.

mod exchange;
mod links;
mod plan;
mod rank;
mod results;
mod values;

#[cfg(test)]
mod tests;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use plan::{Algorithm, Collective};
use rank::Job;
use results::{RankResult, Report, Setup};
use values::{ELEMENT_LEN, RANKS_MAX};

use crate::Failure;
use crate::workload::{join, parse_octets, parse_seconds, write_json};

/// The longest vector: its octets fit into memory, and twice so.
const OCTETS_MAX: u64 = 4 << 30;
/// More sizes than that are a mistake.
const SIZES_MAX: usize = 256;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// One rank of a run. All ranks are started with the same arguments, but for `--rank`,
    /// `--listen` and `--json`; they may start in any order, as far apart as `--timeout-s`.
    Rank(RankArguments),
    /// Puts the files of all ranks of one run together: bandwidths, job completion time, who was
    /// slowest. Fails when a rank is missing or a sum was wrong.
    Merge(MergeArguments),
    /// All ranks on this machine over loopback, as threads of one process: to try it out.
    Run(RunArguments),
}

#[derive(Debug, clap::Args)]
struct RankArguments {
    /// This rank: 0 to one less than there are.
    #[arg(long)]
    rank: usize,
    /// How many ranks there are: 1 to 1024.
    #[arg(long, value_parser = parse_ranks)]
    ranks: usize,
    /// Where each rank listens, by rank: IP:PORT or IP, separated by commas, or a file with one a
    /// line. The port is that of `--listen` where it is not said.
    #[arg(long, value_name = "FILE|LIST")]
    addresses: String,
    /// Where this rank listens.
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Write what this rank measured to this file, which `merge` reads.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    work: Work,
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// How many ranks: 1 to 1024.
    #[arg(long, value_parser = parse_ranks, default_value_t = 4)]
    ranks: usize,
    /// Write the merged result to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    work: Work,
}

#[derive(Debug, clap::Args)]
struct MergeArguments {
    /// What the ranks wrote with `--json`.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write the merged result to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the ranks do, the same for each.
#[derive(Debug, clap::Args)]
struct Work {
    /// What they do together.
    #[arg(long, value_enum, default_value_t = Collective::AllReduce)]
    collective: Collective,
    /// How: all-reduce by ring, tree or halving-doubling; broadcast by ring or tree; all-gather and
    /// reduce-scatter by ring; all-to-all pairwise. Without it by ring, or pairwise.
    #[arg(long, value_enum)]
    algorithm: Option<Algorithm>,
    /// Octets of the vectors, as nccl-tests counts them: of what all ranks have together in
    /// all-gather, reduce-scatter and all-to-all. Multiples of 4; K, M and G are powers of 1024.
    #[arg(long, value_delimiter = ',', value_parser = parse_size,
        default_values = ["8", "64K", "1M", "16M"], conflicts_with = "min")]
    sizes: Vec<u64>,
    /// The first size, instead of `--sizes`: each is `--factor` times the one before, up to
    /// `--max`.
    #[arg(long, value_parser = parse_size, requires = "max")]
    min: Option<u64>,
    /// The last size at most.
    #[arg(long, value_parser = parse_size, requires = "min")]
    max: Option<u64>,
    /// See `--min`.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(2..=1024))]
    factor: u64,
    /// Timed iterations of each size: 1 to 100000.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    iterations: u32,
    /// Iterations of each size before those.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(..=100_000))]
    warmup: u32,
    /// Simulated computation before each iteration, in microseconds, up to 10 s; behind a colon by
    /// how much at most it is shorter or longer, evenly.
    #[arg(long, default_value = "0", value_name = "US[:JITTER]", value_parser = parse_compute)]
    compute_us: (u64, u64),
    /// The computation keeps a core busy. Without it the rank sleeps, as it does while a GPU works.
    #[arg(long)]
    compute_spins: bool,
    /// Of the computation's jitter.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The longest that a rank waits for others while nothing moves.
    #[arg(long, default_value_t = 30.0, value_parser = parse_seconds)]
    timeout_s: f64,
    /// The longest that the whole run may take.
    #[arg(long, default_value_t = 600.0, value_parser = parse_seconds)]
    limit_s: f64,
    /// What is measured, for the result: "omni tap+udp", for example.
    #[arg(long)]
    contestant: Option<String>,
}

fn parse_ranks(text: &str) -> Result<usize, String> {
    let ranks = text.parse().ok();
    let ranks = ranks.filter(|ranks| (1..=RANKS_MAX).contains(ranks));
    ranks.ok_or_else(|| format!("allowed is 1..={RANKS_MAX}"))
}

fn parse_size(text: &str) -> Result<u64, String> {
    let octets = parse_octets(text)?;
    let allowed = ELEMENT_LEN as u64..=OCTETS_MAX;
    if allowed.contains(&octets) && octets.is_multiple_of(ELEMENT_LEN as u64) {
        return Ok(octets);
    }
    Err(format!("allowed are multiples of 4 in {allowed:?}"))
}

fn parse_compute(text: &str) -> Result<(u64, u64), String> {
    let (time, jitter) = text.split_once(':').unwrap_or((text, "0"));
    let allowed = 0..=10_000_000_u64;
    match (time.parse(), jitter.parse()) {
        (Ok(time), Ok(jitter)) if allowed.contains(&time) && jitter <= time => Ok((time, jitter)),
        _ => Err("allowed is US or US:JITTER up to 10000000, with no more jitter than time".into()),
    }
}

impl Work {
    fn sizes(&self) -> Result<Vec<u64>, Failure> {
        let (Some(min), Some(max)) = (self.min, self.max) else {
            return Ok(self.sizes.clone());
        };
        let next = |&size: &u64| size.checked_mul(self.factor).filter(|&size| size <= max);
        let sizes: Vec<u64> = std::iter::successors(Some(min), next).collect();
        if min > max || sizes.len() > SIZES_MAX {
            return Err(format!("no sizes from {min} to {max}").into());
        }
        Ok(sizes)
    }

    fn job(&self, rank: usize, ranks: usize) -> Result<Job, Failure> {
        let setup = Setup {
            contestant: self.contestant.clone(),
            collective: self.collective,
            algorithm: self.algorithm.unwrap_or_else(|| self.collective.usual()),
            ranks,
            iterations: self.iterations as usize,
            warmup: self.warmup as usize,
            compute_us: self.compute_us.0,
            compute_jitter_us: self.compute_us.1,
            compute_spins: self.compute_spins,
            seed: self.seed,
        };
        Ok(Job {
            rank,
            setup,
            sizes: self.sizes()?,
            timeout: Duration::from_secs_f64(self.timeout_s),
            limit: Duration::from_secs_f64(self.limit_s),
        })
    }
}

/// Does what the arguments say.
///
/// # Errors
/// When a rank does not do its part, a result is wrong, or a file cannot be read or written.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.what {
        What::Rank(arguments) => run_rank(arguments),
        What::Merge(arguments) => {
            let ranks: Result<Vec<_>, _> = arguments.files.iter().map(|path| read(path)).collect();
            finish(ranks?, arguments.json.as_deref())
        }
        What::Run(arguments) => {
            let job = arguments.work.job(0, arguments.ranks)?;
            finish(run_all(&job)?, arguments.json.as_deref())
        }
    }
}

fn run_rank(arguments: &RankArguments) -> Result<(), Failure> {
    let (rank, ranks) = (arguments.rank, arguments.ranks);
    let addresses = read_addresses(&arguments.addresses, arguments.listen.port())?;
    if addresses.len() != ranks {
        return Err(format!("{} addresses for {ranks} ranks", addresses.len()).into());
    }
    let job = arguments.work.job(rank, ranks)?;
    let listen = arguments.listen;
    let listener = TcpListener::bind(listen).map_err(|error| format!("{listen}: {error}"))?;
    let result = job.run(&listener, &addresses, &mut |_, _| {})?;
    if let Some(path) = &arguments.json {
        write_json(path, &result)?;
    }
    let (sizes, iterations) = (result.sizes.len(), job.setup.iterations);
    println!("rank {rank}: {iterations} iterations of each of {sizes} sizes");
    right(result.wrong)
}

/// All ranks as threads, over loopback.
fn run_all(job: &Job) -> Result<Vec<RankResult>, Failure> {
    let listen = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners: Result<Vec<_>, _> = (0..job.setup.ranks).map(listen).collect();
    let listeners = listeners?;
    let addresses: Result<Vec<_>, _> = listeners.iter().map(TcpListener::local_addr).collect();
    let addresses = addresses?;
    let results: Vec<Result<RankResult, Failure>> = thread::scope(|scope| {
        let ranks = listeners.into_iter().enumerate().map(|(rank, listener)| {
            let (job, addresses) = (
                Job {
                    rank,
                    ..job.clone()
                },
                &addresses,
            );
            scope.spawn(move || job.run(&listener, addresses, &mut |_, _| {}))
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(join).collect()
    });
    results.into_iter().collect()
}

/// Prints what came of a run, writes it, and fails when something was wrong.
fn finish(ranks: Vec<RankResult>, json: Option<&Path>) -> Result<(), Failure> {
    let report = Report::of(ranks)?;
    report.print();
    if let Some(path) = json {
        write_json(path, &report)?;
    }
    right(report.wrong)
}

fn right(wrong: u64) -> Result<(), Failure> {
    if wrong == 0 {
        return Ok(());
    }
    Err(format!("{wrong} elements of results are wrong").into())
}

fn read(path: &Path) -> Result<RankResult, Failure> {
    let named = |reason: String| Failure::from(format!("{}: {reason}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| named(error.to_string()))
}

/// Addresses of all ranks, from a file if there is one of this name.
fn read_addresses(text: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let path = Path::new(text);
    let text = if path.is_file() {
        fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?
    } else {
        text.to_owned()
    };
    let words = text.split([',', '\n']).map(str::trim);
    let addresses = words.filter(|word| !word.is_empty()).map(|word| {
        let whole = word.parse::<SocketAddr>();
        let bare = |_| word.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
        whole
            .or_else(bare)
            .map_err(|_| format!("`{word}` is no address, nor a file").into())
    });
    addresses.collect()
}
