//! One message as the kernels see it, and the units of work that it is cut into.

use omni_wire::limits::{AAD_LEN, HEADER_LEN, TAG_LEN};

use crate::{OpenJob, SealJob};

/// Octets of a ChaCha20 block.
pub(crate) const BLOCK: usize = 64;

/// A message in its buffer. Its payload goes from one place in it to another that is not later,
/// block after block.
pub(crate) struct Packet<'a> {
    pub(crate) key: &'a [u32; 8],
    /// Words 13 to 15 of the ChaCha20 state.
    pub(crate) nonce: [u32; 3],
    pub(crate) buffer: &'a mut [u8],
    /// Where the payload is.
    pub(crate) from: usize,
    /// Where it goes; at most `from`.
    pub(crate) to: usize,
    /// Octets of payload.
    pub(crate) len: usize,
    /// Where the ciphertext is or will be: the header is right before it.
    pub(crate) sealed_at: usize,
}

impl<'a> Packet<'a> {
    pub(crate) fn to_seal(job: &'a mut SealJob<'_>) -> Self {
        let from = job.plaintext_offset;
        assert!(from >= HEADER_LEN, "the header's octets are not plaintext");
        let len = job.message.len().checked_sub(from);
        let len = len.expect("a message is not shorter than where its plaintext begins");
        Self::new(
            &job.key.words,
            job.message,
            from,
            HEADER_LEN,
            len,
            HEADER_LEN,
        )
    }

    pub(crate) fn to_open(job: &'a mut OpenJob<'_>) -> Self {
        let rest = job.frame.len().checked_sub(job.header_offset);
        let len = rest.and_then(|rest| rest.checked_sub(HEADER_LEN));
        let len = len.expect("a frame holds a whole header");
        let from = job.header_offset + HEADER_LEN;
        Self::new(&job.key.words, job.frame, from, 0, len, from)
    }

    fn new(
        key: &'a [u32; 8],
        buffer: &'a mut [u8],
        from: usize,
        to: usize,
        len: usize,
        sealed_at: usize,
    ) -> Self {
        let mut packet = Self {
            key,
            nonce: [0; 3],
            buffer,
            from,
            to,
            len,
            sealed_at,
        };
        // Two zero octets, then lane and counter (octets 6 to 15 of the header).
        let [first, second] = packet.aad();
        packet.nonce = [
            ((first >> 48) << 16) as u32,
            second as u32,
            (second >> 32) as u32,
        ];
        packet
    }

    fn header_word(&self, at: usize) -> u64 {
        let at = self.sealed_at - HEADER_LEN + at;
        let octets = self.buffer[at..].first_chunk().expect("a whole header");
        u64::from_le_bytes(*octets)
    }

    /// What tells keys apart: within a batch, where they are.
    pub(crate) fn key_address(&self) -> usize {
        core::ptr::from_ref(self.key).addr()
    }

    /// The associated data as little-endian words.
    pub(crate) fn aad(&self) -> [u64; 2] {
        [self.header_word(0), self.header_word(8)]
    }

    /// The tag of the message as little-endian words.
    pub(crate) fn tag(&self) -> [u64; 2] {
        [self.header_word(AAD_LEN), self.header_word(AAD_LEN + 8)]
    }

    pub(crate) fn set_tag(&mut self, tag: [u64; 2]) {
        let slot = &mut self.buffer[self.sealed_at - TAG_LEN..self.sealed_at];
        for (octets, word) in slot.as_chunks_mut().0.iter_mut().zip(tag) {
            *octets = word.to_le_bytes();
        }
    }

    pub(crate) fn ciphertext(&self) -> &[u8] {
        &self.buffer[self.sealed_at..][..self.len]
    }

    /// Blocks of payload, the last of which may be short.
    pub(crate) fn blocks(&self) -> usize {
        self.len.div_ceil(BLOCK)
    }

    /// Octets of payload block `block` that there are, at most a block's.
    pub(crate) fn block_len(&self, block: usize) -> usize {
        (self.len - block * BLOCK).min(BLOCK)
    }

