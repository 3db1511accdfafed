//! Bindings: who may have one, how long, what is announced.

use super::super::{BINDING_LIFETIME, Source, SwitchLimits};
use super::*;

fn at_home() -> Bench {
    let mut bench = Bench::new();
    bench.learned(1, LOCAL);
    bench.bound(1, 1, LOCAL);
    bench
}

fn binds(bench: &Bench) -> Vec<String> {
    let of_bindings = bench
        .orders
        .iter()
        .filter_map(|(_, command)| match command {
            Command::Bind { ip, mac, owner, .. } => Some(format!("{ip} {mac} {owner:?}")),
            Command::Unbind { ip, .. } => Some(format!("{ip} gone")),
            _ => None,
        });
    of_bindings.collect()
}

#[test]
fn a_local_binding_is_announced_at_once_and_once_more() {
    let mut bench = at_home();
    assert_eq!(bench.binding(1), Some((mac(1), LOCAL)));
    assert_eq!(binds(&bench), [format!("{} {} {LOCAL:?}", ip(1), mac(1))]);
    let sent = bench.announcements();
    let to: Vec<PeerId> = sent.iter().map(|&(peer, _)| peer).collect();
    assert_eq!(to, [A, B, C]);
    assert_eq!(sent[0].1, announcement(1, 1, sent[0].1.sequence));
    bench.clear();
    bench.wait(2 * SECOND);
    assert_eq!(bench.announcements(), sent);
}

#[test]
fn workers_that_learned_what_is_refused_are_set_right() {
    let mut bench = at_home();
    bench.learned(2, ALPHA);
    bench.clear();
    bench.bound(1, 2, ALPHA);
    bench.bound(7, 3, BETA);
    let known = format!("{} {} {LOCAL:?}", ip(1), mac(1));
    assert_eq!(binds(&bench), [known, format!("{} gone", ip(7))]);
}

#[test]
fn nobody_inherits_from_a_host_that_moves() {
    let mut bench = Bench::new();
    bench.learned(1, ALPHA);
    bench.learned(2, BETA);
    bench.bound(1, 1, ALPHA);
    bench.bound(1, 2, BETA);
    bench.hear(A, &[release(1, 5, public_key(C))]);
    assert_eq!(bench.binding(1), None);
    bench.learned(1, GAMMA);
    bench.bound(1, 1, GAMMA);
    assert_eq!(bench.binding(1), Some((mac(1), GAMMA)));
}

#[test]
fn many_changes_at_once_share_records() {
    let mut bench = Bench::new();
    for host in 0..100 {
        bench.switch.learned(bench.now, 0, key(host), LOCAL);
        bench.switch.bound(bench.now, bound(host, host, LOCAL));
    }
    bench.collect();
    assert_eq!(bench.announcements().len(), 300);
    let records = bench.records.iter();
    let announces = records.filter(|(.., record)| record[0] == 1);
    assert_eq!(announces.count(), 3 * 2);
}

#[test]
fn whose_mac_address_is_not_its_own_binds_nothing() {
    let mut bench = at_home();
    bench.learned(2, ALPHA);
    bench.bound(7, 2, LOCAL);
    bench.bound(7, 1, ALPHA);
    bench.bound(7, 3, LOCAL);
    bench.hear(B, &[announcement(7, 1, 1), announcement(7, 2, 1)]);
    assert_eq!(bench.binding(7), None);
    assert_eq!(bench.switch.counters().bindings_refused, 5);
    bench.hear(A, &[announcement(7, 2, 1)]);
    assert_eq!(bench.binding(7), Some((mac(2), ALPHA)));
    bench.hear(B, &[announcement(8, 3, 1)]);
    assert_eq!(
        bench.binding(8),
        Some((mac(3), BETA)),
        "nobody's MAC address"
    );
}

