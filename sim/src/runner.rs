//! Runs seeds: one, or many side by side.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::Checked;
use crate::report::{Report, Summary, Violation};
use crate::world::{Setup, World};

/// Runs `life` in a new world. A panic counts as a broken rule.
///
/// # Errors
/// The report on the first rule that was broken.
pub fn run(setup: Setup, life: impl FnOnce(&mut World) -> Checked) -> Result<Summary, Box<Report>> {
    let mut world = World::new(setup);
    let result = catch_unwind(AssertUnwindSafe(|| life(&mut world)));
    let violation = match result {
        Ok(Ok(())) => return Ok(world.summary()),
        Ok(Err(violation)) => violation,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            Violation(format!("panic: {}", text.unwrap_or_default()))
        }
    };
    Err(Box::new(world.report(violation)))
}

/// Everything at once, for `minutes` of virtual time, and then the way back to normal.
///
/// # Errors
/// The report on the first rule that was broken.
pub fn chaos(seed: u64, nodes: usize, minutes: u64) -> Result<Summary, Box<Report>> {
    let again = format!("make sim SEEDS=1 FIRST={seed} NODES={nodes} MINUTES={minutes}");
    let span = Duration::from_secs(60 * minutes);
    run(Setup::new(seed, nodes, again), |world| {
        world.live_through(span)
    })
}

/// Runs all `seeds`, as many side by side as there are cores, and tells `done` of each. When a
/// run fails, those that have begun are ended and no others begin.
///
/// # Errors
/// The report of the smallest seed that failed.
pub fn all(
    seeds: Range<u64>,
    one: impl Fn(u64) -> Result<Summary, Box<Report>> + Sync,
    done: impl Fn(&Summary) + Sync,
) -> Result<Vec<Summary>, Box<Report>> {
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new((Vec::new(), Vec::<Box<Report>>::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let result = one(seed);
            if let Ok(summary) = &result {
                done(summary);
            }
            // A panic of another thread leaves whole results behind.
            let mut results = results.lock().unwrap_or_else(|poison| poison.into_inner());
            match result {
                Ok(summary) => results.0.push(summary),
                Err(report) => {
                    results.1.push(report);
                    next.store(seeds.end, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let results = results.into_inner();
    let (mut summaries, reports) = results.unwrap_or_else(|poison| poison.into_inner());
    match reports.into_iter().min_by_key(|report| report.seed) {
        Some(report) => Err(report),
        None => {
            summaries.sort_by_key(|summary| summary.seed);
            Ok(summaries)
        }
    }
}
