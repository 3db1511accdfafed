//! Inner Ethernet frames: addresses, VLAN, and where the payload begins.
//!
//! ```text
//!  0             6        12     14
//!  | destination | source | type | payload                            untagged
//!  | destination | source | TPID TCI | type | payload                 tagged
//!  | destination | source | TPID TCI | TPID TCI | type | payload      tagged twice
//! ```
//!
//! A tag whose VLAN id is 0 carries a priority only (IEEE 802.1Q s.9.6): the frame belongs to the
//! untagged VLAN. Not in here: who may send from which address.

use crate::limits::{ETHERNET_LEN, VLAN_TAG_LEN};
use crate::{DropReason, MacAddr};

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// Tag protocol id of a customer VLAN tag (IEEE 802.1Q).
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Tag protocol id of a service VLAN tag (IEEE 802.1ad).
pub const ETHERTYPE_QINQ: u16 = 0x88a8;

/// The bits of a tag that are its VLAN id.
const VID_MASK: u16 = 0x0fff;

/// The VLAN id that IEEE 802.1Q reserves (table 9-2).
const VID_RESERVED: u16 = 0x0fff;

/// What the headers of a frame say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ethernet {
    /// To whom.
    pub destination: MacAddr,
    /// From whom. Not judged here, see [`source_is_valid`].
    pub source: MacAddr,
    /// The outermost VLAN id, 0 for untagged and priority-tagged frames. Never 4095.
    pub vlan: u16,
    /// How many VLAN tags there are: 0, 1 or 2.
    pub tags: u8,
    /// What the payload is; below 1536 a length (IEEE 802.3 s.3.2.6). Never a tag protocol id.
    pub ethertype: u16,
    /// Where the payload begins, counted from the destination address: 14, 18 or 22.
    pub payload_offset: usize,
}

impl Ethernet {
    /// Reads the headers of a frame that begins with its destination address and has no FCS.
    ///
    /// # Errors
    /// [`DropReason::InnerTooShort`] when the header or a tag is cut off;
    /// [`DropReason::VlanInvalid`] for VLAN id 4095 in any tag, 0 in either of two tags, or more
    /// than two tags.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, DropReason> {
        let (destination, rest) = frame.split_first_chunk().ok_or(DropReason::InnerTooShort)?;
        let (source, rest) = rest.split_first_chunk().ok_or(DropReason::InnerTooShort)?;
        let ethertype = rest.first_chunk().ok_or(DropReason::InnerTooShort)?;
        let ethertype = u16::from_be_bytes(*ethertype);
        // The value is built in one place only. Were it built untagged first and then changed, the
        // copy would read in wide words what was just written in narrow ones, and stall on it.
        let tags = if is_tag(ethertype) {
            Tags::parse(frame)?
        } else {
            Tags::none(ethertype)
        };
        Ok(Self {
            destination: MacAddr(*destination),
            source: MacAddr(*source),
            vlan: tags.vlan,
            tags: tags.count,
            ethertype: tags.ethertype,
            payload_offset: ETHERNET_LEN + usize::from(tags.count) * VLAN_TAG_LEN,
        })
    }
}

/// What lies between the addresses and the payload.
struct Tags {
    /// The outermost VLAN id, 0 without.
    vlan: u16,
    /// How many.
    count: u8,
    /// The EtherType after them.
    ethertype: u16,
}

impl Tags {
    /// No tag before this EtherType.
    #[inline]
    const fn none(ethertype: u16) -> Self {
        Self {
            vlan: 0,
            count: 0,
            ethertype,
        }
    }

    /// Reads the tags of a frame whose first tag protocol id was found.
    fn parse(frame: &[u8]) -> Result<Self, DropReason> {
        let (outer, ethertype) = tag_at(frame, ETHERNET_LEN)?;
        if !is_tag(ethertype) {
            return Ok(Self {
                vlan: outer,
                count: 1,
                ethertype,
            });
        }
        let (inner, ethertype) = tag_at(frame, ETHERNET_LEN + VLAN_TAG_LEN)?;
        if outer == 0 || inner == 0 || is_tag(ethertype) {
            return Err(DropReason::VlanInvalid);
        }
        Ok(Self {
            vlan: outer,
            count: 2,
            ethertype,
        })
    }
}

/// Whether a station may send from this address: it is neither a group's nor nobody's.
#[inline]
#[must_use]
pub fn source_is_valid(source: MacAddr) -> bool {
    !source.is_multicast() && !source.is_zero()
}

/// Whether bridges keep frames to this address on their link: 01-80-C2-00-00-00 to -0F, those of
/// spanning tree, LLDP, LACP, pause and 802.1X (IEEE 802.1Q s.8.6.3).
#[inline]
#[must_use]
pub fn is_reserved(destination: MacAddr) -> bool {
    let [prefix @ .., last] = destination.0;
    prefix == [0x01, 0x80, 0xc2, 0, 0] && last < 0x10
}

/// Whether a VLAN tag follows this EtherType.
#[inline]
const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ)
}

