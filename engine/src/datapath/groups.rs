//! Who gets what is sent to a multicast group (RFC 4541).
//!
//! A group with members goes to them, and to whoever gets everything: a port behind which a router
//! asks, or a peer that did not say what it wants. Groups that only one link knows are always
//! flooded: hosts need not say that they want them, and all else depends on them. What hosts report
//! goes to whoever gets everything, and to no other host (s.2.1.1).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::HashMap;
use std::sync::Arc;

use omni_control::message::Owner;
use omni_wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use omni_wire::inspect::{Inspected, inspect};
use omni_wire::membership::PROTOCOL_IGMP;

use super::hash::BuildIdHasher;

/// The IPv6 next header of hop-by-hop options (RFC 8200 s.4.3).
const HOP_BY_HOP: u8 = 0;

/// Who gets everything in one VLAN, or, without one, in all.
type Wanting = (Owner, Option<u16>);

/// One worker's groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    members: HashMap<(u16, IpAddr), Arc<[Owner]>, BuildIdHasher>,
    wants_all: Vec<Wanting>,
}

/// Who gets a frame, of those that carry its VLAN.
pub(super) enum Recipients<'a> {
    /// Everyone.
    All,
    /// Members of the group, and who gets everything.
    Only {
        groups: &'a Groups,
        vlan: u16,
        members: &'a [Owner],
    },
}

impl Recipients<'_> {
    pub(super) fn include(&self, owner: Owner) -> bool {
        match self {
            Self::All => true,
            Self::Only {
                groups,
                vlan,
                members,
            } => members.contains(&owner) || groups.gets_all(owner, *vlan),
        }
    }
}

impl Groups {
    /// Sets who is in a group; nobody forgets it.
    pub(super) fn set(&mut self, vlan: u16, group: IpAddr, members: Arc<[Owner]>) {
        if members.is_empty() {
            self.members.remove(&(vlan, group));
        } else {
            self.members.insert((vlan, group), members);
        }
    }

    /// Sets whether `owner` gets what is sent to any group, in a VLAN or in all.
    pub(super) fn set_wants_all(&mut self, owner: Owner, vlan: Option<u16>, wants: bool) {
        self.wants_all.retain(|&wanting| wanting != (owner, vlan));
        if wants {
            self.wants_all.push((owner, vlan));
        }
    }

    /// Forgets an owner; it is taken out of its groups by the control thread.
    pub(super) fn remove_owner(&mut self, owner: Owner) {
        self.wants_all.retain(|wanting| wanting.0 != owner);
    }

    /// Who gets a frame with this destination.
    pub(super) fn recipients(
        &self,
        vlan: u16,
        frame: &[u8],
        ethernet: &Ethernet,
    ) -> Recipients<'_> {
        if is_report(frame, ethernet) {
            return Recipients::Only {
                groups: self,
                vlan,
                members: &[],
            };
        }
        match snooped_group(frame, ethernet) {
            None => Recipients::All,
            Some(group) => Recipients::Only {
                groups: self,
                vlan,
                members: self
                    .members
                    .get(&(vlan, group))
                    .map_or(&[][..], |members| members),
            },
        }
    }

    fn gets_all(&self, owner: Owner, vlan: u16) -> bool {
        self.wants_all
            .iter()
            .any(|&(wanting, only)| wanting == owner && only.is_none_or(|only| only == vlan))
    }
}

/// Whether a host says in it what it wants. A host that hears another ask for a group need not ask
/// itself (RFC 2236 s.3), and then its own switch would not know.
fn is_report(frame: &[u8], ethernet: &Ethernet) -> bool {
    let packet = frame.get(ethernet.payload_offset..).unwrap_or_default();
    let is_likely = match ethernet.ethertype {
        ETHERTYPE_IPV4 => packet.get(9) == Some(&PROTOCOL_IGMP),
        // A router alert comes first (RFC 3810 s.5).
        ETHERTYPE_IPV6 => packet.get(6) == Some(&HOP_BY_HOP),
        _ => false,
    };
    is_likely
        && matches!(
            inspect(frame, ethernet),
            Inspected::Igmp(_) | Inspected::Mld(_)
        )
}