#[test]
fn addresses_that_no_host_has_are_not_bound() {
    let mut bench = at_home();
    let texts = [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
        "::ffff:10.0.0.1",
    ];
    for text in texts {
        let ip: IpAddr = text.parse().expect("an address");
        let own = bound(1, 1, LOCAL);
        bench.switch.bound(bench.now, Bound { ip, ..own });
        let theirs = announcement(1, 5, 1);
        bench.hear(A, &[Announcement { ip, ..theirs }]);
    }
    let groups = [
        MacAddr::BROADCAST,
        MacAddr::ZERO,
        MacAddr([1, 0, 0, 0, 0, 1]),
    ];
    for mac in groups {
        let theirs = announcement(3, 5, 1);
        bench.hear(A, &[Announcement { mac, ..theirs }]);
    }
    for vlan in [4095, 4096, u16::MAX] {
        let theirs = announcement(3, 5, 1);
        bench.hear(A, &[Announcement { vlan, ..theirs }]);
    }
    let theirs = announcement(3, 5, 1);
    bench.hear(
        A,
        &[Announcement {
            lifetime: 0,
            ..theirs
        }],
    );
    assert_eq!(bench.switch.neighbors().count(), 1);
}

#[test]
fn the_first_live_owner_holds_an_address() {
    let mut bench = Bench::new();
    bench.hear(A, &[announcement(1, 1, 1)]);
    bench.hear(B, &[announcement(1, 2, 9)]);
    bench.learned(3, LOCAL);
    bench.bound(1, 3, LOCAL);
    assert_eq!(bench.binding(1), Some((mac(1), ALPHA)));
    bench.clear();
    // The local host is the heir.
    bench.hear(A, &[withdrawal(1, 2)]);
    assert_eq!(bench.binding(1), Some((mac(3), LOCAL)));
    assert_eq!(bench.announcements().len(), 3);
}

#[test]
fn a_peer_cannot_bind_what_a_local_port_holds() {
    let mut bench = at_home();
    bench.learned(2, ALPHA);
    let start = bench.now;
    bench.hear(A, &[announcement(1, 2, 9)]);
    bench.bound(1, 2, ALPHA);
    assert_eq!(bench.binding(1), Some((mac(1), LOCAL)));
    bench.wait(150 * MS);
    let expected = [0, 100].map(|at| (at, PORT, mac(1), ip(1)));
    assert_eq!(bench.asked(start), expected, "but the host is asked");
    bench.bound(1, 1, LOCAL);
    bench.wait(10 * SECOND);
    assert_eq!(bench.binding(1), Some((mac(1), LOCAL)));
    assert!(bench.withdrawals().is_empty());
}

#[test]
fn a_silent_host_loses_an_address_that_another_wants() {
    let mut bench = at_home();
    bench.wait(40 * SECOND);
    bench.learned(2, ALPHA);
    bench.hear(A, &[announcement(1, 2, 9)]);
    bench.wait(399 * MS);
    assert_eq!(bench.binding(1), Some((mac(1), LOCAL)));
    bench.wait(MS);
    assert_eq!(bench.binding(1), Some((mac(2), ALPHA)));
    assert_eq!(bench.withdrawals().len(), 3);
    assert_eq!(bench.owner(1), Some(LOCAL), "its MAC address stays");
}

#[test]
fn a_host_that_has_given_up_an_address_loses_it_though_it_lives() {
    let mut bench = at_home();
    bench.learned(2, ALPHA);
    bench.hear(A, &[announcement(1, 2, 9)]);
    let is_watch = |(_, order): &(_, Command)| matches!(order, Command::BindWatch { .. });
    assert!(bench.orders.iter().any(is_watch), "answers are wanted");
    bench.learned(1, LOCAL);
    bench.wait(SECOND);
    assert_eq!(bench.binding(1), Some((mac(2), ALPHA)));
}

#[test]
fn a_neighbour_on_the_same_port_cannot_take_the_address_of_a_live_host() {
    let mut bench = at_home();
    bench.learned(2, LOCAL);
    bench.bound(1, 2, LOCAL);
    bench.bound(1, 1, LOCAL);
    bench.wait(SECOND);
    assert_eq!(bench.binding(1), Some((mac(1), LOCAL)));
    bench.bound(1, 2, LOCAL);
    bench.wait(SECOND);
    assert_eq!(bench.binding(1), Some((mac(2), LOCAL)), "when it is silent");
}

