//! Poly1305 (RFC 8439 s.2.5), a strand in each of 4 lanes, numbers in five limbs of 26 bits.
//!
//! The multiplier takes 32 bits and gives 64. Four blocks are taken in at a time:
//! `h = (h + m0) r^4 + m1 r^3 + m2 r^2 + m3 r`. Limbs stay below 2^28, and what they are multiplied
//! with below 2^30; the sum of a limb's 20 products is below 2^63.
#![forbid(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "limbs have numbers in all formulae, and closures may not be inlined into iterators, \
              which are compiled without the vector instructions"
)]

use core::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_andnot_si256, _mm256_blendv_epi8,
    _mm256_cmpgt_epi64, _mm256_mul_epu32, _mm256_or_si256, _mm256_permute2x128_si256,
    _mm256_set1_epi64x, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_sub_epi64,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::{load_block, load_quads, store_quads, zero};
use crate::drive::STEP;
use crate::packet::{BLOCK, Blocks, STRANDS, Strands, copy_short};

/// Strands that are worked on at once.
const LANES: usize = 4;

const MASK_26: u64 = (1 << 26) - 1;
/// The bit beyond a whole block, in its limb.
const PAD: u64 = 1 << 24;

/// A number in each lane.
#[derive(Clone, Copy)]
struct Limbs([__m256i; 5]);

/// What numbers are multiplied with: its limbs, and 5 times its upper four.
#[derive(Clone, Copy)]
struct Factor {
    limbs: [__m256i; 5],
    folded: [__m256i; 4],
}

/// Half of the strands.
#[derive(Clone, Copy)]
struct Half<'a, 'b> {
    strands: &'b Strands<'a>,
    /// 0 or 1.
    half: usize,
}

/// The tag of every strand.
#[target_feature(enable = "avx2")]
pub(super) fn authenticate(strands: &Strands<'_>) -> Blocks {
    let mut tags = [[0; STRANDS]; 2];
    for half in 0..2 {
        let strands = Half { strands, half };
        // Nothing is in the second half of a group of up to four.
        if strands.has(strands.strands.has_first) | strands.has(strands.strands.has_last) == 0
            && strands.data().iter().all(|data| data.is_empty())
        {
            continue;
        }
        let [low, high] = strands.finish(strands.absorb());
        store_quads(&mut tags[0].as_chunks_mut().0[half], low);
        store_quads(&mut tags[1].as_chunks_mut().0[half], high);
    }
    tags
}

