"""What the report calculates, and how it says numbers."""

import math
import unittest
from pathlib import Path
from typing import Any

from omni_lab.bench import histograms
from omni_lab.bench.report import headline, measures, svg, timeline_section, told_section, units
from omni_lab.bench.report.allreduce_section import compare
from omni_lab.bench.report.load import Result, Results
from omni_lab.bench.report.stages_section import explain


class Percentiles(unittest.TestCase):
    def test_they_are_of_merged_counts_and_never_averaged(self) -> None:
        quick = histograms.of([100] * 990)
        slow = histograms.of([900] * 10)
        both = histograms.merge([quick, slow])
        self.assertEqual(measures.told(both, 99), 100)
        self.assertEqual(measures.told(both, 99.9), 900)

    def test_what_has_no_sample_beyond_is_not_told(self) -> None:
        thousand = histograms.of(range(1, 1001))
        self.assertEqual(measures.told(thousand, 99.9), 999)
        self.assertIsNone(measures.told(thousand, 99.99))
        self.assertIsNone(measures.told(histograms.of(range(1, 1000)), 99.9))
        self.assertIsNone(measures.told(histograms.of([]), 50))

    def test_nearest_rank(self) -> None:
        values = [float(value) for value in range(1, 101)]
        self.assertEqual(measures.nearest_rank(values, 99), 99)
        self.assertEqual(measures.nearest_rank(values, 100), 100)
        self.assertEqual(measures.nearest_rank([7.0], 50), 7)
        self.assertIsNone(measures.nearest_rank([], 50))


class Steps(unittest.TestCase):
    def test_the_slowest_of_n_stays_below_it_so_often(self) -> None:
        self.assertEqual(measures.steps_quantile(1, 0.5), 0.5)
        for steps in (2, 14, 198):
            for part in (0.5, 0.99):
                self.assertAlmostEqual(measures.steps_quantile(steps, part) ** steps, part)

    def test_how_many_depend_on_each_other(self) -> None:
        found = {n: measures.steps_of("ring", n) for n in (1, 2, 8, 100)}
        self.assertEqual(found, {1: None, 2: 2, 8: 14, 100: 198})
        found = {n: measures.steps_of("tree", n) for n in (2, 7, 8, 100)}
        self.assertEqual(found, {2: 2, 7: 4, 8: 6, 100: 12})
        found = {n: measures.steps_of("halving-doubling", n) for n in (2, 6, 8, 100)}
        self.assertEqual(found, {2: 2, 6: 6, 8: 6, 100: 14})
        self.assertIsNone(measures.steps_of("pairwise", 8))

    def test_a_stage_of_both_ways_is_passed_twice(self) -> None:
        stages: list[dict[str, Any]] = [
            {"stage": "work", "side": None, "histogram": histograms.of([10] * 100)},
            {"stage": "through", "side": "access", "histogram": histograms.of([50] * 100)},
            {"stage": "through", "side": "underlay", "histogram": histograms.of([30] * 100)},
        ]
        found = explain(stages, allreduce("omni", [1000, 2000]))
        assert found is not None
        self.assertEqual(found.steps, 14)
        self.assertEqual([each.bound_ns for each in found.shares], [10 * 28, 50 * 14, 30 * 14])
        self.assertEqual(found.estimate_ns, 80 * 14)
        self.assertEqual(found.most, found.shares[0])

    def test_a_slow_iteration_has_met_one_slow_pass(self) -> None:
        stages: list[dict[str, Any]] = [
            {
                "stage": "through",
                "side": side,
                "histogram": histograms.of([10] * 990 + [slow] * 10),
            }
            for side, slow in (("access", 500), ("underlay", 400))
        ]
        found = explain(stages, allreduce("omni", [1000]))
        assert found is not None
        self.assertEqual(found.estimate_ns, 2 * 14 * 10 + (500 - 10))

    def test_few_iterations_have_no_p99(self) -> None:
        found = explain([], allreduce("omni", [1000, 2000]))
        assert found is not None
        self.assertEqual((found.sizes[0].slow_ns, found.sizes[0].name), (2000, "slowest"))

    def test_the_tail_of_a_stage_counts_and_not_its_median(self) -> None:
        histogram = histograms.of([10] * 900 + [1000] * 98 + [2000] * 2)
        stages: list[dict[str, Any]] = [{"stage": "work", "side": None, "histogram": histogram}]
        found = explain(stages, allreduce("omni", [10_000]))
        assert found is not None
        # The slowest of 14 is among the slowest tenth most of the time, and can be the very last.
        work = found.shares[0]
        self.assertEqual((work.median_ns, work.half_ns), (10, 1000))
        self.assertGreaterEqual(work.rare_ns, 2000)
        self.assertEqual(work.estimate_ns, 27 * 10 + work.rare_ns)