#[test]
fn what_a_peers_hosts_say_does_not_change_what_the_peer_has() {
    let mut bench = Bench::new();
    bench.learned(1, ALPHA);
    bench.learned(2, ALPHA);
    bench.hear(A, &[announcement(1, 1, 1)]);
    bench.bound(1, 2, ALPHA);
    assert_eq!(bench.binding(1), Some((mac(1), ALPHA)));
    bench.hear(A, &[announcement(1, 2, 2)]);
    assert_eq!(
        bench.binding(1),
        Some((mac(2), ALPHA)),
        "the peer itself does"
    );
}

#[test]
fn a_snooped_binding_of_a_peer_holds_until_it_is_announced() {
    let mut bench = Bench::new();
    bench.learned(1, ALPHA);
    bench.bound(1, 1, ALPHA);
    let source = |bench: &Bench| bench.switch.neighbors().map(|n| n.source).next();
    assert_eq!(source(&bench), Some(Source::Snooped));
    bench.hear(A, &[announcement(1, 1, 1)]);
    assert_eq!(source(&bench), Some(Source::Announced));
    bench.wait(BINDING_LIFETIME);
    assert_eq!(source(&bench), None);
}

#[test]
fn silent_local_hosts_are_asked_three_times_from_225_s_on_and_withdrawn_at_300_s() {
    let mut bench = at_home();
    let start = bench.now;
    bench.clear();
    bench.wait(Duration::from_millis(299_999));
    let expected = [225_000, 250_000, 275_000].map(|at| (at, PORT, mac(1), ip(1)));
    assert_eq!(bench.asked(start), expected);
    assert!(bench.binding(1).is_some());
    bench.wait(MS);
    assert_eq!(bench.binding(1), None);
    assert_eq!(bench.withdrawals().len(), 3);
}

#[test]
fn a_host_that_answers_keeps_its_binding() {
    let mut bench = at_home();
    for _ in 0..10 {
        bench.wait(Duration::from_secs(230));
        bench.learned(1, LOCAL);
        bench.bound(1, 1, LOCAL);
    }
    assert_eq!(bench.binding(1), Some((mac(1), LOCAL)));
    assert!(bench.withdrawals().is_empty());
}

#[test]
fn a_peers_binding_lives_as_long_as_announced_and_no_longer_than_300_s() {
    let mut bench = Bench::new();
    let long = Announcement {
        lifetime: u16::MAX,
        ..announcement(1, 1, 1)
    };
    let short = Announcement {
        lifetime: 10,
        ..announcement(2, 2, 1)
    };
    bench.hear(A, &[long, short]);
    bench.wait(10 * SECOND);
    assert_eq!(bench.binding(2), None);
    bench.wait(Duration::from_secs(289));
    assert!(bench.binding(1).is_some());
    bench.wait(SECOND);
    assert_eq!(bench.binding(1), None);
}

#[test]
fn withdrawals_are_only_of_ones_own() {
    let mut bench = at_home();
    bench.hear(A, &[announcement(2, 2, 1)]);
    for peer in [B, C] {
        bench.hear(
            peer,
            &[withdrawal(1, u32::MAX / 3), withdrawal(2, u32::MAX / 3)],
        );
    }
    bench.hear(A, &[withdrawal(1, 9)]);
    assert_eq!(bench.binding(1), Some((mac(1), LOCAL)));
    assert_eq!(bench.binding(2), Some((mac(2), ALPHA)));
    bench.hear(A, &[withdrawal(2, 9)]);
    assert_eq!(bench.binding(2), None);
}

