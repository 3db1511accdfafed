//! What the vectors hold, and what a result must be.
//!
//! An element is a small whole number that follows from the rank, the index and the iteration. The
//! sums of [`RANKS_MAX`] of them are below 2^24, so a float32 holds each exactly, in whatever order
//! they were added. The numbers repeat after a prime number of elements only, and no two iterations
//! in a row are alike: parts in wrong places and those of the iteration before are found out.

use std::ops::Range;

use super::plan::{Collective, Plan, chunk};

/// Octets of an element.
pub(super) const ELEMENT_LEN: usize = 4;
/// The most ranks whose sums are exact.
pub(super) const RANKS_MAX: usize = 1024;
/// Elements after which the numbers repeat: a prime.
const PERIOD: usize = 8191;
/// By how much the numbers of one rank are ahead of those of the rank before.
const RANK_STRIDE: usize = 31;
/// The same for iterations.
const ITERATION_STRIDE: usize = 577;

// 2^24 is where float32 loses whole numbers.
const _: () = assert!(RANKS_MAX * PERIOD < 1 << 24);

/// Whose numbers elements of a result are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Rank(usize),
    Sum,
}

/// Elements of a result in a row.
#[derive(Clone, Debug)]
struct Run {
    /// Where they stand in the buffer.
    elements: Range<usize>,
    /// The index in the vector of the first one.
    first: usize,
    of: Of,
}

/// An element that is not what it must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wrong {
    /// Where it stands in the buffer.
    pub(super) index: usize,
    /// What is there.
    pub(super) found: f32,
    /// What must be there.
    pub(super) expected: f32,
}

/// The numbers of one rank and its results.
#[derive(Debug)]
pub(super) struct Values {
    rank: usize,
    input: Range<usize>,
    result: Vec<Run>,
    /// Sums over all ranks by phase.
    sums: Vec<f32>,
}

impl Values {
    /// Those of `rank` of `ranks`, up to [`RANKS_MAX`], in a vector of `count` elements.
    pub(super) fn new(
        collective: Collective,
        plan: &Plan,
        rank: usize,
        ranks: usize,
        count: usize,
    ) -> Self {
        let sum = |phase| {
            let numbers = (0..ranks).map(|rank| (phase + rank * RANK_STRIDE) % PERIOD);
            numbers.sum::<usize>() as f32
        };
        let run = |elements: Range<usize>, first, of| Run {
            elements,
            first,
            of,
        };
        let own = chunk(count, ranks, rank);
        let result = match collective {
            Collective::AllReduce | Collective::ReduceScatter => {
                vec![run(plan.result.clone(), plan.result.start, Of::Sum)]
            }
            Collective::Broadcast => vec![run(0..count, 0, Of::Rank(0))],
            Collective::AllGather => {
                let chunks = (0..ranks).map(|owner| (owner, chunk(count, ranks, owner)));
                let runs = chunks.map(|(owner, at)| run(at.clone(), at.start, Of::Rank(owner)));
                runs.collect()
            }
            Collective::AllToAll => {
                let places = plan.result.clone().step_by(own.len().max(1));
                let runs = (0..ranks).zip(places);
                let runs = runs
                    .map(|(from, place)| run(place..place + own.len(), own.start, Of::Rank(from)));
                runs.collect()
            }
        };
        Self {
            rank,
            input: plan.input.clone(),
            result,
            sums: (0..PERIOD).map(sum).collect(),
        }
    }

    /// Writes what the rank brings into an iteration, and elsewhere what can be no result.
    pub(super) fn fill(&self, iteration: usize, buffer: &mut [u8]) {
        let elements = buffer.as_chunks_mut::<ELEMENT_LEN>().0;
        elements.fill((-1.0_f32).to_le_bytes());
        let phase = phase(self.input.start, Some(self.rank), iteration);
        for (number, element) in (phase..PERIOD)
            .chain((0..PERIOD).cycle())
            .zip(&mut elements[self.input.clone()])
        {
            *element = (number as f32).to_le_bytes();
        }
    }

    /// Looks at each element of the result: how many are wrong, and the first of them.
    pub(super) fn check(&self, iteration: usize, buffer: &[u8]) -> (u64, Option<Wrong>) {
        let elements = buffer.as_chunks::<ELEMENT_LEN>().0;
        let (mut count, mut first) = (0, None);
        for run in &self.result {
            let rank = match run.of {
                Of::Rank(rank) => Some(rank),
                Of::Sum => None,
            };
            let phase = phase(run.first, rank, iteration);
            let phases = (phase..PERIOD).chain((0..PERIOD).cycle());
            let found = elements[run.elements.clone()].iter();
            for (index, (phase, found)) in run.elements.clone().zip(phases.zip(found)) {
                let expected = rank.map_or_else(|| self.sums[phase], |_| phase as f32);
                let found = f32::from_le_bytes(*found);
                // Whole numbers below 2^24: equal or wrong.
                if found.to_bits() != expected.to_bits() {
                    count += 1;
                    first.get_or_insert(Wrong {
                        index,
                        found,
                        expected,
                    });
                }
            }
        }
        (count, first)
    }
}

/// Where in the period an element is; without a rank, its sum.
const fn phase(index: usize, rank: Option<usize>, iteration: usize) -> usize {
    let rank = match rank {
        Some(rank) => rank,
        None => 0,
    };
    (index + rank * RANK_STRIDE + iteration * ITERATION_STRIDE) % PERIOD
}

#[cfg(test)]
mod tests {
    use super::super::plan::Algorithm;
    use super::*;

    /// Those of rank 0 in an all-reduce.
    fn values(ranks: usize, count: usize) -> Values {
        let collective = Collective::AllReduce;
        let plan = Plan::new(collective, Algorithm::Ring, 0, ranks, count).expect("a plan");
        Values::new(collective, &plan, 0, ranks, count)
    }

    /// The true sum of an iteration, by adding.
    fn add_up(ranks: usize, count: usize, iteration: usize) -> Vec<u8> {
        let mut sums = vec![0.0_f32; count];
        for rank in 0..ranks {
            let mut buffer = vec![0; count * ELEMENT_LEN];
            let values = Values {
                rank,
                input: 0..count,
                result: Vec::new(),
                sums: Vec::new(),
            };
            values.fill(iteration, &mut buffer);
            for (sum, element) in sums.iter_mut().zip(buffer.as_chunks().0) {
                *sum += f32::from_le_bytes(*element);
            }
        }
        sums.into_iter().flat_map(f32::to_le_bytes).collect()
    }

    #[test]
    fn true_sums_pass_even_of_the_most_ranks() {
        for (ranks, count) in [(1, 3), (5, 20_000), (RANKS_MAX, 9000)] {
            let sums = add_up(ranks, count, 7);
            assert_eq!(values(ranks, count).check(7, &sums), (0, None));
        }
    }

    #[test]
    fn a_wrong_element_a_shifted_part_and_an_old_result_are_found() {
        let (ranks, count) = (3, 4096);
        let right = add_up(ranks, count, 7);
        let values = values(ranks, count);
        let mut wrong = right.clone();
        wrong[40..44].copy_from_slice(&1.5_f32.to_le_bytes());
        let (amount, first) = values.check(7, &wrong);
        let first = first.expect("one is wrong");
        assert_eq!((amount, first.index), (1, 10));
        assert!((first.found - 1.5).abs() < f32::EPSILON && first.expected >= 0.0);
        let mut shifted = right.clone();
        shifted.copy_within(0..8192, 8192);
        assert_eq!(values.check(7, &shifted).0, 2048);
        assert_eq!(values.check(8, &right).0, 4096);
    }
}
