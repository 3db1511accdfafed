//! Up and down a binary tree, whose root is rank 0: rank `r` has the children `2 r + 1` and
//! `2 r + 2`. Pieces follow each other, so that all levels work at the same time.

use super::{Action, Step, pipeline};

/// Sums go up to the root, and the whole sum down again.
pub(super) fn all_reduce(rank: usize, ranks: usize, count: usize) -> Vec<Step> {
    let mut steps = reduce(rank, ranks, count);
    steps.extend(broadcast(rank, ranks, count));
    steps
}

/// A rank adds a piece of both children while it sends the sum of the one before up.
fn reduce(rank: usize, ranks: usize, count: usize) -> Vec<Step> {
    pipeline(count, |step, now, before| {
        if let Some(piece) = now {
            for child in children(rank, ranks) {
                step.receive(child, piece.clone(), Action::Add);
            }
        }
        if let (Some(parent), Some(piece)) = (parent(rank), before) {
            step.send(parent, piece);
        }
    })
}

/// A rank receives a piece while it sends the one before to both children.
pub(super) fn broadcast(rank: usize, ranks: usize, count: usize) -> Vec<Step> {
    pipeline(count, |step, now, before| {
        if let (Some(parent), Some(piece)) = (parent(rank), now) {
            step.receive(parent, piece, Action::Store);
        }
        if let Some(piece) = before {
            for child in children(rank, ranks) {
                step.send(child, piece.clone());
            }
        }
    })
}

const fn parent(rank: usize) -> Option<usize> {
    match rank.checked_sub(1) {
        Some(before) => Some(before / 2),
        None => None,
    }
}

fn children(rank: usize, ranks: usize) -> impl Iterator<Item = usize> {
    let both = [2 * rank + 1, 2 * rank + 2];
    both.into_iter().filter(move |&child| child < ranks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_but_the_root_is_a_child_of_its_parent() {
        assert_eq!(parent(0), None);
        for rank in 1..33 {
            let parent = parent(rank).expect("only the root has none");
            assert!(parent < rank && children(parent, 33).any(|child| child == rank));
        }
        assert_eq!(children(15, 32).collect::<Vec<_>>(), [31]);
    }
}
