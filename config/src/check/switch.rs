//! What the node does as a switch, and the addresses that it need not learn.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use super::{Distinct, ON_OFF, VLANS, choice, value};
use crate::checked::{
    Access, Dscp, LlcSnap, Multicast, Peer, PortMacs, StaticEntry, StaticOwner, Switch,
    UnknownUnicast,
};
use crate::error::{Problem, shown};
use crate::fields::{Field, Fields};
use crate::{schema, values};

/// How many static entries there may be.
const MAX_STATIC: usize = 4096;

const UNKNOWN_UNICAST: &[(&str, UnknownUnicast)] = &[
    ("flood", UnknownUnicast::Flood),
    ("query", UnknownUnicast::Query),
    ("drop", UnknownUnicast::Drop),
];
const MULTICAST: &[(&str, Multicast)] = &[("snoop", Multicast::Snoop), ("flood", Multicast::Flood)];
const LLC_SNAP: &[(&str, LlcSnap)] = &[("drop", LlcSnap::Drop), ("carry", LlcSnap::Carry)];

fn unknown_unicast(field: &Field<'_>, has_nucleus: bool) -> Result<UnknownUnicast, Problem> {
    let chosen = field.choice(UNKNOWN_UNICAST)?;
    if chosen == UnknownUnicast::Query && !has_nucleus {
        return Err(field.wrong("query is given without any nucleus to ask"));
    }
    Ok(chosen)
}

/// The whole mapping. Static entries refer to the ports and peers, which were checked before.
pub(super) fn switch(
    field: Option<Field<'_>>,
    access: &[Access],
    peers: &[Peer],
    has_nucleus: bool,
) -> Result<Switch, Problem> {
    let default = Switch::default();
    let Some(field) = field else {
        return Ok(default);
    };
    let fields = field.fields(&schema::SWITCH)?;
    let on_off = |name, default| choice(fields.optional(name), default, ON_OFF);
    Ok(Switch {
        suppression: on_off("suppression", default.suppression)?,
        unknown_unicast: match fields.optional("unknown_unicast") {
            Some(field) => unknown_unicast(&field, has_nucleus)?,
            None => default.unknown_unicast,
        },
        multicast: choice(fields.optional("multicast"), default.multicast, MULTICAST)?,
        ageing: match fields.optional("ageing") {
            Some(field) => Duration::from_secs(field.number(60..=86400)?),
            None => default.ageing,
        },
        llc_snap: choice(fields.optional("llc_snap"), default.llc_snap, LLC_SNAP)?,
        dscp: match fields.optional("dscp") {
            Some(field) if !field.is_word("copy") => Dscp::Fixed(field.number(0..=63)? as u8),
            _ => Dscp::Copy,
        },
        mss_clamp: on_off("mss_clamp", default.mss_clamp)?,
        path_mtu: on_off("path_mtu", default.path_mtu)?,
        static_entries: match fields.optional("static") {
            Some(field) => static_entries(&field, &Owners::new(access, peers))?,
            None => Vec::new(),
        },
    })
}

/// Whom static entries may name.
struct Owners<'a> {
    ports: HashMap<&'a str, Port<'a>>,
    peers: HashMap<&'a str, &'a Peer>,
}

/// An access port.
struct Port<'a> {
    access: &'a Access,
    /// The only MAC addresses that may be behind it; `None` = any.
    macs: Option<HashSet<[u8; 6]>>,
}

impl<'a> Owners<'a> {
    fn new(access: &'a [Access], peers: &'a [Peer]) -> Self {
        let port = |access: &'a Access| {
            let macs = match &access.macs {
                PortMacs::Only(macs) => Some(macs.iter().copied().collect()),
                PortMacs::Learn => None,
            };
            (access.interface.as_str(), Port { access, macs })
        };
        Self {
            ports: access.iter().map(port).collect(),
            peers: peers
                .iter()
                .map(|peer| (peer.name.as_str(), peer))
                .collect(),
        }
    }
}

/// What of a static entry no other may have.
struct Seen {
    macs: Distinct<(u16, [u8; 6])>,
    addresses: Distinct<(u16, IpAddr)>,
}

