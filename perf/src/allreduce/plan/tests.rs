//! Every algorithm, carried out in memory by 1 to 33 ranks over vectors that divide and that do
//! not. Nothing is buffered between ranks.

use super::*;

const RANKS: std::ops::RangeInclusive<usize> = 1..=33;

/// What the element `index` of what `rank` brings in is.
fn brought(rank: usize, index: usize) -> u64 {
    (rank * 10_007 + index * 101 + 1) as u64
}

/// Carries a collective out, and gives each rank's result.
///
/// # Panics
/// When the ranks wait for each other for ever, or what one sends is not what its peer expects.
fn carry_out(plans: &[Plan]) -> Vec<Vec<u64>> {
    let mut buffers: Vec<Vec<u64>> = Vec::new();
    for (rank, plan) in plans.iter().enumerate() {
        let mut buffer = vec![0; plan.buffer];
        for index in plan.input.clone() {
            buffer[index] = brought(rank, index);
        }
        if let Some((from, to)) = plan.copy.clone() {
            buffer.copy_within(from, to);
        }
        buffers.push(buffer);
    }
    let mut steps: Vec<Vec<Step>> = plans.iter().map(|plan| plan.steps.clone()).collect();
    for left in &mut steps {
        left.reverse();
    }
    while steps.iter().any(|left| !left.is_empty()) {
        assert!(advance(&mut steps, &mut buffers), "a deadlock: {steps:?}");
    }
    let results = plans.iter().zip(&buffers);
    results
        .map(|(plan, buffer)| buffer[plan.result.clone()].to_vec())
        .collect()
}

/// Makes each transfer that both its ends are at, and says whether there was one.
fn advance(steps: &mut [Vec<Step>], buffers: &mut [Vec<u64>]) -> bool {
    let mut has_moved = false;
    for rank in 0..steps.len() {
        let sends = steps[rank].last().map(|step| step.sends.clone());
        for send in sends.unwrap_or_default() {
            let Some(step) = steps[send.to].last_mut() else {
                continue;
            };
            let Some(at) = step.receives.iter().position(|one| one.from == rank) else {
                continue;
            };
            let receive = step.receives.remove(at);
            assert_eq!(send.elements.len(), receive.elements.len());
            let values = buffers[rank][send.elements.clone()].to_vec();
            for (place, value) in buffers[send.to][receive.elements].iter_mut().zip(values) {
                match receive.action {
                    Action::Add => *place += value,
                    Action::Store => *place = value,
                }
            }
            let own = steps[rank].last_mut().expect("it has what it sent");
            own.sends.retain(|one| *one != send);
            has_moved = true;
        }
    }
    for left in steps {
        left.pop_if(|step| step.sends.is_empty() && step.receives.is_empty());
    }
    has_moved
}

/// Calls `check` with the results of each number of ranks and elements.
fn each_size(
    collective: Collective,
    algorithm: Algorithm,
    check: impl Fn(usize, usize, Vec<Vec<u64>>),
) {
    for ranks in RANKS {
        for count in [1, 2, 31, 64, 97, PIECE + 1, 2 * PIECE + 5] {
            // Long ones are the same whatever the ranks, and slow.
            if count > PIECE && ranks % 8 != 1 {
                continue;
            }
            let plan = |rank| Plan::new(collective, algorithm, rank, ranks, count);
            let plans: Result<Vec<_>, _> = (0..ranks).map(plan).collect();
            let plans = plans.expect("such a plan");
            plans.iter().for_each(assert_sound);
            check(ranks, count, carry_out(&plans));
        }
    }
}

/// A step has one transfer for each peer and way, and overwrites nothing that it sends.
fn assert_sound(plan: &Plan) {
    for step in &plan.steps {
        let to: BTreeSet<usize> = step.sends.iter().map(|send| send.to).collect();
        let from: BTreeSet<usize> = step.receives.iter().map(|receive| receive.from).collect();
        assert_eq!(
            (to.len(), from.len()),
            (step.sends.len(), step.receives.len())
        );
        for send in &step.sends {
            let overlaps = |receive: &Receive| {
                receive.elements.start < send.elements.end
                    && send.elements.start < receive.elements.end
            };
            assert!(!step.receives.iter().any(overlaps), "{step:?}");
        }
    }
}

fn sum(ranks: usize, index: usize) -> u64 {
    (0..ranks).map(|rank| brought(rank, index)).sum()
}

