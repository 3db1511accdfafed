//! What goes into a pass of ChaCha20 and what comes out, as arrays that all kernels share.

use crate::packet::{BLOCK, Packet, Unit};

/// The most lanes that a kernel has.
pub(crate) const LANES_MAX: usize = 16;

/// The initial states of a pass, word by word: `words[w][lane]` is word `4 + w` of the lane's
/// state. The first four words are the same for everyone.
#[repr(C, align(64))]
pub(crate) struct Lanes {
    pub(crate) words: [[u32; LANES_MAX]; 12],
    /// Whose key is in a lane, by its address: most passes of a batch have the same keys.
    keys: [usize; LANES_MAX],
}

/// Keystream, a block for each lane.
#[repr(C, align(64))]
pub(crate) struct Rows(pub(crate) [[u8; BLOCK]; LANES_MAX]);

impl Lanes {
    pub(crate) fn new() -> Self {
        Self {
            words: [[0; LANES_MAX]; 12],
            keys: [0; LANES_MAX],
        }
    }

    /// Fills the first lanes with `units`; the others keep what they have.
    #[inline]
    pub(crate) fn fill(&mut self, packets: &[Packet<'_>], units: &[Unit]) {
        for (lane, unit) in units.iter().enumerate().take(LANES_MAX) {
            let packet = &packets[unit.packet()];
            let address = core::ptr::from_ref(packet.key).addr();
            if self.keys[lane] != address {
                self.keys[lane] = address;
                for (word, key) in self.words.iter_mut().zip(packet.key) {
                    word[lane] = *key;
                }
            }
            self.words[8][lane] = unit.counter;
            for (word, nonce) in self.words[9..].iter_mut().zip(packet.nonce) {
                word[lane] = nonce;
            }
        }
    }
}
