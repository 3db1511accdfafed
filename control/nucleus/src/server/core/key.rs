//! The keys that records are stored under.
//!
//! ```text
//! fabric                                  the fabric's name: whose records these are
//! member/<public key>                     a signed registration
//! ip/<vlan>/<IP address>                  a signed binding
//! mac/<vlan>/<MAC address>                a signed binding of a MAC address alone
//! revoked/<public key>                    a signed revocation
//! live/<public key>/<server's public key> ephemeral: since when the node is connected there
//! ```
//!
//! Public keys are in hexadecimal.

use core::fmt;
use core::net::IpAddr;

use omni_membership::{Binding, PublicKey};
use omni_wire::MacAddr;

/// The key of the fabric's name. It is no record.
pub(crate) const FABRIC: &[u8] = b"fabric";

/// What is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Key {
    /// A node's registration.
    Member(PublicKey),
    /// Who has an IP address.
    Ip(u16, IpAddr),
    /// Who has a MAC address.
    Mac(u16, MacAddr),
    /// Which certificates of a node are void.
    Revoked(PublicKey),
    /// A node is connected to a server.
    Live(PublicKey, PublicKey),
}

impl Key {
    /// Where a binding is stored.
    pub(crate) const fn of(binding: &Binding) -> Self {
        match binding.ip {
            Some(ip) => Self::Ip(binding.vlan, ip),
            None => Self::Mac(binding.vlan, binding.mac),
        }
    }

    /// The key's octets.
    pub(crate) fn octets(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    /// Reads a key. `None` for one that is not ours, or is written in another way.
    pub(crate) fn read(octets: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(octets).ok()?;
        let (kind, rest) = text.split_once('/')?;
        let key = match kind {
            "member" => Self::Member(public_key(rest)?),
            "revoked" => Self::Revoked(public_key(rest)?),
            "live" => {
                let (node, server) = rest.split_once('/')?;
                Self::Live(public_key(node)?, public_key(server)?)
            }
            "ip" => {
                let (vlan, ip) = rest.split_once('/')?;
                Self::Ip(vlan.parse().ok()?, ip.parse().ok()?)
            }
            "mac" => {
                let (vlan, mac) = rest.split_once('/')?;
                Self::Mac(vlan.parse().ok()?, mac.parse().ok()?)
            }
            _ => return None,
        };
        (key.to_string() == text).then_some(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(node) => write!(f, "member/{}", Hex(node)),
            Self::Ip(vlan, ip) => write!(f, "ip/{vlan}/{ip}"),
            Self::Mac(vlan, mac) => write!(f, "mac/{vlan}/{mac}"),
            Self::Revoked(node) => write!(f, "revoked/{}", Hex(node)),
            Self::Live(node, server) => write!(f, "live/{}/{}", Hex(node), Hex(server)),
        }
    }
}

struct Hex<'a>(&'a PublicKey);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .0
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

fn public_key(text: &str) -> Option<PublicKey> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut key = [0; 32];
    for (octet, at) in key.iter_mut().zip((0..64).step_by(2)) {
        *octet = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(PublicKey(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (node, server) = (PublicKey([0xab; 32]), PublicKey([1; 32]));
        let mac = MacAddr([2, 0, 0x5e, 0x10, 0, 1]);
        for (key, text) in [
            (Key::Member(node), format!("member/{}", "ab".repeat(32))),
            (Key::Ip(7, [10, 0, 0, 1].into()), "ip/7/10.0.0.1".to_owned()),
            (
                Key::Ip(0, "fd00::1".parse().expect("IPv6")),
                "ip/0/fd00::1".to_owned(),
            ),
            (Key::Mac(7, mac), "mac/7/02:00:5e:10:00:01".to_owned()),
            (Key::Revoked(node), format!("revoked/{}", "ab".repeat(32))),
            (
                Key::Live(node, server),
                format!("live/{}/{}", "ab".repeat(32), "01".repeat(32)),
            ),
        ] {
            assert_eq!(key.octets(), text.as_bytes());
            assert_eq!(Key::read(text.as_bytes()), Some(key));
        }
    }

    #[test]
    fn what_is_written_in_another_way_is_no_key() {
        let upper = format!("member/{}", "AB".repeat(32));
        let strange = [
            "",
            "member",
            "member/",
            "ip/07/10.0.0.1",
            "ip/70000/10.0.0.1",
            "x/1",
            &upper,
        ];
        for text in strange {
            assert_eq!(Key::read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Key::read(&[0xff, b'/']), None);
    }
}
