"""Breaks what a schedule says, and heals it. What is broken is known before it is, so that it can
be healed from any point on; to heal what is whole does nothing.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ... import cluster, commands, netns
from ...commands import CommandError
from ...node import STOP_SECONDS, NodeError
from .. import members, processes
from ..processes import Process
from ..state import Helper, LabError, Space, State, now
from . import forwarders, wires
from .clock import WallClock
from .machine import Machine
from .schedule import Fault, Ground
from .wires import End

# What names a forwarder of `lab up` in the state.
FORWARDER = "impair "
# What Rust says first when a thread panics.
PANIC = "panicked at"
HEAL_ERRORS = (CommandError, NodeError, LabError, OSError)


class Breaker(Protocol):
    """What carries out faults; tests put a recorder in its place."""

    def begin(self, fault: Fault) -> None: ...

    def end(self, fault: Fault) -> None: ...

    def make_whole(self) -> None: ...


def ground_of(lab: State, machines: Sequence[str], homes: Sequence[str]) -> Ground:
    """What there is to break in a lab."""
    return Ground(
        tuple(each.name for each in lab.nodes),
        tuple(each.name for each in lab.of("nucleus")),
        tuple(each.name for each in lab.of("etcd")),
        tuple(machines),
        tuple(homes),
        tuple(link_of(each) for each in lab.helpers if each.what.startswith(FORWARDER)),
        lab.options["mtu"] >= wires.WIDE_MTU,
    )


def link_of(helper: Helper) -> str:
    """The link that a forwarder impairs, by the interface that it reads first."""
    return helper.what.removeprefix(FORWARDER)


class Active:
    """Faults that have begun and are not healed."""

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.faults: list[Fault] = []

    def begin(self, fault: Fault) -> None:
        """Breaks something."""
        self.faults.append(fault)
        self.breaker.begin(fault)

    def end(self, fault: Fault) -> None:
        """Heals it."""
        self.breaker.end(fault)
        self.faults.remove(fault)

    def heal(self) -> list[str]:
        """Heals all, the latest first, and goes on when one cannot be healed. Returns why."""
        failed = []
        for fault in self.faults[::-1]:
            try:
                self.end(fault)
            except HEAL_ERRORS as error:
                failed.append(f"{fault.line()}: {error}")
        return failed


class Faults:
    """Carries out faults on a lab."""

    def __init__(self, lab: State, machines: Sequence[Machine], clock: WallClock) -> None:
        self.lab, self.clock = lab, clock
        self.machines = {each.name: each for each in machines}
        self.ends = wires.ends(lab)
        # Lines of panics, as logs are kept before a program writes them anew.
        self.panics: list[str] = []
        # Who led etcd when it was killed.
        self.leader = ""
        # What did not go as it should while it was broken, as texts.
        self.stubborn: list[str] = []
        doers = {
            "kill": (self.kill, self.start),
            "stop": (self.stop, self.start),
            "stall": (self.stall, self.go_on),
            "nucleus": (self.kill, self.start),
            "leader": (self.kill_leader, self.start_leader),
            "isolate": (self.ports_down, self.ports_up),
            "flap": (self.ports_down, self.ports_up),
            "partition": (self.divide, self.unite),
            "mtu": (self.narrow, self.widen),
            "impair": (self.impair, self.impair_less),
            "move": (self.move, self.nothing),
            "clock": (self.jump, self.jump_back),
        }
        self.doers: dict[str, tuple[Callable[[Fault], None], Callable[[Fault], None]]] = doers

    def begin(self, fault: Fault) -> None:
        """Breaks it."""
        self.doers[fault.kind][0](fault)

    def end(self, fault: Fault) -> None:
        """Heals it."""
        self.doers[fault.kind][1](fault)

    def spaces(self, fault: Fault) -> list[Space]:
        """The hosts that a fault hits."""
        return [self.lab.space(name) for name in fault.targets]

    def end_program(self, space: Space, number: signal.Signals) -> None:
        """Ends a program by a signal. One that ended by itself is for others to see."""
        if not processes.is_alive(space.process):
            return
        try:
            members.stop(space, number)
        except NodeError as error:
            self.stubborn.append(str(error))
            members.stop(space, signal.SIGKILL)
        finally:
            self.lab.save()

    def start_program(self, space: Space) -> None:
        """Starts a program that was ended, and keeps what the one before said."""
        if processes.is_alive(space.process):
            return
        self.keep_log(space)
        try:
            members.start(self.lab, space)
        finally:
            self.lab.save()

    def keep_log(self, space: Space) -> None:
        """Keeps what a program said, and looks for panics in it."""
        text = space.log.read_text(errors="replace") if space.log.exists() else ""
        folder = Path(self.lab.run) / "logs"
        folder.mkdir(exist_ok=True)
        with (folder / f"chaos-{space.name}.log").open("a") as file:
            file.write(f"-- until {now()}\n{text}")
        self.panics += [f"{space.name}: {line}" for line in text.splitlines() if PANIC in line]

    def kill(self, fault: Fault) -> None:
        for space in self.spaces(fault):
            self.end_program(space, signal.SIGKILL)

    def stop(self, fault: Fault) -> None:
        for space in self.spaces(fault):
            self.end_program(space, signal.SIGTERM)

    def start(self, fault: Fault) -> None:
        for space in self.spaces(fault):
            self.start_program(space)

    def running(self, fault: Fault) -> list[Process]:
        """The programs that a fault hits, as far as they run."""
        return [space.process for space in self.spaces(fault) if space.process is not None]

    def stall(self, fault: Fault) -> None:
        for process in self.running(fault):
            processes.send(process, signal.SIGSTOP)

    def go_on(self, fault: Fault) -> None:
        for process in self.running(fault):
            processes.send(process, signal.SIGCONT)

    def kill_leader(self, _fault: Fault) -> None:
        """Kills the member of etcd that leads, if one does now."""
        self.leader = find_leader(self.lab)
        if self.leader:
            self.end_program(self.lab.space(self.leader), signal.SIGKILL)

    def start_leader(self, _fault: Fault) -> None:
        if self.leader:
            self.start_program(self.lab.space(self.leader))

    def set_ports(self, fault: Fault, state: str) -> None:
        """Sets the switch's ends of links up or down: hosts see no carrier, and keep routes."""
        for name in fault.targets:
            set_end(self.ends[name][0], state)

    def ports_down(self, fault: Fault) -> None:
        self.set_ports(fault, "down")

    def ports_up(self, fault: Fault) -> None:
        self.set_ports(fault, "up")

    def divide(self, fault: Fault) -> None:
        """Keeps two halves of the hosts apart."""
        one = {str(space.underlay) for space in self.spaces(fault)}
        other = {str(self.lab.space(name).underlay) for name in self.ends} - one
        self.filter(wires.partition_rules(one, other))

    def unite(self, _fault: Fault) -> None:
        self.filter(wires.heal_rules())

    def filter(self, rules: str) -> None:
        """Has all switches take rules."""
        for space in self.lab.of("switch"):
            commands.run(space.netns().inside("nft", "-f", "-"), stdin=rules)

    def set_mtu(self, fault: Fault, mtu: int) -> None:
        """Of both ends of links."""
        for name in fault.targets:
            for end in self.ends[name]:
                set_end(end, "mtu", str(mtu))

    def narrow(self, fault: Fault) -> None:
        self.set_mtu(fault, wires.NARROW_MTU)

    def widen(self, fault: Fault) -> None:
        self.set_mtu(fault, self.lab.options["mtu"])

    def impair(self, fault: Fault) -> None:
        """Has a forwarder lose, double and let overtake more than before."""
        for helper in self.forwarders(fault.targets):
            self.forward(helper, lambda words: forwarders.worse(words, fault.amounts))

    def impair_less(self, fault: Fault) -> None:
        for helper in self.forwarders(fault.targets):
            self.forward(helper, self.usual)

    def usual(self, words: Sequence[str]) -> list[str]:
        """How a forwarder is started in this lab."""
        return forwarders.usual(words, self.lab.options["loss"])

    def forwarders(self, targets: Sequence[str]) -> list[Helper]:
        """Those that are called so."""
        return [
            helper
            for helper in self.lab.helpers
            if helper.what.startswith(FORWARDER) and link_of(helper) in targets
        ]

    def forward(self, helper: Helper, change: Callable[[Sequence[str]], list[str]]) -> None:
        """Starts a forwarder anew by a changed command line, unless it runs by it already. For a
        moment its link carries nothing.
        """
        words = command_line(helper.process)
        changed = change(words)
        if changed == words:
            return
        processes.end([helper.process], STOP_SECONDS)
        space = helper.namespace.removeprefix(f"omni-{self.lab.name}-")
        log = self.lab.folder / f"impair-{space}-{link_of(helper)}.log"
        try:
            inside = netns.Namespace(helper.namespace).inside(*changed)
            helper.process = processes.spawn(inside, log)
        finally:
            self.lab.save()

    def move(self, fault: Fault) -> None:
        name, home = fault.targets
        self.machines[name].move(home)

    def nothing(self, _fault: Fault) -> None:
        """A move is no damage: the machine stays where it went."""

    def jump(self, fault: Fault) -> None:
        self.clock.jump(fault.amounts[0])

    def jump_back(self, _fault: Fault) -> None:
        self.clock.restore()

    def make_whole(self) -> None:
        """Heals what a run that was killed may have left broken."""
        for one, own in self.ends.values():
            for end in (one, own):
                set_end(end, "up", "mtu", str(self.lab.options["mtu"]))
        self.filter(wires.heal_rules())
        for helper in self.lab.helpers:
            if helper.what.startswith(FORWARDER):
                self.forward(helper, self.usual)
        for space in self.lab.spaces:
            if space.process is not None:
                processes.send(space.process, signal.SIGCONT)
            if space.role in ("node", "nucleus", "etcd"):
                self.start_program(space)


def set_end(end: End, *words: str) -> None:
    """Changes one end of a link."""
    commands.run(["ip", "-n", end.namespace, "link", "set", end.interface, *words])


def find_leader(lab: State) -> str:
    """The member of etcd that a majority follows; none when there is none now."""
    spaces = lab.of("etcd")
    began = time.monotonic()
    statuses = {}
    for one in spaces:
        # Each from its own host, as links may be down.
        with netns.inside(one.netns()):
            statuses[one.name] = cluster.ask(str(one.underlay))
    found = cluster.leader_of(statuses, began, len(spaces) // 2 + 1)
    return found[0] if found is not None else ""


def command_line(process: Process) -> list[str]:
    """What a process was started by. Raises LabError when it runs no more."""
    if not processes.is_alive(process):
        raise LabError(f"the process {process.pid} has ended")
    octets = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    return octets.decode(errors="replace").split("\0")[:-1]
