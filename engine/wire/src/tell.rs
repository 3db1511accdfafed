//! Frames that tell hosts where an address is now: an ARP announcement (RFC 5227 s.3) and an
//! unsolicited neighbour advertisement (RFC 4861 s.7.2.6).
//!
//! They come from the MAC address that they tell of, as they would from the host itself. Every
//! function writes a whole frame, tagged where `vlan` is not 0, padded to Ethernet's least length,
//! and gives its length: at most [`LEN_MAX`]. It gives 0 when `out` is shorter.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::MacAddr;
use crate::arp::{Arp, Operation};
use crate::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6};
use crate::ip::{Ipv6, PROTOCOL_ICMPV6};
use crate::limits::{ETHERNET_LEN, IPV6_LEN, VLAN_TAG_LEN};
use crate::nd::{self, Advertisement, NEIGHBOUR_LEN};
use crate::write::Writer;

/// The longest frame that is written here: an advertisement with a tag.
pub const LEN_MAX: usize = ETHERNET_LEN + VLAN_TAG_LEN + IPV6_LEN + NEIGHBOUR_LEN;

/// Tells all hosts that `ip` is at `mac`. Whoever knows the address takes the new place, and
/// nobody answers.
#[must_use]
pub fn arp_announcement(out: &mut [u8], vlan: u16, mac: MacAddr, ip: Ipv4Addr) -> usize {
    let announcement = Arp {
        operation: Operation::Request,
        sender_mac: mac,
        sender_ip: ip,
        target_mac: MacAddr::ZERO,
        target_ip: ip,
    };
    let mut frame = Writer::new(out);
    frame
        .ethernet(MacAddr::BROADCAST, mac, vlan, ETHERTYPE_ARP)
        .and_then(|()| frame.put(&announcement.emit()))
        .and_then(|()| frame.finish())
        .unwrap_or(0)
}

/// The same of an IPv6 address, which must not be link-local: that one may be a router's, and an
/// advertisement that does not say so takes it from the hosts' default routers.
#[must_use]
pub fn advertisement(out: &mut [u8], vlan: u16, mac: MacAddr, ip: Ipv6Addr) -> usize {
    let destination = nd::ALL_NODES;
    let (message, len) = Advertisement {
        source: ip,
        destination,
        target: ip,
        link_layer: Some(mac),
        router: false,
        solicited: false,
        overrides: true,
    }
    .emit();
    let header = Ipv6 {
        source: ip,
        destination,
        next_header: PROTOCOL_ICMPV6,
        hop_limit: nd::HOP_LIMIT,
        payload_len: len,
    };
    let mut frame = Writer::new(out);
    frame
        .ethernet(nd::group_mac(destination), mac, vlan, ETHERTYPE_IPV6)
        .and_then(|()| frame.put(&header.emit()))
        .and_then(|()| frame.put(&message[..len]))
        .and_then(|()| frame.finish())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::inspect::{Inspected, inspect};
    use crate::sample::{self, HOST, HOST_MAC, OTHER_MAC, OTHER_V6, ethernet};

    fn written(write: impl Fn(&mut [u8]) -> usize) -> Vec<u8> {
        sample::written(LEN_MAX, write)
    }

    #[test]
    fn an_arp_announcement_is_the_known_one() {
        let frame = written(|out| arp_announcement(out, 0, OTHER_MAC, HOST));
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 8, 6, //
            0, 1, 8, 0, 6, 4, 0, 1, //
            2, 0, 0, 0, 0, 2, 10, 0, 0, 1, //
            0, 0, 0, 0, 0, 0, 10, 0, 0, 1,
        ];
        assert_eq!(frame[..42], expected);
        assert_eq!(frame[42..], [0; 18]);
        let tagged = written(|out| arp_announcement(out, 0x123, OTHER_MAC, HOST));
        assert_eq!(tagged[12..18], [0x81, 0, 0x01, 0x23, 8, 6]);
        assert_eq!(tagged[18..], frame[14..]);
    }

    #[test]
    fn an_advertisement_replaces_what_hosts_have() {
        for (vlan, len) in [(0, 86), (9, 90)] {
            let frame = written(|out| advertisement(out, vlan, HOST_MAC, OTHER_V6));
            assert_eq!(frame.len(), len);
            let ethernet = ethernet(&frame);
            assert_eq!(
                (ethernet.destination, ethernet.source, ethernet.vlan),
                (MacAddr([0x33, 0x33, 0, 0, 0, 1]), HOST_MAC, vlan)
            );
            let told = Advertisement {
                source: OTHER_V6,
                destination: nd::ALL_NODES,
                target: OTHER_V6,
                link_layer: Some(HOST_MAC),
                router: false,
                solicited: false,
                overrides: true,
            };
            assert_eq!(inspect(&frame, &ethernet), Inspected::Advertisement(told));
        }
    }
}
