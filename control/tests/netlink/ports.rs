//! Access ports.

use omni_control::netlink::{ALIAS, AccessPort, AccessPortSpec, Netlink, NetlinkError};

use super::world::{in_namespace, ip, ip_says, without_privileges};
use super::{address, connect, link, mac};

fn spec() -> AccessPortSpec {
    AccessPortSpec {
        name: "omni0".to_owned(),
        queues: 2,
        mtu: 1426,
        mac: mac("02:00:00:00:00:01"),
        addresses: vec![(address("10.1.2.3"), 24), (address("fd00::3"), 64)],
    }
}

async fn make(netlink: &Netlink, spec: &AccessPortSpec) -> AccessPort {
    let port = netlink
        .make_access_port(spec)
        .await
        .expect("an access port");
    assert!(port.taken_over || !port.user.up, "a new port is off");
    raised(netlink, port).await
}

/// The port with both sides on, as its owner makes it once it receives.
async fn raised(netlink: &Netlink, mut port: AccessPort) -> AccessPort {
    for side in [&mut port.engine, &mut port.user] {
        netlink.set_up(side.index).await.expect("on");
    }
    for side in [&mut port.engine, &mut port.user] {
        let link = netlink.link_by_index(side.index).await.expect("an answer");
        *side = link.expect("it is there");
    }
    port
}

async fn assert_as_specified(netlink: &Netlink, port: &AccessPort, spec: &AccessPortSpec) {
    assert_eq!((&port.user.name, port.user.mac), (&spec.name, spec.mac));
    assert_eq!(port.user.peer_index, Some(port.engine.index));
    for side in [&port.user, &port.engine] {
        assert_eq!(
            (side.rx_queues, side.tx_queues),
            (spec.queues, spec.queues),
            "{}",
            side.name
        );
        assert_eq!((side.mtu, side.alias.as_deref()), (spec.mtu, Some(ALIAS)));
        assert!(side.is_running() && side.is_access_port(), "{side:?}");
    }
    let found = netlink.addresses(port.user.index).await.expect("a list");
    for (address, _) in &spec.addresses {
        assert!(
            found.contains(address),
            "{address} not usable at once: {found:?}"
        );
    }
    let silent = netlink.addresses(port.engine.index).await.expect("a list");
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn an_access_port_is_made_as_specified() {
    in_namespace("ports::an_access_port_is_made_as_specified", || async {
        let netlink = connect();
        let port = make(&netlink, &spec()).await;
        assert!(!port.taken_over);
        assert_eq!(port.engine.name, "omni0-xdp");
        assert_as_specified(&netlink, &port, &spec()).await;
        // Two sides and the loopback: no unfinished one is left.
        assert_eq!(netlink.links().await.expect("a list").len(), 3);
    });
}

#[test]
fn a_port_with_a_long_name_is_made_too() {
    in_namespace("ports::a_port_with_a_long_name_is_made_too", || async {
        let netlink = connect();
        for name in ["tenant-000001-a", "tenant-000001-b"] {
            let spec = AccessPortSpec {
                name: name.to_owned(),
                addresses: Vec::new(),
                ..spec()
            };
            let port = make(&netlink, &spec).await;
            assert_as_specified(&netlink, &port, &spec).await;
            assert!(make(&netlink, &spec).await.taken_over);
        }
    });
}

#[test]
fn the_engine_side_sends_nothing_by_itself() {
    in_namespace("ports::the_engine_side_sends_nothing_by_itself", || async {
        let netlink = connect();
        let port = make(&netlink, &spec()).await;
        // The user side speaks IPv6 (multicast reports) within this time.
        let mut waited = 0;
        while link(&netlink, "omni0").await.stats.tx_packets == 0 && waited < 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            waited += 1;
        }
        assert!(link(&netlink, "omni0").await.stats.tx_packets > 0);
        assert_eq!(link(&netlink, &port.engine.name).await.stats.tx_packets, 0);
    });
}

