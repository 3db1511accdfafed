//! ChaCha20 (RFC 8439 s.2.3), 16 blocks at once, one in each lane of 16 registers.
#![forbid(unsafe_code)]

use core::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_setr_epi32,
    _mm512_shuffle_i32x4, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::{load, load_part, load_words, store, store_part};
use crate::drive::SIGMA;
use crate::lanes::{Lanes, Rows};
use crate::packet::{BLOCK, Packet, Unit};

/// Octets of a pass.
const RUN: usize = 16 * BLOCK;

/// A row of the state: four words, each of all lanes.
type Row = [__m512i; 4];

/// The keystream of the lanes' states.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
pub(super) fn keystream(lanes: &Lanes, rows: &mut Rows) {
    pass(initial(lanes), |lane, block| {
        store(&mut rows.0[lane], block)
    });
}

/// Applies the keystream of each lane to its unit's block.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
pub(super) fn xor_units(lanes: &Lanes, packets: &mut [Packet<'_>], units: &[Unit]) {
    let is_whole = |unit: &Unit| packets[unit.packet()].block_len(unit.block()) == BLOCK;
    if let Some(units) = units.first_chunk::<16>()
        && units.iter().all(is_whole)
    {
        return pass(initial(lanes), |lane, keystream| {
            let packet = &mut packets[units[lane].packet()];
            let at = units[lane].block() * BLOCK;
            if let Some(text) = packet.buffer[packet.from + at..].first_chunk() {
                let text = _mm512_xor_si512(load(text), keystream);
                if let Some(octets) = packet.buffer[packet.to + at..].first_chunk_mut() {
                    store(octets, text);
                }
            }
        });
    }
    pass(initial(lanes), |lane, keystream| {
        if let Some(unit) = units.get(lane) {
            xor_block(&mut packets[unit.packet()], unit.block(), keystream);
        }
    });
}

/// Applies the keystream to 16 blocks of a packet, from block `first` on. The last may be short.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
pub(super) fn xor_run(packet: &mut Packet<'_>, first: usize) {
    let at = first * BLOCK;
    if packet.len < at + RUN {
        return pass(initial_run(packet, first), |lane, keystream| {
            xor_block(packet, first + lane, keystream);
        });
    }
    let shift = packet.from - packet.to;
    let initial = initial_run(packet, first);
    let octets = &mut packet.buffer[packet.to + at..][..shift + RUN];
    pass(initial, |lane, keystream| {
        if let Some(text) = octets[lane * BLOCK..][shift..].first_chunk() {
            let text = _mm512_xor_si512(load(text), keystream);
            if let Some(octets) = octets[lane * BLOCK..].first_chunk_mut() {
                store(octets, text);
            }
        }
    });
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn xor_block(packet: &mut Packet<'_>, block: usize, keystream: __m512i) {
    let (at, len) = (block * BLOCK, packet.block_len(block));
    let text = load_part(&packet.buffer[packet.from + at..][..len]);
    let text = _mm512_xor_si512(text, keystream);
    store_part(&mut packet.buffer[packet.to + at..][..len], text);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn initial(lanes: &Lanes) -> [Row; 4] {
    let mut state = [sigma(); 4];
    for (i, words) in lanes.words.iter().enumerate() {
        state[1 + i / 4][i % 4] = load_words(words);
    }
    state
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn initial_run(packet: &Packet<'_>, first: usize) -> [Row; 4] {
    let mut state = [sigma(); 4];
    for (i, word) in packet.key.iter().enumerate() {
        state[1 + i / 4][i % 4] = splat(*word);
    }
    for (i, word) in packet.nonce.iter().enumerate() {
        state[3][1 + i] = splat(*word);
    }
    let lane = _mm512_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    state[3][0] = _mm512_add_epi32(splat(first as u32), lane);
    state
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn sigma() -> Row {
    let [s0, s1, s2, s3] = SIGMA;
    [splat(s0), splat(s1), splat(s2), splat(s3)]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

/// All 20 rounds and the sum with the initial state. Hands out each lane's block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn pass(initial: [Row; 4], mut each: impl FnMut(usize, __m512i)) {
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn sum(mut a: Row, b: Row) -> Row {
    for i in 0..4 {
        a[i] = _mm512_add_epi32(a[i], b[i]);
    }
    a
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn quarter_rounds(mut a: Row, mut b: Row, mut c: Row, mut d: Row) -> [Row; 4] {
    (a, d) = step::<16>(a, b, d);
    (c, b) = step::<12>(c, d, b);
    (a, d) = step::<8>(a, b, d);
    (c, b) = step::<7>(c, d, b);
    [a, b, c, d]
}

/// `x += y; z = (z ^ x) <<< BITS` in four columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn step<const BITS: i32>(x: Row, y: Row, z: Row) -> (Row, Row) {
    let (x, mut turned) = (sum(x, y), z);
    for i in 0..4 {
        turned[i] = _mm512_rol_epi32::<BITS>(_mm512_xor_si512(z[i], x[i]));
    }
    (x, turned)
}

/// From words of all lanes to lanes with all their words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn transpose(rows: [Row; 4]) -> [__m512i; 16] {
    // Each row apart: the 128-bit part `p` of register `j` is the row of lane `4 p + j`.
    let parts = [
        quads(rows[0]),
        quads(rows[1]),
        quads(rows[2]),
        quads(rows[3]),
    ];
    let mut blocks = [rows[0][0]; 16];
    for j in 0..4 {
        let [a, b, c, d] = [parts[0][j], parts[1][j], parts[2][j], parts[3][j]];
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
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
