//! ARP and neighbour discovery: what is answered by the engine, what is refused, what goes on.

use std::net::IpAddr;
use std::time::Duration;

use omni_control::message::{Command, Owner, Upcall};
use omni_engine::datapath::policy::{PortPolicy, SwitchPolicy};
use omni_wire::arp::{Arp, Operation};
use omni_wire::{DropReason, MacAddr};

use crate::bench::{
    Bench, ENGINE, PEER, advertisement, arp, ethernet, host, icmpv6, local, solicitation, tag,
    who_has, who_has_to,
};

const REMOTE: Owner = Owner::Peer(PEER);

/// Two ports, and a host behind the peer: .9 and ::9 at host 9.
fn suppressing() -> Bench {
    let mut bench = Bench::new(SwitchPolicy {
        suppression: true,
        ..SwitchPolicy::open(2)
    });
    bench.reach_peer();
    bench.insert(0, host(9), REMOTE);
    bench.bind(0, "10.7.0.9", host(9), REMOTE);
    bench.bind(0, "2001:db8::9", host(9), REMOTE);
    bench
}

/// The answer to a question of host 1 at port 0.
fn answered(sent: &[(usize, Vec<u8>)]) -> Arp {
    let [(0, answer)] = sent else {
        panic!("one answer, not {sent:?}");
    };
    assert_eq!(answer[..14], ethernet(host(1), host(9), 0x0806, &[]));
    Arp::parse(&answer[14..]).expect("ARP")
}

#[test]
fn a_question_for_an_address_that_is_known_is_answered_and_goes_nowhere() {
    let mut bench = suppressing();
    let asked = who_has(host(1), "10.7.0.1", "10.7.0.9");
    let reply = answered(&bench.send(0, &asked));
    let expected = Arp {
        operation: Operation::Reply,
        sender_mac: host(9),
        sender_ip: "10.7.0.9".parse().expect("an address"),
        target_mac: host(1),
        target_ip: "10.7.0.1".parse().expect("an address"),
    };
    assert_eq!(reply, expected);
    assert_eq!(bench.datapath.staged(), 0, "nothing for the fabric");
    assert_eq!(bench.datapath.counted().arp_answered, 1);
    // In a VLAN nothing is known of it.
    let tagged = tag(5, &who_has(host(1), "10.7.0.1", "10.7.0.9"));
    assert_eq!(bench.send(0, &tagged), [(1, tagged)]);
    assert_eq!(bench.datapath.counted().arp_unknown, 1);
}

#[test]
fn a_tagged_question_is_answered_with_its_tag() {
    let mut bench = suppressing();
    bench.bind(5, "10.7.0.9", host(9), REMOTE);
    let asked = tag(5, &who_has(host(1), "10.7.0.1", "10.7.0.9"));
    let [(0, answer)] = &bench.send(0, &asked)[..] else {
        panic!("one answer");
    };
    let untagged = arp(
        host(1),
        host(9),
        Operation::Reply,
        (host(9), "10.7.0.9"),
        (host(1), "10.7.0.1"),
    );
    assert_eq!(answer[..tag(5, &untagged).len()], tag(5, &untagged));
}

#[test]
fn without_suppression_questions_are_flooded() {
    let mut bench = Bench::new(SwitchPolicy::open(2));
    bench.bind(0, "10.7.0.9", host(9), REMOTE);
    let asked = who_has(host(1), "10.7.0.1", "10.7.0.9");
    assert_eq!(bench.send(0, &asked), [(1, asked)]);
}

#[test]
fn a_poll_goes_to_the_host_that_it_asks() {
    let mut bench = suppressing();
    let poll = who_has_to(host(9), host(1), "10.7.0.1", "10.7.0.9");
    assert_eq!(bench.send(0, &poll), []);
    assert_eq!(bench.datapath.staged(), 1, "it is on its way to the host");
    assert_eq!(bench.datapath.counted().arp_answered, 0);
}

