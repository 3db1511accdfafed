//! What the programs and user space agree on, as `bpf/omni_redirect.h` has it.

use std::net::IpAddr;

/// Octets of [`Meta`] before a frame.
pub const META_LEN: usize = 16;

/// Receive queues that one program can serve.
pub const MAX_QUEUES: u32 = 64;

/// Most octets that the access program makes free before a frame.
pub const MAX_ROOM: u16 = 128;

/// Most addresses that the underlay program can know.
pub const MAX_LOCAL_ADDRS: u32 = 256;

/// Places in the map of counters: `enum omni_counter`.
pub(crate) const STEERED: u32 = 0;
pub(crate) const NO_SOCKET: u32 = 1;
pub(crate) const NO_HEADROOM: u32 = 2;

/// What a program writes right before the first octet of every frame that it steers.
///
/// # Layout
///
/// Host byte order, as kernel and engine share the machine.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 8 | `stamp_ns` |
/// | 8 | 2 | `room` |
/// | 10 | 2 | `flags` |
/// | 12 | 4 | `rx_queue` |
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// When the driver handed the frame over: nanoseconds of `CLOCK_MONOTONIC`.
    pub stamp_ns: u64,
    /// Octets made free before the frame; they count in the length of the descriptor.
    pub room: u16,
    /// None is defined: zero.
    pub flags: u16,
    /// Receive queue that the frame came in on.
    pub rx_queue: u32,
}

impl Meta {
    /// Reads the octets right before a frame.
    #[inline]
    #[must_use]
    pub const fn parse(octets: &[u8; META_LEN]) -> Self {
        let [
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
            r0,
            r1,
            f0,
            f1,
            q0,
            q1,
            q2,
            q3,
        ] = *octets;
        Self {
            stamp_ns: u64::from_ne_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            room: u16::from_ne_bytes([r0, r1]),
            flags: u16::from_ne_bytes([f0, f1]),
            rx_queue: u32::from_ne_bytes([q0, q1, q2, q3]),
        }
    }
}

/// What user space can change while a program runs: `struct omni_settings`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Settings {
    /// UDP port of the fabric; 0 steers nothing.
    pub(crate) port: u16,
    /// Octets to make free before a frame from an access port.
    pub(crate) room: u16,
}

impl Settings {
    /// Port as on the wire, room in host order, four zero octets.
    pub(crate) const fn to_octets(self) -> [u8; 8] {
        let [p0, p1] = self.port.to_be_bytes();
        let [r0, r1] = self.room.to_ne_bytes();
        [p0, p1, r0, r1, 0, 0, 0, 0]
    }
}

/// The key of an address: IPv4 in its mapped form (RFC 4291 s.2.5.5.2).
pub(crate) const fn address_key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = include_str!("../bpf/omni_redirect.h");

    /// The number that the C header gives a name, by `#define` or in the `enum`.
    fn in_header(name: &str) -> u64 {
        HEADER
            .lines()
            .filter_map(|line| {
                let mut words = line
                    .split([' ', '\t', '=', ','])
                    .filter(|word| !word.is_empty());
                let first = words.next()?;
                let found = if first == "#define" {
                    words.next()?
                } else {
                    first
                };
                (found == name)
                    .then(|| words.next()?.parse().ok())
                    .flatten()
            })
            .next()
            .unwrap_or_else(|| panic!("the header gives no number for {name}"))
    }

    #[test]
    fn limits_and_counters_are_those_of_the_c_header() {
        assert_eq!(in_header("OMNI_META_LEN"), META_LEN as u64);
        assert_eq!(in_header("OMNI_MAX_QUEUES"), u64::from(MAX_QUEUES));
        assert_eq!(in_header("OMNI_MAX_ROOM"), u64::from(MAX_ROOM));
        assert_eq!(
            in_header("OMNI_MAX_LOCAL_ADDRS"),
            u64::from(MAX_LOCAL_ADDRS)
        );
        assert_eq!(in_header("OMNI_STEERED"), u64::from(STEERED));
        assert_eq!(in_header("OMNI_NO_SOCKET"), u64::from(NO_SOCKET));
        assert_eq!(in_header("OMNI_NO_HEADROOM"), u64::from(NO_HEADROOM));
    }

    #[test]
    fn meta_reads_each_field_from_its_own_octets() {
        let mut octets = [0; META_LEN];
        octets[0..8].copy_from_slice(&0x0102_0304_0506_0708_u64.to_ne_bytes());
        octets[8..10].copy_from_slice(&74_u16.to_ne_bytes());
        octets[10..12].copy_from_slice(&0x8001_u16.to_ne_bytes());
        octets[12..16].copy_from_slice(&63_u32.to_ne_bytes());
        let expected = Meta {
            stamp_ns: 0x0102_0304_0506_0708,
            room: 74,
            flags: 0x8001,
            rx_queue: 63,
        };
        assert_eq!(Meta::parse(&octets), expected);
    }

    #[test]
    fn the_port_is_in_network_order_and_the_room_is_not() {
        let octets = Settings {
            port: 0x1234,
            room: 0x5678,
        }
        .to_octets();
        assert_eq!(octets[0..2], [0x12, 0x34]);
        assert_eq!(octets[2..4], 0x5678_u16.to_ne_bytes());
        assert_eq!(octets[4..8], [0; 4]);
    }

    #[test]
    fn an_ipv4_address_and_its_mapped_form_have_one_key() {
        let plain: IpAddr = "192.0.2.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(address_key(plain), address_key(mapped));
        assert_eq!(address_key(plain)[10..], [0xff, 0xff, 192, 0, 2, 1]);
    }
}
