//! Hosts behind a node's port: namespaces of their own, on a bridge in the node's.
//!
//! ```text
//!  namespace of the node                             namespace of a host
//!  engine - acc ==veth== acc0 -- br-acc -- to-c ==veth== eth0
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use super::lab::{Lab, Side};
use super::netns::{Namespace, ip};
use super::node::NodeSpec;
use super::packet::PacketSocket;
use super::{seconds, wait_until};

/// The engine's end of a segment's cable, which it borrows.
pub(crate) const ACCESS: &str = "acc";
/// A host's only interface.
pub(crate) const ETH: &str = "eth0";
/// Within this time a host that speaks all the time has spoken, whatever its kernel does first.
const SPEAKS: Duration = Duration::from_secs(5);

/// A bridge behind one port of a node.
pub(crate) struct Segment<'a> {
    node: &'a Namespace,
    bridge: String,
    mtu: u32,
}

impl<'a> Segment<'a> {
    /// Makes the pair that the node will borrow as [`ACCESS`], and a bridge at its other end.
    pub(crate) fn new(node: &'a Namespace, mtu: u32) -> Self {
        Self::behind(node, ACCESS, mtu)
    }

    /// The same with another name for the engine's end.
    pub(crate) fn behind(node: &'a Namespace, access: &str, mtu: u32) -> Self {
        let far = format!("{access}0");
        node.ip(&format!(
            "link add {access} mtu {mtu} type veth peer name {far} mtu {mtu}"
        ));
        mute(node, access);
        node.ip(&format!("link set {access} up"));
        Self::on(node, &far, mtu)
    }

    /// A bridge on an interface that is there, such as a port that the engine made.
    pub(crate) fn on(node: &'a Namespace, interface: &str, mtu: u32) -> Self {
        let bridge = format!("br-{interface}");
        node.ip(&format!(
            "link add {bridge} mtu {mtu} type bridge mcast_snooping 0"
        ));
        let segment = Self { node, bridge, mtu };
        mute(node, &segment.bridge);
        node.ip(&format!("link set {} up", segment.bridge));
        segment.plug(interface);
        // The bridge carries nothing for a port whose state the kernel has not noted yet, which it
        // does once a second when there is much to note.
        wait_until("the bridge's port is up", seconds(3), || {
            let link = node.link(interface).expect("an interface");
            link["operstate"] != "DOWN"
        });
        segment
    }

    /// Puts an interface of the node's namespace on the bridge.
    fn plug(&self, interface: &str) {
        mute(self.node, interface);
        self.node.ip(&format!(
            "link set {interface} master {} up mtu {}",
            self.bridge, self.mtu
        ));
    }

    /// Makes a host with addresses that end in `number`.
    pub(crate) fn host(&self, name: &str, number: u8) -> Host {
        let namespace = Namespace::new(name);
        let cable = format!("to-{name}");
        ip(&format!(
            "link add {cable} netns {} mtu {mtu} type veth peer name {ETH} netns {} mtu {mtu}",
            self.node.name(),
            namespace.name(),
            mtu = self.mtu,
        ));
        let host = Host {
            namespace,
            cable,
            number,
        };
        host.namespace
            .ip(&format!("addr add {}/24 dev {ETH}", host.v4()));
        host.namespace
            .ip(&format!("addr add {}/64 dev {ETH}", host.v6()));
        self.plug(&host.cable);
        host.namespace.ip(&format!("link set {ETH} up"));
        host
    }

    /// Pulls a host's cable out here and plugs it in at `to`. Gives a socket on which everything
    /// is heard that the host sends there.
    pub(crate) fn hand_over(&self, host: &Host, to: &Segment<'_>) -> PacketSocket {
        let heard = self.pull(host, to);
        to.plug(&host.cable);
        heard
    }

    /// The same with a host that speaks all the time; when its first frame came there.
    pub(crate) fn hand_over_speaking(&self, host: &Host, to: &Segment<'_>) -> Instant {
        let heard = self.pull(host, to);
        let first = thread::scope(|scope| {
            let first = scope.spawn(|| heard.next_at(SPEAKS));
            to.plug(&host.cable);
            first.join().expect("a listener")
        });
        first.expect("a frame of a host that speaks")
    }

    /// Pulls a host's cable out, and lays it to `to`.
    fn pull(&self, host: &Host, to: &Segment<'_>) -> PacketSocket {
        let cable = &host.cable;
        self.node.ip(&format!("link set {cable} nomaster down"));
        if self.node.name() != to.node.name() {
            let there = to.node.name();
            self.node.ip(&format!("link set {cable} netns {there}"));
        }
        let heard = PacketSocket::open(to.node, cable);
        // That the interface is down is said once.
        heard.drain(Duration::from_millis(1));
        heard
    }
}

/// What is only a way for others has no address of its own and says nothing.
fn mute(namespace: &Namespace, interface: &str) {
    namespace.sysctl(&format!("ipv6/conf/{interface}/disable_ipv6"), "1");
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    /// The end of its cable that is on the bridge.
    cable: String,
    number: u8,
}

impl Host {
    /// Its IPv4 address.
    pub(crate) fn v4(&self) -> IpAddr {
        Ipv4Addr::new(10, 7, 0, self.number).into()
    }

    /// Its IPv6 address.
    pub(crate) fn v6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, self.number.into()).into()
    }

    /// Its MAC address as text.
    pub(crate) fn mac(&self) -> String {
        self.namespace.mac(ETH)
    }
}

/// A node's configuration with a borrowed port and nobody at it but the segment's hosts.
pub(crate) fn borrowing(lab: &Lab, side: Side) -> NodeSpec {
    NodeSpec {
        access: ACCESS.to_owned(),
        drivers: ("auto", "afxdp"),
        addresses: Vec::new(),
        ..lab.spec(side)
    }
}

/// What the kernel of a namespace takes a neighbour's MAC address to be, and how sure it is:
/// `("02:..", "REACHABLE")`. `None` when it knows none.
pub(crate) fn neighbour(
    namespace: &Namespace,
    interface: &str,
    address: IpAddr,
) -> Option<(String, String)> {
    let text = namespace.ip(&format!("neigh show {address} dev {interface}"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = words.iter().position(|&word| word == "lladdr")?;
    Some((words.get(at + 1)?.to_string(), words.last()?.to_string()))
}
