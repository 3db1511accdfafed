//! Records that a member signs with its own key and that are longer than any sound one: behind the
//! fields that are known they have one of a later version, which a Nucleus keeps and passes on.

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use omni_control::Random as _;
use omni_engine::random::SystemRandom;
use omni_membership::{FabricName, MAX_BINDING_LEN, PrivateKey};
use prost::Message as _;
use sha2::Sha512;

use crate::Failure;

/// Octets of a record beside its body: a signature, and tags and lengths, with room to spare.
const AROUND: usize = 128;

/// As `nucleus-records.proto` has it.
#[derive(Clone, PartialEq, prost::Message)]
struct Signed {
    #[prost(bytes = "vec", tag = "1")]
    body: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
}

/// Makes a signed binding as long as a record may be, and signs it anew.
///
/// # Errors
/// When it is none.
pub(super) fn padded(
    fabric: &FabricName,
    private: &PrivateKey,
    binding: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mut body = Signed::decode(binding)?.body;
    let len = MAX_BINDING_LEN.saturating_sub(AROUND + body.len());
    // Field 100 of octets, with a length of three octets.
    body.extend([0xa2, 0x06]);
    body.extend([
        (len & 0x7f) as u8 | 0x80,
        (len >> 7 & 0x7f) as u8 | 0x80,
        (len >> 14) as u8,
    ]);
    body.resize(body.len() + len, 0);
    let name = fabric.as_str().as_bytes();
    let covered = [
        &b"OmniNervous binding v1\0"[..],
        &[u8::try_from(name.len())?],
        name,
        &body,
    ]
    .concat();
    let signature = sign(private, &covered).to_vec();
    Ok(Signed { body, signature }.encode_to_vec())
}

/// XEdDSA, with a random secret for the nonce.
fn sign(private: &PrivateKey, message: &[u8]) -> [u8; 64] {
    let scalar = Scalar::from_bytes_mod_order(clamp_integer(private.0));
    let point = EdwardsPoint::mul_base(&scalar);
    let is_negative = point.compress().0[31] >> 7 == 1;
    let (scalar, point) = match is_negative {
        true => (-scalar, -point),
        false => (scalar, point),
    };
    let mut key = ExpandedSecretKey {
        scalar,
        hash_prefix: [0; 32],
    };
    SystemRandom.fill(&mut key.hash_prefix);
    raw_sign::<Sha512>(&key, message, &VerifyingKey::from(point)).to_bytes()
}

#[cfg(test)]
mod tests {
    use omni_membership::Binding;

    use super::super::super::fabric::{Fabric, ip};
    use super::*;

    #[test]
    fn a_padded_binding_verifies_and_is_as_long_as_may_be() {
        let fabric = Fabric::random().expect("a fabric");
        for number in 0..4 {
            let member = fabric.member(number).expect("a member");
            let binding = member.binding(ip(1), 7, false).expect("a binding");
            let padded = padded(&fabric.name, &member.private, &binding).expect("a record");
            let read = Binding::verify(&padded, &fabric.name).expect("signed by its member");
            assert_eq!((read.sequence, read.public_key), (7, member.public));
            assert!(padded.len() > MAX_BINDING_LEN - AROUND && padded.len() <= MAX_BINDING_LEN);
            assert_eq!(read.octets(), padded, "it is kept as it came");
        }
    }
}
