//! The sections of the switch: alarms, VLANs, groups, and what happened.

use omni_engine::show::{AlarmView, Show, SwitchView, VlanView};

use super::{Body, Owners, Section, vlan};
use crate::table::{Cell, Column, Tone, printable};
use crate::units::{count, span};

impl Body<'_> {
    /// One line for each alarm, the loudest text that there is. Nothing when there is none.
    pub(super) fn alarms(self, show: &Show) -> String {
        let owners = Owners::new(&show.peers);
        let shown = show.alarms.iter().take(self.rows_max);
        let mut out: String = shown.map(|alarm| self.alarm(alarm, &owners)).collect();
        if let Some(more @ 1..) = show.alarms.len().checked_sub(self.rows_max) {
            out.push_str(&self.line(Tone::Alarm, &format!("and {more} more: omni show fdb")));
        }
        out
    }

    fn alarm(self, alarm: &AlarmView, owners: &Owners<'_>) -> String {
        let owner = self.owner_name(owners, &alarm.owner);
        self.line(Tone::Alarm, &alarm_text(alarm, &owner))
    }

    pub(super) fn vlans(self, show: &Show) -> String {
        const COLUMNS: &[Column] = &[
            Column::right("vlan"),
            Column::right("macs"),
            Column::right("ips"),
            Column::right("groups"),
            Column::right("peers"),
            Column::flow("carried by"),
        ];
        if show.vlans.is_empty() {
            return self.line(Tone::Dim, "nothing is known of any VLAN");
        }
        let owners = Owners::new(&show.peers);
        self.table(COLUMNS, &show.vlans, Section::Vlans, |entry| {
            [
                vlan(entry.vlan),
                count(entry.macs as u64).into(),
                count(entry.addresses as u64).into(),
                count(entry.groups as u64).into(),
                count(entry.peer_count as u64).into(),
                self.carriers(entry, &owners),
            ]
        })
    }

    /// Ports by name and mode, then the peers that are named.
    fn carriers(self, entry: &VlanView, owners: &Owners<'_>) -> Cell {
        let ports = entry.ports.iter();
        let ports = ports.map(|port| format!("{} ({})", port.interface, port.mode));
        let peers = entry.peers.iter();
        let peers = peers.map(|key| self.owner_name(owners, key));
        let all: Vec<_> = ports.chain(peers).collect();
        if all.is_empty() {
            return Cell::absent();
        }
        all.join(", ").into()
    }

    pub(super) fn groups(self, show: &Show) -> String {
        const COLUMNS: &[Column] = &[
            Column::right("vlan"),
            Column::left("group"),
            Column::flow("wanted by"),
        ];
        if show.switch.multicast == "flood" {
            return self.line(
                Tone::Dim,
                "multicast goes to everyone: switch.multicast: flood",
            );
        }
        let owners = Owners::new(&show.peers);
        let mut rows = self.wanting_all(&show.switch, &owners);
        rows.extend(show.groups.iter().map(|group| {
            let members = group.members.iter();
            let members: Vec<_> = members
                .map(|owner| self.owner_name(&owners, owner))
                .collect();
            [
                vlan(group.vlan),
                (&group.group).into(),
                members.join(", ").into(),
            ]
        }));
        if rows.is_empty() {
            return self.line(Tone::Dim, "no groups");
        }
        self.table(COLUMNS, &rows, Section::Groups, Clone::clone)
    }

    /// A row for each VLAN in which somebody gets all groups, first those who do in all VLANs.
    fn wanting_all(self, switch: &SwitchView, owners: &Owners<'_>) -> Vec<[Cell; 3]> {
        let mut wanting: Vec<_> = switch.wanting_all.iter().collect();
        wanting.sort_by_key(|wanting| wanting.vlan);
        let by_vlan = wanting.chunk_by(|one, next| one.vlan == next.vlan);
        by_vlan
            .map(|wanting| {
                let who = wanting.iter();
                let who: Vec<_> = who
                    .map(|wanting| self.owner_name(owners, &wanting.owner))
                    .collect();
                let id = wanting[0].vlan.map_or_else(|| "all".into(), vlan);
                [id, "every group".into(), who.join(", ").into()]
            })
            .collect()
    }

    /// How the switch is set, and what happened: on the whole screen only what did.
    pub(super) fn switch(self, switch: &SwitchView) -> String {
        const COLUMNS: &[Column] = &[
            Column::left("event"),
            Column::right("count"),
            Column::flow("meaning"),
        ];
        let set = format!(
            "suppression {}, unknown unicast {}, multicast {}",
            switch.suppression, switch.unknown_unicast, switch.multicast
        );
        let events = events(switch);
        let events: Vec<_> = events
            .iter()
            .filter(|&&(_, n, _)| self.is_alone() || n > 0)
            .collect();
        let mut out = self.line(Tone::Plain, &printable(&set));
        if !events.is_empty() {
            out.push_str(
                &self.table(COLUMNS, &events, Section::Switch, |&&(name, n, meaning)| {
                    [name.into(), count(n).into(), meaning.into()]
                }),
            );
        }
        out
    }
}

