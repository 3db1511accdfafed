//! What a rendezvous says of addresses, and what certificates allow.

use std::sync::Arc;

use omni_control::message::VlanBits;
use omni_membership::{Grants, IpPrefix};

use super::super::{Source, Told};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

impl Bench {
    fn told(&mut self, address: u32, host: u32, owner: Owner) {
        self.say(Some(address), host, owner, 1);
    }

    /// A rendezvous says something, with a sequence.
    fn say(&mut self, address: Option<u32>, host: u32, owner: Owner, sequence: u64) {
        let told = told(address, host, owner, sequence);
        self.switch.told(self.now, told, HOUR);
        self.collect();
    }

    fn untold(&mut self, address: Option<u32>, host: u32, owner: Owner) {
        self.switch.untold(self.now, told(address, host, owner, 0));
        self.collect();
    }

    fn silent(&mut self, peer: PeerId) {
        self.switch.set_silent(self.now, peer, true);
        self.collect();
    }

    fn checks(&mut self) -> Vec<PeerId> {
        std::iter::from_fn(|| self.switch.poll_check()).collect()
    }

    /// What workers were told of the directory.
    fn directory(&self) -> Vec<(FdbKey, Option<PeerId>)> {
        let all = self.orders.iter().filter_map(|(_, order)| match order {
            Command::SetDirectory { key, peer } => Some((*key, *peer)),
            _ => None,
        });
        all.collect()
    }

    fn local(&self) -> Vec<(Option<IpAddr>, MacAddr)> {
        let local = self.switch.local_bindings();
        local.map(|(_, ip, mac)| (ip, mac)).collect()
    }

    fn source(&self, address: u32) -> Option<Source> {
        let mut known = self.switch.neighbors();
        let found = known.find(|known| known.bound.ip == ip(address))?;
        Some(found.source)
    }
}

fn told(address: Option<u32>, host: u32, owner: Owner, sequence: u64) -> Told {
    let Owner::Peer(peer) = owner else {
        panic!("a rendezvous speaks of peers");
    };
    Told {
        key: key(host),
        ip: address.map(ip),
        peer,
        sequence,
    }
}

#[test]
fn the_vlans_that_are_told_hold_until_the_peer_speaks_for_itself() {
    let mut bench = Bench::new();
    let mut only = VlanBits::NONE;
    only.insert(7);
    let carried = |bench: &Bench| bench.switch.carried(A).cloned();
    bench.switch.told_vlans(A, only.clone());
    assert_eq!(carried(&bench), None, "there is a session: it will say");
    bench.switch.peer_down(A);
    bench.switch.told_vlans(A, VlanBits::ALL);
    bench.collect();
    let is_order = |(_, order): &(_, Command)| matches!(order, Command::SetCarried { .. });
    assert!(!bench.orders.iter().any(is_order), "that is nothing new");
    bench.switch.told_vlans(A, only.clone());
    bench.collect();
    assert_eq!(carried(&bench), Some(only));
    assert_eq!(bench.orders.iter().filter(|it| is_order(it)).count(), 1);
}

#[test]
fn what_is_told_binds_for_as_long_as_it_was_said_to_hold() {
    let mut bench = Bench::new();
    bench.told(1, 1, ALPHA);
    assert_eq!(bench.source(1), Some(Source::Nucleus));
    let is_bind = |(_, order): &(_, Command)| matches!(order, Command::Bind { .. });
    assert_eq!(
        bench.orders.iter().filter(|order| is_bind(order)).count(),
        1
    );
    bench.wait(HOUR - SECOND);
    assert_eq!(bench.binding(1), Some((mac(1), ALPHA)));
    bench.wait(2 * SECOND);
    assert_eq!(bench.binding(1), None);
    // Another owner, or nobody any more.
    bench.told(2, 2, ALPHA);
    bench.told(2, 3, BETA);
    assert_eq!(bench.binding(2), Some((mac(3), BETA)));
    bench.untold(Some(2), 2, ALPHA);
    assert_eq!(
        bench.binding(2),
        Some((mac(3), BETA)),
        "it is not that one's"
    );
    bench.untold(Some(2), 3, BETA);
    assert_eq!(bench.binding(2), None);
}

