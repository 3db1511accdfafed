//! How many cores a line takes: the rate of one worker, whether more of them are as fast each, and
//! what follows on the assumptions that are listed.
//!
//! ```text
//!   rate of one core  ->  with others beside it: linear?  ->  cores for 100 to 800 Gb/s
//!                         with more peers, with frames out of the near caches: as fast?
//! ```

mod cores;
mod model;

use std::time::Duration;

use omni_engine::datapath::BURST_MAX;
use serde::Serialize;

use crate::Failure;
use crate::disclosure::Disclosure;
use crate::in_memory::Load;
use crate::report::Options;
use crate::rounds::summary;
use cores::{Times, run as run_on, usable};
use model::{Assumption, Check, LINES, Need, UNCHECKED, need};

/// Octets of an inner frame, which are those to seal.
const SIZES: [usize; 5] = [64, 256, 512, 1420, 8900];
/// The size that assumptions are checked with.
const CHECKED_OCTETS: usize = 1420;
/// Frames that a worker gets at once.
const BATCH: usize = 32;
/// Octets of a round whose memory stays in the near caches.
const ROUND: usize = 1 << 17;
/// Frames that do not fit them, each in a page of its own: 32 MiB.
const FAR_FRAMES: usize = 8192;
/// Peers that take turns, so that no two messages of a burst have a key in common.
const MANY_PEERS: u16 = 1000;
/// Of the rate of one, what each of many workers has to have at least.
const LINEAR_LEAST: f64 = 0.9;
/// More than this beyond the rate of one is no gain but a measurement that was disturbed.
const LINEAR_MOST: f64 = 1.1;

/// What is measured, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many workers run at once, each on a core of its own: 1 to 1024, separated by commas.
    /// By default 1, 2, 4 and so on up to all cores.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Vec<u16>,
    /// Rounds, in which all numbers of workers take turns: 3 to 1000.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(3..=1000))]
    rounds: u32,
    /// Milliseconds that workers run in a round: 10 to 10000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=10_000))]
    milliseconds: u64,
    #[command(flatten)]
    options: Options,
}

/// So many workers at once.
#[derive(Clone, Debug, Serialize)]
struct Row {
    octets: usize,
    workers: usize,
    /// Nanoseconds a frame of a worker: the median over rounds, of the mean over workers.
    egress_ns: f64,
    ingress_ns: f64,
    /// Gb/s of inner frames, all workers together.
    egress_gbps: f64,
    ingress_gbps: f64,
    /// Of the rate that as many times one worker would have.
    egress_linear: f64,
    ingress_linear: f64,
}

/// Everything that `--json` writes, beside the machine.
#[derive(Debug, Serialize)]
struct Report {
    rounds: u32,
    milliseconds: u64,
    rows: Vec<Row>,
    assumptions: Vec<Assumption>,
    needs: Vec<Need>,
}

/// Measures, prints, and fails when workers slow each other down or an assumption does not hold.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let machine = Disclosure::take();
    print!("{machine}");
    let cores = usable()?;
    let numbers = numbers(&arguments.workers, cores.len())?;
    let mut rows = Vec::new();
    print_head(arguments);
    for octets in SIZES {
        let measured = measure(arguments, &numbers, &cores, octets)?;
        measured.iter().for_each(print_row);
        rows.extend(measured);
    }
    let assumptions = assumptions(arguments, &cores, &rows)?;
    let linear = linear(&rows);
    let ones = rows.iter().filter(|row| row.workers == 1);
    let needs: Vec<Need> = ones
        .map(|row| need(row.octets, row.egress_ns, row.ingress_ns, linear.min(1.0)))
        .collect();
    print_assumptions(&assumptions);
    print_needs(&needs, linear);
    let missed = assumptions.iter().filter_map(missed).collect::<Vec<_>>();
    let report = Report {
        rounds: arguments.rounds,
        milliseconds: arguments.milliseconds,
        rows,
        assumptions,
        needs,
    };
    arguments.options.finish(&machine, &report, &missed)
}

/// How many workers, in order: one always, as all others are held against it.
fn numbers(wanted: &[u16], cores: usize) -> Result<Vec<usize>, Failure> {
    let mut numbers: Vec<usize> = wanted.iter().map(|&number| number.into()).collect();
    if numbers.is_empty() {
        let doubled = std::iter::successors(Some(1), |&number| Some(2 * number));
        numbers.extend(doubled.take_while(|&number| number < cores));
        numbers.push(cores);
    }
    numbers.push(1);
    numbers.sort_unstable();
    numbers.dedup();
    match numbers.last() {
        Some(&most) if most > cores => {
            Err(format!("{most} workers need as many cores; there are {cores}").into())
        }
        _ => Ok(numbers),
    }
}

