//! What ranks write, what is made of it, and the table.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::plan::{Algorithm, Collective};
use super::values::ELEMENT_LEN;
use crate::Failure;
use crate::workload::Times;

/// What all ranks of a run have to agree on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Setup {
    /// What was measured, such as "omni tap+udp".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) contestant: Option<String>,
    pub(super) collective: Collective,
    pub(super) algorithm: Algorithm,
    pub(super) ranks: usize,
    /// Timed iterations of each size.
    pub(super) iterations: usize,
    /// Iterations before those.
    pub(super) warmup: usize,
    /// The simulated computation before each iteration, and by how much it may be off.
    pub(super) compute_us: u64,
    pub(super) compute_jitter_us: u64,
    /// It keeps a core busy; otherwise the rank sleeps.
    pub(super) compute_spins: bool,
    pub(super) seed: u64,
}

/// What one rank measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct RankResult {
    pub(super) kind: String,
    pub(super) began: String,
    pub(super) rank: usize,
    #[serde(flatten)]
    pub(super) setup: Setup,
    pub(super) sizes: Vec<RankSize>,
    /// Wrong elements in all iterations.
    pub(super) wrong: u64,
}

/// [`RankResult::kind`].
pub(super) const RANK_KIND: &str = "allreduce-rank";

/// What one rank measured of one size.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct RankSize {
    pub(super) octets: u64,
    /// The collective's time in each iteration.
    pub(super) iterations_ns: Vec<u64>,
    /// The computation's time before each.
    pub(super) compute_ns: Vec<u64>,
    /// Times of all steps of all iterations.
    pub(super) steps: Times,
}

/// What all ranks measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    kind: &'static str,
    began: String,
    #[serde(flatten)]
    setup: Setup,
    sizes: Vec<Size>,
    pub(super) wrong: u64,
    /// In how many iterations each rank was the slowest.
    slowest_counts: Vec<u64>,
}

/// What all ranks measured of one size.
#[derive(Clone, Debug, Serialize)]
struct Size {
    octets: u64,
    time_ns: Spread,
    #[serde(rename = "algbw_Bps")]
    algbw: f64,
    #[serde(rename = "busbw_Bps")]
    busbw: f64,
    jct_ns: u64,
    compute_ns: u64,
    iterations: Vec<Iteration>,
    steps: Times,
}

/// One iteration: its time is that of the slowest rank.
#[derive(Clone, Debug, Serialize)]
struct Iteration {
    slowest_rank: usize,
    ns: u64,
    per_rank_ns: Vec<u64>,
}

/// Times of iterations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    min: u64,
    mean: u64,
    median: u64,
    p99: u64,
    max: u64,
}

