//! ICMPv6 messages (RFC 4443): their types, and the checksum that all of them have.
//!
//! ```text
//!  0      1      2          4
//!  | type | code | checksum | what the type says
//! ```

use core::net::Ipv6Addr;

use crate::checksum;
use crate::ip::{PROTOCOL_ICMPV6, pseudo_header};

/// Packet too big (RFC 4443 s.3.2).
pub const PACKET_TOO_BIG: u8 = 2;
/// Multicast listener query (RFC 2710 s.3, RFC 3810 s.5.1).
pub const LISTENER_QUERY: u8 = 130;
/// Multicast listener report (RFC 2710 s.3).
pub const LISTENER_REPORT: u8 = 131;
/// Multicast listener done (RFC 2710 s.3).
pub const LISTENER_DONE: u8 = 132;
/// Router solicitation (RFC 4861 s.4.1).
pub const ROUTER_SOLICITATION: u8 = 133;
/// Router advertisement (RFC 4861 s.4.2).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbour solicitation (RFC 4861 s.4.3).
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Neighbour advertisement (RFC 4861 s.4.4).
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Redirect (RFC 4861 s.4.5).
pub const REDIRECT: u8 = 137;
/// Multicast listener report, version 2 (RFC 3810 s.5.2).
pub const LISTENER_REPORT_V2: u8 = 143;

/// Where a message has its checksum, 2 octets.
const CHECKSUM: usize = 2;

/// Whether a message is an error and not a request or an answer (RFC 4443 s.2.1).
#[inline]
pub(crate) const fn is_error(kind: u8) -> bool {
    kind < 128
}

/// Whether the checksum of a message between these addresses is right.
#[inline]
pub(crate) fn verifies(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> bool {
    checksum::fold(checksum::add(
        pseudo(source, destination, message.len()),
        message,
    )) == 0xffff
}

/// Writes the checksum of a message between these addresses. Too short a message is left alone.
pub(crate) fn complete(source: Ipv6Addr, destination: Ipv6Addr, message: &mut [u8]) {
    let pseudo = pseudo(source, destination, message.len());
    complete_over(pseudo, message);
}

/// Writes a checksum over a message, where ICMP has it, that covers this running sum as well.
pub(crate) fn complete_over(sum: u64, message: &mut [u8]) {
    if let Some(field) = message.get_mut(CHECKSUM..CHECKSUM + 2) {
        field.fill(0);
        let sum = !checksum::fold(checksum::add(sum, message));
        message[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The running sum of the pseudo-header of a message (RFC 4443 s.2.3).
fn pseudo(source: Ipv6Addr, destination: Ipv6Addr, len: usize) -> u64 {
    pseudo_header(source.into(), destination.into(), PROTOCOL_ICMPV6, len)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_without_data_has_the_checksum_worked_out_by_hand() {
        // 2 * 0x0001 (addresses) + 8 (length) + 58 (protocol) + 0x8000 + 0x1234 + 1 = 0x9279.
        let mut echo = [128, 0, 0xde, 0xad, 0x12, 0x34, 0, 1];
        complete(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, &mut echo);
        assert_eq!(echo[2..4], (!0x9279u16).to_be_bytes());
    }

    proptest! {
        #[test]
        fn a_completed_message_verifies_and_a_changed_one_does_not(
            source: [u8; 16],
            destination: [u8; 16],
            message in proptest::collection::vec(any::<u8>(), 4..200),
            at: proptest::sample::Index,
            bit in 0u8..8,
        ) {
            let (source, destination) = (source.into(), destination.into());
            let mut message = message;
            complete(source, destination, &mut message);
            prop_assert!(verifies(source, destination, &message));
            let at = at.index(message.len());
            message[at] ^= 1 << bit;
            prop_assert!(!verifies(source, destination, &message));
        }

        #[test]
        fn any_octets_are_survived(mut octets: Vec<u8>) {
            let _ = verifies(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, &octets);
            complete(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, &mut octets);
        }
    }
}
