"""Underlays as they are planned, and what `ip` and `tc` are told of them."""

import ipaddress
import itertools
import unittest

from omni_lab.bench import baseline_kernel, build, plan
from omni_lab.bench.plan import Cable, Impairment, Plan, Port

INTERFACE_MAX = 15


def hosts(count: int) -> list[str]:
    return [f"node{number + 1}" for number in range(count)]


def route_table(planned: Plan, space: str) -> list[tuple[ipaddress.IPv4Network, list[str]]]:
    """Routes of a namespace: networks and next hops."""
    found = []
    for line in planned.routes.get(space, []):
        net, *words = line.split()
        ways = [words[at + 1] for at, word in enumerate(words) if word == "via"]
        found.append((ipaddress.IPv4Network("0.0.0.0/0" if net == "default" else net), ways))
    return found


def owners(planned: Plan) -> dict[str, str]:
    """Whose each address is."""
    found = {}
    for space in planned.spaces:
        for port in plan.ports(planned, space):
            if port.address:
                found[port.address.partition("/")[0]] = space
        if planned.bridges.get(space):
            found[str(planned.bridges[space]).partition("/")[0]] = space
    return found


def neighbours(planned: Plan, space: str) -> set[str]:
    """Networks that a namespace is on, as their members."""
    nets = [port.address for port in plan.ports(planned, space) if port.address]
    nets += [str(planned.bridges[space])] if planned.bridges.get(space) else []
    inside = [ipaddress.ip_interface(each).network for each in nets]
    return {
        address
        for address in owners(planned)
        if any(ipaddress.ip_address(address) in net for net in inside)
    }


def walk(planned: Plan, source: str, target: str) -> list[str]:
    """The namespaces on the way from a host to an address, by the first of equal ways."""
    whose, way, here = owners(planned), [source], source
    while target not in neighbours(planned, here):
        address = ipaddress.ip_address(target)
        fitting = [ways for net, ways in route_table(planned, here) if address in net]
        here = whose[fitting[0][0]]
        way.append(here)
        if len(way) > 8:
            raise AssertionError(f"a loop: {way}")
    return way


class Plans(unittest.TestCase):
    def test_addresses_and_names_are_unique_and_fit(self) -> None:
        for topology, count in itertools.product(plan.TOPOLOGIES, (1, 2, 11, 105)):
            planned = plan.with_forwarders(plan.make(topology, hosts(count)))
            ends = [end for each in planned.cables for end in (each.one, each.other)]
            names = [(end.space, end.interface) for end in ends]
            self.assertEqual(len(names), len(set(names)), topology)
            self.assertTrue(all(len(name) <= INTERFACE_MAX for _, name in names), topology)
            self.assertEqual(list(planned.hosts), hosts(count))
            self.assertEqual(len(set(planned.hosts.values())), count)
            addresses = [end.address for end in ends if end.address]
            self.assertEqual(len(addresses), len(set(addresses)), topology)
            self.assertTrue({end.space for end in ends} <= set(planned.spaces))

    def test_every_host_finds_its_way_to_every_other(self) -> None:
        for topology in plan.TOPOLOGIES:
            planned = plan.make(topology, hosts(25))
            for one, other in itertools.permutations(planned.hosts, 2):
                walk(planned, one, planned.hosts[other])

    def test_a_leaf_has_ten_hosts_and_as_many_ways_as_there_are_spines(self) -> None:
        planned = plan.make("leaf-spine", hosts(25))
        self.assertEqual(planned.switches, ["spine1", "spine2", "leaf1", "leaf2", "leaf3"])
        on_leaf = [end for end in plan.ports(planned, "leaf1") if end.bridged]
        self.assertEqual(len(on_leaf), plan.HOSTS_A_LEAF)
        table = route_table(planned, "leaf1")
        self.assertEqual(len(table), 2)
        self.assertTrue(all(len(ways) == plan.SPINES for _, ways in table))
        self.assertEqual(walk(planned, "node1", planned.hosts["node2"]), ["node1"])
        way = walk(planned, "node1", planned.hosts["node25"])
        self.assertEqual(
            [name.rstrip("0123456789") for name in way], ["node", "leaf", "spine", "leaf"]
        )

    def test_sites_are_all_joined_and_only_their_links_are_impaired(self) -> None:
        planned = plan.make("wan", hosts(9), sites=4)
        impaired = [each for each in planned.cables if each.impaired]
        self.assertEqual(len(impaired), 6)
        self.assertTrue(all(each.one.space.startswith("site") for each in impaired))
        self.assertEqual(len(walk(planned, "node1", planned.hosts["node9"])), 3)

    def test_no_more_sites_than_hosts(self) -> None:
        self.assertEqual(plan.make("wan", hosts(2)).switches, ["site1", "site2"])

    def test_a_forwarder_lies_between_bridge_and_host(self) -> None:
        planned = plan.with_forwarders(plan.make("star", hosts(1)))
        bridge, far = planned.cables
        self.assertEqual(
            bridge, Cable(Port("wire", "to-node1", bridged=True), Port("wire", "im-node1"))
        )
        self.assertEqual((far.one, far.other.interface), (Port("wire", "in-node1"), "eth0"))
        self.assertEqual(len(planned.forwarders), 1)


