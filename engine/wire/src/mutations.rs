//! Ten million frames, each a known one with some octets changed, through everything that looks
//! into inner frames: nothing panics, and what is made of them is what hosts take.

use std::vec;
use std::vec::Vec;

use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use crate::inspect::{Inspected, inspect};
use crate::ip::{PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::membership::PROTOCOL_IGMP;
use crate::nd::{self, Solicitation};
use crate::sample::{
    HOST_MAC, HOST_V6, OTHER_MAC, OTHER_V6, advertisement_frame, arp_frame, frame, host_takes,
    icmpv6, ipv4, ipv6, over_ip, solicitation_frame, tag, tcp, udp,
};
use crate::{MacAddr, answer, ecn, mss, toobig};

/// How many frames.
const FRAMES: u64 = 10_000_000;

/// The most octets that are changed in one.
const CHANGES_MAX: usize = 4;

/// The longest frame here, in which an answer fits as well.
const ROOM: usize = 160;

/// Numbers that look random and are the same in every run (Marsaglia, "Xorshift RNGs", s.4).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.roll() >> 16) as usize % limit
    }
}

/// One frame of each kind.
fn originals() -> Vec<Vec<u8>> {
    let asked = |source, link_layer| Solicitation {
        source,
        target: OTHER_V6,
        link_layer,
    };
    let everyone = |ethertype, packet: &[u8]| frame(MacAddr::BROADCAST, &[], ethertype, packet);
    let to_all = |next, hop_limit, payload: &[u8]| {
        everyone(
            ETHERTYPE_IPV6,
            &ipv6(nd::ALL_NODES, next, hop_limit, payload),
        )
    };
    let router = icmpv6(nd::ALL_NODES, &[&[134, 0, 0, 0][..], &[0; 12]].concat());
    let mut report = vec![143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0];
    report.extend([0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    let report = icmpv6(nd::ALL_NODES, &report);
    let options = [2, 4, 0x23, 0x28, 1, 3, 3, 7];
    let igmp = [0x22, 0, 0xe8, 0xf9, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 2, 3];
    vec![
        arp_frame(&[]),
        arp_frame(&tag(7)),
        solicitation_frame(&[], &asked(HOST_V6, Some(HOST_MAC))),
        solicitation_frame(&tag(7).repeat(2), &asked(HOST_V6, None)),
        solicitation_frame(&[], &asked([0; 16].into(), None)),
        advertisement_frame(),
        to_all(58, 255, &router),
        to_all(
            0,
            255,
            &[
                &[60, 0, 1, 4, 0, 0, 0, 0, 58, 0, 1, 4, 0, 0, 0, 0],
                &router[..],
            ]
            .concat(),
        ),
        to_all(44, 255, &[&[58, 0, 0, 1, 0, 0, 0, 0], &router[..]].concat()),
        to_all(0, 1, &[&[58, 0, 5, 2, 0, 0, 1, 0], &report[..]].concat()),
        everyone(ETHERTYPE_IPV4, &ipv4(PROTOCOL_IGMP, &igmp)),
        over_ip(false, &[], PROTOCOL_UDP, &udp(67, 68, &[5; 40])),
        over_ip(true, &tag(7), PROTOCOL_UDP, &udp(547, 546, &[5; 40])),
        over_ip(false, &[], PROTOCOL_TCP, &tcp(2, &options, b"")),
        over_ip(true, &tag(7), PROTOCOL_TCP, &tcp(2, &options, b"")),
        frame(
            OTHER_MAC,
            &[],
            ETHERTYPE_IPV4,
            &ipv4(PROTOCOL_ICMP, &[8; 60]),
        ),
        everyone(
            54,
            &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 6], &[0; 46][..]].concat(),
        ),
    ]
}

/// Changes some octets of a frame behind its addresses, more of them in its first headers, and may
/// cut it.
fn mutate(frame: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..dice.below(CHANGES_MAX + 1) {
        let limit = if dice.roll() >> 40 & 1 == 0 {
            frame.len()
        } else {
            frame.len().min(64)
        };
        let at = 12 + dice.below(limit - 12);
        frame[at] = match dice.roll() >> 40 & 3 {
            0 => frame[at] ^ 1 << dice.below(8),
            1 => 0,
            2 => 0xff,
            _ => dice.below(256) as u8,
        };
    }
    if dice.below(8) == 0 {
        frame.truncate(12 + dice.below(frame.len() - 12));
    }
}

