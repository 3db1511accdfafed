"""One contestant's turn: a pair of hosts made for it, all measures one after the other, and all of
it gone again.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from . import commands, compare_measure, compare_pair
from .compare_contestants import ContestError, Contestant, Link, last_words
from .compare_measure import Meter
from .compare_omni import drops_of
from .compare_pair import Pair, Wire
from .compare_stats import Trial, highest_lossless

MEASURES = ("tcp", "trips", "loaded", "datagrams")
REACH_SECONDS = 20.0
IDLE_SECONDS = 0.7
STREAMS = 4
# Busy cores before a turn up to which the machine's processor time is told.
QUIET_CORES = 0.2


@dataclass(frozen=True)
class Plan:
    """What each turn measures, and for how long."""

    seconds: float
    measures: Collection[str]
    octets: int
    search_seconds: float
    search_steps: int
    perf: Path


@dataclass
class Turn:
    """What a turn came to."""

    values: dict[str, float] = field(default_factory=dict)
    # Drops that a node counted meanwhile, by host and reason.
    drops: dict[str, dict[str, int]] = field(default_factory=dict)


def take(contestant: Contestant, wire: Wire, plan: Plan) -> Turn:
    """Sets a contestant up, measures it, and takes it down.

    Raises ContestError and the errors of commands and nodes when it does not work.
    """
    turn = Turn()
    with ExitStack() as stack:
        pair = compare_pair.build(stack, wire)
        idle = compare_measure.idle_cpu(IDLE_SECONDS)
        link = contestant.up(stack, pair)
        wait_reached(pair, link)
        time.sleep(contestant.settle_seconds)
        meter = Meter(pair, link, plan.perf, idle)
        if "trips" in plan.measures:
            measure_trips(meter, plan, turn)
        if "tcp" in plan.measures:
            measure_tcp(meter, plan, turn)
        if "loaded" in plan.measures:
            measure_loaded(meter, plan, turn)
        if "datagrams" in plan.measures:
            measure_datagrams(meter, plan, turn)
        turn.values["background"] = idle
        turn.values["memory"] = meter.memory_mib()
        check_alive(pair, link)
    return turn


def check_alive(pair: Pair, link: Link) -> None:
    """Raises the error of a contestant whose program ended by itself."""
    dead = [each for each in link.processes if each.poll() is not None]
    if dead:
        said = "; ".join(f"{end.name}: {last_words(end)}" for end in pair.ends)
        raise ContestError(f"a program ended with exit status {dead[0].returncode}; {said}")


def wait_reached(pair: Pair, link: Link) -> None:
    """Waits until the other end answers."""
    deadline = time.monotonic() + REACH_SECONDS
    ping = ("ping", "-n", "-c", "1", "-W", "1", link.right)
    while not commands.run(pair.left.namespace.inside(*ping), accept=(0, 1, 2)).count(" 0% packet"):
        check_alive(pair, link)
        if time.monotonic() > deadline:
            raise ContestError(f"no answer from the other end after {REACH_SECONDS:g} s")


def measure_trips(meter: Meter, plan: Plan, turn: Turn) -> None:
    """Round trips while nothing else goes on."""
    trips = meter.trips(plan.seconds)
    turn.values |= {f"idle_{name}": value for name, value in trips.percentiles.items()}
    turn.values["idle_lost"] = trips.sent - trips.received


def measure_tcp(meter: Meter, plan: Plan, turn: Turn) -> None:
    """TCP of one stream, of several, and the other way; processor time of the first."""
    one = meter.tcp(plan.seconds)
    many = meter.tcp(plan.seconds, "-P", str(STREAMS))
    back = meter.tcp(plan.seconds, "-R")
    turn.values |= {
        "tcp": one.gigabits_per_second,
        "tcp_many": many.gigabits_per_second,
        "tcp_back": back.gigabits_per_second,
        "traced_cpu": one.traced_cpu_seconds_per_gb,
        "own_cpu": one.own_cpu_seconds_per_gb,
    }
    # What others do at the same time cannot be told from it.
    if meter.idle_cpu <= QUIET_CORES:
        turn.values["cpu"] = one.cpu_seconds_per_gb


def measure_loaded(meter: Meter, plan: Plan, turn: Turn) -> None:
    """Round trips beside TCP of one stream."""
    trips = meter.trips_under_load(plan.seconds)
    turn.values |= {f"loaded_{name}": value for name, value in trips.percentiles.items()}
    turn.values["loaded_lost"] = trips.sent - trips.received


def measure_datagrams(meter: Meter, plan: Plan, turn: Turn) -> None:
    """Datagrams at overload and at the highest rate without loss; and whether what a node loses
    is what it counts.
    """
    trials: list[Trial] = []

    def attempt(rate: int) -> Trial:
        seconds = plan.search_seconds if rate else plan.seconds
        trials.append(meter.datagrams(seconds, rate, plan.octets))
        return trials[-1]

    nodes = meter.link.nodes
    before = {node.name: drops_of(node.show()) for node in nodes}
    lost_before = meter.lost()
    flood = attempt(0)
    best = highest_lossless(attempt, flood, plan.search_steps)
    turn.values |= {
        "flood": flood.received_rate / 1e3,
        "flood_sent": flood.sent_rate / 1e3,
        "lossless": best / 1e3,
    }
    if not nodes:
        return
    # Counters of the kernel reach the node's with its next look at them.
    time.sleep(1.2)
    lost_after = meter.lost()
    for node in nodes:
        after = drops_of(node.show())
        grown = {reason: after[reason] - before[node.name].get(reason, 0) for reason in after}
        turn.drops[node.name] = {reason: count for reason, count in grown.items() if count}
    counted = sum(sum(reasons.values()) for reasons in turn.drops.values())
    outside = (lost_after.socket - lost_before.socket) + (lost_after.backlog - lost_before.backlog)
    lost = sum(trial.lost for trial in trials)
    turn.values |= {
        "lost": lost,
        "lost_counted": counted,
        "lost_outside": outside,
        "lost_unexplained": lost - counted - outside,
    }