impl<'a> Half<'a, '_> {
    fn has(self, set: u8) -> u8 {
        set >> (LANES * self.half) & 0xf
    }

    /// The data of all lanes. Those that no strand is in work on another's, for nothing: so they
    /// keep no other lane from taking in whole blocks.
    fn data(self) -> [&'a [u8]; LANES] {
        let mut data = self.strands.data.as_chunks().0[self.half];
        let used = self.has(self.strands.has_first | self.strands.has_last);
        for lane in 1..LANES {
            if used >> lane & 1 == 0 && data[lane].is_empty() {
                data[lane] = data[lane - 1];
            }
        }
        data
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn words(self, blocks: &Blocks) -> [__m256i; 2] {
        [
            load_quads(&blocks[0].as_chunks().0[self.half]),
            load_quads(&blocks[1].as_chunks().0[self.half]),
        ]
    }

    /// The accumulators after all that the strands have.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn absorb(self) -> Limbs {
        let data = self.data();
        let r = self.clamped();
        let r1 = r.factor();
        let first = block(
            self.words(&self.strands.first),
            mask(self.has(self.strands.has_first)),
        );
        let mut h = carried(add_product([zero(); 5], first, &r1));
        let (mut all, mut most, mut behind) = (usize::MAX, 0, 0);
        for data in &data {
            all = all.min(data.len() / BLOCK);
            most = most.max(fours(data));
            behind = behind.max(blocks_behind(data));
        }
        if most == 0 && behind == 0 {
            return self.last_only(h, &r1);
        }
        let r2 = carried(add_product([zero(); 5], r, &r1)).factor();
        let r3 = carried(add_product([zero(); 5], r, &r2)).factor();
        let r4 = carried(add_product([zero(); 5], Limbs(r2.limbs), &r2)).factor();
        let powers = [r1, r2, r3, r4];
        for at in 0..most {
            let mut rows = [[zero(); 2]; LANES];
            for (row, data) in rows.iter_mut().zip(&data) {
                *row = part_of_block(data, at);
            }
            let after = four(h, rows, &powers);
            h = if at < all {
                after
            } else {
                h.replaced(after, lanes(&data, |data| at < fours(data)))
            };
        }
        if behind == 0 {
            return self.last_only(h, &r1);
        }
        self.tail(h, &powers)
    }

    /// Where nothing is left but the last block, or not even that.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn last_only(self, h: Limbs, r1: &Factor) -> Limbs {
        let has_last = mask(self.has(self.strands.has_last));
        let last = block(self.words(&self.strands.last), has_last);
        h.replaced(
            carried(add_product([zero(); 5], h.plus(last), r1)),
            has_last,
        )
    }

    /// Takes in what is behind the last four blocks: up to three, and the last.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn tail(self, h: Limbs, powers: &[Factor; 4]) -> Limbs {
        let data = self.data();
        let mut rows = [[zero(); 2]; LANES];
        for (row, data) in rows.iter_mut().zip(&data) {
            *row = part_of_block(data, fours(data));
        }
        let transposed = transpose(rows);
        let has_last = self.has(self.strands.has_last);
        let last = self.words(&self.strands.last);
        let mut rest = data.map(blocks_behind);
        for (i, rest) in rest.iter_mut().enumerate() {
            *rest += usize::from(has_last >> i & 1);
        }
        let mut sums = [zero(); 5];
        for at in (0..4).rev() {
            let there = lanes(&rest, |&rest| at < rest);
            let is_last = _mm256_and_si256(
                lanes(&data, |data| at == blocks_behind(data)),
                mask(has_last),
            );
            let [low, high] = transposed[at];
            let low = _mm256_blendv_epi8(low, last[0], is_last);
            let high = _mm256_blendv_epi8(high, last[1], is_last);
            let mut message = block([low, high], there);
            if at == 0 {
                message = message.plus(h);
            }
            let mut weight = powers[0];
            for (exponent, power) in (2..).zip(&powers[1..]) {
                weight = weight.replaced(power, lanes(&rest, |&rest| rest == at + exponent));
            }
            sums = add_product(sums, message, &weight);
        }
        h.replaced(carried(sums), lanes(&rest, |&rest| rest > 0))
    }

    /// r of every lane, clamped (RFC 8439 s.2.5).
    #[inline]
    #[target_feature(enable = "avx2")]
    fn clamped(self) -> Limbs {
        let [low, high] = self.words(&self.strands.r);
        let low = _mm256_and_si256(low, splat(0x0fff_fffc_0fff_ffff));
        let high = _mm256_and_si256(high, splat(0x0fff_fffc_0fff_fffc));
        block([low, high], zero())
    }

    /// Reduces the accumulators fully and adds s: low and high words of the tags.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn finish(self, h: Limbs) -> [__m256i; 2] {
        let mask_26 = splat(MASK_26);
        // Only the second limb was beyond its bounds, by less than 2^14. What goes all around finds
        // room in the lowest, or next to nothing left in the second.
        let Limbs(h) = carried(h.0);
        // g = h + 5 - 2^130: what is left if that does not borrow.
        let mut g = h;
        let mut carry = splat(5);
        for limb in &mut g {
            let sum = _mm256_add_epi64(*limb, carry);
            carry = _mm256_srli_epi64::<26>(sum);
            *limb = _mm256_and_si256(sum, mask_26);
        }
        // All ones where there is a carry out of the topmost limb.
        let is_beyond = _mm256_sub_epi64(zero(), carry);
        let mut out = h;
        for i in 0..5 {
            out[i] = _mm256_or_si256(
                _mm256_and_si256(is_beyond, g[i]),
                _mm256_andnot_si256(is_beyond, h[i]),
            );
        }
        let [h0, h1, h2, h3, h4] = out;
        let low = _mm256_or_si256(
            _mm256_or_si256(h0, _mm256_slli_epi64::<26>(h1)),
            _mm256_slli_epi64::<52>(h2),
        );
        let high = _mm256_or_si256(
            _mm256_or_si256(_mm256_srli_epi64::<12>(h2), _mm256_slli_epi64::<14>(h3)),
            _mm256_slli_epi64::<40>(h4),
        );
        let [s0, s1] = self.words(&self.strands.s);
        let low = _mm256_add_epi64(low, s0);
        // Compared as unsigned: all ones, or -1, where the sum is below what was added.
        let sign = splat(1 << 63);
        let carry = _mm256_cmpgt_epi64(_mm256_xor_si256(s0, sign), _mm256_xor_si256(low, sign));
        let high = _mm256_sub_epi64(_mm256_add_epi64(high, s1), carry);
        [low, high]
    }
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

/// Takes in four whole blocks of each lane.
#[inline]
#[target_feature(enable = "avx2")]
fn four(h: Limbs, rows: [[__m256i; 2]; LANES], powers: &[Factor; 4]) -> Limbs {
    let words = transpose(rows);
    let all = splat(u64::MAX);
    let mut sums = [zero(); 5];
    for i in (1..4).rev() {
        sums = add_product(sums, block(words[i], all), &powers[3 - i]);
    }
    carried(add_product(sums, block(words[0], all).plus(h), &powers[3]))
}

/// What there is of block `at` of 64 octets, and zeros.
#[inline]
#[target_feature(enable = "avx2")]
fn part_of_block(data: &[u8], at: usize) -> [__m256i; 2] {
    let Some(octets) = data.get(at * BLOCK..) else {
        return [zero(); 2];
    };
    match octets.first_chunk() {
        Some(whole) => load_block(whole),
        None => {
            let mut block = [0; BLOCK];
            copy_short(&mut block, octets);
            load_block(&block)
        }
    }
}

