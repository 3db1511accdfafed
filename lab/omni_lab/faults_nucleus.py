"""What a Nucleus, and the tool, say where something that they need is missing or in use."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import netns, rendezvous
from .figures import Figure
from .netns import Namespace
from .node import Programs
from .rendezvous import Authority, Nucleus

END_SECONDS = 15.0
STORE = "nucleus.redb"
# What may be in its folder in the end: its store, and what the second one has.
KEPT = {STORE, "other.yaml", "other.log"}
NO_SOCKET = "none.sock"


@dataclass(frozen=True)
class Case:
    """Something wrong, how the program has to end, and what its last line says."""

    name: str
    status: int
    words: tuple[str, ...]
    prepare: Callable[[ExitStack, Nucleus], None]


def port_taken(kind: socket.SocketKind) -> Callable[[ExitStack, Nucleus], None]:
    """Somebody else has its port."""

    def prepare(stack: ExitStack, nucleus: Nucleus) -> None:
        with netns.inside(nucleus.namespace):
            taken = stack.enter_context(socket.socket(socket.AF_INET, kind))
            taken.bind(("0.0.0.0", rendezvous.PORT))
            if kind is socket.SOCK_STREAM:
                taken.listen()

    return prepare


def store_empty(_stack: ExitStack, nucleus: Nucleus) -> None:
    """The store is a file of no octets, as a disk leaves it that lost power."""
    (nucleus.folder / STORE).touch(mode=0o600)


def store_in_use(stack: ExitStack, nucleus: Nucleus) -> None:
    """Another Nucleus has the store, at other ports."""
    other = Nucleus(nucleus.namespace, nucleus.folder, programs_beside(nucleus))
    other.config = nucleus.folder / "other.yaml"
    other.log = nucleus.folder / "other.log"
    text = nucleus.config.read_text().replace("nucleus.sock", "other.sock")
    other.config.write_text(text + 'listen: "127.0.0.1:51900"\n')
    other.start()
    stack.callback(other.stop)


def programs_beside(nucleus: Nucleus) -> Programs:
    """The programs beside a Nucleus's."""
    folder = nucleus.program.parent
    return Programs(folder / "omni-engine", folder / "omni")


def key_mode(stack: ExitStack, nucleus: Nucleus) -> None:
    """Others may read its key."""
    key = nucleus.folder / "nucleus.key"
    stack.callback(key.chmod, 0o600)
    key.chmod(0o644)


def other_text(old: str, new: str) -> Callable[[ExitStack, Nucleus], None]:
    """A text of its configuration is another one."""

    def prepare(stack: ExitStack, nucleus: Nucleus) -> None:
        text = nucleus.config.read_text()
        if old not in text:
            raise ValueError(f"{old!r} is not in the configuration")
        stack.callback(nucleus.config.write_text, text)
        nucleus.config.write_text(text.replace(old, new))

    return prepare


CASES = (
    Case("TCP port in use", 1, ("51821", "in use"), port_taken(socket.SOCK_STREAM)),
    Case("UDP port in use", 1, ("51821", "in use"), port_taken(socket.SOCK_DGRAM)),
    Case("the store is empty", 1, ("nucleus.redb", "empty"), store_empty),
    Case("the store is in use", 1, ("nucleus.redb", "use"), store_in_use),
    Case("a key file that others may read", 2, ("private_key_file", "chmod 600"), key_mode),
    Case("no key file", 2, ("private_key_file", "gone.key"), other_text("nucleus.key", "gone.key")),
    Case("a key that is unknown", 2, ("fabrics", "fabric"), other_text("fabric:", "fabrics:")),
    Case(
        "the control socket's folder is missing, below a file",
        1,
        ("nucleus.key/x.sock",),
        other_text("nucleus.sock", "nucleus.key/x.sock"),
    ),
)


def judge(stack: ExitStack, programs: Programs, namespace: Namespace) -> list[Figure]:
    """Tries all of them: of each, how much is not as it should be."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omni-missing-")))
    nucleus = Nucleus(namespace, folder, programs)
    nucleus.make_keys()
    apart = folder / "authority"
    apart.mkdir(mode=0o700)
    authority = Authority(apart, "faults", programs)
    text = rendezvous.render_nucleus("faults", authority.public_key, nucleus.socket)
    nucleus.config.write_text(text)
    figures = [Figure(f"Nucleus: {case.name}", tried(nucleus, case), at_most=0) for case in CASES]
    return figures + [
        Figure(
            f"omni {' '.join(words)}, and nobody is there",
            refused(programs, folder, words),
            at_most=0,
        )
        for words in (["show"], ["reload"], ["report"], ["nucleus", "status"])
    ]


def tried(nucleus: Nucleus, case: Case) -> int:
    """Runs the program, which has to end by itself. Returns how much is wrong. A store that it made
    may stay.
    """
    (nucleus.folder / STORE).unlink(missing_ok=True)
    before = sorted(os.listdir(nucleus.folder))
    with ExitStack() as stack:
        case.prepare(stack, nucleus)
        status, said = end_of(nucleus.command())
    left = sorted(set(os.listdir(nucleus.folder)) - set(before) - KEPT)
    return told(f"Nucleus: {case.name}", (status, said), (case.status, case.words), left)


def refused(programs: Programs, folder: Path, words: list[str]) -> int:
    """Asks where nobody answers. Returns how much is wrong."""
    path = folder / NO_SOCKET
    command = [str(programs.omni), *words]
    command += [str(path)] if words == ["report"] else ["--socket", str(path)]
    return told(f"omni {' '.join(words)}", end_of(command), (1, (str(path), "running")), [])


def end_of(command: list[str]) -> tuple[int | None, str]:
    """How a program ends, and the last line that it says."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=END_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]


def told(
    name: str,
    found: tuple[int | None, str],
    wanted: tuple[int, tuple[str, ...]],
    left: list[str],
) -> int:
    """Prints how a case went. Returns how much of it is wrong."""
    status, said = found
    missing = [word for word in wanted[1] if word not in said]
    print(f"{name}: exit status {status}\n    {said}", flush=True)
    wrong = [f"it should be {wanted[0]}"] if status != wanted[0] else []
    wrong += [f"without {missing}"] if missing else []
    wrong += [f"left: {each}" for each in left]
    for each in wrong:
        print(f"    WRONG: {each}", flush=True)
    return len(wrong)
