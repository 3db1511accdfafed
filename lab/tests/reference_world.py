"""Engines and reference nodes on one wire, each in a network namespace of its own."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omni_lab import commands, netns
from omni_lab.netns import Host, Namespace
from omni_lab.node import ACCESS, PORT, START_SECONDS, Identity, Node, Programs, write_private
from reference.noise import make_private_key
from reference.x25519 import public_key

from .built import PROGRAMS

LAB = Path(__file__).resolve().parents[1]
REFERENCE = LAB / "reference" / "node.py"
FABRIC = "interop"
POLL_SECONDS = 0.02


class World:
    """The wire, and what is on it. `Leave` it by closing `stack`."""

    def __init__(self, stack: ExitStack, prefix: str, names: Sequence[str]) -> None:
        self.stack = stack
        made = stack.enter_context(tempfile.TemporaryDirectory())
        self.folder = Path(made)
        hosts = [Host(name, f"192.0.2.{at}/24") for at, name in enumerate(names, 1)]
        self.underlay = netns.build(stack, prefix, hosts)
        self.underlay.connect()
        self.identities: dict[str, Identity] = {}
        self.private: dict[str, bytes] = {}
        for at, name in enumerate(names, 1):
            private = make_private_key()
            self.private[name] = private
            key = base64.b64encode(public_key(private)).decode()
            self.identities[name] = Identity(name, f"192.0.2.{at}", (f"10.7.0.{at}/24",), key)
            write_private(self.folder / f"{name}.key", base64.b64encode(private).decode() + "\n")
        self.nodes: dict[str, Node | Reference] = {}

    def space(self, name: str) -> Namespace:
        """A host's namespace."""
        return self.underlay.hosts[name]

    def endpoint(self, name: str) -> str:
        """Where a host is on the underlay."""
        return f"{self.identities[name].underlay}:{PORT}"

    def psk(self, name: str) -> str:
        """Makes a preshared key of that name. Returns its file's."""
        path = self.folder / f"{name}.psk"
        write_private(path, base64.b64encode(os.urandom(32)).decode() + "\n")
        return path.name

    def engine(
        self,
        name: str,
        peers: Mapping[str, Mapping[str, str]],
        fabric: str = FABRIC,
        more: Sequence[str] = (),
    ) -> Node:
        """An engine that is not started yet. `peers` are names with what else is said of them."""
        programs = Programs(PROGRAMS / "omni-engine", PROGRAMS / "omni")
        node = Node(name, self.space(name), self.folder, programs)
        node.config = self.folder / f"{name}.yaml"
        node.socket, node.log = self.folder / f"{name}.sock", self.folder / f"{name}.log"
        me = self.identities[name]
        lines = [
            f"fabric: {fabric}",
            "node:",
            f"  name: {name}",
            f"  private_key_file: {name}.key",
            f"  state_file: {name}.state",
            "underlay:",
            f"  interface: {netns.UNDERLAY}",
            "access:",
            f"  - interface: {ACCESS}",
            f'    addresses: ["{me.access[0]}"]',
            *more,
            *(["peers:"] if peers else []),
        ]
        for peer, said in peers.items():
            lines += [f"  - name: {peer}", f'    public_key: "{self.identities[peer].public_key}"']
            lines += [f'    {key}: "{value}"' for key, value in said.items()]
        lines += ["control:", f'  socket: "{node.socket}"']
        node.config.write_text("\n".join(lines) + "\n")
        self.nodes[name] = node
        self.stack.callback(node.kill)
        return node

    def reference(
        self,
        name: str,
        peers: Mapping[str, Mapping[str, str]],
        fabric: str = FABRIC,
        **more: Any,
    ) -> Reference:
        """A reference node that is not started yet."""
        said = [
            {"name": peer, "public_key": self.identities[peer].public_key, **also}
            for peer, also in peers.items()
        ]
        settings = {
            "fabric": fabric,
            "name": name,
            "private_key_file": f"{name}.key",
            "interface": ACCESS,
            "addresses": list(self.identities[name].access),
            "state_file": f"{name}.state",
            "control": f"{name}.sock",
            "peers": said,
            **more,
        }
        config = self.folder / f"{name}.json"
        config.write_text(json.dumps(settings))
        node = Reference(name, self.space(name), config)
        self.nodes[name] = node
        self.stack.callback(node.kill)
        return node

    def ping(self, source: str, target: str, *options: str, accept: Sequence[int] = (0,)) -> str:
        """Pings a host's access address."""
        address = self.identities[target].access[0].split("/")[0]
        command = self.space(source).inside("ping", "-n", "-q", *options, address)
        return commands.run(command, timeout=20, accept=accept)

    def wait(self, wanted: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        """Waits until something holds."""
        deadline = time.monotonic() + seconds
        while not wanted():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}\n{self.situation()}")
            time.sleep(POLL_SECONDS)

    def situation(self) -> str:
        """What all nodes say, for who has to find out."""
        said = []
        for name, node in self.nodes.items():
            words = node.situation() if isinstance(node, Reference) else str(node.log_tail())
            said.append(f"{name}: {words}")
        return "\n".join(said)


class Reference:
    """A reference node's process."""

    def __init__(self, name: str, namespace: Namespace, config: Path) -> None:
        self.name, self.namespace, self.config = name, namespace, config
        self.socket = config.with_suffix(".sock")
        self.log = config.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; its log goes to a file."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.namespace.inside(sys.executable, str(REFERENCE), "--config", str(self.config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Waits for the log line `ready`."""
        deadline = time.monotonic() + START_SECONDS
        while "ready" not in self.log.read_text(errors="replace"):
            if self.process is None or self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended: {self.log.read_text(errors='replace')}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name} is not ready")
            time.sleep(POLL_SECONDS)

    def ask(self, command: str = "show") -> dict[str, Any]:
        """Asks it on its control socket."""
        with socket.socket(socket.AF_UNIX) as opened:
            opened.settimeout(5)
            opened.connect(str(self.socket))
            opened.sendall(json.dumps({"command": command}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(opened.makefile().readline())
        return answer

    def peer(self, name: str) -> dict[str, Any]:
        """What it says of a peer."""
        found: dict[str, Any] = next(p for p in self.ask()["peers"] if p["name"] == name)
        return found

    def established(self, name: str) -> bool:
        """Whether there is a session with a peer."""
        return bool(self.peer(name)["state"] == "established")

    def situation(self) -> str:
        """Its log and its state."""
        try:
            return f"{self.ask()} {self.log.read_text(errors='replace')}"
        except OSError as error:
            return f"{error}: {self.log.read_text(errors='replace')}"

    def stop(self) -> int:
        """Asks it to end. Returns its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def kill(self) -> None:
        """Ends it for certain."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
