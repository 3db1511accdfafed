"""What is broken is healed, from whatever point on; nothing is broken in here."""

import argparse
import os
import signal
import unittest
from pathlib import Path
from typing import Any, cast
from unittest import mock

from omni_lab.bench import plan as plans
from omni_lab.bench import up
from omni_lab.bench.chaos import command, forwarders, schedule, wires
from omni_lab.bench.chaos.checker import Checker, interval_of
from omni_lab.bench.chaos.clock import WallClock
from omni_lab.bench.chaos.faults import Active
from omni_lab.bench.chaos.run import timeline
from omni_lab.bench.chaos.schedule import Fault, Ground, Round
from omni_lab.bench.chaos.shield import shielded
from omni_lab.bench.state import State
from omni_lab.commands import CommandError
from omni_lab.interrupt import SIGNALS, Interrupted, catch_signals

KILL = Fault("kill", 0.0, 2.0, ("node1",))
FLAP = Fault("flap", 1.0, 3.0, ("node2",))
MOVE = Fault("move", 1.0, 0.0, ("machine1", "node3"))


class Recorder:
    """What is broken, as a set; begins and ends may fail."""

    def __init__(self) -> None:
        self.broken: list[Fault] = []
        self.fails_at: tuple[str, str] | None = None
        self.wholes = 0

    def begin(self, fault: Fault) -> None:
        self.broken.append(fault)
        if self.fails_at == ("begin", fault.kind):
            raise CommandError("no")

    def end(self, fault: Fault) -> None:
        if self.fails_at == ("end", fault.kind):
            raise CommandError("no")
        self.broken.remove(fault)

    def make_whole(self) -> None:
        self.wholes += 1


class Clock:
    """Two clocks that a test sets."""

    def __init__(self) -> None:
        self.monotonic, self.offset = 100.0, 5000.0

    def wall(self) -> float:
        return self.monotonic + self.offset

    def set(self, moment: float) -> None:
        self.offset = moment - self.monotonic

    def guarded(self) -> WallClock:
        return WallClock(self.wall, lambda: self.monotonic, self.set)


class SignalCase(unittest.TestCase):
    """Signal handlers are as they were after each test."""

    def setUp(self) -> None:
        for each in SIGNALS:
            self.addCleanup(signal.signal, each, signal.getsignal(each))


class Healing(unittest.TestCase):
    def setUp(self) -> None:
        self.recorder = Recorder()
        self.active = Active(self.recorder)

    def test_what_is_healed_is_not_healed_again(self) -> None:
        for fault in (KILL, FLAP):
            self.active.begin(fault)
        self.active.end(KILL)
        self.assertEqual(self.active.heal(), [])
        self.assertEqual(self.recorder.broken, [])
        self.assertEqual(self.active.heal(), [])

    def test_what_broke_off_is_healed(self) -> None:
        self.recorder.fails_at = ("begin", "flap")
        self.active.begin(KILL)
        with self.assertRaises(CommandError):
            self.active.begin(FLAP)
        self.assertEqual(self.active.heal(), [])
        self.assertEqual(self.recorder.broken, [])

    def test_one_that_cannot_be_healed_keeps_no_other(self) -> None:
        for fault in (KILL, FLAP, MOVE):
            self.active.begin(fault)
        self.recorder.fails_at = ("end", "flap")
        failed = self.active.heal()
        self.assertEqual(len(failed), 1)
        self.assertIn("flap node2", failed[0])
        self.assertEqual(self.recorder.broken, [FLAP])

    def test_steps_in_order(self) -> None:
        steps = timeline(Round(1, 0.0, (KILL, FLAP, MOVE)))
        self.assertEqual(
            [(at, is_end, fault.kind) for at, is_end, fault in steps],
            [
                (0.0, False, "kill"),
                (1.0, False, "flap"),
                (1.0, False, "move"),
                (1.0, True, "move"),
                (2.0, True, "kill"),
                (4.0, True, "flap"),
            ],
        )


class Interruption(SignalCase):
    def broken_off(self, error: BaseException) -> tuple[Recorder, Clock, mock.Mock]:
        """A run that breaks off while two things are broken and the clock is wrong."""
        lab = State("x", "2026-01-01T00:00:00+00:00", "/x", "/x", {})
        recorder, clock, checker = Recorder(), Clock(), mock.Mock(spec=Checker)
        active, wall = Active(recorder), clock.guarded()
        with self.assertRaises(type(error)):
            with command.prepared(lab, [], Ground(("node1",)), cast(Any, checker), active, wall):
                active.begin(KILL)
                active.begin(FLAP)
                wall.jump(-1800.0)
                raise error
        return recorder, clock, checker

    def test_all_is_healed_at_an_interruption(self) -> None:
        for error in (Interrupted("SIGINT"), CommandError("x"), KeyError("x")):
            recorder, clock, checker = self.broken_off(error)
            self.assertEqual((recorder.wholes, recorder.broken), (1, []))
            self.assertEqual(clock.offset, 5000.0)
            checker.start.assert_called_once_with()
            checker.close.assert_called_once_with()

    def test_no_second_signal_cuts_that_short(self) -> None:
        self.broken_off(Interrupted("SIGINT"))
        for each in SIGNALS:
            self.assertEqual(signal.getsignal(each), signal.SIG_IGN)

    def test_a_signal_waits_for_the_end_of_an_action(self) -> None:
        catch_signals()
        done = []
        with self.assertRaises(Interrupted):
            with shielded():
                os.kill(os.getpid(), signal.SIGTERM)
                done.append(1)
            done.append(2)
        self.assertEqual(done, [1])

    def test_handlers_are_what_they_were(self) -> None:
        catch_signals()
        before = [signal.getsignal(each) for each in SIGNALS]
        with shielded():
            pass
        self.assertEqual([signal.getsignal(each) for each in SIGNALS], before)


