//! The whole way of a frame but the kernel, beside the bare AEAD that it uses, and beside what
//! other implementations take for the same payload.
//!
//! ```text
//!   egress    a worker's turn: access port -> switch, session, seal, outer headers -> underlay
//!   seal      the same AEAD calls on the same memory, and nothing else
//!   ingress   a worker's turn: underlay -> headers, session, replay, open, switch -> access port
//!   open      the same AEAD calls on the same memory, and nothing else
//! ```
//!
//! All take turns within each round, so that what disturbs one disturbs all.

use std::cell::RefCell;
use std::time::Duration;

use omni_engine::datapath::BURST_MAX;
use serde::Serialize;

use crate::Failure;
use crate::counters::{self, Counted, Meter};
use crate::disclosure::Disclosure;
use crate::in_memory::{Load, Pair};
use crate::report::Options;
use crate::rounds::{Measured, take_turns};
use crate::tunnels;

/// Octets of an inner frame, which are those to seal.
const SIZES: [usize; 5] = [64, 256, 512, 1420, 8900];
/// Frames that a worker gets at once.
const BATCHES: [usize; 4] = [1, 8, 32, 64];
/// The batch for which there are targets: one that a busy queue hands over.
const TARGET_BATCH: usize = 32;
/// How many times the AEAD's own time a frame may take, at this many octets.
const RATIO_MOST: (usize, f64) = (1420, 1.25);
/// How many nanoseconds more than the AEAD's own time a frame may take, at this many octets.
const MORE_MOST_NS: (usize, f64) = (64, 60.0);
/// How many times as fast as each other implementation it has to be.
const PEERS_LEAST: f64 = 2.0;
/// Octets of a round, so that it is long against the clock's resolution, short against what
/// disturbs it, and its memory in the caches.
const ROUND: usize = 1 << 17;
/// The most frames of a round, for the same reason.
const FRAMES_MAX: usize = 4 * BURST_MAX;

/// What is measured, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds of each contender, which take turns: 10 to 100000.
    #[arg(long, default_value_t = 200, value_parser = crate::parse_rounds)]
    rounds: u32,
    #[command(flatten)]
    options: Options,
}

/// A contender's figures at one size and batch.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    /// Nanoseconds a frame.
    median_ns: f64,
    lower_quartile_ns: f64,
    upper_quartile_ns: f64,
    /// Of one frame; `None` where the CPU's counters cannot be read.
    counted: Option<Counted>,
}

/// One row of the table.
#[derive(Debug, Serialize)]
struct Row {
    /// `egress` or `ingress`.
    direction: &'static str,
    octets: usize,
    batch: usize,
    aead: Figure,
    pipeline: Figure,
    /// The pipeline's time by the AEAD's.
    ratio: f64,
    /// The pipeline's time less the AEAD's, in nanoseconds.
    more_ns: f64,
    others: Vec<Other>,
}

/// Another implementation.
#[derive(Debug, Serialize)]
struct Other {
    name: &'static str,
    figure: Figure,
    /// Its time by the pipeline's.
    slower: f64,
}

/// Everything that `--json` writes, beside the machine.
#[derive(Debug, Serialize)]
struct Report {
    rounds: u32,
    /// Why there are no cycles and instructions; `None` if there are.
    not_counted: Option<String>,
    rows: Vec<Row>,
}

/// Measures, prints, and fails when a target is missed.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let machine = Disclosure::take();
    print!("{machine}");
    let mut report = Report {
        rounds: arguments.rounds,
        not_counted: counters::obstacle(),
        rows: Vec::new(),
    };
    print_head(&report);
    let mut missed = Vec::new();
    for octets in SIZES {
        for batch in BATCHES {
            let rows = measure(arguments.rounds, octets, batch)?;
            for row in &rows {
                print_row(row);
                missed.extend(missed_targets(row));
            }
            report.rows.extend(rows);
        }
    }
    arguments.options.finish(&machine, &report, &missed)
}

