//! From endpoints to paths.

use std::net::SocketAddr;
use std::time::Duration;

use omni_control::netlink::{KernelEvent, Netlink, Resolution};
use omni_wire::MacAddr;
use omni_wire::outer::Path;

use super::world::{Peer, drain, event, in_namespace, ip, ip_says, sysctl, try_ip};
use super::{address, connect, link, mac};

const OUR_PORT: u16 = 51820;
const PEER_MAC: &str = "02:00:00:00:00:02";

/// A peer on the underlay whose MAC address is [`PEER_MAC`].
fn peer() -> Peer {
    let peer = Peer::on_the_underlay();
    peer.ip(&format!("link set wire address {PEER_MAC}"));
    peer
}

async fn resolve(netlink: &Netlink, endpoint: &str) -> Resolution {
    let underlay = link(netlink, "underlay").await.index;
    let endpoint: SocketAddr = endpoint.parse().expect("an endpoint");
    netlink
        .resolve(endpoint, None, underlay, OUR_PORT)
        .await
        .expect("an answer")
}

/// Resolves again at every event about the next hop, as an engine does, until the way is known.
/// That it did not answer is such an event, and has the kernel ask again.
async fn ready(netlink: &Netlink, endpoint: &str) -> (Path, u32, String) {
    for _ in 0..5 {
        match resolve(netlink, endpoint).await {
            Resolution::Ready {
                path,
                mtu,
                next_hop,
                ..
            } => {
                return (path, mtu, next_hop.to_string());
            }
            Resolution::Pending { next_hop, ifindex } => {
                event(netlink, |event| match event {
                    KernelEvent::NeighborChanged {
                        ifindex: at,
                        address,
                        ..
                    } => (*at == ifindex && *address == next_hop).then_some(()),
                    _ => None,
                })
                .await;
            }
            Resolution::Unresolvable { why } => panic!("{endpoint}: {why}"),
        }
    }
    panic!("{endpoint}: its next hop does not answer");
}

async fn why_not(netlink: &Netlink, endpoint: &str) -> String {
    match resolve(netlink, endpoint).await {
        Resolution::Unresolvable { why } => why,
        other => panic!("{endpoint}: {other:?}"),
    }
}

#[test]
fn a_neighbour_is_pending_until_it_answers() {
    in_namespace(
        "resolution::a_neighbour_is_pending_until_it_answers",
        || async {
            let _peer = peer();
            let netlink = connect();
            let underlay = link(&netlink, "underlay").await;
            let cases = [
                ("192.0.2.2:4000", "192.0.2.2", "192.0.2.1"),
                ("[2001:db8::2]:4000", "2001:db8::2", "2001:db8::1"),
            ];
            for (endpoint, hop, source) in cases {
                let pending = Resolution::Pending {
                    next_hop: address(hop),
                    ifindex: underlay.index,
                };
                assert_eq!(resolve(&netlink, endpoint).await, pending);
                let (path, mtu, next_hop) = ready(&netlink, endpoint).await;
                let wanted = Path {
                    source_mac: underlay.mac,
                    next_hop_mac: mac(PEER_MAC),
                    vlan: None,
                    source: address(source),
                    source_port: OUR_PORT,
                    endpoint: endpoint.parse().expect("an endpoint"),
                };
                assert_eq!((path, mtu, next_hop.as_str()), (wanted, 1500, hop));
            }
        },
    );
}

#[test]
fn an_ipv4_endpoint_written_as_ipv6_is_taken_as_ipv4() {
    in_namespace(
        "resolution::an_ipv4_endpoint_written_as_ipv6_is_taken_as_ipv4",
        || async {
            let _peer = peer();
            let netlink = connect();
            let (path, ..) = ready(&netlink, "[::ffff:192.0.2.2]:4000").await;
            assert_eq!(
                path.endpoint,
                "192.0.2.2:4000".parse().expect("an endpoint")
            );
            assert_eq!(path.source, address("192.0.2.1"));
        },
    );
}

#[test]
fn a_link_local_endpoint_is_on_the_underlay() {
    in_namespace(
        "resolution::a_link_local_endpoint_is_on_the_underlay",
        || async {
            let peer = peer();
            peer.ip("addr add fe80::22/64 dev wire nodad");
            ip("addr add fe80::11/64 dev underlay nodad");
            let netlink = connect();
            let (path, _, next_hop) = ready(&netlink, "[fe80::22]:4000").await;
            assert_eq!(
                (path.next_hop_mac, next_hop.as_str()),
                (mac(PEER_MAC), "fe80::22")
            );
            assert!(
                path.source.to_string().starts_with("fe80::"),
                "{}",
                path.source
            );
            let why = why_not(&netlink, "[fe80::22%4711]:4000").await;
            assert!(
                why.contains("does not exist") || why.contains("no route"),
                "{why}"
            );
        },
    );
}

