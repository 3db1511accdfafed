//! Neighbour discovery for IPv6 (RFC 4861): who has an address, and who says that it has it.
//!
//! ```text
//!  0      1      2          4                         8        24
//!  | type | code | checksum | reserved, or R S O flags | target | options ...     135 and 136
//!
//!  0      1                      2                                            8 * length
//!  | type | length in 8 octets   | for type 1 and 2 and Ethernet: a MAC address |  an option
//! ```
//!
//! A message is judged as a receiver must (RFC 4861 s.6.1, s.7.1, s.8.1), and one that hosts may
//! read differently is refused. Not in here: whether the sender may say so.

use core::net::Ipv6Addr;

use crate::MacAddr;
use crate::icmpv6::{
    NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, REDIRECT, ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION, complete, verifies,
};
use crate::ip::Ipv6;

/// Hop limit of every message: what was not forwarded by any router has it (RFC 4861 s.3.1).
pub(crate) const HOP_LIMIT: u8 = 255;

/// Length of a solicitation or an advertisement with one link-layer address.
pub(crate) const NEIGHBOUR_LEN: usize = TARGET_END + OPTION_LEN;

/// All nodes of the link (RFC 4291 s.2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What the solicited-node addresses begin with, in 104 bits (RFC 4291 s.2.7.1).
const SOLICITED_NODE: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;

/// Where the target's address ends, and options begin.
const TARGET_END: usize = 24;
/// Length of an option with a MAC address: one unit of 8 octets (RFC 2464 s.6).
const OPTION_LEN: usize = 8;
/// Option: link-layer address of the sender (RFC 4861 s.4.6.1).
const SOURCE_LINK_LAYER: u8 = 1;
/// Option: link-layer address of the target.
const TARGET_LINK_LAYER: u8 = 2;

/// Flags of an advertisement, in octet 4 (RFC 4861 s.4.4).
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A neighbour solicitation: asks for the target's MAC address, or whether it is still there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Solicitation {
    /// Who asks; unspecified for duplicate address detection. Never multicast.
    pub source: Ipv6Addr,
    /// Whom it is about. Never multicast or unspecified.
    pub target: Ipv6Addr,
    /// The MAC address that the sender says it has. Need not be the source of the frame.
    pub link_layer: Option<MacAddr>,
}

impl Solicitation {
    /// Whether the sender has no address yet and asks whether somebody has the target's
    /// (RFC 4862 s.5.4.2).
    #[inline]
    #[must_use]
    pub const fn is_dad(&self) -> bool {
        self.source.is_unspecified()
    }

    /// The ICMPv6 message to this destination, with the option if there is an address.
    ///
    /// Gives the octets and how many of them are the message.
    pub(crate) fn emit(&self, destination: Ipv6Addr) -> ([u8; NEIGHBOUR_LEN], usize) {
        let option = self.link_layer.map(|mac| (SOURCE_LINK_LAYER, mac));
        let kind = NEIGHBOUR_SOLICITATION;
        emit(kind, 0, self.source, destination, self.target, option)
    }
}

/// A neighbour advertisement: tells the target's MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Advertisement {
    /// Who tells. Never multicast.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// Whom it is about. Never multicast or unspecified.
    pub target: Ipv6Addr,
    /// The target's MAC address. Need not be the source of the frame.
    pub link_layer: Option<MacAddr>,
    /// Whether the sender is a router.
    pub router: bool,
    /// Whether it answers a solicitation. Never to a group.
    pub solicited: bool,
    /// Whether it replaces what neighbours have.
    pub overrides: bool,
}

impl Advertisement {
    /// The ICMPv6 message, with the option if there is an address.
    ///
    /// Gives the octets and how many of them are the message.
    pub(crate) fn emit(&self) -> ([u8; NEIGHBOUR_LEN], usize) {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(self.router, ROUTER)
            | flag(self.solicited, SOLICITED)
            | flag(self.overrides, OVERRIDE);
        emit(
            NEIGHBOUR_ADVERTISEMENT,
            flags,
            self.source,
            self.destination,
            self.target,
            self.link_layer.map(|mac| (TARGET_LINK_LAYER, mac)),
        )
    }
}

/// A valid message of neighbour discovery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Asks for routers.
    RouterSolicitation,
    /// A router tells that it is one, and with it the prefixes of the link.
    RouterAdvertisement,
    /// Asks for a neighbour.
    Solicitation(Solicitation),
    /// Tells of a neighbour.
    Advertisement(Advertisement),
    /// A router tells of a better way.
    Redirect,
}

/// Whether an ICMPv6 message of this type belongs to neighbour discovery.
#[inline]
#[must_use]
pub const fn is_discovery(kind: u8) -> bool {
    matches!(kind, ROUTER_SOLICITATION..=REDIRECT)
}

