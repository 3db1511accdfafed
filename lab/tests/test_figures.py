"""Targets are missed where they are missed, and percentiles count what never came."""

import unittest

from omni_lab import figures
from omni_lab.figures import Figure


class Targets(unittest.TestCase):
    def test_at_the_target_is_met_and_beyond_is_not(self) -> None:
        self.assertTrue(Figure("f", 5.0, "s", at_most=5.0).met)
        self.assertFalse(Figure("f", 5.001, "s", at_most=5.0).met)
        self.assertTrue(Figure("f", 1, at_least=1).met)
        self.assertFalse(Figure("f", 0, at_least=1).met)

    def test_a_target_of_zero_is_a_target(self) -> None:
        self.assertTrue(Figure("lost", 0, at_most=0).met)
        self.assertFalse(Figure("lost", 1, at_most=0).met)

    def test_what_could_not_be_measured_misses_its_target(self) -> None:
        self.assertFalse(Figure("f", None, "s", at_most=5.0).met)
        self.assertFalse(Figure("f", None, at_least=1).met)

    def test_what_has_no_target_is_met(self) -> None:
        self.assertTrue(Figure("f", None).met)
        self.assertTrue(Figure("f", 1e9).met)


class Percentiles(unittest.TestCase):
    def test_nearest_rank(self) -> None:
        values = [float(value) for value in range(100, 0, -1)]
        self.assertEqual(figures.percentile(values, 50), 50)
        self.assertEqual(figures.percentile(values, 99), 99)
        self.assertEqual(figures.percentile(values, 100), 100)
        self.assertEqual(figures.percentile([7.0], 1), 7)

    def test_what_never_came_is_the_slowest(self) -> None:
        values = [1.0] * 98
        self.assertEqual(figures.percentile(values, 98, count=100), 1)
        self.assertIsNone(figures.percentile(values, 99, count=100))

    def test_of_nothing_there_is_none(self) -> None:
        self.assertIsNone(figures.percentile([], 50))

    def test_a_spread_misses_its_target_by_what_never_came(self) -> None:
        spread = figures.spread("f", [1.0, 2.0, 3.0], "s", count=4, p99_at_most=5.0)
        self.assertEqual([each.measured for each in spread], [2, None, None])
        self.assertEqual([each.met for each in spread], [True, False, True])


class Table(unittest.TestCase):
    def test_columns(self) -> None:
        measured = [
            Figure("pings lost", 3, at_most=0),
            Figure("rate", 1234.56, "Mb/s"),
            Figure("renewals", 2, at_least=1),
            Figure("first ping", 0.012345, "s", at_most=60),
        ]
        expected = [
            "figure       target    measured  ok",
            "pings lost     <= 0           3  NO",
            "rate                 1,235 Mb/s",
            "renewals       >= 1           2  yes",
            "first ping  <= 60 s    0.0123 s  yes",
        ]
        self.assertEqual(figures.table(measured), expected)

    def test_what_is_kept_says_whether_it_was_met(self) -> None:
        kept = figures.kept([Figure("lost", 1, at_most=0)])
        self.assertEqual((kept[0]["name"], kept[0]["measured"], kept[0]["met"]), ("lost", 1, False))


if __name__ == "__main__":
    unittest.main()
