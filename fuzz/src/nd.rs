//! Any octets as an ICMPv6 message between two hosts, with its checksum made right: the checks
//! behind it are reached without guessing it.

use std::net::{IpAddr, Ipv6Addr};

use omni_wire::ethernet::Ethernet;
use omni_wire::inspect::{Inspected, inspect};
use omni_wire::ip::{Ipv6, pseudo_header};
use omni_wire::{MacAddr, answer, checksum, nd};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
/// ICMPv6 (RFC 4443 s.2.1).
const ICMPV6: u8 = 58;

/// Who speaks to whom: what the first octet chooses among.
const SOURCES: [&str; 4] = ["fe80::1", "2001:db8::1", "::", "ff02::1"];
const DESTINATIONS: [&str; 4] = ["ff02::1", "ff02::1:ff00:2", "2001:db8::2", "fe80::2"];

/// Runs the target: an octet that chooses addresses and hop limit, then the message.
pub fn run(octets: &[u8]) {
    let Some((&choice, message)) = octets.split_first() else {
        return;
    };
    let address = |list: [&str; 4], at: u8| -> Ipv6Addr {
        list[usize::from(at % 4)].parse().expect("an address")
    };
    let ip = Ipv6 {
        source: address(SOURCES, choice),
        destination: address(DESTINATIONS, choice >> 2),
        next_header: ICMPV6,
        hop_limit: if choice & 0x40 == 0 { 255 } else { 64 },
        payload_len: message.len(),
    };
    let mut message = message.to_vec();
    if choice & 0x80 == 0 && message.len() >= 4 {
        message[2..4].fill(0);
        let (source, destination) = (IpAddr::V6(ip.source), IpAddr::V6(ip.destination));
        let sum = pseudo_header(source, destination, ICMPV6, message.len());
        let sum = !checksum::fold(checksum::add(sum, &message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let read = nd::parse(&ip, &message);
    let ethernet = [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
    let frame = [&ethernet[..], &ip.emit(), &message].concat();
    let ethernet = Ethernet::parse(&frame).expect("an Ethernet header and more");
    let inspected = inspect(&frame, &ethernet);
    match read {
        Some(nd::Message::Solicitation(request)) => {
            assert_eq!(inspected, Inspected::Solicitation(request));
            assert!(!request.target.is_multicast() && !request.target.is_unspecified());
            answered(&frame, &ethernet, &request);
        }
        Some(nd::Message::Advertisement(told)) => {
            assert_eq!(inspected, Inspected::Advertisement(told));
            assert!(!told.target.is_multicast() && !told.target.is_unspecified());
        }
        Some(nd::Message::RouterAdvertisement) => {
            assert_eq!(inspected, Inspected::RouterAdvertisement);
        }
        Some(nd::Message::Redirect) => assert_eq!(inspected, Inspected::Redirect),
        Some(nd::Message::RouterSolicitation) => assert_eq!(inspected, Inspected::Other),
        // Discovery that is not valid is never taken for something harmless.
        None if message.first().is_some_and(|&kind| nd::is_discovery(kind)) => {
            assert_eq!(inspected, Inspected::Malformed);
        }
        None => {}
    }
}

fn answered(frame: &[u8], ethernet: &Ethernet, request: &nd::Solicitation) {
    let mut frame = [frame, &[0; 96]].concat();
    let len = answer::solicitation(&mut frame, ethernet, request, MAC, false).expect("room");
    let ethernet = Ethernet::parse(&frame[..len]).expect("an answer is a frame");
    match inspect(&frame[..len], &ethernet) {
        Inspected::Advertisement(told) => {
            assert_eq!((told.target, told.link_layer), (request.target, Some(MAC)));
            assert_eq!(told.solicited, !request.is_dad());
        }
        other => panic!("the answer is {other:?}"),
    }
}
