#!/usr/bin/env python3
"""The container image, built and run as packaging/oci/Containerfile says: two nodes on one wire.

Packs the built programs, builds the image with podman, and starts a container by the very command
of the Containerfile on each of two hosts, which are network namespaces. Then the hosts ping each
other through the fabric, and it is looked at what the containers may do: which user, which
capabilities, whether their files can be written to. They are stopped, and nothing is left but the
image.

Needs root, podman and dpkg-dev. The base image comes from its registry; with --base ARCHIVE, a tar
of a Debian system (`mmdebstrap --variant=minbase bookworm debian.tar`), none is asked. Podman's
CONTAINERS_CONF chooses another runtime, or limits that this machine allows.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from omni_lab import commands, netns
from omni_lab.commands import CommandError
from omni_lab.interrupt import Interrupted, catch_signals, ignore_signals
from omni_lab.netns import Namespace
from omni_lab.node import add_programs

REPOSITORY = Path(__file__).resolve().parent.parent
CONTAINERFILE = REPOSITORY / "packaging" / "oci" / "Containerfile"
BASE = "docker.io/library/debian:12-slim"
IMAGE = "omninervous:0.1.0"
USER = 65532
UNDERLAY = {"alpha": "192.0.2.1", "beta": "192.0.2.2"}
INNER = {"alpha": "10.7.0.1", "beta": "10.7.0.2"}
BUILD_SECONDS = 600.0
START_SECONDS = 20.0
STOP_SECONDS_MAX = 5.0
# What the engine keeps once it serves, in its control thread: docs/operations.md, "What it needs".
KEPT = {"cap_net_admin", "cap_net_raw", "cap_bpf", "cap_ipc_lock"}
NUMBERS = {12: "cap_net_admin", 13: "cap_net_raw", 14: "cap_ipc_lock", 39: "cap_bpf"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    add_programs(parser)
    option("--base", type=Path, metavar="ARCHIVE", help="a system in place of debian:12-slim")
    option("--build", default="", metavar="OPTIONS", help="more options of podman build")
    option("--run", default="", metavar="OPTIONS", help="more options of podman run")
    return parser.parse_args()


def main() -> int:
    """Exit status 0 when all went as it should."""
    options = parse_arguments()
    if os.geteuid() != 0 or shutil.which("podman") is None:
        print("containers: needs root and podman: apt-get install podman", file=sys.stderr)
        return 1
    catch_signals()
    missed: list[str] = []
    try:
        build(options)
        with ExitStack() as stack:
            try:
                carry_out(stack, options, missed)
            finally:
                ignore_signals()
    except (CommandError, Interrupted) as error:
        print(f"containers: {error}", file=sys.stderr)
        return 1
    print("All as it should be." if not missed else f"Missed: {'; '.join(missed)}")
    return 1 if missed else 0


def podman(*arguments: str, timeout: float = 60.0) -> str:
    """Runs podman. Returns what it printed."""
    return commands.run(["podman", *arguments], timeout=timeout)


def build(options: argparse.Namespace) -> None:
    """The package of the programs, and the image of the package."""
    packages = REPOSITORY / "target" / "debian"
    script = str(REPOSITORY / "scripts" / "deb.sh")
    programs = str(options.programs.resolve())
    commands.run([script, "--programs", programs, "--output", str(packages)], timeout=300)
    if options.base is not None:
        podman("import", str(options.base), BASE, timeout=BUILD_SECONDS)
    more = shlex.split(options.build)
    file = str(CONTAINERFILE)
    podman("build", *more, "-f", file, "-t", IMAGE, str(REPOSITORY), timeout=BUILD_SECONDS)
    size = int(json.loads(podman("image", "inspect", IMAGE))[0]["Size"])
    print(f"image: {size / 1e6:.1f} MB", flush=True)


def printed_command() -> list[str]:
    """The command of the Containerfile that runs an engine."""
    text = CONTAINERFILE.read_text().replace("\\\n#", " ")
    found = re.search(r"^# +podman (run -d --name omni .*)$", text, re.MULTILINE)
    if found is None:
        raise CommandError(f"{CONTAINERFILE.name} has no command that runs an engine")
    return shlex.split(found[1])


def on_host(command: list[str], name: str, host: Namespace, folder: Path) -> list[str]:
    """The same command for one of several hosts on this machine."""
    changed = {
        "omni": f"omni-lab-{name}",
        "host": f"ns:{netns.NAMESPACES}/{host.name}",
        "/etc/omni:/etc/omni:ro": f"{folder}/etc:/etc/omni:ro",
        "/var/lib/omni:/var/lib/omni": f"{folder}/state:/var/lib/omni",
    }
    lost = changed.keys() - set(command)
    if lost:
        raise CommandError(f"the command that runs an engine lacks {', '.join(sorted(lost))}")
    return [changed.get(word, word) for word in command]


def prepare(folder: Path, programs: Path) -> dict[str, Path]:
    """A configuration with key and state for each host, as the image's user needs them."""
    keys, folders = {}, {}
    for name in UNDERLAY:
        folders[name] = folder / name
        (folder / name / "etc").mkdir(parents=True, mode=0o750)
        (folder / name / "state").mkdir(mode=0o700)
        private = commands.run([str(programs / "omni"), "keygen"])
        key = folder / name / "etc" / "node.key"
        key.touch(mode=0o600)
        key.write_text(private)
        keys[name] = commands.run([str(programs / "omni"), "pubkey"], stdin=private).strip()
    for name, other in (("alpha", "beta"), ("beta", "alpha")):
        (folders[name] / "etc" / "fabric.yaml").write_text(
            f"fabric: home\nnode:\n  name: {name}\n  private_key_file: node.key\n"
            f"underlay:\n  interface: {netns.UNDERLAY}\n"
            f"access:\n  - interface: omni0\n    addresses: [{INNER[name]}/24]\n"
            f'peers:\n  - name: {other}\n    public_key: "{keys[other]}"\n'
            f'    endpoint: "{UNDERLAY[other]}:51820"\n'
        )
        os.chown(folders[name] / "etc", 0, USER)
        os.chown(folders[name] / "etc" / "node.key", USER, USER)
        os.chown(folders[name] / "state", USER, USER)
    return folders


