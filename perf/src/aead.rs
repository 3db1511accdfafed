//! The AEAD's back-ends beside `ring` and other libraries, over sizes and batches; and whether
//! time tells secrets.

mod libraries;
mod timing;

use std::cell::RefCell;
use std::time::{Duration, Instant as Clock};

use omni_engine::aead::{
    Backend, Key, OpenJob, SealJob, open_batch, open_batch_with, seal_batch, seal_batch_with,
};
use serde::Serialize;

use crate::Failure;
use crate::counters::Meter;
use crate::disclosure::Disclosure;
use crate::report::Options;
use crate::rounds::{Measured, take_turns};
use crate::tunnels;

/// Payload lengths in octets.
const SIZES: [usize; 5] = [64, 256, 512, 1420, 8900];
/// Messages that are handed over at once.
const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// The batch for which there are targets.
const TARGET_BATCH: usize = 32;
/// How many times as fast as `ring` sealing with AVX-512 has to be in that batch, by size.
const TARGETS: [f64; 5] = [4.0, 2.5, 2.2, 1.8, 1.6];
/// The least ratio to `ring` of what the product chooses, anywhere: never slower, but for what two
/// measurements of the same thing differ by.
const NEVER_SLOWER: f64 = 0.95;
/// Octets that a round works on, so that it is long against the clock's resolution and short
/// against what disturbs it.
const ROUND: usize = 1 << 17;
/// The header before a payload.
const HEADER: usize = 32;
/// Octets of outer headers that a received message has before it: Ethernet, IPv4, UDP.
const OUTER: usize = 42;

/// What is measured, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds of each contender, which take turns: 10 to 100000.
    #[arg(long, default_value_t = 60, value_parser = crate::parse_rounds)]
    rounds: u32,
    /// Instead of speed: whether keys, plaintext or where a tag is wrong can be told from the time
    /// that work takes. Welch's t between classes of inputs.
    #[arg(long)]
    timing: bool,
    /// With --timing: measurements of each pair of classes, 1000 to 10000000.
    #[arg(long, default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    samples: u32,
    #[command(flatten)]
    options: Options,
}

/// One row of the table.
#[derive(Debug, Serialize)]
struct Row {
    operation: &'static str,
    octets: usize,
    batch: usize,
    /// A name of [`Backend::NAMES`], `chosen` for what the product chooses, or another library:
    /// `aws-lc-rs`, or the whole `encapsulate` or `decapsulate` of `boringtun` or `gotatun`.
    backend: &'static str,
    /// Nanoseconds a message.
    median_ns: f64,
    lower_quartile_ns: f64,
    upper_quartile_ns: f64,
    /// How many times as fast as `ring`.
    speed_of_ring: f64,
}

/// Everything that `--json` writes.
#[derive(Debug, Serialize)]
struct Report {
    rounds: u32,
    /// Back-ends that this CPU is not able to.
    skipped: Vec<&'static str>,
    rows: Vec<Row>,
}

/// Measures, prints, and fails when a target is missed.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let machine = Disclosure::take();
    print!("{machine}");
    if arguments.timing {
        return timing::run(arguments.samples, &machine, &arguments.options);
    }
    let mut missed = Vec::new();
    let mut report = Report {
        rounds: arguments.rounds,
        skipped: Vec::new(),
        rows: Vec::new(),
    };
    let names = Backend::NAMES.iter();
    report.skipped = names
        .copied()
        .filter(|name| Backend::by_name(name).is_none())
        .collect();
    print_head(&report);
    for operation in ["seal", "open"] {
        for octets in SIZES {
            for batch in BATCHES {
                let rows = measure(arguments.rounds, operation, octets, batch)?;
                print_rows(&rows);
                missed.extend(rows.iter().filter_map(missed_target));
                report.rows.extend(rows);
            }
        }
    }
    arguments.options.finish(&machine, &report, &missed)
}

fn print_head(report: &Report) {
    println!(
        "{} rounds, contenders in turn; ns a message: median [quartiles], and how many times as \
         fast as ring",
        report.rounds
    );
    for name in &report.skipped {
        println!("SKIPPED: this CPU is not able to {name}");
    }
}

fn print_rows(rows: &[Row]) {
    for row in rows {
        let measured = Measured {
            median: row.median_ns,
            lower: row.lower_quartile_ns,
            upper: row.upper_quartile_ns,
        };
        println!(
            "{:>5} {:>5} octets, batch of {:>2}  {:>9}  {:>28}  {:>5.2}",
            row.operation,
            row.octets,
            row.batch,
            row.backend,
            measured.shown(0),
            row.speed_of_ring
        );
    }
}

/// What a row should be and is not.
fn missed_target(row: &Row) -> Option<String> {
    let target = match row.backend {
        "chosen" => NEVER_SLOWER,
        "avx512" if row.batch == TARGET_BATCH && row.operation == "seal" => {
            let at = SIZES.iter().position(|size| *size == row.octets)?;
            TARGETS[at]
        }
        _ => return None,
    };
    (row.speed_of_ring < target).then(|| {
        format!(
            "{} {} octets, batch of {}: {} is {:.2} times as fast as ring, not {target}",
            row.operation, row.octets, row.batch, row.backend, row.speed_of_ring
        )
    })
}

/// Whose turn it is: a back-end that is forced, or what the product chooses.
#[derive(Clone, Copy)]
struct Contender {
    name: &'static str,
    backend: Option<Backend>,
}

fn contenders() -> Vec<Contender> {
    let names = Backend::NAMES.iter();
    let able = names.filter_map(|name| {
        Backend::by_name(name).map(|backend| Contender {
            name,
            backend: Some(backend),
        })
    });
    let chosen = Contender {
        name: "chosen",
        backend: None,
    };
    able.chain([chosen]).collect()
}

