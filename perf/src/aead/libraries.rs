//! Other libraries' ChaCha20-Poly1305 on the same messages, which they take one by one. They are
//! built in with the feature `peers` only; `ring`, which is part of the product, is a back-end.

use crate::Failure;

/// A library with a key of its own.
pub(super) trait Library {
    /// Whose it is.
    fn name(&self) -> &'static str;

    /// Seals the messages in these frames in place, with the tag where the header has it.
    fn seal(&mut self, frames: &mut [Vec<u8>]) -> Result<(), Failure>;

    /// Opens what [`Library::seal`] made.
    fn open(&mut self, frames: &mut [Vec<u8>]) -> Result<(), Failure>;
}

/// All that are built in, for frames of at most so many octets.
pub(super) fn all(octets: usize) -> Result<Vec<Box<dyn Library>>, Failure> {
    #[cfg(feature = "peers")]
    return Ok(vec![Box::new(aws_lc::AwsLc::new(octets)?)]);
    #[cfg(not(feature = "peers"))]
    {
        let _ = octets;
        Ok(Vec::new())
    }
}

#[cfg(feature = "peers")]
mod aws_lc {
    use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

    use super::Library;
    use crate::Failure;
    use crate::aead::{HEADER, OUTER};

    /// Octets of our header before the tag: what is authenticated beside the payload.
    const AAD: usize = 16;

    /// `aws-lc-rs`.
    pub(super) struct AwsLc {
        key: LessSafeKey,
        /// What was opened: the library has no way to open towards the front of a buffer.
        opened: Vec<u8>,
    }

    impl AwsLc {
        pub(super) fn new(octets: usize) -> Result<Self, Failure> {
            let key = UnboundKey::new(&CHACHA20_POLY1305, &[1; 32]);
            Ok(Self {
                key: LessSafeKey::new(key.map_err(refused)?),
                opened: vec![0; octets],
            })
        }
    }

    fn refused(_: aws_lc_rs::error::Unspecified) -> Failure {
        "aws-lc-rs refused to work".into()
    }

    /// The nonce of a message, as the product's.
    fn nonce_of(header: &[u8]) -> Nonce {
        let mut nonce = [0; 12];
        nonce[2..].copy_from_slice(&header[6..AAD]);
        Nonce::assume_unique_for_key(nonce)
    }

    impl Library for AwsLc {
        fn name(&self) -> &'static str {
            "aws-lc-rs"
        }

        fn seal(&mut self, frames: &mut [Vec<u8>]) -> Result<(), Failure> {
            for frame in frames {
                let (header, payload) = frame[OUTER..].split_at_mut(HEADER);
                let (aad, tag) = header.split_at_mut(AAD);
                let (nonce, aad) = (nonce_of(aad), Aad::from(&*aad));
                let sealed = self.key.seal_in_place_separate_tag(nonce, aad, payload);
                tag.copy_from_slice(sealed.map_err(refused)?.as_ref());
            }
            Ok(())
        }

        fn open(&mut self, frames: &mut [Vec<u8>]) -> Result<(), Failure> {
            for frame in frames {
                let (header, payload) = frame[OUTER..].split_at(HEADER);
                let (aad, tag) = header.split_at(AAD);
                let opened = &mut self.opened[..payload.len()];
                let (nonce, aad) = (nonce_of(aad), Aad::from(aad));
                let done = self
                    .key
                    .open_separate_gather(nonce, aad, payload, tag, opened);
                done.map_err(refused)?;
            }
            Ok(())
        }
    }
}
