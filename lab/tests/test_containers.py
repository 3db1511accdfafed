"""The image and its DaemonSet say the same, and the latter is what Kubernetes takes.

Where `kubernetes-validate` is installed (of PyPI, with the schemas of Kubernetes) it looks at the
whole file, for the oldest and the newest version that it knows. No cluster is needed, nor tried.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import containers
from omni_lab.commands import CommandError
from omni_lab.netns import Namespace

ROOT = Path(__file__).resolve().parents[2]
DAEMONSET = ROOT / "packaging/kubernetes/daemonset.yaml"
CONTAINERFILE = ROOT / "packaging/oci/Containerfile"
FILL = ROOT / "packaging/oci/root.sh"
VALIDATOR = shutil.which("kubernetes-validate")
OLDEST = "1.25"


def capabilities(pattern: str, text: str) -> set[str]:
    """The capabilities that a list in a file names."""
    found = re.search(pattern, text)
    if found is None:
        raise AssertionError(f"no {pattern}")
    return set(re.findall(r"[A-Z][A-Z_]+", found[1].upper().replace("CAP_", "")))


class Agreement(unittest.TestCase):
    def test_capabilities_of_the_program_the_container_and_the_pod_are_the_same(self) -> None:
        of_file = capabilities(r"setcap (\S+)=ep", FILL.read_text())
        self.assertEqual(len(of_file), 5)
        of_container = capabilities(r"--cap-add (\S+)", CONTAINERFILE.read_text())
        self.assertEqual(of_container, of_file, "or the program does not start")
        of_pod = capabilities(r"add: \[(.*)\]", DAEMONSET.read_text())
        self.assertEqual(of_pod, of_file, "or the program does not start")

    def test_the_image_has_the_version_of_the_programs(self) -> None:
        cargo = (ROOT / "Cargo.toml").read_text().split("[workspace.package]")[1]
        version = cargo.split('version = "')[1].split('"')[0]
        for path in (DAEMONSET, CONTAINERFILE):
            named = set(re.findall(r"omninervous:(\S+)", path.read_text()))
            self.assertEqual(named, {version}, path.name)

    def test_the_user_is_the_same(self) -> None:
        fill = re.search(r"^user=(\d+)$", FILL.read_text(), re.MULTILINE)
        assert fill is not None
        self.assertIn(f"USER {fill[1]}:{fill[1]}\n", CONTAINERFILE.read_text())
        self.assertIn(f"runAsUser: {fill[1]}\n", DAEMONSET.read_text())


class Printed(unittest.TestCase):
    """The command of the Containerfile that make image-test carries out."""

    def test_it_runs_an_engine_with_least_privileges(self) -> None:
        command = containers.printed_command()
        self.assertEqual(command[:2], ["run", "-d"])
        self.assertEqual(command[-2:], ["--config", "/etc/omni/fabric.yaml"])
        for word in ("--read-only", "--cap-drop", "--cap-add", containers.IMAGE):
            self.assertIn(word, command)

    def test_on_a_host_of_the_lab_only_its_place_is_another(self) -> None:
        command = containers.printed_command()
        changed = containers.on_host(command, "alpha", Namespace("lab-alpha"), Path("/made"))
        differ = [(old, new) for old, new in zip(command, changed, strict=True) if old != new]
        self.assertEqual(
            differ,
            [
                ("omni", "omni-lab-alpha"),
                ("host", "ns:/run/netns/lab-alpha"),
                ("/etc/omni:/etc/omni:ro", "/made/etc:/etc/omni:ro"),
                ("/var/lib/omni:/var/lib/omni", "/made/state:/var/lib/omni"),
            ],
        )

    def test_a_command_that_shares_nothing_with_the_host_is_an_error(self) -> None:
        with self.assertRaises(CommandError):
            containers.on_host(["run", "-d"], "alpha", Namespace("lab-alpha"), Path("/made"))


@unittest.skipIf(VALIDATOR is None, "kubernetes-validate is not installed: pip install it")
class Schema(unittest.TestCase):
    def validate(self, path: Path, *options: str) -> subprocess.CompletedProcess[str]:
        command = [str(VALIDATOR), "--strict", *options, str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def test_kubernetes_takes_the_daemonset(self) -> None:
        for options in (("-k", OLDEST), ()):
            done = self.validate(DAEMONSET, *options)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertEqual((done.stdout + done.stderr).count("passed for resource"), 2)

    def test_a_misspelt_field_is_found(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "wrong.yaml"
            path.write_text(DAEMONSET.read_text().replace("hostNetwork:", "hostNetworks:"))
            done = self.validate(path)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("hostNetworks", done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
