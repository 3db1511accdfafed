"""Comparisons say what was measured: searches, medians, ratios, targets, and what tools print."""

import unittest
from pathlib import Path

from omni_lab import compare_measure, compare_report, compare_targets, machine
from omni_lab.compare_arguments import parse_arguments
from omni_lab.compare_contestants import ContestError, Kind
from omni_lab.compare_omni import parse_setup
from omni_lab.compare_pair import Wire, offload_command
from omni_lab.compare_stats import Results, Trial, highest_lossless, spread
from omni_lab.node import Drivers, Identity, render_config
from omni_lab.traffic import TrafficError


SOCKET = Path("/run/omni.sock")


class Line:
    """A contestant that carries so much a second, and a sender that makes no more than it can."""

    def __init__(self, carried: float, sender_most: float = 1e6) -> None:
        self.carried, self.sender_most = carried, sender_most
        self.rates: list[int] = []
        self.hiccups = 0

    def attempt(self, rate: int) -> Trial:
        """One second at a rate, 0 for as much as leaves."""
        self.rates.append(rate)
        sent = int(min(rate or self.sender_most, self.sender_most))
        received = min(sent, int(self.carried))
        if self.hiccups:
            self.hiccups -= 1
            received -= 1
        return Trial(sent, received, 1.0)

    def search(self, steps: int = 12) -> float:
        """The highest rate without loss."""
        return highest_lossless(self.attempt, self.attempt(0), steps)


class Search(unittest.TestCase):
    def test_finds_what_is_carried_and_never_more(self) -> None:
        for carried in (1500, 20_000, 123_456, 900_000):
            found = Line(carried).search()
            self.assertLessEqual(found, carried)
            self.assertGreater(found, carried / 1.05, carried)

    def test_what_loses_nothing_at_overload_needs_no_search(self) -> None:
        line = Line(carried=2e6, sender_most=300_000)
        self.assertEqual(line.search(), 300_000)
        self.assertEqual(line.rates, [0])

    def test_one_hiccup_is_not_the_contestants_loss_but_two_are(self) -> None:
        one, two = Line(100_000), Line(100_000)
        flood = one.attempt(0)
        one.hiccups, two.hiccups = 1, 2
        self.assertEqual(highest_lossless(one.attempt, flood, 1), 100_000)
        self.assertEqual(highest_lossless(two.attempt, flood, 1), 0)

    def test_who_always_loses_has_no_such_rate(self) -> None:
        line = Line(carried=0)
        self.assertEqual(line.search(), 0)
        self.assertTrue(all(rate <= 1_000_000 for rate in line.rates))

    def test_steps_are_bounded(self) -> None:
        line = Line(carried=1e5)
        line.search(steps=3)
        # The flood, and each step twice at most.
        self.assertLessEqual(len(line.rates), 1 + 3 * 2)


def results(**values: dict[str, dict[int, float]]) -> Results:
    """Rounds on the cut wire, by metric and contestant."""
    made = Results()
    for metric, contestants in values.items():
        for contestant, rounds in contestants.items():
            for number, value in rounds.items():
                made.add(contestant, "cut", number, {metric: value})
    return made


class Rounds(unittest.TestCase):
    def test_a_spread_has_the_middle_and_both_ends(self) -> None:
        found = spread([3.0, 1.0, 2.0, 10.0])
        assert found is not None
        self.assertEqual((found.median, found.least, found.greatest, found.rounds), (2.5, 1, 10, 4))
        self.assertIsNone(spread([]))

    def test_ratios_are_of_the_same_round(self) -> None:
        made = results(tcp={"a": {1: 2.0, 2: 8.0, 3: 5.0}, "b": {1: 1.0, 2: 2.0}})
        found = made.ratio(("a", "cut"), ("b", "cut"), "tcp")
        assert found is not None
        self.assertEqual((found.median, found.rounds), (3.0, 2))
        self.assertIsNone(made.ratio(("a", "cut"), ("c", "cut"), "tcp"))

    def test_the_best_is_the_greatest_or_the_least(self) -> None:
        made = results(tcp={"a": {1: 2.0}, "b": {1: 3.0}})
        self.assertEqual(made.best(["a", "b", "c"], "cut", "tcp"), "b")
        self.assertEqual(made.best(["a", "b", "c"], "cut", "tcp", least=True), "a")
        self.assertIsNone(made.best(["c"], "cut", "tcp"))


