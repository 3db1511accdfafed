//! Every back-end against `ring`: all lengths, any batches, a million messages.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::{HEADER, Noise, Plain, kernels, keys, open, seal};
use omni_aead::{BATCH_MAX, Backend, Key, SealJob, open_batch, seal_batch, seal_batch_with};

/// The longest payload that is tried; the longest frame that is carried is shorter.
const LONGEST: usize = 9100;
/// Messages that are sealed, opened and compared in all with each back-end.
const MESSAGES: usize = 1_000_000;

/// Seals and opens with both, and compares what comes out to the octet.
fn compare(name: &str, backend: Backend, keys: &[Key], plains: &[Plain], outer: usize) {
    let lens = || -> Vec<usize> { plains.iter().map(|plain| plain.payload().len()).collect() };
    let sealed = seal(backend, keys, plains);
    let expected = seal(Backend::RING, keys, plains);
    for (i, (sealed, expected)) in sealed.iter().zip(&expected).enumerate() {
        assert!(sealed == expected, "{name}: sealed {i} of {:?}", lens());
    }
    let (verified, frames) = open(backend, keys, plains, &sealed, outer);
    for (i, (plain, frame)) in plains.iter().zip(&frames).enumerate() {
        let payload = plain.payload();
        assert!(verified[i], "{name}: refused {i} of {:?}", lens());
        assert!(
            &frame[..payload.len()] == payload,
            "{name}: opened {i} of {:?}",
            lens()
        );
    }
}

#[test]
fn every_length_is_sealed_and_opened_as_by_ring() {
    let keys = keys(3);
    for (name, backend) in kernels() {
        let mut noise = Noise(1);
        for (shift, outer) in [(0, 0), (4, 42), (24, 46), (1000, 66)] {
            // Lengths side by side in one batch, and such that have nothing in common.
            let near: Vec<usize> = (0..=LONGEST).collect();
            let far = (0..=LONGEST).map(|i| i * 571 % (LONGEST + 1));
            for (count, lens) in [(7, near), (16, far.collect())] {
                for lens in lens.chunks(count) {
                    let lens = lens.iter();
                    let plains: Vec<Plain> = lens
                        .map(|len| Plain::new(&mut noise, keys.len(), *len, shift))
                        .collect();
                    compare(name, backend, &keys, &plains, outer);
                }
            }
        }
    }
}

#[test]
fn every_length_alone_is_sealed_and_opened_as_by_ring() {
    let keys = keys(1);
    for (name, backend) in kernels() {
        let mut noise = Noise(2);
        for len in 0..=LONGEST {
            let plain = Plain::new(&mut noise, 1, len, len % 40);
            compare(name, backend, &keys, &[plain], len % 70);
        }
    }
}

#[test]
fn a_million_messages_are_sealed_and_opened_as_by_ring() {
    let keys = keys(5);
    for (name, backend) in kernels() {
        let mut noise = Noise(3);
        let mut sealed = 0;
        while sealed < MESSAGES {
            let count = 1 + noise.below(BATCH_MAX);
            // Of like length, of any length, or mostly short with a few long ones.
            let kind = noise.below(8);
            let base = noise.below(300);
            let keys = &keys[..1 + noise.below(keys.len())];
            let plains: Vec<Plain> = (0..count)
                .map(|_| {
                    let len = match kind {
                        0 => noise.below(1600),
                        1 if noise.below(16) == 0 => noise.below(9000),
                        2 => base,
                        _ => noise.below(base + 1),
                    };
                    let shift = noise.below(50);
                    Plain::new(&mut noise, keys.len(), len, shift)
                })
                .collect();
            compare(name, backend, keys, &plains, noise.below(80));
            sealed += count;
        }
    }
}

#[test]
fn what_the_product_chooses_is_the_same_in_any_batch() {
    let keys = keys(3);
    let mut noise = Noise(4);
    for count in 0..=BATCH_MAX {
        for longest in [1, 100, 1500, 9000] {
            let plains: Vec<Plain> = (0..count)
                .map(|_| {
                    let len = noise.below(longest);
                    Plain::new(&mut noise, keys.len(), len, 0)
                })
                .collect();
            let expected = seal(Backend::RING, &keys, &plains);
            let mut messages: Vec<Vec<u8>> =
                plains.iter().map(|plain| plain.message.clone()).collect();
            let mut jobs: Vec<SealJob<'_>> = (plains.iter().zip(&mut messages))
                .map(|(plain, message)| SealJob {
                    key: &keys[plain.key],
                    message,
                    plaintext_offset: HEADER,
                })
                .collect();
            seal_batch(&mut jobs);
            assert!(messages == expected, "{count} up to {longest}");
            let mut jobs: Vec<omni_aead::OpenJob<'_>> = (plains.iter().zip(&mut messages))
                .map(|(plain, frame)| omni_aead::OpenJob {
                    key: &keys[plain.key],
                    frame,
                    header_offset: 0,
                    verified: false,
                })
                .collect();
            open_batch(&mut jobs);
            assert!(jobs.iter().all(|job| job.verified));
            for (plain, frame) in plains.iter().zip(&messages) {
                assert!(frame[..plain.payload().len()] == *plain.payload());
            }
        }
    }
}

#[test]
fn jobs_that_hold_no_header_are_refused_before_any_work() {
    let key = Key::new(&[1; 32]);
    let names = Backend::NAMES.iter();
    for backend in names.filter_map(|name| Backend::by_name(name)) {
        for (len, plaintext_offset) in [(31, 31), (40, 31), (40, 41), (0, 0), (40, usize::MAX)] {
            let mut message = vec![7; len];
            let mut jobs = [SealJob {
                key: &key,
                message: &mut message,
                plaintext_offset,
            }];
            let sealed = AssertUnwindSafe(|| seal_batch_with(backend, &mut jobs));
            assert!(catch_unwind(sealed).is_err(), "{len} {plaintext_offset}");
            assert_eq!(message, vec![7; len]);
        }
    }
}
