//! What a peer's certificate allows, as workers hold it against its frames.

use std::net::Ipv4Addr;
use std::sync::Arc;

use omni_control::message::PeerId;
use omni_engine::datapath::TableCommand;
use omni_engine::datapath::policy::PeerPolicy;
use omni_membership::{Grants, IpPrefix, VlanRanges};
use omni_wire::arp::{Arp, Operation};
use omni_wire::{DropReason, MacAddr};

use crate::world::{Shape, World, frame, mac, tagged};

/// A world in which node 1 knows what node 0 may have.
fn granted(grants: Grants) -> World {
    let mut world = World::established(Shape::default());
    let policy = PeerPolicy {
        grants: Some(Arc::new(grants)),
        ..PeerPolicy::default()
    };
    let command = TableCommand::SetPeerPolicy(PeerId(0), Arc::new(policy));
    world.tell_workers(1, &command);
    world
}

/// What comes out at node 1 of a frame of node 0.
fn carried(world: &mut World, octets: &[u8]) -> usize {
    world.take(1);
    world.push(0, octets);
    world.settle();
    world.take(1).iter().filter(|out| *out == octets).count()
}

fn announced(from: MacAddr, ip: [u8; 4]) -> Vec<u8> {
    let arp = Arp {
        operation: Operation::Request,
        sender_mac: from,
        sender_ip: Ipv4Addr::from(ip),
        target_mac: MacAddr::ZERO,
        target_ip: Ipv4Addr::from(ip),
    };
    let mut octets = frame(MacAddr::BROADCAST, from, &[0; 28]);
    octets[12..14].copy_from_slice(&0x0806_u16.to_be_bytes());
    octets[14..42].copy_from_slice(&arp.emit());
    octets
}

#[test]
fn frames_from_mac_addresses_that_are_not_granted_are_dropped() {
    let mut world = granted(Grants {
        macs: Some([mac(0, 1)].into()),
        ..Grants::default()
    });
    let to = MacAddr::BROADCAST;
    assert_eq!(carried(&mut world, &frame(to, mac(0, 1), b"granted")), 1);
    assert_eq!(carried(&mut world, &frame(to, mac(0, 2), b"not")), 0);
    assert_eq!(world.drops(1, DropReason::SourceMacNotAllowed), 1);
    assert_eq!(
        world.hosts[1].owner(0, mac(0, 2)),
        None,
        "nothing is learned"
    );
}

#[test]
fn a_granted_mac_address_is_so_in_granted_vlans() {
    let mut world = granted(Grants {
        vlans: VlanRanges::new([0..=0, 7..=8]),
        macs: Some([mac(0, 1)].into()),
        addresses: None,
    });
    let in_vlan = |vlan| tagged(MacAddr::BROADCAST, mac(0, 1), &[(0x8100, vlan)], b"tagged");
    assert_eq!(carried(&mut world, &in_vlan(7)), 1);
    assert_eq!(carried(&mut world, &in_vlan(9)), 0);
}

#[test]
fn arp_that_claims_an_ip_address_that_is_not_granted_is_dropped() {
    let mut world = granted(Grants {
        addresses: Some([IpPrefix::new([10, 7, 0, 0].into(), 24).expect("a network")].into()),
        ..Grants::default()
    });
    assert_eq!(carried(&mut world, &announced(mac(0, 1), [10, 7, 0, 1])), 1);
    assert_eq!(carried(&mut world, &announced(mac(0, 1), [10, 8, 0, 1])), 0);
    assert_eq!(world.drops(1, DropReason::AddressNotGranted), 1);
    assert_eq!(
        carried(&mut world, &frame(MacAddr::BROADCAST, mac(0, 1), b"ip")),
        1
    );
}
