"""What `make fuzz` reads out of libFuzzer's output."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import sys
import tempfile
import unittest
from pathlib import Path
from types import ModuleType

PATH = Path(__file__).resolve().parents[2] / "fuzz" / "campaign.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_campaign", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Data classes look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


campaign = load()

ALONE = """INFO: seed corpus: files: 9 min: 1b max: 40b total: 200b rss: 30Mb
#10\tINITED cov: 100 ft: 200 corp: 9/200b exec/s: 0 rss: 31Mb
#64\tNEW    cov: 102 ft: 205 corp: 10/210b lim: 40 exec/s: 0 rss: 31Mb
#99\tREDUCE cov: 102 ft: 205 corp: 10/209b lim: 40 exec/s: 0 rss: 31Mb
#4096\tpulse  cov: 102 ft: 205 corp: 10/209b lim: 40 exec/s: 2048 rss: 31Mb
stat::number_of_executed_units: 5000
"""
FORKED = """#12: cov: 50 ft: 60 corp: 3 exec/s 12 oom/timeout/crash: 0/0/0 time: 1s job: 1
#90: cov: 55 ft: 66 corp: 4 exec/s 40 oom/timeout/crash: 0/0/0 time: 2s job: 2
#99: cov: 55 ft: 67 corp: 5 exec/s 40 oom/timeout/crash: 0/0/0 time: 3s job: 3
"""


class Reading(unittest.TestCase):
    def read(self, text: str) -> campaign.Outcome:  # type: ignore[name-defined]
        outcome = campaign.Outcome("inner", seconds=2.0)
        campaign.read(outcome, text.splitlines())
        return outcome

    def test_one_process(self) -> None:
        outcome = self.read(ALONE)
        self.assertEqual((outcome.coverage_before, outcome.coverage), (100, 102))
        self.assertEqual((outcome.executions, outcome.grew_at), (5000, 64))

    def test_several_processes(self) -> None:
        outcome = self.read(FORKED)
        self.assertEqual((outcome.coverage_before, outcome.coverage), (50, 55))
        self.assertEqual((outcome.executions, outcome.grew_at), (99, 90))

    def test_the_table_says_what_failed(self) -> None:
        good, bad = self.read(ALONE), self.read(FORKED)
        bad.status = 77
        lines = campaign.table([good, bad]).splitlines()
        self.assertEqual(len(lines), 3)
        self.assertTrue(lines[1].endswith("ok") and lines[2].endswith("FAILED (77)"))
        self.assertIn("5,000  2,500", lines[1])

    def test_when_the_last_edge_was_new(self) -> None:
        outcome = campaign.Outcome("inner")
        lines = ALONE.splitlines()
        campaign.read(outcome, lines[:2], 1.0)
        campaign.read(outcome, lines[2:3], 3.0)
        campaign.read(outcome, lines[3:], 10.0)
        self.assertEqual(outcome.grew_after, 3.0)


# In place of a target: says what libFuzzer would, and ends when it is told to.
PROGRAM = """#!/usr/bin/env python3
import signal, sys
def end(*_):
    print("stat::number_of_executed_units: 7", flush=True)
    sys.exit(0)
signal.signal(signal.SIGUSR1, end)
print("#5\\tINITED cov: 100 ft: 200", flush=True)
{then}
"""


class Running(unittest.TestCase):
    def run_one(self, then: str) -> campaign.Outcome:  # type: ignore[name-defined]
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "arp"
            program.write_text(PROGRAM.format(then=then))
            program.chmod(0o755)
            options = argparse.Namespace(
                programs=Path(folder), work=Path(folder), seconds=0, runs=0, timeout=1,
                memory=64, cores=1,
            )
            with contextlib.redirect_stdout(io.StringIO()):
                with contextlib.redirect_stderr(io.StringIO()):
                    return campaign.run("arp", options)

    def test_ends_by_its_time_on_the_processor(self) -> None:
        outcome = self.run_one("while True: pass")
        self.assertEqual((outcome.status, outcome.executions), (0, 7))
        self.assertGreater(outcome.seconds, 0.0)

    def test_a_crash_is_told(self) -> None:
        self.assertEqual(self.run_one("sys.exit(77)").status, 77)


if __name__ == "__main__":
    unittest.main()
