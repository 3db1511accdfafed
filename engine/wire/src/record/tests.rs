use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 9));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9));

fn write<E: Entry>(prefix: &[u8], entries: &[E]) -> Vec<u8> {
    let mut out = vec![0xaa; RECORD_MAX];
    let mut writer = Writer::new(&mut out, prefix).expect("room");
    for entry in entries {
        assert!(writer.push(entry), "room");
    }
    let len = writer.finish();
    out.truncate(len);
    out
}

#[test]
fn an_announcement_lies_where_the_document_says() {
    let entry = Announcement {
        vlan: 0x0102,
        sequence: 0x0304_0506,
        lifetime: 300,
        mac: MAC,
        ip: V4,
    };
    let octets = write(&[], &[entry]);
    let expected = [
        1, 0, 0, 20, 1, 2, 4, 0, 3, 4, 5, 6, 1, 44, 2, 0, 0, 0, 0, 9, 10, 7, 0, 9,
    ];
    assert_eq!(octets, expected);
}

#[test]
fn a_withdrawal_lies_where_the_document_says() {
    let entry = Withdrawal {
        vlan: 7,
        sequence: 1,
        ip: V6,
    };
    let octets = write(&[], &[entry]);
    assert_eq!(octets[..12], [2, 0, 0, 24, 0, 7, 6, 0, 0, 0, 0, 1]);
    assert_eq!(octets[12..14], [0xfd, 0]);
    assert_eq!((octets.len(), octets[27]), (28, 9));
}

#[test]
fn claims_and_releases_lie_where_the_document_says() {
    let claim = Claim {
        vlan: 7,
        mac: MAC,
        sequence: 5,
    };
    let octets = write(&[], &[claim]);
    assert_eq!(octets, [3, 0, 0, 12, 0, 7, 2, 0, 0, 0, 0, 9, 0, 0, 0, 5]);
    let release = Release {
        vlan: 7,
        mac: MAC,
        sequence: 5,
        owner: [0x55; 32],
    };
    let octets = write(&[], &[release]);
    assert_eq!(octets[..4], [4, 0, 0, 44]);
    assert_eq!(octets[4..16], [0, 7, 2, 0, 0, 0, 0, 9, 0, 0, 0, 5]);
    assert_eq!(octets[16..], [0x55; 32]);
}

#[test]
fn groups_lie_where_the_document_says() {
    let group = IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3));
    let change = |join| GroupChange {
        join,
        vlan: 7,
        group,
    };
    let octets = write(&[GROUPS_FIRST | GROUPS_ALL], &[change(true), change(false)]);
    let expected = [
        6, 0, 0, 17, 5, 1, 4, 0, 7, 239, 1, 2, 3, 2, 4, 0, 7, 239, 1, 2, 3,
    ];
    assert_eq!(octets, expected);
}

#[test]
fn a_set_of_vlans_is_512_octets() {
    let mut vlans = [0; VLANS_LEN];
    vlans[100 / 8] |= 1 << (100 % 8);
    let mut out = [0; RECORD_MAX];
    let len = emit_vlans(&mut out, &vlans).expect("room");
    assert_eq!((len, &out[..4]), (516, &[5, 0, 2, 0][..]));
    assert_eq!(out[4 + 12], 0x10);
    let Some(Record::Vlans(read)) = Record::parse(&out[..len]) else {
        panic!("a set of VLANs");
    };
    assert_eq!(read, &vlans);
    assert!(Record::parse(&[&[5, 0, 1, 255][..], &[0; 511]].concat()).is_none());
}

#[test]
fn probes_have_the_size_asked_for_and_are_answered_with_their_token() {
    let token = [1, 2, 3, 4, 5, 6, 7, 8];
    let mut out = [0xaa; 1500];
    for size in [12, 13, 576, 1500] {
        assert_eq!(emit_probe(&mut out, token, size), Some(size));
        assert!(out[12..size].iter().all(|&octet| octet == 0));
        let read = Record::parse(&out[..size]);
        assert!(matches!(read, Some(Record::Probe { token: read }) if read == token));
    }
    assert_eq!(emit_probe(&mut out, token, 11), None, "too short");
    assert_eq!(emit_probe(&mut out, token, 1501), None, "no room");
    let mut long = vec![0; 70_000];
    assert_eq!(emit_probe(&mut long, token, 65_539), Some(65_539));
    assert_eq!(emit_probe(&mut long, token, 65_540), None, "no record");

    assert_eq!(emit_probe_ack(&mut out, token, 1420), Some(14));
    let read = Record::parse(&out[..14]);
    assert!(matches!(
        read,
        Some(Record::ProbeAck { token: read, size: 1420 }) if read == token
    ));
}

#[test]
fn unknown_kinds_are_left_to_later_versions() {
    for kind in (0..=u8::MAX).filter(|kind| !matches!(kind, 1..=6 | 16 | 17)) {
        let octets = [kind, 0, 0, 0];
        let read = Record::parse(&octets);
        assert!(matches!(read, Some(Record::Unknown { kind: read }) if read == kind));
    }
}

