//! Frames of the stations. Each carries a marker that no other frame has:
//!
//! ```text
//!  destination 6 | source 6 | [tag 4] | 0x88b5 | magic 8 | number 8 | filler
//!                                              |<---- marker ----->|
//! ```
//!
//! The magic is the same in a whole run, so one search over a message on the wire finds any
//! plaintext in it. ARP messages have their marker where Ethernet pads them. They are written and
//! read by hand, so that the model owes nothing to the code that it judges.

use omni_wire::MacAddr;

/// EtherType for local experiments (IEEE 802).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// Tag protocol id of a VLAN tag (IEEE 802.1Q).
const TPID: [u8; 2] = [0x81, 0];

/// EtherType of ARP.
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
/// What an ARP message for IPv4 over Ethernet begins with.
const ARP_PREFIX: [u8; 7] = [0, 1, 8, 0, 6, 4, 0];
/// Octets of an ARP message.
const ARP_LEN: usize = 28;
/// Octets that Ethernet frames have at least, without their checksum.
const FRAME_MIN: usize = 60;

/// What begins every marker of a run.
pub(crate) type Magic = [u8; 8];

/// The MAC address of a station: locally administered, unicast. `generation` counts how often it
/// got another one.
pub(crate) fn station_mac(station: usize, generation: u8) -> MacAddr {
    let [_, b, c, d] = (station as u32).to_be_bytes();
    MacAddr([2, 0, generation, b, c, d])
}

/// Which station may have this MAC address, or had it.
pub(crate) fn station_of(mac: MacAddr) -> Option<usize> {
    match mac.0 {
        [2, 0, _, b, c, d] => Some(u32::from_be_bytes([0, b, c, d]) as usize),
        _ => None,
    }
}

/// The IPv4 address of a station in a VLAN.
pub(crate) fn station_ip(station: usize, vlan: u16) -> [u8; 4] {
    (0x0a00_0000 | u32::from(vlan) << 12 | station as u32).to_be_bytes()
}

/// Whose address this is.
pub(crate) fn station_with(ip: [u8; 4]) -> usize {
    (u32::from_be_bytes(ip) & 0xfff) as usize
}

/// An ARP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arp {
    pub(crate) request: bool,
    pub(crate) sender_mac: MacAddr,
    pub(crate) sender_ip: [u8; 4],
    pub(crate) target_mac: MacAddr,
    pub(crate) target_ip: [u8; 4],
}

/// The frame with this number, with an ARP message in it.
pub(crate) fn build_arp(
    magic: &Magic,
    number: u64,
    to: MacAddr,
    from: MacAddr,
    vlan: Option<u16>,
    arp: &Arp,
) -> Vec<u8> {
    let mut frame = addresses(to, from, vlan);
    frame.extend_from_slice(&ETHERTYPE_ARP);
    put_arp(&mut frame, arp);
    frame.extend_from_slice(magic);
    frame.extend_from_slice(&number.to_be_bytes());
    frame.resize(frame.len().max(FRAME_MIN), 0);
    frame
}

fn put_arp(frame: &mut Vec<u8>, arp: &Arp) {
    frame.extend_from_slice(&ARP_PREFIX);
    frame.push(if arp.request { 1 } else { 2 });
    frame.extend_from_slice(&arp.sender_mac.0);
    frame.extend_from_slice(&arp.sender_ip);
    frame.extend_from_slice(&arp.target_mac.0);
    frame.extend_from_slice(&arp.target_ip);
}

/// Where a frame's payload begins, behind its EtherType: there is at most one tag.
fn payload(frame: &[u8]) -> usize {
    if frame[12..14] == TPID { 18 } else { 14 }
}

/// The VLAN of a frame, 0 without a tag.
pub(crate) fn vlan(frame: &[u8]) -> u16 {
    if frame[12..14] == TPID {
        u16::from_be_bytes([frame[14], frame[15]]) & 0xfff
    } else {
        0
    }
}

/// The address that begins at `at`.
pub(crate) fn mac_at(octets: &[u8], at: usize) -> MacAddr {
    let mut mac = [0; 6];
    mac.copy_from_slice(&octets[at..at + 6]);
    MacAddr(mac)
}

/// The ARP message in a frame, if it is one.
pub(crate) fn read_arp(frame: &[u8]) -> Option<Arp> {
    let start = payload(frame);
    let message = frame.get(start..start + ARP_LEN)?;
    if frame[start - 2..start] != ETHERTYPE_ARP || !message.starts_with(&ARP_PREFIX) {
        return None;
    }
    let ip_at = |at: usize| [0, 1, 2, 3].map(|more| message[at + more]);
    Some(Arp {
        request: message[7] == 1,
        sender_mac: mac_at(message, 8),
        sender_ip: ip_at(14),
        target_mac: mac_at(message, 18),
        target_ip: ip_at(24),
    })
}

/// The frame that answers a request, as the frame that asked becomes it: all but the addresses
/// and the message is as it was.
pub(crate) fn answer_to(asked: &[u8], request: &Arp, mac: MacAddr) -> Vec<u8> {
    let start = payload(asked);
    let reply = Arp {
        request: false,
        sender_mac: mac,
        sender_ip: request.target_ip,
        target_mac: request.sender_mac,
        target_ip: request.sender_ip,
    };
    let mut frame = Vec::with_capacity(asked.len());
    frame.extend_from_slice(&asked[6..12]);
    frame.extend_from_slice(&mac.0);
    frame.extend_from_slice(&asked[12..start]);
    put_arp(&mut frame, &reply);
    frame.extend_from_slice(&asked[start + ARP_LEN..]);
    frame
}

fn addresses(to: MacAddr, from: MacAddr, vlan: Option<u16>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_MIN + 4);
    frame.extend_from_slice(&to.0);
    frame.extend_from_slice(&from.0);
    if let Some(vlan) = vlan {
        frame.extend_from_slice(&TPID);
        frame.extend_from_slice(&vlan.to_be_bytes());
    }
    frame
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
    let mut frame = addresses(to, from, vlan);
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

/// Whether any part of a text of some length, but for runs of one octet, is among these octets.
pub(crate) fn shows(text: &[u8], octets: &[u8]) -> bool {
    let parts = text.chunks_exact(PART).take(PARTS);
    let mut parts = parts.filter(|part| part.iter().any(|octet| *octet != part[0]));
    parts.any(|part| octets.windows(PART).any(|window| window == part))
}

/// Octets that are found by chance in no message.
const PART: usize = 8;
/// Parts that are looked for.
const PARTS: usize = 4;
