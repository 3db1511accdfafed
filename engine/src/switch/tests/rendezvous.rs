//! What a rendezvous says of addresses, and what certificates allow.

use std::sync::Arc;

use omni_membership::{Grants, IpPrefix};

use super::super::Source;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

impl Bench {
    fn told(&mut self, address: u32, host: u32, owner: Owner) {
        let bound = bound(address, host, owner);
        self.switch.told(self.now, bound, HOUR);
        self.collect();
    }

    fn source(&self, address: u32) -> Option<Source> {
        let mut known = self.switch.neighbors();
        let found = known.find(|known| known.bound.ip == ip(address))?;
        Some(found.source)
    }
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
    bench.switch.untold(bench.now, VLAN, ip(2), ALPHA);
    assert_eq!(
        bench.binding(2),
        Some((mac(3), BETA)),
        "it is not that one's"
    );
    bench.switch.untold(bench.now, VLAN, ip(2), BETA);
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
        bench.switch.untold(bench.now, VLAN, ip(n), ALPHA);
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
    bench.learned(1, LOCAL);
    assert!(!bench.switch.take_local_change());
    bench.bound(1, 1, LOCAL);
    assert!(bench.switch.take_local_change());
    bench.bound(1, 1, LOCAL);
    assert!(!bench.switch.take_local_change());
    let local: Vec<_> = bench.switch.local_bindings().collect();
    assert_eq!(local, [(VLAN, ip(1), mac(1))]);
    bench.wait(Duration::from_secs(400));
    assert!(bench.switch.take_local_change(), "the host is gone");
    assert_eq!(bench.switch.local_bindings().count(), 0);
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