/// A load whose frames stay in the near caches.
fn near(octets: usize) -> Load {
    Load {
        octets,
        batch: BATCH,
        frames: (ROUND / octets).clamp(BURST_MAX, 4 * BURST_MAX) / BATCH * BATCH,
        peers: 1,
    }
}

/// All numbers of workers in turn, round by round.
fn measure(
    arguments: &Arguments,
    numbers: &[usize],
    cores: &[usize],
    octets: usize,
) -> Result<Vec<Row>, Failure> {
    let during = Duration::from_millis(arguments.milliseconds);
    let mut times = vec![Vec::new(); numbers.len()];
    for _ in 0..arguments.rounds {
        for (&number, times) in numbers.iter().zip(&mut times) {
            times.push(mean(&run_on(&cores[..number], near(octets), during)?));
        }
    }
    let times: Vec<Times> = times.into_iter().map(median).collect();
    let one = times[0];
    let rows = numbers.iter().zip(&times).map(|(&workers, time)| {
        let gbps = |ns: f64| workers as f64 * octets as f64 * 8.0 / ns;
        Row {
            octets,
            workers,
            egress_ns: time.egress_ns,
            ingress_ns: time.ingress_ns,
            egress_gbps: gbps(time.egress_ns),
            ingress_gbps: gbps(time.ingress_ns),
            egress_linear: one.egress_ns / time.egress_ns,
            ingress_linear: one.ingress_ns / time.ingress_ns,
        }
    });
    Ok(rows.collect())
}

/// Over workers: the time that stands for the sum of their rates.
fn mean(times: &[Times]) -> Times {
    let rates = |ns: fn(&Times) -> f64| {
        let rates = times.iter().map(|time| ns(time).recip());
        times.len() as f64 / rates.sum::<f64>()
    };
    Times {
        egress_ns: rates(|time| time.egress_ns),
        ingress_ns: rates(|time| time.ingress_ns),
    }
}

/// Over rounds.
fn median(times: Vec<Times>) -> Times {
    let of = |ns: fn(&Times) -> f64| summary(times.iter().map(ns).collect()).median;
    Times {
        egress_ns: of(|time| time.egress_ns),
        ingress_ns: of(|time| time.ingress_ns),
    }
}

/// What is left of a core's rate beside others, in the worse direction, where the loss is greatest.
fn linear(rows: &[Row]) -> f64 {
    let shares = rows
        .iter()
        .map(|row| row.egress_linear.min(row.ingress_linear));
    shares.fold(1.0, f64::min)
}

/// The share of a rate that is farthest from all of it. One that is far beyond tells of a
/// measurement that was disturbed while one worker ran.
fn farthest(rows: &[Row]) -> f64 {
    let shares = rows
        .iter()
        .flat_map(|row| [row.egress_linear, row.ingress_linear]);
    let far = |share: &f64| (share - 1.0).abs();
    let farthest = shares.max_by(|a, b| far(a).total_cmp(&far(b)));
    farthest.unwrap_or(1.0)
}

/// What the model rests on, with what can be measured of it.
fn assumptions(
    arguments: &Arguments,
    cores: &[usize],
    rows: &[Row],
) -> Result<Vec<Assumption>, Failure> {
    let most = rows.iter().map(|row| row.workers).max().unwrap_or(1);
    let beside = (most > 1).then(|| Check {
        ratio: farthest(rows),
        least: LINEAR_LEAST,
        most: LINEAR_MOST,
    });
    let base = near(CHECKED_OCTETS);
    let few = Load {
        frames: usize::from(MANY_PEERS) / BATCH * BATCH,
        ..base
    };
    let many = Load {
        peers: MANY_PEERS,
        ..few
    };
    let far = Load {
        frames: FAR_FRAMES,
        ..base
    };
    let during = Duration::from_millis(arguments.milliseconds);
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..arguments.rounds {
        for (load, times) in [base, far, few, many].into_iter().zip(&mut times) {
            times.push(mean(&run_on(&cores[..1], load, during)?));
        }
    }
    let [base, far, few, many] = times.map(|times| {
        let time = median(times);
        time.egress_ns + time.ingress_ns
    });
    let as_fast = |base: f64, time: f64| {
        Some(Check {
            ratio: base / time,
            least: LINEAR_LEAST,
            most: LINEAR_MOST,
        })
    };
    let checked = [
        (
            "workers do not slow each other down, up to all that were run",
            beside,
        ),
        (
            "a thousand peers in turn cost no more than one",
            as_fast(few, many),
        ),
        (
            "frames from beyond the near caches cost no more",
            as_fast(base, far),
        ),
    ];
    let unchecked = UNCHECKED.map(|says| (says, None));
    let all = checked.into_iter().chain(unchecked);
    Ok(all
        .map(|(says, checked)| Assumption { says, checked })
        .collect())
}

