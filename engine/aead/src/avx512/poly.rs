//! Poly1305 (RFC 8439 s.2.5), a strand in each of 8 lanes, numbers in three limbs of 44 bits.
//!
//! ```text
//!   value = l0 + 2^44 l1 + 2^88 l2                                 2^130 = 5, so 2^132 = 20
//!   limb product, 52 x 52 bits: low half at the limb itself, high half 2^52 = 2^44 2^8 above it
//! ```
//!
//! Four blocks are taken in at a time: `h = (h + m0) r^4 + m1 r^3 + m2 r^2 + m3 r`. Only the first
//! product waits for what was before. Limbs stay below 2^46 and what they are multiplied with
//! below 2^49, within the 52 bits that the multiplier sees; the sum of a limb's twelve halves is
//! below 2^56.
#![forbid(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "limbs have numbers in all formulae, and closures may not be inlined into iterators, \
              which are compiled without the vector instructions"
)]

use core::arch::x86_64::{
    __m512i, __mmask8, _mm512_add_epi64, _mm512_alignr_epi64, _mm512_and_si512,
    _mm512_cmplt_epu64_mask, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_add_epi64,
    _mm512_mask_mov_epi64, _mm512_or_si512, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_shuffle_i64x2, _mm512_slli_epi64, _mm512_srai_epi64, _mm512_srli_epi64,
    _mm512_sub_epi64, _mm512_ternarylogic_epi64, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use super::{load, load_part, load_quads, store_quads};
use crate::drive::STEP;
use crate::packet::{BLOCK, Blocks, STRANDS, Strands};

/// Strands that are worked on at once.
const LANES: usize = STRANDS;

const MASK_44: u64 = (1 << 44) - 1;
const MASK_42: u64 = (1 << 42) - 1;
/// The bit beyond a whole block, in its limb.
const PAD: u64 = 1 << 40;

/// A mask of all lanes.
const ALL: __mmask8 = 0xff;

/// A number in each lane.
#[derive(Clone, Copy)]
struct Limbs([__m512i; 3]);

/// What numbers are multiplied with: its limbs, and 20 times its upper two.
#[derive(Clone, Copy)]
struct Factor {
    limbs: [__m512i; 3],
    folded: [__m512i; 2],
}

/// Sums of products: low and high halves by limb.
#[derive(Clone, Copy)]
struct Sums {
    low: [__m512i; 3],
    high: [__m512i; 3],
}

/// The tag of every strand.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
pub(super) fn authenticate(strands: &Strands<'_>) -> Blocks {
    finish(absorb(strands), strands)
}

/// The accumulators after all that the strands have.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn absorb(strands: &Strands<'_>) -> Limbs {
    let data = &occupied(strands);
    let r = clamped(&strands.r);
    let r1 = r.factor();
    let first = block(words(&strands.first), strands.has_first);
    let mut h = Sums::zero().plus(first, &r1).carried();
    let (mut all, mut most, mut behind) = (usize::MAX, 0, 0);
    for data in data {
        all = all.min(data.len() / BLOCK);
        most = most.max(fours(data));
        behind = behind.max(blocks_behind(data));
    }
    if most == 0 && behind == 0 {
        return last_only(h, strands, &r1);
    }
    let r2 = Sums::zero().plus(r, &r1).carried();
    let r2 = r2.factor();
    let r3 = Sums::zero().plus(r, &r2).carried().factor();
    let r4 = Sums::zero().plus(Limbs(r2.limbs), &r2).carried().factor();
    let powers = [r1, r2, r3, r4];
    for at in 0..all {
        let mut rows = [zero(); LANES];
        for (row, data) in rows.iter_mut().zip(data) {
            *row = whole_block(data, at);
        }
        h = four(h, rows, &powers);
    }
    for at in all..most {
        let active = present(data.map(|data| at < fours(data)));
        let mut rows = [zero(); LANES];
        for (row, data) in rows.iter_mut().zip(data) {
            *row = part_of_block(data, at);
        }
        h = h.replaced(four(h, rows, &powers), active);
    }
    if behind == 0 {
        h = last_only(h, strands, &r1);
    } else {
        h = tail(h, data, strands, &powers);
    }
    if strands.split > 1 {
        h = join(h, strands, &powers);
    }
    h
}

/// Puts the strands of each message together, in its first lane: each strand is multiplied with r
/// to the power of the blocks behind it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn join(mut h: Limbs, strands: &Strands<'_>, powers: &[Factor; 4]) -> Limbs {
    let mut weight = power(powers, &strands.step);
    let mut distance = 1;
    while distance < strands.split {
        let factor = weight.factor();
        let product = Sums::zero().plus(h, &factor);
        let mut next = h;
        for limb in &mut next.0 {
            *limb = match distance {
                1 => _mm512_alignr_epi64::<1>(*limb, *limb),
                2 => _mm512_alignr_epi64::<2>(*limb, *limb),
                _ => _mm512_alignr_epi64::<4>(*limb, *limb),
            };
        }
        h = product.carried().plus(next).carried_once();
        weight = Sums::zero().plus(weight, &factor).carried();
        distance *= 2;
    }
    h
}

