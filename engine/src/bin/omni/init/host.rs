//! What the host has: its name, and interfaces that lead to other hosts.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// The longest name of a node, in octets.
const NAME_MAX: usize = 64;

/// An interface that is up, with addresses that other hosts may reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// Those that are up and have an address; loopbacks are none.
pub(super) fn interfaces() -> Vec<Interface> {
    let mut found: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for each in getifaddrs().into_iter().flatten() {
        let up = each.flags.contains(InterfaceFlags::IFF_UP);
        if !up || each.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let Some(address) = each.address else {
            continue;
        };
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        let v6 = address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip()));
        let Some(address) = v4.or(v6).filter(|it| !is_link_local(*it)) else {
            continue;
        };
        found.entry(each.interface_name).or_default().push(address);
    }
    let made = |(name, addresses)| Interface { name, addresses };
    found.into_iter().map(made).collect()
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => it.is_link_local(),
        IpAddr::V6(it) => it.is_unicast_link_local(),
    }
}

/// The interface that the default route leaves by.
pub(super) fn default_interface() -> Option<String> {
    default_of(&fs::read_to_string("/proc/net/route").ok()?)
}

/// Of the kernel's table of IPv4 routes: name, destination, gateway, and more.
fn default_of(table: &str) -> Option<String> {
    let rows = table.lines().skip(1);
    let mut rows = rows.map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(1) == Some(&"00000000") && row.get(7) == Some(&"00000000"));
    row.map(|row| row[0].to_owned())
}

/// A name for the node: the host's, without what a node's name cannot have.
pub(super) fn node_name() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name_of(&host)
}

fn name_of(host: &str) -> String {
    let short = host.trim().split('.').next().unwrap_or_default();
    let is_good = |c: &char| c.is_ascii_alphanumeric() || "_-".contains(*c);
    let name: String = short.chars().filter(is_good).take(NAME_MAX).collect();
    match name.as_str() {
        "" => "node".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_names_the_interface() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth1\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n\
                     eth0\t00000000\t0102000A\t0003\t0\t0\t0\t00000000\n";
        assert_eq!(default_of(table).as_deref(), Some("eth0"));
        assert_eq!(default_of("Iface\tDestination\n"), None);
    }

    #[test]
    fn a_nodes_name_is_the_hosts_without_its_domain() {
        assert_eq!(name_of("rack7-host12.example.org\n"), "rack7-host12");
        assert_eq!(name_of("h\u{f6}st\n"), "hst");
        assert_eq!(name_of("\n"), "node");
    }
}