#[test]
fn a_record_shorter_than_it_says_is_none_and_a_longer_one_is_padded() {
    let claim = Claim {
        vlan: 0,
        mac: MAC,
        sequence: 1,
    };
    let mut octets = write(&[], &[claim]);
    for len in 0..octets.len() {
        assert!(Record::parse(&octets[..len]).is_none());
    }
    octets.extend_from_slice(&[0xff; 12]);
    let Some(Record::Claim(claims)) = Record::parse(&octets) else {
        panic!("claims");
    };
    assert_eq!(claims.collect::<Vec<_>>(), [claim]);
}

#[test]
fn what_is_left_after_the_last_whole_entry_is_ignored() {
    let claim = Claim {
        vlan: 0,
        mac: MAC,
        sequence: 1,
    };
    let mut octets = write(&[], &[claim, claim]);
    octets.pop();
    octets[3] -= 1;
    let Some(Record::Claim(claims)) = Record::parse(&octets) else {
        panic!("claims");
    };
    assert_eq!(claims.count(), 1);
}

#[test]
fn an_unknown_family_ends_the_list_and_an_unknown_operation_is_left_out() {
    let change = GroupChange {
        join: true,
        vlan: 7,
        group: V4,
    };
    let mut octets = write(&[0], &[change, change, change]);
    octets[4 + 1 + 8] = 3;
    let count = |octets: &[u8]| match Record::parse(octets) {
        Some(Record::Groups { changes, .. }) => changes.count(),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(&octets), 2);
    octets[4 + 1 + 8 + 1] = 5;
    assert_eq!(count(&octets), 1);
}

#[test]
fn a_full_record_refuses_the_next_entry_and_stays_whole() {
    let entry = Release {
        vlan: 1,
        mac: MAC,
        sequence: 2,
        owner: [3; 32],
    };
    let mut out = [0; RECORD_MAX];
    let mut writer = Writer::new(&mut out, &[]).expect("room");
    let mut count = 0;
    while writer.push(&entry) {
        count += 1;
    }
    let len = writer.finish();
    assert_eq!((count, len), (27, 4 + 27 * 44));
    let Some(Record::Release(read)) = Record::parse(&out[..len]) else {
        panic!("releases");
    };
    assert_eq!(read.collect::<Vec<_>>(), vec![entry; 27]);
    assert!(Writer::<Release>::new(&mut out[..3], &[]).is_none());
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ]
}

prop_compose! {
    fn any_announcement()(
        vlan: u16, sequence: u32, lifetime: u16, mac: [u8; 6], ip in any_ip(),
    ) -> Announcement {
        Announcement { vlan, sequence, lifetime, mac: MacAddr(mac), ip }
    }
}

prop_compose! {
    fn any_withdrawal()(vlan: u16, sequence: u32, ip in any_ip()) -> Withdrawal {
        Withdrawal { vlan, sequence, ip }
    }
}

prop_compose! {
    fn any_change()(join: bool, vlan: u16, group in any_ip()) -> GroupChange {
        GroupChange { join, vlan, group }
    }
}

proptest! {
    #[test]
    fn announcements_read_back(entries in proptest::collection::vec(any_announcement(), 0..37)) {
        let octets = write(&[], &entries);
        let Some(Record::Announce(read)) = Record::parse(&octets) else {
            return Err(TestCaseError::fail("announcements"));
        };
        prop_assert_eq!(read.collect::<Vec<_>>(), entries);
    }

    #[test]
    fn withdrawals_read_back(entries in proptest::collection::vec(any_withdrawal(), 0..40)) {
        let octets = write(&[], &entries);
        let Some(Record::Withdraw(read)) = Record::parse(&octets) else {
            return Err(TestCaseError::fail("withdrawals"));
        };
        prop_assert_eq!(read.collect::<Vec<_>>(), entries);
    }

    #[test]
    fn groups_read_back(
        flags: u8,
        entries in proptest::collection::vec(any_change(), 0..50),
    ) {
        let octets = write(&[flags], &entries);
        let Some(Record::Groups { flags: read_flags, changes }) = Record::parse(&octets) else {
            return Err(TestCaseError::fail("groups"));
        };
        prop_assert_eq!(read_flags, flags);
        prop_assert_eq!(changes.collect::<Vec<_>>(), entries);
    }

    #[test]
    fn any_octets_give_a_record_of_bounded_entries_or_none(
        kind in 0u8..20,
        octets in proptest::collection::vec(any::<u8>(), 0..200),
        length: Option<u8>,
    ) {
        let mut record = octets;
        if let [first, _, high, low, rest @ ..] = &mut record[..] {
            *first = kind;
            *high = 0;
            *low = length.unwrap_or(rest.len() as u8);
        }
        let body = record.len().saturating_sub(RECORD_HEADER_LEN);
        let count = match Record::parse(&record) {
            Some(Record::Announce(entries)) => entries.count() * 20,
            Some(Record::Withdraw(entries)) => entries.count() * 12,
            Some(Record::Claim(entries)) => entries.count() * 12,
            Some(Record::Release(entries)) => entries.count() * 44,
            Some(Record::Groups { changes, .. }) => changes.count() * 8,
            _ => 0,
        };
        prop_assert!(count <= body);
    }
}
