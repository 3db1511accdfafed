//! The Internet checksum (RFC 1071): a ones' complement sum of 16-bit words.
//!
//! A running sum is a `u64`, so that carries wait until [`fold`]; 2^32 words fit without loss.
//! Numbers of up to 32 bits may be added to it as they are: `sum + u64::from(value)`.

/// Adds octets, as big-endian 16-bit words, to a running sum.
///
/// An odd last octet counts as the high half of a word, so of several pieces only the last may
/// have an odd length.
#[inline]
#[must_use]
pub fn add(sum: u64, octets: &[u8]) -> u64 {
    // The sum does not depend on the order of octets within words (RFC 1071 s.2(B)): words are
    // added as the machine reads them, four times as wide, and the octets are swapped at the end.
    // The two halves of a word of 64 bits are added apart, where no carry gets lost.
    let (blocks, rest) = octets.as_chunks::<32>();
    let mut lanes = [0u64; 4];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            let word = u64::from_ne_bytes(*word);
            *lane += (word & 0xffff_ffff) + (word >> 32);
        }
    }
    let mut native: u64 = lanes.iter().sum();
    let (words, tail) = rest.as_chunks::<2>();
    for word in words {
        native += u64::from(u16::from_ne_bytes(*word));
    }
    if let [last] = *tail {
        native += u64::from(u16::from_ne_bytes([last, 0]));
    }
    sum + u64::from(u16::from_be(fold(native)))
}

/// Folds a running sum to 16 bits. The result is 0 only if the sum is.
///
/// A checksum field holds the complement of this over all that it covers; over a packet with a
/// valid checksum in its field, this gives 0xffff.
#[inline]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// The checksum field of a packet in which one 16-bit word changes (RFC 1624 s.3, equation 3).
///
/// A field that was right stays right and one that was wrong stays wrong, so a receiver still
/// finds what was damaged before. A word at an odd offset is given with its octets swapped.
#[inline]
#[must_use]
pub const fn replace(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// The definition, word by word, with the carry added back at once.
    fn naive(octets: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for pair in octets.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
            if sum > 0xffff {
                sum -= 0xffff;
            }
        }
        sum as u16
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect()
    }

    #[test]
    fn the_example_of_rfc_1071_holds() {
        let octets = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(add(0, &octets)), 0xddf2);
    }

    #[test]
    fn wide_sum_equals_the_definition_at_every_length_and_start() {
        let octets = noise(2032);
        for start in 0..32 {
            for len in 0..=2000 {
                let piece = &octets[start..start + len];
                assert_eq!(
                    fold(add(0, piece)),
                    naive(piece),
                    "start {start} length {len}"
                );
            }
        }
    }

    #[test]
    fn carries_survive_all_ones() {
        let octets = [0xff; 65_535];
        for len in [1, 2, 31, 32, 33, 1500, 9000, 65_534, 65_535] {
            assert_eq!(
                fold(add(0, &octets[..len])),
                naive(&octets[..len]),
                "length {len}"
            );
        }
        assert_eq!(fold(u64::MAX), 0xffff);
    }

    #[test]
    fn only_nothing_folds_to_zero() {
        assert_eq!(fold(add(0, &[0; 100])), 0);
        assert_eq!(fold(0xffff), 0xffff);
        assert_eq!(fold(0x1_fffe), 0xffff);
        assert_eq!(fold(0xffff_ffff), 0xffff);
        assert_eq!(fold(0xffff_ffff_0000_0000), 0xffff);
    }

    #[test]
    fn the_example_of_rfc_1624_holds() {
        assert_eq!(replace(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn a_replaced_word_keeps_what_was_valid(
            mut words in proptest::collection::vec(any::<[u8; 2]>(), 2..40),
            at: proptest::sample::Index,
            new: [u8; 2],
        ) {
            words[0] = [0, 0];
            let sum = !fold(add(0, words.as_flattened()));
            let at = 1 + at.index(words.len() - 1);
            let old = core::mem::replace(&mut words[at], new);
            let replaced = replace(sum, u16::from_be_bytes(old), u16::from_be_bytes(new));
            words[0] = replaced.to_be_bytes();
            // Over nothing but zeros there are two fields that verify.
            let verified = fold(add(0, words.as_flattened()));
            prop_assert!(verified == 0xffff || words.as_flattened().iter().all(|o| *o == 0));
        }

        #[test]
        fn pieces_add_up(octets: Vec<u8>, cut: proptest::sample::Index) {
            let cut = cut.index(octets.len() + 1) & !1;
            let (head, tail) = octets.split_at(cut);
            prop_assert_eq!(fold(add(add(0, head), tail)), naive(&octets));
        }

        #[test]
        fn folding_is_reduction_modulo_all_ones(sum: u64) {
            prop_assert_eq!(u64::from(fold(sum)) % 0xffff, sum % 0xffff);
            prop_assert_eq!(fold(sum) == 0, sum == 0);
        }
    }
}
