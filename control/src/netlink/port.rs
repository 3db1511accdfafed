//! Access ports: veth pairs that the engine makes.
//!
//! ```text
//!   host stack -- omni0 (user side) ====veth==== omni0-xdp (engine side) -- AF_XDP, engine
//! ```
//!
//! A pair carries our alias from before it has its name, so that one that a killed engine left
//! behind is recognised at the next start, however far that engine had come.

use core::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use omni_wire::MacAddr;

use super::Netlink;
use super::decode::Address;
use super::error::{NetlinkError, errno};
use super::link::{Link, NAME_MAX_LEN, all_addresses, check_name, of_index, set_link};
use super::socket::request;

/// The alias of both sides of an access port, by which a later start knows it.
pub const ALIAS: &str = "omni-engine access port";

/// Marks addresses that the engine set (IFA_PROTO; the kernel's own are 1 to 3), so that those no
/// longer configured can be told from those that somebody else set. Kernels before 5.18 do not
/// keep it.
const ADDRESS_PROTOCOL: u8 = 111;

/// What an access port is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessPortSpec {
    /// Name of the user side.
    pub name: String,
    /// Receive queues and transmit queues of either side.
    pub queues: u32,
    /// Of both sides, in octets without the Ethernet header.
    pub mtu: u32,
    /// Of the user side; unicast.
    pub mac: MacAddr,
    /// Of the user side: address and prefix length in bits.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// An access port that is ready for use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessPort {
    /// The side that the host uses.
    pub user: Link,
    /// The side that the engine receives from and sends to.
    pub engine: Link,
    /// Whether an earlier engine made it.
    pub taken_over: bool,
}

/// The name of the engine's side of the access port `name`: `<name>-xdp`. When that is longer
/// than 15 octets, the start of the name and a digest of all of it stand for the name.
#[must_use]
pub fn engine_side_name(name: &str) -> String {
    const SUFFIX: &str = "-xdp";
    const START: usize = 5;
    if name.len() + SUFFIX.len() <= NAME_MAX_LEN {
        return format!("{name}{SUFFIX}");
    }
    let end = (0..=START)
        .rev()
        .find(|end| name.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}~{:05x}{SUFFIX}", &name[..end], digest(name) & 0xf_ffff)
}

/// The name that the user side has until it is known to be ours.
fn unfinished_name(name: &str) -> String {
    format!("omni~{:09x}", digest(name) & 0xf_ffff_ffff)
}