#[test]
fn whoever_is_heard_goes_before_what_is_told() {
    let mut bench = Bench::new();
    for n in 1..=3 {
        bench.told(n, n, ALPHA);
    }
    bench.learned(11, LOCAL);
    bench.bound(1, 11, LOCAL);
    assert_eq!(bench.binding(1), Some((mac(11), LOCAL)));
    bench.hear(B, &[announcement(2, 12, 1)]);
    assert_eq!(bench.binding(2), Some((mac(12), BETA)));
    bench.hear(A, &[announcement(3, 3, 1)]);
    assert_eq!(bench.source(3), Some(Source::Announced));
    for n in 1..=3 {
        bench.told(n, 9, GAMMA);
        bench.untold(Some(n), n, ALPHA);
    }
    let held: Vec<_> = (1..=3).map(|n| bench.binding(n)).collect();
    let expected = [(mac(11), LOCAL), (mac(12), BETA), (mac(3), ALPHA)].map(Some);
    assert_eq!(held, expected);
}

#[test]
fn what_is_told_of_somebody_elses_mac_address_binds_nothing() {
    let mut bench = Bench::new();
    bench.learned(1, LOCAL);
    bench.learned(2, BETA);
    bench.told(1, 1, ALPHA);
    bench.told(2, 2, ALPHA);
    assert_eq!((bench.binding(1), bench.binding(2)), (None, None));
    // Told first, heard with the MAC address behind somebody else later.
    bench.told(3, 3, ALPHA);
    bench.learned(3, BETA);
    assert_eq!(bench.binding(3), None);
}

#[test]
fn a_change_of_local_addresses_is_seen_once() {
    let mut bench = Bench::new();
    assert!(!bench.switch.take_local_change());
    bench.told(9, 9, ALPHA);
    assert!(!bench.switch.take_local_change());
    bench.learned(1, LOCAL);
    assert!(bench.switch.take_local_change());
    assert_eq!(
        bench.local(),
        [(None, mac(1))],
        "its IP address is not known"
    );
    bench.bound(1, 1, LOCAL);
    assert!(bench.switch.take_local_change());
    bench.learned(1, LOCAL);
    bench.bound(1, 1, LOCAL);
    assert!(!bench.switch.take_local_change());
    assert_eq!(bench.local(), [(Some(ip(1)), mac(1))]);
    bench.wait(Duration::from_secs(400));
    assert!(bench.switch.take_local_change(), "the host is gone");
    assert!(bench.local().is_empty());
}

#[test]
fn workers_are_told_where_to_send_what_is_for_nobody_who_was_heard() {
    let mut bench = Bench::with(
        SwitchConfig {
            asks_directory: true,
            ..SwitchConfig::new(2, OWN_KEY)
        },
        PeerLimits::default(),
    );
    bench.say(None, 1, ALPHA, 5);
    bench.say(Some(1), 1, ALPHA, 6);
    assert_eq!(bench.directory(), [(key(1), Some(A))], "once");
    bench.clear();
    bench.say(Some(2), 1, BETA, 4);
    assert!(bench.directory().is_empty(), "that is older");
    bench.say(Some(2), 1, BETA, 7);
    bench.untold(Some(2), 1, BETA);
    assert_eq!(bench.directory(), [(key(1), Some(B)), (key(1), Some(A))]);
    bench.clear();
    bench.untold(None, 1, ALPHA);
    bench.untold(Some(1), 1, BETA);
    assert!(bench.directory().is_empty(), "one word is left, of alpha");
    bench.untold(Some(1), 1, ALPHA);
    bench.say(None, 2, ALPHA, 1);
    bench.switch.remove_owner(bench.now, ALPHA);
    bench.collect();
    let gone = [(key(1), None), (key(2), Some(A)), (key(2), None)];
    assert_eq!(bench.directory(), gone);
    // What is nobody's to have.
    bench.clear();
    let group = FdbKey {
        mac: MacAddr([1, 0, 0x5e, 0, 0, 1]),
        ..key(0)
    };
    let told = Told {
        key: group,
        ..told(None, 1, BETA, 9)
    };
    bench.switch.told(bench.now, told, HOUR);
    bench.say(None, 3, ALPHA, 1);
    assert!(bench.directory().is_empty());
}

