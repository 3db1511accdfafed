//! Learning, ageing, limits.

use omni_control::message::VlanBits;

use super::super::{AGEING, Kind, SwitchLimits};
use super::*;

fn small(local: usize, peers: usize, each: usize) -> Bench {
    let mut config = SwitchConfig::new(2, OWN_KEY);
    config.limits = SwitchLimits {
        local_macs: local,
        peer_macs: peers,
        ..SwitchLimits::default()
    };
    let limits = PeerLimits {
        macs_max: each,
        addresses_max: each,
    };
    Bench::with(config, limits)
}

#[test]
fn the_first_report_holds_and_the_other_worker_is_set_right() {
    let mut bench = Bench::new();
    let now = bench.now;
    bench.switch.learned(now, 0, key(1), ALPHA);
    bench.switch.learned(now, 1, key(1), LOCAL);
    bench.switch.learned(now, 1, key(1), ALPHA);
    bench.collect();
    let insert = format!("{} {ALPHA:?}", mac(1));
    assert_eq!(
        bench.fdb_orders(),
        [format!("All {insert}"), format!("Only(1) {insert}")]
    );
    assert_eq!(bench.owner(1), Some(ALPHA));
}

#[test]
fn workers_forget_an_owner_whose_report_was_lost_when_somebody_else_speaks() {
    let mut bench = Bench::new();
    bench.switch.contested(bench.now, key(1), ALPHA);
    bench.collect();
    assert_eq!(bench.fdb_orders(), [format!("All {} gone", mac(1))]);
}

#[test]
fn unreported_addresses_age_out_and_static_ones_stay() {
    let mut bench = Bench::new();
    bench.switch.insert_static(bench.now, key(9), LOCAL);
    bench.learned(1, ALPHA);
    bench.wait(AGEING / 2);
    bench.learned(1, ALPHA);
    bench.wait(AGEING / 2);
    assert_eq!(bench.owner(1), Some(ALPHA), "it was reported again");
    bench.clear();
    bench.wait(AGEING / 2 - MS);
    assert_eq!(bench.owner(1), Some(ALPHA));
    bench.wait(MS);
    assert_eq!(bench.owner(1), None);
    assert_eq!(bench.fdb_orders(), [format!("All {} gone", mac(1))]);
    assert_eq!(bench.owner(9), Some(LOCAL));
    let kinds: Vec<Kind> = bench.switch.iter().map(|(_, entry)| entry.kind).collect();
    assert_eq!(kinds, [Kind::Static]);
}

#[test]
fn the_ageing_time_is_as_configured() {
    let mut config = SwitchConfig::new(1, OWN_KEY);
    config.ageing = Duration::from_secs(10);
    let mut bench = Bench::with(config, PeerLimits::default());
    bench.learned(1, ALPHA);
    bench.wait(Duration::from_secs(9));
    assert_eq!(bench.owner(1), Some(ALPHA));
    bench.wait(SECOND);
    assert_eq!(bench.owner(1), None);
}

#[test]
fn a_peer_beyond_its_limit_loses_its_own_least_recently_used() {
    let mut bench = small(100, 100, 3);
    bench.learned(50, BETA);
    for host in 1..=3 {
        bench.learned(host, ALPHA);
        bench.wait(MS);
    }
    bench.learned(1, ALPHA);
    bench.clear();
    bench.learned(4, ALPHA);
    let owners: Vec<_> = (1..=4).map(|host| bench.owner(host)).collect();
    assert_eq!(owners, [Some(ALPHA), None, Some(ALPHA), Some(ALPHA)]);
    assert_eq!(bench.owner(50), Some(BETA));
    assert!(bench.fdb_orders().contains(&format!("All {} gone", mac(2))));
    assert_eq!(bench.switch.counters().evicted, 1);
}

#[test]
fn in_a_full_table_who_has_the_most_gives_and_local_hosts_are_apart() {
    let mut bench = small(2, 6, 100);
    bench.learned(1, LOCAL);
    for host in 10..15 {
        bench.learned(host, ALPHA);
        bench.wait(MS);
    }
    bench.learned(20, BETA);
    bench.wait(MS);
    bench.learned(21, BETA);
    assert_eq!(bench.owner(10), None, "from the one with the most");
    assert_eq!(bench.owner(20), Some(BETA));
    bench.learned(15, ALPHA);
    assert_eq!(bench.owner(11), None, "its own");
    assert_eq!(bench.owner(20), Some(BETA));
    bench.learned(2, LOCAL);
    bench.learned(3, OTHER_PORT);
    assert_eq!(bench.owner(1), None, "from the port with the most");
    assert_eq!(bench.switch.len(), 6 + 2);
}

#[test]
fn lower_limits_take_the_least_recently_used() {
    let mut bench = Bench::new();
    for host in 1..=5 {
        bench.learned(host, ALPHA);
        bench.hear(A, &[announcement(host, host, host)]);
        bench.wait(MS);
    }
    let limits = PeerLimits {
        macs_max: 2,
        addresses_max: 3,
    };
    bench.switch.add_peer(bench.now, A, public_key(A), limits);
    bench.collect();
    let left: Vec<_> = (1..=5)
        .filter(|&host| bench.owner(host).is_some())
        .collect();
    assert_eq!(left, [4, 5]);
    let left: Vec<_> = (1..=5).filter(|&n| bench.binding(n).is_some()).collect();
    assert_eq!(left, [3, 4, 5]);
}

#[test]
fn an_owner_who_is_gone_leaves_nothing() {
    let mut bench = Bench::new();
    bench.learned(1, ALPHA);
    bench.learned(2, BETA);
    bench.hear(A, &[announcement(1, 1, 1)]);
    bench.switch.remove_owner(bench.now, ALPHA);
    bench.collect();
    assert_eq!((bench.owner(1), bench.binding(1)), (None, None));
    assert_eq!(bench.owner(2), Some(BETA));
    bench.clear();
    bench.hear(A, &[announcement(1, 1, 2)]);
    assert_eq!(bench.binding(1), None, "it is no peer any more");
    bench.wait(Duration::from_secs(70));
    assert!(bench.records.iter().all(|&(_, peer, _)| peer != A));
}

#[test]
fn vlans_of_a_peer_are_passed_on_once() {
    let mut bench = Bench::new();
    let mut octets = vec![5, 0, 2, 0];
    octets.extend([0; 512]);
    octets[4 + 100 / 8] = 1 << (100 % 8);
    octets[4 + 511] = 0x40;
    bench.hear_octets(A, &octets);
    bench.hear_octets(A, &octets);
    let told: Vec<_> = bench
        .orders
        .iter()
        .filter_map(|(_, command)| match command {
            Command::SetCarried { peer, vlans } => Some((*peer, vlans.clone())),
            _ => None,
        })
        .collect();
    let mut expected = VlanBits::NONE;
    expected.insert(100);
    expected.insert(4094);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].0, &*told[0].1), (A, &expected));
}
