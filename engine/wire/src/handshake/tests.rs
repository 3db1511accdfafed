//! Framing of handshake messages: every length, every prefix, every field.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::header::{COOKIE_REPLY, INITIATION, REFLECT_ANSWER, REFLECT_PROBE, RESPONSE};

/// A datagram with this type and length, all else right.
fn datagram(kind: u8, len: usize) -> Vec<u8> {
    let mut octets = vec![0x77; len];
    let prefix = [0, 0, 0, 0, kind, 0, 0, 1];
    let present = len.min(PREFIX_LEN);
    octets[..present].copy_from_slice(&prefix[..present]);
    octets
}

const fn expected_lengths(kind: u8) -> (usize, usize) {
    match kind {
        INITIATION => (168, 168),
        RESPONSE => (116, 116),
        COOKIE_REPLY => (68, 68),
        REFLECT_PROBE => (24, usize::MAX),
        REFLECT_ANSWER => (30, usize::MAX),
        _ => (usize::MAX, 0),
    }
}

#[test]
fn lengths_are_those_of_the_document() {
    assert_eq!(
        (INITIATION_LEN, RESPONSE_LEN, COOKIE_REPLY_LEN),
        (168, 116, 68)
    );
    assert_eq!((INITIATION_NOISE_LEN, RESPONSE_NOISE_LEN), (124, 68));
    assert_eq!(
        (INITIATION_NOISE, INITIATION_MAC1, INITIATION_MAC2),
        (12, 136, 152)
    );
    assert_eq!(
        (RESPONSE_NOISE, RESPONSE_MAC1, RESPONSE_MAC2),
        (16, 84, 100)
    );
}

#[test]
fn every_type_at_every_length_is_classified_by_both() {
    for kind in 0..=u8::MAX {
        let (least, most) = expected_lengths(kind);
        for len in 0..200 {
            let message = datagram(kind, len);
            let result = classify(&message);
            if (least..=most).contains(&len) {
                assert_eq!(result.map(|kind| kind as u8), Ok(kind), "length {len}");
            } else {
                assert_eq!(
                    result,
                    Err(DropReason::MessageMalformed),
                    "{kind} length {len}"
                );
            }
        }
    }
}

#[test]
fn every_version_and_every_flag_but_ours_is_refused() {
    let mut message = datagram(RESPONSE, RESPONSE_LEN);
    for version in 0..=u16::MAX {
        message[LANE..LANE + 2].copy_from_slice(&version.to_be_bytes());
        let expected = if version == 1 {
            Ok(MessageType::Response)
        } else {
            Err(DropReason::MessageVersion)
        };
        assert_eq!(classify(&message), expected, "version {version}");
    }
    let mut message = datagram(RESPONSE, RESPONSE_LEN);
    for flags in 1..=u8::MAX {
        message[FLAGS] = flags;
        assert_eq!(
            classify(&message),
            Err(DropReason::MessageVersion),
            "flags {flags}"
        );
    }
}

#[test]
fn a_session_id_tells_an_unsteered_message_whatever_else_it_is() {
    for at in 0..SESSION_LEN {
        let mut message = datagram(4, 100);
        message[at] = 1;
        assert_eq!(classify(&message), Err(DropReason::MessageUnsteered));
        message[FLAGS] = 1;
        assert_eq!(classify(&message), Err(DropReason::MessageUnsteered));
    }
}

#[test]
fn views_refuse_the_types_of_others_and_senders_without_an_index() {
    let mut first = initiation(1, &[9; INITIATION_NOISE_LEN]);
    let mut second = response(1, 0, &[9; RESPONSE_NOISE_LEN]);
    let third = cookie_reply(0, &[9; COOKIE_NONCE_LEN], &[9; SEALED_COOKIE_LEN]);
    assert!(Initiation::parse(&first).is_ok());
    assert!(Response::parse(&second).is_ok());
    assert!(CookieReply::parse(&third).is_ok());
    assert_eq!(
        Initiation::parse(&second),
        Err(DropReason::MessageMalformed)
    );
    assert_eq!(Response::parse(&third), Err(DropReason::MessageMalformed));
    assert_eq!(
        CookieReply::parse(&first),
        Err(DropReason::MessageMalformed)
    );
    first[SENDER..SENDER + SESSION_LEN].fill(0);
    second[SENDER..SENDER + SESSION_LEN].fill(0);
    assert_eq!(
        Initiation::parse(&first),
        Err(DropReason::HandshakeBadPayload)
    );
    assert_eq!(
        Response::parse(&second),
        Err(DropReason::HandshakeBadPayload)
    );
}

