"""What is broken when: by the seed alone, and so that faults do not heal each other."""

import itertools
import unittest

from omni_lab.bench.chaos import pairs, schedule
from omni_lab.bench.chaos.command import imagined
from omni_lab.bench.chaos.schedule import LENGTHS, LONG_SECONDS, REST_SECONDS, Fault, Ground

NODES = tuple(f"node{number}" for number in range(1, 101))
FULL = Ground(
    NODES,
    ("nucleus1", "nucleus2"),
    ("etcd1", "etcd2", "etcd3"),
    ("machine1", "machine2"),
    NODES[::2],
    ("im-node1", "im-node2"),
)
HOUR = 3600.0


class Schedule(unittest.TestCase):
    def setUp(self) -> None:
        self.rounds = schedule.make(1, HOUR, schedule.KINDS, FULL)
        self.faults = [fault for one in self.rounds for fault in one.faults]

    def test_the_seed_decides(self) -> None:
        self.assertEqual(self.rounds, schedule.make(1, HOUR, schedule.KINDS, FULL))
        self.assertNotEqual(self.rounds, schedule.make(2, HOUR, schedule.KINDS, FULL))

    def test_a_schedule_stays_what_it_was(self) -> None:
        # Another Python or another order of draws would change what a seed means.
        rounds = schedule.make(7, 60, ["kill", "partition", "move"], imagined(4))
        self.assertEqual(schedule.lines(rounds), GOLDEN)

    def test_longer_runs_begin_as_shorter_ones(self) -> None:
        shorter = schedule.make(1, HOUR / 4, schedule.KINDS, FULL)
        self.assertEqual(self.rounds[: len(shorter)], shorter)

    def test_all_kinds_come_in_their_bounds(self) -> None:
        self.assertEqual({fault.kind for fault in self.faults}, set(schedule.KINDS))
        for fault in self.faults:
            least, most = LENGTHS[fault.kind]
            if fault.kind == "partition":
                most = LONG_SECONDS[1]
            self.assertTrue(least <= fault.lasts_s <= most, fault)
            self.assertTrue(fault.targets, fault)

    def test_rounds_rest_and_end_in_time(self) -> None:
        self.assertTrue(all(one.faults for one in self.rounds))
        for one, following in itertools.pairwise(self.rounds):
            ends = one.begins_s + one.lasts_s + REST_SECONDS
            # Or later, where all that could be drawn has to rest.
            self.assertGreaterEqual(following.begins_s, ends - 0.01)
        last = self.rounds[-1]
        self.assertLessEqual(last.begins_s + last.lasts_s + REST_SECONDS, HOUR)
        self.assertTrue(all(one.faults[0].at_s == 0 for one in self.rounds))

    def test_some_overlap(self) -> None:
        overlaps = sum(
            one.at_s < other.ends_s and other.at_s < one.ends_s
            for each in self.rounds
            for one, other in itertools.combinations(each.faults, 2)
        )
        self.assertGreater(overlaps, len(self.rounds) / 4)

    def test_nobody_is_hit_twice_by_what_is_healed_alike(self) -> None:
        for one in self.rounds:
            hit = [
                (schedule.domain(fault.kind), name)
                for fault in one.faults
                for name in (fault.targets[:1] if fault.kind == "move" else fault.targets)
            ]
            self.assertEqual(len(hit), len(set(hit)), one)
            partitions = [f for f in one.faults if f.kind == "partition"]
            self.assertLessEqual(len(partitions), 1)

    def test_a_partition_leaves_both_sides_somebody(self) -> None:
        for count in (2, 3, 4, 100):
            ground = imagined(count)
            for one in schedule.make(1, HOUR, ["partition"], ground):
                size = len(one.faults[0].targets)
                self.assertTrue(1 <= size <= len(ground.hosts) // 2)

    def test_machines_move_to_their_homes(self) -> None:
        moves = [fault for fault in self.faults if fault.kind == "move"]
        self.assertTrue(moves)
        for fault in moves:
            machine, home = fault.targets
            self.assertIn(machine, FULL.machines)
            self.assertIn(home, FULL.homes)

    def test_no_machine_moves_so_often_that_it_looks_like_a_loop(self) -> None:
        rounds = schedule.make(1, HOUR, ["move"], imagined(10))
        moments: dict[str, list[float]] = {}
        for one in rounds:
            for fault in one.faults:
                moments.setdefault(fault.targets[0], []).append(one.begins_s)
        self.assertGreater(len(moments), 1)
        for each in moments.values():
            self.assertGreater(len(each), schedule.MOVES_MAX)
            for first, fourth in zip(each, each[schedule.MOVES_MAX :], strict=False):
                self.assertGreaterEqual(fourth - first, schedule.MOVES_SECONDS)

    def test_only_what_is_there_is_broken(self) -> None:
        bare = Ground(("node1", "node2"), is_wide=False)
        self.assertEqual(
            schedule.possible(["kill", "impair", "leader", "move", "mtu", "clock"], bare),
            ["kill", "clock"],
        )
        self.assertEqual(schedule.possible(schedule.KINDS, FULL), list(schedule.KINDS))

    def test_a_round_tells_how_long_and_what(self) -> None:
        one = schedule.Round(
            1, 0.0, (Fault("kill", 0.0, 3.0, ("a",)), Fault("flap", 2.0, 0.5, ("b",)))
        )
        self.assertEqual((one.lasts_s, one.kinds), (3.0, ["flap", "kill"]))


class Pairs(unittest.TestCase):
    def test_few_hosts_talk_all_to_all(self) -> None:
        self.assertEqual(len(pairs.choose(NODES[:12], 1)), 66)

    def test_many_hosts_have_four_partners_each(self) -> None:
        for count, seed in itertools.product((13, 30, 100), range(20)):
            names = NODES[:count]
            found = pairs.choose(names, seed)
            self.assertEqual(len(found), len({frozenset(pair) for pair in found}))
            self.assertTrue(all(one != other for one, other in found))
            degrees = pairs.degrees(found)
            self.assertGreaterEqual(min(degrees[name] for name in names), 4)
            self.assertLess(len(found), 2 * count + 8)

    def test_nobody_is_apart(self) -> None:
        found = pairs.choose(NODES, 3)
        reached, before = {NODES[0]}, 0
        while len(reached) > before:
            before = len(reached)
            reached |= {name for pair in found if reached & set(pair) for name in pair}
        self.assertEqual(reached, set(NODES))

    def test_a_machine_never_talks_to_a_node_that_it_may_be_behind(self) -> None:
        self.assertEqual(pairs.homes(["node1", "node2"]), [])
        for count in (3, 4, 100):
            names = list(NODES[:count])
            homes = pairs.homes(names)
            found = pairs.of_machine(names, "machine", 1)
            self.assertTrue(homes and found)
            self.assertFalse(set(homes) & {one for one, _ in found})


GOLDEN = [
    "round 1, from 0 s on, for 3.321 s",
    "   0.000 s  kill node1 for 3.321 s",
    "   0.644 s  kill node4 for 0.527 s",
    "round 2, from 8.321 s on, for 5.683 s",
    "   0.000 s  kill node1 for 3.342 s",
    "   1.882 s  kill node4 for 3.801 s",
    "round 3, from 19.004 s on, for 7.009 s",
    "   0.000 s  partition node1 for 7.009 s",
    "   1.713 s  kill node1 for 2.329 s",
    "round 4, from 31.013 s on, for 1.489 s",
    "   0.000 s  kill node3 for 0.57 s",
    "   1.085 s  move machine3, node3",
    "   1.489 s  move machine1, node1",
    "round 5, from 37.502 s on, for 0 s",
    "   0.000 s  move machine1, node3",
]

if __name__ == "__main__":
    unittest.main()
