//! A peer that says whatever it likes.

use omni_wire::record::{GROUPS_FIRST, GROUPS_LAST};

use super::super::AGEING;
use super::super::contests::{CONTESTS_TOTAL, PATIENCE};
use super::super::formers::FORMERS_MAX;
use super::super::peers::CONTESTS_MAX;
use super::*;

/// Local hosts 1 to 100 and those of peers B and C, 101 to 300, all bound.
fn village() -> Bench {
    let mut bench = Bench::new();
    for host in 1..=100 {
        bench.learned(host, LOCAL);
        bench.bound(host, host, LOCAL);
    }
    for (peer, hosts) in [(B, 101..=200), (C, 201..=300)] {
        for host in hosts {
            bench.learned(host, Owner::Peer(peer));
            bench.hear(peer, &[announcement(host, host, 1)]);
        }
    }
    bench.wait(2 * SECOND);
    bench.clear();
    bench
}

/// All that is of others than A.
fn of_others(bench: &Bench) -> (Vec<(FdbKey, Owner)>, Vec<Bound>) {
    let owners = bench.switch.iter().map(|(&key, entry)| (key, entry.owner));
    let bindings = bench.switch.neighbors().map(|neighbor| neighbor.bound);
    (
        owners.filter(|&(_, owner)| owner != ALPHA).collect(),
        bindings.filter(|bound| bound.owner != ALPHA).collect(),
    )
}

/// Every local host that is asked answers.
fn answer(bench: &mut Bench) {
    let asked: Vec<Send> = bench.asks.drain(..).map(|(_, ask)| ask).collect();
    for ask in asked {
        if let Send::Ask {
            vlan,
            mac,
            ip,
            port,
        } = ask
        {
            let owner = Owner::Local(port);
            bench
                .switch
                .learned(bench.now, 0, FdbKey { vlan, mac }, owner);
            let bound = Bound {
                vlan,
                ip,
                mac,
                owner,
            };
            bench.switch.bound(bench.now, bound);
        }
    }
    bench.collect();
}

fn assert_bounded(switch: &Switch) {
    assert!(switch.contests.len() <= CONTESTS_TOTAL);
    assert!(switch.disputes.len() <= CONTESTS_TOTAL);
    assert!(switch.releases.len() <= 4096);
    assert!(switch.outbox.len() <= 4096);
    assert!(switch.formers.len() <= FORMERS_MAX);
    assert!(switch.groups.len() <= 4 * 1024);
}

#[test]
fn a_million_source_addresses_leave_others_as_they_were() {
    let mut bench = village();
    let before = of_others(&bench);
    for host in 1_000..1_001_000 {
        bench.switch.learned(bench.now, 0, key(host), ALPHA);
        while bench.switch.poll_order().is_some() {}
        bench.now = Instant(bench.now.0 + 1000);
    }
    assert_eq!(of_others(&bench), before);
    assert_eq!(bench.switch.len(), 300 + 1024);
    assert_eq!(bench.switch.counters().evicted, 1_000_000 - 1024);
}

#[test]
fn a_million_claims_of_others_addresses_take_none_from_live_hosts() {
    let mut bench = village();
    let before = of_others(&bench);
    let claims: Vec<Claim> = (0..100).map(|n| claim(n * 3 + 1)).collect();
    let asked_before = bench.asks.len();
    let mut asked = 0;
    for _ in 0..10_000 {
        bench.hear(A, &claims);
        bench.records.clear();
        bench.orders.clear();
        asked += bench.asks.len() - asked_before;
        answer(&mut bench);
        assert_bounded(&bench.switch);
        bench.wait(2 * MS);
    }
    assert_eq!(of_others(&bench), before);
    // Twenty seconds: a contest is one question here, as every host answers at once.
    assert!(asked <= 64 + 21 * 64, "{asked} questions");
}

#[test]
fn a_million_announcements_and_withdrawals_of_others_addresses_change_none() {
    let mut bench = village();
    let before = of_others(&bench);
    let hosts = || (0..100).map(|n| n * 3 + 1);
    for round in 0..5_000 {
        let lies: Vec<_> = hosts().map(|n| announcement(n, n + 5_000, round)).collect();
        bench.hear(A, &lies);
        let thefts: Vec<_> = hosts().map(|n| announcement(n + 9_000, n, round)).collect();
        bench.hear(A, &thefts);
        let gone: Vec<_> = hosts().map(|n| withdrawal(n, round)).collect();
        bench.hear(A, &gone);
        let gone: Vec<_> = hosts().map(|n| release(n, round, public_key(A))).collect();
        bench.hear(A, &gone);
        bench.records.clear();
        bench.orders.clear();
        answer(&mut bench);
        assert_bounded(&bench.switch);
        bench.wait(4 * MS);
    }
    assert_eq!(of_others(&bench), before);
}

#[test]
fn announced_floods_stay_within_the_peers_limits() {
    let mut bench = village();
    let before = of_others(&bench);
    for round in 0..3_000u32 {
        let first = 10_000 + round * 100;
        let many: Vec<_> = (first..first + 100)
            .map(|n| announcement(n, n, n))
            .collect();
        bench.hear(A, &many);
        bench.orders.clear();
        bench.wait(2 * MS);
    }
    assert_eq!(of_others(&bench), before);
    let of_peer = bench.switch.neighbors().filter(|n| n.bound.owner == ALPHA);
    assert_eq!(of_peer.count(), 1024);
}

#[test]
fn what_a_peer_gives_to_another_does_not_fill_its_account() {
    let mut bench = village();
    let before = of_others(&bench);
    for host in 10_000..30_000 {
        bench.switch.learned(bench.now, 0, key(host), ALPHA);
        bench.hear(A, &[release(host, 1, public_key(B))]);
        bench.orders.clear();
        bench.wait(MS);
    }
    assert!(bench.switch.len() <= 300 + 1024);
    let (owners, bindings) = of_others(&bench);
    for entry in before.0 {
        assert!(owners.contains(&entry), "{entry:?}");
    }
    assert_eq!(bindings, before.1);
}