/// The VLAN id of the tag whose control information is at `offset`, and the EtherType after it.
fn tag_at(frame: &[u8], offset: usize) -> Result<(u16, u16), DropReason> {
    let &[c0, c1, t0, t1] = frame
        .get(offset..)
        .and_then(<[u8]>::first_chunk::<VLAN_TAG_LEN>)
        .ok_or(DropReason::InnerTooShort)?;
    let vid = u16::from_be_bytes([c0, c1]) & VID_MASK;
    if vid == VID_RESERVED {
        return Err(DropReason::VlanInvalid);
    }
    Ok((vid, u16::from_be_bytes([t0, t1])))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const DESTINATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const SOURCE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    /// A frame with these tags (protocol id, control information), then EtherType and 46 octets.
    fn frame(tags: &[(u16, u16)], ethertype: u16) -> Vec<u8> {
        let mut octets = Vec::from(DESTINATION.0);
        octets.extend(SOURCE.0);
        for (tpid, tci) in tags {
            octets.extend(tpid.to_be_bytes());
            octets.extend(tci.to_be_bytes());
        }
        octets.extend(ethertype.to_be_bytes());
        octets.extend([0x55; 46]);
        octets
    }

    fn parsed(vlan: u16, tags: u8, ethertype: u16) -> Ethernet {
        Ethernet {
            destination: DESTINATION,
            source: SOURCE,
            vlan,
            tags,
            ethertype,
            payload_offset: ETHERNET_LEN + usize::from(tags) * VLAN_TAG_LEN,
        }
    }

    #[test]
    fn every_ethertype_but_the_two_of_tags_is_untagged() {
        for ethertype in 0..=u16::MAX {
            let octets = frame(&[], ethertype);
            if is_tag(ethertype) {
                assert_eq!(Ethernet::parse(&octets).map(|e| e.tags), Ok(1));
            } else {
                assert_eq!(Ethernet::parse(&octets), Ok(parsed(0, 0, ethertype)));
            }
        }
    }

    #[test]
    fn one_tag_with_every_vlan_id_and_priority() {
        for tpid in [ETHERTYPE_VLAN, ETHERTYPE_QINQ] {
            for tci in 0..=u16::MAX {
                let result = Ethernet::parse(&frame(&[(tpid, tci)], ETHERTYPE_IPV4));
                let expected = match tci & 0x0fff {
                    4095 => Err(DropReason::VlanInvalid),
                    vid => Ok(parsed(vid, 1, ETHERTYPE_IPV4)),
                };
                assert_eq!(result, expected, "{tpid:04x} {tci:04x}");
            }
        }
    }

    #[test]
    fn two_tags_with_every_vlan_id_in_either() {
        for other in [0, 1, 100, 4094, 4095] {
            for vid in 0..=4095 {
                for (outer, inner) in [(vid, other), (other, vid)] {
                    let tags = [(ETHERTYPE_QINQ, outer | 0xe000), (ETHERTYPE_VLAN, inner)];
                    let result = Ethernet::parse(&frame(&tags, ETHERTYPE_ARP));
                    let carried = (1..4095).contains(&outer) && (1..4095).contains(&inner);
                    let expected = if carried {
                        Ok(parsed(outer, 2, ETHERTYPE_ARP))
                    } else {
                        Err(DropReason::VlanInvalid)
                    };
                    assert_eq!(result, expected, "outer {outer} inner {inner}");
                }
            }
        }
    }

    #[test]
    fn a_third_tag_is_refused() {
        let tags = [
            (ETHERTYPE_QINQ, 10),
            (ETHERTYPE_VLAN, 20),
            (ETHERTYPE_VLAN, 30),
        ];
        assert_eq!(
            Ethernet::parse(&frame(&tags, 0x0800)),
            Err(DropReason::VlanInvalid)
        );
    }

    #[test]
    fn cut_off_headers_are_too_short_at_every_length() {
        for count in 0..=2 {
            let tags = [(ETHERTYPE_VLAN, 10); 2];
            let octets = frame(&tags[..count], ETHERTYPE_IPV6);
            let headers = ETHERNET_LEN + count * VLAN_TAG_LEN;
            for len in 0..headers {
                assert_eq!(
                    Ethernet::parse(&octets[..len]),
                    Err(DropReason::InnerTooShort)
                );
            }
            assert_eq!(
                Ethernet::parse(&octets[..headers]).map(|e| e.payload_offset),
                Ok(headers)
            );
        }
    }

    #[test]
    fn sixteen_group_addresses_stay_on_their_link() {
        for last in 0..=u8::MAX {
            let group = MacAddr([0x01, 0x80, 0xc2, 0, 0, last]);
            assert_eq!(is_reserved(group), last < 16, "{group}");
        }
        assert!(!is_reserved(MacAddr([0x01, 0x80, 0xc2, 0, 1, 0])));
        assert!(!is_reserved(MacAddr([0x00, 0x80, 0xc2, 0, 0, 0])));
        assert!(!is_reserved(MacAddr::BROADCAST));
    }

    #[test]
    fn group_and_zero_addresses_are_no_sources() {
        assert!(source_is_valid(SOURCE));
        assert!(!source_is_valid(MacAddr::ZERO));
        assert!(!source_is_valid(MacAddr::BROADCAST));
        assert!(!source_is_valid(MacAddr([3, 0, 0, 0, 0, 1])));
    }

    proptest! {
        #[test]
        fn any_octets_give_consistent_values_or_a_reason(
            mut octets in proptest::collection::vec(any::<u8>(), 0..40),
            first in any::<bool>(),
            second in any::<bool>(),
        ) {
            for (present, at) in [(first, 12), (second, 16)] {
                if let (true, Some(tpid)) = (present, octets.get_mut(at..at + 2)) {
                    tpid.copy_from_slice(&ETHERTYPE_VLAN.to_be_bytes());
                }
            }
            if let Ok(ethernet) = Ethernet::parse(&octets) {
                prop_assert!(ethernet.payload_offset <= octets.len());
                prop_assert!(ethernet.vlan < 4095 && ethernet.tags <= 2);
                prop_assert!(!is_tag(ethernet.ethertype));
            }
        }
    }
}
