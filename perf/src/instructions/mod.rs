//! Instructions a frame, counted by valgrind: the same on a busy machine as on a quiet one, so
//! that a test can hold them to a budget.
//!
//! ```text
//!   own instructions = a worker's turns  -  the AEAD calls that are in them
//! ```
//!
//! The AEAD is counted by itself and taken off, since which of its code runs depends on the CPU;
//! valgrind, which plays one without AVX-512, has it choose another back-end than the product.
//! What is left is what surrounds it, which is the same on every CPU.

mod budgets;
mod valgrind;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;

use serde::Serialize;

use crate::Failure;
use crate::disclosure::{COMPILER, Disclosure, TARGET};
use crate::in_memory::{Load, Pair};
use crate::report::Options;
use budgets::{Budgets, Verdict};

/// Octets of an inner frame.
const OCTETS: usize = 64;
/// Frames that a worker gets at once: as on a busy queue, and as on an idle one.
const BATCHES: [usize; 2] = [32, 1];
/// Frames of a round.
const FRAMES: usize = 64;
/// Rounds that are counted.
const ROUNDS: u32 = 20;
/// Rounds before those, in which tables grow and addresses are learned.
const WARM_UP: u32 = 3;

/// What is counted, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write what was counted into this file of budgets, instead of comparing with them.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Keep valgrind's files in this folder: `callgrind_annotate` shows functions in them.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// Do the work that is counted: what valgrind runs.
    #[arg(long, hide = true, requires = "batch")]
    work: Option<Work>,
    #[arg(long, hide = true)]
    batch: Option<usize>,
}

/// What is counted by itself.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Work {
    Egress,
    Seal,
    Ingress,
    Open,
}

impl Work {
    /// As it is on the command line.
    const fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Seal => "seal",
            Self::Ingress => "ingress",
            Self::Open => "open",
        }
    }
}

/// Instructions of a frame.
#[derive(Debug, Serialize)]
struct Row {
    direction: &'static str,
    batch: usize,
    all: f64,
    aead: f64,
    /// All but the AEAD's.
    own: f64,
    /// What `own` may be; `None` where none was recorded.
    budget: Option<f64>,
}

impl Row {
    /// What its budget is recorded under.
    fn name(&self) -> String {
        format!("{}, batch of {}", self.direction, self.batch)
    }
}

/// Everything that `--json` writes, beside the machine.
#[derive(Debug, Serialize)]
struct Report {
    octets: usize,
    /// The compiler that the budgets hold for.
    recorded_with: String,
    rows: Vec<Row>,
}

/// Counts, prints, and fails where a budget is exceeded.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if let (Some(work), Some(batch)) = (arguments.work, arguments.batch) {
        return work_for_valgrind(work, batch);
    }
    let machine = Disclosure::take();
    print!("{machine}");
    let budgets = Budgets::recorded()?;
    let compares = arguments.record.is_none() && budgets.hold_here();
    let mut rows = Vec::new();
    for batch in BATCHES {
        for (direction, all, aead) in [
            ("egress", Work::Egress, Work::Seal),
            ("ingress", Work::Ingress, Work::Open),
        ] {
            let [all, aead] = [all, aead].map(|work| count(work, batch, arguments));
            let (all, aead) = (all?, aead?);
            let own = all - aead;
            let budget = None;
            let mut row = Row {
                direction,
                batch,
                all,
                aead,
                own,
                budget,
            };
            row.budget = budgets.of(&row.name()).filter(|_| compares);
            rows.push(row);
        }
    }
    print_rows(&rows);
    if let Some(path) = &arguments.record {
        let counted = rows.iter().map(|row| (row.name(), row.own));
        return budgets.record(path, counted.collect::<BTreeMap<_, _>>());
    }
    let missed = if compares { judge(&rows) } else { Vec::new() };
    if !compares {
        let with = budgets.recorded_with();
        eprintln!(
            "SKIPPED: budgets of instructions hold for {with}; this is {COMPILER} for {TARGET}"
        );
    }
    let report = Report {
        octets: OCTETS,
        recorded_with: budgets.recorded_with(),
        rows,
    };
    arguments.options.finish(&machine, &report, &missed)
}

