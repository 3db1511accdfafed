//! Values that have a form of their own: names, addresses, keys. Each function gives the value,
//! or what is wrong with it as the start of a sentence.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::checked::IpNet;
use crate::error::shown;
use crate::secret::decode32;

/// The longest name of a fabric, in octets, and of a node, in characters.
const MAX_NAME: usize = 64;

/// The longest name of an interface, in octets: `IFNAMSIZ` of Linux less the final zero.
const MAX_INTERFACE: usize = 15;

/// The name of a fabric.
pub(crate) fn fabric(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("is empty".to_owned()),
        1..=MAX_NAME => Ok(text.to_owned()),
        len => Err(format!("is {len} octets long")),
    }
}

/// The name of a node or peer.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if let Some(c) = text.chars().find(|&c| !is_name_char(c)) {
        return Err(format!("{} holds {}", shown(text), shown(&c.to_string())));
    }
    match text.len() {
        0 => Err("is empty".to_owned()),
        1..=MAX_NAME => Ok(text.to_owned()),
        len => Err(format!("is {len} characters long")),
    }
}

/// The name of an interface. `/`, `:` and white space are what the kernel's `dev_valid_name`
/// refuses; a `%` would make it number the interface by itself.
pub(crate) fn interface(text: &str) -> Result<String, String> {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || "/:%".contains(c);
    if let Some(c) = text.chars().find(|&c| is_bad(c)) {
        return Err(format!("{} holds {}", shown(text), shown(&c.to_string())));
    }
    match text.len() {
        0 => Err("is empty".to_owned()),
        _ if matches!(text, "." | "..") => Err(format!("{} is not a name", shown(text))),
        1..=MAX_INTERFACE => Ok(text.to_owned()),
        len => Err(format!("{} is {len} octets long", shown(text))),
    }
}

/// The outer address of another node.
pub(crate) fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let Ok(endpoint) = text.parse::<SocketAddr>() else {
        return Err(format!(
            "{} is not an address and port{}",
            shown(text),
            endpoint_hint(text)
        ));
    };
    let refuse = |why: &str| Err(format!("{} {why}", shown(text)));
    if endpoint.port() == 0 {
        return refuse("has port 0");
    }
    if let IpAddr::V6(address) = endpoint.ip()
        && let Some(v4) = address.to_ipv4_mapped()
    {
        return refuse(&format!(
            "is an IPv4 address (write {v4}:{})",
            endpoint.port()
        ));
    }
    match kind_of_crowd(endpoint.ip()) {
        Some(kind) => refuse(&format!("is {kind} address")),
        None => Ok(endpoint),
    }
}

/// An address of this machine to listen at.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, String> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        let hint = match text.parse::<IpAddr>() {
            Ok(_) => " (its port is missing)",
            Err(_) => "",
        };
        return Err(format!("{} is not an address and port{hint}", shown(text)));
    };
    match address.port() {
        0 => Err(format!("{} has port 0", shown(text))),
        _ => Ok(address),
    }
}

/// What is probably missing in an endpoint.
fn endpoint_hint(text: &str) -> &'static str {
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    let before_colon = text.rsplit_once(':').map_or("", |(before, _)| before);
    if is_v6(text) || is_v6(before_colon) {
        " (write IPv6 in brackets, then the port)"
    } else if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        " (its port is missing)"
    } else {
        ""
    }
}

/// An address of an interface with its prefix.
pub(crate) fn ip_net(text: &str) -> Result<IpNet, String> {
    let refuse = |why: &str| Err(format!("{} {why}", shown(text)));
    let Some((address, prefix)) = text.split_once('/') else {
        return refuse("has no prefix length");
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return refuse("does not begin with an IP address");
    };
    let limit = if address.is_ipv4() { 32 } else { 128 };
    let is_number = (1..=3).contains(&prefix.len()) && prefix.bytes().all(|c| c.is_ascii_digit());
    match prefix.parse::<u8>() {
        Ok(prefix) if is_number && (1..=limit).contains(&prefix) => match kind_of_crowd(address) {
            Some(kind) => refuse(&format!("is {kind} address")),
            None => Ok(IpNet { address, prefix }),
        },
        _ => refuse(&format!("has no prefix length of 1..={limit}")),
    }
}

/// An IP address of a single host.
pub(crate) fn host_address(text: &str) -> Result<IpAddr, String> {
    let refuse = |why: &str| Err(format!("{} {why}", shown(text)));
    let Ok(address) = text.parse::<IpAddr>() else {
        return match text.contains('/') {
            true => refuse("is not an IP address (leave the prefix length out)"),
            false => refuse("is not an IP address"),
        };
    };
    if let IpAddr::V6(address) = address
        && let Some(v4) = address.to_ipv4_mapped()
    {
        return refuse(&format!("is an IPv4 address (write {v4})"));
    }
    match kind_of_crowd(address) {
        Some(kind) => refuse(&format!("is {kind} address")),
        None => Ok(address),
    }
}

/// The MAC address of a single host, in the notation of IEEE 802 with colons.
pub(crate) fn mac(text: &str) -> Result<[u8; 6], String> {
    let refuse = |why: &str| Err(format!("{} {why}", shown(text)));
    let Some(mac) = six_pairs(text) else {
        let hint = match six_pairs(&text.replace('-', ":")) {
            Some(_) => " (write it with colons)",
            None => "",
        };
        return refuse(&format!("is not a MAC address{hint}"));
    };
    match mac {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => refuse("is the broadcast address"),
        [0, 0, 0, 0, 0, 0] => refuse("is the address of zeros"),
        [first, ..] if first & 1 == 1 => refuse("is a multicast address"),
        _ => Ok(mac),
    }
}

/// Six pairs of hexadecimal digits with colons between them.
fn six_pairs(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut pairs = text.split(':');
    for octet in &mut octets {
        let pair = pairs.next()?;
        let is_pair = pair.len() == 2 && pair.bytes().all(|c| c.is_ascii_hexdigit());
        *octet = u8::from_str_radix(pair, 16).ok().filter(|_| is_pair)?;
    }
    pairs.next().is_none().then_some(octets)
}

/// What an address is when it is not one host's.
fn kind_of_crowd(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("the unspecified"),
        _ if address.is_multicast() => Some("a multicast"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("the broadcast"),
        _ => None,
    }
}

/// A public key in base64. The text is never repeated: it may be a private key put here by
/// mistake, which has the same form.
pub(crate) fn public_key(text: &str) -> Result<[u8; 32], String> {
    match decode32(text.as_bytes()) {
        Some(octets) if *octets == [0; 32] => Err("is the key of 32 zero octets".to_owned()),
        Some(octets) => Ok(*octets),
        None => Err(format!("a text of {} octets is not a key", text.len())),
    }
}
