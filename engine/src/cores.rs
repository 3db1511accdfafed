//! Which cores the workers run on, and before whom.

mod topology;

use std::collections::BTreeMap;
use std::fs;

use omni_config::{Cores, Poll, Priority, Workers};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thread_priority::{
    Error, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tracing::{info, warn};

use topology::Topology;

/// What the workers' threads are called, so that engines on one host find each other's.
pub const THREAD_NAME: &str = "omni-worker-";

/// Why cores could not be chosen.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// A configured core is not there.
    #[error("workers.cores: core {wanted} is not available, this process may use {available:?}")]
    Unavailable {
        /// Which.
        wanted: usize,
        /// Those there are.
        available: Vec<usize>,
    },
    /// Realtime priority was asked for and is not to be had.
    #[error("workers.priority: cannot run before others: {0} (it takes CAP_SYS_NICE)")]
    Priority(String),
    /// The system did not say.
    #[error("cannot find out which cores this process may use")]
    Unknown,
}

/// Cores to put workers on, best first: one worker a core.
#[derive(Debug)]
pub struct Choice {
    order: Vec<usize>,
    /// Nothing where they were configured.
    by: Option<Reasons>,
}

/// What cores were chosen by.
#[derive(Debug)]
struct Reasons {
    topology: Topology,
    /// Workers of other engines by core.
    pinned: BTreeMap<usize, usize>,
    /// The underlay's node.
    near: Option<usize>,
}

impl Choice {
    /// The cores.
    #[must_use]
    pub fn cores(&self) -> &[usize] {
        &self.order
    }

    /// Says in the log which cores so many workers get, and why.
    pub fn log(&self, workers: usize) {
        let chosen = &self.order[..workers.min(self.order.len())];
        let why = match &self.by {
            None => "as configured".to_owned(),
            Some(by) => by.topology.explain(chosen, &by.pinned, by.near),
        };
        info!(cores = ?chosen, why, "cores chosen");
    }
}

/// Chooses cores for an engine whose underlay is the interface `underlay`.
///
/// `auto` spreads workers over physical cores, prefers those on the underlay's NUMA node and those
/// without other engines' workers, so that several engines on one host spread out without being
/// told to, and leaves core 0 to interrupts where it can.
///
/// # Errors
/// When a configured core is not available.
pub fn choose(wanted: &Cores, underlay: &str) -> Result<Choice, CoreError> {
    let available: Vec<usize> = core_affinity::get_core_ids()
        .ok_or(CoreError::Unknown)?
        .iter()
        .map(|c| c.id)
        .collect();
    match wanted {
        Cores::List(list) => match list.iter().find(|core| !available.contains(core)) {
            Some(&wanted) => Err(CoreError::Unavailable { wanted, available }),
            None => Ok(Choice {
                order: list.clone(),
                by: None,
            }),
        },
        Cores::Auto => {
            let by = Reasons {
                topology: Topology::read(&available),
                pinned: pinned_workers(),
                near: topology::node_of_interface(underlay),
            };
            let order = by.topology.order(&by.pinned, by.near);
            let by = Some(by);
            Ok(Choice { order, by })
        }
    }
}

/// Runs `body` on a core, so that the memory that it takes is of that core's node: the kernel gives
/// a thread memory of the node that it runs on.
pub fn run_on<T>(core: usize, body: impl FnOnce() -> T) -> T {
    let allowed = sched_getaffinity(None);
    let mut only = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        only.set(core);
    }
    // Where it cannot be, memory is from wherever the thread is.
    let moved = allowed.is_ok() && sched_setaffinity(None, &only).is_ok();
    let made = body();
    if let (true, Ok(allowed)) = (moved, allowed)
        && let Err(error) = sched_setaffinity(None, &allowed)
    {
        warn!(core, %error, "the control thread stays on a core");
    }
    made
}

