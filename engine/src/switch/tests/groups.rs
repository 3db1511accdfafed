//! Multicast membership, queriers, queries.

use omni_control::message::VlanBits;
use omni_wire::record::{GROUPS_ALL, GROUPS_FIRST, GROUPS_LAST};

use super::super::GroupReport;
use super::*;

fn group(n: u32) -> IpAddr {
    IpAddr::from((0xef00_0000 + n).to_be_bytes())
}

fn report(bench: &mut Bench, n: u32, join: bool) {
    let report = GroupReport {
        vlan: VLAN,
        port: PORT,
        group: group(n),
        join,
    };
    bench.switch.group(bench.now, report);
    bench.collect();
}

fn change(n: u32, join: bool) -> GroupChange {
    GroupChange {
        join,
        vlan: VLAN,
        group: group(n),
    }
}

fn members(bench: &Bench, n: u32) -> Vec<Owner> {
    let mut all = bench.switch.groups();
    let found = all.find(|&(vlan, g, _)| (vlan, g) == (VLAN, group(n)));
    found.map(|(.., members)| members).unwrap_or_default()
}

fn groups_record(flags: u8, changes: &[GroupChange]) -> Vec<u8> {
    record_of(&[flags], changes)
}

/// What workers were told of who gets everything.
fn wants(bench: &Bench) -> Vec<(Owner, Option<u16>, bool)> {
    let of_wants = bench
        .orders
        .iter()
        .filter_map(|(_, command)| match command {
            Command::SetWantsAll { owner, vlan, wants } => Some((*owner, *vlan, *wants)),
            _ => None,
        });
    of_wants.collect()
}

fn set_groups(bench: &Bench) -> Vec<(IpAddr, Vec<Owner>)> {
    let of_groups = bench
        .orders
        .iter()
        .filter_map(|(_, command)| match command {
            Command::SetGroup { group, members, .. } => Some((*group, members.to_vec())),
            _ => None,
        });
    of_groups.collect()
}

fn flags_sent(bench: &Bench) -> Vec<u8> {
    let records = bench.records.iter();
    let groups = records.filter(|(.., record)| record[0] == omni_wire::record::GROUPS);
    groups.map(|(.., record)| record[4]).collect()
}

fn queries(bench: &Bench, since: Instant) -> Vec<(u64, PortId, u16, bool)> {
    let queries = bench.asks.iter().filter_map(|(at, ask)| match *ask {
        Send::Query { port, vlan, ipv6 } => Some((at.since(since).as_secs(), port, vlan, ipv6)),
        _ => None,
    });
    queries.collect()
}

#[test]
fn a_local_member_is_told_to_workers_and_peers_at_once_and_once_more() {
    let mut bench = Bench::new();
    report(&mut bench, 1, true);
    assert_eq!(set_groups(&bench), [(group(1), vec![LOCAL])]);
    let expected = [A, B, C].map(|peer| (peer, change(1, true)));
    assert_eq!(bench.group_changes(), expected);
    bench.clear();
    report(&mut bench, 1, true);
    assert!(
        bench.records.is_empty() && bench.orders.is_empty(),
        "no change"
    );
    bench.wait(2 * SECOND);
    assert_eq!(bench.group_changes(), expected);
}

#[test]
fn a_member_that_does_not_report_for_260_s_is_none() {
    let mut bench = Bench::new();
    report(&mut bench, 1, true);
    bench.wait(Duration::from_secs(259));
    assert_eq!(members(&bench, 1), [LOCAL]);
    bench.clear();
    bench.wait(SECOND);
    assert!(members(&bench, 1).is_empty());
    assert_eq!(set_groups(&bench), [(group(1), vec![])]);
    assert!(bench.group_changes().contains(&(A, change(1, false))));
}

#[test]
fn a_leave_is_followed_by_a_query_and_others_may_stay() {
    for stays in [false, true] {
        let mut bench = Bench::new();
        report(&mut bench, 1, true);
        bench.wait(20 * SECOND);
        bench.clear();
        let start = bench.now;
        report(&mut bench, 1, false);
        assert_eq!(members(&bench, 1), [LOCAL], "not yet");
        bench.wait(8 * SECOND);
        assert_eq!(queries(&bench, start)[0], (0, PORT, VLAN, false));
        if stays {
            report(&mut bench, 1, true);
        }
        bench.wait(4 * SECOND);
        assert_eq!(!members(&bench, 1).is_empty(), stays);
    }
}

