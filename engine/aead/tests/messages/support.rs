//! Messages to seal and open, the back-ends of this CPU, and noise that is the same each time.

use std::io::Write;

use omni_aead::{Backend, Key, OpenJob, SealJob, open_batch_with, seal_batch_with};

/// Octets of the header before a sealed payload.
pub(crate) const HEADER: usize = 32;

/// Every back-end but `ring` that this CPU is able to, by name. Says which it is not.
pub(crate) fn kernels() -> Vec<(&'static str, Backend)> {
    let all = Backend::NAMES.iter().filter(|name| **name != "ring");
    let mut found = Vec::new();
    let mut skipped = 0;
    for name in all {
        match Backend::by_name(name) {
            Some(backend) => found.push((*name, backend)),
            None => {
                skipped += 1;
                report(&format!("SKIPPED: this CPU is not able to {name}"));
            }
        }
    }
    if skipped > 0 {
        report(&format!(
            "back-ends: {} run, {skipped} skipped",
            found.len()
        ));
    }
    found
}

/// Says so also where the test succeeds, whose output is not shown.
fn report(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error");
}

/// Numbers that look random (xorshift64*).
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// So many octets.
    pub(crate) fn octets(&mut self, len: usize) -> Vec<u8> {
        let mut octets = Vec::with_capacity(len + 8);
        while octets.len() < len {
            octets.extend_from_slice(&self.next().to_le_bytes());
        }
        octets.truncate(len);
        octets
    }
}

/// A message to seal.
#[derive(Clone)]
pub(crate) struct Plain {
    /// Which key seals it.
    pub(crate) key: usize,
    /// Header and plaintext, with `shift` octets between them.
    pub(crate) message: Vec<u8>,
    /// How far the plaintext moves.
    pub(crate) shift: usize,
}

impl Plain {
    /// Noise under any of the keys.
    pub(crate) fn new(noise: &mut Noise, keys: usize, len: usize, shift: usize) -> Self {
        Self {
            key: noise.below(keys),
            message: noise.octets(HEADER + shift + len),
            shift,
        }
    }

    /// What is to be sealed.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.message[HEADER + self.shift..]
    }
}

/// The sealed messages.
pub(crate) fn seal(backend: Backend, keys: &[Key], plains: &[Plain]) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = plains.iter().map(|plain| plain.message.clone()).collect();
    let mut jobs: Vec<SealJob<'_>> = plains
        .iter()
        .zip(&mut messages)
        .map(|(plain, message)| SealJob {
            key: &keys[plain.key],
            message,
            plaintext_offset: HEADER + plain.shift,
        })
        .collect();
    seal_batch_with(backend, &mut jobs);
    for (plain, message) in plains.iter().zip(&mut messages) {
        message.truncate(HEADER + plain.payload().len());
    }
    messages
}

/// Opens messages `outer` octets into their frames: which verified, and the frames.
pub(crate) fn open(
    backend: Backend,
    keys: &[Key],
    plains: &[Plain],
    sealed: &[Vec<u8>],
    outer: usize,
) -> (Vec<bool>, Vec<Vec<u8>>) {
    let frame = |message: &Vec<u8>| [vec![0xdd; outer], message.clone()].concat();
    let mut frames: Vec<Vec<u8>> = sealed.iter().map(frame).collect();
    let mut jobs: Vec<OpenJob<'_>> = plains
        .iter()
        .zip(&mut frames)
        .map(|(plain, frame)| OpenJob {
            key: &keys[plain.key],
            frame,
            header_offset: outer,
            verified: false,
        })
        .collect();
    open_batch_with(backend, &mut jobs);
    let verified = jobs.iter().map(|job| job.verified).collect();
    (verified, frames)
}

/// Keys that differ.
pub(crate) fn keys(count: u8) -> Vec<Key> {
    (0..count).map(|i| Key::new(&[i; 32])).collect()
}