/// FNV-1a, 64 bits: the same at every start, which the standard library's hash is not.
fn digest(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Netlink {
    /// Makes an access port, or takes over the one that an earlier engine left behind.
    ///
    /// One that was left behind is kept, with the host's routes and connections on it, when it
    /// has the right number of queues; otherwise it is deleted and made anew. Either way both
    /// sides have the MTU afterwards, and the user side has the MAC address and the addresses.
    /// A new port is off: the caller switches both sides on, the user side last, once it receives
    /// what the host sends. Addresses that an earlier engine set and that are not asked for any
    /// more are taken away; those that somebody else set stay. The engine's side sends nothing by
    /// itself (no IPv6).
    ///
    /// # Errors
    /// [`NetlinkError::NotOurs`] when the name is another interface's; what the kernel refuses.
    /// A port that was being made is deleted then.
    pub async fn make_access_port(
        &self,
        spec: &AccessPortSpec,
    ) -> Result<AccessPort, NetlinkError> {
        check_name(&spec.name)?;
        let left = self.left_behind(spec).await?;
        let taken_over = left.is_some();
        let (user, engine) = match left {
            Some(pair) => pair,
            None => self.make_pair(spec).await?,
        };
        match self.finish(spec, user, engine).await {
            Ok((user, engine)) => Ok(AccessPort {
                user,
                engine,
                taken_over,
            }),
            Err(error) => {
                if !taken_over {
                    self.discard(user).await;
                }
                Err(error)
            }
        }
    }

    /// Deletes what an earlier engine left of an access port of that name that was a veth pair.
    /// One that was a tap goes by itself.
    ///
    /// # Errors
    /// [`NetlinkError::NotOurs`] when the name is another interface's; what the kernel refuses.
    pub async fn clear_access_port(&self, spec: &AccessPortSpec) -> Result<(), NetlinkError> {
        check_name(&spec.name)?;
        match self.link(&spec.name).await? {
            Some(link) if !link.is_access_port() => {
                return Err(NetlinkError::NotOurs {
                    name: spec.name.clone(),
                });
            }
            Some(link) if link.peer_index.is_some() => self.delete_link(link.index).await?,
            _ => {}
        }
        self.clear_unfinished(spec).await
    }

    /// Makes the tap of that name, which was just opened, the access port: alias, MTU, MAC address
    /// and addresses. Its super-frames have as many segments as one sending takes. It stays off.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn set_up_tap(&self, spec: &AccessPortSpec) -> Result<Link, NetlinkError> {
        let action = format!("set up the access port {}", spec.name);
        let gone = || NetlinkError::malformed(&action);
        let tap = self.link(&spec.name).await?.ok_or_else(gone)?;
        let attributes = [
            LinkAttribute::IfAlias(ALIAS.to_owned()),
            LinkAttribute::Mtu(spec.mtu),
            LinkAttribute::Address(spec.mac.0.to_vec()),
            LinkAttribute::GsoMaxSize(super_frame_max(spec.mtu)),
        ];
        set_link(&action, tap.index, attributes).await?;
        set_addresses(spec, tap.index).await?;
        self.link_by_index(tap.index).await?.ok_or_else(gone)
    }

    /// The indices of both sides of a usable port that was left behind. An unusable one is
    /// deleted.
    async fn left_behind(&self, spec: &AccessPortSpec) -> Result<Option<(u32, u32)>, NetlinkError> {
        let Some(user) = self.link(&spec.name).await? else {
            self.clear_unfinished(spec).await?;
            return Ok(None);
        };
        if !user.is_access_port() {
            return Err(NetlinkError::NotOurs {
                name: spec.name.clone(),
            });
        }
        if let Some(engine) = self.other_side(&user).await? {
            let fits = |link: &Link| [link.rx_queues, link.tx_queues] == [spec.queues; 2];
            if fits(&user) && fits(&engine) && engine.name == engine_side_name(&spec.name) {
                return Ok(Some((user.index, engine.index)));
            }
        }
        self.delete_link(user.index).await?;
        self.clear_unfinished(spec).await?;
        Ok(None)
    }

    async fn other_side(&self, link: &Link) -> Result<Option<Link>, NetlinkError> {
        match link.peer_index {
            Some(index) => self.link_by_index(index).await,
            None => Ok(None),
        }
    }

    /// Deletes what an engine that was killed while it made the port has left.
    async fn clear_unfinished(&self, spec: &AccessPortSpec) -> Result<(), NetlinkError> {
        let names = [unfinished_name(&spec.name), engine_side_name(&spec.name)];
        for name in &names {
            let Some(link) = self.link(name).await? else {
                continue;
            };
            let other = self.other_side(&link).await?;
            let is_pair = other.is_some_and(|other| names.contains(&other.name));
            if !link.is_access_port() && !is_pair {
                return Err(NetlinkError::NotOurs { name: name.clone() });
            }
            self.delete_link(link.index).await?;
        }
        Ok(())
    }

    async fn make_pair(&self, spec: &AccessPortSpec) -> Result<(u32, u32), NetlinkError> {
        let name = &spec.name;
        let unfinished = unfinished_name(name);
        let action = format!("make the access port {name}");
        let message = RouteNetlinkMessage::NewLink(pair_message(spec, &unfinished));
        request(&action, message, NLM_F_CREATE | NLM_F_EXCL).await?;
        let user = self
            .link(&unfinished)
            .await?
            .ok_or_else(|| NetlinkError::malformed(&action))?;
        let named = async {
            let engine = user
                .peer_index
                .ok_or_else(|| NetlinkError::malformed(&action))?;
            let alias = || LinkAttribute::IfAlias(ALIAS.to_owned());
            set_link(&action, engine, [alias()]).await?;
            set_link(&action, user.index, [alias()]).await?;
            set_link(&action, user.index, [LinkAttribute::IfName(name.clone())]).await?;
            Ok((user.index, engine))
        };
        let outcome = named.await;
        if outcome.is_err() {
            self.discard(user.index).await;
        }
        outcome
    }

    /// Sets everything that a port made now and one taken over have in common.
    async fn finish(
        &self,
        spec: &AccessPortSpec,
        user: u32,
        engine: u32,
    ) -> Result<(Link, Link), NetlinkError> {
        let action = format!("set up the access port {}", spec.name);
        self.silence(engine, &action).await?;
        set_link(&action, engine, [LinkAttribute::Mtu(spec.mtu)]).await?;
        set_link(&action, user, [LinkAttribute::Mtu(spec.mtu)]).await?;
        let gone = || NetlinkError::malformed(&action);
        // Only where it differs: setting it makes the host forget its neighbours.
        if self.link_by_index(user).await?.ok_or_else(gone)?.mac != spec.mac {
            let mac = LinkAttribute::Address(spec.mac.0.to_vec());
            set_link(&action, user, [mac]).await?;
        }
        set_addresses(spec, user).await?;
        let user = self.link_by_index(user).await?.ok_or_else(gone)?;
        let engine = self.link_by_index(engine).await?.ok_or_else(gone)?;
        Ok((user, engine))
    }

    /// Keeps the kernel from speaking IPv6 on the engine's side: no link-local address, hence no
    /// router solicitations, and, where /proc/sys can be written, no IPv6 there at all.
    async fn silence(&self, engine: u32, action: &str) -> Result<(), NetlinkError> {
        let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        match set_link(action, engine, [LinkAttribute::AfSpecUnspec(vec![mode])]).await {
            // A kernel without IPv6 is silent already.
            Err(error) if matches!(error.errno(), Some(errno::EAFNOSUPPORT | errno::EINVAL)) => {}
            outcome => outcome?,
        }
        if let Some(link) = self.link_by_index(engine).await? {
            let file = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", link.name);
            if let Err(error) = std::fs::write(&file, "1") {
                tracing::debug!(%error, file, "IPv6 stays on, without addresses");
            }
        }
        Ok(())
    }

    /// Deletes what could not be completed. The error that led here is the one to report.
    async fn discard(&self, index: u32) {
        if let Err(error) = self.delete_link(index).await {
            tracing::warn!(%error, "an unfinished access port stays");
        }
    }
}