/// The group that a frame is for, where hosts have to ask for it.
fn snooped_group(frame: &[u8], ethernet: &Ethernet) -> Option<IpAddr> {
    if ethernet.destination.is_broadcast() || !ethernet.destination.is_multicast() {
        return None;
    }
    let packet = frame.get(ethernet.payload_offset..)?;
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => {
            let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            let group = Ipv4Addr::from(octets);
            // 224.0.0.0/24 is never asked for by some hosts (RFC 4541 s.2.1.2).
            let is_local = octets[..3] == [224, 0, 0];
            (group.is_multicast() && !is_local).then_some(IpAddr::V4(group))
        }
        ETHERTYPE_IPV6 => {
            let octets: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            let group = Ipv6Addr::from(octets);
            // Of interface-local and link-local scope (RFC 4291 s.2.7): neighbour discovery and
            // routing depend on them.
            let is_local = octets[1] & 0x0f <= 2;
            (group.is_multicast() && !is_local).then_some(IpAddr::V6(group))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use omni_control::message::{PeerId, PortId};

    use super::*;

    const ALPHA: Owner = Owner::Peer(PeerId(0));
    const BETA: Owner = Owner::Peer(PeerId(1));
    const LOCAL: Owner = Owner::Local(PortId(0));

    fn frame(destination: [u8; 6], ethertype: u16, at: usize, address: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 80];
        frame[..6].copy_from_slice(&destination);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        frame.resize(frame.len().max(14 + at + address.len()), 0);
        frame[14 + at..14 + at + address.len()].copy_from_slice(address);
        frame
    }

    fn v4(group: [u8; 4]) -> Vec<u8> {
        frame([1, 0, 0x5e, 0, 0, 1], ETHERTYPE_IPV4, 16, &group)
    }

    fn v6(group: &str) -> Vec<u8> {
        let group: Ipv6Addr = group.parse().expect("an address");
        frame(
            [0x33, 0x33, 0, 0, 0, 1],
            ETHERTYPE_IPV6,
            24,
            &group.octets(),
        )
    }

    fn get(groups: &Groups, vlan: u16, frame: &[u8]) -> Vec<Owner> {
        let ethernet = Ethernet::parse(frame).expect("a frame");
        let recipients = groups.recipients(vlan, frame, &ethernet);
        let all = [ALPHA, BETA, LOCAL].into_iter();
        all.filter(|&owner| recipients.include(owner)).collect()
    }

    #[test]
    fn a_group_goes_to_its_members_and_to_who_gets_everything() {
        let mut groups = Groups::default();
        let group = IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3));
        let sent = v4([239, 1, 2, 3]);
        assert_eq!(get(&groups, 7, &sent), [], "nobody asked");
        groups.set(7, group, Arc::from([ALPHA]));
        assert_eq!(get(&groups, 7, &sent), [ALPHA]);
        assert_eq!(get(&groups, 8, &sent), [], "another VLAN");
        groups.set_wants_all(LOCAL, Some(7), true);
        groups.set_wants_all(BETA, None, true);
        assert_eq!(get(&groups, 7, &sent), [ALPHA, BETA, LOCAL]);
        assert_eq!(get(&groups, 8, &sent), [BETA]);
        groups.set_wants_all(BETA, None, false);
        groups.set(7, group, Arc::from([]));
        groups.remove_owner(LOCAL);
        assert_eq!(get(&groups, 7, &sent), []);
        assert!(groups.members.is_empty() && groups.wants_all.is_empty());
    }

    #[test]
    fn broadcasts_local_groups_and_other_protocols_go_everywhere() {
        let groups = Groups::default();
        let everyone = [ALPHA, BETA, LOCAL];
        let broadcast = frame([0xff; 6], ETHERTYPE_IPV4, 16, &[255; 4]);
        let other = frame([1, 0x80, 0xc2, 0, 0, 0x30], 0x8902, 0, &[]);
        for sent in [
            broadcast,
            other,
            v4([224, 0, 0, 251]),
            v6("ff02::1"),
            v6("ff02::1:ff00:1"),
            v6("ff01::1"),
        ] {
            assert_eq!(get(&groups, 0, &sent), everyone);
        }
        assert_eq!(get(&groups, 0, &v6("ff05::1:3")), []);
        assert_eq!(get(&groups, 0, &v4([224, 0, 1, 1])), []);
        assert_eq!(
            get(&groups, 0, &v4([224, 0, 1, 1])[..30]),
            everyone,
            "cut off: nobody can say"
        );
    }
    fn ipv6_with_options(kind: u8) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 36, 0, 1];
        packet.extend("fe80::5".parse::<Ipv6Addr>().expect("one").octets());
        packet.extend("ff02::16".parse::<Ipv6Addr>().expect("one").octets());
        // Router alert, then a report of one group (RFC 3810 s.5.2).
        packet.extend([58, 0, 5, 2, 0, 0, 1, 0]);
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0];
        message.extend("ff05::1234".parse::<Ipv6Addr>().expect("one").octets());
        let pseudo = [&packet[8..40], &[0, 0, 0, 28, 0, 0, 0, 58]].concat();
        let sum = omni_wire::checksum::add(omni_wire::checksum::add(0, &pseudo), &message);
        let sum = !omni_wire::checksum::fold(sum);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        packet.extend(message);
        frame([0x33, 0x33, 0, 0, 0, 0x16], ETHERTYPE_IPV6, 0, &packet)
    }

    #[test]
    fn what_hosts_report_goes_to_routers_alone() {
        let mut groups = Groups::default();
        let report = ipv6_with_options(143);
        assert_eq!(get(&groups, 0, &report), []);
        let advertised = ipv6_with_options(152);
        let everyone = [ALPHA, BETA, LOCAL];
        assert_eq!(get(&groups, 0, &advertised), everyone, "what is no report");
        groups.set_wants_all(BETA, None, true);
        assert_eq!(get(&groups, 0, &report), [BETA]);
    }
}