def carry_out(stack: ExitStack, options: argparse.Namespace, missed: list[str]) -> None:
    """Two containers, from their start until nothing is left of them."""

    def check(good: bool, text: str) -> None:
        print(f"  {'ok    ' if good else 'MISSED'}  {text}", flush=True)
        if not good:
            missed.append(text)

    work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omni-containers-")))
    folders = prepare(work, options.programs.resolve())
    on_wire = [netns.Host(name, f"{address}/24") for name, address in UNDERLAY.items()]
    underlay = netns.build(stack, "omni-containers", on_wire)
    underlay.connect()
    for name, host in underlay.hosts.items():
        command = on_host(printed_command(), name, host, folders[name])
        command[1:1] = shlex.split(options.run)
        print(f"{name}# podman {shlex.join(command)}", flush=True)
        stack.callback(remove, f"omni-lab-{name}")
        podman(*command)
    for name in UNDERLAY:
        wait_until_ready(f"omni-lab-{name}")
    answered = commands.run(
        underlay.hosts["alpha"].inside("ping", "-c", "5", "-i", "0.3", INNER["beta"]), timeout=30
    )
    check(" 0% packet loss" in answered, "alpha's host reaches beta's through the fabric")
    peers = json.loads(podman("exec", "omni-lab-alpha", "omni", "show", "--json"))["peers"]
    state = peers[0]["state"]
    check(state == "established", f"omni show within alpha's container: beta is {state}")
    for name in UNDERLAY:
        look_at(f"omni-lab-{name}", check)
    for name, host in underlay.hosts.items():
        begun = time.monotonic()
        podman("stop", f"omni-lab-{name}")
        seconds = time.monotonic() - begun
        status = podman("inspect", "-f", "{{.State.ExitCode}}", f"omni-lab-{name}").strip()
        text = f"{name}: podman stop took {seconds:.1f} s, exit status {status}"
        check(status == "0" and seconds <= STOP_SECONDS_MAX, text)
        check(netns.link(host, "omni0") is None, f"{name}: omni0 is gone")
        check(not netns.has_xdp(host, netns.UNDERLAY), f"{name}: no XDP program is left")


def wait_until_ready(container: str) -> None:
    """Returns once the engine answers; what it said is in the error."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            podman("exec", container, "omni", "show", "peers")
            return
        except CommandError as error:
            if time.monotonic() > deadline:
                said = commands.run(["sh", "-c", f"podman logs {container} 2>&1 | tail -n 5"])
                raise CommandError(f"{container}: {error}\n{said}") from error
            time.sleep(0.2)


def look_at(container: str, check: Callable[[bool, str], None]) -> None:
    """What the engine of a container may do."""
    process = podman("inspect", "-f", "{{.State.Pid}}", container).strip()
    text = Path(f"/proc/{process}/status").read_text()
    lines = (line.partition(":") for line in text.splitlines())
    status = {name: value.split() for name, _, value in lines}
    check(set(status["Uid"]) == {str(USER)}, f"{container}: user {status['Uid'][0]}")
    mask = int(status["CapEff"][0], 16)
    held = {NUMBERS.get(bit, str(bit)) for bit in range(64) if mask >> bit & 1}
    check(held == KEPT, f"{container}: capabilities {', '.join(sorted(held))}")
    check(status["NoNewPrivs"] == ["1"], f"{container}: it can gain none")
    check(status["Seccomp"] == ["2"], f"{container}: its system calls are filtered")
    root = Path(f"/proc/{process}/mountinfo").read_text().splitlines()
    whole = next(line.split() for line in root if line.split()[4] == "/")
    check("ro" in whole[5].split(","), f"{container}: its files cannot be written to")


def remove(container: str) -> None:
    """Removes a container, whatever it does."""
    commands.run(["podman", "rm", "-f", "-t", "0", container], timeout=60, accept=(0, 1))


if __name__ == "__main__":
    sys.exit(main())
