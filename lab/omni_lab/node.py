"""A node: its keys, its fabric.yaml, its engine's process, and what it shows."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import commands, control, netns
from .netns import Namespace

PORT = 51820
ACCESS = "omni0"
START_SECONDS = 15.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.05
LOG_TAIL_LINES = 25
READY = re.compile(r"\bready\b")


class NodeError(Exception):
    """A node does not do what it should. The text says which and what."""


@dataclass(frozen=True)
class Programs:
    """The programs under test."""

    engine: Path
    omni: Path

    def obstacles(self) -> list[str]:
        """What keeps them, and the Nucleus beside them, from running at all."""
        found = []
        if os.geteuid() != 0:
            found.append("it makes network namespaces and loads XDP programs: run it as root")
        for program in (self.engine, self.omni, self.engine.with_name("omni-nucleus")):
            if not os.access(program, os.X_OK):
                found.append(f"{program} is not built: `make build` builds it")
        return found


def add_programs(parser: argparse.ArgumentParser) -> None:
    """The option of scripts that says where the programs are."""
    parser.add_argument(
        "--programs",
        type=Path,
        default=Path(__file__).resolve().parents[2] / "target" / "release",
        metavar="FOLDER",
        help="where omni-engine, omni and omni-nucleus are (target/release)",
    )


@dataclass(frozen=True)
class Identity:
    """Who a node is, and where it is reached."""

    name: str
    underlay: str
    access: tuple[str, ...]
    public_key: str


@dataclass(frozen=True)
class Drivers:
    """How a node moves frames: `access[].driver`, `underlay.driver` and `underlay.send`."""

    access: str = "auto"
    underlay: str = "auto"
    # None: as `underlay`.
    send: str | None = None

    def underlay_lines(self) -> list[str]:
        """What fabric.yaml says of the underlay."""
        lines = [f"  driver: {self.underlay}"]
        return lines + [f"  send: {self.send}"] if self.send else lines


def render_config(
    fabric: str,
    me: Identity,
    peers: Sequence[Identity],
    socket: Path,
    more: Sequence[str] = (),
    drivers: Drivers | None = None,
) -> str:
    """A fabric.yaml that says only what must be said: all else is the engine's defaults.

    What the node remembers stays beside its key, so that the lab leaves nothing in /var/lib.
    `more` are further lines, such as those that lead to the others where `peers` does not.
    """
    addresses = ", ".join(f'"{address}"' for address in me.access)
    lines = [
        f"fabric: {fabric}",
        "node:",
        f"  name: {me.name}",
        f"  private_key_file: {me.name}.key",
        f"  state_file: {me.name}.state",
        "underlay:",
        f"  interface: {netns.UNDERLAY}",
        *(drivers.underlay_lines() if drivers else []),
        "access:",
        f"  - interface: {ACCESS}",
        *([f"    driver: {drivers.access}"] if drivers else []),
        f"    addresses: [{addresses}]",
        *more,
    ]
    if peers:
        lines.append("peers:")
    for peer in peers:
        lines += [
            f"  - name: {peer.name}",
            f'    public_key: "{peer.public_key}"',
            f'    endpoint: "{peer.underlay}:{PORT}"',
        ]
    lines += ["control:", f'  socket: "{socket}"']
    return "\n".join(lines) + "\n"


def write_private(path: Path, text: str) -> None:
    """Writes a file that its owner alone can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


