//! Claims, probes, releases, freezing.

use super::super::{AGEING, FREEZE};
use super::*;

/// A local host whose IP address is known.
fn at_home() -> Bench {
    let mut bench = Bench::new();
    bench.learned(1, LOCAL);
    bench.bound(1, 1, LOCAL);
    bench.wait(2 * SECOND);
    bench.clear();
    bench
}

/// A host behind peer A whose frames come in here.
fn elsewhere() -> Bench {
    let mut bench = Bench::new();
    bench.learned(1, ALPHA);
    bench.clear();
    bench
}

#[test]
fn a_frame_of_a_peers_address_is_followed_by_a_claim_to_that_peer_alone() {
    let mut bench = elsewhere();
    bench.contested(1, LOCAL);
    let [(peer, sent)] = bench.claims()[..] else {
        panic!("{:?}", bench.claims());
    };
    assert_eq!((peer, sent), (A, claim(1)));
    assert_eq!(bench.owner(1), Some(ALPHA), "nothing moved");
    assert!(bench.fdb_orders().is_empty());
}

#[test]
fn claims_are_repeated_every_200_ms_for_3_s_and_then_every_5_s() {
    let mut bench = elsewhere();
    let start = bench.now;
    for _ in 0..200 {
        bench.contested(1, LOCAL);
        bench.wait(100 * MS);
    }
    let times: Vec<u128> = bench
        .records
        .iter()
        .map(|(at, ..)| at.since(start).as_millis())
        .collect();
    let eager: Vec<u128> = (0..15).map(|n| n * 200).collect();
    assert_eq!(times[..15], eager);
    assert_eq!(times[15..], [2800 + 5000, 2800 + 10_000, 2800 + 15_000]);
}

#[test]
fn one_frame_alone_is_followed_by_a_few_claims_and_then_forgotten() {
    let mut bench = elsewhere();
    bench.contested(1, LOCAL);
    bench.wait(30 * SECOND);
    assert_eq!(bench.claims().len(), 6, "for one second");
    assert_eq!(bench.switch.claims.next_timeout(), None);
}

#[test]
fn between_two_peers_nothing_is_claimed() {
    let mut bench = elsewhere();
    bench.contested(1, BETA);
    bench.wait(SECOND);
    assert_eq!(bench.owner(1), Some(ALPHA));
    assert!(bench.claims().is_empty() && bench.releases().is_empty());
}

#[test]
fn a_claimed_host_is_asked_three_times_and_keeps_its_address_when_it_answers() {
    let mut bench = at_home();
    let start = bench.now;
    bench.hear(B, &[claim(1)]);
    bench.wait(350 * MS);
    let expected = [0, 100, 200].map(|at| (at, PORT, mac(1), ip(1)));
    assert_eq!(bench.asked(start), expected);
    assert_eq!(bench.watched(), [key(1)]);
    bench.learned(1, LOCAL);
    bench.wait(10 * SECOND);
    assert_eq!(bench.owner(1), Some(LOCAL));
    assert!(bench.releases().is_empty(), "refused in silence");
    assert_eq!(bench.switch.counters().claims_refused, 1);
}

#[test]
fn a_claimed_host_that_is_silent_for_400_ms_is_released_to_all() {
    let mut bench = at_home();
    bench.hear(B, &[claim(1)]);
    bench.wait(399 * MS);
    assert_eq!(bench.owner(1), Some(LOCAL));
    assert!(bench.releases().is_empty());
    bench.wait(MS);
    assert_eq!(bench.owner(1), Some(BETA));
    let releases = bench.releases();
    let to: Vec<PeerId> = releases.iter().map(|&(peer, _)| peer).collect();
    assert_eq!(to, [A, B, C]);
    for (_, sent) in releases {
        assert_eq!(sent, release(1, sent.sequence, public_key(B)));
    }
    assert_eq!(bench.fdb_orders(), [format!("All {} {BETA:?}", mac(1))]);
    assert_eq!(bench.binding(1), None, "its binding goes with it");
    assert_eq!(bench.withdrawals().len(), 3);
    bench.clear();
    bench.wait(2 * SECOND);
    assert_eq!(bench.releases().len(), 3, "told once more");
}

