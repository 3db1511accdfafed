//! Whether time tells secrets, in the manner of dudect (Reparaz, Balasch and Verbauwhede, 2017):
//! inputs of two classes in random order, and Welch's t between their times.
//!
//! ```text
//!   what               class 0                     class 1
//!   seal               one key, one plaintext      keys and plaintexts at random
//!   open               the same, right tags
//!   open, wrong tags   wrong in the first octet    wrong in the last
//! ```
//!
//! Right against wrong tags is printed as well and not judged: what did not verify is not
//! decrypted, and whether it did is no secret.

use std::time::Instant as Clock;

use omni_engine::aead::{
    BATCH_MAX, Backend, Key, OpenJob, SealJob, open_batch_with, seal_batch_with,
};
use serde::Serialize;

use crate::Failure;
use crate::disclosure::Disclosure;
use crate::report::Options;

/// Beyond 4.5 a difference is customarily called one. A little more, as the machine may be shared.
const T_LIMIT: f64 = 5.0;
/// Messages of a measured call.
const BATCH: usize = 8;
/// Octets of their payloads.
const OCTETS: usize = 200;
/// The header before a payload.
const HEADER: usize = 32;
/// The share of measurements that is looked at: the slowest were interrupted.
const KEPT: f64 = 0.9;

const _: () = assert!(BATCH <= BATCH_MAX);

/// What was found of one pair of classes.
#[derive(Debug, Serialize)]
struct Finding {
    backend: &'static str,
    classes: &'static str,
    samples: u32,
    mean_ns: [f64; 2],
    t: f64,
    /// Whether a great t is a failure.
    judged: bool,
}

/// Everything that `--json` writes.
#[derive(Debug, Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

/// A pair of classes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pair {
    Seal,
    Open,
    WrongTags,
    RightOrWrong,
}

impl Pair {
    const ALL: [Self; 4] = [Self::Seal, Self::Open, Self::WrongTags, Self::RightOrWrong];

    fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal: fixed against random",
            Self::Open => "open: fixed against random",
            Self::WrongTags => "open: first against last octet of the tag wrong",
            Self::RightOrWrong => "open: right against wrong tag (not judged)",
        }
    }
}

/// Measures each pair with each back-end, prints, and fails when time tells something.
pub(crate) fn run(samples: u32, machine: &Disclosure, options: &Options) -> Result<(), Failure> {
    let mut findings = Vec::new();
    for name in Backend::NAMES {
        let Some(backend) = Backend::by_name(name) else {
            eprintln!("SKIPPED: this CPU is not able to {name}");
            continue;
        };
        for pair in Pair::ALL {
            let finding = measure(name, backend, pair, samples)?;
            println!(
                "{:>7}  {:<48} |t| = {:>6.2}  means {:.1} and {:.1} ns",
                finding.backend,
                finding.classes,
                finding.t.abs(),
                finding.mean_ns[0],
                finding.mean_ns[1]
            );
            findings.push(finding);
        }
    }
    let told = |finding: &&Finding| finding.judged && finding.t.abs() > T_LIMIT;
    let told: Vec<String> = findings
        .iter()
        .filter(told)
        .map(|finding| {
            let t = finding.t.abs();
            let (backend, classes) = (finding.backend, finding.classes);
            format!("{backend}, {classes}: |t| is {t:.2}, beyond {T_LIMIT}")
        })
        .collect();
    options.finish(machine, &Findings { findings }, &told)
}

fn measure(
    name: &'static str,
    backend: Backend,
    pair: Pair,
    samples: u32,
) -> Result<Finding, Failure> {
    let mut noise = Noise::new()?;
    let mut times = [Vec::new(), Vec::new()];
    let mut frames = vec![vec![0; HEADER + OCTETS]; BATCH];
    // The first hundred warm up and do not count.
    for sample in 0..samples + 100 {
        let class = (noise.next() >> 63) as usize;
        let key = prepare(backend, pair, class, &mut noise, &mut frames);
        let elapsed = timed(backend, pair, &key, &mut frames);
        if sample >= 100 {
            times[class].push(elapsed);
        }
    }
    let (t, mean_ns) = welch(&mut times);
    Ok(Finding {
        backend: name,
        classes: pair.name(),
        samples,
        mean_ns,
        t,
        judged: pair != Pair::RightOrWrong,
    })
}

