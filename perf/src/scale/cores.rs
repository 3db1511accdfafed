//! The same rounds on one core and on many at once, each with nodes of its own that share nothing.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant as Clock};

use crate::Failure;
use crate::in_memory::{Load, Pair};
use crate::rounds::summary;

/// Nanoseconds a frame of one worker: medians over its rounds, which are so short that other
/// programs of the machine disturb few of them, while what workers do to each other is in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) egress_ns: f64,
    pub(super) ingress_ns: f64,
}

/// One worker on each of `cores`, all at once, for so long. What each took a frame.
///
/// # Errors
/// When a core is not to be had, or a worker fails.
pub(super) fn run(cores: &[usize], load: Load, during: Duration) -> Result<Vec<Times>, Failure> {
    let ready = Barrier::new(cores.len());
    thread::scope(|scope| {
        let started: Vec<_> = cores
            .iter()
            .map(|&core| {
                let ready = &ready;
                scope.spawn(move || work(core, load, during, ready))
            })
            .collect();
        let ended = started.into_iter().map(|worker| {
            let ended = worker.join().map_err(|_| "a worker panicked")?;
            ended.map_err(|why| Failure::from(format!("a worker failed: {why}")))
        });
        ended.collect()
    })
}

fn work(core: usize, load: Load, during: Duration, ready: &Barrier) -> Result<Times, Failure> {
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
    // Memory comes from the core that uses it, so the nodes are made here.
    let pair = pinned.then(|| Pair::new(load));
    // Nobody may wait for one that gave up before.
    ready.wait();
    let mut pair = pair.ok_or_else(|| format!("core {core} is not to be had"))??;
    let (mut egress, mut ingress) = (Vec::new(), Vec::new());
    let start = Clock::now();
    loop {
        egress.push(pair.egress(time)?);
        ingress.push(pair.ingress(time)?);
        if start.elapsed() >= during {
            break;
        }
    }
    let each = |times: Vec<Duration>| {
        let frames = load.frames as f64;
        let times = times.iter().map(|time| time.as_nanos() as f64 / frames);
        summary(times.collect()).median
    };
    Ok(Times {
        egress_ns: each(egress),
        ingress_ns: each(ingress),
    })
}

fn time(work: &mut dyn FnMut()) -> Duration {
    let start = Clock::now();
    work();
    start.elapsed()
}

/// Cores that this process may use, one thread of each first: two threads of a core are not two
/// cores.
///
/// # Errors
/// When the system does not say.
pub(super) fn usable() -> Result<Vec<usize>, Failure> {
    let all = core_affinity::get_core_ids().ok_or("cannot find out which cores there are")?;
    let all: Vec<usize> = all.into_iter().map(|core| core.id).collect();
    Ok(spread(&all, |core| {
        let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let list = std::fs::read_to_string(path).ok()?;
        list.trim().split([',', '-']).next()?.parse().ok()
    }))
}

/// Cores in an order in which the second thread of one comes after the first of all others.
/// `first_of` says which core a thread belongs to, by its first thread.
fn spread(all: &[usize], first_of: impl Fn(usize) -> Option<usize>) -> Vec<usize> {
    let mut seen = std::collections::BTreeMap::new();
    let mut ranked: Vec<(usize, usize)> = all
        .iter()
        .map(|&core| {
            let before = seen.entry(first_of(core).unwrap_or(core)).or_insert(0);
            *before += 1;
            (*before, core)
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, core)| core).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load {
        octets: 64,
        batch: 32,
        frames: 64,
        peers: 1,
    };

    #[test]
    fn workers_run_at_once_and_each_tells_its_times() {
        let cores = usable().expect("cores");
        let times = run(&cores, LOAD, Duration::from_millis(20)).expect("workers");
        assert_eq!(times.len(), cores.len());
        assert!(
            times
                .iter()
                .all(|time| time.egress_ns > 0.0 && time.ingress_ns > 0.0)
        );
    }

    #[test]
    fn a_core_that_is_not_there_fails_and_nobody_waits_for_it() {
        let cores = usable().expect("cores");
        let failed = run(&[cores[0], 1000], LOAD, Duration::from_millis(1));
        let said = failed.expect_err("no such core").to_string();
        assert!(said.contains("core 1000 "), "{said}");
    }

    #[test]
    fn second_threads_come_last() {
        let pairs = |core: usize| Some(core / 2 * 2);
        assert_eq!(spread(&[0, 1, 2, 3], pairs), [0, 2, 1, 3]);
        assert_eq!(spread(&[0, 1, 2], |_| None), [0, 1, 2]);
    }
}
