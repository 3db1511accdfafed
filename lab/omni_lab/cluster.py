"""Members of etcd, each in a namespace and on a disk of its own that can be full, and what they
are made to suffer.
"""

from __future__ import annotations

import base64
import errno
import http.client
import json
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import commands, netns
from .fabric import Fabric
from .netns import Namespace
from .node import NodeError

CLIENT_PORT, PEER_PORT = 2379, 2380
# Room for two segments of its log, which etcd makes beforehand, and a small database.
DISK_BYTES = 192 << 20
# As a service manager waits before it starts again what ended.
RESTART_SECONDS = 1.0
LOOK_SECONDS = 0.05
ASK_SECONDS = 0.5
QUORUM_SECONDS = 60.0
CHUNK = bytes(1 << 16)
# What is written once more for a full disk, in base64: its log has room made beforehand, and the
# database has some left over.
VALUE_KEY = base64.b64encode(b"lab/value").decode()
VALUE = base64.b64encode(bytes(1 << 19)).decode()


@dataclass(frozen=True)
class Status:
    """What a member said of the cluster."""

    asked_at: float
    member_id: str
    leader: str
    term: str


def parse_status(asked_at: float, text: str) -> Status | None:
    """Reads the answer to `maintenance/status`. Members leave out what is zero, and numbers are
    texts. None for an error.
    """
    try:
        answer = json.loads(text)
        header = answer["header"]
        return Status(
            asked_at, header["member_id"], answer.get("leader", "0"), header.get("raft_term", "0")
        )
    except (json.JSONDecodeError, KeyError, TypeError):
        return None


def leader_of(
    statuses: Mapping[str, Status | None], since: float, least: int
) -> tuple[str, float] | None:
    """The member that so many follow, itself among them, as far as they were asked after a moment;
    and by when that was so at the latest. What a member said before it was cut off or held counts
    for nothing.
    """
    fresh = {name: each for name, each in statuses.items() if each and each.asked_at >= since}
    for name, leader in fresh.items():
        following = [
            each.asked_at
            for each in fresh.values()
            if (each.leader, each.term) == (leader.member_id, leader.term)
        ]
        if leader.leader == leader.member_id and len(following) >= least:
            return name, max(leader.asked_at, sorted(following)[least - 1])
    return None


class Member:
    """One etcd."""

    def __init__(self, name: str, namespace: Namespace, address: str, folder: Path) -> None:
        self.name, self.namespace, self.address = name, namespace, address
        self.disk = folder / "disk"
        self.ballast = self.disk / "ballast"
        self.log = folder / "etcd.log"
        self.process: subprocess.Popen[bytes] | None = None
        # Whether it is to be started again when it ends.
        self.wanted = False
        self.endings = 0

    @property
    def url(self) -> str:
        """Where clients ask."""
        return f"http://{self.address}:{CLIENT_PORT}"

    @property
    def peer_url(self) -> str:
        """Where other members ask."""
        return f"http://{self.address}:{PEER_PORT}"

    def command(self, cluster: str) -> list[str]:
        """What starts it, with the data that it has."""
        return self.namespace.inside(
            "etcd",
            *("--name", self.name),
            *("--data-dir", str(self.disk / "data")),
            *("--listen-client-urls", self.url),
            *("--advertise-client-urls", self.url),
            *("--listen-peer-urls", self.peer_url),
            *("--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", cluster),
            *("--auto-compaction-retention", "1h"),
        )

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def hold(self) -> None:
        """Lets it neither answer nor close anything."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends that."""
        self.signal(signal.SIGCONT)

    def ended(self) -> bool:
        """Whether it runs no more, and nobody wanted that."""
        return self.wanted and self.process is not None and self.process.poll() is not None

    def fill(self) -> None:
        """Leaves no room on its disk."""
        with self.ballast.open("ab", buffering=0) as file:
            try:
                while file.write(CHUNK):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def make_room(self) -> None:
        """Gives the room back."""
        self.ballast.unlink(missing_ok=True)


