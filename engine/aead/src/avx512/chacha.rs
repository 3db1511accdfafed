//! ChaCha20 (RFC 8439 s.2.3), 16 blocks at once, one in each lane of 16 registers.

use core::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_setr_epi32,
    _mm512_shuffle_i32x4, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::{load_part, load_words, store, store_part};
use crate::drive::SIGMA;
use crate::lanes::{Lanes, Rows};
use crate::packet::{BLOCK, Packet, Unit};

/// A row of the state: four words, each of all lanes.
type Row = [__m512i; 4];

/// The keystream of the lanes' states.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn keystream(lanes: &Lanes, rows: &mut Rows) {
    let blocks = blocks(&initial(lanes));
    for (row, block) in rows.0.iter_mut().zip(blocks) {
        store(row, block);
    }
}

/// Applies the keystream of each lane to its unit's block.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn xor_units(lanes: &Lanes, packets: &mut [Packet<'_>], units: &[Unit]) {
    let blocks = blocks(&initial(lanes));
    for (unit, keystream) in units.iter().zip(blocks) {
        xor_block(&mut packets[unit.packet], unit.block(), keystream);
    }
}

/// Applies the keystream to up to 16 blocks of a packet, from block `first` on.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn xor_run(packet: &mut Packet<'_>, first: usize) {
    let blocks = blocks(&initial_run(packet, first));
    for (block, keystream) in (first..packet.blocks()).zip(blocks) {
        xor_block(packet, block, keystream);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn xor_block(packet: &mut Packet<'_>, block: usize, keystream: __m512i) {
    let (at, len) = (block * BLOCK, packet.block_len(block));
    let text = load_part(&packet.buffer[packet.from + at..][..len]);
    let text = _mm512_xor_si512(text, keystream);
    store_part(&mut packet.buffer[packet.to + at..][..len], text);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn initial(lanes: &Lanes) -> [Row; 4] {
    let words = |row: usize| -> Row {
        [0, 1, 2, 3].map(|word| load_words(&lanes.words[4 * row + word - 4]))
    };
    [sigma(), words(1), words(2), words(3)]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn initial_run(packet: &Packet<'_>, first: usize) -> [Row; 4] {
    let word = |word: u32| _mm512_set1_epi32(word.cast_signed());
    let lane = _mm512_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    let [k0, k1, k2, k3, k4, k5, k6, k7] = packet.key.map(word);
    let [n0, n1, n2] = packet.nonce.map(word);
    let counter = _mm512_add_epi32(word(first as u32), lane);
    [
        sigma(),
        [k0, k1, k2, k3],
        [k4, k5, k6, k7],
        [counter, n0, n1, n2],
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sigma() -> Row {
    SIGMA.map(|word| _mm512_set1_epi32(word.cast_signed()))
}

/// All 20 rounds and the sum with the initial state; a whole block in each register.
#[inline]
#[target_feature(enable = "avx512f")]
fn blocks(initial: &[Row; 4]) -> [__m512i; 16] {
    let [mut a, mut b, mut c, mut d] = *initial;
    for _ in 0..10 {
        quarter_rounds(&mut a, &mut b, &mut c, &mut d);
        // The diagonals are columns of rows that are turned, which costs nothing.
        b.rotate_left(1);
        c.rotate_left(2);
        d.rotate_left(3);
        quarter_rounds(&mut a, &mut b, &mut c, &mut d);
        b.rotate_right(1);
        c.rotate_right(2);
        d.rotate_right(3);
    }
    transpose([
        sum(a, initial[0]),
        sum(b, initial[1]),
        sum(c, initial[2]),
        sum(d, initial[3]),
    ])
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sum(a: Row, b: Row) -> Row {
    [0, 1, 2, 3].map(|i| _mm512_add_epi32(a[i], b[i]))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn quarter_rounds(a: &mut Row, b: &mut Row, c: &mut Row, d: &mut Row) {
    step::<16>(a, b, d);
    step::<12>(c, d, b);
    step::<8>(a, b, d);
    step::<7>(c, d, b);
}

/// `x += y; z = (z ^ x) <<< BITS` in four columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn step<const BITS: i32>(x: &mut Row, y: &Row, z: &mut Row) {
    for i in 0..4 {
        x[i] = _mm512_add_epi32(x[i], y[i]);
    }
    for i in 0..4 {
        z[i] = _mm512_rol_epi32::<BITS>(_mm512_xor_si512(z[i], x[i]));
    }
}

/// From words of all lanes to lanes with all their words.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [Row; 4]) -> [__m512i; 16] {
    // Each row apart: the 128-bit part `p` of register `j` is the row of lane `4 p + j`.
    let parts = rows.map(|row| quads(row));
    let mut blocks = [rows[0][0]; 16];
    for j in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|row| parts[row][j]);
        let ab_low = _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b);
        let ab_high = _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b);
        let cd_low = _mm512_shuffle_i32x4::<0b01_00_01_00>(c, d);
        let cd_high = _mm512_shuffle_i32x4::<0b11_10_11_10>(c, d);
        blocks[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_low, cd_low);
        blocks[4 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_low, cd_low);
        blocks[8 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_high, cd_high);
        blocks[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_high, cd_high);
    }
    blocks
}

/// Four words of each lane side by side, within each 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn quads(row: Row) -> Row {
    let low = _mm512_unpacklo_epi32(row[0], row[1]);
    let high = _mm512_unpackhi_epi32(row[0], row[1]);
    let low2 = _mm512_unpacklo_epi32(row[2], row[3]);
    let high2 = _mm512_unpackhi_epi32(row[2], row[3]);
    [
        _mm512_unpacklo_epi64(low, low2),
        _mm512_unpackhi_epi64(low, low2),
        _mm512_unpacklo_epi64(high, high2),
        _mm512_unpackhi_epi64(high, high2),
    ]
}