#[test]
fn a_host_without_known_address_has_to_be_idle_for_5_s() {
    let mut bench = Bench::new();
    bench.learned(1, LOCAL);
    bench.clear();
    bench.hear(B, &[claim(1)]);
    bench.wait(Duration::from_millis(4999));
    assert_eq!(
        bench.owner(1),
        Some(LOCAL),
        "it may have spoken just before"
    );
    bench.wait(MS);
    assert_eq!(bench.owner(1), Some(BETA));
    assert!(bench.asked(START).is_empty());

    let mut bench = Bench::new();
    bench.learned(1, LOCAL);
    bench.wait(40 * SECOND);
    bench.hear(B, &[claim(1)]);
    bench.wait(400 * MS);
    assert_eq!(bench.owner(1), Some(BETA), "it is known to have been idle");
}

#[test]
fn late_time_outs_do_not_cut_questions_short() {
    let mut bench = at_home();
    bench.hear(B, &[claim(1)]);
    for _ in 0..2 {
        bench.now = bench.now + 2 * SECOND;
        bench.switch.handle_timeout(bench.now);
        bench.collect();
        assert_eq!(bench.owner(1), Some(LOCAL));
    }
    bench.wait(200 * MS);
    assert_eq!(bench.owner(1), Some(BETA));
}

#[test]
fn a_frame_of_a_local_address_from_a_peer_counts_as_its_claim() {
    let mut bench = at_home();
    bench.contested(1, BETA);
    bench.wait(400 * MS);
    assert_eq!(bench.owner(1), Some(BETA));
    assert_eq!(bench.releases().len(), 3);
}

#[test]
fn between_two_ports_the_host_is_asked_and_nothing_is_sent_to_peers() {
    let mut bench = at_home();
    let start = bench.now;
    bench.contested(1, OTHER_PORT);
    assert_eq!(bench.asked(start), [(0, PORT, mac(1), ip(1))]);
    bench.learned(1, LOCAL);
    bench.wait(SECOND);
    assert_eq!(bench.owner(1), Some(LOCAL));

    bench.contested(1, OTHER_PORT);
    bench.wait(400 * MS);
    assert_eq!(bench.owner(1), Some(OTHER_PORT));
    assert_eq!(bench.binding(1), Some((mac(1), OTHER_PORT)));
    assert!(bench.releases().is_empty() && bench.claims().is_empty());
    assert!(bench.withdrawals().is_empty());
}

#[test]
fn a_release_by_the_owner_moves_the_address_at_once_everywhere() {
    let mut bench = elsewhere();
    bench.hear(A, &[release(1, 5, public_key(B))]);
    assert_eq!(bench.owner(1), Some(BETA));
    assert_eq!(bench.fdb_orders(), [format!("All {} {BETA:?}", mac(1))]);
    assert_eq!(bench.watched(), [key(1)]);

    let mut bench = elsewhere();
    bench.contested(1, OTHER_PORT);
    bench.clear();
    bench.hear(A, &[release(1, 5, OWN_KEY)]);
    assert_eq!(bench.owner(1), Some(OTHER_PORT), "the claimant too");
    assert_eq!(
        bench.fdb_orders(),
        [format!("All {} {OTHER_PORT:?}", mac(1))]
    );
    bench.clear();
    bench.wait(20 * SECOND);
    assert!(bench.claims().is_empty(), "no more claims");
}