fn static_entries(field: &Field<'_>, owners: &Owners<'_>) -> Result<Vec<StaticEntry>, Problem> {
    let items = field.items()?;
    if items.len() > MAX_STATIC {
        return Err(field.wrong(format!("the list has {} elements", items.len())));
    }
    let mut seen = Seen {
        macs: Distinct::new("MAC address"),
        addresses: Distinct::new("address"),
    };
    let entry = |item| static_entry(item, owners, &mut seen);
    items.iter().map(entry).collect()
}

fn static_entry(
    item: &Field<'_>,
    owners: &Owners<'_>,
    seen: &mut Seen,
) -> Result<StaticEntry, Problem> {
    let fields = item.fields(&schema::STATIC)?;
    let mac_field = fields.required("mac")?;
    let mac = value(&mac_field, values::mac)?;
    let vlan = match fields.optional("vlan") {
        Some(field) => field.number(VLANS)? as u16,
        None => 0,
    };
    seen.macs.insert((vlan, mac), &mac_field)?;
    let owner = owner(item, &fields, owners)?;
    check_place(item, &fields, (vlan, mac), &owner, owners)?;
    let mut addresses = Vec::new();
    if let Some(field) = fields.optional("addresses") {
        for item in field.items()? {
            let address = value(&item, values::host_address)?;
            seen.addresses.insert((vlan, address), &item)?;
            addresses.push(address);
        }
    }
    Ok(StaticEntry {
        mac,
        vlan,
        owner,
        addresses,
    })
}

/// The one port or peer that an entry names.
fn owner(
    item: &Field<'_>,
    fields: &Fields<'_>,
    owners: &Owners<'_>,
) -> Result<StaticOwner, Problem> {
    let interface = |name: &str| match owners.ports.contains_key(name) {
        true => Ok(StaticOwner::Interface(name.to_owned())),
        false => Err(format!("{} is no access port's", shown(name))),
    };
    let peer = |name: &str| match owners.peers.contains_key(name) {
        true => Ok(StaticOwner::Peer(name.to_owned())),
        false => Err(format!("{} is no peer's", shown(name))),
    };
    let (at_port, at_peer) = (fields.optional("interface"), fields.optional("peer"));
    let port_owner = at_port.map(|field| value(&field, interface)).transpose()?;
    let peer_owner = at_peer.map(|field| value(&field, peer)).transpose()?;
    if let (Some(port), Some(peer)) = (at_port, at_peer) {
        let what = format!("interface is given too, on line {}", port.at.line);
        return Err(peer.wrong(what));
    }
    port_owner.or(peer_owner).ok_or_else(|| {
        let what = "names neither a port nor a peer, allowed is one of interface and peer";
        item.at.problem(what)
    })
}

/// Refuses an entry for an address that could never be used where it is said to be.
fn check_place(
    item: &Field<'_>,
    fields: &Fields<'_>,
    (vlan, mac): (u16, [u8; 6]),
    owner: &StaticOwner,
    owners: &Owners<'_>,
) -> Result<(), Problem> {
    let (name, port, is_carried) = match owner {
        StaticOwner::Interface(name) => {
            let port = owners.ports.get(name.as_str());
            (
                name,
                port,
                port.is_some_and(|port| port.access.vlans.contains(vlan)),
            )
        }
        StaticOwner::Peer(name) => {
            let peer = owners.peers.get(name.as_str());
            (
                name,
                None,
                peer.is_some_and(|peer| peer.vlans.contains(vlan)),
            )
        }
    };
    if !is_carried {
        let what = format!("VLAN {vlan} is not carried by {name}");
        return Err(match fields.optional("vlan") {
            Some(field) => field.wrong(what),
            None => item
                .at
                .problem(format!("{what}, allowed is a vlan that is")),
        });
    }
    let macs = port.and_then(|port| port.macs.as_ref());
    if macs.is_some_and(|macs| !macs.contains(&mac)) {
        let what = format!("is not among the macs of {name}");
        return Err(fields.required("mac")?.wrong(what));
    }
    Ok(())
}
