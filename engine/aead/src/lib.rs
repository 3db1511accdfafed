//! ChaCha20-Poly1305 (RFC 8439) over whole bursts.
//!
//! The data path hands over everything a burst holds at once, messages of several sessions mixed,
//! so that a back-end can work across messages: see `docs/aead.md`. [`ring`] takes them one by
//! one; it is the portable back-end and the reference for every other.
//!
//! ```text
//! seal:  | outer | header: aad 16 | tag 16 | <- shift -> | plaintext |   before
//!        | outer | header: aad 16 | tag 16 | ciphertext |                after
//! open:  | outer | header: aad 16 | tag 16 | ciphertext |                before
//!        | plaintext |                                                   after
//! ```
//!
//! Both move the payload while they work on it, so that no pass over it is spent on moving alone
//! where the back-end can avoid it.
#![deny(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod backend;
#[cfg(target_arch = "x86_64")]
mod drive;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod packet;
mod portable;
#[cfg(test)]
mod tests;

use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use zeroize::Zeroize;

pub use backend::{Backend, open_batch, open_batch_with, seal_batch, seal_batch_with};

/// The most jobs that one call takes.
pub const BATCH_MAX: usize = 64;

/// A session's key for one direction, expanded for every back-end. Wiped when dropped.
pub struct Key {
    portable: LessSafeKey,
    /// The key as ChaCha20 takes it.
    words: [u32; 8],
}

impl Key {
    /// Expands 32 octets of key.
    #[must_use]
    pub fn new(octets: &[u8; 32]) -> Self {
        let mut words = [0; 8];
        for (word, octets) in words.iter_mut().zip(octets.as_chunks().0) {
            *word = u32::from_le_bytes(*octets);
        }
        Self {
            portable: expand(octets),
            words,
        }
    }
}

fn expand(octets: &[u8; 32]) -> LessSafeKey {
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, octets);
    // The only error is a key of another length, which the type excludes.
    LessSafeKey::new(unbound.expect("32 octets are a ChaCha20-Poly1305 key"))
}

impl Drop for Key {
    fn drop(&mut self) {
        self.words.zeroize();
        // `ring` wipes nothing: another key is put over this one.
        self.portable = expand(&[0; 32]);
        zeroize::optimization_barrier(&self.portable);
    }
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// One message to seal.
#[derive(Debug)]
pub struct SealJob<'a> {
    /// Seals it.
    pub key: &'a Key,
    /// From the header's first octet to the payload's last. The first 16 octets are written, the
    /// tag's 16 are not yet.
    pub message: &'a mut [u8],
    /// Where the plaintext begins in `message`, at least 32; it runs to the end. The ciphertext
    /// begins at 32 whatever this is, and is as long as the plaintext.
    pub plaintext_offset: usize,
}

/// One message to open.
#[derive(Debug)]
pub struct OpenJob<'a> {
    /// Opens it.
    pub key: &'a Key,
    /// From the frame's first octet to the message's last.
    pub frame: &'a mut [u8],
    /// Where the message's header begins in `frame`.
    pub header_offset: usize,
    /// Set to whether the tag verified. If so the plaintext is at the frame's start, and is
    /// `frame.len() - header_offset - 32` long; if not the frame's contents are undefined, but
    /// hold nothing of the plaintext.
    pub verified: bool,
}
