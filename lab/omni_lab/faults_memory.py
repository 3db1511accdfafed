"""Too little memory, or too few descriptors: a message that says so, and nothing left behind."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from . import faults_cases, faults_kernel, faults_kill, faults_pair
from .faults_cases import SOCKETS, TAP, VETH, Case, Ground
from .faults_kernel import wait
from .faults_missing import without
from .figures import Figure
from .node import Drivers, Programs
from .report import heading

MIB = 1 << 20
# Where the kernel keeps groups of processes: the second version, or the first.
UNIFIED, MEMORY = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")
KILLED = -9
# A group that is enough for a node of one queue, and one that is not.
ENOUGH_MIB, SCARCE_MIB = 96, 16
# From, to and step of the address space. Below, the loader has no room for libraries.
SWEEP_MIB = (14, 100, 6)
# How the log says it: of memory, and of threads, whose stacks are the first to be refused.
WANT = ("memory", "Resource temporarily unavailable")
# What a process is told to be, so that the kernel takes it before others.
FIRST_TO_GO = "1000"
# Takes most of the group and holds it.
GLUTTON = f"import time; held = b'.' * {80 * MIB}; time.sleep(60)"
BACK_SECONDS, GIVE_UP_SECONDS = 2.0, 20.0
REMOVED_SECONDS = 5.0


def run(stack: ExitStack, programs: Programs, _options: argparse.Namespace) -> list[Figure]:
    """All cases, and a node that is killed for its memory and comes back."""
    heading("Engines with too little memory")
    ground = Ground(stack, programs)
    group = Group(stack)
    cases = [*LIMITS]
    for mib, status, words in ((ENOUGH_MIB, None, ("ready",)), (SCARCE_MIB, KILLED, ())):
        name = f"a group of {mib} MiB"
        cases.append(Case(name, words, status, outside=group.of(mib)))
    figures = faults_cases.judge(ground, cases)
    figures += [sweep(ground, drivers) for drivers in (TAP, VETH, SOCKETS)]
    return figures + killed_and_back(stack, programs, group)


def sweep(ground: Ground, drivers: Drivers) -> Figure:
    """Limits of all that may be mapped, from what the loader needs to plenty: wherever memory ends,
    the log has to say so, and nothing may be left.
    """
    wrong, ended = 0, 0
    for mib in range(*SWEEP_MIB):
        name = f"{drivers.underlay}/{drivers.access}, {mib} MiB of address space"
        outcome = ground.run(Case(name, (), None, drivers, by=limited("as", mib * MIB)))
        ended += outcome.status is not None
        found = [*outcome.left]
        told = any(word in outcome.log for word in WANT)
        if outcome.status is not None and not told:
            found.append(f"exit status {outcome.status}: {outcome.log[-200:]!r}")
        for each in found:
            print(f"    WRONG: {name}: {each}", flush=True)
        wrong += len(found)
    sizes = range(*SWEEP_MIB)
    name = f"{drivers.underlay}/{drivers.access}: {sizes[0]} to {sizes[-1]} MiB of address space"
    print(f"{name}: {ended} of {len(sizes)} do not start", flush=True)
    return Figure(name, wrong, at_most=0)


def killed_and_back(stack: ExitStack, programs: Programs, group: Group) -> list[Figure]:
    """Another process of the node's group takes what there is, and the kernel kills the engine."""
    heading("An engine that the kernel kills for want of memory, under traffic")
    pair = faults_pair.make(stack, "memory", programs)
    pair.configure(faults_pair.WAYS["afxdp/tap"])
    pair.beta.start()
    pair.beta.wait_ready()
    # What it has before it comes into the group would not count.
    alpha = pair.alpha
    with alpha.log.open("wb") as log:
        command = [*group.of(ENOUGH_MIB), *alpha.command()]
        alpha.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    alpha.wait_ready()
    talk = pair.talk(stack)
    engine = alpha.running()
    held = faults_kernel.held_by(engine.pid)
    Path(f"/proc/{engine.pid}/oom_score_adj").write_text(FIRST_TO_GO)
    glutton = subprocess.Popen([*group.of(ENOUGH_MIB), sys.executable, "-c", GLUTTON])
    stack.callback(glutton.wait)
    stack.callback(glutton.kill)
    wait(lambda: engine.poll() is not None, GIVE_UP_SECONDS)
    status = engine.poll()
    glutton.kill()
    left = [f"BPF {each.kind} {each.number}" for each in faults_kernel.left_of(held)]
    left += faults_kill.traces(alpha.namespace)
    began = talk.set_mark()
    alpha.start()
    talk.wait_both(GIVE_UP_SECONDS)
    times = [at - began for at in talk.firsts().values() if at is not None]
    both = max(times) if len(times) == len(talk.order) else None
    return [
        Figure("killed by the kernel", int(status == KILLED), at_least=1),
        Figure("left over", len(left), at_most=0),
        Figure("restart to delivery both ways", both, "s", at_most=BACK_SECONDS),
        Figure("wrong at the end", len(pair.stop()), at_most=0),
    ]


def limited(limit: str, value: int) -> tuple[str, ...]:
    """Runs a command with a limit of setrlimit(2)."""
    return ("prlimit", f"--{limit}={value}")


def memlock(drivers: Drivers, octets: int) -> Case:
    """Packet memory may not be locked, or only little of it."""
    return Case(
        f"{drivers.underlay}/{drivers.access}: memlock {octets}",
        ("packet memory", "CAP_IPC_LOCK", "ulimit -l"),
        drivers=drivers,
        by=(*without("ipc_lock"), *limited("memlock", octets)),
    )


LIMITS = (
    *(memlock(drivers, octets) for drivers in (TAP, VETH) for octets in (0, 65536, 8 * MIB)),
    Case(
        "udp/tap: no memlock at all",
        ("ready",),
        None,
        drivers=SOCKETS,
        by=(*without("ipc_lock"), *limited("memlock", 0)),
    ),
    Case(
        "20 MiB of address space",
        ("packet memory", "too little memory", "ulimit -v"),
        by=limited("as", 20 * MIB),
    ),
    Case("12 descriptors", ("Too many open files",), by=limited("nofile", 12)),
    Case("20 descriptors", ("Too many open files",), by=limited("nofile", 20)),
)


class Group:
    """A group of processes whose memory is limited. The stack removes it."""

    def __init__(self, stack: ExitStack) -> None:
        self.first = MEMORY.is_dir()
        self.folder = (MEMORY if self.first else UNIFIED) / f"omni-faults-{os.getpid()}"
        self.folder.mkdir()
        stack.callback(self.remove)

    def of(self, mib: int) -> tuple[str, ...]:
        """Runs a command in the group, which has that much from then on."""
        file = self.folder / ("memory.limit_in_bytes" if self.first else "memory.max")
        script = f'echo {mib * MIB} > {file} && echo $$ > {self.folder}/cgroup.procs && exec "$@"'
        return ("sh", "-c", script, "sh")

    def remove(self) -> None:
        """Removes it, once the kernel has seen that it is empty."""
        deadline = time.monotonic() + REMOVED_SECONDS
        while True:
            try:
                self.folder.rmdir()
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    print(f"left behind: {self.folder}: {error}", flush=True)
                    return
                time.sleep(0.05)
