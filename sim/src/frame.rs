//! Frames of the stations. Each carries a marker that no other frame has:
//!
//! ```text
//!  destination 6 | source 6 | [tag 4] | 0x88b5 | magic 8 | number 8 | filler
//!                                              |<---- marker ----->|
//! ```
//!
//! The magic is the same in a whole run, so one search over a message on the wire finds any
//! plaintext in it.

use omni_wire::MacAddr;

/// EtherType for local experiments (IEEE 802).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// Tag protocol id of a VLAN tag (IEEE 802.1Q).
const TPID: [u8; 2] = [0x81, 0];

/// What begins every marker of a run.
pub(crate) type Magic = [u8; 8];

/// The MAC address of a station: locally administered, unicast.
pub(crate) fn station_mac(station: usize) -> MacAddr {
    let [a, b, c, d] = (station as u32).to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

/// The frame with this number.
pub(crate) fn build(
    magic: &Magic,
    number: u64,
    to: MacAddr,
    from: MacAddr,
    vlan: Option<u16>,
    filler: usize,
) -> Vec<u8> {
    let mut frame = Vec::with_capacity(34 + filler);
    frame.extend_from_slice(&to.0);
    frame.extend_from_slice(&from.0);
    if let Some(vlan) = vlan {
        frame.extend_from_slice(&TPID);
        frame.extend_from_slice(&vlan.to_be_bytes());
    }
    frame.extend_from_slice(&ETHERTYPE);
    frame.extend_from_slice(magic);
    frame.extend_from_slice(&number.to_be_bytes());
    frame.extend((0..filler).map(|at| (number as usize).wrapping_mul(31).wrapping_add(at) as u8));
    frame
}

/// The number in the first marker among these octets.
pub(crate) fn number(magic: &Magic, octets: &[u8]) -> Option<u64> {
    let mut rest = octets;
    loop {
        let at = rest.iter().position(|octet| *octet == magic[0])?;
        rest = &rest[at..];
        if rest.starts_with(magic) {
            let number = rest.get(magic.len()..)?.first_chunk()?;
            return Some(u64::from_be_bytes(*number));
        }
        rest = &rest[1..];
    }
}

/// Whether a marker, whole or cut off behind the magic, is among these octets.
pub(crate) fn is_plain(magic: &Magic, octets: &[u8]) -> bool {
    octets.len() >= magic.len()
        && octets[..=octets.len() - magic.len()]
            .iter()
            .enumerate()
            .any(|(at, octet)| *octet == magic[0] && octets[at..].starts_with(magic))
}
