//! Reports of multicast listeners: IGMP for IPv4 (RFC 1112, RFC 2236, RFC 3376), MLD for IPv6
//! (RFC 2710, RFC 3810).
//!
//! ```text
//!  IGMPv1, v2   | type | time | checksum | group 4 |                                one group
//!  MLDv1        | type | code | checksum | time 2 | zero 2 | group 16 |             one group
//!  both's last  | type | zero | checksum | zero 2 | records 2 | record | record ...
//!  a record     | kind | auxiliary words | sources 2 | group | sources | auxiliary |
//! ```
//!
//! A switch only asks whether anybody behind a port wants a group (RFC 4541 s.2.1), so sources
//! count as far as there are any or none. Not in here: who is told what, and for how long.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum;
use crate::icmpv6::{LISTENER_DONE, LISTENER_QUERY, LISTENER_REPORT, LISTENER_REPORT_V2, verifies};
use crate::ip::Ipv6;

/// Protocol number of IGMP.
pub const PROTOCOL_IGMP: u8 = 2;

/// IGMP membership query, of every version.
pub(crate) const IGMP_QUERY: u8 = 0x11;
/// IGMP membership report, version 1.
const IGMP_REPORT_V1: u8 = 0x12;
/// IGMP membership report, version 2.
const IGMP_REPORT_V2: u8 = 0x16;
/// IGMP leave group.
const IGMP_LEAVE: u8 = 0x17;
/// IGMP membership report, version 3.
const IGMP_REPORT_V3: u8 = 0x22;

/// Where the records of the newest reports begin; an older IGMP message ends there.
const RECORDS: usize = 8;
/// Length of a record before its group.
const RECORD_PREFIX: usize = 4;

/// Kinds of records (RFC 3376 s.4.2.12, RFC 3810 s.5.2.12).
const MODE_IS_INCLUDE: u8 = 1;
const MODE_IS_EXCLUDE: u8 = 2;
const CHANGE_TO_INCLUDE: u8 = 3;
const CHANGE_TO_EXCLUDE: u8 = 4;
const ALLOW_NEW_SOURCES: u8 = 5;

/// What a listener said about one group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Change {
    /// The group: always a multicast address.
    pub group: IpAddr,
    /// Whether the listener wants what is sent to it, or not any more.
    pub join: bool,
}

/// A report or leave of a listener: changes to one or several groups, in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Membership<'a> {
    content: Content<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content<'a> {
    One(Change),
    Records {
        /// From the first record on.
        octets: &'a [u8],
        /// How many the message says there are.
        count: u16,
        /// Whether groups are IPv6 addresses.
        v6: bool,
    },
}

impl<'a> Membership<'a> {
    /// The changes, in the order of the message: at most one for each 8 octets of it.
    ///
    /// Passes over records that change nothing for a switch, and groups that are none. Ends early
    /// where a record is cut off.
    #[must_use]
    pub const fn changes(&self) -> Changes<'a> {
        Changes {
            content: self.content,
        }
    }
}

/// Iterator over the changes of a [`Membership`].
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    content: Content<'a>,
}

impl Iterator for Changes<'_> {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        match &mut self.content {
            Content::One(change) => {
                let change = *change;
                self.content = Content::Records {
                    octets: &[],
                    count: 0,
                    v6: false,
                };
                Some(change)
            }
            Content::Records { octets, count, v6 } => {
                while *count > 0 {
                    *count -= 1;
                    let (change, rest) = record(octets, *v6)?;
                    *octets = rest;
                    if change.is_some() {
                        return change;
                    }
                }
                None
            }
        }
    }
}

/// Reads one record; gives what it changes, and the octets after it.
fn record(octets: &[u8], v6: bool) -> Option<(Option<Change>, &[u8])> {
    let (&[kind, auxiliary, s0, s1], rest) = octets.split_first_chunk::<RECORD_PREFIX>()?;
    let (group, rest) = if v6 {
        let (group, rest) = rest.split_first_chunk::<16>()?;
        (IpAddr::from(*group), rest)
    } else {
        let (group, rest) = rest.split_first_chunk::<4>()?;
        (IpAddr::from(*group), rest)
    };
    let sources = usize::from(u16::from_be_bytes([s0, s1]));
    let address_len = if v6 { 16 } else { 4 };
    let rest = rest.get(sources * address_len + usize::from(auxiliary) * 4..)?;
    let join = match kind {
        MODE_IS_EXCLUDE | CHANGE_TO_EXCLUDE => Some(true),
        MODE_IS_INCLUDE | CHANGE_TO_INCLUDE => Some(sources > 0),
        ALLOW_NEW_SOURCES if sources > 0 => Some(true),
        // Some sources are not wanted any more. Whether others are, it does not say.
        _ => None,
    };
    let change = join.and_then(|join| change(group, join));
    Some((change, rest))
}