/// From 64 octets of each lane to four blocks' low and high words.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [[__m256i; 2]; LANES]) -> [[__m256i; 2]; 4] {
    let mut blocks = [[zero(); 2]; 4];
    for pair in 0..2 {
        let [a, b, c, d] = [rows[0][pair], rows[1][pair], rows[2][pair], rows[3][pair]];
        let low = [_mm256_unpacklo_epi64(a, b), _mm256_unpacklo_epi64(c, d)];
        let high = [_mm256_unpackhi_epi64(a, b), _mm256_unpackhi_epi64(c, d)];
        blocks[2 * pair] = [
            _mm256_permute2x128_si256::<0x20>(low[0], low[1]),
            _mm256_permute2x128_si256::<0x20>(high[0], high[1]),
        ];
        blocks[2 * pair + 1] = [
            _mm256_permute2x128_si256::<0x31>(low[0], low[1]),
            _mm256_permute2x128_si256::<0x31>(high[0], high[1]),
        ];
    }
    blocks
}

/// Splits a block into limbs, with the bit beyond it in the lanes of the mask.
#[inline]
#[target_feature(enable = "avx2")]
fn block([low, high]: [__m256i; 2], there: __m256i) -> Limbs {
    let mask = splat(MASK_26);
    let middle = _mm256_or_si256(_mm256_srli_epi64::<52>(low), _mm256_slli_epi64::<12>(high));
    Limbs([
        _mm256_and_si256(low, mask),
        _mm256_and_si256(_mm256_srli_epi64::<26>(low), mask),
        _mm256_and_si256(middle, mask),
        _mm256_and_si256(_mm256_srli_epi64::<14>(high), mask),
        _mm256_or_si256(
            _mm256_srli_epi64::<40>(high),
            _mm256_and_si256(there, splat(PAD)),
        ),
    ])
}

/// Adds `a` times `factor` to sums of products.
#[inline]
#[target_feature(enable = "avx2")]
fn add_product(mut sums: [__m256i; 5], a: Limbs, factor: &Factor) -> [__m256i; 5] {
    for i in 0..5 {
        for j in 0..5 {
            let by = if j <= i {
                factor.limbs[i - j]
            } else {
                factor.folded[4 + i - j]
            };
            sums[i] = _mm256_add_epi64(sums[i], _mm256_mul_epu32(a.0[j], by));
        }
    }
    sums
}

/// Hands on what is beyond each limb, around to the lowest and on to the next.
#[inline]
#[target_feature(enable = "avx2")]
fn carried(mut sums: [__m256i; 5]) -> Limbs {
    let mask = splat(MASK_26);
    for i in 0..4 {
        sums[i + 1] = _mm256_add_epi64(sums[i + 1], _mm256_srli_epi64::<26>(sums[i]));
        sums[i] = _mm256_and_si256(sums[i], mask);
    }
    let beyond = _mm256_srli_epi64::<26>(sums[4]);
    sums[4] = _mm256_and_si256(sums[4], mask);
    let five = _mm256_add_epi64(beyond, _mm256_slli_epi64::<2>(beyond));
    sums[0] = _mm256_add_epi64(sums[0], five);
    sums[1] = _mm256_add_epi64(sums[1], _mm256_srli_epi64::<26>(sums[0]));
    sums[0] = _mm256_and_si256(sums[0], mask);
    Limbs(sums)
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(value: u64) -> __m256i {
    _mm256_set1_epi64x(value.cast_signed())
}

/// All ones in the lanes of a set.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(set: u8) -> __m256i {
    lanes(&[0, 1, 2, 3], |lane| set >> lane & 1 == 1)
}

/// All ones in the lanes for whose value it is so.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes<T>(values: &[T; LANES], is: impl Fn(&T) -> bool) -> __m256i {
    let mut quads = [0; LANES];
    for (quad, value) in quads.iter_mut().zip(values) {
        *quad = u64::from(is(value)).wrapping_neg();
    }
    load_quads(&quads)
}

impl Limbs {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn plus(mut self, other: Self) -> Self {
        for i in 0..5 {
            self.0[i] = _mm256_add_epi64(self.0[i], other.0[i]);
        }
        self
    }

    /// `other` in the lanes of the mask.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn replaced(mut self, other: Self, lanes: __m256i) -> Self {
        for i in 0..5 {
            self.0[i] = _mm256_blendv_epi8(self.0[i], other.0[i], lanes);
        }
        self
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn factor(self) -> Factor {
        let mut folded = [zero(); 4];
        for i in 0..4 {
            let limb = self.0[1 + i];
            folded[i] = _mm256_add_epi64(limb, _mm256_slli_epi64::<2>(limb));
        }
        Factor {
            limbs: self.0,
            folded,
        }
    }
}

impl Factor {
    /// `other` in the lanes of the mask.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn replaced(mut self, other: &Self, lanes: __m256i) -> Self {
        self.limbs = Limbs(self.limbs).replaced(Limbs(other.limbs), lanes).0;
        for i in 0..4 {
            self.folded[i] = _mm256_blendv_epi8(self.folded[i], other.folded[i], lanes);
        }
        self
    }
}
