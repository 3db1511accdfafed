//! Every target over its seeds and a number of changes of them, without libFuzzer: what was found
//! once stays found, and the targets themselves work.

mod mutations;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutations::{Dice, mutated};
use omni_fuzz::{TARGETS, Target};

/// How long any input may take, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many changed inputs each target gets: as many as take a few tenths of a second.
/// OMNI_FUZZ_TIMES multiplies it.
const CHANGED: [(&str, u64); 21] = [
    ("aead", 1_200),
    ("agent", 400),
    ("arp", 80_000),
    ("certificate", 1_200),
    ("chunks", 2_000),
    ("config", 8_000),
    ("fdb", 8_000),
    ("handshake", 240),
    ("inner", 80_000),
    ("membership", 2_000),
    ("memory", 80_000),
    ("nd", 80_000),
    ("nucleus", 40_000),
    ("nucleus_config", 8_000),
    ("offload", 40_000),
    ("outer", 80_000),
    ("record", 80_000),
    ("replay", 20_000),
    ("request", 20_000),
    ("sessions", 240),
    ("switch", 2_000),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let at = folder().join("seeds").join(target.name);
    let listed = fs::read_dir(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
    let mut paths: Vec<PathBuf> = listed
        .map(|entry| entry.expect("an entry").path())
        .collect();
    // The order of a folder differs from machine to machine.
    paths.sort();
    let read = |path: &PathBuf| fs::read(path).expect("a seed can be read");
    paths.iter().map(read).collect()
}

/// The words of a target's dictionary, if it has one.
fn words(target: &Target) -> Vec<Vec<u8>> {
    let path = folder()
        .join("dictionaries")
        .join(format!("{}.dict", target.name));
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(word).collect()
}

/// A line such as `"\x08\x06"` or `name="text"`.
fn word(line: &str) -> Option<Vec<u8>> {
    let line = line.trim();
    let (_, rest) = line.split_once('"').filter(|_| !line.starts_with('#'))?;
    let inside = rest
        .strip_suffix('"')
        .unwrap_or_else(|| panic!("no end: {line}"));
    let mut octets = Vec::new();
    let mut rest = inside.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octet;
        (octet, rest) = match (first, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16).expect("hex") as u8;
                (digit(high) << 4 | digit(low), after)
            }
            (b'\\', [escaped, after @ ..]) => (*escaped, after),
            _ => (first, after),
        };
        octets.push(octet);
    }
    Some(octets)
}

/// Runs one input, and says all that is needed to see a failure again.
fn try_one(target: &Target, octets: &[u8], what: &dyn Fn() -> String) {
    let start = Instant::now();
    let run = catch_unwind(AssertUnwindSafe(|| (target.run)(octets)));
    assert!(
        run.is_ok(),
        "{} fails with {}: {octets:02x?}",
        target.name,
        what()
    );
    let took = start.elapsed();
    assert!(
        took < PATIENCE,
        "{} took {took:?} with {}: {octets:02x?}",
        target.name,
        what()
    );
}

fn smoke(name: &str) {
    let target = TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("a target");
    let (seeds, words) = (seeds(target), words(target));
    assert!(!seeds.is_empty(), "{name} has no seeds");
    for (at, seed) in seeds.iter().enumerate() {
        try_one(target, seed, &|| format!("seed {at}"));
    }
    let (_, count) = CHANGED
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a number");
    let times = std::env::var("OMNI_FUZZ_TIMES").ok();
    let times: u64 = times.and_then(|times| times.parse().ok()).unwrap_or(1);
    for number in 0..count * times {
        let mut dice = Dice::new(number + 1);
        let octets = mutated(&mut dice, &seeds, &words);
        try_one(target, &octets, &|| format!("change {number}"));
    }
}

macro_rules! smoke {
    ($($name:ident),+ $(,)?) => {
        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })+

        #[test]
        fn every_target_is_here() {
            let here = [$(stringify!($name)),+];
            let there: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(here[..], there);
        }
    };
}

smoke!(
    aead,
    agent,
    arp,
    certificate,
    chunks,
    config,
    fdb,
    handshake,
    inner,
    membership,
    memory,
    nd,
    nucleus,
    nucleus_config,
    offload,
    outer,
    record,
    replay,
    request,
    sessions,
    switch
);
