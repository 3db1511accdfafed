//! What small programs on a window are told, and what must be true of it in every order.
//!
//! A program is the nonces that one thread receives, one after the other.

use omni_replay::{Window, Word};
use omni_wire::DropReason;

/// Three slots of two nonces: 1, 7 and 13 share a bit in different generations.
pub(crate) const SPAN: u64 = 4;
/// Nonces after which the slots come round again.
const RING: u64 = 6;
/// A window small enough to be explored to the end.
pub(crate) type Toy<W> = Window<3, 2, SPAN, W>;

/// What a thread was told of a nonce: how it was refused, or whether it was the newest.
pub(crate) type Told = (u64, Result<bool, DropReason>);

/// Something that takes nonces.
pub(crate) trait Taker: Default {
    /// As `Window::check`.
    fn check(&self, nonce: u64) -> Result<(), DropReason>;
    /// As `Window::commit`.
    fn commit(&self, nonce: u64) -> Result<bool, DropReason>;
}

impl<W: Word> Taker for Toy<W> {
    fn check(&self, nonce: u64) -> Result<(), DropReason> {
        Toy::check(self, nonce)
    }

    fn commit(&self, nonce: u64) -> Result<bool, DropReason> {
        Toy::commit(self, nonce)
    }
}

/// Whether a message is checked before it is committed, as the data path does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    CheckAndCommit,
    CommitOnly,
}

/// Runs one program.
pub(crate) fn run(window: &impl Taker, way: Way, program: &[u64]) -> Vec<Told> {
    let take = |&nonce| {
        let checked = match way {
            Way::CheckAndCommit => window.check(nonce),
            Way::CommitOnly => Ok(()),
        };
        (nonce, checked.and_then(|()| window.commit(nonce)))
    };
    program.iter().map(take).collect()
}

/// The nonces that were accepted, in order.
pub(crate) fn accepted(told: &[Vec<Told>]) -> Vec<u64> {
    let of_all = told.iter().flatten();
    let mut nonces: Vec<u64> = of_all
        .filter(|(_, verdict)| verdict.is_ok())
        .map(|&(nonce, _)| nonce)
        .collect();
    nonces.sort_unstable();
    nonces
}

/// Asserts the guarantees of the crate: what each thread was told, and then the exact verdict on
/// every nonce of the window at rest.
pub(crate) fn hold_guarantees(window: &impl Taker, told: &[Vec<Told>]) {
    let accepted = accepted(told);
    let times = |nonce| accepted.iter().filter(|&&taken| taken == nonce).count();
    let newest = accepted.last().copied().expect("something is accepted");
    for program in told {
        let mut before: Option<u64> = None;
        for &(nonce, verdict) in program {
            assert!(times(nonce) <= 1, "{nonce} was accepted twice: {told:?}");
            let behind = before.map_or(0, |before| before.saturating_sub(nonce));
            let justified = match verdict {
                // Newest: no earlier one of this thread was newer, and the greatest is told.
                Ok(true) => behind == 0,
                // Width: this thread itself saw nothing accepted that is too far ahead.
                Ok(false) => behind < SPAN && nonce < newest,
                Err(DropReason::NonceReplayed) => times(nonce) == 1,
                Err(DropReason::NonceTooOld) => nonce + SPAN <= newest,
                Err(_) => false,
            };
            assert!(justified, "{nonce}: {verdict:?} in {told:?}");
            if verdict.is_ok() {
                before = before.max(Some(nonce));
            }
        }
    }
    for nonce in 0..newest + RING {
        let is_free = times(nonce) == 0 && nonce + SPAN > newest;
        assert_eq!(window.check(nonce).is_ok(), is_free, "{nonce}: {told:?}");
        if !is_free {
            assert!(window.commit(nonce).is_err(), "{nonce}: {told:?}");
        }
    }
}
