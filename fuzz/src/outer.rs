//! Any octets as a frame of the underlay, as a message, and as reflection.

use omni_wire::ethernet::Ethernet;
use omni_wire::handshake::{CookieReply, Initiation, Response, classify};
use omni_wire::header::{DataHeader, MessageType};
use omni_wire::limits::AAD_LEN;
use omni_wire::outer::{Located, Outer, StandIn};
use omni_wire::reflection::{Answer, Probe};

/// Runs the target.
pub fn run(octets: &[u8]) {
    headers(octets);
    message(octets);
    if let Ok(outer) = Outer::parse(octets) {
        message(&octets[outer.payload..outer.end]);
    }
}

fn headers(octets: &[u8]) {
    let outer = Outer::parse(octets);
    // The shorter way reads the same.
    assert_eq!(Located::parse(octets), outer.map(Located::from));
    let Ok(outer) = outer else {
        return;
    };
    assert!(outer.payload <= outer.end && outer.end <= octets.len());
    assert!(Ethernet::parse(octets).is_ok_and(|ethernet| ethernet.tags <= 1));
    assert_eq!(outer.source.is_ipv4(), outer.destination.is_ipv4());
    // Headers made of what was read are read as the same.
    let stand_in = StandIn::new(outer.source, outer.destination, outer.ds_field);
    let stand_in = stand_in.expect("one family");
    let message = &octets[outer.payload..outer.end];
    let mut frame = vec![0; stand_in.len() + message.len()];
    stand_in.emit(message, &mut frame);
    if let Ok(again) = Outer::parse(&frame) {
        let read = (again.source, again.destination, again.ds_field);
        assert_eq!(read, (outer.source, outer.destination, outer.ds_field));
        assert_eq!(&frame[again.payload..again.end], message);
    } else {
        // Only what IP with its options or padding cannot say in its shortest form.
        assert!(message.len() > 65_000, "{outer:?}");
    }
}

fn message(octets: &[u8]) {
    if let Ok(header) = DataHeader::parse(octets) {
        let mut out = [0; AAD_LEN];
        header.emit(&mut out);
        assert_eq!(out[..5], octets[..5], "session and type");
        assert_eq!(out[6..], octets[6..AAD_LEN], "lane and nonce");
    }
    match classify(octets) {
        Ok(MessageType::Initiation) => {
            let read = Initiation::parse(octets);
            // Its type and length are right: only an index of 0 is not one.
            assert_eq!(read.is_err(), octets[8..12] == [0; 4]);
            if let Ok(read) = read {
                assert_eq!(read.before_mac2().len() + read.mac2().len(), octets.len());
            }
        }
        Ok(MessageType::Response) => {
            let read = Response::parse(octets);
            assert_eq!(read.is_err(), octets[8..12] == [0; 4]);
            if let Ok(read) = read {
                assert_eq!(read.before_mac2().len() + read.mac2().len(), octets.len());
            }
        }
        Ok(MessageType::CookieReply) => {
            CookieReply::parse(octets).expect("its type and length are right");
        }
        _ => {}
    }
    if let Some(probe) = Probe::parse(octets) {
        assert_eq!(probe.emit(), octets);
    }
    if let Some(answer) = Answer::parse(octets) {
        assert_eq!(answer.emit(), octets);
    }
}
