//! Sequences of nonces against the set of those that were accepted.

use std::collections::BTreeSet;

use arbitrary::Unstructured;
use omni_replay::ReplayWindow;
use omni_wire::DropReason;
use omni_wire::limits::REPLAY_WINDOW;

/// Nonces of one run.
const NONCES_MAX: usize = 400;

/// Runs the target: each step is a nonce relative to the newest, to the last one, or anywhere.
pub fn run(octets: &[u8]) {
    let mut choices = Unstructured::new(octets);
    let window = ReplayWindow::default();
    let mut accepted = BTreeSet::new();
    let mut last = 0_u64;
    for _ in 0..NONCES_MAX {
        let Ok(nonce) = next(&mut choices, last, accepted.last().copied()) else {
            return;
        };
        let newest = accepted.last().copied();
        // As the counter ends there, nothing counts beyond its last value.
        let next = newest.map_or(0, |newest| newest.saturating_add(1));
        let is_old = nonce.saturating_add(REPLAY_WINDOW) < next;
        let expected = if is_old {
            Err(DropReason::NonceTooOld)
        } else if accepted.contains(&nonce) {
            Err(DropReason::NonceReplayed)
        } else {
            Ok(())
        };
        assert_eq!(window.check(nonce), expected, "{nonce} after {newest:?}");
        let committed = window.commit(nonce);
        assert_eq!(committed.map(|_| ()), expected);
        if let Ok(is_newest) = committed {
            // The last value cannot be told from the one before it.
            let told = newest.is_none_or(|newest| nonce > newest);
            let is_last = nonce == u64::MAX && newest == Some(u64::MAX - 1);
            assert_eq!(is_newest, told && !is_last);
            accepted.insert(nonce);
        }
        last = nonce;
    }
}

fn next(choices: &mut Unstructured<'_>, last: u64, newest: Option<u64>) -> arbitrary::Result<u64> {
    if choices.is_empty() {
        return Err(arbitrary::Error::NotEnoughData);
    }
    let newest = newest.unwrap_or(0);
    Ok(match choices.arbitrary::<u8>()? % 8 {
        0 | 1 => newest.saturating_add(1),
        2 => last,
        3 => newest.saturating_sub(choices.arbitrary::<u8>()?.into()),
        4 => newest.saturating_sub(u64::from(choices.arbitrary::<u16>()?) % (2 * REPLAY_WINDOW)),
        5 => newest.saturating_add(choices.arbitrary::<u16>()?.into()),
        6 => u64::MAX - u64::from(choices.arbitrary::<u8>()?),
        _ => choices.arbitrary()?,
    })
}
