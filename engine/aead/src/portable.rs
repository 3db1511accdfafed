//! Messages one by one, by `ring`: for every CPU, and where it is the fastest.

use omni_wire::limits::{AAD_LEN, HEADER_LEN, TAG_LEN};
use ring::aead::{Aad, Nonce, Tag};

use crate::{OpenJob, SealJob};

/// The 12-octet nonce of a message: two zero octets, then lane and counter as they stand in the
/// header (`PROTOCOL` section 2).
fn nonce_of(header: &[u8; AAD_LEN]) -> Nonce {
    let mut nonce = [0; 12];
    nonce[2..].copy_from_slice(&header[6..]);
    Nonce::assume_unique_for_key(nonce)
}

pub(crate) fn seal(job: &mut SealJob<'_>) {
    assert!(
        job.plaintext_offset >= HEADER_LEN,
        "the header's octets are not plaintext"
    );
    let payload_len = job.message.len().checked_sub(job.plaintext_offset);
    let payload_len =
        payload_len.expect("a message is not shorter than where its plaintext begins");
    if job.plaintext_offset != HEADER_LEN {
        job.message.copy_within(job.plaintext_offset.., HEADER_LEN);
    }
    let (header, payload) = job.message.split_at_mut(HEADER_LEN);
    let (aad, tag_slot) = header.split_at_mut(AAD_LEN);
    let aad: &[u8; AAD_LEN] = (&*aad).try_into().expect("split at 16");
    let sealed = job.key.portable.seal_in_place_separate_tag(
        nonce_of(aad),
        Aad::from(aad),
        &mut payload[..payload_len],
    );
    // The only error is a payload beyond 256 GiB.
    tag_slot.copy_from_slice(sealed.expect("a frame is short").as_ref());
}

pub(crate) fn open(job: &mut OpenJob<'_>) {
    let header = &job.frame[job.header_offset..job.header_offset + HEADER_LEN];
    let aad: [u8; AAD_LEN] = header[..AAD_LEN].try_into().expect("16 of 32");
    let tag: [u8; TAG_LEN] = header[AAD_LEN..].try_into().expect("16 of 32");
    let opened = job.key.portable.open_in_place_separate_tag(
        nonce_of(&aad),
        Aad::from(&aad),
        Tag::from(tag),
        job.frame,
        job.header_offset + HEADER_LEN..,
    );
    job.verified = opened.is_ok();
}
