"""What came of a run: figures with their targets, and what is kept of it."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...figures import Figure, percentile, spread
from .. import runs
from ..state import State
from . import convergence
from .checker import Checker
from .datagrams import Interval, Verdict
from .run import GIVE_UP_SECONDS, QUIET_SECONDS, Run

# Full reachability after a heal.
TARGET_SECONDS = 10.0
# A transfer that goes on has moved within this time before the end.
MOVES_SECONDS = 20.0
# More intervals than this are counted only; the longest are kept.
INTERVALS_MAX = 2000
CPU_MAX_PERCENT = 50.0


def intervals(checker: Checker) -> list[tuple[str, str, Interval]]:
    """All that was lost in a row, by its ends."""
    return [
        (checker.name(stream.source), checker.name(stream.destination), each)
        for stream in checker.streams
        for each in stream.intervals
    ]


def figures(run: Run, planned: int, played: int, ended: float) -> list[Figure]:
    """All that is told, and held to its target."""
    return [
        Figure("rounds of the schedule", planned),
        Figure("rounds played", played, at_least=min(planned, 1)),
        Figure("faults", len(run.events)),
        *reachability(run),
        *arrivals(run),
        *transfers(run.checker, ended),
        *programs(run),
    ]


def reachability(run: Run) -> list[Figure]:
    """How soon all reached all again."""
    heals = [heal for heal in run.heals if heal.number]
    full = [heal.recovered_s for heal in heals if heal.recovered_s is not None]
    pairs = [took for heal in heals for took in heal.pairs.values()]
    known = [took for took in pairs if took is not None]
    kinds = convergence.by_kind(heals)
    return [
        Figure("pairs that are checked", len(run.checker.pairs)),
        Figure("heals", len(heals)),
        *spread(
            "all reach all after a heal",
            full,
            "s",
            count=len(heals),
            p99_at_most=TARGET_SECONDS,
            most_at_most=GIVE_UP_SECONDS,
        ),
        *spread("a pair after a heal", known, "s", count=len(pairs)),
        *(
            Figure(
                f"  rounds with {kind}: {len(took)}; slowest",
                percentile([each for each in took if each is not None], 100, len(took)),
                "s",
            )
            for kind, took in sorted(kinds.items())
        ),
        Figure("pairs that did not, at some heal", len(run.silent_pairs()), at_most=0),
    ]


def arrivals(run: Run) -> list[Figure]:
    """What became of datagrams."""
    checker = run.checker
    counts = checker.ledger.counts
    sent = sum(stream.sent for stream in checker.streams)
    lost = sum(stream.lost for stream in checker.streams)
    found = [each for _, _, each in intervals(checker)]
    longest = max((each.last - each.first for each in found), default=0.0)
    return [
        Figure("datagrams sent", sent, at_least=1),
        Figure("lost", 100 * lost / sent if sent else 100.0, "%"),
        Figure("loss intervals", len(found)),
        Figure("longest loss interval", longest, "s"),
        Figure("lost while nothing was broken", convergence.lost_within(found, run.rests)),
        Figure("late by more than 5 s", counts[Verdict.LATE]),
        Figure("misdelivered", counts[Verdict.MISDELIVERED], at_most=0),
        Figure("corrupted", counts[Verdict.CORRUPTED], at_most=0),
        Figure("duplicates", counts[Verdict.DUPLICATE], at_most=0),
        Figure(
            "the checker's share of a core",
            100 * checker.cpu_seconds / max(run.now(), 1.0),
            "%",
            at_most=CPU_MAX_PERCENT,
        ),
    ]


def transfers(checker: Checker, ended: float) -> list[Figure]:
    """What became of TCP."""
    some = checker.transfers
    still = [each for each in some if ended - each.progress_at > MOVES_SECONDS]
    return [
        Figure("TCP transfers", len(some)),
        Figure("TCP connections that broke", sum(each.broken for each in some)),
        Figure(
            "TCP blocks of 16 KiB that were right",
            sum(each.blocks for each in some),
            at_least=min(len(some), 1),
        ),
        Figure(
            "longest pause of a transfer", max((e.longest_pause for e in some), default=0.0), "s"
        ),
        Figure("TCP blocks that were wrong", sum(len(each.wrong) for each in some), at_most=0),
        Figure("transfers that stand still in the end", len(still), at_most=0),
    ]


def programs(run: Run) -> list[Figure]:
    """What became of programs."""
    found = run.findings
    quiet = run.quiet
    return [
        Figure("programs that died", len(found.died), at_most=0),
        Figure("panics in logs", len(run.faults.panics), at_most=0),
        Figure("programs that did not end when asked", len(run.faults.stubborn), at_most=0),
        Figure("faults that could not be made or healed", len(found.failed), at_most=0),
        Figure("engines that do not answer in the end", len(found.silent), at_most=0),
        Figure("engines whose packet memory does not add up", len(found.wrong_memory), at_most=0),
        Figure(
            f"frames sent in the last {QUIET_SECONDS:g} s",
            quiet.sent if quiet else None,
            at_least=1,
        ),
        Figure(
            "of them lost and not counted as drops",
            quiet.unexplained if quiet else None,
            # Links that lose by themselves count nothing.
            at_most=None if run.lab.options["loss"] else 0,
        ),
    ]


def report(run: Run) -> dict[str, Any]:
    """What is kept of a run beside its figures and schedule."""
    checker, found = run.checker, run.findings
    counts = checker.ledger.counts
    heals = [heal for heal in run.heals if heal.number]
    full = [heal.recovered_s for heal in heals if heal.recovered_s is not None]
    lost = sorted(intervals(checker), key=lambda each: -each[2].lost)
    return {
        "pairs": [list(pair) for pair in checker.pairs],
        "interval_s": checker.interval,
        "heals": [heal.kept() for heal in run.heals],
        "convergence": convergence.spread(full, len(heals)),
        "misdelivered": counts[Verdict.MISDELIVERED],
        "corrupted": counts[Verdict.CORRUPTED],
        "duplicates": counts[Verdict.DUPLICATE],
        "late": counts[Verdict.LATE],
        "evidence": checker.ledger.evidence,
        "sent": sum(stream.sent for stream in checker.streams),
        "lost": sum(stream.lost for stream in checker.streams),
        "lost_intervals_count": len(lost),
        "lost_intervals": [
            {
                "from": source,
                "to": destination,
                "first_s": round(each.first - run.began, 3),
                "last_s": round(each.last - run.began, 3),
                "lost": each.lost,
            }
            for source, destination, each in lost[:INTERVALS_MAX]
        ],
        "transfers": [
            {
                "from": one,
                "to": other,
                "blocks": each.blocks,
                "connections": each.connections,
                "broken": each.broken,
                "wrong": each.wrong,
            }
            for (one, other), each in zip(checker.carried, checker.transfers)
        ],
        "engines_dead": found.died,
        "panics": run.faults.panics,
        "failed": found.failed,
        "not_ended": run.faults.stubborn,
        "wrong_memory": found.wrong_memory,
        "quiet": run.quiet and asdict(run.quiet),
        "checker_latest_s": round(run.latest_seconds, 3),
    }


def add_events(lab: State, offset_s: float, events: Sequence[dict[str, Any]]) -> None:
    """Adds a run's events to the timeline of the lab, `offset_s` after whose begin it began.

    They are noted in the end and by the monotonic clock, as the wall clock may have been broken.
    """
    path = Path(lab.run) / runs.EVENTS
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        before: list[dict[str, Any]] = json.loads(text)["events"] if text else []
        mine = [
            {key: value for key, value in event.items() if key != "round"}
            | {"at_s": round(offset_s + event["at_s"], 3)}
            for event in events
        ]
        everything = sorted([*before, *mine], key=lambda event: event["at_s"])
        kept = {"kind": "events", "began": lab.began, "events": everything}
        file.truncate(0)
        file.write(json.dumps(kept, indent=1) + "\n")