fn all_reduce_is_right(algorithm: Algorithm) {
    each_size(Collective::AllReduce, algorithm, |ranks, count, results| {
        let expected: Vec<u64> = (0..count).map(|index| sum(ranks, index)).collect();
        for (rank, result) in results.iter().enumerate() {
            assert!(result == &expected, "rank {rank} of {ranks}, {count}");
        }
    });
}

#[test]
fn a_ring_reduces() {
    all_reduce_is_right(Algorithm::Ring);
}

#[test]
fn a_tree_reduces() {
    all_reduce_is_right(Algorithm::Tree);
}

#[test]
fn halving_and_doubling_reduces() {
    all_reduce_is_right(Algorithm::HalvingDoubling);
}

#[test]
fn a_ring_gathers() {
    let collective = Collective::AllGather;
    each_size(collective, Algorithm::Ring, |ranks, count, results| {
        let of_owner = |owner| chunk(count, ranks, owner).map(move |index| brought(owner, index));
        let expected: Vec<u64> = (0..ranks).flat_map(of_owner).collect();
        assert!(results.iter().all(|result| result == &expected));
    });
}

#[test]
fn a_ring_scatters_sums() {
    let collective = Collective::ReduceScatter;
    each_size(collective, Algorithm::Ring, |ranks, count, results| {
        for (rank, result) in results.iter().enumerate() {
            let own = chunk(count, ranks, rank);
            let expected: Vec<u64> = own.map(|index| sum(ranks, index)).collect();
            assert!(result == &expected, "rank {rank} of {ranks}, {count}");
        }
    });
}

#[test]
fn pairs_exchange() {
    let collective = Collective::AllToAll;
    each_size(collective, Algorithm::Pairwise, |ranks, count, results| {
        for (rank, result) in results.iter().enumerate() {
            let from = |peer| chunk(count, ranks, rank).map(move |index| brought(peer, index));
            let expected: Vec<u64> = (0..ranks).flat_map(from).collect();
            assert!(result == &expected, "rank {rank} of {ranks}, {count}");
        }
    });
}

#[test]
fn rings_and_trees_broadcast() {
    for algorithm in [Algorithm::Ring, Algorithm::Tree] {
        each_size(Collective::Broadcast, algorithm, |_, count, results| {
            let expected: Vec<u64> = (0..count).map(|index| brought(0, index)).collect();
            assert!(results.iter().all(|result| result == &expected));
        });
    }
}

#[test]
fn chunks_cover_a_vector_and_differ_by_one_at_most() {
    for count in [0, 1, 7, 64, 100, 101] {
        for parts in RANKS {
            let chunks: Vec<_> = (0..parts).map(|part| chunk(count, parts, part)).collect();
            assert_eq!((chunks[0].start, chunks[parts - 1].end), (0, count));
            assert!(chunks.windows(2).all(|pair| pair[0].end == pair[1].start));
            let lens = chunks.iter().map(Range::len);
            let (least, most) = (lens.clone().min(), lens.max());
            assert!(most.unwrap_or(0) - least.unwrap_or(0) <= 1);
        }
    }
}

#[test]
fn each_link_of_a_ring_carries_what_the_bus_factor_says() {
    let (ranks, count) = (8, 8000);
    let plan = Plan::new(Collective::AllReduce, Algorithm::Ring, 3, ranks, count);
    let plan = plan.expect("such a plan");
    let sends = plan.steps.iter().flat_map(|step| &step.sends);
    let sent: usize = sends.map(|send| send.elements.len()).sum();
    let factor = Collective::AllReduce.bus_factor(ranks);
    assert_eq!(plan.steps.len(), 14);
    assert!((sent as f64 - factor * count as f64).abs() < 1e-9, "{sent}");
}

#[test]
fn bus_factors_as_nccl_tests_has_them() {
    let of = |collective: Collective| collective.bus_factor(4);
    assert!((of(Collective::AllReduce) - 1.5).abs() < 1e-12);
    assert!((of(Collective::AllGather) - 0.75).abs() < 1e-12);
    assert!((of(Collective::ReduceScatter) - 0.75).abs() < 1e-12);
    assert!((of(Collective::AllToAll) - 0.75).abs() < 1e-12);
    assert!((of(Collective::Broadcast) - 1.0).abs() < 1e-12);
    assert!(Collective::AllReduce.bus_factor(1).abs() < 1e-12);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let plan = Plan::new(Collective::AllGather, Algorithm::Tree, 0, 2, 8);
    assert!(plan.is_err_and(|reason| reason.contains("all-gather by the algorithm tree")));
    assert!(Plan::new(Collective::AllReduce, Algorithm::Ring, 2, 2, 8).is_err());
}