fn measure(
    rounds: u32,
    operation: &'static str,
    octets: usize,
    batch: usize,
) -> Result<Vec<Row>, Failure> {
    let contenders = contenders();
    let seals = operation == "seal";
    // All work in the same memory: a few per cent depend on where that is.
    let work = RefCell::new(Frames::new(seals, octets, batch));
    // These take messages one by one: one batch says all.
    let (mut libraries, mut tunnels) = (Vec::new(), Vec::new());
    if batch == TARGET_BATCH {
        libraries = libraries::all(octets)?;
        tunnels = tunnels::all(octets, work.borrow().frames.len())?;
    }
    let failed = RefCell::new(None);
    // A contender that fails is told of after the rounds; its times are then nobody's.
    let note = |done: Result<(u32, Duration), Failure>| {
        done.unwrap_or_else(|why| {
            failed.borrow_mut().get_or_insert(why);
            (1, Duration::ZERO)
        })
    };
    let mut turns: Vec<Box<dyn FnMut() -> (u32, Duration) + '_>> = Vec::new();
    for &Contender { backend, .. } in &contenders {
        let once = if seals { seal_once } else { open_once };
        let work = &work;
        turns.push(Box::new(move || {
            let (_, time) = work.borrow_mut().round(|key, frames| {
                for frames in frames.chunks_mut(batch) {
                    once(backend, key, frames);
                }
            });
            time
        }));
    }
    let names = contenders.iter().map(|contender| contender.name);
    let names = names.chain(libraries.iter().map(|library| library.name()));
    let names = names.chain(tunnels.iter().map(|tunnel| tunnel.name()));
    let names: Vec<&'static str> = names.collect();
    for library in &mut libraries {
        turns.push(Box::new(|| {
            let (done, time) = work.borrow_mut().round(|_, frames| {
                if seals {
                    library.seal(frames)
                } else {
                    library.open(frames)
                }
            });
            note(done.map(|()| time))
        }));
    }
    for tunnel in &mut tunnels {
        let (mut meter, note) = (Meter::new(), &note);
        turns.push(Box::new(move || {
            let sealed = tunnel.encapsulate(&mut meter);
            let opened = tunnel.decapsulate(&mut meter);
            note(if seals { sealed } else { opened })
        }));
    }
    let mut turns: Vec<&mut dyn FnMut() -> (u32, Duration)> =
        turns.iter_mut().map(|turn| &mut **turn as _).collect();
    let measured = take_turns(rounds, &mut turns);
    if let Some(why) = failed.take() {
        return Err(why);
    }
    let rows = names.into_iter().zip(&measured);
    let rows = rows.map(|(backend, time)| Row {
        operation,
        octets,
        batch,
        backend,
        median_ns: time.median,
        lower_quartile_ns: time.lower,
        upper_quartile_ns: time.upper,
        speed_of_ring: measured[0].median / time.median,
    });
    Ok(rows.collect())
}

/// What the rounds work on: messages behind outer headers.
struct Frames {
    key: Key,
    /// Messages as they are before each round.
    original: Vec<Vec<u8>>,
    frames: Vec<Vec<u8>>,
}

impl Frames {
    fn new(seals: bool, octets: usize, batch: usize) -> Self {
        let key = Key::new(&[1; 32]);
        let sets = (ROUND / (batch * (octets + OUTER + HEADER))).clamp(1, 64);
        let mut original: Vec<Vec<u8>> = (0..sets * batch)
            .map(|i| vec![i as u8; HEADER + octets])
            .collect();
        if !seals {
            let jobs = original.iter_mut().map(|message| SealJob {
                key: &key,
                message,
                plaintext_offset: HEADER,
            });
            seal_batch_with(Backend::RING, &mut jobs.collect::<Vec<_>>());
        }
        let frames = original
            .iter()
            .map(|message| [&[0; OUTER][..], message].concat())
            .collect();
        Self {
            key,
            original,
            frames,
        }
    }

    /// Has all messages worked on, in their places behind outer headers: where the frame begins
    /// what is opened comes to be. They are put there before, outside of what is timed.
    fn round<R>(&mut self, work: impl FnOnce(&Key, &mut [Vec<u8>]) -> R) -> (R, (u32, Duration)) {
        for (frame, message) in self.frames.iter_mut().zip(&self.original) {
            frame[OUTER..].copy_from_slice(message);
        }
        let start = Clock::now();
        let done = work(&self.key, &mut self.frames);
        let elapsed = start.elapsed();
        (done, (self.frames.len() as u32, elapsed))
    }
}

fn seal_once(backend: Option<Backend>, key: &Key, frames: &mut [Vec<u8>]) {
    let jobs = frames.iter_mut().map(|frame| SealJob {
        key,
        message: &mut frame[OUTER..],
        plaintext_offset: HEADER,
    });
    let mut jobs: arrayvec::ArrayVec<_, 64> = jobs.collect();
    match backend {
        Some(backend) => seal_batch_with(backend, &mut jobs),
        None => seal_batch(&mut jobs),
    }
}

fn open_once(backend: Option<Backend>, key: &Key, frames: &mut [Vec<u8>]) {
    let jobs = frames.iter_mut().map(|frame| OpenJob {
        key,
        frame,
        header_offset: OUTER,
        verified: false,
    });
    let mut jobs: arrayvec::ArrayVec<_, 64> = jobs.collect();
    match backend {
        Some(backend) => open_batch_with(backend, &mut jobs),
        None => open_batch(&mut jobs),
    }
    assert!(jobs.iter().all(|job| job.verified), "what was sealed opens");
}