fn print_rows(rows: &[Row]) {
    println!("instructions a frame of {OCTETS} octets");
    println!(
        "{:>8} {:>6} {:>9} {:>9} {:>9} {:>9}",
        "", "batch", "all", "AEAD", "own", "budget"
    );
    for row in rows {
        let budget = row
            .budget
            .map_or("none".to_owned(), |most| format!("{most:.1}"));
        println!(
            "{:>8} {:>6} {:>9.1} {:>9.1} {:>9.1} {:>9}",
            row.direction, row.batch, row.all, row.aead, row.own, budget
        );
    }
}

/// What exceeds its budget. Where much less is needed than that, it is said.
fn judge(rows: &[Row]) -> Vec<String> {
    let mut missed = Vec::new();
    for row in rows {
        let (name, own) = (row.name(), row.own);
        match budgets::judge(own, row.budget) {
            Verdict::Within => {}
            Verdict::Below => {
                println!("{name}: {own:.1} is far below: lower the budget (--record)")
            }
            Verdict::Beyond(why) => missed.push(format!("{name}: {own:.1} instructions, {why}")),
        }
    }
    missed
}

/// Instructions that a frame takes, in a process under valgrind.
fn count(work: Work, batch: usize, arguments: &Arguments) -> Result<f64, Failure> {
    let name = work.name();
    let keep = arguments.keep.as_deref();
    let batch = batch.to_string();
    let own = ["instructions", "--work", name, "--batch", &batch];
    let file = format!("callgrind.{name}.{batch}");
    let instructions = valgrind::count("counted_work", &own, keep.map(|folder| folder.join(file)))?;
    Ok(instructions as f64 / f64::from(ROUNDS) / FRAMES as f64)
}

/// What valgrind looks for: it counts in here only. There has to be one of it, of this name.
#[inline(never)]
fn counted_work(work: &mut dyn FnMut()) {
    black_box(work)();
}

fn work_for_valgrind(work: Work, batch: usize) -> Result<(), Failure> {
    if !BATCHES.contains(&batch) {
        return Err(format!("a batch is one of {BATCHES:?}").into());
    }
    let mut pair = Pair::new(Load {
        octets: OCTETS,
        batch,
        frames: FRAMES,
        peers: 1,
    })?;
    for round in 0..WARM_UP + ROUNDS {
        let measure = |work: &mut dyn FnMut()| {
            if round < WARM_UP {
                work();
            } else {
                counted_work(work);
            }
        };
        match work {
            Work::Egress => pair.egress(measure)?,
            Work::Seal => pair.seal(measure),
            Work::Open => pair.open(measure)?,
            Work::Ingress => {
                pair.egress(|work| work())?;
                pair.ingress(measure)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_work_is_done_whichever_is_counted() {
        for work in [Work::Egress, Work::Seal, Work::Ingress, Work::Open] {
            for batch in BATCHES {
                work_for_valgrind(work, batch).expect("nodes");
            }
        }
        assert!(work_for_valgrind(Work::Egress, 7).is_err());
    }

    #[test]
    fn what_is_beyond_its_budget_is_missed() {
        let row = |own, budget| Row {
            direction: "egress",
            batch: 32,
            all: own + 100.0,
            aead: 100.0,
            own,
            budget,
        };
        assert!(judge(&[row(100.0, Some(100.0))]).is_empty());
        assert!(judge(&[row(50.0, Some(100.0))]).is_empty());
        let missed = judge(&[row(104.0, Some(100.0)), row(100.0, None)]);
        assert_eq!(missed.len(), 2, "{missed:?}");
        assert!(
            missed[0].starts_with("egress, batch of 32: 104.0"),
            "{missed:?}"
        );
    }
}
