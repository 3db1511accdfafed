//! What a certificate allows: VLANs, MAC addresses, IP addresses.

use core::fmt;
use core::net::IpAddr;
use core::ops::RangeInclusive;
use std::collections::BTreeSet;

use omni_wire::MacAddr;

use super::field::{MAX_VLAN, Wrong, ip, ip_octets, mac, vlan};
use super::message;

/// The most ranges of VLANs in a record.
pub const MAX_VLAN_RANGES: usize = 1024;

/// The most MAC addresses in a certificate.
pub const MAX_GRANTED_MACS: usize = 1024;

/// The most networks of IP addresses in a certificate.
pub const MAX_GRANTED_ADDRESSES: usize = 1024;

/// What a node may use. `None` stands for all there are; an empty set for none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grants {
    /// VLANs that it may send in, and is sent.
    pub vlans: Option<VlanRanges>,
    /// MAC addresses that may be behind it: at most [`MAX_GRANTED_MACS`], unicast, not zero.
    pub macs: Option<BTreeSet<MacAddr>>,
    /// IP addresses that may be behind it: at most [`MAX_GRANTED_ADDRESSES`] networks. Those of
    /// one link (`169.254.0.0/16`, `fe80::/10`) are no exception.
    pub addresses: Option<BTreeSet<IpPrefix>>,
}

impl Grants {
    /// Whether the node may use this VLAN; never ids above 4094.
    #[must_use]
    pub fn allows_vlan(&self, vlan: u16) -> bool {
        let granted = self.vlans.as_ref();
        vlan <= MAX_VLAN && granted.is_none_or(|vlans| vlans.contains(vlan))
    }

    /// Whether this MAC address may be behind the node in this VLAN.
    #[must_use]
    pub fn allows_mac(&self, vlan: u16, mac: MacAddr) -> bool {
        let granted = self.macs.as_ref();
        self.allows_vlan(vlan) && granted.is_none_or(|macs| macs.contains(&mac))
    }

    /// Whether this IP address may be behind the node in this VLAN.
    #[must_use]
    pub fn allows_address(&self, vlan: u16, address: IpAddr) -> bool {
        let is_in = |granted: &BTreeSet<IpPrefix>| {
            let mut networks = granted.iter();
            networks.any(|network| network.contains(address))
        };
        self.allows_vlan(vlan) && self.addresses.as_ref().is_none_or(is_in)
    }
}

/// A set of VLANs as ranges: at most [`MAX_VLAN_RANGES`], in order, with gaps between them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VlanRanges(Vec<(u16, u16)>);

impl VlanRanges {
    /// The VLANs of ranges that are in order and do not overlap. Neighbours become one range.
    ///
    /// `None` when a range ends before it begins or above 4094, begins at or before the end of
    /// the one before it, or when there are more than [`MAX_VLAN_RANGES`].
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Option<Self> {
        let mut list: Vec<(u16, u16)> = Vec::new();
        for range in ranges {
            let (first, last) = range.into_inner();
            if first > last || last > MAX_VLAN {
                return None;
            }
            match list.last_mut() {
                Some((_, before)) if first <= *before => return None,
                Some((_, before)) if first == *before + 1 => *before = last,
                _ => list.push((first, last)),
            }
            if list.len() > MAX_VLAN_RANGES {
                return None;
            }
        }
        Some(Self(list))
    }

    /// Whether a VLAN is in it.
    #[must_use]
    pub fn contains(&self, vlan: u16) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= vlan);
        let range = after.checked_sub(1).and_then(|at| self.0.get(at));
        range.is_some_and(|&(_, last)| vlan <= last)
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u16>> + '_ {
        self.0.iter().map(|&(first, last)| first..=last)
    }
}

impl fmt::Display for VlanRanges {
    /// `none`, or numbers and ranges in order, such as `0, 10, 100-200`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for &(first, last) in &self.0 {
            match first == last {
                true => write!(f, "{before}{first}")?,
                false => write!(f, "{before}{first}-{last}")?,
            }
            before = ", ";
        }
        f.write_str(if before.is_empty() { "none" } else { "" })
    }
}

