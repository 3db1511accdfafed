//! Everything at once, seed by seed; and that a seed decides everything.

mod common;

use std::time::Duration;

use common::{or_panic, setup};
use omni_sim::{Summary, Weights, runner};

/// Seeds that `make test` lives through.
const SEEDS: u64 = 25;
const NODES: usize = 20;
const MINUTES: u64 = 10;

/// Seeds that broke a rule once: hosts, virtual minutes, and what it was.
const REGRESSIONS: &[(u64, usize, u64, &str)] = &[
    (
        4,
        10,
        10,
        "a host that moved before its session was confirmed could not be reached for minutes",
    ),
    (
        58,
        20,
        10,
        "an initiation of a clock that was wrong was held back over a restart, and locked out",
    ),
    (
        170,
        20,
        10,
        "the same, with the clock wrong in more than one way",
    ),
];

#[test]
fn fabrics_keep_every_rule_through_all_faults() {
    let one = |seed| runner::chaos(seed, NODES, MINUTES);
    let summaries = or_panic(runner::all(1..SEEDS + 1, one, |_| {}));
    assert_eq!(summaries.len() as u64, SEEDS);
    let sum = |of: fn(&Summary) -> u64| summaries.iter().map(of).sum::<u64>();
    assert!(
        sum(|s| s.delivered) > 500_000,
        "too quiet to prove anything"
    );
    assert!(
        sum(|s| s.sessions) > 50_000,
        "too few handshakes to prove anything"
    );
    assert!(sum(|s| s.records) > 500_000, "too few records");
    assert!(sum(|s| s.answered) > 5000, "too few questions answered");
    assert!(sum(|s| s.moves) > 5000, "too few moves");
}

#[test]
fn seeds_that_broke_a_rule_once_break_none_now() {
    for &(seed, nodes, minutes, what) in REGRESSIONS {
        let result = runner::chaos(seed, nodes, minutes);
        result.unwrap_or_else(|report| panic!("{what}: {report}"));
    }
}

#[test]
fn a_seed_decides_everything_to_the_octet() {
    let life = |seed| or_panic(runner::chaos(seed, 6, 3));
    let (first, again) = (life(7), life(7));
    assert_eq!(first, again);
    let others = [8, 9, 10].map(|seed| life(seed).digest);
    assert!(others.iter().all(|digest| *digest != first.digest));
}

#[test]
fn a_calm_network_loses_nothing_at_all() {
    for seed in [0, 1, 2, 3, 37] {
        let setup = setup(seed, 12, "a_calm_network_loses_nothing_at_all");
        let result = runner::run(setup, |world| {
            world.meet(Duration::from_secs(10))?;
            world.advance(Duration::from_secs(1))?;
            world.set_weights(Weights::calm());
            let first = world.totals().frames;
            world.live_through(Duration::from_secs(600))?;
            world.all_arrived(first)
        });
        let summary = or_panic(result);
        assert!(summary.sessions > 12 * 11, "sessions were renewed");
    }
}
