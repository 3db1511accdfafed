//! What changes on the way between two nodes: addresses, routers, and who is seen where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use omni_wire::header::MessageType;
use omni_wire::outer::Outer;

use super::lab::{Lab, PORT, Side};
use super::netns::{Namespace, ip};
use super::packet::PacketSocket;

/// Where a message has its type.
const TYPE: usize = 4;
/// No message for this long: all that are here were taken. Shorter than the pause between two
/// echo requests of anybody.
const QUIET: Duration = Duration::from_millis(5);

/// An address family of the underlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// An address in the network of a node's interface on the underlay: `host` of it.
    pub(crate) fn beside(self, lab: &Lab, side: Side, host: u8) -> IpAddr {
        let (v4, v6) = lab.outer(side);
        match self {
            Self::V4 => {
                let [a, b, c, _] = v4.octets();
                Ipv4Addr::new(a, b, c, host).into()
            }
            Self::V6 => {
                let mut words = v6.segments();
                words[7] = host.into();
                Ipv6Addr::from(words).into()
            }
        }
    }

    /// A node's first address on the underlay.
    pub(crate) fn outer(self, lab: &Lab, side: Side) -> IpAddr {
        let (v4, v6) = lab.outer(side);
        match self {
            Self::V4 => v4.into(),
            Self::V6 => v6.into(),
        }
    }

    /// An address with the length of its network, as `ip address` takes it.
    pub(crate) fn with_prefix(self, address: IpAddr) -> String {
        match self {
            Self::V4 => format!("{address}/24"),
            Self::V6 => format!("{address}/64"),
        }
    }

    /// What `ip route` needs to be told.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }
}

/// An endpoint at the port of all nodes.
pub(crate) fn endpoint(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, PORT)
}

/// A message between nodes, as seen on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) kind: MessageType,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

/// The messages that come in on an interface between the nodes.
#[derive(Debug)]
pub(crate) struct Wiretap(PacketSocket);

impl Wiretap {
    /// Listens from now on.
    pub(crate) fn on(namespace: &Namespace, interface: &str) -> Self {
        Self(PacketSocket::open(namespace, interface))
    }

    /// What came since the last call.
    pub(crate) fn heard(&self) -> Vec<Message> {
        let frames = self.0.drain(QUIET);
        frames.iter().filter_map(|frame| message(frame)).collect()
    }
}

fn message(frame: &[u8]) -> Option<Message> {
    let outer = Outer::parse(frame).ok()?;
    let octets = frame.get(outer.payload..outer.end)?;
    if outer.destination.port() != PORT {
        return None;
    }
    Some(Message {
        kind: MessageType::try_from(*octets.get(TYPE)?).ok()?,
        source: outer.source.ip(),
        destination: outer.destination.ip(),
    })
}

/// Puts a second router beside the one between the nodes, on both of their networks: host 253
/// (fd in an IPv6 address) where the first is 254. Its interfaces are `ga` and `gb`.
///
/// ```text
///            +-- bra 254 -- m -- brb 254 --+
///  a -- ua --+                             +-- ub -- b
///            +-- ga 253 --- g --- gb 253 --+
/// ```
pub(crate) fn second_router(lab: &Lab) -> Namespace {
    let first = lab.middle.as_ref().expect("a router");
    let second = Namespace::new("g");
    for router in [first, &second] {
        router.sysctl("ipv4/ip_forward", "1");
        router.sysctl("ipv6/conf/all/forwarding", "1");
    }
    for side in [Side::A, Side::B] {
        let name = side.name();
        let (bridge, port) = (format!("br{name}"), format!("p{name}"));
        first.ip(&format!("link add {bridge} type bridge mcast_snooping 0"));
        first.ip(&format!("link set {bridge} up"));
        first.ip(&format!("addr flush dev r{name}"));
        first.ip(&format!("link set r{name} master {bridge}"));
        let (near, far) = (first.name(), second.name());
        ip(&format!(
            "link add {port} netns {near} type veth peer name g{name} netns {far}"
        ));
        first.ip(&format!("link set {port} master {bridge} up"));
        second.ip(&format!("link set g{name} up"));
        let far = format!("g{name}");
        for (router, interface, host) in [(first, &bridge, 254), (&second, &far, 253)] {
            for family in [Family::V4, Family::V6] {
                let address = family.with_prefix(family.beside(lab, side, host));
                router.ip(&format!("addr add {address} dev {interface}"));
            }
        }
    }
    second
}
