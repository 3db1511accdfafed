"""The page of a run has what was measured, says what was not, and survives what is broken."""

import argparse
import contextlib
import io
import json
import re
import tempfile
import unittest
from html.parser import HTMLParser
from pathlib import Path

from omni_lab.bench import report
from omni_lab.bench.report import drops_section, load, markdown, page, stages_section
from omni_lab.bench.state import LabError
from tests import lab_report_sample as sample

ANCHORS = [
    "headline",
    "disclosure",
    "all-reduce",
    "tail",
    "stages",
    "iperf",
    "arp",
    "drops",
    "timeline",
    "checks",
]
VOID = {"meta", "br", "line", "rect", "circle", "path", "img", "link"}


class Balanced(HTMLParser):
    """Whether each element is closed, and what elements refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.references: list[str] = []
        self.anchors: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        self.anchors += [value or "" for name, value in attrs if tag == "section" and name == "id"]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.wrong.append(f"<{tag}/>")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")


def parsed(html: str) -> Balanced:
    """The page as a browser would read it."""
    found = Balanced()
    found.feed(html)
    found.close()
    return found


def make(folder: Path) -> tuple[int, str, str]:
    """Makes a report. Returns the exit status, the page, and what it is in Markdown."""
    with contextlib.redirect_stdout(io.StringIO()):
        status = report.run(argparse.Namespace(folder=folder))
    html, text = (folder / f"report.{end}" for end in ("html", "md"))
    return status, html.read_text(), text.read_text()


class Folder(unittest.TestCase):
    """A run's folder for each test."""

    def setUp(self) -> None:
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        self.folder = Path(made.name)

    def put(self, name: str, data: object) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        (self.folder / f"{name}.json").write_text(text)

    def report(self) -> tuple[int, str, str]:
        return make(self.folder)


class Whole(unittest.TestCase):
    """A run in which all was measured, of which the report is made once."""

    folder: Path
    status: int
    html: str
    text: str

    @classmethod
    def setUpClass(cls) -> None:
        made = tempfile.TemporaryDirectory()
        cls.addClassCleanup(made.cleanup)
        cls.folder = Path(made.name)
        sample.write(cls.folder)
        cls.status, cls.html, cls.text = make(cls.folder)

    def test_all_sections_are_there_and_all_is_well(self) -> None:
        status, html, text = self.status, self.html, self.text
        self.assertEqual(status, 0)
        self.assertEqual(parsed(html).anchors, ANCHORS)
        self.assertNotIn("nothing was measured", html)
        self.assertEqual(text.count("\n## "), len(ANCHORS) - 1)
        self.assertIn("All 1", html)

    def test_recoveries_are_those_of_chaos(self) -> None:
        html = self.html
        self.assertIn("after 12 heals of 4 kinds of faults", html)
        self.assertIn("48,000 sent, 312 lost, 0 misdelivered", html)

    def test_every_element_is_closed(self) -> None:
        found = parsed(self.html)
        self.assertEqual((found.open, found.wrong), ([], []))

    def test_nothing_is_fetched_from_elsewhere(self) -> None:
        html = self.html
        found = parsed(html)
        self.assertTrue(found.references)
        self.assertEqual([each for each in found.references if not each.startswith("#")], [])
        self.assertEqual(
            {each.removeprefix("#") for each in found.references} - set(ANCHORS), set()
        )
        self.assertIsNone(re.search(r"https?:|url\(|@import", html))

    def test_a_contestant_has_one_colour(self) -> None:
        html = self.html
        classes = set(re.findall(r'class="key ([\w-]+)">fastd<', html))
        classes |= set(re.findall(r'swatch ([\w-]+)"></span>fastd<', html))
        self.assertEqual(classes, {"c3"})

    def test_the_same_run_makes_the_same_page(self) -> None:
        results = load.read(self.folder)
        pages = {page.page(*report.compose(results, "2026-01-01T00:00:00+00:00")) for _ in "ab"}
        self.assertEqual(len(pages), 1)

    def test_stages_have_their_contestant_from_the_name(self) -> None:
        results = load.read(self.folder)
        self.assertEqual([each.contestant for each in results.of("stages")], [sample.OURS])
        stages = stages_section.ordered(results.of("stages")[0])
        self.assertEqual([each["stage"] for each in stages], ["work", "send", "through", "through"])