fn print_head(report: &Report) {
    println!(
        "{} rounds, contenders in turn; ns a frame: median [quartiles]",
        report.rounds
    );
    match &report.not_counted {
        None => println!("cycles and instructions a frame, of user code: below each row"),
        Some(why) => println!("cycles and instructions a frame: not available ({why})"),
    }
    if cfg!(not(feature = "peers")) {
        println!("other implementations: not built in (--features peers)");
    }
    println!(
        "{:>6} {:>5} {:>8}  {:>28} {:>28} {:>6} {:>8}",
        "octets", "batch", "", "AEAD alone", "pipeline", "ratio", "more, ns"
    );
}

fn print_row(row: &Row) {
    println!(
        "{:>6} {:>5} {:>8}  {:>28} {:>28} {:>6.2} {:>8.1}",
        row.octets,
        row.batch,
        row.direction,
        row.aead.shown(),
        row.pipeline.shown(),
        row.ratio,
        row.more_ns
    );
    for other in &row.others {
        println!(
            "{:>21}  {:>28} {:>28} x {:.2} of pipeline",
            "",
            other.name,
            other.figure.shown(),
            other.slower
        );
    }
    let both = row.aead.counted.zip(row.pipeline.counted);
    if let Some((aead, pipeline)) = both {
        println!(
            "{:>21}  cycles {:.0} and {:.0}, instructions {:.0} and {:.0}",
            "", aead.cycles, pipeline.cycles, aead.instructions, pipeline.instructions
        );
    }
}

impl Figure {
    fn new(measured: Measured, meter: &RefCell<Meter>) -> Self {
        Self {
            median_ns: measured.median,
            lower_quartile_ns: measured.lower,
            upper_quartile_ns: measured.upper,
            counted: meter.borrow_mut().counted(),
        }
    }

    fn shown(&self) -> String {
        let measured = Measured {
            median: self.median_ns,
            lower: self.lower_quartile_ns,
            upper: self.upper_quartile_ns,
        };
        measured.shown(1)
    }
}

/// What a row should be and is not.
fn missed_targets(row: &Row) -> Vec<String> {
    let mut missed = Vec::new();
    if row.batch != TARGET_BATCH {
        return missed;
    }
    let name = format!(
        "{} of {} octets, batch of {}",
        row.direction, row.octets, row.batch
    );
    let (octets, most) = RATIO_MOST;
    if row.octets == octets && row.ratio > most {
        let ratio = row.ratio;
        missed.push(format!(
            "{name}: {ratio:.2} times the AEAD's time, not {most}"
        ));
    }
    let (octets, most) = MORE_MOST_NS;
    if row.octets == octets && row.more_ns > most {
        let more = row.more_ns;
        missed.push(format!(
            "{name}: {more:.1} ns more than the AEAD, not {most}"
        ));
    }
    for other in row.others.iter().filter(|other| other.slower < PEERS_LEAST) {
        let Other {
            name: whose,
            slower,
            ..
        } = other;
        missed.push(format!(
            "{name}: {slower:.2} times as fast as {whose}, not {PEERS_LEAST}"
        ));
    }
    missed
}

/// Contenders of our own: the AEAD and the pipeline, either way.
const OURS: usize = 4;

/// A contender: an operation on all frames of a round, in turn with the others.
type Turn<'a> = Box<dyn FnMut() -> (u32, Duration) + 'a>;

