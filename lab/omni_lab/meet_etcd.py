"""Two Nuclei on three members of etcd, which are killed, held, cut off and filled up."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from . import commands, owners
from .cluster import Cluster, Member
from .fabric import PING_SECONDS, Fabric
from .figures import Figure, spread
from .meet_outage import pings, tell_losses
from .node import NodeError, Programs
from .owners import History
from .pinger import Pinger
from .report import heading
from .roaming import Roaming

NODES = ("alpha", "beta", "gamma")
NUCLEI = ("nucleus1", "nucleus2")
MEMBERS = ("etcd1", "etcd2", "etcd3")
OPERATOR = "operator"
# An address for each change, and one that goes round while the cluster suffers.
NEW_ADDRESS = "10.7.{}.{}"
ROAMER = "10.7.1.1"
TARGET_SECONDS = 5.0
GIVE_UP_SECONDS = 60.0
# Nodes that are connected are shown as such this long after the last fault.
SETTLE_SECONDS = 10.0


def missing(members: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Nodes that a Nucleus's answer does not show as connected."""
    live = {each["name"] for each in members["members"] if each["presence"] != "away"}
    return [name for name in names if name not in live]


def misplaced(bindings: dict[str, Any], wanted: dict[str, str]) -> list[str]:
    """Addresses that a Nucleus's answer does not give to whom they belong, by public keys."""
    held = {each["ip"]: each["owner"] for each in bindings["bindings"] if not each["withdrawn"]}
    return [address for address, owner in wanted.items() if held.get(address) != owner]