#[test]
fn records_that_overtook_each_other_leave_the_newest() {
    let mut bench = Bench::new();
    bench.hear(A, &[announcement(1, 2, 6)]);
    bench.hear(A, &[announcement(1, 1, 5)]);
    assert_eq!(bench.binding(1), Some((mac(2), ALPHA)));
    bench.hear(A, &[withdrawal(1, 5)]);
    assert_eq!(bench.binding(1), Some((mac(2), ALPHA)), "of an older one");
    bench.hear(A, &[withdrawal(1, 7)]);
    bench.hear(A, &[announcement(1, 2, 6)]);
    assert_eq!(bench.binding(1), None, "the withdrawal was newer");
    bench.hear(A, &[announcement(1, 2, 8)]);
    assert_eq!(bench.binding(1), Some((mac(2), ALPHA)));
    bench.switch.peer_up(bench.now, A);
    bench.hear(A, &[announcement(1, 3, 1)]);
    assert_eq!(bench.binding(1), Some((mac(3), ALPHA)), "a new life");
}

#[test]
fn an_address_that_moves_takes_its_bindings_from_its_old_owner() {
    let mut bench = Bench::new();
    bench.learned(1, ALPHA);
    bench.hear(A, &[announcement(1, 1, 1), announcement(2, 2, 1)]);
    bench.hear(A, &[release(1, 1, public_key(B))]);
    assert_eq!(bench.binding(1), None);
    assert!(bench.binding(2).is_some());
    // Likewise when somebody speaks from an address that another announced.
    bench.learned(2, BETA);
    assert_eq!(bench.binding(2), None);
}

#[test]
fn static_bindings_stay_with_whom_they_are() {
    let mut bench = Bench::new();
    bench.switch.insert_static(bench.now, key(1), ALPHA);
    bench.switch.bind_static(bench.now, bound(1, 1, ALPHA));
    bench.switch.bind_static(bench.now, bound(2, 2, LOCAL));
    bench.collect();
    assert_eq!(bench.announcements().len(), 3, "the local one");
    bench.hear(A, &[withdrawal(1, 9), withdrawal(2, 9)]);
    bench.hear(A, &[announcement(1, 3, 9)]);
    bench.hear(B, &[announcement(1, 4, 9), announcement(2, 4, 9)]);
    bench.learned(5, LOCAL);
    bench.bound(1, 5, LOCAL);
    bench.bound(2, 5, LOCAL);
    bench.wait(BINDING_LIFETIME * 2);
    assert_eq!(bench.binding(1), Some((mac(1), ALPHA)));
    assert_eq!(bench.binding(2), Some((mac(2), LOCAL)));
    assert!(bench.asked(START).is_empty());
}

#[test]
fn a_peer_beyond_its_limit_loses_its_own_least_recently_announced() {
    let limits = PeerLimits {
        macs_max: 3,
        addresses_max: 3,
    };
    let mut bench = Bench::with(SwitchConfig::new(2, OWN_KEY), limits);
    bench.hear(B, &[announcement(50, 50, 1)]);
    for n in 1..=3 {
        bench.hear(A, &[announcement(n, n, 1)]);
        bench.wait(MS);
    }
    bench.hear(A, &[announcement(1, 1, 1)]);
    bench.hear(A, &[announcement(4, 4, 1)]);
    let left: Vec<u32> = (1..=4).filter(|&n| bench.binding(n).is_some()).collect();
    assert_eq!(left, [1, 3, 4]);
    assert!(bench.binding(50).is_some());
}

#[test]
fn local_bindings_beyond_the_limit_are_withdrawn() {
    let mut config = SwitchConfig::new(2, OWN_KEY);
    config.limits = SwitchLimits {
        local_addresses: 2,
        ..SwitchLimits::default()
    };
    let mut bench = Bench::with(config, PeerLimits::default());
    bench.learned(1, LOCAL);
    for n in 1..=3 {
        bench.bound(n, 1, LOCAL);
        bench.wait(MS);
    }
    let gone: Vec<IpAddr> = bench
        .withdrawals()
        .iter()
        .map(|(_, gone)| gone.ip)
        .collect();
    assert_eq!(gone, [ip(1); 3]);
}