/// A change to what is a group.
fn change(group: IpAddr, join: bool) -> Option<Change> {
    group.is_multicast().then_some(Change { group, join })
}

/// A report with records.
fn records(message: &[u8], v6: bool) -> Option<Membership<'_>> {
    let (header, octets) = message.split_first_chunk::<RECORDS>()?;
    let &[.., c0, c1] = header;
    let count = u16::from_be_bytes([c0, c1]);
    let content = Content::Records { octets, count, v6 };
    Some(Membership { content })
}

/// A valid message about groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message<'a> {
    /// Of a listener.
    Report(Membership<'a>),
    /// Of who asks for listeners.
    Query,
}

/// Reads the IGMP message of a packet that is no fragment.
///
/// `None` for other types, a wrong checksum, or a message that is cut off.
pub(crate) fn parse_igmp(message: &[u8]) -> Option<Message<'_>> {
    let &[kind, _, _, _, g0, g1, g2, g3] = message.first_chunk::<RECORDS>()?;
    if checksum::fold(checksum::add(0, message)) != 0xffff {
        return None;
    }
    let group = Ipv4Addr::new(g0, g1, g2, g3);
    let one = |join| {
        let content = Content::One(change(group.into(), join)?);
        Some(Message::Report(Membership { content }))
    };
    match kind {
        IGMP_QUERY => Some(Message::Query),
        IGMP_REPORT_V1 | IGMP_REPORT_V2 => one(true),
        IGMP_LEAVE => one(false),
        IGMP_REPORT_V3 => records(message, false).map(Message::Report),
        _ => None,
    }
}

/// Whether an ICMPv6 message of this type is of a multicast listener or who asks for them.
#[inline]
pub(crate) const fn is_mld(kind: u8) -> bool {
    matches!(
        kind,
        LISTENER_QUERY | LISTENER_REPORT | LISTENER_DONE | LISTENER_REPORT_V2
    )
}

/// Reads the MLD message of a packet that is no fragment.
///
/// `None` for other types, a wrong checksum, a message that is cut off, and packets that do not
/// come from the link itself: the hop limit is 1, the source link-local (RFC 3810 s.5), or
/// unspecified in a report of a host that has no address yet (RFC 3590).
pub(crate) fn parse_mld<'a>(ip: &Ipv6, message: &'a [u8]) -> Option<Message<'a>> {
    let kind = *message.first()?;
    let may_be_nobody = kind != LISTENER_QUERY && ip.source.is_unspecified();
    let from_link = ip.hop_limit == 1 && (ip.source.is_unicast_link_local() || may_be_nobody);
    if !from_link || !verifies(ip.source, ip.destination, message) {
        return None;
    }
    let group = message.get(RECORDS..)?.first_chunk::<16>();
    let one = |join| {
        let group = Ipv6Addr::from(*group?);
        let content = Content::One(change(group.into(), join)?);
        Some(Message::Report(Membership { content }))
    };
    match kind {
        LISTENER_QUERY => group.map(|_| Message::Query),
        LISTENER_REPORT => one(true),
        LISTENER_DONE => one(false),
        LISTENER_REPORT_V2 => records(message, true).map(Message::Report),
        _ => None,
    }
}

/// Whether every port gets what is sent to this group, whoever reported it: groups of the link's
/// own protocols, which hosts need not report (RFC 4541 s.2.1.2 and s.3; RFC 3810 s.6).
#[inline]
#[must_use]
pub fn is_for_all(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => matches!(group.octets(), [224, 0, 0, _]),
        IpAddr::V6(group) => {
            let [first, second, ..] = group.octets();
            // Scopes 0 and 1 do not leave a host (RFC 4291 s.2.7).
            first == 0xff && second & 0x0f < 2 || group == crate::nd::ALL_NODES
        }
    }
}

/// The MAC address of an IPv4 group (RFC 1112 s.6.4): 32 groups have the same.
#[must_use]
pub const fn group_mac(group: Ipv4Addr) -> crate::MacAddr {
    let [_, b, c, d] = group.octets();
    crate::MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
}

#[cfg(test)]
mod tests;
