//! Interfaces and their addresses.

use core::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use omni_wire::MacAddr;

use super::decode::{self, Address, RTM_NEWADDR, RTM_NEWLINK};
use super::error::{NetlinkError, errno};
use super::socket::{dump, request};
use super::{Netlink, port};

/// The longest name of an interface, in octets (IFNAMSIZ without the terminating zero).
pub(super) const NAME_MAX_LEN: usize = 15;

/// An interface as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// The kernel's number of it. Not used again before 2^31 others were made.
    pub index: u32,
    /// Its present name.
    pub name: String,
    /// In octets, without the Ethernet header.
    pub mtu: u32,
    /// Zero when it has none of six octets.
    pub mac: MacAddr,
    /// Switched on (IFF_UP), whether or not it has a carrier.
    pub up: bool,
    /// The layer below works (IFF_LOWER_UP).
    pub carrier: bool,
    /// "veth", "vlan", "bridge", ...; `None` for hardware.
    pub kind: Option<String>,
    /// Of a VLAN sub-interface: the index of the interface below and the VLAN id. `None` when the
    /// interface below is in another network namespace.
    pub vlan: Option<(u32, u16)>,
    /// Whether that VLAN's tag is a service tag (802.1ad) rather than an ordinary one (802.1Q).
    pub service_tag: bool,
    /// Of a veth: the other end's index. `None` when that is in another network namespace.
    pub peer_index: Option<u32>,
    /// Receive queues.
    pub rx_queues: u32,
    /// Transmit queues.
    pub tx_queues: u32,
    /// A text that somebody attached to it.
    pub alias: Option<String>,
    /// The bridge, bond or VRF that it is a port of.
    pub controller: Option<u32>,
    /// The XDP programs on it, by the kernel's numbers.
    pub xdp_programs: Vec<u32>,
    /// Counters, as of the query.
    pub stats: LinkStats,
}

impl Link {
    /// Whether frames can pass: switched on and with a carrier.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.up && self.carrier
    }

    /// Whether this is an access port that an engine made, or a side of one.
    #[must_use]
    pub fn is_access_port(&self) -> bool {
        self.alias.as_deref() == Some(port::ALIAS)
            && matches!(self.kind.as_deref(), Some("veth" | "tun"))
    }
}

/// What an interface counted since it was made (`struct rtnl_link_stats64`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Octets received.
    pub rx_bytes: u64,
    /// Octets sent.
    pub tx_bytes: u64,
    /// Bad packets received.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Received but dropped, for want of buffers or of a taker.
    pub rx_dropped: u64,
    /// Dropped on the way out.
    pub tx_dropped: u64,
    /// Missed by the device for want of receive descriptors.
    pub rx_missed_errors: u64,
}

impl Netlink {
    /// The interface of that name; `None` when there is none.
    ///
    /// # Errors
    /// [`NetlinkError::InvalidName`] when no interface can have it, or what the kernel refuses.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        check_name(name)?;
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        one_link(&format!("look up the interface {name}"), message).await
    }

    /// The interface of that index; `None` when there is none.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn link_by_index(&self, index: u32) -> Result<Option<Link>, NetlinkError> {
        if index == 0 {
            return Ok(None);
        }
        one_link(
            &format!("look up the interface of index {index}"),
            of_index(index),
        )
        .await
    }

    /// Every interface of this network namespace.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let replies = dump("list the interfaces", message).await?;
        let links = replies.iter().filter(|reply| reply.kind == RTM_NEWLINK);
        Ok(links
            .filter_map(|reply| decode::link(&reply.body))
            .collect())
    }

    /// The addresses of that interface that may be used: none of which duplicate address
    /// detection is still under way or has failed.
    ///
    /// # Errors
    /// What the kernel refuses. An interface that does not exist has no addresses.
    pub async fn addresses(&self, ifindex: u32) -> Result<Vec<IpAddr>, NetlinkError> {
        let all = all_addresses().await?;
        Ok(usable(&all, |index| index == ifindex))
    }

    /// The addresses of that interface and of the VLAN sub-interfaces directly on it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn local_addresses(&self, ifindex: u32) -> Result<Vec<IpAddr>, NetlinkError> {
        let links = self.links().await?;
        let on_it = |link: &&Link| link.vlan.is_some_and(|(parent, _)| parent == ifindex);
        let children: Vec<u32> = links.iter().filter(on_it).map(|link| link.index).collect();
        let all = all_addresses().await?;
        Ok(usable(&all, |index| {
            index == ifindex || children.contains(&index)
        }))
    }

    /// Deletes an interface, and with it the other end if it is a veth. One that is gone already
    /// is no error.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        let action = format!("delete the interface of index {index}");
        match request(&action, RouteNetlinkMessage::DelLink(of_index(index)), 0).await {
            Err(error) if error.errno() == Some(errno::ENODEV) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Sets an interface's MTU, in octets without the Ethernet header.
    ///
    /// # Errors
    /// What the kernel refuses, such as a value outside of the device's range.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let action = format!("set the MTU of the interface of index {index} to {mtu}");
        set_link(&action, index, [LinkAttribute::Mtu(mtu)]).await
    }

    /// Switches an interface on.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        set_flags(
            &format!("switch the interface of index {index} on"),
            index,
            LinkFlags::Up,
        )
        .await
    }

    /// Switches an interface off.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn set_down(&self, index: u32) -> Result<(), NetlinkError> {
        let action = format!("switch the interface of index {index} off");
        set_flags(&action, index, LinkFlags::empty()).await
    }
}