impl Spread {
    /// Of at least one time.
    fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        // The least that this share of all did not exceed.
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times[rank.saturating_sub(1)]
        };
        Self {
            min: at(0),
            mean: times.iter().sum::<u64>() / times.len() as u64,
            median: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

impl Report {
    /// Puts the ranks of one run together.
    ///
    /// # Errors
    /// When a rank is missing or there twice, or they are of different runs.
    pub(super) fn of(mut ranks: Vec<RankResult>) -> Result<Self, Failure> {
        ranks.sort_by_key(|result| result.rank);
        let Some(first) = ranks.first().cloned() else {
            return Err("no results to merge".into());
        };
        for result in &ranks {
            result.check(&first)?;
        }
        let there: Vec<usize> = ranks.iter().map(|result| result.rank).collect();
        if there != (0..first.setup.ranks).collect::<Vec<_>>() {
            let wanted: BTreeSet<usize> = (0..first.setup.ranks).collect();
            let missing: Vec<_> = wanted
                .difference(&there.into_iter().collect())
                .copied()
                .collect();
            let count = first.setup.ranks;
            return Err(format!("of {count} ranks, missing or there twice: {missing:?}").into());
        }
        let sizes: Vec<Size> = (0..first.sizes.len())
            .map(|at| {
                let of_rank = ranks.iter().filter_map(|result| result.sizes.get(at));
                Size::of(&first.setup, &of_rank.collect::<Vec<_>>())
            })
            .collect();
        let mut slowest_counts = vec![0; ranks.len()];
        for iteration in sizes.iter().flat_map(|size| &size.iterations) {
            slowest_counts[iteration.slowest_rank] += 1;
        }
        Ok(Self {
            kind: "allreduce",
            began: ranks
                .iter()
                .map(|result| &result.began)
                .min()
                .cloned()
                .unwrap_or_default(),
            setup: first.setup,
            sizes,
            wrong: ranks.iter().map(|result| result.wrong).sum(),
            slowest_counts,
        })
    }

    /// The table, as nccl-tests prints it, and who was slowest.
    pub(super) fn print(&self) {
        let setup = &self.setup;
        println!(
            "# {} by {}, {} ranks, {} iterations after {} to warm up",
            setup.collective.name(),
            setup.algorithm.name(),
            setup.ranks,
            setup.iterations,
            setup.warmup,
        );
        println!(
            "# {:>12} {:>12} {:>6} {:>6} {:>10} {:>10} {:>8} {:>8} {:>10} {:>10}",
            "size", "count", "type", "redop", "time", "p99", "algbw", "busbw", "step p99", "jct"
        );
        println!(
            "# {:>12} {:>12} {:>6} {:>6} {:>10} {:>10} {:>8} {:>8} {:>10} {:>10}",
            "(B)", "(elements)", "", "", "(us)", "(us)", "(GB/s)", "(GB/s)", "(us)", "(ms)"
        );
        let redop = match setup.collective {
            Collective::AllReduce | Collective::ReduceScatter => "sum",
            _ => "none",
        };
        let us = |ns: u64| ns as f64 / 1e3;
        for size in &self.sizes {
            println!(
                "  {:>12} {:>12} {:>6} {:>6} {:>10.1} {:>10.1} {:>8.3} {:>8.3} {:>10.1} {:>10.2}",
                size.octets,
                size.octets / ELEMENT_LEN as u64,
                "float",
                redop,
                us(size.time_ns.mean),
                us(size.time_ns.p99),
                size.algbw / 1e9,
                size.busbw / 1e9,
                us(size.steps.percentile(99.0)),
                size.jct_ns as f64 / 1e6,
            );
        }
        println!("# wrong elements: {}", self.wrong);
        let mut by_count: Vec<(u64, usize)> =
            (self.slowest_counts.iter().copied()).zip(0..).collect();
        by_count.sort_by_key(|&(count, rank)| (std::cmp::Reverse(count), rank));
        let said: Vec<String> = (by_count.iter().take(5))
            .filter(|&&(count, _)| count > 0)
            .map(|(count, rank)| format!("rank {rank} {count}"))
            .collect();
        println!("# slowest most often, in iterations: {}", said.join(", "));
    }
}

impl RankResult {
    /// Whether this is of the run of `first`, and whole.
    fn check(&self, first: &Self) -> Result<(), Failure> {
        let rank = self.rank;
        if self.kind != RANK_KIND {
            return Err(format!("a file of kind `{}`, not `{RANK_KIND}`", self.kind).into());
        }
        let octets = |result: &Self| {
            result
                .sizes
                .iter()
                .map(|size| size.octets)
                .collect::<Vec<_>>()
        };
        if self.setup != first.setup || octets(self) != octets(first) {
            let first = first.rank;
            return Err(format!("ranks {first} and {rank} are of different runs").into());
        }
        let wanted = self.setup.iterations;
        let is_whole =
            |size: &RankSize| size.iterations_ns.len() == wanted && size.compute_ns.len() == wanted;
        if wanted == 0 || !self.sizes.iter().all(is_whole) {
            return Err(format!("rank {rank} has not {wanted} iterations of each size").into());
        }
        Ok(())
    }
}

impl Size {
    /// Of each rank's, which are all there and whole.
    fn of(setup: &Setup, ranks: &[&RankSize]) -> Self {
        let octets = ranks.first().map_or(0, |size| size.octets);
        let (mut iterations, mut jct_ns, mut compute_ns) = (Vec::new(), 0, 0);
        for at in 0..setup.iterations {
            let per_rank_ns: Vec<u64> = ranks.iter().map(|size| size.iterations_ns[at]).collect();
            let slowest = (0..).zip(&per_rank_ns).max_by_key(|&(_, ns)| ns);
            let (slowest_rank, &ns) = slowest.unwrap_or((0, &0));
            let whole = ranks
                .iter()
                .map(|size| size.iterations_ns[at] + size.compute_ns[at]);
            jct_ns += whole.max().unwrap_or(0);
            compute_ns += ranks
                .iter()
                .map(|size| size.compute_ns[at])
                .max()
                .unwrap_or(0);
            iterations.push(Iteration {
                slowest_rank,
                ns,
                per_rank_ns,
            });
        }
        let time_ns = Spread::of(iterations.iter().map(|iteration| iteration.ns).collect());
        let algbw = octets as f64 * 1e9 / (time_ns.mean.max(1)) as f64;
        let mut steps = Times::default();
        for size in ranks {
            steps.merge(&size.steps);
        }
        Self {
            octets,
            time_ns,
            algbw,
            busbw: algbw * setup.collective.bus_factor(setup.ranks),
            jct_ns,
            compute_ns,
            iterations,
            steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(rank: usize, iterations_ns: [u64; 2], compute_ns: [u64; 2]) -> RankResult {
        let mut steps = Times::default();
        iterations_ns.iter().for_each(|&ns| steps.record(ns));
        RankResult {
            kind: RANK_KIND.to_owned(),
            began: format!("2026-01-01T00:00:0{}Z", 9 - rank),
            rank,
            setup: Setup {
                contestant: Some("bare underlay".to_owned()),
                collective: Collective::AllReduce,
                algorithm: Algorithm::Ring,
                ranks: 2,
                iterations: 2,
                warmup: 0,
                compute_us: 0,
                compute_jitter_us: 0,
                compute_spins: false,
                seed: 1,
            },
            sizes: vec![RankSize {
                octets: 1000,
                iterations_ns: iterations_ns.to_vec(),
                compute_ns: compute_ns.to_vec(),
                steps,
            }],
            wrong: 0,
        }
    }

    #[test]
    fn the_slowest_rank_counts() {
        let ranks = vec![rank(1, [300, 90], [5, 500]), rank(0, [200, 100], [150, 20])];
        let report = Report::of(ranks).expect("one run");
        let json = serde_json::to_value(&report).expect("plain values");
        let size = &json["sizes"][0];
        assert_eq!(
            size["iterations"][0]["per_rank_ns"],
            serde_json::json!([200, 300])
        );
        assert_eq!(size["iterations"][0]["slowest_rank"], 1);
        assert_eq!(size["iterations"][1]["ns"], 100);
        let time = serde_json::json!(
            {"min": 100, "mean": 200, "median": 100, "p99": 300, "max": 300}
        );
        assert_eq!(size["time_ns"], time);
        // The longest of 350 and 305, and of 120 and 590; of 150 and 5, and of 20 and 500.
        assert_eq!(
            (&size["jct_ns"], &size["compute_ns"]),
            (&940.into(), &650.into())
        );
        assert_eq!(size["algbw_Bps"], 5e9);
        assert_eq!(size["busbw_Bps"], 5e9);
        assert_eq!(size["steps"]["count"], 4);
        assert_eq!(json["slowest_counts"], serde_json::json!([1, 1]));
        assert_eq!(json["kind"], "allreduce");
        assert_eq!(json["algorithm"], "ring");
        assert_eq!(json["began"], "2026-01-01T00:00:08Z");
        assert_eq!(json["contestant"], "bare underlay");
    }

    #[test]
    fn a_rank_s_file_is_read_back() {
        let result = rank(0, [1, 2], [3, 4]);
        let text = serde_json::to_string(&result).expect("plain values");
        assert_eq!(
            serde_json::from_str::<RankResult>(&text).expect("the same"),
            result
        );
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let refused = |ranks: Vec<RankResult>, words: &str| {
            let said = Report::of(ranks).expect_err(words).to_string();
            assert!(said.contains(words), "{said}");
        };
        let (zero, one) = (rank(0, [1, 1], [0, 0]), rank(1, [1, 1], [0, 0]));
        refused(vec![], "no results");
        refused(vec![zero.clone()], "missing or there twice: [1]");
        refused(vec![zero.clone(), zero.clone(), one.clone()], "there twice");
        let mut other = one.clone();
        other.setup.seed = 2;
        refused(vec![zero.clone(), other], "different runs");
        let mut short = one.clone();
        short.sizes[0].compute_ns.pop();
        refused(vec![zero.clone(), short], "rank 1 has not 2 iterations");
        let mut kind = one;
        kind.kind = "iperf".to_owned();
        refused(vec![zero, kind], "kind `iperf`");
    }
}