/// r to the power of `exponents`, lane by lane, two bits at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn power(powers: &[Factor; 4], exponents: &[usize; LANES]) -> Limbs {
    let most = exponents.iter().copied().max().unwrap_or(0);
    let digits = (usize::BITS - most.leading_zeros()).div_ceil(2);
    let mut power = Limbs([splat(1), zero(), zero()]);
    for digit in (0..digits).rev() {
        if digit + 1 < digits {
            power = Sums::zero().plus(power, &power.factor()).carried();
            power = Sums::zero().plus(power, &power.factor()).carried();
        }
        let digit_is =
            |value: usize| present(exponents.map(|exponent| exponent >> (2 * digit) & 3 == value));
        let mut weight = powers[0];
        weight = weight.replaced(&powers[1], digit_is(2));
        weight = weight.replaced(&powers[2], digit_is(3));
        let product = Sums::zero().plus(power, &weight).carried();
        power = power.replaced(product, !digit_is(0));
    }
    power
}

/// The data of all lanes. Those that no strand is in work on another's, for nothing: so they keep
/// no other lane from taking in whole blocks.
#[inline]
fn occupied<'a>(strands: &Strands<'a>) -> [&'a [u8]; LANES] {
    let mut data = strands.data;
    let used = strands.has_first | strands.has_last;
    if used != ALL {
        for lane in 1..LANES {
            if used >> lane & 1 == 0 && data[lane].is_empty() {
                data[lane] = data[lane - 1];
            }
        }
    }
    data
}

/// How often four blocks are taken in: data of 49 to 63 octets is four blocks as well.
#[inline]
fn fours(data: &[u8]) -> usize {
    data.len().div_ceil(STEP) / 4
}

/// How many blocks there are behind the fours.
#[inline]
fn blocks_behind(data: &[u8]) -> usize {
    data.len().div_ceil(STEP) % 4
}

/// Where nothing is left but the last block, or not even that.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn last_only(h: Limbs, strands: &Strands<'_>, r1: &Factor) -> Limbs {
    let last = block(words(&strands.last), strands.has_last);
    let after = Sums::zero().plus(h.plus(last), r1).carried();
    h.replaced(after, strands.has_last)
}

/// Takes in four whole blocks of each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn four(h: Limbs, rows: [__m512i; LANES], powers: &[Factor; 4]) -> Limbs {
    let [w0, w1, w2, w3] = transpose(rows);
    let [m0, m1, m2, m3] = [
        block(w0, ALL),
        block(w1, ALL),
        block(w2, ALL),
        block(w3, ALL),
    ];
    let sums = Sums::zero().plus(m3, &powers[0]);
    let sums = sums.plus(m2, &powers[1]).plus(m1, &powers[2]);
    sums.plus(h.plus(m0), &powers[3]).carried()
}

/// Takes in what is behind the last four blocks: up to three, and the last.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn tail(h: Limbs, data: &[&[u8]; LANES], strands: &Strands<'_>, powers: &[Factor; 4]) -> Limbs {
    let mut rows = [zero(); LANES];
    for (row, data) in rows.iter_mut().zip(data) {
        *row = part_of_block(data, fours(data));
    }
    let transposed = transpose(rows);
    let behind = data.map(blocks_behind);
    let rest: [usize; LANES] =
        core::array::from_fn(|i| behind[i] + usize::from(strands.has_last >> i & 1));
    let last = words(&strands.last);
    let mut sums = Sums::zero();
    for at in (0..4).rev() {
        let there = present(rest.map(|rest| at < rest));
        let is_last = present(behind.map(|behind| at == behind)) & strands.has_last;
        let [low, high] = transposed[at];
        let low = _mm512_mask_mov_epi64(low, is_last, last[0]);
        let high = _mm512_mask_mov_epi64(high, is_last, last[1]);
        let mut message = block([low, high], there);
        if at == 0 {
            message = message.plus(h);
        }
        if there != 0 {
            sums = sums.plus(message, &weight(powers, &rest, at));
        }
    }
    h.replaced(sums.carried(), present(rest.map(|rest| rest > 0)))
}

