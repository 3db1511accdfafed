//! Every number of the protocol: lengths, limits and timers, each with its reason.
//!
//! "Section" refers to the wire protocol's document. Lengths are in octets.

use core::time::Duration;

/// UDP port of a fabric where none is configured (section 1).
pub const DEFAULT_PORT: u16 = 51820;

/// The version that messages without a session carry in octets 6 and 7 (section 1).
pub const PROTOCOL_VERSION: u16 = 1;

/// Length of what every message begins with: session id, type, flags, lane or version (section 1).
pub const PREFIX_LEN: usize = 8;

/// Length of the part of the data header that the tag authenticates as it is (section 2).
pub const AAD_LEN: usize = PREFIX_LEN + 8;

/// Length of a Poly1305 tag (RFC 8439 s.2.5).
pub const TAG_LEN: usize = 16;

/// Length of the OmniNervous header before a sealed frame (section 2).
pub const HEADER_LEN: usize = AAD_LEN + TAG_LEN;

/// How far behind the newest nonce of its lane a message may be, in messages (section 2).
///
/// At 1 Mpps on one lane this spans 8 ms of reordering.
pub const REPLAY_WINDOW: u64 = 8192;

/// The most lanes that a node may announce (section 2).
pub const MAX_LANES: u16 = 256;

/// How many frames per peer are staged, at the least, while a first handshake runs (section 2).
pub const STAGED_MIN: usize = 64;

/// Age of a session from which its initiator starts the next handshake (section 4).
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);

/// Age of a session from which nothing is sent or accepted in it any more (section 4).
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);

/// Messages on any lane of a session after which a handshake is started (section 4).
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;

/// The first nonce that is neither sent nor accepted: 2^64 - 2^13 - 1 (section 4).
///
/// The distance to the end of the counter is a replay window, so that window arithmetic on
/// accepted nonces cannot overflow.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// Time without an answer after which an initiation is sent again, before jitter (section 4).
pub const HANDSHAKE_RETRY: Duration = Duration::from_secs(5);

/// The most that is added at random to [`HANDSHAKE_RETRY`], so that two nodes that start together
/// do not go on colliding (section 4).
pub const HANDSHAKE_JITTER: Duration = Duration::from_millis(333);

/// Time after which a handshake without an answer is given up (section 4).
pub const HANDSHAKE_GIVE_UP: Duration = Duration::from_secs(90);

/// Time after receiving without having sent anything, after which a keepalive goes out (section 4).
pub const KEEPALIVE: Duration = Duration::from_secs(10);

/// Time after the last new session with a peer, after which all keys with it are erased
/// (section 4): three times [`REJECT_AFTER_TIME`].
pub const ERASE_AFTER: Duration = Duration::from_secs(540);

/// Age from which a cookie, and the secret that made it, are not used any more (section 3).
pub const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

/// How far ahead of the responder's clock an initiation's timestamp may be (section 3).
///
/// Without a limit one initiation from a clock far ahead would lock its owner out until then.
pub const TIMESTAMP_MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// Length of an Ethernet header without tags (IEEE 802.3).
pub const ETHERNET_LEN: usize = 14;

/// Length of one VLAN tag (IEEE 802.1Q s.9.3).
pub const VLAN_TAG_LEN: usize = 4;

/// Length of an IPv4 header without options (RFC 791 s.3.1).
pub const IPV4_LEN: usize = 20;

/// Length of an IPv6 header (RFC 8200 s.3).
pub const IPV6_LEN: usize = 40;

/// Length of a UDP header (RFC 768).
pub const UDP_LEN: usize = 8;

/// Outer headers over IPv4: untagged Ethernet, IPv4, UDP.
pub const OUTER_IPV4: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN;

/// Outer headers over IPv6: untagged Ethernet, IPv6, UDP.
pub const OUTER_IPV6: usize = ETHERNET_LEN + IPV6_LEN + UDP_LEN;

/// The longest outer headers: IPv6 in a tagged frame.
pub const OUTER_MAX: usize = OUTER_IPV6 + VLAN_TAG_LEN;

/// All that goes before an inner frame over IPv4, without an outer VLAN tag.
pub const ENCAP_IPV4: usize = OUTER_IPV4 + HEADER_LEN;

/// All that goes before an inner frame over IPv6, without an outer VLAN tag.
pub const ENCAP_IPV6: usize = OUTER_IPV6 + HEADER_LEN;

/// The most that goes before an inner frame: the headroom that egress needs.
pub const ENCAP_MAX: usize = OUTER_MAX + HEADER_LEN;

/// The longest inner frame that fits into a UDP datagram of either family, whatever the MTU: IPv4
/// counts its own header in 16 bits.
pub const MAX_INNER_FRAME: usize = u16::MAX as usize - IPV4_LEN - UDP_LEN - HEADER_LEN;

/// The IP MTU of an access port over an underlay of this IP MTU, in octets; 0 when nothing is left.
///
/// The outer IP packet holds IP and UDP headers, our header, the inner Ethernet header and the
/// inner IP packet. An outer Ethernet header is not part of an MTU but an inner one is payload;
/// both are 14 octets, so what is lost equals [`ENCAP_IPV4`] or [`ENCAP_IPV6`]. Each inner VLAN
/// tag takes [`VLAN_TAG_LEN`] more.
#[must_use]
pub const fn inner_mtu(underlay_mtu: u32, ipv6: bool) -> u32 {
    let lost = if ipv6 { ENCAP_IPV6 } else { ENCAP_IPV4 };
    underlay_mtu.saturating_sub(lost as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composed_lengths_are_those_of_the_document() {
        assert_eq!((PREFIX_LEN, AAD_LEN, TAG_LEN, HEADER_LEN), (8, 16, 16, 32));
        assert_eq!((OUTER_IPV4, OUTER_IPV6, OUTER_MAX), (42, 62, 66));
        assert_eq!((ENCAP_IPV4, ENCAP_IPV6, ENCAP_MAX), (74, 94, 98));
    }

    #[test]
    fn first_refused_nonce_leaves_a_window_below_the_end() {
        let spec = (1u128 << 64) - (1 << 13) - 1;
        assert_eq!(u128::from(REJECT_AFTER_MESSAGES), spec);
        assert!(REJECT_AFTER_MESSAGES.checked_add(REPLAY_WINDOW).is_some());
    }

    #[test]
    fn inner_mtu_is_what_the_underlay_leaves() {
        assert_eq!(inner_mtu(1500, false), 1426);
        assert_eq!(inner_mtu(1500, true), 1406);
        assert_eq!(inner_mtu(9000, false), 8926);
        assert_eq!(inner_mtu(9000, true), 8906);
        assert_eq!(inner_mtu(74, false), 0);
        assert_eq!(inner_mtu(0, true), 0);
    }

    #[test]
    fn keys_outlive_the_sessions_they_belong_to() {
        assert_eq!(ERASE_AFTER, REJECT_AFTER_TIME * 3);
        assert!(REKEY_AFTER_TIME + HANDSHAKE_RETRY < REJECT_AFTER_TIME);
    }
}
