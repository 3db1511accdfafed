//! What the programs and user space agree on, as `bpf/omni_redirect.h` and `bpf/omni_handover.h`
//! have it.

use std::net::{IpAddr, SocketAddr};

/// Octets of [`Meta`] before a frame.
pub const META_LEN: usize = 16;

/// Receive queues that one program can serve.
pub const MAX_QUEUES: u32 = 64;

/// Most octets that the access program makes free before a frame.
pub const MAX_ROOM: u16 = 128;

/// Most addresses that the underlay program can know.
pub const MAX_LOCAL_ADDRS: u32 = 256;

/// Most live sessions that the underlay program can know.
pub const MAX_SESSIONS: u32 = 65_536;

/// Most endpoints of peers that the underlay program can know.
pub const MAX_ENDPOINTS: u32 = 16_384;

/// Places in the map of counters: `enum omni_counter`.
pub(crate) const STEERED: u32 = 0;
pub(crate) const NO_SOCKET: u32 = 1;
pub(crate) const NO_HEADROOM: u32 = 2;
pub(crate) const NO_SESSION: u32 = 3;
pub(crate) const NO_LANE: u32 = 4;
pub(crate) const NOT_HANDSHAKE: u32 = 5;
pub(crate) const TOO_MANY: u32 = 6;
pub(crate) const ELSEWHERE: u32 = 7;
pub(crate) const TOO_MUCH: u32 = 8;

/// Whose an address is, in the hand-over's map.
pub(crate) const SHARED: u8 = 1;
pub(crate) const WHOLE: u8 = 2;

/// Places in the hand-over's map of devices.
pub(crate) const TO_OTHER: u32 = 0;
pub(crate) const TO_WIRE: u32 = 1;

/// Places in the hand-over's map of counters: `enum omni_handover_counter`.
pub(crate) const HANDED_DATA: u32 = 0;
pub(crate) const HANDED_HANDSHAKES: u32 = 1;
pub(crate) const HANDED_REST: u32 = 2;
pub(crate) const HANDED_BACK: u32 = 3;
pub(crate) const NO_DEVICE: u32 = 4;

/// A flag of [`Settings`]: data is dropped that belongs to no known session.
const CHECK_SESSIONS: u16 = 1;

/// A flag of [`Settings`]: of messages without a session, only handshakes pass, and not too many.
const CHECK_HANDSHAKES: u16 = 2;

/// A flag of a session: there is a share of its data, wherever it comes from.
const THROTTLED: u16 = 1;

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
    /// When the driver handed the frame over: nanoseconds of `CLOCK_BOOTTIME`.
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
    /// Whether data of unknown sessions and on lanes not announced is dropped.
    pub(crate) check_sessions: bool,
    /// Whether messages without a session are dropped that are no handshakes, or too many.
    pub(crate) check_handshakes: bool,
    /// The key of the hash by which sources share what passes.
    pub(crate) secret: u64,
}

impl Settings {
    /// Port as on the wire, room and flags in host order, two zero octets, the secret.
    pub(crate) const fn to_octets(self) -> [u8; 16] {
        let flags = (CHECK_SESSIONS * self.check_sessions as u16)
            | (CHECK_HANDSHAKES * self.check_handshakes as u16);
        let [p0, p1] = self.port.to_be_bytes();
        let [r0, r1] = self.room.to_ne_bytes();
        let [f0, f1] = flags.to_ne_bytes();
        let [s0, s1, s2, s3, s4, s5, s6, s7] = self.secret.to_ne_bytes();
        [p0, p1, r0, r1, f0, f1, 0, 0, s0, s1, s2, s3, s4, s5, s6, s7]
    }
}

/// The key of a session: its number, as on the wire.
pub(crate) const fn session_key(session_id: u32) -> [u8; 4] {
    session_id.to_be_bytes()
}

/// What the program knows of a session: `struct omni_session_entry`: the peer's address, where it
/// is known, lanes in host order, the rest zero.
pub(crate) fn session_entry(lanes: u16, peer: Option<IpAddr>) -> [u8; 32] {
    let mut entry = [0; 32];
    if let Some(address) = peer {
        entry[..16].copy_from_slice(&address_key(address));
    }
    entry[24..26].copy_from_slice(&lanes.to_ne_bytes());
    entry
}

/// The same of a session of which too much was refused: lanes and the flag.
pub(crate) fn throttled_entry(lanes: u16) -> [u8; 32] {
    let mut entry = session_entry(lanes, None);
    entry[26..28].copy_from_slice(&THROTTLED.to_ne_bytes());
    entry
}