class Cluster:
    """The members, and threads that look after them. The stack ends all."""

    def __init__(self, stack: ExitStack, fabric: Fabric, names: Sequence[str], asker: str) -> None:
        """`asker` is the host that members are asked from how they are."""
        self.fabric = fabric
        self.asker = fabric.wire.hosts[asker]
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.members: dict[str, Member] = {}
        for name in names:
            folder = fabric.folder_of(name)
            member = Member(name, fabric.wire.hosts[name], fabric.underlay[name], folder)
            member.disk.mkdir()
            size = f"size={DISK_BYTES},mode=700"
            stack.callback(commands.run, ["umount", "-l", str(member.disk)], accept=(0, 32))
            commands.run(["mount", "-t", "tmpfs", "-o", size, "omni-lab", str(member.disk)])
            self.members[name] = member
        self.majority = len(names) // 2 + 1
        self.initial = ",".join(f"{name}={each.peer_url}" for name, each in self.members.items())
        self.statuses: dict[str, Status | None] = dict.fromkeys(names)
        looks = [threading.Thread(target=self.look, args=(each,), daemon=True) for each in names]
        self.threads = [threading.Thread(target=self.tend, daemon=True), *looks]
        stack.callback(self.end)
        for thread in self.threads:
            thread.start()

    def urls(self) -> list[str]:
        """Where clients ask."""
        return [member.url for member in self.members.values()]

    def start(self, name: str) -> None:
        """Starts a member, and from then on again whenever it ends."""
        with self.lock:
            self.members[name].wanted = True
            self.launch(self.members[name])

    def launch(self, member: Member) -> None:
        """Starts the program; the lock is held."""
        with member.log.open("ab") as log:
            member.process = subprocess.Popen(
                member.command(self.initial),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """Ends a member at once, as a failing machine does, until it is started."""
        member = self.members[name]
        with self.lock:
            member.wanted = False
            if member.process is not None:
                member.process.kill()
                member.process.wait()

    def cut_off(self, name: str) -> None:
        """Takes a member off the wire."""
        self.set_port(name, "down")

    def join(self, name: str) -> None:
        """Puts it back."""
        self.set_port(name, "up")

    def set_port(self, name: str, state: str) -> None:
        """The bridge's port towards a member."""
        commands.run(self.fabric.wire.wire.ip("link", "set", netns.port_of(name), state))

    def wait_for_leader(self, since: float, least: int | None = None) -> tuple[str, float]:
        """Who leads a majority, or that many, that was asked after a moment; and when it did."""
        deadline = time.monotonic() + QUORUM_SECONDS
        while time.monotonic() < deadline:
            found = leader_of(dict(self.statuses), since, least or self.majority)
            if found is not None:
                return found
            time.sleep(LOOK_SECONDS / 5)
        raise NodeError(f"etcd has no leader after {QUORUM_SECONDS:g} s")

    def wait_whole(self) -> str:
        """Waits until all members follow one leader, and returns it."""
        return self.wait_for_leader(time.monotonic(), len(self.members))[0]

    def write(self) -> None:
        """Has the cluster keep more than it has room for where a disk is full. Whether it could is
        seen by what its members do.
        """
        with netns.inside(self.asker):
            for member in self.members.values():
                post(member.address, "kv/put", {"key": VALUE_KEY, "value": VALUE})

    def tend(self) -> None:
        """A thread: starts again what ended by itself, after a while."""
        due: dict[str, float] = {}
        while not self.stop.wait(LOOK_SECONDS):
            now = time.monotonic()
            for name, member in self.members.items():
                with self.lock:
                    if not member.ended():
                        due.pop(name, None)
                    elif now >= due.setdefault(name, now + RESTART_SECONDS):
                        member.endings += 1
                        self.launch(member)

    def look(self, name: str) -> None:
        """A thread of each member: asks it how it is, from the asker's namespace."""
        with open(f"{netns.NAMESPACES}/{self.asker.name}") as namespace:
            netns.enter(namespace.fileno())
        while not self.stop.wait(LOOK_SECONDS):
            self.statuses[name] = ask(self.members[name].address)

    def end(self) -> None:
        """Ends the threads and all members."""
        self.stop.set()
        for thread in self.threads:
            if thread.ident is not None:
                thread.join()
        for name in self.members:
            self.kill(name)


def ask(address: str) -> Status | None:
    """What a member says, None when it does not."""
    now = time.monotonic()
    answer = post(address, "maintenance/status", {})
    return None if answer is None else parse_status(now, answer)


def post(address: str, path: str, request: dict[str, str]) -> str | None:
    """Asks a member from the caller's namespace. None when it does not answer soon."""
    connection = http.client.HTTPConnection(address, CLIENT_PORT, timeout=ASK_SECONDS)
    try:
        connection.request("POST", f"/v3/{path}", json.dumps(request))
        return connection.getresponse().read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