#[test]
fn general_queries_are_asked_every_125_s_on_each_port() {
    let mut config = SwitchConfig::new(2, OWN_KEY);
    let mut carried = VlanBits::NONE;
    carried.insert(0);
    carried.insert(VLAN);
    config.carried = vec![carried, VlanBits::NONE];
    let mut bench = Bench {
        now: START,
        switch: Switch::new(config),
        orders: Vec::new(),
        asks: Vec::new(),
        records: Vec::new(),
    };
    bench.wait(Duration::from_secs(251));
    let expected: Vec<_> = [0, 125, 250]
        .into_iter()
        .flat_map(|at| [(at, 0), (at, VLAN)])
        .flat_map(|(at, vlan)| [false, true].map(|ipv6| (at, PORT, vlan, ipv6)))
        .collect();
    assert_eq!(queries(&bench, START), expected);
}

#[test]
fn a_port_with_many_vlans_is_asked_where_somebody_spoke() {
    let mut bench = Bench::new();
    let start = bench.now;
    bench.learned(1, LOCAL);
    bench.learned(2, ALPHA);
    assert_eq!(wants(&bench), [(LOCAL, Some(VLAN), true)]);
    bench.wait(SECOND);
    let expected = [false, true].map(|ipv6| (0, PORT, VLAN, ipv6));
    assert_eq!(queries(&bench, start), expected);
    bench.clear();
    bench.wait(10 * SECOND);
    assert_eq!(wants(&bench), [(LOCAL, Some(VLAN), false)]);
    bench.clear();
    bench.wait(Duration::from_secs(600));
    let asked = queries(&bench, start);
    let in_vlan = asked.iter().filter(|&&(_, _, vlan, _)| vlan == VLAN);
    assert_eq!(in_vlan.count(), 4, "until nobody spoke for long");
}

#[test]
fn ports_get_everything_until_hosts_could_answer() {
    let mut bench = Bench {
        now: START,
        switch: Switch::new(SwitchConfig::new(2, OWN_KEY)),
        orders: Vec::new(),
        asks: Vec::new(),
        records: Vec::new(),
    };
    let limits = PeerLimits::default();
    bench.switch.add_peer(START, A, public_key(A), limits);
    bench.switch.peer_up(START, A);
    bench.wait(Duration::from_secs(9));
    let both = |wants| [(LOCAL, None, wants), (OTHER_PORT, None, wants)];
    let expected = [(ALPHA, None, true)].into_iter().chain(both(true));
    assert_eq!(wants(&bench), expected.collect::<Vec<_>>());
    assert!(
        flags_sent(&bench)
            .iter()
            .all(|flags| flags & GROUPS_ALL != 0)
    );
    bench.clear();
    bench.wait(SECOND);
    assert_eq!(wants(&bench), both(false));
    assert_eq!(flags_sent(&bench), [0], "and peers are told");
}

#[test]
fn a_port_with_a_router_gets_everything_for_255_s() {
    let mut bench = Bench::new();
    bench.switch.querier(bench.now, VLAN, PORT);
    bench.collect();
    assert_eq!(wants(&bench), [(LOCAL, Some(VLAN), true)]);
    assert_eq!(flags_sent(&bench), [GROUPS_ALL; 3]);
    bench.wait(Duration::from_secs(125));
    bench.switch.querier(bench.now, VLAN, PORT);
    bench.clear();
    bench.wait(Duration::from_secs(254));
    assert!(wants(&bench).is_empty());
    bench.wait(SECOND);
    assert_eq!(wants(&bench), [(LOCAL, Some(VLAN), false)]);
    assert_eq!(flags_sent(&bench).last(), Some(&0));
}

#[test]
fn a_peer_gets_everything_until_its_full_list_came() {
    let mut bench = Bench::new();
    bench.hear_octets(A, &groups_record(0, &[change(1, true)]));
    assert_eq!(members(&bench, 1), [ALPHA]);
    assert!(wants(&bench).is_empty(), "a change is no list");
    bench.hear_octets(
        A,
        &groups_record(GROUPS_FIRST | GROUPS_LAST, &[change(2, true)]),
    );
    assert_eq!(wants(&bench), [(ALPHA, None, false)]);
    assert!(members(&bench, 1).is_empty(), "the list is everything");
    assert_eq!(members(&bench, 2), [ALPHA]);
    bench.clear();
    bench.hear_octets(A, &groups_record(GROUPS_ALL, &[]));
    bench.hear_octets(A, &groups_record(0, &[]));
    assert_eq!(wants(&bench), [(ALPHA, None, true), (ALPHA, None, false)]);
    assert_eq!(members(&bench, 2), [ALPHA]);
}

