//! From a peer's endpoint to the outer headers that reach it.

use core::net::{IpAddr, SocketAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use omni_wire::MacAddr;
use omni_wire::outer::Path;

use super::Netlink;
use super::decode::{self, Neighbor, RTM_NEWNEIGH, RTM_NEWROUTE, Route};
use super::error::{NetlinkError, errno};
use super::link::{Link, all_addresses};
use super::socket::request;

/// IANA protocol number of UDP.
const IPPROTO_UDP: u8 = 17;

/// What is known about the way to an endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// The whole way is known.
    Ready {
        /// How messages reach the endpoint.
        path: Path,
        /// False when another source address was asked for, which this host cannot (or can no
        /// longer) use for the endpoint: [`Path::source`] is the kernel's choice instead, and the
        /// one asked for is best forgotten.
        source_kept: bool,
        /// The longest outer IP packet, in octets: the smaller of the route's limit (path MTU
        /// discovery included) and the interface's MTU.
        mtu: u32,
        /// Whose MAC address it goes to: the gateway, or the endpoint itself.
        next_hop: IpAddr,
        /// The interface it leaves by: the underlay, or a VLAN sub-interface of it. Neighbour
        /// events and [`Netlink::refresh`] speak of the next hop on this interface.
        ifindex: u32,
    },
    /// The kernel was asked to find the next hop's MAC address: ask again on the neighbour's
    /// [`KernelEvent::NeighborChanged`](super::KernelEvent::NeighborChanged).
    Pending {
        /// Whose.
        next_hop: IpAddr,
        /// On which interface.
        ifindex: u32,
    },
    /// The endpoint cannot be reached by the underlay as things are. Worth asking again when
    /// routes, addresses or interfaces change.
    Unresolvable {
        /// Why, for a person.
        why: String,
    },
}

/// Why a resolution ends early.
enum Stop {
    Unresolvable(String),
    Failed(NetlinkError),
}

impl From<NetlinkError> for Stop {
    fn from(error: NetlinkError) -> Self {
        Self::Failed(error)
    }
}

