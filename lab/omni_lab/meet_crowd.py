"""Many nodes at once: from the start of the first until all that have to have talked."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import fabric
from .attack_tools import machine_seconds, thread_seconds
from .fabric import Fabric
from .figures import Figure, percentile, spread
from .node import Programs
from .pinger import Pinger, Stream
from .report import heading

TARGET_SECONDS = 60.0
GIVE_UP_SECONDS = 240.0
# All pings together, until they are answered. More would take the cores from the nodes.
PINGS_PER_SECOND = 2000.0
INTERVAL_SECONDS = 0.25
TELL_SECONDS = 2.0
# All share few cores: nobody may go before the others, or keep a core while waiting.
WORKERS = ["workers: { poll: sleep, priority: normal }"]
MIB = 1 << 20


@dataclass(frozen=True)
class Memory:
    """Of a process, in octets."""

    resident: int
    # Its own, and its share of what others use as well.
    proportional: int


def choose_pairs(count: int, talk: int | None, seed: int) -> list[tuple[int, int]]:
    """Who talks with whom: each with all, or with `talk` partners of its own choice and those that
    chose it. No pair is twice in it, in either order.
    """
    if talk is None or talk >= count:
        return list(itertools.combinations(range(count), 2))
    chooser = random.Random(seed)
    pairs = set()
    for one in range(count):
        others = [other for other in range(count) if other != one]
        pairs |= {(min(one, other), max(one, other)) for other in chooser.sample(others, talk)}
    return sorted(pairs)


def parse_memory(rollup: str) -> Memory:
    """Reads /proc/PID/smaps_rollup, whose sizes are in KiB."""
    sizes = dict(line.split(":", 1) for line in rollup.splitlines() if ":" in line)
    resident, proportional = (int(sizes[name].split()[0]) * 1024 for name in ("Rss", "Pss"))
    return Memory(resident, proportional)


def memory(pid: int) -> Memory:
    """What a process has now."""
    return parse_memory(Path(f"/proc/{pid}/smaps_rollup").read_text())


def cpu_seconds(pid: int) -> float:
    """Processor time of a process."""
    return thread_seconds(Path(f"/proc/{pid}/stat").read_text())[1]


def first_told(changes: Sequence[tuple[float, dict[str, Any]]]) -> dict[str, float]:
    """When a Nucleus first told of each member, by its public key."""
    found: dict[str, float] = {}
    for at, change in changes:
        if change["kind"] == "member":
            found.setdefault(change["public_key"], at)
    return found


def run(stack: ExitStack, programs: Programs, options: argparse.Namespace) -> list[Figure]:
    """All of it."""
    count = options.nodes
    names = [f"node{number + 1}" for number in range(count)]
    heading(f"{count} hosts in network namespaces on one bridge, and a Nucleus")
    chosen = choose_pairs(count, options.talk, options.seed)
    # All note all others, on the underlay and on the fabric, whoever has to talk: what a host says
    # to everybody makes sessions with everybody. Twice that, as Linux keeps some for a while.
    fabric.make_room_for_neighbours(stack, 4 * count**2 + 4096)
    crowd = Fabric(stack, "crowd", programs, nodes=names)
    crowd.configure(more=WORKERS)
    crowd.nuclei["nucleus"].start()
    watch = crowd.watch(stack, "nucleus")
    pinger = Pinger(crowd.namespaces(), options.seed)
    stack.callback(pinger.close)
    pairs = [(names[one], crowd.access[names[other]]) for one, other in chosen]
    interval = max(INTERVAL_SECONDS, len(pairs) / PINGS_PER_SECOND)
    heading(
        f"All engines at once; {len(pairs)} pairs, pinged every {interval:.2g} s until answered"
    )
    began, idle = time.monotonic(), idle_seconds()
    streams = pinger.add(pairs, interval, once=True)
    for node in crowd.nodes.values():
        node.start()
    started = time.monotonic() - began
    print(f"{started:5.1f} s: all {count} engines are started", flush=True)
    wait_for_all(crowd, pinger, streams, began)
    busy = (time.monotonic() - began) * (os.cpu_count() or 1) - (idle_seconds() - idle)
    registered = [at - began for at in first_told(watch.changes).values()]
    figures = talked(streams, began)
    return [
        *figures,
        Figure("engines started, last", started, "s"),
        Figure("registered, last", percentile(registered, 100, count), "s"),
        Figure("CPU time of the machine, of all cores", busy, "s"),
        *weigh(crowd),
    ]


def wait_for_all(crowd: Fabric, pinger: Pinger, streams: Sequence[Stream], began: float) -> None:
    """Waits until all pairs have talked, and says now and then how many have."""
    while time.monotonic() - began < GIVE_UP_SECONDS:
        crowd.check_running()
        over = pinger.wait(lambda: all(stream.done for stream in streams), TELL_SECONDS)
        done, after = sum(stream.done for stream in streams), time.monotonic() - began
        print(f"{after:5.1f} s: {done} of {len(streams)} pairs have talked", flush=True)
        if over:
            return


def talked(streams: Sequence[Stream], began: float) -> list[Figure]:
    """When the pairs reached each other."""
    answers = [each.first_answer - began for each in streams if each.first_answer is not None]
    count = len(streams)
    return [
        Figure("pairs", count),
        Figure("pairs that never talked", count - len(answers), at_most=0),
        *spread("first ping of a pair", answers, "s", count=count, most_at_most=TARGET_SECONDS),
    ]


def weigh(crowd: Fabric) -> list[Figure]:
    """What the programs cost until now."""
    pids = [node.running().pid for node in crowd.nodes.values()]
    sizes = [memory(pid) for pid in pids]
    resident = [size.resident / MIB for size in sizes]
    proportional = sum(size.proportional for size in sizes) / MIB
    nucleus = crowd.nuclei["nucleus"].running().pid
    sessions = sum(
        peer["state"] == "established"
        for node in crowd.nodes.values()
        for peer in node.show()["peers"]
    )
    return [
        Figure("sessions, counted at both ends", sessions),
        Figure("CPU time of all engines", sum(map(cpu_seconds, pids)), "s"),
        Figure("CPU time of the Nucleus", cpu_seconds(nucleus), "s"),
        Figure("memory of all engines (RSS)", sum(resident), "MiB"),
        Figure("memory of all engines (PSS)", proportional, "MiB"),
        Figure("memory of an engine (RSS), p50", percentile(resident, 50), "MiB"),
        Figure("memory of an engine (RSS), max", max(resident), "MiB"),
        Figure("memory of the Nucleus (RSS)", memory(nucleus).resident / MIB, "MiB"),
    ]


def idle_seconds() -> float:
    """For how long cores had nothing to do since the machine started, all added up."""
    return machine_seconds(Path("/proc/stat").read_text())["idle"]