/// A network of IP addresses, such as `10.8.0.0/16`; a single address has all bits in its prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IpPrefix {
    network: IpAddr,
    len: u8,
}

impl IpPrefix {
    /// The network that `address` is in. Bits after the prefix do not matter; IPv4 in IPv6 form
    /// is IPv4.
    ///
    /// `None` when `len` is over 32 for IPv4, 128 for IPv6.
    #[must_use]
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let network = masked(address.to_canonical(), len)?;
        Some(Self { network, len })
    }

    /// The first address.
    #[must_use]
    pub const fn network(&self) -> IpAddr {
        self.network
    }

    /// Bits of the prefix: 0..=32 for IPv4, 0..=128 for IPv6.
    #[must_use]
    pub const fn prefix_len(&self) -> u8 {
        self.len
    }

    /// Whether an address is in it. IPv4 in IPv6 form counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_same_family = address.is_ipv4() == self.network.is_ipv4();
        is_same_family && masked(address, self.len) == Some(self.network)
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.len)
    }
}

/// An address with nothing after its first `len` bits.
fn masked(address: IpAddr, len: u8) -> Option<IpAddr> {
    let len = u32::from(len);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(len)?).unwrap_or(0);
            Some(IpAddr::V4((address.to_bits() & mask).into()))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX
                .checked_shl(128_u32.checked_sub(len)?)
                .unwrap_or(0);
            Some(IpAddr::V6((address.to_bits() & mask).into()))
        }
    }
}

pub(super) fn check_vlans(list: &message::VlanList) -> Result<VlanRanges, Wrong> {
    if list.ranges.len() > MAX_VLAN_RANGES {
        return Err("has more than 1024 ranges");
    }
    let mut ranges = Vec::with_capacity(list.ranges.len());
    for range in &list.ranges {
        ranges.push(vlan(range.first)?..=vlan(range.last)?);
    }
    VlanRanges::new(ranges).ok_or("are not ranges in order without overlap")
}

pub(super) fn vlan_list(vlans: &VlanRanges) -> message::VlanList {
    let ranges = vlans.ranges().map(|range| message::VlanRange {
        first: (*range.start()).into(),
        last: (*range.end()).into(),
    });
    message::VlanList {
        ranges: ranges.collect(),
    }
}

pub(super) fn check_macs(list: &message::MacList) -> Result<BTreeSet<MacAddr>, Wrong> {
    match list.macs.len() {
        0..=MAX_GRANTED_MACS => list.macs.iter().map(|octets| mac(octets)).collect(),
        _ => Err("has more than 1024 elements"),
    }
}

pub(super) fn mac_list(macs: &BTreeSet<MacAddr>) -> message::MacList {
    message::MacList {
        macs: macs.iter().map(|mac| mac.0.to_vec()).collect(),
    }
}

pub(super) fn check_addresses(list: &message::PrefixList) -> Result<BTreeSet<IpPrefix>, Wrong> {
    match list.prefixes.len() {
        0..=MAX_GRANTED_ADDRESSES => list.prefixes.iter().map(check_prefix).collect(),
        _ => Err("has more than 1024 elements"),
    }
}

fn check_prefix(prefix: &message::Prefix) -> Result<IpPrefix, Wrong> {
    let address = ip(&prefix.address)?;
    let checked = u8::try_from(prefix.length)
        .ok()
        .and_then(|len| IpPrefix::new(address, len))
        .ok_or("has a prefix that is longer than its address")?;
    match checked.network == address {
        true => Ok(checked),
        false => Err("has bits set after its prefix"),
    }
}

pub(super) fn prefix_list(addresses: &BTreeSet<IpPrefix>) -> message::PrefixList {
    let prefixes = addresses.iter().map(|network| message::Prefix {
        address: ip_octets(network.network),
        length: network.len.into(),
    });
    message::PrefixList {
        prefixes: prefixes.collect(),
    }
}

#[cfg(test)]
mod tests;