impl Netlink {
    /// Finds the way to `endpoint`, which must leave by the interface `underlay` (an index) or by
    /// a VLAN sub-interface of it, for datagrams from our port `source_port`.
    ///
    /// The kernel decides as for a datagram of its own, routing rules included. Without a `source`
    /// it also chooses our address, as for a socket that is not bound to one. With a `source` it
    /// decides as for a socket bound to that address, rules for senders (`ip rule add from ...`)
    /// included. A `source` that does not work is passed over, and the answer says so: one that is
    /// not an address of the underlay or of its VLAN sub-interfaces (what is sent to others is not
    /// steered to the engine), or from which no way leaves by the underlay.
    ///
    /// When the kernel does not know the next hop's MAC address, or has not confirmed it for a
    /// while, it is made to look. An IPv4 address written as IPv6 (`::ffff:a.b.c.d`) is taken as
    /// IPv4.
    ///
    /// # Errors
    /// What the kernel refuses. Unreachable endpoints are no error but
    /// [`Resolution::Unresolvable`].
    pub async fn resolve(
        &self,
        endpoint: SocketAddr,
        source: Option<IpAddr>,
        underlay: u32,
        source_port: u16,
    ) -> Result<Resolution, NetlinkError> {
        let endpoint = canonical(endpoint);
        match self.decide(endpoint, source, underlay, source_port).await {
            Ok(resolution) => Ok(resolution),
            Err(Stop::Unresolvable(why)) => Ok(Resolution::Unresolvable { why }),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Tells the kernel that a neighbour is in use, so that it confirms and keeps the entry.
    ///
    /// Frames sent by AF_XDP do not count as use for the kernel. An entry that nobody uses goes
    /// stale, is not noticed to have gone, and is collected: call this every few seconds (10 to
    /// 30) for every next hop in use. Entries set by hand are left as they are.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn refresh(&self, next_hop: IpAddr, ifindex: u32) -> Result<(), NetlinkError> {
        match neighbor(next_hop, ifindex).await? {
            Some(entry) if entry.fixed => Ok(()),
            _ => probe(next_hop, ifindex).await,
        }
    }

    async fn decide(
        &self,
        endpoint: SocketAddr,
        source: Option<IpAddr>,
        underlay: u32,
        source_port: u16,
    ) -> Result<Resolution, Stop> {
        let Some(underlay) = self.link_by_index(underlay).await? else {
            let why = format!("the underlay (interface index {underlay}) does not exist");
            return Err(Stop::Unresolvable(why));
        };
        check_endpoint(endpoint.ip())?;
        if let Some(source) = source {
            match self
                .way_from(endpoint, source, &underlay, source_port)
                .await
            {
                Ok(way) => return finish(way, endpoint, source_port, true).await,
                Err(Stop::Unresolvable(_)) => {}
                Err(failed) => return Err(failed),
            }
        }
        let way = self.way(endpoint, None, &underlay, source_port).await?;
        finish(way, endpoint, source_port, source.is_none()).await
    }

    /// The way for a socket that is bound to `source`.
    async fn way_from(
        &self,
        endpoint: SocketAddr,
        source: IpAddr,
        underlay: &Link,
        source_port: u16,
    ) -> Result<Way, Stop> {
        let unusable = || Err(Stop::Unresolvable(format!("{source} cannot be used")));
        if !may_pair(source, endpoint.ip()) {
            return unusable();
        }
        let Some(at) = self.interface_of(source, underlay).await? else {
            return unusable();
        };
        let way = self
            .way(endpoint, Some(source), underlay, source_port)
            .await?;
        // A link-local address means something on its own link only.
        if is_link_local(source) && at != way.output.index {
            return unusable();
        }
        Ok(way)
    }

    /// The interface that has the address: the underlay or a VLAN sub-interface of it.
    async fn interface_of(
        &self,
        address: IpAddr,
        underlay: &Link,
    ) -> Result<Option<u32>, NetlinkError> {
        let all = all_addresses().await?;
        let having = all
            .iter()
            .filter(|one| one.usable && one.address == address);
        for ifindex in having.map(|one| one.ifindex) {
            if ifindex == underlay.index {
                return Ok(Some(ifindex));
            }
            let link = self.link_by_index(ifindex).await?;
            let parent = link.and_then(|link| link.vlan).map(|(parent, _)| parent);
            if parent == Some(underlay.index) {
                return Ok(Some(ifindex));
            }
        }
        Ok(None)
    }

    /// Where datagrams to `endpoint` go, up to the next hop.
    async fn way(
        &self,
        endpoint: SocketAddr,
        source: Option<IpAddr>,
        underlay: &Link,
        source_port: u16,
    ) -> Result<Way, Stop> {
        let route = route(endpoint, source, underlay, source_port).await?;
        check_kind(endpoint.ip(), underlay, &route)?;
        let output = match route.output {
            Some(index) if index == underlay.index => underlay.clone(),
            Some(index) => self
                .link_by_index(index)
                .await?
                .ok_or_else(|| vanished(index))?,
            None => return Err(no_route(endpoint.ip(), underlay)),
        };
        let vlan = vlan_of(endpoint.ip(), underlay, &output)?;
        // To a request with a source the answer names another one (IPv6), or none (IPv4).
        let source = source
            .or(route.source)
            .filter(|source| source.is_ipv4() == endpoint.is_ipv4())
            .ok_or_else(|| no_source(endpoint.ip(), &output))?;
        Ok(Way {
            vlan,
            source,
            next_hop: route.gateway.unwrap_or(endpoint.ip()),
            mtu: route.mtu.map_or(output.mtu, |mtu| mtu.min(output.mtu)),
            output,
        })
    }
}

/// The way to an endpoint, but for the next hop's MAC address.
struct Way {
    /// The underlay, or a VLAN sub-interface of it.
    output: Link,
    /// The tag that the latter stands for.
    vlan: Option<u16>,
    /// Our address.
    source: IpAddr,
    /// The gateway, or the endpoint itself.
    next_hop: IpAddr,
    /// The longest outer IP packet, in octets.
    mtu: u32,
}

/// Adds the next hop's MAC address to a way.
async fn finish(
    way: Way,
    endpoint: SocketAddr,
    source_port: u16,
    source_kept: bool,
) -> Result<Resolution, Stop> {
    let (next_hop, ifindex) = (way.next_hop, way.output.index);
    let Some(next_hop_mac) = next_hop_mac(next_hop, ifindex).await? else {
        return Ok(Resolution::Pending { next_hop, ifindex });
    };
    let path = Path {
        source_mac: way.output.mac,
        next_hop_mac,
        vlan: way.vlan,
        source: way.source,
        source_port,
        endpoint,
    };
    Ok(Resolution::Ready {
        path,
        source_kept,
        mtu: way.mtu,
        next_hop,
        ifindex,
    })
}

/// Whether datagrams from one address may go to the other at all: both of one family, and a
/// link-local one reaches link-local ones only (RFC 4007 s.9).
fn may_pair(source: IpAddr, destination: IpAddr) -> bool {
    source.is_ipv4() == destination.is_ipv4()
        && (!is_link_local(source) || is_link_local(destination))
}

fn canonical(endpoint: SocketAddr) -> SocketAddr {
    match endpoint.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), endpoint.port()),
        IpAddr::V6(_) => endpoint,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Asks the kernel how it would send to `endpoint`, from `source` if one is given.