#[test]
fn beyond_a_gateway_the_frames_go_to_the_gateway() {
    in_namespace(
        "resolution::beyond_a_gateway_the_frames_go_to_the_gateway",
        || async {
            let _peer = peer();
            ip("route add 198.51.100.0/24 via 192.0.2.2 mtu 1300");
            ip("route add 2001:db8:5::/48 via 2001:db8::2");
            ip("route add 203.0.113.0/24 via inet6 2001:db8::2 dev underlay src 192.0.2.1");
            let netlink = connect();
            let cases = [
                ("198.51.100.9:4000", "192.0.2.2", "192.0.2.1", 1300),
                ("[2001:db8:5::9]:4000", "2001:db8::2", "2001:db8::1", 1500),
                // An IPv4 route by way of an IPv6 gateway (RFC 5549).
                ("203.0.113.9:4000", "2001:db8::2", "192.0.2.1", 1500),
            ];
            for (endpoint, gateway, source, limit) in cases {
                let (path, mtu, next_hop) = ready(&netlink, endpoint).await;
                assert_eq!((next_hop.as_str(), mtu), (gateway, limit), "{endpoint}");
                assert_eq!(
                    (path.next_hop_mac, path.source),
                    (mac(PEER_MAC), address(source))
                );
                assert_eq!(path.endpoint, endpoint.parse().expect("an endpoint"));
            }
        },
    );
}

#[test]
fn a_replaced_route_leads_to_the_new_gateway() {
    in_namespace(
        "resolution::a_replaced_route_leads_to_the_new_gateway",
        || async {
            let peer = peer();
            peer.ip("addr add 192.0.2.3/24 dev wire");
            ip("route add 198.51.100.0/24 via 192.0.2.2");
            let netlink = connect();
            assert_eq!(ready(&netlink, "198.51.100.9:4000").await.2, "192.0.2.2");
            drain(&netlink).await;
            ip("route replace 198.51.100.0/24 via 192.0.2.3");
            event(&netlink, |event| {
                (*event == KernelEvent::RoutesChanged).then_some(())
            })
            .await;
            assert_eq!(ready(&netlink, "198.51.100.9:4000").await.2, "192.0.2.3");
        },
    );
}

#[test]
fn through_a_vlan_sub_interface_the_path_has_its_tag() {
    in_namespace(
        "resolution::through_a_vlan_sub_interface_the_path_has_its_tag",
        || async {
            let peer = peer();
            if !try_ip("link add link underlay name underlay.7 type vlan id 7") {
                eprintln!("NOT TESTED here: this kernel has no VLAN sub-interfaces (8021q)");
                return;
            }
            peer.ip("link add link wire name wire.7 type vlan id 7");
            peer.ip("addr add 198.51.100.2/24 dev wire.7");
            peer.ip("link set wire.7 up");
            ip("addr add 198.51.100.1/24 dev underlay.7");
            ip("link set underlay.7 mtu 1400 up");
            let netlink = connect();
            let (path, mtu, _) = ready(&netlink, "198.51.100.2:4000").await;
            assert_eq!(
                (path.vlan, mtu, path.source),
                (Some(7), 1400, address("198.51.100.1"))
            );
        },
    );
}

#[test]
fn what_does_not_leave_by_the_underlay_is_told_why() {
    in_namespace(
        "resolution::what_does_not_leave_by_the_underlay_is_told_why",
        || async {
            let peer = peer();
            peer.connect("eth1", "wire1");
            ip("addr add 203.0.113.1/24 dev eth1");
            ip("link set lo up");
            ip("route add unreachable 198.51.100.0/28");
            ip("route add blackhole 198.51.100.16/28");
            ip("route add prohibit 198.51.100.32/28");
            let netlink = connect();
            let other = "the route to 203.0.113.2 leaves by eth1, not by the underlay underlay";
            assert_eq!(why_not(&netlink, "203.0.113.2:1").await, other);
            for endpoint in [
                "198.51.100.1:1",
                "198.51.100.17:1",
                "198.51.100.33:1",
                "100.64.0.1:1",
            ] {
                let why = why_not(&netlink, endpoint).await;
                assert!(
                    why.starts_with("there is no route to "),
                    "{endpoint}: {why}"
                );
            }
            let why = why_not(&netlink, "[2001:db8:ffff::1]:1").await;
            assert!(
                why.starts_with("there is no route to 2001:db8:ffff::1"),
                "{why}"
            );
            for endpoint in [
                "192.0.2.1:1",
                "127.0.0.1:1",
                "[2001:db8::1]:1",
                "[::1]:1",
                "203.0.113.1:1",
            ] {
                let why = why_not(&netlink, endpoint).await;
                assert!(
                    why.contains("is an address of this host"),
                    "{endpoint}: {why}"
                );
            }
            assert!(
                why_not(&netlink, "192.0.2.255:1")
                    .await
                    .contains("broadcast")
            );
            for endpoint in ["224.0.0.5:1", "[ff02::1]:1"] {
                assert!(
                    why_not(&netlink, endpoint).await.contains("multicast"),
                    "{endpoint}"
                );
            }
            assert!(why_not(&netlink, "0.0.0.0:1").await.contains("any address"));
            let endpoint = "192.0.2.2:1".parse().expect("an endpoint");
            let gone = netlink
                .resolve(endpoint, None, 4711, OUR_PORT)
                .await
                .expect("an answer");
            assert!(matches!(gone, Resolution::Unresolvable { why } if why.contains("4711")));
        },
    );
}

