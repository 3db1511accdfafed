//! The protocol's test vectors, made by an independent implementation: headers and framing byte
//! for byte. Their cryptography is tested where it is done.

use omni_wire::ethernet::Ethernet;
use omni_wire::handshake::{
    self, Initiation, InitiationPayload, MAC_LEN, Response, Tai64n, classify, set_mac1, set_mac2,
};
use omni_wire::header::{DataHeader, DataKind, MessageType};
use omni_wire::limits::{AAD_LEN, HEADER_LEN};
use omni_wire::{DropReason, WallTime};
use serde_json::Value;

fn handshakes() -> Vec<Value> {
    let vectors: Value =
        serde_json::from_str(include_str!("data/vectors.json")).expect("the vectors are JSON");
    let handshakes = vectors["handshakes"]
        .as_array()
        .expect("a list of handshakes")
        .clone();
    assert!(handshakes.len() >= 2);
    handshakes
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key]
        .as_str()
        .unwrap_or_else(|| panic!("no text {key}"))
}

fn hex(object: &Value, key: &str) -> Vec<u8> {
    let digits = text(object, key).as_bytes();
    assert!(digits.len().is_multiple_of(2), "{key}");
    let digit = |octet: u8| char::from(octet).to_digit(16).expect("a hex digit") as u8;
    digits
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

#[test]
fn initiations_are_framed_byte_for_byte() {
    for (at, vector) in handshakes().iter().enumerate() {
        let message = hex(vector, "initiation");
        assert_eq!(classify(&message), Ok(MessageType::Initiation));
        let view = Initiation::parse(&message).expect("the vector is an initiation");
        assert_eq!(view.sender_session(), 0x0102_0304 + at as u32);
        assert_eq!(view.mac2(), &[0; MAC_LEN], "no cookie was known");
        let mut built = handshake::initiation(view.sender_session(), view.noise());
        set_mac1(&mut built, view.mac1());
        set_mac2(&mut built, view.mac2());
        assert_eq!(built[..], message);
    }
}

#[test]
fn responses_are_framed_byte_for_byte_and_name_the_initiation() {
    for vector in handshakes() {
        let (first, message) = (hex(&vector, "initiation"), hex(&vector, "response"));
        let first = Initiation::parse(&first).expect("the vector is an initiation");
        assert_eq!(classify(&message), Ok(MessageType::Response));
        let view = Response::parse(&message).expect("the vector is a response");
        assert_eq!(view.receiver_session(), first.sender_session());
        let (sender, receiver) = (view.sender_session(), view.receiver_session());
        let mut built = handshake::response(sender, receiver, view.noise());
        set_mac1(&mut built, view.mac1());
        set_mac2(&mut built, view.mac2());
        assert_eq!(built[..], message);
    }
}

#[test]
fn initiation_payloads_read_and_write_byte_for_byte() {
    for (at, vector) in handshakes().iter().enumerate() {
        let octets: [u8; 28] = hex(vector, "initiation_payload")
            .try_into()
            .expect("28 octets of payload");
        let payload = InitiationPayload::parse(&octets).expect("the payload is valid");
        assert_eq!(
            (payload.lanes, payload.max_frame, payload.capabilities),
            (2, 1440, 0)
        );
        let wall = WallTime(1_750_000_000_123_456_789 + at as u64);
        assert_eq!(Tai64n(payload.timestamp).to_wall(), wall);
        assert_eq!(Tai64n::from_wall(wall).0, payload.timestamp);
        assert_eq!(payload.emit(), octets);
    }
}

#[test]
fn data_headers_read_and_write_byte_for_byte() {
    for vector in handshakes() {
        let (first, second) = (hex(&vector, "initiation"), hex(&vector, "response"));
        let first = Initiation::parse(&first).expect("the vector is an initiation");
        let second = Response::parse(&second).expect("the vector is a response");
        for data in vector["data"].as_array().expect("a list of messages") {
            let message = hex(data, "message");
            let header = DataHeader::parse(&message).expect("the vector has a header");
            let receiver = match text(data, "sender") {
                "initiator" => second.sender_session(),
                _ => first.sender_session(),
            };
            assert_eq!(header.session_id, receiver, "the receiver's index");
            assert_eq!(Some(u64::from(header.lane)), data["lane_decimal"].as_u64());
            assert_eq!(Ok(header.nonce), text(data, "nonce_decimal").parse());
            assert_eq!(header.aead_nonce()[..2], [0, 0]);
            assert_eq!(header.aead_nonce()[2..], message[6..AAD_LEN]);
            let mut built = [0; AAD_LEN];
            header.emit(&mut built);
            assert_eq!(built, message[..AAD_LEN]);
            assert_eq!(message.len(), HEADER_LEN + hex(data, "frame").len());
            assert_eq!(classify(&message), Err(DropReason::MessageUnsteered));
        }
    }
}

#[test]
fn inner_frames_of_the_vectors_are_ethernet() {
    let mut kinds = Vec::new();
    for vector in handshakes() {
        for data in vector["data"].as_array().expect("a list of messages") {
            let frame = hex(data, "frame");
            let message = hex(data, "message");
            if matches!(DataHeader::parse(&message), Ok(header) if header.kind == DataKind::Data) {
                kinds.push(Ethernet::parse(&frame).map(|e| (e.vlan, e.tags, e.ethertype)));
            }
        }
    }
    assert!(
        kinds.contains(&Err(DropReason::InnerTooShort)),
        "the keepalive has no frame"
    );
    assert!(kinds.contains(&Ok((0, 0, 0x0806))), "ARP, untagged");
    assert!(kinds.contains(&Ok((100, 1, 0x0800))), "IPv4 in VLAN 100");
}
