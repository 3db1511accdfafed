//! ChaCha20 (RFC 8439 s.2.3), 8 blocks at once, one in each lane of 16 registers.
#![forbid(unsafe_code)]

use core::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set1_epi32,
    _mm256_setr_epi8, _mm256_setr_epi32, _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srli_epi32,
    _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
    _mm256_xor_si256,
};

use super::{load_block, load_words, store_block, zero};
use crate::drive::SIGMA;
use crate::lanes::{Lanes, Rows};
use crate::packet::{BLOCK, Packet, Unit, copy_short};

/// A row of the state: four words, each of all lanes.
type Row = [__m256i; 4];

/// The keystream of the lanes' states.
#[target_feature(enable = "avx2")]
pub(super) fn keystream(lanes: &Lanes, rows: &mut Rows) {
    pass(initial(lanes), |lane, block| {
        store_block(&mut rows.0[lane], block)
    });
}

/// Applies the keystream of each lane to its unit's block.
#[target_feature(enable = "avx2")]
pub(super) fn xor_units(lanes: &Lanes, packets: &mut [Packet<'_>], units: &[Unit]) {
    pass(initial(lanes), |lane, keystream| {
        if let Some(unit) = units.get(lane) {
            xor_block(&mut packets[unit.packet()], unit.block(), keystream);
        }
    });
}

/// Applies the keystream to 8 blocks of a packet, from block `first` on. The last may be short.
#[target_feature(enable = "avx2")]
pub(super) fn xor_run(packet: &mut Packet<'_>, first: usize) {
    pass(initial_run(packet, first), |lane, keystream| {
        xor_block(packet, first + lane, keystream);
    });
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor_block(packet: &mut Packet<'_>, block: usize, keystream: [__m256i; 2]) {
    let (at, len) = (block * BLOCK, packet.block_len(block));
    if let Some(text) = packet.buffer[packet.from + at..][..len].first_chunk() {
        let [low, high] = load_block(text);
        let text = [
            _mm256_xor_si256(low, keystream[0]),
            _mm256_xor_si256(high, keystream[1]),
        ];
        if let Some(octets) = packet.buffer[packet.to + at..].first_chunk_mut() {
            store_block(octets, text);
        }
        return;
    }
    let mut text = [0; BLOCK];
    copy_short(&mut text, &packet.buffer[packet.from + at..][..len]);
    let [low, high] = load_block(&text);
    let both = [
        _mm256_xor_si256(low, keystream[0]),
        _mm256_xor_si256(high, keystream[1]),
    ];
    store_block(&mut text, both);
    copy_short(&mut packet.buffer[packet.to + at..][..len], &text[..len]);
}

#[inline]
#[target_feature(enable = "avx2")]
fn initial(lanes: &Lanes) -> [Row; 4] {
    let mut state = [sigma(); 4];
    for (i, words) in lanes.words.iter().enumerate() {
        state[1 + i / 4][i % 4] = load_words(&words.as_chunks().0[0]);
    }
    state
}

#[inline]
#[target_feature(enable = "avx2")]
fn initial_run(packet: &Packet<'_>, first: usize) -> [Row; 4] {
    let mut state = [sigma(); 4];
    for (i, word) in packet.key.iter().enumerate() {
        state[1 + i / 4][i % 4] = splat(*word);
    }
    for (i, word) in packet.nonce.iter().enumerate() {
        state[3][1 + i] = splat(*word);
    }
    let lane = _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8);
    state[3][0] = _mm256_add_epi32(splat(first as u32), lane);
    state
}

#[inline]
#[target_feature(enable = "avx2")]
fn sigma() -> Row {
    let [s0, s1, s2, s3] = SIGMA;
    [splat(s0), splat(s1), splat(s2), splat(s3)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(word: u32) -> __m256i {
    _mm256_set1_epi32(word.cast_signed())
}

/// All 20 rounds and the sum with the initial state. Hands out each lane's block.
#[inline]
#[target_feature(enable = "avx2")]
fn pass(initial: [Row; 4], mut each: impl FnMut(usize, [__m256i; 2])) {
    let [mut a, mut b, mut c, mut d] = initial;
    for _ in 0..10 {
        [a, b, c, d] = quarter_rounds(a, b, c, d);
        // The diagonals are columns of rows that are turned, which costs nothing. `rotate_left` of
        // a slice would go through memory.
        b = [b[1], b[2], b[3], b[0]];
        c = [c[2], c[3], c[0], c[1]];
        d = [d[3], d[0], d[1], d[2]];
        [a, b, c, d] = quarter_rounds(a, b, c, d);
        b = [b[3], b[0], b[1], b[2]];
        c = [c[2], c[3], c[0], c[1]];
        d = [d[1], d[2], d[3], d[0]];
    }
    let blocks = transpose([
        sum(a, initial[0]),
        sum(b, initial[1]),
        sum(c, initial[2]),
        sum(d, initial[3]),
    ]);
    for (lane, block) in blocks.into_iter().enumerate() {
        each(lane, block);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum(mut a: Row, b: Row) -> Row {
    for i in 0..4 {
        a[i] = _mm256_add_epi32(a[i], b[i]);
    }
    a
}

#[inline]
#[target_feature(enable = "avx2")]
fn quarter_rounds(mut a: Row, mut b: Row, mut c: Row, mut d: Row) -> [Row; 4] {
    (a, d) = step::<16>(a, b, d);
    (c, b) = step::<12>(c, d, b);
    (a, d) = step::<8>(a, b, d);
    (c, b) = step::<7>(c, d, b);
    [a, b, c, d]
}

/// `x += y; z = (z ^ x) <<< BITS` in four columns.
#[inline]
#[target_feature(enable = "avx2")]
fn step<const BITS: i32>(x: Row, y: Row, z: Row) -> (Row, Row) {
    let (x, mut turned) = (sum(x, y), z);
    for i in 0..4 {
        turned[i] = rotate::<BITS>(_mm256_xor_si256(z[i], x[i]));
    }
    (x, turned)
}

/// Rotates each word to the left by 16, 12, 8 or 7 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const BITS: i32>(words: __m256i) -> __m256i {
    match BITS {
        16 => {
            let order = _mm256_setr_epi8(
                2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, //
                2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13,
            );
            _mm256_shuffle_epi8(words, order)
        }
        8 => {
            let order = _mm256_setr_epi8(
                3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, //
                3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14,
            );
            _mm256_shuffle_epi8(words, order)
        }
        12 => _mm256_or_si256(
            _mm256_slli_epi32::<12>(words),
            _mm256_srli_epi32::<20>(words),
        ),
        _ => _mm256_or_si256(
            _mm256_slli_epi32::<7>(words),
            _mm256_srli_epi32::<25>(words),
        ),
    }
}

/// From words of all lanes to lanes with all their words.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [Row; 4]) -> [[__m256i; 2]; 8] {
    // Each row apart: the 128-bit half `p` of register `j` is the row of lane `4 p + j`.
    let parts = [
        quads(rows[0]),
        quads(rows[1]),
        quads(rows[2]),
        quads(rows[3]),
    ];
    let mut blocks = [[zero(); 2]; 8];
    for j in 0..4 {
        let [a, b, c, d] = [parts[0][j], parts[1][j], parts[2][j], parts[3][j]];
        blocks[j] = [
            _mm256_permute2x128_si256::<0x20>(a, b),
            _mm256_permute2x128_si256::<0x20>(c, d),
        ];
        blocks[4 + j] = [
            _mm256_permute2x128_si256::<0x31>(a, b),
            _mm256_permute2x128_si256::<0x31>(c, d),
        ];
    }
    blocks
}

/// Four words of each lane side by side, within each 128 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn quads(row: Row) -> Row {
    let low = _mm256_unpacklo_epi32(row[0], row[1]);
    let high = _mm256_unpackhi_epi32(row[0], row[1]);
    let low2 = _mm256_unpacklo_epi32(row[2], row[3]);
    let high2 = _mm256_unpackhi_epi32(row[2], row[3]);
    [
        _mm256_unpacklo_epi64(low, low2),
        _mm256_unpackhi_epi64(low, low2),
        _mm256_unpacklo_epi64(high, high2),
        _mm256_unpackhi_epi64(high, high2),
    ]
}
