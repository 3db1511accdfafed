"""What `lab all` runs, and what it makes of the results."""

import argparse
import contextlib
import io
import unittest
from collections.abc import Sequence
from typing import Any

from omni_lab.bench import command_line, everything
from omni_lab.bench.everything import INTERRUPTED, Step
from omni_lab.interrupt import Interrupted


def options(**changed: Any) -> argparse.Namespace:
    """As the command line gives them."""
    parser = argparse.ArgumentParser()
    everything.add_arguments(parser)
    found = parser.parse_args([])
    for name, value in changed.items():
        setattr(found, name, value)
    return found


def result(contestant: str, *jct_s: float, algorithm: str = "ring") -> dict[str, Any]:
    """What `lab allreduce` writes, as far as it is read."""
    sizes = [{"jct_ns": round(each * 1e9)} for each in jct_s]
    return {"contestant": contestant, "algorithm": algorithm, "sizes": sizes}


class Plan(unittest.TestCase):
    """The steps."""

    def test_every_step_is_a_command_that_the_lab_knows(self) -> None:
        for nodes in (4, 7, 10, 100):
            wanted = options(nodes=nodes)
            for step in everything.plan(wanted, ["fastd", "wireguard"]):
                words = everything.named(wanted, step)
                with contextlib.redirect_stderr(io.StringIO()):
                    command_line.make_parser(words[0]).parse_args(words)

    def test_all_contestants_are_measured_alike(self) -> None:
        steps = everything.plan(options(), ["fastd"])
        words = [step.words for step in steps if "--over" in step.words]
        alike: dict[str, list[tuple[str, ...]]] = {}
        for each in words:
            at = each.index("--over")
            alike.setdefault(each[at + 1], []).append(each[:at] + each[at + 2 :])
        self.assertEqual(list(alike), ["omni", "bare", "vxlan", "fastd"])
        self.assertEqual(len({tuple(each) for each in alike.values()}), 1)

    def test_chaos_can_be_left_out(self) -> None:
        names = [step.words[0] for step in everything.plan(options(chaos=0.0), [])]
        self.assertNotIn("chaos", names)
        self.assertIn("chaos", [step.words[0] for step in everything.plan(options(), [])])


class Run(unittest.TestCase):
    """Steps that fail."""

    def run_with(self, statuses: Sequence[int], steps: Sequence[Step]) -> list[int]:
        """Runs steps that end with these. Returns those that ran."""
        left = iter(statuses)
        with contextlib.redirect_stdout(io.StringIO()):
            done = everything.run_all(options(), steps, lambda _: next(left))
        return [status for status, _ in done.values()]

    def test_the_rest_goes_on_unless_nothing_else_is_of_use(self) -> None:
        steps = [Step(("a",)), Step(("b",)), Step(("c",))]
        self.assertEqual(self.run_with([0, 1, 0], steps), [0, 1, 0])
        steps[1] = Step(("b",), vital=True)
        self.assertEqual(self.run_with([0, 1, 0], steps), [0, 1])

    def test_an_interrupted_step_ends_all(self) -> None:
        with self.assertRaises(Interrupted):
            self.run_with([0, INTERRUPTED, 0], [Step(("a",)), Step(("b",)), Step(("c",))])


class Figures(unittest.TestCase):
    """Job completion times beside each other."""

    def met(self, *results: dict[str, Any]) -> list[bool]:
        """Of those with a target."""
        found = everything.figures(everything.jct(results))
        return [figure.met for figure in found if figure.target]

    def test_ours_is_held_to_half_of_the_best_tunnels(self) -> None:
        others = [result("fastd", 3.0, 1.0), result("vpncloud", 2.0, 1.0), result("vxlan", 0.1)]
        self.assertEqual(self.met(result("omni tap+udp", 1.0, 0.4), *others), [True])
        self.assertEqual(self.met(result("omni tap+udp", 1.0, 0.6), *others), [False])
        within = result("wireguard", 4.0)
        self.assertEqual(self.met(result("omni tap+udp", 1.9), *others, within), [False, True])

    def test_what_is_missing_is_told(self) -> None:
        self.assertEqual(self.met(result("fastd", 1.0)), [False])
        self.assertEqual(self.met(result("omni", 1.0), result("vxlan", 1.0)), [])
        self.assertEqual(everything.jct([result("omni", 1.0, algorithm="tree")]), {})


if __name__ == "__main__":
    unittest.main()
