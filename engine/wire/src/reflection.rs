//! Reflection: a node asks where it is seen, and a Nucleus answers (types 16 and 17).
//!
//! ```text
//!  0       4      5       6         8        24       25     26     28              44    48
//!  | 0     | type | flags | version | token  | family | zero | port | address       | zero |
//!  | probe:  16     0       1                 zeros to the end                             |
//!  | answer: 17     0       1         as asked  4 or 6          IPv4: the first 4 octets   |
//! ```
//!
//! Both have 48 octets: an answer is never longer than what asked for it, so that whoever forges a
//! source address gains nothing. The token shows that a Nucleus knows the node.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::header::{REFLECT_ANSWER, REFLECT_PROBE};
use crate::limits::{PREFIX_LEN, PROTOCOL_VERSION};

/// Length of a probe and of its answer, in octets.
pub const LEN: usize = 48;

/// Length of a token, in octets.
pub const TOKEN_LEN: usize = 16;

/// Where the token is.
const TOKEN: usize = PREFIX_LEN;
/// Where the address family is: 4 or 6.
const FAMILY: usize = 24;
/// Where the port is, big-endian.
const PORT: usize = 26;
/// Where the address is.
const ADDRESS: usize = 28;
/// Where the address ends.
const ADDRESS_END: usize = 44;

/// A node's question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// What the Nucleus gave the node.
    pub token: [u8; TOKEN_LEN],
}

/// The answer to a [`Probe`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// That of the probe.
    pub token: [u8; TOKEN_LEN],
    /// Where the probe came from. IPv4 is never in IPv6 form.
    pub source: SocketAddr,
}

impl Probe {
    /// Reads a probe. `None`: it is none.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let octets: &[u8; LEN] = octets.try_into().ok()?;
        let token = token_of(octets, REFLECT_PROBE)?;
        let is_padded = octets[FAMILY..].iter().all(|octet| *octet == 0);
        is_padded.then_some(Self { token })
    }

    /// Writes it.
    #[must_use]
    pub fn emit(&self) -> [u8; LEN] {
        start(REFLECT_PROBE, &self.token)
    }
}

impl Answer {
    /// Reads an answer. `None`: it is none.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let octets: &[u8; LEN] = octets.try_into().ok()?;
        let token = token_of(octets, REFLECT_ANSWER)?;
        let address: &[u8; 16] = octets[ADDRESS..ADDRESS_END].try_into().ok()?;
        let ip = match octets[FAMILY] {
            4 => {
                let [a, b, c, d, rest @ ..] = *address;
                (rest == [0; 12]).then_some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))?
            }
            6 => IpAddr::V6(Ipv6Addr::from(*address)),
            _ => return None,
        };
        let port = u16::from_be_bytes([octets[PORT], octets[PORT + 1]]);
        let is_padded = octets[FAMILY + 1] == 0 && octets[ADDRESS_END..] == [0; LEN - ADDRESS_END];
        let is_plain = is_padded && ip == ip.to_canonical() && port != 0;
        is_plain.then_some(Self {
            token,
            source: SocketAddr::new(ip, port),
        })
    }

    /// Writes it.
    #[must_use]
    pub fn emit(&self) -> [u8; LEN] {
        let mut octets = start(REFLECT_ANSWER, &self.token);
        octets[PORT..ADDRESS].copy_from_slice(&self.source.port().to_be_bytes());
        match self.source.ip().to_canonical() {
            IpAddr::V4(ip) => {
                octets[FAMILY] = 4;
                octets[ADDRESS..ADDRESS + 4].copy_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                octets[FAMILY] = 6;
                octets[ADDRESS..ADDRESS_END].copy_from_slice(&ip.octets());
            }
        }
        octets
    }
}

/// What every message without a session begins with.
const fn prefix(kind: u8) -> [u8; PREFIX_LEN] {
    let [high, low] = PROTOCOL_VERSION.to_be_bytes();
    [0, 0, 0, 0, kind, 0, high, low]
}

