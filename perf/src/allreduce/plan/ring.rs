//! Around a ring: each rank sends to the next one only, and receives from the one before only.

use super::{Action, Step, chunk, pipeline};

/// A reduce-scatter, and an all-gather of what it made: 2 (ranks - 1) steps.
pub(super) fn all_reduce(rank: usize, ranks: usize, count: usize) -> Vec<Step> {
    // What a rank ends the first with is its own chunk, which the second starts from.
    let mut steps = reduce_scatter(rank, ranks, count, rank);
    steps.extend(all_gather(rank, ranks, count, rank));
    steps
}

/// The rank ends with the sum of chunk `own`.
pub(super) fn reduce_scatter(rank: usize, ranks: usize, count: usize, own: usize) -> Vec<Step> {
    // A chunk starts behind its owner, and takes in each rank's part on its way around.
    around(rank, ranks, count, own + ranks - 1, Action::Add)
}

/// The rank starts with chunk `own`, and ends with all.
pub(super) fn all_gather(rank: usize, ranks: usize, count: usize, own: usize) -> Vec<Step> {
    around(rank, ranks, count, own, Action::Store)
}

/// `ranks` - 1 steps that send chunk `first`, then what was received before, and so on down.
fn around(rank: usize, ranks: usize, count: usize, first: usize, action: Action) -> Vec<Step> {
    let (next, previous) = ((rank + 1) % ranks, (rank + ranks - 1) % ranks);
    let chunk_down = |down: usize| chunk(count, ranks, (first + ranks - down) % ranks);
    let step = |number: usize| {
        let mut step = Step::default();
        step.send(next, chunk_down(number));
        step.receive(previous, chunk_down(number + 1), action);
        step
    };
    (0..ranks - 1).map(step).collect()
}

/// From rank 0 along the ring, in pieces: a rank sends one on while it receives the next.
pub(super) fn broadcast(rank: usize, ranks: usize, count: usize) -> Vec<Step> {
    pipeline(count, |step, now, before| {
        if let (Some(previous), Some(piece)) = (rank.checked_sub(1), now) {
            step.receive(previous, piece, Action::Store);
        }
        if let Some(piece) = before
            && rank + 1 < ranks
        {
            step.send(rank + 1, piece);
        }
    })
}
