"""Questions as they are on the wire, and what is made of the times until they were answered."""

import unittest
from pathlib import Path

from omni_lab import resolution
from omni_lab.node import Identity, render_config
from omni_lab.resolution import Figures, Round

MAC, OTHER = b"\x02\x00\x00\x00\x00\x01", b"\x02\x00\x00\x00\x00\x02"
ADDRESS, TARGET = bytes([10, 7, 0, 10]), bytes([10, 7, 0, 110])


def reply(asked: bytes) -> bytes:
    """What the target of a request says to it."""
    message = resolution.MESSAGE.pack(
        1, 0x0800, 6, 4, resolution.REPLY, OTHER, asked[38:42], asked[6:12], asked[28:32]
    )
    return resolution.ETHERNET.pack(asked[6:12], OTHER, 0x0806) + message


def figures(*latencies: float, asked: int = 0, frames: int = 0, wrong: int = 0) -> Figures:
    return Figures.of([Round(asked or len(latencies), latencies, wrong, frames)])


class Frames(unittest.TestCase):
    def test_a_request_is_one_as_rfc_826_has_it(self) -> None:
        frame = resolution.request(MAC, ADDRESS, TARGET)
        self.assertEqual(len(frame), 60)
        self.assertEqual(frame[:14], b"\xff" * 6 + MAC + b"\x08\x06")
        self.assertEqual(frame[14:22], bytes([0, 1, 8, 0, 6, 4, 0, 1]))
        self.assertEqual(frame[22:42], MAC + ADDRESS + bytes(6) + TARGET)

    def test_an_answer_is_understood(self) -> None:
        answer = resolution.parse_answer(reply(resolution.request(MAC, ADDRESS, TARGET)))
        self.assertEqual(answer, (TARGET, OTHER, MAC))

    def test_what_is_no_answer_is_none(self) -> None:
        asked = resolution.request(MAC, ADDRESS, TARGET)
        answer = bytearray(reply(asked))
        self.assertIsNone(resolution.parse_answer(asked))
        self.assertIsNone(resolution.parse_answer(bytes(answer[:41])))
        for at in (12, 14, 16, 18, 19, 21):
            broken = answer.copy()
            broken[at] ^= 0x40
            self.assertIsNone(resolution.parse_answer(bytes(broken)), at)


class Times(unittest.TestCase):
    def test_percentiles_are_of_all_that_was_asked(self) -> None:
        self.assertEqual(figures(*range(1, 101)).percentile(50), 50)
        self.assertEqual(figures(*range(1, 101)).percentile(99), 99)
        self.assertEqual(figures(*range(1, 101)).percentile(100), 100)
        lossy = figures(*range(1, 99), asked=100)
        self.assertEqual(lossy.percentile(98), 98)
        self.assertIsNone(lossy.percentile(99))
        self.assertIsNone(figures(asked=1).percentile(50))

    def test_rounds_are_one_population(self) -> None:
        both = Figures.of([Round(2, (30.0, 10.0), 1, 5), Round(2, (20.0,), 0, 6)])
        self.assertEqual(both, Figures(4, (10.0, 20.0, 30.0), 1, 11))

    def test_the_histogram_counts_every_answer_once(self) -> None:
        most = resolution.BOUNDS_US
        counted = figures(1, most[0], most[0] + 1, most[-1], most[-1] + 1).histogram()
        self.assertEqual(counted[:2], [2, 1])
        self.assertEqual(counted[-2:], [1, 1])
        self.assertEqual(sum(counted), 5)

    def test_times_are_written_short(self) -> None:
        written = [resolution.duration(time) for time in (None, 12.4, 999.4, 1500)]
        self.assertEqual(written, ["-", "12 us", "999 us", "1.5 ms"])


class Verdict(unittest.TestCase):
    def test_all_well(self) -> None:
        self.assertEqual(resolution.misses(figures(1, 2), figures(3, 4, frames=4)), [])

    def test_each_miss_is_named(self) -> None:
        warm = figures(5, 6, asked=3, frames=1, wrong=1)
        found = "\n".join(resolution.misses(warm, figures(3, 4)))
        for words in ("1 ARP frames crossed", "1 of 3", "1 answers were wrong", "p50: 6 us"):
            self.assertIn(words, found)

    def test_the_table_has_a_line_for_each_kind_and_only_rows_with_answers(self) -> None:
        lines = resolution.table({"warm": figures(10), "off": figures(100, frames=2)})
        self.assertEqual(lines[1].split(), "warm 1 1 10 us 10 us 10 us 0".split())
        self.assertEqual(lines[2].split(), "off 1 1 100 us 100 us 100 us 2".split())
        self.assertEqual([line.split()[:2] for line in lines[-2:]], [["16", "us"], ["128", "us"]])

    def test_the_report_can_be_read_again(self) -> None:
        kept = figures(10, 20, asked=3).report()
        self.assertEqual((kept["asked"], kept["answered"], kept["max_us"]), (3, 2, None))


class Configuration(unittest.TestCase):
    def test_nothing_is_limited_and_suppression_is_as_wanted(self) -> None:
        me, peer = Identity("a", "192.0.2.1", (), "A"), Identity("b", "192.0.2.2", (), "B")
        text = render_config("arp", me, [peer], Path("omni.sock"))
        changed = resolution.with_switch(text, "off")
        self.assertEqual(changed.count("    bum_pps: off\n"), 2)
        self.assertIn("  - interface: omni0\n    bum_pps: off\n", changed)
        self.assertTrue(changed.endswith("switch:\n  suppression: off\n"))
        self.assertIn("switch:\n  suppression: on\n", resolution.with_switch(text, "on"))


if __name__ == "__main__":
    unittest.main()
