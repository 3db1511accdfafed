//! Reports of every version, and records that a switch has to tell apart.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::icmpv6::{complete, complete_over};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x1234);
const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// An IGMP message, its checksum right.
fn igmp(octets: &[u8]) -> Vec<u8> {
    let mut message = Vec::from(octets);
    complete_over(0, &mut message);
    message
}

/// The changes of an IGMP message.
fn heard(message: &[u8]) -> Option<Vec<Change>> {
    match parse_igmp(message)? {
        Message::Report(report) => Some(report.changes().collect()),
        Message::Query => None,
    }
}

fn packet(source: Ipv6Addr) -> Ipv6 {
    Ipv6 {
        source,
        destination: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16),
        next_header: 0,
        hop_limit: 1,
        payload_len: 0,
    }
}

/// An MLD message from this address, its checksum right.
fn mld(source: Ipv6Addr, octets: &[u8]) -> Vec<u8> {
    let mut message = Vec::from(octets);
    complete(source, packet(source).destination, &mut message);
    message
}

fn heard_v6(source: Ipv6Addr, octets: &[u8]) -> Option<Vec<Change>> {
    let message = mld(source, octets);
    match parse_mld(&packet(source), &message)? {
        Message::Report(report) => Some(report.changes().collect()),
        Message::Query => None,
    }
}

/// A record of this kind with these many words of auxiliary data and sources.
fn entry(kind: u8, group: IpAddr, sources: u8, auxiliary: u8) -> Vec<u8> {
    let mut entry = vec![kind, auxiliary, 0, sources];
    let len = match group {
        IpAddr::V4(group) => {
            entry.extend(group.octets());
            4
        }
        IpAddr::V6(group) => {
            entry.extend(group.octets());
            16
        }
    };
    // Were they not stepped over, they would read as joins of a group.
    entry.extend([0xef; 16].repeat(usize::from(sources))[..usize::from(sources) * len].iter());
    entry.extend([0xef; 4].repeat(usize::from(auxiliary)));
    entry
}

/// A report with these records.
fn report(kind: u8, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = vec![kind, 0, 0, 0, 0, 0, 0, entries.len() as u8];
    octets.extend(entries.concat());
    octets
}

fn of(group: impl Into<IpAddr>, join: bool) -> Change {
    Change {
        group: group.into(),
        join,
    }
}

#[test]
fn reports_of_one_group_join_it_and_a_leave_leaves_it() {
    for (kind, join) in [(0x12, true), (0x16, true), (0x17, false)] {
        let message = igmp(&[kind, 0, 0, 0, 239, 1, 2, 3]);
        assert_eq!(heard(&message), Some(vec![of(GROUP, join)]), "{kind:#x}");
        let none = igmp(&[kind, 0, 0, 0, 10, 1, 2, 3]);
        assert_eq!(heard(&none), None, "no group");
    }
    // RFC 2236 s.2: the checksum of a version 2 report for 224.0.0.251, by hand.
    let report = [0x16, 0, 0x09, 0x04, 224, 0, 0, 251];
    assert!(heard(&report).is_some());
    for (kind, join) in [(131, true), (132, false)] {
        let mut octets = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        octets.extend(GROUP_V6.octets());
        assert_eq!(heard_v6(HOST, &octets), Some(vec![of(GROUP_V6, join)]));
        octets[8] = 0xfe;
        assert_eq!(heard_v6(HOST, &octets), None, "no group");
        assert_eq!(heard_v6(HOST, &octets[..23]), None, "cut off");
    }
}

#[test]
fn records_join_and_leave_by_their_kind_and_whether_they_have_sources() {
    for (kind, sources, expected) in [
        (1, 0, Some(false)),
        (1, 2, Some(true)),
        (2, 0, Some(true)),
        (2, 2, Some(true)),
        (3, 0, Some(false)),
        (3, 2, Some(true)),
        (4, 0, Some(true)),
        (4, 2, Some(true)),
        (5, 0, None),
        (5, 2, Some(true)),
        (6, 0, None),
        (6, 2, None),
        (0, 2, None),
        (7, 2, None),
    ] {
        for auxiliary in [0, 3] {
            let last = |group: IpAddr| entry(4, group, 0, 0);
            let records = [
                entry(kind, GROUP.into(), sources, auxiliary),
                last(GROUP.into()),
            ];
            let mut changes: Vec<_> = expected.map(|join| of(GROUP, join)).into_iter().collect();
            changes.push(of(GROUP, true));
            assert_eq!(heard(&igmp(&report(0x22, &records))), Some(changes));
            let records = [
                entry(kind, GROUP_V6.into(), sources, auxiliary),
                last(GROUP_V6.into()),
            ];
            let mut changes: Vec<_> = expected
                .map(|join| of(GROUP_V6, join))
                .into_iter()
                .collect();
            changes.push(of(GROUP_V6, true));
            assert_eq!(heard_v6(HOST, &report(143, &records)), Some(changes));
        }
    }
}

