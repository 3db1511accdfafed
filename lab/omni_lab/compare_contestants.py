"""Contestants: what carries traffic from one host to the other. Here those of the kernel, and what
all have in common.
"""

from __future__ import annotations

import enum
import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from . import commands, compare_pair, netns
from .compare_pair import MTU, End, Pair
from .node import Node

# IPv4, UDP and VXLAN headers, and the inner Ethernet header.
VXLAN_OVERHEAD = 20 + 8 + 8 + 14
VXLAN_ID = 7
VXLAN_PORT = 4789
START_SECONDS = 15.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.05
LOG_TAIL_LINES = 6


# Where programs of crates are installed.
CRATES = Path(__file__).resolve().parents[2] / "target" / "peers"
# Daemons are not in everybody's path.
SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", str(CRATES / "bin")])


class ContestError(Exception):
    """A contestant does not do what it should. The text says which and what."""


@dataclass(frozen=True)
class Package:
    """What a program comes with: a Debian package, or a crate."""

    name: str
    crate: bool = False


class Kind(enum.Enum):
    """What a contestant is to be compared with."""

    BARE = "the wire itself"
    PLAIN = "layer 2 in plaintext"
    OMNI = "omni"
    LAYER2 = "encrypted layer 2"
    PARTS = "layer 2 out of parts"
    LAYER3 = "encrypted layer 3"


@dataclass
class Link:
    """A contestant at work: where its other end is reached, and what it consists of."""

    left: str
    right: str
    # Its processes on both hosts; none where it is the kernel's.
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    # Its nodes, where it counts what it drops.
    nodes: list[Node] = field(default_factory=list)


class Contestant(ABC):
    """Something that carries traffic, and can be set up on any pair of hosts."""

    name: str
    kind: Kind
    # How it is set up, for who reads the results.
    about: str
    # Commands that it needs, and what each comes with.
    programs: Mapping[str, Package] = {}
    # What it does at first is not measured.
    settle_seconds = 0.5

    def missing(self) -> str | None:
        """Why it cannot take part, None when it can."""
        lacking = [each for each in self.programs if not os.path.isabs(find_program(each))]
        return f"{lacking[0]} is not installed" if lacking else None

    def version(self) -> str:
        """Which version it is, empty when it says none."""
        return ""

    @abstractmethod
    def up(self, stack: ExitStack, pair: Pair) -> Link:
        """Sets it up. `stack` takes it down again."""


class Bare(Contestant):
    """The underlay itself: what all others are built on."""

    name, kind = "bare veth", Kind.BARE
    about = "the underlay itself, no contestant on it"

    def up(self, stack: ExitStack, pair: Pair) -> Link:
        return Link(pair.left.underlay, pair.right.underlay)


class Vxlan(Contestant):
    """The kernel's VXLAN, in plaintext."""

    kind = Kind.PLAIN

    def __init__(self, name: str = "vxlan", software_gso: bool = False) -> None:
        self.name, self.software_gso = name, software_gso
        self.about = f"kernel VXLAN, MTU {MTU - VXLAN_OVERHEAD}, " + (
            "its own segmentation offloads on, on every wire"
            if software_gso
            else "without offloads of its own on cut wires"
        )

    def up(self, stack: ExitStack, pair: Pair) -> Link:
        add_vxlan(pair, {end.name: end.underlay for end in pair.ends}, MTU - VXLAN_OVERHEAD)
        if not self.software_gso:
            for end in pair.ends:
                compare_pair.set_offloads(end.namespace, "vxlan0", pair.wire)
        return Link(pair.left.overlay, pair.right.overlay)


def add_vxlan(pair: Pair, outer: Mapping[str, str], mtu: int) -> None:
    """A VXLAN device on both hosts, between the addresses `outer` of the ends' names."""
    for end in pair.ends:
        remote = outer[pair.other(end).name]
        addresses = ("local", outer[end.name], "remote", remote, "dstport", str(VXLAN_PORT))
        device = ("link", "add", "vxlan0", "type", "vxlan", "id", str(VXLAN_ID))
        commands.run(end.namespace.ip(*device, *addresses))
        configure(end, "vxlan0", mtu)


def configure(end: End, interface: str, mtu: int | None) -> None:
    """Gives an interface the host's address on the overlay, and sets it up."""
    ip = end.namespace.ip
    commands.run(ip("address", "replace", end.overlay_prefix, "dev", interface))
    size = ("mtu", str(mtu)) if mtu else ()
    commands.run(ip("link", "set", interface, *size, "up"))


def start(
    stack: ExitStack, end: End, command: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a program in the foreground on a host; its log goes to a file."""
    with (end.folder / "log").open("ab") as log:
        try:
            process = subprocess.Popen(
                end.namespace.inside("env", *pairs(environment or {}), *command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=end.folder,
                # Ctrl-C is for the comparison, which then ends all in order.
                start_new_session=True,
            )
        except OSError as error:
            raise ContestError(f"{command[0]}: {error}") from error
    stack.callback(stop, process)
    return process


def pairs(environment: Mapping[str, str]) -> list[str]:
    """As `env` takes them."""
    return [f"{name}={value}" for name, value in environment.items()]


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a program for certain: asked first."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for_interface(end: End, interface: str, process: subprocess.Popen[bytes]) -> None:
    """Waits until a program has made its interface."""
    deadline = time.monotonic() + START_SECONDS
    while netns.link(end.namespace, interface) is None:
        check_running(end, process)
        if time.monotonic() > deadline:
            raise ContestError(f"no {interface} after {START_SECONDS:g} s; {last_words(end)}")
        time.sleep(POLL_SECONDS)


def check_running(end: End, process: subprocess.Popen[bytes]) -> None:
    """Raises the error of a program that ended by itself."""
    if (status := process.poll()) is not None:
        raise ContestError(f"it ended on {end.name} with exit status {status}; {last_words(end)}")


def last_words(end: End) -> str:
    """The last of what a program said on a host, in one line."""
    log = end.folder / "log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "its last words: " + (" | ".join(lines[-LOG_TAIL_LINES:]) or "none")


def find_program(name: str) -> str:
    """Where a program is; the name itself where it is not found."""
    return shutil.which(name, path=SEARCHED) or name


def first_line(command: Sequence[str]) -> str:
    """The first line that a command says, for its version; empty when it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""
