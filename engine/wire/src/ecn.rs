//! The octet of DSCP and ECN of an inner packet, and what becomes of congestion marks in a tunnel
//! (RFC 6040).
//!
//! ```text
//!  0      5 6   7
//!  | DSCP  | ECN |      ECN: 0 not capable, 1 ECT(1), 2 ECT(0), 3 CE, "congestion experienced"
//! ```

use crate::checksum;
use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use crate::ip::{IPV4_CHECKSUM, IPV4_DS_FIELD, ipv6_ds_field};
use crate::limits::IPV4_LEN;

/// The bits of the octet that are ECN (RFC 3168 s.5).
pub const ECN_MASK: u8 = 0x03;
/// The sender cannot be told of congestion but by losses.
pub const NOT_ECT: u8 = 0;
/// The sender can be told, and says so in the second way (RFC 9331).
pub const ECT_1: u8 = 1;
/// The sender can be told, and says so in the first way.
pub const ECT_0: u8 = 2;
/// Somebody on the way was congested.
pub const CE: u8 = 3;

/// The octet of the packet in a frame: TOS of IPv4, traffic class of IPv6. `None` for other frames.
#[inline]
#[must_use]
pub fn ds_field(frame: &[u8], ethernet: &Ethernet) -> Option<u8> {
    let packet = frame.get(ethernet.payload_offset..)?;
    match (ethernet.ethertype, packet.first()? >> 4) {
        (ETHERTYPE_IPV4, 4) => packet.get(IPV4_DS_FIELD).copied(),
        (ETHERTYPE_IPV6, 6) => ipv6_ds_field(packet),
        _ => None,
    }
}