class Clocks(unittest.TestCase):
    def test_time_goes_on_while_the_clock_is_wrong(self) -> None:
        clock = Clock()
        wall = clock.guarded()
        wall.jump(3600.0)
        self.assertEqual(clock.wall(), 5100.0 + 3600.0)
        clock.monotonic += 10
        wall.jump(-3600.0)
        self.assertEqual(clock.wall(), 5110.0 - 3600.0)
        clock.monotonic += 10
        wall.restore()
        self.assertEqual(clock.wall(), 5120.0)

    def test_a_clock_that_nobody_touched_is_left_alone(self) -> None:
        clock = Clock()
        wall = clock.guarded()
        clock.offset += 0.25
        wall.restore()
        self.assertEqual(clock.offset, 5000.25)

    def test_a_jump_that_fails_is_taken_back(self) -> None:
        clock = Clock()
        wall = clock.guarded()
        with mock.patch.object(wall, "setter", side_effect=OSError):
            with self.assertRaises(OSError):
                wall.jump(60.0)
        clock.offset += 60
        wall.restore()
        self.assertEqual(clock.offset, 5000.0)


class Wires(unittest.TestCase):
    def lab(self, topology: str, with_etcd: bool) -> tuple[State, plans.Plan]:
        """A lab of 25 nodes as `lab up` describes it."""
        options = argparse.Namespace(nodes=25, topology=topology, sites=4, etcd=with_etcd)
        lab = State("x", "2026-01-01T00:00:00+00:00", "/x", "/x", vars(options))
        return lab, up.layout(lab, options, plans.Impairment())

    def test_each_host_has_its_link_as_it_was_made(self) -> None:
        for topology in plans.TOPOLOGIES:
            for with_etcd in (False, True):
                lab, planned = self.lab(topology, with_etcd)
                ends = wires.ends(lab)
                self.assertEqual(set(ends), set(planned.hosts))
                made = {
                    (f"omni-x-{cable.one.space}", cable.one.interface, cable.other.space)
                    for cable in planned.cables
                }
                for name, (one, own) in ends.items():
                    self.assertIn((one.namespace, one.interface, name), made)
                    self.assertEqual((own.namespace, own.interface), (f"omni-x-{name}", "eth0"))

    def test_a_partition_drops_both_ways_on_bridges_and_routers(self) -> None:
        rules = wires.partition_rules({"198.18.0.2", "198.18.0.1"}, {"198.18.0.3"})
        self.assertIn("set one { type ipv4_addr; elements = { 198.18.0.1, 198.18.0.2 } }", rules)
        self.assertEqual(rules.count("ip saddr @one ip daddr @other drop"), 2)
        self.assertEqual(rules.count("ip saddr @other ip daddr @one drop"), 2)
        self.assertEqual(rules.count("arp saddr ip @"), 2)
        self.assertEqual(rules.count("{"), rules.count("}"))
        healed = wires.heal_rules()
        for family in wires.FAMILIES:
            self.assertIn(f"table {family} {wires.TABLE} {{", rules)
            self.assertIn(f"delete table {family} {wires.TABLE}\n", healed)


class Forwarders(unittest.TestCase):
    WORDS = ["omni-perf", "impair", "--a", "im-node1", "--delay-us", "500", "--loss", "0.01"]

    def test_a_burst_and_its_end(self) -> None:
        worse = forwarders.worse(self.WORDS, (0.2, 0.1, 0.05))
        self.assertEqual(
            worse,
            [*self.WORDS[:6], "--loss", "0.2", "--duplicate", "0.1", "--reorder", "0.05"],
        )
        self.assertEqual(forwarders.usual(worse, 0.01), self.WORDS)

    def test_one_that_is_as_usual_stays_so(self) -> None:
        self.assertEqual(forwarders.usual(self.WORDS, 0.01), self.WORDS)


class CommandLine(unittest.TestCase):
    def test_the_clock_is_touched_only_when_that_is_said(self) -> None:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        ground = command.imagined(4)
        options = parser.parse_args(["--seed", "3"])
        self.assertNotIn("clock", command.chosen(options, ground))
        self.assertIn("clock", command.chosen(parser.parse_args(["--clock"]), ground))
        with self.assertRaises(argparse.ArgumentTypeError):
            command.kinds("kill,clock")
        self.assertEqual(command.kinds("kill,flap,kill"), ["kill", "flap"])

    def test_the_checker_leaves_the_cores_to_engines(self) -> None:
        self.assertEqual(interval_of(132), 0.05)
        self.assertEqual(interval_of(400), 0.1)
        self.assertEqual(interval_of(4000), 1.0)

    def test_the_guide_has_every_kind(self) -> None:
        guide = Path(command.__file__).parents[4] / "docs" / "chaos.md"
        text = guide.read_text()
        for kind in schedule.KINDS:
            self.assertIn(f"`{kind}`", text)


if __name__ == "__main__":
    unittest.main()
