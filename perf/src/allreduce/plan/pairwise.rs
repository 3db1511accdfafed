//! Each rank with each other in turn: in step `s` it sends to the rank `s` further, and receives
//! from the rank `s` before.

use super::{Action, Step, chunk};

/// Chunk `j` of the vector is for rank `j`. What rank `j` sent stands at the `j`th place behind the
/// vector.
pub(super) fn all_to_all(rank: usize, ranks: usize, count: usize) -> Vec<Step> {
    let own = chunk(count, ranks, rank).len();
    let step = |distance: usize| {
        let (to, from) = ((rank + distance) % ranks, (rank + ranks - distance) % ranks);
        let place = count + own * from;
        let mut step = Step::default();
        step.send(to, chunk(count, ranks, to));
        step.receive(from, place..place + own, Action::Store);
        step
    };
    (1..ranks).map(step).collect()
}