async fn route(
    endpoint: SocketAddr,
    source: Option<IpAddr>,
    underlay: &Link,
    source_port: u16,
) -> Result<Route, Stop> {
    let action = format!("look up the route to {}", endpoint.ip());
    let message = route_request(endpoint, source, underlay.index, source_port);
    match request(&action, RouteNetlinkMessage::GetRoute(message), 0).await {
        Ok(replies) => {
            let reply = replies.iter().find(|reply| reply.kind == RTM_NEWROUTE);
            let route = reply.and_then(|reply| decode::route(&reply.body));
            route.ok_or(Stop::Failed(NetlinkError::Malformed { action }))
        }
        Err(error) => Err(match error.errno() {
            // Unreachable, prohibited and black-holed destinations come as these.
            Some(errno::ENETUNREACH | errno::EHOSTUNREACH | errno::EACCES | errno::EINVAL) => {
                no_route(endpoint.ip(), underlay)
            }
            Some(errno::ENODEV) => {
                let why =
                    format!("the interface that the scope of {endpoint} names does not exist");
                Stop::Unresolvable(why)
            }
            Some(errno::EAFNOSUPPORT | errno::EOPNOTSUPP) => {
                let why = format!("this kernel cannot route to {}: no IPv6", endpoint.ip());
                Stop::Unresolvable(why)
            }
            _ => Stop::Failed(error),
        }),
    }
}

fn route_request(
    endpoint: SocketAddr,
    source: Option<IpAddr>,
    underlay: u32,
    source_port: u16,
) -> RouteMessage {
    let mut message = RouteMessage::default();
    let bits = if endpoint.is_ipv4() { 32 } else { 128 };
    message.header.address_family = family(endpoint.ip());
    message.header.destination_prefix_length = bits;
    message.attributes = vec![
        RouteAttribute::Destination(endpoint.ip().into()),
        RouteAttribute::IpProto(IPPROTO_UDP),
        RouteAttribute::Sport(source_port),
        RouteAttribute::Dport(endpoint.port()),
    ];
    if let Some(source) = source {
        message.header.source_prefix_length = bits;
        message
            .attributes
            .push(RouteAttribute::Source(source.into()));
    }
    if is_link_local(endpoint.ip()) {
        let scope = match endpoint {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => v6.scope_id(),
            _ => underlay,
        };
        message.attributes.push(RouteAttribute::Oif(scope));
    }
    message
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Refuses what no route could make a peer's address.
fn check_endpoint(ip: IpAddr) -> Result<(), Stop> {
    if ip.is_multicast() {
        return Err(Stop::Unresolvable(format!(
            "{ip} is a multicast address, not a peer's"
        )));
    }
    if ip.is_unspecified() {
        return Err(Stop::Unresolvable(format!(
            "{ip} stands for any address, not for a peer's"
        )));
    }
    Ok(())
}

fn check_kind(destination: IpAddr, underlay: &Link, route: &Route) -> Result<(), Stop> {
    let why = match route.kind {
        RouteType::Unicast if route.encapsulated => format!(
            "the route to {destination} encapsulates its packets, which frames that pass the \
             kernel by would miss"
        ),
        RouteType::Unicast => return Ok(()),
        RouteType::Local | RouteType::Anycast => {
            format!("{destination} is an address of this host, not of a peer")
        }
        RouteType::Broadcast => format!("{destination} is a broadcast address, not a peer's"),
        _ => return Err(no_route(destination, underlay)),
    };
    Err(Stop::Unresolvable(why))
}

/// The VLAN tag that frames need on the underlay to leave as if by `output`.
fn vlan_of(destination: IpAddr, underlay: &Link, output: &Link) -> Result<Option<u16>, Stop> {
    if output.index == underlay.index {
        return Ok(None);
    }
    match output.vlan {
        Some((parent, id)) if parent == underlay.index && !output.service_tag => Ok(Some(id)),
        Some((parent, _)) if parent == underlay.index => Err(Stop::Unresolvable(format!(
            "the route to {destination} leaves by {}, whose tag is a service tag (802.1ad); on \
             the underlay {} only 802.1Q tags can be sent",
            output.name, underlay.name
        ))),
        _ => Err(Stop::Unresolvable(format!(
            "the route to {destination} leaves by {}, not by the underlay {}",
            output.name, underlay.name
        ))),
    }
}

fn no_route(destination: IpAddr, underlay: &Link) -> Stop {
    Stop::Unresolvable(format!(
        "there is no route to {destination}: one is needed that leaves by the underlay {}",
        underlay.name
    ))
}

fn no_source(destination: IpAddr, output: &Link) -> Stop {
    let kind = if destination.is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    };
    Stop::Unresolvable(format!(
        "{} has no {kind} address to send to {destination} from",
        output.name
    ))
}