/// The power of r that block `at` of `rest` is multiplied with, in each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn weight(powers: &[Factor; 4], rest: &[usize; LANES], at: usize) -> Factor {
    let mut weight = powers[0];
    for (exponent, power) in (2..).zip(&powers[1..]) {
        let lanes = present(rest.map(|rest| rest == at + exponent));
        weight = weight.replaced(power, lanes);
    }
    weight
}

/// Block `at` of 64 octets, all of which are there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn whole_block(data: &[u8], at: usize) -> __m512i {
    match data[at * BLOCK..].first_chunk() {
        Some(octets) => load(octets),
        None => zero(),
    }
}

/// What there is of block `at` of 64 octets, and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn part_of_block(data: &[u8], at: usize) -> __m512i {
    match data.get(at * BLOCK..) {
        Some(octets) => load_part(octets),
        None => zero(),
    }
}

/// From 64 octets of each lane to four blocks' low and high words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn transpose(rows: [__m512i; LANES]) -> [[__m512i; 2]; 4] {
    // Lanes in pairs: the 128-bit part `j` has block `j` of both.
    let (mut low, mut high) = ([zero(); 4], [zero(); 4]);
    for i in 0..4 {
        low[i] = _mm512_unpacklo_epi64(rows[2 * i], rows[2 * i + 1]);
        high[i] = _mm512_unpackhi_epi64(rows[2 * i], rows[2 * i + 1]);
    }
    let [l0, l1, l2, l3] = gather(low);
    let [h0, h1, h2, h3] = gather(high);
    [[l0, h0], [l1, h1], [l2, h2], [l3, h3]]
}

/// Transposes a four by four matrix of 128-bit parts.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn gather(rows: [__m512i; 4]) -> [__m512i; 4] {
    let [a, b, c, d] = rows;
    let ab_low = _mm512_shuffle_i64x2::<0b01_00_01_00>(a, b);
    let ab_high = _mm512_shuffle_i64x2::<0b11_10_11_10>(a, b);
    let cd_low = _mm512_shuffle_i64x2::<0b01_00_01_00>(c, d);
    let cd_high = _mm512_shuffle_i64x2::<0b11_10_11_10>(c, d);
    [
        _mm512_shuffle_i64x2::<0b10_00_10_00>(ab_low, cd_low),
        _mm512_shuffle_i64x2::<0b11_01_11_01>(ab_low, cd_low),
        _mm512_shuffle_i64x2::<0b10_00_10_00>(ab_high, cd_high),
        _mm512_shuffle_i64x2::<0b11_01_11_01>(ab_high, cd_high),
    ]
}

/// Splits a block into limbs, with the bit beyond it in the lanes that have one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn block([low, high]: [__m512i; 2], lanes: __mmask8) -> Limbs {
    let mask = splat(MASK_44);
    // (a | b) & c
    let middle = _mm512_ternarylogic_epi64::<0b1010_1000>(
        _mm512_srli_epi64::<44>(low),
        _mm512_slli_epi64::<20>(high),
        mask,
    );
    let top = _mm512_srli_epi64::<24>(high);
    Limbs([
        _mm512_and_si512(low, mask),
        middle,
        _mm512_mask_add_epi64(top, lanes, top, splat(PAD)),
    ])
}

/// r of every lane, clamped (RFC 8439 s.2.5).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn clamped(r: &Blocks) -> Limbs {
    let [low, high] = words(r);
    let low = _mm512_and_si512(low, splat(0x0fff_fffc_0fff_ffff));
    let high = _mm512_and_si512(high, splat(0x0fff_fffc_0fff_fffc));
    block([low, high], 0)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn words(blocks: &Blocks) -> [__m512i; 2] {
    [load_quads(&blocks[0]), load_quads(&blocks[1])]
}

