//! The access ports: their interfaces, and who and what may come in by them.

use super::{Distinct, bum_pps, choice, octets16, value, vlans};
use crate::checked::{Access, AccessDriver, Guard, IpNet, Mtu, PortMacs, PortVlans};
use crate::error::{Problem, shown};
use crate::fields::{Field, Fields};
use crate::{schema, values};

/// How many access ports a node may have.
const MAX_PORTS: usize = 16;

/// How many MAC addresses the file may let through a port.
const MAX_MACS: usize = 4096;

const DRIVERS: &[(&str, AccessDriver)] = &[
    ("auto", AccessDriver::Auto),
    ("xdp", AccessDriver::Xdp),
    ("tap", AccessDriver::Tap),
];
/// Each guard by itself.
const GUARDS: &[(&str, Guard)] = &[
    (
        "ra",
        Guard {
            ra: true,
            dhcp: false,
        },
    ),
    (
        "dhcp",
        Guard {
            ra: false,
            dhcp: true,
        },
    ),
];

/// The list of access ports. `underlay` is the interface that none of them may be.
pub(super) fn ports(field: &Field<'_>, underlay: &str) -> Result<Vec<Access>, Problem> {
    let items = field.items()?;
    match items.len() {
        0 => return Err(field.wrong("the list is empty")),
        1..=MAX_PORTS => {}
        len => return Err(field.wrong(format!("the list has {len} elements"))),
    }
    let mut interfaces = Distinct::new("interface");
    let port = |item| port(item, underlay, &mut interfaces);
    items.iter().map(port).collect()
}

fn port(
    field: &Field<'_>,
    underlay: &str,
    interfaces: &mut Distinct<String>,
) -> Result<Access, Problem> {
    let fields = field.fields(&schema::ACCESS)?;
    let interface_field = fields.required("interface")?;
    let interface = value(&interface_field, values::interface)?;
    if interface == underlay {
        let what = format!("{} is the underlay's interface too", shown(&interface));
        return Err(interface_field.wrong(what));
    }
    interfaces.insert(interface.clone(), &interface_field)?;
    let addresses = fields
        .optional("addresses")
        .map_or(Ok(Vec::new()), |field| addresses(&field))?;
    let mtu = match fields.optional("mtu") {
        Some(field) if !field.is_word("auto") => Mtu::Octets(octets16(&field, 576..=9578)?),
        _ => Mtu::Auto,
    };
    Ok(Access {
        interface,
        driver: choice(fields.optional("driver"), AccessDriver::Auto, DRIVERS)?,
        addresses,
        mtu,
        vlans: port_vlans(&fields)?,
        macs: macs(fields.optional("macs"))?,
        guard: guard(fields.optional("guard"))?,
        bum_pps: bum_pps(fields.optional("bum_pps"))?,
    })
}

fn addresses(field: &Field<'_>) -> Result<Vec<IpNet>, Problem> {
    let mut addresses: Vec<IpNet> = Vec::new();
    let mut seen = Distinct::new("address");
    for item in field.items()? {
        let address = value(&item, values::ip_net)?;
        seen.insert(address, &item)?;
        addresses.push(address);
    }
    Ok(addresses)
}

/// A port is either a trunk with `vlans` or belongs to one `vlan`.
fn port_vlans(fields: &Fields<'_>) -> Result<PortVlans, Problem> {
    let trunk = fields.optional("vlans");
    let Some(field) = fields.optional("vlan") else {
        return vlans(trunk).map(PortVlans::Trunk);
    };
    let vlan = octets16(&field, 1..=4094)?;
    match trunk {
        Some(trunk) => Err(field.wrong(format!("vlans is given too, on line {}", trunk.at.line))),
        None => Ok(PortVlans::Access(vlan)),
    }
}

fn macs(field: Option<Field<'_>>) -> Result<PortMacs, Problem> {
    let Some(field) = field.filter(|field| !field.is_word("learn")) else {
        return Ok(PortMacs::Learn);
    };
    let items = field.items()?;
    match items.len() {
        0 => return Err(field.wrong("the list is empty")),
        1..=MAX_MACS => {}
        len => return Err(field.wrong(format!("the list has {len} elements"))),
    }
    let mut seen = Distinct::new("MAC address");
    let mut macs = Vec::with_capacity(items.len());
    for item in items {
        let mac = value(&item, values::mac)?;
        seen.insert(mac, &item)?;
        macs.push(mac);
    }
    Ok(PortMacs::Only(macs))
}

fn guard(field: Option<Field<'_>>) -> Result<Guard, Problem> {
    let Some(field) = field else {
        return Ok(Guard::default());
    };
    let mut seen = Distinct::new("word");
    let mut guard = Guard::default();
    for item in field.items()? {
        let one = item.choice(GUARDS)?;
        seen.insert((one.ra, one.dhcp), &item)?;
        guard.ra |= one.ra;
        guard.dhcp |= one.dhcp;
    }
    Ok(guard)
}
