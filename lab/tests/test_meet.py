"""What the trials read and decide, without any program."""

import json
import unittest

from omni_lab import cluster, meet_crowd, meet_etcd, meet_outage, netns
from omni_lab.cluster import Status
from omni_lab.netns import Namespace
from omni_lab.traffic import TrafficError


class Crowd(unittest.TestCase):
    def test_each_has_its_partners_and_no_pair_is_twice_there(self) -> None:
        pairs = meet_crowd.choose_pairs(20, 4, seed=1)
        self.assertEqual(len(pairs), len({frozenset(pair) for pair in pairs}))
        for node in range(20):
            self.assertGreaterEqual(sum(node in pair for pair in pairs), 4)
        self.assertTrue(all(one < other for one, other in pairs))

    def test_all_pairs(self) -> None:
        for talk in (None, 20):
            self.assertEqual(len(meet_crowd.choose_pairs(20, talk, seed=1)), 190)

    def test_the_seed_decides(self) -> None:
        first = meet_crowd.choose_pairs(20, 3, seed=1)
        self.assertEqual(first, meet_crowd.choose_pairs(20, 3, seed=1))
        self.assertNotEqual(first, meet_crowd.choose_pairs(20, 3, seed=2))

    def test_memory_of_a_process(self) -> None:
        text = (
            "55d0a9c00000-7ffd6b5f2000 ---p 00000000 00:00 0      [rollup]\n"
            "Rss:               45000 kB\nPss:               37000 kB\nPss_Dirty:       1 kB\n"
        )
        found = meet_crowd.parse_memory(text)
        self.assertEqual((found.resident, found.proportional), (45000 * 1024, 37000 * 1024))

    def test_a_member_registers_once(self) -> None:
        changes = [
            (1.0, {"kind": "member", "public_key": "A="}),
            (2.0, {"kind": "binding"}),
            (3.0, {"kind": "member", "public_key": "A="}),
            (4.0, {"kind": "member", "public_key": "B="}),
        ]
        self.assertEqual(meet_crowd.first_told(changes), {"A=": 1.0, "B=": 4.0})


class Wire(unittest.TestCase):
    def test_a_port_for_each_host(self) -> None:
        lines = netns.wire_lines({"node1": Namespace("x-node1"), "node2": Namespace("x-node2")})
        self.assertEqual(len(lines), 2 + 2 * 2)
        self.assertIn("peer name eth0 netns x-node2", lines[4])
        self.assertEqual(lines[5], "link set to-node2 master br0 up")

    def test_names_of_a_thousand_nodes_fit_the_kernel(self) -> None:
        self.assertLessEqual(len(netns.port_of("node1000")), 15)


class Outage(unittest.TestCase):
    def test_sessions_are_renewed_during_it(self) -> None:
        for outage in (30.0, 60.0, 600.0):
            for age in (0.0, 20.0):
                lead = meet_outage.lead_seconds(outage, age)
                self.assertGreaterEqual(lead, 10)
                renewal = meet_outage.REKEY_SECONDS - age
                self.assertTrue(lead < renewal < lead + outage)

    def test_handshakes_are_counted_by_the_age_of_sessions(self) -> None:
        # Made at 0, 120 and 240; ages are in whole seconds, and looked at with some delay.
        samples = [(float(at), float(at % 120)) for at in range(1, 300, 2)]
        self.assertEqual(meet_outage.handshakes(samples, 0, 300), 2)
        self.assertEqual(meet_outage.handshakes(samples, 150, 300), 1)
        self.assertEqual(meet_outage.handshakes(samples, 0, 200), 1)

    def test_a_session_that_only_ages_had_none(self) -> None:
        samples = [(at + 0.9 * (at % 2), float(at - 1)) for at in range(1, 100)]
        self.assertEqual(meet_outage.handshakes(samples, 0, 100), 0)
        self.assertEqual(meet_outage.handshakes([], 0, 100), 0)

    def test_seconds_of_tcp(self) -> None:
        rates = [(1.0, 100e6), (1.0, 0), (1.0001, 90e6), (0.01, 0)]
        intervals = [{"sum": {"seconds": s, "bits_per_second": rate}} for s, rate in rates]
        text = json.dumps({"intervals": intervals, "end": {"sum_sent": {}}})
        self.assertEqual(meet_outage.interval_rates(text), [100e6, 0, 90e6])

    def test_tcp_that_broke_off(self) -> None:
        for text in ("", '{"error": "unable to connect"}', '{"end": {"x": 1}}'):
            with self.assertRaises(TrafficError):
                meet_outage.interval_rates(text)


