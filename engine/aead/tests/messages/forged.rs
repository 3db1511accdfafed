//! What did not come from the peer: refused, alone, and never decrypted.

use crate::support::{HEADER, Noise, Plain, kernels, keys, open, seal};
use omni_aead::{BATCH_MAX, Backend};

/// Windows of plaintext that are looked for in what a failed job leaves.
const WINDOW: usize = 8;

/// Every back-end of this CPU.
fn backends() -> Vec<(&'static str, Backend)> {
    let mut all = kernels();
    all.push(("ring", Backend::RING));
    all
}

fn contains_plaintext(frame: &[u8], payload: &[u8]) -> bool {
    payload
        .chunks_exact(WINDOW)
        .any(|part| frame.windows(WINDOW).any(|window| window == part))
}

/// Opens a batch of which message `bad` is not as it was sealed.
fn check(name: &str, backend: Backend, plains: &[Plain], sealed: &[Vec<u8>], bad: usize) {
    let keys = keys(4);
    let (verified, frames) = open(backend, &keys, plains, sealed, 42);
    for (i, (plain, frame)) in plains.iter().zip(&frames).enumerate() {
        assert_eq!(verified[i], i != bad, "{name}: {i}, bad is {bad}");
        if i == bad {
            assert!(!contains_plaintext(frame, plain.payload()), "{name}: {bad}");
        } else {
            assert!(frame[..plain.payload().len()] == *plain.payload(), "{name}");
        }
    }
}

fn batch(noise: &mut Noise, count: usize, longest: usize) -> (Vec<Plain>, Vec<Vec<u8>>) {
    let plains: Vec<Plain> = (0..count)
        .map(|_| {
            let len = noise.below(longest);
            Plain::new(noise, 4, len, 0)
        })
        .collect();
    let sealed = seal(Backend::RING, &keys(4), &plains);
    (plains, sealed)
}

#[test]
fn any_flipped_bit_of_one_message_is_refused_and_harms_no_other() {
    for (name, backend) in backends() {
        let mut noise = Noise(5);
        // All of header and tag, and the payload from end to end in steps without a pattern.
        for count in [1, 4, 17, BATCH_MAX] {
            let (plains, sealed) = batch(&mut noise, count, 700);
            let bad = noise.below(count);
            let bits = sealed[bad].len() * 8;
            let mut bit = 0;
            while bit < bits {
                let mut forged = sealed.clone();
                forged[bad][bit / 8] ^= 1 << (bit % 8);
                check(name, backend, &plains, &forged, bad);
                bit += if bit < HEADER * 8 { 1 } else { 29 };
            }
        }
    }
}

#[test]
fn every_place_in_a_batch_and_long_messages_are_refused_alone() {
    for (name, backend) in backends() {
        let mut noise = Noise(6);
        for (count, longest) in [(64, 300), (16, 1500), (9, 9000), (3, 9000), (2, 2000)] {
            let (plains, sealed) = batch(&mut noise, count, longest);
            for bad in 0..count {
                let mut forged = sealed.clone();
                let at = noise.below(forged[bad].len());
                forged[bad][at] ^= 0x80;
                check(name, backend, &plains, &forged, bad);
            }
        }
    }
}

#[test]
fn another_key_and_all_bad_are_refused() {
    for (name, backend) in backends() {
        let mut noise = Noise(7);
        let (mut plains, sealed) = batch(&mut noise, 40, 500);
        for plain in &mut plains {
            plain.key = (plain.key + 1) % 4;
        }
        let (verified, frames) = open(backend, &keys(4), &plains, &sealed, 42);
        assert!(verified.iter().all(|verified| !verified), "{name}");
        for (plain, frame) in plains.iter().zip(&frames) {
            assert!(!contains_plaintext(frame, plain.payload()), "{name}");
        }
    }
}