class Broken(Folder):
    def test_names_mean_nothing_but_themselves(self) -> None:
        evil = '<script>alert("1")</script>|&'
        sample.write(self.folder)
        for path in self.folder.glob("*.json"):
            text = path.read_text().replace("fastd", "EVIL").replace("node3", "EVIL")
            path.write_text(text.replace("EVIL", json.dumps(evil)[1:-1]))
        status, html, text = self.report()
        self.assertEqual(status, 0)
        self.assertIn("&lt;script&gt;alert(", html)
        self.assertNotIn("<script>alert", html)
        self.assertEqual(parsed(html).wrong, [])
        self.assertNotIn("<script>", text)
        self.assertIn("\\<script\\>", text)

    def test_what_is_half_written_is_told_and_the_rest_shown(self) -> None:
        sample.write(self.folder)
        text = (self.folder / "iperf-fastd-matrix.json").read_text()
        self.put("iperf-fastd-matrix", text[: len(text) // 2])
        self.put("drops-lost", sample.head("drops") | {"nodes": []})
        status, html, text = self.report()
        self.assertEqual(status, 1)
        self.assertEqual(parsed(html).anchors, ANCHORS)
        for said in (html, text):
            self.assertIn("could not be read: iperf-fastd-matrix.json".replace("_", ""), said)
            self.assertIn("drops-lost.json", said)
        self.assertIn("frames_sent is missing", html)

    def test_what_is_not_there_is_left_out_with_its_command(self) -> None:
        self.put("disclosure", sample.disclosure())
        status, html, text = self.report()
        self.assertEqual(status, 0)
        self.assertEqual(parsed(html).anchors, ["disclosure"])
        for command in (
            "lab allreduce",
            "lab latency",
            "omni report",
            "lab iperf",
            "lab arp",
            "lab drops",
            "lab chaos",
        ):
            self.assertIn(f"<code>{command}", html)
            self.assertIn(f"`{command}", text)
        self.assertIn("Nothing of this run had a target.", text)

    def test_a_missed_target_is_the_verdict(self) -> None:
        missed = sample.figure("until all knew all", 61.0, 60.0, False)
        self.put("up", sample.head("up") | {"figures": [missed]})
        status, html, _ = self.report()
        self.assertEqual(status, 1)
        self.assertIn("1 of 1 checks missed their target: until all knew all.", html)

    def test_wrong_sums_and_unexplained_frames_miss(self) -> None:
        sample.write(self.folder)
        data = json.loads((self.folder / "allreduce-vxlan-ring.json").read_text())
        self.put("allreduce-vxlan-ring", data | {"wrong": 1})
        self.put("drops-omni-tap+udp-iperf-matrix", sample.drops("iperf matrix", 7, 5))
        status, html, _ = self.report()
        self.assertEqual(status, 1)
        self.assertIn("Wrong sums; Frames lost and unexplained.", html)

    def test_what_failed_says_why(self) -> None:
        figures = [sample.figure("ranks that failed", 1, 0, False)]
        failed = {"algorithm": "ring", "failed": ["rank 3 (node4): no answer"], "figures": figures}
        self.put("allreduce-vxlan-ring", sample.head("allreduce", "vxlan") | failed)
        status, html, text = self.report()
        self.assertEqual(status, 1)
        self.assertNotIn("could not be read", html)
        for said in (html, text):
            self.assertIn("rank 3 (node4): no answer", said)

    def test_a_folder_of_nothing_is_refused(self) -> None:
        for folder in (self.folder, self.folder / "away"):
            with self.assertRaises(LabError):
                report.run(argparse.Namespace(folder=folder))

    def test_empty_measurements_make_a_page(self) -> None:
        nothing = {"unit": "ns", "count": 0, "min": 0, "max": 0, "counts": []}
        self.put(
            "latency",
            sample.head("latency", "omni")
            | {
                "flows": [
                    {
                        "from": "a",
                        "to": "b",
                        "rate_per_s": 10,
                        "sent": 0,
                        "received": 0,
                        "late_sends": 0,
                        "histogram": nothing,
                    }
                ]
            },
        )
        self.put(
            "allreduce",
            sample.head("allreduce", "omni")
            | {
                "algorithm": "ring",
                "collective": "all-reduce",
                "ranks": 2,
                "iterations": 0,
                "sizes": [],
                "wrong": 0,
            },
        )
        self.put(
            "iperf",
            sample.head("iperf", "omni") | {"shape": "matrix", "protocol": "udp", "streams": []},
        )
        self.put(
            "arp",
            sample.head("arp", "omni")
            | {
                "suppression": "on",
                "hosts": 2,
                "asked": 0,
                "answered": 0,
                "wrong": 0,
                "fabric_frames": 0,
                "histogram": nothing,
            },
        )
        self.put(
            "stages",
            {"kind": "stages", "merged": [{"stage": "work", "side": None, "histogram": nothing}]},
        )
        self.put("events", sample.head("events") | {"events": []})
        self.put(
            "drops", sample.drops("x", 0, 0) | {"nodes": [], "frames_sent": 0, "frames_verified": 0}
        )
        status, html, _ = self.report()
        self.assertEqual(status, 0)
        found = parsed(html)
        self.assertEqual((found.open, found.wrong), ([], []))


class Shapes(unittest.TestCase):
    def refused(self, data: object) -> str:
        with self.assertRaises(ValueError) as caught:
            load.parse("name", data if isinstance(data, str) else json.dumps(data))
        return str(caught.exception)

    def test_the_place_of_what_is_wrong_is_named(self) -> None:
        data = sample.files()["iperf-vxlan-matrix"]
        data["streams"][3]["bps"] = "fast"
        self.assertIn("streams[3].bps", self.refused(data))
        del data["streams"][3]["bps"]
        self.assertIn("streams[3].bps is missing", self.refused(data))
        data["streams"] = {}
        self.assertIn("streams is no list", self.refused(data))

    def test_a_boolean_is_no_number(self) -> None:
        self.assertIn(
            "wrong type", self.refused(sample.files()["arp-omni-tap+udp-on"] | {"wrong": True})
        )

    def test_histograms_have_to_add_up(self) -> None:
        histogram = {"unit": "ns", "count": 3, "min": 1, "max": 2, "counts": [[1, 1], [2, 2]]}
        self.assertIsNone(load.fault(histogram, load.Histogram))
        for change, word in (
            ({"count": 4}, "together"),
            ({"unit": "us"}, "not in ns"),
            ({"counts": [[2, 2], [1, 1]]}, "ascend"),
            ({"counts": [[1, 1], [2]]}, "no value"),
            ({"counts": [[1, -1], [2, 4]]}, "no value"),
        ):
            self.assertIn(word, load.fault(histogram | change, load.Histogram) or "")

    def test_other_things_are_no_results(self) -> None:
        for data in (
            "",
            "[1]",
            "{}",
            '{"kind": 3}',
            '{"kind": "events", "events": [{"at_s": NaN}]}',
        ):
            self.refused(data)
        self.assertIsNone(load.parse("x", '{"kind": "of tomorrow"}'))


class Drops(Folder):
    def test_measurements_are_counted_once(self) -> None:
        self.put("drops-a", sample.drops("iperf pairs", 2, 2))
        self.put("drops-b", sample.drops("since the start", 9, 9))
        looks = drops_section.counted_once(load.read(self.folder))
        self.assertEqual([each.name for each in looks], ["drops-a"])
        self.assertEqual(drops_section.total(looks).lost, 2)


class Markdown(unittest.TestCase):
    def test_a_cell_cannot_end_its_row(self) -> None:
        self.assertEqual(markdown.escape("a|b\nc `d` #1"), "a\\|b c \\`d\\` \\#1")
