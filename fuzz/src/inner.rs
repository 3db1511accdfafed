//! Any octets as an inner frame: every parser, every answer, every change of it.

use omni_wire::ethernet::Ethernet;
use omni_wire::inspect::{Inspected, inspect};
use omni_wire::{MacAddr, answer, ecn, mss, offload, toobig};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

/// Runs the target.
pub fn run(octets: &[u8]) {
    let Ok(ethernet) = Ethernet::parse(octets) else {
        return;
    };
    assert!(ethernet.payload_offset <= octets.len() && ethernet.vlan < 4095);
    let mut frame = [octets, &[0; 96]].concat();
    match inspect(octets, &ethernet) {
        Inspected::Arp(request) => {
            let before = frame.len();
            answer::arp(&mut frame, &ethernet, &request, MAC);
            assert_eq!(frame.len(), before);
            let answered = Ethernet::parse(&frame).expect("an answer is a frame");
            assert!(matches!(inspect(&frame, &answered), Inspected::Arp(_)));
        }
        Inspected::Solicitation(request) => {
            if let Some(len) = answer::solicitation(&mut frame, &ethernet, &request, MAC, false) {
                let answered = Ethernet::parse(&frame[..len]).expect("an answer is a frame");
                let told = inspect(&frame[..len], &answered);
                assert!(matches!(told, Inspected::Advertisement(_)), "{told:?}");
            }
        }
        Inspected::Igmp(told) | Inspected::Mld(told) => {
            assert!(told.changes().count() <= octets.len());
        }
        _ => {}
    }
    let mut out = [0; toobig::LEN_MAX];
    if let Some(len) = toobig::reply(octets, &ethernet, 1280, &mut out) {
        assert!(Ethernet::parse(&out[..len]).is_ok());
    }
    let mut frame = octets.to_vec();
    offload::complete_partial_checksum(&mut frame, &ethernet);
    mss::clamp(&mut frame, &ethernet, 1280);
    if let Some(ds_field) = ecn::ds_field(&frame, &ethernet) {
        ecn::set(&mut frame, &ethernet, ecn::CE);
        // Headers that are cut off stay as they are.
        let marked = ecn::ds_field(&frame, &ethernet);
        let is_whole = frame.len() >= ethernet.payload_offset + 40;
        assert!(marked == Some(ds_field | ecn::CE) || !is_whole && marked == Some(ds_field));
    }
    assert_eq!(frame.len(), octets.len());
}