#[test]
fn where_unknown_addresses_are_flooded_workers_are_told_nothing() {
    let mut bench = Bench::new();
    bench.say(None, 1, ALPHA, 5);
    assert!(bench.directory().is_empty());
}

#[test]
fn a_peer_fills_no_more_of_the_directory_than_its_share() {
    let limits = PeerLimits {
        macs_max: 3,
        addresses_max: 2,
    };
    let mut bench = Bench::with(SwitchConfig::new(2, OWN_KEY), limits);
    for n in 1..=9 {
        bench.say(None, n, ALPHA, 1);
    }
    bench.say(None, 1, ALPHA, 2);
    bench.say(None, 20, BETA, 1);
    assert_eq!(bench.switch.directory.len(), 6);
}

#[test]
fn a_peer_that_answers_keeps_its_hosts_whatever_is_told() {
    let mut bench = Bench::new();
    bench.learned(1, ALPHA);
    bench.hear(A, &[announcement(1, 1, 1)]);
    bench.say(Some(1), 1, BETA, 9);
    assert_eq!(bench.owner(1), Some(ALPHA));
    assert_eq!(bench.binding(1), Some((mac(1), ALPHA)));
    assert_eq!(bench.checks(), [A], "whether it is there is asked");
}

#[test]
fn the_hosts_of_a_silent_peer_go_to_whom_a_rendezvous_names() {
    let mut bench = Bench::new();
    for host in 1..=3 {
        bench.learned(host, ALPHA);
        bench.hear(A, &[announcement(host, host, host)]);
    }
    bench.say(Some(1), 1, BETA, 9);
    bench.silent(A);
    assert_eq!(bench.owner(1), Some(BETA));
    assert_eq!(bench.binding(1), Some((mac(1), BETA)));
    // Told after that; and an IP address that moved to another host.
    bench.say(None, 2, GAMMA, 9);
    assert_eq!(bench.owner(2), Some(GAMMA));
    bench.say(Some(3), 13, BETA, 9);
    assert_eq!(bench.binding(3), Some((mac(13), BETA)));
    assert_eq!(bench.owner(3), Some(ALPHA), "nothing is told of that one");
    // Heard again: what it has it keeps.
    bench.switch.peer_up(bench.now, A);
    bench.say(None, 3, GAMMA, 9);
    assert_eq!(bench.owner(3), Some(ALPHA));
}

#[test]
fn a_static_address_of_a_silent_peer_stays() {
    let mut bench = Bench::new();
    bench.switch.insert_static(bench.now, key(1), ALPHA);
    bench.switch.bind_static(bench.now, bound(1, 1, ALPHA));
    bench.silent(A);
    bench.say(Some(1), 1, BETA, 9);
    assert_eq!(bench.owner(1), Some(ALPHA));
    assert_eq!(bench.binding(1), Some((mac(1), ALPHA)));
}

