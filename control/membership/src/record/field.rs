//! Fields that several records have. Each function gives the value, or what is wrong with it and
//! what is allowed, as the end of a sentence that begins with the field.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use omni_wire::MacAddr;

use super::{Kind, RecordError};
use crate::key::PublicKey;
use crate::name::is_node_name;

/// The highest VLAN id that a frame may have. IEEE 802.1Q reserves 4095 (table 9-2).
pub(super) const MAX_VLAN: u16 = 4094;

/// What is wrong with a field.
pub(super) type Wrong = &'static str;

/// Puts the kind of record and the field's name to what is wrong.
pub(super) fn named<T>(
    kind: Kind,
    field: &'static str,
    value: Result<T, Wrong>,
) -> Result<T, RecordError> {
    value.map_err(|what| RecordError::Field { kind, field, what })
}

pub(super) fn public_key(octets: &[u8]) -> Result<PublicKey, Wrong> {
    match <[u8; 32]>::try_from(octets) {
        Ok(octets) if octets == [0; 32] => Err("is 32 zero octets, which is no key"),
        Ok(octets) => Ok(PublicKey(octets)),
        Err(_) => Err("has not the 32 octets of a key"),
    }
}

pub(super) fn name(text: String) -> Result<String, Wrong> {
    match is_node_name(&text) {
        true => Ok(text),
        false => Err("is not 1..=64 of A-Z a-z 0-9 . _ -"),
    }
}

pub(super) fn vlan(number: u32) -> Result<u16, Wrong> {
    u16::try_from(number)
        .ok()
        .filter(|&vlan| vlan <= MAX_VLAN)
        .ok_or("is not a VLAN, allowed is 0..=4094")
}

pub(super) fn mac(octets: &[u8]) -> Result<MacAddr, Wrong> {
    match <[u8; 6]>::try_from(octets).map(MacAddr) {
        Ok(mac) if mac.is_multicast() || mac.is_zero() => {
            Err("is not a single host's MAC address: multicast, broadcast or zero")
        }
        Ok(mac) => Ok(mac),
        Err(_) => Err("has not the 6 octets of a MAC address"),
    }
}

/// An IP address of either family, each in its own form.
pub(super) fn ip(octets: &[u8]) -> Result<IpAddr, Wrong> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Ok(Ipv4Addr::from(octets).into());
    }
    match <[u8; 16]>::try_from(octets).map(Ipv6Addr::from) {
        Ok(ip) if ip.to_ipv4_mapped().is_some() => {
            Err("is an IPv4 address in IPv6 form, allowed are its 4 octets")
        }
        Ok(ip) => Ok(ip.into()),
        Err(_) => Err("has not the 4 or 16 octets of an IP address"),
    }
}

/// An IP address of a single host.
pub(super) fn host(octets: &[u8]) -> Result<IpAddr, Wrong> {
    let ip = ip(octets)?;
    let is_crowd =
        ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    match is_crowd {
        true => Err("is not a single host's address: unspecified, multicast or broadcast"),
        false => Ok(ip),
    }
}

pub(super) fn ip_octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
