"""Which namespaces, links, addresses and routes an underlay is made of. Pure: nothing is made here.

    star         hosts on one bridge                       node1 node2 ... -- wire
    leaf-spine   up to 10 hosts a leaf, and two spines     node1 ... -- leaf1 == spine1, spine2
    wan          sites, each with a router, all joined     node1 ... -- site1 -- site2, site3, ...

Leaves, spines and sites forward IPv4; leaves choose a spine for each flow by its addresses and
ports. The links that are impaired are those of hosts (star, leaf-spine) or between sites (wan).
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..netns import BRIDGE, UNDERLAY

TOPOLOGIES = ("star", "leaf-spine", "wan")
HOSTS_A_LEAF = 10
SPINES = 2
SITES = 4
# Networks for benchmarks (RFC 2544): one for hosts, one for links between routers.
HOSTS_NET = ipaddress.ip_network("198.18.0.0/16")
LINKS_NET = ipaddress.ip_network("198.19.0.0/16")
OVERLAY_NET = ipaddress.ip_network("10.7.0.0/16")
# Of a leaf's or a site's network: the router.
GATEWAY = 254
# What a token bucket lets pass at once: a super-frame and what the rate gives in 2 ms.
BURST_MIN = 128 * 1024
BURST_SECONDS = 0.002
QUEUE_MS = 50


@dataclass(frozen=True)
class Impairment:
    """What a link does to frames, each way."""

    rate_bps: int | None = None
    delay_ms: float = 0.0
    loss: float = 0.0

    @property
    def needs_forwarder(self) -> bool:
        """Whether the kernel's token bucket is not enough for it."""
        return self.delay_ms > 0 or self.loss > 0


@dataclass(frozen=True)
class Port:
    """One end of a link: an interface, on a bridge or with an address."""

    space: str
    interface: str
    address: str | None = None
    bridged: bool = False


@dataclass(frozen=True)
class Cable:
    """A link between two ports."""

    one: Port
    other: Port
    impaired: bool = False


@dataclass(frozen=True)
class Forwarder:
    """A program that carries frames between two interfaces of a namespace, and impairs them."""

    space: str
    one: str
    other: str


@dataclass
class Plan:
    """An underlay."""

    # Names of bridges and routers.
    switches: list[str]
    # Addresses of hosts.
    hosts: dict[str, str]
    cables: list[Cable]
    # Address of a namespace's bridge; None where it is only a bridge.
    bridges: dict[str, str | None] = field(default_factory=dict)
    routes: dict[str, list[str]] = field(default_factory=dict)
    forwarders: list[Forwarder] = field(default_factory=list)

    @property
    def spaces(self) -> list[str]:
        """All namespaces, switches first."""
        return [*self.switches, *self.hosts]


def make(topology: str, hosts: Sequence[str], sites: int = SITES) -> Plan:
    """The underlay of hosts by their names."""
    if topology == "star":
        return star(hosts)
    if topology == "leaf-spine":
        return leaf_spine(hosts)
    return wan(hosts, min(sites, len(hosts)))


def star(hosts: Sequence[str]) -> Plan:
    """All on one bridge."""
    addresses = {name: str(HOSTS_NET[at + 1]) for at, name in enumerate(hosts)}
    plan = Plan(["wire"], addresses, [], {"wire": None})
    for name, address in addresses.items():
        plan.cables.append(host_cable("wire", name, f"{address}/{HOSTS_NET.prefixlen}", True))
        # Some programs end when there is no way to the world, whether they need it or not.
        plan.routes[name] = [f"default dev {UNDERLAY}"]
    return plan


def host_cable(switch: str, host: str, address: str, impaired: bool) -> Cable:
    """A host's link to the bridge of its switch."""
    port = Port(switch, f"to-{host}", bridged=True)
    return Cable(port, Port(host, UNDERLAY, address), impaired)


def group_net(number: int) -> ipaddress.IPv4Network:
    """The network of a leaf or a site, of which the first is 1."""
    base = int(HOSTS_NET.network_address) + (number << 8)
    return ipaddress.IPv4Network((base, 24))


def settle(plan: Plan, router: str, number: int, hosts: Sequence[str], impaired: bool) -> None:
    """Puts hosts on the bridge of their router, which is their way to all others."""
    net = group_net(number)
    plan.bridges[router] = f"{net[GATEWAY]}/24"
    for at, name in enumerate(hosts):
        plan.hosts[name] = str(net[at + 1])
        plan.cables.append(host_cable(router, name, f"{net[at + 1]}/24", impaired))
        plan.routes[name] = [f"default via {net[GATEWAY]}"]


def link_addresses(one: int, other: int) -> tuple[str, str]:
    """Both ends of a link between two routers (RFC 3021): of a spine or site by its number, and of
    a leaf or another site.
    """
    base = int(LINKS_NET.network_address) + (one << 8) + 2 * other
    return (str(ipaddress.ip_address(base)), str(ipaddress.ip_address(base + 1)))


