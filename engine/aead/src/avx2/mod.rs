//! AVX2: 8 lanes of ChaCha20, twice 4 of Poly1305.
//!
//! Everything here is safe code on vectors but for loads and stores, which go through slices, and
//! for the step into functions that are compiled for AVX2.
#![allow(unsafe_code)]

mod chacha;
mod poly;

use core::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_setzero_si256, _mm256_storeu_si256};

use crate::drive::Kernel;
use crate::lanes::{Lanes, Rows};
use crate::packet::{Blocks, Packet, Strands, Unit};

/// The CPU has AVX2, and the kernel saves its registers: without that there is no value of this
/// type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Kernel for Avx2 {
    const LANES: usize = 8;

    /// Never: `ring` is faster with what is long enough to be cut.
    fn split(_blocks: usize, _share: usize) -> usize {
        1
    }

    fn keystream(self, lanes: &Lanes, rows: &mut Rows) {
        // SAFETY: `self` says that the CPU has AVX2.
        unsafe { chacha::keystream(lanes, rows) }
    }

    fn xor_units(self, lanes: &Lanes, packets: &mut [Packet<'_>], units: &[Unit]) {
        // SAFETY: `self` says that the CPU has AVX2.
        unsafe { chacha::xor_units(lanes, packets, units) }
    }

    fn xor_run(self, packet: &mut Packet<'_>, first: usize) {
        // SAFETY: `self` says that the CPU has AVX2.
        unsafe { chacha::xor_run(packet, first) }
    }

    fn authenticate(self, strands: &Strands<'_>) -> Blocks {
        // SAFETY: `self` says that the CPU has AVX2.
        unsafe { poly::authenticate(strands) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(octets: &[u8; 32]) -> __m256i {
    // SAFETY: there are 32 octets behind the reference; any alignment will do.
    unsafe { _mm256_loadu_si256(octets.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(octets: &mut [u8; 32], value: __m256i) {
    // SAFETY: there are 32 octets behind the reference; any alignment will do.
    unsafe { _mm256_storeu_si256(octets.as_mut_ptr().cast(), value) }
}

/// Both halves of 64 octets.
#[inline]
#[target_feature(enable = "avx2")]
fn load_block(octets: &[u8; 64]) -> [__m256i; 2] {
    let (halves, _) = octets.as_chunks();
    [load(&halves[0]), load(&halves[1])]
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_block(octets: &mut [u8; 64], [low, high]: [__m256i; 2]) {
    let (halves, _) = octets.as_chunks_mut();
    store(&mut halves[0], low);
    store(&mut halves[1], high);
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_words(words: &[u32; 8]) -> __m256i {
    // SAFETY: there are 8 words of 4 octets behind the reference; any alignment will do.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_quads(quads: &[u64; 4]) -> __m256i {
    // SAFETY: there are 4 words of 8 octets behind the reference; any alignment will do.
    unsafe { _mm256_loadu_si256(quads.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_quads(quads: &mut [u64; 4], value: __m256i) {
    // SAFETY: there are 4 words of 8 octets behind the reference; any alignment will do.
    unsafe { _mm256_storeu_si256(quads.as_mut_ptr().cast(), value) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn zero() -> __m256i {
    _mm256_setzero_si256()
}