class Node:
    """A node in its namespace, with a folder of its own for all its files."""

    def __init__(self, name: str, namespace: Namespace, folder: Path, programs: Programs) -> None:
        self.name, self.namespace, self.folder = name, namespace, folder
        self.programs = programs
        self.config = folder / "fabric.yaml"
        self.socket = folder / "omni.sock"
        self.log = folder / "engine.log"
        self.process: subprocess.Popen[bytes] | None = None

    def make_keys(self) -> str:
        """Writes the private key, readable by its owner alone. Returns the public key."""
        private = commands.run([str(self.programs.omni), "keygen"])
        write_private(self.folder / f"{self.name}.key", private)
        return commands.run([str(self.programs.omni), "pubkey"], stdin=private).strip()

    def command(self) -> list[str]:
        """The command that starts the engine."""
        return self.namespace.inside(str(self.programs.engine), "--config", str(self.config))

    def start(self) -> None:
        """Starts the engine; its log goes to a file."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the lab, which then stops the engines in order.
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Waits for the log line `ready`."""
        process, deadline = self.running(), time.monotonic() + START_SECONDS
        while not READY.search(self.log.read_text(errors="replace")):
            status = process.poll()
            if status is not None:
                raise NodeError(f"{self.name}: the engine ended with exit status {status}")
            if time.monotonic() > deadline:
                raise NodeError(f"{self.name}: the engine is not ready after {START_SECONDS:g} s")
            time.sleep(POLL_SECONDS)

    def wait_established(self) -> None:
        """Waits for a session with every peer."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            states = {peer["name"]: peer["state"] for peer in self.show()["peers"]}
            if states and all(state == "established" for state in states.values()):
                return
            if time.monotonic() > deadline:
                raise NodeError(f"{self.name}: no session after {START_SECONDS:g} s: {states}")
            time.sleep(POLL_SECONDS)

    def show_command(self, *arguments: str) -> list[str]:
        """The command that shows the node's state."""
        return [str(self.programs.omni), "show", *arguments, "--socket", str(self.socket)]

    def show(self) -> dict[str, Any]:
        """The node's state."""
        shown: dict[str, Any] = json.loads(commands.run(self.show_command("--json")))
        return shown

    def look(self) -> dict[str, Any]:
        """The same without a process: for who looks many times a second."""
        shown = control.ask(self.socket, "show")
        if shown is None:
            raise NodeError(f"{self.name}: no answer on the control socket; {self.condition()}")
        return shown

    def access(self) -> dict[str, Any]:
        """What `ip` says of the access port."""
        link = netns.link(self.namespace, ACCESS)
        if link is None:
            raise NodeError(f"{self.name}: there is no {ACCESS}")
        return link

    def access_mac(self) -> bytes:
        """The MAC address of the access port."""
        return bytes.fromhex(self.access()["address"].replace(":", ""))

    def access_mtu(self) -> int:
        """The MTU of the access port."""
        return int(self.access()["mtu"])

    def running(self) -> subprocess.Popen[bytes]:
        """The engine's process."""
        if self.process is None:
            raise NodeError(f"{self.name}: the engine was not started")
        return self.process

    def stop(self) -> int:
        """Asks the engine to stop. Returns its exit status."""
        process = self.running()
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            reason = f"{self.name}: still running {STOP_SECONDS:g} s after SIGTERM"
            raise NodeError(reason) from error

    def leftovers(self) -> list[str]:
        """What a stopped engine should have removed, and has not."""
        found = []
        if netns.link(self.namespace, ACCESS) is not None:
            found.append(f"interface {ACCESS}")
        if self.socket.exists():
            found.append("control socket")
        if netns.has_xdp(self.namespace, netns.UNDERLAY):
            found.append(f"XDP program on {netns.UNDERLAY}")
        return found

    def kill(self) -> None:
        """Ends the engine for certain: asked first, so that it can clean up."""
        if self.process is None or self.process.poll() is not None:
            return
        try:
            self.stop()
        except NodeError:
            self.process.kill()
            self.process.wait()

    def condition(self) -> str:
        """Whether the engine runs."""
        status = None if self.process is None else self.process.poll()
        if status is not None:
            return f"the engine ended with exit status {status}"
        return "the engine was not started" if self.process is None else "the engine runs"

    def log_tail(self) -> list[str]:
        """The last lines of the log."""
        if not self.log.exists():
            return []
        return self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
