//! IP addresses that local hosts say to have and that peers hold.

use super::*;

/// A host behind peer A has an address that a local host, number 3, wants.
fn wanted() -> Bench {
    let mut bench = Bench::new();
    bench.hear(A, &[announcement(1, 1, 1)]);
    bench.learned(3, LOCAL);
    bench.clear();
    bench.bound(1, 3, LOCAL);
    bench
}

/// When announcements were sent, all of them to the holder.
fn told(bench: &Bench, since: Instant) -> Vec<u128> {
    let announcements = bench.records.iter().filter(|(.., record)| record[0] == 1);
    let times = announcements.map(|&(at, peer, _)| {
        assert_eq!(peer, A);
        at.since(since).as_millis()
    });
    times.collect()
}

#[test]
fn the_holder_alone_is_told_and_once_more() {
    let mut bench = wanted();
    let start = bench.now;
    bench.wait(30 * SECOND);
    assert_eq!(told(&bench, start), [0, 1000]);
    let [(_, first), (_, second)] = bench.announcements()[..] else {
        panic!("{:?}", bench.announcements());
    };
    assert_eq!(first, announcement(1, 3, first.sequence));
    assert_eq!(first, second);
    assert_eq!(bench.binding(1), Some((mac(1), ALPHA)), "nothing moved");
}

#[test]
fn a_host_that_insists_is_passed_on_every_two_seconds_at_most() {
    let mut bench = wanted();
    let start = bench.now;
    for _ in 0..100 {
        bench.wait(100 * MS);
        bench.bound(1, 3, LOCAL);
    }
    let expected: Vec<u128> = (0..=10).map(|n| n * 1000).collect();
    assert_eq!(told(&bench, start), expected);
}

#[test]
fn many_wishes_are_rationed() {
    let mut bench = Bench::new();
    for n in 0..1000 {
        bench.hear(A, &[announcement(n, 1, 1)]);
    }
    bench.learned(3, LOCAL);
    bench.clear();
    for n in 0..1000 {
        bench.bound(n, 3, LOCAL);
    }
    assert_eq!(bench.announcements().len(), 64);
}

#[test]
fn what_the_holder_withdraws_is_the_local_hosts_and_announced_to_all_as_newer() {
    let mut bench = wanted();
    let (_, wish) = bench.announcements()[0];
    bench.clear();
    bench.hear(A, &[withdrawal(1, 2)]);
    assert_eq!(bench.binding(1), Some((mac(3), LOCAL)));
    let sent = bench.announcements();
    let to: Vec<PeerId> = sent.iter().map(|&(peer, _)| peer).collect();
    assert_eq!(to, [A, B, C]);
    assert!(sent[0].1.sequence.wrapping_sub(wish.sequence) as i32 > 0);
    bench.clear();
    bench.wait(5 * SECOND);
    assert_eq!(bench.announcements().len(), 3, "no further wish");
}

#[test]
fn between_two_nodes_an_address_goes_from_a_silent_host_to_the_one_that_wants_it() {
    let mut holder = Bench::new();
    holder.learned(1, LOCAL);
    holder.bound(1, 1, LOCAL);
    holder.wait(40 * SECOND);
    holder.clear();
    let wish = wanted().announcements()[0].1;
    holder.hear(A, &[wish]);
    holder.wait(399 * MS);
    assert_eq!(holder.binding(1), Some((mac(1), LOCAL)));
    holder.wait(MS);
    assert_eq!(holder.binding(1), Some((mac(3), ALPHA)));
    assert_eq!(holder.withdrawals().len(), 3);
}

#[test]
fn static_addresses_and_those_between_peers_are_not_wished_for() {
    let mut bench = Bench::new();
    bench.switch.insert_static(bench.now, key(1), ALPHA);
    bench.switch.bind_static(bench.now, bound(1, 1, ALPHA));
    bench.hear(A, &[announcement(2, 2, 1)]);
    bench.learned(3, LOCAL);
    bench.learned(4, BETA);
    bench.clear();
    bench.bound(1, 3, LOCAL);
    bench.bound(2, 4, BETA);
    bench.wait(5 * SECOND);
    assert!(bench.announcements().is_empty());
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
