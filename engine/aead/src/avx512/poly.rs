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

use core::arch::x86_64::{
    __m512i, __mmask8, _mm512_add_epi64, _mm512_and_si512, _mm512_cmplt_epu64_mask,
    _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_add_epi64, _mm512_mask_mov_epi64,
    _mm512_or_si512, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_shuffle_i64x2, _mm512_slli_epi64, _mm512_srai_epi64, _mm512_srli_epi64,
    _mm512_sub_epi64, _mm512_ternarylogic_epi64, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use super::{load, load_part, load_quads, store_quads};
use crate::drive::GROUP;
use crate::packet::{BLOCK, Strand};

/// Strands that are worked on at once.
const LANES: usize = GROUP;
/// Octets of a Poly1305 block.
const STEP: usize = 16;

const MASK_44: u64 = (1 << 44) - 1;
const MASK_42: u64 = (1 << 42) - 1;
/// The bit beyond a whole block, in its limb.
const PAD: u64 = 1 << 40;

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
pub(super) fn authenticate(group: &[Strand<'_>; LANES]) -> [[u64; 2]; LANES] {
    let [low, high] = finish(absorb(group), group);
    core::array::from_fn(|lane| [low[lane], high[lane]])
}

/// The accumulators after all that the strands have.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn absorb(group: &[Strand<'_>; LANES]) -> Limbs {
    let r = clamped(group);
    let firsts = present(group.map(|strand| strand.first.is_some()));
    let first = block(words(group.map(|strand| strand.first)), firsts);
    let r1 = r.factor();
    let mut h = Sums::zero().plus(first, &r1).carried();
    let whole = group.map(|strand| strand.data.len() / BLOCK);
    let tails = group.map(|strand| strand.data.len() % BLOCK);
    // Data of 49 to 63 octets behind the last whole four blocks are four blocks as well.
    let fours: [usize; LANES] = core::array::from_fn(|i| whole[i] + tails[i].div_ceil(STEP) / 4);
    let most = fours.iter().copied().max().unwrap_or(0);
    let behind: [usize; LANES] =
        core::array::from_fn(|i| group[i].data.len().div_ceil(STEP).saturating_sub(4 * fours[i]));
    let is_even = behind.iter().all(|&blocks| blocks == 0);
    if most == 0 && is_even {
        return last_only(h, group, &r1);
    }
    let r2 = Sums::zero().plus(r, &r1).carried();
    let r2 = r2.factor();
    let r3 = Sums::zero().plus(r, &r2).carried().factor();
    let r4 = Sums::zero().plus(Limbs(r2.limbs), &r2).carried().factor();
    let powers = [r1, r2, r3, r4];
    let all = whole.iter().copied().min().unwrap_or(0);
    for at in 0..all {
        let rows = group.map(|strand| whole_block(strand.data, at));
        h = four(h, rows, &powers);
    }
    for at in all..most {
        let active = present(fours.map(|fours| at < fours));
        let rows = group.map(|strand| part_of_block(strand.data, at));
        h = h.replaced(four(h, rows, &powers), active);
    }
    if is_even {
        return last_only(h, group, &r1);
    }
    let rest: [usize; LANES] =
        core::array::from_fn(|i| behind[i] + usize::from(group[i].last.is_some()));
    tail(h, group, &fours, &rest, &powers)
}

/// Where nothing is left but the last block, or not even that.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn last_only(h: Limbs, group: &[Strand<'_>; LANES], r1: &Factor) -> Limbs {
    let lasts = present(group.map(|strand| strand.last.is_some()));
    let last = block(words(group.map(|strand| strand.last)), lasts);
    h.replaced(Sums::zero().plus(h.plus(last), r1).carried(), lasts)
}

/// Takes in four whole blocks of each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn four(h: Limbs, rows: [__m512i; LANES], powers: &[Factor; 4]) -> Limbs {
    let [m0, m1, m2, m3] = transpose(rows).map(|words| block(words, 0xff));
    let sums = Sums::zero().plus(m3, &powers[0]);
    let sums = sums.plus(m2, &powers[1]).plus(m1, &powers[2]);
    sums.plus(h.plus(m0), &powers[3]).carried()
}

/// Takes in what is behind the last four blocks: up to three, and the last.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn tail(
    h: Limbs,
    group: &[Strand<'_>; LANES],
    fours: &[usize; LANES],
    rest: &[usize; LANES],
    powers: &[Factor; 4],
) -> Limbs {
    let rows: [__m512i; LANES] =
        core::array::from_fn(|i| part_of_block(group[i].data, fours[i]));
    let transposed = transpose(rows);
    let last = words(group.map(|strand| strand.last));
    let is_last = |at: usize| {
        present(core::array::from_fn(|i| {
            group[i].last.is_some() && rest[i] == at + 1
        }))
    };
    let mut sums = Sums::zero();
    for at in (0..4).rev() {
        let there = present(rest.map(|rest| at < rest));
        let [low, high] = transposed[at];
        let lasts = is_last(at);
        let low = _mm512_mask_mov_epi64(low, lasts, last[0]);
        let high = _mm512_mask_mov_epi64(high, lasts, last[1]);
        let mut message = block([low, high], there);
        if at == 0 {
            message = message.plus(h);
        }
        sums = sums.plus(message, &weight(powers, rest, at));
    }
    let some = present(rest.map(|rest| rest > 0));
    h.replaced(sums.carried(), some)
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
#[target_feature(enable = "avx512f,avx512bw")]
fn whole_block(data: &[u8], at: usize) -> __m512i {
    data[at * BLOCK..].first_chunk().map_or(zero(), |octets| load(octets))
}

/// What there is of block `at` of 64 octets, and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn part_of_block(data: &[u8], at: usize) -> __m512i {
    data.get(at * BLOCK..).map_or(zero(), |octets| load_part(octets))
}