fn start(kind: u8, token: &[u8; TOKEN_LEN]) -> [u8; LEN] {
    let mut octets = [0; LEN];
    octets[..TOKEN].copy_from_slice(&prefix(kind));
    octets[TOKEN..FAMILY].copy_from_slice(token);
    octets
}

fn token_of(octets: &[u8; LEN], kind: u8) -> Option<[u8; TOKEN_LEN]> {
    let is_kind = octets[..TOKEN] == prefix(kind);
    let token = octets[TOKEN..FAMILY].try_into().ok()?;
    is_kind.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const TOKEN_OCTETS: [u8; TOKEN_LEN] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

    fn answer(source: &str) -> Answer {
        Answer {
            token: TOKEN_OCTETS,
            source: source.parse().expect("an address"),
        }
    }

    #[test]
    fn a_probe_has_these_octets() {
        let octets = Probe {
            token: TOKEN_OCTETS,
        }
        .emit();
        let mut expected: Vec<u8> = [0, 0, 0, 0, 16, 0, 0, 1].to_vec();
        expected.extend(TOKEN_OCTETS);
        expected.extend([0; 24]);
        assert_eq!(octets[..], expected[..]);
    }

    #[test]
    fn an_answer_has_these_octets() {
        let octets = answer("192.0.2.1:51820").emit();
        let end = [4, 0, 0xca, 0x6c, 192, 0, 2, 1];
        assert_eq!(octets[..8], [0, 0, 0, 0, 17, 0, 0, 1]);
        assert_eq!(octets[24..32], end);
        assert_eq!(octets[32..], [0; 16]);
        let octets = answer("[2001:db8::1]:1").emit();
        assert_eq!(octets[24..32], [6, 0, 0, 1, 0x20, 1, 0xd, 0xb8]);
        assert_eq!(octets[43..], [1, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_written_is_read() {
        let probe = Probe {
            token: TOKEN_OCTETS,
        };
        assert_eq!(Probe::parse(&probe.emit()), Some(probe));
        for source in ["192.0.2.1:51820", "[2001:db8::1]:65535"] {
            let answer = answer(source);
            assert_eq!(Answer::parse(&answer.emit()), Some(answer));
        }
    }

    #[test]
    fn a_node_tells_both_from_other_messages() {
        use crate::handshake::classify;
        use crate::header::MessageType;
        let probe = Probe {
            token: TOKEN_OCTETS,
        };
        assert_eq!(classify(&probe.emit()), Ok(MessageType::ReflectProbe));
        let answer = answer("192.0.2.1:51820");
        assert_eq!(classify(&answer.emit()), Ok(MessageType::ReflectAnswer));
    }

    #[test]
    fn ipv4_in_ipv6_form_is_told_as_ipv4() {
        let read = Answer::parse(&answer("[::ffff:192.0.2.1]:7").emit());
        assert_eq!(read, Some(answer("192.0.2.1:7")));
    }

    #[test]
    fn another_length_type_or_octet_is_neither() {
        let probe = Probe {
            token: TOKEN_OCTETS,
        }
        .emit();
        let answer = answer("192.0.2.1:51820").emit();
        assert_eq!(Answer::parse(&probe), None);
        assert_eq!(Probe::parse(&answer), None);
        for octets in [&probe, &answer] {
            assert_eq!(Probe::parse(&octets[..LEN - 1]), None);
            assert_eq!(Answer::parse(&octets[..LEN - 1]), None);
        }
        for at in (0..TOKEN).chain(FAMILY..LEN) {
            let mut changed = probe;
            changed[at] ^= 0x80;
            assert_eq!(Probe::parse(&changed), None, "octet {at}");
        }
        for at in (0..TOKEN)
            .chain([FAMILY, FAMILY + 1])
            .chain(ADDRESS + 4..LEN)
        {
            let mut changed = answer;
            changed[at] ^= 0x80;
            assert_eq!(Answer::parse(&changed), None, "octet {at}");
        }
        let mut no_port = answer;
        no_port[PORT..ADDRESS].fill(0);
        assert_eq!(Answer::parse(&no_port), None);
    }
}
