"""Whatever fails while the lab is made, what was made before is removed, the last first."""

import unittest
from collections.abc import Sequence
from contextlib import ExitStack

from omni_lab import netns
from omni_lab.commands import CommandError
from omni_lab.netns import Host

HOSTS = (Host("alpha", "192.0.2.1/30"), Host("beta", "192.0.2.2/30"))


class Recorder:
    """Notes commands in place of running them, and fails where it is told to."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at = fail_at
        self.calls = 0
        self.namespaces: list[str] = []
        self.deleted: list[str] = []

    def __call__(self, command: Sequence[str], *, timeout: float = 10.0) -> str:
        self.calls += 1
        if self.calls == self.fail_at:
            raise CommandError("told to fail")
        if list(command[:3]) == ["ip", "netns", "add"]:
            self.namespaces.append(command[3])
        if list(command[:3]) == ["ip", "netns", "delete"]:
            self.namespaces.remove(command[3])
            self.deleted.append(command[3])
        return ""


class CleanUp(unittest.TestCase):
    def test_all_namespaces_are_deleted_in_reverse(self) -> None:
        run = Recorder()
        with ExitStack() as stack:
            underlay = netns.build(stack, "omni-test", HOSTS, run)
            underlay.connect(run)
            self.assertEqual(underlay.ports(), ["to-alpha", "to-beta"])
            self.assertEqual(len(run.namespaces), 3)
        self.assertEqual(run.namespaces, [])
        expected = ["omni-test-beta", "omni-test-alpha", "omni-test-wire"]
        self.assertEqual(run.deleted, expected)

    def test_nothing_is_left_whichever_step_fails(self) -> None:
        whole = Recorder()
        with ExitStack() as stack:
            netns.build(stack, "omni-test", HOSTS, whole)
            steps = whole.calls
        for step in range(1, steps + 1):
            run = Recorder(fail_at=step)
            with self.assertRaises(CommandError), ExitStack() as stack:
                netns.build(stack, "omni-test", HOSTS, run)
            self.assertEqual(run.namespaces, [], f"step {step}")

    def test_a_namespace_that_was_there_before_is_not_deleted(self) -> None:
        run = Recorder(fail_at=1)
        with self.assertRaises(CommandError), ExitStack() as stack:
            netns.build(stack, "omni-test", HOSTS, run)
        self.assertEqual(run.deleted, [])

    def test_interface_names_fit_the_kernel(self) -> None:
        for host in HOSTS:
            self.assertLessEqual(len(netns.port_of(host.name)), 15)


if __name__ == "__main__":
    unittest.main()