#[test]
fn of_a_list_in_several_records_one_may_be_lost() {
    let mut bench = Bench::new();
    let first = groups_record(GROUPS_FIRST, &[change(1, true)]);
    let middle = groups_record(0, &[change(2, true)]);
    let last = groups_record(GROUPS_LAST, &[change(3, true)]);
    for record in [&first, &middle, &last] {
        bench.hear_octets(A, record);
    }
    assert!(wants(&bench).is_empty(), "some of it may be missing");
    for record in [&first, &last] {
        bench.hear_octets(A, record);
    }
    assert_eq!(wants(&bench), [(ALPHA, None, false)]);
    assert_eq!(members(&bench, 2), [ALPHA], "missed once");
    for record in [&first, &last] {
        bench.hear_octets(A, record);
    }
    assert!(members(&bench, 2).is_empty(), "missed twice");
    assert_eq!(members(&bench, 3), [ALPHA]);
}

#[test]
fn members_behind_a_peer_that_says_nothing_are_forgotten() {
    let mut bench = Bench::new();
    bench.hear_octets(A, &groups_record(0, &[change(1, true)]));
    bench.wait(Duration::from_secs(260));
    assert!(members(&bench, 1).is_empty());
}

#[test]
fn leaves_of_a_peer_are_of_its_own_members() {
    let mut bench = Bench::new();
    report(&mut bench, 1, true);
    bench.hear_octets(A, &groups_record(0, &[change(1, true)]));
    bench.hear_octets(B, &groups_record(0, &[change(1, false)]));
    assert_eq!(members(&bench, 1), [LOCAL, ALPHA]);
    bench.hear_octets(A, &groups_record(0, &[change(1, false)]));
    assert_eq!(members(&bench, 1), [LOCAL]);
}

#[test]
fn addresses_that_are_no_groups_to_keep_are_left_out() {
    let mut bench = Bench::new();
    for text in ["10.0.0.1", "224.0.0.5", "ff02::1", "ff01::5", "fd00::1"] {
        let group: IpAddr = text.parse().expect("an address");
        let report = GroupReport {
            vlan: VLAN,
            port: PORT,
            group,
            join: true,
        };
        bench.switch.group(bench.now, report);
        let change = GroupChange {
            group,
            ..change(1, true)
        };
        bench.hear_octets(A, &groups_record(0, &[change]));
    }
    assert_eq!(bench.switch.groups().count(), 0);
    let solicited: IpAddr = "ff02::1:ff00:1".parse().expect("an address");
    let change = GroupChange {
        group: solicited,
        ..change(1, true)
    };
    bench.hear_octets(A, &groups_record(0, &[change]));
    assert_eq!(bench.switch.groups().count(), 1);
}

#[test]
fn a_peer_with_too_many_groups_gets_everything() {
    let mut bench = Bench::new();
    bench.hear_octets(A, &groups_record(GROUPS_FIRST | GROUPS_LAST, &[]));
    bench.clear();
    for n in 0..2000 {
        bench.hear_octets(A, &groups_record(0, &[change(n, true)]));
        bench.wait(2 * MS);
    }
    assert_eq!(bench.switch.groups().count(), 1024);
    assert_eq!(wants(&bench), [(ALPHA, None, true)]);
    bench.hear_octets(
        A,
        &groups_record(GROUPS_FIRST | GROUPS_LAST, &[change(1, true)]),
    );
    assert_eq!(wants(&bench).last(), Some(&(ALPHA, None, false)));
}

#[test]
fn a_port_with_too_many_groups_gets_everything_and_peers_send_it() {
    let mut bench = Bench::new();
    for n in 0..1025 {
        report(&mut bench, n, true);
    }
    assert_eq!(wants(&bench), [(LOCAL, Some(VLAN), true)]);
    assert_eq!(flags_sent(&bench).last(), Some(&GROUPS_ALL));
}

#[test]
fn a_switch_that_does_not_snoop_gets_everything_and_asks_nothing() {
    let mut config = SwitchConfig::new(1, OWN_KEY);
    config.snoop = false;
    let mut bench = Bench {
        now: START,
        switch: Switch::new(config),
        orders: Vec::new(),
        asks: Vec::new(),
        records: Vec::new(),
    };
    bench
        .switch
        .add_peer(START, A, public_key(A), PeerLimits::default());
    bench.switch.peer_up(START, A);
    bench.wait(Duration::from_secs(300));
    bench.learned(1, LOCAL);
    report(&mut bench, 1, true);
    bench.wait(SECOND);
    assert_eq!(wants(&bench), [(ALPHA, None, true), (LOCAL, None, true)]);
    assert!(bench.asks.is_empty());
    assert!(
        flags_sent(&bench)
            .iter()
            .all(|&flags| { flags == GROUPS_FIRST | GROUPS_LAST | GROUPS_ALL })
    );
    assert_eq!(bench.switch.groups().count(), 0);
}