#[test]
fn claims_of_one_peer_are_at_most_64_at_once_and_do_not_keep_others_out() {
    let mut bench = village();
    let claims: Vec<Claim> = (1..=100).map(claim).collect();
    bench.hear(A, &claims);
    assert_eq!(bench.switch.contests.len(), CONTESTS_MAX);
    bench.hear(A, &claims);
    assert_eq!(bench.switch.contests.len(), CONTESTS_MAX);
    bench.hear(B, &claims);
    assert_eq!(bench.switch.contests.len(), 100);
    bench.wait(PATIENCE);
    let gone = (1..=100).filter(|&host| bench.owner(host) != Some(LOCAL));
    assert_eq!(gone.count(), 100, "all were silent");
    assert_eq!(bench.switch.contests.len(), 0);
}

#[test]
fn claims_of_hosts_that_cannot_be_asked_do_not_pile_up() {
    let mut bench = Bench::new();
    for host in 1..=400 {
        bench.learned(host, LOCAL);
    }
    let claims: Vec<Claim> = (1..=400).map(claim).collect();
    for _ in 0..40 {
        bench.hear(A, &claims);
        assert!(bench.switch.contests.len() <= CONTESTS_MAX);
        bench.wait(100 * MS);
    }
    assert_eq!(bench.switch.contests.len(), CONTESTS_MAX);
}

#[test]
fn a_thousand_records_a_second_are_read() {
    let mut bench = Bench::new();
    bench.wait(2 * SECOND);
    let before = bench.switch.counters().records_malformed;
    for _ in 0..5_000 {
        bench.hear_octets(A, &[1]);
    }
    let counters = bench.switch.counters();
    assert_eq!(counters.records_malformed - before, 1000);
    assert_eq!(counters.records_limited, 4000);
    bench.hear(B, &[announcement(1, 1, 1)]);
    assert!(bench.binding(1).is_some(), "others are heard");
    bench.wait(SECOND);
    bench.hear(A, &[announcement(2, 2, 1)]);
    assert!(bench.binding(2).is_some());
}

#[test]
fn records_of_any_octets_change_nothing_of_others() {
    let mut bench = village();
    let before = of_others(&bench);
    let mut random = super::model::Rng(1);
    for _ in 0..200_000 {
        let mut octets: Vec<u8> = (0..random.below(90)).map(|_| random.next() as u8).collect();
        if let [kind, _, high, low, rest @ ..] = &mut octets[..] {
            *kind %= 8;
            *high = 0;
            *low = rest.len() as u8;
            // Often enough about something that is there.
            for at in 0..rest.len().saturating_sub(8) {
                if random.below(4) == 0 {
                    rest[at..at + 8].copy_from_slice(&[0, 7, 2, 0, 0, 0, 0, at as u8]);
                }
            }
        }
        bench.hear_octets(A, &octets);
        answer(&mut bench);
        bench.orders.clear();
        bench.records.clear();
        bench.wait(2 * MS);
        // Hosts speak, or their entries age out.
        if random.below(10_000) == 0 {
            refresh(&mut bench);
        }
    }
    assert_eq!(of_others(&bench), before);
    assert_bounded(&bench.switch);
}

fn refresh(bench: &mut Bench) {
    let (owners, bindings) = of_others(bench);
    for (key, owner) in owners {
        bench.switch.learned(bench.now, 0, key, owner);
    }
    for bound in bindings {
        bench.switch.bound(bench.now, bound);
    }
    bench.collect();
}

#[test]
fn groups_of_one_peer_are_bounded_and_cost_others_nothing() {
    let mut bench = village();
    let mine = GroupChange {
        join: true,
        vlan: VLAN,
        group: IpAddr::from([239, 9, 9, 9]),
    };
    bench.hear_octets(B, &record_of(&[GROUPS_FIRST | GROUPS_LAST], &[mine]));
    for n in 0..100_000u32 {
        let change = GroupChange {
            group: IpAddr::from((0xe800_0000 + n).to_be_bytes()),
            ..mine
        };
        bench
            .switch
            .record(bench.now, A, &record_of(&[0], &[change]));
        bench.now = bench.now + MS;
        while bench.switch.poll_order().is_some() {}
    }
    assert_bounded(&bench.switch);
    let kept = bench
        .switch
        .groups()
        .find(|&(_, group, _)| group == mine.group);
    assert_eq!(kept.map(|(.., members)| members), Some(vec![BETA]));
}

#[test]
fn strays_and_claims_of_nothing_are_answered_within_bounds() {
    let mut bench = village();
    // Soon after a start all are told: of few of them.
    let claims: Vec<Claim> = (90_000..90_200).map(claim).collect();
    bench.hear(A, &claims[..100]);
    bench.hear(A, &claims[100..]);
    bench.wait(10 * MS);
    let answers = bench.releases();
    let of = |peer| answers.iter().filter(|&&(to, _)| to == peer).count();
    assert_eq!((of(A), of(B), of(C)), (200, 64, 64));
    bench.wait(AGEING);
    bench.clear();
    for round in 0..1_000u32 {
        let first = 100_000 + round * 100;
        let claims: Vec<Claim> = (first..first + 100).map(claim).collect();
        bench.hear(A, &claims);
        bench.switch.strayed(bench.now, key(first), A);
        assert_bounded(&bench.switch);
    }
    let answers = bench.releases();
    assert!(answers.len() <= 4096, "{}", answers.len());
    assert!(answers.iter().all(|&(to, _)| to == A));
}
