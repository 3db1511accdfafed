"""Some of the mistakes that `make mistakes` makes, those that take the shortest."""

import subprocess
import unittest
from pathlib import Path

from omni_lab import mistakes

from .built import PROGRAMS, obstacle

SCRIPT = Path(__file__).resolve().parents[1] / "mistakes.py"
SHORT = (
    "an unknown key",
    "others may read",
    "at both",
    "no such underlay",
    "taken",
    "is down",
    "ulimit -n",
    "firewall",
)
LONGEST_SECONDS = 60


class Words(unittest.TestCase):
    def test_all_words_have_to_be_in_one_line(self) -> None:
        lines = ["the port 51820", "is in use"]
        self.assertIsNone(mistakes.named(lines, ("51820", "in use")))
        both = "51820 is in use"
        self.assertEqual(mistakes.named([*lines, both], ("51820", "in use")), both)

    def test_there_are_fifteen_and_more_and_no_name_is_there_twice(self) -> None:
        names = [each.name for each in mistakes.MISTAKES]
        self.assertGreaterEqual(len(names), 15)
        self.assertEqual(len(names), len(set(names)))


@unittest.skipIf(obstacle() is not None, obstacle() or "")
class Mistakes(unittest.TestCase):
    def test_the_cause_is_named(self) -> None:
        done = subprocess.run(
            [str(SCRIPT), *SHORT, "--programs", str(PROGRAMS)],
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