/// All alarms, as they are on top of the screen.
pub(crate) fn alarm_lines(show: &Show) -> impl Iterator<Item = (Tone, String)> + '_ {
    let owners = Owners::new(&show.peers);
    show.alarms.iter().map(move |alarm| {
        let owner = owners.0.get(alarm.owner.as_str()).copied();
        (
            Tone::Alarm,
            alarm_text(alarm, owner.unwrap_or(&alarm.owner)),
        )
    })
}

fn alarm_text(alarm: &AlarmView, owner: &str) -> String {
    let vlan = match alarm.vlan {
        0 => String::new(),
        id => format!("VLAN {id} "),
    };
    let what = match &*alarm.reason {
        "moved_too_often" => "moved too often",
        other => other,
    };
    printable(&format!(
        "ALARM  {vlan}{} {what}: stays behind {owner} for {}",
        alarm.mac,
        span(alarm.remaining_seconds)
    ))
}

/// What is counted: its name in JSON, how often, and what it means.
fn events(switch: &SwitchView) -> [(&'static str, u64, &'static str); 16] {
    [
        (
            "arp_answered",
            switch.arp_answered,
            "ARP requests answered here.",
        ),
        (
            "arp_unknown",
            switch.arp_unknown,
            "ARP requests for unknown addresses; they went on.",
        ),
        (
            "nd_answered",
            switch.nd_answered,
            "Neighbour solicitations answered here.",
        ),
        (
            "nd_unknown",
            switch.nd_unknown,
            "Neighbour solicitations for unknown addresses; they went on.",
        ),
        (
            "stale_answers",
            switch.stale_answers,
            "Answers that became wrong within a minute.",
        ),
        (
            "too_big_answered",
            switch.too_big_answered,
            "Hosts told by ICMP that their packets do not fit.",
        ),
        (
            "moves",
            switch.moves,
            "MAC addresses that went from one owner to another.",
        ),
        (
            "frozen",
            switch.frozen,
            "MAC addresses that moved too often and stayed where they were for a while.",
        ),
        (
            "claims_sent",
            switch.claims_sent,
            "Times that a peer was asked to let go of a MAC address.",
        ),
        (
            "claims_refused",
            switch.claims_refused,
            "Claims not followed: the owner is alive, frozen, static or another.",
        ),
        (
            "evicted",
            switch.evicted,
            "MAC and IP addresses that made room for others.",
        ),
        (
            "bindings_refused",
            switch.bindings_refused,
            "IP addresses claimed that somebody else has, or that are none.",
        ),
        (
            "groups_refused",
            switch.groups_refused,
            "Group memberships beyond what is kept; who asked gets every group.",
        ),
        (
            "records_limited",
            switch.records_limited,
            "Control records of peers, or entries in them, beyond the rate.",
        ),
        (
            "records_malformed",
            switch.records_malformed,
            "Control records of peers that were none.",
        ),
        (
            "sends_left_out",
            switch.sends_left_out,
            "Questions to hosts, and repeats to peers, left out as too many waited.",
        ),
    ]
}
