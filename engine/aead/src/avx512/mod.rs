//! AVX-512 with IFMA: 16 lanes of ChaCha20, 8 of Poly1305.
//!
//! Everything here is safe code on vectors but for loads and stores, which go through slices, and
//! for the step into functions that are compiled for these features.
#![allow(unsafe_code)]

mod chacha;
mod poly;

use core::arch::x86_64::{
    __m512i, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8,
    _mm512_storeu_si512,
};

use crate::drive::Kernel;
use crate::lanes::{Lanes, Rows};
use crate::packet::{Blocks, Packet, STRANDS, Strands, Unit};

/// The fewest Poly1305 blocks that a strand is worth: putting strands together takes about as long
/// as 100 blocks of one lane.
const STRAND_MIN: usize = 8;

/// The CPU has AVX-512 F, BW, VL and IFMA, and the kernel saves its registers: without that there
/// is no value of this type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma");
        has.then_some(Self(()))
    }
}

impl Kernel for Avx512 {
    const LANES: usize = 16;

    fn split(blocks: usize, share: usize) -> usize {
        let mut split = 1;
        while split < STRANDS && blocks > split * share && blocks >= 2 * split * STRAND_MIN {
            split *= 2;
        }
        split
    }

    fn keystream(self, lanes: &Lanes, rows: &mut Rows) {
        // SAFETY: `self` says that the CPU has the features.
        unsafe { chacha::keystream(lanes, rows) }
    }

    fn xor_units(self, lanes: &Lanes, packets: &mut [Packet<'_>], units: &[Unit]) {
        // SAFETY: `self` says that the CPU has the features.
        unsafe { chacha::xor_units(lanes, packets, units) }
    }

    fn xor_run(self, packet: &mut Packet<'_>, first: usize) {
        // SAFETY: `self` says that the CPU has the features.
        unsafe { chacha::xor_run(packet, first) }
    }

    fn authenticate(self, strands: &Strands<'_>) -> Blocks {
        // SAFETY: `self` says that the CPU has the features.
        unsafe { poly::authenticate(strands) }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn load(octets: &[u8; 64]) -> __m512i {
    // SAFETY: there are 64 octets behind the reference; any alignment will do.
    unsafe { _mm512_loadu_si512(octets.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn store(octets: &mut [u8; 64], value: __m512i) {
    // SAFETY: there are 64 octets behind the reference; any alignment will do.
    unsafe { _mm512_storeu_si512(octets.as_mut_ptr().cast(), value) }
}

/// A mask of the first `len` octets of a vector.
fn mask(len: usize) -> u64 {
    if len >= 64 { u64::MAX } else { (1 << len) - 1 }
}

/// The first 64 octets, or all there are and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn load_part(octets: &[u8]) -> __m512i {
    if let Some(whole) = octets.first_chunk() {
        return load(whole);
    }
    // SAFETY: octets that the mask leaves out are not read, and it has as many as there are.
    unsafe { _mm512_maskz_loadu_epi8(mask(octets.len()), octets.as_ptr().cast()) }
}

/// The first 64 octets, or all there are.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn store_part(octets: &mut [u8], value: __m512i) {
    if let Some(whole) = octets.first_chunk_mut() {
        return store(whole, value);
    }
    let mask = mask(octets.len());
    // SAFETY: octets that the mask leaves out are not written, and it has as many as there are.
    unsafe { _mm512_mask_storeu_epi8(octets.as_mut_ptr().cast(), mask, value) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn load_words(words: &[u32; 16]) -> __m512i {
    // SAFETY: there are 16 words of 4 octets behind the reference; any alignment will do.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn load_quads(quads: &[u64; 8]) -> __m512i {
    // SAFETY: there are 8 words of 8 octets behind the reference; any alignment will do.
    unsafe { _mm512_loadu_si512(quads.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn store_quads(quads: &mut [u64; 8], value: __m512i) {
    // SAFETY: there are 8 words of 8 octets behind the reference; any alignment will do.
    unsafe { _mm512_storeu_si512(quads.as_mut_ptr().cast(), value) }
}
