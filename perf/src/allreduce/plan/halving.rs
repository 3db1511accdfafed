//! Recursive halving and doubling: at each step two ranks exchange halves of what they have, the
//! nearer the ranks the smaller the halves; then the same backwards.
//!
//! Ranks that are no power of two: of the first ones, as many pairs as are too many join, and only
//! the odd one of each takes part; the even one is told the result at the end.

use std::ops::Range;

use super::{Action, Step, chunk};

/// 2 log2(ranks) steps, and 2 more where the ranks are no power of two.
pub(super) fn all_reduce(rank: usize, ranks: usize, count: usize) -> Vec<Step> {
    let members = 1 << ranks.ilog2();
    let pairs = ranks - members;
    let whole = 0..count;
    let mut steps = Vec::new();
    if rank < 2 * pairs && rank.is_multiple_of(2) {
        let (mut before, mut after) = (Step::default(), Step::default());
        before.send(rank + 1, whole.clone());
        after.receive(rank + 1, whole, Action::Store);
        return vec![before, after];
    }
    let is_paired = rank < 2 * pairs;
    if is_paired {
        let mut before = Step::default();
        before.receive(rank - 1, whole.clone(), Action::Add);
        steps.push(before);
    }
    let member = if is_paired { rank / 2 } else { rank - pairs };
    let rank_of = |member| {
        if member < pairs {
            2 * member + 1
        } else {
            member + pairs
        }
    };
    steps.extend(exchange(member, members, count, rank_of));
    if is_paired {
        let mut after = Step::default();
        after.send(rank - 1, whole);
        steps.push(after);
    }
    steps
}

/// The steps of a power of two of members.
fn exchange(
    member: usize,
    members: usize,
    count: usize,
    rank_of: impl Fn(usize) -> usize,
) -> Vec<Step> {
    let (mut halving, mut doubling) = (Vec::new(), Vec::new());
    let mut chunks = 0..members;
    while chunks.len() > 1 {
        let half = chunks.len() / 2;
        let (low, high) = (
            chunks.start..chunks.start + half,
            chunks.start + half..chunks.end,
        );
        let (kept, given) = if low.contains(&member) {
            (low, high)
        } else {
            (high, low)
        };
        let peer = rank_of(member ^ half);
        let elements = |chunks: &Range<usize>| elements(count, members, chunks);
        let (mut halve, mut double) = (Step::default(), Step::default());
        halve.send(peer, elements(&given));
        halve.receive(peer, elements(&kept), Action::Add);
        double.send(peer, elements(&kept));
        double.receive(peer, elements(&given), Action::Store);
        halving.push(halve);
        doubling.push(double);
        chunks = kept;
    }
    halving.extend(doubling.into_iter().rev());
    halving
}

/// The elements of some chunks in a row.
fn elements(count: usize, members: usize, chunks: &Range<usize>) -> Range<usize> {
    chunk(count, members, chunks.start).start..chunk(count, members, chunks.end - 1).end
}
