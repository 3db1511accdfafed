//! The protocol's data messages, octet by octet, against an independent implementation's.

use omni_engine::aead::{Key, OpenJob, SealJob, open_batch, seal_batch};
use omni_wire::header::{DataHeader, DataKind};
use serde_json::Value;

const VECTORS: &str = include_str!("../../wire/tests/data/vectors.json");

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
        .collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is a string"))
}

#[test]
fn data_messages_are_sealed_and_opened_to_the_octet() {
    let vectors: Value = serde_json::from_str(VECTORS).expect("valid JSON");
    let mut checked = 0;
    for handshake in vectors["handshakes"].as_array().expect("a list") {
        let keys = ["key_initiator_to_responder", "key_responder_to_initiator"]
            .map(|name| octets(text(handshake, name)));
        for data in handshake["data"].as_array().expect("a list") {
            let sender = usize::from(text(data, "sender") == "responder");
            let key = Key::new(keys[sender].as_slice().try_into().expect("32 octets"));
            let (frame, message) = (octets(text(data, "frame")), octets(text(data, "message")));
            let header = DataHeader::parse(&message).expect("a data message");
            assert_eq!(header.kind, DataKind::Data);
            assert_eq!(
                u64::from(header.lane),
                data["lane_decimal"].as_u64().expect("a number")
            );
            assert_eq!(header.nonce.to_string(), text(data, "nonce_decimal"));

            let mut sealed = message[..16].to_vec();
            sealed.resize(32, 0);
            sealed.extend_from_slice(&frame);
            let job = SealJob {
                key: &key,
                message: &mut sealed,
                plaintext_offset: 32,
            };
            seal_batch(&mut [job]);
            assert_eq!(sealed, message);

            let mut opened = message.clone();
            let job = OpenJob {
                key: &key,
                frame: &mut opened,
                header_offset: 0,
                verified: false,
            };
            let mut jobs = [job];
            open_batch(&mut jobs);
            assert!(jobs[0].verified);
            assert_eq!(opened[..frame.len()], frame);
            checked += 1;
        }
    }
    assert!(checked >= 12, "only {checked} messages");
}
