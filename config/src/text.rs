//! Values as `fabric.yaml` writes them, for command lines: the same text is allowed in both.

use std::path::Path;

use zeroize::Zeroizing;

use crate::check::VLANS;
use crate::checked::IpNet;
use crate::error::shown;
use crate::fields::span_between;
use crate::secret::{SecretBytes32, secret_of};
use crate::vlan_set::VlanSet;
use crate::{file, schema, values};

/// What is wrong with a text and what is allowed, on one line. It never repeats what may be a key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}, allowed is {allowed}")]
pub struct TextError {
    what: String,
    allowed: &'static str,
}

/// The name of a fabric: 1..=64 octets.
///
/// # Errors
/// A text that is empty or longer.
pub fn fabric(text: &str) -> Result<String, TextError> {
    values::fabric(text).map_err(|what| TextError {
        what,
        allowed: "1..=64 octets of UTF-8",
    })
}

/// The name of a node: 1..=64 of `A-Z a-z 0-9 . _ -`.
///
/// # Errors
/// Any other text.
pub fn name(text: &str) -> Result<String, TextError> {
    let allowed = schema::NAME;
    values::name(text).map_err(|what| TextError { what, allowed })
}

/// A public key: 32 octets in base64, not all zero.
///
/// # Errors
/// Any other text.
pub fn public_key(text: &str) -> Result<[u8; 32], TextError> {
    let allowed = schema::PUBLIC_KEY;
    values::public_key(text).map_err(|what| TextError { what, allowed })
}

/// The MAC address of a single host.
///
/// # Errors
/// Any other text.
pub fn mac(text: &str) -> Result<[u8; 6], TextError> {
    let allowed = schema::MAC;
    values::mac(text).map_err(|what| TextError { what, allowed })
}

/// A network such as `10.8.0.0/16`, or the address of a single host, which has all bits in its
/// prefix.
///
/// # Errors
/// Any other text; addresses that are not a single host's.
pub fn ip_net(text: &str) -> Result<IpNet, TextError> {
    let net = match text.contains('/') {
        true => values::ip_net(text),
        false => values::host_address(text).map(|address| IpNet {
            address,
            prefix: if address.is_ipv4() { 32 } else { 128 },
        }),
    };
    net.map_err(|what| TextError {
        what,
        allowed: "an IP address, or IPv4/1..=32 or IPv6/1..=128",
    })
}

/// `all`, or numbers and ranges of them with commas between, such as `0,10,100-200`.
///
/// # Errors
/// Any other text; a VLAN that is there twice.
pub fn vlans(text: &str) -> Result<VlanSet, TextError> {
    if text == "all" {
        return Ok(VlanSet::all());
    }
    let mut vlans = VlanSet::none();
    for item in text.split(',').map(str::trim) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let wrong = |what: &str| TextError {
            what: format!("{} {what}", shown(item)),
            allowed: "all, or distinct numbers 0..=4094 and ranges such as 0,10,100-200",
        };
        let span = span_between(first, last, &VLANS).map_err(wrong)?;
        // Both ends are in the range of VLANs.
        if !vlans.insert_range(*span.start() as u16..=*span.end() as u16) {
            return Err(wrong("holds a VLAN again"));
        }
    }
    Ok(vlans)
}

/// Reads a key file, which must belong to the user or to root and give nothing to group and
/// others. `maker` is the command that makes such files, for errors.
///
/// # Errors
/// What is wrong with the file and how to remedy it, as the end of a sentence that begins with the
/// file's name.
pub fn key_file(path: &Path, maker: &str) -> Result<SecretBytes32, String> {
    let text = Zeroizing::new(file::read_key(path)?);
    secret_of(&text, maker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_are_numbers_and_ranges_with_commas_between() {
        let good = [
            ("all", "all"),
            ("0", "0"),
            ("10,20-30", "10, 20-30"),
            ("20-30, 10,4094", "10, 20-30, 4094"),
        ];
        for (text, shown) in good {
            assert_eq!(
                vlans(text).map(|vlans| vlans.to_string()).as_deref(),
                Ok(shown)
            );
        }
        for (text, what) in [
            ("", "is not a range of whole numbers"),
            ("10,", "is not a range of whole numbers"),
            ("10;20", "is not a range of whole numbers"),
            ("-1", "is not a range of whole numbers"),
            ("4095", "is out of range"),
            ("30-20", "ends before it begins"),
            ("10,5-15", "holds a VLAN again"),
        ] {
            let error = vlans(text).expect_err(text).to_string();
            assert!(
                error.contains(what) && error.contains(", allowed is all, or"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_address_alone_is_a_network_of_one_host() {
        let good = [
            ("10.7.0.1", "10.7.0.1/32"),
            ("10.8.0.0/16", "10.8.0.0/16"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("fe80::/10", "fe80::/10"),
        ];
        for (text, shown) in good {
            assert_eq!(
                ip_net(text).map(|net| net.to_string()).as_deref(),
                Ok(shown)
            );
        }
        for text in [
            "",
            "10.7.0",
            "10.7.0.1/33",
            "10.7.0.1/0",
            "224.0.0.1",
            "::ffff:10.7.0.1",
        ] {
            let error = ip_net(text).expect_err(text).to_string();
            assert!(error.ends_with(", allowed is an IP address, or IPv4/1..=32 or IPv6/1..=128"));
        }
    }

    #[test]
    fn what_may_be_a_key_is_not_repeated() {
        let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        let errors = [
            name(key).expect_err("no name").to_string(),
            mac(key).expect_err("no address").to_string(),
            ip_net(key).expect_err("no address").to_string(),
            vlans(key).expect_err("no VLANs").to_string(),
            public_key(&key[..43]).expect_err("no key").to_string(),
        ];
        assert!(
            errors.iter().all(|error| !error.contains(&key[..20])),
            "{errors:?}"
        );
        assert_eq!(
            fabric("").expect_err("no name").to_string(),
            "is empty, allowed is 1..=64 octets of UTF-8"
        );
    }
}
