//! Who sends what to whom: the steps of each algorithm, as data.
//!
//! A plan is one rank's part. Its steps are done one after another; what a step sends and receives
//! goes on at the same time. Nothing is said about sockets here, so the tests carry whole
//! collectives out in memory, without any buffer between ranks: what works there cannot deadlock
//! over connections that have some.
//!
//! Sources: R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication
//! Operations in MPICH", 2005 (ring, recursive halving and doubling, what to do where the ranks are
//! no power of two, pairwise exchange); P. Sanders, J. Speck, J. L. Träff, "Two-tree algorithms for
//! full bandwidth broadcast, reduction and scan", 2009 (pipelined trees).

mod halving;
mod pairwise;
mod ring;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Elements of what goes through a pipeline at once: 64 KiB.
const PIECE: usize = 16_384;

/// What the ranks do together.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Collective {
    /// Each rank ends with the sum of all vectors.
    AllReduce,
    /// Each rank has a part, and ends with all of them.
    AllGather,
    /// Each rank ends with its part of the sum of all vectors.
    ReduceScatter,
    /// Each rank has a part for each other.
    AllToAll,
    /// Rank 0 has a vector, and each rank ends with it.
    Broadcast,
}

/// How they do it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Algorithm {
    /// From each rank to the next one, around.
    Ring,
    /// Up and down a binary tree, in pieces of 64 KiB.
    Tree,
    /// Vectors halved at each step among ever nearer ranks, and doubled again.
    HalvingDoubling,
    /// Each rank with each other in turn.
    Pairwise,
}

impl Collective {
    /// As the command line has it.
    pub(crate) fn name(self) -> String {
        name(self)
    }

    /// What is meant where no algorithm is named.
    pub(crate) const fn usual(self) -> Algorithm {
        match self {
            Self::AllToAll => Algorithm::Pairwise,
            _ => Algorithm::Ring,
        }
    }

    /// The octets that the fastest link of a rank carries at least, by octets of the collective:
    /// what turns the algorithm's bandwidth into that of the "bus", in the words of nccl-tests.
    pub(crate) fn bus_factor(self, ranks: usize) -> f64 {
        let others = ranks.saturating_sub(1) as f64 / ranks.max(1) as f64;
        match self {
            Self::AllReduce => 2.0 * others,
            Self::AllGather | Self::ReduceScatter | Self::AllToAll => others,
            Self::Broadcast => 1.0,
        }
    }
}

impl Algorithm {
    /// As the command line has it.
    pub(crate) fn name(self) -> String {
        name(self)
    }
}

fn name(value: impl ValueEnum) -> String {
    let named = value.to_possible_value();
    named.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// What becomes of elements that are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// They are added to what is there.
    Add,
    /// They replace it.
    Store,
}

/// Elements for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Send {
    /// The peer's rank.
    pub(crate) to: usize,
    /// Which elements of the buffer.
    pub(crate) elements: Range<usize>,
}

/// Elements from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receive {
    /// The peer's rank.
    pub(crate) from: usize,
    /// Where to in the buffer.
    pub(crate) elements: Range<usize>,
    /// What becomes of them.
    pub(crate) action: Action,
}

/// What goes on at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// At most one for a peer.
    pub(crate) sends: Vec<Send>,
    /// At most one from a peer, and none over what is sent.
    pub(crate) receives: Vec<Receive>,
}

impl Step {
    fn send(&mut self, to: usize, elements: Range<usize>) {
        // Both ends leave nothing out but what is empty at both.
        if !elements.is_empty() {
            self.sends.push(Send { to, elements });
        }
    }

    fn receive(&mut self, from: usize, elements: Range<usize>, action: Action) {
        if !elements.is_empty() {
            self.receives.push(Receive {
                from,
                elements,
                action,
            });
        }
    }
}