#[test]
fn an_address_behind_the_port_that_asks_is_its_hosts_to_answer() {
    let mut bench = suppressing();
    bench.send(0, &who_has(host(2), "10.7.0.2", "10.7.0.77"));
    let staged = bench.datapath.staged();
    let asked = who_has(host(1), "10.7.0.1", "10.7.0.2");
    assert_eq!(bench.send(0, &asked), [], "the host has heard it");
    assert_eq!(bench.datapath.staged(), staged);
    // From the other port it is.
    let asked = who_has(host(3), "10.7.0.3", "10.7.0.2");
    let [(1, answer)] = &bench.send(1, &asked)[..] else {
        panic!("one answer");
    };
    let answer = Arp::parse(&answer[14..]).expect("ARP");
    assert_eq!(
        (answer.operation, answer.sender_mac),
        (Operation::Reply, host(2))
    );
}

#[test]
fn nobody_is_answered_about_itself() {
    let mut bench = suppressing();
    // Host 9 has come to port 0, and the table does not know yet.
    bench.insert(0, host(9), local(0));
    let probe = who_has(host(9), "0.0.0.0", "10.7.0.9");
    assert_eq!(bench.send(0, &probe), [(1, probe)]);
    let asked = solicitation(host(9), "::", "2001:db8::9");
    assert_eq!(bench.send(0, &asked), [(1, asked)]);
}

#[test]
fn a_probe_is_answered_when_another_host_has_the_address() {
    let mut bench = suppressing();
    let probe = who_has(host(1), "0.0.0.0", "10.7.0.9");
    let reply = answered(&bench.send(0, &probe));
    assert_eq!(reply.sender_mac, host(9));
    let free = who_has(host(1), "0.0.0.0", "10.7.0.10");
    assert_eq!(bench.send(0, &free), [(1, free)]);
    assert!(
        !bench
            .upcalls()
            .iter()
            .any(|u| matches!(u, Upcall::Bound { .. }))
    );
}

#[test]
fn an_announcement_is_learned_and_sent_on_once() {
    let mut bench = suppressing();
    let told = who_has(host(1), "10.7.0.1", "10.7.0.1");
    assert_eq!(bench.send(0, &told), [(1, told.clone())]);
    assert_eq!(bench.datapath.staged(), 1);
    let bound = Upcall::Bound {
        vlan: 0,
        ip: IpAddr::from([10, 7, 0, 1]),
        mac: host(1),
        owner: local(0),
    };
    assert!(bench.upcalls().contains(&bound));
}

#[test]
fn another_host_behind_the_same_port_gets_an_address_when_the_control_thread_says_so() {
    let mut bench = suppressing();
    let told = |n| who_has(host(n), "10.7.0.1", "10.7.0.1");
    bench.send(0, &told(1));
    bench.upcalls();
    // It may be the same host with another card, or one that lies.
    let wanted = Upcall::Bound {
        vlan: 0,
        ip: IpAddr::from([10, 7, 0, 1]),
        mac: host(4),
        owner: local(0),
    };
    for is_told in [true, false] {
        bench.refuse(0, &told(4), DropReason::BindingNotOwned);
        assert_eq!(bench.upcalls().contains(&wanted), is_told, "at a rate");
    }
    let asked = who_has(host(3), "10.7.0.3", "10.7.0.1");
    let [(1, answer)] = &bench.send(1, &asked)[..] else {
        panic!("one answer");
    };
    let answer = Arp::parse(&answer[14..]).expect("ARP");
    assert_eq!(answer.sender_mac, host(1), "nothing was poisoned");
    bench.bind(0, "10.7.0.1", host(4), local(0));
    assert_eq!(bench.send(0, &told(4)), [(1, told(4))]);
}

#[test]
fn who_claims_an_address_of_somebody_else_is_refused() {
    let mut bench = suppressing();
    let spoofed = [
        who_has(host(1), "10.7.0.9", "10.7.0.9"),
        who_has(host(1), "10.7.0.9", "10.7.0.44"),
        arp(
            host(9),
            host(1),
            Operation::Reply,
            (host(1), "10.7.0.9"),
            (host(9), "10.7.0.1"),
        ),
        advertisement(host(1), "2001:db8::9", host(1)),
        solicitation(host(1), "2001:db8::9", "2001:db8::44"),
    ];
    for sent in &spoofed {
        bench.refuse(0, sent, DropReason::BindingNotOwned);
    }
    let wanted = bench.upcalls().into_iter().filter(|upcall| {
        matches!(upcall, Upcall::Bound { mac, owner, .. } if (*mac, *owner) == (host(1), local(0)))
    });
    assert_eq!(wanted.count(), 2, "each address once at a time");
    let asked = who_has(host(2), "10.7.0.2", "10.7.0.9");
    let [(0, answer)] = &bench.send(0, &asked)[..] else {
        panic!("one answer");
    };
    let answer = Arp::parse(&answer[14..]).expect("ARP");
    assert_eq!(answer.sender_mac, host(9), "nothing was poisoned");
}

