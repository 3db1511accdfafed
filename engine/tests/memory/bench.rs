//! One node's data path with several access ports and a peer that is never reached: what comes in
//! at a port, and what comes out of which.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use omni_control::PublicKey;
use omni_control::message::{Command, FdbKey, Owner, PeerId, PeerTraffic, PortId, Upcall};
use omni_engine::datapath::policy::SwitchPolicy;
use omni_engine::datapath::{Datapath, DatapathConfig, Output, TableCommand};
use omni_engine::io::mem::{MemFrame, MemIo};
use omni_engine::io::{FrameIo, Port};
use omni_wire::arp::{Arp, Operation};
use omni_wire::{DropReason, Instant, MacAddr};

/// The longest inner frame.
pub(crate) const MAX_FRAME: usize = 1440;
/// A peer that there is no session with: what goes to it is staged.
pub(crate) const PEER: PeerId = PeerId(0);
/// The engine's own address.
pub(crate) const ENGINE: MacAddr = MacAddr([2, 0xee, 0, 0, 0, 1]);

pub(crate) struct Bench {
    pub(crate) datapath: Datapath<MemFrame>,
    io: MemIo,
    out: Output<MemFrame>,
    pub(crate) now: Instant,
    ports: usize,
}

/// What came out: by port, in order.
pub(crate) type Sent = Vec<(usize, Vec<u8>)>;

impl Bench {
    pub(crate) fn new(policy: SwitchPolicy) -> Self {
        let ports = policy.ports.len();
        let config = DatapathConfig {
            worker: 0,
            max_frame: MAX_FRAME,
            complete_checksums: false,
            staged_max: 4096,
            spread_ports: false,
            policy: Arc::new(SwitchPolicy {
                engine_mac: ENGINE,
                ..policy
            }),
        };
        let mut bench = Self {
            datapath: Datapath::new(config),
            io: MemIo::with_ports(ports, 8192, 98),
            out: Output::new(ports),
            now: Instant(1_000_000_000_000),
            ports,
        };
        bench.order(Command::AddPeer {
            peer: PEER,
            public_key: PublicKey([7; 32]),
            traffic: PeerTraffic::new(1),
        });
        bench
    }

    pub(crate) fn order(&mut self, command: Command) {
        let command = TableCommand::Control(command);
        self.datapath
            .apply(self.now, command, &mut self.io, &mut self.out);
    }

    /// What goes to the peer is kept from now on: it counts as reachable.
    pub(crate) fn reach_peer(&mut self) {
        self.order(Command::SetReachable {
            peer: PEER,
            reachable: true,
        });
    }

    /// A host's frame comes in at `port`. What comes out of all ports.
    pub(crate) fn send(&mut self, port: usize, frame: &[u8]) -> Sent {
        let id = Port::Access(PortId(port as u8));
        assert!(self.io.push(id, frame, self.now), "no free frame");
        let mut burst = Vec::new();
        self.io.receive(id, &mut burst, 64);
        let port = PortId(port as u8);
        self.datapath
            .egress(self.now, port, &mut burst, &mut self.io, &mut self.out);
        self.take()
    }

    /// What came out of all ports.
    pub(crate) fn take(&mut self) -> Sent {
        let mut sent = Vec::new();
        for index in 0..self.ports {
            let id = Port::Access(PortId(index as u8));
            self.io.transmit(id, &mut self.out.access[index]);
            while let Some(frame) = self.io.pop(id) {
                sent.push((index, frame));
            }
        }
        self.io.transmit(Port::Underlay, &mut self.out.underlay);
        self.io.free(&mut self.out.free);
        self.io.flush();
        let census = self.io.census();
        assert!(census.is_complete(), "{census:?}");
        assert_eq!(census.held, self.datapath.staged() as u64, "{census:?}");
        sent
    }

    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        self.datapath.drops().get(reason)
    }

    /// Sends a frame that must be dropped, and for this reason.
    pub(crate) fn refuse(&mut self, port: usize, frame: &[u8], reason: DropReason) {
        let (before, all) = (self.drops(reason), self.datapath.drops().total());
        assert_eq!(self.send(port, frame), [], "{reason:?}");
        assert_eq!(self.drops(reason), before + 1, "{reason:?}");
        assert_eq!(self.datapath.drops().total(), all + 1, "{reason:?}");
    }

    pub(crate) fn upcalls(&mut self) -> Vec<Upcall> {
        let mut upcalls = Vec::new();
        self.datapath.drain_upcalls(|upcall| {
            upcalls.push(upcall);
            Ok(())
        });
        upcalls
    }

    pub(crate) fn insert(&mut self, vlan: u16, mac: MacAddr, owner: Owner) {
        let key = FdbKey { vlan, mac };
        self.order(Command::FdbInsert { key, owner });
    }

    pub(crate) fn bind(&mut self, vlan: u16, ip: &str, mac: MacAddr, owner: Owner) {
        self.order(Command::Bind {
            vlan,
            ip: ip.parse().expect("an address"),
            mac,
            owner,
        });
    }
}

