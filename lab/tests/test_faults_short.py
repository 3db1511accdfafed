"""A short form of the trials of faults, with whole programs: few kills, few restarts, and all that
may be missing. `make faults` is the long one.
"""

import signal
import subprocess
import time
import unittest
from pathlib import Path

from .built import PROGRAMS, obstacle

FAULTS = Path(__file__).resolve().parents[1] / "faults.py"
CYCLES = "10"
# Each driver of the underlay, and each of an access port.
KILLED, RESTARTED = "afxdp/xdp", "udp/tap"
LONGEST_SECONDS = 120


@unittest.skipIf(obstacle() is not None, obstacle() or "")
class Faults(unittest.TestCase):
    def command(self, *words: str) -> list[str]:
        return [str(FAULTS), *words, "--programs", str(PROGRAMS)]

    def run_trial(self, *words: str) -> None:
        """Runs a trial, which has to meet its targets."""
        done = subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_killed(self) -> None:
        self.run_trial("kill", "--cycles", CYCLES, "--ways", KILLED)

    def test_started_and_stopped(self) -> None:
        self.run_trial("restart", "--cycles", CYCLES, "--ways", RESTARTED)

    def test_what_is_missing_is_named(self) -> None:
        self.run_trial("missing")

    def test_nothing_is_left_when_it_is_interrupted(self) -> None:
        with subprocess.Popen(
            self.command("kill", "--ways", KILLED),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as trial:
            spaces = Path("/run/netns")
            deadline = time.monotonic() + LONGEST_SECONDS
            while not list(spaces.glob(f"omni-kill-{trial.pid}-beta")):
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
            time.sleep(0.5)
            trial.send_signal(signal.SIGINT)
            status = trial.wait(LONGEST_SECONDS)
        self.assertEqual(status, 130)
        self.assertEqual(list(spaces.glob(f"omni-kill-{trial.pid}-*")), [])


if __name__ == "__main__":
    unittest.main()