class Targets(unittest.TestCase):
    kinds = {
        "vxlan": Kind.PLAIN,
        "omni xdp+afxdp": Kind.OMNI,
        "omni xdp+afxdp/spin": Kind.OMNI,
        "slow": Kind.LAYER2,
        "fast": Kind.LAYER2,
    }

    def check(self, made: Results) -> dict[str, bool]:
        return {figure.name: figure.met for figure in compare_targets.check(made, self.kinds)[0]}

    def test_tcp_is_held_against_vxlan_on_a_cut_wire(self) -> None:
        title = "TCP, omni xdp+afxdp on wire cut / vxlan on wire cut"
        for ours, met in ((4.0, True), (3.9, False)):
            made = results(tcp={"vxlan": {1: 10.0}, "omni xdp+afxdp": {1: ours}})
            self.assertEqual(self.check(made)[title], met)

    def test_the_best_mode_of_drivers_counts_and_not_other_drivers(self) -> None:
        spin = "omni xdp+afxdp/spin"
        tcp = {"vxlan": {1: 10.0}, "omni xdp+afxdp": {1: 3.0}, spin: {1: 5.0}}
        found = self.check(results(tcp=tcp))
        self.assertTrue(found[f"TCP, {spin} on wire cut / vxlan on wire cut"])
        self.assertFalse(any("tap" in name for name in found))

    def test_the_best_of_the_peers_counts(self) -> None:
        made = results(lossless={"omni xdp+afxdp": {1: 50.0}, "slow": {1: 1.0}, "fast": {1: 25.0}})
        self.assertFalse(
            self.check(made)["64 octets without loss, omni xdp+afxdp / fast, wire cut"]
        )

    def test_layer_2_out_of_parts_is_told_but_is_no_target(self) -> None:
        made = Results()
        for name, value in (("omni xdp+afxdp", 2.0), ("parts", 1.0), ("fast", 0.1)):
            made.add(name, "whole", 1, {"tcp": value})
        kinds = {**self.kinds, "parts": Kind.PARTS}
        found = {each.name: each for each in compare_targets.check(made, kinds)[0]}
        parts = found["TCP, omni xdp+afxdp / parts, wire whole"]
        self.assertEqual((parts.target, parts.measured), ("", 2.0))
        self.assertTrue(found["TCP, omni xdp+afxdp / fast, wire whole"].met)

    def test_the_idle_round_trip_is_held_against_vxlan_and_in_every_mode(self) -> None:
        made = results(
            idle_p50={
                "vxlan": {1: 40.0},
                "omni xdp+afxdp": {1: 45.0},
                "omni xdp+afxdp/spin": {1: 101.0},
                "slow": {1: 200.0},
                "fast": {1: 100.0},
            }
        )
        found = self.check(made)
        self.assertTrue(found["idle round trip p50, omni xdp+afxdp - vxlan, wire cut"])
        self.assertTrue(found["idle round trip p50, omni xdp+afxdp / fast, wire cut"])
        self.assertFalse(found["idle round trip p50, omni xdp+afxdp/spin / fast, wire cut"])

    def test_adaptive_polling_is_held_against_spinning(self) -> None:
        made = results(tcp={"omni xdp+afxdp": {1: 0.8}, "omni xdp+afxdp/spin": {1: 1.0}})
        self.assertFalse(self.check(made)["TCP, omni xdp+afxdp / spinning, wire cut"])

    def test_the_worst_round_of_losses_counts(self) -> None:
        title = "datagrams lost and not counted, omni xdp+afxdp, wire cut"
        for lost, met in (({1: 0.0, 2: 0.0}, True), ({1: 0.0, 2: 3.0, 3: 0.0}, False)):
            made = results(lost_unexplained={"omni xdp+afxdp": lost})
            self.assertEqual(self.check(made)[title], met)

    def test_what_was_not_measured_is_not_checked_and_said(self) -> None:
        measured, unchecked = compare_targets.check(Results(), self.kinds)
        self.assertEqual(measured, [])
        self.assertIn("TCP, omni tap+udp on wire whole / vxlan on wire cut", unchecked)


class Reading(unittest.TestCase):
    def test_busy_ticks_leave_out_idle_and_stolen_time(self) -> None:
        text = "cpu  10 20 30 1000 2000 40 50 4000 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
        self.assertEqual(compare_measure.parse_busy(text), 150)

    def test_a_process_may_have_any_name(self) -> None:
        fields = " ".join(str(number) for number in range(3, 30))
        text = f"77 (a) b (c) S {fields}"
        self.assertEqual(compare_measure.parse_process_ticks(text), 13 + 14)

    def test_backlog_drops_are_hexadecimal_and_of_all_cores(self) -> None:
        text = "0000ffff 00000010 00000000\n00000001 0000000a 00000000\n"
        self.assertEqual(compare_measure.parse_backlog_drops(text), 26)

    def test_round_trips_are_in_microseconds(self) -> None:
        text = (
            '{"sent":9,"received":8,"p50_ns":1500,"p90_ns":2000,'
            '"p99_ns":3000,"p99_9_ns":4000,"max_ns":5000}'
        )
        trips = compare_measure.parse_trips(text)
        self.assertEqual((trips.sent, trips.received), (9, 8))
        self.assertEqual(trips.percentiles, {"p50": 1.5, "p90": 2, "p99": 3, "p99.9": 4})
        with self.assertRaises(ContestError):
            compare_measure.parse_trips(text.replace('"received":8', '"received":0'))

    def test_iperf_says_its_processor_time(self) -> None:
        text = (
            '{"end":{"sum_sent":{"seconds":2.0},"sum_received":{"bytes":5e8},'
            '"cpu_utilization_percent":{"host_total":50.0,"remote_total":75.0}}}'
        )
        self.assertEqual(compare_measure.iperf_cpu(text), 2.5)
        self.assertEqual(compare_measure.received_octets(text), 5e8)
        with self.assertRaises(TrafficError):
            compare_measure.iperf_cpu('{"end":{"sum_sent":{"seconds":2.0}}}')

    def test_the_machine_says_what_decides_over_ciphers(self) -> None:
        text = "model name\t: A CPU\nflags\t\t: fpu aes hypervisor avx2\n\nmodel name\t: other\n"
        found = machine.parse_cpu(text)
        self.assertEqual((found["model"], found["ciphers"]), ("A CPU", "aes avx2"))
        self.assertEqual(found["hypervisor"], "under a hypervisor")
        self.assertEqual(machine.memory_gib("MemTotal: 8388608 kB\n"), 8)


