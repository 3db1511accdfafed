//! The switch's tables as they are shown. Pure: what is known in, views out.

use std::collections::BTreeMap;

use omni_control::message::VlanBits;
use omni_wire::Instant;

use super::Names;
use crate::datapath::Counted;
use crate::datapath::policy::PortVlans;
use crate::show::{
    AlarmView, FdbView, GroupView, NeighborView, SwitchView, VlanPortView, VlanView, WantingAllView,
};
use crate::switch::{Kind, Source, Switch};

/// A port or peer that carries more VLANs than this makes none of them worth showing.
const VLANS_NAMED_MAX: u32 = 64;
/// More peers than this are counted and not named.
const PEERS_NAMED_MAX: usize = 8;

/// A port, and the VLANs that it carries.
#[derive(Debug)]
pub(super) struct PortAround {
    pub(super) interface: String,
    pub(super) vlans: PortVlans,
}

/// A peer with a session, and the VLANs that it may use and has.
#[derive(Debug)]
pub(super) struct PeerAround {
    pub(super) public_key: String,
    pub(super) vlans: VlanBits,
}

/// The tables, and what is needed to show them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables<'a> {
    pub(super) now: Instant,
    pub(super) switch: &'a Switch,
    pub(super) names: &'a Names,
}

impl Tables<'_> {
    pub(super) fn fdb(&self) -> Vec<FdbView> {
        let entries = self.switch.iter();
        entries
            .map(|(key, entry)| FdbView {
                vlan: key.vlan,
                mac: key.mac.to_string(),
                owner: self.names.owner(entry.owner),
                kind: match entry.kind {
                    Kind::Learned => "learned",
                    Kind::Static => "static",
                }
                .to_owned(),
                age_seconds: self.now.since(entry.seen).as_secs(),
                sequence: entry.sequence(),
            })
            .collect()
    }

    pub(super) fn neighbors(&self) -> Vec<NeighborView> {
        let bindings = self.switch.neighbors();
        bindings
            .map(|neighbor| NeighborView {
                vlan: neighbor.bound.vlan,
                ip: neighbor.bound.ip.to_string(),
                mac: neighbor.bound.mac.to_string(),
                owner: self.names.owner(neighbor.bound.owner),
                source: match neighbor.source {
                    Source::Snooped => "snooped",
                    Source::Announced => "peer",
                    Source::Nucleus => "nucleus",
                    Source::Static => "static",
                }
                .to_owned(),
                age_seconds: self.now.since(neighbor.seen).as_secs(),
            })
            .collect()
    }

    pub(super) fn groups(&self) -> Vec<GroupView> {
        let groups = self.switch.groups();
        groups
            .map(|(vlan, group, members)| GroupView {
                vlan,
                group: group.to_string(),
                members: members
                    .into_iter()
                    .map(|owner| self.names.owner(owner))
                    .collect(),
            })
            .collect()
    }

    pub(super) fn alarms(&self) -> Vec<AlarmView> {
        let alarms = self.switch.alarms();
        // What is over goes with the next timeout.
        let open = alarms.filter(|alarm| self.now < alarm.until);
        open.map(|alarm| AlarmView {
            vlan: alarm.key.vlan,
            mac: alarm.key.mac.to_string(),
            owner: self.names.owner(alarm.owner),
            reason: "moved_too_often".to_owned(),
            remaining_seconds: alarm.until.since(self.now).as_secs(),
        })
        .collect()
    }

    /// What happened, and who gets everything. How the switch is configured is left open.
    pub(super) fn switch(&self, counted: Counted) -> SwitchView {
        let counters = self.switch.counters();
        let wanting = self.switch.wanting_all();
        SwitchView {
            wanting_all: wanting
                .map(|(owner, vlan)| WantingAllView {
                    owner: self.names.owner(owner),
                    vlan,
                })
                .collect(),
            arp_answered: counted.arp_answered,
            arp_unknown: counted.arp_unknown,
            nd_answered: counted.nd_answered,
            nd_unknown: counted.nd_unknown,
            stale_answers: counted.stale_answers,
            too_big_answered: counted.too_big_answered,
            moves: counters.moves,
            frozen: counters.frozen,
            claims_sent: counters.claims_sent,
            claims_refused: counters.claims_refused,
            evicted: counters.evicted,
            bindings_refused: counters.bindings_refused,
            groups_refused: counters.groups_refused,
            records_limited: counters.records_limited,
            records_malformed: counters.records_malformed,
            sends_left_out: counters.sends_left_out,
            ..SwitchView::default()
        }
    }

    /// The VLANs with addresses or groups in them, and those that a port or peer carries among a
    /// few: nearly all others of 4095 would say that a port carries all.
    pub(super) fn vlans(&self, ports: &[PortAround], peers: &[PeerAround]) -> Vec<VlanView> {
        let mut known: BTreeMap<u16, Known> = BTreeMap::new();
        for (key, _) in self.switch.iter() {
            known.entry(key.vlan).or_default().macs += 1;
        }
        for neighbor in self.switch.neighbors() {
            known.entry(neighbor.bound.vlan).or_default().addresses += 1;
        }
        for (vlan, ..) in self.switch.groups() {
            known.entry(vlan).or_default().groups += 1;
        }
        let named = ports.iter().map(|port| match &port.vlans {
            PortVlans::Access(vlan) => vec![*vlan],
            PortVlans::Trunk(vlans) => few(vlans),
        });
        let named = named.chain(peers.iter().map(|peer| few(&peer.vlans)));
        for vlan in named.flatten() {
            known.entry(vlan).or_default();
        }
        let known = known.into_iter();
        known
            .map(|(vlan, known)| known.view(vlan, ports, peers))
            .collect()
    }
}