    /// Moves one block of payload and applies its keystream.
    pub(crate) fn xor_block(&mut self, block: usize, keystream: &[u8; BLOCK]) {
        let (at, len) = (block * BLOCK, self.block_len(block));
        let mut text = [0; BLOCK];
        copy_short(&mut text, &self.buffer[self.from + at..][..len]);
        for (text, key) in text.iter_mut().zip(keystream) {
            *text ^= key;
        }
        copy_short(&mut self.buffer[self.to + at..][..len], &text[..len]);
    }
}

/// Copies up to a block of octets to the start of `to`, in at most seven steps of a fixed length:
/// a copy of any length is a call that takes longer.
#[inline]
pub(crate) fn copy_short(to: &mut [u8], from: &[u8]) {
    fn step<const LEN: usize>(to: &mut &mut [u8], from: &mut &[u8]) {
        if from.len() & LEN != 0
            && let Some((head, rest)) = from.split_first_chunk::<LEN>()
            && let Some((place, behind)) = core::mem::take(to).split_first_chunk_mut::<LEN>()
        {
            *place = *head;
            (*from, *to) = (rest, behind);
        }
    }
    let (mut to, mut from) = (to, from);
    step::<64>(&mut to, &mut from);
    step::<32>(&mut to, &mut from);
    step::<16>(&mut to, &mut from);
    step::<8>(&mut to, &mut from);
    step::<4>(&mut to, &mut from);
    step::<2>(&mut to, &mut from);
    step::<1>(&mut to, &mut from);
}

/// One ChaCha20 block of one packet: what one lane of a pass works out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    /// Which packet of the batch.
    packet: u32,
    /// The counter: 0 makes the Poly1305 key, 1 is for the first block of the payload.
    pub(crate) counter: u32,
}

impl Unit {
    pub(crate) fn new(packet: usize, counter: usize) -> Self {
        // A batch has few packets and a packet few blocks.
        Self {
            packet: packet as u32,
            counter: counter as u32,
        }
    }

    pub(crate) fn packet(self) -> usize {
        self.packet as usize
    }

    /// The block of the payload that it is for.
    pub(crate) fn block(self) -> usize {
        self.counter as usize - 1
    }
}

/// Poly1305 accumulators that are worked on beside each other.
pub(crate) const STRANDS: usize = 8;

/// A 16-octet block of each strand: all low words, then all high words, little-endian.
pub(crate) type Blocks = [[u64; STRANDS]; 2];

/// What each accumulator takes in: a block, data, a block. Word by word, as vectors are loaded.
///
/// A message is one strand, or `split` of them in lanes side by side, from its first octets on:
///
/// ```text
/// lane    0             1      2      3            4 ...
///       | first, data | data | data | data, last | the next message
///                     |-step-|-step-|--- step ---|     blocks, the last included
/// ```
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Strands<'a> {
    /// The first half of the one-time keys, not yet clamped.
    pub(crate) r: Blocks,
    /// The second half.
    pub(crate) s: Blocks,
    /// The block before the data, zeros where there is none.
    pub(crate) first: Blocks,
    /// The block after the data, zeros where there is none.
    pub(crate) last: Blocks,
    /// The strands that have a first block, a bit for each.
    pub(crate) has_first: u8,
    /// The strands that have a last block, a bit for each.
    pub(crate) has_last: u8,
    /// Filled up with zeros to a whole block.
    pub(crate) data: [&'a [u8]; STRANDS],
    /// How many strands a message is: 1, 2, 4 or 8. Its tag is in its first lane.
    pub(crate) split: usize,
    /// Blocks of each strand of the lane's message but for the first, which may have more.
    pub(crate) step: [usize; STRANDS],
}

impl Strands<'_> {
    pub(crate) fn new(split: usize) -> Self {
        Self {
            r: Default::default(),
            s: Default::default(),
            first: Default::default(),
            last: Default::default(),
            has_first: 0,
            has_last: 0,
            data: Default::default(),
            split,
            step: [0; STRANDS],
        }
    }
}