/// The MAC address of a host.
pub(crate) fn host(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

pub(crate) fn local(port: u8) -> Owner {
    Owner::Local(PortId(port))
}

/// An untagged frame.
pub(crate) fn ethernet(to: MacAddr, from: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0, &ethertype.to_be_bytes()].concat();
    frame.extend_from_slice(payload);
    frame
}

/// The same with one tag.
pub(crate) fn tag(vlan: u16, untagged: &[u8]) -> Vec<u8> {
    let mut frame = untagged.to_vec();
    frame.splice(12..12, [&[0x81, 0][..], &vlan.to_be_bytes()].concat());
    frame
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("an IPv4 address")
}

/// Who has `target`? By whoever has `ip`, to everyone.
pub(crate) fn who_has(from: MacAddr, ip: &str, target: &str) -> Vec<u8> {
    who_has_to(MacAddr::BROADCAST, from, ip, target)
}

/// The same, to one host.
pub(crate) fn who_has_to(to: MacAddr, from: MacAddr, ip: &str, target: &str) -> Vec<u8> {
    arp(
        to,
        from,
        Operation::Request,
        (from, ip),
        (MacAddr::ZERO, target),
    )
}

/// An ARP message.
pub(crate) fn arp(
    to: MacAddr,
    from: MacAddr,
    operation: Operation,
    sender: (MacAddr, &str),
    target: (MacAddr, &str),
) -> Vec<u8> {
    let packet = Arp {
        operation,
        sender_mac: sender.0,
        sender_ip: v4(sender.1),
        target_mac: target.0,
        target_ip: v4(target.1),
    };
    ethernet(to, from, 0x0806, &packet.emit())
}

/// An IPv6 packet with an ICMPv6 message, whose checksum is completed here.
pub(crate) fn icmpv6(
    to: MacAddr,
    from: MacAddr,
    source: &str,
    destination: &str,
    message: &[u8],
) -> Vec<u8> {
    let (source, destination): (Ipv6Addr, Ipv6Addr) = (
        source.parse().expect("an address"),
        destination.parse().expect("an address"),
    );
    let mut message = message.to_vec();
    let mut sum = omni_wire::ip::pseudo_header(
        IpAddr::V6(source),
        IpAddr::V6(destination),
        58,
        message.len(),
    );
    sum = omni_wire::checksum::add(sum, &message);
    let sum = !omni_wire::checksum::fold(sum);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((message.len() as u16).to_be_bytes());
    packet.extend([58, 255]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(message);
    ethernet(to, from, 0x86dd, &packet)
}

/// The group address that solicitations for an IPv6 address go to, and its MAC address.
fn solicited_node(target: Ipv6Addr) -> (Ipv6Addr, MacAddr) {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    );
    (group, MacAddr([0x33, 0x33, 0xff, a, b, c]))
}

/// A neighbour solicitation to the group of its target; for duplicate address detection where
/// `source` is `::`.
pub(crate) fn solicitation(from: MacAddr, source: &str, target: &str) -> Vec<u8> {
    let target: Ipv6Addr = target.parse().expect("an address");
    let (group, to) = solicited_node(target);
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    if source != "::" {
        message.extend([1, 1]);
        message.extend(from.0);
    }
    icmpv6(to, from, source, &group.to_string(), &message)
}

/// An unsolicited neighbour advertisement to all nodes.
pub(crate) fn advertisement(from: MacAddr, target: &str, link_layer: MacAddr) -> Vec<u8> {
    let address: Ipv6Addr = target.parse().expect("an address");
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(link_layer.0);
    let all_nodes = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    icmpv6(all_nodes, from, target, "ff02::1", &message)
}