/// The ECN of a packet that leaves a tunnel, by its own and that of the packet around it
/// (RFC 6040 figure 4). Of both only the ECN bits are looked at.
///
/// `None`: it was congested and the sender cannot be told otherwise than by dropping the packet.
#[inline]
#[must_use]
pub const fn decapsulate(inner: u8, outer: u8) -> Option<u8> {
    match (inner & ECN_MASK, outer & ECN_MASK) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (CE, _) | (_, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// Writes the ECN of the packet in a frame, of which the two lowest bits are taken. Other frames,
/// and headers that are cut off, stay as they are.
#[inline]
pub fn set(frame: &mut [u8], ethernet: &Ethernet, ecn: u8) {
    let ecn = ecn & ECN_MASK;
    let Some(packet) = frame.get_mut(ethernet.payload_offset..) else {
        return;
    };
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => set_ipv4(packet, ecn),
        ETHERTYPE_IPV6 => set_ipv6(packet, ecn),
        _ => {}
    }
}

fn set_ipv4(packet: &mut [u8], ecn: u8) {
    let Some(header) = packet.first_chunk_mut::<IPV4_LEN>() else {
        return;
    };
    let [version, ds_field] = [header[0], header[IPV4_DS_FIELD]];
    if version >> 4 != 4 {
        return;
    }
    let changed = ds_field & !ECN_MASK | ecn;
    let sum = u16::from_be_bytes([header[IPV4_CHECKSUM], header[IPV4_CHECKSUM + 1]]);
    let word = |ds_field: u8| u16::from_be_bytes([version, ds_field]);
    let sum = checksum::replace(sum, word(ds_field), word(changed));
    header[IPV4_DS_FIELD] = changed;
    header[IPV4_CHECKSUM..IPV4_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
}

fn set_ipv6(packet: &mut [u8], ecn: u8) {
    // The traffic class lies across the octets: its last two bits are 4 and 5 of the second.
    if let Some([first, second]) = packet.first_chunk_mut::<2>()
        && *first >> 4 == 6
    {
        *second = *second & !(ECN_MASK << 4) | ecn << 4;
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::ip::{Ipv4, Ipv6, PROTOCOL_TCP};

    /// A frame with this octet, with `tags` tags.
    fn frame(v6: bool, tags: usize, ds_field: u8) -> Vec<u8> {
        let mut octets = Vec::from([2; 12]);
        octets.extend([0x81, 0, 0, 9].repeat(tags));
        if v6 {
            octets.extend(ETHERTYPE_IPV6.to_be_bytes());
            let ip = Ipv6 {
                source: [0xfd; 16].into(),
                destination: [0xfe; 16].into(),
                next_header: PROTOCOL_TCP,
                hop_limit: 64,
                payload_len: 20,
            };
            let mut header = ip.emit();
            header[0] |= ds_field >> 4;
            header[1] = ds_field << 4 | 0x0a;
            header[2] = 0xbc;
            octets.extend(header);
        } else {
            octets.extend(ETHERTYPE_IPV4.to_be_bytes());
            let ip = Ipv4 {
                source: [10, 0, 0, 1].into(),
                destination: [10, 0, 0, 2].into(),
                protocol: PROTOCOL_TCP,
                ttl: 64,
                dont_fragment: true,
                fragment: false,
                header_len: IPV4_LEN,
                total_len: IPV4_LEN + 20,
            };
            let mut header = ip.emit();
            header[1] = ds_field;
            header[10..12].fill(0);
            let sum = !checksum::fold(checksum::add(0, &header));
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            octets.extend(header);
        }
        octets.extend([0x77; 20]);
        octets
    }

    #[test]
    fn marks_leave_a_tunnel_as_figure_4_says() {
        let figure = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE); 4]),
        ];
        for (inner, row) in figure {
            for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                assert_eq!(decapsulate(inner, outer), expected, "{inner} in {outer}");
                let dscp = |ecn: u8| 0xb8 | ecn;
                assert_eq!(decapsulate(dscp(inner), dscp(outer)), expected);
            }
        }
    }

    #[test]
    fn every_value_reads_back_and_every_mark_is_written() {
        for value in 0..=u8::MAX {
            for (v6, tags) in [(false, 0), (true, 0), (false, 1), (true, 2)] {
                let octets = frame(v6, tags, value);
                let ethernet = Ethernet::parse(&octets).expect("whole headers");
                assert_eq!(ds_field(&octets, &ethernet), Some(value));
                for ecn in 0..4 {
                    let mut marked = octets.clone();
                    set(&mut marked, &ethernet, ecn | 0xfc);
                    assert_eq!(marked, frame(v6, tags, value & 0xfc | ecn));
                }
            }
        }
    }

    #[test]
    fn other_frames_have_no_such_octet_and_stay() {
        let mut arp = frame(false, 0, 0xff);
        arp[13] = 0x06;
        let mut version = frame(false, 0, 0xff);
        version[14] = 0x55;
        let mut version_v6 = frame(true, 0, 0xff);
        version_v6[14] = 0x4f;
        for mut octets in [arp, version, version_v6] {
            let ethernet = Ethernet::parse(&octets).expect("whole headers");
            let before = octets.clone();
            assert_eq!(ds_field(&octets, &ethernet), None);
            set(&mut octets, &ethernet, CE);
            assert_eq!(octets, before);
        }
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let mut octets = frame(false, 0, 0);
        octets[24] ^= 0x40;
        let ethernet = Ethernet::parse(&octets).expect("whole headers");
        set(&mut octets, &ethernet, CE);
        assert_ne!(checksum::fold(checksum::add(0, &octets[14..34])), 0xffff);
    }

    proptest! {
        #[test]
        fn any_octets_are_survived(mut octets: Vec<u8>, at in 0usize..70, v6: bool, ecn: u8) {
            let ethertype = if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
            let ethernet = Ethernet {
                destination: crate::MacAddr::ZERO,
                source: crate::MacAddr::ZERO,
                vlan: 0,
                tags: 0,
                ethertype,
                payload_offset: at,
            };
            if let Some(first) = octets.get_mut(at) {
                *first = if v6 { 0x60 } else { 0x45 };
            }
            let before = ds_field(&octets, &ethernet);
            set(&mut octets, &ethernet, ecn);
            let after = ds_field(&octets, &ethernet);
            prop_assert_eq!(before.map(|ds| ds & !ECN_MASK), after.map(|ds| ds & !ECN_MASK));
        }
    }
}