class Suffering:
    """The fabric, the cluster, and what came of each fault."""

    def __init__(self, stack: ExitStack, programs: Programs, hold: float) -> None:
        self.hold = hold
        self.fabric = Fabric(
            stack, "etcd", programs, nodes=NODES, nuclei=NUCLEI, others=[*MEMBERS, OPERATOR]
        )
        self.cluster = Cluster(stack, self.fabric, MEMBERS, OPERATOR)
        for name in MEMBERS:
            self.cluster.start(name)
        self.cluster.wait_whole()
        self.fabric.configure(self.cluster.urls())
        for nucleus in self.fabric.nuclei.values():
            nucleus.start()
        self.fabric.start(NODES)
        self.pinger = Pinger(self.fabric.namespaces())
        stack.callback(self.pinger.close)
        self.fabric.meet(self.pinger, NODES)
        self.watches = {name: self.fabric.watch(stack, name) for name in NUCLEI}
        self.roaming = Roaming(stack, self.fabric)
        # Whose each address is, by public keys.
        self.wanted: dict[str, str] = {}
        self.changes = self.turns = 0
        self.roaming.settle(NODES[0], ROAMER)
        self.wanted[ROAMER] = self.fabric.keys[NODES[0]]
        # How often each member without room ended meanwhile.
        self.ended_without_room: list[int] = []
        # By kind of fault: seconds until each change was registered, None where it never was.
        self.times: dict[str, list[float | None]] = {}

    def change(self) -> tuple[str, str, dict[str, int], float]:
        """A node gets another address. Returns it, the node's key, how much each Nucleus had told
        before, and when.
        """
        self.changes += 1
        name = NODES[self.changes % len(NODES)]
        address = NEW_ADDRESS.format(2 + self.changes // 250, 1 + self.changes % 250)
        self.wanted[address] = self.fabric.keys[name]
        told = {nucleus: len(watch) for nucleus, watch in self.watches.items()}
        self.roaming.settle(name, address)
        return address, self.fabric.keys[name], told, time.monotonic()

    def roam(self) -> None:
        """An address goes from one node to the next."""
        before, after = (NODES[(self.turns + step) % len(NODES)] for step in (0, 1))
        self.turns += 1
        self.roaming.leave(before, ROAMER)
        self.roaming.settle(after, ROAMER)
        self.wanted[ROAMER] = self.fabric.keys[after]

    def registered(self, address: str, owner: str, told: dict[str, int]) -> float | None:
        """When all Nuclei had told that somebody has an address; None when one does not."""

        def is_it(change: dict[str, Any]) -> bool:
            if change["kind"] != "binding" or change["withdrawn"]:
                return False
            return (change["ip"], change["owner"]) == (address, owner)

        moments = [
            watch.wait_for(is_it, told[name], GIVE_UP_SECONDS)
            for name, watch in self.watches.items()
        ]
        found = [moment for moment in moments if moment is not None]
        return max(found) if len(found) == len(moments) else None

    def measure(self, kind: str, since: float) -> None:
        """A change now, until it is registered, counted from when there is a quorum of members that
        were asked after a moment.
        """
        address, owner, told, changed = self.change()
        _, quorum = self.cluster.wait_for_leader(since)
        self.book(kind, self.registered(address, owner, told), max(quorum, changed))

    def book(self, kind: str, moment: float | None, begin: float) -> None:
        """Notes how long a change took. One that needed no quorum's return took none of it."""
        took = None if moment is None else max(moment - begin, 0.0)
        self.times.setdefault(kind, []).append(took)
        said = "never registered" if took is None else f"registered after {took:.2f} s"
        print(f"  {kind}: {said}", flush=True)

    def kill_leader(self) -> None:
        """It is killed, and started when the others have taken over."""
        leader = self.cluster.wait_whole()
        at = time.monotonic()
        self.cluster.kill(leader)
        self.roam()
        self.measure("leader killed", at)
        self.cluster.start(leader)

    def suffer(self, kind: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
        """A fault that most members survive: a change at its beginning, and one at its end."""
        at = time.monotonic()
        begin()
        self.roam()
        self.measure(kind, at)
        time.sleep(max(at + self.hold - time.monotonic(), 0))
        at = time.monotonic()
        end()
        self.measure(f"{kind}, over", at)

    def fill(self, members: Sequence[Member]) -> None:
        """Fills disks, and has the cluster write to them."""
        for member in members:
            member.fill()
        self.cluster.write()

    def fill_all(self) -> None:
        """No member has room: what changes meanwhile is registered when they have it again."""
        self.cluster.wait_whole()
        members = self.cluster.members.values()
        before = [member.endings for member in members]
        at = time.monotonic()
        self.fill(list(members))
        while any(member.endings == was for member, was in zip(members, before)):
            if time.monotonic() > at + GIVE_UP_SECONDS:
                raise NodeError("members of etcd go on with full disks")
            time.sleep(0.05)
        self.roam()
        address, owner, told, changed = self.change()
        time.sleep(max(at + self.hold - time.monotonic(), 0))
        ended = [member.endings - was for member, was in zip(members, before)]
        self.ended_without_room += ended
        print(f"  all disks full: members ended {ended} times", flush=True)
        at = time.monotonic()
        for member in members:
            member.make_room()
        _, quorum = self.cluster.wait_for_leader(at)
        self.book("all disks full", self.registered(address, owner, told), max(quorum, changed))
        self.measure("all disks full, over", at)

    def run(self, kills: int) -> None:
        """All faults in turn."""
        cluster = self.cluster
        for number in range(kills):
            print(f"kill {number + 1} of {kills}", flush=True)
            self.kill_leader()
        leader = cluster.members[cluster.wait_whole()]
        self.suffer("leader held", leader.hold, leader.go_on)
        name = cluster.wait_whole()
        self.suffer("leader cut off", lambda: cluster.cut_off(name), lambda: cluster.join(name))
        leading = cluster.wait_whole()
        other = next(name for name in MEMBERS if name != leading)
        self.suffer("follower cut off", lambda: cluster.cut_off(other), lambda: cluster.join(other))
        cluster.wait_whole()
        member = cluster.members[other]
        self.suffer("a disk full", lambda: self.fill([member]), member.make_room)
        self.ended_without_room = [member.endings]
        self.fill_all()
        cluster.wait_whole()

    def ask(self, nucleus: str, what: str) -> dict[str, Any]:
        """What a Nucleus answers to the operator."""
        command = self.fabric.nuclei[nucleus].ask_command(what, "--json")
        answer: dict[str, Any] = json.loads(commands.run(command))
        return answer

    def wrong(self) -> tuple[list[str], list[str]]:
        """What is missing in the end: nodes, and addresses."""
        nodes, addresses = [], []
        for name in NUCLEI:
            nodes += [f"{name}: {node}" for node in missing(self.ask(name, "members"), NODES)]
            bindings = self.ask(name, "bindings")
            addresses += [f"{name}: {each}" for each in misplaced(bindings, self.wanted)]
        return nodes, addresses


def run(stack: ExitStack, programs: Programs, options: argparse.Namespace) -> list[Figure]:
    """All of it."""
    heading("Three members of etcd, two Nuclei on them, three nodes that name both")
    suffering = Suffering(stack, programs, options.hold)
    pairs = suffering.fabric.pairs(NODES)
    steady = suffering.pinger.add(pairs, PING_SECONDS, once=False)
    began = time.monotonic()
    heading("20 pings a second between all; faults in turn")
    suffering.run(options.kills)
    time.sleep(SETTLE_SECONDS)
    suffering.fabric.check_running()
    nodes, addresses = suffering.wrong()
    suffering.pinger.finish()
    tell_losses(steady, began)
    histories: dict[str, History] = {
        name: watch.history() for name, watch in suffering.watches.items()
    }
    told = sum(map(owners.changes_of_owner, histories.values()))
    violations = owners.violations(histories)
    for each in [*nodes, *addresses, *violations]:
        print(f"WRONG: {each}", flush=True)
    times = [took for kind in suffering.times.values() for took in kind]
    known = [took for took in times if took is not None]
    by_kind = [
        Figure(f"{kind}, slowest", max((t for t in took if t is not None), default=None), "s")
        for kind, took in suffering.times.items()
    ]
    return [
        *pings(steady),
        Figure("changes", len(times)),
        *spread("registered", known, "s", count=len(times), p99_at_most=TARGET_SECONDS),
        *by_kind,
        Figure(
            "full disks: endings of a member, least", min(suffering.ended_without_room), at_least=1
        ),
        Figure("live nodes missing in the end", len(nodes), at_most=0),
        Figure("addresses not with their owners in the end", len(addresses), at_most=0),
        Figure(
            "watches that broke off",
            sum(not w.is_alive for w in suffering.watches.values()),
            at_most=0,
        ),
        Figure("owner changes told", told, at_least=1),
        Figure("owners that contradict each other", len(violations), at_most=0),
    ]