/// One rank's part of a collective.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Elements of the buffer. All-to-all has its vector twice there: what it sends, and behind
    /// that what it receives.
    pub(crate) buffer: usize,
    /// Which elements hold what the rank brings in.
    pub(crate) input: Range<usize>,
    /// Where the result stands at the end.
    pub(crate) result: Range<usize>,
    /// What is copied inside the buffer at first: from, and where to.
    pub(crate) copy: Option<(Range<usize>, usize)>,
    /// In turn.
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    /// The part of `rank` of `ranks`, over a vector of `count` elements.
    ///
    /// # Errors
    /// When this collective is not done by this algorithm, or there is no such rank.
    pub(crate) fn new(
        collective: Collective,
        algorithm: Algorithm,
        rank: usize,
        ranks: usize,
        count: usize,
    ) -> Result<Self, String> {
        if rank >= ranks {
            return Err(format!("there is no rank {rank} among {ranks}"));
        }
        let own = chunk(count, ranks, rank);
        let mut plan = Self {
            buffer: count,
            input: 0..count,
            result: 0..count,
            copy: None,
            steps: Vec::new(),
        };
        plan.steps = match (collective, algorithm) {
            (Collective::AllReduce, Algorithm::Ring) => ring::all_reduce(rank, ranks, count),
            (Collective::AllReduce, Algorithm::Tree) => tree::all_reduce(rank, ranks, count),
            (Collective::AllReduce, Algorithm::HalvingDoubling) => {
                halving::all_reduce(rank, ranks, count)
            }
            (Collective::AllGather, Algorithm::Ring) => {
                plan.input = own;
                ring::all_gather(rank, ranks, count, rank)
            }
            (Collective::ReduceScatter, Algorithm::Ring) => {
                plan.result = own;
                ring::reduce_scatter(rank, ranks, count, rank)
            }
            (Collective::AllToAll, Algorithm::Pairwise) => {
                plan.buffer = 2 * count;
                plan.result = count..count + own.len() * ranks;
                plan.copy = Some((own.clone(), count + own.len() * rank));
                pairwise::all_to_all(rank, ranks, count)
            }
            (Collective::Broadcast, Algorithm::Ring) => ring::broadcast(rank, ranks, count),
            (Collective::Broadcast, Algorithm::Tree) => tree::broadcast(rank, ranks, count),
            (collective, algorithm) => {
                let (what, how) = (collective.name(), algorithm.name());
                return Err(format!("there is no {what} by the algorithm {how}"));
            }
        };
        plan.buffer = plan.buffer.max(plan.result.end);
        plan.steps
            .retain(|step| !step.sends.is_empty() || !step.receives.is_empty());
        Ok(plan)
    }

    /// The ranks that this one talks to.
    pub(crate) fn peers(&self) -> BTreeSet<usize> {
        let sends = self.steps.iter().flat_map(|step| &step.sends);
        let receives = self.steps.iter().flat_map(|step| &step.receives);
        let peers = sends.map(|send| send.to);
        peers.chain(receives.map(|receive| receive.from)).collect()
    }
}

/// The elements of part `index` of `parts` that are as even as can be: the first ones are longer by
/// one where `count` does not divide.
pub(crate) const fn chunk(count: usize, parts: usize, index: usize) -> Range<usize> {
    let (each, longer) = (count / parts, count % parts);
    let start = index * each + if index < longer { index } else { longer };
    start..start + each + (index < longer) as usize
}

/// Elements that go through a pipeline at once, if any.
type Piece = Option<Range<usize>>;

/// A step for each piece of `count` elements, and one for what is left to pass on: `fill` is told
/// the piece of the step and the one before.
fn pipeline(count: usize, fill: impl Fn(&mut Step, Piece, Piece)) -> Vec<Step> {
    let starts = (0..count).step_by(PIECE);
    let pieces = starts.map(|start| Some(start..(start + PIECE).min(count)));
    let mut before = None;
    let step = |now: Piece| {
        let mut step = Step::default();
        fill(&mut step, now.clone(), before.take());
        before = now;
        step
    };
    pieces.chain([None]).map(step).collect()
}
