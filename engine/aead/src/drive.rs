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

use crate::BATCH_MAX;
use crate::lanes::{LANES_MAX, Lanes, Rows};
use crate::packet::{Blocks, Packet, STRANDS, Strands, Unit};

/// "expand 32-byte k" (RFC 8439 s.2.3).
pub(crate) const SIGMA: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Octets of a Poly1305 block.
pub(crate) const STEP: usize = 16;

/// What a CPU's vector instructions are needed for.
pub(crate) trait Kernel: Copy {
    /// ChaCha20 blocks of a pass, at most [`LANES_MAX`].
    const LANES: usize;

    /// How many strands a message of that many Poly1305 blocks is best cut into, where `share` is
    /// what there is in all for each lane: see [`Strands`].
    fn split(blocks: usize, share: usize) -> usize;

    /// The keystream of each lane's state.
    fn keystream(self, lanes: &Lanes, rows: &mut Rows);

    /// Moves the units' payload blocks and applies the keystream of the lanes' states, in order.
    fn xor_units(self, lanes: &Lanes, packets: &mut [Packet<'_>], units: &[Unit]);

    /// The same for `LANES` blocks of one packet, or as many as there are, from block `first` on.
    fn xor_run(self, packet: &mut Packet<'_>, first: usize);

    /// The Poly1305 tags of the strands. Fast where they are of like length.
    fn authenticate(self, strands: &Strands<'_>) -> Blocks;
}

/// A set of packets of a batch, a bit for each.
type Set = u64;

/// The packets of a batch as they came.
const IN_ORDER: [u8; BATCH_MAX] = {
    let mut order = [0; BATCH_MAX];
    let mut i = 0;
    while i < BATCH_MAX {
        order[i] = i as u8;
        i += 1;
    }
    order
};

/// What a pass works on.
type Units = ArrayVec<Unit, LANES_MAX>;

const _: () = assert!(BATCH_MAX <= Set::BITS as usize);

/// Seals up to [`BATCH_MAX`] packets.
pub(crate) fn seal(kernel: impl Kernel, packets: &mut [Packet<'_>]) {
    let mut work = Work::new(kernel);
    work.derive_keys(packets);
    work.apply_keystream(packets, Set::MAX);
    work.authenticate(packets, |_, packet, tag| packet.set_tag(tag));
}

/// Opens up to [`BATCH_MAX`] packets and says which tags verified.
pub(crate) fn open(kernel: impl Kernel, packets: &mut [Packet<'_>]) -> Set {
    let mut work = Work::new(kernel);
    work.derive_keys(packets);
    let mut verified = 0;
    work.authenticate(packets, |i, packet, tag| {
        let [low, high] = packet.tag();
        let differs = (tag[0] ^ low) | (tag[1] ^ high);
        verified |= Set::from(differs.ct_eq(&0).unwrap_u8()) << i;
    });
    work.apply_keystream(packets, verified);
    verified
}

/// What is worked out for a batch, and wiped afterwards.
struct Work<K: Kernel> {
    kernel: K,
    /// What this pass and the next work on: see [`Lanes`]. What was just written word by word is
    /// slow to be read as vectors, so the next is prepared before this one runs.
    passes: [(Lanes, Units); 2],
    rows: Rows,
    /// The one-time Poly1305 keys.
    keys: ArrayVec<[u64; 4], BATCH_MAX>,
    /// Payload units whose keystream is in `rows` already, each with its row.
    early: ArrayVec<(usize, Unit), LANES_MAX>,
    heads: Heads,
}

impl<K: Kernel> Work<K> {
    #[inline]
    fn new(kernel: K) -> Self {
        Self {
            kernel,
            passes: [(Lanes::new(), Units::new()), (Lanes::new(), Units::new())],
            rows: Rows([[0; 64]; LANES_MAX]),
            keys: ArrayVec::new(),
            early: ArrayVec::new(),
            heads: Heads::default(),
        }
    }

    /// Works out the one-time keys, and in lanes that are free the keystream of first blocks.
    fn derive_keys(&mut self, packets: &[Packet<'_>]) {
        let (mut now, mut next) = (0, 1);
        self.prepare_keys(now, packets, 0);
        for first in (0..packets.len()).step_by(K::LANES) {
            self.prepare_keys(next, packets, first + K::LANES);
            self.kernel.keystream(&self.passes[now].0, &mut self.rows);
            let count = K::LANES.min(packets.len() - first);
            for row in &self.rows.0[..count] {
                let mut key = [0; 4];
                for (word, octets) in key.iter_mut().zip(row.as_chunks().0) {
                    *word = u64::from_le_bytes(*octets);
                }
                self.keys.push(key);
            }
            (now, next) = (next, now);
        }
    }

    /// Blocks 0 of the packets from `first` on, and in lanes that are free first payload blocks.
    #[inline]
    fn prepare_keys(&mut self, pass: usize, packets: &[Packet<'_>], first: usize) {
        let last = packets.len().min(first + K::LANES);
        let (lanes, units) = &mut self.passes[pass];
        units.clear();
        units.extend((first..last).map(|packet| Unit::new(packet, 0)));
        let keys = units.len();
        if keys > 0 {
            self.heads.take::<K>(packets, Set::MAX, units);
        }
        if units.len() > keys {
            self.early
                .extend(units.iter().copied().enumerate().skip(keys));
        }
        lanes.fill(packets, units);
    }

    /// Applies the keystream to the payload of the packets in `set`.
    fn apply_keystream(&mut self, packets: &mut [Packet<'_>], set: Set) {
        for (row, unit) in &self.early {
            if set >> unit.packet() & 1 == 1 {
                packets[unit.packet()].xor_block(unit.block(), &self.rows.0[*row]);
            }
        }
        let (mut now, mut next) = (0, 1);
        self.prepare_heads(now, packets, set);
        while !self.passes[now].1.is_empty() {
            self.prepare_heads(next, packets, set);
            let (lanes, units) = &self.passes[now];
            self.kernel.xor_units(lanes, packets, units);
            (now, next) = (next, now);
        }
        for (i, packet) in packets.iter_mut().enumerate() {
            let blocks = packet.blocks();
            if blocks >= K::LANES && set >> i & 1 == 1 {
                for first in (blocks % K::LANES..blocks).step_by(K::LANES) {
                    self.kernel.xor_run(packet, first);
                }
            }
        }
    }

    #[inline]
    fn prepare_heads(&mut self, pass: usize, packets: &[Packet<'_>], set: Set) {
        let (lanes, units) = &mut self.passes[pass];
        units.clear();
        self.heads.take::<K>(packets, set, units);
        lanes.fill(packets, units);
    }

    /// Works out the tags of all packets and hands out each, with the packet's place in the batch.
    fn authenticate<'a>(
        &mut self,
        packets: &mut [Packet<'a>],
        mut each: impl FnMut(usize, &mut Packet<'a>, [u64; 2]),
    ) {
        let mut order = IN_ORDER;
        let order = &mut order[..packets.len()];
        if !packets.is_sorted_by_key(|packet| packet.len) {
            order.sort_unstable_by_key(|&i| packets[usize::from(i)].len);
        }
        let share = packets
            .iter()
            .map(mac_blocks)
            .sum::<usize>()
            .div_ceil(STRANDS);
        let split = |i: u8| K::split(mac_blocks(&packets[usize::from(i)]), share);
        // The longest come last: those before them are cut into as many strands or fewer.
        let whole = match order.last() {
            Some(longest) if split(*longest) > 1 => order.partition_point(|i| split(*i) == 1),
            _ => order.len(),
        };
        let (whole, mut long) = order.split_at(whole);
        for group in whole.chunks(STRANDS) {
            let mut strands = Strands::new(1);
            self.fill_whole(&mut strands, packets, group);
            let [low, high] = self.kernel.authenticate(&strands);
            for (lane, i) in group.iter().enumerate().take(STRANDS) {
                let i = usize::from(*i);
                each(i, &mut packets[i], [low[lane], high[lane]]);
            }
        }
        while let Some(first) = long.first() {
            let split = |i: u8| K::split(mac_blocks(&packets[usize::from(i)]), share);
            let into = split(*first);
            let alike = long.iter().take(STRANDS / into);
            let count = alike.take_while(|i| split(**i) == into).count();
            let group;
            (group, long) = long.split_at(count);
            let mut strands = Strands::new(into);
            self.fill_split(&mut strands, packets, group);
            let [low, high] = self.kernel.authenticate(&strands);
            for (lane, i) in (0..STRANDS).step_by(into).zip(group) {
                let i = usize::from(*i);
                each(i, &mut packets[i], [low[lane], high[lane]]);
            }
        }
    }

    /// A packet in each strand.
    #[inline]
    fn fill_whole<'a>(&self, strands: &mut Strands<'a>, packets: &'a [Packet<'_>], group: &[u8]) {
        for (lane, i) in group.iter().enumerate().take(STRANDS) {
            let (key, packet) = (&self.keys[usize::from(*i)], &packets[usize::from(*i)]);
            let aad = packet.aad();
            for half in 0..2 {
                strands.r[half][lane] = key[half];
                strands.s[half][lane] = key[2 + half];
                strands.first[half][lane] = aad[half];
            }
            strands.last[0][lane] = AAD_LEN as u64;
            strands.last[1][lane] = packet.len as u64;
            strands.data[lane] = packet.ciphertext();
        }
        strands.has_first = u8::MAX >> (STRANDS - group.len());
        strands.has_last = strands.has_first;
    }

    /// A packet in as many strands as each is cut into.
    fn fill_split<'a>(&self, strands: &mut Strands<'a>, packets: &'a [Packet<'_>], group: &[u8]) {
        let split = strands.split;
        for (lane, i) in (0..STRANDS).step_by(split).zip(group) {
            let (key, packet) = (&self.keys[usize::from(*i)], &packets[usize::from(*i)]);
            let (aad, end) = (packet.aad(), lane + split - 1);
            for half in 0..2 {
                strands.r[half][lane..=end].fill(key[half]);
                strands.s[half][lane] = key[2 + half];
                strands.first[half][lane] = aad[half];
            }
            strands.last[0][end] = AAD_LEN as u64;
            strands.last[1][end] = packet.len as u64;
            strands.has_first |= 1 << lane;
            strands.has_last |= 1 << end;
            let step = mac_blocks(packet) / split;
            strands.step[lane..=end].fill(step);
            // The associated data is a block of the first strand, the lengths one of the last.
            let mut blocks = mac_blocks(packet) - (split - 1) * step - 1;
            let mut data = packet.ciphertext();
            for strand in &mut strands.data[lane..end] {
                (*strand, data) = data.split_at(blocks * STEP);
                blocks = step;
            }
            strands.data[end] = data;
        }
    }
}

/// Blocks that a packet's tag is made of: associated data, ciphertext, lengths.
fn mac_blocks(packet: &Packet<'_>) -> usize {
    packet.len.div_ceil(STEP) + 2
}

impl<K: Kernel> Drop for Work<K> {
    fn drop(&mut self) {
        for (lanes, _) in &mut self.passes {
            lanes.wipe();
        }
        self.rows.wipe();
        for key in &mut self.keys {
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
    /// Adds units to a pass until it is full or there are none.
    #[inline]
    fn take<K: Kernel>(&mut self, packets: &[Packet<'_>], set: Set, units: &mut Units) {
        while let Some(packet) = packets.get(self.packet) {
            if set >> self.packet & 1 == 1 {
                let end = packet.blocks() % K::LANES;
                while self.block < end {
                    if units.len() >= K::LANES {
                        return;
                    }
                    self.block += 1;
                    units.push(Unit::new(self.packet, self.block));
                }
            }
            self.packet += 1;
            self.block = 0;
        }
    }
}