/// All contenders at one size and batch: rows for egress and ingress.
fn measure(rounds: u32, octets: usize, batch: usize) -> Result<[Row; 2], Failure> {
    let frames = (ROUND / octets).clamp(BURST_MAX, FRAMES_MAX) / BURST_MAX * BURST_MAX;
    let load = Load {
        octets,
        batch,
        frames,
        peers: 1,
    };
    let pair = RefCell::new(Pair::new(load)?);
    let failed = RefCell::new(None);
    // A contender that fails is told of after the rounds; its times are then nobody's.
    let note = |done: Result<(u32, Duration), Failure>| {
        done.unwrap_or_else(|why| {
            failed.borrow_mut().get_or_insert(why);
            (1, Duration::ZERO)
        })
    };
    let operations = frames as u32;
    let tunnels: Vec<_> = tunnels::all(octets, frames)?
        .into_iter()
        .map(RefCell::new)
        .collect();
    let meters = 0..OURS + 2 * tunnels.len();
    let meters: Vec<_> = meters.map(|_| RefCell::new(Meter::new())).collect();
    let meter = |at: usize, work: &mut dyn FnMut()| meters[at].borrow_mut().time(operations, work);
    let mut turns: Vec<Turn<'_>> = vec![
        Box::new(|| pair.borrow_mut().seal(|work| meter(0, work))),
        Box::new(|| note(pair.borrow_mut().egress(|work| meter(1, work)))),
        Box::new(|| note(pair.borrow_mut().open(|work| meter(2, work)))),
        Box::new(|| note(pair.borrow_mut().ingress(|work| meter(3, work)))),
    ];
    for (tunnel, meters) in tunnels.iter().zip(meters[OURS..].chunks(2)) {
        let note = &note;
        turns.push(Box::new(move || {
            note(tunnel.borrow_mut().encapsulate(&mut meters[0].borrow_mut()))
        }));
        turns.push(Box::new(move || {
            note(tunnel.borrow_mut().decapsulate(&mut meters[1].borrow_mut()))
        }));
    }
    let mut turns: Vec<&mut dyn FnMut() -> (u32, Duration)> =
        turns.iter_mut().map(|turn| &mut **turn as _).collect();
    let measured = take_turns(rounds, &mut turns);
    if let Some(why) = failed.take() {
        return Err(why);
    }
    let figure = |at: usize| Figure::new(measured[at], &meters[at]);
    let row = |direction, at: usize| {
        let (aead, pipeline) = (figure(at), figure(at + 1));
        let others = tunnels.iter().zip((OURS + at / 2..).step_by(2));
        let others = others.map(|(tunnel, at)| {
            let (name, figure) = (tunnel.borrow().name(), figure(at));
            Other {
                name,
                slower: figure.median_ns / pipeline.median_ns,
                figure,
            }
        });
        Row {
            direction,
            octets,
            batch,
            ratio: pipeline.median_ns / aead.median_ns,
            more_ns: pipeline.median_ns - aead.median_ns,
            others: others.collect(),
            aead,
            pipeline,
        }
    };
    Ok([row("egress", 0), row("ingress", 2)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(octets: usize, batch: usize, aead: f64, pipeline: f64, other: f64) -> Row {
        let figure = |median_ns| Figure {
            median_ns,
            lower_quartile_ns: median_ns,
            upper_quartile_ns: median_ns,
            counted: None,
        };
        Row {
            direction: "egress",
            octets,
            batch,
            aead: figure(aead),
            pipeline: figure(pipeline),
            ratio: pipeline / aead,
            more_ns: pipeline - aead,
            others: vec![Other {
                name: "another",
                figure: figure(other),
                slower: other / pipeline,
            }],
        }
    }

    #[test]
    fn each_target_holds_at_its_size_and_batch() {
        let missed = |row: &Row| missed_targets(row).len();
        assert_eq!(missed(&row(1420, 32, 400.0, 500.0, 1000.0)), 0);
        assert_eq!(missed(&row(1420, 32, 400.0, 501.0, 1002.0)), 1, "the ratio");
        assert_eq!(missed(&row(64, 32, 60.0, 120.0, 240.0)), 0);
        assert_eq!(missed(&row(64, 32, 60.0, 121.0, 242.0)), 1, "the time");
        assert_eq!(
            missed(&row(512, 32, 60.0, 200.0, 400.0)),
            0,
            "no target there"
        );
        assert_eq!(
            missed(&row(512, 32, 60.0, 200.0, 399.0)),
            1,
            "another is near"
        );
        assert_eq!(missed(&row(64, 32, 60.0, 200.0, 300.0)), 2, "both");
        assert_eq!(missed(&row(64, 8, 60.0, 200.0, 300.0)), 0, "not this batch");
    }

    #[test]
    fn all_that_is_built_in_is_measured() {
        let rows = measure(10, 256, 8).expect("nodes and tunnels");
        for row in rows {
            assert!(row.aead.median_ns > 0.0 && row.pipeline.median_ns > 0.0);
            let others = if cfg!(feature = "peers") { 2 } else { 0 };
            assert_eq!(row.others.len(), others);
            assert!(row.others.iter().all(|other| other.figure.median_ns > 0.0));
        }
    }
}
