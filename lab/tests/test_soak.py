"""What a soak makes of its samples, without any program."""

import unittest

from omni_lab import soak_figures
from omni_lab.soak_figures import Book, Fault, Sample

UMEM = {
    "frames_total": 10,
    "frames_free": 4,
    "frames_receiving": 3,
    "frames_sending": 2,
    "frames_held": 1,
}


def book_of(resident: list[float], descriptors: list[int]) -> Book:
    """A book of 400 s with a node that has such memory and descriptors, one after the other."""
    book = Book(400.0)
    step = book.seconds / len(resident)
    both = zip(resident, descriptors, strict=True)
    book.samples["n1"] = [
        Sample(number * step, mib, count) for number, (mib, count) in enumerate(both)
    ]
    book.checks = 400
    return book


def met(book: Book, name: str) -> bool:
    """Whether the figure that begins so is met."""
    (figure,) = [each for each in soak_figures.figures(book) if each.name.startswith(name)]
    return figure.met


class Census(unittest.TestCase):
    def test_all_frames_are_somewhere(self) -> None:
        self.assertIsNone(soak_figures.census_error(UMEM, {"unsound": 0}))

    def test_a_frame_is_missing_or_there_twice(self) -> None:
        for held in (0, 2):
            error = soak_figures.census_error(UMEM | {"frames_held": held}, {"unsound": 0})
            self.assertIn("of 10", error or "")

    def test_the_engine_found_it_itself(self) -> None:
        error = soak_figures.census_error(UMEM, {"unsound": 3})
        self.assertEqual(error, "frames did not add up 3 times")


class Growth(unittest.TestCase):
    def test_what_is_taken_in_the_first_quarter_is_no_growth(self) -> None:
        book = book_of([10, 30, 30, 30, 30, 30, 30, 30], [20] * 8)
        self.assertTrue(met(book, "memory"))

    def test_a_leak_is_found(self) -> None:
        book = book_of([30, 31, 32, 33, 34, 35, 36, 37], [20] * 8)
        self.assertEqual(soak_figures.growth_mib(book, book.samples["n1"]), 4)
        self.assertFalse(met(book, "memory"))

    def test_descriptors_that_are_open_for_a_moment_count_nothing(self) -> None:
        self.assertTrue(met(book_of([30] * 8, [20, 20, 20, 21, 20, 20, 22, 20]), "descriptors"))
        self.assertFalse(met(book_of([30] * 8, [20, 20, 20, 21, 21, 21, 21, 21]), "descriptors"))

    def test_resident_memory_of_a_process(self) -> None:
        self.assertEqual(soak_figures.parse_status("Name:\tx\nVmRSS:\t   2048 kB\n"), 2.0)
        self.assertRaises(ValueError, soak_figures.parse_status, "Name:\tx\n")


class Faults(unittest.TestCase):
    def test_each_kind_has_its_limit(self) -> None:
        book = book_of([30] * 8, [20] * 8)
        book.faults = [
            Fault("flap", "n1", 10.0, 10.5, 11.4),
            Fault("remake", "n1", 20.0, 21.0, 25.9),
        ]
        self.assertTrue(met(book, "until traffic flows, flap"))
        self.assertTrue(met(book, "until traffic flows, remake"))
        book.faults += [Fault("flap", "n2", 30.0, 31.0, 32.1)]
        self.assertFalse(met(book, "until traffic flows, flap"))
        self.assertNotIn("stop", " ".join(each.name for each in soak_figures.figures(book)))

    def test_one_after_which_nothing_flows_misses_any_limit(self) -> None:
        book = book_of([30] * 8, [20] * 8)
        book.faults = [Fault("remake", "n1", 20.0, 21.0, None)]
        self.assertFalse(met(book, "until traffic flows, remake"))

    def test_spans_that_faults_touch_are_joined(self) -> None:
        faults = [
            Fault("flap", "n1", 10.0, 10.5, 11.0),
            Fault("flap", "n2", 12.5, 13.0, 14.0),
            Fault("stop", "n1", 30.0, 31.0, 31.0),
        ]
        self.assertEqual(soak_figures.near(faults), [(9.0, 15.0), (29.0, 32.0)])


class RoundTrips(unittest.TestCase):
    def book(self, last: float) -> Book:
        book = book_of([30] * 8, [20] * 8)
        book.answered = [(at / 10, 0.001 if at < 2700 else last) for at in range(4000)]
        return book

    def test_the_last_third_may_be_slower_by_a_fifth_and_a_millisecond(self) -> None:
        self.assertTrue(met(self.book(0.0021), "round trip p99.9, last"))
        self.assertFalse(met(self.book(0.0023), "round trip p99.9, last"))

    def test_what_a_fault_is_near_does_not_count(self) -> None:
        book = self.book(0.001)
        book.answered += [(350.0, 1.9)] * 100
        book.lost = [350.0] * 100
        self.assertFalse(met(book, "round trip p99.9, last"))
        self.assertFalse(met(book, "pings lost"))
        book.faults = [Fault("flap", "n1", 349.5, 350.0, 350.2)]
        self.assertTrue(met(book, "round trip p99.9, last"))
        self.assertTrue(met(book, "pings lost"))

    def test_without_any_there_is_no_success(self) -> None:
        book = book_of([30] * 8, [20] * 8)
        self.assertFalse(met(book, "round trip p99.9, last"))
        self.assertFalse(met(book, "pings lost"))


class Sums(unittest.TestCase):
    def test_what_engines_did_is_added(self) -> None:
        shown = [{"recovery": {"reopened": 2}}, {"recovery": {"reopened": 1, "unsound": 0}}]
        self.assertEqual(soak_figures.recovered(shown), {"reopened": 3, "unsound": 0})

    def test_a_line_of_the_minute(self) -> None:
        book = book_of([30.0] * 8, [20] * 8)
        book.faults = [Fault("flap", "n1", 30.0, 31.0, 31.5)]
        line = soak_figures.minute_line(book, 60.0)
        self.assertIn("1 faults, flows again after 0.50 s at most", line)
        self.assertIn("descriptors 20-20", line)
