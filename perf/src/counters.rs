//! Cycles and instructions, from the CPU's own counters. Few virtual machines have them: then it
//! is said why not, and times stand alone.

use std::time::{Duration, Instant as Clock};

use perf_event::events::Hardware;
use perf_event::{Builder, Counter, Group};
use serde::Serialize;

/// What a contender's turns took, all together.
pub(crate) struct Meter {
    counters: Option<Counters>,
    operations: u64,
}

struct Counters {
    group: Group,
    cycles: Counter,
    instructions: Counter,
}

/// Of one operation, on average over all turns, user code only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Counted {
    pub(crate) cycles: f64,
    pub(crate) instructions: f64,
}

impl Meter {
    /// One with counters, or without where there are none.
    pub(crate) fn new() -> Self {
        Self {
            counters: Counters::open().ok(),
            operations: 0,
        }
    }

    /// Has `work` done, which is so many operations, and says how long that took.
    pub(crate) fn time(&mut self, operations: u32, work: &mut dyn FnMut()) -> (u32, Duration) {
        // Counters that cannot be switched on count nothing, which is told from zero later.
        let mut group = self.counters.as_mut().map(|counters| &mut counters.group);
        if let Some(group) = &mut group {
            let _ = group.enable();
        }
        let start = Clock::now();
        work();
        let elapsed = start.elapsed();
        if let Some(group) = &mut group {
            let _ = group.disable();
        }
        self.operations += u64::from(operations);
        (operations, elapsed)
    }

    /// What was counted so far, if anything can be.
    pub(crate) fn counted(&mut self) -> Option<Counted> {
        let counters = self.counters.as_mut()?;
        let counts = counters.group.read().ok()?;
        let each = |counter| {
            let count = counts.get(counter)?.value();
            (count > 0 && self.operations > 0).then(|| count as f64 / self.operations as f64)
        };
        Some(Counted {
            cycles: each(&counters.cycles)?,
            instructions: each(&counters.instructions)?,
        })
    }
}

impl Counters {
    fn open() -> std::io::Result<Self> {
        let mut group = Group::new()?;
        let cycles = group.add(&Builder::new(Hardware::CPU_CYCLES))?;
        let instructions = group.add(&Builder::new(Hardware::INSTRUCTIONS))?;
        Ok(Self {
            group,
            cycles,
            instructions,
        })
    }
}

/// Why there is nothing to count with; `None` if there is.
pub(crate) fn obstacle() -> Option<String> {
    Counters::open().err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_of_one_operation_and_there_or_the_reason_why_not() {
        let mut meter = Meter::new();
        let mut done = 0u32;
        let (operations, elapsed) = meter.time(1000, &mut || {
            for i in 0..1000 {
                done = std::hint::black_box(done + i % 2 + 1);
            }
        });
        assert_eq!((operations, done), (1000, 1500));
        assert!(elapsed > Duration::ZERO);
        match (meter.counted(), obstacle()) {
            (Some(each), None) => {
                assert!((2.0..1000.0).contains(&each.instructions), "{each:?}");
                assert!(each.cycles > 0.0, "{each:?}");
            }
            // Counters that open and stay at zero are those of some hypervisors.
            (None, why) => eprintln!("SKIPPED: no counters: {why:?}"),
            (Some(each), Some(why)) => panic!("{each:?} although {why}"),
        }
    }
}
