"""A lab of four nodes, made and removed by its own commands. Nothing may be left of it."""

import json
import os
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from .built import PROGRAMS, obstacle

LAB = Path(__file__).resolve().parents[1] / "lab"
NODES = 4
PATIENCE_SECONDS = 15


@unittest.skipIf(obstacle() is not None, obstacle() or "")
class SmallLab(unittest.TestCase):
    def setUp(self) -> None:
        self.name = f"t{os.getpid()}"[:10]
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        self.folder = Path(made.name)
        self.addCleanup(self.lab, "down", expected=None)

    def command(self, *words: str) -> list[str]:
        return [str(LAB), words[0], "--name", self.name, *words[1:]]

    def lab(self, *words: str, expected: int | None = 0) -> str:
        """Runs a command of the lab, which must have that exit status."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=60, check=False
        )
        if expected is not None:
            self.assertEqual(done.returncode, expected, f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def up(self) -> list[str]:
        """What makes the lab."""
        options = ["--nodes", str(NODES), "--programs", str(PROGRAMS), "--run", str(self.folder)]
        return ["up", *options]

    def leftovers(self) -> list[str]:
        """What there is of the lab in the system."""
        spaces = [each.name for each in Path("/run/netns").glob(f"omni-{self.name}-*")]
        folders = [str(each) for each in Path("/run/omni-lab").glob(self.name)]
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if f"/run/omni-lab/{self.name}/".encode() in line:
                    found.append(f"process {entry.name}")
        return spaces + folders + found

    def test_all_of_it(self) -> None:
        self.lab(*self.up())
        self.assertEqual(len(self.leftovers()), 1 + (NODES + 2) + (NODES + 1))
        self.assertIn("another", self.lab("exec", "node1", "--", "echo", "another"))
        self.lab("exec", "node1", "--", "ping", "-c", "1", "-W", "2", "10.7.0.4")
        self.assertEqual(self.lab("exec", "node1", "--", "false", expected=1), "")
        said = self.lab("exec", "--all", "--", "hostname").splitlines()
        self.assertEqual(
            sorted(line.split()[0] for line in said),
            [f"node{number + 1}" for number in range(NODES)],
        )
        self.lab("check", "--pairs", "all", "--seconds", str(PATIENCE_SECONDS))
        rows = json.loads(self.lab("status", "--json"))
        self.assertEqual([row["established"] for row in rows], [NODES - 1] * NODES)
        self.lab("drops")
        told = json.loads((self.folder / "disclosure.json").read_text())
        self.assertEqual(len(told["nodes"]), NODES)
        self.lab(*self.up(), expected=1)
        self.lab("down")
        self.assertEqual(self.leftovers(), [])
        self.lab("down", expected=1)

    def test_nothing_is_left_when_it_is_interrupted(self) -> None:
        # Once early, once while programs start.
        for pause in (0.15, 0.4):
            with subprocess.Popen(
                self.command(*self.up()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as making:
                time.sleep(pause)
                making.send_signal(signal.SIGINT)
                status = making.wait(30)
            self.assertIn(status, (0, 130, -signal.SIGINT), pause)
            if status == 0:
                self.lab("down")
            self.assertEqual(self.leftovers(), [], pause)

    def test_what_a_killed_command_left_is_removed(self) -> None:
        with subprocess.Popen(
            self.command(*self.up()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as making:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not any("process" in each for each in self.leftovers()):
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
            making.kill()
        self.lab("down")
        self.assertEqual(self.leftovers(), [])


if __name__ == "__main__":
    unittest.main()