/// From 64 octets of each lane to four blocks' low and high words.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; LANES]) -> [[__m512i; 2]; 4] {
    // Lanes in pairs: the 128-bit part `j` has block `j` of both.
    let low = [0, 2, 4, 6].map(|i| _mm512_unpacklo_epi64(rows[i], rows[i + 1]));
    let high = [0, 2, 4, 6].map(|i| _mm512_unpackhi_epi64(rows[i], rows[i + 1]));
    let [l0, l1, l2, l3] = gather(low);
    let [h0, h1, h2, h3] = gather(high);
    [[l0, h0], [l1, h1], [l2, h2], [l3, h3]]
}

/// Transposes a four by four matrix of 128-bit parts.
#[inline]
#[target_feature(enable = "avx512f")]
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
#[target_feature(enable = "avx512f")]
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
#[target_feature(enable = "avx512f")]
fn clamped(group: &[Strand<'_>; LANES]) -> Limbs {
    let low = load_quads(&group.map(|strand| strand.key[0]));
    let high = load_quads(&group.map(|strand| strand.key[1]));
    let low = _mm512_and_si512(low, splat(0x0fff_fffc_0fff_ffff));
    let high = _mm512_and_si512(high, splat(0x0fff_fffc_0fff_fffc));
    block([low, high], 0)
}

/// A block of each lane, zeros where there is none.
#[inline]
#[target_feature(enable = "avx512f")]
fn words(blocks: [Option<[u64; 2]>; LANES]) -> [__m512i; 2] {
    let blocks = blocks.map(Option::unwrap_or_default);
    [0, 1].map(|word| load_quads(&blocks.map(|block| block[word])))
}

/// Reduces the accumulators fully and adds s: low and high words of the tags.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn finish(h: Limbs, group: &[Strand<'_>; LANES]) -> [[u64; LANES]; 2] {
    let (mask_44, mask_42) = (splat(MASK_44), splat(MASK_42));
    // Twice around, so that every limb is in its bounds.
    let h = h.carried_once().carried_once();
    let [h0, h1, h2] = h.0;
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
    let s0 = load_quads(&group.map(|strand| strand.key[2]));
    let s1 = load_quads(&group.map(|strand| strand.key[3]));
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
#[target_feature(enable = "avx512f")]
fn splat(value: u64) -> __m512i {
    _mm512_set1_epi64(value.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn zero() -> __m512i {
    _mm512_setzero_si512()
}

/// A mask of the lanes for which it is so.
fn present(lanes: [bool; LANES]) -> __mmask8 {
    (0..).zip(lanes).fold(0, |mask, (lane, is)| mask | u8::from(is) << lane)
}

impl Limbs {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn plus(self, other: Self) -> Self {
        Self([0, 1, 2].map(|i| _mm512_add_epi64(self.0[i], other.0[i])))
    }

    /// `other` in the lanes of the mask.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn replaced(self, other: Self, lanes: __mmask8) -> Self {
        Self([0, 1, 2].map(|i| _mm512_mask_mov_epi64(self.0[i], lanes, other.0[i])))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn factor(self) -> Factor {
        let twenty = |limb| _mm512_madd52lo_epu64(zero(), limb, splat(20));
        Factor {
            limbs: self.0,
            folded: [twenty(self.0[1]), twenty(self.0[2])],
        }
    }

    /// Hands on what is beyond each limb, from the lowest to the topmost and back to the lowest.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
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
    #[target_feature(enable = "avx512f")]
    fn replaced(self, other: &Self, lanes: __mmask8) -> Self {
        let pick = |a: __m512i, b: __m512i| _mm512_mask_mov_epi64(a, lanes, b);
        Self {
            limbs: [0, 1, 2].map(|i| pick(self.limbs[i], other.limbs[i])),
            folded: [0, 1].map(|i| pick(self.folded[i], other.folded[i])),
        }
    }
}

impl Sums {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn zero() -> Self {
        Self {
            low: [zero(); 3],
            high: [zero(); 3],
        }
    }

    /// Adds `a` times `factor`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn plus(self, a: Limbs, factor: &Factor) -> Self {
        let Factor {
            limbs: [r0, r1, r2],
            folded: [s1, s2],
        } = *factor;
        let columns = [[r0, s2, s1], [r1, r0, s2], [r2, r1, r0]];
        let mut sums = self;
        for (i, column) in columns.into_iter().enumerate() {
            for (limb, factor) in a.0.into_iter().zip(column) {
                sums.low[i] = _mm512_madd52lo_epu64(sums.low[i], limb, factor);
                sums.high[i] = _mm512_madd52hi_epu64(sums.high[i], limb, factor);
            }
        }
        sums
    }

    /// Puts the halves together and hands on what is beyond each limb.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
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
