//! ARP for IPv4 over Ethernet (RFC 826): who has an address, and who says that it has it.
//!
//! ```text
//!  0               2                4     5     6           8
//!  | hardware 1    | protocol 0x0800 | 6  | 4  | operation |
//!  8            14          18           24
//!  | sender MAC  | sender IP | target MAC | target IP |
//! ```
//!
//! Not in here: whether the sender may say so.

use core::net::Ipv4Addr;

use crate::MacAddr;
use crate::ethernet::ETHERTYPE_IPV4;

/// Length of an ARP packet for IPv4 over Ethernet.
pub const ARP_LEN: usize = 28;

/// What an ARP packet for IPv4 over Ethernet begins with: hardware type 1, protocol type, and the
/// lengths of both kinds of addresses.
const PREFIX: [u8; 6] = {
    let [e0, e1] = ETHERTYPE_IPV4.to_be_bytes();
    [0, 1, e0, e1, 6, 4]
};

/// What an ARP packet is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// Asks for the target's MAC address.
    Request,
    /// Tells the sender's MAC address.
    Reply,
}

/// What an ARP packet says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Arp {
    /// Question or answer.
    pub operation: Operation,
    /// The sender's MAC address. Need not be the source of the frame; not judged here.
    pub sender_mac: MacAddr,
    /// The sender's IP address, 0.0.0.0 in a probe.
    pub sender_ip: Ipv4Addr,
    /// The target's MAC address. In a request nobody looks at it.
    pub target_mac: MacAddr,
    /// The target's IP address.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// Reads the payload of a frame whose EtherType is that of ARP. Octets after the packet
    /// (Ethernet padding) are allowed.
    ///
    /// `None` for other hardware than Ethernet, other protocols than IPv4, other operations than
    /// the two, and packets that are cut off. Hardware type 6 (IEEE 802), which Linux takes for
    /// Ethernet, is among what is refused: nobody sends it but to get around checks.
    #[inline]
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let packet: &[u8; ARP_LEN] = payload.first_chunk()?;
        let (prefix, rest) = packet.split_first_chunk::<6>()?;
        let (operation, rest) = rest.split_first_chunk()?;
        let (sender_mac, rest) = rest.split_first_chunk()?;
        let (sender_ip, rest) = rest.split_first_chunk::<4>()?;
        let (target_mac, rest) = rest.split_first_chunk()?;
        let target_ip = rest.first_chunk::<4>()?;
        if *prefix != PREFIX {
            return None;
        }
        Some(Self {
            operation: match u16::from_be_bytes(*operation) {
                1 => Operation::Request,
                2 => Operation::Reply,
                _ => return None,
            },
            sender_mac: MacAddr(*sender_mac),
            sender_ip: Ipv4Addr::from(*sender_ip),
            target_mac: MacAddr(*target_mac),
            target_ip: Ipv4Addr::from(*target_ip),
        })
    }

    /// The packet with these values.
    #[must_use]
    pub fn emit(&self) -> [u8; ARP_LEN] {
        let mut out = [0; ARP_LEN];
        out[..6].copy_from_slice(&PREFIX);
        out[7] = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        out[8..14].copy_from_slice(&self.sender_mac.0);
        out[14..18].copy_from_slice(&self.sender_ip.octets());
        out[18..24].copy_from_slice(&self.target_mac.0);
        out[24..].copy_from_slice(&self.target_ip.octets());
        out
    }

    /// Whether the sender has no address yet and asks whether somebody has the target's
    /// (RFC 5227 s.2.1.1).
    #[inline]
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.sender_ip.is_unspecified()
    }

    /// Whether the sender tells everyone its own address (RFC 5227 s.2.3), as request or reply.
    #[inline]
    #[must_use]
    pub fn is_announcement(&self) -> bool {
        self.sender_ip == self.target_ip
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// As Linux sends it: 10.0.0.1 at 02:00:00:00:00:01 asks for 10.0.0.2.
    const REQUEST: [u8; ARP_LEN] = [
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
    ];

    fn request() -> Arp {
        Arp {
            operation: Operation::Request,
            sender_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            sender_ip: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: MacAddr::ZERO,
            target_ip: Ipv4Addr::new(10, 0, 0, 2),
        }
    }

    #[test]
    fn a_request_is_the_known_one() {
        assert_eq!(Arp::parse(&REQUEST), Some(request()));
        assert_eq!(request().emit(), REQUEST);
        let reply = Arp {
            operation: Operation::Reply,
            ..request()
        };
        assert_eq!(reply.emit()[6..8], [0, 2]);
    }

    #[test]
    fn probes_and_announcements_are_told_by_their_addresses() {
        assert!(!request().is_probe() && !request().is_announcement());
        let probe = Arp {
            sender_ip: Ipv4Addr::UNSPECIFIED,
            ..request()
        };
        assert!(probe.is_probe() && !probe.is_announcement());
        let announcement = Arp {
            target_ip: request().sender_ip,
            ..request()
        };
        assert!(announcement.is_announcement() && !announcement.is_probe());
    }

    #[test]
    fn padding_is_allowed_and_cut_packets_are_refused() {
        let mut padded = Vec::from(REQUEST);
        padded.resize(46, 0);
        assert_eq!(Arp::parse(&padded), Some(request()));
        for len in 0..ARP_LEN {
            assert_eq!(Arp::parse(&REQUEST[..len]), None, "length {len}");
        }
    }

    #[test]
    fn other_hardware_protocols_lengths_and_operations_are_refused() {
        // IEEE 802 hardware (6) is what Linux takes for Ethernet.
        for (at, value) in [
            (0, 1),
            (1, 6),
            (1, 0),
            (2, 0x86),
            (3, 6),
            (4, 8),
            (4, 0),
            (5, 16),
            (5, 0),
            (6, 1),
            (7, 0),
            (7, 3),
            (7, 8),
        ] {
            let mut packet = REQUEST;
            packet[at] = value;
            assert_eq!(Arp::parse(&packet), None, "octet {at} is {value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_emitted_reads_back(
            is_reply: bool,
            sender_mac: [u8; 6],
            sender_ip: [u8; 4],
            target_mac: [u8; 6],
            target_ip: [u8; 4],
        ) {
            let operation = if is_reply { Operation::Reply } else { Operation::Request };
            let arp = Arp {
                operation,
                sender_mac: MacAddr(sender_mac),
                sender_ip: sender_ip.into(),
                target_mac: MacAddr(target_mac),
                target_ip: target_ip.into(),
            };
            prop_assert_eq!(Arp::parse(&arp.emit()), Some(arp));
        }

        #[test]
        fn what_reads_is_what_would_be_emitted(
            rest in proptest::collection::vec(any::<u8>(), 0..40),
            prefix: bool,
            operation in 0u8..4,
        ) {
            let mut octets = Vec::new();
            if prefix {
                octets.extend(PREFIX);
                octets.extend([0, operation]);
            }
            octets.extend(rest);
            if let Some(arp) = Arp::parse(&octets) {
                prop_assert_eq!(&arp.emit()[..], &octets[..ARP_LEN]);
            }
        }
    }
}