#[test]
fn only_the_owner_releases() {
    let mut bench = at_home();
    bench.learned(2, ALPHA);
    for (peer, to) in [(A, B), (B, C), (C, A), (A, A), (B, B)] {
        bench.hear(peer, &[release(1, 9, public_key(to))]);
    }
    for (peer, to) in [(B, C), (C, B), (B, B), (A, A)] {
        bench.hear(peer, &[release(2, 9, public_key(to))]);
    }
    bench.hear(C, &[release(1, 9, OWN_KEY), release(2, 9, OWN_KEY)]);
    bench.wait(SECOND);
    assert_eq!((bench.owner(1), bench.owner(2)), (Some(LOCAL), Some(ALPHA)));
    assert_eq!(bench.fdb_orders(), [format!("All {} {ALPHA:?}", mac(2))]);
}

#[test]
fn an_old_release_is_not_followed_again() {
    let mut bench = elsewhere();
    bench.hear(A, &[release(1, 5, public_key(B))]);
    bench.hear(B, &[release(1, 6, public_key(A))]);
    assert_eq!(bench.owner(1), Some(ALPHA));
    bench.hear(A, &[release(1, 5, public_key(B))]);
    assert_eq!(bench.owner(1), Some(ALPHA), "a copy that came late");
    bench.hear(A, &[release(1, 7, public_key(C))]);
    assert_eq!(bench.owner(1), Some(GAMMA));
}

#[test]
fn a_restarted_owner_counts_anew() {
    let mut bench = elsewhere();
    bench.hear(A, &[release(1, 500, public_key(B))]);
    bench.switch.peer_up(bench.now, B);
    bench.hear(B, &[release(1, 3, public_key(C))]);
    assert_eq!(bench.owner(1), Some(GAMMA));
}

#[test]
fn what_goes_to_an_unknown_node_or_unasked_to_us_is_nobodys() {
    let mut bench = elsewhere();
    bench.hear(A, &[announcement(1, 1, 1)]);
    bench.hear(A, &[release(1, 5, PublicKey([0x77; 32]))]);
    assert_eq!((bench.owner(1), bench.binding(1)), (None, None));

    let mut bench = elsewhere();
    bench.hear(A, &[release(1, 5, OWN_KEY)]);
    assert_eq!(bench.owner(1), None);
}

#[test]
fn who_missed_a_release_is_told_again_once_a_second() {
    let mut bench = at_home();
    bench.hear(B, &[claim(1)]);
    bench.wait(3 * SECOND);
    bench.clear();
    for _ in 0..10 {
        bench.switch.strayed(bench.now, key(1), C);
        bench.switch.strayed(bench.now, key(2), C);
        bench.hear(B, &[claim(1)]);
        bench.wait(100 * MS);
    }
    let told: Vec<PeerId> = bench.releases().iter().map(|&(peer, _)| peer).collect();
    assert_eq!(told, [B, C]);
    for (_, sent) in bench.releases() {
        assert_eq!(sent.owner, public_key(B).0);
    }
    bench.wait(SECOND);
    bench.clear();
    bench.hear(A, &[claim(1)]);
    let [(peer, sent)] = bench.releases()[..] else {
        panic!("{:?}", bench.releases());
    };
    assert_eq!((peer, sent.owner), (A, public_key(B).0), "where it went");
}

#[test]
fn a_claim_of_what_nobody_has_had_here_is_granted_to_the_claimant_alone() {
    let mut bench = Bench::new();
    bench.wait(AGEING);
    bench.clear();
    let theirs = Claim {
        sequence: 77,
        ..claim(1)
    };
    bench.hear(B, &[theirs]);
    assert_eq!(bench.releases(), [(B, release(1, 77, public_key(B)))]);
    bench.wait(AGEING);
    assert_eq!(bench.releases().len(), 1);
    assert_eq!(bench.owner(1), None);
}

#[test]
fn what_may_have_been_here_before_a_restart_is_granted_before_all() {
    let mut bench = Bench::new();
    let theirs = Claim {
        sequence: 77,
        ..claim(1)
    };
    bench.hear(B, &[theirs]);
    bench.wait(10 * MS);
    let gone = release(1, 77, public_key(B));
    assert_eq!(bench.releases(), [(A, gone), (B, gone), (C, gone)]);
    assert_eq!(bench.owner(1), None);
    // Who missed that, and sends here, is told.
    bench.wait(5 * SECOND);
    bench.clear();
    bench.switch.strayed(bench.now, key(1), C);
    bench.collect();
    assert_eq!(bench.releases(), [(C, gone)]);
}