#[test]
fn a_host_that_came_here_from_a_silent_peer_is_ours_once_that_is_settled() {
    let mut bench = Bench::new();
    bench.learned(1, ALPHA);
    bench.hear(A, &[announcement(1, 1, 1)]);
    bench.contested(1, LOCAL);
    assert_eq!(bench.checks(), [A]);
    assert!(bench.local().is_empty(), "the peer may answer");
    bench.switch.granted(bench.now, VLAN, None, mac(1));
    assert_eq!(bench.owner(1), Some(ALPHA), "it is not silent");
    assert!(bench.switch.take_local_change());
    bench.silent(A);
    assert!(bench.switch.take_local_change());
    assert_eq!(bench.local(), [(None, mac(1))]);
    bench.switch.granted(bench.now, VLAN, None, mac(1));
    bench.collect();
    assert_eq!(bench.owner(1), Some(LOCAL));
    let asked = bench.asked(START);
    let asked: Vec<_> = asked.iter().map(|(_, _, mac, ip)| (*mac, *ip)).collect();
    assert_eq!(asked, [(mac(1), ip(1))], "for the address that it had");
    bench.bound(1, 1, LOCAL);
    assert_eq!(bench.local(), [(Some(ip(1)), mac(1))]);
}

#[test]
fn an_ip_address_that_came_here_from_a_silent_peer_is_ours_once_that_is_settled() {
    let mut bench = Bench::new();
    bench.learned(1, ALPHA);
    bench.hear(A, &[announcement(1, 1, 1)]);
    bench.learned(2, LOCAL);
    bench.bound(1, 2, LOCAL);
    assert_eq!(bench.checks(), [A]);
    assert_eq!(bench.local(), [(None, mac(2))]);
    bench.silent(A);
    let both = [(None, mac(2)), (Some(ip(1)), mac(2))];
    assert_eq!(bench.local(), both);
    bench.switch.granted(bench.now, VLAN, Some(ip(1)), mac(3));
    assert_eq!(bench.binding(1), Some((mac(1), ALPHA)), "another host");
    bench.switch.granted(bench.now, VLAN, Some(ip(1)), mac(2));
    bench.collect();
    assert_eq!(bench.binding(1), Some((mac(2), LOCAL)));
}

#[test]
fn a_peer_announces_only_what_its_certificate_grants() {
    let mut bench = Bench::new();
    bench.hear(A, &[announcement(1, 1, 1), announcement(2, 2, 1)]);
    let only = |network: u32| Grants {
        vlans: None,
        macs: Some([mac(1), mac(3)].into()),
        addresses: Some([IpPrefix::new(ip(network), 32).expect("a host")].into()),
    };
    let grants = Some(Arc::new(only(1)));
    bench.switch.set_grants(bench.now, A, grants);
    bench.collect();
    assert_eq!(bench.binding(1), Some((mac(1), ALPHA)));
    assert_eq!(bench.binding(2), None, "it may not have that");
    let refused = [
        announcement(2, 1, 2),
        announcement(1, 2, 3),
        announcement(3, 3, 4),
    ];
    bench.hear(A, &refused);
    assert_eq!(bench.binding(1), Some((mac(1), ALPHA)));
    assert_eq!((bench.binding(2), bench.binding(3)), (None, None));
    bench.switch.set_grants(bench.now, A, None);
    bench.hear(A, &[announcement(3, 3, 5)]);
    assert_eq!(bench.binding(3), Some((mac(3), ALPHA)));
}

#[test]
fn who_announces_what_was_told_of_others_stays_within_its_own_limit() {
    let limits = PeerLimits {
        macs_max: 3,
        addresses_max: 3,
    };
    let mut bench = Bench::with(SwitchConfig::new(2, OWN_KEY), limits);
    for n in 1..=3 {
        bench.told(n, n, BETA);
        bench.told(10 + n, 10 + n, GAMMA);
    }
    for n in [1, 2, 3, 11, 12] {
        bench.hear(A, &[announcement(n, n, 1)]);
        bench.wait(MS);
    }
    let held = bench.switch.neighbors();
    let held = held.filter(|known| known.bound.owner == ALPHA);
    let held: Vec<IpAddr> = held.map(|known| known.bound.ip).collect();
    assert_eq!(held, [ip(3), ip(11), ip(12)]);
}