fn vanished(index: u32) -> Stop {
    Stop::Unresolvable(format!("the interface of index {index} has just gone"))
}

/// The MAC address to send to; makes the kernel look for it, or confirm it, as needed.
async fn next_hop_mac(next_hop: IpAddr, ifindex: u32) -> Result<Option<MacAddr>, NetlinkError> {
    match neighbor(next_hop, ifindex).await? {
        Some(Neighbor {
            mac: Some(mac),
            stale,
            fixed,
            ..
        }) => {
            if stale && !fixed {
                probe(next_hop, ifindex).await?;
            }
            Ok(Some(mac))
        }
        Some(Neighbor { fixed: true, .. }) => Ok(None),
        _ => {
            probe(next_hop, ifindex).await?;
            Ok(None)
        }
    }
}

fn neighbor_message(next_hop: IpAddr, ifindex: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(next_hop);
    message.header.ifindex = ifindex;
    message
        .attributes
        .push(NeighbourAttribute::Destination(next_hop.into()));
    message
}

async fn neighbor(next_hop: IpAddr, ifindex: u32) -> Result<Option<Neighbor>, NetlinkError> {
    let action = format!("look up the neighbour {next_hop}");
    let message = neighbor_message(next_hop, ifindex);
    match request(&action, RouteNetlinkMessage::GetNeighbour(message), 0).await {
        Ok(replies) => {
            let reply = replies.iter().find(|reply| reply.kind == RTM_NEWNEIGH);
            Ok(reply.and_then(|reply| decode::neighbor(&reply.body)))
        }
        Err(error) if error.errno() == Some(errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Has the kernel behave as if it had a packet for the neighbour (NTF_USE): it looks for an
/// unknown one, and confirms a stale one.
async fn probe(next_hop: IpAddr, ifindex: u32) -> Result<(), NetlinkError> {
    let action = format!("look for the neighbour {next_hop}");
    let mut message = neighbor_message(next_hop, ifindex);
    message.header.flags = NeighbourFlags::Use;
    let message = RouteNetlinkMessage::NewNeighbour(message);
    request(&action, message, NLM_F_CREATE | NLM_F_REPLACE)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNDERLAY: u32 = 2;

    fn underlay() -> Link {
        Link {
            index: UNDERLAY,
            name: "eth0".to_owned(),
            ..Link::default()
        }
    }

    fn sub_interface(parent: u32, service_tag: bool) -> Link {
        let name = "eth0.7".to_owned();
        Link {
            index: 9,
            name,
            vlan: Some((parent, 7)),
            service_tag,
            ..Link::default()
        }
    }

    fn tag(output: &Link) -> Result<Option<u16>, String> {
        let destination = IpAddr::from([192, 0, 2, 2]);
        vlan_of(destination, &underlay(), output).map_err(|stop| match stop {
            Stop::Unresolvable(why) => why,
            Stop::Failed(error) => panic!("{error}"),
        })
    }

    #[test]
    fn the_tag_is_that_of_a_sub_interface_of_the_underlay() {
        assert_eq!(tag(&underlay()), Ok(None));
        assert_eq!(tag(&sub_interface(UNDERLAY, false)), Ok(Some(7)));
    }

    #[test]
    fn other_sub_interfaces_and_service_tags_are_refused_by_name() {
        let why = tag(&sub_interface(UNDERLAY + 1, false)).expect_err("on another interface");
        assert_eq!(
            why,
            "the route to 192.0.2.2 leaves by eth0.7, not by the underlay eth0"
        );
        let why = tag(&sub_interface(UNDERLAY, true)).expect_err("802.1ad");
        assert!(why.contains("802.1ad") && why.contains("eth0.7"), "{why}");
    }

    #[test]
    fn addresses_of_one_family_pair_and_link_local_ones_stay_on_their_link() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let (v4, v6) = (address("192.0.2.1"), address("2001:db8::1"));
        let link_local = address("fe80::1");
        assert!(may_pair(v4, address("198.51.100.1")) && may_pair(v6, address("2001:db8::2")));
        assert!(may_pair(link_local, address("fe80::2")) && may_pair(v6, link_local));
        assert!(!may_pair(v4, v6) && !may_pair(v6, v4) && !may_pair(link_local, v6));
    }

    #[test]
    fn encapsulating_routes_are_refused() {
        let mut route = Route {
            kind: RouteType::Unicast,
            output: Some(UNDERLAY),
            source: None,
            gateway: None,
            mtu: None,
            encapsulated: false,
        };
        let destination = IpAddr::from([192, 0, 2, 2]);
        assert!(check_kind(destination, &underlay(), &route).is_ok());
        route.encapsulated = true;
        assert!(check_kind(destination, &underlay(), &route).is_err());
    }
}