def leaf_spine(hosts: Sequence[str]) -> Plan:
    """Leaves with hosts, each joined to every spine."""
    count = -(-len(hosts) // HOSTS_A_LEAF)
    leaves = [f"leaf{number + 1}" for number in range(count)]
    spines = [f"spine{number + 1}" for number in range(SPINES)]
    plan = Plan([*spines, *leaves], {}, [])
    for at, leaf in enumerate(leaves):
        some = hosts[at * HOSTS_A_LEAF : (at + 1) * HOSTS_A_LEAF]
        settle(plan, leaf, at + 1, some, impaired=True)
        for number, spine in enumerate(spines):
            upper, lower = link_addresses(number + 1, at + 1)
            one = Port(spine, f"to-{leaf}", f"{upper}/31")
            plan.cables.append(Cable(one, Port(leaf, f"to-{spine}", f"{lower}/31")))
            plan.routes.setdefault(spine, []).append(f"{group_net(at + 1)} via {lower}")
        ways = " ".join(f"nexthop via {link_addresses(s + 1, at + 1)[0]}" for s in range(SPINES))
        others = [other for other in range(count) if other != at]
        plan.routes[leaf] = [f"{group_net(other + 1)} {ways}" for other in others]
    return plan


def wan(hosts: Sequence[str], count: int) -> Plan:
    """Sites, each joined to each other one."""
    sites = [f"site{number + 1}" for number in range(count)]
    plan = Plan(list(sites), {}, [])
    for at, site in enumerate(sites):
        some = hosts[at * len(hosts) // count : (at + 1) * len(hosts) // count]
        settle(plan, site, at + 1, some, impaired=False)
        plan.routes[site] = []
    for one, other in itertools.combinations(range(count), 2):
        here, there = link_addresses(one + 1, other + 1)
        port = Port(sites[one], f"to-{sites[other]}", f"{here}/31")
        far = Port(sites[other], f"to-{sites[one]}", f"{there}/31")
        plan.cables.append(Cable(port, far, impaired=True))
        plan.routes[sites[one]].append(f"{group_net(other + 1)} via {there}")
        plan.routes[sites[other]].append(f"{group_net(one + 1)} via {here}")
    return plan


def with_forwarders(plan: Plan) -> Plan:
    """The same with a forwarder in each impaired link, in the namespace of its first port.

    bridge -- to-node1 == im-node1 -- forwarder -- in-node1 == eth0 -- node1
    """
    cables: list[Cable] = []
    forwarders = []
    for cable in plan.cables:
        if not cable.impaired:
            cables.append(cable)
            continue
        space, end = cable.one.space, cable.one.interface.removeprefix("to-")
        near, far = Port(space, f"im-{end}"), Port(space, f"in-{end}")
        cables += [Cable(cable.one, near), Cable(far, cable.other)]
        forwarders.append(Forwarder(space, near.interface, far.interface))
    return replace(plan, cables=cables, forwarders=forwarders)


def link_lines(plan: Plan, space: str, prefix: str, queues: int, mtu: int) -> list[str]:
    """What `ip -batch` is told in a switch's namespace: its bridge, and the links that begin
    there.
    """
    counts = f"mtu {mtu} numrxqueues {queues} numtxqueues {queues}"
    lines = []
    if space in plan.bridges:
        lines.append(f"link add {BRIDGE} mtu {mtu} type bridge mcast_snooping 0")
    for cable in plan.cables:
        if cable.one.space == space:
            far = f"name {cable.other.interface} netns {prefix}-{cable.other.space}"
            lines.append(f"link add {cable.one.interface} {counts} type veth peer {far} {counts}")
    return lines


def address_lines(plan: Plan, space: str) -> list[str]:
    """What `ip -batch` is told in a namespace once all its links are there."""
    lines = ["link set lo up"]
    if space in plan.bridges:
        address = plan.bridges[space]
        lines += [f"address add {address} dev {BRIDGE}"] if address else []
        lines.append(f"link set {BRIDGE} up")
    for port in ports(plan, space):
        master = f"master {BRIDGE} " if port.bridged else ""
        lines += [f"address add {port.address} dev {port.interface}"] if port.address else []
        lines.append(f"link set {port.interface} {master}up")
    return lines + [f"route add {route}" for route in plan.routes.get(space, [])]


def ports(plan: Plan, space: str) -> list[Port]:
    """The ends of links in a namespace."""
    ends = (end for cable in plan.cables for end in (cable.one, cable.other))
    return [end for end in ends if end.space == space]


def rate_ends(plan: Plan) -> list[Port]:
    """Where a token bucket makes a link as fast as it may be: at both its ends."""
    return [end for cable in plan.cables if cable.impaired for end in (cable.one, cable.other)]


def rate_line(port: Port, rate_bps: int) -> str:
    """What `tc -batch` is told for it."""
    burst = max(BURST_MIN, int(rate_bps / 8 * BURST_SECONDS))
    bucket = f"tbf rate {rate_bps}bit burst {burst} latency {QUEUE_MS}ms"
    return f"qdisc replace dev {port.interface} root {bucket}"


def switch_settings(space: str) -> dict[str, str]:
    """What a switch's namespace is told in /proc/sys/net. It is a wire, not a host: without IPv6 it
    says nothing of its own. Ways through several spines are chosen by ports too.
    """
    settings = {"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1"}
    if space != "wire":
        settings |= {
            "ipv4/ip_forward": "1",
            "ipv4/fib_multipath_hash_policy": "1",
            "ipv4/conf/all/rp_filter": "0",
            "ipv4/conf/default/rp_filter": "0",
        }
    return settings


def overlay_address(number: int) -> str:
    """The address on the fabric of a node, of which the first is 1."""
    return str(OVERLAY_NET[number])