/// Puts inputs of the class into the frames. Both classes do the same work here.
fn prepare(
    backend: Backend,
    pair: Pair,
    class: usize,
    noise: &mut Noise,
    frames: &mut [Vec<u8>],
) -> Key {
    // Noise is made either way and masked away, so that what comes before is the same.
    let is_random = class == 1 && matches!(pair, Pair::Seal | Pair::Open);
    let mask = std::hint::black_box(if is_random { 0xff } else { 0 });
    let mut octets = [0; 32];
    noise.fill(&mut octets, mask);
    let key = Key::new(&octets);
    for frame in &mut *frames {
        let (header, payload) = frame.split_at_mut(HEADER);
        noise.fill(header, 0xff);
        noise.fill(payload, mask);
    }
    if pair == Pair::Seal {
        return key;
    }
    seal(backend, &key, frames);
    let (first, last) = (HEADER - 16, HEADER - 1);
    let at = match (pair, class) {
        (Pair::WrongTags, 0) => Some(first),
        (Pair::WrongTags, _) | (Pair::RightOrWrong, 1) => Some(last),
        _ => None,
    };
    if let Some(at) = at {
        for frame in frames {
            frame[at] ^= 1;
        }
    }
    key
}

fn timed(backend: Backend, pair: Pair, key: &Key, frames: &mut [Vec<u8>]) -> f64 {
    let start = Clock::now();
    if pair == Pair::Seal {
        seal(backend, key, frames);
    } else {
        let jobs = frames.iter_mut().map(|frame| OpenJob {
            key,
            frame,
            header_offset: 0,
            verified: false,
        });
        open_batch_with(backend, &mut jobs.collect::<arrayvec::ArrayVec<_, BATCH>>());
    }
    start.elapsed().as_nanos() as f64
}

fn seal(backend: Backend, key: &Key, frames: &mut [Vec<u8>]) {
    let jobs = frames.iter_mut().map(|message| SealJob {
        key,
        message,
        plaintext_offset: HEADER,
    });
    seal_batch_with(backend, &mut jobs.collect::<arrayvec::ArrayVec<_, BATCH>>());
}

/// Welch's t between the classes' times, and their means, without the slowest of all.
fn welch(times: &mut [Vec<f64>; 2]) -> (f64, [f64; 2]) {
    let mut all: Vec<f64> = times.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let limit = all[((all.len() - 1) as f64 * KEPT) as usize];
    let [(mean0, square0), (mean1, square1)] = [0, 1].map(|class| {
        times[class].retain(|time| *time <= limit);
        let count = times[class].len().max(2) as f64;
        let mean = times[class].iter().sum::<f64>() / count;
        let squares = times[class].iter().map(|time| (time - mean).powi(2));
        (mean, squares.sum::<f64>() / (count - 1.0) / count)
    });
    let spread = (square0 + square1).sqrt();
    let t = if spread > 0.0 {
        (mean0 - mean1) / spread
    } else {
        0.0
    };
    (t, [mean0, mean1])
}

/// Inputs and their order, which nothing in the machine can be in step with (xorshift64*).
struct Noise(u64);

impl Noise {
    fn new() -> Result<Self, Failure> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)?;
        Ok(Self(u64::from_le_bytes(seed) | 1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Noise where the mask has ones, else a pattern.
    fn fill(&mut self, octets: &mut [u8], mask: u8) {
        for octets in octets.chunks_mut(8) {
            let noise = self.next().to_le_bytes();
            for (octet, noise) in octets.iter_mut().zip(noise) {
                *octet = noise & mask | 0x5a & !mask;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_and_none_does_not() {
        let mut noise = Noise(1);
        let mut with = |offset: f64| -> Vec<f64> {
            (0..20_000)
                .map(|_| 1000.0 + offset + (noise.next() >> 32) as f64 % 100.0)
                .collect()
        };
        let (same, _) = welch(&mut [with(0.0), with(0.0)]);
        assert!(same.abs() < T_LIMIT, "{same}");
        let (differs, [mean0, mean1]) = welch(&mut [with(0.0), with(5.0)]);
        assert!(differs.abs() > T_LIMIT, "{differs}");
        assert!(mean1 > mean0);
    }
}
