//! What goes into a pass of ChaCha20 and what comes out, as arrays that all kernels share.

use crate::packet::{BLOCK, Packet, Unit};

/// The most lanes that a kernel has.
pub(crate) const LANES_MAX: usize = 16;

/// The initial states of a pass, word by word: `words[w][lane]` is word `4 + w` of the lane's
/// state. The first four words are the same for everyone.
#[repr(C, align(64))]
pub(crate) struct Lanes {
    pub(crate) words: [[u32; LANES_MAX]; 12],
    /// Whose key is in each lane, by its address: passes of a batch have many in common.
    keys: [usize; LANES_MAX],
    /// Whose key is in every lane, if they have the same, else 0.
    common_key: usize,
}

/// Keystream, a block for each lane.
#[repr(C, align(64))]
pub(crate) struct Rows(pub(crate) [[u8; BLOCK]; LANES_MAX]);

impl Lanes {
    pub(crate) fn new() -> Self {
        Self {
            words: [[0; LANES_MAX]; 12],
            keys: [0; LANES_MAX],
            common_key: 0,
        }
    }

    /// Overwrites keys, nonces and counters, in a manner that is not optimised away.
    pub(crate) fn wipe(&mut self) {
        self.words.as_flattened_mut().fill(0);
        zeroize::optimization_barrier(self);
    }

    /// Fills the first lanes with `units`; the others keep what they have.
    #[inline]
    pub(crate) fn fill(&mut self, packets: &[Packet<'_>], units: &[Unit]) {
        self.fill_keys(packets, units);
        for (lane, unit) in units.iter().enumerate().take(LANES_MAX) {
            self.words[8][lane] = unit.counter;
            let [n0, n1, n2] = packets[unit.packet()].nonce;
            self.words[9][lane] = n0;
            self.words[10][lane] = n1;
            self.words[11][lane] = n2;
        }
    }

    #[inline]
    fn fill_keys(&mut self, packets: &[Packet<'_>], units: &[Unit]) {
        let address = |unit: &Unit| packets[unit.packet()].key_address();
        let Some(first) = units.first() else {
            return;
        };
        let common = address(first);
        if units.iter().all(|unit| address(unit) == common) {
            if self.common_key != common {
                self.common_key = common;
                self.keys = [common; LANES_MAX];
                for (word, key) in self.words.iter_mut().zip(packets[first.packet()].key) {
                    *word = [*key; LANES_MAX];
                }
            }
            return;
        }
        self.common_key = 0;
        for (lane, unit) in units.iter().enumerate().take(LANES_MAX) {
            if self.keys[lane] != address(unit) {
                self.keys[lane] = address(unit);
                for (word, key) in self.words.iter_mut().zip(packets[unit.packet()].key) {
                    word[lane] = *key;
                }
            }
        }
    }
}

impl Rows {
    /// Overwrites the keystream, in a manner that is not optimised away.
    pub(crate) fn wipe(&mut self) {
        self.0.as_flattened_mut().fill(0);
        zeroize::optimization_barrier(self);
    }
}