#[test]
fn a_port_left_behind_is_taken_over_and_brought_up_to_date() {
    in_namespace(
        "ports::a_port_left_behind_is_taken_over_and_brought_up_to_date",
        || async {
            let netlink = connect();
            let before = make(&netlink, &spec()).await;
            ip("addr add 10.9.9.9/24 dev omni0");
            ip("route add 198.51.100.0/24 via 10.1.2.1");
            ip("link set omni0-xdp down");
            let mut changed = spec();
            changed.mtu = 1406;
            changed.mac = mac("02:00:00:00:00:02");
            changed.addresses = vec![(address("10.1.2.3"), 24), (address("fd00::4"), 64)];
            let after = make(&netlink, &changed).await;
            assert!(after.taken_over);
            assert_eq!(
                (after.user.index, after.engine.index),
                (before.user.index, before.engine.index)
            );
            assert_as_specified(&netlink, &after, &changed).await;
            let found = netlink.addresses(after.user.index).await.expect("a list");
            assert!(
                !found.contains(&address("fd00::3")),
                "no longer configured: {found:?}"
            );
            assert!(
                found.contains(&address("10.9.9.9")),
                "somebody else's: {found:?}"
            );
            assert!(ip_says("route show 198.51.100.0/24").contains("omni0"));
        },
    );
}

#[test]
fn a_port_with_another_number_of_queues_is_made_anew() {
    in_namespace(
        "ports::a_port_with_another_number_of_queues_is_made_anew",
        || async {
            let netlink = connect();
            let before = make(&netlink, &spec()).await;
            let spec = AccessPortSpec {
                queues: 3,
                ..spec()
            };
            let after = make(&netlink, &spec).await;
            assert!(!after.taken_over);
            assert_ne!(after.user.index, before.user.index);
            assert_as_specified(&netlink, &after, &spec).await;
            assert_eq!(netlink.links().await.expect("a list").len(), 3);
        },
    );
}

#[test]
fn interfaces_of_others_are_not_touched() {
    in_namespace("ports::interfaces_of_others_are_not_touched", || async {
        let netlink = connect();
        for (make_it, name) in [
            ("link add omni0 type veth peer name other", "omni0"),
            ("link add omni0-xdp type bridge", "omni0-xdp"),
        ] {
            ip(make_it);
            let before = link(&netlink, name).await.index;
            let error = netlink
                .make_access_port(&spec())
                .await
                .expect_err("not ours");
            let is_named = matches!(&error, NetlinkError::NotOurs { name: it } if it == name);
            assert!(is_named, "{error}");
            assert_eq!(link(&netlink, name).await.index, before);
            ip(&format!("link delete {name}"));
        }
    });
}

#[test]
fn what_an_engine_killed_in_the_making_left_is_cleared() {
    in_namespace(
        "ports::what_an_engine_killed_in_the_making_left_is_cleared",
        || async {
            let netlink = connect();
            let port = make(&netlink, &spec()).await;
            // As before the last step: everything but the name.
            ip("link set omni0 down");
            ip("link set omni0 name half-made");
            let again = make(&netlink, &spec()).await;
            assert!(!again.taken_over);
            assert_ne!(again.user.index, port.user.index);
            assert_eq!(netlink.links().await.expect("a list").len(), 3);
        },
    );
}

#[test]
fn a_port_that_cannot_be_completed_is_not_left_behind() {
    in_namespace(
        "ports::a_port_that_cannot_be_completed_is_not_left_behind",
        || async {
            let netlink = connect();
            let bad_prefix = AccessPortSpec {
                addresses: vec![(address("10.0.0.1"), 33)],
                ..spec()
            };
            let bad_mac = AccessPortSpec {
                mac: mac("01:00:00:00:00:01"),
                ..spec()
            };
            for spec in [bad_prefix, bad_mac] {
                let error = netlink.make_access_port(&spec).await.expect_err("refused");
                assert!(error.to_string().contains("omni0"), "{error}");
                assert_eq!(
                    netlink.links().await.expect("a list").len(),
                    1,
                    "only the loopback"
                );
            }
        },
    );
}

#[test]
fn deleting_one_side_deletes_both_and_deleting_again_is_no_error() {
    in_namespace(
        "ports::deleting_one_side_deletes_both_and_deleting_again_is_no_error",
        || async {
            let netlink = connect();
            let port = make(&netlink, &spec()).await;
            netlink.delete_link(port.user.index).await.expect("deleted");
            assert_eq!(netlink.link("omni0-xdp").await.expect("an answer"), None);
            netlink
                .delete_link(port.user.index)
                .await
                .expect("gone already");
        },
    );
}

#[test]
fn without_the_capability_the_refusal_names_it() {
    without_privileges(
        "ports::without_the_capability_the_refusal_names_it",
        || async {
            let error = connect()
                .make_access_port(&spec())
                .await
                .expect_err("not permitted");
            let text = error.to_string();
            assert!(
                text.starts_with("cannot make the access port omni0: "),
                "{text}"
            );
            assert!(text.contains("CAP_NET_ADMIN"), "{text}");
        },
    );
}