#[test]
fn for_two_seconds_after_a_start_hosts_have_time_to_be_heard() {
    let mut bench = Bench::starting();
    bench.hear(B, &[claim(1), claim(2)]);
    bench.wait(SECOND);
    bench.learned(1, LOCAL);
    bench.hear(B, &[claim(1), claim(2)]);
    assert!(bench.releases().is_empty());
    bench.wait(SECOND);
    bench.hear(B, &[claim(2)]);
    bench.wait(10 * MS);
    let gone = release(2, 1, public_key(B));
    assert_eq!(bench.releases(), [(A, gone), (B, gone), (C, gone)]);
    assert_eq!(bench.owner(1), Some(LOCAL));
}

#[test]
fn who_sends_here_what_another_peer_has_is_told_so_after_a_restart() {
    let mut bench = Bench::starting();
    let nobodys = release(1, 0, PublicKey([0; 32]));
    for host in 1..=4 {
        bench.learned(host, ALPHA);
    }
    let strays = |bench: &mut Bench| {
        bench.clear();
        for (host, peer) in [(1, C), (2, A), (3, C), (5, C)] {
            bench.switch.strayed(bench.now, key(host), peer);
        }
        bench.collect();
        bench.releases()
    };
    // Local hosts have yet to be heard.
    assert_eq!(strays(&mut bench), []);
    bench.wait(2 * SECOND);
    bench.contested(3, LOCAL);
    // Not the owner itself, not what a local host claims, not what nobody has.
    assert_eq!(strays(&mut bench), [(C, nobodys)]);
    bench.wait(AGEING);
    bench.learned(1, ALPHA);
    assert_eq!(strays(&mut bench), []);

    let mut told = elsewhere();
    told.switch.peer_up(told.now, A);
    told.hear(A, &[nobodys]);
    assert_eq!(told.owner(1), None, "until it is heard");
    told.learned(1, BETA);
    assert_eq!(told.owner(1), Some(BETA));
}

#[test]
fn who_took_a_peer_for_the_owner_before_its_restart_follows_what_it_says_after() {
    let mut bench = elsewhere();
    bench.hear(A, &[release(1, 500, public_key(A))]);
    bench.switch.peer_up(bench.now, A);
    bench.hear(A, &[release(1, 1, public_key(B))]);
    assert_eq!(bench.owner(1), Some(BETA));
}

#[test]
fn a_claim_of_what_another_peer_has_is_ignored() {
    let mut bench = elsewhere();
    bench.hear(B, &[claim(1)]);
    bench.wait(10 * SECOND);
    assert_eq!(bench.owner(1), Some(ALPHA));
    assert!(bench.releases().is_empty());
}

#[test]
fn static_addresses_never_move() {
    let mut bench = Bench::new();
    bench.switch.insert_static(bench.now, key(1), LOCAL);
    bench.switch.insert_static(bench.now, key(2), ALPHA);
    bench.hear(B, &[claim(1), claim(2)]);
    bench.contested(1, OTHER_PORT);
    bench.contested(2, LOCAL);
    bench.hear(A, &[release(2, 9, public_key(B))]);
    bench.wait(AGEING * 2);
    assert_eq!((bench.owner(1), bench.owner(2)), (Some(LOCAL), Some(ALPHA)));
    assert!(
        bench
            .asks
            .iter()
            .all(|(_, ask)| !matches!(ask, Send::Ask { .. }))
    );
    assert!(bench.claims().is_empty());
}