/// Writes the checksum of ICMPv6 without extension headers, so that changes get further than it.
fn mend(frame: &mut [u8], ethernet: &Ethernet) {
    let Some(packet) = frame.get_mut(ethernet.payload_offset..) else {
        return;
    };
    if let Some(ip) = crate::ip::Ipv6::parse(packet).filter(|ip| ip.next_header == 58) {
        let message = &mut packet[40..40 + ip.payload_len];
        crate::icmpv6::complete(ip.source, ip.destination, message);
    }
}

/// What became of the frames: each of these must happen often, or the test tests little.
#[derive(Debug, Default)]
struct Seen {
    answered: u32,
    advertised: u32,
    reports: u32,
    too_big: u32,
    clamped: u32,
    malformed: u32,
}

/// Looks at one frame, and judges all that is made of it.
fn look(frame: &[u8], ethernet: &Ethernet, seen: &mut Seen) {
    let mut room = [0; ROOM];
    room[..frame.len()].copy_from_slice(frame);
    match inspect(frame, ethernet) {
        Inspected::Arp(request) => {
            assert!(answer::arp(
                &mut room[..frame.len()],
                ethernet,
                &request,
                OTHER_MAC
            ));
            seen.answered += 1;
        }
        Inspected::Solicitation(request) => {
            let len = answer::solicitation(&mut room, ethernet, &request, OTHER_MAC, false);
            let answer = &room[..len.expect("room")];
            assert!(host_takes(answer));
            let headers = Ethernet::parse(answer).expect("headers that were there");
            assert!(matches!(
                inspect(answer, &headers),
                Inspected::Advertisement(told) if told.target == request.target
            ));
            seen.advertised += 1;
        }
        Inspected::Igmp(heard) | Inspected::Mld(heard) => {
            assert!(heard.changes().count() <= frame.len() / 8);
            seen.reports += 1;
        }
        Inspected::Malformed => seen.malformed += 1,
        _ => {}
    }
    let mut out = [0; ROOM * 2];
    if let Some(len) = toobig::reply(frame, ethernet, 50, &mut out) {
        assert!(host_takes(&out[..len]));
        seen.too_big += 1;
    }
    alter(frame, ethernet, seen);
}

/// Changes a frame on its way as the engine does; who took it before takes it after.
fn alter(frame: &[u8], ethernet: &Ethernet, seen: &mut Seen) {
    let mut changed = [0; ROOM];
    let changed = &mut changed[..frame.len()];
    changed.copy_from_slice(frame);
    let ds_field = ecn::ds_field(frame, ethernet);
    ecn::set(changed, ethernet, ecn::CE);
    let clamped = mss::clamp(changed, ethernet, 1400);
    let marked = ecn::ds_field(changed, ethernet);
    assert!(
        ds_field.is_none()
            || changed.len() < ethernet.payload_offset + 20
            || marked == ds_field.map(|field| field | ecn::CE)
    );
    if clamped {
        assert_eq!(host_takes(changed), host_takes(frame));
        seen.clamped += 1;
    }
}

#[test]
fn ten_million_changed_frames_are_survived() {
    let originals = originals();
    assert!(originals.iter().all(|frame| frame.len() + 24 < ROOM));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut seen = Seen::default();
    let mut frame = Vec::with_capacity(ROOM);
    for _ in 0..FRAMES {
        frame.clear();
        frame.extend_from_slice(&originals[dice.below(originals.len())]);
        mutate(&mut frame, &mut dice);
        let Ok(ethernet) = Ethernet::parse(&frame) else {
            continue;
        };
        if dice.below(2) == 0 {
            mend(&mut frame, &ethernet);
        }
        look(&frame, &ethernet, &mut seen);
    }
    let least = [
        seen.answered,
        seen.advertised,
        seen.reports,
        seen.too_big,
        seen.clamped,
        seen.malformed,
    ];
    assert!(least.iter().all(|count| *count > 100_000), "{seen:?}");
}
