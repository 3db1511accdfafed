//! What is worked on together, and in which order: the same for every kernel.
//!
//! ```text
//!  1  keystream     block 0 of all messages, a lane each; free lanes take first payload blocks
//!  2  xor_units     payload blocks of any messages, the first of each, until what is left of a
//!                   message is a multiple of the lanes
//!  3  xor_run       whole passes of one message
//!  4  authenticate  messages in the order of their lengths, one in each lane
//! ```
//!
//! That is how messages are sealed. Opening goes 1, 4, 2, 3, and after 4 without the messages
//! whose tag is wrong: nothing of them is ever decrypted. Blocks of a message are taken in order,
//! since it moves towards the front of its buffer meanwhile.

use arrayvec::ArrayVec;
use omni_wire::limits::AAD_LEN;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::lanes::{LANES_MAX, Lanes, Rows};
use crate::packet::{Packet, Strand, Unit};
use crate::BATCH_MAX;

/// "expand 32-byte k" (RFC 8439 s.2.3).
pub(crate) const SIGMA: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Strands that are authenticated beside each other.
pub(crate) const GROUP: usize = 8;

/// What a CPU's vector instructions are needed for.
pub(crate) trait Kernel: Copy {
    /// ChaCha20 blocks of a pass, at most [`LANES_MAX`].
    const LANES: usize;

    /// The keystream of each lane's state.
    fn keystream(self, lanes: &Lanes, rows: &mut Rows);