#[test]
fn an_address_in_question_is_reported_again_with_the_next_word_of_its_host() {
    let mut bench = suppressing();
    let told = who_has(host(1), "10.7.0.1", "10.7.0.1");
    let reported = |bench: &mut Bench| {
        bench.send(0, &told);
        let upcalls = bench.upcalls();
        upcalls.iter().any(|u| matches!(u, Upcall::Bound { .. }))
    };
    assert_eq!([reported(&mut bench), reported(&mut bench)], [true, false]);
    let ip = IpAddr::from([10, 7, 0, 1]);
    bench.order(Command::BindWatch { vlan: 0, ip });
    assert_eq!([reported(&mut bench), reported(&mut bench)], [true, false]);
}

#[test]
fn who_names_another_hardware_address_is_refused() {
    let mut bench = suppressing();
    let sent = [
        arp(
            MacAddr::BROADCAST,
            host(1),
            Operation::Request,
            (host(2), "10.7.0.1"),
            (MacAddr::ZERO, "10.7.0.9"),
        ),
        arp(
            host(9),
            host(1),
            Operation::Reply,
            (host(2), "10.7.0.1"),
            (host(9), "10.7.0.9"),
        ),
        advertisement(host(1), "2001:db8::1", host(2)),
    ];
    for sent in &sent {
        bench.refuse(0, sent, DropReason::NeighborSpoofed);
    }
    let broken = ethernet(MacAddr::BROADCAST, host(1), 0x0806, &[0; 46]);
    bench.refuse(0, &broken, DropReason::NeighborMalformed);
    assert!(
        !bench
            .upcalls()
            .iter()
            .any(|u| matches!(u, Upcall::Bound { .. }))
    );
}

#[test]
fn a_solicitation_is_answered_with_a_valid_advertisement() {
    let mut bench = suppressing();
    for (source, destination, solicited) in
        [("2001:db8::1", "2001:db8::1", 0x40), ("::", "ff02::1", 0)]
    {
        let asked = solicitation(host(1), source, "2001:db8::9");
        let [(0, answer)] = &bench.send(0, &asked)[..] else {
            panic!("one answer");
        };
        assert_eq!(answer[6..12], host(9).0);
        let mut message = vec![136, 0, 0, 0, solicited, 0, 0, 0];
        let target: std::net::Ipv6Addr = "2001:db8::9".parse().expect("an address");
        message.extend(target.octets());
        message.extend([2, 1]);
        message.extend(host(9).0);
        let to = if source == "::" {
            MacAddr([0x33, 0x33, 0, 0, 0, 1])
        } else {
            host(1)
        };
        let expected = icmpv6(to, host(9), "2001:db8::9", destination, &message);
        assert_eq!(answer, &expected, "for {source}");
    }
    assert_eq!(bench.datapath.counted().nd_answered, 2);
    assert_eq!(bench.datapath.staged(), 0);
    let unknown = solicitation(host(1), "2001:db8::1", "2001:db8::77");
    assert_eq!(bench.send(0, &unknown), [(1, unknown)]);
    assert_eq!(bench.datapath.counted().nd_unknown, 1);
}

#[test]
fn nobody_answers_for_an_address_that_may_be_a_routers() {
    let mut bench = suppressing();
    bench.bind(0, "fe80::9", host(9), REMOTE);
    for source in ["fe80::1", "::"] {
        let asked = solicitation(host(1), source, "fe80::9");
        assert_eq!(bench.send(0, &asked), [(1, asked)], "from {source}");
    }
}