class Fairness(unittest.TestCase):
    def test_jain(self) -> None:
        self.assertEqual(measures.jain([5, 5, 5, 5]), 1)
        self.assertEqual(measures.jain([1, 0, 0, 0]), 0.25)
        self.assertAlmostEqual(measures.jain([1, 2]) or 0, 0.9)
        self.assertIsNone(measures.jain([0, 0]))
        self.assertIsNone(measures.jain([]))


def allreduce(contestant: str, times_ns: list[int], compute_ns: int = 0) -> Result:
    """A ring of eight ranks, of one size."""
    size = {
        "octets": 8,
        "jct_ns": sum(times_ns) + compute_ns,
        "iterations": [{"slowest_rank": 0, "ns": each, "per_rank_ns": []} for each in times_ns],
    }
    data = {"algorithm": "ring", "ranks": 8, "collective": "all-reduce", "sizes": [size]}
    return Result("x", "allreduce", data, contestant)


class Ratios(unittest.TestCase):
    def test_of_sums_with_an_interval_around(self) -> None:
        found = measures.ratio([3, 5, 4], [2, 2, 2])
        assert found is not None and found.low is not None and found.high is not None
        self.assertEqual(found.value, 2)
        self.assertLess(1.4, found.low)
        self.assertLess(found.low, 2)
        self.assertLess(2, found.high)
        self.assertEqual(found, measures.ratio([3, 5, 4], [2, 2, 2]))
        self.assertEqual(measures.ratio([4], [2]), measures.Ratio(2))
        self.assertIsNone(measures.ratio([4], []))

    def test_computation_is_part_of_a_job(self) -> None:
        found = compare(allreduce("omni", [200, 200], 600), allreduce("vxlan", [100, 100], 600))
        assert found is not None
        self.assertEqual(found.whole.value, 1000 / 800)
        self.assertEqual(found.sizes[8].value, 1000 / 800)

    def test_jobs_of_different_length_are_not_compared(self) -> None:
        self.assertIsNone(compare(allreduce("omni", [200]), allreduce("vxlan", [100, 100])))

    def test_who_was_the_slowest(self) -> None:
        iterations = [{"slowest_rank": rank} for rank in (0, 2, 2, 5)]
        self.assertEqual(measures.slowest_counts(iterations, 3), [1, 0, 2])


def reconcile(lost: int, drops: dict[str, int], never_sent: int = 0) -> measures.Reconciled:
    """Of two nodes that dropped the same together."""
    return measures.reconcile(
        {
            "frames_sent": 1000,
            "frames_verified": 1000 - lost,
            "frames_lost": lost,
            "frames_never_sent": never_sent,
            "nodes": [{"drops": drops}, {"drops": {}}],
        }
    )


class Reconciliation(unittest.TestCase):
    def test_what_is_lost_has_to_be_counted(self) -> None:
        self.assertEqual(reconcile(0, {}).unexplained, 0)
        self.assertEqual(reconcile(10, {}).unexplained, 10)
        self.assertEqual(reconcile(10, {"bad_tag": 4}).unexplained, 6)
        self.assertEqual(reconcile(0, {"bad_tag": 4}).unexplained, 0)
        self.assertEqual(reconcile(10, {"nonce_replayed": 10}).unexplained, 10)

    def test_ports_of_either_side_explain_as_far_as_they_go(self) -> None:
        drops = {"tx_ring_full": 50, "bad_tag": 4}
        found = reconcile(10, drops)
        self.assertEqual((found.on_the_way, found.either_side, found.unexplained), (4, 50, 0))
        self.assertEqual(reconcile(100, drops).unexplained, 46)

    def test_drops_of_the_access_side_explain_nothing(self) -> None:
        drops = {"source_mac_not_owned": 10, "port_rx_dropped": 10, "no_destination": 10}
        self.assertEqual(reconcile(10, drops).unexplained, 10)

    def test_what_nobody_sent_is_not_made_up_for(self) -> None:
        self.assertEqual(reconcile(0, {"tx_ring_full": 9}, never_sent=3).unexplained, 3)

    def test_counts_are_summed_by_reason(self) -> None:
        self.assertEqual(measures.summed([{"a": 1}, {"a": 2, "b": 3}, {}]), {"a": 3, "b": 3})