/// How much is in a VLAN.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    macs: usize,
    addresses: usize,
    groups: usize,
}

impl Known {
    fn view(self, vlan: u16, ports: &[PortAround], peers: &[PeerAround]) -> VlanView {
        let ports = ports.iter().filter(|port| port.vlans.carry(vlan));
        let carrying = || peers.iter().filter(|peer| peer.vlans.contains(vlan));
        let peer_count = carrying().count();
        let named = if peer_count <= PEERS_NAMED_MAX {
            peer_count
        } else {
            0
        };
        VlanView {
            vlan,
            ports: ports
                .map(|port| VlanPortView {
                    interface: port.interface.clone(),
                    mode: match port.vlans {
                        PortVlans::Access(_) => "access",
                        PortVlans::Trunk(_) => "trunk",
                    }
                    .to_owned(),
                })
                .collect(),
            peer_count,
            peers: carrying()
                .take(named)
                .map(|peer| peer.public_key.clone())
                .collect(),
            macs: self.macs,
            addresses: self.addresses,
            groups: self.groups,
        }
    }
}

/// The VLANs of a set, or none when there are many.
fn few(vlans: &VlanBits) -> Vec<u16> {
    let count: u32 = vlans.0.iter().map(|word| word.count_ones()).sum();
    if count > VLANS_NAMED_MAX {
        return Vec::new();
    }
    (0..4096).filter(|&vlan| vlans.contains(vlan)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use omni_control::PublicKey;
    use omni_control::message::{FdbKey, Owner, PeerId, PortId};
    use omni_wire::MacAddr;

    use super::*;
    use crate::switch::{Bound, GroupReport, PeerLimits, SwitchConfig};

    const START: Instant = Instant(1_000_000_000_000);
    const LOCAL: Owner = Owner::Local(PortId(0));
    const OTHER: Owner = Owner::Local(PortId(1));
    const BETA: Owner = Owner::Peer(PeerId(7));

    fn key(vlan: u16, last: u8) -> FdbKey {
        let mac = MacAddr([2, 0, 0, 0, 0, last]);
        FdbKey { vlan, mac }
    }

    fn names() -> Names {
        Names {
            ports: ["omni0", "omni1"].map(str::to_owned).into(),
            peers: BTreeMap::from([(PeerId(7), "BETA".to_owned())]),
        }
    }

    fn switch() -> Switch {
        let mut switch = Switch::new(SwitchConfig::new(2, PublicKey([9; 32])));
        switch.add_peer(START, PeerId(7), PublicKey([7; 32]), PeerLimits::default());
        switch.learned(START, 0, key(0, 1), LOCAL);
        switch.learned(START, 0, key(20, 2), BETA);
        switch.insert_static(START, key(0, 3), OTHER);
        switch
    }

    fn bound(vlan: u16, last: u8, ip: &str, owner: Owner) -> Bound {
        let ip: IpAddr = ip.parse().expect("an address");
        let FdbKey { vlan, mac } = key(vlan, last);
        Bound {
            vlan,
            ip,
            mac,
            owner,
        }
    }

    fn bits(vlans: &[u16]) -> VlanBits {
        let mut bits = VlanBits::NONE;
        vlans.iter().for_each(|&vlan| bits.insert(vlan));
        bits
    }

    #[test]
    fn addresses_are_shown_with_owner_kind_and_age() {
        let (mut switch, names) = (switch(), names());
        switch.bound(START, bound(0, 1, "10.7.0.1", LOCAL));
        switch.bind_static(START, bound(0, 3, "2001:db8::3", OTHER));
        let tables = Tables {
            now: START + Duration::from_secs(31),
            switch: &switch,
            names: &names,
        };
        let fdb = tables.fdb();
        let seen: Vec<_> = fdb
            .iter()
            .map(|e| (e.vlan, e.owner.as_str(), e.kind.as_str(), e.age_seconds))
            .collect();
        let want = [
            (0, "local:omni0", "learned", 31),
            (0, "local:omni1", "static", 31),
            (20, "BETA", "learned", 31),
        ];
        assert_eq!(seen, want);
        let neighbors = tables.neighbors();
        let seen: Vec<_> = neighbors
            .iter()
            .map(|n| (n.ip.as_str(), n.owner.as_str(), n.source.as_str()))
            .collect();
        let want = [
            ("10.7.0.1", "local:omni0", "snooped"),
            ("2001:db8::3", "local:omni1", "static"),
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn a_host_that_moves_to_and_fro_is_an_alarm_until_its_time_is_over() {
        let (mut switch, names) = (switch(), names());
        let mut now = START;
        for owner in [OTHER, LOCAL, OTHER, LOCAL, OTHER] {
            switch.contested(now, key(0, 1), owner);
            // Nobody answers for it, and it was silent for long enough.
            now = now + Duration::from_secs(40);
            switch.handle_timeout(now);
            assert_eq!(switch.owner(key(0, 1)), Some(owner));
            while switch.poll_order().is_some() {}
        }
        let tables = |now| Tables {
            now,
            switch: &switch,
            names: &names,
        };
        let later = now + Duration::from_secs(100);
        let want = AlarmView {
            vlan: 0,
            mac: "02:00:00:00:00:01".to_owned(),
            owner: "local:omni1".to_owned(),
            reason: "moved_too_often".to_owned(),
            remaining_seconds: 1700,
        };
        assert_eq!(tables(later).alarms(), [want]);
        let over = now + Duration::from_secs(1800);
        assert_eq!(tables(over).alarms(), []);
        let view = tables(later).switch(Counted {
            arp_answered: 3,
            ..Counted::default()
        });
        let seen = (view.moves, view.frozen, view.arp_answered, view.nd_answered);
        assert_eq!(seen, (5, 1, 3, 0));
    }

    #[test]
    fn groups_have_their_members_and_who_gets_everything_is_named() {
        let (mut switch, names) = (switch(), names());
        switch.handle_timeout(START);
        switch.peer_up(START, PeerId(7));
        let group: IpAddr = "239.1.2.3".parse().expect("an address");
        switch.group(
            START,
            GroupReport {
                vlan: 20,
                port: PortId(1),
                group,
                join: true,
            },
        );
        let tables = Tables {
            now: START,
            switch: &switch,
            names: &names,
        };
        let want = GroupView {
            vlan: 20,
            group: "239.1.2.3".to_owned(),
            members: vec!["local:omni1".to_owned()],
        };
        assert_eq!(tables.groups(), [want]);
        let wanting = tables.switch(Counted::default()).wanting_all;
        let wanting: Vec<_> = wanting.iter().map(|w| (w.owner.as_str(), w.vlan)).collect();
        // Ports until hosts had the time to answer, the peer until it said what it wants.
        for who in ["local:omni0", "local:omni1", "BETA"] {
            assert!(wanting.contains(&(who, None)), "{who} in {wanting:?}");
        }
    }

    #[test]
    fn a_vlan_is_shown_when_something_is_known_of_it() {
        let (switch, names) = (switch(), names());
        let tables = Tables {
            now: START,
            switch: &switch,
            names: &names,
        };
        let port = |name: &str, vlans| PortAround {
            interface: name.to_owned(),
            vlans,
        };
        let ports = [
            port("omni0", PortVlans::default()),
            port("omni1", PortVlans::Access(30)),
        ];
        let peer = |n: usize, vlans| PeerAround {
            public_key: format!("KEY{n}"),
            vlans,
        };
        let mut peers = vec![peer(0, bits(&[20, 40])), peer(1, VlanBits::ALL)];
        let views = tables.vlans(&ports, &peers);
        let seen: Vec<_> = views
            .iter()
            .map(|v| (v.vlan, v.macs, v.ports.len(), v.peer_count))
            .collect();
        assert_eq!(
            seen,
            [(0, 2, 1, 1), (20, 1, 1, 2), (30, 0, 2, 1), (40, 0, 1, 2)]
        );
        assert_eq!(views[1].peers, ["KEY0", "KEY1"]);
        let modes: Vec<_> = views[2].ports.iter().map(|p| p.mode.as_str()).collect();
        assert_eq!(modes, ["trunk", "access"]);
        peers.extend((2..10).map(|n| peer(n, VlanBits::ALL)));
        let many = &tables.vlans(&ports, &peers)[1];
        assert_eq!((many.peer_count, many.peers.len()), (10, 0));
    }
}