def status(member: str, leader: str, at: float = 10.0, term: str = "2") -> Status:
    """What a member says."""
    return Status(at, member, leader, term)


class Cluster(unittest.TestCase):
    def test_who_leads(self) -> None:
        said = {"m1": status("1", "2"), "m2": status("2", "2"), "m3": None}
        self.assertEqual(cluster.leader_of(said, 10.0, 2), ("m2", 10.0))
        self.assertIsNone(cluster.leader_of(said, 10.0, 3))

    def test_since_when_it_leads_so_many(self) -> None:
        said = {
            "m1": status("1", "2", 13.0),
            "m2": status("2", "2", 11.0),
            "m3": status("3", "2", 12.0),
        }
        self.assertEqual(cluster.leader_of(said, 10.0, 2), ("m2", 12.0))
        self.assertEqual(cluster.leader_of(said, 10.0, 3), ("m2", 13.0))
        said["m2"] = status("2", "2", 12.5)
        self.assertEqual(cluster.leader_of(said, 10.0, 2), ("m2", 12.5))

    def test_a_leader_that_is_silent_leads_nobody(self) -> None:
        said = {"m1": status("1", "3"), "m2": status("2", "3"), "m3": None}
        self.assertIsNone(cluster.leader_of(said, 10.0, 2))

    def test_what_was_said_before_counts_for_nothing(self) -> None:
        said = {"m1": status("1", "3"), "m2": status("2", "3"), "m3": status("3", "3", 9.9)}
        self.assertIsNone(cluster.leader_of(said, 10.0, 2))

    def test_a_leader_of_an_older_term_has_no_majority(self) -> None:
        said = {
            "m1": status("1", "1", term="2"),
            "m2": status("2", "3", term="3"),
            "m3": status("3", "3", term="3"),
        }
        self.assertEqual(cluster.leader_of(said, 10.0, 2), ("m3", 10.0))

    def test_an_election_has_no_leader(self) -> None:
        said = {name: status(name, "0") for name in ("1", "2", "3")}
        self.assertIsNone(cluster.leader_of(said, 10.0, 2))

    def test_answers_of_a_member(self) -> None:
        text = '{"header":{"member_id":"7","raft_term":"4"},"leader":"9","dbSize":"20480"}'
        self.assertEqual(cluster.parse_status(1.0, text), Status(1.0, "7", "9", "4"))
        leaderless = '{"header":{"member_id":"7"},"errors":["etcdserver: no leader"]}'
        self.assertEqual(cluster.parse_status(1.0, leaderless), Status(1.0, "7", "0", "0"))
        for text in ("", "404 page not found", '{"error":"x"}', "[]"):
            self.assertIsNone(cluster.parse_status(1.0, text))

    def test_nodes_that_are_missing(self) -> None:
        members = {
            "members": [
                {"name": "alpha", "presence": "here"},
                {"name": "beta", "presence": "elsewhere"},
                {"name": "gamma", "presence": "away"},
            ]
        }
        names = ["alpha", "beta", "gamma", "delta"]
        self.assertEqual(meet_etcd.missing(members, names), ["gamma", "delta"])

    def test_addresses_that_are_not_with_their_owners(self) -> None:
        bindings = {
            "bindings": [
                {"ip": "10.7.1.1", "owner": "A=", "withdrawn": False},
                {"ip": "10.7.1.2", "owner": "A=", "withdrawn": True},
                {"ip": "10.7.1.3", "owner": "B=", "withdrawn": False},
            ]
        }
        wanted = {f"10.7.1.{number}": "A=" for number in (1, 2, 3, 4)}
        expected = ["10.7.1.2", "10.7.1.3", "10.7.1.4"]
        self.assertEqual(meet_etcd.misplaced(bindings, wanted), expected)


if __name__ == "__main__":
    unittest.main()
