//! The window itself: slots of one word each.

use core::sync::atomic::AtomicU64;

use omni_wire::DropReason;

use crate::word::Word;

/// A window of `SPAN` nonces. `check` before decryption, `commit` after the tag verified.
///
/// # Layout
/// The nonces are cut into blocks of `BLOCK`; block `b` lives in slot `b % SLOTS`, and a slot is
/// one 64-bit word that holds both whose bits it holds and the bits:
///
/// ```text
///  63                    BLOCK BLOCK-1       0
/// +---------------------------+---------------+
/// | generation = b / SLOTS    | 1 bit a nonce |
/// +---------------------------+---------------+
/// ```
///
/// A slot of an older generation is replaced, one of a newer generation refuses. As the generation
/// is exact over all 2^64 nonces, no jump of the counter, however far, makes an old message look
/// new. The idea of a window that moves by overwriting whole blocks is RFC 6479's.
///
/// The parameters are free so that tests can explore small windows to the end, with words that
/// they control. Those that leave no room for `SPAN` nonces, or for the generation, do not compile.
#[derive(Debug)]
pub struct Window<const SLOTS: usize, const BLOCK: u32, const SPAN: u64, W = AtomicU64> {
    /// The newest accepted nonce + 1; 0 while none was.
    next: W,
    slots: [W; SLOTS],
}

/// Where a nonce is noted.
struct Place {
    slot: usize,
    generation: u64,
    bit: u64,
}

impl<const SLOTS: usize, const BLOCK: u32, const SPAN: u64, W: Word> Default
    for Window<SLOTS, BLOCK, SPAN, W>
{
    /// No nonce was accepted yet.
    fn default() -> Self {
        const {
            assert!(BLOCK > 0 && BLOCK < 64 && SLOTS > 1 && SPAN > 0);
            assert!(BLOCK as u64 * (SLOTS as u64 - 1) >= SPAN);
            assert!(u64::MAX / BLOCK as u64 / (SLOTS as u64) < 1 << (64 - BLOCK));
        }
        Self {
            next: W::new(0),
            slots: core::array::from_fn(|_| W::new(0)),
        }
    }
}

impl<const SLOTS: usize, const BLOCK: u32, const SPAN: u64, W: Word> Window<SLOTS, BLOCK, SPAN, W> {
    /// Whether a message with this nonce is worth decrypting. Changes nothing.
    ///
    /// # Errors
    /// `NonceTooOld` or `NonceReplayed`.
    #[inline]
    pub fn check(&self, nonce: u64) -> Result<(), DropReason> {
        self.refuse_too_old(nonce)?;
        let place = Self::place(nonce);
        Self::judge(self.slots[place.slot].load(), &place).map(|_| ())
    }

    /// Accepts the nonce of a message whose tag verified: succeeds once per nonce, whichever
    /// worker asks. Says whether it is newer than all before; of `u64::MAX`, which is beyond
    /// every limit of the counter, it does not say so after `u64::MAX - 1`.
    ///
    /// # Errors
    /// `NonceTooOld` or `NonceReplayed`.
    #[inline]
    pub fn commit(&self, nonce: u64) -> Result<bool, DropReason> {
        self.refuse_too_old(nonce)?;
        let place = Self::place(nonce);
        let slot = &self.slots[place.slot];
        // What is loaded may be out of date. A word only moves forward, so a refusal holds all
        // the same, and an acceptance is decided by the exchange.
        let mut word = slot.load();
        loop {
            let taken = Self::judge(word, &place)?;
            match slot.exchange(word, taken) {
                Ok(()) => break,
                Err(seen) => word = seen,
            }
        }
        let next = nonce.saturating_add(1);
        Ok(self.next.raise(next) < next)
    }

    #[inline]
    fn refuse_too_old(&self, nonce: u64) -> Result<(), DropReason> {
        if nonce.saturating_add(SPAN) < self.next.load() {
            return Err(DropReason::NonceTooOld);
        }
        Ok(())
    }

    #[inline]
    fn place(nonce: u64) -> Place {
        let block = nonce / u64::from(BLOCK);
        Place {
            slot: (block % SLOTS as u64) as usize,
            generation: block / SLOTS as u64,
            bit: 1 << (nonce % u64::from(BLOCK)),
        }
    }

    /// The slot's word with the nonce taken, or why it cannot be.
    #[inline]
    fn judge(word: u64, place: &Place) -> Result<u64, DropReason> {
        let generation = word >> BLOCK;
        if generation < place.generation {
            Ok(place.generation << BLOCK | place.bit)
        } else if generation > place.generation {
            Err(DropReason::NonceTooOld)
        } else if word & place.bit != 0 {
            Err(DropReason::NonceReplayed)
        } else {
            Ok(word | place.bit)
        }
    }
}