/// The key of an endpoint: its address, its port as on the wire, two zero octets.
pub(crate) const fn endpoint_key(endpoint: SocketAddr) -> [u8; 20] {
    let mut key = [0; 20];
    let (address, rest) = key.split_at_mut(16);
    address.copy_from_slice(&address_key(endpoint.ip()));
    let (port, _) = rest.split_at_mut(2);
    port.copy_from_slice(&endpoint.port().to_be_bytes());
    key
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
    use std::ops::Range;

    use super::*;

    /// What clang made of `bpf/layout.c`, which lists the header's numbers.
    const LAYOUT: &str = include_str!(concat!(env!("OUT_DIR"), "/layout.s"));

    /// All numbers of the header with their names: limits, sizes, and `STRUCT.FIELD` for where a
    /// field begins.
    fn numbers() -> impl Iterator<Item = (&'static str, u64)> {
        LAYOUT.lines().filter_map(|line| {
            let line = line.trim().strip_prefix(".ascii \"= ")?;
            let (name, number) = line.strip_suffix('"')?.split_once(' ')?;
            Some((name, number.parse().expect("a number")))
        })
    }

    fn in_header(name: &str) -> u64 {
        let found = numbers().find(|(other, _)| *other == name);
        found
            .unwrap_or_else(|| panic!("bpf/layout.c does not list {name}"))
            .1
    }

    /// The octets of a struct that a field takes.
    fn place(field: &str) -> Range<usize> {
        let start = in_header(field) as usize;
        start..start + in_header(&format!("{field}.len")) as usize
    }

    /// What the octets of a struct are when its fields have these values, and the rest zero.
    fn filled<const LEN: usize>(name: &str, fields: &[(&str, &[u8])]) -> [u8; LEN] {
        assert_eq!(in_header(name), LEN as u64, "{name}");
        let mut octets = [0; LEN];
        for (field, value) in fields {
            octets[place(&format!("{name}.{field}"))].copy_from_slice(value);
        }
        octets
    }

    #[test]
    fn limits_flags_and_counters_are_those_of_the_c_header() {
        for (name, number) in [
            ("OMNI_META_LEN", META_LEN as u64),
            ("OMNI_MAX_QUEUES", MAX_QUEUES.into()),
            ("OMNI_MAX_ROOM", MAX_ROOM.into()),
            ("OMNI_MAX_LOCAL_ADDRS", MAX_LOCAL_ADDRS.into()),
            ("OMNI_MAX_SESSIONS", MAX_SESSIONS.into()),
            ("OMNI_MAX_ENDPOINTS", MAX_ENDPOINTS.into()),
            ("OMNI_CHECK_SESSIONS", CHECK_SESSIONS.into()),
            ("OMNI_CHECK_HANDSHAKES", CHECK_HANDSHAKES.into()),
            ("OMNI_STEERED", STEERED.into()),
            ("OMNI_NO_SOCKET", NO_SOCKET.into()),
            ("OMNI_NO_HEADROOM", NO_HEADROOM.into()),
            ("OMNI_NO_SESSION", NO_SESSION.into()),
            ("OMNI_NO_LANE", NO_LANE.into()),
            ("OMNI_NOT_HANDSHAKE", NOT_HANDSHAKE.into()),
            ("OMNI_TOO_MANY", TOO_MANY.into()),
            ("OMNI_ELSEWHERE", ELSEWHERE.into()),
            ("OMNI_TOO_MUCH", TOO_MUCH.into()),
            ("OMNI_COUNTERS", 9),
            ("OMNI_THROTTLED", THROTTLED.into()),
            ("OMNI_SHARED", SHARED.into()),
            ("OMNI_WHOLE", WHOLE.into()),
            ("OMNI_TO_OTHER", TO_OTHER.into()),
            ("OMNI_TO_WIRE", TO_WIRE.into()),
            ("OMNI_HANDED_DATA", HANDED_DATA.into()),
            ("OMNI_HANDED_HANDSHAKES", HANDED_HANDSHAKES.into()),
            ("OMNI_HANDED_REST", HANDED_REST.into()),
            ("OMNI_HANDED_BACK", HANDED_BACK.into()),
            ("OMNI_NO_DEVICE", NO_DEVICE.into()),
            ("OMNI_HANDOVER_COUNTERS", 5),
        ] {
            assert_eq!(in_header(name), number, "{name}");
        }
    }

    /// A field that `bpf/layout.c` leaves out, and padding, would show as a gap.
    #[test]
    fn the_fields_that_are_compared_are_all_there_are() {
        for (name, fields) in [
            ("omni_settings", 5),
            ("omni_addr", 1),
            ("omni_session_entry", 5),
            ("omni_endpoint", 3),
            ("omni_share", 1),
            ("omni_meta", 4),
        ] {
            let starts = numbers().filter_map(|(other, _)| {
                let field = other.strip_prefix(name)?.strip_prefix('.')?;
                (!field.ends_with(".len")).then_some(other)
            });
            let mut places: Vec<_> = starts.map(place).collect();
            places.sort_by_key(|place| place.start);
            assert_eq!(places.len(), fields, "fields of {name}");
            let end = places.iter().fold(0, |end, place| {
                assert_eq!(place.start, end, "{name}: a gap, or two in one place");
                place.end
            });
            assert_eq!(
                end as u64,
                in_header(name),
                "{name} goes on after its fields"
            );
        }
    }

    #[test]
    fn metadata_is_read_from_where_the_programs_write_it() {
        let octets = filled(
            "omni_meta",
            &[
                ("stamp_ns", &0x0102_0304_0506_0708_u64.to_ne_bytes()),
                ("room", &74_u16.to_ne_bytes()),
                ("flags", &0x8001_u16.to_ne_bytes()),
                ("rx_queue", &63_u32.to_ne_bytes()),
            ],
        );
        let expected = Meta {
            stamp_ns: 0x0102_0304_0506_0708,
            room: 74,
            flags: 0x8001,
            rx_queue: 63,
        };
        assert_eq!(Meta::parse(&octets), expected);
    }

    /// The port in network order, all else in the host's.
    #[test]
    fn settings_are_written_where_the_programs_read_them() {
        for flags in 0..4_u16 {
            let settings = Settings {
                port: 0x1234,
                room: 0x5678,
                check_sessions: flags & CHECK_SESSIONS != 0,
                check_handshakes: flags & CHECK_HANDSHAKES != 0,
                secret: 0x0102_0304_0506_0708,
            };
            let expected = filled(
                "omni_settings",
                &[
                    ("port", &[0x12, 0x34]),
                    ("room", &0x5678_u16.to_ne_bytes()),
                    ("flags", &flags.to_ne_bytes()),
                    ("reserved", &[0; 2]),
                    ("secret", &settings.secret.to_ne_bytes()),
                ],
            );
            assert_eq!(settings.to_octets(), expected);
        }
    }

    #[test]
    fn a_session_is_written_where_the_programs_read_it() {
        assert_eq!(session_key(0x0102_0304), [1, 2, 3, 4]);
        let expected = |address: &[u8], flags: u16| {
            filled(
                "omni_session_entry",
                &[
                    ("addr", address),
                    ("elsewhere", &[0; 8]),
                    ("lanes", &0x1234_u16.to_ne_bytes()),
                    ("flags", &flags.to_ne_bytes()),
                    ("reserved", &[0; 4]),
                ],
            )
        };
        assert_eq!(session_entry(0x1234, None), expected(&[0; 16], 0));
        assert_eq!(throttled_entry(0x1234), expected(&[0; 16], THROTTLED));
        let peer: IpAddr = "2001:db8::1".parse().unwrap();
        let entry = session_entry(0x1234, Some(peer));
        assert_eq!(entry, expected(&address_key(peer), 0));
    }

    #[test]
    fn an_endpoint_is_written_where_the_programs_look_for_it() {
        let endpoint: SocketAddr = "192.0.2.1:4660".parse().unwrap();
        let expected = filled(
            "omni_endpoint",
            &[
                ("addr", &address_key(endpoint.ip())),
                ("port", &[0x12, 0x34]),
                ("reserved", &[0; 2]),
            ],
        );
        assert_eq!(endpoint_key(endpoint), expected);
        assert_eq!(filled::<8>("omni_share", &[]), [0; 8]);
    }

    #[test]
    fn an_ipv4_address_and_its_mapped_form_have_one_key() {
        let plain: IpAddr = "192.0.2.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(address_key(plain), address_key(mapped));
        let mut expected = [0; 16];
        expected[10..].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(
            address_key(plain),
            filled("omni_addr", &[("word", &expected)])
        );
    }
}