#[test]
fn a_peer_that_changes_its_mac_is_followed() {
    in_namespace(
        "resolution::a_peer_that_changes_its_mac_is_followed",
        || async {
            let peer = peer();
            // Accept a changed address at once, not only a second after the last change.
            sysctl("ipv4/neigh/underlay/locktime", "0");
            let netlink = connect();
            assert_eq!(
                ready(&netlink, "192.0.2.2:4000").await.0.next_hop_mac,
                mac(PEER_MAC)
            );
            drain(&netlink).await;
            let new = mac("02:00:00:00:00:77");
            peer.ip(&format!("link set wire address {new}"));
            peer.ip("neigh flush dev wire");
            peer.bash("echo hello > /dev/udp/192.0.2.1/9");
            let told = event(&netlink, |event| match event {
                KernelEvent::NeighborChanged {
                    address: of,
                    mac: Some(mac),
                    usable: true,
                    ..
                } => (*of == address("192.0.2.2") && *mac == new).then_some(*mac),
                _ => None,
            });
            assert_eq!(told.await, new);
            assert_eq!(ready(&netlink, "192.0.2.2:4000").await.0.next_hop_mac, new);
        },
    );
}

#[test]
fn a_neighbour_that_does_not_answer_is_told_unusable_and_asked_for_again() {
    let name = "resolution::a_neighbour_that_does_not_answer_is_told_unusable_and_asked_for_again";
    in_namespace(name, || async {
        let peer = peer();
        sysctl("ipv4/neigh/underlay/mcast_solicit", "1");
        sysctl("ipv4/neigh/underlay/retrans_time_ms", "50");
        let netlink = connect();
        assert!(matches!(
            resolve(&netlink, "192.0.2.9:1").await,
            Resolution::Pending { .. }
        ));
        event(&netlink, |event| match event {
            KernelEvent::NeighborChanged {
                address: of,
                usable: false,
                mac: None,
                ..
            } => (*of == address("192.0.2.9")).then_some(()),
            _ => None,
        })
        .await;
        peer.ip("addr add 192.0.2.9/32 dev wire");
        assert_eq!(
            ready(&netlink, "192.0.2.9:1").await.0.next_hop_mac,
            mac(PEER_MAC)
        );
    });
}

async fn becomes(neighbor: &str, state: &str) {
    for _ in 0..100 {
        if ip_says(&format!("neigh show {neighbor}")).contains(state) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!(
        "{neighbor} did not become {state}: {}",
        ip_says("neigh show")
    );
}

#[test]
fn stale_neighbours_are_used_and_confirmed() {
    in_namespace(
        "resolution::stale_neighbours_are_used_and_confirmed",
        || async {
            let _peer = peer();
            sysctl("ipv4/neigh/underlay/delay_first_probe_time", "0");
            let netlink = connect();
            let stale = format!("neigh replace 192.0.2.2 lladdr {PEER_MAC} nud stale dev underlay");
            ip(&stale);
            let resolution = resolve(&netlink, "192.0.2.2:4000").await;
            assert!(
                matches!(resolution, Resolution::Ready { .. }),
                "{resolution:?}"
            );
            becomes("192.0.2.2", "REACHABLE").await;
            ip(&stale);
            let underlay = link(&netlink, "underlay").await.index;
            netlink
                .refresh(address("192.0.2.2"), underlay)
                .await
                .expect("refreshed");
            becomes("192.0.2.2", "REACHABLE").await;
        },
    );
}

#[test]
fn neighbours_set_by_hand_are_used_and_stay_as_they_are() {
    in_namespace(
        "resolution::neighbours_set_by_hand_are_used_and_stay_as_they_are",
        || async {
            let _peer = peer();
            let netlink = connect();
            let underlay = link(&netlink, "underlay").await.index;
            for hop in ["192.0.2.50", "2001:db8::50"] {
                ip(&format!(
                    "neigh add {hop} lladdr 02:00:00:00:00:50 nud permanent dev underlay"
                ));
                let endpoint = SocketAddr::new(address(hop), 4000).to_string();
                let (path, ..) = ready(&netlink, &endpoint).await;
                assert_eq!(path.next_hop_mac, MacAddr([2, 0, 0, 0, 0, 0x50]));
                netlink
                    .refresh(address(hop), underlay)
                    .await
                    .expect("left alone");
                assert!(ip_says(&format!("neigh show {hop}")).contains("PERMANENT"));
            }
        },
    );
}