#[test]
fn five_moves_in_180_s_freeze_an_address_for_1800_s() {
    let mut bench = elsewhere();
    let peers = [A, B, A, B, A, B];
    for (n, pair) in (1..).zip(peers.windows(2)) {
        bench.hear(pair[0], &[release(1, n, public_key(pair[1]))]);
        bench.wait(SECOND);
    }
    assert_eq!(bench.owner(1), Some(BETA));
    let alarms: Vec<_> = bench.switch.alarms().collect();
    assert_eq!(alarms.len(), 1);
    assert_eq!((alarms[0].key, alarms[0].owner), (key(1), BETA));
    assert_eq!(bench.switch.counters().frozen, 1);
    let thaws = alarms[0].until;
    assert_eq!(thaws.since(bench.now), FREEZE - SECOND);

    while bench.now + 10 * SECOND < thaws {
        bench.wait(10 * SECOND);
        bench.learned(1, BETA);
        bench.hear(B, &[release(1, 99, public_key(C))]);
        bench.contested(1, LOCAL);
        assert_eq!(bench.owner(1), Some(BETA), "it stays");
    }
    assert!(bench.claims().is_empty(), "and nobody claims it");
    bench.wait(10 * SECOND);
    assert_eq!(bench.switch.alarms().count(), 0);
    bench.hear(B, &[release(1, 99, public_key(C))]);
    assert_eq!(bench.owner(1), Some(GAMMA));
}

#[test]
fn an_address_that_falls_silent_stays_frozen() {
    let mut bench = elsewhere();
    for (n, pair) in (1..).zip([A, B, A, B, A, B].windows(2)) {
        bench.hear(pair[0], &[release(1, n, public_key(pair[1]))]);
    }
    bench.wait(FREEZE - SECOND);
    assert_eq!(bench.owner(1), Some(BETA));
    assert_eq!(bench.switch.alarms().count(), 1);
    bench.wait(SECOND);
    assert_eq!((bench.owner(1), bench.switch.alarms().count()), (None, 0));
}

#[test]
fn a_frozen_address_of_ours_is_not_let_go() {
    let mut bench = at_home();
    for n in 1..=3 {
        bench.hear(B, &[claim(1)]);
        bench.wait(400 * MS);
        assert_eq!(bench.owner(1), Some(BETA), "{n}");
        bench.contested(1, LOCAL);
        if n < 3 {
            let next = bench.switch.fdb.get(key(1)).and_then(|entry| entry.stamp);
            let sequence = next.expect("it moved").sequence + 1;
            bench.hear(B, &[release(1, sequence, OWN_KEY)]);
            bench.bound(1, 1, LOCAL);
        }
    }
    assert_eq!(bench.switch.alarms().count(), 1);
    let sequence = u32::MAX / 4;
    bench.hear(B, &[release(1, sequence, OWN_KEY)]);
    assert_eq!(bench.owner(1), Some(BETA), "five moves: it stays there");
}

#[test]
fn slow_moves_do_not_freeze() {
    let mut bench = elsewhere();
    let peers = [A, B].repeat(10);
    for (n, pair) in (1..).zip(peers.windows(2)) {
        bench.hear(pair[0], &[release(1, n, public_key(pair[1]))]);
        bench.wait(46 * SECOND);
    }
    assert_eq!(bench.switch.alarms().count(), 0);
    assert_eq!(bench.switch.counters().moves, 19);
}

#[test]
fn what_a_peer_was_given_is_on_the_givers_account_until_it_speaks() {
    let limits = PeerLimits {
        macs_max: 3,
        addresses_max: 3,
    };
    let mut bench = Bench::with(SwitchConfig::new(2, OWN_KEY), limits);
    for host in 1..=3 {
        bench.learned(host, BETA);
    }
    for host in 11..=30 {
        bench.learned(host, ALPHA);
        bench.hear(A, &[release(host, 1, public_key(B))]);
    }
    let kept: Vec<_> = (1..=3).map(|host| bench.owner(host)).collect();
    assert_eq!(kept, [Some(BETA); 3], "a giver takes nothing from others");
    assert_eq!(bench.switch.len(), 6);
    bench.learned(30, BETA);
    assert_eq!(bench.owner(1), None, "its own, as it took one more");
    assert_eq!(bench.owner(30), Some(BETA));
}
