//! Our own address on the way to an endpoint: asked for, kept, and passed over when it cannot be.

use std::net::{IpAddr, SocketAddr};

use omni_control::netlink::{KernelEvent, Netlink, Resolution};

use super::world::{Peer, drain, event, in_namespace, ip, try_ip};
use super::{address, connect, link};

const OUR_PORT: u16 = 51820;

/// A way as far as these tests look at it.
#[derive(PartialEq, Eq, Debug)]
struct Way {
    source: IpAddr,
    source_kept: bool,
    next_hop: IpAddr,
}

fn way(source: &str, source_kept: bool, next_hop: &str) -> Way {
    Way {
        source: address(source),
        source_kept,
        next_hop: address(next_hop),
    }
}

/// Resolves, again at every event about the next hop, until the way is known.
async fn ready(netlink: &Netlink, endpoint: &str, source: Option<&str>) -> Way {
    let underlay = link(netlink, "underlay").await.index;
    let to: SocketAddr = endpoint.parse().expect("an endpoint");
    loop {
        let found = netlink.resolve(to, source.map(address), underlay, OUR_PORT);
        match found.await.expect("an answer") {
            Resolution::Ready {
                path,
                source_kept,
                next_hop,
                ..
            } => {
                return Way {
                    source: path.source,
                    source_kept,
                    next_hop,
                };
            }
            Resolution::Pending { next_hop, .. } => {
                event(netlink, |event| match event {
                    KernelEvent::NeighborChanged {
                        address,
                        usable: true,
                        ..
                    } => (*address == next_hop).then_some(()),
                    _ => None,
                })
                .await;
            }
            Resolution::Unresolvable { why } => panic!("{endpoint}: {why}"),
        }
    }
}

/// A peer, and a second address of each family on the underlay.
fn two_addresses() -> Peer {
    let peer = Peer::on_the_underlay();
    ip("addr add 192.0.2.11/24 dev underlay");
    ip("addr add 2001:db8::11/64 dev underlay nodad");
    peer
}

#[test]
fn the_address_asked_for_is_kept_while_it_is_ours() {
    let name = "sources::the_address_asked_for_is_kept_while_it_is_ours";
    in_namespace(name, || async {
        let _peer = two_addresses();
        let netlink = connect();
        let cases = [
            ("192.0.2.2:4000", "192.0.2.2", ["192.0.2.1", "192.0.2.11"]),
            (
                "[2001:db8::2]:4000",
                "2001:db8::2",
                ["2001:db8::1", "2001:db8::11"],
            ),
        ];
        for (endpoint, hop, sources) in cases {
            for source in sources {
                let found = ready(&netlink, endpoint, Some(source)).await;
                assert_eq!(found, way(source, true, hop));
            }
            let [first, second] = sources;
            let bits = if hop.contains(':') { 64 } else { 24 };
            ip(&format!("addr del {second}/{bits} dev underlay"));
            let found = ready(&netlink, endpoint, Some(second)).await;
            assert_eq!(found, way(first, false, hop));
        }
    });
}

/// A socket that is connected keeps its address although the kernel would choose another now.
#[test]
fn the_kernels_choice_may_change_and_what_is_kept_does_not() {
    let name = "sources::the_kernels_choice_may_change_and_what_is_kept_does_not";
    in_namespace(name, || async {
        let _peer = two_addresses();
        let netlink = connect();
        let endpoint = "192.0.2.2:4000";
        let chosen = ready(&netlink, endpoint, None).await;
        assert_eq!(chosen, way("192.0.2.1", true, "192.0.2.2"));
        ip("route replace 192.0.2.0/24 dev underlay proto kernel scope link src 192.0.2.11");
        let chosen = ready(&netlink, endpoint, None).await;
        assert_eq!(chosen, way("192.0.2.11", true, "192.0.2.2"));
        let kept = ready(&netlink, endpoint, Some("192.0.2.1")).await;
        assert_eq!(kept, way("192.0.2.1", true, "192.0.2.2"));
    });
}