#[test]
fn a_report_holds_as_many_records_as_there_are_and_as_it_says() {
    let records: Vec<_> = (0..200u8)
        .map(|host| entry(4, Ipv4Addr::new(239, 0, 0, host).into(), 1, 0))
        .collect();
    let all = report(0x22, &records);
    assert_eq!(heard(&igmp(&all)).map(|changes| changes.len()), Some(200));
    let mut fewer = all.clone();
    fewer[7] = 3;
    assert_eq!(heard(&igmp(&fewer)).map(|changes| changes.len()), Some(3));
    let mut more = all.clone();
    more[6] = 0xff;
    assert_eq!(heard(&igmp(&more)).map(|changes| changes.len()), Some(200));
    // The sources of the last one are cut off.
    let cut = igmp(&all[..all.len() - 1]);
    assert_eq!(heard(&cut).map(|changes| changes.len()), Some(199));
    let not_a_group = [entry(4, Ipv4Addr::LOCALHOST.into(), 0, 0)];
    assert_eq!(heard(&igmp(&report(0x22, &not_a_group))), Some(vec![]));
}

#[test]
fn who_asks_is_told_from_who_listens() {
    for len in [8, 12] {
        let mut octets = vec![0; len];
        octets[0] = 0x11;
        assert_eq!(parse_igmp(&igmp(&octets)), Some(Message::Query));
    }
    let mut octets = vec![0; 28];
    octets[0] = 130;
    for len in [24, 28] {
        let query = mld(HOST, &octets[..len]);
        assert_eq!(parse_mld(&packet(HOST), &query), Some(Message::Query));
    }
    let nobody = Ipv6Addr::UNSPECIFIED;
    let query = mld(nobody, &octets);
    assert_eq!(parse_mld(&packet(nobody), &query), None);
}

#[test]
fn what_is_damaged_cut_off_or_not_from_the_link_is_not_heard() {
    let message = igmp(&[0x16, 0, 0, 0, 239, 1, 2, 3]);
    for at in 0..8 {
        let mut damaged = message.clone();
        damaged[at] ^= 1;
        assert_eq!(parse_igmp(&damaged), None, "octet {at}");
    }
    for len in 0..8 {
        assert_eq!(parse_igmp(&igmp(&message[..len])), None, "{len}");
    }
    assert_eq!(parse_igmp(&igmp(&[0x13, 0, 0, 0, 239, 1, 2, 3])), None);
    let octets = report(143, &[entry(4, GROUP_V6.into(), 0, 0)]);
    let from = |source: Ipv6Addr, hop_limit: u8| {
        let ip = Ipv6 {
            hop_limit,
            ..packet(source)
        };
        parse_mld(&ip, &mld(source, &octets)).is_some()
    };
    assert!(from(HOST, 1) && from(Ipv6Addr::UNSPECIFIED, 1));
    assert!(!from(HOST, 2) && !from(HOST, 0) && !from(HOST, 255));
    assert!(!from(Ipv6Addr::LOCALHOST, 1) && !from(GROUP_V6, 1));
    let mut damaged = mld(HOST, &octets);
    damaged[9] ^= 1;
    assert_eq!(parse_mld(&packet(HOST), &damaged), None);
}

#[test]
fn groups_that_nobody_has_to_report_are_for_all() {
    for (group, all) in [
        ("224.0.0.1", true),
        ("224.0.0.251", true),
        ("224.0.1.1", false),
        ("224.128.0.1", false),
        ("239.0.0.1", false),
        ("ff02::1", true),
        ("ff01::2", true),
        ("ff00::2", true),
        ("ff02::2", false),
        ("ff02::1:ff00:1", false),
        ("ff05::1", false),
        ("ff12::1", false),
    ] {
        let group: IpAddr = group.parse().expect("an address");
        assert_eq!(is_for_all(group), all, "{group}");
    }
}

#[test]
fn group_addresses_lose_nine_bits() {
    let mac = crate::MacAddr([1, 0, 0x5e, 0x01, 2, 3]);
    assert_eq!(group_mac(GROUP), mac);
    assert_eq!(group_mac(Ipv4Addr::new(224, 129, 2, 3)), mac);
}

proptest! {
    #[test]
    fn any_octets_give_few_changes_to_groups(
        kind in prop_oneof![Just(0x22u8), any::<u8>()],
        octets in proptest::collection::vec(any::<u8>(), 0..300),
        records in 0u8..8,
    ) {
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, records];
        message.extend(octets);
        for changes in [heard(&igmp(&message)), heard_v6(HOST, &message)].into_iter().flatten() {
            prop_assert!(changes.len() <= message.len() / 8);
            prop_assert!(changes.iter().all(|change| change.group.is_multicast()));
        }
    }

    #[test]
    fn records_read_as_they_were_made(
        made in proptest::collection::vec((1u8..7, any::<[u8; 3]>(), 0u8..5, 0u8..3), 0..20),
    ) {
        let entries: Vec<_> = made
            .iter()
            .map(|(kind, [b, c, d], sources, auxiliary)| {
                entry(*kind, Ipv4Addr::new(239, *b, *c, *d).into(), *sources, *auxiliary)
            })
            .collect();
        let heard = heard(&igmp(&report(0x22, &entries))).expect("a report");
        let expected: Vec<_> = made
            .iter()
            .filter(|(kind, _, sources, _)| *kind < 5 || (*kind == 5 && *sources > 0))
            .map(|(kind, [b, c, d], sources, _)| {
                let join = !(kind % 2 == 1 && *sources == 0);
                of(Ipv4Addr::new(239, *b, *c, *d), join)
            })
            .collect();
        prop_assert_eq!(heard, expected);
    }
}
