//! The kernel's side of an engine, against a real kernel. Needs root, iproute2 and util-linux.

#[path = "netlink/ports.rs"]
mod ports;
#[path = "netlink/resolution.rs"]
mod resolution;
#[path = "../../xdp-redirect/tests/kernel/support/root.rs"]
mod root;
#[path = "netlink/sources.rs"]
mod sources;
#[path = "netlink/world.rs"]
mod world;

use std::net::{IpAddr, Ipv4Addr};

use omni_control::netlink::{KernelEvent, Link, Netlink, NetlinkError};
use omni_wire::MacAddr;
use world::{Peer, drain, event, in_namespace, ip, try_ip};

fn connect() -> Netlink {
    Netlink::connect().expect("a netlink socket")
}

async fn link(netlink: &Netlink, name: &str) -> Link {
    netlink
        .link(name)
        .await
        .expect("an answer")
        .unwrap_or_else(|| panic!("no interface {name}"))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn mac(text: &str) -> MacAddr {
    text.parse().expect("a MAC address")
}

#[test]
fn a_veth_is_described_with_queues_alias_and_controller() {
    in_namespace(
        "a_veth_is_described_with_queues_alias_and_controller",
        || async {
            ip(
                "link add side0 address 02:00:00:00:00:01 mtu 1400 numtxqueues 3 numrxqueues 2 \
            type veth peer name side1 numtxqueues 4 numrxqueues 5",
            );
            ip("link add bridge0 type bridge");
            ip("link set side0 master bridge0 alias mine up");
            let netlink = connect();
            let (side0, side1) = (link(&netlink, "side0").await, link(&netlink, "side1").await);
            let bridge = link(&netlink, "bridge0").await;
            assert_eq!((side0.tx_queues, side0.rx_queues), (3, 2));
            assert_eq!((side1.tx_queues, side1.rx_queues), (4, 5));
            assert_eq!((side0.mac, side0.mtu), (mac("02:00:00:00:00:01"), 1400));
            assert_eq!((side0.up, side0.carrier), (true, false));
            assert_eq!(side0.alias.as_deref(), Some("mine"));
            assert_eq!(side0.kind.as_deref(), Some("veth"));
            assert_eq!(side0.controller, Some(bridge.index));
            assert_eq!(side0.peer_index, Some(side1.index));
            assert_eq!(
                (side1.controller, side1.alias, side1.vlan),
                (None, None, None)
            );
            assert_eq!(bridge.kind.as_deref(), Some("bridge"));
            let same = netlink.link_by_index(side0.index).await.expect("an answer");
            assert_eq!(same.map(|link| link.name), Some("side0".to_owned()));
        },
    );
}

#[test]
fn interfaces_that_are_not_there_are_none_and_bad_names_refused() {
    in_namespace(
        "interfaces_that_are_not_there_are_none_and_bad_names_refused",
        || async {
            let netlink = connect();
            assert_eq!(netlink.link("nowhere0").await.expect("an answer"), None);
            assert_eq!(netlink.link_by_index(4711).await.expect("an answer"), None);
            assert_eq!(netlink.link_by_index(0).await.expect("an answer"), None);
            let refused = netlink.link("a/b").await;
            assert!(
                matches!(refused, Err(NetlinkError::InvalidName { .. })),
                "{refused:?}"
            );
        },
    );
}

#[test]
fn a_veth_into_another_namespace_has_no_peer_here_and_counts() {
    in_namespace(
        "a_veth_into_another_namespace_has_no_peer_here_and_counts",
        || async {
            let peer = Peer::on_the_underlay();
            peer.bash("echo hello > /dev/udp/192.0.2.1/9");
            let netlink = connect();
            let underlay = link(&netlink, "underlay").await;
            assert_eq!(underlay.peer_index, None);
            assert!(underlay.is_running());
            assert!(underlay.stats.rx_packets > 0 && underlay.stats.rx_bytes >= 42);
            assert_eq!((underlay.stats.rx_errors, underlay.stats.tx_errors), (0, 0));
        },
    );
}

#[test]
fn refusals_say_what_the_kernel_says() {
    in_namespace("refusals_say_what_the_kernel_says", || async {
        ip("link add side0 type veth peer name side1");
        let netlink = connect();
        let index = link(&netlink, "side0").await.index;
        let error = netlink
            .set_mtu(index, 1)
            .await
            .expect_err("below what Ethernet has");
        assert!(
            error.to_string().contains("mtu less than device minimum"),
            "{error}"
        );
        netlink.set_mtu(index, 1300).await.expect("an MTU in range");
        assert_eq!(link(&netlink, "side0").await.mtu, 1300);
        let error = netlink.set_up(4711).await.expect_err("no such interface");
        assert!(
            error.to_string().contains("no such interface (any more)"),
            "{error}"
        );
    });
}

#[test]
fn local_addresses_are_those_of_the_interface_and_leave_out_tentative_ones() {
    let name = "local_addresses_are_those_of_the_interface_and_leave_out_tentative_ones";
    in_namespace(name, || async {
        let _peer = Peer::on_the_underlay();
        ip("link set underlay addrgenmode none");
        ip("addr flush dev underlay scope link");
        ip("addr add 198.51.100.1/32 dev underlay");
        ip("link add other0 type veth peer name other1");
        ip("addr add 203.0.113.1/24 dev other0");
        let netlink = connect();
        let underlay = link(&netlink, "underlay").await;
        let mut found = netlink
            .local_addresses(underlay.index)
            .await
            .expect("a list");
        found.sort();
        let wanted = ["192.0.2.1", "198.51.100.1", "2001:db8::1"].map(address);
        assert_eq!(found, wanted);
        // Without a carrier, duplicate address detection does not end.
        ip("link set other0 up");
        ip("addr add 2001:db8:1::1/64 dev other0");
        let other = link(&netlink, "other0").await;
        let found = netlink.addresses(other.index).await.expect("a list");
        assert_eq!(found, [address("203.0.113.1")]);
    });
}

#[test]
fn vlan_sub_interfaces_are_known_and_their_addresses_local() {
    in_namespace(
        "vlan_sub_interfaces_are_known_and_their_addresses_local",
        || async {
            let _peer = Peer::on_the_underlay();
            if !try_ip("link add link underlay name underlay.7 type vlan id 7") {
                eprintln!("NOT TESTED here: this kernel has no VLAN sub-interfaces (8021q)");
                return;
            }
            ip("addr add 198.51.100.1/24 dev underlay.7");
            let netlink = connect();
            let underlay = link(&netlink, "underlay").await;
            let child = link(&netlink, "underlay.7").await;
            assert_eq!(child.vlan, Some((underlay.index, 7)));
            assert_eq!(
                (child.kind.as_deref(), child.service_tag),
                (Some("vlan"), false)
            );
            let all = netlink
                .local_addresses(underlay.index)
                .await
                .expect("a list");
            assert!(all.contains(&address("198.51.100.1")) && all.contains(&address("192.0.2.1")));
        },
    );
}

#[test]
fn changes_of_an_interface_are_told() {
    in_namespace("changes_of_an_interface_are_told", || async {
        let peer = Peer::on_the_underlay();
        let netlink = connect();
        let index = link(&netlink, "underlay").await.index;
        let state = |event: &KernelEvent| match event {
            KernelEvent::LinkChanged {
                ifindex,
                name,
                up,
                mtu,
                mac,
            } if *ifindex == index => Some((name.clone(), *up, *mtu, *mac)),
            _ => None,
        };
        drain(&netlink).await;
        peer.ip("link set wire down");
        event(&netlink, |event| state(event).filter(|(_, up, ..)| !up)).await;
        peer.ip("link set wire up");
        event(&netlink, |event| state(event).filter(|(_, up, ..)| *up)).await;
        ip("link set underlay mtu 1400");
        event(&netlink, |event| {
            state(event).filter(|(_, _, mtu, _)| *mtu == 1400)
        })
        .await;
        ip("link set underlay address 02:00:00:00:00:09");
        let changed = mac("02:00:00:00:00:09");
        event(&netlink, |event| {
            state(event).filter(|(.., mac)| *mac == changed)
        })
        .await;
        ip("link set underlay down");
        event(&netlink, |event| state(event).filter(|(_, up, ..)| !up)).await;
        ip("link set underlay name renamed");
        event(&netlink, |event| {
            state(event).filter(|(name, ..)| name == "renamed")
        })
        .await;
        ip("link delete renamed");
        let gone = KernelEvent::LinkGone {
            ifindex: index,
            name: "renamed".to_owned(),
        };
        event(&netlink, |event| (*event == gone).then_some(())).await;
    });
}

#[test]
fn leaving_a_bridge_is_not_taken_for_being_deleted() {
    in_namespace(
        "leaving_a_bridge_is_not_taken_for_being_deleted",
        || async {
            ip("link add bridge0 type bridge");
            ip("link add side0 type veth peer name side1");
            ip("link set side0 master bridge0 up");
            let netlink = connect();
            ip("link set side0 nomaster");
            ip("link set side0 mtu 1200");
            let gone = event(&netlink, |event| match event {
                KernelEvent::LinkGone { .. } => Some(true),
                KernelEvent::LinkChanged { mtu: 1200, .. } => Some(false),
                _ => None,
            });
            assert!(!gone.await);
        },
    );
}

#[test]
fn addresses_that_come_and_go_are_told() {
    in_namespace("addresses_that_come_and_go_are_told", || async {
        let _peer = Peer::on_the_underlay();
        let netlink = connect();
        let ifindex = link(&netlink, "underlay").await.index;
        for (add, text) in [("", "198.51.100.7/24"), ("nodad", "2001:db8:7::7/64")] {
            let address = address(text.split('/').next().expect("an address"));
            ip(&format!("addr add {text} dev underlay {add}"));
            let added = KernelEvent::AddressAdded { ifindex, address };
            event(&netlink, |event| (*event == added).then_some(())).await;
            ip(&format!("addr delete {text} dev underlay"));
            let removed = KernelEvent::AddressRemoved { ifindex, address };
            event(&netlink, |event| (*event == removed).then_some(())).await;
        }
    });
}

#[test]
fn changes_of_routes_and_rules_are_told() {
    in_namespace("changes_of_routes_and_rules_are_told", || async {
        let _peer = Peer::on_the_underlay();
        ip("route add 198.51.100.0/24 via 192.0.2.2");
        let netlink = connect();
        let changes = [
            "route replace 198.51.100.0/24 via 192.0.2.3",
            "route delete 198.51.100.0/24",
            "route add 2001:db8:5::/48 via 2001:db8::2",
            "rule add to 198.51.100.0/24 lookup 100",
        ];
        for change in changes {
            drain(&netlink).await;
            ip(change);
            event(&netlink, |event| {
                (*event == KernelEvent::RoutesChanged).then_some(())
            })
            .await;
        }
    });
}

#[test]
fn lost_notifications_end_in_one_resync() {
    in_namespace("lost_notifications_end_in_one_resync", || async {
        let _peer = Peer::on_the_underlay();
        let netlink = connect();
        let batch: String = (0..20_000)
            .map(|n| {
                let mac = n % 200;
                format!("neigh replace 192.0.2.77 lladdr 02:00:00:00:01:{mac:02x} dev underlay\n")
            })
            .collect();
        let file = tempfile(&batch);
        ip(&format!("-batch {}", file.0.display()));
        assert_eq!(netlink.next_event().await, KernelEvent::Resync);
        drain(&netlink).await;
        // Nothing older than the loss comes after it, and what is newer does.
        ip("neigh delete 192.0.2.77 dev underlay");
        let gone = event(&netlink, |event| match event {
            KernelEvent::NeighborChanged { usable, .. } => Some(!usable),
            KernelEvent::Resync => panic!("nothing was lost any more"),
            _ => None,
        });
        assert!(gone.await);
    });
}

#[test]
fn neighbours_are_told_of_while_they_are_wanted() {
    in_namespace("neighbours_are_told_of_while_they_are_wanted", || async {
        let _peer = Peer::on_the_underlay();
        let mut netlink = connect();
        let neighbor_or_route = |event: &KernelEvent| match event {
            KernelEvent::NeighborChanged { address, .. } => Some(*address),
            KernelEvent::RoutesChanged => Some(Ipv4Addr::UNSPECIFIED.into()),
            _ => None,
        };
        for (tell, number) in [(true, 77), (false, 78), (true, 79)] {
            drain(&netlink).await;
            netlink.tell_neighbors(tell);
            ip(&format!(
                "neigh replace 192.0.2.{number} lladdr 02:00:00:00:01:01 dev underlay"
            ));
            // What comes after it is heard in any case.
            ip(&format!("route add 203.0.113.{number}/32 dev underlay"));
            let told = event(&netlink, neighbor_or_route).await;
            let is_told = told == IpAddr::V4(Ipv4Addr::new(192, 0, 2, number));
            assert_eq!(is_told, tell, "{number}: {told}");
        }
    });
}

struct Removed(std::path::PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn tempfile(text: &str) -> Removed {
    let name = format!("omni-netlink-test-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).expect("a temporary file");
    Removed(path)
}
