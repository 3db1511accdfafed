//! Any octets as the payload of an ARP frame: read, answered, asked.

use omni_wire::arp::{Arp, Operation};
use omni_wire::ethernet::Ethernet;
use omni_wire::inspect::{Inspected, inspect};
use omni_wire::{MacAddr, answer};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
/// To everyone, from a host, ARP.
const ETHERNET: [u8; 14] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06,
];

/// Runs the target.
pub fn run(octets: &[u8]) {
    let arp = Arp::parse(octets);
    if let Some(arp) = arp {
        assert_eq!(arp.emit(), octets[..28]);
    }
    let mut frame = [&ETHERNET, octets].concat();
    let Ok(ethernet) = Ethernet::parse(&frame) else {
        // A frame has to have a payload.
        assert!(octets.is_empty());
        return;
    };
    match inspect(&frame, &ethernet) {
        Inspected::Arp(request) => {
            assert_eq!(arp, Some(request));
            assert!(answer::arp(&mut frame, &ethernet, &request, MAC));
            let reply = Arp::parse(&frame[14..]).expect("an answer is ARP");
            assert_eq!(reply.operation, Operation::Reply);
            assert_eq!(
                (reply.sender_mac, reply.sender_ip),
                (MAC, request.target_ip)
            );
            assert_eq!(frame.len(), 14 + octets.len());
        }
        other => assert_eq!((other, arp), (Inspected::Malformed, None)),
    }
}