/// Reads the ICMPv6 message of a packet that is no fragment (RFC 6980).
///
/// `None` when it is not of neighbour discovery, or not valid: hop limit, code, checksum, lengths,
/// an option of length 0, addresses that the type does not allow. Stricter than the RFC in three
/// things that no host sends: a link-layer address that is not a MAC address, two of them, and a
/// target of `::`.
#[must_use]
pub fn parse(ip: &Ipv6, message: &[u8]) -> Option<Message> {
    let &[kind, code, ..] = message.first_chunk::<4>()?;
    let sound = is_discovery(kind)
        && code == 0
        && ip.hop_limit == HOP_LIMIT
        && !ip.source.is_multicast()
        && verifies(ip.source, ip.destination, message);
    if !sound {
        return None;
    }
    match kind {
        ROUTER_SOLICITATION => {
            let link_layer = link_layer(message.get(8..)?, SOURCE_LINK_LAYER)?;
            let allowed = link_layer.is_none() || !ip.source.is_unspecified();
            allowed.then_some(Message::RouterSolicitation)
        }
        ROUTER_ADVERTISEMENT => {
            link_layer(message.get(16..)?, SOURCE_LINK_LAYER)?;
            let allowed = ip.source.is_unicast_link_local();
            allowed.then_some(Message::RouterAdvertisement)
        }
        NEIGHBOUR_SOLICITATION => solicitation(ip, message).map(Message::Solicitation),
        NEIGHBOUR_ADVERTISEMENT => advertisement(ip, message).map(Message::Advertisement),
        _ => {
            let destination = address(message, TARGET_END)?;
            link_layer(message.get(TARGET_END + 16..)?, TARGET_LINK_LAYER)?;
            let target = address(message, 8)?;
            let to_router = target.is_unicast_link_local() || target == destination;
            let allowed =
                ip.source.is_unicast_link_local() && !destination.is_multicast() && to_router;
            allowed.then_some(Message::Redirect)
        }
    }
}

/// RFC 4861 s.7.1.1.
fn solicitation(ip: &Ipv6, message: &[u8]) -> Option<Solicitation> {
    let target = target(message)?;
    let link_layer = link_layer(message.get(TARGET_END..)?, SOURCE_LINK_LAYER)?;
    let dad_is_allowed = link_layer.is_none() && is_solicited_node(ip.destination);
    if ip.source.is_unspecified() && !dad_is_allowed {
        return None;
    }
    Some(Solicitation {
        source: ip.source,
        target,
        link_layer,
    })
}

/// RFC 4861 s.7.1.2.
fn advertisement(ip: &Ipv6, message: &[u8]) -> Option<Advertisement> {
    let target = target(message)?;
    let link_layer = link_layer(message.get(TARGET_END..)?, TARGET_LINK_LAYER)?;
    let flags = *message.get(4)?;
    let solicited = flags & SOLICITED != 0;
    if solicited && ip.destination.is_multicast() {
        return None;
    }
    Some(Advertisement {
        source: ip.source,
        destination: ip.destination,
        target,
        link_layer,
        router: flags & ROUTER != 0,
        solicited,
        overrides: flags & OVERRIDE != 0,
    })
}

/// The target of a solicitation or an advertisement, if somebody can have that address.
fn target(message: &[u8]) -> Option<Ipv6Addr> {
    address(message, 8).filter(|target| !target.is_multicast() && !target.is_unspecified())
}

fn address(message: &[u8], offset: usize) -> Option<Ipv6Addr> {
    message
        .get(offset..)?
        .first_chunk::<16>()
        .map(|octets| Ipv6Addr::from(*octets))
}

/// The MAC address in the option of this kind, if it is among the options.
///
/// `None` when the options are not valid: cut off, of length 0, or two of this kind.
fn link_layer(mut options: &[u8], wanted: u8) -> Option<Option<MacAddr>> {
    let mut found = None;
    while !options.is_empty() {
        let &[kind, units] = options.first_chunk()?;
        let len = usize::from(units) * 8;
        let option = options.get(2..len)?;
        if kind == wanted {
            let mac = MacAddr(option.try_into().ok()?);
            if found.replace(mac).is_some() {
                return None;
            }
        }
        options = options.get(len..)?;
    }
    Some(found)
}

/// A solicitation or an advertisement, and how many octets of it there are.
fn emit(
    kind: u8,
    flags: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    option: Option<(u8, MacAddr)>,
) -> ([u8; NEIGHBOUR_LEN], usize) {
    let mut out = [0; NEIGHBOUR_LEN];
    out[0] = kind;
    out[4] = flags;
    out[8..TARGET_END].copy_from_slice(&target.octets());
    let len = if let Some((kind, mac)) = option {
        out[TARGET_END] = kind;
        out[TARGET_END + 1] = 1;
        out[TARGET_END + 2..].copy_from_slice(&mac.0);
        NEIGHBOUR_LEN
    } else {
        TARGET_END
    };
    complete(source, destination, &mut out[..len]);
    (out, len)
}

/// The group in which the owner of an address is asked for it (RFC 4291 s.2.7.1).
#[must_use]
pub const fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(SOLICITED_NODE | target.to_bits() & 0x00ff_ffff)
}

/// Whether this is the solicited-node group of some address.
const fn is_solicited_node(group: Ipv6Addr) -> bool {
    group.to_bits() & !0x00ff_ffff == SOLICITED_NODE
}

/// The link-local address that a MAC address makes (RFC 4291 appendix A, RFC 2464 s.5).
#[must_use]
pub const fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let [a, b, c, d] = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]];
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        u16::from_be_bytes(a),
        u16::from_be_bytes(b),
        u16::from_be_bytes(c),
        u16::from_be_bytes(d),
    )
}

/// The MAC address of an IPv6 group (RFC 2464 s.7).
#[must_use]
pub const fn group_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests;