/// The longest packet that the host may leave to be cut, in octets: its segments, each of them in a
/// message, are sent by one call (a UDP datagram that is cut has 65,507 octets at most).
fn super_frame_max(mtu: u32) -> u32 {
    /// A message has so many octets beyond the packet in it: its header, Ethernet, and a tag.
    const BEYOND: u32 = 32 + 14 + 4;
    /// IP and TCP headers at the least, which all segments have and the packet has once.
    const HEADERS: u32 = 40;
    let segments = (65_507 / (mtu + BEYOND)).max(1);
    segments * mtu.saturating_sub(HEADERS) + HEADERS
}

/// The request that makes both sides, still under a name of no meaning.
fn pair_message(spec: &AccessPortSpec, unfinished: &str) -> LinkMessage {
    let side = |name: &str| {
        [
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(spec.mtu),
            LinkAttribute::NumTxQueues(spec.queues),
            LinkAttribute::NumRxQueues(spec.queues),
        ]
    };
    let mut peer = of_index(0);
    peer.attributes.extend(side(&engine_side_name(&spec.name)));
    let mut message = of_index(0);
    message.attributes.extend(side(unfinished));
    message
        .attributes
        .push(LinkAttribute::Address(spec.mac.0.to_vec()));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    message
}

/// Sets the addresses of the user side, and takes away those that an earlier engine set.
async fn set_addresses(spec: &AccessPortSpec, user: u32) -> Result<(), NetlinkError> {
    let wanted = |one: &Address| spec.addresses.contains(&(one.address, one.prefix_len));
    let all = all_addresses().await?;
    let obsolete = |one: &&Address| {
        one.ifindex == user && one.protocol == Some(ADDRESS_PROTOCOL) && !wanted(one)
    };
    for one in all.iter().filter(obsolete) {
        let action = format!("take the address {} away from {}", one.address, spec.name);
        let message = address_message(user, one.address, one.prefix_len);
        match request(&action, RouteNetlinkMessage::DelAddress(message), 0).await {
            Err(error) if error.errno() == Some(errno::EADDRNOTAVAIL) => {}
            outcome => outcome.map(drop)?,
        }
    }
    for (address, prefix_len) in &spec.addresses {
        let action = format!("give the address {address}/{prefix_len} to {}", spec.name);
        let mut message = address_message(user, *address, *prefix_len);
        let protocol = AddressProtocol::Other(ADDRESS_PROTOCOL);
        message
            .attributes
            .push(AddressAttribute::Protocol(protocol));
        let message = RouteNetlinkMessage::NewAddress(message);
        match request(&action, message, NLM_F_CREATE | NLM_F_EXCL).await {
            Err(error) if error.errno() == Some(errno::EEXIST) => {}
            outcome => outcome.map(drop)?,
        }
    }
    Ok(())
}

fn address_message(ifindex: u32, address: IpAddr, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.index = ifindex;
    message.header.prefix_len = prefix_len;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    if address.is_ipv6() {
        // Usable at once: the configuration is what says that nobody else has it.
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_side_is_named_after_the_user_side() {
        assert_eq!(engine_side_name("omni0"), "omni0-xdp");
        assert_eq!(engine_side_name("elevenoctet"), "elevenoctet-xdp");
    }

    #[test]
    fn long_names_stay_apart_and_within_the_limit() {
        let long = [
            "twelve-octet",
            "twelve-octeu",
            "fifteen-octets.",
            "tenant-0000001",
        ];
        let names: Vec<String> = long.iter().map(|name| engine_side_name(name)).collect();
        for (position, name) in names.iter().enumerate() {
            assert!(check_name(name).is_ok(), "{name}");
            assert!(name.ends_with("-xdp"));
            assert!(!names[..position].contains(name), "{name}");
        }
        assert_eq!(
            engine_side_name("twelve-octet"),
            engine_side_name("twelve-octet")
        );
    }

    #[test]
    fn a_name_is_not_cut_within_a_character() {
        let name = engine_side_name("aaaaöööööö");
        assert!(name.starts_with("aaaa~"), "{name}");
        assert!(check_name(&name).is_ok());
    }

    #[test]
    fn unfinished_names_are_valid_and_differ() {
        assert!(check_name(&unfinished_name("omni0")).is_ok());
        assert_ne!(unfinished_name("omni0"), unfinished_name("omni1"));
    }
}