/// Reduces the accumulators fully and adds s: low and high words of the tags.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn finish(h: Limbs, strands: &Strands<'_>) -> Blocks {
    let (mask_44, mask_42) = (splat(MASK_44), splat(MASK_42));
    // Only the lowest limb was beyond its bounds, by less than 2^20. What goes all around finds
    // next to nothing left there.
    let [h0, h1, h2] = h.carried_once().0;
    // g = h + 5 - 2^130: what is left if that does not borrow.
    let g0 = _mm512_add_epi64(h0, splat(5));
    let g1 = _mm512_add_epi64(h1, _mm512_srli_epi64::<44>(g0));
    let g2 = _mm512_add_epi64(h2, _mm512_srli_epi64::<44>(g1));
    let g2 = _mm512_sub_epi64(g2, splat(MASK_42 + 1));
    let borrowed = _mm512_srai_epi64::<63>(g2);
    let select = |g: __m512i, h: __m512i| {
        // borrowed ? h : g
        _mm512_ternarylogic_epi64::<0b1100_1010>(borrowed, h, g)
    };
    let h0 = select(_mm512_and_si512(g0, mask_44), h0);
    let h1 = select(_mm512_and_si512(g1, mask_44), h1);
    let h2 = select(_mm512_and_si512(g2, mask_42), h2);
    let low = _mm512_or_si512(h0, _mm512_slli_epi64::<44>(h1));
    let high = _mm512_or_si512(_mm512_srli_epi64::<20>(h1), _mm512_slli_epi64::<24>(h2));
    let [s0, s1] = words(&strands.s);
    let low = _mm512_add_epi64(low, s0);
    let carry = _mm512_cmplt_epu64_mask(low, s0);
    let high = _mm512_add_epi64(high, s1);
    let high = _mm512_mask_add_epi64(high, carry, high, splat(1));
    let mut tags = [[0; LANES]; 2];
    store_quads(&mut tags[0], low);
    store_quads(&mut tags[1], high);
    tags
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn splat(value: u64) -> __m512i {
    _mm512_set1_epi64(value.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn zero() -> __m512i {
    _mm512_setzero_si512()
}

/// A mask of the lanes for which it is so.
fn present(lanes: [bool; LANES]) -> __mmask8 {
    (0..)
        .zip(lanes)
        .fold(0, |mask, (lane, is)| mask | u8::from(is) << lane)
}

impl Limbs {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn plus(self, other: Self) -> Self {
        let mut sum = self;
        for i in 0..3 {
            sum.0[i] = _mm512_add_epi64(self.0[i], other.0[i]);
        }
        sum
    }

    /// `other` in the lanes of the mask.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn replaced(self, other: Self, lanes: __mmask8) -> Self {
        let mut mixed = self;
        for i in 0..3 {
            mixed.0[i] = _mm512_mask_mov_epi64(self.0[i], lanes, other.0[i]);
        }
        mixed
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn factor(self) -> Factor {
        let twenty = |limb| _mm512_madd52lo_epu64(zero(), limb, splat(20));
        Factor {
            limbs: self.0,
            folded: [twenty(self.0[1]), twenty(self.0[2])],
        }
    }

    /// Hands on what is beyond each limb, from the lowest to the topmost and back to the lowest.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn carried_once(self) -> Self {
        let [l0, l1, l2] = self.0;
        let (mask_44, mask_42) = (splat(MASK_44), splat(MASK_42));
        let l1 = _mm512_add_epi64(l1, _mm512_srli_epi64::<44>(l0));
        let l2 = _mm512_add_epi64(l2, _mm512_srli_epi64::<44>(l1));
        let beyond = _mm512_srli_epi64::<42>(l2);
        Self([
            _mm512_madd52lo_epu64(_mm512_and_si512(l0, mask_44), beyond, splat(5)),
            _mm512_and_si512(l1, mask_44),
            _mm512_and_si512(l2, mask_42),
        ])
    }
}

impl Factor {
    /// `other` in the lanes of the mask.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn replaced(self, other: &Self, lanes: __mmask8) -> Self {
        let mut mixed = self;
        for i in 0..3 {
            mixed.limbs[i] = _mm512_mask_mov_epi64(self.limbs[i], lanes, other.limbs[i]);
        }
        for i in 0..2 {
            mixed.folded[i] = _mm512_mask_mov_epi64(self.folded[i], lanes, other.folded[i]);
        }
        mixed
    }
}

impl Sums {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn zero() -> Self {
        Self {
            low: [zero(); 3],
            high: [zero(); 3],
        }
    }

    /// Adds `a` times `factor`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn plus(self, a: Limbs, factor: &Factor) -> Self {
        let Factor {
            limbs: [r0, r1, r2],
            folded: [s1, s2],
        } = *factor;
        let columns = [[r0, s2, s1], [r1, r0, s2], [r2, r1, r0]];
        let mut sums = self;
        for i in 0..3 {
            for j in 0..3 {
                let (limb, factor) = (a.0[j], columns[i][j]);
                sums.low[i] = _mm512_madd52lo_epu64(sums.low[i], limb, factor);
                sums.high[i] = _mm512_madd52hi_epu64(sums.high[i], limb, factor);
            }
        }
        sums
    }

    /// Puts the halves together and hands on what is beyond each limb.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn carried(self) -> Limbs {
        let [low0, low1, low2] = self.low;
        let [high0, high1, high2] = self.high;
        let limbs = Limbs([
            // 2^88 2^52 = 2^130 2^10 = 5 * 2^10; the product is below 2^52.
            _mm512_madd52lo_epu64(low0, high2, splat(5 << 10)),
            _mm512_add_epi64(low1, _mm512_slli_epi64::<8>(high0)),
            _mm512_add_epi64(low2, _mm512_slli_epi64::<8>(high1)),
        ]);
        limbs.carried_once()
    }
}