/// Refuses what the kernel would refuse as a name, and '%', which it would take for a pattern.
pub(super) fn check_name(name: &str) -> Result<(), NetlinkError> {
    let bad = |c: char| c.is_ascii_whitespace() || matches!(c, '/' | ':' | '%' | '\0' | '\x0b');
    let fits = (1..=NAME_MAX_LEN).contains(&name.len());
    if !fits || name.contains(bad) || matches!(name, "." | "..") {
        return Err(NetlinkError::InvalidName {
            name: name.to_owned(),
        });
    }
    Ok(())
}

pub(super) fn of_index(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// Changes attributes of an interface that exists.
pub(super) async fn set_link(
    action: &str,
    index: u32,
    attributes: impl IntoIterator<Item = LinkAttribute>,
) -> Result<(), NetlinkError> {
    let mut message = of_index(index);
    message.attributes.extend(attributes);
    request(action, RouteNetlinkMessage::SetLink(message), 0)
        .await
        .map(drop)
}

async fn set_flags(action: &str, index: u32, flags: LinkFlags) -> Result<(), NetlinkError> {
    let mut message = of_index(index);
    message.header.flags = flags;
    message.header.change_mask = LinkFlags::Up;
    request(action, RouteNetlinkMessage::SetLink(message), 0)
        .await
        .map(drop)
}

async fn one_link(action: &str, message: LinkMessage) -> Result<Option<Link>, NetlinkError> {
    match request(action, RouteNetlinkMessage::GetLink(message), 0).await {
        Ok(replies) => {
            let reply = replies.iter().find(|reply| reply.kind == RTM_NEWLINK);
            let link = reply.and_then(|reply| decode::link(&reply.body));
            link.map(Some)
                .ok_or_else(|| NetlinkError::malformed(action))
        }
        Err(error) if error.errno() == Some(errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every address of this network namespace.
pub(super) async fn all_addresses() -> Result<Vec<Address>, NetlinkError> {
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let replies = dump("list the addresses", message).await?;
    let addresses = replies.iter().filter(|reply| reply.kind == RTM_NEWADDR);
    Ok(addresses
        .filter_map(|reply| decode::address(&reply.body))
        .collect())
}

fn usable(all: &[Address], on: impl Fn(u32) -> bool) -> Vec<IpAddr> {
    all.iter()
        .filter(|one| one.usable && on(one.ifindex))
        .map(|one| one.address)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_takes_pass_and_no_others() {
        for name in [
            "a",
            "omni0",
            "eth0.100",
            "fifteen-octets.",
            "größe",
            "omni~0a",
        ] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
        let bad = [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "a:b",
            "veth%d",
            "a\tb",
            "a\0",
            "sixteen-octets-x",
        ];
        for name in bad {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