#[test]
fn an_address_that_cannot_be_used_is_passed_over_and_that_is_said() {
    let name = "sources::an_address_that_cannot_be_used_is_passed_over_and_that_is_said";
    in_namespace(name, || async {
        let peer = Peer::on_the_underlay();
        peer.connect("eth1", "wire1");
        ip("addr add 203.0.113.1/24 dev eth1");
        ip("addr add 2001:db8:1::1/64 dev eth1 nodad");
        ip("addr add fe80::11/64 dev underlay nodad");
        ip("link set lo up");
        let netlink = connect();
        // Nobody's, another interface's, the host's alone, and of the wrong family or scope.
        let cases = [
            (
                "192.0.2.2:4000",
                ["192.0.2.99", "203.0.113.1", "127.0.0.1", "2001:db8::1"],
                way("192.0.2.1", false, "192.0.2.2"),
            ),
            (
                "[2001:db8::2]:4000",
                ["2001:db8::99", "2001:db8:1::1", "::1", "fe80::11"],
                way("2001:db8::1", false, "2001:db8::2"),
            ),
        ];
        for (endpoint, sources, wanted) in cases {
            for source in sources {
                let found = ready(&netlink, endpoint, Some(source)).await;
                assert_eq!(found, wanted, "{source}");
            }
        }
    });
}

#[test]
fn link_local_addresses_are_kept_on_their_link() {
    let name = "sources::link_local_addresses_are_kept_on_their_link";
    in_namespace(name, || async {
        let peer = Peer::on_the_underlay();
        peer.ip("addr add fe80::22/64 dev wire nodad");
        ip("addr add fe80::11/64 dev underlay nodad");
        ip("addr add fe80::12/64 dev underlay nodad");
        let netlink = connect();
        for source in ["fe80::11", "fe80::12"] {
            let found = ready(&netlink, "[fe80::22]:4000", Some(source)).await;
            assert_eq!(found, way(source, true, "fe80::22"));
        }
    });
}

#[test]
fn rules_for_senders_decide_as_for_a_socket_bound_to_the_address() {
    let name = "sources::rules_for_senders_decide_as_for_a_socket_bound_to_the_address";
    in_namespace(name, || async {
        let peer = two_addresses();
        peer.ip("addr add 192.0.2.3/24 dev wire");
        peer.ip("addr add 2001:db8::3/64 dev wire nodad");
        ip("route add 198.51.100.0/24 via 192.0.2.2");
        ip("route add 198.51.100.0/24 via 192.0.2.3 table 7");
        ip("rule add from 192.0.2.11 table 7");
        ip("-6 route add 2001:db8:5::/48 via 2001:db8::2");
        ip("-6 route add 2001:db8:5::/48 via 2001:db8::3 table 7");
        ip("-6 rule add from 2001:db8::11 table 7");
        let netlink = connect();
        let cases = [
            ("198.51.100.9:4000", "192.0.2.1", "192.0.2.2"),
            ("198.51.100.9:4000", "192.0.2.11", "192.0.2.3"),
            ("[2001:db8:5::9]:4000", "2001:db8::1", "2001:db8::2"),
            ("[2001:db8:5::9]:4000", "2001:db8::11", "2001:db8::3"),
        ];
        for (endpoint, source, gateway) in cases {
            let found = ready(&netlink, endpoint, Some(source)).await;
            assert_eq!(found, way(source, true, gateway));
        }
        // From there nothing goes there: better from elsewhere than not at all.
        drain(&netlink).await;
        ip("route replace unreachable 198.51.100.0/24 table 7");
        event(&netlink, |event| {
            (*event == KernelEvent::RoutesChanged).then_some(())
        })
        .await;
        let found = ready(&netlink, "198.51.100.9:4000", Some("192.0.2.11")).await;
        assert_eq!(found, way("192.0.2.1", false, "192.0.2.2"));
    });
}

#[test]
fn an_address_of_a_vlan_sub_interface_is_one_of_ours() {
    let name = "sources::an_address_of_a_vlan_sub_interface_is_one_of_ours";
    in_namespace(name, || async {
        let _peer = Peer::on_the_underlay();
        if !try_ip("link add link underlay name underlay.7 type vlan id 7") {
            eprintln!("NOT TESTED here: this kernel has no VLAN sub-interfaces (8021q)");
            return;
        }
        ip("link set underlay.7 up");
        ip("addr add 203.0.113.7/24 dev underlay.7");
        let netlink = connect();
        let found = ready(&netlink, "192.0.2.2:4000", Some("203.0.113.7")).await;
        assert_eq!(found, way("203.0.113.7", true, "192.0.2.2"));
    });
}
