"""What a lab consists of, kept in /run/omni-lab/NAME/state.json for the commands that follow.

The file is written before anything is made, so that all that may have been made is in it. Its
form is that of `State` and the classes below; `version` changes with every change of it that
other programs would notice.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..netns import Namespace
from .processes import Process

ROOT = Path("/run/omni-lab")
VERSION = 1
FILE = "state.json"
# A name has no dash: a namespace `omni-NAME-HOST` then belongs to one lab only. Ten letters leave
# room in what the kernel takes for the name of an interface.
NAME = re.compile(r"[a-z][a-z0-9]{0,9}")


class LabError(Exception):
    """The lab is not as a command needs it. The text says what is wrong and what to do."""


@dataclass
class Space:
    """A network namespace and what runs in it."""

    name: str
    # node, nucleus, etcd, or switch: the last is a bridge or a router.
    role: str
    namespace: str
    # Where its keys, configuration and log are; also where nothing runs.
    folder: str
    underlay: str | None = None
    # Only nodes have an address on the fabric.
    overlay: str | None = None
    socket: str | None = None
    # The engine, the Nucleus or the member of etcd.
    process: Process | None = None

    def netns(self) -> Namespace:
        """The namespace, to run commands in."""
        return Namespace(self.namespace)

    @property
    def log(self) -> Path:
        """What its program says."""
        return Path(self.folder) / "log"


@dataclass
class Helper:
    """A program beside those of the nodes: a forwarder that impairs a link, or a contestant's."""

    what: str
    namespace: str
    process: Process


@dataclass
class Contestant:
    """What was set up beside omni on the same hosts, and where each node is reached over it."""

    name: str
    addresses: dict[str, str]
    # The interface that it has on each host.
    interface: str
    mtu: int
    version: str = ""
    helpers: list[Helper] = field(default_factory=list)


@dataclass
class State:
    """A lab."""

    name: str
    # RFC 3339, UTC.
    began: str
    # Where the programs are that it runs.
    programs: str
    # Where measurements are kept.
    run: str
    # As `lab up` was told, with its defaults.
    options: dict[str, Any]
    spaces: list[Space] = field(default_factory=list)
    # Programs that carry or impair the underlay.
    helpers: list[Helper] = field(default_factory=list)
    contestants: list[Contestant] = field(default_factory=list)
    # Whether `lab up` came to its end.
    complete: bool = False
    version: int = VERSION
    kind: str = "lab-state"

    @property
    def folder(self) -> Path:
        """All its files."""
        return ROOT / self.name

    @property
    def nodes(self) -> list[Space]:
        """The hosts with an engine, in order."""
        return self.of("node")

    def of(self, role: str) -> list[Space]:
        """The namespaces of one role, in order."""
        return [each for each in self.spaces if each.role == role]

    def space(self, name: str) -> Space:
        """A namespace by its name in the lab."""
        for each in self.spaces:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.spaces[:4])
        raise LabError(f"there is no {name!r} in the lab {self.name}: it has {known}, ...")

    def contestant(self, name: str) -> Contestant:
        """What was set up under a name."""
        for each in self.contestants:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.contestants) or "none"
        raise LabError(f"{name!r} is not set up (there are: {known}): `lab baseline` does that")

    def text(self) -> str:
        """What the file says."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def save(self) -> None:
        """Writes it, whole or not at all."""
        new = self.folder / f"{FILE}.new"
        new.write_text(self.text())
        new.replace(self.folder / FILE)


def process_of(kept: dict[str, Any] | None) -> Process | None:
    """A process as the file has it."""
    return None if kept is None else Process(**kept)


def helper_of(kept: dict[str, Any]) -> Helper:
    """A helper as the file has it."""
    return Helper(**{**kept, "process": Process(**kept["process"])})


def parse(text: str) -> State:
    """Reads a state file. Raises LabError when it is none, or of another version."""
    try:
        kept = json.loads(text)
        if (kept["kind"], kept["version"]) != ("lab-state", VERSION):
            raise LabError(f"the lab's state is of version {kept['version']}, not {VERSION}")
        spaces = [
            Space(**{**each, "process": process_of(each["process"])}) for each in kept["spaces"]
        ]
        contestants = [
            Contestant(**{**each, "helpers": [helper_of(helper) for helper in each["helpers"]]})
            for each in kept["contestants"]
        ]
        helpers = [helper_of(each) for each in kept["helpers"]]
        kept.update(spaces=spaces, helpers=helpers, contestants=contestants)
        return State(**kept)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise LabError(f"the lab's state cannot be read: {error}") from error


def load(name: str) -> State:
    """The state of a lab. Raises LabError when there is none of that name."""
    try:
        return parse((ROOT / name / FILE).read_text())
    except FileNotFoundError as error:
        there = ", ".join(names()) or "none"
        raise LabError(
            f"there is no lab {name!r} (there are: {there}): `lab up` makes it"
        ) from error


def load_complete(name: str) -> State:
    """The same of one that is up."""
    state = load(name)
    if not state.complete:
        raise LabError(f"the lab {name!r} is not up, or not whole: `lab down` removes it")
    return state


def names() -> list[str]:
    """All labs of this machine."""
    found = (path.parent.name for path in ROOT.glob(f"*/{FILE}"))
    return sorted(name for name in found if NAME.fullmatch(name))


def make(state: State) -> None:
    """Makes a lab's folder with its state in it, both or nothing. Raises LabError when there is one
    of that name.
    """
    with locked():
        new = ROOT / f".{state.name}"
        shutil.rmtree(new, ignore_errors=True)
        try:
            # The last lab may have gone, and the folder of all with it.
            ROOT.mkdir(mode=0o755, exist_ok=True)
            new.mkdir(mode=0o700)
            (new / FILE).write_text(state.text())
            new.rename(state.folder)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            reason = f"the lab {state.name!r} is there already: `lab down` removes it"
            raise LabError(reason) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)


def now() -> str:
    """The time as files have it."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Keeps other commands of all labs from what only one may change at a time."""
    ROOT.mkdir(mode=0o755, exist_ok=True)
    descriptor = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