    /// Moves the units' payload blocks and applies the keystream of the lanes' states, in order.
    fn xor_units(self, lanes: &Lanes, packets: &mut [Packet<'_>], units: &[Unit]);

    /// The same for `LANES` blocks of one packet, or as many as there are, from block `first` on.
    fn xor_run(self, packet: &mut Packet<'_>, first: usize);

    /// The Poly1305 tags of the strands. Fast where they are of like length.
    fn authenticate(self, strands: &[Strand<'_>; GROUP]) -> [[u64; 2]; GROUP];

    /// Overwrites what was secret, in a manner that is not optimised away.
    fn wipe(self, lanes: &mut Lanes, rows: &mut Rows);
}

/// A set of packets of a batch, a bit for each.
type Set = u64;

const _: () = assert!(BATCH_MAX <= Set::BITS as usize);

/// Seals up to [`BATCH_MAX`] jobs.
pub(crate) fn seal(kernel: impl Kernel, packets: &mut [Packet<'_>]) {
    let mut work = Work::new(kernel);
    work.derive_keys(packets);
    work.apply_keystream(packets, Set::MAX);
    let tags = work.authenticate(packets);
    for (packet, tag) in packets.iter_mut().zip(tags) {
        packet.set_tag(tag);
    }
}

/// Opens up to [`BATCH_MAX`] jobs and says which tags verified.
pub(crate) fn open(kernel: impl Kernel, packets: &mut [Packet<'_>]) -> Set {
    let mut work = Work::new(kernel);
    work.derive_keys(packets);
    let tags = work.authenticate(packets);
    let mut verified = 0;
    for (i, (packet, tag)) in packets.iter().zip(tags).enumerate() {
        let is_same = tag.as_slice().ct_eq(packet.tag().as_slice());
        verified |= Set::from(is_same.unwrap_u8()) << i;
    }
    work.apply_keystream(packets, verified);
    verified
}

/// What is worked out for a batch, and wiped afterwards.
struct Work<K: Kernel> {
    kernel: K,
    lanes: Lanes,
    rows: Rows,
    /// The one-time Poly1305 keys.
    keys: [[u64; 4]; BATCH_MAX],
    /// How many of them there are.
    count: usize,
    /// Payload units whose keystream is in `rows` already, each with its row.
    early: ArrayVec<(usize, Unit), LANES_MAX>,
    heads: Heads,
}

impl<K: Kernel> Work<K> {
    fn new(kernel: K) -> Self {
        Self {
            kernel,
            lanes: Lanes::new(),
            rows: Rows([[0; 64]; LANES_MAX]),
            keys: [[0; 4]; BATCH_MAX],
            count: 0,
            early: ArrayVec::new(),
            heads: Heads::default(),
        }
    }

    /// Works out the one-time keys, and in lanes that are free the keystream of first blocks.
    fn derive_keys(&mut self, packets: &[Packet<'_>]) {
        for first in (0..packets.len()).step_by(K::LANES) {
            let last = packets.len().min(first + K::LANES);
            let mut units: ArrayVec<Unit, LANES_MAX> = (first..last)
                .map(|packet| Unit { packet, counter: 0 })
                .collect();
            while units.len() < K::LANES {
                let Some(unit) = self.heads.next::<K>(packets, Set::MAX) else {
                    break;
                };
                self.early.push((units.len(), unit));
                units.push(unit);
            }
            self.lanes.fill(packets, &units);
            self.kernel.keystream(&self.lanes, &mut self.rows);
            for (key, row) in self.keys[first..last].iter_mut().zip(&self.rows.0) {
                for (word, octets) in key.iter_mut().zip(row.as_chunks().0) {
                    *word = u64::from_le_bytes(*octets);
                }
            }
        }
        self.count = packets.len();
    }

    /// Applies the keystream to the payload of the packets in `set`.
    fn apply_keystream(&mut self, packets: &mut [Packet<'_>], set: Set) {
        for (row, unit) in &self.early {
            if set >> unit.packet & 1 == 1 {
                packets[unit.packet].xor_block(unit.block(), &self.rows.0[*row]);
            }
        }
        loop {
            let mut units: ArrayVec<Unit, LANES_MAX> = ArrayVec::new();
            while units.len() < K::LANES {
                let Some(unit) = self.heads.next::<K>(packets, set) else {
                    break;
                };
                units.push(unit);
            }
            if units.is_empty() {
                break;
            }
            self.lanes.fill(packets, &units);
            self.kernel.xor_units(&self.lanes, packets, &units);
        }
        for (i, packet) in packets.iter_mut().enumerate() {
            let blocks = packet.blocks();
            if set >> i & 1 == 1 {
                for first in (blocks % K::LANES..blocks).step_by(K::LANES) {
                    self.kernel.xor_run(packet, first);
                }
            }
        }
    }

    /// The tags of all packets.
    fn authenticate(&mut self, packets: &[Packet<'_>]) -> [[u64; 2]; BATCH_MAX] {
        let mut order: [u8; BATCH_MAX] = core::array::from_fn(|i| i as u8);
        let order = &mut order[..packets.len()];
        if !packets.is_sorted_by_key(|packet| packet.len) {
            order.sort_unstable_by_key(|&i| packets[usize::from(i)].len);
        }
        let mut tags = [[0; 2]; BATCH_MAX];
        for group in order.chunks(GROUP) {
            let mut strands = [Strand::default(); GROUP];
            for (strand, i) in strands.iter_mut().zip(group) {
                let (i, packet) = (usize::from(*i), &packets[usize::from(*i)]);
                *strand = Strand {
                    key: self.keys[i],
                    first: Some(packet.aad()),
                    data: packet.ciphertext(),
                    last: Some([AAD_LEN as u64, packet.len as u64]),
                };
            }
            let group_tags = self.kernel.authenticate(&strands);
            for (i, tag) in group.iter().zip(group_tags) {
                tags[usize::from(*i)] = tag;
            }
        }
        tags
    }
}

impl<K: Kernel> Drop for Work<K> {
    fn drop(&mut self) {
        self.kernel.wipe(&mut self.lanes, &mut self.rows);
        for key in &mut self.keys[..self.count] {
            key.zeroize();
        }
    }
}

/// Deals out the blocks of each packet that do not fill a pass: its first ones.
#[derive(Debug, Default)]
struct Heads {
    packet: usize,
    block: usize,
}

impl Heads {
    fn next<K: Kernel>(&mut self, packets: &[Packet<'_>], set: Set) -> Option<Unit> {
        loop {
            let packet = packets.get(self.packet)?;
            if set >> self.packet & 1 == 1 && self.block < packet.blocks() % K::LANES {
                self.block += 1;
                return Some(Unit {
                    packet: self.packet,
                    counter: self.block as u32,
                });
            }
            self.packet += 1;
            self.block = 0;
        }
    }
}
