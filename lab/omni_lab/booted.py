"""Hosts with a system of their own: systemd as the first process, in namespaces, on a clean Debian.

What a host changes goes to a folder beside the system that it began with, so that one system serves
many hosts, and nothing of a host is left when that folder is deleted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import commands
from .commands import CommandError
from .netns import Namespace

BOOT = Path(__file__).resolve().parents[2] / "scripts" / "package-test" / "boot.sh"
BOOT_SECONDS = 60.0
COMMAND_SECONDS = 180.0
CGROUPS = Path("/sys/fs/cgroup")
# Packages beyond the least that every system has.
PACKAGES = ("systemd", "systemd-sysv", "iproute2", "iputils-ping", "nftables")
# What a host has no use for without a terminal, and what would wait for a network in vain.
MASKED = ("console-getty.service", "systemd-networkd-wait-online.service")
# Changes by itself on a system that runs: not what a package leaves behind.
CHURN = (
    "/var/log",
    "/var/cache",
    "/var/lib/dpkg",
    "/var/lib/apt",
    "/var/lib/systemd",
    "/var/tmp",
    "/tmp",
    "/etc/passwd-",
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
    "/etc/.pwd.lock",
    "/etc/subuid-",
    "/etc/subgid-",
)


@dataclass(frozen=True)
class Booted:
    """A host that runs: the process identifier of its init, seen from outside."""

    name: str
    init: int
    root: Path

    def inside(self, *command: str) -> list[str]:
        """The command that runs `command` on the host."""
        return ["nsenter", "-t", str(self.init), "-m", "-p", "-n", "-u", "-i", "-r", "-w", *command]

    def shell(self, text: str, accept: tuple[int, ...] = (0,)) -> str:
        """Runs lines as root's shell in /root, up to the first that fails. Returns the output."""
        environment = ("env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin", "LANG=C.UTF-8")
        lines = self.inside(*environment, "bash", "-euc", f"cd /root\n{text}")
        return commands.run(lines, timeout=COMMAND_SECONDS, accept=accept)

    def files(self) -> set[str]:
        """All files and folders of the host that do not change by themselves."""
        text = self.shell("find / -xdev -path /root -prune -o -print; ls -d /run/omni || true")
        return {path for path in text.splitlines() if not path.startswith(CHURN)}


def make_system(archive: Path, suite: str, more: Sequence[str] = ()) -> None:
    """Makes a minimal Debian in an archive, with more packages, unless it is there from before."""
    if archive.exists():
        return
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_suffix(".part.tar")
    packages = ",".join((*PACKAGES, *more))
    try:
        commands.run(
            ["mmdebstrap", "--variant=minbase", f"--include={packages}", suite, str(part)],
            timeout=900,
        )
        part.rename(archive)
    finally:
        part.unlink(missing_ok=True)


def unpack(archive: Path, folder: Path) -> Path:
    """The system in a folder, for hosts to begin with."""
    folder.mkdir()
    commands.run(["tar", "-xf", str(archive), "-C", str(folder)], timeout=120)
    for unit in MASKED:
        (folder / "etc/systemd/system" / unit).symlink_to("/dev/null")
    return folder


def boot(stack: ExitStack, system: Path, folder: Path, name: str, network: Namespace) -> Booted:
    """Boots a host; `stack` ends it. Returns when its services run."""
    folders = [folder / name / part for part in ("upper", "work", "root")]
    for each in folders:
        each.mkdir(parents=True)
    groups = make_cgroups(stack, f"omni-lab-{name}")
    namespaces = ("--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child")
    command = ["unshare", *namespaces, str(BOOT), str(system), *map(str, folders), name]
    console = open(folder / name / "console", "wb")  # noqa: SIM115
    stack.callback(console.close)
    process = subprocess.Popen(
        network.inside(*command),
        stdin=subprocess.DEVNULL,
        stdout=console,
        stderr=console,
        start_new_session=True,
        preexec_fn=lambda: join(groups),
    )
    stack.callback(end, process)
    host = Booted(name, first_child(process), folders[2])
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        state = ""
        with contextlib.suppress(CommandError):
            state = commands.run(
                host.inside("systemctl", "is-system-running"), accept=(0, 1)
            ).strip()
        if state == "running":
            return host
        if state == "degraded" or process.poll() is not None:
            break
        time.sleep(0.2)
    console.flush()
    failed = ""
    with contextlib.suppress(CommandError):
        failed = commands.run(host.inside("systemctl", "--failed", "--no-pager", "--plain"))
    tail = (folder / name / "console").read_text(errors="replace")[-2000:]
    raise CommandError(f"{name} did not boot: {failed}{tail}")


def first_child(process: subprocess.Popen[bytes]) -> int:
    """The init: `unshare` has one child."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.05)
    raise CommandError("no process of the new host was seen")


def make_cgroups(stack: ExitStack, name: str) -> list[Path]:
    """A cgroup for a host in each hierarchy that its systemd uses; `stack` removes them."""
    whole = (CGROUPS / "cgroup.procs").exists()
    hierarchies = [CGROUPS] if whole else [CGROUPS / "systemd", CGROUPS / "unified"]
    made = []
    for hierarchy in hierarchies:
        if not (hierarchy / "cgroup.procs").exists():
            raise CommandError(f"{hierarchy} is no hierarchy of cgroups: systemd needs it")
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        stack.callback(remove_cgroup, group)
        made.append(group)
    return made


def join(groups: list[Path]) -> None:
    """Moves the process that calls into cgroups."""
    for group in groups:
        (group / "cgroup.procs").write_text(str(os.getpid()))


def remove_cgroup(group: Path) -> None:
    """Removes a cgroup with those in it, once their processes have gone."""
    deadline = time.monotonic() + 5
    while group.exists() and time.monotonic() < deadline:
        for each, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(each)
        time.sleep(0.05)
    if group.exists():
        print(f"left behind: {group}", flush=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a host: with its first process all others go."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def obstacle() -> str | None:
    """Why hosts cannot boot here."""
    if os.geteuid() != 0:
        return "this needs root"
    needed = ("mmdebstrap", "unshare", "nsenter", "dpkg-deb")
    missing = [tool for tool in needed if shutil.which(tool) is None]
    return f"{missing[0]} is missing: apt-get install mmdebstrap" if missing else None