#[test]
fn a_host_that_moved_here_is_asked_for_the_addresses_that_it_had() {
    let mut bench = Bench::new();
    bench.learned(1, ALPHA);
    bench.hear(A, &[announcement(1, 1, 1), announcement(2, 1, 2)]);
    bench.contested(1, LOCAL);
    bench.clear();
    let start = bench.now;
    bench.hear(A, &[release(1, 5, OWN_KEY)]);
    assert_eq!(bench.owner(1), Some(LOCAL));
    let expected = [1, 2].map(|address| (0, PORT, mac(1), ip(address)));
    assert_eq!(bench.asked(start), expected);
    assert_eq!(bench.binding(1), None, "until it answers");
}

/// Host 1 was behind peer A at address 1, and is gone.
fn left() -> Bench {
    let mut bench = Bench::new();
    bench.learned(1, ALPHA);
    bench.hear(A, &[announcement(1, 1, 1)]);
    bench.hear(A, &[withdrawal(1, 2)]);
    assert_eq!(bench.binding(1), None);
    bench.clear();
    bench
}

#[test]
fn hosts_are_told_of_an_address_that_returns_at_another_place() {
    let mut bench = left();
    bench.learned(2, BETA);
    bench.hear(B, &[announcement(1, 2, 1)]);
    let told = [PORT, PortId(1)].map(|port| (port, ip(1), mac(2)));
    assert_eq!(bench.told_hosts(), told);
    // And from there to one of our own: its neighbours hear it themselves.
    bench.hear(B, &[withdrawal(1, 2)]);
    bench.clear();
    bench.learned(3, LOCAL);
    bench.bound(1, 3, LOCAL);
    assert_eq!(bench.told_hosts(), [(PortId(1), ip(1), mac(3))]);
}

#[test]
fn hosts_are_told_when_a_peer_changes_its_mind() {
    let mut bench = Bench::new();
    bench.hear(A, &[announcement(1, 1, 1)]);
    assert_eq!(bench.told_hosts(), [], "nobody knew it before");
    bench.hear(A, &[announcement(1, 2, 2)]);
    assert_eq!(bench.told_hosts().len(), 2);
}

#[test]
fn nobody_is_told_what_holds_or_is_long_forgotten() {
    let mut bench = left();
    bench.hear(A, &[announcement(1, 1, 3)]);
    assert_eq!(bench.told_hosts(), [], "the same place");
    let mut bench = left();
    bench.wait(BINDING_LIFETIME);
    bench.hear(A, &[announcement(1, 2, 3)]);
    assert_eq!(bench.told_hosts(), [], "long ago");
}

#[test]
fn nobody_is_told_of_a_router_or_where_nothing_is_answered() {
    let router: IpAddr = "fe80::1".parse().expect("an address");
    let mut bench = Bench::new();
    for (host, sequence) in [(1, 1), (2, 2)] {
        let announcement = Announcement {
            ip: router,
            ..announcement(1, host, sequence)
        };
        bench.hear(A, &[announcement]);
    }
    assert_eq!(bench.told_hosts(), []);
    let config = SwitchConfig {
        tells_hosts: false,
        ..SwitchConfig::new(2, OWN_KEY)
    };
    let mut bench = Bench::with(config, PeerLimits::default());
    bench.hear(A, &[announcement(1, 1, 1)]);
    bench.hear(A, &[announcement(1, 2, 2)]);
    assert_eq!(bench.told_hosts(), []);
}

#[test]
fn a_peer_that_changes_its_mind_all_the_time_does_not_flood_hosts() {
    let mut bench = Bench::new();
    for sequence in 1..=2000 {
        bench.hear(A, &[announcement(1, sequence, sequence)]);
    }
    let told = bench.told_hosts().len() / 2;
    assert!((256..=256 + 64).contains(&told), "{told} times");
    assert!(bench.switch.counters().sends_left_out > 500);
}