class Setups(unittest.TestCase):
    def test_drivers_and_words_are_read_and_said_again(self) -> None:
        for text in (
            "tap+udp",
            "tap+afxdp-udp/normal",
            "xdp+afxdp/spin",
            "auto+auto/adaptive/realtime",
            "tap+afxdp/normal",
        ):
            self.assertEqual(parse_setup(text).name, text)

    def test_what_is_not_known_is_refused(self) -> None:
        wrong = ("", "tap", "udp+tap", "tap+afxdp-", "tap+afxdp-dpdk", "tap+udp/fast", "tap+udp/")
        for text in (*wrong, "tap+udp/spin/sleep"):
            with self.assertRaises(ValueError, msg=text):
                parse_setup(text)

    def test_only_what_is_said_is_written(self) -> None:
        me = Identity("left", "192.0.2.1", ("10.7.0.1/24",), "key")
        plain = render_config("f", me, [], SOCKET)
        self.assertNotIn("driver", plain)
        setup = parse_setup("tap+udp/sleep")
        text = render_config("f", me, [], SOCKET, setup.lines(), setup.drivers)
        self.assertIn("  interface: eth0\n  driver: udp\n", text)
        self.assertIn("  - interface: omni0\n    driver: tap\n", text)
        self.assertIn("workers:\n  poll: sleep\n", text)
        self.assertEqual(setup.drivers, Drivers("tap", "udp"))

    def test_wires_differ_in_offloads_alone(self) -> None:
        self.assertEqual(offload_command("eth0", Wire.WHOLE), [])
        cut = offload_command("eth0", Wire.CUT)
        self.assertEqual(cut[cut.index("gro") + 1], "off")
        joined = offload_command("eth0", Wire.CUT_GRO)
        self.assertEqual(joined[joined.index("gro") + 1], "on")
        self.assertEqual(joined[joined.index("gso") + 1], "off")


class Arguments(unittest.TestCase):
    def test_quick_is_one_short_round_on_one_wire(self) -> None:
        found = parse_arguments("", ["--quick", "--rounds", "9"])
        self.assertEqual((found.rounds, found.seconds, found.wires), (1, 1.0, ["cut"]))

    def test_all_peers_are_all(self) -> None:
        self.assertIn("fastd", parse_arguments("", ["--peers", "all"]).peers)
        self.assertEqual(parse_arguments("", []).peers, [])


class Report(unittest.TestCase):
    def test_cells_have_three_digits_and_the_spread(self) -> None:
        self.assertEqual(compare_report.cell(None), "-")
        self.assertEqual(compare_report.cell(spread([0.4567])), "0.46")
        self.assertEqual(compare_report.cell(spread([1.0, 12.34, 123.4])), "12.3 [1.00-123]")
        self.assertEqual(compare_report.cell(spread([12345.6])), "12,346")

    def test_tables_show_who_was_measured_and_only_those(self) -> None:
        made = results(tcp={"a": {1: 2.0}}, memory={"a": {1: 9.0}, "b": {1: 9.0}})
        text = "\n".join(compare_report.tables(made, ["a", "b"], "cut"))
        self.assertIn("| a ", text)
        self.assertNotIn("| b ", text)
        self.assertEqual(compare_report.tables(made, ["a"], "whole"), [])

    def test_ratios_leave_out_what_they_are_ratios_to(self) -> None:
        made = results(tcp={"a": {1: 2.0}, "b": {1: 4.0}})
        rows = compare_report.ratios(made, ["a", "b"], "cut", "b")[-1:]
        self.assertEqual([cell.strip() for cell in rows[0].split("|")[1:3]], ["a", "0.50"])
        self.assertEqual(compare_report.ratios(made, ["b"], "cut", "b"), [])


if __name__ == "__main__":
    unittest.main()