#[test]
fn what_macs_cover_ends_where_they_begin() {
    let mut first = initiation(7, &core::array::from_fn(|at| at as u8));
    set_mac1(&mut first, &[0xa1; MAC_LEN]);
    set_mac2(&mut first, &[0xa2; MAC_LEN]);
    let view = Initiation::parse(&first).expect("just built");
    assert_eq!(view.before_mac1()[..], first[..136]);
    assert_eq!(view.before_mac2()[..], first[..152]);
    assert_eq!(before_mac1(&first), view.before_mac1());
    assert_eq!(before_mac2(&first), view.before_mac2());

    let mut second = response(7, 8, &core::array::from_fn(|at| at as u8));
    set_mac1(&mut second, &[0xb1; MAC_LEN]);
    set_mac2(&mut second, &[0xb2; MAC_LEN]);
    let view = Response::parse(&second).expect("just built");
    assert_eq!(view.before_mac1()[..], second[..84]);
    assert_eq!(view.before_mac2()[..], second[..100]);
    assert_eq!(before_mac1(&second), view.before_mac1());
    assert_eq!(before_mac2(&second), view.before_mac2());
}

/// Octets of any value for an array of `N`.
fn octets<const N: usize>() -> impl Strategy<Value = [u8; N]> {
    proptest::collection::vec(any::<u8>(), N)
        .prop_map(|octets| octets.try_into().expect("the length was asked for"))
}

proptest! {
    #[test]
    fn built_initiations_read_back(
        sender in 1u32..,
        noise in octets::<INITIATION_NOISE_LEN>(),
        mac1: [u8; MAC_LEN],
        mac2: [u8; MAC_LEN],
    ) {
        let mut message = initiation(sender, &noise);
        {
            let view = Initiation::parse(&message).expect("just built");
            prop_assert_eq!((view.mac1(), view.mac2()), (&[0; MAC_LEN], &[0; MAC_LEN]));
        }
        set_mac1(&mut message, &mac1);
        set_mac2(&mut message, &mac2);
        let view = Initiation::parse(&message).expect("just built");
        prop_assert_eq!(view.sender_session(), sender);
        prop_assert_eq!(view.noise(), &noise);
        prop_assert_eq!((view.mac1(), view.mac2()), (&mac1, &mac2));
    }

    #[test]
    fn built_responses_read_back(
        sender in 1u32..,
        receiver: u32,
        noise in octets::<RESPONSE_NOISE_LEN>(),
        mac1: [u8; MAC_LEN],
        mac2: [u8; MAC_LEN],
    ) {
        let mut message = response(sender, receiver, &noise);
        set_mac1(&mut message, &mac1);
        set_mac2(&mut message, &mac2);
        let view = Response::parse(&message).expect("just built");
        prop_assert_eq!((view.sender_session(), view.receiver_session()), (sender, receiver));
        prop_assert_eq!(view.noise(), &noise);
        prop_assert_eq!((view.mac1(), view.mac2()), (&mac1, &mac2));
    }

    #[test]
    fn built_cookie_replies_read_back(
        receiver: u32,
        nonce: [u8; COOKIE_NONCE_LEN],
        sealed: [u8; SEALED_COOKIE_LEN],
    ) {
        let message = cookie_reply(receiver, &nonce, &sealed);
        let view = CookieReply::parse(&message).expect("just built");
        prop_assert_eq!(view.receiver_session(), receiver);
        prop_assert_eq!((view.nonce(), view.sealed()), (&nonce, &sealed));
    }

    #[test]
    fn any_octets_give_a_view_or_a_reason(
        mut message in proptest::collection::vec(any::<u8>(), 0..200),
        length in proptest::sample::select(vec![0, 68, 116, 168]),
        kind in 0u8..20,
        plausible: bool,
    ) {
        if length != 0 {
            message.resize(length, 0x3c);
        }
        if plausible && message.len() >= PREFIX_LEN {
            message[..PREFIX_LEN].copy_from_slice(&[0, 0, 0, 0, kind, 0, 0, 1]);
        }
        let kind = classify(&message);
        for (view, of) in [
            (Initiation::parse(&message).is_ok(), MessageType::Initiation),
            (Response::parse(&message).is_ok(), MessageType::Response),
            (CookieReply::parse(&message).is_ok(), MessageType::CookieReply),
        ] {
            prop_assert!(!view || kind == Ok(of), "a view of another type");
        }
    }
}
