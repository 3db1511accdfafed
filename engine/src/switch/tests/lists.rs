//! What a peer is told when there is a session, and every minute.

use omni_control::message::VlanBits;
use omni_wire::record::{GROUPS_FIRST, GROUPS_LAST};

use super::super::GroupReport;
use super::*;

fn kinds(bench: &Bench, peer: PeerId) -> Vec<u8> {
    let to_peer = bench.records.iter().filter(|(_, to, _)| *to == peer);
    to_peer.map(|(.., record)| record[0]).collect()
}

#[test]
fn a_new_session_is_told_everything() {
    let mut bench = Bench::new();
    bench.learned(1, LOCAL);
    bench.bound(1, 1, LOCAL);
    bench.learned(2, LOCAL);
    bench.bound(2, 2, LOCAL);
    bench.hear(B, &[claim(2)]);
    bench.wait(20 * SECOND);
    bench.clear();
    bench.switch.peer_up(bench.now, A);
    bench.collect();
    assert_eq!(kinds(&bench, A), [5, 6, 1, 4]);
    assert_eq!(bench.records.len(), 4, "nobody else is");
    assert_eq!(bench.announcements().len(), 1);
    assert_eq!(bench.releases().len(), 1);
}

#[test]
fn the_vlans_told_are_those_of_all_ports() {
    let mut config = SwitchConfig::new(2, OWN_KEY);
    let mut first = VlanBits::NONE;
    first.insert(3);
    let mut second = VlanBits::NONE;
    second.insert(100);
    second.insert(4095);
    config.carried = vec![first, second];
    let mut bench = Bench::with(config, PeerLimits::default());
    bench.switch.peer_up(bench.now, A);
    bench.collect();
    let (.., record) = &bench.records[0];
    let mut expected = [0; 512];
    expected[0] = 1 << 3;
    expected[100 / 8] = 1 << (100 % 8);
    assert_eq!((record[0], &record[4..]), (5, &expected[..]));
}

#[test]
fn everything_is_told_again_every_60_s() {
    let mut bench = Bench::new();
    bench.learned(1, LOCAL);
    bench.bound(1, 1, LOCAL);
    bench.wait(5 * SECOND);
    bench.clear();
    bench.wait(Duration::from_secs(180));
    for peer in [A, B, C] {
        let lists = kinds(&bench, peer);
        let vlans = lists.iter().filter(|&&kind| kind == 5).count();
        assert_eq!(vlans, 3, "{lists:?}");
    }
    assert_eq!(bench.announcements().len(), 9);
}

#[test]
fn long_lists_are_packed_and_paced() {
    let mut bench = Bench::new();
    let hosts = 4000;
    for host in 0..hosts {
        bench.switch.learned(bench.now, 0, key(host), LOCAL);
        bench.switch.bound(bench.now, bound(host, host, LOCAL));
    }
    bench.collect();
    bench.wait(5 * SECOND);
    bench.clear();
    let start = bench.now;
    bench.switch.peer_up(bench.now, A);
    bench.collect();
    assert_eq!(bench.records.len(), 64, "no more at once");
    bench.wait(10 * MS);
    assert_eq!(bench.announcements().len(), hosts as usize);
    assert_eq!(bench.records.len(), 2 + (hosts as usize).div_ceil(59));
    assert!(
        bench
            .records
            .iter()
            .all(|(at, ..)| at.since(start) <= 10 * MS)
    );
}

#[test]
fn a_long_list_of_groups_has_a_first_and_a_last_record() {
    let mut bench = Bench::new();
    for n in 0..400 {
        let report = GroupReport {
            vlan: VLAN,
            port: PORT,
            group: IpAddr::from((0xef00_0000_u32 + n).to_be_bytes()),
            join: true,
        };
        bench.switch.group(bench.now, report);
    }
    bench.collect();
    bench.wait(12 * SECOND);
    bench.clear();
    bench.switch.peer_up(bench.now, A);
    bench.collect();
    let groups = bench.records.iter().filter(|(.., record)| record[0] == 6);
    let flags: Vec<u8> = groups.map(|(.., record)| record[4]).collect();
    assert_eq!(flags, [GROUPS_FIRST, 0, GROUPS_LAST]);
    assert_eq!(bench.group_changes().len(), 400);
}

#[test]
fn peers_without_session_are_told_nothing() {
    let mut bench = Bench::new();
    bench.switch.peer_down(A);
    bench.learned(1, LOCAL);
    bench.bound(1, 1, LOCAL);
    bench.wait(Duration::from_secs(200));
    assert!(kinds(&bench, A).is_empty());
    assert!(!kinds(&bench, B).is_empty());
}

#[test]
fn time_changes_nothing_before_the_first_and_comes_to_rest_after() {
    let mut switch = Switch::new(SwitchConfig::new(1, OWN_KEY));
    assert_eq!(switch.poll_timeout(), Some(Instant(0)), "it wants to begin");
    switch.handle_timeout(START);
    let next = switch.poll_timeout().expect("queries");
    assert!(next > START);
}