class Lines(unittest.TestCase):
    def test_a_link_has_its_queues_and_its_mtu_at_both_ends(self) -> None:
        planned = plan.make("star", hosts(1))
        bridge, link = plan.link_lines(planned, "wire", "omni-lab", 2, 9000)
        self.assertIn("mtu 9000 type bridge", bridge)
        counts = "mtu 9000 numrxqueues 2 numtxqueues 2"
        expected = f"link add to-node1 {counts} type veth peer name eth0 netns omni-lab-node1 "
        self.assertEqual(link, expected + counts)

    def test_addresses_come_before_routes(self) -> None:
        planned = plan.make("leaf-spine", hosts(11))
        lines = plan.address_lines(planned, "leaf1")
        kinds = [line.split()[0] for line in lines]
        first_route = kinds.index("route")
        self.assertEqual(set(kinds[first_route:]), {"route"})
        self.assertIn("address add 198.18.1.254/24 dev br0", lines[:first_route])

    def test_a_token_bucket_has_room_for_a_super_frame(self) -> None:
        line = plan.rate_line(Port("wire", "to-node1"), 10_000_000)
        self.assertEqual(
            line, "qdisc replace dev to-node1 root tbf rate 10000000bit burst 131072 latency 50ms"
        )
        self.assertIn("burst 2500000 ", plan.rate_line(Port("wire", "to-node1"), 10**10))

    def test_rates_are_at_both_ends_of_a_hosts_link(self) -> None:
        ends = plan.rate_ends(plan.make("star", hosts(2)))
        self.assertEqual([end.interface for end in ends], ["to-node1", "eth0", "to-node2", "eth0"])

    def test_a_bridge_alone_forwards_no_packets(self) -> None:
        self.assertNotIn("ipv4/ip_forward", plan.switch_settings("wire"))
        self.assertEqual(plan.switch_settings("leaf1")["ipv4/ip_forward"], "1")

    def test_only_delay_and_loss_need_a_forwarder(self) -> None:
        self.assertFalse(Impairment(rate_bps=10**9).needs_forwarder)
        self.assertTrue(Impairment(delay_ms=0.5).needs_forwarder)
        self.assertTrue(Impairment(loss=0.01).needs_forwarder)

    def test_a_forwarder_is_told_in_microseconds(self) -> None:
        words = build.impair_options(Impairment(10**8, 2.5, 0.01))
        self.assertEqual(words, "--delay-us 2500 --loss 0.01 --rate-bps 100000000".split())


class Vxlan(unittest.TestCase):
    def test_each_other_host_is_known_and_is_sent_what_is_for_all(self) -> None:
        lines = baseline_kernel.entry_lines({2: "198.18.0.2", 300: "198.18.1.44"})
        self.assertEqual(len(lines), 4)
        self.assertIn("02:00:0a:08:01:2c dev vxlan0 dst 198.18.1.44", lines[2])
        self.assertIn("00:00:00:00:00:00 dev vxlan0 dst 198.18.1.44", lines[3])

    def test_contestants_have_networks_of_their_own(self) -> None:
        bases = [baseline_kernel.VXLAN_BASE, 32, 48, 64, 80]
        nets = {
            ipaddress.ip_interface(
                f"{baseline_kernel.address(base, 1)}/{baseline_kernel.PREFIX_BITS}"
            ).network
            for base in bases
        }
        self.assertEqual(len(nets), len(bases))


if __name__ == "__main__":
    unittest.main()
