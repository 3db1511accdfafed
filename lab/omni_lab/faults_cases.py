"""An engine that is started where something is wrong: what it says, how it ends, what it leaves."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import commands, faults_kernel, netns
from .faults_kernel import wait
from .figures import Figure
from .netns import Host, Namespace
from .node import ACCESS, READY, Drivers, Identity, Node, Programs, render_config

ADDRESS, ACCESS_ADDRESS = "192.0.2.1", "10.7.0.1/24"
PEER_ADDRESS = "192.0.2.2"
FAIL_SECONDS = 15.0
GONE_SECONDS = 3.0
# Beside what was there before, a start may leave these in the node's folder.
KEPT = {"alpha.state", "engine.log"}
TAP = Drivers(access="tap", underlay="afxdp")
VETH = Drivers(access="xdp", underlay="afxdp")
SOCKETS = Drivers(access="tap", underlay="udp")


@dataclass(frozen=True)
class Case:
    """Something wrong, and what the engine has to say of it."""

    name: str
    # All in one line: the first error's, or with `status` None any of the log's.
    words: tuple[str, ...]
    # The exit status; None: it gets ready all the same.
    status: int | None = 1
    drivers: Drivers = TAP
    # What its command is run by, inside its network namespace, and outside.
    by: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    # Texts of fabric.yaml and what stands there instead.
    edit: tuple[tuple[str, str], ...] = ()
    prepare: Callable[[ExitStack, Ground], None] | None = None
    # What happens to it when it is ready.
    meanwhile: Callable[[Ground], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """How it went."""

    # None: it was ready.
    status: int | None
    log: str
    left: tuple[str, ...] = ()

    @property
    def first_error(self) -> str:
        """The first line that says what is wrong."""
        lines = self.log.splitlines()
        errors = [line for line in lines if " ERROR " in line]
        return errors[0] if errors else (lines[0] if lines else "")


def problems(case: Case, outcome: Outcome) -> list[str]:
    """What is not as it should be."""
    found = []
    if outcome.status != case.status:
        found.append(f"exit status {outcome.status}, not {case.status}")
    if case.status is None:
        lines: Iterable[str] = outcome.log.splitlines()
    else:
        lines = [outcome.first_error]
    if not any(all(word in line for word in case.words) for line in lines):
        found.append(f"no line has all of {list(case.words)}: {outcome.first_error!r}")
    is_told = case.status is not None and case.status > 0
    if is_told and outcome.log.splitlines()[-1:] != [outcome.first_error]:
        found.append("the first error is not the last line of the log")
    return found + [f"left: {each}" for each in outcome.left]


class Ground:
    """A host with a node that has a peer, which is not there."""

    def __init__(self, stack: ExitStack, programs: Programs) -> None:
        hosts = [Host("alpha", f"{ADDRESS}/24"), Host("beta", f"{PEER_ADDRESS}/24")]
        self.underlay = netns.build(stack, f"omni-missing-{os.getpid()}", hosts)
        self.underlay.connect()
        self.programs = programs
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omni-missing-")))
        self.node = Node("alpha", self.underlay.hosts["alpha"], folder, programs)
        stack.callback(self.node.kill)
        self.key = self.node.make_keys()
        private = commands.run([str(programs.omni), "keygen"])
        peer_key = commands.run([str(programs.omni), "pubkey"], stdin=private).strip()
        self.me = Identity("alpha", ADDRESS, (ACCESS_ADDRESS,), self.key)
        self.peer = Identity("beta", PEER_ADDRESS, (), peer_key)

    @property
    def namespace(self) -> Namespace:
        """The node's."""
        return self.node.namespace

    @property
    def folder(self) -> Path:
        """The node's."""
        return self.node.folder

    def ip(self, *words: str) -> None:
        """Runs `ip` in the node's namespace."""
        commands.run(self.namespace.ip(*words))

    def configure(self, case: Case) -> None:
        """Writes the case's configuration."""
        text = render_config("faults", self.me, [self.peer], self.node.socket, drivers=case.drivers)
        self.node.config.write_text(edited(text, case.edit))

    def state(self) -> dict[str, Any]:
        """What there is on the host."""
        shown = faults_kernel.steady(faults_kernel.links(self.namespace))
        return {
            **{f"interface {each['ifname']}": each for each in shown},
            "sockets": faults_kernel.sockets(self.namespace),
            "files": sorted({each.name for each in self.folder.iterdir()} - KEPT),
        }

    def run(self, case: Case) -> Outcome:
        """Tries a case."""
        self.configure(case)
        with ExitStack() as stack:
            if case.prepare is not None:
                case.prepare(stack, self)
            before = self.state()
            status = self.start(case)
            if status is not None and status < 0:
                self.remove_known()
            wait(lambda: self.state() == before, GONE_SECONDS)
            left = tuple(faults_kernel.differences(before, self.state()))
        return Outcome(status, self.node.log.read_text(errors="replace"), left)

    def remove_known(self) -> None:
        """Removes what an engine may leave that is killed, as the next start takes it over."""
        self.node.socket.unlink(missing_ok=True)
        link = netns.link(self.namespace, ACCESS)
        if link is not None:
            self.ip("link", "delete", ACCESS)

    def start(self, case: Case) -> int | None:
        """Starts the engine, and stops it once it is ready. Returns its exit status, None when it
        was ready and ended well.
        """
        command = [*case.by, *engine_command(self.node)]
        with self.node.log.open("wb") as log:
            self.node.process = process = subprocess.Popen(
                [*case.outside, *self.namespace.inside(*command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=Path(__file__).resolve().parent.parent,
            )

        def said() -> bool:
            return bool(READY.search(self.node.log.read_text(errors="replace")))

        wait(lambda: process.poll() is not None or said(), FAIL_SECONDS)
        if process.poll() is None and case.meanwhile is not None and said():
            case.meanwhile(self)
            wait(lambda: process.poll() is not None, FAIL_SECONDS)
        if process.poll() is None:
            ended = self.node.stop()
            return ended or None
        return process.returncode


def engine_command(node: Node) -> list[str]:
    """What starts the engine when one is in its namespace already."""
    return [str(node.programs.engine), "--config", str(node.config)]


def edited(text: str, edit: Iterable[tuple[str, str]]) -> str:
    """A configuration with other texts in some places."""
    for old, new in edit:
        if old not in text:
            raise ValueError(f"{old!r} is not in the configuration")
        text = text.replace(old, new, 1)
    return text


def judge(ground: Ground, cases: Iterable[Case]) -> list[Figure]:
    """Tries all cases: of each, how much is not as it should be."""
    figures = []
    for case in cases:
        outcome = ground.run(case)
        found = problems(case, outcome)
        verdict = "starts" if outcome.status is None else f"exit status {outcome.status}"
        print(f"{case.name}: {verdict}", flush=True)
        if case.status is not None:
            print(f"    {without_time(outcome.first_error)}", flush=True)
        for each in found:
            print(f"    WRONG: {each}", flush=True)
        figures.append(Figure(case.name, len(found), at_most=0))
    return figures


def without_time(line: str) -> str:
    """A line of a log from its level on."""
    at = line.find(" ERROR ")
    return line[at + 1 :] if at >= 0 else line