/// Whether the workers are to run before all ordinary programs.
///
/// # Errors
/// When that is configured and not possible.
pub fn choose_priority(workers: &Workers) -> Result<bool, CoreError> {
    let wanted = match (workers.priority, workers.poll) {
        (Priority::Normal, _) => return Ok(false),
        // It would take its core from everybody for good.
        (Priority::Auto, Poll::Spin) => return Ok(false),
        (wanted, _) => wanted,
    };
    // A thread that ends right away is what it costs to find out.
    let tried = std::thread::Builder::new()
        .spawn(run_before_others)
        .map_err(|error| CoreError::Priority(error.to_string()))
        .and_then(|thread| thread.join().unwrap_or(Err(CoreError::Unknown)));
    match tried {
        Ok(()) => Ok(true),
        Err(error) if wanted == Priority::Realtime => Err(error),
        Err(error) => {
            info!(%error, "workers run at normal priority");
            Ok(false)
        }
    }
}

/// Makes the calling thread run before all ordinary programs on its core (SCHED_FIFO, the lowest
/// of its priorities). The kernel keeps a twentieth of each second for the others.
///
/// # Errors
/// When it is not allowed.
pub fn run_before_others() -> Result<(), CoreError> {
    let lowest = ThreadPriorityValue::try_from(1).map_err(CoreError::Priority)?;
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let priority = ThreadPriority::Crossplatform(lowest);
    set_thread_priority_and_policy(thread_native_id(), priority, policy)
        .map_err(|why| CoreError::Priority(reason(&why)))
}

/// What the system said, in its own words where it has some.
fn reason(why: &Error) -> String {
    match why {
        Error::OS(errno) => std::io::Error::from_raw_os_error(*errno).to_string(),
        other => format!("{other:?}"),
    }
}

/// How many workers of other engines are pinned to each core, from `/proc`.
fn pinned_workers() -> BTreeMap<usize, usize> {
    let mut pinned = BTreeMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if !process
            .file_name()
            .to_string_lossy()
            .bytes()
            .all(|b| b.is_ascii_digit())
        {
            continue;
        }
        let engine = fs::read_to_string(process.path().join("comm"));
        if !engine.is_ok_and(|name| name.trim_end() == "omni-engine") {
            continue;
        }
        for task in fs::read_dir(process.path().join("task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(status) = fs::read_to_string(task.path().join("status")) else {
                continue;
            };
            if let Some(core) = pinned_core(&status) {
                *pinned.entry(core).or_default() += 1;
            }
        }
    }
    pinned
}

/// The one core that a worker's thread is pinned to, from its `/proc/PID/task/TID/status`.
fn pinned_core(status: &str) -> Option<usize> {
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    field("Name")?.starts_with(THREAD_NAME).then_some(())?;
    field("Cpus_allowed_list")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_status_tells_its_core() {
        let worker = "Name:\tomni-worker-0\nUmask:\t0022\nCpus_allowed_list:\t3\n";
        assert_eq!(pinned_core(worker), Some(3));
        assert_eq!(pinned_core(&worker.replace('3', "0-1")), None, "not pinned");
        assert_eq!(
            pinned_core("Name:\tomni-engine\nCpus_allowed_list:\t0\n"),
            None
        );
    }

    #[test]
    fn a_thread_is_on_the_core_while_it_makes_something_and_free_again_after() {
        let count = || sched_getaffinity(None).expect("told").count();
        let free = count();
        let last = core_affinity::get_core_ids()
            .expect("told")
            .last()
            .expect("a core")
            .id;
        let inside = run_on(last, || sched_getaffinity(None).expect("told"));
        assert!(inside.is_set(last) && inside.count() == 1);
        assert_eq!(count(), free);
        assert_eq!(run_on(CpuSet::MAX_CPU, count), free, "no such core");
    }

    #[test]
    fn a_core_that_is_not_there_is_named() {
        let error = choose(&Cores::List(vec![100_000]), "eth0").expect_err("no such core");
        assert!(
            error.to_string().contains("core 100000 is not available"),
            "{error}"
        );
    }
}
