"""A fabric's authority and its Nucleus, in a namespace of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import commands
from .netns import Namespace
from .node import POLL_SECONDS, START_SECONDS, STOP_SECONDS, NodeError, Programs, write_private

PORT = 51821
READY = re.compile(r"\bready\b")


@dataclass(frozen=True)
class Meeting:
    """What a node has to know to find the others."""

    # Of each Nucleus: where it is, and its public key.
    nuclei: tuple[tuple[str, str], ...]
    authority: str

    def lines(self, certificate: str) -> list[str]:
        """What a fabric.yaml says of it."""
        lines = ["nucleus:"]
        for endpoint, public_key in self.nuclei:
            lines += [f'  - endpoint: "{endpoint}"', f'    public_key: "{public_key}"']
        return [
            *lines,
            "authority:",
            f'  public_key: "{self.authority}"',
            f"  certificate_file: {certificate}",
        ]


class Authority:
    """The key that certifies members. It lies in a folder that no node reads."""

    def __init__(self, folder: Path, fabric: str, programs: Programs) -> None:
        self.key, self.fabric, self.omni = folder / "authority.key", fabric, str(programs.omni)
        made = commands.run([self.omni, "authority", "init", "--key", str(self.key)])
        self.public_key = made.strip()

    def enroll(self, name: str, public_key: str, certificate: Path) -> list[str]:
        """The command that makes a node's certificate."""
        options = ("--authority-key", str(self.key), "--fabric", self.fabric, "--name", name)
        command = [self.omni, "authority", "enroll", *options, "--key", public_key]
        return [*command, "-o", str(certificate)]


def render_nucleus(fabric: str, authority: str, socket: Path, etcd: Sequence[str] = ()) -> str:
    """A nucleus.yaml, with all its files beside it: on these members of etcd, else on the embedded
    store.
    """
    urls = ", ".join(f'"{url}"' for url in etcd)
    store = f"etcd: {{ endpoints: [{urls}] }}" if etcd else "redb: nucleus.redb"
    lines = [
        f"fabric: {fabric}",
        "private_key_file: nucleus.key",
        f"store: {{ {store} }}",
        f'authority: "{authority}"',
        f'control: {{ socket: "{socket}" }}',
    ]
    return "\n".join(lines) + "\n"


class Nucleus:
    """The rendezvous, with a folder of its own for all its files."""

    def __init__(self, namespace: Namespace, folder: Path, programs: Programs) -> None:
        self.namespace, self.folder, self.omni = namespace, folder, str(programs.omni)
        self.program = programs.engine.with_name("omni-nucleus")
        self.config, self.socket = folder / "nucleus.yaml", folder / "nucleus.sock"
        self.log = folder / "nucleus.log"
        self.process: subprocess.Popen[bytes] | None = None

    def make_keys(self) -> str:
        """Writes the private key. Returns the public key."""
        private = commands.run([self.omni, "keygen"])
        write_private(self.folder / "nucleus.key", private)
        return commands.run([self.omni, "pubkey"], stdin=private).strip()

    def command(self) -> list[str]:
        """The command that starts it."""
        return self.namespace.inside(str(self.program), "--config", str(self.config))

    def start(self) -> None:
        """Starts it, and waits until it is ready."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not READY.search(self.log.read_text(errors="replace")):
            status = self.process.poll()
            if status is not None:
                said = self.log.read_text(errors="replace").strip()
                raise NodeError(f"the Nucleus ended with exit status {status}: {said}")
            if time.monotonic() > deadline:
                raise NodeError(f"the Nucleus is not ready after {START_SECONDS:g} s")
            time.sleep(POLL_SECONDS)

    def ask_command(self, *what: str) -> list[str]:
        """The command that asks it: `members`, `bindings`, `watch`."""
        return [self.omni, "nucleus", *what, "--socket", str(self.socket)]

    def running(self) -> subprocess.Popen[bytes]:
        """Its process."""
        if self.process is None:
            raise NodeError("the Nucleus was not started")
        return self.process

    def stop(self) -> int:
        """Asks it to stop. Returns its exit status."""
        process = self.running()
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            reason = f"the Nucleus is still running {STOP_SECONDS:g} s after SIGTERM"
            raise NodeError(reason) from error

    def kill(self) -> None:
        """Ends it for certain."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