class Numbers(unittest.TestCase):
    def test_three_significant_digits(self) -> None:
        said = [units.digits(value) for value in (0, 1, 9.996, 99.96, 0.01234, -3.14159, 12345.6)]
        self.assertEqual(said, ["0", "1.00", "10.0", "100", "0.0123", "-3.14", "12,346"])

    def test_a_unit_that_fits(self) -> None:
        said = [units.duration(ns) for ns in (0, 999, 999.6, 1234, 999_700, 2.5e9, None)]
        self.assertEqual(said, ["0 ns", "999 ns", "1.00 µs", "1.23 µs", "1.00 ms", "2.50 s", "–"])
        self.assertEqual(units.bit_rate(1.944e9), "1.94 Gb/s")
        self.assertEqual(units.octet_rate(66.6e6), "66.6 MB/s")
        self.assertEqual(
            [units.size(each) for each in (8, 1000, 65536, 1 << 20)],
            ["8 B", "1,000 B", "64 KiB", "1 MiB"],
        )

    def test_shares(self) -> None:
        self.assertEqual(units.share(1, 8), "12.5 %")
        self.assertEqual(units.share(3, 1_000_000), "3.00 ppm")
        self.assertEqual(units.share(0, 0), "–")

    def test_round_numbers_on_axes(self) -> None:
        given = ("2.00 ms", "0.500", "1,000 B", "10.0", "1.25 s")
        said = [svg.rounded(words, 1.0) for words in given]
        self.assertEqual(said, ["2 ms", "0.5", "1,000 B", "10", "1.25 s"])
        self.assertEqual(svg.rounded("0 ns", 0), "0")


class Scales(unittest.TestCase):
    def test_nines_are_evenly_spaced(self) -> None:
        scale = svg.Nines(4)
        places = [scale.at(each) for each in (0, 0.9, 0.99, 0.999)]
        for place, wanted in zip(places, (0, 0.25, 0.5, 0.75)):
            self.assertAlmostEqual(place, wanted)
        self.assertEqual(
            [words for _, words in scale.ticks()], ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"]
        )

    def test_a_log_scale_holds_all_values(self) -> None:
        scale = svg.Log.around([3, 5000], units.duration)
        self.assertLess(0, scale.at(3))
        self.assertLess(scale.at(5000), 1)
        self.assertAlmostEqual(scale.at(math.sqrt(3 * 5000)), 0.5)
        self.assertIn("100 ns", [words for _, words in scale.ticks()])
        for values in ([], [0], [7, 7]):
            self.assertGreaterEqual(len(svg.Log.around(values, units.duration).ticks()), 1)

    def test_a_linear_scale_has_round_ticks(self) -> None:
        values = [value for value, _ in svg.Linear(0, 3.3, units.digits).ticks()]
        self.assertEqual(values, [0, 1, 2, 3])
        self.assertEqual(svg.Linear(0, 0, units.digits).at(0), 0)


class Recovery(unittest.TestCase):
    def results(self, recovered_s: list[float | None]) -> Results:
        heals = [
            {"round": number, "kinds": ["kill", "flap"], "at_s": 1.0, "recovered_s": took}
            for number, took in enumerate(recovered_s)
        ]
        told = {"at_s": 1.0, "what": "chaos kill", "recovered_s": 0.1}
        events = Result("events", "events", {"events": [told]})
        return Results(Path(), [events, Result("chaos", "chaos", {"heals": heals})])

    def test_the_heal_before_any_fault_does_not_count(self) -> None:
        found = timeline_section.recoveries(self.results([9.0, 1.0, 2.0]))
        self.assertEqual(found.every, [1.0, 2.0])
        self.assertEqual(found.by_what, {"kill": [1.0, 2.0], "flap": [1.0, 2.0]})

    def test_what_never_recovered_is_the_slowest(self) -> None:
        results = self.results([0.0, 1.0, None])
        found = timeline_section.recoveries(results)
        self.assertEqual(timeline_section.percentile(found.every, 50), 1.0)
        self.assertIsNone(timeline_section.percentile(found.every, 99))
        tile = headline.convergence(results)
        assert tile is not None
        self.assertEqual((tile.value, tile.verdict), ("never", "miss"))

    def test_without_chaos_events_tell(self) -> None:
        found = timeline_section.recoveries(self.results([]))
        self.assertEqual(found.every, [0.1])


class Caveats(unittest.TestCase):
    def test_a_busy_machine_is_told(self) -> None:
        for load_before, is_busy in (("4.52", True), ("0.40", False), ("?", False)):
            machine = {
                "CPU": "Some CPU, 2 cores, under a hypervisor",
                told_section.LOAD: load_before,
            }
            self.assertEqual(told_section.is_busy(machine), is_busy)
        self.assertFalse(told_section.is_busy({"CPU": "Some CPU"}))