#[test]
fn a_binding_that_is_taken_back_is_flooded_for_again() {
    let mut bench = suppressing();
    for ip in ["10.7.0.9", "2001:db8::9"] {
        let (vlan, ip) = (0, ip.parse().expect("an address"));
        bench.order(Command::Unbind { vlan, ip });
    }
    for asked in [
        who_has(host(1), "10.7.0.1", "10.7.0.9"),
        solicitation(host(1), "2001:db8::1", "2001:db8::9"),
    ] {
        assert_eq!(bench.send(0, &asked), [(1, asked)]);
    }
}

#[test]
fn answers_to_the_engine_are_learned_and_go_nowhere() {
    let mut bench = suppressing();
    let reply = arp(
        ENGINE,
        host(1),
        Operation::Reply,
        (host(1), "10.7.0.1"),
        (ENGINE, "0.0.0.0"),
    );
    assert_eq!(bench.send(0, &reply), []);
    assert_eq!(
        (bench.datapath.staged(), bench.datapath.drops().total()),
        (0, 0)
    );
    assert!(
        bench
            .upcalls()
            .iter()
            .any(|u| matches!(u, Upcall::Bound { .. }))
    );
}

/// An IPv4 or IPv6 packet of a DHCP server.
fn dhcp_offers() -> [Vec<u8>; 2] {
    let mut v4 = vec![
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 7, 0, 1, 255, 255, 255, 255,
    ];
    let sum = !omni_wire::checksum::fold(omni_wire::checksum::add(0, &v4));
    v4[10..12].copy_from_slice(&sum.to_be_bytes());
    v4.extend([0, 67, 0, 68, 0, 8, 0, 0]);
    let mut v6 = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
    v6.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    v6.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    v6.extend([2, 35, 2, 34, 0, 8, 0, 0]);
    [
        ethernet(MacAddr::BROADCAST, host(1), 0x0800, &v4),
        ethernet(host(2), host(1), 0x86dd, &v6),
    ]
}

/// A router advertisement without options (RFC 4861 s.4.2).
fn router_advertisement() -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8];
    message.extend([0; 8]);
    let all_nodes = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    icmpv6(all_nodes, host(1), "fe80::1", "ff02::1", &message)
}

#[test]
fn guards_keep_routers_and_dhcp_servers_away() {
    let mut guarded = PortPolicy::default();
    (guarded.guard_ra, guarded.guard_dhcp) = (true, true);
    let ports = vec![guarded, PortPolicy::default()];
    let mut bench = Bench::new(SwitchPolicy {
        ports,
        ..SwitchPolicy::default()
    });
    bench.refuse(0, &router_advertisement(), DropReason::GuardedRouter);
    for offer in dhcp_offers() {
        bench.refuse(0, &offer, DropReason::GuardedDhcp);
    }
    let mut bench = Bench::new(SwitchPolicy::open(2));
    let [v4, v6] = dhcp_offers();
    for sent in [router_advertisement(), v4, v6] {
        assert_eq!(bench.send(0, &sent), [(1, sent)]);
    }
}

#[test]
fn an_answer_that_becomes_wrong_soon_is_counted() {
    let mut bench = suppressing();
    let asked = who_has(host(1), "10.7.0.1", "10.7.0.9");
    let stale = |bench: &Bench| bench.datapath.counted().stale_answers;
    bench.bind(0, "10.7.0.9", host(8), REMOTE);
    assert_eq!(stale(&bench), 0, "nobody was answered with it");
    bench.send(0, &asked);
    bench.bind(0, "10.7.0.9", host(8), REMOTE);
    assert_eq!(stale(&bench), 0, "nothing changed");
    bench.bind(0, "10.7.0.9", host(7), REMOTE);
    assert_eq!(stale(&bench), 1);
    bench.send(0, &asked);
    let ip = IpAddr::from([10, 7, 0, 9]);
    bench.order(Command::Unbind { vlan: 0, ip });
    assert_eq!(stale(&bench), 2);
    bench.bind(0, "10.7.0.9", host(7), REMOTE);
    bench.send(0, &asked);
    bench.now = bench.now + Duration::from_secs(61);
    bench.bind(0, "10.7.0.9", host(6), REMOTE);
    assert_eq!(stale(&bench), 2, "who asked has asked again since");
}
