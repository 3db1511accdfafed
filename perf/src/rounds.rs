//! Contenders that take turns, so that what disturbs one disturbs all.

use std::time::Duration;

/// Median and quartiles of a contender's rounds, in nanoseconds an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Half of the rounds were faster.
    pub(crate) median: f64,
    /// A quarter of them.
    pub(crate) lower: f64,
    /// Three quarters.
    pub(crate) upper: f64,
}

impl Measured {
    /// The median, and the quartiles beside it.
    pub(crate) fn shown(self, decimals: usize) -> String {
        let Self {
            median,
            lower,
            upper,
        } = self;
        format!("{median:.decimals$} [{lower:.decimals$} to {upper:.decimals$}]")
    }
}

/// Runs every contender once a round. A contender says how many operations it did and how long
/// they took, without what it had to prepare.
pub(crate) fn take_turns(
    rounds: u32,
    contenders: &mut [&mut dyn FnMut() -> (u32, Duration)],
) -> Vec<Measured> {
    let mut times = vec![Vec::with_capacity(rounds as usize); contenders.len()];
    // The first rounds warm caches and tables and do not count.
    let warm_up = rounds / 10;
    for round in 0..rounds + warm_up {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let (operations, elapsed) = contender();
            if round >= warm_up {
                times.push(elapsed.as_nanos() as f64 / f64::from(operations.max(1)));
            }
        }
    }
    times.into_iter().map(summary).collect()
}

/// Median and quartiles of `times`, of which there is at least one.
pub(crate) fn summary(mut times: Vec<f64>) -> Measured {
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times[(times.len() - 1) * share / 4];
    Measured {
        median: at(2),
        lower: at(1),
        upper: at(3),
    }
}
