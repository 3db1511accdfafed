//! AVX-512 with IFMA: 16 lanes of ChaCha20, 8 of Poly1305.
//!
//! Everything here is safe code on vectors but for loads and stores, which go through slices, and
//! for the step into functions that are compiled for these features.
#![allow(unsafe_code)]

mod chacha;
mod poly;

use core::arch::x86_64::{
    __m512i, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8,
    _mm512_setzero_si512, _mm512_storeu_si512,
};

use crate::drive::{GROUP, Kernel};
use crate::lanes::{Lanes, Rows};
use crate::packet::{Packet, Strand, Unit};

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

    fn authenticate(self, strands: &[Strand<'_>; GROUP]) -> [[u64; 2]; GROUP] {
        // SAFETY: `self` says that the CPU has the features.
        unsafe { poly::authenticate(strands) }
    }

    fn wipe(self, lanes: &mut Lanes, rows: &mut Rows) {
        // SAFETY: `self` says that the CPU has the features.
        unsafe { wipe(lanes, rows) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(octets: &[u8; 64]) -> __m512i {
    // SAFETY: there are 64 octets behind the reference; any alignment will do.
    unsafe { _mm512_loadu_si512(octets.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
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
#[target_feature(enable = "avx512f,avx512bw")]
fn load_part(octets: &[u8]) -> __m512i {
    if let Some(whole) = octets.first_chunk() {
        return load(whole);
    }
    // SAFETY: octets that the mask leaves out are not read, and it has as many as there are.
    unsafe { _mm512_maskz_loadu_epi8(mask(octets.len()), octets.as_ptr().cast()) }
}

/// The first 64 octets, or all there are.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_part(octets: &mut [u8], value: __m512i) {
    if let Some(whole) = octets.first_chunk_mut() {
        return store(whole, value);
    }
    let mask = mask(octets.len());
    // SAFETY: octets that the mask leaves out are not written, and it has as many as there are.
    unsafe { _mm512_mask_storeu_epi8(octets.as_mut_ptr().cast(), mask, value) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(words: &[u32; 16]) -> __m512i {
    // SAFETY: there are 16 words of 4 octets behind the reference; any alignment will do.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_quads(quads: &[u64; 8]) -> __m512i {
    // SAFETY: there are 8 words of 8 octets behind the reference; any alignment will do.
    unsafe { _mm512_loadu_si512(quads.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_quads(quads: &mut [u64; 8], value: __m512i) {
    // SAFETY: there are 8 words of 8 octets behind the reference; any alignment will do.
    unsafe { _mm512_storeu_si512(quads.as_mut_ptr().cast(), value) }
}

/// Overwrites keys and keystream, in a manner that is not optimised away.
#[target_feature(enable = "avx512f")]
fn wipe(lanes: &mut Lanes, rows: &mut Rows) {
    for words in &mut lanes.words {
        let words = core::ptr::from_mut(words).cast::<__m512i>();
        // SAFETY: the words are 64 octets, aligned to 64 as the first member of `Lanes` is.
        unsafe { words.write_volatile(_mm512_setzero_si512()) }
    }
    for row in &mut rows.0 {
        let row = core::ptr::from_mut(row).cast::<__m512i>();
        // SAFETY: a row is 64 octets, aligned to 64 as `Rows` is.
        unsafe { row.write_volatile(_mm512_setzero_si512()) }
    }
}