/// An assumption that was measured and does not hold.
fn missed(assumption: &Assumption) -> Option<String> {
    let check = assumption.checked.filter(|check| !check.holds())?;
    let Check { ratio, least, most } = check;
    Some(format!(
        "{}: {ratio:.2} of the rate, not {least} to {most}",
        assumption.says
    ))
}

fn print_head(arguments: &Arguments) {
    println!(
        "{} rounds of {} ms, numbers of workers in turn, batches of {BATCH}; ns a frame of a \
         worker, Gb/s of inner frames of all, and how linear that is",
        arguments.rounds, arguments.milliseconds
    );
    println!(
        "{:>6} {:>7}  {:>27}  {:>27}",
        "octets", "workers", "egress", "ingress"
    );
}

fn print_row(row: &Row) {
    println!(
        "{:>6} {:>7}  {:>8.1} {:>10.2} x{:>6.3}  {:>8.1} {:>10.2} x{:>6.3}",
        row.octets,
        row.workers,
        row.egress_ns,
        row.egress_gbps,
        row.egress_linear,
        row.ingress_ns,
        row.ingress_gbps,
        row.ingress_linear
    );
}

fn print_assumptions(assumptions: &[Assumption]) {
    println!("assumptions");
    for Assumption { says, checked } in assumptions {
        let found = match checked {
            None => "not checked".to_owned(),
            Some(check) => {
                let holds = if check.holds() {
                    "holds"
                } else {
                    "DOES NOT HOLD"
                };
                format!("{holds}: {:.2} of the rate", check.ratio)
            }
        };
        println!("  {says}: {found}");
    }
}

fn print_needs(needs: &[Need], linear: f64) {
    println!(
        "cores for a full line of messages, out / in / both at once, each with {linear:.2} of the \
         rate of one"
    );
    let lines = LINES.map(|line| format!("{line:>20} Gb/s"));
    println!("{:>6}{}", "octets", lines.join(""));
    for need in needs {
        let cores = need.cores.map(|cores| {
            let text = format!(
                "{:.1} / {:.1} / {:.1}",
                cores.egress, cores.ingress, cores.both
            );
            format!("{text:>25}")
        });
        println!("{:>6}{}", need.octets, cores.join(""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_always_runs_and_no_more_than_there_are_cores() {
        let numbers = |wanted: &[u16], cores| numbers(wanted, cores).ok();
        assert_eq!(numbers(&[], 1), Some(vec![1]));
        assert_eq!(numbers(&[], 2), Some(vec![1, 2]));
        assert_eq!(numbers(&[], 12), Some(vec![1, 2, 4, 8, 12]));
        assert_eq!(numbers(&[2, 2], 2), Some(vec![1, 2]));
        assert_eq!(numbers(&[3], 2), None);
    }

    #[test]
    fn workers_together_have_the_sum_of_their_rates() {
        let times = |ns| Times {
            egress_ns: ns,
            ingress_ns: 2.0 * ns,
        };
        let mean = mean(&[times(100.0), times(300.0)]);
        assert!((mean.egress_ns - 150.0).abs() < 1e-9, "{mean:?}");
        assert!((mean.ingress_ns - 300.0).abs() < 1e-9, "{mean:?}");
        let median = median(vec![times(1.0), times(9.0), times(2.0)]);
        assert!((median.egress_ns - 2.0).abs() < 1e-9, "{median:?}");
    }

    #[test]
    fn shares_that_are_too_small_and_too_great_are_both_far_from_one() {
        let row = |egress_linear, ingress_linear| Row {
            octets: 64,
            workers: 2,
            egress_ns: 1.0,
            ingress_ns: 1.0,
            egress_gbps: 1.0,
            ingress_gbps: 1.0,
            egress_linear,
            ingress_linear,
        };
        let lost = [row(1.0, 1.0), row(0.7, 1.2)];
        assert_eq!((linear(&lost), farthest(&lost)), (0.7, 0.7));
        let gained = [row(0.9, 1.0), row(0.95, 1.2)];
        assert_eq!((linear(&gained), farthest(&gained)), (0.9, 1.2));
        assert_eq!((linear(&[]), farthest(&[])), (1.0, 1.0));
    }

    #[test]
    fn an_assumption_fails_only_where_it_was_checked() {
        let checked = |ratio| Assumption {
            says: "it is so",
            checked: Some(Check {
                ratio,
                least: 0.9,
                most: 1.1,
            }),
        };
        assert!(missed(&checked(1.0)).is_none());
        assert!(missed(&checked(0.5)).is_some_and(|why| why.contains("0.50")));
        let unchecked = Assumption {
            says: "it is so",
            checked: None,
        };
        assert!(missed(&unchecked).is_none());
    }
}
